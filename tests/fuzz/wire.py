"""What comes from upstream sockets before any dialect is known: HTTP replies, framings, proxies, token endpoints."""

import random
import re
import struct
from typing import Any
from zlib import crc32

from fastgw.dialects import event_stream, framing
from fastgw.upstream import proxy
from fastgw.upstream.auth import tokens
from fastgw.upstream.auth.base import AuthError
from tests.fuzz import native
from tests.upstream.peers import HEAD, OK, Bench

PROXY = proxy.Proxy("proxy", 3128, b"")
CHUNK = re.compile(rb"([0-9A-Fa-f]+)(?:[ \t]*;[^\r\n]*)?\r\n")


def pieces(data: bytes, most: int = 8) -> list[bytes]:
    """`data` cut at places that depend on it alone."""
    chance = random.Random(crc32(data))
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(1, most)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


# -- replies of an upstream --------------------------------------------------------------------------------------------


class Waiter:
    """As much of a future as a connection asks of it."""

    def __init__(self) -> None:
        self.woken = 0

    def done(self) -> bool:
        return self.woken > 0

    def set_result(self, result: None) -> None:
        assert not self.woken, "woken twice"
        self.woken += 1


class Loop:
    """As much of a loop."""

    def create_future(self) -> Waiter:
        return Waiter()


def connection(data: bytes) -> object:
    """A reply however it is cut: one outcome, never two replies, never none; a connection is used again if it is clean.

    The first byte says how it is asked for (whole, HEAD) and how the connection ends.
    """
    if not data:
        return None
    flags, raw = data[0], data[1:]
    told = [
        _reply(flags, parts)
        for parts in ([raw], pieces(raw), [raw[i : i + 1] for i in range(len(raw[:700]))] + [raw[700:]])
    ]
    first = told[0]
    for other in told[1:]:
        if "too_large" not in (first[1], other[1]):  # the caps are counted by segments
            assert other[:3] == first[:3], f"cut otherwise it is another reply: {told!r}"
    return (first[0], first[1], first[2] and first[2][0], first[3])


def _reply(flags: int, parts: list[bytes]) -> tuple[Any, ...]:
    """(complete, reason of the error, status, headers and body, whether the connection was given back at once)."""
    bench = Bench(Loop(), max_head=1024, max_body=4096)
    whole, head_only = bool(flags & 1), flags & 6 == 6
    reply = bench.begin(whole=whole, head=HEAD.replace(b"POST", b"HEAD") if head_only else HEAD)
    bench.feed(*[part for part in parts if part])
    if not reply.complete and reply._error is None:
        assert not bench.released
        if flags & 8:
            bench.connection.eof_received()
        bench.connection.connection_lost(None if flags & 8 else ConnectionResetError())
    assert reply.complete != (reply._error is not None), "neither an end nor an error, or both"
    assert bench.waiter.done()
    assert bench.released <= 1
    assert len(bench.forgotten) <= 1
    assert bench.released or bench.transport.aborted or flags & 8, "neither given back nor closed"
    if bench.released and not bench.transport.aborted:
        raw = b"".join(parts)
        assert any(ends_exactly(one, head_only) for one in but_for_line_ends(raw)), "something is left over"
        _use_again(bench)
    reason = reply._error.reason if reply._error is not None else None
    body = (reply.status, reply.headers, reply.body if whole else b"".join(reply._chunks)) if reply.complete else None
    return reply.complete, reason, body, bench.released


def _use_again(bench: Bench) -> None:
    reply = bench.begin(whole=True)
    bench.feed(OK)
    assert reply.complete
    assert (reply.status, reply.body, bench.released) == (200, b"ok", 2)


def but_for_line_ends(raw: bytes) -> list[bytes]:
    """`raw`, and without one after the other of the line ends behind it: they start nothing, and parsers skip them."""
    return [raw, *(raw[:-size] for size in range(1, 1 + len(raw) - len(raw.rstrip(b"\r\n"))))]


