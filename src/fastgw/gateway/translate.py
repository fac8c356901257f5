"""Between a client and a provider that speak different dialects: read with one, write with the other.

A `Translation` belongs to one attempt. Its tap has the shape of a pass-through's (`dialects.base.Tap`), so that the
relay does not know which of the two it serves.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fastgw.call import Usage
from fastgw.dialects.codec import Codec, Framed, Frames, Reader, UpstreamCodec, Writer
from fastgw.dialects.framing import ServerSentEvents
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
TOO_DEEP = "an event is nested too deeply"
MAX_OBJECTS = 200_000
"""Of a request: each costs a microsecond or two, and the longest of prompts have a tenth of that."""


class EarlyFailure(Exception):
    """An answer with status 200 is an error, or a stream begins with one: nothing has been sent, so it can be told."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class TranslatingTap:
    """Turns an upstream's stream into the client's, event by event. See `dialects.base.Tap`.

    What comes before the first content is held back, so that a stream that opens with an error is answered with one.
    `_flows`: content has gone out and no end has been seen, so that more of it goes straight to the writer.
    """

    __slots__ = (
        "_call_id",
        "_created",
        "_edit",
        "_ended",
        "_flows",
        "_frames",
        "_held",
        "_reader",
        "_writer",
        "complete",
        "events",
        "failed",
        "usage",
    )

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        call_id: str,
        created: int = 0,
        edit: Edit | None = None,
        frames: Frames | None = None,
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
        self._frames = frames or ServerSentEvents()
        self._held: bytes | None = b""
        self._ended = False
        self._flows = False

    def feed(self, data: bytes) -> bytes:
        """The client's frames for the complete events that have arrived.

        Raises ValueError for what is no stream and EarlyFailure for an error before any content.
        """
        out: list[bytes] = []
        try:
            # What is kept as it came (citations, say) is looked into by nobody, so that UTF-8 is checked here.
            for name, payload in self._frames.feed(data):
                if not payload.isascii():
                    payload.decode()
                for event in self._reader.feed(name, payload):
                    if self._flows and type(event) not in QUIET:
                        self.events += 1
                        out.append(self._writer.feed(event))
                    else:
                        out.append(self._write(event))
        except RecursionError:
            raise ValueError(TOO_DEEP) from None
        if self._flows and not self.complete:
            return self._edited(b"".join(out))
        return self._release(b"".join(out)) if out else b""

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
        self._flows = not (self.failed or self._ended)
        return self._edited(out)

    def _edited(self, out: bytes) -> bytes:
        return self._edit(out) if self._edit is not None and out else out

    def finish(self) -> bytes:
        """The end: the client's own one when the upstream's was seen, else nothing that looks like one."""
        try:
            events = []
            for name, payload in self._frames.end():
                payload.decode()
                events += self._reader.feed(name, payload)
        except RecursionError:
            raise ValueError(TOO_DEEP) from None
        events += self._reader.end()
        return self._release(b"".join([self._write(event) for event in events]))

    def fail(self, error: GatewayError) -> bytes:
        """The event that ends the stream after a failure that the gateway found, in one sequence with the rest."""
        self.failed, self._flows = True, False
        return self._writer.fail(error, self._call_id)

    def _write(self, event: Event) -> bytes:
        kind = type(event)
        if (self.failed or self._ended) and kind is not UsageSeen:
            # Some upstreams end even a failed stream as if it were complete, or go on after its end.
            return b""
        if kind not in QUIET:
            self.events += 1
        elif isinstance(event, UsageSeen):
            self.usage = merge_usage(self.usage, event.usage)
            if self.failed or self._ended:
                return b""
        elif isinstance(event, Start):
            event.created = event.created or self._created
            event.id = event.id or self._call_id
        elif kind is Done:
            # The writer's own end comes once, when all that arrived with this is written.
            self.complete = True
            return b""
        elif isinstance(event, Fail):
            if self._held is not None and not self.events:
                raise EarlyFailure(event.problem)
            self.failed, self._flows = True, False
            return self._writer.fail(event.problem, self._call_id)
        return self._writer.feed(event)


