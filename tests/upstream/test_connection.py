"""Bytes in, states out: no socket, no clock but the one set here."""

import asyncio

import pytest

from fastgw.errors import UpstreamError
from fastgw.plan.plan import Timeouts
from fastgw.upstream import connection as module
from tests.upstream.peers import HEAD, OK, START, Bench, chunk

LINE = b"HTTP/1.1 200 OK\r\n"
SIZED = LINE + b"Content-Type: text/plain\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 11\r\n\r\nhello\r\nyou\n"
CHUNKED = START + chunk(b"hello") + b"6;ext=1\r\n\r\nyou\n\r\n0\r\nx-trailer: t\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + SIZED
EMPTY = b"HTTP/1.1 204 No Content\r\nx-a: 1\r\n\r\n"
BODIES = {SIZED: b"hello\r\nyou\n", CHUNKED: b"hello\r\nyou\n", INTERIM: b"hello\r\nyou\n", EMPTY: b""}
NAMES = ["sized", "chunked", "interim", "empty"]


@pytest.fixture
async def bench():
    return Bench(asyncio.get_running_loop())


async def body_of(reply):
    return reply.body if reply._whole else await drain(reply)


async def drain(reply):
    reply._waiter = None
    return await reply.rest(1 << 20)


def error_of(reply):
    assert reply._error is not None
    assert not reply.complete
    return reply._error


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("raw", BODIES, ids=NAMES)
async def test_any_two_segments_make_the_same_reply_and_leave_a_usable_connection(raw, whole):
    for cut in range(1, len(raw)):
        bench = Bench(asyncio.get_running_loop())
        for _ in range(2):
            reply = bench.begin(whole=whole)
            bench.feed(raw[:cut], raw[cut:])
            assert reply.complete
            assert await body_of(reply) == BODIES[raw]
            assert all(name == name.lower() and name != b"x-trailer" for name, _ in reply.headers)
        assert bench.released == 2
        assert not bench.transport.aborted
        assert reply.reused


@pytest.mark.parametrize("raw", BODIES, ids=NAMES)
async def test_byte_by_byte(raw, bench):
    for whole in (True, False):
        reply = bench.begin(whole=whole)
        bench.feed(*(raw[i : i + 1] for i in range(len(raw))))
        assert reply.complete
        assert await body_of(reply) == BODIES[raw]
        assert bench.waiter.done()
    assert bench.released == 2


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("end", ["eof", "reset"])
@pytest.mark.parametrize("raw", BODIES, ids=NAMES)
async def test_a_cut_at_any_byte_never_looks_complete(raw, end, whole):
    for cut in range(len(raw)):
        bench = Bench(asyncio.get_running_loop())
        reply = bench.begin(whole=whole)
        if cut:
            bench.feed(raw[:cut])
        if end == "eof":
            bench.connection.eof_received()
        bench.connection.connection_lost(None if end == "eof" else ConnectionResetError())
        error = error_of(reply)
        assert (error.reason, error.sent) == ("reset", True)
        assert error.kind == ("upstream_invalid_response" if cut else "upstream_unreachable")
        assert bench.waiter.done()
        assert bench.released == 0
        assert bench.forgotten == [False]
        if not whole:
            with pytest.raises(UpstreamError):
                await drain(reply)


