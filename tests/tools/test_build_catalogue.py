"""The tool that makes the catalogue, on sources small enough to check by hand; the network stays out of it."""

import json
import zipfile
from datetime import date
from decimal import Decimal

import pytest

from tools import build_catalogue as tool
from tools import catalogue_sources as sources
from tools.catalogue_sources import Model

TODAY = date(2026, 11, 23)
GENAI = """
from .types import *
providers: list[Provider] = [
    Provider(id='openai', name='OpenAI', models=[
        ModelInfo(id='m-one', match=ClauseOr(or_=[ClauseEquals(equals='m-one'), ClauseEquals(equals='m-1'),
                  ClauseStartsWith(starts_with='m-one-')]), context_window=1000,
                  prices=ModelPrice(input_mtok=Decimal('0.15'), output_mtok=Decimal('0.6'),
                                    cache_read_mtok=Decimal('0.075'))),
        ModelInfo(id='m-two', match=ClauseEquals(equals='m-two'), deprecated=True, prices=[
            ConditionalPrice(prices=ModelPrice(input_mtok=Decimal('2'), output_mtok=Decimal('8'))),
            ConditionalPrice(constraint=StartDateConstraint(start_date=datetime.date(2026, 3, 1)),
                             prices=ModelPrice(input_mtok=TieredPrices(base=Decimal('1'), tiers=[
                                 Tier(start=200000, price=Decimal('2'))]), output_mtok=Decimal('4'))),
            ConditionalPrice(constraint=StartDateConstraint(start_date=datetime.date(2027, 1, 1)),
                             prices=ModelPrice(input_mtok=Decimal('9'), output_mtok=Decimal('9')))]),
        ModelInfo(id='m-night', match=ClauseEquals(equals='m-night'), prices=[
            ConditionalPrice(prices=ModelPrice(input_mtok=Decimal('1'), output_mtok=Decimal('1'))),
            ConditionalPrice(constraint=TimeOfDateConstraint(
                start_time=datetime.time(0, 30, tzinfo=datetime.UTC), end_time=datetime.time(16, 30)),
                prices=ModelPrice(input_mtok=Decimal('3'), output_mtok=Decimal('3'),
                                  web_searches_kcount=Decimal('10')))]),
    ]),
]
"""
LITELLM = {
    "sample_spec": {"litellm_provider": "one of many", "mode": "chat"},
    "m-one": {
        "litellm_provider": "openai",
        "mode": "chat",
        "input_cost_per_token": 1.5e-07,
        "output_cost_per_token": 6e-07,
        "max_input_tokens": 900,
        "max_output_tokens": "300",
        "supports_vision": True,
        "supports_function_calling": True,
        "deprecation_date": "2027-01-31",
    },
    "openai/m-two": {
        "litellm_provider": "openai",
        "mode": "responses",
        "input_cost_per_token": 1.1e-06,
        "output_cost_per_token": 4e-06,
    },
    "m-one-fast": {
        "litellm_provider": "openai",
        "mode": "chat",
        "input_cost_per_token": 3e-07,
        "output_cost_per_token": 1.2e-06,
        "output_cost_per_reasoning_token": 2.4e-06,
        "input_cost_per_token_above_200k_tokens": 6e-07,
    },
    "m-embed": {
        "litellm_provider": "openai",
        "mode": "embedding",
        "input_cost_per_token": 2e-08,
        "max_input_tokens": 8,
    },
    "m-zero": {
        "litellm_provider": "openai",
        "mode": "chat",
        "input_cost_per_token": 0.0,
        "output_cost_per_token": 0,
        "max_input_tokens": 5,
    },
    "m-nameless": {"litellm_provider": "openai", "mode": "chat"},
    "1024-x-1024/dall-e-3": {"litellm_provider": "openai", "mode": "image_generation"},
    "m-search": {"litellm_provider": "openai", "mode": "search"},
    "groq/a/b": {
        "litellm_provider": "groq",
        "mode": "chat",
        "input_cost_per_token": 3.2e-03,
        "output_cost_per_token": 3.2e-03,
        "max_input_tokens": 5,
    },
}


@pytest.fixture
def rows():
    built = tool.build(sources.read_genai(GENAI, TODAY), sources.read_litellm(json.dumps(LITELLM)))
    return {kind: {one["model"]: one for one in models} for kind, models in built.items()}


def test_two_sources_make_one_row(rows):
    assert rows["openai"]["m-one"] == {
        "model": "m-one",
        "context": 900,
        "output": 300,
        "in": ["image", "text"],
        "can": ["tools"],
        "deprecated": "2027-01-31",
        "price": [150_000, 600_000, 75_000, 150_000],
        "aliases": ["m-1"],
    }


def test_where_they_differ_the_row_says_so_and_the_price_is_that_of_the_day(rows):
    two = rows["openai"]["m-two"]
    assert two["price"] == [1_000_000, 4_000_000, 1_000_000, 1_000_000]
    assert (two["source"], two["caveats"], two["deprecated"]) == ("genai, litellm differs", ["tiers"], "yes")


@pytest.mark.parametrize(
    ("day", "price"),
    [(date(2026, 2, 28), 2), (date(2026, 3, 1), 1), (date(2026, 12, 31), 1), (date(2027, 1, 1), 9)],
)
def test_prices_begin_on_their_day(day, price):
    (models,) = sources.read_genai(GENAI, day).values()
    assert models[1].prices["input"] == price


