"""Records: the fixed surface, its spool form and its JSON form."""

import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.telemetry.record import (
    SCHEMA_VERSION,
    Attempt,
    Record,
    RecordError,
    decode,
    encode,
    rfc3339,
    to_json_line,
)

SURFACE = """
    id ts key model provider target status error attempts stream
    input_tokens output_tokens cached_tokens cache_write_tokens reasoning_tokens usage_source cost_nano price_version
    bytes_in bytes_out first_token_ms total_ms overhead_us cache revision label
""".split()  # noqa: SIM905 - read against the design as one line of words
DOC = Path(__file__).parents[2] / "docs" / "record.md"
FULL = Record(
    id="01J-abc",
    ts=1_767_323_045_000_006,
    key="demo",
    model="fast",
    provider="openai",
    target="openai/gpt-4o-mini",
    status=200,
    attempts=(Attempt("eu/gpt", "eu", 503, "503", 12.5), Attempt("openai/gpt-4o-mini", "openai", 200, "", 800.0)),
    stream=True,
    input_tokens=1000,
    output_tokens=333,
    usage_source="upstream",
    cost_nano=35_000,
    price_version="2026-11",
    first_token_ms=12.25,
    total_ms=820.5,
    label="mine",
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
counts = st.integers(0, 2**63 - 1)
attempts = st.builds(Attempt, texts, texts, st.integers(0, 599), texts, st.floats(0, 1e9))
records = st.builds(
    Record,
    id=texts,
    ts=st.integers(0, 253402300799_999_999),
    key=st.none() | texts,
    model=st.none() | texts,
    error=st.none() | texts,
    attempts=st.lists(attempts, max_size=3).map(tuple),
    stream=st.booleans(),
    input_tokens=counts,
    usage_source=st.sampled_from(["upstream", "estimated", "none"]),
    cost_nano=st.none() | counts,
    first_token_ms=st.none() | st.floats(0, 1e9),
    cache=st.sampled_from(["hit", "miss", "off", "semantic"]),
    label=st.none() | texts,
)


def test_the_fields_are_the_fixed_surface_in_order():
    assert list(Record.__struct_fields__) == SURFACE
    assert Attempt.__struct_fields__ == ("target", "provider", "status", "reason", "ms")


def test_the_document_lists_exactly_the_fields():
    tables = [re.findall(r"^\| `(\w+)` \|", part, re.M) for part in DOC.read_text().split("\nAn attempt:\n")]
    assert tables == [SURFACE, list(Attempt.__struct_fields__)]


@given(records)
def test_spool_form_round_trips(record):
    assert decode(encode(record)) == record


def test_spool_form_is_an_array_that_begins_with_the_version():
    values = msgspec.msgpack.decode(encode(FULL))
    assert values[:3] == [SCHEMA_VERSION, "01J-abc", 1_767_323_045_000_006]
    assert len(values) == 1 + len(SURFACE)


def test_a_longer_array_of_the_same_version_is_read():
    values = msgspec.msgpack.decode(encode(FULL))
    values[9][0].append("later")
    assert decode(msgspec.msgpack.encode([*values, "a field of a later minor", {"x": 1}])) == FULL


@pytest.mark.parametrize("version", [0, 2, 10**9, "1", None])
def test_another_version_is_refused_by_its_number(version):
    values = msgspec.msgpack.decode(encode(FULL))
    with pytest.raises(RecordError, match=re.escape(f"version {version!r} is not known here")):
        decode(msgspec.msgpack.encode([version, *values[1:]]))


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "not a record"),
        (b"\xc1", "not a record"),
        (b"\x80", "expected an array"),
        (b"\x90", "expected an array"),
        (encode(FULL)[:-3], "not a record"),
        (msgspec.msgpack.encode([1, "id", "not a time"]), r"\$\[2\]"),
        (b"\x93\x01\xa1\xff\x00", "record"),
    ],
)
def test_broken_payloads_are_record_errors(payload, why):
    with pytest.raises(RecordError, match=why):
        decode(payload)


@given(st.binary(max_size=64))
def test_no_bytes_raise_anything_else(payload):
    try:
        decode(payload)
    except RecordError:
        pass


@given(records)
def test_json_line_has_every_field_in_order(record):
    line = to_json_line(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    shown = orjson.loads(line)
    assert list(shown) == SURFACE
    moment = datetime.fromisoformat(shown["ts"])
    assert moment.utcoffset().total_seconds() == 0
    assert round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6) == pytest.approx(record.ts, abs=64)
    assert shown["input_tokens"] == record.input_tokens
    assert [attempt["target"] for attempt in shown["attempts"]] == [attempt.target for attempt in record.attempts]


def test_json_line_of_a_full_record():
    shown = orjson.loads(to_json_line(FULL))
    assert shown["ts"] == "2026-01-02T03:04:05.000006Z"
    assert shown["attempts"][0] == {"target": "eu/gpt", "provider": "eu", "status": 503, "reason": "503", "ms": 12.5}
    assert shown["cost_nano"] == 35_000
    assert shown["key"] == "demo"
    assert shown["error"] is None


def test_rfc3339_always_has_six_decimals():
    assert rfc3339(0) == "1970-01-01T00:00:00.000000Z"
    assert rfc3339(1_000_001) == "1970-01-01T00:00:01.000001Z"
