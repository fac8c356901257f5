"""What dead workers leave: each call one record, each figure counted once, also when the reaping is done twice."""

import os
import signal
from pathlib import Path

import pytest

from fastgw._core import table
from fastgw.node.reaper import Reaper
from fastgw.state import spool
from fastgw.state.table import open_table, slot_id
from fastgw.telemetry import record
from fastgw.telemetry.metrics import ProcessHandles, SeriesRegistry
from fastgw.telemetry.record import Record

CALLS = [bytes([n]) * 10 + bytes(6) for n in range(1, 5)]
WINDOWS = (1, 1, 1)
LIMIT = 1_000_000


class Log:
    def __init__(self):
        self.lines = []

    def warning(self, event, **facts):
        self.lines.append((event, facts))

    error = warning


@pytest.fixture
def shared(tmp_path):
    made = open_table(tmp_path, create=True)
    yield made
    made.close()


def call_id(call: bytes) -> str:
    return f"req_{call[:10].hex()}"


def work_and_die(directory: Path, slot: int) -> None:
    """One call in full, one recorded and not settled, one sent, one not; then the end."""
    ours = open_table(directory, create=False)
    book = ours.claim_lane().book()
    lane = next(n for n in range(ours.lanes) if ours.lane_info(n).pid == os.getpid())
    writer = spool.Writer(spool.spool_dir(directory), lane, 65536)
    limits = (table.Limits([table.Limit(slot, table.DAY, table.TOKENS, LIMIT)]),)
    entries = [book.begin(call, 1, 1_700_000_000, b"key", b"model") for call in CALLS]
    for entry in entries:
        book.take(entry, limits, 1, 100, 0, 1, WINDOWS)
    for entry in entries[:3]:
        book.mark_sent(entry)
    for number in (0, 1):
        written = Record(id=call_id(CALLS[number]), ts=1, status=200, input_tokens=10, output_tokens=5, cost_nano=7)
        assert writer.append(record.encode(written))
        if number == 0:
            book.commit_totals(*writer.place, 10, 5, 7)
            book.mark_recorded(entries[0], 1, 15, 7)
            book.settle(entries[0], 0, 1, 15, 7, 1)
            book.end(entries[0])
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_workers_calls_are_settled_recorded_and_counted(tmp_path, shared):
    slot = shared.slot(slot_id("key", "k", "window", "tokens", "day"), table.DAY)
    child = os.fork()
    if not child:
        work_and_die(tmp_path, slot)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert shared.used(slot, WINDOWS) == 15 + 3 * 100
    series, log, lane = SeriesRegistry(shared.counters).series, Log(), shared.claim_lane()
    reaper = Reaper(shared, lane, tmp_path, lambda: series, log)
    assert reaper.reap() == 2
    assert reaper.reap() == 0, "there is nothing left to see to"
    reaper.close()
    rows = [record.decode(payload) for _, _, payload in spool.read(spool.spool_dir(tmp_path))]
    assert sorted((row.id, row.status, row.error, row.usage_source, row.input_tokens) for row in rows) == sorted(
        [
            (call_id(CALLS[0]), 200, None, "none", 10),
            (call_id(CALLS[1]), 200, None, "none", 10),
            (call_id(CALLS[2]), 500, "worker_died", "estimated", 100),
            (call_id(CALLS[3]), 500, "worker_died", "none", 0),
        ]
    )
    # Two settled by their records, one kept at what was held back for it, one that never left given back.
    assert shared.used(slot, WINDOWS) == 15 + 15 + 100
    assert shared.totals() == (4, 10 + 10 + 100, 5 + 5, 7 + 7)
    places = ProcessHandles.find(series)
    assert shared.counter_sum(places.calls_reaped) == 2
    assert log.lines[-1] == ("lane_reaped", {"lane": log.lines[-1][1]["lane"], "records_counted": 1, "calls": 2})
    lane.close()
