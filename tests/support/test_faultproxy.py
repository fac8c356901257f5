"""The fault proxy does exactly what it is told, byte for byte."""

import asyncio
import socket
import time

import pytest

from tests.support.faultproxy import FaultProxy, Faults, closed_port, each_byte, full_backlog
from tests.support.rawclient import call, connect, post
from tests.support.scripted import Expect, Fin, Flood, Hold, ScriptedUpstream, Send, chat_completion, reply

REQUEST = post({"model": "m"})
REPLY = reply(body=chat_completion())
ONCE = [Expect(), Send(REPLY), Hold()]


async def test_faithful_by_default() -> None:
    async with ScriptedUpstream([[Expect(), Send(REPLY)] * 3 + [Fin()]]) as up, FaultProxy(up.port) as proxy:
        async with connect(proxy.port) as client:
            for _ in range(3):
                client.send(REQUEST)
                assert (await client.read()).raw == REPLY
            assert (await client.read()).ending == "fin"
        passed = proxy.connections[0]
        assert (passed.to_server, passed.to_client) == (3 * len(REQUEST), 3 * len(REPLY))
        assert passed.server_ended is not None


async def test_client_close_reaches_the_server() -> None:
    async with ScriptedUpstream([[Expect(), Hold()]]) as up, FaultProxy(up.port) as proxy:
        async with connect(proxy.port) as client:
            client.send(REQUEST)
            while not up.requests:
                await asyncio.sleep(0.001)
            left = time.monotonic()
        while up.connections[0].closed is None:
            await asyncio.sleep(0.001)
        assert up.connections[0].peer_closed is not None
        assert up.connections[0].peer_closed - left < 0.5
        assert proxy.connections[0].client_ended is not None


async def test_client_reset_ends_an_endless_reply() -> None:
    async with ScriptedUpstream([[Expect(), Flood(b"x" * 1000)]]) as up, FaultProxy(up.port) as proxy:
        async with connect(proxy.port) as client:
            client.send(REQUEST)
            await client.read_some(100_000)
        async with asyncio.timeout(5):
            while up.connections[0].closed is None or proxy.open:
                await asyncio.sleep(0.005)


@pytest.mark.parametrize(("field", "ending"), [("reset_at", "reset"), ("fin_at", "fin")])
async def test_cut_at_every_byte(field: str, ending: str) -> None:
    script = each_byte(Faults(), field, len(REPLY), step=5)
    async with ScriptedUpstream([ONCE]) as up, FaultProxy(up.port, script) as proxy:
        for k in range(0, len(REPLY), 5):
            got = await call(proxy.port, REQUEST)
            assert (got.raw, got.ending) == (REPLY[:k], ending)


@pytest.mark.parametrize("field", ["blackhole_at", "half_open_at"])
async def test_silence_after_the_first_reply(field: str) -> None:
    faults = Faults(**{field: len(REPLY)})
    async with ScriptedUpstream([[Expect(), Send(REPLY)] * 2]) as up, FaultProxy(up.port, faults) as proxy:
        async with connect(proxy.port) as client:
            client.send(REQUEST)
            assert (await client.read()).raw == REPLY
            await asyncio.sleep(0.05)
            client.send(REQUEST)
            assert (await client.read(0.2)).ending == "timeout"
            assert len(up.requests) == 1
            assert (up.connections[0].closed is not None) is (field == "half_open_at")
            assert proxy.connections[0].swallowed == len(REQUEST)
        async with asyncio.timeout(5):
            while proxy.open:
                await asyncio.sleep(0.005)


async def test_drop_resets_both_sides() -> None:
    async with ScriptedUpstream([ONCE]) as up, FaultProxy(up.port, Faults(drop_at=10)) as proxy:
        assert (await call(proxy.port, REQUEST)).ending == "reset"
        async with asyncio.timeout(5):
            while up.connections[0].closed is None:
                await asyncio.sleep(0.005)
        assert up.requests == []


async def test_corrupt_flips_one_byte() -> None:
    async with ScriptedUpstream([ONCE]) as up:
        for faults in (Faults(corrupt_at=40), Faults(corrupt_at=40, slice=7)):
            async with FaultProxy(up.port, faults) as proxy:
                raw = (await call(proxy.port, REQUEST)).raw
                assert [i for i, (a, b) in enumerate(zip(raw, REPLY, strict=True)) if a != b] == [40]


async def test_slice_latency_and_rate() -> None:
    async with ScriptedUpstream([ONCE]) as up:
        for faults, least in ((Faults(latency=0.1), 0.1), (Faults(rate=len(REPLY) * 10), 0.1), (Faults(slice=1), 0)):
            async with FaultProxy(up.port, faults) as proxy:
                began = time.monotonic()
                assert (await call(proxy.port, REQUEST)).raw == REPLY
                assert time.monotonic() - began >= least * 0.9


async def test_silent() -> None:
    async with FaultProxy(closed_port(), Faults(silent=True)) as proxy:
        assert (await call(proxy.port, REQUEST, 0.2)).ending == "timeout"
        assert proxy.connections[0].swallowed == len(REQUEST)


async def test_dead_server_is_a_reset() -> None:
    async with FaultProxy(closed_port()) as proxy:
        assert (await call(proxy.port, REQUEST)).ending == "reset"


async def test_scripts_by_connection() -> None:
    def script(index: int) -> Faults:
        return Faults(reset_at=0) if index % 2 else Faults()

    async with ScriptedUpstream([ONCE]) as up, FaultProxy(up.port, script) as proxy:
        assert [(await call(proxy.port, REQUEST)).ending for _ in range(4)] == ["whole", "reset"] * 2
        proxy.script = [Faults(fin_at=1), Faults(fin_at=2)]
        # A list counts from the proxy's first connection, so the last entry serves all from here on.
        assert len((await call(proxy.port, REQUEST)).raw) == 2


def test_full_backlog_hangs_a_connect() -> None:
    with full_backlog() as port, socket.socket() as client:
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.connect(("127.0.0.1", port))


def test_closed_port_refuses() -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", closed_port()), 1)
