"""Reading a stream of Anthropic's Messages API.

The grammar: `message_start`, blocks that are never interleaved (`content_block_start`, deltas, `content_block_stop`),
`message_delta`, `message_stop`; `ping` anywhere; `error` in the place of the rest. Usage is cumulative and arrives in
halves: what a later word leaves out, an earlier one said. Blocks of the provider's own tools come out as opaque frames.
Source: https://docs.anthropic.com/en/docs/build-with-claude/streaming.
"""

import msgspec
from msgspec import Raw, Struct

from fastgw.dialects.anthropic_messages import errors
from fastgw.dialects.anthropic_messages.parts import CALL_SIGNATURE, NAME, NULL, TEXT_SIGNATURE, said
from fastgw.dialects.anthropic_messages.reply import UsageIn, stop_of, usage_in, usage_of
from fastgw.dialects.hub import (
    CitationDelta,
    Done,
    Event,
    Fail,
    OpaqueDelta,
    Start,
    Stop,
    TextDelta,
    ThinkDelta,
    ToolDelta,
    ToolStart,
    UsageSeen,
)


class _Message(Struct):
    id: str | None = None
    model: str | None = None
    usage: Raw = NULL


class _Caller(Struct):
    type: str = "direct"


class _Block(Struct):
    type: str = ""
    text: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = NULL
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    caller: _Caller | None = None
    toolset_name: str | None = None


class _Delta(Struct):
    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    citation: Raw = NULL
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: Raw = NULL
    container: Raw = NULL


class _Frame(Struct):
    type: str = ""
    delta: _Delta | None = None
    content_block: _Block | None = None
    message: _Message | None = None
    usage: Raw = NULL


class _TextPiece(Struct, tag_field="type", tag="text_delta", gc=False):
    text: str


class _ThoughtPiece(Struct, tag_field="type", tag="thinking_delta", gc=False):
    thinking: str


class _InputPiece(Struct, tag_field="type", tag="input_json_delta", gc=False):
    partial_json: str


class _Piece(Struct, tag_field="type", tag="content_block_delta"):
    """The frames that a stream is made of but for a few, as strict as they are nearly always."""

    delta: _TextPiece | _ThoughtPiece | _InputPiece


class _Ping(Struct, tag_field="type", tag="ping"):
    pass


class _Kind(Struct):
    type: str = ""


class _OddFrame(Struct):
    type: str = ""
    delta: Raw = NULL
    content_block: Raw = NULL


BLOCKS = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})
DELTAS = frozenset({"text_delta", "input_json_delta", "thinking_delta", "signature_delta", "citations_delta"})
_read_odd_frame = msgspec.json.Decoder(_OddFrame).decode
_read_kind = msgspec.json.Decoder(_Kind).decode
_read_frame = msgspec.json.Decoder(_Frame).decode
_read_piece = msgspec.json.Decoder(_Piece | _Ping).decode


