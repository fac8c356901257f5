"""One reply of an upstream as the caller sees it: status, headers, and the body whole or piece by piece.

A reply belongs to one connection while its message is under way and to nobody afterwards: the connection goes back
to the pool at the message's end, whether or not the caller has read what is buffered here.
"""

from asyncio import AbstractEventLoop, Future
from typing import Protocol

from fastgw.errors import UpstreamError
from fastgw.plan.plan import Timeouts


class Wire(Protocol):
    """What a reply needs of the connection it comes over."""

    loop: AbstractEventLoop
    peer: str

    def resume(self) -> None:
        """Read on: the caller has taken what was buffered."""

    def cut(self) -> None:
        """The caller is gone: close the connection now."""


class Reply:
    """The answer to one request.

    Attributes:
        status: the final status (never 1xx).
        headers: (lower-case name, value) pairs as they came, without those of interim replies and trailers.
        body: the whole body, set only when the reply was asked for whole.
        unframed: the body ends where the connection ends, so that a cut of plain TCP cannot be told from its end.
        sent_at: when the request was handed to the socket, on the client's clock.
        first_byte_at: when the first byte of the reply came, on the client's clock; 0.0 before that.
        connect_ms: time spent on resolving, connecting, proxy and TLS; 0.0 on a pooled connection.
        queue_ms: time spent waiting for a free connection.
        reused: the connection had carried a request before.
        complete: the message's end has arrived (pieces may still be unread).
    """

    __slots__ = (
        "_buffered",
        "_chunks",
        "_error",
        "_expires",
        "_head_only",
        "_keeps_slot",
        "_sent",
        "_timeouts",
        "_waiter",
        "_whole",
        "_wire",
        "body",
        "complete",
        "connect_ms",
        "first_byte_at",
        "headers",
        "queue_ms",
        "reused",
        "sent_at",
        "status",
        "unframed",
    )

    def __init__(self, timeouts: Timeouts, whole: bool, head_only: bool, now: float) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.unframed = False
        self.sent_at = self.first_byte_at = self.connect_ms = self.queue_ms = 0.0
        self.reused = self.complete = False
        self._timeouts = timeouts
        self._whole = whole
        self._head_only = head_only
        self._expires = now + timeouts.total
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._wire: Wire | None = None
        self._waiter: Future[None] | None = None
        self._error: UpstreamError | None = None
        self._sent = False
        self._keeps_slot = False

    def header(self, name: bytes) -> bytes | None:
        """The value of the first header called `name` (lower case), or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    async def read(self) -> bytes | None:
        """Everything that has arrived since the last call, waiting for at least one byte.

        Returns b"" at the clean end of the message and None when `poke` was called. What arrived before a cut is
        handed out before the cut is raised. Meant for replies that were not asked for whole, and for one reader.

        Raises:
            UpstreamError: reason `timeout`, `reset`, `invalid` or `too_large`; `sent` is True.
        """
        data = self.take()
        if data is not None:
            return data
        arrival = self.arrival()
        try:
            await arrival
        except BaseException:
            # A cancelled reader takes the connection with it.
            self.close()
            raise
        return self.take()

    # `read` in its two halves, for a reader that would rather not make a coroutine for every event. One that is
    # cancelled while it waits must `close`.

    def take(self) -> bytes | None:
        """What `read` returns, without waiting: None when nothing has arrived. Raises as `read` does."""
        chunks = self._chunks
        if chunks:
            data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            chunks.clear()
            self._buffered = 0
            if self._wire is not None:
                self._wire.resume()
            return data
        if self._error is not None:
            raise self._error
        return b"" if self.complete else None

    def arrival(self) -> Future[None]:
        """Done when something has arrived, the message has ended or `poke` was called."""
        waiter = self._waiter
        if (waiter is not None and not waiter.done()) or self._wire is None:
            raise RuntimeError("the reply already has a reader or was never sent")
        waiter = self._waiter = self._wire.loop.create_future()
        return waiter

    def unread(self, data: bytes) -> None:
        """Put back what `read` gave: it is given again."""
        if data:
            self._chunks.insert(0, data)
            self._buffered += len(data)

    def poke(self) -> None:
        """Wake a pending `read`, which then returns None; without one nothing happens."""
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def rest(self, limit: int) -> bytes:
        """The remaining body up to its clean end, at most `limit` bytes.

        Raises:
            UpstreamError: as `read` does, and reason `too_large` beyond `limit`; the connection is closed then.
        """
        parts: list[bytes] = []
        size = 0
        while data := await self._next():
            size += len(data)
            if size > limit:
                peer = self._wire.peer if self._wire is not None else "the upstream"
                self.close()
                message = f"{peer}: the reply is larger than {limit} bytes"
                raise UpstreamError("upstream_invalid_response", message, reason="too_large", sent=True)
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _next(self) -> bytes:
        while (data := await self.read()) is None:
            pass
        return data

    def close(self) -> None:
        """Have done with the reply; may be called at any time and any number of times.

        Before the message's end the connection is aborted within this call, and a reader in another task sees a cut.
        """
        self._chunks.clear()
        wire = self._wire
        if wire is None:
            return
        self._wire = None
        message = f"{wire.peer}: the call was closed by its caller"
        self._error = UpstreamError("upstream_unreachable", message, reason="reset", sent=self._sent)
        wire.cut()
        self._wake()
