"""The data directory: ours alone (0700), and one instance at a time."""

import fcntl
import os
import stat
from pathlib import Path

from fastgw.node.errors import DATA_DIR, StartError

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

    def release(self) -> None:
        """Let another instance have it; idempotent."""
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            os.close(fd)


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
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd
