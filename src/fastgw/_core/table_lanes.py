"""The lanes of the shared table's file: claimed by workers, summed up, reaped when these are dead. Cold paths."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from fastgw._core.table_layout import (
    CHARGE_STATUS,
    CHARGE_WHAT,
    CHARGE_WORDS,
    CONCURRENT,
    DONE,
    ENTRY_CHARGES,
    ENTRY_KEY,
    ENTRY_MODEL,
    ENTRY_STATE,
    ENTRY_WORDS,
    FREE,
    JOURNAL_WORD,
    LANE_BEAT,
    LANE_BOOK,
    LANE_FLIPS,
    LANE_GENERATION,
    LANE_HIGH,
    LANE_PID,
    LANE_START,
    LANE_TOTALS,
    MASK,
    MAX_CHARGES,
    OPEN,
    RECORDED,
    TOTALS_WORDS,
    WORD,
    LaneInfo,
    Orphan,
    TableError,
    Totals,
)
from fastgw._core.table_lock import LaneLock, is_locked, reopen, try_lock, unlock
from fastgw._core.table_slots import SlotFile

Recorded = Callable[[bytes], tuple[int, int] | None]
"""From a call id to the tokens and nano-dollars its record says, None when there is no record."""


class Heir(Protocol):
    """What ``Book`` of either twin can do for a dead owner."""

    def recover(self, entry: int, requests: int, tokens: int, nano: int, keep: bool) -> None: ...

    def add_totals(self, added: Sequence[int]) -> None: ...


class LaneFile(SlotFile):
    """A mapped file with its slots and lanes."""

    # -- claims ------------------------------------------------------------------------------------------------------

    def claim_lane(self, now_ns: int) -> tuple[int, int, LaneLock]:
        """Index, generation and lock of the first free lane, its last owner's counters folded away.

        A lane in which a dead worker's calls may be in flight is not free: it waits for ``reap``.
        """
        fd = reopen(self.lock.fd)
        lock = LaneLock(fd)
        lane = self._lock_free_lane(fd)
        base = self.geometry.lane_word(lane)
        self.allocate(self.geometry.stripe_word(lane), self.geometry.stripe_words)
        with self.lock:
            self._mend_fold()
            self._fold(lane)
            self.words[base + LANE_GENERATION] += 1
            self.words[base + LANE_START] = self.words[base + LANE_BEAT] = now_ns
            self.words[base + LANE_PID] = os.getpid()
        return lane, self.words[base + LANE_GENERATION], lock

    def _lock_free_lane(self, fd: int) -> int:
        unreaped = 0
        for lane in range(self.geometry.lanes):
            start = self.geometry.lane_word(lane) * WORD
            if not try_lock(fd, start):
                continue
            if not self.words[self.geometry.lane_word(lane) + LANE_BOOK]:
                return lane
            unlock(fd, start)
            unreaped += 1
        said = f"{self.path}: all {self.geometry.lanes} lanes are held by live workers"
        if unreaped:
            raise TableError(f"{said}, or have calls of a dead one ({unreaped}); reap these, or restart the gateway")
        raise TableError(f"{said}; run fewer workers")

    def lane_info(self, lane: int) -> LaneInfo:
        """What is known of a lane. Raises ``IndexError`` beyond the last."""
        base = self._lane(lane)
        pid, start, beat, generation = self.words[base : base + 4].tolist()
        return LaneInfo(pid, start, beat, generation, is_locked(self.lock.fd, base * WORD))

    def allocate_entries(self, lane: int) -> None:
        """Give a lane's entries their disk."""
        self.allocate(self.geometry.entry_word(lane, 0), self.geometry.entries_words)

    def _lane(self, lane: int) -> int:
        if not 0 <= lane < self.geometry.lanes:
            raise IndexError(f"no lane {lane}")
        return self.geometry.lane_word(lane)

    # -- counters ----------------------------------------------------------------------------------------------------

    def _fold(self, lane: int) -> None:
        """Move a dead lane's counters into the retired stripe; the journal makes each move safe against a kill."""
        words, retired = self.words, self.geometry.stripe_word(self.geometry.lanes)
        stripe = self.geometry.stripe_word(lane)
        words[JOURNAL_WORD] = lane
        for counter, value in enumerate(words[stripe : stripe + self.geometry.counters].tolist()):
            if value:
                words[JOURNAL_WORD + 2] = (words[retired + counter] + value) & MASK
                words[JOURNAL_WORD + 1] = counter + 1
                self._mend_fold()

    def _mend_fold(self) -> None:
        """Finish the move the journal names, if any: the same stores again, whoever began them."""
        words, geometry = self.words, self.geometry
        lane, mark, total = words[JOURNAL_WORD : JOURNAL_WORD + 3].tolist()
        if 1 <= mark <= geometry.counters and lane < geometry.lanes:
            words[geometry.stripe_word(geometry.lanes) + mark - 1] = total
            words[geometry.stripe_word(lane) + mark - 1] = 0
        words[JOURNAL_WORD + 1] = 0

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

    # -- totals ------------------------------------------------------------------------------------------------------

    def lane_totals(self, lane: int) -> Totals:
        """What a lane's records add up to, those of its earlier owners included. Raises ``IndexError``."""
        base = self._lane(lane)
        while True:
            flips = self.words[base + LANE_FLIPS]
            block = base + LANE_TOTALS + (flips & 1) * TOTALS_WORDS
            figures = self.words[block : block + len(Totals._fields)].tolist()
            if self.words[base + LANE_FLIPS] == flips:
                return Totals(*figures)

    def totals(self) -> tuple[int, int, int, int]:
        """Records, input tokens, output tokens and nano-dollars of all lanes."""
        lanes = [self.lane_totals(lane)[2:] for lane in range(self.geometry.lanes)]
        records, read, written, cost = (sum(column) & MASK for column in zip(*lanes, strict=True))
        return records, read, written, cost

    # -- what the dead leave -----------------------------------------------------------------------------------------

    def unreaped(self) -> list[int]:
        """Lanes without an owner in which calls may be in flight."""
        bases = ((lane, self.geometry.lane_word(lane)) for lane in range(self.geometry.lanes))
        return [lane for lane, at in bases if self.words[at + LANE_BOOK] and not is_locked(self.lock.fd, at * WORD)]

    @contextmanager
    def _inherit(self, lane: int) -> Iterator[None]:
        """Hold a dead owner's lane meanwhile."""
        base = self._lane(lane)
        lock = LaneLock(reopen(self.lock.fd))
        try:
            if not try_lock(lock.fd, base * WORD):
                raise TableError(f"{self.path}: lane {lane} is held; only a dead worker's can be reaped")
            yield
        finally:
            lock.close()

    def replay(self, heir: Heir, lane: int, added: Sequence[int]) -> None:
        """Add to a dead owner's totals the records it did not count."""
        with self._inherit(lane):
            heir.add_totals(added)

    def reap(self, heir: Heir, lane: int, recorded: Recorded, write: Callable[[Orphan], None]) -> list[Orphan]:
        """Finish a dead owner's calls and free its lane: see ``Table.reap``."""
        orphans: list[Orphan] = []
        with self._inherit(lane):
            base = self.geometry.lane_word(lane)
            for entry in self._in_flight(lane):
                orphan = self._recover(heir, lane, entry, recorded)
                if orphan is not None:
                    write(orphan)
                    orphans.append(orphan)
                self.words[self.geometry.entry_word(lane, entry) + ENTRY_STATE] = FREE
            self.words[base + LANE_PID] = 0
            self.words[base + LANE_BOOK] = 0
        return orphans

    def _in_flight(self, lane: int) -> list[int]:
        first = self.geometry.entry_word(lane, 0)
        high = min(self.words[self.geometry.lane_word(lane) + LANE_HIGH], self.geometry.entries)
        states = self.words[first : first + high * ENTRY_WORDS : ENTRY_WORDS].tolist()
        return [entry for entry, state in enumerate(states) if state != FREE]

    def _recover(self, heir: Heir, lane: int, entry: int, recorded: Recorded) -> Orphan | None:
        at = self.geometry.entry_word(lane, entry)
        state, *call, start, epoch, tokens, nano, requests = self.words[at : at + ENTRY_KEY].tolist()
        call_id = call[0].to_bytes(WORD, sys.byteorder) + call[1].to_bytes(WORD, sys.byteorder)
        if state == RECORDED:
            heir.recover(entry, requests, tokens, nano, False)
            return None
        found = recorded(call_id)
        if found is not None:
            heir.recover(entry, 1, *found, False)
            return None
        sent = state != OPEN
        heir.recover(entry, 0, 0, 0, sent)
        key, model = self._text(at + ENTRY_KEY), self._text(at + ENTRY_MODEL)
        return Orphan(call_id, key, model, start, epoch, tokens if sent else 0, nano if sent else 0, sent)

    def _text(self, at: int) -> str:
        return self.words[at : at + ENTRY_MODEL - ENTRY_KEY].tobytes().rstrip(b"\0").decode(errors="ignore")

    def forget_concurrency(self) -> None:
        """Before concurrency is zeroed: what calls in flight hold of it need not be released any more."""
        for lane in range(self.geometry.lanes):
            for entry in self._in_flight(lane):
                at = self.geometry.entry_word(lane, entry) + ENTRY_CHARGES
                for charge in range(at, at + MAX_CHARGES * CHARGE_WORDS, CHARGE_WORDS):
                    if self.words[charge + CHARGE_WHAT] >> 24 & 255 == CONCURRENT:
                        self.words[charge + CHARGE_STATUS] = self.words[charge + CHARGE_STATUS] & ~255 | DONE


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word
