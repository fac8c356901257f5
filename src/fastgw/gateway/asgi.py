"""The ASGI front: the only file that knows ASGI, and of granian no more than its awaitables.

What granian 2.8 does that is answered here: the last empty body event costs a round trip between threads, so a body as
long as its `content-length` is taken as complete without it; a truncated body arrives as a normal event and only the
disconnect after it tells; `send()` after a disconnect succeeds silently, so `receive()` is watched instead, by a
callback and not by a task.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fastgw._core import table as shared
from fastgw.errors import GatewayError
from fastgw.gateway.pipeline import Pipeline
from fastgw.gateway.settle import Lane, Spool
from fastgw.plan.plan import Plan
from fastgw.telemetry.log import Log
from fastgw.upstream.client import Client

RawHeaders = list[tuple[bytes, bytes]]
GONE = "http.disconnect"


class ASGIExchange:
    """One request and its answer, as the pipeline sees them: nothing of it is ASGI."""

    __slots__ = ("_pending", "_proto", "ended", "headers", "method", "path", "peer", "query", "started")

    def __init__(self, scope: dict[str, Any], proto: Any) -> None:
        self.method: str = scope["method"]
        self.path: bytes = scope["raw_path"]
        self.query: bytes = scope["query_string"]
        self.headers: RawHeaders = scope["headers"]
        client = scope["client"]
        self.peer: str = client[0] if client else ""
        self.started = False
        self.ended = False
        self._proto = proto
        self._pending: Any = None

    async def body(self, length: int, limit: int) -> bytes:
        """The whole request body; `length` is its `content-length` or -1.

        Raises GatewayError: `request_too_large` beyond `limit` bytes, `client_closed` when it never came to its end.
        """
        if length > limit:
            raise _too_large(limit)
        receive = self._proto.receive
        message = await receive()
        if message["type"] == GONE:
            raise GatewayError("client_closed", "the client left while sending its request")
        first: bytes = message["body"]
        if len(first) == length or not message["more_body"]:
            return first
        parts, size = [first], len(first)
        while message["more_body"] and size != length:
            if size > limit:
                raise _too_large(limit)
            message = await receive()
            if message["type"] == GONE:
                raise GatewayError("client_closed", "the client left while sending its request")
            parts.append(message["body"])
            size += len(message["body"])
        if size > limit:
            raise _too_large(limit)
        return b"".join(parts)

    def watch(self, gone: Callable[[], None]) -> None:
        """Call `gone` when the client leaves; to be called once, after the body was read."""

        def heard(future: Any) -> None:
            if self.ended or future.cancelled():
                return
            if future.result()["type"] == GONE:
                gone()
            else:
                self._pending = self._proto.receive()
                self._pending.add_done_callback(heard)

        self._pending = self._proto.receive()
        self._pending.add_done_callback(heard)

    def unwatch(self) -> None:
        """Stop watching."""
        self.ended = True
        if self._pending is not None:
            self._pending.cancel()
            # granian's future holds its callback, which holds this: a ring that no collector sees.
            self._pending = None

    # Not coroutines of their own but granian's awaitables handed on: a stream awaits one for every event.

    def respond(self, status: int, headers: RawHeaders, body: bytes) -> Awaitable[None]:
        """Send a whole answer."""
        self.started = True
        send = self._proto.send
        # granian keeps a head until the first of the body comes: what it gives back has nothing to wait for.
        send({"type": "http.response.start", "status": status, "headers": headers})
        sent: Awaitable[None] = send({"type": "http.response.body", "body": body, "more_body": False})
        return sent

    def start_stream(self, status: int, headers: RawHeaders) -> Awaitable[None]:
        """Send the head of a streamed answer."""
        self.started = True
        sent: Awaitable[None] = self._proto.send({"type": "http.response.start", "status": status, "headers": headers})
        return sent

    def send(self, chunk: bytes) -> Awaitable[None]:
        """Send a part of a streamed answer at once; waits while the client does not read."""
        sent: Awaitable[None] = self._proto.send({"type": "http.response.body", "body": chunk, "more_body": True})
        return sent

    def close(self) -> Awaitable[None]:
        """End a streamed answer."""
        sent: Awaitable[None] = self._proto.send({"type": "http.response.body", "body": b"", "more_body": False})
        return sent


class Gateway:
    """The application granian calls, and the handle by which a worker steers it.

    Must be made on the event loop that will serve.
    """

    def __init__(
        self, plan: Plan, *, table: shared.Table, lane: Lane, spool_writer: Spool, client: Client, log: Log
    ) -> None:
        self.pipeline = Pipeline(plan, table=table, lane=lane, spool=spool_writer, client=client, log=log)
        self._serve = self.pipeline.serve

    def __call__(self, scope: dict[str, Any], proto: Any) -> Awaitable[None]:
        """One request from its head to its record."""
        return self._serve(ASGIExchange(scope, proto))

    @property
    def live(self) -> int:
        """Calls being served now."""
        return len(self.pipeline.watch)

    @property
    def ready(self) -> bool:
        """Whether new calls are taken."""
        return not self.pipeline.refusing

    def apply(self, plan: Plan) -> None:
        """Serve new calls by this plan."""
        self.pipeline.apply(plan)

    def start(self) -> None:
        """Begin to look after running calls."""
        self.pipeline.start()

    def drain(self, deadline: float) -> None:
        """Refuse new calls; after `deadline` seconds end those still running, each with an error in its dialect."""
        self.pipeline.refusing = "shutting_down"
        asyncio.get_running_loop().call_later(deadline, self.pipeline.watch.end_all, "shutting_down")

    def shed(self, overloaded: bool) -> None:
        """Refuse new calls while there is too much to do, unless they are refused for good."""
        if self.pipeline.refusing != "shutting_down":
            self.pipeline.refusing = "overloaded" if overloaded else ""

    async def close(self) -> None:
        """Let go of everything; running calls are ended."""
        self.pipeline.watch.end_all("shutting_down")
        self.pipeline.close()
        await self.pipeline.client.close()


def _too_large(limit: int) -> GatewayError:
    return GatewayError("request_too_large", f"The request body is larger than the {limit} bytes allowed here.")
