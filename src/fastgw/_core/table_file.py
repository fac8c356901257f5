"""The file behind the shared table: layout, creation, checks, locks, slot directory, lanes, sums. Cold paths only.

Both twins (``table_c``, ``table_py``) stand on this module, so there is one layout and one set of checks; they differ
in how they change GCRA words and counters. All words are 64-bit, unsigned, in the machine's byte order.

Layout, version 1::

    header     4,096 bytes: word 0 magic, 1 layout version, 2 slots, 3 lanes, 4 counters, 5 file size,
               6 checksum of words 0-5, 8-9 boot id, 16-18 fold journal {lane, counter + 1, sum}
    lanes      64 bytes each: pid, start ns, heartbeat ns, generation, 4 reserved; rounded up to 4,096 bytes
    slots      64 bytes (one cache line) each: 16-byte id, GCRA word, 5 reserved words
    counters   one stripe a lane, then the retired stripe; a stripe is a whole number of cache lines

A slot's index is its place in an open-addressed directory (linear probing from the id's first word), so it never moves.
Byte 0 of the file is the lock of directory, folding and sums; the first byte of a lane is that lane's lock.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import stat
import struct
import threading
import uuid
import weakref
from array import array
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

LAYOUT_VERSION = 1
MAGIC = b"fgwtable"
WORD = 8
HEADER_BYTES = 4096
LINE_WORDS = 8
LINE_BYTES = LINE_WORDS * WORD
SLOT_GCRA = 2
LANE_PID, LANE_START, LANE_BEAT, LANE_GENERATION = range(4)
MAX_SLOTS, MAX_LANES, MAX_COUNTERS = 1 << 24, 4096, 1 << 20
DEFAULT_SLOTS, DEFAULT_LANES, DEFAULT_COUNTERS = 262_144, 64, 8_192
MASK = (1 << 64) - 1

NEVER = (1 << 63) - 1
"""``retry_after_ns`` of a request that asks for more units than the rule's whole burst: waiting does not help."""

MAX_NS = 1 << 62
"""Upper bound (exclusive) of every time and of every rule's tolerance, so that no sum of two leaves 63 bits."""

SKEW_NS = 250_000_000
"""How far one process's reading of the clock may lie behind another's by the time it is used: what a TAT may stand
beyond a rule's clamp because a later reading put it there, and is then left alone."""

HISTOGRAM_BOUNDS_US = tuple(1 << power for power in range(28))
"""Upper bounds (inclusive, microseconds) of a histogram's buckets: 1 us to 134 s in powers of two; one more is +Inf."""

HISTOGRAM_BUCKETS = len(HISTOGRAM_BOUNDS_US) + 1
HISTOGRAM_WORDS = HISTOGRAM_BUCKETS + 2
"""Counters a histogram takes: its buckets (not cumulative), then the count, then the sum."""

_BOOT_WORD, _JOURNAL_WORD = 8, 16
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_AFRESH = "move it away and start again; limits and counts then begin at zero"


class TableError(RuntimeError):
    """The table cannot be used, is full, or is closed; the message says what is wrong and how to mend it."""


class LaneInfo(NamedTuple):
    """What the file says of one lane; ``held`` is the kernel's word on whether its owner lives."""

    pid: int
    started_ns: int
    beat_ns: int
    generation: int
    held: bool


class Geometry(NamedTuple):
    """How many slots, lanes and counters (a stripe) a file holds, and where its regions begin (in words)."""

    slots: int
    lanes: int
    counters: int

    @property
    def slots_word(self) -> int:
        """First word of the slots, on a page of its own."""
        return (HEADER_BYTES + _round_up(self.lanes * LINE_BYTES, HEADER_BYTES)) // WORD

    @property
    def stripe_words(self) -> int:
        """Words from one stripe to the next: whole cache lines, so that two workers never share one."""
        return _round_up(self.counters, LINE_WORDS)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.stripe_word(self.lanes + 1) * WORD

    def lane_word(self, lane: int) -> int:
        """First word of a lane."""
        return HEADER_BYTES // WORD + lane * LINE_WORDS

    def stripe_word(self, lane: int) -> int:
        """First word of a lane's counters; lane number ``lanes`` is the retired stripe."""
        return self.slots_word + self.slots * LINE_WORDS + lane * self.stripe_words

    def check(self) -> Self:
        """Raise ``ValueError`` for what no file can hold."""
        bounds = {"slots": MAX_SLOTS, "lanes": MAX_LANES, "counters": MAX_COUNTERS}
        for (name, bound), value in zip(bounds.items(), self, strict=True):
            if not 1 <= value <= bound:
                raise ValueError(f"{name} must be 1 to {bound}, not {value}")
        return self


class HeldLane(Protocol):
    """A lane object: what a forked child does with the one it inherited."""

    def abandon(self) -> None: ...


_held: weakref.WeakSet[HeldLane] = weakref.WeakSet()


