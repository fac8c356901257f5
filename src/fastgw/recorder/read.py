"""Reading records back, each once: the last ones, and all of a time span as JSON lines.

What the recorder has committed is read from the exports, the rest from the spool behind the committed offsets.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from operator import itemgetter
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from fastgw.recorder import exports
from fastgw.recorder.offsets import State, StateError, records_dir
from fastgw.recorder.recorder import BATCH, recorded
from fastgw.state import segment, spool
from fastgw.telemetry.record import Record, RecordError, decode, to_json_line

Report = Callable[[str], None]

UNSORTED = 2 * BATCH
"""Lines of an export within which those written last may stand before others: the recorder goes lane by lane."""

_FOREVER = 1 << 63


def _ignore(problem: str) -> None:
    """The default report."""


def committed(data_dir: str | PathLike[str], report: Report = _ignore) -> State:
    """What the recorder last committed; when its file cannot be used, that is told and nothing counts as committed."""
    try:
        return recorded(data_dir)
    except (StateError, OSError) as error:
        report(str(error))
        return State()


def starts(state: State) -> dict[str, int]:
    """From where each segment of the spool is still to be read, by name; others from their beginning."""
    return {name: spool.TAKEN if at.done else at.offset for name, at in state.segments.items()}


def tail(data_dir: str | PathLike[str], n: int = 10, follow: bool = False, report: Report = _ignore) -> Iterator[bytes]:
    """The last records of a data directory as JSON lines, oldest first; with ``follow`` also what comes, for ever.

    Last means written last, as the exports and each worker's spool have it. What comes is told within 100 ms, in the
    order it is found.

    Args:
        data_dir: the data directory; one without a spool has no records.
        n: how many, over all lanes.
        follow: go on with what comes.
        report: told of each segment or record that cannot be read; the rest is read all the same.
    """
    directory = spool.spool_dir(data_dir)
    state = committed(data_dir, report)
    ends = starts(state)
    order = count()
    last = [(written, next(order), line) for written, line in _last_exported(records_dir(data_dir), state, n, report)]
    for names in _by_lane(segment.segment_names(directory)):
        kept = _last(directory, names, n, report, ends)
        last += [(_written_us(record), next(order), to_json_line(record)) for record in kept]
    for _, _, line in heapq.nlargest(n, last)[::-1]:
        yield line
    if follow:
        yield from _follow(directory, ends, report)


def _last_exported(directory: Path, state: State, n: int, report: Report) -> Iterator[tuple[int, bytes]]:
    """(time of writing, line) of the last lines of the exports.

    The last two days always, since a long call is in the file of the day it began; older ones for want of lines.
    """
    found = 0
    if not n:
        return
    for days, name in enumerate(sorted(state.exports, reverse=True)):
        if found >= n and days >= 2:
            return
        try:
            for line in exports.last_lines(directory / name, state.exports[name].size, n + UNSORTED):
                parsed = exports.read_line(line)
                found += 1
                yield parsed.ts_us + int(parsed.total_ms * 1000), line
        except (OSError, ValueError) as error:
            report(f"{directory / name}: {error}")


def _last(directory: Path, names: list[str], n: int, report: Report, ends: dict[str, int]) -> deque[Record]:
    """The last ``n`` records of a lane; ``ends`` learns from where to go on in each of its segments."""
    kept: deque[Record] = deque()
    for name in reversed(names):
        if ends.get(name) == spool.TAKEN:
            continue
        if len(kept) < n or _may_grow(directory / name):
            records = (record for _, record in _records(directory, name, report, ends))
            kept.extendleft(reversed(deque(records, maxlen=n - len(kept))))
        else:
            ends[name] = _FOREVER
    return kept


def _may_grow(path: Path) -> bool:
    try:
        return not segment.describe(path).ended
    except (spool.SpoolError, OSError):
        return False


def _by_lane(names: list[str]) -> list[list[str]]:
    lanes: dict[str, list[str]] = {}
    for name in names:
        lanes.setdefault(name.partition("-")[0], []).append(name)
    return list(lanes.values())


def _written_us(record: Record) -> int:
    return record.ts + int(record.total_ms * 1000)


def _follow(directory: Path, ends: dict[str, int], report: Report) -> Iterator[bytes]:
    reader = spool.read(directory, follow=True, start=ends)
    for name, offset, payload in reader:
        while reader.problems:
            report(reader.problems.popleft())
        record = _decode(name, offset, payload, report)
        if record is not None:
            yield to_json_line(record)


def _records(
    directory: Path, name: str, report: Report, ends: dict[str, int], limit: int | None = None
) -> Iterator[tuple[int, Record]]:
    """(offset, record) of a segment from where ``ends`` says; it learns where reading stopped."""
    path = directory / name
    try:
        ends[name] = start = ends.get(name, segment.HEADER_BYTES)
        for offset, payload in segment.frames(path, start, limit):
            ends[name] = segment.after_frame(offset, payload)
            record = _decode(name, offset, payload, report)
            if record is not None:
                yield offset, record
    except FileNotFoundError:
        report(f"{name}: taken away while it was read; what it held is in the exports, read them again")
    except (spool.SpoolError, OSError) as error:
        report(str(error))


def _decode(name: str, offset: int, payload: bytes, report: Report) -> Record | None:
    try:
        return decode(payload)
    except RecordError as error:
        report(f"{name}: record at {offset}: {error}")
        return None


class _Extent(NamedTuple):
    """A segment's records inside the span: the first, from where and how far to read."""

    first_us: int
    name: str
    start: int
    end: int


