"""The record spool of a node: append-only segment files, one series a worker lane, that outlive the worker.

A segment (segment.py has its form) is a preallocated file, mapped shared. Appending is a copy into the mapping, so a
killed process loses nothing it appended, and ``sync`` (off the request path) bounds what a power cut can take. A new
writer never appends to an old segment.
"""

import contextlib
import fcntl
import mmap
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

from fastgw.state.janitor import TAKEN, Cleaned, Usage, janitor, usage
from fastgw.state.segment import (
    ACTIVE,
    HEADER_BYTES,
    MAX_PAYLOAD,
    OPENED,
    SEALED,
    SPARE,
    STATE,
    Segment,
    SpoolError,
    after_frame,
    describe,
    frames,
    pack_header,
    segment_name,
    segment_names,
)

__all__ = [
    "TAKEN",
    "Cleaned",
    "Reader",
    "Segment",
    "SpoolError",
    "Usage",
    "Writer",
    "janitor",
    "read",
    "spool_dir",
    "usage",
]

SEGMENT_BYTES = 8 * 1024 * 1024
RESERVE = 4
"""One part in so many of a segment is kept for the records of running calls when no other can be had."""

_POLL_SECONDS = 0.1
_KEPT_PROBLEMS = 100


def spool_dir(data_dir: str | os.PathLike[str]) -> Path:
    """Where the segments of a data directory are."""
    return Path(data_dir) / "spool"


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class _Mapping:
    """A segment this process writes: the open file, its lock and its shared mapping."""

    def __init__(self, directory: Path, lane: int, generation: int, sequence: int, size: int) -> None:
        self.name = segment_name(lane, generation, sequence)
        self.sequence = sequence
        self.path = directory / self.name
        self.size = size
        draft = directory / f"{self.name}.tmp"
        self.fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            # Locked and complete before it has its name: nobody meets a half-made or ownerless segment.
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            os.posix_fallocate(self.fd, 0, size)
            self._map = mmap.mmap(self.fd, size)
            self._map[:HEADER_BYTES] = pack_header(lane, generation, sequence)
            os.rename(draft, self.path)
            _sync_directory(directory)
        except BaseException:
            os.close(self.fd)
            with contextlib.suppress(OSError):
                draft.unlink()
            raise
        self.bytes = memoryview(self._map)
        self.words = self.bytes.cast("Q")

    def sync(self, used: int) -> None:
        # On Linux the same as msync of the whole mapping, and it lets other threads run meanwhile.
        os.fdatasync(self.fd)
        # What is on the disk need not count as this process's memory; a shared mapping loses nothing by it.
        done = used // mmap.PAGESIZE * mmap.PAGESIZE
        if done:
            self._map.madvise(mmap.MADV_DONTNEED, 0, done)

    def close(self, used: int) -> None:
        """Give the unused end back to the disk, then let go of the file."""
        self.words.release()
        self.bytes.release()
        self._map.close()
        try:
            os.ftruncate(self.fd, used)
            os.fdatasync(self.fd)
        finally:
            os.close(self.fd)

    def discard(self) -> None:
        """Remove a segment without records."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        with contextlib.suppress(OSError):
            self.close(0)


class Writer:
    """The spool of one worker lane.

    ``append`` belongs to one thread (the event loop); ``prepare``, ``sync`` and ``close`` may be called from others.
    A disk problem never raises: it is told in ``problem`` (None when all is well), and records that find no room are
    shed and counted.

    Attributes:
        appended, shed, sealed: records written, records lost for want of room (or larger than 64 KiB), segments filled.
        full: no next segment can be had, and of the active one only the last quarter is left, for calls that run.
        cap_bytes: no segment is made with which the spool would take more than this on disk; None: the disk decides.
    """

    def __init__(self, directory: str | os.PathLike[str], lane: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        if segment_bytes % mmap.PAGESIZE or segment_bytes < mmap.PAGESIZE:
            raise ValueError(f"segment_bytes must be a multiple of {mmap.PAGESIZE}")
        self.directory = Path(directory)
        self.lane = lane
        self.segment_bytes = segment_bytes
        self.appended = self.shed = self.sealed = 0
        self.full = False
        self.cap_bytes: int | None = None
        self._prepare_problem: str | None = None
        self._sync_problem: str | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._generation = self._sequence = 0
        self._active: _Mapping | None = None
        self._spare: _Mapping | None = None
        self._retired: deque[tuple[_Mapping, int]] = deque()
        self._bytes: memoryview[int] = memoryview(bytearray(0))
        self._words: memoryview[int] = self._bytes
        self._position = self._end = self._active_sequence = 0
        if self.prepare():
            self._switch()
            self.prepare()

    @property
    def problem(self) -> str | None:
        """Why the last ``prepare`` or ``sync`` failed; None when both went well."""
        return self._prepare_problem or self._sync_problem

    @property
    def segment(self) -> str | None:
        """The name of the segment being written; None while there is none."""
        return self._active.name if self._active else None

    @property
    def place(self) -> tuple[int, int]:
        """Where the last record ends, in numbers that only grow: this writer's, and the segment's over the offset."""
        return self._generation, self._active_sequence << 32 | self._position

    @property
    def live(self) -> tuple[str, ...]:
        """The names of the segments this writer holds, the spare included."""
        return tuple(held.name for held in (self._active, self._spare) if held)

    def append(self, payload: bytes) -> bool:
        """Write one record; False when it was shed. A copy into memory: no system call while the segment has room."""
        length = len(payload)
        start = self._position
        body = start + 8
        following = (body + length + 7) & -8
        if following > self._end or not 0 < length <= MAX_PAYLOAD:
            return self._append_elsewhere(payload)
        self._bytes[body : body + length] = payload
        self._words[start >> 3] = zlib.crc32(payload) << 32 | length
        self._position = following
        self.appended += 1
        return True

    def _append_elsewhere(self, payload: bytes) -> bool:
        if not payload:
            raise ValueError("an empty payload would read as the end of the segment")
        fits = len(payload) <= min(MAX_PAYLOAD, self.segment_bytes - HEADER_BYTES - 8)
        if fits and (self._open_reserve() or self._switch()):
            return self.append(payload)
        self.shed += 1
        self.full = self.full or fits
        return False

    def _open_reserve(self) -> bool:
        """Let the last part of the active segment be used; where none comes after it, that is being full."""
        if self._active is None or self._end == self._active.size:
            return False
        self._end = self._active.size
        self.full = self._spare is None
        return True

    def _switch(self) -> bool:
        """Seal the active segment and go on in the spare one, if there is one."""
        spare, self._spare = self._spare, None
        if spare is None:
            return False
        self._seal()
        spare.words[OPENED] = time.time_ns()
        spare.words[STATE] = ACTIVE
        self._active, self._bytes, self._words = spare, spare.bytes, spare.words
        self._position, self._end = HEADER_BYTES, spare.size - spare.size // RESERVE
        self._active_sequence = spare.sequence
        return True

    def _seal(self) -> None:
        if self._active is None:
            return
        self._active.words[STATE] = SEALED
        self._retired.append((self._active, self._position))
        self._active = None
        self._end = 0
        self.sealed += 1

    def prepare(self) -> bool:
        """Ready the next segment (call it every second or so, off the request path); True when one is ready."""
        with self._lock:
            self._release_retired()
            if self._spare is None and not self._closed:
                self._spare = self._create()
            self._judge_room()
            return self._spare is not None

    def _judge_room(self) -> None:
        active = self._active
        self.full = self._spare is None and (active is None or self._end == active.size)

    def _create(self) -> _Mapping | None:
        problem = f"cannot prepare a spool segment in {self.directory}"
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.cap_bytes is not None and usage(self.directory).bytes + self.segment_bytes > self.cap_bytes:
                self._prepare_problem = f"{problem}: it is at its cap of {self.cap_bytes} bytes"
                return None
            mapping = self._map()
        except OSError as error:
            self._prepare_problem = f"{problem}: {error.strerror or error}"
            return None
        self._prepare_problem = None
        return mapping

    def _map(self) -> _Mapping:
        if not self._generation:
            newest = max((int(name.split("-")[1]) for name in segment_names(self.directory)), default=0)
            self._generation = max(time.time_ns() // 1000, newest + 1)
        mapping = _Mapping(self.directory, self.lane, self._generation, self._sequence + 1, self.segment_bytes)
        self._sequence += 1
        return mapping

    def _release_retired(self) -> None:
        while self._retired:
            mapping, used = self._retired.popleft()
            try:
                mapping.close(used)
            except OSError as error:
                self._sync_problem = f"cannot sync {mapping.name}: {error.strerror or error}"

    def sync(self) -> None:
        """Write what was appended to the disk itself; off the request path, at least once a second."""
        with self._lock:
            self._release_retired()
            # Here too: an append that found no room may say so after a segment was made.
            self._judge_room()
            active = self._active
            if active is None:
                return
            try:
                active.sync(self._position)
            except OSError as error:
                self._sync_problem = f"cannot sync {active.name}: {error.strerror or error}"
            else:
                self._sync_problem = None

    def close(self) -> None:
        """Seal and sync; ``append`` sheds from now on. The appending thread must have stopped."""
        with self._lock:
            self._closed = True
            if self._position == HEADER_BYTES and self._active is not None:
                self._active.discard()
                self._active = None
                self._end = 0
            self._seal()
            self._release_retired()
            if self._spare is not None:
                self._spare.discard()
                self._spare = None


class Reader:
    """Iterates (segment name, offset, payload): lane by lane, each lane in the order of writing.

    Reading stops in a segment at the first invalid frame: that is told in ``problems``, counted in ``corrupt``, and the
    rest of the segment is skipped. With ``follow`` it goes on for ever, polling every 100 ms, until ``stop()``.
    """

    def __init__(self, directory: Path, follow: bool, since: int, start: Mapping[str, int]) -> None:
        self.corrupt = 0
        self.problems: deque[str] = deque(maxlen=_KEPT_PROBLEMS)
        self._directory = directory
        self._follow = follow
        self._since = since
        self._offsets = dict(start)
        self._finished: set[str] = set()
        self._stop = threading.Event()

    def stop(self) -> None:
        """End a following iteration, from any thread."""
        self._stop.set()

    def __iter__(self) -> Iterator[tuple[str, int, bytes]]:
        while True:
            progressed = False
            for segment in self._readable():
                for frame in self._read(segment):
                    progressed = True
                    yield frame
            if not self._follow or self._stop.is_set():
                return
            if not progressed and self._stop.wait(_POLL_SECONDS):
                return

    def _readable(self) -> Iterator[Segment]:
        """Unfinished segments; of a lane none beyond the first that may still grow."""
        names = segment_names(self._directory)
        self._finished.intersection_update(names)
        blocked = -1
        for segment in self._recent([name for name in names if name not in self._finished]):
            if segment.lane != blocked:
                yield segment
                if segment.name not in self._finished:
                    blocked = segment.lane if self._follow else -1

    def _recent(self, names: list[str]) -> Iterator[Segment]:
        """Without what was surely written before ``since``: those whose successor in the lane was opened by then."""
        waiting: Segment | None = None
        for name in names:
            try:
                segment = describe(self._directory / name)
            except FileNotFoundError:
                continue
            except (SpoolError, OSError) as error:
                self._give_up(name, error)
                continue
            if waiting is not None:
                superseded = waiting.lane == segment.lane and segment.state != SPARE
                if superseded and segment.opened_us <= self._since:
                    self._finished.add(waiting.name)
                else:
                    yield waiting
            waiting = segment
        if waiting is not None:
            yield waiting

    def _read(self, segment: Segment) -> Iterator[tuple[str, int, bytes]]:
        # The segment was described before this reads its frames, so what was appended up to its end is not missed.
        name, ended = segment.name, segment.ended
        try:
            for offset, payload in frames(segment.path, self._offsets.get(name, HEADER_BYTES)):
                self._offsets[name] = after_frame(offset, payload)
                yield name, offset, payload
        except FileNotFoundError:
            ended = True
        except (SpoolError, OSError) as error:
            # A live segment may be caught between two stores on a machine that reorders them: look again later.
            if ended or not self._follow:
                self._give_up(name, error)
                return
        if ended:
            self._finished.add(name)
            self._offsets.pop(name, None)

    def _give_up(self, name: str, error: Exception) -> None:
        self.corrupt += 1
        self.problems.append(str(error))
        self._finished.add(name)
        self._offsets.pop(name, None)


def read(
    directory: str | os.PathLike[str], follow: bool = False, since: int = 0, start: Mapping[str, int] | None = None
) -> Reader:
    """All records in a spool directory, as (segment name, offset, payload); name and offset are a record's key.

    Args:
        directory: the spool directory; a missing one is an empty spool.
        follow: keep waiting for more.
        since: UTC microseconds; segments closed before are left out (whole segments: filter records yourself).
        start: offset to begin at, by segment name.
    """
    return Reader(Path(directory), follow, since, start or {})
