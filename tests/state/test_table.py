"""The table's face: names, file, rates."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from fastgw._core import table
from fastgw.state.table import FILE_NAME, NS_PER_SECOND, compile_rate, open_table, slot_id, window_end, windows

NOW = 10**15


def test_slot_ids_are_stable():
    # These name slots in files that outlive a release.
    assert slot_id("key", "demo", "rate", "requests", "60s").hex() == "4a355ab8762578d309cc72aa94502751"


def test_slot_ids_differ_wherever_a_field_does():
    base = ("key", "demo", "rate", "requests", "60s")
    others = {slot_id(*base[:n], base[n] + "x", *base[n + 1 :]) for n in range(5)}
    moved = {slot_id("ab", "c", "", "", ""), slot_id("a", "bc", "", "", ""), slot_id("", "abc", "", "", "")}
    assert len({slot_id(*base)} | others | moved) == 9
    assert all(len(name) == 16 for name in others)


def test_the_file_lies_in_the_data_directory(tmp_path):
    with pytest.raises(table.TableError, match=FILE_NAME):
        open_table(tmp_path, create=False)
    made = open_table(tmp_path, create=True)
    index = made.slot(slot_id("key", "demo", "rate", "requests", "60s"))
    again = open_table(str(tmp_path), create=False)
    assert again.find(slot_id("key", "demo", "rate", "requests", "60s")) == index
    assert os.listdir(tmp_path) == [FILE_NAME] == ["table-v2.map"]
    made.close()
    again.close()


@pytest.mark.parametrize(
    ("limit", "seconds", "burst", "expected"),
    [
        (600, 60, 60, (100_000_000, 5_900_000_000)),
        (600, 60, None, (100_000_000, 5_900_000_000)),
        (5, 1, None, (200_000_000, 0)),
        (7, 1, 2, (142_857_143, 142_857_143)),
        (1_000_000_000, 1, 1, (1, 0)),
    ],
)
def test_rates(limit, seconds, burst, expected):
    assert compile_rate(limit, seconds, burst) == expected


@pytest.mark.parametrize("bad", [(0, 60, 1), (1, 0, 1), (1, 60, 0), (-1, 60, None), (NS_PER_SECOND + 1, 1, 1)])
def test_impossible_rates(bad):
    with pytest.raises(ValueError):
        compile_rate(*bad)


@pytest.mark.parametrize(("limit", "seconds", "burst"), [(600, 60, 60), (7, 1, 3), (999_983, 60, 5_000)])
def test_a_compiled_rate_passes_burst_plus_rate_and_no_more(tmp_path, limit, seconds, burst):
    shared = open_table(tmp_path, create=True)
    lane = shared.claim_lane()
    book = lane.book()
    entry = book.begin(bytes(16), NOW, 0, b"", b"")
    slot = shared.slot(slot_id("key", "demo", "rate", "tokens", "60s"))
    rule = table.Limit(slot, table.RATE, table.TOKENS, 0, *compile_rate(limit, seconds, burst))
    sets = (table.Limits([rule]),)

    def take(tokens: int, now: int) -> bool:
        refused = book.take(entry, sets, 0, tokens, 0, now, (0, 0, 0))[0]
        book.settle(entry, 0, 0, tokens, 0, now)
        return refused < 0

    assert take(burst, NOW)
    passed, step = 0, seconds * NS_PER_SECOND // 1000
    unit = max(1, limit // 2000)
    for now in range(NOW, NOW + seconds * NS_PER_SECOND + 1, step):
        while take(unit, now):
            passed += unit
    assert limit * 0.99 - 2 * unit <= passed <= limit
    book.end(entry)
    lane.close()
    shared.close()


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("text", "hour_ends", "day_ends", "month_ends"),
    [
        ("2026-11-24T00:00:00", "2026-11-24T01:00:00", "2026-11-25T00:00:00", "2026-12-01T00:00:00"),
        ("2026-12-31T23:59:59", "2027-01-01T00:00:00", "2027-01-01T00:00:00", "2027-01-01T00:00:00"),
        ("2028-02-29T12:30:00", "2028-02-29T13:00:00", "2028-03-01T00:00:00", "2028-03-01T00:00:00"),
        ("2038-01-19T03:14:08", "2038-01-19T04:00:00", "2038-01-20T00:00:00", "2038-02-01T00:00:00"),
    ],
)
def test_windows_end_where_the_next_begin(text, hour_ends, day_ends, month_ends):
    now = at(text)
    ends = [window_end(kind, now) for kind in (table.HOUR, table.DAY, table.MONTH)]
    assert ends == [at(hour_ends), at(day_ends), at(month_ends)]
    for place, end in enumerate(ends):
        assert windows(end - 1)[place] == windows(now)[place] == windows(end)[place] - 1
    assert window_end(table.TOTAL, now) is None
    with pytest.raises(ValueError, match="no window"):
        window_end(table.RATE, now)


def test_windows_follow_the_calendar_for_years():
    start = datetime(2023, 12, 31, 23, tzinfo=UTC)
    for hours in range(0, 24 * 366 * 3, 7):
        moment = start + timedelta(hours=hours)
        seconds = int(moment.timestamp())
        days = (moment - datetime(1970, 1, 1, tzinfo=UTC)).days
        assert windows(seconds) == (seconds // 3600, days, moment.year * 12 + moment.month - 1)
