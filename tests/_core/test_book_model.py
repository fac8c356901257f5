"""Calls in flight against a simple model, in both twins, and the twins against each other, byte for byte."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastgw._core.table_layout import CONCURRENT, DAY, HOUR, MAX_CHARGES, NANO, REQUESTS, TOKENS, TOTAL, Limit, Orphan
from tests._core.book_support import begin, call_id, limits, rate
from tests._core.table_twins import NOW, TWINS, Core, loaded, make

KINDS = [(CONCURRENT, REQUESTS), (HOUR, REQUESTS), (HOUR, TOKENS), (DAY, TOKENS), (TOTAL, NANO)]
START = 490_000


class Model:
    """What the slots have counted: {slot: [window, used]}, and each entry's charges."""

    def __init__(self, rows: list[Limit]) -> None:
        self.rows, self.hour = rows, START
        self.slots = {row.slot: [0, 0] for row in rows}
        self.charges: dict[int, list[tuple[Limit, int, int]]] = {}

    @property
    def windows(self) -> tuple[int, int, int]:
        return self.hour, self.hour // 24, 24_000

    def window(self, row: Limit) -> int:
        return {HOUR: self.windows[0], DAY: self.windows[1]}.get(row.kind, 0)

    def used(self, row: Limit) -> tuple[int, int]:
        """The window a call counts into and what is used in it."""
        stored, used = self.slots[row.slot]
        return (stored, used) if stored in (self.window(row), self.window(row) + 1) else (self.window(row), 0)

    def take(self, entry: int, picked: list[Limit], figures: tuple[int, int, int]) -> int:
        taken = []
        for place, row in enumerate(picked):
            amount = 1 if row.kind == CONCURRENT else figures[row.unit]
            window, used = self.used(row)
            if used + amount > row.limit and not row.soft:
                for charge in taken:
                    self.settle_one(*charge, 0)
                return place
            if amount:
                self.slots[row.slot] = [window, used + amount]
            taken.append((row, amount, window))
        self.charges[entry] += taken
        return -1

    def settle_one(self, row: Limit, amount: int, window: int, actual: int) -> None:
        slot = self.slots[row.slot]
        if slot[0] == window:
            slot[1] = max(slot[1] + actual - amount, 0)

    def settle(self, entry: int, first: int, figures: tuple[int, int, int] | None) -> None:
        """``None`` keeps what was charged."""
        for row, amount, window in self.charges[entry][first:]:
            kept = amount if figures is None else figures[row.unit]
            self.settle_one(row, amount, window, 0 if row.kind == CONCURRENT else kept)
        del self.charges[entry][first:]


class Calls:
    """A worker, its calls, the hours, reloads and deaths, as a random source has them."""

    def __init__(self, core: Core, chance: random.Random) -> None:
        self.core, self.chance = core, chance
        soft = chance.randrange(len(KINDS) + 1)
        self.model = Model(
            [
                Limit(core.slot(kind), kind, unit, chance.randrange(300), soft=n == soft and kind != CONCURRENT)
                for n, (kind, unit) in enumerate(KINDS)
            ]
        )
        self.lane = core.table.claim_lane()
        self.book, self.names = self.lane.book(), {}

    def figures(self) -> tuple[int, int, int]:
        return self.chance.randrange(2), self.chance.choice([0, self.chance.randrange(50)]), self.chance.randrange(50)

    def step(self) -> None:
        name = self.chance.choice(["begin", *["take"] * 4, *["settle"] * 3, "end", "clock", "reload", "die"])
        if name in ("begin", "clock", "reload") or (name == "die" and not self.chance.randrange(5)):
            getattr(self, name)()
        elif name != "die" and self.names:
            getattr(self, name)(self.chance.choice(sorted(self.names)))
        for row in self.model.rows:
            assert self.core.table.used(row.slot, self.model.windows) == self.model.used(row)[1], name

    def begin(self) -> None:
        name = call_id()
        entry = begin(self.book, name)
        assert (entry < 0) == (len(self.names) == self.core.table.entries)
        if entry >= 0:
            assert entry not in self.names
            self.names[entry], self.model.charges[entry] = name, []

    def take(self, entry: int) -> None:
        picked = self.chance.choices(self.model.rows, k=self.chance.randrange(5))
        if len(self.model.charges[entry]) + len(picked) > MAX_CHARGES:
            return
        cut, figures = self.chance.randrange(len(picked) + 1), self.figures()
        sets = limits(self.core, *picked[:cut]), limits(self.core, *picked[cut:])
        told = self.book.take(entry, sets, *figures, NOW, self.model.windows)
        assert told[0] == self.model.take(entry, picked, figures)
        assert self.book.charges(entry) == len(self.model.charges[entry])

    def settle(self, entry: int) -> None:
        first, figures = self.chance.randrange(len(self.model.charges[entry]) + 1), self.figures()
        self.book.settle(entry, first, *figures, NOW)
        self.model.settle(entry, first, figures)

    def end(self, entry: int) -> None:
        self.book.end(entry)
        self.model.settle(entry, 0, None)
        del self.names[entry]

    def clock(self) -> None:
        self.model.hour += self.chance.choice([1, 1, 1, 1, 23, 48, -1, -1, -2, -30])

    def reload(self) -> None:
        place = self.chance.randrange(len(KINDS))
        self.model.rows[place] = self.model.rows[place]._replace(limit=self.chance.randrange(300))

    def die(self) -> None:
        """Some calls were sent, some have a record; the rest is refunded. Another worker goes on."""
        fates = {entry: self.chance.choice(["unsent", "sent", "marked", "recorded"]) for entry in self.names}
        _, tokens, nano = self.figures()
        for entry, fate in fates.items():
            if fate != "unsent":
                self.book.mark_sent(entry)
            if fate == "marked":
                self.book.mark_recorded(entry, 1, tokens, nano)
        self.lane.abandon()
        recorded = {self.names[entry] for entry, fate in fates.items() if fate == "recorded"}
        written: list[Orphan] = []
        reap, lane = self.core.table.reap, self.lane.index
        reap(lane, lambda name: (tokens, nano) if name in recorded else None, written.append)
        assert {orphan.call_id: orphan.sent for orphan in written} == {
            self.names[entry]: fate == "sent" for entry, fate in fates.items() if fate in ("unsent", "sent")
        }
        for entry, fate in sorted(fates.items()):
            self.model.settle(entry, 0, {"unsent": (0, 0, 0), "sent": None}.get(fate, (1, tokens, nano)))
        self.names.clear()
        self.lane = self.core.table.claim_lane()
        self.book = self.lane.book()

    def close(self) -> None:
        for entry in self.names:
            self.book.end(entry)
        self.lane.close()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("twin", TWINS)
