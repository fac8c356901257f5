"""What a dead worker leaves: reaped by both twins, and in the pure one after a kill at every single store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastgw._core import book_py, table_layout, table_py
from fastgw._core.table_layout import (
    CONCURRENT,
    DAY,
    MONTH,
    NANO,
    REQUESTS,
    TOKENS,
    Limit,
    Orphan,
    TableError,
    Totals,
)
from tests._core.book_support import WINDOWS, Killed, MortalWords, begin, concurrent, limits, rate, used, window
from tests._core.table_twins import NOW, TWINS, Core, level, loaded, make

TIMES = NOW, 1_800_000_000


@pytest.fixture(params=TWINS)
def core(request, tmp_path) -> Iterator[Core]:
    core = make(loaded(request.param), tmp_path / "table-v2.map", slots=256)
    yield core
    core.table.close()


def rows_of(core: Core) -> list[Limit]:
    return [
        concurrent(core, 9),
        rate(core, TOKENS, 10, 10_000),
        window(core, DAY, TOKENS, 10_000),
        window(core, MONTH, NANO, 10_000),
        window(core, DAY, REQUESTS, 100),
    ]


def left_behind(core: Core, rows: list[Limit]):
    """A lane that died with four calls: not sent, sent, recorded but not marked, marked."""
    lane = core.table.claim_lane()
    book, rules = lane.book(), (limits(core, *rows),)
    for n, name in enumerate([b"u" * 16, b"s" * 16, b"r" * 16, b"m" * 16]):
        entry = begin(book, name)
        assert book.take(entry, rules, 1, 100 + n, 200 + n, NOW, WINDOWS)[0] == -1
        if n:
            book.mark_sent(entry)
    book.mark_recorded(entry, 1, 30, 40)
    lane.abandon()
    return lane


def test_each_call_is_settled_by_what_is_known_of_it(core):
    rows, written = rows_of(core), []
    left_behind(core, rows)
    assert used(core, rows[0], *rows[2:]) == [4, 406, 806, 4]
    assert core.table.unreaped() == [0]
    asked = []

    def recorded(name: bytes):
        asked.append(name)
        return (50, 60) if name == b"r" * 16 else None

    orphans = core.table.reap(0, recorded, written.append)
    assert (
        orphans
        == written
        == [
            Orphan(b"u" * 16, "key-1", "model-1", *TIMES, 0, 0, False),
            Orphan(b"s" * 16, "key-1", "model-1", *TIMES, 101, 201, True),
        ]
    )
    assert asked == [b"u" * 16, b"s" * 16, b"r" * 16], "a marked call needs no look-up"
    assert used(core, rows[0], *rows[2:]) == [0, 101 + 50 + 30, 201 + 60 + 40, 3]
    assert level(core, core.rule(10, 10_000, rows[1].slot)) == 4060, "a rate heals by itself"
    assert core.table.unreaped() == []
    assert core.table.reap(0, recorded, written.append) == []
    lane = core.table.claim_lane()
    assert lane.index == 0
    assert lane.book().in_flight() == 0
    lane.close()


def test_a_lane_with_calls_in_flight_waits_for_the_reaper(core):
    left_behind(core, rows_of(core))
    others = [core.table.claim_lane() for _ in range(3)]
    assert [lane.index for lane in others] == [1, 2, 3]
    with pytest.raises(TableError, match=r"or have calls of a dead one \(1\); reap"):
        core.table.claim_lane()
    with pytest.raises(TableError, match="lane 1 is held"):
        core.table.reap(1, lambda _: None, print)
    with pytest.raises(IndexError):
        core.table.reap(4, lambda _: None, print)
    core.table.reap(0, lambda _: None, lambda _: None)
    assert core.table.claim_lane().index == 0
    for lane in others:
        lane.close()


def test_a_lane_closed_amid_a_call_is_reaped_too(core):
    lane = core.table.claim_lane()
    begin(lane.book(), b"c" * 16)
    lane.close()
    assert core.table.unreaped() == [0]
    assert [orphan.call_id for orphan in core.table.reap(0, lambda _: None, lambda _: None)] == [b"c" * 16]


def test_a_failed_write_is_tried_again(core):
    rows, written = rows_of(core), []
    left_behind(core, rows)

    def full(orphan: Orphan) -> None:
        raise OSError("no room")

    for _ in range(2):
        with pytest.raises(OSError, match="no room"):
            core.table.reap(0, lambda _: None, full)
    core.table.reap(0, lambda _: None, written.append)
    assert [orphan.call_id[:1] for orphan in written] == [b"u", b"s", b"r"]
    assert used(core, rows[0], *rows[2:]) == [0, 101 + 102 + 30, 201 + 202 + 40, 3]


def test_a_replay_brings_the_totals_up_to_the_records(core):
    lane = core.table.claim_lane()
    lane.book().commit_totals(1, 500, 10, 20, 30)
    added = Totals(2, 700, 3, 1, 2, 3)
    with pytest.raises(TableError, match="lane 0 is held"):
        core.table.replay(0, added)
    lane.abandon()
    core.table.replay(0, added)
    assert core.table.lane_totals(0) == (2, 700, 4, 11, 22, 33)
    assert core.table.totals() == (4, 11, 22, 33)


def test_after_a_boot_concurrency_is_free_and_budgets_are_as_they_were(core):
    rows = rows_of(core)
    left_behind(core, rows)
    core.table.close()
    again = core.module.Table.open(core.path, create=False, boot_id=b"another boot id.")
    assert [again.used(row.slot, WINDOWS) for row in (rows[0], *rows[2:])] == [0, 406, 806, 4]
    lane = again.claim_lane()
    assert lane.index == 1
    entry = begin(lane.book())
    lane.book().take(entry, (limits(core, rows[0]),), 1, 0, 0, NOW, WINDOWS)
    again.reap(0, lambda _: (7, 8), lambda _: None)
    assert again.used(rows[0].slot, WINDOWS) == 1, "what the dead held was forgotten, what the living holds was not"
    assert [again.used(row.slot, WINDOWS) for row in rows[2:]] == [7 * 3 + 30, 8 * 3 + 40, 4]
    lane.book().end(entry)
    lane.close()
    again.close()


# -- a kill at every store, in the pure twin: its stores are the native one's ------------------------------------------


class Node:
    """A table with a worker that lives (lane 0) and one that dies (lane 1); records are what the log says."""

    def __init__(self, path: Path) -> None:
        self.core = make(table_py, path, slots=64, entries=4, counters=8)
        self.call = [
            concurrent(self.core, 9),
            window(self.core, DAY, TOKENS, 10**6),
            window(self.core, MONTH, NANO, 10**6),
        ]
        self.target = [concurrent(self.core, 9), window(self.core, DAY, REQUESTS, 5)]
        self.full = window(self.core, DAY, REQUESTS, 0)
        self.living, self.dying = self.core.table.claim_lane().book(), self.core.table.claim_lane()
        self.book = self.dying.book()
        self.log: dict[bytes, tuple[int, int, int]] = {}
        self.position = 0
        self.lived = begin(self.living, b"L" * 16)
        self.taken = 0
        self.intrude()

    def intrude(self) -> None:
        """The living worker settles and takes at every slot, or the other way round: no tag of the dying one stays."""
        rules = (limits(self.core, *self.call, *self.target),)
        self.taken += 1
        if self.taken % 2:
            assert self.living.take(self.lived, rules, 1, 1000, 1000, NOW, WINDOWS)[0] == -1
        self.living.settle(self.lived, 0, 0, 0, 0, NOW)
        assert self.living.take(self.lived, rules, 1, 1000, 1000, NOW, WINDOWS)[0] == -1

    def a_call(self, intrude) -> None:
        book, table = self.book, (limits(self.core, *self.call), limits(self.core, *self.target))
        entry = begin(book, b"D" * 16)
        assert book.take(entry, (*table, limits(self.core, self.full)), 1, 70, 80, NOW, WINDOWS)[0] == 5
        book.take(entry, table[:1], 1, 70, 80, NOW, WINDOWS)
        intrude()
        first = book.charges(entry)
        book.take(entry, table[1:], 1, 70, 80, NOW, WINDOWS)
        book.mark_sent(entry)
        intrude()
        book.settle(entry, first, 0, 0, 0, NOW)
        book.take(entry, table[1:], 1, 70, 80, NOW, WINDOWS)
        self.log[b"D" * 16] = 1, 50, 95
        book.commit_totals(1, 1, 20, 30, 95)
        book.mark_recorded(entry, 1, 50, 95)
        intrude()
        book.settle(entry, 0, 1, 50, 95, NOW)
        book.end(entry)

    def write(self, orphan: Orphan) -> None:
        assert orphan.call_id not in self.log, "a call has one record"
        self.log[orphan.call_id] = int(orphan.sent), orphan.tokens, orphan.nano

    def recorded(self, name: bytes):
        return self.log[name][1:] if name in self.log else None

    def reap(self, heir: book_py.Book) -> None:
        self.core.table._file.reap(heir, 1, self.recorded, self.write)

    def check(self, why: object) -> None:
        self.living.settle(self.lived, 0, 0, 0, 0, NOW)
        requests, tokens, nano = self.log.get(b"D" * 16, (0, 0, 0))
        assert used(self.core, *self.call) == [0, tokens, nano], why
        concurrency, target = used(self.core, *self.target)
        assert concurrency == 0, why
        assert target in ({requests} if tokens != 70 else {0, 1}), why
        assert used(self.core, self.full) == [0], why
        assert self.core.table.unreaped() == [], why
        self.core.table.close()


def killed_at(node: Node, stores: int, intrude: bool) -> bool:
    """Whether the worker died at that store rather than come to the end of its call."""
    node.book._words = MortalWords(node.book._words, stores)
    file_words = node.core.table._file.words
    try:
        node.a_call(node.intrude if intrude else lambda: None)
    except Killed:
        return True
    finally:
        node.core.table._file.words = file_words
        node.dying.abandon()
    return False


@pytest.mark.parametrize("intrude", [False, True], ids=["alone", "amid others"])
def test_a_kill_at_any_store_leaves_what_the_records_say(tmp_path, intrude):
    died, stores = True, 0
    while died:
        node = Node(tmp_path / f"{stores}")
        died = killed_at(node, stores, intrude)
        if stores % 2:
            node.intrude()
        node.reap(book_py.Book(node.core.table._file, 1, None))
        node.check(stores)
        stores += 1
    assert stores > 100


@pytest.mark.parametrize("intrude", [False, True], ids=["alone", "amid others"])
def test_a_reaper_killed_at_any_store_is_followed_by_another(tmp_path, intrude):
    for stores in range(3, 200, 4):
        reaper_stores = 0
        while True:
            node = Node(tmp_path / f"{stores}-{reaper_stores}")
            if not killed_at(node, stores, intrude):
                break
            heir, words = book_py.Book(node.core.table._file, 1, None), node.core.table._file.words
            heir._words = node.core.table._file.words = MortalWords(words, reaper_stores)
            try:
                node.reap(heir)
                finished = True
            except Killed:
                finished = False
            node.core.table._file.words = words
            if not finished:
                node.intrude()
                node.reap(book_py.Book(node.core.table._file, 1, None))
            node.check((stores, reaper_stores))
            if finished:
                break
            reaper_stores += 3
    assert CONCURRENT in table_layout.BOOT_KINDS


def test_a_kill_amid_the_totals_counts_a_record_whole_or_not(tmp_path):
    for stores in range(8):
        core = make(table_py, tmp_path / f"{stores}", slots=8, entries=1, counters=8)
        lane = core.table.claim_lane()
        book = lane.book()
        for n in range(1, 4):
            book.commit_totals(1, n, 10, 20, 30)
        book._words = MortalWords(book._words, stores)
        try:
            book.commit_totals(1, 4, 10, 20, 30)
        except Killed:
            assert core.table.lane_totals(0) == (1, 3, 3, 30, 60, 90), stores
        else:
            assert core.table.lane_totals(0) == (1, 4, 4, 40, 80, 120), stores
        lane.close()
        core.table.close()
    assert stores == 7
