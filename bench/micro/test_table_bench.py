"""Counted state, native against pure: ``pytest bench/micro --benchmark-only``."""

import time
from pathlib import Path
from types import ModuleType

import pytest

from fastgw._core import table_py
from fastgw.state.table import compile_rate, slot_id

try:
    from fastgw._core import table_c
except ImportError:
    table_c = None

TWINS = [
    pytest.param(table_py, id="pure"),
    pytest.param(table_c, id="native", marks=pytest.mark.skipif(table_c is None, reason="not compiled")),
]
LEVELS = ("key", "model", "gateway")


@pytest.fixture(params=TWINS)
def twin(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


@pytest.fixture
def opened(twin: ModuleType, tmp_path: Path):
    table = twin.Table.open(str(tmp_path / "table"), create=True)
    yield table
    table.close()


@pytest.fixture
def sets(twin: ModuleType, opened) -> tuple:
    """A limit at each level, so high that none refuses."""
    interval, tau = compile_rate(60_000_000, 60, 60_000_000)
    slots = [opened.slot(slot_id(level, "bench", "rate", "requests", "60s")) for level in LEVELS]
    return tuple(twin.Limits([twin.Limit(slot, twin.RATE, twin.REQUESTS, 0, interval, tau)]) for slot in slots)


@pytest.mark.benchmark(group="table: take of three limits, settled")
def test_take(benchmark, opened, sets):
    lane = opened.claim_lane(time.monotonic_ns())
    book = lane.book()
    entry = book.begin(bytes(16), time.monotonic_ns(), 0, b"", b"")

    def take() -> int:
        now = time.monotonic_ns()
        refused = book.take(entry, sets, 1, 0, 0, now, (0, 0, 0))[0]
        book.settle(entry, 0, 1, 0, 0, now)
        return refused

    assert benchmark(take) == -1
    book.end(entry)
    lane.close()


@pytest.mark.benchmark(group="table: add to a counter")
def test_add(benchmark, opened):
    lane = opened.claim_lane(time.monotonic_ns())
    benchmark(lane.add, 5, 1)
    lane.close()
    assert opened.counter_sum(5) > 0
