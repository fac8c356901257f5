"""The catalogue that ships: what every row must hold, how a model is found, and what a plan takes from it."""

import re
import subprocess
import sys

import msgspec
import pytest

from fastgw.call import Usage
from fastgw.plan import catalogue, file
from fastgw.plan.catalogue import Book, Catalogue, Entry
from fastgw.plan.plan import Plan, Price
from fastgw.plan.prices import MAX_PRICE, cost_nano, look_up
from fastgw.plan.sources import Sources, load, watched
from fastgw.providers import PROVIDERS
from tests.plan.support import compiled, refused

CATALOGUE = catalogue.load()
BOOK = catalogue.shipped()
ROWS = [(kind, one) for kind, rows in CATALOGUE.models.items() for one in rows]
MODES = {"chat", "completion", "embedding", "image", "speech", "transcription", "rerank", "moderation", "realtime"}
SOURCES = {"both", "genai", "litellm", "genai, litellm differs"}
LATER = {"vertex", "bedrock"}


def bad(check):
    return [f"{kind}/{one.model}" for kind, one in ROWS if not check(one)]


def test_it_is_large_enough_and_small_enough():
    assert len(ROWS) >= 1000
    assert sum(one.tokens is not None for _, one in ROWS) >= 1000
    assert (file_size := catalogue.files("fastgw").joinpath("data/catalogue.json").stat().st_size) <= 700_000, file_size


def test_it_says_where_it_comes_from():
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", CATALOGUE.version)
    assert {one.name for one in CATALOGUE.sources} == {"genai-prices", "litellm"}
    notice = catalogue.files("fastgw").joinpath("data/NOTICE").read_text()
    for one in CATALOGUE.sources:
        assert one.licence == "MIT"
        assert re.fullmatch(r"[0-9a-f]{64}", one.sha256)
        assert one.url in notice
    assert notice.count("Permission is hereby granted") == 2


def test_every_kind_is_one_that_is_or_will_be_served():
    assert set(CATALOGUE.models) <= {*PROVIDERS, *LATER}
    assert set(catalogue.SAME) <= set(PROVIDERS)
    assert set(catalogue.SAME.values()) <= set(CATALOGUE.models)


def test_prices_are_whole_and_in_range():
    assert bad(lambda one: one.tokens is None or len(one.tokens) in (4, 5)) == []
    assert bad(lambda one: one.tokens is None or all(0 <= price <= MAX_PRICE // 1000 for price in one.tokens)) == []
    assert bad(lambda one: one.tokens is None or any(one.tokens[:2]) != one.model.endswith(":free")) == []


def test_the_ordinary_chat_model_costs_more_to_write_than_to_read():
    chats = [one for _, one in ROWS if one.mode == "chat" and one.tokens and one.tokens[0]]
    assert sum(one.tokens[1] >= one.tokens[0] for one in chats) / len(chats) > 0.95
    assert sum(one.tokens[2] <= one.tokens[0] for one in chats) / len(chats) > 0.99


def test_what_a_model_is_comes_from_known_words():
    words = re.compile(r"[a-z0-9_-]+")
    assert bad(lambda one: one.mode in MODES and one.source in SOURCES) == []
    assert bad(lambda one: all(words.fullmatch(word) for word in (*one.inputs, *one.outputs, *one.capabilities))) == []
    assert bad(lambda one: set(one.caveats) <= {"tiers", "hours", "variants", "beside"}) == []
    assert bad(lambda one: re.fullmatch(r"|yes|20\d\d-\d\d-\d\d", one.deprecated)) == []
    assert bad(lambda one: one.context >= 0 and one.max_output >= 0) == []
    assert bad(lambda one: one.model.isascii() and one.model.isprintable() and 0 < len(one.model) <= 256) == []


def test_names_are_unique_and_sorted_and_aliases_take_none():
    for kind, rows in CATALOGUE.models.items():
        names = [one.model for one in rows]
        assert names == sorted(set(names)), kind
        aliases = [alias for one in rows for alias in one.aliases]
        assert len(aliases) == len(set(aliases)), kind
        assert not set(aliases) & set(names), kind


@pytest.mark.parametrize(
    ("kind", "model", "dollars"),
    [
        ("openai", "gpt-4o-mini", ("0.15", "0.60", "0.075")),
        ("openai", "gpt-5", ("1.25", "10", "0.125")),
        ("anthropic", "claude-sonnet-4-5", ("3", "15", "0.3")),
        ("gemini", "gemini-2.5-pro", ("1.25", "10", "0.125")),
        ("groq", "openai/gpt-oss-120b", None),
    ],
)
def test_well_known_prices(kind, model, dollars):
    found = BOOK.price_of(kind, model)
    assert found.version == f"catalogue-{CATALOGUE.version}"
    if dollars:
        assert (found.input, found.output, found.cached) == tuple(int(float(one) * 10**6) for one in dollars)


def test_writing_to_the_cache_has_its_own_price():
    found = BOOK.price_of("anthropic", "claude-sonnet-4-5")
    assert found.cache_write == 3_750_000


TABLE = {"m": 1, "m-2024-08-06": 2, "ft:m": 3, "d-latest": 4}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("m", 1),
        ("m-2024-08-06", 2),
        ("m-2025-01-31", 1),
        ("m-20250131", 1),
        ("m@20250131", 1),
        ("m-latest", 1),
        ("d-latest", 4),
        ("ft:m:acme::x1", 3),
        ("ft:m-2024-08-06:acme::x1", 3),
        ("ft:d-latest:acme::x1", None),
        ("ft:other:acme::x1", None),
        ("m-2025-13-31", None),
        ("m-2025-0131", None),
        ("m-1234", None),
        ("m-mini", None),
        ("m:free", None),
        ("M", None),
        ("", None),
        ("-latest", None),
    ],
)
def test_how_a_model_is_found(name, found):
    assert look_up(TABLE, name) == found


