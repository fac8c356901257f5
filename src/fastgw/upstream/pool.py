"""The connections of one origin: last in first out, bounded, with a bounded and timed queue before them.

A slot is the right to have one connection; `open` counts the slots taken, also while connecting. A slot that comes
free goes to the first in the queue or is given up, so nobody queues while a slot is free or a connection idle.
"""

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, Protocol

from fastgw.errors import UpstreamError
from fastgw.plan.plan import Origin, Timeouts
from fastgw.upstream import proxy as egress
from fastgw.upstream.connect import Connector
from fastgw.upstream.connection import Connection
from fastgw.upstream.reply import Reply


class PoolStats(NamedTuple):
    """What a pool has and did. The first four are now, the others since its start.

    `open` counts connections and those being made, `queue_full`, `queue_timeouts` are calls turned away, `replays`
    requests sent a second time on a fresh connection.
    """

    open: int
    idle: int
    busy: int
    queued: int
    created: int
    reused: int
    replays: int
    queue_full: int
    queue_timeouts: int
    connect_failures: int


class Home(Protocol):
    """What a pool needs of its client."""

    loop: asyncio.AbstractEventLoop
    clock: Callable[[], float]
    connector: Connector

    def rejoin(self, pool: "Pool") -> "Pool":
        """The pool that serves this one's origin: this one again, unless another has taken its place."""


