"""A new config under load: nothing fails, every worker follows, what was removed is gone, what was added is there."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from tests.support.gateway import Mock, Node, node, unique
from tests.support.rawclient import RawReply, call, connect, post
from tests.support.scripted import Expect, ScriptedUpstream, Send, Sleep, chat_events, chunked, sse

KEY = "fgw-reload-0123456789abcdef"
SECOND = "fgw-reload-second-0123456789"


def config(mock: Mock, turn: int = 0, *, keys: tuple[str, ...] = (KEY,), more: str = "") -> str:
    """A config that says something else each turn: price, weights, an extra model, another provider."""
    extra = "".join(f"\n  extra-{i}: {{targets: [{{provider: mock, model: mock-small}}]}}" for i in range(turn % 3))
    lines = "".join(f"\n  - {{name: k{i}, secret: {key}}}" for i, key in enumerate(keys))
    return f"""
providers:
  mock: {{kind: openai_compatible, base_url: "{mock.url}/v1", headers: {{x-turn: "{turn % 2}"}}}}
  spare{turn % 2}: {{kind: openai_compatible, base_url: "{mock.url}/v1", max_connections: {100 + turn % 2}}}
models:
  mock-small:
    targets:
      - {{provider: mock, model: mock-small, price: {{input: {1 + turn}, output: 1}}}}
      - {{provider: spare{turn % 2}, model: mock-small, weight: 1, price: {{input: 1, output: 1}}}}{extra}
keys:{lines}
{more}
"""


def ask(key: str = KEY, *, stream: bool = False, label: str = "", model: str = "mock-small") -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    return post(body, authorization=f"Bearer {key}", x_request_id=label or unique())


class Load:
    """Clients that go on until told to stop: on connections kept open, and on one a call."""

    def __init__(self, gateway: Node) -> None:
        self.gateway = gateway
        self.sent = 0
        self.failed: list[str] = []
        self.revisions: set[str] = set()
        self.stopping = False

    async def run(self, clients: int = 12) -> None:
        await asyncio.gather(*(self._lasting(i) if i % 3 else self._fresh(i) for i in range(clients)))

    async def _lasting(self, number: int) -> None:
        async with connect(self.gateway.port) as connection:
            while not self.stopping:
                connection.send(ask(stream=number % 2 == 0))
                self._note(await connection.read(15.0), number % 2 == 0)
                await asyncio.sleep(0.005)

    async def _fresh(self, number: int) -> None:
        while not self.stopping:
            self._note(await call(self.gateway.port, ask(stream=number % 2 == 0), 15.0), number % 2 == 0)
            await asyncio.sleep(0.005)

    def _note(self, reply: RawReply, stream: bool) -> None:
        self.sent += 1
        if reply.ending != "whole" or reply.status != 200 or (stream and not reply.body.endswith(b"[DONE]\n\n")):
            self.failed.append(f"{reply.ending} {reply.status} {reply.raw[-300:]!r}")
        else:
            self.revisions.add(reply.headers["x-fastgw-revision"])


async def test_twenty_reloads_under_load_fail_no_request(tmp_path: Path, spare: Callable[..., Mock]) -> None:
    mock = spare("--latency", "5")
    with node(tmp_path, config(mock), workers=2) as gateway:
        load = Load(gateway)
        running = asyncio.create_task(load.run())
        await asyncio.sleep(0.2)
        for turn in range(1, 21):
            gateway.write_config(config(mock, turn))
            if turn % 2:
                gateway.signal(signal.SIGHUP)
            await asyncio.to_thread(gateway.wait_revision, turn + 1)
            assert not running.done()
        await asyncio.sleep(0.2)
        load.stopping = True
        await running
        assert load.failed == []
        assert load.sent > 500
        assert len(load.revisions) == 21, "every revision served something"
        async with asyncio.timeout(10):
            while len(rows := gateway.records()) < load.sent:
                await asyncio.sleep(0.05)
        assert len({row["id"] for row in rows}) == len(rows) == load.sent
        assert mock.stats()["requests"] == load.sent
        assert gateway.metrics()['fastgw_config_reloads_total{result="ok"}'] >= 20


async def test_a_call_keeps_the_plan_it_began_with(tmp_path: Path, mock: Mock) -> None:
    """Its provider is gone from the config while it streams; it ends in order, at its old price."""
    events = chat_events("a", "b", usage=(10, 10))
    pieces = [Send(sse(events[:2], last=False)), Sleep(1.5), Send(chunked(*map(_wire, events[2:])))]
    async with ScriptedUpstream([[Expect(), *pieces]]) as upstream:
        old = f"""
