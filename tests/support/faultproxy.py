"""A TCP proxy that does wrong on purpose, connection by connection.

Put it between a client and a server on loopback and say with `Faults` what each connection suffers. Byte counts are
exact: exactly so many bytes of the reply reach the client's kernel before a reset, a close or a silence.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

_LINGER_ZERO = struct.pack("ii", 1, 0)
_READ = 64 * 1024
_FILL_LIMIT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What one connection suffers; the default is a faithful proxy.

    `latency` seconds before each piece of the reply, `rate` in bytes a second, `slice` bytes a write.
    At byte k of the reply: `reset_at` RST, `fin_at` FIN, `blackhole_at` silence in both directions with both sides
    open, `half_open_at` the same with the server's side closed, `corrupt_at` this byte is flipped.
    `drop_at` resets both sides once k bytes of the request have come. `silent` accepts and never answers.
    """

    latency: float = 0.0
    rate: float = 0.0
    slice: int = 0
    reset_at: int | None = None
    fin_at: int | None = None
    blackhole_at: int | None = None
    half_open_at: int | None = None
    corrupt_at: int | None = None
    drop_at: int | None = None
    silent: bool = False

    def stop_at(self) -> int | None:
        """The first byte of the reply that does not pass."""
        stops = [k for k in (self.reset_at, self.fin_at, self.blackhole_at, self.half_open_at) if k is not None]
        return min(stops, default=None)


@dataclass(slots=True)
class Passed:
    """One connection as it went: bytes to the server and to the client, monotonic times."""

    index: int
    opened: float
    to_server: int = 0
    to_client: int = 0
    swallowed: int = 0
    client_ended: float | None = None
    server_ended: float | None = None
    closed: float | None = None


Script = Callable[[int], Faults] | Sequence[Faults] | Faults


class FaultProxy:
    """`async with FaultProxy(port, script) as proxy:` then connect to `proxy.port`.

    `script` gives the faults of connection 0, 1, ...: one for all, a list whose last entry goes on, or a callable.
    It may be replaced at any time for connections to come.
    """

    def __init__(
        self, upstream_port: int, script: Script = Faults(), upstream_host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.script = script
        self.connections: list[Passed] = []
        self.port = port
        self._upstream = (upstream_host, upstream_port)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def open(self) -> int:
        """Connections not closed yet."""
        return sum(passed.closed is None for passed in self.connections)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _faults(self, index: int) -> Faults:
        if isinstance(self.script, Faults):
            return self.script
        if callable(self.script):
            return self.script(index)
        return self.script[min(index, len(self.script) - 1)]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        passed = Passed(len(self.connections), time.monotonic())
        self.connections.append(passed)
        try:
            await _Pair(self._faults(passed.index), passed, reader, writer).run(self._upstream)
        except asyncio.CancelledError:
            # The stream server logs a cancelled handler as an error; being told to stop is none.
            pass
        finally:
            writer.transport.abort()
            passed.closed = time.monotonic()
            self._tasks.discard(task)


class _Pair:
    """One client connection and its connection to the server."""

    def __init__(
        self, faults: Faults, passed: Passed, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.faults, self.passed = faults, passed
        self.client, self.to_client = reader, writer
        self.to_server: asyncio.StreamWriter | None = None
        self.server_gone = False

    async def run(self, upstream: tuple[str, int]) -> None:
        if self.faults.silent:
            await self._swallow()
            return
        try:
            server, self.to_server = await asyncio.open_connection(*upstream)
        except OSError:
            _reset(self.to_client)
            return
        up, down = asyncio.create_task(self._requests()), asyncio.create_task(self._replies(server))
        try:
            # The reply side decides when all is over; the request side only when it drops the connection.
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            if not (up.done() and up.result()):
                await down
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            self.to_server.transport.abort()

    async def _requests(self) -> bool:
        """Client to server; True when the fault ended the connection."""
        assert self.to_server is not None
        while data := await _read(self.client):
            if self.server_gone:
                self.passed.swallowed += len(data)
                continue
            self.passed.to_server += len(data)
            if self.faults.drop_at is not None and self.passed.to_server >= self.faults.drop_at:
                _reset(self.to_client)
                _reset(self.to_server)
                return True
            self.to_server.write(data)
            with contextlib.suppress(ConnectionError):
                await self.to_server.drain()
        self.passed.client_ended = time.monotonic()
        if not self.server_gone and not self.to_server.is_closing():
            with contextlib.suppress(OSError):
                self.to_server.write_eof()
        return False

    async def _replies(self, server: asyncio.StreamReader) -> None:
        stop = self.faults.stop_at()
        while stop is None or self.passed.to_client < stop:
            data = await _read(server)
            if not data:
                self.passed.server_ended = time.monotonic()
                await _flushed(self.to_client)
                self.to_client.close()
                return
            try:
                await self._forward(data if stop is None else data[: stop - self.passed.to_client])
            except ConnectionError:
                return
        await self._end()

    async def _forward(self, data: bytes) -> None:
        faults, size = self.faults, self.faults.slice or len(data)
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            if faults.latency:
                await asyncio.sleep(faults.latency)
            if faults.rate:
                await asyncio.sleep(len(piece) / faults.rate)
            at = faults.corrupt_at
            if at is not None and 0 <= (place := at - self.passed.to_client) < len(piece):
                piece = piece[:place] + bytes([piece[place] ^ 0x20]) + piece[place + 1 :]
            self.to_client.write(piece)
            await self.to_client.drain()
            self.passed.to_client += len(piece)
            if faults.slice:
                await _flushed(self.to_client)

    async def _end(self) -> None:
        """What the fault does at its byte."""
        assert self.to_server is not None
        await _flushed(self.to_client)
        faults, stop = self.faults, self.faults.stop_at()
        if stop == faults.reset_at:
            _reset(self.to_client)
        elif stop == faults.fin_at:
            self.to_client.close()
        else:
            self.server_gone = True
            if stop == faults.half_open_at:
                self.to_server.transport.abort()
            while self.passed.client_ended is None and not self.to_client.is_closing():
                await asyncio.sleep(0.002)

    async def _swallow(self) -> None:
        while data := await _read(self.client):
            self.passed.swallowed += len(data)
        self.passed.client_ended = time.monotonic()


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Some bytes; none when the other side has ended, in whatever way."""
    try:
        return await reader.read(_READ)
    except ConnectionError:
        return b""


async def _flushed(writer: asyncio.StreamWriter) -> None:
    """Wait until the kernel has every byte; a reset would throw the others away."""
    while writer.transport.get_write_buffer_size() and not writer.is_closing():
        await asyncio.sleep(0.001)


def _reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    writer.transport.abort()


@contextlib.contextmanager
def full_backlog(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """The port of a listener whose queue is full: further connection attempts hang, as behind a firewall that drops."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family))
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(_FILL_LIMIT):
            client = stack.enter_context(socket.socket(family))
            client.settimeout(0.2)
            try:
                client.connect(listener.getsockname())
            except TimeoutError:
                break
        else:
            raise RuntimeError("the kernel queued every connection: no full backlog here")
        yield listener.getsockname()[1]


def closed_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def each_byte(faults: Faults, field: str, size: int, step: int = 1) -> list[Faults]:
    """One `Faults` for every byte position 0..size-1: `each_byte(Faults(), "reset_at", len(reply))`."""
    changes: list[dict[str, Any]] = [{field: k} for k in range(0, size, step)]
    return [replace(faults, **change) for change in changes]
