"""F26: clients that close one side, ask much at once, wait for 100 (Continue), or leave while they are sending."""

import asyncio
import json
from typing import Any

import pytest

from tests.edge.conftest import Edge
from tests.edge.corpus import KEY
from tests.edge.support import Echo, ask, canary, hear_out, read_all, said
from tests.support.gateway import unique
from tests.support.rawclient import RawConnection, connect
from tests.support.scripted import Expect, Hold

CHAT = "/v1/chat/completions"


def body(word: str) -> bytes:
    return json.dumps({"model": "edge", "messages": [{"role": "user", "content": word}]}).encode()


def head(size: int, *lines: str, key: str | None = KEY.decode(), path: str = CHAT, type_: str = "application/json",
         host: str = "edge.test") -> bytes:  # fmt: skip
    """The head of a chat of so many bytes."""
    auth = [f"authorization: Bearer {key}"] if key is not None else []
    start = [f"POST {path} HTTP/1.1", f"host: {host}", *auth, f"content-type: {type_}", *lines]
    return "\r\n".join([*start, f"content-length: {size}", "", ""]).encode()


def chat(word: str, *lines: str, **options: Any) -> bytes:
    return head(len(body(word)), *lines, **options) + body(word)


async def well(edge: Edge) -> None:
    """It answers as ever."""
    word = canary()
    async with connect(edge.node.port) as connection:
        assert await ask(connection, word, KEY) == word


async def test_f26_a_hundred_at_once_are_answered_in_order(edge: Edge, upstream: Echo) -> None:
    words = [canary() for _ in range(100)]
    async with connect(edge.node.port) as connection:
        connection.send(b"".join(chat(word) for word in words))
        replies = [await connection.read(10.0) for _ in words]
    assert [got.json()["choices"][0]["message"]["content"] for got in replies] == words
    assert [said(request) for request in upstream.requests] == words


async def test_f26_a_hundred_of_all_kinds_are_answered_in_order(edge: Edge, upstream: Echo) -> None:
    """Refusals that leave no doubt about framing do not end the connection, and take nobody's place."""
    health = b"GET /health/live HTTP/1.1\r\nhost: edge.test\r\n\r\n"
    kinds = [(chat(canary()), 200), (health, 200), (chat("x", path="/v1/nothing"), 404), (chat("x", key="wrong"), 401)]
    async with connect(edge.node.port) as connection:
        for request, _ in kinds * 25:
            connection.send(request)
        statuses = [(await connection.read(10.0)).status for _ in range(100)]
    assert statuses == [status for _, status in kinds] * 25
    assert len(upstream.requests) == 25


DENIED: dict[str, tuple[bytes, int]] = {
    "no key": (head(40, "expect: 100-continue", key=None), 401),
    "wrong key": (head(40, "expect: 100-continue", key="fgw-wrong-0123456789"), 401),
    "two keys": (head(40, "expect: 100-continue", "x-api-key: fgw-other-0123456789"), 400),
    "no such path": (head(40, "expect: 100-continue", path="/v1/nothing"), 404),
    "wrong type": (head(40, "expect: 100-continue", type_="text/plain"), 400),
    "bad host": (head(40, "expect: 100-continue", host="a b"), 400),
    "too large": (head(9_000_000, "expect: 100-continue"), 413),
    "compressed": (head(40, "expect: 100-continue", "content-encoding: gzip"), 400),
}


@pytest.mark.parametrize("name", DENIED)
async def test_f26_no_100_before_a_refusal(edge: Edge, upstream: Echo, name: str) -> None:
    """The refusal is the first thing said, and nobody was told to send a body for it."""
    request, status = DENIED[name]
    async with connect(edge.node.port) as connection:
        connection.send(request)
        await connection.read_some(12)
        assert connection.buffer.startswith(b"HTTP/1.1 %d" % status), connection.buffer
        assert (await connection.read()).ending == "whole"
    assert upstream.connections == []
    await well(edge)


