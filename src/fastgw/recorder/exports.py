"""The exports: records as JSON lines, a file for each UTC day, and reading them back up to their committed sizes."""

import os
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import msgspec
from msgspec import Struct

from fastgw.recorder import lines
from fastgw.recorder.offsets import Export, State, StateError, Sums, sync_directory
from fastgw.telemetry.record import Record

MOST_OPEN = 4
AT_ONCE = 64
"""Lines that are made into text together: few enough that the next ones take their place in the processor's cache."""

_NAME = re.compile(r"(\d{4}-\d\d-\d\d)\.jsonl")
_DAY_US = 86_400_000_000
_CHUNK = 1 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Figures(Struct):
    """What is needed of a line to find its place and to add it up."""

    ts: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano: int | None = None
    total_ms: float = 0.0

    @property
    def ts_us(self) -> int:
        """When the call was accepted, UTC microseconds since the epoch."""
        return (datetime.fromisoformat(self.ts) - _EPOCH) // _MICROSECOND


read_line = msgspec.json.Decoder(Figures).decode


@lru_cache(maxsize=8)
def _name_of_day(day: int) -> str:
    return f"{date(1970, 1, 1) + timedelta(days=day)}.jsonl"


def name_of(ts: int) -> str:
    """The file a record belongs to; ``ts`` in UTC microseconds since the epoch."""
    return _name_of_day(ts // _DAY_US)


def names(directory: Path) -> list[str]:
    """The exports there are, the oldest first."""
    try:
        return sorted(name for name in os.listdir(directory) if _NAME.fullmatch(name))
    except FileNotFoundError:
        return []


class _Gathered:
    """What is to be written to one file: lines, the text of those before them, and what all add up to."""

    __slots__ = ("lines", "sums", "text")

    def __init__(self) -> None:
        self.lines: list[lines.Line] = []
        self.text = bytearray()
        self.sums = Sums()

    def encode(self) -> None:
        self.text += lines.encode(self.lines)
        self.sums += Sums.of(self.lines)
        self.lines.clear()


class Exports:
    """The files of a directory, as the recorder writes them: `add` gathers, `write` writes, `sync` makes it last.

    What was written counts only once the state that tells it is saved; `cut_back` undoes what was not.
    """

    def __init__(self, directory: Path, state: State) -> None:
        self._directory = directory
        self._state = state
        self._gathered: dict[int, _Gathered] = {}
        self._open: dict[str, int] = {}
        self._dirty: set[str] = set()
        self._created = False

    def add(self, record: Record) -> None:
        """Take one record. Raises ValueError, OverflowError for a ts no calendar has."""
        line = lines.line_of(record)
        day = record.ts // _DAY_US
        gathered = self._gathered.get(day)
        if gathered is None:
            gathered = self._gathered[day] = _Gathered()
        gathered.lines.append(line)
        if len(gathered.lines) >= AT_ONCE:
            gathered.encode()

    def write(self) -> None:
        """Append what was gathered, and tell the state sizes and sums. Raises OSError: then `cut_back` is needed."""
        for day, gathered in self._gathered.items():
            gathered.encode()
            name = _name_of_day(day)
            export = self._state.exports.setdefault(name, Export())
            export.sums += gathered.sums
            self._state.totals += gathered.sums
            fd = self._descriptor(name)
            self._dirty.add(name)
            data = memoryview(gathered.text)
            while data:
                written = os.pwrite(fd, data, export.size)
                export.size += written
                data = data[written:]
        self._gathered.clear()

    def sync(self) -> None:
        """Return when the disk has all that was written. Raises OSError."""
        for name in self._dirty:
            os.fdatasync(self._open[name])
        if self._created:
            sync_directory(self._directory)
        self._dirty.clear()
        self._created = False
        while len(self._open) > MOST_OPEN:
            os.close(self._open.pop(next(iter(self._open))))

    def cut_back(self) -> list[str]:
        """Make the files what the state says: longer ones are cut, unknown ones are removed.

        The names of those that somebody took away: they leave the state, their sums count as expired.

        Raises:
            StateError: a file is shorter than it was.
            OSError: the disk refuses.
        """
        there = names(self._directory)
        for name in there:
            export = self._state.exports.get(name)
            path = self._directory / name
            if export is None:
                path.unlink()
                continue
            size = path.stat().st_size
            if size < export.size:
                problem = f"has {size} bytes, but {export.size} were recorded; put back a copy, or move it away"
                raise StateError(f"{path}: {problem}")
            if size > export.size:
                os.truncate(path, export.size)
        return self._forget(name for name in list(self._state.exports) if name not in there)

    def expire(self, before: date) -> list[str]:
        """Take the days before this one out of the state; the names of their files, to be deleted when it is saved."""
        return self._forget(name for name in list(self._state.exports) if name < f"{before}.jsonl")

    def _forget(self, gone: Iterable[str]) -> list[str]:
        forgotten = list(gone)
        for name in forgotten:
            self._state.expired += self._state.exports.pop(name).sums
            if name in self._open:
                os.close(self._open.pop(name))
        return forgotten

    def close(self) -> None:
        """Let go of the files; idempotent."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def _descriptor(self, name: str) -> int:
        fd = self._open.get(name)
        if fd is None:
            path = self._directory / name
            new = not self._state.exports[name].size
            # One that was written to and is gone must not come back with a hole for a beginning.
            flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if new else 0)
            fd = os.open(path, flags, 0o600)
            self._created = self._created or new
            self._open[name] = fd
        return fd


def read_lines(path: Path, size: int) -> Iterator[tuple[int, bytes]]:
    """(offset, line) of a file up to its committed size. Raises OSError."""
    at = 0
    with path.open("rb") as file:
        while at < size and (line := file.readline()):
            yield at, line
            at += len(line)


def in_order(path: Path, size: int, since: int, until: int) -> Iterator[tuple[int, bytes]]:
    """(ts, line) of a file's records with ``since <= ts < until``, in the order of ``ts``.

    Holds two small numbers a line in memory. Raises OSError, ValueError for a line that is no record.
    """
    found = [(ts, at) for at, line in read_lines(path, size) if since <= (ts := read_line(line).ts_us) < until]
    found.sort()
    with path.open("rb") as file:
        for ts, at in found:
            file.seek(at)
            yield ts, file.readline()


def overlaps(name: str, since: int, until: int) -> bool:
    """Whether the day of a file has a part in a span of UTC microseconds."""
    first = (datetime.strptime(name, "%Y-%m-%d.jsonl").replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
    return first < until and since < first + _DAY_US


def last_lines(path: Path, size: int, n: int) -> list[bytes]:
    """The last ``n`` lines of a file up to its committed size, the oldest first. Raises OSError."""
    tail: list[bytes] = []
    count, at = 0, size
    with path.open("rb") as file:
        while at and count <= n:
            start = max(0, at - _CHUNK)
            file.seek(start)
            tail.append(file.read(at - start))
            count += tail[-1].count(b"\n")
            at = start
    return b"".join(reversed(tail)).splitlines(keepends=True)[-n:] if n else []


def add_up(path: Path, size: int) -> Sums:
    """What the lines of a file add up to. Raises OSError, ValueError for a line that is no record."""
    sums = Sums()
    for _, line in read_lines(path, size):
        sums.add(read_line(line))
    return sums
