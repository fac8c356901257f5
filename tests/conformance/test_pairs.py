"""Every scenario with every pair of dialects, and the page that says how it went."""

import os

import pytest

from tests.conformance.conftest import Told
from tests.conformance.scenarios import REFUSED, SCENARIOS, cells
from tests.e2e.pairs import CASES, ODD, World
from tests.e2e.sdks import Outcome
from tools import conformance

CELLS = list(cells())
of_the_page = pytest.mark.skipif(conformance.WRITES in os.environ, reason="the page is being written")


@pytest.mark.parametrize(("name", "client", "upstream"), CELLS)
def test_scenario(stand: World, told: Told, name: str, client: str, upstream: str) -> None:
    scenario = SCENARIOS[name]
    verdict = scenario.verdict(stand, client, upstream)
    if (field := REFUSED.get((name, client, upstream))) is not None:
        assert verdict == f"refused: {field}"
    else:
        assert not verdict.startswith("refused")
    told(client, name, upstream, verdict, list(SCENARIOS).index(name), scenario.title)


@of_the_page
def test_the_page_has_no_cells_but_those_that_are_tried() -> None:
    tried = {(conformance.TABLES[client], name, upstream) for name, client, upstream in CELLS}
    sdks = {conformance.TABLES[client] for client in conformance.COLUMNS}
    assert {cell for cell in conformance.committed() if cell.table in sdks} == tried


@of_the_page
def test_the_page_is_read_as_it_is_written() -> None:
    cells = conformance.committed()
    assert len(cells) > len(CELLS)
    assert conformance.read(conformance.write(cells, {})) == cells


@pytest.mark.parametrize("client", conformance.COLUMNS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_cases_try_what_they_say(stand: World, client: str, stream: bool) -> None:
    told = {name: stand.directly(client, case, stream) for name, case in CASES.items()}
    assert all(isinstance(one, Outcome) and (one.text or one.calls) for one in told.values())
    assert [name for name, _ in told["tool"].calls] == ["weather"]
    odd = told["tools"].calls[1][1]
    assert (odd["zeta"], odd["alpha"]) == (ODD["properties"]["zeta"]["enum"][0], 9007199254740993)
    assert not told["results"].calls