async def test_f26_a_refused_expectation_that_sends_all_the_same(edge: Edge, upstream: Echo) -> None:
    """The body that nobody wanted is no request."""
    async with connect(edge.node.port) as connection:
        connection.send(head(len(chat("x")), "expect: 100-continue", key=None))
        assert (await connection.read()).status == 401
        connection.send(chat("x"))
        rest, ending = await hear_out(connection, 1.0)
    assert (rest, upstream.requests) == ([], [])
    assert ending in ("fin", "reset", "timeout")
    await well(edge)


async def test_f26_100_and_then_the_answer(edge: Edge, upstream: Echo) -> None:
    word = canary()
    async with connect(edge.node.port) as connection:
        connection.send(head(len(body(word)), "expect: 100-continue"))
        await connection.read_some(25)
        assert connection.buffer == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(body(word))
        got = await connection.read()
    assert (got.status, got.json()["choices"][0]["message"]["content"]) == (200, word)


@pytest.mark.parametrize("count", [0, 1, 2])
async def test_f26_a_half_close_is_answered_in_order_or_not_at_all(edge: Edge, upstream: Echo, count: int) -> None:
    """The sending side is closed behind so many whole requests: no hang, nothing out of order, nothing in part."""
    words = [canary() for _ in range(count)]
    async with connect(edge.node.port) as connection:
        connection.send(b"".join(chat(word) for word in words))
        connection.writer.write_eof()
        replies, ending = await hear_out(connection)
    assert ending in ("fin", "reset")
    answered = [got.json()["choices"][0]["message"]["content"] for got in replies]
    assert answered == words[: len(answered)]
    await well(edge)


@pytest.mark.parametrize("part", ["line", "header", "head", "body"])
async def test_f26_a_half_close_within_a_request_is_no_request(edge: Edge, upstream: Echo, part: str) -> None:
    whole = chat("x")
    stop = {"line": 20, "header": 60, "head": whole.index(b"\r\n\r\n") + 2, "body": len(whole) - 5}[part]
    async with connect(edge.node.port) as connection:
        connection.send(whole[:stop])
        connection.writer.write_eof()
        raw, ending = await read_all(connection)
    assert ending in ("fin", "reset")
    assert raw == b"" or raw.startswith(b"HTTP/1.1 400")
    assert upstream.connections == []
    await well(edge)


async def leave(connection: RawConnection, how: str) -> None:
    if how == "fin":
        connection.writer.close()
        await connection.writer.wait_closed()
    else:
        connection.writer.transport.abort()


@pytest.mark.parametrize("how", ["fin", "abort"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
async def test_f26_an_upload_that_is_broken_off_goes_nowhere(
    edge: Edge, upstream: Echo, share: float, how: str
) -> None:
    label, data = unique("f26"), body("x" * 400_000)
    async with connect(edge.node.port) as connection:
        connection.send(head(len(data), f"x-request-id: {label}") + data[: int(len(data) * share)])
        await asyncio.sleep(0.05)
        await leave(connection, how)
        row = await asyncio.to_thread(edge.node.record, label)
    assert (row["status"], row["error"], row["attempts"]) == (499, "client_closed", [])
    assert upstream.connections == []
    await well(edge)


async def test_f26_who_leaves_while_the_upstream_thinks_is_let_go(edge: Edge) -> None:
    """And so are those who were pipelined behind."""
    label = unique("f26")
    async with Echo(edge.upstream_port, {0: [Expect(), Hold()]}) as upstream:
        async with connect(edge.node.port) as connection:
            connection.send(chat("x", f"x-request-id: {label}"))
            async with asyncio.timeout(5.0):
                while not upstream.requests:
                    await asyncio.sleep(0.005)
            await leave(connection, "fin")
            row = await asyncio.to_thread(edge.node.record, label)
        assert (row["status"], row["error"]) == (499, "client_closed")
        async with asyncio.timeout(5.0):
            while not upstream.connections[0].gone:
                await asyncio.sleep(0.005)
        await well(edge)
