# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The shared table with atomic instructions. ``table_py`` is its specification; ``table_file`` has the cold paths.

A GCRA word changes by compare-and-swap, a counter by fetch-and-add on its worker's own stripe: no call here takes a
lock or lets go of the GIL, and a process killed at any instruction leaves every word whole.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uint64_t

from fastgw._core import table_file as _file_module
from fastgw._core.table_file import (
    DEFAULT_COUNTERS,
    DEFAULT_LANES,
    DEFAULT_SLOTS,
    HISTOGRAM_BOUNDS_US,
    HISTOGRAM_WORDS,
    LAYOUT_VERSION,
    NEVER,
    Geometry,
    LaneInfo,
    TableError,
)

__all__ = [
    "HISTOGRAM_BOUNDS_US",
    "HISTOGRAM_WORDS",
    "LAYOUT_VERSION",
    "NEVER",
    "Lane",
    "LaneInfo",
    "Rules",
    "Table",
    "TableError",
    "Verdict",
]

cdef extern from *:
    """
    #include <stdint.h>

    static inline uint64_t fgw_load(uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
    static inline void fgw_store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }
    static inline int fgw_swap(uint64_t *word, uint64_t *old, uint64_t value) {
        return __atomic_compare_exchange_n(word, old, value, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }
    static inline void fgw_add(uint64_t *word, uint64_t n) { (void)__atomic_fetch_add(word, n, __ATOMIC_RELAXED); }

    /* units * interval, or cap + 1 where it exceeds cap: what is more than a whole burst need not be known exactly. */
    static inline uint64_t fgw_product(uint64_t units, uint64_t interval, uint64_t cap) {
        unsigned __int128 product = (unsigned __int128)units * interval;
        return product > cap ? cap + 1 : (uint64_t)product;
    }
    static inline int fgw_bits(uint64_t value) { return value ? 64 - __builtin_clzll(value) : 0; }
    """
    uint64_t fgw_load(uint64_t *word) noexcept nogil
    void fgw_store(uint64_t *word, uint64_t value) noexcept nogil
    int fgw_swap(uint64_t *word, uint64_t *old, uint64_t value) noexcept nogil
    void fgw_add(uint64_t *word, uint64_t n) noexcept nogil
    uint64_t fgw_product(uint64_t units, uint64_t interval, uint64_t cap) noexcept nogil
    int fgw_bits(uint64_t value) noexcept nogil

Verdict = tuple[int, int, int, int, int]

cdef uint64_t MAX_NS = _file_module.MAX_NS
cdef uint64_t SKEW_NS = _file_module.SKEW_NS
cdef int64_t C_NEVER = NEVER
cdef int64_t MAX_SLOTS = _file_module.MAX_SLOTS
cdef Py_ssize_t LINE_WORDS = _file_module.LINE_WORDS
cdef Py_ssize_t SLOT_GCRA = _file_module.SLOT_GCRA
cdef Py_ssize_t LANE_PID = _file_module.LANE_PID
cdef Py_ssize_t LANE_BEAT = _file_module.LANE_BEAT
cdef int BUCKETS = _file_module.HISTOGRAM_BUCKETS
cdef Py_ssize_t OBSERVED_WORDS = HISTOGRAM_WORDS

cdef struct Rule:
    int64_t slot
    uint64_t interval
    uint64_t cap

cdef struct Judged:
    Py_ssize_t refused
    uint64_t wait
    Py_ssize_t tight
    uint64_t left
    uint64_t level


