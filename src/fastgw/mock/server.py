"""Starting and stopping the mock provider."""

import asyncio
import signal
import socket

import uvloop

from fastgw.mock.connection import Connection
from fastgw.mock.engine import Engine
from fastgw.mock.options import MockOptions
from fastgw.mock.stats import Stats

_BACKLOG = 4096


class Server:
    """A running mock provider."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        self.port = 0

    @property
    def stats(self) -> Stats:
        """What the server has seen so far."""
        return self._engine.stats

    @property
    def url(self) -> str:
        """Base address without a path."""
        host = self._engine.options.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def listen(self, sock: socket.socket | None = None) -> None:
        """Bind, or take a socket that is bound already. Raises OSError when the address is taken."""
        loop, options = asyncio.get_running_loop(), self._engine.options

        def connection() -> Connection:
            return Connection(self._engine, self._connections, loop)

        if sock is not None:
            self._listener = await loop.create_server(connection, sock=sock, backlog=_BACKLOG)
        else:
            self._listener = await loop.create_server(connection, options.host, options.port, backlog=_BACKLOG)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._listener is not None:
            self._listener.close()
            for connection in tuple(self._connections):
                connection.abort()
            await self._listener.wait_closed()
            self._listener = None
        while self._connections:  # noqa: ASYNC110 (one turn of the loop: the transports are aborted already)
            await asyncio.sleep(0)

    async def __aenter__(self) -> "Server":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


async def start(options: MockOptions | None = None, *, sock: socket.socket | None = None) -> Server:
    """Start a mock provider on the running loop; on `sock` when given. Raises OSError when the address is taken."""
    server = Server(Engine(options or MockOptions()))
    await server.listen(sock)
    return server


async def _serve(options: MockOptions) -> None:
    server = await start(options)
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    print(f"fastgw mock on {server.url}", flush=True)
    await stop.wait()
    await server.close()


def run(options: MockOptions) -> None:
    """Serve until SIGINT or SIGTERM; prints one line with the address when ready. Raises OSError when it is taken."""
    uvloop.run(_serve(options))
