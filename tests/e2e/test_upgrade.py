"""A new node takes over from one that runs, under load, with streams and limits; one that cannot changes nothing."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fastgw.node import upgrade
from tests.support.gateway import INHERITED, Mock, Node, start_node, unique, until
from tests.support.rawclient import RawConnection, RawReply, call, connect, post
from tests.support.scripted import Expect, Hold, ScriptedUpstream, Send, Sleep, chat_events, chunked, sse

pytestmark = pytest.mark.timeout(120)

KEY = "fgw-upgrade-0123456789abcdef"
LIMITED = "fgw-upgrade-limited-0123456789"
CLIENTS = 8
DAY_LIMIT = 40
EVENTS = chat_events("a", "b", usage=(3, 2))
BEGUN = sse(EVENTS[:2], last=False)
REST = sse(EVENTS[2:], chunked_framing=False).partition(b"\r\n\r\n")[2]
STREAM_S = 5.0
"""Longer than those who are connected are let ask: the stream outlives its node's accepting by far."""


def config(mock: Mock, stream_url: str = "http://127.0.0.1:9") -> str:
    return f"""
providers:
  mock: {{kind: openai_compatible, base_url: "{mock.url}/v1"}}
  slow: {{kind: openai_compatible, base_url: "{stream_url}/v1"}}
models:
  mock-small: {{targets: [{{provider: mock, model: mock-small, price: {{input: 1, output: 2}}}}]}}
  long: {{targets: [{{provider: slow, model: m, price: {{input: 1, output: 1}}}}]}}
keys:
  - {{name: one, secret: {KEY}}}
  - {{name: few, secret: {LIMITED}, limits: {{requests: {DAY_LIMIT}/day}}}}
"""


def ask(label: str = "", key: str = KEY, *, model: str = "mock-small", stream: bool = False) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    return post(body, authorization=f"Bearer {key}", x_request_id=label or unique("u"))