def _abandon_inherited() -> None:
    # An open-file lock lives as long as any copy of its descriptor: a child's copy would keep a dead worker's lane.
    for lane in list(_held):
        lane.abandon()


os.register_at_fork(after_in_child=_abandon_inherited)


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def _flock(kind: int, start: int) -> bytes:
    """One byte at ``start`` as ``struct flock`` (fcntl(2), 64-bit off_t)."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, 1, 0)


def _reopen(fd: int) -> int:
    # A new open file description of the same file, even when it was renamed since: open-file locks belong to these.
    return os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def read_boot_id() -> bytes:
    """Id of this boot (16 bytes, random(4)); a fixed one where the kernel shows none."""
    try:
        return uuid.UUID(_BOOT_ID.read_text("ascii").strip()).bytes
    except (OSError, ValueError):
        return b"fastgw-no-bootid"


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
        inherited, self._fd = self._fd, _reopen(self._fd)
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

    def close(self) -> None:
        """Free the lane."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close


class TableFile:
    """A mapped, checked file: ``words`` over all of it, its ``geometry`` and its ``lock``."""

    def __init__(self, path: str, fd: int, geometry: Geometry) -> None:
        self.path = path
        self.geometry = geometry
        self.lock = FileLock(fd)
        # The mapping ends with its last view: a lane may outlive the table object without touching unmapped memory.
        self.words = memoryview(mmap.mmap(fd, geometry.size)).cast("B").cast("Q")

    def close(self) -> None:
        """Give up the lock's descriptor."""
        self.lock.close()

    # -- boot ------------------------------------------------------------------------------------------------------

    def meet_boot(self, boot_id: bytes) -> None:
        """Zero the GCRA words if the file was last used in another boot: their clock began anew."""
        ours = struct.unpack("=QQ", boot_id)
        with self.lock:
            if tuple(self.words[_BOOT_WORD : _BOOT_WORD + 2]) == ours:
                return
            first = self.geometry.slots_word + SLOT_GCRA
            end = self.geometry.stripe_word(0)
            self.words[first:end:LINE_WORDS] = memoryview(array("Q", bytes(WORD * self.geometry.slots)))
            self.words[_BOOT_WORD], self.words[_BOOT_WORD + 1] = ours

    # -- slot directory --------------------------------------------------------------------------------------------

    def _probe(self, first: int, second: int) -> tuple[int, int]:
        """``(index, -1)`` of a present id, ``(-1, free place)`` of an absent one, ``(-1, -1)`` when full."""
        words, base, slots = self.words, self.geometry.slots_word, self.geometry.slots
        index = first % slots
        for _ in range(slots):
            word = base + index * LINE_WORDS
            if words[word] == 0:
                return -1, index
            if words[word] == first and words[word + 1] == second:
                return index, -1
            index = index + 1 if index + 1 < slots else 0
        return -1, -1

    def find(self, id16: bytes) -> int:
        """Index of a slot, -1 if it has none. Raises ``ValueError`` for an id that is not one."""
        return self._probe(*_split(id16))[0]

    def slot(self, id16: bytes) -> int:
        """Index of a slot, made if absent. Raises ``TableError`` when the directory is full."""
        first, second = _split(id16)
        index, _ = self._probe(first, second)
        if index >= 0:
            return index
        with self.lock:
            index, free = self._probe(first, second)
            if index >= 0:
                return index
            if free < 0:
                raise TableError(f"{self.path}: its {self.geometry.slots} slots are all used; {_AFRESH}")
            word = self.geometry.slots_word + free * LINE_WORDS
            # The first word is written last: until then the place counts as free, also if we are killed in between.
            self.words[word + 1] = second
            self.words[word] = first
            return free

    # -- lanes -----------------------------------------------------------------------------------------------------

    def claim_lane(self, now_ns: int) -> tuple[int, int, LaneLock]:
        """Index, generation and lock of the first free lane, its last owner's counters folded away."""
        fd = _reopen(self.lock.fd)
        lock = LaneLock(fd)
        lane = self._lock_free_lane(fd)
        base = self.geometry.lane_word(lane)
        with self.lock:
            self._mend_fold()
            self._fold(lane)
            self.words[base + LANE_GENERATION] += 1
            self.words[base + LANE_START] = self.words[base + LANE_BEAT] = now_ns
            self.words[base + LANE_PID] = os.getpid()
        return lane, self.words[base + LANE_GENERATION], lock

    def _lock_free_lane(self, fd: int) -> int:
        for lane in range(self.geometry.lanes):
            try:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, self.geometry.lane_word(lane) * WORD))
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
            else:
                return lane
        raise TableError(f"{self.path}: all {self.geometry.lanes} lanes are held by live workers; run fewer workers")

    def lane_info(self, lane: int) -> LaneInfo:
        """What is known of a lane. Raises ``IndexError`` beyond the last."""
        if not 0 <= lane < self.geometry.lanes:
            raise IndexError(f"no lane {lane}")
        base = self.geometry.lane_word(lane)
        asked = _flock(fcntl.F_WRLCK, base * WORD)
        held = fcntl.fcntl(self.lock.fd, fcntl.F_OFD_GETLK, asked)
        pid, start, beat, generation = self.words[base : base + 4].tolist()
        return LaneInfo(pid, start, beat, generation, struct.unpack_from("h", held)[0] != fcntl.F_UNLCK)

    def _fold(self, lane: int) -> None:
        """Move a dead lane's counters into the retired stripe; the journal makes each move safe against a kill."""
        words, retired = self.words, self.geometry.stripe_word(self.geometry.lanes)
        stripe = self.geometry.stripe_word(lane)
        words[_JOURNAL_WORD] = lane
        for counter, value in enumerate(words[stripe : stripe + self.geometry.counters].tolist()):
            if value:
                words[_JOURNAL_WORD + 2] = (words[retired + counter] + value) & MASK
                words[_JOURNAL_WORD + 1] = counter + 1
                self._mend_fold()

    def _mend_fold(self) -> None:
        """Finish the move the journal names, if any: the same stores again, whoever began them."""
        words, geometry = self.words, self.geometry
        lane, mark, total = words[_JOURNAL_WORD : _JOURNAL_WORD + 3].tolist()
        if 1 <= mark <= geometry.counters and lane < geometry.lanes:
            words[geometry.stripe_word(geometry.lanes) + mark - 1] = total
            words[geometry.stripe_word(lane) + mark - 1] = 0
        words[_JOURNAL_WORD + 1] = 0

    def counters_sum(self, start: int, n: int) -> list[int]:
        """Sums over all stripes, signed 64-bit, of ``n`` counters. Raises ``IndexError`` beyond the last."""
        geometry = self.geometry
        if start < 0 or n < 0 or start + n > geometry.counters:
            raise IndexError(f"counters {start} to {start + n} of {geometry.counters}")
        with self.lock:
            self._mend_fold()
            used = [lane for lane in range(geometry.lanes) if self.words[geometry.lane_word(lane) + LANE_GENERATION]]
            firsts = [geometry.stripe_word(lane) + start for lane in (geometry.lanes, *used)]
            columns = zip(*(self.words[first : first + n].tolist() for first in firsts), strict=True)
            return [_signed(sum(column) & MASK) for column in columns]


