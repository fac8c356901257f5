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


def test_f40_a_dead_workers_calls_are_settled_recorded_and_counted(tmp_path, shared):
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


class Killer:
    """Ends this process at one of the moments that `passed` counts."""

    def __init__(self, moment: int) -> None:
        self.left = moment

    def passed(self) -> None:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


class MortalTable:
    """The table of a node that may be killed before and after each record that it writes, and after each lane."""

    def __init__(self, real, killer: Killer) -> None:
        self._real, self._killer = real, killer

    def __getattr__(self, name):
        return getattr(self._real, name)

    def replay(self, lane, added):
        self._real.replay(lane, added)
        self._killer.passed()

    def reap(self, lane, known, write):
        def mortal(orphan):
            self._killer.passed()
            write(orphan)
            self._killer.passed()

        orphans = self._real.reap(lane, known, mortal)
        self._killer.passed()
        return orphans


def reap_and_die(directory: Path, moment: int) -> None:
    """A node that sees to the dead and is killed on the way; exits with 3 when it had done before."""
    ours = open_table(directory, create=False)
    series = SeriesRegistry(ours.counters).series
    reaper = Reaper(MortalTable(ours, Killer(moment)), ours.claim_lane(), directory, lambda: series, Log())
    reaper.reap()
    os._exit(3)


def run(work, *arguments) -> int:
    child = os.fork()
    if not child:
        try:
            work(*arguments)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_nodes_that_are_killed_while_they_reap_record_each_call_once(tmp_path):
    """Two nodes in a row, each killed at every moment of its reaping, and a third that ends the work."""
    moments = 0
    for first in range(12):
        done = True
        for second in range(12):
            directory = tmp_path / f"{first}-{second}"
            directory.mkdir()
            shared = open_table(directory, create=True)
            slot = shared.slot(slot_id("key", "k", "window", "tokens", "day"), table.DAY)
            assert run(work_and_die, directory, slot) == -signal.SIGKILL
            done = run(reap_and_die, directory, first) == 3
            last = run(reap_and_die, directory, second)
            assert last in (3, -signal.SIGKILL)
            lane = shared.claim_lane()
            series = SeriesRegistry(shared.counters).series
            reaper = Reaper(shared, lane, directory, lambda series=series: series, Log())
            reaper.reap()
            assert shared.unreaped() == []
            reaper.close()
            rows = [record.decode(payload) for _, _, payload in spool.read(spool.spool_dir(directory))]
            assert sorted(row.id for row in rows) == sorted(call_id(call) for call in CALLS), (first, second)
            assert shared.used(slot, WINDOWS) == 15 + 15 + 100
            assert shared.totals() == (4, 120, 10, 14), (first, second)
            lane.close()
            shared.close()
            moments += 1
            if last == 3:
                break
        if done:
            break
    assert done
    assert moments > 20


def test_what_failed_half_way_is_not_recorded_again(tmp_path, shared, monkeypatch):
    slot = shared.slot(slot_id("key", "k", "window", "tokens", "day"), table.DAY)
    assert run(work_and_die, tmp_path, slot) == -signal.SIGKILL
    series, lane = SeriesRegistry(shared.counters).series, shared.claim_lane()
    reaper = Reaper(shared, lane, tmp_path, lambda: series, Log())

    def fail(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("fastgw.telemetry.metrics.account", fail)
        with pytest.raises(OSError, match="Input/output"):
            reaper.reap()
    assert reaper.reap() == 1
    reaper.close()
    ids = [record.decode(payload).id for _, _, payload in spool.read(spool.spool_dir(tmp_path))]
    assert sorted(ids) == sorted(call_id(call) for call in CALLS)
    assert shared.totals() == (4, 120, 10, 14)
    lane.close()
