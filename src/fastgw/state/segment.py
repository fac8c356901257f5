"""The form of a spool segment on disk, and reading one.

A segment is a preallocated file that one process maps shared and appends to; spool.py has the writing side.

File: ``<lane:03d>-<generation:016d>-<sequence:08d>.seg``, so that names sort in the order of writing within a lane.
The generation is the microsecond a writer started at (moved past any still on disk), so that a name, with an offset
the key of a record, is never used twice. Numbers are in the byte order of the host: a spool stays on its node.

    header, 8 words of 64 bits: magic | version | lane | generation | sequence | opened, UTC ns | state | CRC of 0-4
    frame, 8-byte aligned:      u32 length | u32 CRC-32 of the payload | payload | padding; length 0 is the end

Length and CRC are one aligned 64-bit store made after the payload: a reader sees a whole frame or none, whenever the
writer dies. Who writes a segment holds ``flock`` on it; the kernel lets go when the process ends, and that is how a
reader knows that no more will come.
"""

import contextlib
import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MAGIC = b"FGWSPOOL"
VERSION = 1
MAX_PAYLOAD = 64 * 1024
HEADER_BYTES = 64
OPENED, STATE = 5, 6
SPARE, ACTIVE, SEALED = 0, 1, 2

_IDENTITY = struct.Struct("=8sQQQQ")
_HEADER = struct.Struct("=8sQQQQQQQ")
_WORD = struct.Struct("=Q")
_CHUNK = 4 * MAX_PAYLOAD


Frame = tuple[int, bytes]
"""Its offset in the segment, and its payload."""


class SpoolError(ValueError):
    """A segment that cannot be read further; the message names the file and the offset."""


class Segment(NamedTuple):
    """A segment file as its header describes it."""

    name: str
    path: Path
    lane: int
    generation: int
    sequence: int
    opened_us: int
    state: int
    size: int
    live: bool

    @property
    def ended(self) -> bool:
        """Nothing more will be appended."""
        return self.state == SEALED or not self.live


def segment_name(lane: int, generation: int, sequence: int) -> str:
    """The file name of a segment."""
    return f"{lane:03d}-{generation:016d}-{sequence:08d}.seg"


def pack_header(lane: int, generation: int, sequence: int) -> bytes:
    """The header of a new segment: a spare, not opened yet."""
    identity = _IDENTITY.pack(MAGIC, VERSION, lane, generation, sequence)
    return _HEADER.pack(MAGIC, VERSION, lane, generation, sequence, 0, SPARE, zlib.crc32(identity))


def mark_sealed(fd: int) -> None:
    """Write the sealed state into the header of a segment no one maps any more."""
    os.pwrite(fd, _WORD.pack(SEALED), STATE * _WORD.size)


def is_locked(fd: int) -> bool:
    """Whether a living writer holds the file."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _describe(fd: int, path: Path) -> Segment:
    # The lock is looked at before the state and both before the frames: what is appended in between is still read.
    live = is_locked(fd)
    head = os.pread(fd, HEADER_BYTES, 0)
    if len(head) < HEADER_BYTES:
        raise SpoolError(f"{path.name}: too short for a segment header")
    magic, version, lane, generation, sequence, opened, state, crc = _HEADER.unpack(head)
    if magic != MAGIC:
        raise SpoolError(f"{path.name}: not a spool segment")
    if version != VERSION:
        raise SpoolError(f"{path.name}: segment version {version} is not known here (this build reads {VERSION})")
    if crc != zlib.crc32(head[: _IDENTITY.size]):
        raise SpoolError(f"{path.name}: damaged segment header")
    size = os.fstat(fd).st_size
    return Segment(path.name, path, lane, generation, sequence, opened // 1000, state, size, live)


@contextlib.contextmanager
def open_segment(path: Path) -> Iterator[int]:
    """The file's descriptor, for reading; links are not followed."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield fd
    finally:
        os.close(fd)


def describe(path: Path) -> Segment:
    """The header of one segment file.

    Raises:
        SpoolError: not a segment, or one of an unknown version.
        OSError: the file cannot be opened (FileNotFoundError when the janitor was quicker).
    """
    with open_segment(path) as fd:
        return _describe(fd, path)


def frames(path: Path, offset: int = HEADER_BYTES, limit: int | None = None) -> Iterator[tuple[int, bytes]]:
    """(offset, payload) of each frame of a segment from ``offset`` on, up to its end or to ``limit`` bytes.

    Raises:
        SpoolError: at the first frame that is not valid.
        OSError: the file cannot be read.
    """
    for batch in batches(path, offset, limit):
        yield from batch


def batches(path: Path, offset: int = HEADER_BYTES, limit: int | None = None) -> Iterator[list[Frame]]:
    """What `frames` gives, in lists of as many as one read has, at most 256 KiB and never empty; raises as it does."""
    with open_segment(path) as fd:
        _describe(fd, path)
        size = os.fstat(fd).st_size if limit is None else limit
        offset = min(max(offset, HEADER_BYTES), size)
        while chunk := os.pread(fd, min(_CHUNK, size - offset), offset):
            found, problem = _parse(chunk, offset, size)
            if found:
                yield found
                offset = after_frame(*found[-1])
            if problem:
                raise SpoolError(f"{path.name}: {problem}")
            if not found:
                return


def after_frame(offset: int, payload: bytes) -> int:
    """Where the frame after this one begins."""
    return (offset + 8 + len(payload) + 7) & -8


def _parse(chunk: bytes, base: int, size: int) -> tuple[list[Frame], str]:
    """Whole frames of a chunk, and what is wrong with the next; one cut by the chunk's end is left for the next one."""
    found: list[Frame] = []
    at, last = 0, len(chunk) - 8
    while at <= last:
        (word,) = _WORD.unpack_from(chunk, at)
        if not word:
            break
        length = word & 0xFFFFFFFF
        end = at + 8 + length
        if not 0 < length <= MAX_PAYLOAD or base + end > size:
            return found, f"frame at {base + at} has an impossible length"
        if end > last + 8:
            break
        payload = chunk[at + 8 : end]
        if zlib.crc32(payload) != word >> 32:
            return found, f"frame at {base + at} does not match its checksum"
        found.append((base + at, payload))
        at = (end + 7) & -8
    return found, ""


def segment_names(directory: Path) -> list[str]:
    """Segment names in a directory, sorted: lane, then the order of writing."""
    try:
        found = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(name for name in found if _is_segment_name(name))


def _is_segment_name(name: str) -> bool:
    parts = name.removesuffix(".seg").split("-")
    return name.endswith(".seg") and len(parts) == 3 and all(part.isascii() and part.isdigit() for part in parts)
