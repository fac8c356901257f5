"""OpenAI's chat completions, completions and embeddings, as far as a pass-through needs them.

Edits made to what passes, and no others: the model's name in the request; `stream_options.include_usage` in a streamed
request; out of the stream goes the usage chunk that the caller did not ask for, into the one it asked for goes
`usage.cost`. Source: https://platform.openai.com/docs/api-reference/chat-streaming.
"""

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fastgw._core import fields, sse
from fastgw.call import Usage
from fastgw.dialects import errors, framing
from fastgw.dialects.base import Cost
from fastgw.dialects.openai_chat.wire import UsageIn
from fastgw.errors import GatewayError

TO_READ = sse.USAGE | sse.DONE | sse.ERROR
WHOLE_LINES = sse.WHOLE | sse.CR
BYTES_PER_TOKEN = 4
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Reply(Struct):
    """A usage with anything but sane counts in it is taken for none."""

    usage: UsageIn | None = None


class _Vendor(Struct):
    usage: UsageIn | None = None


class _Chunk(Struct):
    """`x_groq` is where Groq puts its usage."""

    usage: UsageIn | None = None
    choices: list[Raw] | None = None
    error: Raw | UnsetType = UNSET
    x_groq: _Vendor | None = None


_read_reply = msgspec.json.Decoder(_Reply).decode
_read_chunk = msgspec.json.Decoder(_Chunk).decode
_read_raw = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.encode


class OpenAITap:
    """The tap of a chat or completions stream."""

    __slots__ = ("_cost", "_tail", "_wants_usage", "complete", "events", "failed", "finished", "usage")

    def __init__(self, *, wants_usage: bool, cost: Cost) -> None:
        self.usage: Usage | None = None
        self.complete = False
        self.failed = False
        self.finished = False
        self.events = 0
        self._tail = b""
        self._wants_usage = wants_usage
        self._cost = cost

    def feed(self, data: bytes) -> bytes:
        """Complete events of what has arrived, edited as the module says. Raises ValueError for an endless event."""
        seen = sse.look(data)
        # Nearly always what arrives is whole events, with nothing to edit in them.
        if self._tail or seen & WHOLE_LINES != sse.WHOLE:
            data, self._tail = framing.complete(self._tail + data)
            if len(self._tail) > framing.MAX_EVENT:
                raise ValueError("an event is larger than 8 MiB")
            if not data:
                return b""
            seen = sse.look(data)
        if seen & TO_READ:
            return self._edit(data)
        self.events += seen >> sse.EVENTS or data.count(b"\r\n\r\n") or 1
        if seen & sse.FINISH:
            self.finished = True
        return data

    def finish(self) -> bytes:
        """A last event without its empty line is still an event unless it was cut; some servers never send `[DONE]`."""
        tail, self._tail = self._tail, b""
        ended = tail.endswith((b"\r\r", b"\n\r"))
        tail = tail if ended else tail.rstrip(b"\r\n") + b"\n\n"
        rest = self._edit(tail) if _is_whole(framing.payload(tail)) else b""
        # Servers that end without [DONE] are taken at their word when every choice could have finished.
        if self.finished and not self.failed:
            self.complete = True
        return rest

    def _edit(self, block: bytes) -> bytes:
        return b"".join([self._event(event) for event in framing.events(block)])

    def _event(self, event: bytes) -> bytes:
        payload = framing.payload(event)
        if payload is None:
            return event
        if payload.strip() == b"[DONE]":
            self.complete = True
            return event
        try:
            chunk = _read_chunk(payload)
        except UNREADABLE:
            self.events += 1
            return event
        if chunk.error is not UNSET and bytes(chunk.error) != b"null":
            self.failed = True
        if sse.look(payload) & sse.FINISH:
            self.finished = True
        seen = chunk.usage or (chunk.x_groq.usage if chunk.x_groq else None)
        if seen is None:
            self.events += 1
            return event
        self.usage = seen.read()
        if chunk.choices == [] and not self._wants_usage:
            return b""
        self.events += bool(chunk.choices)
        return self._with_cost(event, payload) if chunk.usage and self._wants_usage else event

    def _with_cost(self, event: bytes, payload: bytes) -> bytes:
        assert self.usage is not None
        nano = self._cost(self.usage)
        if nano is None:
            return event
        try:
            chunk = _read_raw(payload)
            usage = _read_raw(chunk["usage"])
        except UNREADABLE:
            return event
        usage["cost"] = Raw(_dollars(nano))
        chunk["usage"] = Raw(_encode(usage))
        priced = _encode(chunk)
        return event.replace(payload, priced, 1) if payload in event else framing.data(priced)


