"""HTTP/1.1 as RFC 9110 and RFC 9112 have it: fastgw beside a bare granian with an application that only says hello."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.conftest import Edge, listening
from tests.edge.exceptions import BARE, H1
from tests.edge.h1 import Heard, cut
from tests.edge.h1_cases import CASES, Case
from tests.edge.support import Echo, read_all
from tests.support.gateway import reserved_port, until
from tests.support.rawclient import connect

ROOT = Path(__file__).resolve().parents[2]
QUIET_S = 1.0


@pytest.fixture(scope="module")
def bare() -> Iterator[int]:
    """The port of a bare granian."""
    with reserved_port() as port:
        command = [sys.executable, "-m", "granian", "--interface", "asgi", "--port", str(port), "tests.edge.hello:app"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                until(lambda: listening(process, port), 20.0, "granian to listen")
                yield port
            finally:
                process.terminate()
                process.wait(20)


async def hear(port: int, case: Case) -> Heard:
    """Everything that came back for a case."""
    async with connect(port) as connection:
        for piece in case.pieces[:-1]:
            connection.send(piece)
            await connection.read_some(len(connection.buffer) + 1)
        connection.send(case.pieces[-1])
        raw, ending = await read_all(connection, QUIET_S)
    return cut(raw, ending, case.asked)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_h1_as_the_rfc_has_it(edge: Edge, upstream: Echo, bare: int, case: Case) -> None:
    """Both servers keep the rule, but for the exceptions listed: no more of them, and no fewer."""
    ours, theirs = await asyncio.gather(hear(edge.node.port, case), hear(bare, case))
    assert case.check(ours) == (case.id not in H1), ours
    assert case.check(theirs) == (case.id not in BARE), theirs


def test_h1_has_fewer_exceptions_than_a_bare_granian() -> None:
    ids = [case.id for case in CASES]
    assert len(ids) == len(set(ids)) >= 32
    assert set(ids) >= H1 | BARE
    assert len(H1) < len(BARE)


def test_h1_the_exceptions_are_those_of_the_document() -> None:
    section = (ROOT / "docs" / "edge.md").read_text().partition("## Where it differs")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| \*\*(.+?)\*\* \|", section, re.M)) == H1
