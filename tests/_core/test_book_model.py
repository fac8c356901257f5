"""Calls in flight against a simple model, in both twins, and the twins against each other, byte for byte."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastgw._core.table_layout import CONCURRENT, DAY, HOUR, MAX_CHARGES, NANO, REQUESTS, TOKENS, TOTAL, Limit, Orphan
from tests._core.book_support import begin, call_id, limits, rate
from tests._core.table_twins import NOW, TWINS, Core, loaded, make

KINDS = [(CONCURRENT, REQUESTS), (HOUR, REQUESTS), (HOUR, TOKENS), (DAY, TOKENS), (TOTAL, NANO)]
START = 490_000
amounts = st.integers(0, 50)


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


class Calls(RuleBasedStateMachine):
    """A worker, its calls, the hours, reloads and deaths."""

    core: Core

    @initialize(data=st.data())
    def start(self, data) -> None:
        bounds = data.draw(st.lists(st.integers(0, 120), min_size=len(KINDS), max_size=len(KINDS)))
        soft = data.draw(st.integers(0, len(KINDS)))
        self.model = Model(
            [
                Limit(self.core.slot(kind), kind, unit, bound, soft=n == soft and kind != CONCURRENT)
                for n, ((kind, unit), bound) in enumerate(zip(KINDS, bounds, strict=True))
            ]
        )
        self.lane, self.orphans = self.core.table.claim_lane(), 0
        self.book, self.names, self.state = self.lane.book(), {}, {}

    @precondition(lambda self: len(self.names) < 16)
    @rule()
    def begin(self) -> None:
        name = call_id()
        entry = begin(self.book, name)
        assert entry not in self.names
        self.names[entry], self.state[entry], self.model.charges[entry] = name, "open", []

    @precondition(lambda self: self.names)
    @rule(data=st.data(), tokens=amounts, nano=amounts)
    def take(self, data, tokens, nano) -> None:
        entry = data.draw(st.sampled_from(sorted(self.names)))
        picked = data.draw(st.lists(st.sampled_from(self.model.rows), max_size=4))
        if len(self.model.charges[entry]) + len(picked) > MAX_CHARGES:
            return
        cut = data.draw(st.integers(0, len(picked)))
        sets = limits(self.core, *picked[:cut]), limits(self.core, *picked[cut:])
        told = self.book.take(entry, sets, 1, tokens, nano, NOW, self.model.windows)
        assert told[0] == self.model.take(entry, picked, (1, tokens, nano))
        assert self.book.charges(entry) == len(self.model.charges[entry])
        self.state[entry] = self.state[entry] if self.state[entry] != "open" else (tokens, nano)

    @precondition(lambda self: self.names)
    @rule(data=st.data(), requests=st.integers(0, 1), tokens=amounts, nano=amounts)
    def settle(self, data, requests, tokens, nano) -> None:
        entry = data.draw(st.sampled_from(sorted(self.names)))
        first = data.draw(st.integers(0, len(self.model.charges[entry])))
        self.book.settle(entry, first, requests, tokens, nano, NOW)
        self.model.settle(entry, first, (requests, tokens, nano))

    @precondition(lambda self: self.names)
    @rule(data=st.data())
    def end(self, data) -> None:
        entry = data.draw(st.sampled_from(sorted(self.names)))
        self.book.end(entry)
        self.model.settle(entry, 0, None)
        del self.names[entry]

    @rule(hours=st.sampled_from([1, 1, 23, 48, -1, -1, -2, -30]))
    def clock(self, hours) -> None:
        self.model.hour = max(self.model.hour + hours, START - 100)

    @rule(data=st.data(), bound=st.integers(0, 120))
    def reload(self, data, bound) -> None:
        place = data.draw(st.integers(0, len(KINDS) - 1))
        self.model.rows[place] = self.model.rows[place]._replace(limit=bound)

    @rule(data=st.data(), tokens=amounts, nano=amounts)
    def die(self, data, tokens, nano) -> None:
        """Some calls were sent, some have a record; the rest is refunded. Another worker goes on."""
        fates = {entry: data.draw(st.sampled_from(["unsent", "sent", "marked", "recorded"])) for entry in self.names}
        for entry, fate in fates.items():
            if fate != "unsent":
                self.book.mark_sent(entry)
            if fate == "marked":
                self.book.mark_recorded(entry, 1, tokens, nano)
        self.lane.abandon()
        recorded = {self.names[entry] for entry, fate in fates.items() if fate == "recorded"}
        written: list[Orphan] = []
        self.core.table.reap(self.lane.index, lambda name: (tokens, nano) if name in recorded else None, written.append)
        assert {orphan.call_id: orphan.sent for orphan in written} == {
            self.names[entry]: fate == "sent" for entry, fate in fates.items() if fate in ("unsent", "sent")
        }
        for entry, fate in sorted(fates.items()):
            figures = {"unsent": (0, 0, 0), "sent": None}.get(fate, (1, tokens, nano))
            self.model.settle(entry, 0, figures)
        self.names.clear()
        self.lane = self.core.table.claim_lane()
        self.book = self.lane.book()

    @invariant()
    def counts(self) -> None:
        for row in self.model.rows if hasattr(self, "model") else ():
            assert self.core.table.used(row.slot, self.model.windows) == self.model.used(row)[1]

    def teardown(self) -> None:
        if hasattr(self, "lane"):
            for entry in self.names:
                self.book.end(entry)
            self.lane.close()


@pytest.mark.parametrize("twin", TWINS)
def test_it_counts_as_the_model_does(twin, tmp_path):
    core = make(loaded(twin), tmp_path / "table-v2.map", slots=1 << 15)
    machine = type("Machine", (Calls,), {"core": core})
    machine.TestCase.settings = settings(deadline=None, max_examples=200, stateful_step_count=50)
    try:
        machine.TestCase().runTest()
    finally:
        core.table.close()


steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["take", "take", "take", "settle", "settle", "begin", "sent", "recorded", "totals", "end", "die"]
        ),
        st.integers(0, 1),
        st.lists(st.integers(0, 5), max_size=3),
        st.tuples(st.integers(0, 3), st.one_of(st.integers(0, 90), st.integers(0, 2**62)), st.integers(0, 90)),
        st.integers(0, 30),
        st.integers(-2, 2),
    ),
    min_size=20,
    max_size=60,
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


@given(steps=steps, soft=st.integers(0, 12), bound=st.integers(0, 200))
@settings(deadline=None, max_examples=200)
def test_the_twins_write_the_same_bytes(tmp_path_factory, steps, soft, bound):
    directory: Path = tmp_path_factory.mktemp("pair")
    cores = [make(loaded(twin), directory / twin, slots=32, lanes=2, counters=8, entries=4) for twin in TWINS]
    seen = [Rowed(core, soft, bound) for core in cores]
    for core, (n, row) in itertools.product(seen, enumerate(seen[0].rows)):
        core.rows[n] = core.rows[n]._replace(slot=n)
        assert row.kind == core.rows[n].kind
    now, hour = NOW, START
    for core in seen:
        for name in (b"a" * 16, b"b" * 16):
            begin(core.lane.book(), name)
    for step in steps:
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
