"""How AWS cuts a stream: `application/vnd.amazon.eventstream`, read and written.

A message is a prelude (its length, that of its headers, CRC-32 of these eight bytes), headers, payload and the CRC-32
of all before it; numbers are big-endian. A header is a name and a typed value. Two of them say what the payload is:
`:message-type` (`event`, `exception` or `error`), and `:event-type`, `:exception-type` or `:error-code` with it.
Source: https://smithy.io/2.0/aws/amazon-eventstream.html.
"""

import struct
from collections.abc import Mapping
from struct import Struct as Layout
from zlib import crc32

import msgspec

MAX_MESSAGE = 8 * 1024 * 1024
"""Bytes of one message; the format allows twice as many, no model has that much to say at once."""
MAX_HEADERS = 128 * 1024
MAX_NAMES = 64
MAX_NAMED = 512
"""Kinds of events whose names are remembered, and the longest headers they may have; a stream has half a dozen."""
FAILED = ":error"
"""The name of a message of type `error`, whose code and words stand in its headers."""

Value = bool | int | bytes | str

_PRELUDE = Layout(">III")
_LENGTHS = Layout(">II")
_CRC = Layout(">I")
_SIZE = Layout(">H")
_BEFORE = _PRELUDE.size
_BEHIND = _CRC.size
_OVERHEAD = _BEFORE + _BEHIND
_read_prelude = _PRELUDE.unpack_from
_read_crc = _CRC.unpack_from
_NUMBERS = {2: Layout(">b"), 3: Layout(">h"), 4: Layout(">i"), 5: Layout(">q"), 8: Layout(">q")}
_TRUE, _FALSE, _LONG, _BYTES, _STRING, _UUID = 0, 1, 5, 6, 7, 9