cdef class Rules:
    """Rules of one owner, compiled once: ``(slot index, emission interval T ns, tolerance tau ns)`` each."""

    cdef Rule *_rules
    cdef Py_ssize_t _count
    cdef int64_t _top

    def __cinit__(self, rules):
        items = tuple(rules)
        self._top = -1
        self._rules = <Rule *> PyMem_Malloc(max(len(items), 1) * sizeof(Rule))
        if self._rules is NULL:
            raise MemoryError
        for slot, interval, tau in items:
            if not 0 <= slot < MAX_SLOTS:
                raise ValueError(f"slot {slot} is not 0 to {MAX_SLOTS - 1}")
            if interval < 1 or tau < 0 or tau + interval >= MAX_NS:
                raise ValueError(f"interval {interval} ns and tau {tau} ns are not in range")
            self._rules[self._count] = Rule(slot, interval, tau + interval)
            self._top = max(self._top, self._rules[self._count].slot)
            self._count += 1

    def __dealloc__(self):
        PyMem_Free(self._rules)

    def __len__(self):
        return self._count


cdef inline uint64_t level_of(uint64_t tat, const Rule *rule, uint64_t now) noexcept nogil:
    """How far TAT is ahead of now, clamped to what the rule can have set, now or ``SKEW_NS`` later."""
    if tat <= now:
        return 0
    return tat - now if tat - now <= rule.cap + SKEW_NS else rule.cap


cdef inline void judge(Judged *best, Py_ssize_t place, const Rule *rule, uint64_t level) noexcept nogil:
    """Note the rule if it is tighter than all before it."""
    cdef uint64_t left = (rule.cap - level) // rule.interval
    if best.tight < 0 or left < best.left:
        best.tight, best.left, best.level = place, left, level


cdef inline void refuse(Judged *best, Py_ssize_t place, const Rule *rule, uint64_t level, uint64_t need) noexcept nogil:
    """Make the rule the refusing one."""
    best.refused = best.tight = place
    best.wait = level + need - rule.cap if need <= rule.cap else <uint64_t> C_NEVER
    best.left, best.level = (rule.cap - level) // rule.interval if level < rule.cap else 0, level


cdef inline bint charge(uint64_t *word, const Rule *rule, uint64_t need, uint64_t now, uint64_t *level) noexcept nogil:
    """Move TAT by ``need`` if it fits; ``level`` is what it then is, or what it was where it did not fit."""
    cdef uint64_t tat = fgw_load(word)
    while True:
        level[0] = level_of(tat, rule, now)
        if level[0] + need > rule.cap:
            # A word beyond the clamp (damaged, or of a rule since changed) is put right, or the wait would not pass.
            if tat > now + level[0] and not fgw_swap(word, &tat, now + level[0]):
                continue
            return False
        if fgw_swap(word, &tat, now + level[0] + need):
            level[0] += need
            return True


cdef inline void discharge(uint64_t *word, const Rule *rule, uint64_t need, uint64_t now) noexcept nogil:
    """Move TAT back by ``need``, not below rest."""
    cdef uint64_t level
    cdef uint64_t tat = fgw_load(word)
    while True:
        level = level_of(tat, rule, now)
        if fgw_swap(word, &tat, now + (level - need if level > need else 0)):
            return


cdef object verdict_of(const Judged *judged):
    return judged.refused, judged.wait, judged.tight, judged.left, judged.level


