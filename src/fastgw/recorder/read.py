"""Reading records back from the spool: the last ones, and all of a time span as JSON lines."""

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from fastgw.state import segment, spool
from fastgw.telemetry.record import Record, RecordError, decode, to_json_line

Report = Callable[[str], None]

_FOREVER = 1 << 63


def _ignore(problem: str) -> None:
    """The default report."""


def tail(data_dir: str | PathLike[str], n: int = 10, follow: bool = False, report: Report = _ignore) -> Iterator[bytes]:
    """The last records of a data directory as JSON lines, oldest first; with ``follow`` also what comes, for ever.

    Last means written last, as each worker's spool has it. What comes is told within 100 ms, in the order it is found.

    Args:
        data_dir: the data directory; one without a spool has no records.
        n: how many, over all lanes.
        follow: go on with what comes.
        report: told of each segment or record that cannot be read; the rest is read all the same.
    """
    directory = spool.spool_dir(data_dir)
    ends: dict[str, int] = {}
    last: list[tuple[int, int, Record]] = []
    order = count()
    for names in _by_lane(segment.segment_names(directory)):
        kept = _last(directory, names, n, report, ends)
        last += [(_written_us(record), next(order), record) for record in kept]
    for _, _, record in heapq.nlargest(n, last)[::-1]:
        yield to_json_line(record)
    if follow:
        yield from _follow(directory, ends, report)


def _last(directory: Path, names: list[str], n: int, report: Report, ends: dict[str, int]) -> deque[Record]:
    """The last ``n`` records of a lane; ``ends`` learns from where to go on in each of its segments."""
    kept: deque[Record] = deque()
    for name in reversed(names):
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
    """(offset, record) of a segment; ``ends`` learns where reading stopped."""
    path = directory / name
    try:
        ends[name] = segment.HEADER_BYTES
        for offset, payload in segment.frames(path, limit=limit):
            ends[name] = segment.after_frame(offset, payload)
            record = _decode(name, offset, payload, report)
            if record is not None:
                yield offset, record
    except FileNotFoundError:
        return
    except (spool.SpoolError, OSError) as error:
        report(str(error))


def _decode(name: str, offset: int, payload: bytes, report: Report) -> Record | None:
    try:
        return decode(payload)
    except RecordError as error:
        report(f"{name}: record at {offset}: {error}")
        return None


class _Extent(NamedTuple):
    """A segment's records inside the span: the first and how far to read."""

    first_us: int
    name: str
    end: int


def export(
    data_dir: str | PathLike[str], since: int = 0, until: int = _FOREVER, report: Report = _ignore
) -> Iterator[bytes]:
    """Records with ``since <= ts < until`` (UTC microseconds) as JSON lines, all lanes merged in the order of ``ts``.

    The spool as it is when the iteration begins. Segments are read twice, once for their extents, so that only those
    that overlap in time are in memory together; one the janitor takes away in between is left out.

    Args:
        data_dir: the data directory; one without a spool has no records.
        since: the first moment of the span.
        until: the first moment after it.
        report: told of each segment or record that cannot be read; the rest is read all the same.
    """
    directory = spool.spool_dir(data_dir)
    extents = sorted(_extents(directory, since, until, report), reverse=True)
    heap: list[tuple[int, str, int, Record]] = []
    while extents or heap:
        while extents and (not heap or extents[-1].first_us <= heap[0][0]):
            extent = extents.pop()
            for offset, record in _records(directory, extent.name, _ignore, {}, extent.end):
                if since <= record.ts < until:
                    heapq.heappush(heap, (record.ts, extent.name, offset, record))
        if heap:
            yield to_json_line(heapq.heappop(heap)[3])


def _extents(directory: Path, since: int, until: int, report: Report) -> Iterator[_Extent]:
    for name in segment.segment_names(directory):
        ends: dict[str, int] = {}
        first = min(
            (record.ts for _, record in _records(directory, name, report, ends) if since <= record.ts < until),
            default=None,
        )
        if first is not None:
            yield _Extent(first, name, ends[name])