class WholeTranslation:
    """From `client` to `upstream` and back, for one call whose reply is never a stream. See `dialects.whole`."""

    __slots__ = ("_asked", "_client", "_upstream", "dropped")

    def __init__(self, client: Any, upstream: Any, asked: Any) -> None:
        self.dropped: list[str] = []
        self._client = client
        self._upstream = upstream
        self._asked = asked

    def request(self, target: Target) -> bytes:
        """The provider's request.

        Raises GatewayError: `unsupported_field` for what it cannot do, `invalid_type` for what only this provider looks
        into and finds broken (arguments of a call that are no JSON, say).
        """
        try:
            payload: bytes = self._upstream.write_request(self._asked, target)
        except Invalid as error:
            raise _invalid(error) from None
        except RecursionError:
            raise GatewayError("invalid_json", "The body is nested too deeply.") from None
        except Unsupported as error:
            raise GatewayError(
                "unsupported_field",
                f"{error.field} cannot be served by {target.model!r}: {error.reason}. "
                "Leave it out, or ask the operator to allow dropping it.",
                param=error.field,
            ) from None
        self.dropped = target.dropped
        return payload

    def whole(self, body: bytes, model: str, estimate: int = 0) -> tuple[bytes, Usage | None]:
        """The client's reply and what it used; `estimate` is of its input, for dialects that must tell usage.

        Raises UpstreamError when the provider's cannot be read and EarlyFailure when it is an error.
        """
        try:
            if not body.isascii():  # as in a stream
                body.decode()
            reply = self._upstream.read_reply(body)
            return self._written(reply, model, estimate), reply.usage
        except Failed as error:
            raise EarlyFailure(error.problem) from None
        except UNREADABLE as error:
            raise UpstreamError(
                "upstream_invalid_response",
                f"The provider's reply could not be read: {error}.",
                reason="invalid",
                sent=True,
            ) from None

    def _written(self, told: Any, model: str, estimate: int) -> bytes:
        written: bytes = self._client.write_reply(told, self._asked, model=model, estimate=estimate)
        return written

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
        """What a provider's error answer says."""
        if not body.isascii():
            body = body.decode("utf-8", "replace").encode()
        problem: Problem = self._upstream.read_error(status, headers, body)
        return problem

    def problem(self, problem: Problem, call_id: str) -> tuple[int, bytes]:
        """Status and body of a provider's error, in the client's dialect."""
        answer: tuple[int, bytes] = self._client.write_problem(problem, call_id)
        return answer


class Translation(WholeTranslation):
    """From `client` to `upstream` and back, for one call, streamed or not.

    `created` (seconds since the epoch) stands in where a provider tells no time, `call_id` where it gives no id.
    """

    __slots__ = ("_call_id", "_created", "_tap", "chat")

    def __init__(self, client: Codec, upstream: UpstreamCodec, chat: Chat, created: int = 0, call_id: str = "") -> None:
        super().__init__(client, upstream, chat)
        self.chat = chat
        self._call_id = call_id
        self._created = created
        self._tap: TranslatingTap | None = None

    def _written(self, told: Any, model: str, estimate: int) -> bytes:
        told.created = told.created or self._created
        told.id = told.id or self._call_id
        written: bytes = self._client.write_reply(told, model=model)
        return written

    def tap(self, model: str, call_id: str, edit: Edit | None = None) -> TranslatingTap:
        """A tap for one stream; `edit` sees the client's frames last."""
        writer = self._client.writer(model=model, stream_usage=self.chat.stream_usage)
        frames = self._upstream.frames() if isinstance(self._upstream, Framed) else None
        self._tap = TranslatingTap(self._upstream.reader(), writer, call_id, self._created, edit, frames)
        return self._tap

    def fail(self, error: GatewayError, call_id: str) -> bytes:
        """The event that ends the stream after a failure, from the writer that wrote the rest of it."""
        return (self._tap or self.tap("", call_id)).fail(error)


def between(
    client: Any, upstream: Any, asked: Any, created: int, *, streams: bool, call_id: str = ""
) -> WholeTranslation:
    """What translates a call between two codecs of one operation; `streams`: it has a streamed form."""
    if streams:
        return Translation(client, upstream, asked, created, call_id)
    return WholeTranslation(client, upstream, asked)


def read_chat(client: Any, body: bytes, *, model: str, stream: bool) -> Any:
    """The client's request in its operation's terms (a hub.Chat, say).

    Raises GatewayError: `invalid_type`, `invalid_json`, and `request_too_large` for more objects than are translated.
    """
    if body.count(b"{") > MAX_OBJECTS:
        message = f"The body holds more than {MAX_OBJECTS} objects; send fewer messages or parts."
        raise GatewayError("request_too_large", message)
    try:
        return client.read_request(body, model=model, stream=stream)
    except Invalid as error:
        raise _invalid(error) from None
    except RecursionError:
        raise GatewayError("invalid_json", "The body is nested too deeply.") from None


def _invalid(error: Invalid) -> GatewayError:
    return GatewayError("invalid_type", f"{error.field}: {error.reason}", param=error.field)
