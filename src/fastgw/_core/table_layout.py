"""What the shared table is made of: its layout, its figures and the nouns both twins speak in.

All words are 64-bit, unsigned, in the machine's byte order. Layout, version 2::

    header     4,096 bytes: word 0 magic, 1 layout version, 2 slots, 3 lanes, 4 counters, 5 entries, 6 file size,
               7 checksum of words 0-6, 8-9 boot id, 16-18 fold journal {lane, counter + 1, sum}, 24 slots used,
               25 slots whose disk is allocated
    lanes      256 bytes each: pid, start ns, heartbeat ns, generation, 1 if calls may be in flight, entries ever used,
               flips, a reserved word; then two blocks of totals {segment, offset, records, input tokens, output tokens,
               cost, 2 reserved}, of which the one numbered by the last bit of flips counts; rounded up to 4,096 bytes
    directory  a power of two of words, at least twice the slots: {upper half of the id's second word, slot + 1}, 0 free
    slots      64 bytes (one cache line) each, in the order they were made: 16-byte id, value, tag, kind, 3 reserved
    counters   one stripe a lane, then the retired stripe; a stripe is a whole number of cache lines
    entries    one region a lane, on pages of its own; 1,152 bytes an entry: state, 16-byte call id, start ns, start
               epoch s, tokens, nano-dollars, requests, 64-byte key, 64-byte model, then 24 charges of 5 words:
               {slot 24 bits, kind 8, unit 8, window 20}, amount, {generation << 8 | state}, figure, bound

What a slot's value is depends on its kind: a time (``RATE``, GCRA), what was used (the windows, ``CONCURRENT``), bits
(``FLAGS``), a breaker's or a retry account's state. Used and tag change together, by a 128-bit compare-and-swap. A tag
says in which window ``used`` was counted and who wrote last:
window 20 bits | lane 8 | entry 13 | charge 5 | phase 1 | generation 17; the phase is 0 of a take and 1 of a settle.

The file is sparse: header, lanes, directory and retired stripe are allocated when it is made, slots by the thousand as
they are used, a lane's stripe and entries when it is claimed and when its book is opened. A store into a hole of a full
disk would be a SIGBUS.
"""

from typing import NamedTuple, Protocol, Self

LAYOUT_VERSION = 2
MAGIC = b"fgwtable"
WORD = 8
PAGE_BYTES = 4096
HEADER_BYTES = PAGE_BYTES
HEADER_WORDS = 8
LINE_WORDS = 8
LINE_BYTES = LINE_WORDS * WORD
MASK = (1 << 64) - 1

BOOT_WORD, JOURNAL_WORD, USED_WORD, ALLOCATED_WORD = 8, 16, 24, 25
SLOT_VALUE, SLOT_TAG, SLOT_KIND = 2, 3, 4
SLOTS_AT_ONCE = 4096

LANE_WORDS = 32
LANE_PID, LANE_START, LANE_BEAT, LANE_GENERATION, LANE_BOOK, LANE_HIGH, LANE_FLIPS = range(7)
LANE_TOTALS, TOTALS_WORDS = 8, 8

ENTRY_STATE, ENTRY_CALL, ENTRY_START, ENTRY_EPOCH, ENTRY_TOKENS, ENTRY_NANO, ENTRY_REQUESTS = 0, 1, 3, 4, 5, 6, 7
ENTRY_KEY, ENTRY_MODEL, ENTRY_CHARGES = 8, 16, 24
TEXT_BYTES = 64
CHARGE_WHAT, CHARGE_AMOUNT, CHARGE_STATUS, CHARGE_FIGURE, CHARGE_BOUND = range(5)
CHARGE_WORDS = 5
MAX_CHARGES = 24
ENTRY_WORDS = ENTRY_CHARGES + MAX_CHARGES * CHARGE_WORDS

FREE, OPEN, SENT, RECORDED = range(4)
"""States of an entry."""

DONE, INTENDED, APPLIED, SETTLING = range(4)
"""States of a charge."""

WINDOW_BITS, GENERATION_BITS = 20, 17
WINDOW_SHIFT, LANE_SHIFT, ENTRY_SHIFT, CHARGE_SHIFT, PHASE_SHIFT = 44, 36, 23, 18, 17
GENERATION_MASK = (1 << GENERATION_BITS) - 1

