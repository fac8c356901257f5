"""Upstreams whose replies break the rules of HTTP, or lie about themselves (F17, F18).

Whatever the reply, the call ends with an error or with exactly what was framed, and the connection is not used again.
"""

import gzip
from collections.abc import Callable

import pytest

from tests.faults.conftest import KEY, World
from tests.faults.invariants import Asked, Watched, eventually, fault
from tests.faults.tongues import BOTH, CHAT, EVENT_STREAM, JSON, TONGUES, WELL, Tongue, streamed, tongue_of
from tests.support.rawclient import RawReply
from tests.support.scripted import Answer, Expect, Hold, RawRequest, chunked, head, reply

BROKEN = ("upstream_invalid_response", "upstream_unreachable")
CHUNKED = head(200, [*JSON, ("transfer-encoding", "chunked")])
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"

Make = Callable[[Tongue], bytes]


def headers(count: int, size: int = 8) -> bytes:
    return b"".join(b"x-%d: %s\r\n" % (number, b"v" * size) for number in range(count))


# F17: what is no reply at all

NO_REPLY: dict[str, Make] = {
    "one huge header": lambda t: HEAD + b"x-huge: " + b"v" * 300_000 + b"\r\ncontent-length: 2\r\n\r\n{}",
    "too many headers": lambda t: HEAD + headers(200) + b"content-length: 2\r\n\r\n{}",
    "too many bytes of headers": lambda t: HEAD + headers(90, 4000) + b"content-length: 2\r\n\r\n{}",
    "headers without end": lambda t: HEAD + headers(20_000, 40),
    "another protocol": lambda t: b"HTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    "HTTP/2's preface": lambda t: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version 2.0": lambda t: b"HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    "no status": lambda t: b"HTTP/1.1 abc OK\r\ncontent-length: 2\r\n\r\n{}",
    "status of two digits": lambda t: b"HTTP/1.1 20 OK\r\ncontent-length: 2\r\n\r\n{}",
    "status beyond 599": lambda t: b"HTTP/1.1 999 OK\r\ncontent-length: 2\r\n\r\n{}",
    "HTTP/0.9": lambda t: t.document(),
    "a banner of another server": lambda t: b"220 mail.example ESMTP ready\r\n",
    "a flood of interim replies": lambda t: b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 500 + t.whole(),
    "switching protocols": lambda t: b"HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n" + t.whole(),
    "a header without a colon": lambda t: HEAD + b"nonsense\r\ncontent-length: 2\r\n\r\n{}",
    "NUL in a header": lambda t: HEAD + b"x: a\0b\r\ncontent-length: 2\r\n\r\n{}",
    "a folded header": lambda t: HEAD + b"x: a\r\n b\r\ncontent-length: 2\r\n\r\n{}",
}  # fmt: skip
# F18: a reply whose framing or coding is not what it says
LIES: dict[str, Make] = {
    "shorter than its length": lambda t: reply(200, [*JSON, ("content-length", "9999")], t.document())[:400],
    "length and chunks": lambda t: (
        head(200, [*JSON, ("content-length", "5"), ("transfer-encoding", "chunked")]) + chunked(t.document())
    ),
    "two lengths": lambda t: reply(200, [*JSON, ("content-length", "2"), ("content-length", "3")], b"{}}"),
    "a list of lengths": lambda t: reply(200, [*JSON, ("content-length", "2, 2")], b"{}"),
    "a negative length": lambda t: reply(200, [*JSON, ("content-length", "-1")], b"{}"),
    "no number as a length": lambda t: reply(200, [*JSON, ("content-length", "0x2")], b"{}"),
    "a chunk that is no number": lambda t: CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than it says": lambda t: CHUNKED + b"1\r\n{}\r\n0\r\n\r\n",
    "chunks of an absurd size": lambda t: CHUNKED + b"ffffffffffffffffff\r\n{}\r\n",
    "another transfer coding": lambda t: head(200, [*JSON, ("transfer-encoding", "gzip, chunked")]) + chunked(b"{}"),
}  # fmt: skip


async def each(run: Watched, world: World, make: Make) -> list[tuple[Tongue, Asked, Asked]]:
    """Every dialect, whole and streamed, at an upstream that answers so; and the answer to the call that follows."""
    broken = [Expect(), Answer(lambda request: make(tongue_of(request))), Hold()]
    async with world.upstream(lambda index: broken if index < len(BOTH) else WELL) as upstream:
        first = await run.many(BOTH, "")
        after = await run.many(BOTH, "")
        for seen in upstream.connections[: len(BOTH)]:
            await eventually(lambda seen=seen: seen.gone)
            assert len(seen.requests) == 1, "the connection was used again"
    return [(tongue, *pair) for (tongue, _), *pair in zip(BOTH, first, after, strict=True)]


