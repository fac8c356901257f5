"""The shared table in pure Python: specification, type stub and oracle of ``table_c``; the layout is in ``table_file``.

``Table`` has the slots and lanes, and what is read or set alone; ``book_py`` has calls in flight, with charges of every
kind that outlive their worker.

Where the native twin uses atomic instructions this one takes the file's lock, call by call: slower, exact all the same.
A file is used by one kind of twin at a time; the two do not see each other's locks and atomics.

GCRA (the virtual scheduling form of ITU-T I.371, annex A): a slot's word is the theoretical arrival time TAT in
monotonic nanoseconds. With emission interval ``T`` and tolerance ``tau``, ``n`` units pass at ``now`` if
``max(TAT, now) + n * T - now <= tau + T``; then ``TAT`` becomes ``max(TAT, now) + n * T``. A read that finds TAT
beyond ``now + tau + T`` takes it for that, so a damaged word or a limit that was lowered never blocks longer than the
rule itself may; except within ``SKEW_NS`` of it, where another worker with a later reading of the clock has put it: to
move that back would let more through than the rule does.
In any window W at most ``(tau + T + W) / T`` units pass.
"""

from array import array
from collections.abc import Callable
from typing import Self

from fastgw._core.book_py import Book
from fastgw._core.table_charge import Limits, Taken, Windows, used_now
from fastgw._core.table_file import TableFile, open_file
from fastgw._core.table_lane import Lane, check_time
from fastgw._core.table_lanes import Recorded
from fastgw._core.table_layout import (
    BREAKER,
    CALENDAR,
    CLOSED,
    CONCURRENT,
    DAY,
    DEFAULT_COUNTERS,
    DEFAULT_ENTRIES,
    DEFAULT_LANES,
    DEFAULT_SLOTS,
    FLAGS,
    HISTOGRAM_BOUNDS_US,
    HISTOGRAM_WORDS,
    HOUR,
    LAYOUT_VERSION,
    MASK,
    MAX_AMOUNT,
    MAX_CHARGES,
    MAX_NS,
    MONTH,
    NANO,
    NEVER,
    OPENED,
    PROBE,
    PROBING,
    RATE,
    REQUESTS,
    RETRY,
    SLOT_KIND,
    SLOT_TAG,
    SLOT_VALUE,
    TOKENS,
    TOTAL,
    Geometry,
    LaneInfo,
    Limit,
    Orphan,
    TableError,
    Totals,
)
from fastgw._core.table_marks import (
    breaker_claimed,
    breaker_reported,
    breaker_state,
    retry_deposited,
    retry_withdrawn,
)

__all__ = [
    "BREAKER",
    "CALENDAR",
    "CLOSED",
    "CONCURRENT",
    "DAY",
    "FLAGS",
    "HISTOGRAM_BOUNDS_US",
    "HISTOGRAM_WORDS",
    "HOUR",
    "LAYOUT_VERSION",
    "MAX_AMOUNT",
    "MAX_CHARGES",
    "MONTH",
    "NANO",
    "NEVER",
    "OPENED",
    "PROBE",
    "PROBING",
    "RATE",
    "REQUESTS",
    "RETRY",
    "TOKENS",
    "TOTAL",
    "Book",
    "Lane",
    "LaneInfo",
    "Limit",
    "Limits",
    "Orphan",
    "Table",
    "TableError",
    "Taken",
    "Totals",
    "Windows",
]


