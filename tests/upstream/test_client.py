"""Pools by origin, retiring, the sweep and the end of it all."""

import asyncio

import msgspec
import pytest

from fastgw.errors import UpstreamError
from fastgw.plan.plan import Origin, Timeouts
from fastgw.upstream.client import Client
from tests.upstream.peers import HEAD, OK, SOON, START, Server, answering, chunk, until

LIMITS = Timeouts(connect=2, first_token=5, idle=5, total=10)


async def call(pool, *, whole=True):
    return await pool.send(HEAD, b"", LIMITS, whole=whole)


async def test_equal_origins_share_a_pool(client):
    origin = Origin("http", "127.0.0.1", 1)
    assert client.pool(origin) is client.pool(msgspec.structs.replace(origin))
    assert client.pool(origin) is not client.pool(msgspec.structs.replace(origin, queue=1))


async def test_retiring_closes_what_is_idle_and_lets_the_busy_finish(client):
    go = asyncio.Event()

    async def behave(peer):
        while request := await peer.request():
            if request.startswith(b"GET /stream"):
                peer.send(START + chunk(b"a"))
                await go.wait()
                peer.send(chunk(b"b") + b"0\r\n\r\n")
            else:
                await asyncio.sleep(0.05)
                peer.send(OK)

    async with Server(behave) as server, Server(answering) as other:
        kept = client.pool(other.origin())
        await call(kept)
        pool = client.pool(server.origin())
        head = b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n"
        _, stream = await asyncio.gather(call(pool), pool.send(head, b"", LIMITS, whole=False))
        assert pool.stats().idle == 1
        client.retire({other.origin()})
        assert (pool.stats().open, pool.stats().idle, kept.stats().idle) == (1, 0, 1)
        go.set()
        assert await stream.rest(10) == b"ab"
        assert pool.stats().open == 0
        await until(lambda: server.origin() not in client.stats())
        assert other.origin() in client.stats()


async def test_a_pool_let_go_still_serves_the_plan_that_holds_it(client):
    async with Server(answering) as server:
        old = client.pool(server.origin())
        await call(old)
        client.retire(set())
        await until(lambda: not client.stats())
        assert (await call(old)).body == b"ok"
        assert old.stats().idle == 0
        client.retire(set())
        await until(lambda: not client.stats())
        new = client.pool(server.origin())
        assert new is not old
        assert (await call(old)).body == b"ok"
        assert (new.stats().idle, old.stats().open) == (1, 0)


async def test_a_pool_asked_for_again_is_kept(client):
    async with Server(answering) as server:
        pool = client.pool(server.origin())
        client.retire(set())
        assert client.pool(server.origin()) is pool
        await call(pool)
        assert pool.stats().idle == 1


async def test_idle_connections_do_not_live_for_ever():
    client = Client(asyncio.get_running_loop(), keepalive=0.1)
    client.start()
    async with Server(answering) as server:
        pool = client.pool(server.origin())
        await call(pool)
        assert pool.stats().open == 1
        await until(lambda: pool.stats().open == 0)
        await asyncio.wait_for(server.peers[0].gone.wait(), SOON)
    await client.close()


async def test_closing_ends_calls_and_turns_waiters_away():
    client = Client(asyncio.get_running_loop())
    client.start()

    async def silent(peer):
        await peer.request()
        await peer.wait_gone()

    async with Server(silent) as server:
        pool = client.pool(server.origin(max_connections=1))
        busy = asyncio.create_task(call(pool))
        await until(lambda: pool.stats().busy == 1)
        queued = asyncio.create_task(call(pool))
        await until(lambda: pool.stats().queued == 1)
        await client.close()
        first, second = await asyncio.gather(busy, queued, return_exceptions=True)
        assert (first.reason, first.sent) == ("reset", True)
        assert (second.kind, second.sent) == ("upstream_busy", False)
        assert (pool.stats().open, pool.stats().queued) == (0, 0)
        with pytest.raises(UpstreamError):
            await call(pool)
        assert pool.stats().open == 0
        await asyncio.wait_for(server.peers[0].gone.wait(), SOON)


async def test_a_sweep_that_comes_late_grants_one_more_look():
    now = 100.0
    client = Client(asyncio.get_running_loop(), clock=lambda: now)

    async def silent(peer):
        await peer.request()
        await peer.wait_gone()

    async with Server(silent) as server:
        pool = client.pool(server.origin())
        task = asyncio.create_task(call(pool))
        await until(lambda: pool.stats().busy == 1)
        client.start()
        now = 200.0
        client._timer.cancel()
        client._sweep()
        await asyncio.sleep(0)
        assert not task.done()
        client._timer.cancel()
        client._sweep()
        with pytest.raises(UpstreamError, match="not done within"):
            await task
    await client.close()
