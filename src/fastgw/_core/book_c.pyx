# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Calls in flight with atomic instructions: ``book_py`` is the specification, ``table_charges.pxd`` has the steps."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

from fastgw._core.table_charges cimport (
    C_NANO,
    C_REQUESTS,
    C_TOKENS,
    CONCURRENT,
    HOUR,
    MAX_CHARGES,
    MONTH,
    WINDOW_MASK,
    Bound,
    Ground,
    Judgement,
    Place,
    Tight,
    entry_at,
    finish,
    kind_of,
    most,
    place_of,
    recover_one,
    settle_one,
    take_all,
)
from fastgw._core.table_words cimport fgw_load, fgw_store

from fastgw._core import table_layout as _layout
from fastgw._core import table_told as _told
from fastgw._core.table_charge import Taken, Windows
from fastgw._core.table_layout import Limit, TableError, check_limit

__all__ = ["Book", "Limits", "Taken", "Windows"]

cdef enum:
    STATE = 0
    CALL = 1
    START = 3
    EPOCH = 4
    TOKENS = 5
    NANO = 6
    REQUESTS = 7
    KEY = 8
    MODEL = 16
    TEXT_BYTES = 64
    TOTALS_WORDS = 8

cdef enum:
    TEXT = 72    # digits of three numbers and their units, at most

cdef enum:
    FREE, OPEN, SENT, RECORDED

cdef tuple NAMES = (_told.NAMES[C_REQUESTS], _told.NAMES[C_TOKENS])

cdef uint64_t MAX_NS = _layout.MAX_NS
cdef Py_ssize_t LANE_BOOK = _layout.LANE_BOOK
cdef Py_ssize_t LANE_HIGH = _layout.LANE_HIGH
cdef Py_ssize_t LANE_FLIPS = _layout.LANE_FLIPS
cdef Py_ssize_t LANE_TOTALS = _layout.LANE_TOTALS


cdef class Limits:
    """Rules of one owner, compiled once for ``Book.take``. Raises ``ValueError`` for one that cannot be."""

    cdef Bound *_rules
    cdef Py_ssize_t _count
    cdef int64_t _top

    def __cinit__(self, limits):
        items = tuple(Limit(*limit) for limit in limits)
        self._top = -1
        self._rules = <Bound *> PyMem_Calloc(max(len(items), 1), sizeof(Bound))
        if self._rules is NULL:
            raise MemoryError
        for item in items:
            check_limit(item)
            slot, kind, unit, limit, interval, tau, soft = item
            self._rules[self._count] = Bound(slot, kind, unit, bool(soft), limit, interval, tau + interval)
            self._top = max(self._top, self._rules[self._count].slot)
            self._count += 1

    def __dealloc__(self):
        PyMem_Free(self._rules)

    def __len__(self):
        return self._count


