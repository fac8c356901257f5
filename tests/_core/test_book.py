"""Calls in flight, both twins: what is taken, settled, refused and noted, and where it lies in the file."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastgw._core import table_layout as layout
from fastgw._core.table_layout import (
    CALENDAR,
    DAY,
    HOUR,
    MAX_AMOUNT,
    MONTH,
    NANO,
    NEVER,
    RATE,
    REQUESTS,
    TOKENS,
    TOTAL,
    Limit,
)
from tests._core.book_support import WINDOWS, begin, call_id, concurrent, limits, rate, used, window
from tests._core.table_twins import NOW, SECOND, TWINS, Core, level, loaded, make

PASSED = (-1, 0, 0)
NONE = (-1, 0, 0)


@pytest.fixture(params=TWINS)
def core(request, tmp_path) -> Iterator[Core]:
    core = make(loaded(request.param), tmp_path / "table-v2.map", slots=256)
    yield core
    core.table.close()


@pytest.fixture
def book(core):
    lane = core.table.claim_lane()
    yield lane.book()
    lane.close()


def take(book, entry, rules, requests=1, tokens=0, nano=0, now=NOW, windows=WINDOWS):
    return book.take(entry, (rules,), requests, tokens, nano, now, windows)


# -- windows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [HOUR, DAY, MONTH, TOTAL])
def test_a_window_counts_to_its_limit_and_no_further(core, book, kind):
    row = window(core, kind, TOKENS, 1000)
    rules, entry = limits(core, row), begin(book)
    assert take(book, entry, rules, tokens=600) == (*PASSED, *NONE, 0, 400, CALENDAR, 0)
    assert take(book, entry, rules, tokens=401) == (0, CALENDAR, 600, *NONE, 0, 400, CALENDAR, 0)
    assert take(book, entry, rules, tokens=400) == (*PASSED, *NONE, 0, 0, CALENDAR, 0)
    assert take(book, entry, rules, tokens=0) == (*PASSED, *NONE, 0, 0, CALENDAR, 0)
    assert used(core, row) == [1000]
    book.end(entry)
    assert used(core, row) == [1000]


@pytest.mark.parametrize("kind", [HOUR, DAY, MONTH])
def test_the_next_window_begins_at_zero(core, book, kind):
    row = window(core, kind, REQUESTS, 2)
    rules, entry = limits(core, row), begin(book)
    later = tuple(index + 1 for index in WINDOWS)
    assert [take(book, entry, rules)[0] for _ in range(3)] == [-1, -1, 0]
    assert [take(book, entry, rules, windows=later)[0] for _ in range(3)] == [-1, -1, 0]
    assert used(core, row, windows=later) == [2]
    assert used(core, row) == [2], "a clock one window behind sees the present one"


def test_a_total_never_begins_anew(core, book):
    row = window(core, TOTAL, NANO, 10)
    rules, entry = limits(core, row), begin(book)
    assert take(book, entry, rules, nano=7)[0] == -1
    assert take(book, entry, rules, nano=4, windows=(1_000_000, 500_000, 400_000)) == (0, CALENDAR, 7, *NONE, *NONE, 0)
    assert used(core, row, windows=(0, 0, 0)) == [7]


def test_a_clock_that_steps_back_by_one_window_resets_nothing(core, book):
    row = window(core, DAY, REQUESTS, 3)
    rules, entry = limits(core, row), begin(book)
    before = (WINDOWS[0] - 24, WINDOWS[1] - 1, WINDOWS[2])
    take(book, entry, rules)
    assert take(book, entry, rules, windows=before)[0] == -1
    assert take(book, entry, rules)[0] == -1
    assert take(book, entry, rules, windows=before)[0] == 0
    book.settle(entry, 0, 0, 0, 0, NOW)
    assert used(core, row) == [0], "what was charged with the late clock is settled where it was counted"


def test_a_clock_that_was_far_ahead_does_not_block_until_then(core, book):
    row = window(core, HOUR, REQUESTS, 1)
    rules, entry = limits(core, row), begin(book)
    assert take(book, entry, rules, windows=(WINDOWS[0] + 2, *WINDOWS[1:]))[0] == -1
    assert take(book, entry, rules)[0] == -1
    assert take(book, entry, rules)[0] == 0


def test_many_units_in_one_call(core, book):
    rows = [window(core, DAY, REQUESTS, 10), window(core, MONTH, TOKENS, 10_000), window(core, TOTAL, NANO, 10**12)]
    entry = begin(book)
    told = take(book, entry, limits(core, *rows), 2, 300, 10**9)
    assert told == (*PASSED, 0, 8, CALENDAR, 1, 9_700, CALENDAR, 0)
    assert used(core, *rows) == [2, 300, 10**9]
    assert book.settle(entry, 0, 1, 250, 10**8, NOW) == (0, 0)
    assert used(core, *rows) == [1, 250, 10**8]


# -- all or none -------------------------------------------------------------------------------------------------------


def test_a_refusal_takes_nothing_anywhere(core, book):
    key = [concurrent(core, 5), rate(core, TOKENS, 10, 1000), window(core, DAY, TOKENS, 1000)]
    gateway = [window(core, MONTH, NANO, 50), window(core, TOTAL, REQUESTS, 100)]
    sets, entry = (limits(core, *key), limits(core), limits(core, *gateway)), begin(book)
    assert book.take(entry, sets, 1, 100, 51, NOW, WINDOWS) == (3, CALENDAR, 0, *NONE, *NONE, 0)
    assert used(core, key[0], key[2], *gateway) == [0, 0, 0, 0]
    assert level(core, core.rule(10, 1000, key[1].slot)) == 0
    assert book.charges(entry) == 0
    assert book.take(entry, sets, 1, 100, 50, NOW, WINDOWS)[0] == -1
    assert book.charges(entry) == 5
    assert used(core, key[0], key[2], *gateway) == [1, 100, 50, 1]


def test_the_tightest_rule_of_each_unit(core, book):
    rows = [
        concurrent(core, 1),
        rate(core, REQUESTS, SECOND, 60),
        rate(core, TOKENS, 10, 5000),
        window(core, DAY, REQUESTS, 40),
        window(core, HOUR, TOKENS, 2000, soft=True),
        window(core, MONTH, TOKENS, 6000),
    ]
    told = take(book, begin(book), limits(core, *rows), 1, 1500, 0)
    assert told == (*PASSED, 3, 39, CALENDAR, 2, 3500, 15_000, 0)


def test_a_rate_says_how_long_to_wait(core, book):
    row = rate(core, TOKENS, SECOND, 10)
    rules, entry = limits(core, row), begin(book)
    assert take(book, entry, rules, tokens=8) == (*PASSED, *NONE, 0, 2, 8 * SECOND, 0)
    assert take(book, entry, rules, tokens=5) == (0, 3 * SECOND, 8, *NONE, 0, 2, 8 * SECOND, 0)
    assert take(book, entry, rules, tokens=11)[:3] == (0, NEVER, 8)
    assert take(book, entry, rules, tokens=5, now=NOW + 3 * SECOND)[0] == -1


def test_a_slot_named_twice_is_charged_and_undone_twice(core, book):
    row = window(core, DAY, REQUESTS, 3)
    rules, entry = limits(core, row, row), begin(book)
    assert take(book, entry, rules)[:2] == PASSED[:2]
    assert take(book, entry, rules)[:3] == (1, CALENDAR, 3)
    assert used(core, row) == [2]
    book.settle(entry, 0, 0, 0, 0, NOW)
    assert used(core, row) == [0]


def test_more_charges_than_fit_take_nothing(core, book):
    row = window(core, DAY, REQUESTS, 1000)
    entry = begin(book)
    rules = limits(core, *[row] * 20)
    assert take(book, entry, rules)[0] == -1
    with pytest.raises(OverflowError, match="24 charges"):
        take(book, entry, limits(core, *[row] * 5))
    assert take(book, entry, limits(core, *[row] * 4))[0] == -1
    assert used(core, row) == [24]
    book.settle(entry, 0, 0, 0, 0, NOW)
    assert take(book, entry, rules)[0] == -1, "what is settled makes room"


# -- soft rules --------------------------------------------------------------------------------------------------------


def test_a_soft_rule_counts_and_tells(core, book):
    rows = [window(core, DAY, NANO, 10, soft=True), rate(core, REQUESTS, SECOND, 1, soft=True), concurrent(core, 9)]
    rules, entry = limits(core, *rows), begin(book)
    assert take(book, entry, rules, nano=10) == (*PASSED, *NONE, *NONE, 0)
    assert take(book, entry, rules, nano=5) == (*PASSED, *NONE, *NONE, 0b11)
    assert used(core, rows[0], rows[2]) == [15, 2]
    assert take(book, entry, rules, nano=0)[9] == 0b11
    book.settle(entry, 0, 0, 0, 0, NOW)
    assert used(core, rows[0], rows[2]) == [0, 0]


# -- settling ----------------------------------------------------------------------------------------------------------


def test_an_attempt_is_settled_alone_and_the_call_goes_on(core, book):
    call, target = (
        [concurrent(core, 5), window(core, DAY, TOKENS, 1000)],
        [concurrent(core, 1), rate(core, TOKENS, 10, 900)],
    )
    entry = begin(book)
    take(book, entry, limits(core, *call), tokens=500)
    first = book.charges(entry)
    assert take(book, entry, limits(core, *target), tokens=500)[0] == -1
    assert take(book, entry, limits(core, *target), tokens=1)[:3] == (0, 0, 1)
    assert book.settle(entry, first, 0, 0, 0, NOW) == (0, 0)
    assert used(core, *call, target[0]) == [1, 500, 0]
    assert level(core, core.rule(10, 900, target[1].slot)) == 0
    assert take(book, entry, limits(core, *target), tokens=500)[0] == -1
    book.settle(entry, 0, 1, 20, 0, NOW)
    assert used(core, *call, target[0]) == [0, 20, 0]
    assert level(core, core.rule(10, 900, target[1].slot)) == 200
    assert book.charges(entry) == 0


def test_more_than_was_reserved_is_counted_beyond_the_limit(core, book):
    rows = [window(core, DAY, TOKENS, 100), window(core, MONTH, TOKENS, 90), window(core, TOTAL, NANO, 1000)]
    entry = begin(book)
    take(book, entry, limits(core, *rows), tokens=80, nano=10)
    assert book.settle(entry, 0, 1, 150, 1500, NOW) == (60, 500)
    assert used(core, *rows) == [150, 150, 1500]
    assert take(book, entry, limits(core, rows[0]), tokens=0) == (0, CALENDAR, 150, *NONE, 0, 0, CALENDAR, 0)
    assert book.settle(entry, 0, 0, 0, 0, NOW) == (0, 0)


def test_a_settled_rate_is_in_debt_for_one_burst_at_most(core, book):
    row = rate(core, TOKENS, SECOND, 10)
    rules, entry = limits(core, row), begin(book)
    take(book, entry, rules, tokens=4)
    book.settle(entry, 0, 1, 7, 0, NOW)
    assert level(core, core.rule(SECOND, 10, row.slot)) == 7 * SECOND
    take(book, entry, rules, tokens=1)
    book.settle(entry, 0, 1, 10**6, 0, NOW)
    assert take(book, entry, rules, tokens=1)[:2] == (0, SECOND)
    assert take(book, entry, rules, tokens=1, now=NOW + SECOND)[0] == -1


def test_a_settle_after_the_window_changes_nothing(core, book):
    row = window(core, HOUR, TOKENS, 1000)
    rules, entry, other = limits(core, row), begin(book), begin(book)
    later = (WINDOWS[0] + 1, *WINDOWS[1:])
    take(book, entry, rules, tokens=300)
    take(book, other, rules, tokens=5, windows=later)
    book.settle(entry, 0, 1, 900, 0, NOW)
    assert used(core, row, windows=later) == [5]


def test_a_use_never_falls_below_zero_nor_leaves_its_bounds(core, book):
    row = window(core, DAY, TOKENS, MAX_AMOUNT)
    rules, entry = limits(core, row), begin(book)
    take(book, entry, rules, tokens=MAX_AMOUNT)
    book.settle(entry, 0, 1, MAX_AMOUNT, 0, NOW)
    take(book, entry, rules, tokens=0)
    book.settle(entry, 0, 1, MAX_AMOUNT, 0, NOW)
    assert used(core, row) == [MAX_AMOUNT]
    small = window(core, DAY, TOKENS, 100)
    take(book, entry, limits(core, small), tokens=50)
    core.write_gcra(small.slot, 20)
    book.settle(entry, 0, 0, 0, 0, NOW)
    assert used(core, small) == [0]


def test_a_lowered_limit_refuses_and_a_raised_one_lets_on(core, book):
    row = window(core, DAY, REQUESTS, 10)
    entry = begin(book)
    for _ in range(8):
        take(book, entry, limits(core, row))
    assert take(book, entry, limits(core, row._replace(limit=5)))[:3] == (0, CALENDAR, 8)
    assert take(book, entry, limits(core, row._replace(limit=9)))[0] == -1


def test_concurrency_is_held_from_take_to_settle(core, book):
    row = concurrent(core, 2)
    rules, entries = limits(core, row), [begin(book) for _ in range(3)]
    assert [take(book, entry, rules)[:3] for entry in entries] == [PASSED, PASSED, (0, 0, 2)]
    book.settle(entries[0], 0, 1, 10, 10, NOW)
    assert used(core, row) == [1]
    assert take(book, entries[2], rules)[0] == -1
    book.end(entries[1])
    book.end(entries[2])
    assert used(core, row) == [0]


# -- entries -----------------------------------------------------------------------------------------------------------


def test_entries_run_out_and_come_back_last_first(core, book):
    entries = [begin(book) for _ in range(core.table.entries)]
    assert entries == list(range(16))
    assert begin(book) == -1
    assert book.in_flight() == 16
    book.end(3)
    book.end(9)
    assert [begin(book), begin(book), begin(book)] == [9, 3, -1]


def test_what_is_not_in_flight_is_refused(core, book):
    entry = begin(book)
    book.end(entry)
    for call in (book.end, book.mark_sent, book.charges):
        for bad in (entry, -1, 16, 10**6):
            with pytest.raises(ValueError, match="not in flight"):
                call(bad)
    with pytest.raises(ValueError, match="16 bytes"):
        begin(book, b"short")
    entry = begin(book)
    for first in (-1, 1):
        with pytest.raises(ValueError, match="charge"):
            book.settle(entry, first, 0, 0, 0, NOW)


def test_figures_out_of_range_take_nothing(core, book):
    row, entry = window(core, DAY, TOKENS, 10), begin(book)
    rules, beyond = limits(core, row), limits(core, row._replace(slot=core.table.slots))
    with pytest.raises(IndexError, match="beyond"):
        book.take(entry, (rules, beyond), 1, 1, 1, NOW, WINDOWS)
    for requests, tokens, nano, now in [
        (-1, 0, 0, NOW),
        (0, MAX_AMOUNT + 1, 0, NOW),
        (0, 0, 2**64, NOW),
        (0, 0, 0, 2**62),
    ]:
        with pytest.raises(OverflowError):
            take(book, entry, rules, requests, tokens, nano, now)
        with pytest.raises(OverflowError):
            book.settle(entry, 0, requests, tokens, nano, now)
    for bad in [(-1, 0, 0), (0, 1 << 20, 0), (0, 0, 2**64)]:
        with pytest.raises(OverflowError):
            take(book, entry, rules, windows=bad)
    assert used(core, row) == [0]


@pytest.mark.parametrize(
    "bad",
    [
        Limit(-1, DAY),
        Limit(1 << 24, DAY),
        Limit(0, 0),
        Limit(0, layout.FLAGS),
        Limit(0, DAY, 3),
        Limit(0, DAY, limit=-1),
        Limit(0, DAY, limit=MAX_AMOUNT + 1),
        Limit(0, RATE),
        Limit(0, RATE, interval_ns=1, tau_ns=2**62),
    ],
)
def test_impossible_limits(core, bad):
    with pytest.raises(ValueError, match=r"is not 0 to|is no rule|not in range"):
        core.module.Limits([bad])


def test_a_closed_lane_closes_its_book(core):
    lane = core.table.claim_lane()
    book = lane.book()
    assert lane.book() is book
    entry = begin(book)
    book.end(entry)
    lane.close()
    for call in (lane.book, lambda: begin(book), lambda: book.end(entry), lambda: book.commit_totals(1, 2, 3, 4, 5)):
        with pytest.raises(core.module.TableError, match="closed"):
            call()
    assert core.table.unreaped() == []
    assert core.table.claim_lane().index == 0


def test_totals_add_up_over_owners_and_lanes(core):
    for n in range(3):
        lanes = [core.table.claim_lane() for _ in range(2)]
        for lane in lanes:
            lane.book().commit_totals(n, 100 + n, 10, 20, 30)
            assert core.table.lane_totals(lane.index) == (n, 100 + n, n + 1, 10 * (n + 1), 20 * (n + 1), 30 * (n + 1))
        for lane in lanes:
            lane.close()
    assert core.table.totals() == (6, 60, 120, 180)
    with pytest.raises(IndexError):
        core.table.lane_totals(4)


def test_how_it_lies_in_the_file(core, book):
    """By numbers, not by names: another process, or another release, reads these very bytes."""
    row, other = window(core, DAY, TOKENS, 1000), window(core, MONTH, NANO, 10**6)
    begin(book)
    name, entry = call_id(), begin(book)
    book.end(entry)
    entry = book.begin(name, NOW, 1_800_000_000, b"k" * 70, "modèle".encode())
    take(book, entry, limits(core, row, other), 3, 400, 500)
    book.mark_sent(entry)
    book.commit_totals(7, 8, 9, 10, 11)
    data = Path(core.path).read_bytes()
    assert data[:8] == b"fgwtable"
    assert struct.unpack_from("=5Q", data, 8) == (2, 256, 4, 64, 16)
    lane = struct.unpack_from("=24Q", data, 4096)
    assert lane[3:7] == (1, 1, 2, 1)
    assert lane[16:22] == (7, 8, 1, 9, 10, 11)
    slots = 4096 + 4096 + 8 * 512
    used_, tag, kind = struct.unpack_from("=3Q", data, slots + row.slot * 64 + 16)
    assert (used_, kind) == (400, 3)
    assert tag == 20_416 << 44 | 0 << 36 | 1 << 23 | 0 << 18 | 0 << 17 | 1
    entries = -(-(slots + 256 * 64 + 5 * 64 * 8) // 4096) * 4096
    at = entries + entry * 1152
    head = struct.unpack_from("=Q16s5Q64s64s", data, at)
    assert head == (2, name, NOW, 1_800_000_000, 400, 500, 3, b"k" * 64, "modèle".encode().ljust(64, b"\0"))
    charges = struct.unpack_from("=10Q", data, at + 192)
    assert charges[:5] == (row.slot | 3 << 24 | 1 << 32 | 20_416 << 40, 400, 1 << 8 | 2, 0, 1000)
    assert charges[5:] == (other.slot | 4 << 24 | 2 << 32 | 24_311 << 40, 500, 1 << 8 | 2, 0, 10**6)
