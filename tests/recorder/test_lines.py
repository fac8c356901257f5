"""Lines made many at a time are, byte for byte, those that records give one by one."""

import math

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.recorder import lines
from fastgw.telemetry.record import Attempt, Record, decode, encode, to_json_line
from tests.recorder.support import DAY_US, NOON_US

TEXT = st.text(max_size=30)
COUNT = st.integers(0, 2**53)
AMOUNT = st.integers(-(2**63), 2**63 - 1)
# Numbers that both of the JSON writers write alike; the others are compared as numbers below.
MS = st.floats(0, 1e15).filter(lambda ms: ms == 0 or ms > 1e-4)
ATTEMPTS = st.lists(st.builds(Attempt, target=TEXT, provider=TEXT, status=COUNT, reason=TEXT, ms=MS), max_size=4)


def records(ms):
    return st.builds(
        Record,
        id=TEXT,
        ts=st.integers(0, NOON_US * 4),
        key=st.none() | TEXT,
        model=st.none() | TEXT,
        provider=st.none() | TEXT,
        target=st.none() | TEXT,
        status=COUNT,
        error=st.none() | TEXT,
        attempts=ATTEMPTS.map(tuple),
        stream=st.booleans(),
        input_tokens=COUNT,
        output_tokens=COUNT,
        cached_tokens=COUNT,
        cache_write_tokens=COUNT,
        reasoning_tokens=COUNT,
        usage_source=st.sampled_from(["upstream", "estimated", "none"]),
        cost_nano=st.none() | AMOUNT,
        price_version=st.none() | TEXT,
        bytes_in=COUNT,
        bytes_out=COUNT,
        first_token_ms=st.none() | ms,
        total_ms=ms,
        overhead_us=COUNT,
        cache=st.sampled_from(["hit", "miss", "off", "semantic"]),
        revision=COUNT,
        label=st.none() | TEXT,
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(records(MS), min_size=1, max_size=5))
def test_the_bytes_are_those_of_the_records_one_by_one(made):
    kept = [decode(encode(record)) for record in made]
    assert lines.encode([lines.line_of(record) for record in kept]) == b"".join(to_json_line(record) for record in made)


@settings(max_examples=200, deadline=None)
@given(records(st.floats()))
def test_any_number_is_the_same_number(record):
    ours, theirs = (orjson.loads(text) for text in (lines.encode([lines.line_of(record)]), to_json_line(record)))
    assert ours == theirs
    assert all(value is None or not math.isnan(value) for value in (ours["total_ms"], ours["first_token_ms"]))


def test_a_line_has_every_field_of_a_record_in_its_order():
    for line, kind in ((lines.Line, Record), (lines.Attempt, Attempt)):
        assert line.__struct_fields__ == kind.__struct_fields__


@pytest.mark.parametrize("ts", [-1, -DAY_US, 0, 999_999, NOON_US, 253_402_300_799_999_999])
def test_times_at_the_edges(ts):
    record = Record(id="a", ts=ts)
    assert lines.encode([lines.line_of(record)]) == to_json_line(record)


@pytest.mark.parametrize("ts", [253_402_300_800_000_000, 1 << 62, -(1 << 62)])
def test_a_time_that_no_calendar_has_is_an_error(ts):
    with pytest.raises((ValueError, OverflowError)):
        lines.line_of(Record(id="a", ts=ts))
