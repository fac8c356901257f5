"""What happens to the node itself: stopped workers, memory, descriptors, a log nobody reads (F29, F32, F33, F45)."""

import asyncio
import contextlib
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import KEY
from tests.faults.invariants import Watched, eventually, fault
from tests.faults.tongues import BOTH, TONGUES, WELL
from tests.support.gateway import Node, Process, node, reserved_port, until
from tests.support.rawclient import RawConnection, call, connect, get
from tests.support.scripted import ScriptedUpstream


def config(port: int, more: str = "") -> str:
    """Each dialect's model at one upstream."""
    lines = ["providers:"]
    for tongue in TONGUES:
        url = f'base_url: "http://127.0.0.1:{port}{tongue.base}", api_key: sk-one'
        lines.append(f"  {tongue.name}: {{kind: {tongue.kind}, {url}}}")
    lines += ["models:", *(f"  {t.name}: {{targets: [{{provider: {t.name}, model: m}}]}}" for t in TONGUES)]
    return "\n".join([*lines, f"keys: [{{name: k, secret: {KEY}}}]", more, ""])


@contextlib.contextmanager
def served(directory: Path, more: str = "", **options: Any) -> Iterator[tuple[Node, int]]:
    """A node, and the port of its upstream."""
    with reserved_port() as port, node(directory, config(port, more), **options) as gateway:
        yield gateway, port


# F29: a worker that stands still


@contextlib.contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Processes that do nothing for the time of a block."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        until(lambda pid=pid: Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("T"))
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def test_f29_calls_go_to_the_workers_that_go_on(tmp_path: Path) -> None:
    """What it had not accepted is anybody's; when it goes on, it serves as before."""
    with served(tmp_path, workers=2) as (gateway, port):
        async with ScriptedUpstream([WELL], port=port):
            run = Watched(gateway, KEY)
            with stopped(gateway.workers[0]):
                for _ in range(5):
                    for one in await run.many(BOTH, ""):
                        assert (one.reply.status, one.seconds < 2.0) == (200, True)
            assert [one.reply.status for one in await run.many(BOTH, "")] == [200] * len(BOTH)
        await run.assert_recorded()
        gateway.assert_well()


async def test_f29_workers_that_stand_still_are_replaced(tmp_path: Path) -> None:
    with served(tmp_path, "watchdog: 2s", workers=2) as (gateway, port):
        victims = set(gateway.workers)
        with stopped(*victims):
            await eventually(
                lambda: len(gateway.workers) == 2 and not victims & set(gateway.workers), 20.0, "other workers"
            )
            async with ScriptedUpstream([WELL], port=port):
                many = await Watched(gateway, KEY).many(BOTH, "")
                assert [one.reply.status for one in many] == [200] * len(BOTH)


# F32: memory runs short


PRESSURE = "overload: {memory: 1MiB}"
"""A bound on memory that any worker is beyond."""


async def test_f32_short_of_memory_new_calls_are_refused_and_health_answers(tmp_path: Path) -> None:
    with served(tmp_path) as (gateway, port):
        async with fault(gateway, KEY) as run, ScriptedUpstream([WELL], port=port) as upstream:
            gateway.write_config(config(port, PRESSURE))
            await eventually(lambda: gateway.get("/health/ready")[0] == 503, 10.0, "the bound to be noticed")
            for (tongue, _), one in zip(BOTH, await run.many(BOTH, ""), strict=True):
                tongue.assert_error(one.reply, 503, "overloaded")
                assert int(one.reply.headers["retry-after"]) >= 1
                assert one.seconds < 0.25
            assert not upstream.requests
            assert gateway.get("/health/live")[0] == 200
            gateway.write_config(config(port, ""))
            await eventually(lambda: gateway.get("/health/ready")[0] == 200, 10.0, "the bound to be gone")


# F33: no descriptors left