async def test_what_came_before_a_cut_is_read_first(bench):
    reply = bench.begin(whole=False)
    bench.feed(START + chunk(b"one"))
    reply._waiter = None
    bench.feed(chunk(b"two"))
    bench.connection.connection_lost(ConnectionResetError())
    assert await reply.read() == b"onetwo"
    with pytest.raises(UpstreamError, match="up:1 reset the connection"):
        await reply.read()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (LINE + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "invalid"),
        (LINE + b"transfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n1\r\nx\r\n0\r\n\r\n", "invalid"),
        (LINE + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "invalid"),
        (LINE + b"transfer-encoding: gzip\r\n\r\nabc", "invalid"),
        (LINE + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "invalid"),
        (b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "invalid"),
        (LINE + b"content-length: 1\r\ncontent-length: 1\r\n\r\nx", "invalid"),
        (LINE + b"content-length: 1, 1\r\n\r\nx", "invalid"),
        (LINE + b"content-length: -1\r\n\r\nx", "invalid"),
        (LINE + b"content-length: 99999999999999999999999\r\n\r\nx", "invalid"),
        (LINE + b"content-length: 99999999\r\n\r\nx", "too_large"),
        (LINE + b"content-length : 1\r\n\r\nx", "invalid"),
        (LINE + b"x: a\r\n b\r\n\r\n", "invalid"),
        (LINE + b"x: a\0b\r\n\r\n", "invalid"),
        (LINE + b"x: a\rb\r\n\r\n", "invalid"),
        (b"HTTP/1.1 200 OK\ncontent-length: 1\n\nx", "invalid"),
        (b"HTTP/2.0 200 OK\r\ncontent-length: 1\r\n\r\nx", "invalid"),
        (b"HTTP/0.9 200 OK\r\ncontent-length: 1\r\n\r\nx", "invalid"),
        (b"RTSP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx", "invalid"),
        (b"<html>hello</html>", "invalid"),
        (b"\r\n\r\n" + OK, "invalid"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "invalid"),
        (b"HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n", "invalid"),
        (b"HTTP/1.1 099 Odd\r\n\r\n" + OK, "invalid"),
        (b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nabc", "invalid"),
        (b"HTTP/1.1 104 Hm\r\ncontent-length: 4\r\n\r\nabcd" + OK, "invalid"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 17 + OK, "too_large"),
        (START + b"1 \r\nx\r\n0\r\n\r\n", "invalid"),
        (START + b"1\r\nxy\r\n0\r\n\r\n", "invalid"),
        (START + b"-1\r\nx\r\n0\r\n\r\n", "invalid"),
        (START + b"fffffffffffffffff\r\nx\r\n0\r\n\r\n", "invalid"),
        (START + b"1\nx\n0\n\n", "invalid"),
        (LINE + b"x: y\r\n" * 101 + b"content-length: 0\r\n\r\n", "too_large"),
        (LINE + b"x: " + b"y" * 33000 + b"\r\n\r\n", "too_large"),
        (LINE + b"x: " + b"y" * 33000, "too_large"),
    ],
)
async def test_what_is_no_reply_is_refused_and_ends_the_connection(raw, reason, bench):
    for segments in ([raw], [raw[i : i + 7] for i in range(0, len(raw), 7)]):
        bench = Bench(asyncio.get_running_loop())
        reply = bench.begin()
        bench.feed(*segments)
        error = error_of(reply)
        assert (error.kind, error.reason, error.sent) == ("upstream_invalid_response", reason, True)
        assert bench.transport.aborted
        assert bench.released == 0
        assert bench.forgotten == [False]
        assert "abc" not in error.message


@pytest.mark.parametrize(
    "surplus",
    [b"H", b"HTTP/1.1 200 OK\r\n", OK.replace(b"ok", b"NO"), b"!", b"\0", b"x" * 40_000, b"\r\n", b"\n", b"\r\n\r\n"],
)
@pytest.mark.parametrize("raw", [OK, CHUNKED, EMPTY, START + chunk(b"x") + b"0\r\n\r\n"])
@pytest.mark.parametrize("whole", [True, False])
async def test_bytes_after_the_end_are_nobodys_and_end_the_connection(raw, surplus, whole, bench):
    reply = bench.begin(whole=whole)
    bench.feed(raw + surplus)
    assert reply.complete
    assert (await body_of(reply)) in (b"ok", b"hello\r\nyou\n", b"", b"x")
    assert b"content-length" not in dict(reply.headers) or raw is OK
    assert bench.released == 0
    assert bench.transport.aborted


async def test_bytes_while_idle_end_the_connection(bench):
    bench.begin()
    bench.feed(OK)
    assert bench.released == 1
    bench.feed(OK)
    assert bench.transport.aborted
    assert bench.forgotten == [False]
    assert bench.connection.closed


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (OK, True),
        (LINE + b"connection: close\r\ncontent-length: 2\r\n\r\nok", False),
        (LINE + b"Connection: x, Close\r\ncontent-length: 2\r\n\r\nok", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", True),
    ],
)
async def test_a_connection_is_kept_only_if_the_reply_lets_it(raw, kept, bench):
    reply = bench.begin()
    bench.feed(raw)
    assert (reply.complete, reply.body) == (True, b"ok")
    assert (bench.released, bench.transport.aborted) == (int(kept), not kept)


