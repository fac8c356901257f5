"""S17: whatever bytes an upstream sends, a call's answer is its own, and a connection that said too much is not used.

What no gateway can tell is a second reply that arrives when the next request has left already: on HTTP/1.1 it is that
request's reply. So where the second one comes late here, it comes while the connection idles.
"""

import asyncio
import json

import pytest

from tests.edge.conftest import Edge
from tests.edge.corpus import KEY
from tests.edge.h1 import cut
from tests.edge.support import Echo, ask, canary, read_all, said
from tests.support.rawclient import RawReply, call, connect, post
from tests.support.scripted import (
    DONE,
    Expect,
    Flood,
    Send,
    Sleep,
    Step,
    chat_completion,
    chat_events,
    chunked,
    head,
    reply,
    sse,
)

EVIL = "evil-words-for-somebody-else"
OWN = "answer-of-the-first-call"
WHOLE = json.dumps(chat_completion(OWN)).encode()
BAD = reply(body=chat_completion(EVIL))
GOOD = reply(body=chat_completion(OWN))
TYPE = ("content-type", "application/json")
TE = ("transfer-encoding", "chunked")


def framed(*headers: tuple[str, str], body: bytes = WHOLE, status: int = 200, then: bytes = BAD) -> bytes:
    """A reply with exactly these headers and bytes, and one more reply behind it."""
    return head(status, [TYPE, *headers]) + body + then


def length(value: object) -> tuple[str, str]:
    return "content-length", str(value)


def coded(body: bytes) -> bytes:
    return framed(TE, body=body)


N = len(WHOLE)
SIZE = b"%x\r\n" % N
SERVED: dict[str, list[Step]] = {
    "two replies at once": [Expect(), Send(GOOD + BAD)],
    "a second reply, a moment later": [Expect(), Send(GOOD), Sleep(0.02), Send(BAD)],
    "a second reply, in pieces": [Expect(), Send(GOOD + BAD[:20]), Sleep(0.02), Send(BAD[20:])],
    "a length too short": [Expect(), Send(framed(length(N - 9)))],
    "a length, and more": [Expect(), Send(GOOD + b"surplus " + EVIL.encode())],
    "a length, and one byte more": [Expect(), Send(GOOD + b"x")],
    "a length, and an empty line": [Expect(), Send(GOOD + b"\r\n"), Sleep(0.02), Send(BAD)],
    "chunks, and more": [Expect(), Send(coded(chunked(WHOLE)))],
    "chunks, and the end of a body": [Expect(), Send(framed(TE, body=chunked(WHOLE), then=b"0\r\n\r\n"))],
    "100, then two replies": [Expect(), Send(b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD + BAD)],
    "103, then two replies": [Expect(), Send(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + GOOD + BAD)],
    "a close that is none": [Expect(), Send(framed(length(N), ("connection", "close")))],
    "an interim reply after the reply": [Expect(), Send(GOOD + b"HTTP/1.1 100 Continue\r\n\r\n" + BAD)],
}  # fmt: skip
BROKEN: dict[str, list[Step]] = {
    name: [Expect(), Send(raw)]
    for name, raw in {
        "length and chunks": framed(length(N), TE, body=chunked(WHOLE)),
        "chunks and length": framed(TE, length(5), body=chunked(WHOLE)),
        "length 0 and chunks": framed(length(0), TE, body=chunked(WHOLE)),
        "two lengths that differ": framed(length(N), length(N + len(BAD))),
        "a list of lengths": framed(length(f"{N}, {N}")),
        "a length with a sign": framed(length(f"+{N}")),
        "a negative length": framed(length(-1)),
        "a length in hex": framed(length(hex(N))),
        "a length beyond 64 bits": framed(length(2**64 + N)),
        "no length in a length": framed(length("")),
        "a length with a letter": framed(length(f"{N}x")),
        "a coding twice": framed(TE, TE, body=chunked(WHOLE)),
        "gzip, chunked": framed(("transfer-encoding", "gzip, chunked"), body=chunked(WHOLE)),
        "chunked, identity": framed(("transfer-encoding", "chunked, identity"), body=chunked(WHOLE)),
        "xchunked": framed(("transfer-encoding", "xchunked"), body=chunked(WHOLE)),
        "chunks in HTTP/1.0": framed(TE, body=chunked(WHOLE)).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
        "a chunk size that is none": coded(b"zz\r\n" + WHOLE + b"\r\n0\r\n\r\n"),
        "a negative chunk size": coded(b"-" + SIZE + WHOLE + b"\r\n0\r\n\r\n"),
        "a chunk size with 0x": coded(b"0x" + SIZE + WHOLE + b"\r\n0\r\n\r\n"),
        "a chunk size beyond 64 bits": coded(b"1" + SIZE.rjust(18, b"0") + WHOLE + b"\r\n0\r\n\r\n"),
        "a chunk longer than said": coded(b"%x\r\n" % (N - 4) + WHOLE + b"\r\n0\r\n\r\n"),
        "a chunk without its end": coded(SIZE + WHOLE + b"0\r\n\r\n"),
        "a chunk that ends in LF": coded(SIZE + WHOLE + b"\n0\r\n\r\n"),
        "a chunk size that ends in LF": coded(SIZE.replace(b"\r", b"") + WHOLE + b"\r\n0\r\n\r\n"),
        "trailers that frame": coded(chunked(WHOLE, last=False) + b"0\r\ncontent-length: 900\r\n\r\n"),
        "trailers that are none": coded(chunked(WHOLE, last=False) + b"0\r\nHTTP/1.1 200 OK\r\n\r\n"),
        "101": framed(("upgrade", "x"), ("connection", "upgrade"), status=101),
        "a folded header": framed(("x-a", "b\r\n c"), length(N)),
        "a blank before the colon": framed(("x-a ", "b"), length(N)),
        "a header without a colon": head(200, [length(N)]).replace(b"\r\n\r\n", b"\r\nnocolon\r\n\r\n") + WHOLE + BAD,
        "a NUL in a header": framed(("x-a", "\0"), length(N)),
        "a bare CR in a header": framed(("x-a", f"b\rcontent-length: {N - 1}"), length(N)),
        "HTTP/2.0": GOOD.replace(b"HTTP/1.1", b"HTTP/2.0") + BAD,
        "HTTP/0.9": WHOLE + BAD,
        "a status of two digits": GOOD.replace(b" 200 ", b" 20 ") + BAD,
        "an empty line first": b"\r\n" + GOOD + BAD,
        "bytes before the reply": b"xx" + GOOD + BAD,
        "101 interim replies": b"HTTP/1.1 100 Continue\r\n\r\n" * 101 + GOOD + BAD,
        "100 with a length": b"HTTP/1.1 100 Continue\r\ncontent-length: 5\r\n\r\n" + b"hello" + GOOD + BAD,
    }.items()
}
BROKEN["an endless line of interim replies"] = [Expect(), Flood(b"HTTP/1.1 100 Continue\r\nx-a: b\r\n\r\n" * 100)]
BROKEN["endless trailers"] = [
    Expect(),
    Send(head(200, [TYPE, TE]) + chunked(WHOLE, last=False) + b"0\r\n"),
    Flood(b"x-a: bbbbbbbbbbbbb\r\n" * 100),
]


