"""Calls in flight: what a worker holds of the shared table, and how that outlives it. Specification of ``book_c``.

An entry is one call; a charge is what it took of one slot. A charge of a window or of concurrency is exact against a
kill at any instruction, the worker's or the reaper's:

- The intent is written to the charge, then one 128-bit compare-and-swap changes the slot's use and leaves the writer's
  tag there, then the charge is marked as applied. The settle does the same, with the other phase in its tag.
- Who is to overwrite another's tag first marks that charge. So of every charge it is known whether it took effect: it
  is marked, or the slot still carries its tag, or it did not. A tag's generation is the charge's own and goes up with
  every use of it.

A ``RATE`` word has no tag: what a dead worker took of it comes back by itself, at the rule's own rate.

A window is named by its index (hours or days since 1970, months since year 0; UTC; a total's is 0). A call whose index
lies one below the stored one counts into the stored one: a clock was put back. A stored one that is further ahead was
of a wrong clock, and is begun anew at the call's. A settle changes the use in the window that was charged and no other.

This twin takes the file's lock, call by call, and changes use and tag with one copy of 16 bytes, which on the machines
we know is one instruction; the native twin does without locks.
"""

from array import array
from collections.abc import Sequence

from fastgw._core.table_charge import (
    BYTE,
    WINDOW_MASK,
    Charge,
    Judged,
    Limits,
    Taken,
    Windows,
    counted,
    rate_level,
)
from fastgw._core.table_lanes import LaneFile
from fastgw._core.table_layout import (
    APPLIED,
    CALENDAR,
    CHARGE_SHIFT,
    CONCURRENT,
    DONE,
    ENTRY_CALL,
    ENTRY_CHARGES,
    ENTRY_EPOCH,
    ENTRY_KEY,
    ENTRY_MODEL,
    ENTRY_NANO,
    ENTRY_REQUESTS,
    ENTRY_SHIFT,
    ENTRY_START,
    ENTRY_STATE,
    ENTRY_TOKENS,
    FREE,
    GENERATION_MASK,
    HOUR,
    INTENDED,
    LANE_BOOK,
    LANE_FLIPS,
    LANE_HIGH,
    LANE_SHIFT,
    LANE_TOTALS,
    MASK,
    MAX_AMOUNT,
    MAX_CHARGES,
    MAX_ENTRIES,
    MAX_NS,
    MONTH,
    NANO,
    NEVER,
    OPEN,
    PHASE_SHIFT,
    RATE,
    RECORDED,
    REQUESTS,
    SENT,
    SETTLING,
    SLOT_TAG,
    SLOT_VALUE,
    TEXT_BYTES,
    TOKENS,
    TOTALS_WORDS,
    WINDOW_SHIFT,
    Limit,
    TableError,
    tag_of,
)
from fastgw._core.table_lock import LaneLock
from fastgw._core.table_told import Ends, Told, told


