"""A client that leaves, in every phase: the upstream connection is closed at once, the record says 499.

The promise is 100 ms; asserted is five times that.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import KEY, World
from tests.support.faultproxy import full_backlog
from tests.support.gateway import Node, node, unique
from tests.support.rawclient import RawConnection, connect, post
from tests.support.scripted import (
    Expect,
    Flood,
    Hold,
    ScriptedUpstream,
    Seen,
    Send,
    chat_completion,
    chat_events,
    chunked,
    head,
    reply,
    sse,
)

SOON = 0.5
HELLO = [{"role": "user", "content": "hi"}]
PATHS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/completions": {"prompt": "hi"},
    "/v1/embeddings": {"input": "hi"},
}
WHOLE = reply(body=chat_completion())
STREAM = sse(chat_events("a", "b", finish=False, done=False), last=False)


def ask(label: str, model: str = "scripted", path: str = "/v1/chat/completions", **fields: Any) -> bytes:
    body = {"model": model, **PATHS[path], **fields}
    return post(body, path, authorization=f"Bearer {KEY}", x_request_id=label)


async def wait(check: Callable[[], Any], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.002)


async def left(connection: RawConnection, how: str) -> float:
    """Leave, and say when."""
    moment = time.monotonic()
    if how == "reset":
        connection.writer.transport.abort()
    else:
        connection.writer.close()
    return moment


@asynccontextmanager
async def upstream_then_gone(world: World, request: bytes, steps: list[Any], how: str) -> AsyncIterator[Any]:
    """Send the request, let the upstream come to the end of its steps, then leave; yields (connection, since when)."""
    async with world.upstream([[Expect(), *steps, Hold()]]) as upstream:
        async with connect(world.node.port) as connection:
            connection.send(request)
            yield upstream, connection
            since = await left(connection, how)
        seen: Seen = upstream.connections[0]
        await wait(lambda: seen.gone)
        assert seen.peer_closed is not None
        assert seen.peer_closed - since < SOON
        await asyncio.sleep(0.1)
        assert len(upstream.requests) == 1, "the call was tried again for nobody"


async def assert_recorded(gateway: Node, label: str) -> dict[str, Any]:
    """The record tells of the leaving, and of the one attempt under way."""
    row = await asyncio.to_thread(gateway.record, label)
    assert (row["status"], row["error"]) == (499, "client_closed")
    assert [attempt["reason"] for attempt in row["attempts"]] in ([""], ["client_closed"])
    return row


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("path", PATHS)
async def test_while_a_whole_reply_is_awaited(world: World, path: str, how: str) -> None:
    label = unique()
    async with upstream_then_gone(world, ask(label, path=path), [], how) as (upstream, _):
        await wait(lambda: upstream.requests)
        await asyncio.sleep(0.1)
    await assert_recorded(world.node, label)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_at_once(world: World, how: str) -> None:
    """Before the call is old enough to be watched."""
    label = unique()
    async with upstream_then_gone(world, ask(label), [], how) as (upstream, _):
        await wait(lambda: upstream.requests)
    await assert_recorded(world.node, label)


async def test_inside_a_whole_reply(world: World) -> None:
    label = unique()
    async with upstream_then_gone(world, ask(label), [Send(WHOLE[:-10])], "close") as (upstream, _):
        await wait(lambda: upstream.connections and upstream.connections[0].sent)
        await asyncio.sleep(0.1)
    await assert_recorded(world.node, label)


async def test_while_the_first_event_is_awaited(world: World) -> None:
    label = unique()
    start = head(200, [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")])
    async with upstream_then_gone(world, ask(label, stream=True), [Send(start)], "close") as (upstream, _):
        await wait(lambda: upstream.connections and upstream.connections[0].sent)
        await asyncio.sleep(0.1)
    row = await assert_recorded(world.node, label)
    assert row["first_token_ms"] is None


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_mid_stream(world: World, path: str, how: str) -> None:
    label = unique()
    request = ask(label, path=path, stream=True)
    async with upstream_then_gone(world, request, [Send(STREAM)], how) as (_, connection):
        await connection.read_some(600)
    row = await assert_recorded(world.node, label)
    assert row["usage_source"] == "estimated"
    assert row["output_tokens"] >= 2, "what was delivered is billed"
    assert row["cost_nano"] > 0


async def test_while_the_stream_flows(world: World) -> None:
    label = unique()
    event = chunked(b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n', last=False)
    async with world.upstream([[Expect(), Send(STREAM), Flood(event * 20)]]) as upstream:
        async with connect(world.node.port) as connection:
            connection.send(ask(label, stream=True))
            await connection.read_some(100_000)
            since = await left(connection, "close")
        await wait(lambda: upstream.connections[0].gone)
        assert (upstream.connections[0].peer_closed or 0) - since < SOON
    await assert_recorded(world.node, label)


async def test_a_reader_that_does_not_read_and_then_leaves(world: World) -> None:
    """The stream stands still in `send`; leaving must end it all the same."""
    label = unique()
    event = chunked(b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"x" * 60_000), last=False)
    async with world.upstream([[Expect(), Send(STREAM), Flood(event)]]) as upstream:
        async with connect(world.node.port) as connection:
            connection.writer.transport.pause_reading()
            connection.send(ask(label, stream=True))
            await stands_still(upstream)
            since = await left(connection, "reset")
        await wait(lambda: upstream.connections[0].gone)
        assert (upstream.connections[0].peer_closed or 0) - since < SOON
    await assert_recorded(world.node, label)


async def stands_still(upstream: ScriptedUpstream) -> None:
    """Until the upstream has not been able to send for a while."""
    await wait(lambda: upstream.connections and upstream.connections[0].sent > 1000)
    last = -1
    async with asyncio.timeout(10):
        while last != upstream.connections[0].sent:
            last = upstream.connections[0].sent
            await asyncio.sleep(0.3)


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[tuple[Node, int]]:
    """A node whose one provider never accepts; the port of that provider."""
    with full_backlog() as port:
        config = f"""
