"""A worker's place in the shared table, in pure Python: counters, heartbeat, and the book of its calls in flight."""

import threading

from fastgw._core.book_py import Book
from fastgw._core.table_lanes import LaneFile
from fastgw._core.table_layout import (
    HISTOGRAM_BUCKETS,
    HISTOGRAM_WORDS,
    LANE_BEAT,
    LANE_BOOK,
    LANE_PID,
    MASK,
    MAX_NS,
    TableError,
)
from fastgw._core.table_lock import LaneLock, hold


class Lane:
    """One worker's place: its own stripe of counters and its heartbeat. It is the claiming process's alone.

    A forked child finds its copy closed. All methods but ``close`` raise ``TableError`` on a closed lane.
    """

    __slots__ = (
        "__weakref__",
        "_base",
        "_book",
        "_counters",
        "_file",
        "_lock",
        "_mutex",
        "_stripe",
        "_words",
        "generation",
        "index",
    )

    def __init__(self, file: LaneFile, index: int, generation: int, lock: LaneLock) -> None:
        self.index = index
        self.generation = generation
        self._file = file
        self._book: Book | None = None
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

    def add_all(self, counters: tuple[int, ...], amounts: tuple[int, ...]) -> None:
        """``add`` each amount to its counter; all of them are looked at before the first is added.

        Raises ``ValueError`` unless there are as many of the ones as of the others.
        """
        if len(counters) != len(amounts):
            raise ValueError("not one amount for each counter")
        for counter, amount in zip(counters, amounts, strict=True):
            if not -(1 << 63) <= amount < 1 << 63:
                raise OverflowError("an amount is not a signed 64-bit integer")
            self._check(counter, 1)
        for counter, amount in zip(counters, amounts, strict=True):
            self.add(counter, amount)

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
        self._words[self._base + LANE_BEAT] = check_time(now_ns)

    def book(self) -> Book:
        """The lane's calls in flight; the same book each time. Raises ``TableError`` where there is no disk for it."""
        self._check(0, 1)
        if self._book is None:
            self._book = Book(self._file, self.index, self._lock)
        return self._book

    def close(self) -> None:
        """Free the lane in good order: its pid reads 0. With calls in flight it is left to ``Table.reap``."""
        if self._lock is not None:
            if self._book is None or not self._book.in_flight():
                self._words[self._base + LANE_BOOK] = 0
            self._words[self._base + LANE_PID] = 0
            self.abandon()

    def abandon(self) -> None:
        """Drop this process's hold without a word in the file; what a forked child does."""
        if self._book is not None:
            self._book.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def check_time(now_ns: int) -> int:
    """The time. Raises ``OverflowError`` for what is none."""
    if not 0 <= now_ns < MAX_NS:
        raise OverflowError(f"{now_ns} is not a time in monotonic nanoseconds")
    return now_ns
