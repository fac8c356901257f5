"""A real worker process, with the test in the supervisor's place."""

import asyncio
import http.client
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fastgw.child import Channel, Job, Listener
from fastgw.node.publish import Publisher
from fastgw.plan.compile import Sources
from fastgw.state import spool
from fastgw.state.table import open_table
from fastgw.telemetry import record
from tests.node.support import SECRET, Upstream, alive, config_text


class Supervised:
    """One worker and the other end of its channel."""

    def __init__(self, tmp_path: Path, url: str) -> None:
        self.data = tmp_path / "data"
        self.data.mkdir(mode=0o700)
        self.config = tmp_path / "c.yaml"
        self.table = open_table(self.data, create=True)
        sources = Sources(data_dir=str(self.data), environ={}, config=str(self.config))
        self.url = url
        self.config.write_text(config_text(url))
        self.publisher = Publisher(sources, self.data, self.table)
        self.publisher.recall()
        self.publisher.publish()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    async def start(self, plan: str | None = None, drain: float = 5.0) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            job = Job(
                parent=os.getpid(),
                control=theirs.fileno(),
                listeners=(Listener(self.listener.fileno()),),
                data_dir=str(self.data),
                plan=plan or str(self.publisher.path),
                revision=1,
                drain=drain,
            )
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "fastgw.gateway.worker", msgspec.json.encode(job).decode(),
                pass_fds=(theirs.fileno(), self.listener.fileno()), process_group=0,
            )  # fmt: skip
        self.channel = await Channel.open(ours)
        self.listener.close()

    async def event(self, name: str) -> dict[str, Any]:
        async with asyncio.timeout(20):
            while (message := await self.channel.receive()) is not None:
                if message["event"] == name:
                    return message
        raise AssertionError(f"the worker ended without {name}")

    async def models(self) -> set[str]:
        return await asyncio.to_thread(self._models)

    def _models(self) -> set[str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {SECRET}"})
        found = msgspec.json.decode(connection.getresponse().read())
        connection.close()
        return {row["id"] for row in found["data"]}

    async def stream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A stream whose first event has come."""
        body = b'{"model":"fast","stream":true,"messages":[{"role":"user","content":"x"}]}'
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (SECRET.encode(), len(body), body)
        )
        await asyncio.wait_for(reader.readuntil(b'"one"'), 10)
        return reader, writer


@pytest.fixture
def upstream() -> Any:
    server = Upstream()
    yield server
    server.close()


@pytest.fixture
async def worker(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Supervised]:
    one = Supervised(tmp_path, upstream.url)
    yield one
    if one.process.returncode is None:
        one.process.kill()
    await one.process.wait()
    one.channel.close()
    one.table.close()


async def test_ready_plan_drain(worker: Supervised) -> None:
    await worker.start()
    ready = await worker.event("ready")
    assert (ready["pid"], ready["revision"]) == (worker.process.pid, 1)
    info = worker.table.lane_info(ready["lane"])
    assert info.pid == worker.process.pid
    assert await worker.models() == {"fast"}
    worker.config.write_text(config_text(worker.url, models=("fast", "second")))
    assert worker.publisher.publish()
    worker.channel.send({"cmd": "plan", "path": str(worker.publisher.path), "revision": 2})
    assert await worker.event("plan") == {"event": "plan", "revision": 2, "ok": True}
    assert await worker.models() == {"fast", "second"}
    beat = await worker.event("beat")
    assert (beat["live"], beat["problem"]) == (0, None)
    worker.channel.send({"cmd": "drain", "seconds": 5})
    await worker.event("draining")
    assert await asyncio.wait_for(worker.process.wait(), 10) == 0
    assert worker.table.lane_info(ready["lane"]).pid == 0
    written = [record.decode(payload) for _, _, payload in spool.read(spool.spool_dir(worker.data))]
    assert [one.status for one in written] == [200, 200]


async def test_a_plan_that_cannot_be_read_leaves_the_old_one(worker: Supervised, tmp_path: Path) -> None:
    await worker.start()
    await worker.event("ready")
    (tmp_path / "junk").write_bytes(b"junk")
    for path in (tmp_path / "none", tmp_path / "junk"):
        worker.channel.send({"cmd": "plan", "path": str(path), "revision": 9})
        answer = await worker.event("plan")
        assert (answer["ok"], answer["revision"]) == (False, 9)
        assert str(path) in answer["error"]
    assert await worker.models() == {"fast"}


async def test_without_a_plan_it_does_not_start(worker: Supervised, tmp_path: Path) -> None:
    await worker.start(plan=str(tmp_path / "none"))
    assert await asyncio.wait_for(worker.process.wait(), 20) == 1


async def test_sigint_is_the_terminals_business(worker: Supervised) -> None:
    await worker.start()
    await worker.event("ready")
    worker.process.send_signal(signal.SIGINT)
    worker.process.send_signal(signal.SIGHUP)
    assert await worker.models() == {"fast"}


async def test_sigterm_drains(worker: Supervised, upstream: Upstream) -> None:
    await worker.start(drain=20.0)
    await worker.event("ready")
    reader, writer = await worker.stream()
    worker.process.send_signal(signal.SIGTERM)
    await worker.event("draining")
    assert worker.process.returncode is None
    upstream.finish.set()
    assert b"data: [DONE]" in await asyncio.wait_for(reader.read(), 10)
    assert await asyncio.wait_for(worker.process.wait(), 10) == 0
    writer.close()


async def test_deadline_ends_a_stream_with_an_error_and_a_record(worker: Supervised) -> None:
    await worker.start()
    await worker.event("ready")
    reader, writer = await worker.stream()
    worker.channel.send({"cmd": "drain", "seconds": 0.3})
    rest = await asyncio.wait_for(reader.read(), 10)
    assert b'"error"' in rest
    assert b"[DONE]" not in rest
    assert await asyncio.wait_for(worker.process.wait(), 10) == 0
    written = [record.decode(payload) for _, _, payload in spool.read(spool.spool_dir(worker.data))]
    assert [(one.stream, one.error) for one in written] == [(True, "overloaded")]
    writer.close()


async def test_a_lost_parent_ends_it_soon_even_with_a_stream(worker: Supervised) -> None:
    await worker.start(drain=60.0)
    await worker.event("ready")
    _, writer = await worker.stream()
    worker.channel.close()
    started = time.monotonic()
    await asyncio.wait_for(worker.process.wait(), 15)
    assert time.monotonic() - started < 5 * 5
    assert not alive(worker.process.pid)
    writer.close()


async def test_killed_worker_leaves_its_records_and_its_lane(worker: Supervised) -> None:
    await worker.start()
    ready = await worker.event("ready")
    await worker.models()
    worker.process.kill()
    await worker.process.wait()
    written = [record.decode(payload) for _, _, payload in spool.read(spool.spool_dir(worker.data))]
    assert [one.status for one in written] == [200]
    # Nobody is given the lane before the calls that may be in flight on it are seen to.
    assert worker.table.unreaped() == [ready["lane"]]
    assert worker.table.reap(ready["lane"], lambda call_id: None, lambda orphan: None) == []
    lane = worker.table.claim_lane()
    assert lane.index == ready["lane"]
    lane.close()
