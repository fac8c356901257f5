"""What a cancelled caller leaves behind in a pool, in every phase of its call: nothing."""

import asyncio

import pytest

from fastgw.errors import UpstreamError
from fastgw.plan.plan import Origin, Timeouts
from tests.upstream.peers import HEAD, OK, SOON, START, Server, answering, chunk, scripted, until

LIMITS = Timeouts(connect=2, first_token=5, idle=5, total=10)


async def call(pool, *, whole=True):
    return await pool.send(HEAD, b"", LIMITS, whole=whole)


async def silent(peer):
    await peer.request()
    await peer.wait_gone()


async def one_chunk(peer):
    await peer.request()
    peer.send(START + chunk(b"x"))
    await peer.wait_gone()


async def cancel_in_phase(task, reached):
    await until(reached)
    assert not task.done()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


@pytest.mark.parametrize("whole", [True, False])
async def test_cancel_while_waiting_for_the_reply(client, whole):
    async with Server(silent) as server:
        pool = client.pool(server.origin())
        task = asyncio.create_task(call(pool, whole=whole))
        await cancel_in_phase(task, lambda: pool.stats().busy == 1 and server.peers)
        assert (pool.stats().open, pool.stats().idle) == (0, 0)
        await asyncio.wait_for(server.peers[0].gone.wait(), SOON)


async def test_cancel_on_a_pooled_connection(client):
    async with Server(scripted(OK)) as server:
        pool = client.pool(server.origin())
        await call(pool)
        task = asyncio.create_task(call(pool))
        await cancel_in_phase(task, lambda: pool.stats().busy == 1)
        assert pool.stats().open == 0
        await asyncio.wait_for(server.peers[0].gone.wait(), SOON)


async def test_cancel_while_reading(client):
    async with Server(one_chunk) as server:
        pool = client.pool(server.origin())
        reply = await call(pool, whole=False)
        assert await reply.read() == b"x"
        task = asyncio.create_task(reply.read())
        await cancel_in_phase(task, lambda: reply._waiter is not None)
        assert pool.stats().open == 0
        await asyncio.wait_for(server.peers[0].gone.wait(), SOON)


async def test_cancel_in_the_queue(client):
    async with Server(silent) as server:
        pool = client.pool(server.origin(max_connections=1))
        holder = asyncio.create_task(call(pool))
        await until(lambda: pool.stats().busy == 1)
        waiter = asyncio.create_task(call(pool))
        await cancel_in_phase(waiter, lambda: pool.stats().queued == 1)
        assert pool.stats().queued == 0
        assert not holder.done()
        await cancel_in_phase(holder, lambda: True)
        assert pool.stats().open == 0


async def test_cancel_with_a_freed_connection_in_hand_passes_it_on(client):
    async with Server(answering) as server:
        pool = client.pool(server.origin(max_connections=1))
        reply = await call(pool)
        connection = pool._idle.pop()
        tasks = [asyncio.create_task(call(pool)) for _ in range(2)]
        await until(lambda: pool.stats().queued == 2)
        pool.release(connection)
        tasks[0].cancel()
        assert (await tasks[1]).body == reply.body
        assert tasks[0].cancelled()
        assert (pool.stats().open, pool.stats().idle) == (1, 1)


async def test_a_freed_connection_that_dies_in_the_waiters_hand_is_not_used(client):
    async with Server(answering) as server:
        pool = client.pool(server.origin(max_connections=1))
        await call(pool)
        connection = pool._idle.pop()
        task = asyncio.create_task(call(pool))
        await until(lambda: pool.stats().queued == 1)
        pool.release(connection)
        connection.eof_received()
        reply = await task
        assert (reply.body, reply.reused) == (b"ok", False)
        stats = pool.stats()
        assert (stats.open, stats.created, stats.replays) == (1, 2, 0)


async def test_cancel_between_a_dead_connection_and_its_replay_frees_the_slot(client):
    async with Server(scripted(OK)) as server:
        pool = client.pool(server.origin(max_connections=1))
        await call(pool)
        task = asyncio.create_task(call(pool))
        await until(lambda: pool.stats().busy == 1)
        (connection,) = pool._connections
        connection.eof_received()
        assert pool.stats().open == 1
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert (pool.stats().open, pool.stats().replays) == (0, 0)


async def test_cancel_while_connecting(client):
    started = asyncio.Event()

    class Slow:
        async def open(self, origin, factory):
            started.set()
            await asyncio.sleep(30)

    client.connector = Slow()
    pool = client.pool(Origin("http", "127.0.0.1", 1))
    task = asyncio.create_task(call(pool))
    await started.wait()
    assert pool.stats().open == 1
    task.cancel()
    await asyncio.wait({task})
    assert pool.stats().open == 0


async def test_closing_a_reply_closes_the_socket_at_once_and_may_be_repeated(client):
    async with Server(one_chunk) as server:
        pool = client.pool(server.origin())
        reply = await call(pool, whole=False)
        reply.close()
        reply.close()
        assert pool.stats().open == 0
        await asyncio.wait_for(server.peers[0].gone.wait(), SOON)
        with pytest.raises(UpstreamError):
            await reply.read()
