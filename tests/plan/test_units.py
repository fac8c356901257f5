"""Durations, sizes and rates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.plan import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("5s", 5.0), ("1.5s", 1.5), ("10m", 600.0), ("2min", 120.0), ("1h", 3600.0), ("5 s", 5.0)],
)
def test_durations(text, seconds):
    assert units.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "0s", "-1s", "1d", "5S", "1e3s", "inf", "nan", "9" * 400 + "h", "745h"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="not a duration"):
        units.duration(text)


@pytest.mark.parametrize(("text", "count"), [("1d", 1), ("30d", 30), ("3650 d", 3650)])
def test_days(text, count):
    assert units.days(text) == count


@pytest.mark.parametrize("text", ["", "d", "0d", "-1d", "1.5d", "30", "30h", "3651d", "9" * 400 + "d"])
def test_what_is_no_number_of_days(text):
    with pytest.raises(ValueError, match="not a number of days"):
        units.days(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("512", 512),
        ("512B", 512),
        ("10KB", 10_000),
        ("1.5KiB", 1536),
        ("32MiB", 2**25),
        ("1GiB", 2**30),
        ("1 GB", 10**9),
    ],
)
def test_sizes(text, count):
    assert units.size(text) == count


@pytest.mark.parametrize("text", ["", "0", "0.5", "-1", "1kb", "1TB", "MiB", "9" * 400, "1025TiB", "2000000GiB"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="not a size"):
        units.size(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("600/min", (600, "min")),
        ("20/s", (20, "s")),
        ("1_000/minute", (1000, "min")),
        ("1 / sec", (1, "s")),
        ("5/h", (5, "hour")),
        ("5/day", (5, "day")),
        ("5/mon", (5, "month")),
        ("1000000000000/total", (10**12, "total")),
    ],
)
def test_quotas(text, expected):
    assert units.quota(text) == expected


@pytest.mark.parametrize(
    "text", ["", "600", "0/s", "-1/s", "1.5/s", "1/week", "/s", "9" * 5000 + "/s", "1000000000001/s"]
)
def test_what_is_no_quota(text):
    with pytest.raises(ValueError, match="not a rate"):
        units.quota(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.00/month", (10 * 10**9, "month")),
        ("$1/day", (10**9, "day")),
        ("0.000000001/total", (1, "total")),
        ("1_000_000_000/h", (10**18, "hour")),
        ("0.1/hour", (10**8, "hour")),
    ],
)
def test_budgets(text, expected):
    assert units.money(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "10", "0/day", "-1/day", "1/min", "1/s", "1e3/day", "0.0000000001/day", "1000000001/day", "/day", "1/week"],
)
def test_what_is_no_budget(text):
    with pytest.raises(ValueError, match="not a budget"):
        units.money(text)


@given(st.text(max_size=40))
def test_any_text_is_a_value_in_bounds_or_a_value_error(text):
    for convert in (units.duration, units.size, lambda text: units.quota(text)[0], lambda text: units.money(text)[0]):
        try:
            assert 0 < convert(text) < 2**63
        except ValueError:
            pass
