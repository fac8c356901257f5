# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The shared table with atomic instructions. ``table_py`` is its specification; ``table_file`` has the cold paths.

A word changes by compare-and-swap, a counter by fetch-and-add on its worker's own stripe: no call here takes a lock or
lets go of the GIL, and a process killed at any instruction leaves every word whole. Calls in flight are in ``book_c``.
"""

from libc.stdint cimport int64_t, uint64_t

from fastgw._core.table_words cimport fgw_add, fgw_bits, fgw_load, fgw_load_pair, fgw_store, fgw_swap

from fastgw._core import directory_c
from fastgw._core import table_file as _file_module
from fastgw._core import table_layout as _layout
from fastgw._core.book_c import Book, Limits, Taken, Windows
from fastgw._core.table_charge import used_now
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
    MAX_AMOUNT,
    MAX_CHARGES,
    MONTH,
    NANO,
    NEVER,
    OPENED,
    PROBE,
    PROBING,
    RATE,
    REQUESTS,
    RETRY,
    TOKENS,
    TOTAL,
    Geometry,
    LaneInfo,
    Limit,
    Orphan,
    TableError,
    Totals,
)
from fastgw._core.table_lock import hold
from fastgw._core.table_marks import (
    breaker_claimed,
    breaker_reported,
    breaker_state,
    retry_deposited,
    retry_withdrawn,
)

__all__ = [
    "BREAKER", "CALENDAR", "CLOSED", "CONCURRENT", "DAY", "FLAGS", "HISTOGRAM_BOUNDS_US", "HISTOGRAM_WORDS", "HOUR",
    "LAYOUT_VERSION", "MAX_AMOUNT", "MAX_CHARGES", "MONTH", "NANO", "NEVER", "OPENED", "PROBE", "PROBING", "RATE",
    "REQUESTS", "RETRY", "TOKENS", "TOTAL", "Book", "Lane", "LaneInfo", "Limit", "Limits", "Orphan", "Table",
    "TableError", "Taken", "Totals", "Windows",
]

cdef uint64_t MAX_NS = _layout.MAX_NS
cdef Py_ssize_t LINE_WORDS = _layout.LINE_WORDS
cdef Py_ssize_t VALUE = _layout.SLOT_VALUE
cdef Py_ssize_t KIND = _layout.SLOT_KIND
cdef Py_ssize_t LANE_PID = _layout.LANE_PID
cdef Py_ssize_t LANE_BEAT = _layout.LANE_BEAT
cdef Py_ssize_t LANE_BOOK = _layout.LANE_BOOK
cdef int BUCKETS = _layout.HISTOGRAM_BUCKETS
cdef Py_ssize_t OBSERVED_WORDS = HISTOGRAM_WORDS

cdef class Lane:
    """One worker's place: its own stripe of counters and its heartbeat."""

    cdef object __weakref__
    cdef uint64_t[::1] _words
    cdef uint64_t *_lane
    cdef uint64_t *_stripe
    cdef Py_ssize_t _counters
    cdef object _lock
    cdef object _file
    cdef object _book
    cdef readonly Py_ssize_t index
    cdef readonly object generation

    def __init__(self, file, Py_ssize_t index, generation, lock):
        if self._stripe is not NULL:
            raise TypeError("a lane is made once")
        self._words = file.words
        self._lane = &self._words[<Py_ssize_t> file.geometry.lane_word(index)]
        self._stripe = &self._words[<Py_ssize_t> file.geometry.stripe_word(index)]
        self._counters = file.geometry.counters
        self._lock = lock
        self._file = file
        self.index = index
        self.generation = generation
        hold(self)

    cdef int _check(self, Py_ssize_t counter, Py_ssize_t n) except -1:
        if self._lock is None:
            raise TableError("the lane is closed")
        if counter < 0 or counter > self._counters - n:
            raise IndexError(f"counter {counter} of {self._counters}")
        return 0

    def add(self, Py_ssize_t counter, int64_t n):
        """Add ``n`` (signed 64-bit, wraps) to a counter. Raises ``IndexError``, ``OverflowError``."""
        self._check(counter, 1)
        fgw_add(self._stripe + counter, <uint64_t> n)

    def observe(self, Py_ssize_t base, uint64_t value):
        """Count ``value`` (microseconds) in the histogram of ``HISTOGRAM_WORDS`` counters at ``base``."""
        cdef int bucket
        self._check(base, OBSERVED_WORDS)
        bucket = min(fgw_bits(value - 1) if value else 0, BUCKETS - 1)
        fgw_add(self._stripe + base + bucket, 1)
        fgw_add(self._stripe + base + BUCKETS, 1)
        fgw_add(self._stripe + base + BUCKETS + 1, value)

    def add_all(self, tuple counters not None, tuple amounts not None):
        """``add`` each amount to its counter; all of them are looked at before the first is added."""
        cdef Py_ssize_t place, counter
        cdef int64_t amount
        if len(counters) != len(amounts):
            raise ValueError("not one amount for each counter")
        for place in range(len(counters)):
            counter, amount = counters[place], amounts[place]
            self._check(counter, 1)
        for place in range(len(counters)):
            counter, amount = counters[place], amounts[place]
            if amount:
                fgw_add(self._stripe + counter, <uint64_t> amount)

    def beat(self, uint64_t now_ns):
        """Say that the worker lives; ``Table.lane_info`` shows it."""
        self._check(0, 1)
        fgw_store(self._lane + LANE_BEAT, check_time(now_ns))

    def book(self):
        """The lane's calls in flight; the same book each time. Raises ``TableError`` where there is no disk for it."""
        self._check(0, 1)
        if self._book is None:
            self._book = Book(self._file, self.index, self._lock)
        return self._book

    def close(self):
        """Free the lane in good order: its pid reads 0. With calls in flight it is left to ``Table.reap``."""
        if self._lock is not None:
            if self._book is None or not self._book.in_flight():
                fgw_store(self._lane + LANE_BOOK, 0)
            fgw_store(self._lane + LANE_PID, 0)
            self.abandon()

    def abandon(self):
        """Drop this process's hold without a word in the file; what a forked child does."""
        if self._book is not None:
            self._book.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None


