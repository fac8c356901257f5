"""The recorder: takes each record of the spool once, writes it to the export of its day, and commits how far it came.

A commit is: the exports on the disk, then the one file that tells their sizes and the offsets in the spool. After a
death at any point the exports are cut back to the last commit and reading goes on from it.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from os import PathLike
from pathlib import Path

from fastgw.recorder import exports, offsets
from fastgw.recorder.exports import Exports
from fastgw.recorder.offsets import Position, State, StateError
from fastgw.state import segment, spool
from fastgw.state.segment import HEADER_BYTES, SPARE, Frame, Segment
from fastgw.telemetry.record import RecordError, decode

BATCH = 4_000
BATCH_BYTES = 16 * 1024 * 1024
"""A commit holds no more: what it takes of the disk's time is shared by many, what it takes of memory is bounded."""

LOCK = "lock"

Report = Callable[[str], None]


class InUseError(StateError):
    """Another recorder holds the directory."""


class Recorder:
    """The one recorder of a data directory. Blocking, and for one thread at a time.

    Args:
        data_dir: the data directory.
        report: told of each segment or frame that cannot be read.

    Raises:
        InUseError: another one runs.
        StateError: the files of an earlier one cannot be gone on with; the message says what to do.
        OSError: the disk refuses.
    """

    def __init__(self, data_dir: str | PathLike[str], report: Report) -> None:
        self._spool = spool.spool_dir(data_dir)
        self._directory = offsets.records_dir(data_dir)
        self._report = report
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _hold(self._directory)
        self._exports = Exports(self._directory, State())
        self._unread: set[str] = set()
        try:
            self.reload()
        except BaseException:
            self.close()
            raise

    def reload(self) -> None:
        """Go back to the last commit: at the start, and after a disk problem. Raises StateError, OSError."""
        self._exports.close()
        state = offsets.load(self._directory)
        if state is None:
            if exports.names(self._directory):
                problem = f"{offsets.STATE} is missing beside exports: put it back, or move the exports away"
                raise StateError(f"{self._directory}: {problem}")
            state = State()
            offsets.save(self._directory, state)
        self.state = state
        self._exports = Exports(self._directory, state)
        for name in self._exports.cut_back():
            self._report(f"{self._directory / name} is gone; its records count as expired")
        self._taken = self._bytes = 0
        self._changed = False

    def step(self) -> bool:
        """Take what is there, commit it, and tell whether there is more.

        Raises:
            OSError: the disk refuses; nothing was committed, and `reload` is needed.
        """
        names = segment.segment_names(self._spool)
        more = any(self._full() or self._read(name) for name in names if not self._done(name))
        for gone in self.state.segments.keys() - set(names):
            del self.state.segments[gone]
            self._changed = True
        self._commit()
        return more

    def expire(self, keep_days: int, now: float) -> list[str]:
        """Delete the exports of days more than ``keep_days`` before ``now`` (UTC seconds); their names."""
        names = self._exports.expire(datetime.fromtimestamp(now, UTC).date() - timedelta(days=keep_days))
        if names:
            self._changed = True
            self._commit()
        # A death before the next line leaves files the state does not know: the next start removes them.
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                (self._directory / name).unlink()
        return names

    def close(self) -> None:
        """Let go of files and directory; what was not committed is read again by the next one."""
        self._exports.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _done(self, name: str) -> bool:
        position = self.state.segments.get(name)
        return position is not None and position.done

    def _read(self, name: str) -> bool:
        """Take what a segment has; True when the batch was full before its end."""
        path = self._spool / name
        try:
            # Described before its frames are read: what was appended up to its end is not missed.
            found = segment.describe(path)
        except spool.SpoolError as error:
            self._give_up(name, error)
            return False
        except OSError as error:
            return self._later(name, error)
        return found.state != SPARE and self._take(found)

    def _take(self, found: Segment) -> bool:
        position = self.state.segments.get(found.name)
        at = position.offset if position is not None else HEADER_BYTES
        try:
            for batch in segment.batches(found.path, at):
                kept = batch[: BATCH - self._taken]
                self._keep(found.name, kept)
                start, at = at, segment.after_frame(*kept[-1])
                self._move(found.name, at)
                self._taken += len(kept)
                self._bytes += at - start
                if self._full():
                    return True
        except OSError as error:
            return self._later(found.name, error)
        except spool.SpoolError as error:
            # A live segment may be caught between two stores on a machine that reorders them: look again later.
            if found.ended:
                self._give_up(found.name, error)
            return False
        if found.ended:
            self._move(found.name, at, done=True)
        return False

    def _later(self, name: str, error: OSError) -> bool:
        """A segment that cannot be opened or read now is tried again each time, and told of once."""
        if not isinstance(error, FileNotFoundError) and name not in self._unread:
            self._unread.add(name)
            self._report(f"{name}: {error.strerror or error}; it is tried again")
        return False

    def _keep(self, name: str, batch: list[Frame]) -> None:
        add = self._exports.add
        for offset, payload in batch:
            try:
                add(decode(payload))
            except (RecordError, ValueError, OverflowError) as error:
                self.state.unreadable += 1
                self._report(f"{name}: record at {offset}: {error}")

    def _full(self) -> bool:
        return self._taken >= BATCH or self._bytes >= BATCH_BYTES

    def _move(self, name: str, offset: int, *, done: bool = False, damaged: bool = False) -> None:
        self.state.segments[name] = Position(offset, done, damaged)
        self._changed = True

    def _give_up(self, name: str, error: Exception) -> None:
        position = self.state.segments.get(name)
        self._move(name, position.offset if position is not None else HEADER_BYTES, done=True, damaged=True)
        self.state.damaged += 1
        self._report(f"{error}; the rest of the segment is skipped")

    def _commit(self) -> None:
        self._taken = self._bytes = 0
        if not self._changed:
            return
        self._exports.write()
        self._exports.sync()
        offsets.save(self._directory, self.state)
        self._changed = False


def _hold(directory: Path) -> int:
    """The descriptor of the locked lock file; the lock is the kernel's and ends with the process."""
    fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise InUseError(f"{directory}: another recorder is at work here; only one may be") from None
    return fd


def recorded(data_dir: str | PathLike[str]) -> State:
    """What the recorder of a data directory last committed; an empty state when it never did.

    Raises:
        StateError: its file is damaged or of another version.
        OSError: it cannot be read.
    """
    return offsets.load(offsets.records_dir(data_dir)) or State()