providers: {{up: {{kind: openai_compatible, base_url: "{upstream.url}/v1"}}}}
models: {{m: {{targets: [{{provider: up, model: m, price: {{input: 1, output: 2}}}}]}}}}
keys: [{{name: k, secret: {KEY}}}]
"""
        with node(tmp_path, old) as gateway:
            label = unique()
            running = asyncio.create_task(call(gateway.port, ask(stream=True, label=label, model="m"), 10.0))
            async with asyncio.timeout(5):
                while not upstream.requests:
                    await asyncio.sleep(0.01)
            gateway.write_config(config(mock))
            await asyncio.to_thread(gateway.wait_revision, 2)
            assert (await call(gateway.port, ask(model="m"))).status == 404
            reply = await running
            assert (reply.status, reply.body.endswith(b"[DONE]\n\n")) == (200, True)
            row = gateway.record(label)
            assert (row["revision"], row["cost_nano"], row["target"]) == (1, 10 * 1000 + 10 * 2000, "up/m")


def _wire(event: object) -> bytes:
    return event if isinstance(event, bytes) else sse([event], chunked_framing=False).partition(b"\r\n\r\n")[2]


async def test_keys_come_and_go(tmp_path: Path, spare: Callable[..., Mock]) -> None:
    mock = spare()
    with node(tmp_path, config(mock), workers=2) as gateway:
        assert (await call(gateway.port, ask(SECOND))).status == 401
        gateway.write_config(config(mock, keys=(KEY, SECOND)))
        await asyncio.to_thread(gateway.wait_revision, 2)
        assert [(await call(gateway.port, ask(SECOND))).status for _ in range(8)] == [200] * 8
        gateway.write_config(config(mock, keys=(KEY,)))
        await asyncio.to_thread(gateway.wait_revision, 3)
        assert [(await call(gateway.port, ask(SECOND))).status for _ in range(8)] == [401] * 8
        async with connect(gateway.port) as connection:
            connection.send(ask())
            assert (await connection.read()).status == 200


async def test_the_same_config_again_is_no_new_revision(tmp_path: Path, spare: Callable[..., Mock]) -> None:
    mock = spare()
    with node(tmp_path, config(mock)) as gateway:
        gateway.write_config(config(mock))
        gateway.signal(signal.SIGHUP)
        async with asyncio.timeout(10):
            while not gateway.log("config_reloaded"):
                await asyncio.sleep(0.02)
        assert gateway.log("config_reloaded")[-1]["changed"] is False
        assert gateway.status()["revision"] == 1


async def test_what_was_published_before_is_let_go(tmp_path: Path, spare: Callable[..., Mock]) -> None:
    """Also the first plan, and one that failed calls refer to: of all their files a worker holds the last one."""
    mock = spare()
    with node(tmp_path, config(mock), workers=1) as gateway:
        (pid,) = gateway.workers

        def plans() -> list[str]:
            places = [Path(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
            names = [os.readlink(place) for place in places if place.is_symlink()]
            return [name for name in names if "/plans/" in name]

        assert len(plans()) == 1
        for turn in range(1, 6):
            assert (await call(gateway.port, ask(model="missing"))).status == 404
            revision = gateway.status()["revision"]
            gateway.write_config(config(mock, turn))
            await asyncio.to_thread(gateway.wait_revision, revision + 1)
        async with asyncio.timeout(15):
            while len(plans()) > 1:
                await asyncio.sleep(0.1)
        assert gateway.workers == [pid]