def export(
    data_dir: str | PathLike[str], since: int = 0, until: int = _FOREVER, report: Report = _ignore
) -> Iterator[bytes]:
    """Records with ``since <= ts < until`` (UTC microseconds) as JSON lines, all merged in the order of ``ts``.

    Exports and spool as they are when the iteration begins. Of a day, the times and places of its lines are in memory.
    Segments are read twice, once for their extents, so that only those that overlap in time are in memory together.

    Args:
        data_dir: the data directory; one without a spool has no records.
        since: the first moment of the span.
        until: the first moment after it.
        report: told of each file, segment or record that cannot be read; the rest is read all the same.
    """
    state = committed(data_dir, report)
    old = _exported(records_dir(data_dir), state, since, until, report)
    new = unread(data_dir, state, since, until, report)
    for _, line in heapq.merge(old, ((record.ts, to_json_line(record)) for record in new), key=itemgetter(0)):
        yield line


def _exported(directory: Path, state: State, since: int, until: int, report: Report) -> Iterator[tuple[int, bytes]]:
    for name in sorted(state.exports):
        if exports.overlaps(name, since, until):
            try:
                yield from exports.in_order(directory / name, state.exports[name].size, since, until)
            except (OSError, ValueError) as error:
                report(f"{directory / name}: {error}")


def unread(
    data_dir: str | PathLike[str], state: State, since: int = 0, until: int = _FOREVER, report: Report = _ignore
) -> Iterator[Record]:
    """The records of the spool that ``state`` does not have yet, in the order of ``ts``; see `export`."""
    directory = spool.spool_dir(data_dir)
    extents = sorted(_extents(directory, starts(state), since, until, report), reverse=True)
    heap: list[tuple[int, str, int, Record]] = []
    while extents or heap:
        while extents and (not heap or extents[-1].first_us <= heap[0][0]):
            extent = extents.pop()
            for offset, record in _records(directory, extent.name, _ignore, {extent.name: extent.start}, extent.end):
                if since <= record.ts < until:
                    heapq.heappush(heap, (record.ts, extent.name, offset, record))
        if heap:
            yield heapq.heappop(heap)[3]


def _extents(directory: Path, ends: dict[str, int], since: int, until: int, report: Report) -> Iterator[_Extent]:
    for name in segment.segment_names(directory):
        start = ends.get(name, segment.HEADER_BYTES)
        if start == spool.TAKEN:
            continue
        first = min(
            (record.ts for _, record in _records(directory, name, report, ends) if since <= record.ts < until),
            default=None,
        )
        if first is not None:
            yield _Extent(first, name, start, ends[name])