RATE, HOUR, DAY, MONTH, TOTAL, CONCURRENT, FLAGS, BREAKER, RETRY = range(1, 10)
"""Kinds of slots: what their value is and which rules may stand on them."""

LIMIT_KINDS = (RATE, HOUR, DAY, MONTH, TOTAL, CONCURRENT)
BOOT_KINDS = frozenset({RATE, CONCURRENT, BREAKER, RETRY})
"""Kinds whose value means nothing after a boot: their clock began anew, or what they counted is gone."""

REQUESTS, TOKENS, NANO = range(3)
"""Units: requests, tokens, nano-dollars."""

MAX_SLOTS, MAX_LANES, MAX_COUNTERS, MAX_ENTRIES = 1 << 24, 256, 1 << 20, 1 << 13
DEFAULT_SLOTS, DEFAULT_LANES, DEFAULT_COUNTERS, DEFAULT_ENTRIES = 1 << 20, 64, 8_192, MAX_ENTRIES

NEVER = (1 << 63) - 1
"""``retry_after_ns`` of a request that asks for more units than the rule's whole burst: waiting does not help."""

CALENDAR = -1
"""``reset_ns`` and ``retry_after_ns`` where a window ends by the calendar, which the table does not know."""

MAX_NS = 1 << 62
"""Upper bound (exclusive) of every time and of every rule's tolerance, so that no sum of two leaves 63 bits."""

MAX_AMOUNT = 1 << 62
"""Upper bound (inclusive) of every amount, limit and use: a use that would pass it stays there."""

SKEW_NS = 250_000_000
"""How far one process's reading of the clock may lie behind another's by the time it is used: what a TAT may stand
beyond a rule's clamp because a later reading put it there, and is then left alone."""

HISTOGRAM_BOUNDS_US = tuple(1 << power for power in range(28))
"""Upper bounds (inclusive, microseconds) of a histogram's buckets: 1 us to 134 s in powers of two; one more is +Inf."""

HISTOGRAM_BUCKETS = len(HISTOGRAM_BOUNDS_US) + 1
HISTOGRAM_WORDS = HISTOGRAM_BUCKETS + 2
"""Counters a histogram takes: its buckets (not cumulative), then the count, then the sum."""

CLOSED, OPENED, PROBE, PROBING = range(4)
"""What ``Table.breaker_state`` says: let all through; none; one, who has to claim it; none, the probe is under way."""

BREAKER_TIME_BITS, BREAKER_FAILURE_BITS = 42, 20
"""A breaker's value: state (2 bits), failures in a row, monotonic milliseconds until which it is open or claimed."""

RETRY_SCALE, RETRY_START, RETRY_CAP = 5, 3, 10
"""A retry account: fifths of a retry, plus 1 (0 is an account nobody used yet). Each request deposits a fifth."""


class TableError(RuntimeError):
    """The table cannot be used, is full, or is closed; the message says what is wrong and how to mend it."""


class LaneInfo(NamedTuple):
    """What the file says of one lane; ``held`` is the kernel's word on whether its owner lives."""

    pid: int
    started_ns: int
    beat_ns: int
    generation: int
    held: bool


class Limit(NamedTuple):
    """One rule, as ``Limits`` takes it.

    kind: one of ``RATE HOUR DAY MONTH TOTAL CONCURRENT``, that of its slot. unit: what it counts, ``REQUESTS``,
    ``TOKENS`` or ``NANO``; a ``CONCURRENT`` rule counts calls, whatever it says. limit: of all kinds but ``RATE``,
    which has an emission interval and a tolerance instead. A soft rule counts and never refuses.
    """

    slot: int
    kind: int
    unit: int = REQUESTS
    limit: int = 0
    interval_ns: int = 0
    tau_ns: int = 0
    soft: bool = False


class Totals(NamedTuple):
    """What a lane's records add up to, as far as they are counted: up to ``offset`` of spool segment ``segment``."""

    segment: int
    offset: int
    records: int
    input_tokens: int
    output_tokens: int
    cost_nano: int


