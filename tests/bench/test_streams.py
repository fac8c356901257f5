import asyncio

import pytest
import uvloop

from bench import servers, streams
from bench.processes import BenchError, Stage

PIECES = [
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    b"8\r\ndata: 1\n",
    b"\n\r\n",
    b"12\r\ndata: 2\n\ndata: 3\n\n\r\n",
    b"0\r\n\r",
    b"\n",
]


async def feed(pieces, streams_wanted=1):
    caller = streams.Caller(b"request", streams_wanted)

    class Transport:
        def __init__(self):
            self.written = []
            self.closed = False

        def write(self, data):
            self.written.append(data)

        def close(self):
            self.closed = True

    caller.connection_made(Transport())
    for piece in pieces:
        caller.data_received(piece)
    return caller


async def test_events_are_counted_across_reads():
    caller = await feed(PIECES)
    assert (caller.events, caller.reads, caller.streams) == (3, 6, 1)
    assert caller.done.done()
    assert caller.transport.closed


async def test_the_next_stream_is_asked_for_on_the_same_connection():
    caller = await feed(PIECES * 2, 2)
    assert (caller.events, caller.streams) == (6, 2)
    assert caller.transport.written == [b"request"] * 2


async def test_a_refusal_is_no_stream():
    caller = await feed([b"HTTP/1.1 429 Too Many Requests\r\n\r\n"])
    with pytest.raises(BenchError, match="429"):
        await caller.done


async def test_a_cut_stream_is_an_error():
    caller = await feed(PIECES[:3])
    caller.connection_lost(None)
    with pytest.raises(BenchError, match="cut after 1 events"):
        await caller.done


@pytest.fixture(scope="module")
def mock():
    with Stage() as stage:
        yield servers.mock(stage, "--tokens", "10", "--tokens-per-second", "200", "--flush-each")


def test_streams_of_the_mock_are_read_to_their_end(mock):
    found = streams.read(mock.port, connections=3, streams=2)
    assert found.streams == 6
    # Role, ten tokens, finish, usage, [DONE]: whatever the mock sends, every stream has as many.
    assert found.events % 6 == 0
    assert found.events >= 6 * 10
    assert found.reads > found.events / 2


def test_streams_stay_open_meanwhile(mock):
    assert streams.hold(mock.port, 5, lambda: 42) == 42


def test_latency_of_answers_and_of_first_events(mock):
    whole = streams.ping(mock.port, count=5, rate=500)
    first = streams.ping(mock.port, count=3, rate=500, stream=True)
    assert len(whole) == 5
    assert len(first) == 3
    assert all(0 < taken < 5 for taken in whole + first)


def test_nobody_there_is_said(unused_port):
    with pytest.raises(BenchError, match="no answer"):
        streams.ping(unused_port, count=1, rate=1)
    with pytest.raises(BenchError, match="could not be read"):
        streams.read(unused_port, connections=1, streams=1)


@pytest.fixture
def unused_port():
    async def find():
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        return port

    return uvloop.run(find())
