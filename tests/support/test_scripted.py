"""The scripted upstream sends what is written and remembers what came."""

import asyncio
import time

import pytest

from tests.support.grammar import chat_stream_problems, check_chat_stream
from tests.support.rawclient import call, connect, get, post
from tests.support.scripted import (
    DONE,
    Expect,
    Fin,
    Flood,
    Hold,
    Reset,
    ScriptedUpstream,
    Send,
    Sleep,
    chat_completion,
    chat_events,
    chunked,
    head,
    reply,
    sse,
    take_request,
)

REQUEST = post({"model": "m"}, x_one="1")


async def test_requests_are_remembered() -> None:
    script = [Expect(), Send(reply(body=b"one")), Expect(), Send(reply(404, [("x-y", "z")], {"a": 1}))]
    async with ScriptedUpstream([script]) as up, connect(up.port) as client:
        client.send(REQUEST)
        assert (await client.read()).body == b"one"
        client.send(get("/v1/models?x=1"))
        second = await client.read()
        assert (second.status, second.headers["x-y"], second.json()) == (404, "z", {"a": 1})
        assert (await client.read()).ending == "fin"
    first, last = up.requests
    assert (first.method, first.target, first.json()) == ("POST", "/v1/chat/completions", {"model": "m"})
    assert (first.header("X-One"), first.header("absent")) == ("1", None)
    assert (last.method, last.target, last.body) == ("GET", "/v1/models?x=1", b"")
    assert first.head + first.body == REQUEST
    assert up.connections[0].opened <= first.at <= last.at


async def test_chunked_request_and_pipelining() -> None:
    body = b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + chunked(b"abc", b"defg")
    async with ScriptedUpstream([[Expect(), Expect(), Send(reply())]]) as up:
        assert (await call(up.port, body + REQUEST)).status == 200
        assert [r.body for r in up.requests] == [b"abcdefg", b'{"model": "m"}']


@pytest.mark.parametrize(
    "data", [REQUEST, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"ab", b"c")]
)
def test_take_request_waits_for_the_last_byte(data: bytes) -> None:
    for size in range(len(data)):
        assert take_request(bytearray(data[:size])) is None
    buffer = bytearray(data + b"rest")
    assert take_request(buffer) is not None
    assert buffer == b"rest"


async def test_what_is_not_http_is_a_problem() -> None:
    async with ScriptedUpstream([[Expect()]]) as up:
        assert (await call(up.port, b"nonsense\r\n\r\n")).raw == b""
        assert isinstance(up.connections[0].problem, ValueError)


async def test_reset_after_exact_bytes() -> None:
    async with ScriptedUpstream([[Expect(), Send(b"HTTP/1.1 200 O"), Reset()]]) as up:
        got = await call(up.port, REQUEST)
        assert (got.raw, got.ending) == (b"HTTP/1.1 200 O", "reset")


async def test_fin_hold_and_sleep() -> None:
    scripts = [[Expect(), Fin(), Send(b"never")], [Expect(), Sleep(0.1), Send(reply())], [Expect(), Hold()]]
    async with ScriptedUpstream(scripts) as up:
        assert (await call(up.port, REQUEST)).raw == b""
        began = time.monotonic()
        assert (await call(up.port, REQUEST)).status == 200
        assert time.monotonic() - began >= 0.1
        assert (await call(up.port, REQUEST, 0.1)).ending == "timeout"
        left = time.monotonic()
        async with asyncio.timeout(5):
            while (closed := up.connections[2].peer_closed) is None:
                await asyncio.sleep(0.001)
        assert closed - left < 0.5
        # The script of this one ended first, so the close was the upstream's own.
        assert (up.connections[1].peer_closed, up.connections[1].closed is not None) == (None, True)


async def test_client_end_is_noticed_during_a_sleep() -> None:
    async with ScriptedUpstream([[Expect(), Sleep(30)]]) as up:
        await call(up.port, REQUEST, 0.05)
        async with asyncio.timeout(5):
            while not up.connections[0].gone:
                await asyncio.sleep(0.001)


async def test_slices_and_flood() -> None:
    data = reply(body=b"x" * 50)
    async with ScriptedUpstream([[Expect(), Send(data, slice=7, every=0.001)], [Expect(), Flood(b"y" * 1000)]]) as up:
        assert (await call(up.port, REQUEST)).raw == data
        async with connect(up.port) as client:
            client.send(REQUEST)
            await client.read_some(1_000_000)
        async with asyncio.timeout(5):
            while up.connections[1].closed is None:
                await asyncio.sleep(0.001)
        assert up.connections[1].sent >= 1_000_000


async def test_scripts_by_number_and_bytes_left_over() -> None:
    async with ScriptedUpstream(lambda index: [Expect(), Send(reply(200 + index)), Hold()]) as up:
        assert [(await call(up.port, REQUEST + b"more")).status for _ in range(3)] == [200, 201, 202]
        assert up.connections[0].unread == b"more"


def test_reply_frames_itself_unless_told_otherwise() -> None:
    assert reply(body=b"ab").endswith(b"content-length: 2\r\n\r\nab")
    assert b"content-length" not in reply(headers=[("Transfer-Encoding", "chunked")], body=chunked(b"ab"))
    lying = reply(headers=[("Content-Length", "5")], body=b"ab")
    assert lying.count(b"ength") == 1
    split = head(200, [("x", "a\r\nset-cookie: b")])
    assert split.count(b"\r\n") == 4


async def test_sse_and_chat_events_make_a_true_stream() -> None:
    texts = ("Hel", "lo é")
    whole, plain = sse(chat_events(*texts, usage=(3, 2))), sse(chat_events(*texts), chunked_framing=False)
    cut = sse(chat_events(*texts, finish=False, done=False), last=False)
    async with ScriptedUpstream([[Expect(), Send(data)] for data in (whole, plain, cut)]) as up:
        first = await call(up.port, REQUEST)
        stream = check_chat_stream(first.body, usage_asked=True)
        assert (stream.problems, stream.text(), first.ending) == ([], "Hello é", "whole")
        second = await call(up.port, REQUEST)
        assert chat_stream_problems(second.body) == []
        assert second.body.endswith(DONE)
        third = await call(up.port, REQUEST)
        assert third.ending == "fin"
        assert chat_stream_problems(third.body) == ["no [DONE]", "choice 0 never finished"]


def test_chat_completion_adds_up() -> None:
    usage = chat_completion(prompt=7, completion=5)["usage"]
    assert usage == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