async def test_a_reply_before_the_request_has_left_ends_the_connection(bench):
    reply = bench.begin()
    bench.transport.unwritten = 10
    bench.feed(OK)
    assert reply.complete
    assert bench.released == 0
    assert bench.transport.aborted


@pytest.mark.parametrize("raw", [b"HTTP/1.1 304 N\r\ncontent-length: 5\r\n\r\n", EMPTY])
async def test_replies_that_have_no_body(raw, bench):
    reply = bench.begin()
    bench.feed(raw)
    assert (reply.complete, reply.body, reply.unframed, bench.released) == (True, b"", False, 1)


async def test_head_has_no_body_whatever_its_headers_say(bench):
    reply = bench.begin(head=b"HEAD / HTTP/1.1\r\n\r\n")
    bench.feed(LINE + b"content-length: 99999999\r\n\r\n")
    assert (reply.complete, reply.body, reply.status) == (True, b"", 200)
    assert bench.transport.aborted


@pytest.mark.parametrize("whole", [True, False])
async def test_a_body_until_the_end_of_the_connection(bench, whole):
    reply = bench.begin(whole=whole)
    bench.feed(LINE + b"\r\nab", b"c")
    assert not reply.complete
    assert reply.unframed
    bench.connection.eof_received()
    assert reply.complete
    assert await body_of(reply) == b"abc"
    assert bench.released == 0
    assert bench.transport.aborted


async def test_a_body_until_the_end_is_cut_by_anything_but_an_end(bench):
    reply = bench.begin()
    bench.feed(LINE + b"\r\nabc")
    bench.connection.connection_lost(None)
    assert error_of(reply).reason == "reset"


async def test_whole_bodies_are_capped_while_they_come():
    for raw in (START, LINE + b"\r\n"):
        bench = Bench(asyncio.get_running_loop(), max_body=1000)
        reply = bench.begin()
        bench.feed(raw, *(chunk(b"x" * 100) for _ in range(11)))
        assert error_of(reply).reason == "too_large"
    bench = Bench(asyncio.get_running_loop(), max_body=1000)
    reply = bench.begin()
    bench.feed(START + chunk(b"x" * 1001) + b"0\r\n\r\n")
    assert error_of(reply).reason == "too_large"


async def test_a_dripped_head_meets_its_cap(bench):
    reply = bench.begin()
    bench.feed(LINE)
    for fed in range(40_000):
        if bench.transport.aborted:
            break
        bench.feed(b"a" if fed % 3 == 0 else b"b")
    assert error_of(reply).reason == "too_large"
    assert fed <= 32768


async def test_endless_trailers_and_chunk_extensions_meet_a_cap():
    for start in (b"0\r\nx: ", b"1;"):
        bench = Bench(asyncio.get_running_loop())
        reply = bench.begin(whole=False)
        bench.feed(START + chunk(b"x") + start)
        for _ in range(100):
            bench.feed(b"a" * 1000)
        assert error_of(reply).reason == "too_large"


async def test_a_slow_reader_pauses_the_socket_and_a_reader_resumes_it(bench):
    reply = bench.begin(whole=False)
    bench.feed(START, chunk(b"x" * 200_000))
    assert bench.transport.reading
    bench.feed(chunk(b"x" * 100_000))
    assert not bench.transport.reading
    assert len(await reply.read()) == 300_000
    assert bench.transport.reading


async def test_a_connection_goes_back_reading(bench):
    reply = bench.begin(whole=False)
    bench.feed(START, chunk(b"x" * 300_000), b"0\r\n\r\n")
    assert reply.complete
    assert bench.transport.reading
    assert bench.released == 1
    assert len(await drain(reply)) == 300_000


@pytest.mark.parametrize("size", [0, 10, module.JOIN_LIMIT, module.JOIN_LIMIT + 1])
async def test_what_is_written(size, bench):
    bench.begin(body=b"b" * size)
    assert bench.transport.written == HEAD + b"b" * size


LIMITS = Timeouts(connect=5, first_token=10, idle=3, total=100)


@pytest.mark.parametrize("whole", [True, False])
async def test_first_byte_deadline(whole, bench):
    reply = bench.begin(whole=whole, timeouts=LIMITS)
    bench.connection.check(109.9, 55)
    assert reply._error is None
    bench.connection.check(110.0, 55)
    error = error_of(reply)
    assert (error.kind, error.reason, error.sent) == ("upstream_timeout", "timeout", True)
    assert "no first byte within 10 s" in error.message
    assert bench.transport.aborted
    assert bench.waiter.done()