cdef class Table:
    """The table of one node, mapped by all its processes. Slots hold limits, lanes hold workers and their counters."""

    cdef object _file
    cdef uint64_t[::1] _words
    cdef uint64_t *_slots
    cdef bint _closed
    cdef readonly Py_ssize_t slots
    cdef readonly Py_ssize_t lanes
    cdef readonly Py_ssize_t counters
    cdef readonly Py_ssize_t entries

    def __init__(self, file):
        if self._slots is not NULL:
            raise TypeError("a table is made once")
        self._file = file
        self.slots, self.lanes, self.counters, self.entries = file.geometry
        self._words = file.words
        self._slots = &self._words[<Py_ssize_t> file.geometry.slots_word]

    @classmethod
    def open(
        cls,
        path,
        *,
        slots=DEFAULT_SLOTS,
        lanes=DEFAULT_LANES,
        counters=DEFAULT_COUNTERS,
        entries=DEFAULT_ENTRIES,
        create,
        boot_id=None,
    ):
        """Open, or with ``create`` make, the table at ``path``; an existing file keeps its own geometry."""
        geometry = Geometry(slots, lanes, counters, entries)
        return cls(_file_module.open_file(path, geometry, create=create, boot_id=boot_id, directory=directory_c))

    def slot(self, id16, kind=RATE):
        """Index of the slot of this id, made with this kind if absent; it never changes."""
        self._open()
        return self._file.slot(id16, kind)

    def slots_of(self, bytes ids not None, bytes kinds not None):
        """``slot`` of many: ids end to end, a byte of ``kinds`` for each. With no room for all, none is made."""
        self._open()
        return self._file.slots(ids, kinds)

    def slots_used(self):
        """How many slots are made, of ``slots``."""
        self._open()
        return self._file.slots_used()

    def find(self, id16):
        """Index of the slot of this id, or -1."""
        self._open()
        return self._file.find(id16)

    def claim_lane(self, uint64_t now_ns=0):
        """The first free lane, held until closed or until this process dies. Raises ``TableError`` if none is."""
        self._open()
        return Lane(self._file, *self._file.claim_lane(check_time(now_ns)))

    def lane_info(self, lane):
        """Pid, times, generation of a lane, and whether its owner lives."""
        self._open()
        return self._file.lane_info(lane)

    def unreaped(self):
        """Lanes without an owner in which calls may be in flight. They are claimed by nobody before ``reap``."""
        self._open()
        return self._file.unreaped()

    def reap(self, lane, recorded, write):
        """Finish the calls of a dead worker's lane and free it; may be killed and done again."""
        self._open()
        return self._file.reap(Book(self._file, lane, None), lane, recorded, write)

    def lane_totals(self, lane):
        """What a lane's records add up to, those of its earlier owners included. Raises ``IndexError``."""
        self._open()
        return self._file.lane_totals(lane)

    def totals(self):
        """Records, input tokens, output tokens and nano-dollars of all lanes."""
        self._open()
        return self._file.totals()

    def replay(self, lane, added):
        """Add to a dead owner's totals the records behind its position, and move that to theirs."""
        self._open()
        self._file.replay(Book(self._file, lane, None), lane, added)

    def used(self, slot, tuple windows not None):
        """What a window's or a concurrency's slot has counted now. Raises ``ValueError`` for another kind."""
        cdef uint64_t pair[2]
        cdef uint64_t *value = self._value(slot)
        fgw_load_pair(value, pair)
        return used_now(value[KIND - VALUE], pair[0], pair[1], windows)

    def flag(self, int64_t slot):
        """The bits of a ``FLAGS`` slot; 0 where none were set."""
        return fgw_load(self._value(slot))

    def set_flag(self, int64_t slot, uint64_t bits):
        """Set a ``FLAGS`` slot to these bits (64), for all workers at once. Raises ``OverflowError``."""
        fgw_store(self._value(slot), bits)

    def breaker_state(self, int64_t slot, uint64_t now_ms):
        """``CLOSED``, ``OPENED``, ``PROBE`` (claim it before you call) or ``PROBING``, at a monotonic time."""
        cdef uint64_t value = fgw_load(self._value(slot))
        check_time(now_ms)
        return breaker_state(value, now_ms) if value else CLOSED

    def breaker_claim_probe(self, int64_t slot, uint64_t now_ms, uint64_t claim_ms):
        """Whether the probe is ours, for ``claim_ms`` at most: who is not heard of by then leaves it to another."""
        cdef uint64_t *word = self._value(slot)
        cdef uint64_t value = fgw_load(word)
        check_time(now_ms)
        check_time(claim_ms)
        while True:
            claimed = breaker_claimed(value, now_ms, claim_ms)
            if claimed < 0:
                return False
            if fgw_swap(word, &value, claimed):
                return True

    def breaker_report(self, int64_t slot, bint ok, uint64_t now_ms, threshold, uint64_t open_ms):
        """Count a call that went well or failed; the state it leads to."""
        cdef uint64_t *word = self._value(slot)
        cdef uint64_t value = fgw_load(word)
        check_time(now_ms)
        check_time(open_ms)
        while value or not ok:
            reported = breaker_reported(value, ok, now_ms, threshold, open_ms)
            if fgw_swap(word, &value, reported):
                return breaker_state(reported, now_ms)
        return CLOSED

    def retry_deposit(self, int64_t slot):
        """A request was made: a fifth of a retry more, at most 10 in all; an account begins with 3."""
        cdef uint64_t *word = self._value(slot)
        cdef uint64_t value = fgw_load(word)
        while not fgw_swap(word, &value, retry_deposited(value)):
            pass

    def retry_withdraw(self, int64_t slot):
        """Whether the account has a retry left, which is taken off it."""
        cdef uint64_t *word = self._value(slot)
        cdef uint64_t value = fgw_load(word)
        while True:
            left = retry_withdrawn(value)
            if left < 0:
                return False
            if fgw_swap(word, &value, left):
                return True

    def counter_sum(self, index):
        """Sum of a counter over all lanes, dead ones included. Raises ``IndexError``."""
        return self.counters_sum(index, 1)[0]

    def counters_sum(self, start, n):
        """Sums of ``n`` counters. Raises ``IndexError``."""
        self._open()
        return self._file.counters_sum(start, n)

    def close(self):
        """Close the table; its lanes stay usable until they are closed themselves."""
        self._closed = True
        self._file.close()

    cdef int _open(self) except -1:
        if self._closed:
            raise TableError("the table is closed")
        return 0

    cdef uint64_t *_value(self, int64_t slot) except NULL:
        self._open()
        if slot < 0 or slot >= self.slots:
            raise IndexError(f"slot {slot} of {self.slots}")
        return self._slots + slot * LINE_WORDS + VALUE

cdef inline uint64_t check_time(uint64_t now_ns) except? 0:
    if now_ns >= MAX_NS:
        raise OverflowError(f"{now_ns} is not a time in monotonic nanoseconds")
    return now_ns
