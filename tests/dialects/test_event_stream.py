"""AWS's framing of streams: known messages, both directions, every split, and everything that can be broken."""

import json
import struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.dialects import event_stream
from fastgw.dialects.event_stream import FAILED, EventStream, decode, encode, event, exception

# The test messages of AWS's own libraries (aws-c-event-stream, botocore).
KNOWN = {
    "000000100000000005c248eb7d98c8ff": ({}, b""),
    "0000001d00000000fd528c5a7b27666f6f273a27626172277dc3653936": ({}, b"{'foo':'bar'}"),
    "0000003d0000002007fd83960c636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e"
    "7b27666f6f273a27626172277d8d9c08b1": ({"content-type": "application/json"}, b"{'foo':'bar'}"),
}  # fmt: skip
ONE = event("contentBlockDelta", b'{"delta":{"text":"hi"}}')
ALL = [
    event("messageStart", b'{"role":"assistant"}'),
    ONE,
    event("", b""),
    exception("throttlingException", b'{"message":"slow"}'),
    encode({":message-type": "error", ":error-code": "InternalFailure", ":error-message": "gone"}, b""),
    encode({"x": 1}, b"who knows"),
]
CUT = [
    ("messageStart", b'{"role":"assistant"}'),
    ("contentBlockDelta", b'{"delta":{"text":"hi"}}'),
    ("", b""),
    ("throttlingException", b'{"message":"slow"}'),
    (FAILED, b'{"code":"InternalFailure","message":"gone"}'),
    ("", b"who knows"),
]
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=50),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)
HEADERS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30), VALUES, max_size=5
)


def raw(headers: bytes, payload: bytes = b"", *, size: int | None = None, headers_size: int | None = None) -> bytes:
    """A message with headers as given and checksums that hold, whatever it says of its lengths."""
    actual = 16 + len(headers) + len(payload)
    lengths = struct.pack(
        ">II", actual if size is None else size, len(headers) if headers_size is None else headers_size
    )
    body = lengths + struct.pack(">I", crc32(lengths)) + headers + payload
    return body + struct.pack(">I", crc32(body))


@pytest.mark.parametrize("message", KNOWN)
def test_known_messages(message):
    headers, payload = KNOWN[message]
    assert decode(bytes.fromhex(message)) == (headers, payload)
    assert encode(headers, payload) == bytes.fromhex(message)


def test_values_of_every_type():
    block = b"".join(
        [
            b"\x01t\x00", b"\x01f\x01", b"\x01b\x02\xff", b"\x01s\x03\xff\xfe", b"\x01i\x04\xff\xff\xff\xfd",
            b"\x01l\x05" + struct.pack(">q", -4), b"\x01y\x06\x00\x02ab", b"\x01x\x07\x00\x02\xc3\xa9",
            b"\x01d\x08" + struct.pack(">q", 1_700_000_000_000), b"\x01u\x09" + bytes(range(16)),
        ]
    )  # fmt: skip
    headers, payload = decode(raw(block, b"p"))
    assert headers == {
        "t": True, "f": False, "b": -1, "s": -2, "i": -3, "l": -4, "y": b"ab", "x": "é",
        "d": 1_700_000_000_000, "u": bytes(range(16)),
    }  # fmt: skip
    assert payload == b"p"


@given(HEADERS, st.binary(max_size=300))
def test_what_was_written_is_read(headers, payload):
    read, said = decode(encode(headers, payload))
    assert (read, said) == (headers, payload)
    assert [type(value) for value in read.values()] == [type(value) for value in headers.values()]


def test_every_split_gives_the_same():
    stream = b"".join(ALL)
    for at in range(len(stream) + 1):
        cutter = EventStream()
        assert cutter.feed(stream[:at]) + cutter.feed(stream[at:]) + cutter.end() == CUT
    cutter = EventStream()
    assert [one for at in range(len(stream)) for one in cutter.feed(stream[at : at + 1])] == CUT
    assert cutter.end() == []


@given(st.lists(st.integers(1, 40), max_size=60))
def test_any_pieces_give_the_same(sizes):
    stream, cutter, found = b"".join(ALL), EventStream(), []
    for size in sizes:
        found += cutter.feed(stream[:size])
        stream = stream[size:]
    assert found + cutter.feed(stream) == CUT


