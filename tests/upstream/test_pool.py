"""Pools over real sockets: reuse, bounds, the queue, the replay, what a cancelled caller leaves behind."""

import asyncio
import socket
import time
from random import Random

import pytest

from fastgw.errors import UpstreamError
from fastgw.plan.plan import Origin, Timeouts
from tests.upstream.peers import HEAD, OK, SOON, START, Server, answering, chunk, scripted, until

LIMITS = Timeouts(connect=2, first_token=5, idle=5, total=10)


def post(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)


async def call(pool, *, whole=True, timeouts=LIMITS):
    return await pool.send(HEAD, b"", timeouts, whole=whole)


async def test_the_last_connection_used_is_the_next(client):
    async with Server(answering) as server:
        pool = client.pool(server.origin())
        first = await call(pool)
        assert (first.status, first.body, first.reused) == (200, b"ok", False)
        assert first.header(b"content-length") == b"2"
        assert first.header(b"x") is None
        assert first.connect_ms > 0
        assert first.sent_at <= first.first_byte_at
        await asyncio.gather(call(pool), call(pool))
        assert len(server.peers) == 2
        for _ in range(5):
            last = pool._idle[-1]
            reply = await call(pool)
            assert (reply.reused, reply.connect_ms) == (True, 0)
            assert pool._idle[-1] is last
        stats = pool.stats()
        assert (stats.open, stats.idle, stats.busy, stats.queued) == (2, 2, 0, 0)
        assert (stats.created, stats.reused) == (2, 6)


@pytest.mark.parametrize("size", [1, 65_536, 65_537, 5_000_000])
async def test_bodies_both_ways(client, size):
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    got = []

    async def echo(peer):
        while request := await peer.request():
            got.append(request)
            sent = request.partition(b"\r\n\r\n")[2]
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(sent) + sent)

    async with Server(echo) as server:
        pool = client.pool(server.origin())
        for _ in range(2):
            reply = await pool.send(post(body), body, LIMITS, whole=True)
            assert reply.body == body
        assert got == [post(body) + body] * 2
        assert pool.stats().created == 1


async def test_a_stream_arrives_piece_by_piece_and_the_connection_is_kept(client):
    go = asyncio.Event()

    async def stream(peer):
        while await peer.request():
            peer.send(START + chunk(b"one"))
            await go.wait()
            peer.send(chunk(b"two") + b"0\r\n\r\n")

    async with Server(stream) as server:
        pool = client.pool(server.origin())
        reply = await call(pool, whole=False)
        assert (reply.status, reply.complete, pool.stats().busy) == (200, False, 1)
        assert await reply.read() == b"one"
        go.set()
        assert await reply.read() == b"two"
        assert await reply.read() == b""
        assert await reply.read() == b""
        reply.close()
        assert (await call(pool, whole=False)).reused


async def test_redirects_are_replies(client):
    target = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
    async with Server(scripted(target)) as server:
        reply = await call(client.pool(server.origin()))
        assert (reply.status, reply.header(b"location")) == (302, b"http://127.0.0.1:1/")


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", b""])
async def test_what_is_not_one_head_is_not_sent(client, head):
    async with Server(answering) as server:
        pool = client.pool(server.origin())
        with pytest.raises(ValueError):
            await pool.send(head, b"", LIMITS, whole=True)
        assert pool.stats().open == 0


async def test_a_refused_connection_is_told_at_once(client):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    pool = client.pool(Origin("http", "127.0.0.1", port))
    started = time.monotonic()
    with pytest.raises(UpstreamError) as caught:
        await call(pool)
    assert (caught.value.kind, caught.value.reason, caught.value.sent) == ("upstream_unreachable", "connect", False)
    assert f"127.0.0.1:{port}" in caught.value.message
    assert time.monotonic() - started < SOON
    assert (pool.stats().open, pool.stats().connect_failures) == (0, 1)


