"""SSE as the WHATWG HTML standard has it: whatever the line ends and wherever the bytes are cut."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.dialects import framing

ENDS = [b"\n", b"\r", b"\r\n"]
line = st.sampled_from(
    [
        b"data: a", b"data:b", b"data:  c", b"data", b": note", b"event: x", b"id: 1", "data: \u2028\u0085".encode(),
        b"data: \xff", b"x", b"", b"event: y", b"event:z ",
    ]
)  # fmt: skip
streams = st.lists(st.tuples(line, st.sampled_from(ENDS)), max_size=30).map(
    lambda parts: b"".join(a + b for a, b in parts)
)


def reference(stream):
    """The payloads of a whole stream, by the standard's own words (section 9.2.6), end of file aside."""
    found, data = [], None
    stream = stream.removeprefix(framing.BOM)
    lines = re.split(rb"\r\n|\n|\r", stream)[:-1]
    for text in lines:
        if not text:
            if data is not None:
                found.append(b"\n".join(data))
            data = None
            continue
        name, _, value = text.partition(b":")
        if name == b"data":
            data = [*(data or []), value.removeprefix(b" ")]
    return found


def cut(stream, places):
    places = sorted({place % (len(stream) + 1) for place in places})
    return [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]


def fed(pieces):
    """The blocks that come out when pieces go in, and what is left."""
    blocks, tail = [], b""
    for piece in pieces:
        block, tail = framing.complete(tail + piece)
        if block:
            blocks.append(block)
    return blocks, tail


@given(streams)
def test_payloads_are_those_of_the_standard(stream):
    blocks, tail = fed([stream + b"."])
    assert b"".join(blocks) + tail == stream + b"."
    payloads = [framing.payload(event) for block in blocks for event in framing.events(block)]
    assert [payload for payload in payloads if payload is not None] == reference(stream + b".")


@given(streams, st.lists(st.integers(0, 400), max_size=12))
def test_where_the_bytes_are_cut_changes_nothing(stream, places):
    whole, split = fed([stream]), fed(cut(stream, places))
    events = [[event for block in blocks for event in framing.events(block)] for blocks, _ in (whole, split)]
    assert events[0] == events[1]
    assert whole[1] == split[1]


@given(streams)
def test_every_byte_alone(stream):
    blocks, tail = fed([stream[i : i + 1] for i in range(len(stream))])
    whole, rest = fed([stream])
    assert (b"".join(blocks), tail) == (b"".join(whole), rest)


@given(streams)
def test_frames_are_the_names_and_payloads_of_the_events(stream):
    block, _ = framing.complete(stream)
    found = [(framing.name(event), framing.payload(event)) for event in framing.events(block)]
    assert framing.frames(block) == [(name, payload) for name, payload in found if payload is not None]


@given(streams, st.lists(st.integers(0, 400), max_size=12))
def test_a_stream_that_is_cut_loses_nothing_of_its_bytes_or_events(stream, places):
    cutter, found, passed = framing.ServerSentEvents(), [], b""
    for piece in cut(stream, places):
        found += cutter.feed(piece)
        passed += cutter.block
    assert passed + cutter.tail == stream
    assert found == framing.frames(framing.complete(stream)[0])


@pytest.mark.parametrize("end", ENDS)
def test_events_that_come_one_by_one_keep_their_names(end):
    cutter = framing.ServerSentEvents()
    events = [(b"a", b"1"), (b"a", b"2"), (b"b", b"3"), (b"", b"4"), (b"b", b"5"), (b"b", b"6"), (b"", b"7")]
    pieces = [(b"event: " + name + end if name else b"") + b"data: " + data + end + end for name, data in events]
    found = [cutter.feed(piece) for piece in [*pieces, b":" + end + end]]
    assert [one for piece in found for one in piece] == [(name.decode(), data) for name, data in events]


@given(streams)
def test_events_joined_are_the_block(stream):
    block, _ = framing.complete(stream)
    assert b"".join(framing.events(block)) == block


@pytest.mark.parametrize("first", ENDS)
@pytest.mark.parametrize("second", ENDS)
def test_every_pair_of_line_ends_ends_an_event(first, second):
    if (first, second) == (b"\r", b"\n"):
        return  # one line end, not two
    stream = b"data: a" + first + second + b"data: b"
    assert framing.complete(stream) == (stream[:-7], b"data: b")


def test_a_crlf_is_one_line_end():
    assert framing.complete(b"data: a\r\n") == (b"", b"data: a\r\n")
    assert framing.complete(b"data: a\r\ndata: b\n\n") == (b"data: a\r\ndata: b\n\n", b"")


def test_a_cr_at_the_end_waits_for_its_lf_and_holds_back_no_earlier_event():
    assert framing.complete(b"data: a\r\r") == (b"", b"data: a\r\r")
    assert framing.complete(b"data: a\n\ndata: b\r\n\r") == (b"data: a\n\n", b"data: b\r\n\r")
    assert framing.complete(b"data: b\r\n\r\n") == (b"data: b\r\n\r\n", b"")


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        (b"data: a\n\n", b"a"),
        (b"data:a\r\n\r\n", b"a"),
        (b"data:  a\n\n", b" a"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data\n\n", b""),
        (b"data:\ndata:\n\n", b"\n"),
        (b"event: x\ndata: a\nid: 1\n\n", b"a"),
        (b": comment\n\n", None),
        (b"event: ping\n\n", None),
        (b"\n\n", None),
        (b"database: a\n\n", None),
        (b" data: a\n\n", None),
        (framing.BOM + b"data: a\n\n", b"a"),
        ("data: \u2028\u2029\u0085\x0b\x0c\n\n".encode(), "\u2028\u2029\u0085\x0b\x0c".encode()),
        (b"data: \xff\xfe\n\n", b"\xff\xfe"),
        (b"\ndata: a\n\n", b"a"),
    ],
)
def test_payload(event, payload):
    assert framing.payload(event) == payload


def test_what_we_write_we_read():
    assert framing.payload(framing.data(b'{"a":1}')) == b'{"a":1}'
    assert framing.payload(framing.comment("ping")) is None
    assert framing.comment("ping") == b": ping\n\n"
    assert framing.complete(framing.data(b"x") + framing.comment("y"))[1] == b""


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (b"data: a\n\n", ""),
        (b"event: ping\ndata: {}\n\n", "ping"),
        (b"event:ping\r\ndata: {}\r\n\r\n", "ping"),
        (b"event: a\nevent: b\ndata: x\n\n", "b"),
        (b": event: a\n\n", ""),
        (b"event: \xff\n\n", "\ufffd"),
    ],
)
def test_name(event, expected):
    assert framing.name(event) == expected


def test_a_stream_is_cut_into_names_and_payloads_however_it_arrives():
    stream = b"event: a\ndata: 1\n\n: ping\n\ndata: 2\r\n\r\nevent: b\rdata: 3\ndata: 4\n\ndata: last\n"
    found = [("a", b"1"), ("", b"2"), ("b", b"3\n4")]
    for size in (1, 2, 7, len(stream)):
        cutter = framing.ServerSentEvents()
        pieces = [cutter.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
        assert [one for piece in pieces for one in piece] == found
        assert cutter.end() == [("", b"last")]
        assert cutter.end() == []


def test_an_event_without_end_is_refused():
    cutter = framing.ServerSentEvents()
    with pytest.raises(ValueError, match="8 MiB"):
        cutter.feed(b"data: " + b"x" * framing.MAX_EVENT)
