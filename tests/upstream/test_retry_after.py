"""How long to wait, in every spelling that vendors use, and in none."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.upstream.retry_after import MOST_S, seconds

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC).timestamp()


def told(body=b"", **headers):
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return seconds([(b"content-type", b"application/json"), *pairs], body, NOW)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0), ("7", 7.0), (" 30 ", 30.0), ("1.5", 1.5), ("999999999", MOST_S),
        ("Sun, 01 Mar 2026 12:00:45 GMT", 45.0), ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Sunday, 01-Mar-26 12:01:00 GMT", 60.0), ("Sun Mar  1 12:00:10 2026", 10.0),
        ("Fri, 01 Jan 2027 00:00:00 GMT", MOST_S),
        ("", None), ("soon", None), ("-5", None), ("1e9", None), ("nan", None), ("inf", None), ("5 s", None),
        ("12345678901234567890", None), ("Sun, 99 Foo 2026", None), ("\xff\xfe", None), ("0x10", None), ("٣", None),
    ],
)  # fmt: skip
def test_retry_after(value, expected):
    if value == "٣":
        assert seconds([(b"retry-after", value.encode())], b"", NOW) is None
        return
    assert told(retry_after=value) == expected


def test_milliseconds_come_first_and_nonsense_leaves_it_to_the_others():
    assert told(retry_after_ms="250", retry_after="9") == 0.25
    assert told(retry_after_ms="soon", retry_after="9") == 9.0
    assert told(b"try again in 3s", retry_after_ms="soon", retry_after="later") == 3.0
    assert told(retry_after_ms="1800.5") == pytest.approx(1.8005)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # Gemini (google.rpc.RetryInfo)
        (b'{"error":{"code":429,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34s"}]}}',
         34.0),
        (b'{"error":{"details":[{"retryDelay" : "34.074824224s"}]}}', 34.074824224),
        (b'{"retryDelay": "soon"}', None),
        # OpenAI
        (b"Rate limit reached for gpt-4o on tokens per min. Please try again in 1m30.5s. Visit ...", 90.5),
        (b"Please try again in 250ms.", 0.25), (b"Please try again in 20s.", 20.0),
        (b"Please try again in 6m0s.", 360.0), (b"Please try again in 1h2m3s.", 3723.0),
        (b"Please try again in 7m12s.", 432.0), (b"Please try again in 2h.", 7200.0),
        (b"Please try again in 5m", 300.0), (b"try again in 99h99m", MOST_S),
        (b"try again in a while", None), (b"Please try again later.", None), (b"", None), (b"\xff\x00", None),
    ],
)  # fmt: skip
def test_what_bodies_say(body, expected):
    assert told(body) == (pytest.approx(expected) if expected is not None else None)


def test_headers_go_before_the_body():
    assert told(b"try again in 9s", retry_after="2") == 2.0


@given(st.integers(0, 86_399))
def test_any_date_within_a_day(after):
    date = format_datetime(datetime.fromtimestamp(NOW + after, UTC), usegmt=True)
    assert told(retry_after=date) == after


@given(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=200))
def test_whatever_comes_it_is_none_or_up_to_a_day(after, ms, body):
    found = seconds([(b"retry-after", after), (b"retry-after-ms", ms)], body, NOW)
    assert found is None or 0 <= found <= MOST_S


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_openais_durations_written_as_go_writes_them(hours, minutes, secs, ms):
    text = f"{hours}h" * (hours > 0) + f"{minutes}m" * (hours + minutes > 0) + f"{secs + ms / 1000:g}s"
    assert told(f"Please try again in {text}.".encode()) == pytest.approx(
        hours * 3600 + minutes * 60 + secs + ms / 1000
    )