@pytest.mark.parametrize("name", NO_REPLY)
async def test_f17_what_is_no_reply_is_a_502_and_the_connection_dropped(world: World, name: str) -> None:
    async with fault(world.node, KEY) as run:
        for tongue, one, after in await each(run, world, NO_REPLY[name]):
            tongue.assert_error(one.reply, 502, *BROKEN)
            assert (await run.row(one.label))["error"] == "upstream_invalid_response"
            assert after.reply.status == 200
            assert after.label.encode() in after.reply.body


@pytest.mark.parametrize("name", LIES)
async def test_f18_a_lie_about_the_length_is_an_error_and_the_connection_dropped(world: World, name: str) -> None:
    """Streams asked for are answered with one document here; so nothing of them has gone to the caller."""
    async with fault(world.node, KEY) as run:
        for tongue, one, after in await each(run, world, LIES[name]):
            if one.reply.status == 504:
                # Shorter than its length and then silence: only the deadline tells.
                assert name in ("shorter than its length", "chunks of an absurd size")
            else:
                tongue.assert_error(one.reply, 502, *BROKEN)
            assert after.reply.status == 200
            assert after.label.encode() in after.reply.body


SURPLUS: dict[str, Callable[[RawRequest], bytes]] = {
    "bytes": lambda r: right(r) + b"and more of it",
    "line ends": lambda r: right(r) + b"\r\n\r\n",
    "another reply": lambda r: right(r) + reply(200, JSON, b'{"text": "canary-0-0 of somebody else"}'),
}


def right(request: RawRequest) -> bytes:
    """The answer as it should be, its end told in advance."""
    tongue = tongue_of(request)
    if not streamed(request):
        return tongue.whole()
    events = b"".join(tongue.events())
    return reply(200, [*EVENT_STREAM[:1], ("content-length", str(len(events)))], events)


@pytest.mark.parametrize("name", SURPLUS)
async def test_f18_what_comes_after_the_end_reaches_nobody(world: World, name: str) -> None:
    """Longer than its length: a caller gets what was framed, and the rest meets no other call."""
    async with fault(world.node, KEY) as run:
        for tongue, stream in BOTH:
            async with world.upstream([[Expect(), Answer(SURPLUS[name]), Hold()], WELL]) as upstream:
                one = await run.ask(tongue, tongue.name, stream=stream)
                assert_framed_or_refused(tongue, one.reply)
                after = await run.ask(tongue, tongue.name, stream=stream)
                assert after.label.encode() in after.reply.body
                assert len(upstream.connections[0].requests) == 1, "the connection was used again"


def assert_framed_or_refused(tongue: Tongue, got: RawReply) -> None:
    if got.status == 200:
        assert b"more of it" not in got.body
        return
    tongue.assert_error(got, 502, *BROKEN)


GZIP_LIES: dict[str, Make] = {
    "not gzip at all": lambda t: t.document(),
    "cut off": lambda t: gzip.compress(t.document())[:-12],
    "damaged": lambda t: gzip.compress(t.document())[:40] + b"\0\0\0\0" + gzip.compress(t.document())[44:],
}


@pytest.mark.parametrize("name", GZIP_LIES)
async def test_f18_a_coding_that_lies_harms_nobody_else(world: World, name: str) -> None:
    """Uncompressed replies are asked for. One in spite of it is the caller's to undo: it comes as it is, and named."""

    def lie(request: RawRequest) -> bytes:
        return reply(200, [*JSON, ("content-encoding", "gzip")], GZIP_LIES[name](tongue_of(request)))

    async with fault(world.node, KEY) as run:
        for tongue in TONGUES:
            async with world.upstream([[Expect(), Answer(lie), *WELL]]) as upstream:
                one = await run.ask(tongue, tongue.name)
                assert upstream.requests[0].header("accept-encoding") == "identity"
                if one.reply.status == 200:
                    assert one.reply.headers["content-encoding"] == "gzip"
                    # The ids of responses are sealed wherever they can be read, so there the bytes differ.
                    assert tongue.name == "responses" or one.reply.body == GZIP_LIES[name](tongue)
                else:
                    tongue.assert_error(one.reply, 502, *BROKEN)
                after = await run.ask(tongue, tongue.name)
                assert after.label.encode() in after.reply.body


async def test_f18_sixty_calls_beside_a_liar_keep_their_own(world: World) -> None:
    """Every other connection sends what nobody asked for; each caller has its own words or an error."""

    def script(index: int) -> object:
        return WELL if index % 2 else [Expect(), Answer(lambda r: right(r) + CHAT.whole("canary-0-0")), Hold()]

    async with fault(world.node, KEY) as run, world.upstream(script):
        for _ in range(4):
            for one in await run.many(BOTH * 2, ""):
                assert one.reply.status in (200, 502)
