"""The world of the scenarios, one for each test process, and how a test tells what it saw."""

import json
import os
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.pairs import World, paired
from tests.support.stage import Stage
from tools import conformance

pytest.register_assert_rewrite("tests.conformance.scenarios")

Told = Callable[[str, str, str, str, int, str], None]


@pytest.fixture(scope="session")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Stage() as stage, paired(tmp_path_factory.mktemp("conformance"), stage) as world:
        yield world


@pytest.fixture
def told(record_property: Callable[[str, object], None]) -> Told:
    """Tell the verdict of a cell: it must be the page's, unless the page is being written."""
    page = {} if conformance.WRITES in os.environ else conformance.committed()

    def tell(client: str, row: str, column: str, verdict: str, place: int, title: str) -> None:
        cell = conformance.Cell(conformance.TABLES[client], row, column)
        record_property("cell", json.dumps([*cell, verdict, place, title]))
        if conformance.WRITES not in os.environ:
            assert page.get(cell) == verdict, "docs/conformance.md says otherwise: make conformance writes it"

    return tell