class Table:
    """The table of one node, mapped by all its processes. Slots hold limits, lanes hold workers and their counters."""

    __slots__ = ("_closed", "_file", "counters", "entries", "lanes", "slots")

    def __init__(self, file: TableFile) -> None:
        self._file = file
        self._closed = False
        self.slots, self.lanes, self.counters, self.entries = file.geometry

    @classmethod
    def open(
        cls,
        path: str,
        *,
        slots: int = DEFAULT_SLOTS,
        lanes: int = DEFAULT_LANES,
        counters: int = DEFAULT_COUNTERS,
        entries: int = DEFAULT_ENTRIES,
        create: bool,
        boot_id: bytes | None = None,
    ) -> Self:
        """Open, or with ``create`` make, the table at ``path``; an existing file keeps its own geometry.

        ``boot_id`` (16 bytes) stands in for the kernel's. Raises ``TableError``, and ``ValueError`` for a bad geometry.
        """
        return cls(open_file(path, Geometry(slots, lanes, counters, entries), create=create, boot_id=boot_id))

    def slot(self, id16: bytes, kind: int = RATE) -> int:
        """Index of the slot of this id, made with this kind if absent; it never changes.

        Raises ``TableError`` when no slot is left, or no disk, or the id's slot is of another kind.
        """
        self._open()
        return self._file.slot(id16, kind)

    def slots_of(self, ids: bytes, kinds: bytes) -> "array[int]":
        """``slot`` of many: ids end to end, a byte of ``kinds`` for each. With no room for all, none is made."""
        self._open()
        return self._file.slots(ids, kinds)

    def slots_used(self) -> int:
        """How many slots are made, of ``slots``."""
        self._open()
        return self._file.slots_used()

    def find(self, id16: bytes) -> int:
        """Index of the slot of this id, or -1."""
        self._open()
        return self._file.find(id16)

    def claim_lane(self, now_ns: int = 0) -> Lane:
        """The first free lane, held until closed or until this process dies. Raises ``TableError`` if none is."""
        self._open()
        return Lane(self._file, *self._file.claim_lane(check_time(now_ns)))

    def lane_info(self, lane: int) -> LaneInfo:
        """Pid, times, generation of a lane, and whether its owner lives."""
        self._open()
        return self._file.lane_info(lane)

    # -- what dead workers leave -------------------------------------------------------------------------------------

    def unreaped(self) -> list[int]:
        """Lanes without an owner in which calls may be in flight. They are claimed by nobody before ``reap``."""
        self._open()
        return self._file.unreaped()

    def reap(self, lane: int, recorded: Recorded, write: Callable[[Orphan], None]) -> list[Orphan]:
        """Finish the calls of a dead worker's lane and free it; may be killed and done again.

        A call with a record (``recorded`` gives its tokens and nano-dollars by call id) is settled with it. One
        without stays charged with its estimate if it was sent, and is refunded if not; ``write`` has to put its record
        where ``recorded`` finds it, before it returns: then no call is ever recorded twice. Bring the lane's totals up
        to date (``lane_totals``, ``replay``) before: a lane that was reaped may be claimed.
        Returns the calls without a record. Raises ``TableError`` for a lane that is held, ``IndexError``.
        """
        self._open()
        return self._file.reap(Book(self._file, lane, None), lane, recorded, write)

    def lane_totals(self, lane: int) -> Totals:
        """What a lane's records add up to, those of its earlier owners included. Raises ``IndexError``."""
        self._open()
        return self._file.lane_totals(lane)

    def totals(self) -> tuple[int, int, int, int]:
        """Records, input tokens, output tokens and nano-dollars of all lanes."""
        self._open()
        return self._file.totals()

    def replay(self, lane: int, added: Totals) -> None:
        """Add to a dead owner's totals the records behind its position, and move that to theirs.

        Raises ``TableError`` for a lane that is held, ``IndexError``.
        """
        self._open()
        self._file.replay(Book(self._file, lane, None), lane, added)

    # -- slots that are read or set alone ----------------------------------------------------------------------------

    def used(self, slot: int, windows: Windows) -> int:
        """What a window's or a concurrency's slot has counted now. Raises ``ValueError`` for another kind."""
        at = self._at(slot)
        with self._file.lock:
            kind, used, tag = (self._file.words[at + word] for word in (SLOT_KIND, SLOT_VALUE, SLOT_TAG))
            return used_now(kind, used, tag, windows)

    def flag(self, slot: int) -> int:
        """The bits of a ``FLAGS`` slot; 0 where none were set."""
        return self._file.words[self._at(slot) + SLOT_VALUE]

    def set_flag(self, slot: int, bits: int) -> None:
        """Set a ``FLAGS`` slot to these bits (64), for all workers at once. Raises ``OverflowError``."""
        if not 0 <= bits <= MASK:
            raise OverflowError("bits are not an unsigned 64-bit integer")
        self._file.words[self._at(slot) + SLOT_VALUE] = bits

    def breaker_state(self, slot: int, now_ms: int) -> int:
        """``CLOSED``, ``OPENED``, ``PROBE`` (claim it before you call) or ``PROBING``, at a monotonic time."""
        return breaker_state(self._file.words[self._at(slot) + SLOT_VALUE], _milliseconds(now_ms))

    def breaker_claim_probe(self, slot: int, now_ms: int, claim_ms: int) -> bool:
        """Whether the probe is ours, for ``claim_ms`` at most: who is not heard of by then leaves it to another."""
        word = self._at(slot) + SLOT_VALUE
        with self._file.lock:
            value = breaker_claimed(self._file.words[word], _milliseconds(now_ms), _milliseconds(claim_ms))
            if value >= 0:
                self._file.words[word] = value
        return value >= 0

    def breaker_report(self, slot: int, ok: bool, now_ms: int, threshold: int, open_ms: int) -> int:
        """Count a call that went well or failed; the state it leads to.

        ``threshold`` failures in a row, or a probe's, open the breaker for ``open_ms``; a success closes it, unless it
        is open: that call began before.
        """
        word = self._at(slot) + SLOT_VALUE
        with self._file.lock:
            value = self._file.words[word]
            value = breaker_reported(value, ok, _milliseconds(now_ms), threshold, _milliseconds(open_ms))
            self._file.words[word] = value
        return breaker_state(value, now_ms)

    def retry_deposit(self, slot: int) -> None:
        """A request was made: a fifth of a retry more, at most 10 in all; an account begins with 3."""
        word = self._at(slot) + SLOT_VALUE
        with self._file.lock:
            self._file.words[word] = retry_deposited(self._file.words[word])

    def retry_withdraw(self, slot: int) -> bool:
        """Whether the account has a retry left, which is taken off it."""
        word = self._at(slot) + SLOT_VALUE
        with self._file.lock:
            value = retry_withdrawn(self._file.words[word])
            if value >= 0:
                self._file.words[word] = value
        return value >= 0

    def counter_sum(self, index: int) -> int:
        """Sum of a counter over all lanes, dead ones included. Raises ``IndexError``."""
        return self.counters_sum(index, 1)[0]

    def counters_sum(self, start: int, n: int) -> list[int]:
        """Sums of ``n`` counters. Raises ``IndexError``."""
        self._open()
        return self._file.counters_sum(start, n)

    def close(self) -> None:
        """Close the table; its lanes stay usable until they are closed themselves."""
        self._closed = True
        self._file.close()

    def _open(self) -> None:
        if self._closed:
            raise TableError("the table is closed")

    def _at(self, slot: int) -> int:
        self._open()
        if not 0 <= slot < self.slots:
            raise IndexError(f"slot {slot} of {self.slots}")
        return self._file.geometry.slot_word(slot)


def _milliseconds(value: int) -> int:
    if not 0 <= value < MAX_NS:
        raise OverflowError(f"{value} is not a time in milliseconds")
    return value