def request(word: str, *, stream: bool = False, **headers: str) -> bytes:
    body = {"model": "edge", "stream": stream, "messages": [{"role": "user", "content": word}]}
    return post(body, authorization=f"Bearer {KEY.decode()}", **headers)


async def check_others(edge: Edge, upstream: Echo) -> None:
    """Calls after it have their own answers, over other connections; the first one's is ended."""
    if any(isinstance(step, Sleep) for step in upstream.first[0]):
        await ended(upstream)
    words = [canary() for _ in range(4)]
    async with connect(edge.node.port) as one, connect(edge.node.port) as two:
        assert await asyncio.gather(ask(one, words[0], KEY), ask(two, words[1], KEY)) == words[:2]
        assert await asyncio.gather(ask(one, words[2], KEY), ask(two, words[3], KEY)) == words[2:]
    doubtful, *others = upstream.connections
    assert len(doubtful.requests) <= 1, "it was used again"
    assert sorted(said(request) for seen in others for request in seen.requests if said(request) in words) == words
    await ended(upstream)


async def ended(upstream: Echo) -> None:
    """Until the gateway has ended the first connection."""
    async with asyncio.timeout(5.0):
        while not upstream.connections[0].gone:
            await asyncio.sleep(0.005)


def clean(got: RawReply) -> None:
    assert EVIL.encode() not in got.raw
    assert got.ending == "whole"


@pytest.mark.parametrize("name", SERVED)
async def test_s17_what_follows_a_reply_is_nobodys(edge: Edge, name: str) -> None:
    async with Echo(edge.upstream_port, {0: SERVED[name]}) as upstream:
        got = await call(edge.node.port, request(canary()))
        clean(got)
        assert (got.status, got.body) == (200, WHOLE[:-9] if name == "a length too short" else WHOLE)
        await check_others(edge, upstream)


@pytest.mark.parametrize("name", BROKEN)
async def test_s17_what_is_no_reply_is_an_error(edge: Edge, name: str) -> None:
    async with Echo(edge.upstream_port, {0: BROKEN[name]}) as upstream:
        got = await call(edge.node.port, request(canary()))
        clean(got)
        assert got.status == 502, got.raw
        await check_others(edge, upstream)


@pytest.mark.parametrize("status", [204, 304, 205])
async def test_s17_a_status_without_a_body_has_none_to_spill(edge: Edge, status: int) -> None:
    """RFC 9112 6.3: 204 and 304 end with their head whatever it says; what follows is surplus. 205 may be framed."""
    steps: list[Step] = [Expect(), Send(framed(length(N), status=status))]
    async with Echo(edge.upstream_port, {0: steps}) as upstream:
        async with connect(edge.node.port) as connection:
            connection.send(request(canary(), connection="close"))
            heard = cut(*await read_all(connection), ("POST",))
        assert (heard.statuses, heard.faults, heard.ending) == ([status], [], "fin")
        assert heard.answers[0].body == (WHOLE if status == 205 else b"")
        await check_others(edge, upstream)


STREAM = sse(chat_events(OWN, done=False), last=False)
STREAMS: dict[str, list[Step]] = {
    "more after the last chunk": [Expect(), Send(sse(chat_events(OWN)) + BAD)],
    "a second reply, a moment later": [Expect(), Send(sse(chat_events(OWN))), Sleep(0.02), Send(BAD)],
    "a bad chunk after the first events": [Expect(), Send(STREAM + b"zz\r\n" + BAD)],
    "a chunk without its end": [Expect(), Send(STREAM + b"%x\r\n" % len(DONE) + DONE + b"0\r\n\r\n" + BAD)],
    "a reply in place of a chunk": [Expect(), Send(STREAM), Sleep(0.02), Send(BAD)],
}


@pytest.mark.parametrize("name", STREAMS)
async def test_s17_what_breaks_into_a_stream_stays_out_of_it(edge: Edge, name: str) -> None:
    async with Echo(edge.upstream_port, {0: STREAMS[name]}) as upstream:
        got = await call(edge.node.port, request(canary(), stream=True))
        clean(got)
        assert (got.status, OWN.encode() in got.body) == (200, True)
        assert (b"error" in got.body) != got.body.endswith(DONE)
        await check_others(edge, upstream)