def test_the_dearest_hour_counts(rows):
    night = rows["openai"]["m-night"]
    assert night["price"] == [3_000_000] * 4
    assert (night["source"], night["caveats"]) == ("genai", ["hours"])


def test_a_price_under_the_very_name_beats_one_by_pattern(rows):
    fast = rows["openai"]["m-one-fast"]
    assert fast["price"] == [300_000, 1_200_000, 300_000, 300_000, 2_400_000]
    assert (fast["source"], fast["caveats"]) == ("litellm", ["tiers"])


def test_an_embedding_has_no_output_price(rows):
    assert rows["openai"]["m-embed"] == {
        "model": "m-embed",
        "mode": "embedding",
        "context": 8,
        "out": ["vector"],
        "price": [20_000, 0, 20_000, 20_000],
        "source": "litellm",
    }


def test_nothing_is_no_price_and_neither_is_a_slip(rows):
    assert "price" not in rows["openai"]["m-zero"]
    assert "price" not in rows["groq"]["a/b"]


def test_what_is_no_model_is_left_out(rows):
    assert set(rows["openai"]) == {"m-one", "m-two", "m-night", "m-one-fast", "m-embed", "m-zero"}
    assert set(rows) == {"openai", "groq"}


@pytest.mark.parametrize(
    ("dollars", "pico"), [("0.15", 150_000), ("0.0000005", 1), ("0.0000004", 0), ("0.0375", 37_500), ("75", 75_000_000)]
)
def test_pico_dollars_are_exact_and_halves_go_up(dollars, pico):
    model = Model("m", {"input": Decimal(dollars), "output": Decimal(1)})
    assert tool.pico(model)[0] == pico


def test_free_is_a_price_only_where_it_is_meant():
    nothing = {"input": Decimal(0), "output": Decimal(0)}
    assert tool.pico(Model("m", nothing)) is None
    assert tool.pico(Model("m:free", nothing)) == tool.pico(Model("m:free")) == [0, 0, 0, 0]
    assert tool.pico(Model("m", {"output": Decimal(1)})) is None


def test_odd_prices_are_pointed_at():
    lines = tool.odd(
        [
            {"model": "fine", "price": [10, 40, 1, 10]},
            {"model": "cheap-output", "price": [10, 1, 1, 10]},
            {"model": "dear-output", "price": [10, 1000, 1, 10]},
            {"model": "dear-cache", "price": [10, 10, 20, 10]},
            {"model": "embed", "mode": "embedding", "price": [10, 0, 10, 10]},
            {"model": "unknown"},
        ]
    )
    assert [line.partition(":")[0] for line in lines] == ["cheap-output", "dear-output", "dear-cache"]


@pytest.mark.parametrize(
    ("clause", "yes", "no"),
    [
        ({"_": "ClauseEquals", "equals": "Ab"}, "aB", "abc"),
        ({"_": "ClauseStartsWith", "starts_with": "ab"}, "ABc", "cab"),
        ({"_": "ClauseEndsWith", "ends_with": "ab"}, "cab", "abc"),
        ({"_": "ClauseContains", "contains": "ab"}, "cabc", "acb"),
        ({"_": "ClauseRegex", "regex": "^a.$"}, "AB", "abc"),
    ],
)
def test_match_clauses(clause, yes, no):
    match = sources.matcher(clause)
    assert match(yes)
    assert not match(no)
    both = sources.matcher({"_": "ClauseAnd", "and_": [clause, {"_": "ClauseContains", "contains": "zzz"}]})
    assert not both(yes)


def test_code_in_the_source_is_refused_and_never_run():
    with pytest.raises(ValueError, match="unexpected"):
        sources.read_genai("providers: list = [x for x in y]", TODAY)


def test_the_same_sources_make_the_same_file(tmp_path, monkeypatch, capsys):
    genai, litellm = tmp_path / "genai.whl", tmp_path / "prices.json"
    with zipfile.ZipFile(genai, "w") as wheel:
        wheel.writestr(sources.GENAI_FILE, GENAI)
    litellm.write_text(json.dumps(LITELLM))
    monkeypatch.setattr(tool, "OUT", tmp_path / "catalogue.json")
    paths = ["--genai", str(genai), "--litellm", str(litellm)]
    assert tool.main(paths) == 0
    first = tool.OUT.read_bytes()
    assert tool.main([*paths, "--check"]) == 0
    litellm.write_text(json.dumps(dict(reversed(LITELLM.items()))))
    assert tool.main(paths) == 0
    again = json.loads(tool.OUT.read_bytes())
    assert again["models"] == json.loads(first)["models"]
    assert tool.main([*paths, "--as-of", "2027-01-01", "--check"]) == 1
    assert "7 models" in capsys.readouterr().out
    assert all(line.count('"model"') <= 1 for line in first.decode().splitlines())


def test_the_file_that_ships_is_of_the_pinned_versions():
    found = json.loads((tool.ROOT / "src/fastgw/data/catalogue.json").read_text())
    assert {one["name"]: one["version"] for one in found["sources"]} == tool.VERSIONS
    assert found["version"] == tool.AS_OF.isoformat()
