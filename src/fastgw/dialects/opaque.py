"""Operations that are passed on without being understood: a model's name goes in, bytes come out.

Of the request only the model is read and renamed, in JSON or in a form; of the reply the usage, where it is OpenAI's
(images: `input_tokens`, transcriptions: the same or seconds, which are no tokens; reranking: `prompt_tokens`). Sources:
https://platform.openai.com/docs/api-reference, https://docs.cohere.com/reference/rerank, https://ai.google.dev/api.
"""

from collections.abc import Mapping
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta, Raw, Struct

from fastgw.call import Usage
from fastgw.dialects import errors, framing
from fastgw.dialects.base import Cost
from fastgw.dialects.passing import WatchingTap
from fastgw.errors import GatewayError

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
NULL = Raw(b"null")
FAILURES = frozenset({"error", "response.failed"})
Count = Annotated[int, Meta(ge=0, lt=2**31)]


class Body(Protocol):
    """What is asked of a request's body, JSON or a form."""

    def has(self, name: bytes) -> bool:
        """Whether the field is there."""
        ...

    def replace(self, changes: Mapping[bytes, bytes | None]) -> bytes:
        """The body with other values, given as JSON."""
        ...


class _Details(Struct):
    cached_tokens: Count | None = 0


class _Usage(Struct):
    type: str = "tokens"
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    input_tokens_details: _Details | None = None

    def read(self) -> Usage | None:
        first = self.prompt_tokens if self.input_tokens is None else self.input_tokens
        last = self.completion_tokens if self.output_tokens is None else self.output_tokens
        if self.type != "tokens" or (first is None and last is None and self.total_tokens is None):
            return None
        if first is None:
            first = max(0, (self.total_tokens or 0) - (last or 0))
        details = self.input_tokens_details
        return Usage(input=first, output=last or 0, cached=(details.cached_tokens or 0) if details else 0)


class _Reply(Struct):
    usage: _Usage | None = None


class _Event(Struct):
    type: str = ""
    usage: _Usage | None = None
    error: Raw = NULL


_read_reply = msgspec.json.Decoder(_Reply).decode
_read_event = msgspec.json.Decoder(_Event).decode


class EventTap(WatchingTap):
    """Watches an event stream of unknown events pass, for its usage. It ends where it ends."""

    __slots__ = ("_metered",)

    def __init__(self, *, metered: bool = True) -> None:
        super().__init__()
        self._metered = metered

    def finish(self) -> bytes:
        """What is left when the upstream has ended."""
        tail = self._finish()
        self.complete = not self.failed
        return tail

    def _look(self, name: str, payload: bytes) -> None:
        self.events += 1
        named = name in FAILURES
        if not named and payload.find(b'"usage"') < 0 and payload.find(b'"error"') < 0:
            return
        try:
            seen = _read_event(payload)
        except UNREADABLE:
            self.failed = self.failed or named
            return
        self.failed = self.failed or named or seen.type in FAILURES or seen.error != NULL
        if self._metered and seen.usage is not None:
            self.usage = seen.usage.read() or self.usage


class OpaqueDialect:
    """An operation that is passed on as it is. See `base.Dialect`.

    `name` is its path below the vendor's interface. `default`: the model where the caller may leave it out and does.
    `family`: in whose shape errors are told. `metered` is False where a reply tells of usage that asking
    for it did not cause.
    """

    streams = True
    tells_cost = False

    def __init__(
        self, name: str, family: str, *, required: tuple[bytes, ...] = (), default: str = "", metered: bool = True
    ) -> None:
        self.name = name
        self.family = family
        self.required = required
        self.default = default
        self.metered = metered

    def prepare(self, body: Body, model: str, *, rename: bool, stream: bool) -> bytes:
        """The body as it came, but for the model's name where the target has another one, or where it is missing."""
        if self.family == "gemini" and not body.has(b"model"):
            return body.replace({})  # its paths name the model
        if not rename and body.has(b"model"):
            return body.replace({})
        return body.replace({b"model": msgspec.json.encode(model)})

    def wants_usage(self, body: Body) -> bool:
        """Usage comes as the upstream tells it."""
        return True

    def usage(self, body: bytes) -> Usage | None:
        """The usage in a whole JSON reply; None where there is none."""
        if not self.metered:
            return None
        try:
            reply = _read_reply(body)
        except UNREADABLE:
            return None
        return reply.usage.read() if reply.usage else None

    def tap(self, *, wants_usage: bool, cost: Cost) -> EventTap:
        """A watcher for one stream."""
        return EventTap(metered=self.metered)

    def estimate_input(self, body_size: int) -> int:
        """Nothing is known of what a body of this kind costs."""
        return 0

    def error(self, error: GatewayError, call_id: str) -> bytes:
        """The body of an error answer."""
        return errors.WRITERS[self.family](error, call_id)

    def stream_error(self, error: GatewayError, call_id: str) -> bytes:
        """The event that ends a failed stream."""
        body = framing.data(errors.WRITERS[self.family](error, call_id))
        return body if self.family == "gemini" else b"event: error\n" + body


OPENAI = {
    dialect.name: dialect
    for dialect in (
        OpaqueDialect("images/generations", "openai", required=(b"model", b"prompt")),
        OpaqueDialect("images/edits", "openai", required=(b"model", b"prompt")),
        OpaqueDialect("images/variations", "openai", default="dall-e-2"),
        OpaqueDialect("audio/speech", "openai", required=(b"model", b"input")),
        OpaqueDialect("audio/transcriptions", "openai", required=(b"model", b"file")),
        OpaqueDialect("audio/translations", "openai", required=(b"model", b"file")),
        OpaqueDialect("moderations", "openai", required=(b"input",), default="omni-moderation-latest"),
        OpaqueDialect("rerank", "openai", required=(b"model", b"query", b"documents")),
    )
}
"""Those of OpenAI's interface, and reranking, which its relatives added, by their paths below `/v1/`."""

RERANK = OpaqueDialect("v2/rerank", "openai", required=(b"model", b"query", b"documents"))
"""The only one of a second version: Cohere's, in which the model must be named."""

ANTHROPIC = {"complete": OpaqueDialect("complete", "anthropic", required=(b"model", b"prompt"))}
GEMINI = {name: OpaqueDialect(name, "gemini") for name in ("predict", "generateAnswer")}
"""Methods of a model, by what stands behind the colon."""

FORMS = frozenset({"images/edits", "images/variations", "audio/transcriptions", "audio/translations"})
"""The operations that are asked for by a form (some by JSON too)."""

KEPT = {family: OpaqueDialect("kept", family, metered=False) for family in ("openai", "anthropic", "gemini")}
"""For paths of things that are kept at the vendor; nothing of what passes is read."""