class Load:
    """Clients that keep their connections for as long as they may, and open another when they are told to."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.good: list[str] = []
        self.failed: list[tuple[str, RawReply | None]] = []
        self.closed = 0
        """Connections that an answer ended by its header."""
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Load":
        self._tasks = [asyncio.create_task(self._client(kept)) for kept in [True] * CLIENTS + [False] * 2]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _client(self, kept: bool) -> None:
        while not self._stop.is_set():
            try:
                async with connect(self.port) as connection:
                    while not self._stop.is_set() and await self._one(connection) and kept:
                        await asyncio.sleep(0.002)
            except ConnectionError as error:
                self.failed.append((repr(error), None))
                await asyncio.sleep(0.05)

    async def _one(self, connection: RawConnection) -> bool:
        """One call; whether the connection stays."""
        label = unique("load")
        connection.send(ask(label))
        answer = await connection.read(15.0)
        if answer.ending != "whole" or answer.status != 200:
            self.failed.append((label, answer))
            return False
        self.good.append(label)
        ends = answer.headers.get("connection") == "close"
        self.closed += ends
        return not ends


@asynccontextmanager
async def nodes(tmp_path: Path, text: str, **options: Any) -> AsyncIterator[Callable[..., Awaitable[Node]]]:
    """`await start(...)` starts one on the same data directory; all are killed at the end."""
    started: list[Node] = []

    async def start(*args: str, config: str = text, wait: bool = True) -> Node:
        one = await asyncio.to_thread(start_node, tmp_path, config, args=args, wait=False, **{"workers": 2, **options})
        started.append(one)
        if wait:
            await asyncio.to_thread(one.wait_ready, 2)
        return one

    try:
        yield start
    except BaseException:
        sys.stderr.writelines(f"--- pid {one.process.popen.pid}\n{one.stderr()[-8000:]}\n" for one in started)
        raise
    finally:
        for one in started:
            await asyncio.to_thread(one.process.end, signal.SIGKILL)


async def ended(node: Node, seconds: float = 30.0) -> int:
    return await asyncio.to_thread(node.process.wait, seconds)


async def verified(node: Node) -> str:
    """`fastgw records verify` finds nothing, once the recorder has it all; what it prints."""
    environ = {name: os.environ[name] for name in INHERITED if name in os.environ}
    command = [sys.executable, "-m", "fastgw", "records", "verify", "--data-dir", str(node.data_dir)]
    for _ in range(20):
        done = await asyncio.to_thread(subprocess.run, command, env=environ, capture_output=True, text=True)
        if done.returncode == 0:
            break
        await asyncio.sleep(0.5)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def begin(port: int, key: str = KEY) -> RawConnection:
    """A stream of which the first event has come."""
    connection = RawConnection(*await asyncio.open_connection("127.0.0.1", port))
    connection.send(ask(unique("stream"), key, model="long", stream=True))
    async with asyncio.timeout(10):
        while b'"a"' not in connection.buffer:
            await connection.read_some(len(connection.buffer) + 1)
    return connection


async def spend(port: int, calls: int) -> list[int]:
    replies = [await call(port, ask(key=LIMITED), 10.0) for _ in range(calls)]
    return [one.status for one in replies]


async def test_nothing_fails_under_load_streams_end_and_limits_hold(tmp_path: Path, spare: Callable[..., Mock]) -> None:
    mock = spare("--latency", "5")
    steps = [Expect(), Send(BEGUN), Sleep(STREAM_S), Send(chunked(REST)), Hold()]
    async with ScriptedUpstream([steps]) as upstream, nodes(tmp_path, config(mock, upstream.url)) as start:
        first = await start()
        statuses = await spend(first.port, 15)
        async with Load(first.port) as load:
            streams = [await begin(first.port) for _ in range(4)]
            second = await start("--take-over")
            assert (second.port, second.console_port) == (first.port, first.console_port)
            assert load.good
            statuses += await spend(second.port, 15)
            for stream in streams:
                answer = await stream.read(20.0)
                assert (answer.ending, answer.body.endswith(b"data: [DONE]\n\n")) == ("whole", True)
                stream.writer.transport.abort()
            assert await ended(first) == 0
            before = len(load.good)
            third = await start("--take-over")
            assert await ended(second) == 0
            assert len(load.good) > before
            statuses += await spend(third.port, 15)
        assert load.failed == []
        assert load.closed >= 2 * CLIENTS, "each kept connection was sent away by an answer, twice"
        # A day's limit passes as many as it says, across three nodes.
        assert statuses == [200] * DAY_LIMIT + [429] * (45 - DAY_LIMIT)
        labels = {*load.good}
        await asyncio.to_thread(until, lambda: labels <= {row["label"] for row in third.records()}, 10.0, "all records")
        rows = third.records()
        ids = [row["id"] for row in rows]
        assert len(ids) == len(set(ids))
        assert not [row for row in rows if row["error"] == "worker_died"]
        assert len([row for row in rows if row["label"] in labels]) == len(labels)
        assert len([row for row in rows if (row["label"] or "").startswith("stream")]) == 4
        assert "differs" not in await verified(third)
        for one in (first, second, third):
            assert not one.log("internal_error"), one.stderr()
        assert third.status()["pid"] == third.process.popen.pid
        assert await asyncio.to_thread(third.stop) == 0
        await verified(third)
        assert not (third.data_dir / upgrade.SOCKET).exists()


async def test_calls_at_once_are_counted_across_the_change(tmp_path: Path, spare: Callable[..., Mock]) -> None:
    """What runs in the old node holds its place against a limit of the new one, until it ends."""
    steps = [Expect(), Send(BEGUN), Sleep(STREAM_S), Send(chunked(REST)), Hold()]
    async with ScriptedUpstream([steps]) as upstream:
        text = config(spare(), upstream.url).replace(f"requests: {DAY_LIMIT}/day", "concurrent: 1")
        async with nodes(tmp_path, text) as start:
            first = await start()
            held = await begin(first.port, LIMITED)
            assert (await call(first.port, ask(key=LIMITED))).status == 429
            second = await start("--take-over")
            assert (await call(second.port, ask(key=LIMITED))).status == 429
            assert (await held.read(15.0)).body.endswith(b"data: [DONE]\n\n")
            held.writer.transport.abort()
            assert await ended(first) == 0
            assert (await call(second.port, ask(key=LIMITED))).status == 200


@pytest.mark.parametrize("how", ["config", "crash", "killed"])
async def test_one_that_fails_leaves_the_old_one_as_it_was(
    tmp_path: Path, spare: Callable[..., Mock], how: str
) -> None:
    mock = spare("--latency", "5")
    async with nodes(tmp_path, config(mock)) as start:
        first = await start()
        good = (tmp_path / "fastgw.yaml").read_text()
        async with Load(first.port) as load:
            await asyncio.sleep(0.3)
            if how == "config":
                failed = await start("--take-over", config=good + "nonsense: true\n", wait=False)
                assert await ended(failed) == 1
                first.write_config(good)
            elif how == "crash":
                failed = await start("--take-over", wait=False)
                await asyncio.to_thread(until, lambda: children(failed.process.popen.pid), 10.0, "its workers")
                await asyncio.to_thread(kill_first_child, failed.process.popen.pid)
                assert await ended(failed) == 5
                assert "take-over: a process of this node did not start" in failed.stderr()
            else:
                failed = await start("--take-over", wait=False)
                await asyncio.to_thread(until, lambda: first.log("take_over_begun"), 10.0, "the beginning")
                failed.signal(signal.SIGKILL)
                await ended(failed)
            await asyncio.sleep(0.5)
        if how == "killed":
            # It was serving beside the old one; what it had accepted went with it, as with any worker that is killed.
            assert len(load.failed) <= 2 * CLIENTS
        else:
            assert load.failed == []
        assert first.process.popen.poll() is None
        assert first.status()["pid"] == first.process.popen.pid
        # Still the node it was: it takes a new config, and hands over to one that is well.
        revision = first.status()["revision"]
        first.write_config(good.replace("output: 2", "output: 3"))
        await asyncio.to_thread(first.wait_revision, revision + 1)
        await asyncio.to_thread(until, lambda: first.log("take_over_failed"), 10.0, "the end of it")
        second = await start("--take-over", config=first.config.read_text() if first.config else "")
        assert await ended(first) == 0
        assert (await call(second.port, ask())).status == 200
        await verified(second)


async def test_when_the_old_one_dies_on_the_way_the_new_one_goes_on_alone(
    tmp_path: Path, spare: Callable[..., Mock]
) -> None:
    async with nodes(tmp_path, config(spare())) as start:
        first = await start()
        assert await spend(first.port, 15) == [200] * 15
        second = await start("--take-over", wait=False)
        await asyncio.to_thread(until, lambda: first.log("take_over_begun"), 10.0, "the beginning")
        first.signal(signal.SIGKILL)
        await ended(first)
        await asyncio.to_thread(second.wait_ready, 2)
        assert second.port == first.port
        (line,) = second.log("took_over")
        assert line["problem"] == "it ended without a word"
        assert (await spend(second.port, 30)) == [200] * (DAY_LIMIT - 15) + [429] * (45 - DAY_LIMIT)
        await verified(second)


def children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(word) for word in task.read_text().split()]
    return found


def kill_first_child(pid: int) -> None:
    os.kill(children(pid)[0], signal.SIGKILL)


async def test_without_one_that_runs_it_just_starts(tmp_path: Path, spare: Callable[..., Mock]) -> None:
    async with nodes(tmp_path, config(spare())) as start:
        only = await start("--take-over")
        assert (await call(only.port, ask())).status == 200
        # Nothing changes for who does not ask for it.
        other = await start(wait=False)
        assert await ended(other) == 4
        assert f"(pid {only.process.popen.pid})" in other.stderr()
        only.signal(signal.SIGKILL)
        await ended(only)
        await asyncio.to_thread(until, lambda: not _held(only.data_dir), 15.0, "the lock to be free")
        again = await start("--take-over")
        assert (await call(again.port, ask())).status == 200


def _held(data_dir: Path) -> bool:
    return upgrade.Legacy.ask(data_dir) is not None


async def test_a_unix_socket_is_handed_on_under_its_name(tmp_path: Path, spare: Callable[..., Mock]) -> None:
    path = tmp_path / "s"
    async with nodes(tmp_path, config(spare()), workers=1) as start:
        first = await asyncio.wait_for(start("--unix", str(path), wait=False), 30)
        await asyncio.to_thread(first.wait_ready, 1)
        inode = path.stat().st_ino
        second = await start("--unix", str(path), "--take-over", wait=False)
        await asyncio.to_thread(second.wait_ready, 1)
        assert await ended(first) == 0
        assert path.stat().st_ino == inode
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(ask())
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 200")
        writer.transport.abort()
        assert await asyncio.to_thread(second.stop) == 0
        assert not path.exists()


async def test_what_is_said_at_the_gate_is_bounded_and_checked(tmp_path: Path, spare: Callable[..., Mock]) -> None:
    async with nodes(tmp_path, config(spare())) as start:
        node = await start()
        name = node.data_dir / upgrade.SOCKET
        assert name.stat().st_mode & 0o777 == 0o600
        for said in (b"\n", b"x" * 200_000, b'{"pid":"x"}\n', msgspec.json.encode(upgrade.Ask(1, protocol=99)) + b"\n"):
            answer = await asyncio.to_thread(_say, node.data_dir, said)
            assert b'"data":0' in answer if said.startswith(b'{"pid":1') else not answer, (said[:20], answer)
        await asyncio.to_thread(until, lambda: len(node.log("take_over_refused")) == 4, 5.0, "its log")
        began = time.monotonic()
        assert (await call(node.port, ask())).status == 200
        assert time.monotonic() - began < 5


def _say(data_dir: Path, said: bytes) -> bytes:
    with closing(socket.socket(socket.AF_UNIX)) as end:
        end.settimeout(15)
        here = os.getcwd()
        os.chdir(data_dir)  # a unix socket's name is short
        try:
            end.connect(upgrade.SOCKET)
        finally:
            os.chdir(here)
        try:
            end.sendall(said)
            return end.recv(65536)
        except ConnectionError:
            return b""