def test_an_alias_leads_to_its_model():
    kind, one = next((kind, one) for kind, one in ROWS if one.aliases)
    assert BOOK.find(kind, one.aliases[0]).entry is one
    assert catalogue.show(kind, one.model) is one
    assert one in catalogue.list_models(kind)
    assert catalogue.show(kind, "no such model") is None
    assert BOOK.find(kind, "no such model") is None
    assert catalogue.list_models("nobody") == ()


def test_another_door_to_the_same_models():
    assert catalogue.list_models("azure_foundry") == catalogue.list_models("azure")
    assert BOOK.price_of("azure_foundry", "gpt-4o-mini") == BOOK.price_of("azure", "gpt-4o-mini") is not None


def test_reasoning_that_costs_otherwise():
    entry = Entry("m", tokens=(1000, 2000, 500, 1000, 3000))
    found = catalogue.price(entry, "1")
    assert cost_nano(found, Usage(input=1, output=10, reasoning=4)) == 1 + 6 * 2 + 4 * 3
    assert cost_nano(found, Usage(output=3, reasoning=100)) == 9
    assert catalogue.price(Entry("m"), "1") is None
    assert catalogue.price(Entry("m", tokens=(1, 2, 3, 4)), "1") == Price(1, 2, 3, 4, "catalogue-1")


# --- what a plan takes

UP = "providers: {up: {kind: groq, api_key: sk-x}}\n"


def target(tmp_path, price=""):
    text = UP + f"models: {{m: {{targets: [{{provider: up, model: openai/gpt-oss-120b{price}}}]}}}}\n"
    plan = compiled(tmp_path, text)
    assert set(plan.prices) == {"up"}
    return plan.models["m"].targets[0]


def test_a_target_without_a_price_takes_the_catalogues(tmp_path):
    assert target(tmp_path).price == BOOK.price_of("groq", "openai/gpt-oss-120b") is not None


def test_a_price_in_the_config_replaces_it(tmp_path):
    mine = target(tmp_path, ", price: {input: 1, output: 2, reasoning: 3}").price
    assert mine == Price(1_000_000, 2_000_000, 1_000_000, 1_000_000, "config", 3_000_000)


def test_what_nobody_knows_has_no_price(tmp_path):
    text = UP + "models: {m: {targets: [{provider: up, model: no-such-model}]}}\n"
    assert compiled(tmp_path, text).models["m"].targets[0].price is None