class Book:
    """The calls in flight of one lane; ``Lane.book`` opens it. It is the lane's owner's alone.

    A call's life: ``begin``, ``take`` (of the call, later of each attempt), ``mark_sent``, ``settle`` (of a failed
    attempt from its first charge on), then the record is written, the commit point: ``commit_totals``,
    ``mark_recorded``, ``settle`` from 0 on, ``end``. All methods raise ``TableError`` once the lane is closed, and
    ``ValueError`` for an entry that is not in flight.
    """

    __slots__ = ("_base", "_counts", "_file", "_free", "_lane", "_lock", "_words")

    def __init__(self, file: LaneFile, lane: int, lock: LaneLock | None) -> None:
        # Its own hold on the lane: a book outlives the lane object it was opened by.
        self._file, self._lane, self._lock = file, lane, lock
        self._words = file.words
        self._base = file.geometry.lane_word(lane)
        self._counts = bytearray(file.geometry.entries)
        self._free: list[int] = []
        if lock is not None:
            file.allocate_entries(lane)
            self._free = list(range(file.geometry.entries))[::-1]
            self._words[self._base + LANE_BOOK] = 1

    # -- a call's life ---------------------------------------------------------------------------------------------

    def begin(self, call_id16: bytes, now_ns: int, epoch_s: int, key: bytes, model: bytes) -> int:
        """An entry for this call, -1 when all are in flight; texts are cut at 64 bytes. Raises ``ValueError``."""
        self._check_open()
        if len(call_id16) != 16:
            raise ValueError(f"a call id has 16 bytes, not {len(call_id16)}")
        _unsigned(now_ns, epoch_s)
        with self._file.lock:
            if not self._free:
                return -1
            entry, words = self._free.pop(), self._words
            at = self._at(entry)
            words[at + ENTRY_CALL : at + ENTRY_CALL + 2] = _as_words(call_id16)
            words[at + ENTRY_START], words[at + ENTRY_EPOCH] = now_ns, epoch_s
            words[at + ENTRY_TOKENS] = words[at + ENTRY_NANO] = words[at + ENTRY_REQUESTS] = 0
            words[at + ENTRY_KEY : at + ENTRY_MODEL] = _as_words(key[:TEXT_BYTES].ljust(TEXT_BYTES, b"\0"))
            words[at + ENTRY_MODEL : at + ENTRY_CHARGES] = _as_words(model[:TEXT_BYTES].ljust(TEXT_BYTES, b"\0"))
            if entry >= words[self._base + LANE_HIGH]:
                words[self._base + LANE_HIGH] = entry + 1
            words[at + ENTRY_STATE] = OPEN
            return entry

    def charges(self, entry: int) -> int:
        """How many charges the entry has: the number of the next one."""
        self._check(entry)
        return self._counts[entry]

    def take(
        self,
        entry: int,
        sets: tuple[Limits, ...],
        requests: int,
        tokens: int,
        nano: int,
        now_ns: int,
        windows: Windows,
    ) -> Taken:
        """Charge every rule, in order, its unit's amount (a ``CONCURRENT`` one 1), or none of them.

        The charges are appended to the entry's; the amounts are noted as the call's estimate. Raises ``IndexError``
        for a slot beyond the table, ``OverflowError`` for an amount, a time, a window or more charges out of range.
        """
        amounts = requests, tokens, nano
        limits = self._check_take(entry, sets, amounts, now_ns, windows)
        judged = Judged()
        with self._file.lock:
            first = self._counts[entry]
            self._note(entry, amounts)
            for place, limit in enumerate(limits):
                charge = Charge(self._words, self._at(entry), first + place)
                if not self._take(entry, charge, limit, place, amounts, now_ns, windows, judged):
                    for taken in range(first + place - 1, first - 1, -1):
                        self._settle(entry, taken, (0, 0, 0), now_ns)
                    return judged.verdict()
            self._counts[entry] = first + len(limits)
        return judged.verdict()

    def charge(
        self,
        entry: int,
        limits: Limits,
        tokens: int,
        nano: int,
        now_ns: int,
        windows: Windows,
        ends: Ends,
        epoch_s: float,
    ) -> tuple[Told, int] | Taken:
        """``take`` one request of these limits; what the answer tells of them and ``soft``, or the refusal.

        ``ends`` are those of the windows, ``epoch_s`` is now, both UTC.
        """
        taken = self.take(entry, (limits,), 1, tokens, nano, now_ns, windows)
        return taken if taken[0] >= 0 else (told(limits.limits, taken, ends, epoch_s), taken[9])

    def mark_sent(self, entry: int) -> None:
        """Say that the call goes upstream: from now on it may cost something, also if this worker dies."""
        at = self._check(entry)
        self._words[at + ENTRY_STATE] = SENT

    def settle(self, entry: int, first: int, requests: int, tokens: int, nano: int, now_ns: int) -> tuple[int, int]:
        """Correct the charges from number ``first`` on to what was used and take them off the entry.

        Concurrency is released, a rate moved on or back, a window corrected unless another one has begun. All zero is
        a refund. Returns the tokens and the nano-dollars by which this put a rule beyond its limit, of each unit the
        largest. Raises ``ValueError`` for a ``first`` beyond the entry's charges, ``OverflowError``.
        """
        self._check(entry)
        _check_amounts((requests, tokens, nano), now_ns)
        over = [0, 0, 0]
        with self._file.lock:
            if not 0 <= first <= self._counts[entry]:
                raise ValueError(f"charge {first} of {self._counts[entry]}")
            for charge in reversed(range(first, self._counts[entry])):
                unit, beyond = self._settle(entry, charge, (requests, tokens, nano), now_ns)
                over[unit] = max(over[unit], beyond)
            self._counts[entry] = first
        return over[TOKENS], over[NANO]

    def mark_recorded(self, entry: int, requests: int, tokens: int, nano: int) -> None:
        """Say that the call's record is written, with these amounts: whoever comes after settles the rest with them."""
        at = self._check(entry)
        _check_amounts((requests, tokens, nano), 0)
        self._note(entry, (requests, tokens, nano))
        self._words[at + ENTRY_STATE] = RECORDED

    def end(self, entry: int) -> None:
        """Clear the entry. Charges not settled stay as they are, but concurrency is released."""
        at = self._check(entry)
        with self._file.lock:
            for number in range(self._counts[entry]):
                charge = Charge(self._words, at, number)
                self._finish(entry, charge, 0 if charge.kind == CONCURRENT else charge.amount)
            self._counts[entry] = 0
            self._words[at + ENTRY_STATE] = FREE
            self._free.append(entry)

    def finish(self, entry: int, tokens: int, nano: int, now_ns: int) -> tuple[int, int]:
        """``mark_recorded``, ``settle`` and ``end`` of a call whose record is written, one request."""
        self.mark_recorded(entry, 1, tokens, nano)
        over = self.settle(entry, 0, 1, tokens, nano, now_ns)
        self.end(entry)
        return over

    def in_flight(self) -> int:
        """How many entries are taken."""
        return self._file.geometry.entries - len(self._free)

    def commit_totals(self, segment: int, offset: int, input_tokens: int, output_tokens: int, cost_nano: int) -> None:
        """Add one record to the lane's totals, the one that ends at this place of the spool."""
        self._check_open()
        _unsigned(segment, offset, input_tokens, output_tokens, cost_nano)
        self.add_totals((segment, offset, 1, input_tokens, output_tokens, cost_nano))

    def close(self) -> None:
        """What the lane does as it closes: from now on every method raises ``TableError``."""
        self._lock = None

    # -- a dead owner's ----------------------------------------------------------------------------------------------

    def add_totals(self, added: Sequence[int]) -> None:
        """Set the position and add the rest, in the block that does not count, then flip them."""
        words, flips = self._words, self._words[self._base + LANE_FLIPS]
        old = self._base + LANE_TOTALS + (flips & 1) * TOTALS_WORDS
        new = self._base + LANE_TOTALS + (flips + 1 & 1) * TOTALS_WORDS
        for place, value in enumerate(added):
            words[new + place] = value if place < 2 else words[old + place] + value & MASK
        words[self._base + LANE_FLIPS] = flips + 1

    def recover(self, entry: int, requests: int, tokens: int, nano: int, keep: bool) -> None:
        """Finish what a dead owner left: half-made settles as begun, charges with these amounts or, to ``keep``, as
        they are; concurrency is released. May be done again after a kill, by whoever holds the lane's lock.
        """
        with self._file.lock:
            for number in range(MAX_CHARGES):
                charge = Charge(self._words, self._at(entry), number)
                state = self._resolve(entry, charge)
                if state == SETTLING:
                    self._finish(entry, charge, charge.figure)
                elif state == APPLIED and charge.kind == RATE:
                    charge.mark(DONE)
                elif state == APPLIED:
                    amount = charge.amount if keep else (requests, tokens, nano)[charge.unit]
                    self._finish(entry, charge, 0 if charge.kind == CONCURRENT else amount)

    def _resolve(self, entry: int, charge: Charge) -> int:
        """The state of a dead owner's charge, after a look at whether its last step took effect."""
        if charge.state in (DONE, APPLIED) or charge.slot >= self._file.geometry.slots:
            return charge.state if charge.slot < self._file.geometry.slots else DONE
        phase = int(charge.state == SETTLING)
        if self._words[self._slot(charge.slot) + SLOT_TAG] == self._tag(entry, charge, phase):
            charge.mark(DONE if phase else APPLIED)
        elif charge.state == INTENDED:
            charge.mark(DONE)
        return charge.state

    # -- charges -----------------------------------------------------------------------------------------------------

    def _take(
        self,
        entry: int,
        charge: Charge,
        limit: Limit,
        place: int,
        amounts: tuple[int, int, int],
        now: int,
        windows: Windows,
        judged: Judged,
    ) -> bool:
        if limit.kind == RATE:
            return self._take_rate(charge, limit, place, amounts[limit.unit], now, judged)
        if limit.kind == CONCURRENT:
            return self._take_pair(entry, charge, limit, place, 1, 0, judged)
        window = windows[limit.kind - HOUR] if HOUR <= limit.kind <= MONTH else 0
        return self._take_pair(entry, charge, limit, place, amounts[limit.unit], window, judged)

    def _take_rate(self, charge: Charge, limit: Limit, place: int, units: int, now: int, judged: Judged) -> bool:
        word, interval, cap = self._slot(limit.slot) + SLOT_VALUE, limit.interval_ns, limit.tau_ns + limit.interval_ns
        level, need = rate_level(self._words[word], now, cap), units * interval
        if level + need > cap:
            # A word beyond the clamp is put right, or the wait that is told here would not pass.
            if self._words[word] > now + level:
                self._words[word] = now + level
            if not limit.soft:
                wait = level + need - cap if need <= cap else NEVER
                judged.refuse(place, wait, -(-level // interval))
                judged.only(limit.unit, place, max(cap - level, 0) // interval, level)
                return False
            judged.soft |= 1 << place
            units = need = 0
        else:
            self._words[word] = now + level + need
        charge.write(limit, units, 0, APPLIED, interval, cap)
        if not limit.soft:
            judged.left(limit.unit, place, (cap - level - need) // interval, level + need)
        return True

    def _take_pair(
        self, entry: int, charge: Charge, limit: Limit, place: int, amount: int, window: int, judged: Judged
    ) -> bool:
        at = self._slot(limit.slot)
        used, tag = self._words[at + SLOT_VALUE], self._words[at + SLOT_TAG]
        self._help(limit.slot, tag)
        used, window = counted(used, tag, window)
        if used + amount > limit.limit:
            if not limit.soft:
                judged.refuse(place, 0 if limit.kind == CONCURRENT else CALENDAR, used)
                if limit.kind != CONCURRENT:
                    judged.only(limit.unit, place, max(limit.limit - used, 0), CALENDAR)
                return False
            judged.soft |= 1 << place
        after = min(used + amount, MAX_AMOUNT)
        if amount:
            charge.write(limit, amount, window, INTENDED, 0, limit.limit)
            self._swap(at, after, self._tag(entry, charge, 0))
            charge.mark(APPLIED)
        else:
            charge.write(limit, amount, window, APPLIED, 0, limit.limit)
        if not limit.soft and limit.kind != CONCURRENT:
            judged.left(limit.unit, place, limit.limit - after, CALENDAR)
        return True

    def _settle(self, entry: int, number: int, amounts: tuple[int, int, int], now: int) -> tuple[int, int]:
        """The charge's unit, and by how much this put it beyond its limit."""
        charge = Charge(self._words, self._at(entry), number)
        if charge.kind == RATE:
            self._settle_rate(charge, amounts[charge.unit] - charge.amount, now)
            return charge.unit, 0
        return charge.unit, self._finish(entry, charge, 0 if charge.kind == CONCURRENT else amounts[charge.unit])

    def _settle_rate(self, charge: Charge, units: int, now: int) -> None:
        word, cap = self._slot(charge.slot) + SLOT_VALUE, charge.bound
        level, need = rate_level(self._words[word], now, cap), units * charge.figure
        if need > 0:
            self._words[word] = now + max(level, min(level + need, cap))
        elif need < 0:
            self._words[word] = now + max(level + need, 0)
        charge.mark(DONE)

    def _finish(self, entry: int, charge: Charge, target: int) -> int:
        """Bring a charge to ``target``, in the window it was charged in; by how much that went beyond the limit."""
        if charge.kind == RATE or (charge.state == APPLIED and target == charge.amount):
            charge.mark(DONE)
            return 0
        if charge.state == APPLIED:
            charge.begin_settle(target)
        at = self._slot(charge.slot)
        used, tag = self._words[at + SLOT_VALUE], self._words[at + SLOT_TAG]
        self._help(charge.slot, tag)
        over = 0
        if tag >> WINDOW_SHIFT == charge.window:
            after = min(max(used + target - charge.amount, 0), MAX_AMOUNT)
            self._swap(at, after, self._tag(entry, charge, 1))
            over = max(after - max(used, charge.bound), 0)
        charge.mark(DONE)
        return over

    def _help(self, slot: int, tag: int) -> None:
        """Mark the charge that left this tag, which is to be overwritten."""
        geometry = self._file.geometry
        lane, entry = tag >> LANE_SHIFT & BYTE, tag >> ENTRY_SHIFT & MAX_ENTRIES - 1
        number, phase = tag >> CHARGE_SHIFT & 31, tag >> PHASE_SHIFT & 1
        if not tag & GENERATION_MASK or lane >= geometry.lanes or entry >= geometry.entries or number >= MAX_CHARGES:
            return
        charge = Charge(self._words, geometry.entry_word(lane, entry), number)
        awaited = SETTLING if phase else INTENDED
        if charge.generation == tag & GENERATION_MASK and charge.state == awaited and charge.slot == slot:
            charge.mark(DONE if phase else APPLIED)

    def _swap(self, at: int, used: int, tag: int) -> None:
        self._words[at + SLOT_VALUE : at + SLOT_TAG + 1] = memoryview(array("Q", (used, tag)))

    def _tag(self, entry: int, charge: Charge, phase: int) -> int:
        return tag_of(charge.window, self._lane, entry, charge.number, phase, charge.generation)

    def _slot(self, slot: int) -> int:
        return self._file.geometry.slot_word(slot)

    def _at(self, entry: int) -> int:
        return self._file.geometry.entry_word(self._lane, entry)

    # -- checks ------------------------------------------------------------------------------------------------------

    def _note(self, entry: int, amounts: tuple[int, int, int]) -> None:
        at = self._at(entry)
        self._words[at + ENTRY_REQUESTS] = amounts[REQUESTS]
        self._words[at + ENTRY_TOKENS] = amounts[TOKENS]
        self._words[at + ENTRY_NANO] = amounts[NANO]

    def _check_open(self) -> None:
        if self._lock is None:
            raise TableError("the lane is closed")

    def _check(self, entry: int) -> int:
        self._check_open()
        if not 0 <= entry < self._file.geometry.entries or self._words[self._at(entry)] == FREE:
            raise ValueError(f"entry {entry} is not in flight")
        return self._at(entry)

    def _check_take(
        self, entry: int, sets: tuple[Limits, ...], amounts: tuple[int, int, int], now: int, windows: Windows
    ) -> list[Limit]:
        self._check(entry)
        _check_amounts(amounts, now)
        if any(not 0 <= window <= WINDOW_MASK for window in windows):
            raise OverflowError(f"{windows} are not windows")
        if any(limits._top >= self._file.geometry.slots for limits in sets):
            raise IndexError(f"a rule's slot is beyond the table's {self._file.geometry.slots}")
        rules = [limit for limits in sets for limit in limits.limits]
        if self._counts[entry] + len(rules) > MAX_CHARGES:
            raise OverflowError(f"a call has at most {MAX_CHARGES} charges")
        return rules


def _as_words(data: bytes) -> memoryview:
    return memoryview(array("Q", data))


def _unsigned(*values: int) -> None:
    if any(not 0 <= value <= MASK for value in values):
        raise OverflowError("not an unsigned 64-bit integer")


def _check_amounts(amounts: tuple[int, int, int], now: int) -> None:
    if any(not 0 <= amount <= MAX_AMOUNT for amount in amounts):
        raise OverflowError(f"amounts {amounts} are not 0 to {MAX_AMOUNT}")
    if not 0 <= now < MAX_NS:
        raise OverflowError(f"{now} is not a time in monotonic nanoseconds")
