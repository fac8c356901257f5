"""The data directory: ours alone (0700), and one instance at a time."""

import fcntl
import os
import stat
from pathlib import Path

from fastgw._core import table
from fastgw.node.errors import DATA_DIR, StartError
from fastgw.state.secrets import SecretFileError, ensure_admin_key, ensure_pepper
from fastgw.state.table import open_table

LOCK = "lock"


class DataDir:
    """A data directory held for the life of the process. The lock is the kernel's: it ends with the process."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd = lock_fd

    @classmethod
    def hold(cls, path: str | Path) -> "DataDir":
        """Create the directory when missing, check it, and lock it.

        Raises:
            StartError: (4) it is in use, not ours, open to others, or cannot be made.
        """
        place = Path(os.path.abspath(path))
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check(place)
            return cls(place, _lock(place))
        except OSError as error:
            raise StartError(DATA_DIR, f"data directory {place}: {error.strerror or error}") from error

    @classmethod
    def adopt(cls, path: str | Path, lock_fd: int) -> "DataDir":
        """The directory of a node that runs, by a copy of its lock; the lock is held until both have let go.

        Raises:
            StartError: (4) the lock is not this directory's, or the directory is not ours or open to others.
        """
        place = Path(os.path.abspath(path))
        try:
            _check(place)
            if not os.path.samestat(os.fstat(lock_fd), os.lstat(place / LOCK)):
                raise StartError(DATA_DIR, f"data directory {place}: the node that runs holds another one")
        except OSError as error:
            raise StartError(DATA_DIR, f"data directory {place}: {error.strerror or error}") from error
        return cls(place, lock_fd)

    @property
    def lock_fd(self) -> int:
        """The descriptor that holds the lock; -1 after `release`."""
        return self._lock_fd

    def sign(self) -> None:
        """Write down, for people to read, that this process is the holder now."""
        _sign(self._lock_fd)

    def release(self) -> None:
        """Let another instance have it; idempotent."""
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            os.close(fd)


def open_state(place: Path) -> table.Table:
    """What every node needs there, made when it is missing; and its shared table.

    Raises:
        StartError: (4) it cannot be made or read.
    """
    try:
        ensure_pepper(place)
        ensure_admin_key(place)
        return open_table(place, create=True)
    except (SecretFileError, table.TableError) as error:
        raise StartError(DATA_DIR, str(error)) from error
    except OSError as error:
        raise StartError(DATA_DIR, f"data directory {place}: {error.strerror or error}") from error


def _check(place: Path) -> None:
    """Refuse a directory somebody else owns or may look into: it holds keys, records and upstream credentials."""
    status = place.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise StartError(DATA_DIR, f"data directory {place}: not a directory")
    if status.st_uid != os.geteuid():
        problem = f"belongs to user {status.st_uid}, not to {os.geteuid()}; change its owner or use --data-dir"
        raise StartError(DATA_DIR, f"data directory {place}: {problem}")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise StartError(DATA_DIR, f"data directory {place}: mode {mode:04o} lets others in; run: chmod 700 {place}")


def _lock(place: Path) -> int:
    """The descriptor of the locked lock file, in which the holder's pid is for people to read."""
    fd = os.open(place / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        problem = f"in use by another fastgw (pid {holder}); stop it, or use another --data-dir"
        raise StartError(DATA_DIR, f"data directory {place}: {problem}") from None
    _sign(fd)
    return fd


def _sign(fd: int) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