async def test_interim_replies_are_not_the_first_byte(bench):
    reply = bench.begin(timeouts=LIMITS)
    bench.now = 105.0
    bench.feed(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    bench.connection.check(105, 55)
    bench.connection.check(109, 55)
    assert reply._error is None
    bench.now = 109.5
    bench.feed(OK)
    assert (reply.status, reply.first_byte_at) == (200, 109.5)
    reply = bench.begin(timeouts=LIMITS)
    bench.feed(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    bench.connection.check(119.5, 55)
    assert "no first byte" in error_of(reply).message


async def test_headers_do_not_end_a_streams_wait_for_its_first_byte(bench):
    reply = bench.begin(whole=False, timeouts=LIMITS)
    bench.feed(START)
    assert bench.waiter.done()
    bench.connection.check(105, 55)
    assert reply._error is None
    bench.connection.check(110, 55)
    assert "no first byte" in error_of(reply).message


@pytest.mark.parametrize("whole", [True, False])
async def test_idle_deadline_runs_from_the_last_byte(whole, bench):
    reply = bench.begin(whole=whole, timeouts=LIMITS)
    bench.now = 104.0
    bench.feed(START + chunk(b"x"))
    assert reply.first_byte_at == 104.0
    bench.connection.check(104.0, 55)
    bench.connection.check(106.9, 55)
    bench.feed(chunk(b"y"))
    bench.connection.check(106.95, 55)
    bench.connection.check(109.9, 55)
    assert reply._error is None
    bench.connection.check(109.95, 55)
    assert "silent for 3 s" in error_of(reply).message


async def test_our_own_pause_is_not_the_peers_silence(bench):
    reply = bench.begin(whole=False, timeouts=LIMITS)
    bench.feed(START + chunk(b"x" * 300_000))
    for now in range(101, 150, 2):
        bench.connection.check(now, 55)
    assert reply._error is None
    bench.connection.check(200, 55)
    assert "not done within 100 s" in error_of(reply).message


async def test_the_first_byte_is_awaited_from_when_a_big_request_has_left(bench):
    reply = bench.begin(timeouts=LIMITS, body=b"x" * 100_000)
    bench.connection.pause_writing()
    for step in range(5):
        bench.transport.unwritten = 50_000 - step
        bench.connection.check(100 + 9 * step, 55)
    bench.now = 140
    bench.connection.resume_writing()
    bench.connection.check(149.9, 55)
    assert reply._error is None
    bench.connection.check(150, 55)
    assert error_of(reply).reason == "timeout"


async def test_a_peer_that_takes_no_more_of_the_request_times_out(bench):
    reply = bench.begin(timeouts=LIMITS, body=b"x" * 100_000)
    bench.connection.pause_writing()
    bench.transport.unwritten = 50_000
    bench.connection.check(101, 55)
    bench.connection.check(110.9, 55)
    assert reply._error is None
    bench.connection.check(111, 55)
    assert error_of(reply).reason == "timeout"


async def test_idle_connections_are_closed_in_time(bench):
    bench.begin()
    bench.feed(OK)
    bench.connection.check(200, 55)
    bench.connection.check(254.9, 55)
    assert not bench.connection.closed
    bench.connection.check(255, 55)
    assert bench.transport.aborted
    assert bench.forgotten == [False]


async def test_only_a_reused_connection_without_a_reply_byte_asks_for_a_replay(bench):
    first = bench.begin()
    bench.feed(OK)
    second = bench.begin()
    bench.connection.connection_lost(ConnectionResetError())
    assert not first._keeps_slot
    assert second._keeps_slot
    assert bench.forgotten == [True]


async def test_a_timeout_asks_for_no_replay(bench):
    bench.begin()
    bench.feed(OK)
    reply = bench.begin(timeouts=LIMITS)
    bench.connection.check(111, 55)
    assert error_of(reply).reason == "timeout"
    assert not reply._keeps_slot
    assert bench.forgotten == [False]


async def test_a_sender_that_is_gone_gets_no_replay(bench):
    bench.begin()
    bench.feed(OK)
    reply = bench.begin()
    bench.waiter.cancel()
    bench.connection.eof_received()
    assert not reply._keeps_slot
    assert bench.forgotten == [False]