class Pool:
    """Sends requests to one origin. Made by `Client.pool`."""

    def __init__(self, home: Home, origin: Origin) -> None:
        self.origin = origin
        self.peer = egress.authority(origin.host, origin.port)
        self.retired = False
        self._closed = False
        self._home = home
        self._loop = home.loop
        self._clock = home.clock
        self._idle: list[Connection] = []
        self._connections: set[Connection] = set()
        self._waiters: OrderedDict[asyncio.Future[Connection | None], float] = OrderedDict()
        self._open = 0
        self._created = self._reused = self._replays = 0
        self._queue_full = self._queue_timeouts = self._connect_failures = 0
        self._absolute = _absolute_proxy(origin)
        self._prefix = f"http://{self.peer}".encode("ascii", "replace")

    async def send(self, head: bytes, body: bytes, timeouts: Timeouts, *, whole: bool) -> Reply:
        """Send one request and wait for its reply: all of it when `whole`, else up to the end of its headers.

        A request that meets a pooled connection the peer has just ended is sent once more on a fresh one, provided
        not a byte of a reply had come. Cancelling the caller's task closes what the call holds.

        Args:
            head: the complete request head, ending in an empty line and holding no other.
            body: the complete body, framed by `head`; b"" for none.
            timeouts: the deadlines; `total` runs from here, the queue and connecting included.
            whole: wait for the whole reply, at most `Origin.max_body` bytes; it is then in `Reply.body`.

        Raises:
            UpstreamError: no connection (reasons `connect`, `queue_full`, `queue_timeout`; `sent` is False), or no
                whole reply (`timeout`, `reset`, `invalid`, `too_large`; `sent` is True).
            ValueError: `head` is not one request head.
        """
        if head.find(b"\r\n\r\n") != len(head) - 4:
            raise ValueError("a request head must end in its first empty line")
        if not self._idle and self.retired and (pool := self._home.rejoin(self)) is not self:
            return await pool.send(head, body, timeouts, whole=whole)
        if self._absolute is not None:
            head = egress.absolute(head, self._prefix, self._absolute)
        reply = Reply(timeouts, whole, head.startswith(b"HEAD "), self._clock())
        try:
            if self._idle:
                connection = self._idle.pop()
                self._reused += 1
            else:
                connection = await self._obtain(reply)
            waiter = connection.begin(reply, head, body)
            await waiter
            reply._waiter = None
            if reply._keeps_slot:
                await self._replay(reply, head, body)
        except BaseException:
            self._abandon(reply)
            raise
        if reply._error is not None and (whole or not reply.status):
            raise reply._error
        return reply

    def stats(self) -> PoolStats:
        """The counts of this moment."""
        idle = len(self._idle)
        busy = sum(connection.reply is not None for connection in self._connections)
        return PoolStats(
            self._open,
            idle,
            busy,
            len(self._waiters),
            self._created,
            self._reused,
            self._replays,
            self._queue_full,
            self._queue_timeouts,
            self._connect_failures,
        )

    @property
    def empty(self) -> bool:
        """No connection, none being made, nobody waiting."""
        return not self._open and not self._waiters

    # -- getting a connection ---------------------------------------------------------------------------------------

    async def _obtain(self, reply: Reply) -> Connection:
        """A connection that is idle no more: a new one, or whichever comes free first."""
        started = self._clock()
        expires = min(started + self.origin.queue_timeout, reply._expires)
        while True:
            if self._closed:
                raise _busy(f"{self.peer}: the client is closed", "queue_full")
            if self._open < self.origin.max_connections:
                self._open += 1
                return await self._connect(reply)
            connection = await self._queue(expires)
            reply.queue_ms = (self._clock() - started) * 1e3
            if connection is None:
                return await self._connect(reply)
            if not connection.closed:
                self._reused += 1
                return connection

    async def _queue(self, expires: float) -> Connection | None:
        """Wait for a turn: a connection, or None for a slot to make one in."""
        if len(self._waiters) >= self.origin.queue:
            self._queue_full += 1
            raise _busy(f"{self.peer}: all connections are busy and the queue is full", "queue_full")
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiters[waiter] = expires
        try:
            return await waiter
        except BaseException:
            self._waiters.pop(waiter, None)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # Cancelled with the gift in hand: pass it on.
                self._give_back(waiter.result())
            raise

    def _give_back(self, given: Connection | None) -> None:
        if given is None:
            self._free_slot()
        elif not given.closed:
            self.release(given)

    async def _connect(self, reply: Reply) -> Connection:
        """Make a connection in a slot already taken; the slot is given up when that fails."""
        started = self._clock()
        connection = Connection(
            self,
            self._loop,
            self._clock,
            peer=self.peer,
            max_head=self.origin.max_head,
            max_body=self.origin.max_body,
        )
        try:
            await self._dial(connection, reply, started)
        except BaseException:
            connection.drop()
            self._free_slot()
            raise
        self._connections.add(connection)
        self._created += 1
        reply.connect_ms = (self._clock() - started) * 1e3
        return connection

    async def _dial(self, connection: Connection, reply: Reply, started: float) -> None:
        limit = reply._timeouts.connect
        left = reply._expires - started
        try:
            async with asyncio.timeout(min(limit, left)) as timer:
                await self._home.connector.open(self.origin, lambda: connection)
        except (OSError, ValueError) as error:
            self._connect_failures += 1
            if not timer.expired():
                raise _unreachable(f"{self.peer}: {_describe(error)}") from None
            if left <= limit:
                message = f"{self.peer}: not done within {reply._timeouts.total:g} s"
                raise UpstreamError("upstream_timeout", message, reason="timeout", sent=False) from None
            message = f"{self.peer}: not connected within {limit:g} s"
            raise UpstreamError("upstream_timeout", message, reason="connect", sent=False) from None
        if connection.closed:
            self._connect_failures += 1
            raise _unreachable(f"{self.peer}: the new connection was closed at once")

    # -- when a call ends badly -------------------------------------------------------------------------------------

    async def _replay(self, reply: Reply, head: bytes, body: bytes) -> None:
        """Once more, on a fresh connection in the slot the dead one left."""
        reply._keeps_slot = False
        reply._error = None
        self._replays += 1
        try:
            connection = await self._connect(reply)
        except UpstreamError as error:
            # The first sending may have arrived, whatever became of the second.
            raise UpstreamError(error.kind, error.message, reason="reset", sent=True) from None
        await connection.begin(reply, head, body)
        reply._waiter = None

    def _abandon(self, reply: Reply) -> None:
        if reply._keeps_slot:
            reply._keeps_slot = False
            self._free_slot()
        reply.close()

    # -- the connections' side --------------------------------------------------------------------------------------

    def release(self, connection: Connection) -> None:
        """A connection has ended its call cleanly."""
        if self._waiters and self._hand(connection):
            return
        if self.retired:
            connection.drop()
        else:
            self._idle.append(connection)

    def forget(self, connection: Connection, *, keep_slot: bool = False) -> None:
        """A connection is closed."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not keep_slot:
            self._free_slot()

    def _free_slot(self) -> None:
        if not self._hand(None):
            self._open -= 1

    def _hand(self, given: Connection | None) -> bool:
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_result(given)
                return True
        return False

    # -- the client's side ------------------------------------------------------------------------------------------

    def sweep(self, now: float, keepalive: float) -> None:
        """Hold every deadline that has passed by `now`; idle connections live for `keepalive` seconds."""
        for connection in tuple(self._connections):
            connection.check(now, keepalive)
        if self._waiters:
            self._expire(now)

    def _expire(self, now: float) -> None:
        late = [waiter for waiter, expires in self._waiters.items() if now >= expires]
        for waiter in late:
            del self._waiters[waiter]
            if not waiter.done():
                self._queue_timeouts += 1
                waiter.set_exception(_busy(f"{self.peer}: no connection came free in time", "queue_timeout"))

    def retire(self) -> None:
        """Close what is idle and keep nothing from now on; calls under way end as they would."""
        self.retired = True
        for connection in tuple(self._idle):
            connection.drop()

    def close(self) -> None:
        """End everything now: calls fail with reason `reset`, those waiting are turned away."""
        self.retired = self._closed = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(_busy(f"{self.peer}: the client is closed", "queue_full"))
        self._waiters.clear()
        for connection in tuple(self._connections):
            connection.shut()


def _busy(message: str, reason: str) -> UpstreamError:
    return UpstreamError("upstream_busy", message, reason=reason, sent=False)


def _unreachable(message: str) -> UpstreamError:
    return UpstreamError("upstream_unreachable", message, reason="connect", sent=False)


def _describe(error: OSError | ValueError) -> str:
    """What went wrong in words of the library that found it, which hold addresses and names only."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS certificate refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or 'the handshake was cut'}"
    if isinstance(error, ValueError):
        return "its host name cannot be used"
    return error.strerror or str(error) or type(error).__name__


def _absolute_proxy(origin: Origin) -> egress.Proxy | None:
    """The proxy that wants requests in absolute-form; a URL that cannot be read fails when connecting."""
    if not origin.proxy or origin.scheme != "http":
        return None
    try:
        return egress.parse(origin.proxy)
    except ValueError:
        return None
