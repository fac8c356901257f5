"""granian's HTTP server inside a process and an event loop of ours, on sockets bound by somebody else.

granian's own supervisor stops every worker when one dies twice, leaves orphans and binds with SO_REUSEPORT, so it is
not used. What remains is private API of granian 2.8 (`_granian`): it lives in this one file, and
`granian>=2.8.7,<2.9` is pinned for it. 2.8 is also the first version whose ASGI `send()` holds back for a slow reader.

Known and relied upon: `backpressure` bounds *connections* (idle ones too), beyond it nothing is accepted;
`header_read_timeout` also ends idle keep-alive connections; a stop closes the listening descriptor and idle
connections at once and calls back when the last request in flight has been answered; one loop carries several servers.
"""

import asyncio
import os
import re
import select
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from granian import _granian
from granian.http import HTTP1Settings

from fastgw.child import Listener

Application = Callable[[dict[str, Any], Any], Awaitable[None]]
"""`await app(scope, proto)`: an ASGI scope, and an object with `receive()` and `send(event)`."""

# The stubs of this module do not describe what is really there.
_native: Any = _granian

BACKLOG = 1024
CONNECTIONS = 16_384
KEEP_ALIVE_S = 75
_THREAD_IDLE_S = 30
_BLOCKING_THREADS = 512
_NO_TLS: tuple[Any, ...] = (False, None, None, None, "tls1.3", None, [], False)
_NO_METRICS = (None, None)
_WATCHED = re.compile(r"^tfd:\s*(\d+)", re.MULTILINE)


class _Scheduler(_native.CallbackScheduler):  # type: ignore[misc]
    """Takes requests from granian's thread to the loop: those that come while it is busy in one go."""

    def __new__(cls, app: Application, loop: asyncio.AbstractEventLoop) -> Self:
        # What follows the application is for granian's own way of running coroutines, which is not used.
        made: Self = super().__new__(cls, loop, app, None, None, None)
        return made

    def __init__(self, app: Application, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        waiting: deque[Any] = deque()
        called = False

        async def serve(watcher: Any) -> None:
            try:
                await app(watcher.scope, watcher.proto)
            except BaseException as error:  # noqa: BLE001 - whatever it is, granian is to know
                watcher.err(error)
                return
            watcher.done()

        def take() -> None:
            nonlocal called
            # Before looking: what is put there later calls again.
            called = False
            while waiting:
                watcher = waiting.popleft()
                watcher.taskref(loop.create_task(serve(watcher)))

        def schedule(watcher: Any) -> None:
            nonlocal called
            waiting.append(watcher)
            if not called:
                called = True
                loop.call_soon_threadsafe(take)

        def leave() -> None:
            nonlocal app
            stay = app

            def closing(scope: dict[str, Any], proto: Any) -> Awaitable[None]:
                return stay(scope, _Closing(proto))

            app = closing

        self._schedule_fn = schedule
        self.leave = leave


class _Closing:
    """granian's side of a call whose answer is the last on its connection."""

    def __init__(self, proto: Any) -> None:
        self.receive = proto.receive
        self._send = proto.send

    def send(self, event: dict[str, Any]) -> Any:
        """The same, with the header that says so."""
        if event["type"] == "http.response.start":
            kept = [header for header in event["headers"] if header[0].lower() != b"connection"]
            event = {**event, "headers": [*kept, (b"connection", b"close")]}
        return self._send(event)


class Host:
    """Serves one application on several listeners in the running loop."""

    def __init__(
        self,
        app: Application,
        listeners: Sequence[Listener],
        loop: asyncio.AbstractEventLoop,
        *,
        connections: int = CONNECTIONS,
    ) -> None:
        self._app = app
        self._listeners = tuple(listeners)
        self._loop = loop
        self._connections = connections
        self._signals: list[Any] = []
        self._serving = 0
        self._scheduler: _Scheduler | None = None
        self.stopped = asyncio.Event()
        """Set when every listener has been given up and every request in flight has been answered."""

    def start(self) -> None:
        """Begin to accept; returns at once."""
        self._scheduler = _Scheduler(self._app, self._loop)
        for listener in self._listeners:
            self._serve(listener, self._scheduler)

    def stop(self) -> None:
        """Stop accepting, close idle connections, let requests in flight finish: then `stopped` is set."""
        signals, self._signals = self._signals, []
        for signal in signals:
            signal.set()

    def leave(self) -> None:
        """Leave newcomers to others that listen on the same sockets, and the connections there are to their clients.

        Each is closed behind its next answer, which says so; idle ones stay until `stop`. So a client that asks again
        and again loses nothing, while a stop alone would close a connection on which the next request is on its way.
        """
        if self._scheduler is not None:
            self._scheduler.leave()
        for listener in self._listeners:
            _deafen(os.fstat(listener.fd).st_ino)

    def _serve(self, listener: Listener, scheduler: object) -> None:
        """One server for one listener. `st`: a single-threaded runtime, the cheaper one per request."""
        http1 = HTTP1Settings(header_read_timeout=KEEP_ALIVE_S * 1000)
        socket = (None, _native.SocketHolder(listener.fd, listener.unix, BACKLOG))
        worker = _native.ASGIWorker(
            1,
            socket,
            None,
            1,
            _BLOCKING_THREADS,
            1,
            _THREAD_IDLE_S,
            self._connections,
            "1",
            http1,
            None,
            False,
            None,
            *_NO_TLS,
            _NO_METRICS,
        )
        signal = _native.WorkerSignal()
        signal.add_cb(self._on_stopped)
        self._signals.append(signal)
        self._serving += 1
        (worker.serve_str_uds if listener.unix else worker.serve_str)(scheduler, self._loop, signal)

    def _on_stopped(self) -> None:
        """Called by granian's thread, once a server."""
        try:
            self._loop.call_soon_threadsafe(self._one_stopped)
        except RuntimeError:  # the loop is closed already: nobody waits any more
            return

    def _one_stopped(self) -> None:
        self._serving -= 1
        if not self._serving:
            self.stopped.set()


def _deafen(inode: int) -> None:
    """Take a listening socket out of the event queues of this process, so that it is never told of newcomers again.

    granian can stop listening only together with closing what is idle. The queue (epoll(7)) knows a descriptor by its
    number and open file, both of which stay as they are: when granian ends it finds nothing to remove, and goes on.
    """
    for place in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if os.readlink(place) != "anon_inode:[eventpoll]":
                continue
            watched = _WATCHED.findall(Path(f"/proc/self/fdinfo/{place.name}").read_text())
            for fd in map(int, watched):
                if os.fstat(fd).st_ino == inode:
                    # Of a copy: the object closes what it was made of.
                    with select.epoll.fromfd(os.dup(int(place.name))) as queue:
                        queue.unregister(fd)
