"""The file behind the shared table: creation, checks, boot. What lies in it is told in ``table_layout``.

Both twins (``table_c``, ``table_py``) stand on this module and the ones below it (lanes, slots, locks, layout), so
there is one layout and one set of checks; they differ in how they change what the request path changes.
"""

import contextlib
import os
import stat
import struct
import uuid
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from fastgw._core import directory_py
from fastgw._core.table_lanes import LaneFile
from fastgw._core.table_layout import BOOT_WORD, HEADER_WORDS, LAYOUT_VERSION, MAGIC, WORD, Geometry, TableError
from fastgw._core.table_slots import AFRESH, Directory

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def read_boot_id() -> bytes:
    """Id of this boot (16 bytes, random(4)); a fixed one where the kernel shows none."""
    try:
        return uuid.UUID(_BOOT_ID.read_text("ascii").strip()).bytes
    except (OSError, ValueError):
        return b"fastgw-no-bootid"


class TableFile(LaneFile):
    """A mapped, checked file: ``words`` over all of it, its ``geometry`` and its ``lock``."""

    def meet_boot(self, boot_id: bytes) -> None:
        """Forget clocks, concurrency, breakers and retry accounts if the file was last used in another boot."""
        ours = struct.unpack("=QQ", boot_id)
        with self.lock:
            if tuple(self.words[BOOT_WORD : BOOT_WORD + 2]) == ours:
                return
            self.forget_concurrency()
            self.forget_clocks()
            self.words[BOOT_WORD], self.words[BOOT_WORD + 1] = ours


def open_file(
    path: str, geometry: Geometry, *, create: bool, boot_id: bytes | None = None, directory: Directory = directory_py
) -> TableFile:
    """Map the file, made first if absent and ``create``; an existing one keeps its own geometry.

    Raises ``TableError`` for a file that is absent, unsafe, alien, damaged or cannot be allocated.
    """
    if boot_id is not None and len(boot_id) != 16:
        raise ValueError("a boot id has 16 bytes")
    if create and not os.path.lexists(path):
        _create(path, geometry.check())
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise TableError(f"{path}: cannot be opened ({error.strerror}); the gateway's start makes it") from error
    try:
        table = TableFile(path, fd, _checked_geometry(path, fd), directory)
    except BaseException:
        os.close(fd)
        raise
    table.meet_boot(read_boot_id() if boot_id is None else boot_id)
    return table


def _header(geometry: Geometry) -> bytes:
    head = MAGIC + struct.pack("=6Q", LAYOUT_VERSION, *geometry, geometry.size)
    return head + blake2b(head, digest_size=WORD).digest()


def _create(path: str, geometry: Geometry) -> None:
    """Build under another name, then link: nobody opens a half-made file, and who loses a race takes the winner's."""
    unfinished = f"{path}.{os.getpid()}.new"
    try:
        # What a killed process of our pid left; in a container every start has the same.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
        fd = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(fd, 0o600)
            os.posix_fallocate(fd, 0, geometry.slots_word * WORD)
            os.posix_fallocate(fd, geometry.stripe_word(geometry.lanes) * WORD, geometry.stripe_words * WORD)
            os.ftruncate(fd, geometry.size)
            os.pwrite(fd, _header(geometry), 0)
            os.link(unfinished, path)
        except FileExistsError:
            pass
        finally:
            os.close(fd)
            os.unlink(unfinished)
    except OSError as error:
        raise TableError(f"{path}: cannot be made ({error.strerror}); it needs {geometry.size} bytes") from error


def _checked_geometry(path: str, fd: int) -> Geometry:
    """Geometry of an open file that is ours, private and whole; raises ``TableError`` with the remedy otherwise."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise TableError(f"{path}: not a regular file; {AFRESH}")
    if status.st_uid != os.geteuid():
        raise TableError(f"{path}: belongs to user {status.st_uid}, not {os.geteuid()}; chown it or run as its owner")
    if stat.S_IMODE(status.st_mode) != 0o600:
        raise TableError(f"{path}: mode is {stat.S_IMODE(status.st_mode):04o}, not 0600; run chmod 600 on it")
    head = os.pread(fd, HEADER_WORDS * WORD, 0)
    if head[:WORD] != MAGIC or len(head) < HEADER_WORDS * WORD:
        raise TableError(f"{path}: not a fastgw table; {AFRESH}")
    version, slots, lanes, counters, entries, size = struct.unpack_from("=6Q", head, WORD)
    if version != LAYOUT_VERSION:
        raise TableError(f"{path}: layout version is {version}, this release reads {LAYOUT_VERSION}; {AFRESH}")
    if head[-WORD:] != blake2b(head[:-WORD], digest_size=WORD).digest():
        raise TableError(f"{path}: the header is damaged; {AFRESH}")
    geometry = _sane(path, (slots, lanes, counters, entries))
    if not status.st_size == size == geometry.size:
        raise TableError(f"{path}: has {status.st_size} bytes instead of {geometry.size}; {AFRESH}")
    return geometry


def _sane(path: str, figures: Sequence[int]) -> Geometry:
    try:
        return Geometry(*figures).check()
    except ValueError as error:
        raise TableError(f"{path}: {error}; {AFRESH}") from error