cdef class Lane:
    """One worker's place: its own stripe of counters and its heartbeat."""

    cdef object __weakref__
    cdef uint64_t[::1] _words
    cdef uint64_t *_lane
    cdef uint64_t *_stripe
    cdef Py_ssize_t _counters
    cdef object _lock
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
        self.index = index
        self.generation = generation
        _file_module.hold(self)

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

    def beat(self, uint64_t now_ns):
        """Say that the worker lives; ``Table.lane_info`` shows it."""
        self._check(0, 1)
        fgw_store(self._lane + LANE_BEAT, check_time(now_ns))

    def close(self):
        """Free the lane in good order: its pid reads 0."""
        if self._lock is not None:
            fgw_store(self._lane + LANE_PID, 0)
            self.abandon()

    def abandon(self):
        """Drop this process's hold without a word in the file; what a forked child does."""
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

    def __init__(self, file):
        if self._slots is not NULL:
            raise TypeError("a table is made once")
        self._file = file
        self.slots, self.lanes, self.counters = file.geometry
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
        create,
        boot_id=None,
    ):
        """Open, or with ``create`` make, the table at ``path``; an existing file keeps its own geometry."""
        return cls(_file_module.open_file(path, Geometry(slots, lanes, counters), create=create, boot_id=boot_id))

    def slot(self, id16):
        """Index of the slot of this id, made if absent; it never changes. Raises ``TableError`` when full."""
        self._open()
        return self._file.slot(id16)

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

    def take(self, tuple sets not None, uint64_t units, uint64_t now_ns):
        """Take ``units`` at every rule, in order, or at none."""
        cdef Judged best
        self._check(sets, now_ns)
        self._take(sets, units, now_ns, &best)
        return verdict_of(&best)

    def peek(self, tuple sets not None, uint64_t units, uint64_t now_ns):
        """What ``take`` would say, with ``remaining`` and ``reset_ns`` as they are now; takes nothing."""
        cdef Judged best
        self._check(sets, now_ns)
        self._peek(sets, units, now_ns, &best)
        return verdict_of(&best)

    def give_back(self, tuple sets not None, uint64_t units, uint64_t now_ns):
        """Return ``units`` to every rule; none gets more than it has at rest."""
        self._check(sets, now_ns)
        self._undo(sets, units, now_ns, -1)

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

    cdef int _check(self, tuple sets, uint64_t now) except -1:
        """Refuse what must not begin: after this nothing raises, so nothing is half taken."""
        self._open()
        check_time(now)
        for item in sets:
            if (<Rules?> item)._top >= self.slots:
                raise IndexError(f"a rule's slot is beyond the table's {self.slots}")
        return 0

    cdef inline uint64_t *_word(self, const Rule *rule) noexcept:
        return self._slots + rule.slot * LINE_WORDS + SLOT_GCRA

    cdef void _take(self, tuple sets, uint64_t units, uint64_t now, Judged *best) noexcept:
        cdef Rules rules
        cdef Rule *rule
        cdef Py_ssize_t i, place = 0
        cdef uint64_t need, level = 0
        best[0] = Judged(-1, 0, -1, 0, 0)
        for item in sets:
            rules = <Rules> item
            for i in range(rules._count):
                rule = &rules._rules[i]
                need = fgw_product(units, rule.interval, rule.cap)
                if not charge(self._word(rule), rule, need, now, &level):
                    refuse(best, place, rule, level, need)
                    self._undo(sets, units, now, place)
                    return
                judge(best, place, rule, level)
                place += 1

    cdef void _peek(self, tuple sets, uint64_t units, uint64_t now, Judged *best) noexcept:
        cdef Rules rules
        cdef Rule *rule
        cdef Py_ssize_t i, place = 0
        cdef uint64_t need, level
        best[0] = Judged(-1, 0, -1, 0, 0)
        for item in sets:
            rules = <Rules> item
            for i in range(rules._count):
                rule = &rules._rules[i]
                need = fgw_product(units, rule.interval, rule.cap)
                level = level_of(fgw_load(self._word(rule)), rule, now)
                if level + need > rule.cap:
                    refuse(best, place, rule, level, need)
                    return
                judge(best, place, rule, level)
                place += 1

    cdef void _undo(self, tuple sets, uint64_t units, uint64_t now, Py_ssize_t limit) noexcept:
        """Give back at the first ``limit`` rules, at all when it is negative."""
        cdef Rules rules
        cdef Rule *rule
        cdef Py_ssize_t i, place = 0
        for item in sets:
            rules = <Rules> item
            for i in range(rules._count):
                if place == limit:
                    return
                rule = &rules._rules[i]
                discharge(self._word(rule), rule, fgw_product(units, rule.interval, rule.cap), now)
                place += 1


cdef inline uint64_t check_time(uint64_t now_ns) except? 0:
    if now_ns >= MAX_NS:
        raise OverflowError(f"{now_ns} is not a time in monotonic nanoseconds")
    return now_ns
