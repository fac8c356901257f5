"""The shared table in pure Python: specification, type stub and oracle of ``table_c``; the layout is in ``table_file``.

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

import threading
from collections.abc import Sequence
from typing import Self

from fastgw._core.table_file import (
    DEFAULT_COUNTERS,
    DEFAULT_LANES,
    DEFAULT_SLOTS,
    HISTOGRAM_BOUNDS_US,
    HISTOGRAM_BUCKETS,
    HISTOGRAM_WORDS,
    LANE_BEAT,
    LANE_PID,
    LAYOUT_VERSION,
    LINE_WORDS,
    MASK,
    MAX_NS,
    MAX_SLOTS,
    NEVER,
    SKEW_NS,
    SLOT_GCRA,
    Geometry,
    LaneInfo,
    LaneLock,
    TableError,
    TableFile,
    hold,
    open_file,
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

Verdict = tuple[int, int, int, int, int]
"""``(refused, retry_after_ns, tight, remaining, reset_ns)``, a plain tuple for speed.

``refused``: -1 when all passed, else the refusing rule's place counted over the concatenated sets. ``retry_after_ns``:
0 when passed, else the wait until that rule alone would pass, or ``NEVER``. ``tight``: the rule with the fewest whole
units left, the first of equals; the refusing one on refusal; -1 when there are no rules. ``remaining``: units left at
the tight rule, after the take. ``reset_ns``: time until the tight rule is at rest again.
"""

_Rule = tuple[int, int, int]
_NO_RULES: Verdict = (-1, 0, -1, 0, 0)


class Rules:
    """Rules of one owner, compiled once: ``(slot index, emission interval T ns, tolerance tau ns)`` each.

    ``T = ceil(period / limit)`` and ``tau = T * (burst - 1)`` pass ``burst`` units from rest. Raises ``ValueError``.
    """

    __slots__ = ("_rules", "_top")

    def __init__(self, rules: Sequence[tuple[int, int, int]]) -> None:
        for slot, interval, tau in rules:
            if not 0 <= slot < MAX_SLOTS:
                raise ValueError(f"slot {slot} is not 0 to {MAX_SLOTS - 1}")
            if interval < 1 or tau < 0 or tau + interval >= MAX_NS:
                raise ValueError(f"interval {interval} ns and tau {tau} ns are not in range")
        self._rules = tuple((slot, interval, tau + interval) for slot, interval, tau in rules)
        self._top = max((rule[0] for rule in self._rules), default=-1)

    def __len__(self) -> int:
        return len(self._rules)


class Lane:
    """One worker's place: its own stripe of counters and its heartbeat. It is the claiming process's alone.

    A forked child finds its copy closed. All methods but ``close`` raise ``TableError`` on a closed lane.
    """

    __slots__ = ("__weakref__", "_base", "_counters", "_lock", "_mutex", "_stripe", "_words", "generation", "index")

    def __init__(self, file: TableFile, index: int, generation: int, lock: LaneLock) -> None:
        self.index = index
        self.generation = generation
        self._words = file.words
        self._base = file.geometry.lane_word(index)
        self._stripe = file.geometry.stripe_word(index)
        self._counters = file.geometry.counters
        self._lock: LaneLock | None = lock
        self._mutex = threading.Lock()
        hold(self)

    def _check(self, counter: int, n: int) -> int:
        if self._lock is None:
            raise TableError("the lane is closed")
        if not 0 <= counter <= self._counters - n:
            raise IndexError(f"counter {counter} of {self._counters}")
        return self._stripe + counter

    def add(self, counter: int, n: int) -> None:
        """Add ``n`` (signed 64-bit, wraps) to a counter. Raises ``IndexError``, ``OverflowError``."""
        if not -(1 << 63) <= n < 1 << 63:
            raise OverflowError("n is not a signed 64-bit integer")
        word = self._check(counter, 1)
        with self._mutex:
            self._words[word] = (self._words[word] + n) & MASK

    def observe(self, base: int, value: int) -> None:
        """Count ``value`` (microseconds) in the histogram of ``HISTOGRAM_WORDS`` counters at ``base``.

        Raises ``IndexError``, and ``OverflowError`` for a value that is no unsigned 64-bit integer.
        """
        if not 0 <= value <= MASK:
            raise OverflowError("value is not an unsigned 64-bit integer")
        word = self._check(base, HISTOGRAM_WORDS)
        bucket = min((value - 1).bit_length() if value else 0, HISTOGRAM_BUCKETS - 1)
        with self._mutex:
            self._words[word + bucket] = (self._words[word + bucket] + 1) & MASK
            self._words[word + HISTOGRAM_BUCKETS] = (self._words[word + HISTOGRAM_BUCKETS] + 1) & MASK
            total = word + HISTOGRAM_BUCKETS + 1
            self._words[total] = (self._words[total] + value) & MASK

    def beat(self, now_ns: int) -> None:
        """Say that the worker lives; ``Table.lane_info`` shows it."""
        self._check(0, 1)
        self._words[self._base + LANE_BEAT] = _time(now_ns)

    def close(self) -> None:
        """Free the lane in good order: its pid reads 0."""
        if self._lock is not None:
            self._words[self._base + LANE_PID] = 0
            self.abandon()

    def abandon(self) -> None:
        """Drop this process's hold without a word in the file; what a forked child does."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


