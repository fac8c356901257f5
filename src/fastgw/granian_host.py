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
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from granian import _granian
from granian.http import HTTP1Settings, HTTP2Settings

from fastgw.child import Listener
from fastgw.plan.edge import Front, Tls

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
_HTTP2 = HTTP2Settings(
    keep_alive_interval=KEEP_ALIVE_S * 1000,
    keep_alive_timeout=20,
    max_concurrent_streams=128,
    max_headers_size=64 * 1024,
    max_send_buffer_size=256 * 1024,
)
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

        def use(other: Application) -> None:
            nonlocal app
            app = other

        def leave() -> None:
            nonlocal app
            stay = app

            def closing(scope: dict[str, Any], proto: Any) -> Awaitable[None]:
                return stay(scope, _Closing(proto))

            app = closing

        self._schedule_fn = schedule
        self.use = use
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


class HostError(Exception):
    """granian would not serve like this; what it said is in the message."""


class _Generation:
    """The servers that were begun together: one a listener."""

    def __init__(self, scheduler: _Scheduler) -> None:
        self.scheduler = scheduler
        self.signals: list[Any] = []
        self.descriptors: list[int] = []

    def leave(self) -> None:
        """See `Host.leave`."""
        self.scheduler.leave()
        _deafen(self.descriptors)

    def stop(self) -> None:
        """Close what is idle, finish what runs."""
        signals, self.signals = self.signals, []
        for signal in signals:
            signal.set()


class Host:
    """Serves one application on several listeners in the running loop."""

    def __init__(
        self,
        app: Application,
        listeners: Sequence[Listener],
        loop: asyncio.AbstractEventLoop,
        *,
        connections: int = CONNECTIONS,
        front: Front | None = None,
    ) -> None:
        self._app = app
        self._listeners = tuple(listeners)
        self._loop = loop
        self._connections = connections
        self._front = front or Front()
        self._current: _Generation | None = None
        self._older: list[_Generation] = []
        self._serving = 0
        self.stopped = asyncio.Event()
        """Set when every listener has been given up and every request in flight has been answered."""

    def start(self) -> None:
        """Begin to accept; returns at once. Raises HostError."""
        self._current = self._open(self._front)

    def renew(self, front: Front) -> None:
        """Serve newcomers like this from now on; the connections there are live on, at most as long as idle ones may.

        Raises HostError, and goes on as before.
        """
        if front == self._front or self._current is None:
            return
        new, old = self._open(front), self._current
        self._current, self._front = new, front
        self._older.append(old)
        old.leave()
        self._loop.call_later(KEEP_ALIVE_S, self._retire, old)

    def use(self, app: Application) -> None:
        """Serve new requests with another application."""
        self._app = app
        if self._current is not None:
            self._current.scheduler.use(app)

    def stop(self) -> None:
        """Stop accepting, close idle connections, let requests in flight finish: then `stopped` is set."""
        if self._current is None:
            return
        generations = [*self._older, self._current]
        self._older, self._current = [], None
        for generation in generations:
            generation.stop()
        for listener in self._listeners:
            os.close(listener.fd)

    def leave(self) -> None:
        """Leave newcomers to others that listen on the same sockets, and the connections there are to their clients.

        Each is closed behind its next answer, which says so; idle ones stay until `stop`. So a client that asks again
        and again loses nothing, while a stop alone would close a connection on which the next request is on its way.
        """
        if self._current is not None:
            self._current.leave()

    def _open(self, front: Front) -> _Generation:
        generation = _Generation(_Scheduler(self._app, self._loop))
        try:
            for listener in self._listeners:
                with _files(None if listener.unix else front.tls) as tls:
                    self._serve(listener, generation, tls, http2=front.http2)
        except (OSError, ValueError, TypeError) as error:
            generation.stop()
            # A certificate that rustls cannot use is none of these: granian aborts the process. The plan's were tried.
            raise HostError(f"the HTTP server refuses: {error}") from error
        return generation

    def _retire(self, generation: _Generation) -> None:
        if generation in self._older:
            self._older.remove(generation)
            generation.stop()

    def _serve(self, listener: Listener, generation: _Generation, tls: tuple[Any, ...], *, http2: bool) -> None:
        """One server for one listener. `st`: a single-threaded runtime, the cheaper one per request."""
        # Of a copy, which is the server's to close: the next generation listens on the same socket.
        descriptor = os.dup(listener.fd)
        generation.descriptors.append(descriptor)
        worker = _native.ASGIWorker(
            1,
            (None, _native.SocketHolder(descriptor, listener.unix, BACKLOG)),
            None,
            1,
            _BLOCKING_THREADS,
            1,
            _THREAD_IDLE_S,
            self._connections,
            "auto" if http2 else "1",
            HTTP1Settings(header_read_timeout=KEEP_ALIVE_S * 1000),
            _HTTP2 if http2 else None,
            False,
            None,
            *tls,
            _NO_METRICS,
        )
        signal = _native.WorkerSignal()
        signal.add_cb(self._on_stopped)
        (worker.serve_str_uds if listener.unix else worker.serve_str)(generation.scheduler, self._loop, signal)
        generation.signals.append(signal)
        self._serving += 1

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


@contextmanager
def _files(tls: Tls | None) -> Iterator[tuple[Any, ...]]:
    """What granian is told of TLS. It wants files and reads them at once; these are in memory and nobody else's."""
    if tls is None:
        yield _NO_TLS
        return
    descriptors: list[int] = []

    def held(text: str) -> str:
        descriptor = os.memfd_create("fastgw-tls", os.MFD_CLOEXEC)
        descriptors.append(descriptor)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(text.encode("ascii"))
        return f"/proc/self/fd/{descriptor}"

    try:
        ca = held(tls.client_ca) if tls.client_ca else None
        yield True, held(tls.cert), held(tls.key), None, f"tls{tls.min_version}", ca, [], ca is not None
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _deafen(descriptors: Iterable[int]) -> None:
    """Take listening sockets out of the event queues of this process, so that they are never told of newcomers again.

    granian can stop listening only together with closing what is idle. The queue (epoll(7)) knows a descriptor by its
    number and open file, both of which stay as they are: when granian ends it finds nothing to remove, and goes on.
    """
    wanted = frozenset(descriptors)
    for place in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if os.readlink(place) != "anon_inode:[eventpoll]":
                continue
            watched = _WATCHED.findall(Path(f"/proc/self/fdinfo/{place.name}").read_text())
            for fd in wanted.intersection(map(int, watched)):
                # Of a copy: the object closes what it was made of.
                with select.epoll.fromfd(os.dup(int(place.name))) as queue:
                    queue.unregister(fd)
