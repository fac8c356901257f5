"""What an answer tells of the limits that were charged, both twins."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastgw._core.table_layout import DAY, HOUR, MONTH, REQUESTS, TOKENS, TOTAL
from fastgw._core.table_told import period, told
from tests._core.book_support import WINDOWS, begin, concurrent, limits, rate, window
from tests._core.table_twins import NOW, TWINS, Core, loaded, make

MS, S = 10**6, 10**9
ENDS = (3_600, 86_400, 2_678_400)
NAMES = [b"x-ratelimit-limit-%b", b"x-ratelimit-remaining-%b", b"x-ratelimit-reset-%b"]


@pytest.fixture(params=TWINS)
def core(request, tmp_path) -> Iterator[Core]:
    core = make(loaded(request.param), tmp_path / "table.map", slots=256)
    yield core
    core.table.close()


@pytest.fixture
def book(core):
    lane = core.table.claim_lane()
    yield lane.book()
    lane.close()


def lines(unit: bytes, *values: bytes) -> list[tuple[bytes, bytes]]:
    return [(name % unit, value) for name, value in zip(NAMES, values, strict=True)]


def charge(book, rules, tokens=0, nano=0, epoch=0.0):
    return book.charge(begin(book), rules, tokens, nano, NOW, WINDOWS, ENDS, epoch)


def test_the_tightest_of_each_unit_is_told(core, book):
    rows = [
        concurrent(core, 5), rate(core, REQUESTS, MS * 250, 8), rate(core, REQUESTS, MS, 3),
        window(core, HOUR, TOKENS, 5000), window(core, DAY, TOKENS, 900),
    ]  # fmt: skip
    found, soft = charge(book, limits(core, *rows), tokens=100, epoch=86_400 - 61.0)
    limit = str(rows[2].limit).encode()
    assert found == lines(b"requests", limit, b"2", b"1ms") + lines(b"tokens", b"900", b"800", b"1m1s")
    assert soft == 0


@pytest.mark.parametrize(
    ("kind", "text"), [(HOUR, b"59m59s"), (DAY, b"23h59m59s"), (MONTH, b"743h59m59s"), (TOTAL, b"0ms")]
)
def test_a_window_is_at_rest_when_it_ends(core, book, kind, text):
    found, _ = charge(book, limits(core, window(core, kind, REQUESTS, 10)), epoch=1.0)
    assert found == lines(b"requests", b"10", b"9", text)


def test_nothing_to_tell(core, book):
    assert charge(book, limits(core, concurrent(core, 5))) == ([], 0)
    assert charge(book, limits(core)) == ([], 0)


def test_soft_ones_are_named_by_their_bits_and_not_told(core, book):
    rules = limits(core, concurrent(core, 5), window(core, DAY, TOKENS, 50, soft=True))
    assert charge(book, rules, tokens=100) == ([], 0b10)


def test_a_refusal_is_as_take_gives_it(core, book):
    rules = limits(core, window(core, DAY, TOKENS, 50))
    assert charge(book, rules, tokens=51) == book.take(begin(book), (rules,), 1, 51, 0, NOW, WINDOWS)


@pytest.mark.parametrize("core", TWINS, indirect=True)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 2**40), st.floats(0, 3_600), st.integers(1, 10**15))
def test_every_figure_is_written_as_the_specification_writes_it(core, book, limit, epoch, interval):
    rows = [window(core, HOUR, TOKENS, limit), rate(core, REQUESTS, interval, 1)]
    rules = limits(core, *rows)
    entry = begin(book)
    taken = book.take(entry, (rules,), 1, 1, 0, NOW, WINDOWS)
    book.settle(entry, 0, 0, 0, 0, NOW)
    if taken[0] < 0:
        found, _ = book.charge(entry, rules, 1, 0, NOW, WINDOWS, ENDS, epoch)
        assert found == told(rows, taken, ENDS, epoch)
        book.settle(entry, 0, 0, 0, 0, NOW)
    book.end(entry)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, b"0ms"), (1, b"1ms"), (MS, b"1ms"), (MS + 1, b"2ms"), (120 * MS, b"120ms"), (999 * MS, b"999ms"),
        (999 * MS + 1, b"1s"), (S, b"1s"), (S + 1, b"2s"), (59 * S, b"59s"), (59 * S + 1, b"1m0s"), (60 * S, b"1m0s"),
        (360 * S, b"6m0s"), (3599 * S, b"59m59s"), (3600 * S, b"1h0m0s"), (90_061 * S, b"25h1m1s"),
    ],
)  # fmt: skip
def test_resets_are_spelt_as_openai_spells_them(ns, text):
    assert period(ns) == text


@given(st.integers(0, 10**16))
def test_a_reset_is_never_told_too_early(ns):
    text = period(ns).decode()
    if text.endswith("ms"):
        told = int(text[:-2]) * MS
    else:
        told, number = 0, ""
        for sign in text:
            number += sign
            if sign in "hms":
                told += int(number[:-1]) * {"h": 3600, "m": 60, "s": 1}[sign] * S
                number = ""
    assert ns <= told < ns + S