class Orphan(NamedTuple):
    """A call whose worker died before it wrote the record.

    tokens, nano: the estimate, which stays charged, if the call was ``sent`` upstream; 0 and refunded if it was not.
    """

    call_id: bytes
    key: str
    model: str
    started_ns: int
    started_epoch: int
    tokens: int
    nano: int
    sent: bool


class Geometry(NamedTuple):
    """How many slots, lanes, counters (a stripe) and entries (a lane) a file holds, and where its regions begin."""

    slots: int
    lanes: int
    counters: int
    entries: int = DEFAULT_ENTRIES

    @property
    def directory_word(self) -> int:
        """First word of the directory, on a page of its own."""
        return (HEADER_BYTES + round_up(self.lanes * LANE_WORDS * WORD, PAGE_BYTES)) // WORD

    @property
    def directory_words(self) -> int:
        """Places of the directory: a power of two, so never more than half of them are used."""
        return max(1 << (2 * self.slots - 1).bit_length(), PAGE_BYTES // WORD)

    @property
    def slots_word(self) -> int:
        """First word of the slots, on a page of its own."""
        return self.directory_word + self.directory_words

    @property
    def stripe_words(self) -> int:
        """Words from one stripe to the next: whole cache lines, so that two workers never share one."""
        return round_up(self.counters, LINE_WORDS)

    @property
    def entries_words(self) -> int:
        """Words from one lane's entries to the next lane's: whole pages."""
        return round_up(self.entries * ENTRY_WORDS, PAGE_BYTES // WORD)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.entry_word(self.lanes, 0) * WORD

    def lane_word(self, lane: int) -> int:
        """First word of a lane."""
        return HEADER_BYTES // WORD + lane * LANE_WORDS

    def slot_word(self, slot: int) -> int:
        """First word of a slot."""
        return self.slots_word + slot * LINE_WORDS

    def stripe_word(self, lane: int) -> int:
        """First word of a lane's counters; lane number ``lanes`` is the retired stripe."""
        return self.slots_word + self.slots * LINE_WORDS + lane * self.stripe_words

    def entry_word(self, lane: int, entry: int) -> int:
        """First word of an entry."""
        first = round_up(self.stripe_word(self.lanes + 1), PAGE_BYTES // WORD)
        return first + lane * self.entries_words + entry * ENTRY_WORDS

    def check(self) -> Self:
        """Raise ``ValueError`` for what no file can hold."""
        bounds = {"slots": MAX_SLOTS, "lanes": MAX_LANES, "counters": MAX_COUNTERS, "entries": MAX_ENTRIES}
        for (name, bound), value in zip(bounds.items(), self, strict=True):
            if not 1 <= value <= bound:
                raise ValueError(f"{name} must be 1 to {bound}, not {value}")
        return self


class HeldLane(Protocol):
    """A lane object: what a forked child does with the one it inherited."""

    def abandon(self) -> None: ...


def round_up(value: int, step: int) -> int:
    """The next whole multiple of ``step``."""
    return -(-value // step) * step


def tag_of(window: int, lane: int, entry: int, charge: int, phase: int, generation: int) -> int:
    """The tag of a writer."""
    return (
        window << WINDOW_SHIFT
        | lane << LANE_SHIFT
        | entry << ENTRY_SHIFT
        | charge << CHARGE_SHIFT
        | phase << PHASE_SHIFT
        | generation
    )


def check_limit(limit: Limit) -> None:
    """Raise ``ValueError`` for a rule no table can keep."""
    slot, kind, unit, bound, interval, tau, _ = limit
    if not 0 <= slot < MAX_SLOTS:
        raise ValueError(f"slot {slot} is not 0 to {MAX_SLOTS - 1}")
    if kind not in LIMIT_KINDS or unit not in (REQUESTS, TOKENS, NANO):
        raise ValueError(f"kind {kind} of unit {unit} is no rule")
    if kind == RATE and (interval < 1 or tau < 0 or tau + interval >= MAX_NS):
        raise ValueError(f"interval {interval} ns and tau {tau} ns are not in range")
    if not 0 <= bound <= MAX_AMOUNT:
        raise ValueError(f"limit {bound} is not 0 to {MAX_AMOUNT}")
