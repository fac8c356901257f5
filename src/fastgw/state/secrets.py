"""Secrets the gateway makes for itself, each in a file of its own (mode 0600) in the data directory.

They are created once, by `O_EXCL`, and never printed: callers name the path, people read the file.
"""

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

ADMIN_KEY = "admin.key"
DEMO_KEY = "demo.key"
PEPPER = "pepper"

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY_LENGTH = 32  # 62**32 > 2**190: more than the 160 bits a guess must face


class SecretFileError(RuntimeError):
    """A secret's file is not ours alone, or does not hold what it should; the message says how to mend it."""


def new_key() -> str:
    """A caller's key: `fgw-` and 32 random base-62 characters (190 bits)."""
    return "fgw-" + "".join(secrets.choice(_BASE62) for _ in range(_KEY_LENGTH))


def ensure_admin_key(data_dir: str | Path) -> Path:
    """The path of the console's admin key, made when it is missing."""
    return _ensure(Path(data_dir) / ADMIN_KEY, new_key)


def ensure_demo_key(data_dir: str | Path) -> Path:
    """The path of the key `--demo` and a start from the environment serve with, made when it is missing."""
    return _ensure(Path(data_dir) / DEMO_KEY, new_key)


def ensure_pepper(data_dir: str | Path) -> Path:
    """The path of the pepper (32 random bytes as hex) under which keys are hashed, made when it is missing."""
    return _ensure(Path(data_dir) / PEPPER, lambda: secrets.token_hex(32))


def read_secret(path: str | Path) -> str:
    """The secret in a file, without the white space around it.

    Raises:
        SecretFileError: the file is missing, empty, not a regular file, of another user, or readable by others.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SecretFileError(f"{path}: {error.strerror}") from error
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise SecretFileError(f"{path}: not a regular file of user {os.geteuid()}; remove it, or change its owner")
        if found.st_mode & 0o077:
            raise SecretFileError(f"{path}: others may read it; run: chmod 600 {path}")
        text = os.read(fd, 4096).decode("ascii", "replace").strip()
    finally:
        os.close(fd)
    if not text:
        raise SecretFileError(f"{path}: empty; remove it to have a new one made")
    return text


def _ensure(path: Path, make: Callable[[], str]) -> Path:
    """Create `path` whole or not at all; one that exists is checked and kept.

    The text is linked into place complete, because a crash between create and write would leave an empty secret.
    """
    if not os.path.lexists(path):
        _create(path, make() + "\n")
    read_secret(path)
    return path


def _create(path: Path, text: str) -> None:
    """Write `text` to a private file beside `path` and link it there; whoever links first wins."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "w", encoding="ascii") as file:
            os.fchmod(fd, 0o600)
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(draft)