async def test_a_blackhole_runs_into_the_connect_deadline(client):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        pool = client.pool(Origin("http", "127.0.0.1", port))
        with pytest.raises(UpstreamError) as caught:
            await call(pool, timeouts=Timeouts(connect=0.2))
        assert (caught.value.kind, caught.value.reason, caught.value.sent) == ("upstream_timeout", "connect", False)
        with pytest.raises(UpstreamError) as caught:
            await call(pool, timeouts=Timeouts(connect=5, total=0.1))
        assert (caught.value.kind, caught.value.reason, caught.value.sent) == ("upstream_timeout", "timeout", False)
        assert pool.stats().open == 0
        for filler in fillers:
            filler.close()


async def silent(peer):
    await peer.request()
    await peer.wait_gone()


async def one_chunk(peer):
    await peer.request()
    peer.send(START + chunk(b"x"))
    await peer.wait_gone()


@pytest.mark.parametrize(
    ("behave", "timeouts", "words"),
    [
        (silent, Timeouts(first_token=0.2), "no first byte within 0.2 s"),
        (one_chunk, Timeouts(idle=0.2), "silent for 0.2 s"),
        (one_chunk, Timeouts(total=0.3), "not done within 0.3 s"),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
async def test_deadlines_end_the_call_and_the_connection(client, behave, timeouts, words, whole):
    async with Server(behave) as server:
        pool = client.pool(server.origin())
        started = time.monotonic()
        with pytest.raises(UpstreamError) as caught:
            reply = await call(pool, whole=whole, timeouts=timeouts)
            assert await reply.read() == b"x"
            await reply.read()
        error = caught.value
        assert (error.kind, error.reason, error.sent) == ("upstream_timeout", "timeout", True)
        assert words in error.message
        assert time.monotonic() - started < 2
        await asyncio.wait_for(server.peers[0].gone.wait(), SOON)
        assert pool.stats().open == 0


async def test_bounds_and_queue(client):
    gates = [asyncio.Event() for _ in range(6)]
    order = []

    async def gated(peer):
        while await peer.request():
            await gates[len(order)].wait() if len(order) < len(gates) else None
            peer.send(OK)

    async with Server(gated) as server:
        pool = client.pool(server.origin(max_connections=2, queue=3))
        tasks = []
        for number in range(5):
            tasks.append(asyncio.create_task(call(pool)))
            tasks[-1].add_done_callback(lambda _, number=number: order.append(number))
        await until(lambda: pool.stats().queued == 3 and pool.stats().busy == 2)
        assert pool.stats().open == 2
        with pytest.raises(UpstreamError) as caught:
            await call(pool)
        assert (caught.value.kind, caught.value.reason) == ("upstream_busy", "queue_full")
        assert caught.value.sent is False
        for gate in gates:
            gate.set()
        replies = await asyncio.gather(*tasks)
        assert [reply.body for reply in replies] == [b"ok"] * 5
        assert sorted(order) == list(range(5))
        assert set(order[:2]) == {0, 1}
        assert all(reply.queue_ms > 0 for reply in replies[2:])
        stats = pool.stats()
        assert (stats.open, stats.created, stats.queued, stats.queue_full) == (2, 2, 0, 1)
        assert len(server.peers) == 2


async def test_the_queue_is_timed(client):
    async with Server(silent) as server:
        pool = client.pool(server.origin(max_connections=1, queue_timeout=0.1))
        holder = asyncio.create_task(call(pool))
        await until(lambda: pool.stats().busy == 1)
        with pytest.raises(UpstreamError) as caught:
            await call(pool)
        assert (caught.value.reason, caught.value.sent) == ("queue_timeout", False)
        assert (pool.stats().queued, pool.stats().queue_timeouts) == (0, 1)
        holder.cancel()
        await asyncio.wait({holder})
        assert pool.stats().open == 0


async def test_a_slot_that_fails_to_connect_goes_to_the_next_in_line(client):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    pool = client.pool(Origin("http", "127.0.0.1", port, max_connections=1))
    results = await asyncio.gather(*(call(pool) for _ in range(5)), return_exceptions=True)
    assert [error.reason for error in results] == ["connect"] * 5
    assert (pool.stats().open, pool.stats().queued) == (0, 0)


async def test_a_connection_that_dies_frees_its_slot_for_the_queue(client):
    async def first_dies(peer):
        await peer.request()
        if peer.number == 0:
            await asyncio.sleep(0.05)
            peer.reset()
        else:
            peer.send(OK)
            await peer.wait_gone()

    async with Server(first_dies) as server:
        pool = client.pool(server.origin(max_connections=1))
        first, second = await asyncio.gather(call(pool), call(pool), return_exceptions=True)
        assert first.reason == "reset"
        assert second.body == b"ok"
        assert pool.stats().open == 1


@pytest.mark.parametrize("end", ["eof", "reset"])
async def test_a_request_that_meets_a_dying_pooled_connection_is_sent_once_more(client, end):
    async def dies_on_second(peer):
        await peer.request()
        peer.send(OK)
        if peer.number == 0 and await peer.request():
            if end == "reset":
                peer.reset()
            return
        await peer.wait_gone()

    async with Server(dies_on_second) as server:
        pool = client.pool(server.origin(max_connections=1))
        await call(pool)
        reply = await call(pool)
        assert (reply.body, reply.reused) == (b"ok", False)
        stats = pool.stats()
        assert (stats.replays, stats.created, stats.open, stats.idle) == (1, 2, 1, 1)


async def test_the_race_of_a_closing_peer_never_shows(client):
    """The peer ends its connection a moment after every reply, just when the next request is on its way."""
    random = Random(5)

    async def closes_soon(peer):
        await peer.request()
        peer.send(OK)
        await asyncio.sleep(random.random() * 0.003)

    async with Server(closes_soon) as server:
        pool = client.pool(server.origin())
        for _ in range(150):
            assert (await call(pool)).body == b"ok"
            await asyncio.sleep(random.random() * 0.003)
        assert pool.stats().created == len(server.peers) == 150


async def test_there_is_one_replay_and_none_on_a_fresh_connection(client):
    async def never_twice(peer):
        await peer.request()
        if peer.number == 0:
            peer.send(OK)
            await peer.request()
        peer.reset()

    async with Server(never_twice) as server:
        pool = client.pool(server.origin(max_connections=1))
        await call(pool)
        with pytest.raises(UpstreamError) as caught:
            await call(pool)
        assert (caught.value.reason, caught.value.sent) == ("reset", True)
        assert len(server.peers) == 2
        assert pool.stats().replays == 1
        with pytest.raises(UpstreamError):
            await call(pool)
        assert len(server.peers) == 3
        assert (pool.stats().replays, pool.stats().open) == (1, 0)


async def test_a_reply_byte_forbids_the_replay(client):
    async def one_byte(peer):
        await peer.request()
        peer.send(OK)
        await peer.request()
        peer.send(b"H")

    async with Server(one_byte) as server:
        pool = client.pool(server.origin())
        await call(pool)
        with pytest.raises(UpstreamError) as caught:
            await call(pool)
        assert (caught.value.kind, caught.value.reason) == ("upstream_invalid_response", "reset")
        assert len(server.peers) == 1


async def test_a_replay_that_cannot_connect_still_says_sent(client):
    async with Server(None) as server:

        async def closes_all(peer):
            await peer.request()
            peer.send(OK)
            await peer.request()
            server._server.close()

        server.behave = closes_all
        pool = client.pool(server.origin(max_connections=1))
        await call(pool)
        with pytest.raises(UpstreamError) as caught:
            await call(pool)
        assert (caught.value.reason, caught.value.sent) == ("reset", True)
        assert (pool.stats().open, pool.stats().replays) == (0, 1)


@pytest.mark.parametrize("end", ["eof", "reset"])
async def test_a_cut_at_every_byte_on_the_wire(client, end):
    raw = START + chunk(b"hello") + b"0\r\n\r\n"

    async def cuts(peer):
        await peer.request()
        peer.send(raw[: peer.number])
        await peer.writer.drain()
        if end == "reset":
            await asyncio.sleep(0.002)
            peer.reset()

    async with Server(cuts) as server:
        pool = client.pool(server.origin())
        for cut in range(len(raw)):
            with pytest.raises(UpstreamError) as caught:
                reply = await call(pool, whole=cut % 2 == 0)
                await reply.rest(1000)
            assert (caught.value.reason, caught.value.sent) == ("reset", True)
            assert pool.stats().open == 0
        assert (await call(pool)).body == b"hello"
        assert pool.stats().replays == 0
        assert len(server.peers) == len(raw) + 1


async def test_connections_the_peer_ends_while_idle_are_not_used(client):
    async def once(peer):
        await peer.request()
        peer.send(OK)

    async with Server(once) as server:
        pool = client.pool(server.origin())
        for number in range(3):
            await call(pool)
            await until(lambda: pool.stats().open == 0)
            assert len(server.peers) == number + 1
        assert pool.stats().replays == 0


async def test_a_second_response_never_meets_a_second_request(client):
    stray = OK.replace(b"ok", b"NO")

    async def smuggles(peer):
        while await peer.request():
            peer.send(OK + stray)

    async def later(peer):
        while await peer.request():
            peer.send(OK)
            await asyncio.sleep(0.01)
            peer.send(stray)

    for behave in (smuggles, later):
        async with Server(behave) as server:
            pool = client.pool(server.origin())
            for _ in range(5):
                assert (await call(pool)).body == b"ok"
                await asyncio.sleep(0.03)
            assert len(server.peers) == 5


async def test_http_through_a_proxy_is_in_absolute_form(client):
    got = []

    async def proxy(peer):
        while request := await peer.request():
            got.append(request)
            peer.send(OK)

    async with Server(proxy) as server:
        url = f"http://us%40er:pa%3Ass@127.0.0.1:{server.port}"
        pool = client.pool(Origin("http", "up.invalid", 8080, proxy=url))
        assert (await pool.send(post(b"hi"), b"hi", LIMITS, whole=True)).body == b"ok"
        assert got == [
            b"POST http://up.invalid:8080/ HTTP/1.1\r\nproxy-authorization: Basic dXNAZXI6cGE6c3M=\r\n"
            b"host: x\r\ncontent-length: 2\r\n\r\nhi"
        ]


async def test_an_unreadable_proxy_url_fails_without_repeating_it(client):
    pool = client.pool(Origin("http", "up.invalid", 8080, proxy="socks5://user:secret@h"))
    with pytest.raises(UpstreamError) as caught:
        await call(pool)
    assert (caught.value.reason, caught.value.sent) == ("connect", False)
    assert "secret" not in caught.value.message


async def test_memory_is_bounded_when_nobody_reads(client):
    sent = 0

    async def floods(peer):
        nonlocal sent
        await peer.request()
        peer.send(START)
        while not peer.gone.is_set():
            peer.send(chunk(b"x" * 60_000))
            await peer.writer.drain()
            sent += 60_000

    async with Server(floods) as server:
        pool = client.pool(server.origin())
        reply = await call(pool, whole=False)
        before = -1
        async with asyncio.timeout(20):
            while sent != before:
                before = sent
                await asyncio.sleep(0.3)
        assert reply._buffered < 1_000_000
        assert len(await reply.read()) > 256 * 1024
        async with asyncio.timeout(20):
            while sent < before + 5_000_000:
                assert len(await reply.read()) < 1_000_000
        reply.close()


async def test_many_at_once_get_their_own_answers(client):
    async def echo(peer):
        while request := await peer.request():
            body = request.partition(b"\r\n\r\n")[2]
            peer.send(START + chunk(body) + b"0\r\n\r\n")

    async def one(pool, number):
        body = b"%d" % number
        reply = await pool.send(post(body), body, LIMITS, whole=number % 2 == 0)
        got = reply.body if number % 2 == 0 else await reply.rest(100)
        return got == body

    async with Server(echo) as server:
        pool = client.pool(server.origin(max_connections=7))
        assert all(await asyncio.gather(*(one(pool, number) for number in range(300))))
        stats = pool.stats()
        assert (stats.open, stats.idle, stats.queued) == (7, 7, 0)