cdef class Book:
    """The calls in flight of one lane; ``Lane.book`` opens it. It is the lane's owner's alone."""

    cdef uint64_t[::1] _words
    cdef uint64_t *_base
    cdef Ground _ground
    cdef uint64_t _lane
    cdef int32_t *_free
    cdef uint8_t *_counts
    cdef Py_ssize_t _free_count
    cdef object _lock

    def __cinit__(self, file, Py_ssize_t lane, lock):
        geometry = file.geometry
        if lane < 0 or lane >= geometry.lanes:
            raise IndexError(f"no lane {lane}")
        self._lane, self._words = lane, file.words
        self._base = &self._words[<Py_ssize_t> geometry.lane_word(lane)]
        self._ground.slots = &self._words[<Py_ssize_t> geometry.slots_word]
        self._ground.entries = &self._words[<Py_ssize_t> geometry.entry_word(0, 0)]
        self._ground.slot_count, self._ground.lane_count = geometry.slots, geometry.lanes
        self._ground.entry_count, self._ground.lane_words = geometry.entries, geometry.entries_words
        if lock is not None:
            file.allocate_entries(lane)
            self._take_possession()
            # Its own hold on the lane: a book outlives the lane object it was opened by.
            self._lock = lock

    cdef int _take_possession(self) except -1:
        cdef Py_ssize_t count = self._ground.entry_count
        cdef Py_ssize_t place
        self._free = <int32_t *> PyMem_Calloc(count, sizeof(int32_t))
        self._counts = <uint8_t *> PyMem_Calloc(count, 1)
        if self._free is NULL or self._counts is NULL:
            raise MemoryError
        for place in range(count):
            self._free[place] = count - 1 - place
        self._free_count = count
        fgw_store(self._base + LANE_BOOK, 1)
        return 0

    def __dealloc__(self):
        PyMem_Free(self._free)
        PyMem_Free(self._counts)

    def begin(
        self, bytes call_id16 not None, uint64_t now_ns, uint64_t epoch_s, bytes key not None, bytes model not None
    ):
        """An entry for this call, -1 when all are in flight; texts are cut at 64 bytes. Raises ``ValueError``."""
        cdef int32_t entry
        cdef uint64_t *at
        self._check_open()
        if len(call_id16) != 16:
            raise ValueError(f"a call id has 16 bytes, not {len(call_id16)}")
        if not self._free_count:
            return -1
        self._free_count -= 1
        entry = self._free[self._free_count]
        at = entry_at(&self._ground, self._lane, entry)
        memcpy(at + CALL, <const char *> call_id16, 16)
        at[START], at[EPOCH] = now_ns, epoch_s
        at[TOKENS] = at[NANO] = at[REQUESTS] = 0
        write_text(at + KEY, key)
        write_text(at + MODEL, model)
        if entry >= <int64_t> self._base[LANE_HIGH]:
            fgw_store(self._base + LANE_HIGH, entry + 1)
        fgw_store(at + STATE, OPEN)
        return entry

    def charges(self, int64_t entry):
        """How many charges the entry has: the number of the next one."""
        self._check(entry)
        return self._counts[entry]

    def take(
        self,
        int64_t entry,
        tuple sets not None,
        uint64_t requests,
        uint64_t tokens,
        uint64_t nano,
        uint64_t now_ns,
        tuple windows not None,
    ):
        """Charge every rule, in order, its unit's amount (a ``CONCURRENT`` one 1), or none of them."""
        cdef Judgement judged
        self._judge(entry, sets, requests, tokens, nano, now_ns, windows, &judged)
        return taken_of(&judged)

    def charge(
        self,
        int64_t entry,
        Limits limits not None,
        uint64_t tokens,
        uint64_t nano,
        uint64_t now_ns,
        tuple windows not None,
        tuple ends not None,
        double epoch_s,
    ):
        """``take`` one request of these limits; what the answer tells of them and ``soft``, or the refusal."""
        cdef Judgement judged
        self._judge(entry, (limits,), 1, tokens, nano, now_ns, windows, &judged)
        if judged.refused >= 0:
            return taken_of(&judged)
        return told_of(limits, &judged, ends, epoch_s), judged.soft

    def mark_sent(self, int64_t entry):
        """Say that the call goes upstream: from now on it may cost something, also if this worker dies."""
        fgw_store(self._check(entry) + STATE, SENT)

    def settle(self, int64_t entry, int64_t first, uint64_t requests, uint64_t tokens, uint64_t nano, uint64_t now_ns):
        """Correct the charges from number ``first`` on to what was used and take them off the entry."""
        cdef uint64_t amounts[3]
        cdef uint64_t over[3]
        self._check(entry)
        check_amounts(amounts, requests, tokens, nano, now_ns)
        if first < 0 or first > self._counts[entry]:
            raise ValueError(f"charge {first} of {self._counts[entry]}")
        memset(over, 0, sizeof(over))
        self._settle(entry, first, self._counts[entry], amounts, now_ns, over)
        self._counts[entry] = <uint8_t> first
        return over[C_TOKENS], over[C_NANO]

    def mark_recorded(self, int64_t entry, uint64_t requests, uint64_t tokens, uint64_t nano):
        """Say that the call's record is written, with these amounts: whoever comes after settles the rest with them."""
        cdef uint64_t *at = self._check(entry)
        cdef uint64_t amounts[3]
        check_amounts(amounts, requests, tokens, nano, 0)
        note(at, amounts)
        fgw_store(at + STATE, RECORDED)

    def end(self, int64_t entry):
        """Clear the entry. Charges not settled stay as they are, but concurrency is released."""
        cdef uint64_t *at = self._check(entry)
        cdef Place place
        cdef Py_ssize_t number
        for number in range(self._counts[entry]):
            place = place_of(&self._ground, self._lane, entry, number)
            finish(&self._ground, &place, 0 if kind_of(place.charge) == CONCURRENT else place.charge[1])
        self._counts[entry] = 0
        fgw_store(at + STATE, FREE)
        self._free[self._free_count] = <int32_t> entry
        self._free_count += 1

    def finish(self, int64_t entry, uint64_t tokens, uint64_t nano, uint64_t now_ns):
        """``mark_recorded``, ``settle`` and ``end`` of a call whose record is written, one request."""
        self.mark_recorded(entry, 1, tokens, nano)
        over = self.settle(entry, 0, 1, tokens, nano, now_ns)
        self.end(entry)
        return over

    def in_flight(self):
        """How many entries are taken."""
        return self._ground.entry_count - self._free_count

    def commit_totals(
        self, uint64_t segment, uint64_t offset, uint64_t input_tokens, uint64_t output_tokens, uint64_t cost_nano
    ):
        """Add one record to the lane's totals, the one that ends at this place of the spool."""
        cdef uint64_t added[6]
        self._check_open()
        added[0], added[1], added[2] = segment, offset, 1
        added[3], added[4], added[5] = input_tokens, output_tokens, cost_nano
        self._add_totals(added)

    def close(self):
        """What the lane does as it closes: from now on every method raises ``TableError``."""
        self._lock = None

    def add_totals(self, added):
        """Set the position and add the rest, in the block that does not count, then flip them."""
        cdef uint64_t figures[6]
        cdef Py_ssize_t place
        for place in range(6):
            figures[place] = added[place]
        self._add_totals(figures)

    def recover(self, int64_t entry, uint64_t requests, uint64_t tokens, uint64_t nano, bint keep):
        """Finish what a dead owner left, with these amounts or, to ``keep``, as it is; concurrency is released."""
        cdef uint64_t amounts[3]
        cdef Place place
        cdef Py_ssize_t number
        check_amounts(amounts, requests, tokens, nano, 0)
        if entry < 0 or <uint64_t> entry >= self._ground.entry_count:
            raise ValueError(f"no entry {entry}")
        for number in range(MAX_CHARGES):
            place = place_of(&self._ground, self._lane, entry, number)
            recover_one(&self._ground, &place, amounts, keep)

    cdef int _judge(
        self,
        int64_t entry,
        tuple sets,
        uint64_t requests,
        uint64_t tokens,
        uint64_t nano,
        uint64_t now_ns,
        tuple windows,
        Judgement *judged,
    ) except -1:
        """Charge every rule or none, and say in ``judged`` how that went."""
        cdef uint64_t by_kind[CONCURRENT + 1]
        cdef uint64_t *at = self._check(entry)
        cdef uint64_t amounts[3]
        cdef int unit
        check_amounts(amounts, requests, tokens, nano, now_ns)
        read_windows(windows, by_kind)
        self._check_sets(sets, self._counts[entry])
        memset(judged, 0, sizeof(judged[0]))
        judged.refused = -1
        for unit in range(3):
            judged.tight[unit].place = -1
        note(at, amounts)
        self._take(sets, entry, amounts, by_kind, now_ns, judged)
        return 0

    cdef void _take(
        self,
        tuple sets,
        int64_t entry,
        const uint64_t *amounts,
        const uint64_t *windows,
        uint64_t now,
        Judgement *judged,
    ) noexcept:
        cdef uint64_t zeros[3]
        cdef uint64_t over[3]
        cdef uint8_t first = self._counts[entry]
        cdef Py_ssize_t done = 0
        cdef Limits limits
        for item in sets:
            limits = <Limits> item
            if not take_all(&self._ground, limits._rules, limits._count, done, self._lane, entry, first, amounts,
                            windows, now, judged):
                memset(zeros, 0, sizeof(zeros))
                memset(over, 0, sizeof(over))
                self._settle(entry, first, first + judged.refused, zeros, now, over)
                return
            done += limits._count
        self._counts[entry] = <uint8_t> (first + done)

    cdef void _settle(
        self, int64_t entry, int64_t first, int64_t end, const uint64_t *amounts, uint64_t now, uint64_t *over
    ) noexcept:
        """Settle from the last to the first."""
        cdef Place place
        while end > first:
            end -= 1
            place = place_of(&self._ground, self._lane, entry, end)
            settle_one(&self._ground, &place, amounts, now, over)

    cdef void _add_totals(self, const uint64_t *added) noexcept:
        cdef uint64_t flips = fgw_load(self._base + LANE_FLIPS)
        cdef uint64_t *old = self._base + LANE_TOTALS + (flips & 1) * TOTALS_WORDS
        cdef uint64_t *fresh = self._base + LANE_TOTALS + ((flips + 1) & 1) * TOTALS_WORDS
        cdef Py_ssize_t place
        for place in range(6):
            fgw_store(fresh + place, added[place] if place < 2 else old[place] + added[place])
        fgw_store(self._base + LANE_FLIPS, flips + 1)

    cdef inline int _check_open(self) except -1:
        if self._lock is None:
            raise TableError("the lane is closed")
        return 0

    cdef inline uint64_t *_check(self, int64_t entry) except NULL:
        cdef uint64_t *at
        self._check_open()
        if entry < 0 or <uint64_t> entry >= self._ground.entry_count:
            raise ValueError(f"entry {entry} is not in flight")
        at = entry_at(&self._ground, self._lane, entry)
        if at[STATE] == FREE:
            raise ValueError(f"entry {entry} is not in flight")
        return at

    cdef int _check_sets(self, tuple sets, Py_ssize_t charges) except -1:
        """Refuse what must not begin: after this nothing raises, so nothing is half taken."""
        cdef Limits limits
        for item in sets:
            limits = <Limits?> item
            if limits._top >= <int64_t> self._ground.slot_count:
                raise IndexError(f"a rule's slot is beyond the table's {self._ground.slot_count}")
            charges += limits._count
        if charges > MAX_CHARGES:
            raise OverflowError(f"a call has at most {MAX_CHARGES} charges")
        return 0


