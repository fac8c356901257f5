"""Locks of the shared table's file: open-file locks (fcntl(2)), released by the kernel however their holder dies.

Byte 0 of the file is the lock of the directory, folding and sums; the first byte of a lane is that lane's lock.
"""

import errno
import fcntl
import os
import struct
import threading
import weakref
from types import TracebackType

from fastgw._core.table_layout import HeldLane, TableError

_held: weakref.WeakSet[HeldLane] = weakref.WeakSet()


def hold(lane: HeldLane) -> None:
    """Let go of this lane in children forked from now on."""
    _held.add(lane)


def _abandon_inherited() -> None:
    # An open-file lock lives as long as any copy of its descriptor: a child's copy would keep a dead worker's lane.
    for lane in list(_held):
        lane.abandon()


os.register_at_fork(after_in_child=_abandon_inherited)


def _flock(kind: int, start: int) -> bytes:
    """One byte at ``start`` as ``struct flock`` (fcntl(2), 64-bit off_t)."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, 1, 0)


def reopen(fd: int) -> int:
    """A new open file description of the same file, even when it was renamed since: open-file locks belong to these."""
    return os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)


def try_lock(fd: int, start: int) -> bool:
    """Take the lock of one byte unless another has it."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, start))
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True


def unlock(fd: int, start: int) -> None:
    """Let go of one byte."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, start))


def is_locked(fd: int, start: int) -> bool:
    """Whether another open file has the lock of this byte."""
    asked = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, start))
    return bool(struct.unpack_from("h", asked)[0] != fcntl.F_UNLCK)


class FileLock:
    """The exclusive lock of a table: between processes by an open-file lock, between threads by a mutex.

    POSIX locks would not do: closing any other descriptor of the file in the process drops them (fcntl(2)).
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pid = os.getpid()
        self._mutex = threading.Lock()

    def _own_after_fork(self) -> None:
        # Parent and child share the inherited description, so its lock would not part them.
        inherited, self._fd = self._fd, reopen(self._fd)
        os.close(inherited)
        self._pid = os.getpid()
        self._mutex = threading.Lock()

    @property
    def fd(self) -> int:
        """The descriptor the lock is taken on; this process's own."""
        if self._fd < 0:
            raise TableError("the table is closed")
        if self._pid != os.getpid():
            self._own_after_fork()
        return self._fd

    def __enter__(self) -> None:
        fd = self.fd
        self._mutex.acquire()
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, _flock(fcntl.F_WRLCK, 0))
        except BaseException:
            self._mutex.release()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, 0))
        self._mutex.release()

    def close(self) -> None:
        """Close the descriptor; later use raises ``TableError``."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close


class LaneLock:
    """Holds one lane until closed or until the process dies, however it dies."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def fd(self) -> int:
        """The descriptor the lock is taken on."""
        return self._fd

    def close(self) -> None:
        """Free the lane."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close
