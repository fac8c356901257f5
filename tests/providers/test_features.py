"""The words that vendors' features are written in are those that the dialects' writers read, and no others."""

import ast
from pathlib import Path

import pytest

from fastgw.dialects import registry
from fastgw.providers import PROVIDERS
from fastgw.providers.features import FEATURES

DIALECTS = Path(registry.__file__).parent
BY_NAME = {("gemini", "FETCHES"): "fetch_urls"}


def words_read(package):
    """Every `"word" in target.features` in a dialect's sources, and `target.mid_system`."""
    found = set()
    for path in (DIALECTS / package).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
                what, where = node.left, node.comparators[0]
                if isinstance(where, ast.Attribute) and where.attr == "features":
                    found.add(what.value if isinstance(what, ast.Constant) else BY_NAME[package, what.id])
            elif isinstance(node, ast.Attribute) and node.attr == "mid_system":
                found.add("mid_system")
    return found


@pytest.mark.parametrize("package", [path.name for path in DIALECTS.iterdir() if (path / "write.py").exists()])
def test_the_words_are_those_the_writer_reads(package):
    assert words_read(package) == set(FEATURES.get(package, {}))


@pytest.mark.parametrize("kind", PROVIDERS)
def test_a_vendor_uses_words_of_the_dialects_it_speaks(kind):
    one = PROVIDERS[kind]
    known = {word for dialect in one.speaks for word in FEATURES.get(dialect, {})}
    used = [*one.features, *(word for quirks in one.models.values() for word in quirks.features)]
    assert {word.removeprefix("-") for word in used} <= known
