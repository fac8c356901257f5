"""A reply in its caller's hands: reading, poking, draining, closing."""

import asyncio

import pytest

from fastgw.errors import UpstreamError
from tests.upstream.peers import START, Bench, chunk


@pytest.fixture
async def bench():
    return Bench(asyncio.get_running_loop())


@pytest.fixture
async def reply(bench):
    reply = bench.begin(whole=False)
    bench.feed(START)
    await bench.waiter
    reply._waiter = None
    return reply


async def reading(reply):
    task = asyncio.create_task(reply.read())
    await asyncio.sleep(0)
    assert reply._waiter is not None
    return task


async def test_read_waits_and_takes_all_there_is(bench, reply):
    task = await reading(reply)
    bench.feed(chunk(b"a"), chunk(b"b"))
    assert await task == b"ab"
    bench.feed(chunk(b"c") + b"0\r\n\r\n")
    assert await reply.read() == b"c"
    assert await reply.read() == b""


async def test_the_end_wakes_a_reader(bench, reply):
    task = await reading(reply)
    bench.feed(b"0\r\n\r\n")
    assert await task == b""


async def test_poke_wakes_a_reader_with_none_and_loses_nothing(bench, reply):
    task = await reading(reply)
    reply.poke()
    assert await task is None
    reply.poke()
    task = await reading(reply)
    reply.poke()
    bench.feed(chunk(b"a"))
    assert await task == b"a"


async def test_a_chunk_header_alone_is_no_news(bench, reply):
    task = await reading(reply)
    bench.feed(b"5")
    bench.feed(b"\r\n")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    bench.feed(b"hello")
    assert await task == b"hello"


async def test_one_reader_at_a_time(bench, reply):
    task = await reading(reply)
    with pytest.raises(RuntimeError):
        await reply.read()
    bench.feed(chunk(b"a"))
    assert await task == b"a"


async def test_close_cuts_for_a_reader_elsewhere(bench, reply):
    task = await reading(reply)
    reply.close()
    assert bench.transport.aborted
    assert bench.forgotten == [False]
    with pytest.raises(UpstreamError) as caught:
        await task
    assert (caught.value.reason, caught.value.sent) == ("reset", True)
    assert not reply.complete


async def test_close_after_the_end_leaves_the_connection_alone(bench, reply):
    bench.feed(b"0\r\n\r\n")
    reply.close()
    assert bench.released == 1
    assert not bench.transport.aborted
    next_reply = bench.begin(whole=False)
    reply.close()
    bench.feed(START + chunk(b"mine") + b"0\r\n\r\n")
    next_reply._waiter = None
    assert await next_reply.read() == b"mine"
    assert await reply.read() == b""


async def test_rest_drains_to_the_end(bench, reply):
    task = asyncio.create_task(reply.rest(10))
    await asyncio.sleep(0)
    bench.feed(chunk(b"12345"))
    await asyncio.sleep(0)
    reply.poke()
    await asyncio.sleep(0)
    bench.feed(chunk(b"67890") + b"0\r\n\r\n")
    assert await task == b"1234567890"


async def test_rest_is_capped_and_closes(bench, reply):
    bench.feed(chunk(b"12345"), chunk(b"678901"))
    with pytest.raises(UpstreamError) as caught:
        await reply.rest(10)
    assert (caught.value.kind, caught.value.reason) == ("upstream_invalid_response", "too_large")
    assert bench.transport.aborted
