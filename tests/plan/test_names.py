"""Names of models in a config: wildcards, aliases, what no name means, and the mistakes in each."""

import json
import re
from pathlib import Path

import pytest

from fastgw._core import table as shared
from fastgw.dialects.openrouter import MAX_MODELS, READERS
from fastgw.gateway.routes import MODELS as MODELS_PATHS
from fastgw.plan import file
from fastgw.plan.compile.names import MAX_ALIASES
from tests.plan.support import MODELS, PROVIDERS, compiled, refused

TWO = """
providers:
  up: {kind: openai_compatible, base_url: 'http://127.0.0.1:9/v1'}
  two: {kind: groq, api_key: sk-x}
  a/b: {kind: groq, api_key: sk-x}
models: {fast: {targets: [{provider: up, model: m}]}}
"""


def stored(directory, **row):
    directory.joinpath("keys.jsonl").write_text(json.dumps({"name": "k", "hash": "0" * 64, **row}) + "\n")


@pytest.mark.parametrize(
    ("written", "wild"),
    [
        ("", {"up", "two"}),
        ("wildcards: true", {"up", "two"}),
        ("wildcards: false", set()),
        ("wildcards: []", set()),
        ("wildcards: [two, two]", {"two"}),
    ],
)
def test_wildcards(tmp_path, written, wild):
    plan = compiled(tmp_path, TWO + written)
    assert set(plan.wildcards) == wild
    assert all(model.name == f"{name}/*" for name, model in plan.wildcards.items())
    assert [model.targets[0].upstream for model in plan.wildcards.values()] == list(plan.wildcards)


def test_a_file_gives_no_bare_names_however_few_its_providers(tmp_path):
    assert set(compiled(tmp_path, PROVIDERS + MODELS).wildcards) == {"up"}


def test_a_wildcard_costs_what_the_catalogue_says_and_has_one_series(tmp_path):
    plan = compiled(tmp_path, TWO)
    assert plan.prices["two"]["openai/gpt-oss-120b"].input > 0
    assert "up" not in plan.prices
    requests = [name for name in plan.series if name.startswith("fastgw_requests_total") and 'model="two/*"' in name]
    assert len({name.partition("status=")[0] for name in requests}) == 1


@pytest.mark.parametrize(
    ("written", "error"),
    [
        ("wildcards: [up, none]", "wildcards[1]: unknown provider 'none'; known: up, two, a/b"),
        ("wildcards: [a/b]", "wildcards[0]: 'a/b' has a `/` itself"),
        ("wildcards: up", "wildcards: "),
        ("aliases: {gpt-4: slow}", "aliases.gpt-4: unknown model 'slow'; known: fast, gpt-4, two/*, up/*"),
        ("aliases: {gpt-4: none/m}", "aliases.gpt-4: unknown model 'none/m'"),
        ("aliases: {gpt-4: up/}", "aliases.gpt-4: unknown model 'up/'"),
        ("aliases: {a: fast, b: a}", "aliases.b: 'a' is an alias itself; name the model it stands for"),
        ("aliases: {a: a}", "aliases.a: 'a' is an alias itself"),
        ("aliases: {fast: up/m}", "aliases.fast: is a model already"),
        ("aliases: {'a b': fast}", "aliases.a b: a name is 1 to 128"),
        ("aliases: {a: 1}", "aliases.a: Expected `str`"),
        ("default_model: slow", "default_model: unknown model 'slow'"),
        ("keys: [{name: k, secret: abcdefgh, aliases: {a: slow}}]", "keys[0].aliases.a: unknown model 'slow'"),
        ("keys: [{name: k, secret: abcdefgh, aliases: {a: b, b: fast}}]", "keys[0].aliases.a: 'b' is an alias itself"),
        ("aliases: {b: fast}\nkeys: [{name: k, secret: abcdefgh, aliases: {a: b}}]", "keys[0].aliases.a: 'b' is"),
        ("keys: [{name: k, secret: abcdefgh, default_model: slow}]", "keys[0].default_model: unknown model 'slow'"),
        ("keys: [{name: k, secret: abcdefgh, models: [slow]}]", "keys[0].models: unknown model 'slow'"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path, written, error):
    found = refused(tmp_path, TWO + written)
    assert [line for line in found if line.startswith(error)], found


def test_too_many_aliases(tmp_path):
    many = ", ".join(f"a{n}: fast" for n in range(MAX_ALIASES + 1))
    (error,) = refused(tmp_path, TWO + f"aliases: {{{many}}}")
    assert error == f"aliases: {MAX_ALIASES + 1} are too many; {MAX_ALIASES} at most"


def test_what_a_plan_says_of_names(tmp_path):
    text = (
        TWO
        + """
aliases: {gpt-4: fast, mini: two/openai/gpt-oss-120b}
default_model: gpt-4
keys:
  - {name: k, secret: abcdefgh, aliases: {gpt-4: up/m, fast: up/n, own: fast}, default_model: own, models: [gpt-4, own]}
  - {name: plain, secret: abcdefgi}
"""
    )
    plan = compiled(tmp_path, text)
    assert plan.aliases == {"gpt-4": "fast", "mini": "two/openai/gpt-oss-120b"}
    assert plan.default_model == "gpt-4"
    first, second = sorted(plan.keys, key=lambda key: key.name)
    assert (first.aliases, first.default_model) == ({"gpt-4": "up/m", "fast": "up/n", "own": "fast"}, "own")
    assert first.models == {"gpt-4", "own"}
    assert (second.aliases, second.default_model) == ({}, "")
    file.write(tmp_path / "plan", plan)
    read = file.read(tmp_path / "plan")
    assert (read.aliases, read.default_model) == (plan.aliases, plan.default_model)


def test_a_stored_key_may_mean_what_the_config_has_lost(tmp_path):
    stored(tmp_path, aliases={"gpt-4": "gone"}, default_model="gone", models=["gone"])
    (key,) = compiled(tmp_path, TWO).keys
    assert (key.aliases, key.default_model) == ({"gpt-4": "gone"}, "gone")


def test_a_stored_keys_alias_is_a_name_like_any_other(tmp_path):
    stored(tmp_path, aliases={"a b": "fast"})
    (error,) = refused(tmp_path, TWO)
    assert error.startswith("keys.jsonl:1.aliases.a b: a name is 1 to 128")


def test_many_providers_fit_the_table(tmp_path):
    providers = "\n".join(f"  p{n}: {{kind: openai_compatible, base_url: 'http://127.0.0.1:9/v1'}}" for n in range(40))
    plan = compiled(tmp_path, f"providers:\n{providers}\n")
    assert len(plan.wildcards) == 40
    assert max(plan.series.values()) + shared.HISTOGRAM_WORDS < 8192


# --- docs/models.md

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()


def test_the_pages_example_compiles(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    plan = compiled(tmp_path, text, environ={"OPENAI_API_KEY": "x", "GROQ_API_KEY": "y", "APP_KEY": "app-key-0123"})
    assert set(plan.wildcards) == {"groq"}
    assert plan.aliases["gpt-4"] == plan.models["fast"].name
    assert plan.default_model == "gpt-4"


def test_the_page_has_every_member_of_provider_and_no_other():
    part = PAGE.split("| member |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", part, re.M) == list(READERS)
    assert f"up to {MAX_MODELS} names" in PAGE


def test_the_page_has_every_path_of_lists():
    part = PAGE.split("## Lists")[1]
    assert {f"`{path.decode()}`" for path in MODELS_PATHS} <= set(re.findall(r"`/[^`]*`", part))