class EventStream:
    """Cuts one stream, fed as its bytes arrive, into (name, payload) pairs. See `codec.Frames`.

    The name is the type of the event or of the exception; for an `error` it is `FAILED`, with `{"code", "message"}`.
    What is before a broken message counts; the fault is told when there is nothing before it.
    """

    __slots__ = ("_buffer", "_fault", "_names")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fault: ValueError | None = None
        self._names: dict[bytes, str] = {}

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The messages that are complete now. Raises ValueError for what is none."""
        if self._fault is not None:
            raise self._fault
        found: list[tuple[str, bytes]] = []
        try:
            if not self._buffer:
                end = self._cut(data, found)
                if end < len(data):
                    self._buffer += data[end:]
            else:
                self._buffer += data
                del self._buffer[: self._cut(self._buffer, found)]
        except ValueError as fault:
            if not found:
                raise
            self._fault = fault
        return found

    def end(self) -> list[tuple[str, bytes]]:
        """The upstream closed the stream. Raises ValueError when that was inside a message."""
        if self._fault is not None:
            raise self._fault
        if self._buffer:
            raise ValueError("the stream ends inside a message")
        return []

    def _cut(self, buffer: bytes | bytearray, found: list[tuple[str, bytes]]) -> int:
        """Adds the messages that are complete to `found`, and tells where the rest begins."""
        start, whole = 0, len(buffer)
        while whole - start >= _BEFORE:
            size, headers_size = _prelude(buffer, start)
            if whole - start < size:
                break
            end = start + size
            message = buffer[start:end]
            found.append(self._one(message if type(message) is bytes else bytes(message), headers_size))
            start = end
        return start

    def _one(self, message: bytes, headers_size: int) -> tuple[str, bytes]:
        # Events of one kind have the same headers to the byte, and there are few kinds.
        headers_end = _BEFORE + headers_size
        block = message[_BEFORE:headers_end]
        name = self._names.get(block)
        if name is not None:
            return name, message[headers_end : _checked(message)]
        headers, payload = _message(message, headers_size)
        named = _named(headers, payload)
        if headers.get(":message-type") == "event" and len(self._names) < MAX_NAMES and headers_size <= MAX_NAMED:
            self._names[block] = named[0]
        return named


def decode(message: bytes) -> tuple[dict[str, Value], bytes]:
    """Headers and payload of one message. Raises ValueError for what is none, or more than one."""
    if len(message) < _OVERHEAD:
        raise ValueError("a message is shorter than its frame")
    size, headers_size = _prelude(message, 0)
    if size != len(message):
        raise ValueError("a message is not as long as it says")
    return _message(message, headers_size)


def encode(headers: Mapping[str, Value], payload: bytes) -> bytes:
    """One message. Raises ValueError for what does not fit into one."""
    block = b"".join([_header(name, value) for name, value in headers.items()])
    size = _OVERHEAD + len(block) + len(payload)
    if len(block) > MAX_HEADERS or size > MAX_MESSAGE:
        raise ValueError("more than a message may hold")
    lengths = _LENGTHS.pack(size, len(block))
    message = lengths + _CRC.pack(crc32(lengths)) + block + payload
    return message + _CRC.pack(crc32(message))


def event(name: str, payload: bytes) -> bytes:
    """An event whose payload is JSON."""
    return encode({":event-type": name, ":content-type": "application/json", ":message-type": "event"}, payload)


def exception(name: str, payload: bytes) -> bytes:
    """An exception whose payload is JSON: the end of a stream that failed."""
    return encode({":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}, payload)


def _prelude(buffer: bytes | bytearray, start: int) -> tuple[int, int]:
    """The lengths of a message and of its headers."""
    size, headers_size, crc = _read_prelude(buffer, start)
    if crc != crc32(buffer[start : start + 8]):
        raise ValueError("the checksum of a message's lengths is wrong")
    if size > MAX_MESSAGE:
        raise ValueError("an event is larger than 8 MiB")
    if headers_size > MAX_HEADERS or headers_size > size - _OVERHEAD:
        raise ValueError("the headers of a message are larger than they can be")
    return size, headers_size


def _checked(message: bytes) -> int:
    """Where the payload of a message ends, the checksum behind which is right."""
    end = len(message) - _BEHIND
    if crc32(message[:end]) != _read_crc(message, end)[0]:
        raise ValueError("the checksum of a message is wrong")
    return end


def _message(message: bytes, headers_size: int) -> tuple[dict[str, Value], bytes]:
    body_end = _checked(message)
    headers_end = _BEFORE + headers_size
    try:
        return _headers(message[_BEFORE:headers_end]), message[headers_end:body_end]
    except (struct.error, IndexError, UnicodeDecodeError):
        raise ValueError("the headers of a message are broken") from None


def _headers(block: bytes) -> dict[str, Value]:
    headers: dict[str, Value] = {}
    at = 0
    while at < len(block):
        start = at + 1
        at = start + block[at]
        name, kind = block[start:at].decode(), block[at]
        headers[name], at = _value(block, kind, at + 1)
    return headers


def _value(block: bytes, kind: int, at: int) -> tuple[Value, int]:
    """A header's value and where it ends."""
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, at
    if kind in _NUMBERS:
        return _NUMBERS[kind].unpack_from(block, at)[0], at + _NUMBERS[kind].size
    size = 16
    if kind in (_BYTES, _STRING):
        (size,) = _SIZE.unpack_from(block, at)
        at += _SIZE.size
    elif kind != _UUID:
        raise ValueError(f"a header has a value of the unknown type {kind}")
    value = block[at : at + size]
    if len(value) < size:
        raise IndexError
    return value.decode() if kind == _STRING else value, at + size


def _header(name: str, value: Value) -> bytes:
    written = name.encode()
    if not 0 < len(written) < 256:
        raise ValueError("a header's name has 1 to 255 bytes")
    head = bytes([len(written)]) + written
    if isinstance(value, bool):
        return head + bytes([_TRUE if value else _FALSE])
    try:
        if isinstance(value, int):
            return head + bytes([_LONG]) + _NUMBERS[_LONG].pack(value)
        data = value.encode() if isinstance(value, str) else value
        return head + bytes([_STRING if isinstance(value, str) else _BYTES]) + _SIZE.pack(len(data)) + data
    except struct.error:
        raise ValueError("a header's value is too large") from None


def _named(headers: dict[str, Value], payload: bytes) -> tuple[str, bytes]:
    """What the headers call the payload; "" for what has no name."""
    kind = headers.get(":message-type")
    if kind == "error":
        said = {"code": headers.get(":error-code"), "message": headers.get(":error-message")}
        return FAILED, msgspec.json.encode(said)
    name = headers.get(":exception-type" if kind == "exception" else ":event-type", "")
    return (name if isinstance(name, str) else ""), payload