cdef int check_amounts(uint64_t *amounts, uint64_t requests, uint64_t tokens, uint64_t nano, uint64_t now) except -1:
    if requests > most() or tokens > most() or nano > most():
        raise OverflowError(f"amounts {(requests, tokens, nano)} are not 0 to {most()}")
    if now >= MAX_NS:
        raise OverflowError(f"{now} is not a time in monotonic nanoseconds")
    amounts[C_REQUESTS], amounts[C_TOKENS], amounts[C_NANO] = requests, tokens, nano
    return 0


cdef int read_windows(tuple windows, uint64_t *by_kind) except -1:
    """The window of every kind of rule."""
    cdef int kind
    hour, day, month = windows
    memset(by_kind, 0, (CONCURRENT + 1) * sizeof(uint64_t))
    by_kind[HOUR], by_kind[HOUR + 1], by_kind[MONTH] = hour, day, month
    for kind in range(HOUR, MONTH + 1):
        if by_kind[kind] > WINDOW_MASK:
            raise OverflowError(f"{windows} are not windows")
    return 0


cdef inline void note(uint64_t *at, const uint64_t *amounts) noexcept:
    at[REQUESTS], at[TOKENS], at[NANO] = amounts[C_REQUESTS], amounts[C_TOKENS], amounts[C_NANO]


