"""The page's own promises: whole in itself, and the policy allows what it needs and nothing else."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from fastgw.console.page import PAGE, POLICY


class Reader(HTMLParser):
    """Collects the tags with their attributes, and the text of script and style."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: dict[str, list[str]] = {"script": [], "style": []}
        self._within = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._within = tag

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within in self.inline:
            self.inline[self._within].append(data)


@pytest.fixture
def page() -> Reader:
    reader = Reader()
    reader.feed(PAGE.decode())
    reader.close()
    return reader


@pytest.mark.parametrize("kind", ["script", "style"])
def test_the_policy_allows_exactly_what_is_inline(page: Reader, kind: str) -> None:
    (text,) = page.inline[kind]
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert f"{kind}-src 'sha256-{digest}';" in POLICY.decode()
    assert "unsafe" not in POLICY.decode()


def test_nothing_comes_from_elsewhere(page: Reader) -> None:
    assert b"http:" not in PAGE
    assert b"https:" not in PAGE
    assert b"//" not in re.sub(rb"(?m)^\s*//.*$", b"", PAGE)
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
        assert not attributes.get("src")
        assert attributes.get("href", "data:,") == "data:,"


def test_the_script_finds_what_it_looks_for(page: Reader) -> None:
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    (script,) = page.inline["script"]
    wanted = set(re.findall(r'(?:byId|show|facts|rows)\("([a-z]+)"', script))
    assert wanted
    assert wanted <= ids
    assert "innerHTML" not in script


def test_light_and_dark() -> None:
    assert b"prefers-color-scheme: dark" in PAGE
    assert b"color-scheme: light dark" in PAGE
