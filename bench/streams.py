"""Callers of streams, and one caller at a fixed low rate: what wrk cannot do.

The streams' client does as little as it can with what it reads, counting events by their closing blank line, so that it
leaves the core it shares with the mock idle enough for events to arrive one by one.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, TypeVar

import uvloop

from bench import payloads
from bench.processes import HOST, BenchError

T = TypeVar("T")
END: Final = b"0\r\n\r\n"
EVENT_END: Final = b"\n\n"
TIMEOUT_S: Final = 60.0
BATCH: Final = 64


class Streamed(NamedTuple):
    """Streams read to their end, the events in them, the reads those took, and the seconds of it all."""

    streams: int
    events: int
    reads: int
    seconds: float


class Caller(asyncio.Protocol):
    """One connection that reads streams one after another."""

    def __init__(self, request: bytes, streams: int) -> None:
        self._request = request
        self._left = streams
        self._tail = b""
        self.events = self.reads = self.streams = 0
        self.first = asyncio.get_running_loop().create_future()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.reads += 1
        if not self.events and not self._tail and not data.startswith(b"HTTP/1.1 200"):
            self._fail(f"the answer begins with {data[:200]!r}")
            return
        if data[:1] == b"\n" and self._tail.endswith(b"\n"):
            self.events += 1  # its closing blank line came in two parts
        self.events += data.count(EVENT_END)
        self._tail = (self._tail + data)[-len(END) :]
        if self.events and not self.first.done():
            self.first.set_result(None)
        if self._tail == END:
            self._next()

    def _next(self) -> None:
        self._left -= 1
        self.streams += 1
        if self._left:
            self.transport.write(self._request)  # type: ignore[attr-defined]
        else:
            self.transport.close()
            if not self.done.done():
                self.done.set_result(None)

    def _fail(self, why: str) -> None:
        for future in (self.first, self.done):
            if not future.done():
                future.set_exception(BenchError(why))
                future.exception()  # whoever waits gets it; nobody may
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"a stream was cut after {self.events} events: {exc}")


def _request(port: int, **fields: object) -> bytes:
    body = payloads.chat(400, stream=True, stream_options={"include_usage": True}, **fields)
    return payloads.head(f"{HOST}:{port}", payloads.PATH, body) + body


async def _open(port: int, connections: int, streams: int) -> list[Caller]:
    loop, request = asyncio.get_running_loop(), _request(port)
    callers: list[Caller] = []
    while len(callers) < connections:
        # In batches: the queue of connections not yet accepted is bounded.
        batch = min(BATCH, connections - len(callers))
        made = (loop.create_connection(lambda: Caller(request, streams), HOST, port) for _ in range(batch))
        callers += [caller for _, caller in await asyncio.gather(*made)]
    return callers


async def _read(port: int, connections: int, streams: int) -> Streamed:
    started = time.monotonic()
    callers = await _open(port, connections, streams)
    async with asyncio.timeout(TIMEOUT_S):
        await asyncio.gather(*(caller.done for caller in callers))
    return Streamed(
        sum(caller.streams for caller in callers),
        sum(caller.events for caller in callers),
        sum(caller.reads for caller in callers),
        time.monotonic() - started,
    )


def read(port: int, *, connections: int, streams: int) -> Streamed:
    """Read so many streams on each of so many connections. Raises BenchError when one is refused, cut or too slow."""
    return _bounded(_read(port, connections, streams))


async def _hold(port: int, connections: int, meanwhile: Callable[[], int]) -> int:
    callers = await _open(port, connections, 1)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.gather(*(caller.first for caller in callers))
        return meanwhile()
    finally:
        for caller in callers:
            caller.transport.abort()  # type: ignore[attr-defined]
        await asyncio.sleep(0)


def hold(port: int, connections: int, meanwhile: Callable[[], int]) -> int:
    """What `meanwhile` returns while so many streams are open, each with its first event read. Raises BenchError."""
    return _bounded(_hold(port, connections, meanwhile))


def _bounded(work: Coroutine[Any, Any, T]) -> T:
    try:
        return uvloop.run(work)
    except (TimeoutError, OSError) as error:
        raise BenchError(f"the streams could not be read: {error!r}") from None


class Pinger:
    """One connection, one request at a time, by a blocking socket: no event loop's wake-ups in the figure."""

    def __init__(self, port: int, *, stream: bool = False) -> None:
        fields: dict[str, object] = {"stream": True, "max_tokens": 4} if stream else {}
        body = payloads.chat(400, **fields)
        self._request = payloads.head(f"{HOST}:{port}", payloads.PATH, body) + body
        self._done = _first_event if stream else _whole_answer
        self._stream = stream
        self._sock = socket.create_connection((HOST, port), 5.0)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ping(self) -> float:
        """Seconds from sending a request to its whole answer, or to its first event. Raises BenchError."""
        started = time.perf_counter()
        self._sock.sendall(self._request)
        data = self._sock.recv(65536)
        while data and not self._done(data):
            data += self._more()
        taken = time.perf_counter() - started
        if not data.startswith(b"HTTP/1.1 200"):
            raise BenchError(f"the answer begins with {data[:200]!r}")
        while self._stream and not data.endswith(END):
            data += self._more()
        return taken

    def _more(self) -> bytes:
        more = self._sock.recv(65536)
        if not more:
            raise BenchError("the connection was closed within an answer")
        return more

    def close(self) -> None:
        self._sock.close()


def _whole_answer(data: bytes) -> bool:
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return False
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(body) >= int(value)
    return body.endswith(END)


def _first_event(data: bytes) -> bool:
    return EVENT_END in data


def ping(port: int, *, count: int, rate: float, stream: bool = False) -> list[float]:
    """The latencies, in seconds, of so many requests on one connection, so many a second. Raises BenchError."""
    try:
        pinger = Pinger(port, stream=stream)
        try:
            due, taken = time.perf_counter(), []
            for _ in range(count):
                time.sleep(max(0.0, due - time.perf_counter()))
                taken.append(pinger.ping())
                due += 1 / rate
            return taken
        finally:
            pinger.close()
    except OSError as error:
        raise BenchError(f"no answer on port {port}: {error}") from None
