"""Between a client and a provider that speak different dialects: read with one, write with the other.

A `Translation` belongs to one attempt. Its tap has the shape of a pass-through's (`dialects.base.Tap`), so that the
relay does not know which of the two it serves.
"""

from collections.abc import Callable, Mapping

from fastgw.call import Usage
from fastgw.dialects import framing
from fastgw.dialects.codec import Codec, Reader, Writer
from fastgw.dialects.hub import (
    Chat,
    Done,
    Event,
    Fail,
    Failed,
    Invalid,
    Problem,
    Start,
    Target,
    Unsupported,
    UsageSeen,
    merge_usage,
)
from fastgw.errors import GatewayError, UpstreamError

Edit = Callable[[bytes], bytes]
"""A last edit of complete frames."""

QUIET = frozenset({Start, UsageSeen, Done, Fail})
UNREADABLE = (ValueError, RecursionError)
"""What decoding raises for what is not JSON of its dialect; the latter for what is nested without end."""


class EarlyFailure(Exception):
    """An answer with status 200 is an error, or a stream begins with one: nothing has been sent, so it can be told."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class TranslatingTap:
    """Turns an upstream's stream into the client's, event by event. See `dialects.base.Tap`.

    What comes before the first content is held back, so that a stream that opens with an error is answered with one.
    """

    __slots__ = (
        "_call_id",
        "_created",
        "_edit",
        "_ended",
        "_held",
        "_reader",
        "_tail",
        "_writer",
        "complete",
        "events",
        "failed",
        "usage",
    )

    def __init__(
        self, reader: Reader, writer: Writer, call_id: str, created: int = 0, edit: Edit | None = None
    ) -> None:
        self.usage: Usage | None = None
        self.complete = False
        self.failed = False
        self.events = 0
        self._reader = reader
        self._writer = writer
        self._call_id = call_id
        self._created = created
        self._edit = edit
        self._tail = b""
        self._held: bytes | None = b""
        self._ended = False

    def feed(self, data: bytes) -> bytes:
        """The client's frames for the complete events that have arrived.

        Raises ValueError for what is no stream and EarlyFailure for an error before any content.
        """
        block, self._tail = framing.complete(self._tail + data if self._tail else data)
        if len(self._tail) > framing.MAX_EVENT:
            raise ValueError("an event is larger than 8 MiB")
        if not block:
            return b""
        return self._release(
            b"".join([self._write(event) for frame in framing.events(block) for event in self._read(frame)])
        )

    def _release(self, out: bytes) -> bytes:
        # The client's end goes out with the upstream's: what becomes of the connection after it is no matter.
        if self.complete and not self.failed and not self._ended:
            self._ended = True
            out += self._writer.end()
        if self._held is not None:
            if not self.events and not self.complete:
                self._held += out
                return b""
            out, self._held = self._held + out, None
        return self._edit(out) if self._edit is not None and out else out

    def finish(self) -> bytes:
        """The end: the client's own one when the upstream's was seen, else nothing that looks like one."""
        tail, self._tail = self._tail, b""
        events = self._read(tail + b"\n\n") if tail.strip() else []
        events += self._reader.end()
        return self._release(b"".join([self._write(event) for event in events]))

    def _read(self, frame: bytes) -> list[Event]:
        payload = framing.payload(frame)
        if payload is None:
            return []
        try:
            return self._reader.feed(framing.name(frame), payload)
        except RecursionError:
            raise ValueError("an event is nested too deeply") from None

    def fail(self, error: GatewayError) -> bytes:
        """The event that ends the stream after a failure that the gateway found, in one sequence with the rest."""
        self.failed = True
        return self._writer.fail(error, self._call_id)

    def _write(self, event: Event) -> bytes:
        kind = type(event)
        if (self.failed or self._ended) and kind is not UsageSeen:
            # Some upstreams end even a failed stream as if it were complete, or go on after its end.
            return b""
        if kind not in QUIET:
            self.events += 1
        elif isinstance(event, Start):
            event.created = event.created or self._created
            event.id = event.id or self._call_id
        elif isinstance(event, UsageSeen):
            self.usage = merge_usage(self.usage, event.usage)
            if self.failed or self._ended:
                return b""
        elif kind is Done:
            # The writer's own end comes once, when all that arrived with this is written.
            self.complete = True
            return b""
        elif isinstance(event, Fail):
            if self._held is not None and not self.events:
                raise EarlyFailure(event.problem)
            self.failed = True
            return self._writer.fail(event.problem, self._call_id)
        return self._writer.feed(event)


class Translation:
    """From `client` to `upstream` and back, for one call.

    `created` (seconds since the epoch) stands in where a provider tells no time.
    """

    __slots__ = ("_client", "_created", "_tap", "_upstream", "chat", "dropped")

    def __init__(self, client: Codec, upstream: Codec, chat: Chat, created: int = 0) -> None:
        self.chat = chat
        self.dropped: list[str] = []
        self._client = client
        self._upstream = upstream
        self._created = created
        self._tap: TranslatingTap | None = None

    def request(self, target: Target) -> bytes:
        """The provider's request. Raises GatewayError (`unsupported_field`) for what it cannot do."""
        try:
            payload = self._upstream.write_request(self.chat, target)
        except Unsupported as error:
            raise GatewayError(
                "unsupported_field",
                f"{error.field} cannot be served by {target.model!r}: {error.reason}. "
                "Leave it out, or ask the operator to allow dropping it.",
                param=error.field,
            ) from None
        self.dropped = target.dropped
        return payload

    def whole(self, body: bytes, model: str) -> tuple[bytes, Usage | None]:
        """The client's reply and what it used.

        Raises UpstreamError when the provider's cannot be read and EarlyFailure when it is an error.
        """
        try:
            reply = self._upstream.read_reply(body)
        except Failed as error:
            raise EarlyFailure(error.problem) from None
        except UNREADABLE as error:
            raise UpstreamError(
                "upstream_invalid_response",
                f"The provider's reply could not be read: {error}.",
                reason="invalid",
                sent=True,
            ) from None
        reply.created = reply.created or self._created
        return self._client.write_reply(reply, model=model), reply.usage

    def tap(self, model: str, call_id: str, edit: Edit | None = None) -> TranslatingTap:
        """A tap for one stream; `edit` sees the client's frames last."""
        writer = self._client.writer(model=model, stream_usage=self.chat.stream_usage)
        self._tap = TranslatingTap(self._upstream.reader(), writer, call_id, self._created, edit)
        return self._tap

    def fail(self, error: GatewayError, call_id: str) -> bytes:
        """The event that ends the stream after a failure, from the writer that wrote the rest of it."""
        return (self._tap or self.tap("", call_id)).fail(error)

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
        """What a provider's error answer says."""
        return self._upstream.read_error(status, headers, body)

    def problem(self, problem: Problem, call_id: str) -> tuple[int, bytes]:
        """Status and body of a provider's error, in the client's dialect."""
        return self._client.write_problem(problem, call_id)


def read_chat(client: Codec, body: bytes, *, model: str, stream: bool) -> Chat:
    """The client's request in the hub's terms. Raises GatewayError (`invalid_type`)."""
    try:
        return client.read_request(body, model=model, stream=stream)
    except Invalid as error:
        raise GatewayError("invalid_type", f"{error.field}: {error.reason}", param=error.field) from None
    except RecursionError:
        raise GatewayError("invalid_json", "The body is nested too deeply.") from None