@contextlib.contextmanager
def descriptors(pid: int, spare: int) -> Iterator[None]:
    """A process that can open only so many files more, for the time of a block."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1 + spare, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


async def test_f33_without_descriptors_calls_fail_and_afterwards_do_not(tmp_path: Path) -> None:
    """A call on a connection it has is answered with an error, for it can open none of its own; others wait outside."""
    with served(tmp_path) as (gateway, port):
        (pid,) = gateway.workers
        run = Watched(gateway, KEY)
        async with contextlib.AsyncExitStack() as stack:
            upstream = await stack.enter_async_context(ScriptedUpstream([WELL], port=port))
            held = [await stack.enter_async_context(connect(gateway.port)) for _ in TONGUES]
            for connection in held:
                connection.send(get("/health/live"))
                assert (await connection.read()).status == 200
            with descriptors(pid, 8):
                crowd = [await stack.enter_async_context(connect(gateway.port)) for _ in range(40)]
                await asyncio.sleep(0.3)
                await assert_refused(run, held, upstream)
                assert Path(f"/proc/{pid}").exists()
                for connection in crowd:
                    connection.writer.transport.abort()
            await eventually(lambda: gateway.workers == [pid])
            for _ in range(3):
                assert [one.reply.status for one in await run.many(BOTH, "")] == [200] * len(BOTH)
        await run.assert_recorded()
        gateway.assert_well()


async def assert_refused(run: Watched, held: list[RawConnection], upstream: ScriptedUpstream) -> None:
    for tongue, connection in zip(TONGUES, held, strict=True):
        label, began = run.label(), time.monotonic()
        connection.send(tongue.ask(tongue.name, label, KEY))
        got = await connection.read(5.0)
        tongue.assert_error(got, 502, "upstream_unreachable")
        assert time.monotonic() - began < 2.0
    assert not upstream.requests


# F45: a log that nobody reads


class Deaf(Process):
    """A child whose standard error is read until it is ready, and then no more; or closed, where `gone` says so."""

    gone = False
    heard = threading.Event()

    def _collect(self, stream: Any, kept: list[str]) -> None:
        for line in stream:
            kept.append(line.decode("utf-8", "replace").rstrip("\n"))
            if b'"event":"ready"' in line:
                break
        else:
            return
        if self.gone:
            stream.close()
            return
        self.heard.wait()
        while stream.read(65536):
            pass


async def crowd(gateway: Node, calls: int) -> int:
    """Calls that leave a line in the log each, many at once; how many were answered."""
    one = get("/v1/nothing-here", authorization=f"Bearer {KEY}")

    async def client() -> int:
        async with connect(gateway.port) as connection:
            answered = 0
            for _ in range(calls // 1600):
                connection.send(one * 100)
                for _ in range(100):
                    answered += (await connection.read(20.0)).status == 404
            return answered

    return sum(await asyncio.gather(*(client() for _ in range(16))))


@pytest.mark.parametrize("gone", [False, True], ids=["not-read", "closed"])
async def test_f45_a_log_that_nobody_reads_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    monkeypatch.setattr("tests.support.gateway.Process", Deaf)
    monkeypatch.setattr(Deaf, "gone", gone)
    monkeypatch.setattr(Deaf, "heard", threading.Event())
    with served(tmp_path) as (gateway, port):
        try:
            async with fault(gateway, KEY) as run, ScriptedUpstream([WELL], port=port):
                assert await crowd(gateway, 1600 if gone else 12_800) == (1600 if gone else 12_800)
                assert [one.reply.status for one in await run.many(BOTH, "")] == [200] * len(BOTH)
                await eventually(lambda: dropped(gateway) > 0, 10.0, "a count of what was dropped")
            if not gone:
                Deaf.heard.set()
                before = await quiet(gateway)
                assert await crowd(gateway, 1600) == 1600
                await asyncio.sleep(1.5)
                assert dropped(gateway) == before, "read again, and yet lines are lost"
        finally:
            Deaf.heard.set()


def dropped(gateway: Node) -> float:
    return gateway.metrics()["fastgw_log_lines_dropped_total"]


async def quiet(gateway: Node) -> float:
    """The count of lines dropped, when it no longer grows."""
    last = -1.0
    async with asyncio.timeout(10):
        while last != (now := dropped(gateway)):
            last = now
            await asyncio.sleep(1.2)
    return now


async def test_f45_the_state_of_the_node_is_told_without_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its log closed the node still replaces a worker, serves, and ends in good order."""
    monkeypatch.setattr("tests.support.gateway.Process", Deaf)
    monkeypatch.setattr(Deaf, "gone", True)
    with served(tmp_path) as (gateway, _):
        (pid,) = gateway.workers
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: gateway.workers not in ([pid], []), 20.0, "another worker")
        assert (await call(gateway.port, get("/health/ready"))).status == 200
