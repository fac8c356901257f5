"""The tool that writes the page on conformance: the page's shape, and why an environment cannot be made."""

import json
from types import SimpleNamespace

import pytest

from tools import conformance
from tools.conformance import Cell, Seen, Unreachable, read, write

CELLS = {
    Cell("LangChain", "ChatOpenAI: text", "openai_chat"): "ok",
    Cell("LangChain", "ChatOpenAI: text", "gemini"): "refused: image.url",
    Cell("Vercel AI SDK", "google: text", "gemini"): "–",
}


def test_a_page_is_read_back() -> None:
    page = write(CELLS, {("LangChain", "ChatOpenAI: text"): "one question"})
    assert "| **ChatOpenAI: text** — one question | ok | – | – | refused: `image.url` |" in page
    assert {cell: said for cell, said in read(page).items() if said != "–"} == {
        cell: said for cell, said in CELLS.items() if said != "–"
    }
    assert write(read(page), {("LangChain", "ChatOpenAI: text"): "one question"}) == page


def test_rows_stand_in_the_order_of_their_places() -> None:
    seen = Seen()
    for place, row in ((7, "late"), (2, "early")):
        told = json.dumps(["LangChain", row, "gemini", "ok", place, "what"])
        report = SimpleNamespace(when="call", user_properties=[("cell", told), ("other", 1)])
        seen.pytest_runtest_logreport(report)
        seen.pytest_runtest_logreport(SimpleNamespace(when="teardown", user_properties=[("cell", "no JSON")]))
    assert [cell.row for cell in seen.verdicts()] == ["early", "late"]
    assert seen.titles() == {("LangChain", "early"): "what", ("LangChain", "late"): "what"}


def test_an_index_out_of_reach_is_told_from_a_failure() -> None:
    with pytest.raises(Unreachable, match="index cannot be reached"):
        conformance._run(["false"], ["false"])
    with pytest.raises(RuntimeError, match="false"):
        conformance._run(["false"], ["true"])
    with pytest.raises(RuntimeError):
        conformance._run(["false"], [])
    conformance._run(["true"], ["false"])


@pytest.mark.parametrize("client", conformance.CLIENTS)
def test_versions_are_pinned(client: str) -> None:
    for path in conformance._pins(client):
        text = path.read_text()
        if path.suffix == ".txt":
            assert all("==" in line for line in text.splitlines())
        elif path.name == "package.json":
            assert all(version[0].isdigit() for version in json.loads(text)["dependencies"].values())