def _is_whole(payload: bytes | None) -> bool:
    """Whether an event's data can be read: half an event must not reach a client that would fail on it."""
    if payload is None or payload.strip() == b"[DONE]":
        return payload is not None
    try:
        _read_raw(payload)
    except UNREADABLE:
        return False
    return True


def _dollars(nano: int) -> bytes:
    """A JSON number of dollars with at most nine decimals, never in exponent form."""
    whole, fraction = divmod(nano, 10**9)
    return f"{whole}.{fraction:09d}".rstrip("0").rstrip(".").encode()


class OpenAIDialect:
    """One of OpenAI's operations on text; they differ in what they require and whether they stream."""

    tells_cost = True

    def __init__(self, name: str, required: tuple[bytes, ...], *, streams: bool) -> None:
        self.name = name
        self.required = required
        self.streams = streams

    def prepare(self, body: fields.Fields, model: str, *, rename: bool, stream: bool) -> bytes:
        """See `Dialect.prepare`."""
        changes: dict[bytes, bytes | None] = {}
        if rename:
            changes[b"model"] = _encode(model)
        if stream:
            options = self._usage_asked(body)
            if options is not None:
                changes[b"stream_options"] = options
        return body.replace(changes)

    def _usage_asked(self, body: fields.Fields) -> bytes | None:
        """`stream_options` with `include_usage` set; None when the caller's own already say so."""
        raw = body.get(b"stream_options")
        options = _stream_options(raw)
        if not options:
            return b'{"include_usage":true}'
        if options.get("include_usage") == Raw(b"true"):
            return None
        return _encode({**options, "include_usage": True})

    def wants_usage(self, body: fields.Fields) -> bool:
        """See `Dialect.wants_usage`. Raises GatewayError (`invalid_type`) when `stream_options` is no object."""
        return _stream_options(body.get(b"stream_options")).get("include_usage") == Raw(b"true")

    def usage(self, body: bytes) -> Usage | None:
        """See `Dialect.usage`."""
        try:
            reply = _read_reply(body)
        except UNREADABLE:
            return None
        return reply.usage.read() if reply.usage else None

    def tap(self, *, wants_usage: bool, cost: Cost) -> OpenAITap:
        """See `Dialect.tap`."""
        return OpenAITap(wants_usage=wants_usage, cost=cost)

    def estimate_input(self, body_size: int) -> int:
        """About four bytes of English a token."""
        return body_size // BYTES_PER_TOKEN

    def error(self, error: GatewayError, call_id: str) -> bytes:
        """See `Dialect.error`."""
        return errors.openai(error, call_id)

    def stream_error(self, error: GatewayError, call_id: str) -> bytes:
        """`data: {"error": ...}`, which the SDKs raise as an APIError; no `[DONE]` follows."""
        return framing.data(errors.openai(error, call_id))


def _stream_options(raw: bytes | None) -> dict[str, Raw]:
    if raw is None or raw == b"null":
        return {}
    try:
        return _read_raw(raw)
    except msgspec.DecodeError:
        raise GatewayError(
            "invalid_type", 'stream_options must be an object, such as {"include_usage": true}', param="stream_options"
        ) from None


CHAT = OpenAIDialect("openai_chat", (b"model", b"messages"), streams=True)
COMPLETIONS = OpenAIDialect("openai_completions", (b"model", b"prompt"), streams=True)
EMBEDDINGS = OpenAIDialect("openai_embeddings", (b"model", b"input"), streams=False)