class MessagesReader:
    """Reads one stream."""

    __slots__ = ("_calls", "_kind", "_signature", "_stopped", "_usage", "_written")

    def __init__(self) -> None:
        self._calls = 0
        self._kind = ""
        self._signature: str | None = None
        self._stopped = False
        self._usage = UsageIn()
        self._written = b""

    def feed(self, name: str, data: bytes) -> list[Event]:
        """See `codec.Reader.feed`."""
        try:
            piece = _read_piece(data)
        except msgspec.ValidationError:
            return self._frame(name, data)
        if type(piece) is _Ping:
            return [] if name != "error" else self._frame(name, data)
        if self._kind == "opaque":
            return [OpaqueDelta(NAME, "content_block_delta", Raw(data))]
        delta = piece.delta
        if type(delta) is _TextPiece:
            return [TextDelta(delta.text)] if delta.text else []
        if type(delta) is _ThoughtPiece:
            return [ThinkDelta(delta.thinking)] if delta.thinking else []
        return self._more(delta.partial_json)

    def _frame(self, name: str, data: bytes) -> list[Event]:
        """A frame of any kind."""
        try:
            frame = _read_frame(data)
        except msgspec.ValidationError:
            return self._odd(name, data)
        kind = frame.type
        if kind == "content_block_delta":
            return self._delta(frame.delta or _Delta(), data)
        if kind == "content_block_start":
            return self._begin(frame.content_block or _Block(), data)
        if kind == "content_block_stop":
            return self._close(data)
        if kind == "message_start":
            return self._start(frame.message or _Message())
        if kind == "message_delta":
            return self._finish(frame)
        if kind == "message_stop":
            return [Done()]
        if kind == "error" or name == "error":
            return [Fail(errors.parse(0, data))]
        return []

    def _odd(self, name: str, data: bytes) -> list[Event]:
        """A frame that does not fit the flat struct: of a new kind, or wrong. Raises ValueError for the latter."""
        frame = _read_odd_frame(data)
        if frame.type == "content_block_start":
            if _read_kind(frame.content_block).type in BLOCKS:
                raise ValueError("a block of a known kind has fields of the wrong type")
            self._kind = "opaque"
            return [OpaqueDelta(NAME, "content_block_start", Raw(data))]
        if frame.type == "content_block_delta":
            if self._kind == "opaque":
                return [OpaqueDelta(NAME, "content_block_delta", Raw(data))]
            if _read_kind(frame.delta).type in DELTAS:
                raise ValueError("a delta of a known kind has fields of the wrong type")
            return []
        if frame.type == "content_block_stop":
            return self._close(data)
        if frame.type in ("message_start", "message_delta"):
            raise ValueError(f"a {frame.type} has fields of the wrong type")
        if frame.type == "message_stop":
            return [Done()]
        if frame.type == "error" or name == "error":
            return [Fail(errors.parse(0, data))]
        return []

    def end(self) -> list[Event]:
        """See `codec.Reader.end`: `message_stop` alone is the end."""
        return []

    def _start(self, message: _Message) -> list[Event]:
        events = self._seen(message.usage)
        return [Start(message.id or "", message.model or "", service_tier=self._usage.service_tier), *events]

    def _seen(self, raw: Raw) -> list[Event]:
        new, old = usage_in(raw), self._usage
        if new is None:
            return []
        for field in UsageIn.__struct_fields__:
            if (value := getattr(new, field)) is not None:
                setattr(old, field, value)
        return [UsageSeen(usage_of(old))]

    def _begin(self, block: _Block, data: bytes) -> list[Event]:
        kind = self._kind = block.type
        self._written = b""
        if kind == "text":
            return [TextDelta(block.text)] if block.text else []
        if kind == "thinking":
            return [ThinkDelta(block.thinking or "", block.signature or None)] if block.thinking else []
        if kind == "redacted_thinking":
            return self._redacted(block.data or "")
        plain = block.toolset_name is None and (block.caller is None or block.caller.type == "direct")
        if kind == "tool_use" and plain and block.id and block.name:
            self._calls += 1
            self._written = b"{}" if said(block.input) is None else bytes(block.input)
            signature, self._signature = self._signature, None
            return [ToolStart(self._calls - 1, block.id, block.name, signature=signature)]
        self._kind = "opaque"
        return [OpaqueDelta(NAME, "content_block_start", Raw(data))]

    def _redacted(self, text: str) -> list[Event]:
        """Redacted thinking, or a signature that a gateway put there: see `anthropic_messages.parts`."""
        if text.startswith(CALL_SIGNATURE):
            self._signature = text[len(CALL_SIGNATURE) :]
            return []
        if text.startswith(TEXT_SIGNATURE):
            return [TextDelta("", signature=text[len(TEXT_SIGNATURE) :])]
        return [ThinkDelta(redacted=text)]

    def _delta(self, delta: _Delta, data: bytes) -> list[Event]:
        kind = delta.type
        if self._kind == "opaque":
            return [OpaqueDelta(NAME, "content_block_delta", Raw(data))]
        if kind == "text_delta":
            return [TextDelta(delta.text)] if delta.text else []
        if kind == "input_json_delta":
            return self._more(delta.partial_json or "")
        if kind == "thinking_delta":
            return [ThinkDelta(delta.thinking)] if delta.thinking else []
        if kind == "signature_delta":
            return [ThinkDelta(signature=delta.signature)] if delta.signature else []
        if kind == "citations_delta" and said(delta.citation) is not None:
            return [CitationDelta(delta.citation)]
        return []

    def _more(self, fragment: str) -> list[Event]:
        """More of a call's arguments."""
        if not fragment or self._kind != "tool_use":
            return []
        self._written = b""
        return [ToolDelta(self._calls - 1, fragment)]

    def _close(self, data: bytes) -> list[Event]:
        kind, self._kind = self._kind, ""
        if kind == "opaque":
            return [OpaqueDelta(NAME, "content_block_stop", Raw(data))]
        if kind == "tool_use" and self._written:
            # No fragment came: the arguments are those it began with, {} as a rule.
            return [ToolDelta(self._calls - 1, self._written.decode())]
        return []

    def _finish(self, frame: _Frame) -> list[Event]:
        events = self._seen(frame.usage)
        delta = frame.delta or _Delta()
        for kind, raw in (("stop_details", delta.stop_details), ("container", delta.container)):
            if (value := said(raw)) is not None:
                events.append(OpaqueDelta(NAME, kind, value))
        native = delta.stop_reason
        if native is not None and not self._stopped:
            self._stopped = True
            events.append(Stop(stop_of(native, self._calls > 0), native=native, sequence=delta.stop_sequence))
        return events
