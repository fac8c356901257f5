"""What a call takes of the shared table, in pure Python: the rules, a charge as it lies in an entry, the verdict."""

from collections.abc import Sequence

from fastgw._core.table_layout import (
    CHARGE_AMOUNT,
    CHARGE_BOUND,
    CHARGE_FIGURE,
    CHARGE_STATUS,
    CHARGE_WHAT,
    CHARGE_WORDS,
    CONCURRENT,
    ENTRY_CHARGES,
    GENERATION_MASK,
    HOUR,
    MAX_AMOUNT,
    NANO,
    REQUESTS,
    SETTLING,
    SKEW_NS,
    TOKENS,
    WINDOW_BITS,
    WINDOW_SHIFT,
    Limit,
    check_limit,
)

Taken = tuple[int, int, int, int, int, int, int, int, int, int]
"""What ``Book.take`` says, a plain tuple for speed:

0 ``refused``: -1 when all passed, else the refusing rule's place counted over the concatenated sets.
1 ``retry_after_ns``: 0 when passed, else the wait until that rule alone would pass; ``NEVER``; ``CALENDAR`` for a
  window, whose end the calendar knows; 0 for concurrency, which nobody can foretell.
2 ``used``: what the refusing rule had counted before this call, in its unit; 0 when passed.
3-5 ``tight, remaining, reset_ns`` of requests: the place of the rule with the fewest requests left, the first of
  equals, how many are left after this call, and the time until it is at rest again, ``CALENDAR`` for a window. -1, 0, 0
  when there is no such rule. Soft rules and concurrency are not among them. Of a refusal only the refusing rule is.
6-8 the same of tokens.
9 ``soft``: bit n is set when the rule at place n is soft and this call went beyond it (or met it exceeded).
"""

Windows = tuple[int, int, int]
"""The indexes of the hour, the day and the month that now is in."""

_KIND_SHIFT, _UNIT_SHIFT, _CHARGED_SHIFT = 24, 32, 40
_SLOT_MASK, BYTE, WINDOW_MASK = (1 << 24) - 1, 255, (1 << WINDOW_BITS) - 1


class Limits:
    """Rules of one owner, compiled once for ``Book.take``. Raises ``ValueError`` for one that cannot be."""

    __slots__ = ("_top", "limits")

    def __init__(self, limits: Sequence[Limit]) -> None:
        self.limits = tuple(Limit(*limit) for limit in limits)
        for limit in self.limits:
            check_limit(limit)
        self._top = max((limit.slot for limit in self.limits), default=-1)

    def __len__(self) -> int:
        return len(self.limits)


class Charge:
    """One charge of an entry, where it lies in the file."""

    __slots__ = ("_at", "_words", "number")

    def __init__(self, words: memoryview, entry_word: int, number: int) -> None:
        self._words, self._at, self.number = words, entry_word + ENTRY_CHARGES + number * CHARGE_WORDS, number

    @property
    def slot(self) -> int:
        return self._words[self._at + CHARGE_WHAT] & _SLOT_MASK

    @property
    def kind(self) -> int:
        return self._words[self._at + CHARGE_WHAT] >> _KIND_SHIFT & BYTE

    @property
    def unit(self) -> int:
        return min(self._words[self._at + CHARGE_WHAT] >> _UNIT_SHIFT & BYTE, NANO)

    @property
    def window(self) -> int:
        return self._words[self._at + CHARGE_WHAT] >> _CHARGED_SHIFT & WINDOW_MASK

    @property
    def amount(self) -> int:
        return self._words[self._at + CHARGE_AMOUNT]

    @property
    def figure(self) -> int:
        return self._words[self._at + CHARGE_FIGURE]

    @property
    def bound(self) -> int:
        return self._words[self._at + CHARGE_BOUND]

    @property
    def state(self) -> int:
        return self._words[self._at + CHARGE_STATUS] & BYTE

    @property
    def generation(self) -> int:
        return self._words[self._at + CHARGE_STATUS] >> 8

    def mark(self, state: int) -> None:
        self._words[self._at + CHARGE_STATUS] = self.generation << 8 | state

    def write(self, limit: Limit, amount: int, window: int, state: int, figure: int, bound: int) -> None:
        """Fill the charge; its state is written last, with the next generation, which is never 0."""
        words, at = self._words, self._at
        words[at + CHARGE_WHAT] = (
            limit.slot | limit.kind << _KIND_SHIFT | limit.unit << _UNIT_SHIFT | window << _CHARGED_SHIFT
        )
        words[at + CHARGE_AMOUNT], words[at + CHARGE_FIGURE], words[at + CHARGE_BOUND] = amount, figure, bound
        words[at + CHARGE_STATUS] = ((self.generation & GENERATION_MASK) % GENERATION_MASK + 1) << 8 | state

    def begin_settle(self, target: int) -> None:
        self._words[self._at + CHARGE_FIGURE] = target
        self.mark(SETTLING)


class Judged:
    """What a take found out so far."""

    __slots__ = ("_refused", "_tight", "_used", "_wait", "soft")

    def __init__(self) -> None:
        self._refused, self._wait, self._used, self.soft = -1, 0, 0, 0
        self._tight = [(-1, 0, 0), (-1, 0, 0), (-1, 0, 0)]

    def left(self, unit: int, place: int, left: int, reset: int) -> None:
        """Note the rule if it is tighter than all before it."""
        if self._tight[unit][0] < 0 or left < self._tight[unit][1]:
            self._tight[unit] = place, left, reset

    def refuse(self, place: int, wait: int, used: int) -> None:
        self._refused, self._wait, self._used = place, wait, used
        self._tight = [(-1, 0, 0), (-1, 0, 0), (-1, 0, 0)]

    def only(self, unit: int, place: int, left: int, reset: int) -> None:
        self._tight[unit] = place, left, reset

    def verdict(self) -> Taken:
        soft = self.soft if self._refused < 0 else 0
        return (self._refused, self._wait, self._used, *self._tight[REQUESTS], *self._tight[TOKENS], soft)


def rate_level(tat: int, now: int, cap: int) -> int:
    """How far TAT is ahead of now: 0 at rest, ``cap`` (tau + T) when nothing is left."""
    level = max(tat - now, 0)
    return level if level <= cap + SKEW_NS else cap


def counted(used: int, tag: int, window: int) -> tuple[int, int]:
    """What counts as used for a call in ``window``, and the window it counts into."""
    stored = tag >> WINDOW_SHIFT
    return (min(used, MAX_AMOUNT), stored) if stored in (window, window + 1) else (0, window)


def used_now(kind: int, used: int, tag: int, windows: Windows) -> int:
    """What a slot has counted in its present window. Raises ``ValueError`` for a kind that has no such figure."""
    if not HOUR <= kind <= CONCURRENT:
        raise ValueError(f"a slot of kind {kind} counts no use")
    return counted(used, tag, (windows[0], windows[1], windows[2], 0, 0)[kind - HOUR])[0]