def test_a_stream_that_ends_inside_a_message():
    for at in range(1, len(ONE)):
        cutter = EventStream()
        assert cutter.feed(ONE[:at]) == []
        with pytest.raises(ValueError, match="ends inside"):
            cutter.end()


def test_no_byte_of_a_message_can_change_unseen():
    for at in range(len(ONE)):
        for bit in (1, 128):
            broken = ONE[:at] + bytes([ONE[at] ^ bit]) + ONE[at + 1 :]
            with pytest.raises(ValueError, match="checksum"):
                decode(broken)


def test_what_is_before_a_broken_message_counts():
    cutter = EventStream()
    assert cutter.feed(ALL[0] + b"\0" * 40) == CUT[:1]
    for again in (lambda: cutter.feed(ONE), cutter.end):
        with pytest.raises(ValueError, match="checksum"):
            again()
    with pytest.raises(ValueError, match="checksum"):
        EventStream().feed(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (raw(b"", size=16 * 1024 * 1024), "larger than 8 MiB"),
        (raw(b"", size=15), "headers of a message are larger"),
        (raw(b"", b"x" * 4, headers_size=5), "headers of a message are larger"),
        (raw(b"x" * 140_000), "headers of a message are larger"),
        (raw(b"\x05ab"), "headers of a message are broken"),
        (raw(b"\x01a"), "headers of a message are broken"),
        (raw(b"\x01a\x07\x00\x09abc"), "headers of a message are broken"),
        (raw(b"\x01a\x07\x00\x01\xff"), "headers of a message are broken"),
        (raw(b"\x01a\x05\x00"), "headers of a message are broken"),
        (raw(b"\x01a\x09short"), "headers of a message are broken"),
        (raw(b"\x01a\x0a"), "unknown type 10"),
    ],
)
def test_what_is_no_message(message, words):
    with pytest.raises(ValueError, match=words):
        EventStream().feed(message)


def test_an_endless_message_is_refused_by_its_first_bytes():
    head = struct.pack(">II", event_stream.MAX_MESSAGE + 1, 0)
    with pytest.raises(ValueError, match="larger than 8 MiB"):
        EventStream().feed(head + struct.pack(">I", crc32(head)))


@pytest.mark.parametrize("message", [b"", b"x" * 15, ONE + b"x", ONE * 2, ONE[:-1]])
def test_one_message_and_no_more(message):
    with pytest.raises(ValueError, match="message"):
        decode(message)


@pytest.mark.parametrize(
    ("headers", "payload"),
    [
        ({"": 1}, b""), ({"x" * 256: 1}, b""), ({"x": "y" * 65536}, b""), ({"x": 2**63}, b""),
        ({f"x{i}": "y" * 60_000 for i in range(3)}, b""), ({}, b"x" * event_stream.MAX_MESSAGE),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_not_written(headers, payload):
    with pytest.raises(ValueError):
        encode(headers, payload)


def test_an_error_without_words():
    ((name, payload),) = EventStream().feed(encode({":message-type": "error"}, b""))
    assert (name, json.loads(payload)) == (FAILED, {"code": None, "message": None})


def test_names_are_remembered_by_the_whole_of_their_headers():
    cutter = EventStream()
    for _ in range(3):
        assert [one for message in ALL for one in cutter.feed(message)] == CUT
    broken = bytearray(ONE)
    broken[-6] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        cutter.feed(bytes(broken))


def test_no_more_names_are_remembered_than_a_stream_needs():
    cutter = EventStream()
    for number in range(3 * event_stream.MAX_NAMES):
        assert cutter.feed(event(f"kind{number}", b"{}") * 2) == [(f"kind{number}", b"{}")] * 2
    assert len(cutter._names) == event_stream.MAX_NAMES
    long = event("k" * event_stream.MAX_NAMED, b"{}")
    cutter = EventStream()
    assert cutter.feed(long) == [("k" * event_stream.MAX_NAMED, b"{}")]
    assert cutter._names == {}
