"""Four workers that call as fast as they can on a few slots, and are killed at random: ``nursery.py FILE KILLS SEED``.

Each worker writes a record of every call to its lane's log before it settles. After every kill the lane is replayed and
reaped. At the end, with all workers dead, what the slots say has to be what the logs say, to the unit.
"""

import os
import random
import signal
import struct
import sys
import time
from collections import Counter

from fastgw._core import table as shared

RECORD = struct.Struct("=16s3Q")
WINDOWS = (490_000, 20_416, 24_311)
NOW = 10**15
WORKERS, AT_ONCE, LANES, REAPER = 4, 3, 8, 99


class Slots:
    """The rules all calls are under."""

    def __init__(self, table: shared.Table) -> None:
        kinds = [shared.CONCURRENT, shared.DAY, shared.MONTH, shared.TOTAL, shared.CONCURRENT, shared.HOUR, shared.RATE]
        units = [shared.REQUESTS, shared.TOKENS, shared.NANO, shared.REQUESTS, 0, shared.REQUESTS, shared.TOKENS]
        bounds = [AT_ONCE, 10**15, 10**15, 10**15, AT_ONCE, 0, 0]
        self.rows = [
            shared.Limit(table.slot(bytes([n + 1]) * 16, kind), kind, unit, bound, 1, 10**15)
            for n, (kind, unit, bound) in enumerate(zip(kinds, units, bounds, strict=True))
        ]
        self.call, self.target = shared.Limits(self.rows[:4]), shared.Limits([self.rows[4], self.rows[6]])
        self.full = shared.Limits([self.rows[5]])

    def used(self, table: shared.Table) -> list[int]:
        return [table.used(row.slot, WINDOWS) for row in self.rows[:6]]


def log_name(path: str, lane: int) -> str:
    return f"{path}.log{lane}"


def append(path: str, lane: int, record: bytes) -> int:
    """The log's length with this record."""
    fd = os.open(log_name(path, lane), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, record)
    length = os.fstat(fd).st_size
    os.close(fd)
    return length


def records(path: str, lane: int, start: int = 0) -> list[tuple[bytes, int, int, int]]:
    """Call id, requests, tokens, nano-dollars of every record behind ``start``."""
    try:
        with open(log_name(path, lane), "rb") as file:
            file.seek(start)
            return list(RECORD.iter_unpack(file.read()))
    except FileNotFoundError:
        return []


def work(path: str, seed: int) -> None:
    table, chance = shared.Table.open(path, create=False), random.Random(seed)
    slots, lane = Slots(table), table.claim_lane()
    book = lane.book()
    while True:
        name, tokens, nano = chance.randbytes(16), chance.randrange(100), chance.randrange(1000)
        entry = book.begin(name, NOW, 1_800_000_000, b"key", b"model")
        if chance.random() < 0.2:
            assert book.take(entry, (slots.call, slots.full), 1, tokens, nano, NOW, WINDOWS)[0] >= 0
        if book.take(entry, (slots.call,), 1, tokens, nano, NOW, WINDOWS)[0] < 0:
            one_call(table, slots, book, entry, path, lane.index, chance, name, tokens, nano)
        book.end(entry)


def one_call(table, slots, book, entry, path, lane, chance, name, tokens, nano) -> None:
    first = book.charges(entry)
    if chance.random() < 0.3 and book.take(entry, (slots.target,), 1, tokens, nano, NOW, WINDOWS)[0] < 0:
        book.settle(entry, first, 0, 0, 0, NOW)
    book.take(entry, (slots.target,), 1, tokens, nano, NOW, WINDOWS)
    book.mark_sent(entry)
    held = slots.used(table)
    assert 0 < held[0] <= AT_ONCE, held
    assert held[4] <= AT_ONCE, held
    tokens, nano = chance.randrange(150), chance.randrange(1500)
    length = append(path, lane, RECORD.pack(name, 1, tokens, nano))
    book.commit_totals(0, length, tokens, 0, nano)
    book.mark_recorded(entry, 1, tokens, nano)
    book.settle(entry, 0, 1, tokens, nano, NOW)


def bury(table: shared.Table, path: str, orphans: Counter) -> None:
    """Replay and reap all lanes of the dead; orphans are recorded in a log of the reaper's own."""
    for lane in table.unreaped():
        done = table.lane_totals(lane)
        behind = records(path, lane, done.offset)
        if behind:
            end = done.offset + RECORD.size * len(behind)
            tokens, nano = (sum(record[place] for record in behind) for place in (2, 3))
            table.replay(lane, shared.Totals(0, end, len(behind), tokens, 0, nano))
        known = {record[0]: record[2:] for record in records(path, lane)[-20:]}

        def write(orphan: shared.Orphan) -> None:
            orphans[orphan.sent] += 1
            append(path, REAPER, RECORD.pack(orphan.call_id, int(orphan.sent), orphan.tokens, orphan.nano))

        table.reap(lane, known.get, write)


def spawn(path: str, seed: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 3
    try:
        work(path, seed)
    finally:
        os._exit(code)


def main(path: str, kills: int, seed: int) -> None:
    table = shared.Table.open(path, slots=64, lanes=LANES, counters=8, entries=4, create=True)
    slots, chance, orphans = Slots(table), random.Random(seed), Counter()
    pids = [spawn(path, seed * 1000 + n) for n in range(WORKERS)]
    for n in range(kills + WORKERS):
        time.sleep(chance.expovariate(100))
        pid = pids.pop(chance.randrange(len(pids)))
        os.kill(pid, signal.SIGKILL)
        died = os.waitpid(pid, 0)[1]
        assert died == signal.SIGKILL, died
        bury(table, path, orphans)
        if n < kills:
            pids.append(spawn(path, seed * 1000 + WORKERS + n))
    check(table, slots, path)
    table.close()
    print(table_records(path), orphans[True], orphans[False])


def table_records(path: str) -> int:
    return sum(len(records(path, lane)) for lane in range(LANES))


def check(table: shared.Table, slots: Slots, path: str) -> None:
    logs = [records(path, lane) for lane in range(LANES)]
    written = [record for log in (*logs, records(path, REAPER)) for record in log]
    assert len({record[0] for record in written}) == len(written), "a call has one record"
    requests, tokens, nano = (sum(record[place] for record in written) for place in (1, 2, 3))
    assert slots.used(table) == [0, tokens, nano, requests, 0, 0], (slots.used(table), tokens, nano, requests)
    for lane, log in enumerate(logs):
        sums = [sum(record[place] for record in log) for place in (2, 3)]
        assert table.lane_totals(lane)[2:] == (len(log), sums[0], 0, sums[1]), lane
    assert table.totals()[0] == table_records(path)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