providers: {{stuck: {{kind: openai_compatible, base_url: "http://127.0.0.1:{port}/v1"}}}}
models: {{m: {{targets: [{{provider: stuck, model: m}}], timeout: {{connect: 30s}}}}}}
keys: [{{name: k, secret: {KEY}}}]
"""
        with node(tmp_path, config) as started:
            yield started, port


def connecting(port: int) -> int:
    """Sockets of this machine that are in SYN-SENT towards a port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[3] == "02" and int(row[2].partition(":")[2], 16) == port for row in rows)


async def test_while_connecting(stuck: tuple[Node, int]) -> None:
    gateway, port = stuck
    before = connecting(port)
    for how in ("close", "reset"):
        label = unique()
        async with connect(gateway.port) as connection:
            connection.send(ask(label, "m"))
            await wait(lambda: connecting(port) == before + 1)
            await asyncio.sleep(0.1)
            since = await left(connection, how)
        await wait(lambda: connecting(port) == before)
        assert time.monotonic() - since < SOON
        row = await assert_recorded(gateway, label)
        assert row["total_ms"] < 2000


async def test_while_waiting_for_a_connection(tmp_path: Path) -> None:
    """One connection, in use: who waits for it and leaves never reaches the upstream, and the next one does."""
    async with ScriptedUpstream([[Expect(), Hold()], [Expect(), Send(WHOLE)]]) as upstream:
        config = f"""
providers: {{one: {{kind: openai_compatible, base_url: "http://127.0.0.1:{upstream.port}/v1", max_connections: 1}}}}
models: {{m: {{targets: [{{provider: one, model: m}}]}}}}
keys: [{{name: k, secret: {KEY}}}]
"""
        with node(tmp_path, config) as gateway:
            first, second, third = unique(), unique(), unique()
            async with connect(gateway.port) as holder:
                holder.send(ask(first, "m"))
                await wait(lambda: len(upstream.requests) == 1)
                async with connect(gateway.port) as waiting:
                    waiting.send(ask(second, "m"))
                    await asyncio.sleep(0.2)
                    await left(waiting, "close")
                await assert_recorded(gateway, second)
                assert len(upstream.requests) == 1
            async with connect(gateway.port) as next_one:
                next_one.send(ask(third, "m"))
                assert (await next_one.read()).status == 200
            assert len(upstream.requests) == 2
            await assert_recorded(gateway, first)


async def test_a_hundred_at_once_leave_nothing_behind(world: World) -> None:
    """Every upstream connection is closed, and the node has no more connections or calls than before."""
    labels = [unique() for _ in range(100)]
    async with world.upstream([[Expect(), Send(STREAM), Hold()]]) as upstream:

        async def come_and_go(label: str) -> None:
            async with connect(world.node.port) as connection:
                connection.send(ask(label, stream=True))
                await connection.read_some(300)

        await asyncio.gather(*map(come_and_go, labels))
        await wait(lambda: all(seen.gone for seen in upstream.connections))
        assert len(upstream.requests) == 100
    rows = {label: await asyncio.to_thread(world.node.record, label) for label in labels[::10]}
    assert {row["status"] for row in rows.values()} == {499}
    await wait(lambda: world.node.status()["workers"][0]["live"] == 0, 8.0)
    world.node.assert_well()


async def test_a_byte_sent_ahead_hides_the_leaving_until_the_next_write(world: World) -> None:
    """granian tells of a close only while nothing more was sent; the heartbeat (300 ms here) is the next write."""
    label = unique()
    async with world.upstream([[Expect(), Send(STREAM), Hold()]]) as upstream:
        async with connect(world.node.port) as connection:
            connection.send(ask(label, stream=True))
            await connection.read_some(600)
            connection.send(b"G")
            await asyncio.sleep(0.1)
        await wait(lambda: upstream.connections[0].gone, 8.0)
    await assert_recorded(world.node, label)