def test_behind_a_wildcard_the_price_is_that_of_the_model_asked_for(tmp_path):
    plan = compiled(tmp_path, environ={"OPENAI_API_KEY": "sk-x", "GROQ_API_KEY": "sk-y"})
    assert set(plan.prices) == {"openai", "groq"}
    assert plan.prices["openai"]["gpt-4o-mini"] == BOOK.price_of("openai", "gpt-4o-mini")
    assert plan.wildcards["openai"].targets[0].price is None
    file.write(tmp_path / "plan", plan)
    assert file.read(tmp_path / "plan").prices == plan.prices


def test_the_prices_of_a_plan_stay_small():
    every = {kind: BOOK.price_list(kind) for kind in PROVIDERS}
    assert max(len(msgspec.msgpack.encode(prices)) for prices in every.values()) < 200_000
    assert len(msgspec.msgpack.encode(every)) < 1_000_000


def test_a_plan_without_prices_of_its_own_reads_as_before():
    (prices,) = [field for field in msgspec.structs.fields(Plan) if field.name == "prices"]
    assert prices.default_factory is dict or prices.default == {}


def test_a_worker_never_reads_the_file():
    code = "import sys, fastgw.gateway.worker as w; print('fastgw.plan.catalogue' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- an operator's own


def own(tmp_path, text, config="catalogue: own.json\n"):
    (tmp_path / "own.json").write_text(text)
    models = "models: {m: {targets: [{provider: up, model: mine}, {provider: up, model: openai/gpt-oss-120b}]}}\n"
    return UP + models + config


OWN = '{"version": "acme-1", "models": {"groq": [{"model": "mine", "aliases": ["openai/gpt-oss-120b"], "price": %s}]}}'


def test_an_operators_own_goes_over_what_ships(tmp_path):
    targets = compiled(tmp_path, own(tmp_path, OWN % "[1, 2, 3, 4, 5]")).models["m"].targets
    assert [one.price for one in targets] == [Price(1, 2, 3, 4, "catalogue-acme-1", 5)] * 2
    assert BOOK.price_of("groq", "mine") is None


def test_an_operators_own_is_watched(tmp_path):
    text = own(tmp_path, OWN % "[1, 2, 3, 4]")
    (tmp_path / "fastgw.yaml").write_text(text)
    sources = Sources(data_dir=str(tmp_path), environ={}, config=str(tmp_path / "fastgw.yaml"))
    assert str(tmp_path / "own.json") in watched(sources)
    assert load(sources).files[-1] == str(tmp_path / "own.json")


def test_of_several_the_last_counts_and_the_rest_stays():
    first = Catalogue("1", models={"openai": (Entry("a", tokens=(1, 1, 1, 1)), Entry("b", tokens=(1, 1, 1, 1)))})
    book = Book(first, Catalogue("2", models={"openai": (Entry("b", tokens=(2, 2, 2, 2)),)}))
    assert [book.price_of("openai", name).version for name in "ab"] == ["catalogue-1", "catalogue-2"]
    assert set(book.price_list("openai")) == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "is no catalogue"),
        ("[]", "is no catalogue"),
        ('{"models": {}}', "is no catalogue: Object missing required field `version`"),
        ('{"version": "a", "models": {"groq": [{"model": "m", "prize": [1]}]}}', "unknown field `prize`"),
        ('{"version": "a", "models": {"groq": [{"model": "m", "price": [0.5, 1, 1, 1]}]}}', "Expected `int`"),
        (OWN % "[1, 2, 3]", "groq/mine: `price` must be"),
        (OWN % "[1, 2, 3, -4]", "groq/mine: `price` must be"),
        (OWN % f"[1, 2, 3, {MAX_PRICE + 1}]", "groq/mine: `price` must be"),
        ('{"version": "", "models": {}}', "`version` must be"),
    ],
)
def test_an_operators_own_that_is_wrong(tmp_path, text, wrong):
    (error,) = refused(tmp_path, own(tmp_path, text))
    assert error.startswith("catalogue: ")
    assert wrong in error


def test_an_operators_own_that_is_not_there(tmp_path):
    (error,) = refused(tmp_path, own(tmp_path, "", "catalogue: none.json\n"))
    assert error.startswith("catalogue: cannot read")
