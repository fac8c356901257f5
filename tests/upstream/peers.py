"""Peers for tests: a raw server that behaves as a coroutine says, and doubles for a connection's two neighbours."""

import asyncio
import contextlib
import socket
import struct

from fastgw.plan.plan import Origin, Timeouts
from fastgw.upstream.connection import Connection
from fastgw.upstream.reply import Reply

HEAD = b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
START = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
SOON = 1.0
"""What must happen 'at once' or within 100 ms may take this long on a busy machine."""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Peer:
    """One accepted connection."""

    def __init__(self, number, reader, writer):
        self.number = number
        self.reader = reader
        self.writer = writer
        self.gone = asyncio.Event()

    async def request(self) -> bytes:
        """The next request with its body, b"" when the client has closed."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = 0
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            return head + await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
            return b""

    async def wait_gone(self):
        """Until the client closes; what it still sends is dropped."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
        self.gone.set()

    def send(self, data: bytes):
        self.writer.write(data)

    def reset(self):
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Server:
    """Listens on loopback; `behave(peer)` is run for every connection, which is closed when it returns."""

    def __init__(self, behave, ssl=None):
        self.behave = behave
        self.ssl = ssl
        self.peers: list[Peer] = []
        self.requests: list[bytes] = []
        self._tasks: set[asyncio.Task] = set()

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        peer = Peer(len(self.peers), reader, writer)
        self.peers.append(peer)
        try:
            with contextlib.suppress(ConnectionError):
                await self.behave(peer)
        except asyncio.CancelledError:
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.ssl)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        tasks = list(self._tasks)
        for peer in self.peers:
            with contextlib.suppress(AttributeError):  # asyncio's TLS before 3.11.5, where it was aborted already
                peer.writer.transport.abort()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        await asyncio.sleep(0)

    def origin(self, **more) -> Origin:
        fields = {"scheme": "https" if self.ssl else "http", "host": "127.0.0.1", "port": self.port}
        return Origin(**(fields | more))


async def answering(peer):
    """Answers every request with OK and keeps the connection."""
    while await peer.request():
        peer.send(OK)


def scripted(*replies):
    """A behaviour that answers the n-th request of a connection with the n-th of `replies`, then waits."""

    async def behave(peer):
        for reply in replies:
            if not await peer.request():
                return
            peer.send(reply)
        await peer.wait_gone()

    return behave


async def until(condition, seconds=5.0):
    """Wait for `condition()`; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


class Transport:
    """Records what a connection does to its transport."""

    def __init__(self):
        self.written = b""
        self.aborted = False
        self.reading = True
        self.unwritten = 0

    def write(self, data):
        self.written += data

    def writelines(self, parts):
        self.written += b"".join(parts)

    def abort(self):
        self.aborted = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def get_extra_info(self, name):
        return None

    def get_write_buffer_size(self):
        return self.unwritten


class Bench:
    """A connection between a recorded transport and a recorded pool, with a clock set by hand."""

    def __init__(self, loop, *, max_head=32768, max_body=1 << 20):
        self.now = 100.0
        self.released = 0
        self.forgotten: list[bool] = []
        self.transport = Transport()
        self.connection = Connection(self, loop, lambda: self.now, peer="up:1", max_head=max_head, max_body=max_body)
        self.connection.connection_made(self.transport)

    def release(self, connection):
        self.released += 1

    def forget(self, connection, *, keep_slot=False):
        self.forgotten.append(keep_slot)

    def begin(self, *, whole=True, head=HEAD, body=b"", timeouts=None):
        timeouts = timeouts or Timeouts()
        reply = Reply(timeouts, whole, head.startswith(b"HEAD "), self.now)
        self.waiter = self.connection.begin(reply, head, body)
        return reply

    def feed(self, *parts):
        """Hand over segments as a transport does: none once it is aborted."""
        for part in parts:
            if not self.transport.aborted:
                self.connection.data_received(part)
