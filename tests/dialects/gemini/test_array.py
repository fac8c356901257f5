"""Streams that are one JSON array: made of events, whoever wrote these, and readable also when they fail."""

import json

import pytest

from fastgw.dialects import hub
from fastgw.dialects.gemini.array import JsonArray, form_of
from fastgw.dialects.gemini.codec import CODEC
from fastgw.errors import GatewayError
from tests.support.arrays import ArrayCutter


def test_events_become_elements():
    form, writer = JsonArray(), CODEC.writer(model="m", stream_usage=True)
    events = [hub.TextDelta('a]}"\\'), hub.TextDelta("[{"), hub.Stop("stop")]
    raw = b"".join([form.feed(writer.feed(event)) for event in events]) + form.feed(writer.end()) + form.end()
    cutter = ArrayCutter()
    found = [json.loads(one) for at in range(0, len(raw), 7) for one in cutter.feed(raw[at : at + 7])]
    assert cutter.complete
    assert found == json.loads(raw)
    texts = [part["text"] for one in found for part in one["candidates"][0].get("content", {}).get("parts", ())]
    assert "".join(texts) == 'a]}"\\[{'


def test_a_failing_stream_can_be_read():
    form, writer = JsonArray(), CODEC.writer(model="m", stream_usage=True)
    raw = form.feed(writer.feed(hub.TextDelta("a")))
    raw += form.feed(writer.fail(GatewayError("upstream_timeout", "too late"), "c")) + form.end()
    assert [next(iter(one)) for one in json.loads(raw)] == ["candidates", "error"]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([], []),
        ([b": ping\n\n"], []),
        ([b'data: {"a":1}\n\ndata: {"b":2}\n\n'], [{"a": 1}, {"b": 2}]),
        ([b'data: {"a":1}\r\n\r\n', b": ping\n\n", b'data: {"a":\ndata: 2}\n\n'], [{"a": 1}, {"a": 2}]),
        ([b'data: {"a":1}\n\n', b'data: {"b":2}'], [{"a": 1}, {"b": 2}]),
        ([b'data: {"a":1}\n\n', b'data: {"b":'], [{"a": 1}]),
    ],
)
def test_what_is_no_data_is_left_out(pieces, expected):
    form = JsonArray()
    raw = b"".join([form.feed(piece) + form.ping * bool(number) for number, piece in enumerate(pieces)]) + form.end()
    assert json.loads(raw) == expected


def test_what_would_break_the_array_is_refused():
    form = JsonArray()
    form.feed(b'data: {"a":1}\n\n')
    with pytest.raises(ValueError, match="not JSON"):
        form.feed(b'data: {"a":\n\n')
    assert json.loads(b'[{"a":1}' + form.feed(b'data: {"error":{}}\n\n') + form.end()) == [{"a": 1}, {"error": {}}]


@pytest.mark.parametrize("query", [b"alt=sse", b"key=1&alt=sse", b"%24alt=sse", b"$alt=sse&x=2", b"alt=json&alt=sse"])
def test_events_are_sent_to_who_asks_for_them(query):
    assert form_of(query) is None


@pytest.mark.parametrize("query", [b"", b"key=sse", b"alt=json", b"$alt=json;enum-encoding=int", b"%24alt=json%3Bx=1"])
def test_an_array_is_sent_to_all_others(query):
    assert isinstance(form_of(query), JsonArray)


@pytest.mark.parametrize("query", [b"alt=proto", b"alt=", b"alt=json&alt=media"])
def test_other_forms_are_refused(query):
    with pytest.raises(ValueError):
        form_of(query)
