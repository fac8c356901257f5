"""docs/routing.md: its examples compile, and its tables name what there is."""

import re
from pathlib import Path

import pytest

from fastgw.gateway.attempts import REST_S
from fastgw.plan.compile.models import ALONE, BALANCES
from fastgw.plan.plan import Breaker
from fastgw.providers import failures
from fastgw.upstream.health import MAX_REST_S
from tests.plan.support import compiled

DOC = (Path(__file__).parents[2] / "docs" / "routing.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOC, re.S)
KEYS = {"OPENAI_KEY_1": "sk-one-1", "OPENAI_KEY_2": "sk-two-2"}
PROVIDERS = """
providers:
  openai: {kind: openai, api_key: sk-around}
  azure: {kind: azure, base_url: "https://x.example", api_key: sk-around}
  other: {kind: openai_compatible, base_url: "http://o.example/v1"}
"""
MODELS = "models: {fast: {targets: [{provider: openai, model: m}]}}\n"


def rows(heading):
    """The first cells of a section's table."""
    part = re.split(rf"^## {heading}$", DOC, flags=re.M)[1].split("\n## ")[0]
    return [cell.strip("` ") for cell in re.findall(r"^\| (`[^|]+) \|", part, re.M) if cell != "`balance`"]


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_compile(tmp_path, example):
    plan = compiled(tmp_path, example + (MODELS if "providers:" in example else PROVIDERS), environ=KEYS)
    assert "fast" in plan.models


def test_every_strategy_is_listed():
    assert tuple(rows("Strategies")) == BALANCES


def test_every_class_is_listed_with_the_fallback_it_counts_for():
    part = DOC.split("## Failures")[1].split("\n## ")[0]
    told = re.findall(r"^\| (\w+) \| .* \| (`\w+`|never) \|$", part, re.M)
    assert {name: last.strip("`").replace("never", "") for name, last in told} == {
        name: failures.fallback_of(name) for name in failures.Class.__args__
    }


def test_the_numbers_are_those_of_the_code():
    assert Breaker() == Breaker(5, 5000)
    assert Breaker(20, 1000) == ALONE
    assert (REST_S["rate"], REST_S["auth"], REST_S["quota"], MAX_REST_S) == (2.0, 60.0, 60.0, 3600.0)


def test_links_lead_somewhere():
    docs = Path(__file__).parents[2] / "docs"
    for name, _, anchor in re.findall(r"\]\(([\w.]*)(#([\w-]+))?\)", DOC):
        text = (docs / name).read_text() if name else DOC
        headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.M)}
        assert not anchor or anchor in headings, (name, anchor)
