"""The end of a node: calls under way finish, newcomers are refused, the deadline is kept (F30)."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import Node, start_node, unique
from tests.support.rawclient import RawConnection, call, connect, post
from tests.support.scripted import Expect, Hold, ScriptedUpstream, Send, Sleep, chat_events, chunked, sse

KEY = "fgw-drain-0123456789abcdef"
EVENTS = chat_events("a", "b", usage=(3, 2))
BEGUN = sse(EVENTS[:2], last=False)
REST = sse(EVENTS[2:], chunked_framing=False).partition(b"\r\n\r\n")[2]


def config(upstream: ScriptedUpstream) -> str:
    return f"""
providers: {{up: {{kind: openai_compatible, base_url: "{upstream.url}/v1"}}}}
models: {{m: {{targets: [{{provider: up, model: m, price: {{input: 1, output: 1}}}}]}}}}
keys: [{{name: k, secret: {KEY}}}]
"""


def ask(label: str, *, stream: bool = True) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    return post(body, authorization=f"Bearer {KEY}", x_request_id=label)


@asynccontextmanager
async def streaming(
    tmp_path: Path, steps: list[Any], *args: str, streams: int = 3, workers: int = 2
) -> AsyncIterator[tuple[Node, list[RawConnection], list[str]]]:
    """A node with so many streams of which the first events have come."""
    async with ScriptedUpstream([[Expect(), Send(BEGUN), *steps]]) as upstream:
        gateway = await asyncio.to_thread(start_node, tmp_path, config(upstream), workers=workers, args=args)
        labels = [unique() for _ in range(streams)]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(begin(gateway, label)) for label in labels]
            connections = [task.result() for task in tasks]
            yield gateway, connections, labels
            for connection in connections:
                connection.writer.transport.abort()
        finally:
            await asyncio.to_thread(gateway.process.end, signal.SIGKILL)


async def begin(gateway: Node, label: str) -> RawConnection:
    connection = RawConnection(*await asyncio.open_connection("127.0.0.1", gateway.port))
    connection.send(ask(label))
    async with asyncio.timeout(5):
        while b'"a"' not in connection.buffer:
            await connection.read_some(len(connection.buffer) + 1)
    return connection


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
async def test_f30_streams_finish_and_newcomers_are_refused(tmp_path: Path, number: signal.Signals) -> None:
    async with streaming(tmp_path, [Sleep(1.5), Send(chunked(REST)), Hold()]) as (gateway, connections, labels):
        gateway.signal(number)
        await asyncio.sleep(0.7)
        assert gateway.process.popen.poll() is None
        with pytest.raises(ConnectionError):
            await call(gateway.port, ask(unique()))
        for connection in connections:
            reply = await connection.read(8.0)
            assert (reply.ending, reply.body.endswith(b"data: [DONE]\n\n")) == ("whole", True)
        assert await asyncio.to_thread(gateway.process.wait, 10.0) == 0
        rows = {row["label"]: row for row in gateway.records()}
        assert rows.keys() == set(labels)
        assert {(row["status"], row["error"], row["usage_source"]) for row in rows.values()} == {
            (200, None, "upstream")
        }
        assert not gateway.log("internal_error")


async def test_f30_at_the_deadline_a_stream_ends_with_an_error(tmp_path: Path) -> None:
    async with streaming(tmp_path, [Hold()], "--drain", "1") as (gateway, connections, labels):
        began = time.monotonic()
        gateway.signal(signal.SIGTERM)
        for connection in connections:
            reply = await connection.read(8.0)
            assert reply.ending == "whole"
            assert b"[DONE]" not in reply.body
            last = json.loads(reply.body.rstrip(b"\n").rpartition(b"data: ")[2])
            assert (last["error"]["code"], last["error"]["type"]) == ("overloaded", "api_error")
        assert 0.8 < time.monotonic() - began < 5.0
        assert await asyncio.to_thread(gateway.process.wait, 10.0) == 0
        rows = {row["label"]: row for row in gateway.records()}
        assert rows.keys() == set(labels)
        assert {(row["status"], row["error"]) for row in rows.values()} == {(503, "overloaded")}
        assert all(row["cost_nano"] > 0 for row in rows.values()), "what was delivered is billed"


async def test_f30_at_the_deadline_a_whole_call_gets_an_error(tmp_path: Path) -> None:
    async with ScriptedUpstream([[Expect(), Hold()]]) as upstream:
        gateway = await asyncio.to_thread(start_node, tmp_path, config(upstream), args=("--drain", "0.5"))
        label = unique()
        running = asyncio.create_task(call(gateway.port, ask(label, stream=False), 10.0))
        async with asyncio.timeout(5):
            while not upstream.requests:
                await asyncio.sleep(0.01)
        gateway.signal(signal.SIGTERM)
        reply = await running
        assert (reply.status, reply.json()["error"]["code"]) == (503, "overloaded")
        assert (reply.headers["retry-after"], reply.headers["connection"]) == ("1", "close")
        assert await asyncio.to_thread(gateway.process.wait, 10.0) == 0
        assert [(row["label"], row["status"]) for row in gateway.records()] == [(label, 503)]


async def test_f30_a_second_sigterm_ends_it_at_once(tmp_path: Path) -> None:
    async with streaming(tmp_path, [Hold()]) as (gateway, connections, _):
        pids = gateway.workers
        gateway.signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        assert gateway.process.popen.poll() is None
        began = time.monotonic()
        gateway.signal(signal.SIGTERM)
        await asyncio.to_thread(gateway.process.wait, 10.0)
        assert time.monotonic() - began < 5.0
        for connection in connections:
            reply = await connection.read(5.0)
            assert b"[DONE]" not in reply.body
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


async def test_f30_sighup_ends_nothing(tmp_path: Path) -> None:
    async with streaming(tmp_path, [Sleep(1.0), Send(chunked(REST)), Hold()]) as (gateway, connections, _):
        pids = gateway.workers
        for _ in range(3):
            gateway.signal(signal.SIGHUP)
            await asyncio.sleep(0.1)
            assert gateway.get("/health/ready")[0] == 200
        for connection in connections:
            reply = await connection.read(8.0)
            assert (reply.ending, reply.body.endswith(b"data: [DONE]\n\n")) == ("whole", True)
        assert gateway.workers == pids
        assert await asyncio.to_thread(gateway.stop) == 0


async def test_f30_idle_connections_do_not_hold_it_up(tmp_path: Path) -> None:
    async with ScriptedUpstream([[Hold()]]) as upstream:
        gateway = await asyncio.to_thread(start_node, tmp_path, config(upstream))
        async with connect(gateway.port) as used, connect(gateway.port):
            used.send(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await used.read()).status == 200
            began = time.monotonic()
            assert await asyncio.to_thread(gateway.stop) == 0
            assert time.monotonic() - began < 5.0


async def test_f30_half_a_request_holds_it_up_no_longer_than_the_deadline(tmp_path: Path) -> None:
    async with ScriptedUpstream([[Hold()]]) as upstream:
        gateway = await asyncio.to_thread(start_node, tmp_path, config(upstream), args=("--drain", "1"))
        async with connect(gateway.port) as head, connect(gateway.port) as body:
            head.send(ask(unique())[:40])
            body.send(ask(unique())[:-5])
            await asyncio.sleep(0.1)
            began = time.monotonic()
            assert await asyncio.to_thread(gateway.stop) == 0
            assert time.monotonic() - began < 6.0