cdef inline void write_text(uint64_t *at, bytes text) noexcept:
    cdef Py_ssize_t size = min(len(text), TEXT_BYTES)
    memset(at, 0, TEXT_BYTES)
    memcpy(at, <const char *> text, size)


cdef list told_of(Limits limits, const Judgement *judged, tuple ends, double epoch_s):
    """The header lines of ``table_told.told``."""
    cdef list found = []
    cdef const Tight *tight
    cdef const Bound *bound
    cdef int64_t reset
    cdef int unit
    for unit in (C_REQUESTS, C_TOKENS):
        tight = &judged.tight[unit]
        if tight.place < 0:
            continue
        bound = &limits._rules[tight.place]
        reset = tight.reset if bound.kind < HOUR else 0
        if HOUR <= bound.kind <= MONTH:
            reset = max(<int64_t> ((<int64_t> ends[bound.kind - HOUR] - epoch_s) * 1e9), 0)
        found.append((NAMES[unit][0], number(bound.limit)))
        found.append((NAMES[unit][1], number(tight.left)))
        found.append((NAMES[unit][2], period(reset)))
    return found


cdef bytes period(int64_t nanoseconds):
    """As ``table_told.period``."""
    cdef char text[TEXT]
    cdef char *end = text + TEXT
    cdef uint64_t seconds
    cdef uint64_t milliseconds = (nanoseconds + 999_999) // 1_000_000
    end -= 1
    end[0] = c"s"
    if milliseconds < 1000:
        end -= 1
        end[0] = c"m"
        return written(text, digits(end, milliseconds))
    seconds = (milliseconds + 999) // 1000
    end = digits(end, seconds % 60 if seconds >= 60 else seconds)
    if seconds >= 60:
        end -= 1
        end[0] = c"m"
        end = digits(end, seconds // 60 % 60 if seconds >= 3600 else seconds // 60)
    if seconds >= 3600:
        end -= 1
        end[0] = c"h"
        end = digits(end, seconds // 3600)
    return written(text, end)


cdef bytes number(uint64_t value):
    cdef char text[TEXT]
    return written(text, digits(text + TEXT, value))


cdef inline char *digits(char *end, uint64_t value) noexcept:
    """Write a number in front of ``end``; where it begins."""
    while True:
        end -= 1
        end[0] = <char> (c"0" + value % 10)
        value //= 10
        if not value:
            return end


cdef inline bytes written(const char *text, const char *start):
    return PyBytes_FromStringAndSize(start, text + TEXT - start)


cdef object taken_of(const Judgement *judged):
    cdef const Tight *requests = &judged.tight[C_REQUESTS]
    cdef const Tight *tokens = &judged.tight[C_TOKENS]
    return (
        judged.refused, judged.wait, judged.used,
        requests.place, requests.left, requests.reset,
        tokens.place, tokens.left, tokens.reset,
        judged.soft,
    )