def _split(id16: bytes) -> tuple[int, int]:
    if len(id16) != 16:
        raise ValueError(f"a slot id has 16 bytes, not {len(id16)}")
    first, second = struct.unpack("=QQ", id16)
    if not first:
        raise ValueError("a slot id does not begin with 8 zero bytes: they mark a free place")
    return first, second


def hold(lane: HeldLane) -> None:
    """Let go of this lane in children forked from now on."""
    _held.add(lane)


def open_file(path: str, geometry: Geometry, *, create: bool, boot_id: bytes | None = None) -> TableFile:
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
        table = TableFile(path, fd, _checked_geometry(path, fd))
    except BaseException:
        os.close(fd)
        raise
    table.meet_boot(read_boot_id() if boot_id is None else boot_id)
    return table


def _header(geometry: Geometry) -> bytes:
    head = MAGIC + struct.pack("=5Q", LAYOUT_VERSION, *geometry, geometry.size)
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
            # Allocated in full: a store into a hole of a full disk is a SIGBUS.
            os.posix_fallocate(fd, 0, geometry.size)
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
        raise TableError(f"{path}: not a regular file; {_AFRESH}")
    if status.st_uid != os.geteuid():
        raise TableError(f"{path}: belongs to user {status.st_uid}, not {os.geteuid()}; chown it or run as its owner")
    if stat.S_IMODE(status.st_mode) != 0o600:
        raise TableError(f"{path}: mode is {stat.S_IMODE(status.st_mode):04o}, not 0600; run chmod 600 on it")
    head = os.pread(fd, 7 * WORD, 0)
    if head[:WORD] != MAGIC or len(head) < 7 * WORD:
        raise TableError(f"{path}: not a fastgw table; {_AFRESH}")
    version, slots, lanes, counters, size = struct.unpack_from("=5Q", head, WORD)
    if version != LAYOUT_VERSION:
        raise TableError(f"{path}: layout version is {version}, this release reads {LAYOUT_VERSION}; {_AFRESH}")
    if head[6 * WORD :] != blake2b(head[: 6 * WORD], digest_size=WORD).digest():
        raise TableError(f"{path}: the header is damaged; {_AFRESH}")
    geometry = _sane(path, (slots, lanes, counters))
    if not status.st_size == size == geometry.size:
        raise TableError(f"{path}: has {status.st_size} bytes instead of {geometry.size}; {_AFRESH}")
    return geometry


def _sane(path: str, figures: Sequence[int]) -> Geometry:
    try:
        return Geometry(*figures).check()
    except ValueError as error:
        raise TableError(f"{path}: {error}; {_AFRESH}") from error