def ends_exactly(raw: bytes, head_only: bool) -> bool:
    """Whether bytes are one final reply with a body that tells its length, and not one byte more."""
    status, rest = 100, raw
    headers: dict[bytes, bytes] = {}
    while 100 <= status < 200:
        head, end, rest = rest.lstrip(b"\r\n").partition(b"\r\n\r\n")
        if not end:
            return False
        first, *fields = head.split(b"\r\n")
        status = int(first.split(b" ")[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in fields)}
    if head_only or status in (204, 304):
        return rest == b""
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        return _chunks_end(rest)
    return len(rest) == int(headers.get(b"content-length", b"-1"))


def _chunks_end(rest: bytes) -> bool:
    while (line := CHUNK.match(rest)) is not None:
        size = int(line[1], 16)
        rest = rest[line.end() :]
        if size == 0:
            return rest == b"\r\n" or (rest.find(b"\r\n\r\n") == len(rest) - 4 > 0)
        if rest[size : size + 2] != b"\r\n":
            return False
        rest = rest[size + 2 :]
    return False


def whole(data: bytes) -> object:
    """The quick reading of a reply that came in one piece: the twins agree, and it is one reply and nothing more."""
    found = native.agreed([twin.whole(data, 1024, 4096) for twin in native.twins("replies")])
    if found is None:
        return None
    assert ends_exactly(data, head_only=False)
    assert data.endswith(b"\r\n\r\n" + found[2])
    return found[0], [name for name, _ in found[1]]


def tunnel(data: bytes) -> object:
    """A proxy's answer to CONNECT."""
    proxy._judge(data, PROXY)
    assert data.startswith((b"HTTP/1.1 2", b"HTTP/1.0 2"))
    assert data.endswith(b"\r\n\r\n")
    return "open"


def token(data: bytes) -> object:
    """A token endpoint's answer, good or bad; what is said of a bad one quotes no more than a code."""
    assert len(tokens._code(data, frozenset())) <= 65
    answer = tokens._object(data)
    if answer is None:
        return "none"
    fresh = tokens.granted(answer)
    assert fresh.life >= 0
    return "granted"


TOKEN_ERRORS = (AuthError,)


# -- framings ----------------------------------------------------------------------------------------------------------


def aws(data: bytes) -> object:
    """AWS's framing: bytes as they are, and the same as messages whose checksums are right."""
    said = [_frames([data]), _frames(pieces(data))]
    assert said[0] == said[1] or None in said[0]
    framed = b"".join(_framed(part) for part in data.split(b"\x1f")[:20])
    good = [
        _frames([framed]),
        _frames(pieces(framed)),
        _frames([framed[i : i + 1] for i in range(len(framed[:2000]))] + [framed[2000:]]),
    ]
    assert good[0] == good[1] == good[2], good
    return len(good[0][0]), good[0][1]


def _frames(parts: list[bytes]) -> tuple[list[tuple[str, bytes]], str | None]:
    """What was found, and the fault it ended with."""
    stream, found = event_stream.EventStream(), []
    try:
        for part in parts:
            found += stream.feed(part)
        found += stream.end()
    except ValueError as fault:
        return found, str(fault)
    return found, None


def _framed(part: bytes) -> bytes:
    """A message of which the first byte tells how long its headers are."""
    size = min(part[0] if part else 0, len(part[1:]))
    lengths = struct.pack(">II", 16 + len(part[1:]), size)
    message = lengths + struct.pack(">I", crc32(lengths)) + part[1:]
    return message + struct.pack(">I", crc32(message))


def events(data: bytes) -> object:
    """Server-sent events: the same however the bytes are cut, and those of a plain reading of the standard."""
    found = [
        _events([data]),
        _events(pieces(data)),
        _events([data[i : i + 1] for i in range(len(data[:400]))] + [data[400:]]),
    ]
    assert found[0] == found[1] == found[2], found
    block, rest = framing.complete(data)
    assert block + rest == data
    assert b"".join(framing.events(block)) == block
    return len(found[0]), bool(rest)


def _events(parts: list[bytes]) -> list[tuple[str, bytes]]:
    cutter = framing.ServerSentEvents()
    return [event for part in parts for event in cutter.feed(part)] + cutter.end()