class Table:
    """The table of one node, mapped by all its processes. Slots hold limits, lanes hold workers and their counters."""

    __slots__ = ("_closed", "_file", "counters", "lanes", "slots")

    def __init__(self, file: TableFile) -> None:
        self._file = file
        self._closed = False
        self.slots, self.lanes, self.counters = file.geometry

    @classmethod
    def open(
        cls,
        path: str,
        *,
        slots: int = DEFAULT_SLOTS,
        lanes: int = DEFAULT_LANES,
        counters: int = DEFAULT_COUNTERS,
        create: bool,
        boot_id: bytes | None = None,
    ) -> Self:
        """Open, or with ``create`` make, the table at ``path``; an existing file keeps its own geometry.

        ``boot_id`` (16 bytes) stands in for the kernel's. Raises ``TableError``, and ``ValueError`` for a bad geometry.
        """
        return cls(open_file(path, Geometry(slots, lanes, counters), create=create, boot_id=boot_id))

    def slot(self, id16: bytes) -> int:
        """Index of the slot of this id, made if absent; it never changes. Raises ``TableError`` when full."""
        self._open()
        return self._file.slot(id16)

    def find(self, id16: bytes) -> int:
        """Index of the slot of this id, or -1."""
        self._open()
        return self._file.find(id16)

    def claim_lane(self, now_ns: int = 0) -> Lane:
        """The first free lane, held until closed or until this process dies. Raises ``TableError`` if none is."""
        self._open()
        return Lane(self._file, *self._file.claim_lane(_time(now_ns)))

    def lane_info(self, lane: int) -> LaneInfo:
        """Pid, times, generation of a lane, and whether its owner lives."""
        self._open()
        return self._file.lane_info(lane)

    def take(self, sets: tuple[Rules, ...], units: int, now_ns: int) -> Verdict:
        """Take ``units`` at every rule, in order, or at none.

        Raises ``IndexError`` for a slot beyond the table, ``OverflowError`` for units or a time out of range.
        """
        rules, words, verdict = self._rules(sets, units, now_ns), self._file.words, _NO_RULES
        undo: list[tuple[int, int]] = []
        with self._file.lock:
            for place, rule in enumerate(rules):
                word, level = self._word(rule), self._level(rule, now_ns)
                verdict = _judge(verdict, place, rule, level, units, units)
                if verdict[0] >= 0:
                    # A word beyond the clamp is put right, or the wait that is told here would not pass.
                    if words[word] > now_ns + level:
                        words[word] = now_ns + level
                    for taken, before in reversed(undo):
                        words[taken] = before
                    return verdict
                undo.append((word, words[word]))
                words[word] = now_ns + level + units * rule[1]
        return verdict

    def peek(self, sets: tuple[Rules, ...], units: int, now_ns: int) -> Verdict:
        """What ``take`` would say, with ``remaining`` and ``reset_ns`` as they are now; takes nothing."""
        verdict = _NO_RULES
        for place, rule in enumerate(self._rules(sets, units, now_ns)):
            verdict = _judge(verdict, place, rule, self._level(rule, now_ns), units, 0)
            if verdict[0] >= 0:
                break
        return verdict

    def give_back(self, sets: tuple[Rules, ...], units: int, now_ns: int) -> None:
        """Return ``units`` to every rule; none gets more than it has at rest."""
        rules = self._rules(sets, units, now_ns)
        with self._file.lock:
            for rule in rules:
                self._file.words[self._word(rule)] = now_ns + max(self._level(rule, now_ns) - units * rule[1], 0)

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

    def _rules(self, sets: tuple[Rules, ...], units: int, now_ns: int) -> list[_Rule]:
        self._open()
        _time(now_ns)
        if not 0 <= units <= MASK:
            raise OverflowError("units are not an unsigned 64-bit integer")
        if any(rules._top >= self.slots for rules in sets):
            raise IndexError(f"a rule's slot is beyond the table's {self.slots}")
        return [rule for rules in sets for rule in rules._rules]

    def _word(self, rule: _Rule) -> int:
        return self._file.geometry.slots_word + rule[0] * LINE_WORDS + SLOT_GCRA

    def _level(self, rule: _Rule, now_ns: int) -> int:
        """How far TAT is ahead of now: 0 at rest, the rule's third figure (tau + T) when nothing is left."""
        level = max(self._file.words[self._word(rule)] - now_ns, 0)
        return level if level <= rule[2] + SKEW_NS else rule[2]


def _judge(best: Verdict, place: int, rule: _Rule, level: int, units: int, taken: int) -> Verdict:
    """``best`` of the rules before this one, or this one if it refuses or, with ``taken`` gone, is the tightest."""
    _, interval, cap = rule
    need = units * interval
    if level + need > cap:
        wait = level + need - cap if need <= cap else NEVER
        return place, wait, place, max(cap - level, 0) // interval, level
    level += taken * interval
    left = (cap - level) // interval
    return (-1, 0, place, left, level) if best[2] < 0 or left < best[3] else best


def _time(now_ns: int) -> int:
    if not 0 <= now_ns < MAX_NS:
        raise OverflowError(f"{now_ns} is not a time in monotonic nanoseconds")
    return now_ns