def test_it_counts_as_the_model_does(twin, seed, tmp_path):
    core = make(loaded(twin), tmp_path / "table-v2.map", slots=64)
    for n in range(5):
        calls = Calls(core, random.Random(seed * 10 + n))
        for _ in range(300):
            calls.step()
        calls.close()
    core.table.close()


NAMES = ["take", "take", "take", "settle", "settle", "begin", "sent", "recorded", "totals", "end", "die"]


def steps_of(chance: random.Random) -> Iterator[tuple]:
    """Step, entry, rules, amounts, pause (ns), hours gone."""
    for _ in range(chance.randrange(10, 80)):
        tokens = chance.choice([chance.randrange(60), chance.randrange(60), chance.randrange(2**62)])
        figures = chance.randrange(3), tokens, chance.randrange(60)
        picked = [chance.randrange(6) for _ in range(chance.randrange(4))]
        yield (
            chance.choice(NAMES),
            chance.randrange(2),
            picked,
            figures,
            chance.randrange(30),
            chance.choice([0, 0, 1, -1, -2, 2]),
        )


def one_step(core: Core, book, step, now: int, windows) -> object:
    name, entry, picked, figures, _, _ = step
    try:
        if name == "begin":
            return begin(book, bytes([entry + 1]) * 16)
        if name == "take":
            return book.take(entry, (limits(core, *(core.rows[n] for n in picked)),), *figures, now, windows)
        if name == "settle":
            return book.settle(entry, max(book.charges(entry) - len(picked), 0), *figures, now)
        if name == "totals":
            return book.commit_totals(*figures, entry, now)
        if name == "recorded":
            return book.mark_recorded(entry, *figures)
        return {"end": book.end, "sent": book.mark_sent}[name](entry)
    except (ValueError, OverflowError) as error:
        return str(error)


class Rowed:
    """A core with rules."""

    def __init__(self, core: Core, soft: int, bound: int) -> None:
        self.module, self.table = core.module, core.table
        first = rate(core, TOKENS, 7, bound + 1, soft=soft == 0), rate(core, REQUESTS, 10**9, 3)
        rest = [
            Limit(core.slot(kind), kind, unit, bound, soft=soft == n) for n, (kind, unit) in enumerate(KINDS[:4], 2)
        ]
        self.rows = [*first, *rest]
        self.lane = core.table.claim_lane()

    def die(self) -> object:
        self.lane.abandon()
        written: list[Orphan] = []
        self.table.reap(self.lane.index, lambda name: (5, 6) if name[0] % 2 else None, written.append)
        self.lane = self.table.claim_lane()
        return written


@pytest.mark.parametrize("seed", range(20))
def test_the_twins_write_the_same_bytes(tmp_path_factory, seed):
    for n in range(10):
        the_same_bytes(tmp_path_factory, random.Random(seed * 10 + n))


def the_same_bytes(tmp_path_factory, chance: random.Random) -> None:
    directory: Path = tmp_path_factory.mktemp("pair")
    cores = [make(loaded(twin), directory / twin, slots=32, lanes=2, counters=8, entries=4) for twin in TWINS]
    soft, bound = chance.randrange(12), chance.randrange(200)
    seen = [Rowed(core, soft, bound) for core in cores]
    for core, (n, row) in itertools.product(seen, enumerate(seen[0].rows)):
        core.rows[n] = core.rows[n]._replace(slot=n)
        assert row.kind == core.rows[n].kind
    now, hour = NOW, START
    for core in seen:
        for name in (b"a" * 16, b"b" * 16):
            begin(core.lane.book(), name)
    for step in steps_of(chance):
        now, hour = now + step[4], hour + step[5]
        windows = hour, hour // 24, 24_000
        if step[0] == "die":
            told = [core.die() for core in seen]
        else:
            told = [one_step(core, core.lane.book(), step, now, windows) for core in seen]
        assert told[0] == told[1], step
    files = [bytearray(Path(core.path).read_bytes()) for core in cores]
    directory_word, slots_word = cores[0].geometry.directory_word * 8, cores[0].geometry.slots_word * 8
    for core, data in zip(seen, files, strict=True):
        # The directories and ids differ: every table of these tests has its own names.
        data[directory_word:slots_word] = b""
        for n in range(32):
            at = directory_word + n * 64
            data[at : at + 16] = bytes(16)
        core.lane.close()
    assert files[0] == files[1]
    for core in cores:
        core.table.close()
