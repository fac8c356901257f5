"""Reading a stream of OpenAI's chat completions. The grammar, of each choice: role, deltas, finish; then, where it was
asked for, usage; then `[DONE]`. Source: https://platform.openai.com/docs/api-reference/chat-streaming.

Read with forgiveness: Azure's first chunk without choices, usage in any chunk (Mistral, xAI) or under `x_groq` (Groq),
`reasoning` under its three names, calls told apart by their ids where a server gives all the same index, a `content`
that is a list, finish reasons said twice, streams that end without `[DONE]`.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from fastgw.dialects.hub import (
    CitationDelta,
    Done,
    Event,
    Fail,
    OpaqueDelta,
    RefusalDelta,
    Start,
    Stop,
    TextDelta,
    ThinkDelta,
    ToolDelta,
    ToolStart,
    UsageSeen,
)
from fastgw.dialects.openai_chat import errors, wire
from fastgw.dialects.openai_chat.reply import read_part, seconds, text_or_none
from fastgw.dialects.openai_chat.wire import NAME, NULL, some

MAX_CHOICES = 128
MAX_CALLS = 1024


class _FunctionIn(Struct):
    name: str | None = None
    arguments: Raw = NULL


class _CallIn(Struct):
    index: int | None = None
    id: str | None = None
    function: _FunctionIn | None = None
    custom: Raw = NULL
    extra_content: Any = None


class _DeltaIn(Struct):
    content: str | list[Raw] | None = None
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: list[Raw] | None = None
    tool_calls: list[_CallIn] | None = None
    function_call: _FunctionIn | None = None
    annotations: list[Raw] | None = None
    citations: list[Raw] | None = None
    audio: Raw = NULL
    extra_content: Any = None


class _ChoiceIn(Struct):
    delta: _DeltaIn | None = None
    index: int | None = None
    finish_reason: str | None = None
    logprobs: Raw = NULL
    provider_finish_reason: Any = None
    stop_reason: Any = None


class _Vendor(Struct):
    usage: Raw = NULL
    error: str | None = None


class _ChunkIn(Struct):
    choices: list[_ChoiceIn] | None = None
    id: str | None = None
    model: str | None = None
    created: Any = None
    usage: Raw = NULL
    service_tier: Any = None
    system_fingerprint: Any = None
    error: Raw = NULL
    x_groq: _Vendor | None = None


class _PlainDelta(Struct, gc=False):
    content: str
    refusal: None = None
    reasoning_content: None = None
    reasoning: None = None
    reasoning_details: None = None
    tool_calls: None = None
    function_call: None = None
    annotations: None = None
    citations: None = None
    audio: None = None
    extra_content: None = None


class _PlainChoice(Struct):
    delta: _PlainDelta
    index: int = 0
    finish_reason: None = None
    logprobs: None = None


class _PlainChunk(Struct):
    """What a stream is made of but for a few chunks: one choice with more text, and nothing else that is read."""

    choices: tuple[_PlainChoice]
    usage: None = None
    error: None = None
    x_groq: None = None


PLAIN_TRIES = 16
"""How often a chunk that follows plain text may turn out to be another before this is no longer tried."""

_read_chunk = msgspec.json.Decoder(_ChunkIn).decode
_read_plain = msgspec.json.Decoder(_PlainChunk).decode


class _Seen:
    """What one choice has said of its calls: wire index → hub index (-1: not a function), id of each."""

    __slots__ = ("calls", "ids", "index", "last", "stopped")

    def __init__(self, index: int) -> None:
        self.index = index
        self.calls: dict[int, int] = {}
        self.ids: list[str] = []
        self.last: int | None = None
        self.stopped = False


class ChatReader:
    """Reads one upstream stream. `_plain`: the last chunk was plain text, so that the next is tried as such."""

    __slots__ = ("_choices", "_done", "_id", "_plain", "_started", "_tries")

    def __init__(self) -> None:
        self._choices: dict[int, _Seen] = {}
        self._id = ""
        self._started = False
        self._done = False
        self._plain = False
        self._tries = PLAIN_TRIES

    def feed(self, name: str, data: bytes) -> list[Event]:
        """See `codec.Reader.feed`."""
        if self._done:
            return []
        if self._plain and not name:
            try:
                (choice,) = _read_plain(data).choices
            except wire.UNREADABLE:
                self._plain = False
                self._tries -= 1
            else:
                seen, text = self._choices.get(choice.index), choice.delta.content
                if seen is not None and not seen.stopped and text:
                    return [TextDelta(text, choice.index)]
        events = self._chunk(name, data)
        self._plain = bool(events) and type(events[-1]) is TextDelta and self._tries > 0
        return events

    def _chunk(self, name: str, data: bytes) -> list[Event]:
        """A chunk of any kind."""
        try:
            chunk = _read_chunk(data)
        except wire.UNREADABLE:
            if data.strip() == b"[DONE]":
                self._done = True
                return [Done()]
            if name == "error":
                return self._failed(data)
            raise ValueError("a chunk that is not JSON of a chat completion") from None
        if some(chunk.error) is not None or name == "error":
            return self._failed(data)
        events: list[Event] = []
        choices = chunk.choices
        # Azure's preface has neither id nor choices; it begins nothing.
        if not self._started and (choices or chunk.id):
            self._start(chunk, events)
        if choices:
            for choice in choices:
                self._choice(choice, data, events)
        raw = chunk.usage
        if chunk.x_groq is not None:
            if chunk.x_groq.error is not None:
                return [*events, *self._failed(wire.encode({"error": chunk.x_groq.error}))]
            raw = some(raw) or chunk.x_groq.usage
        if raw is not NULL:
            usage = wire.usage_in(raw)
            if usage is not None:
                events.append(UsageSeen(usage))
        return events

    def end(self) -> list[Event]:
        """A server that never sends `[DONE]` is taken at its word when every choice that began has finished."""
        if self._done or not self._choices or not all(choice.stopped for choice in self._choices.values()):
            return []
        self._done = True
        return [Done()]

    def _failed(self, data: bytes) -> list[Event]:
        self._done = True
        return [Fail(errors.parse(0, data))]

    def _start(self, chunk: _ChunkIn, events: list[Event]) -> None:
        self._started = True
        self._id = chunk.id or ""
        tier, fingerprint = text_or_none(chunk.service_tier), text_or_none(chunk.system_fingerprint)
        events.append(Start(self._id, chunk.model or "", seconds(chunk.created), tier, fingerprint))

    def _choice(self, choice: _ChoiceIn, data: bytes, events: list[Event]) -> None:
        index = choice.index or 0
        seen = self._choices.get(index)
        if seen is None:
            if len(self._choices) >= MAX_CHOICES:
                raise ValueError(f"more than {MAX_CHOICES} choices")
            seen = self._choices[index] = _Seen(index)
        if seen.stopped:
            return
        delta, logprobs = choice.delta, some(choice.logprobs)
        if delta is not None:
            if delta.reasoning_content or delta.reasoning or delta.reasoning_details:
                _thoughts(delta, index, events)
            content = delta.content
            if content:
                if isinstance(content, str):
                    events.append(TextDelta(content, index, logprobs))
                    logprobs = None
                else:
                    _parts(content, index, events)
            if delta.extra_content is not None and (signature := wire.signature_in(delta.extra_content)) is not None:
                events.append(TextDelta("", index, signature=signature))
            if delta.tool_calls:
                for call in delta.tool_calls:
                    self._call(call, seen, events)
            if delta.refusal or delta.annotations or delta.citations or delta.function_call or some(delta.audio):
                self._rest(delta, seen, events)
        if logprobs is not None:
            events.append(TextDelta("", index, logprobs))
        finish = choice.finish_reason
        if finish:
            seen.stopped = True
            native = text_or_none(choice.provider_finish_reason) or finish
            sequence = text_or_none(choice.stop_reason) if choice.stop_reason is not None else None
            events.append(Stop(wire.stop_of(finish, bool(seen.ids)), index, native, sequence))

    def _rest(self, delta: _DeltaIn, seen: _Seen, events: list[Event]) -> None:
        """What a delta seldom holds."""
        index = seen.index
        if delta.refusal:
            events.append(RefusalDelta(delta.refusal, index))
        if delta.annotations:
            cited = [wire.citation_in(raw, None) for raw in delta.annotations]
            events += [CitationDelta(found[2], index) for found in cited if found is not None]
        if delta.citations:
            events += [CitationDelta(raw, index) for raw in delta.citations]
        if delta.function_call is not None:
            self._call(_CallIn(index=0, function=delta.function_call), seen, events)
        if some(delta.audio) is not None:
            events.append(_opaque("audio", index, {"audio": delta.audio}))

    def _call(self, call: _CallIn, seen: _Seen, events: list[Event]) -> None:
        number = self._number(call, seen)
        if number is None:
            number = self._begin(call, seen, events)
        if number < 0:
            fragment: dict[str, Any] = {"index": call.index or 0}
            if call.id is not None:
                fragment |= {"id": call.id, "type": "custom"}
            if some(call.custom) is not None:
                fragment["custom"] = call.custom
            events.append(_opaque("custom", seen.index, {"tool_calls": [fragment]}))
            return
        function = call.function
        if function is not None and function.arguments is not NULL:
            text = wire.arguments_in(function.arguments)
            if text:
                events.append(ToolDelta(number, text, seen.index))

    def _number(self, call: _CallIn, seen: _Seen) -> int | None:
        """The hub's index of the call a fragment belongs to; None for the first fragment of a call."""
        at = call.index if call.index is not None else seen.last
        if at is None or at not in seen.calls:
            return None
        number = seen.calls[at]
        # Some servers give parallel calls one and the same index: another id with a name begins another call.
        named = call.function is not None and call.function.name
        if number >= 0 and named and call.id and call.id != seen.ids[number]:
            return None
        return number

    def _begin(self, call: _CallIn, seen: _Seen, events: list[Event]) -> int:
        if len(seen.calls) >= MAX_CALLS or len(seen.ids) >= MAX_CALLS:
            raise ValueError(f"more than {MAX_CALLS} tool calls")
        at = call.index if call.index is not None else len(seen.calls)
        seen.last = at
        if some(call.custom) is not None:
            seen.calls[at] = -1
            return -1
        number = seen.calls[at] = len(seen.ids)
        identity = call.id or wire.call_id(self._id, seen.index, number)
        seen.ids.append(identity)
        name = (call.function.name or "") if call.function is not None else ""
        signature = wire.signature_in(call.extra_content) if call.extra_content is not None else None
        events.append(ToolStart(number, identity, name, seen.index, signature))
        return number


def _thoughts(delta: _DeltaIn, index: int, events: list[Event]) -> None:
    """Thinking, under whichever of its names; the one that may hold signatures counts before the others."""
    if delta.reasoning_details:
        thoughts = wire.thinking_in(delta.reasoning_details)
        events += [ThinkDelta(t.text, t.signature, t.redacted, index) for t in thoughts]
        return
    thought = delta.reasoning_content or delta.reasoning
    if type(thought) is str:
        events.append(ThinkDelta(thought, choice=index))


def _parts(content: list[Raw], index: int, events: list[Event]) -> None:
    """A `content` that is a list of parts, as Mistral's thinking models stream it."""
    for raw in content:
        part = read_part(raw)
        if part.type == "text" and part.text:
            events.append(TextDelta(part.text, index))
        elif part.type == "thinking" and (thought := wire.think_part(raw)):
            events.append(ThinkDelta(thought, choice=index))


def _opaque(kind: str, index: int, delta: dict[str, Any]) -> OpaqueDelta:
    """A choice of a chunk with a delta that the hub has no words for."""
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
    return OpaqueDelta(NAME, kind, Raw(wire.encode(choice)))
