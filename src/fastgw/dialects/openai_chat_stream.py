"""Streams of OpenAI's chat completions, read and written. The grammar, of each choice: role, deltas, finish; then, where
it was asked for, usage; then `[DONE]`. Source: https://platform.openai.com/docs/api-reference/chat-streaming.

Read with forgiveness: Azure's first chunk without choices, usage in any chunk (Mistral, xAI) or under `x_groq` (Groq),
`reasoning` under its three names, calls told apart by their ids where a server gives all the same index, a `content`
that is a list, finish reasons said twice, streams that end without `[DONE]`.
"""

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fastgw.call import Usage
from fastgw.dialects import errors as envelopes
from fastgw.dialects import framing
from fastgw.dialects import openai_chat_errors as errors
from fastgw.dialects import openai_chat_wire as wire
from fastgw.dialects.hub import (
    CitationDelta,
    Done,
    Event,
    Fail,
    OpaqueDelta,
    Problem,
    RefusalDelta,
    Start,
    Stop,
    TextDelta,
    ThinkDelta,
    ToolDelta,
    ToolStart,
    UsageSeen,
    merge_usage,
)
from fastgw.dialects.openai_chat_reply import read_part, seconds, text_or_none
from fastgw.dialects.openai_chat_wire import NAME
from fastgw.errors import GatewayError

MAX_CHOICES = 128
MAX_CALLS = 1024


class _FunctionIn(Struct):
    name: str | None = None
    arguments: Raw | None = None


class _CallIn(Struct):
    index: int | None = None
    id: str | None = None
    function: _FunctionIn | None = None
    custom: Raw | None = None
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
    audio: Raw | None = None


class _ChoiceIn(Struct):
    delta: _DeltaIn | None = None
    index: int = 0
    finish_reason: str | None = None
    logprobs: Raw | None = None
    provider_finish_reason: Any = None
    stop_reason: Any = None


class _Vendor(Struct):
    usage: Raw | None = None
    error: str | None = None


class _ChunkIn(Struct):
    choices: list[_ChoiceIn] | None = None
    id: str | None = None
    model: str | None = None
    created: Any = None
    usage: Raw | None = None
    service_tier: Any = None
    system_fingerprint: Any = None
    error: Raw | None = None
    x_groq: _Vendor | None = None


class _RawChoices(Struct):
    choices: list[Raw] = []


_read_chunk = msgspec.json.Decoder(_ChunkIn).decode
_read_raw_choices = msgspec.json.Decoder(_RawChoices).decode


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
    """Reads one upstream stream."""

    __slots__ = ("_choices", "_done", "_id", "_started")

    def __init__(self) -> None:
        self._choices: dict[int, _Seen] = {}
        self._id = ""
        self._started = False
        self._done = False

    def feed(self, name: str, data: bytes) -> list[Event]:
        """See `codec.Reader.feed`."""
        if self._done:
            return []
        try:
            chunk = _read_chunk(data)
        except wire.UNREADABLE:
            if data.strip() == b"[DONE]":
                self._done = True
                return [Done()]
            if name == "error":
                return self._failed(data)
            raise ValueError("a chunk that is not JSON of a chat completion") from None
        if chunk.error is not None or name == "error":
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
            raw = raw or chunk.x_groq.usage
        if raw is not None:
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
        index = choice.index
        seen = self._choices.get(index)
        if seen is None:
            if len(self._choices) >= MAX_CHOICES:
                raise ValueError(f"more than {MAX_CHOICES} choices")
            seen = self._choices[index] = _Seen(index)
        if seen.stopped:
            return
        delta, logprobs = choice.delta, choice.logprobs
        if delta is not None:
            content = delta.content
            if type(content) is str and content:
                events.append(TextDelta(content, index, logprobs))
                logprobs = None
            self._rest(delta, seen, data, events)
        if logprobs is not None:
            events.append(TextDelta("", index, logprobs))
        finish = choice.finish_reason
        if finish:
            seen.stopped = True
            native = text_or_none(choice.provider_finish_reason) or finish
            sequence = text_or_none(choice.stop_reason) if choice.stop_reason is not None else None
            events.append(Stop(wire.stop_of(finish, bool(seen.ids)), index, native, sequence))

    def _rest(self, delta: _DeltaIn, seen: _Seen, data: bytes, events: list[Event]) -> None:
        """All that a delta may hold but plain text. Thinking goes before text that came with it."""
        index = seen.index
        if delta.reasoning_details:
            thoughts = wire.thinking_in(delta.reasoning_details)
            at = len(events) - (type(delta.content) is str and bool(delta.content))
            events[at:at] = [ThinkDelta(t.text, t.signature, t.redacted, index) for t in thoughts]
        elif (thought := delta.reasoning_content or delta.reasoning) and type(thought) is str:
            at = len(events) - (type(delta.content) is str and bool(delta.content))
            events.insert(at, ThinkDelta(thought, choice=index))
        if isinstance(delta.content, list):
            self._parts(delta.content, index, events)
        if delta.refusal:
            events.append(RefusalDelta(delta.refusal, index))
        if delta.annotations:
            cited = [wire.citation_in(raw, None) for raw in delta.annotations]
            events += [CitationDelta(found[2], index) for found in cited if found is not None]
        if delta.citations:
            events += [CitationDelta(raw, index) for raw in delta.citations]
        if delta.function_call is not None:
            self._call(_CallIn(index=0, function=delta.function_call), seen, data, events)
        if delta.tool_calls:
            for call in delta.tool_calls:
                self._call(call, seen, data, events)
        if delta.audio is not None:
            self._opaque("audio", data, events)

    def _parts(self, content: list[Raw], index: int, events: list[Event]) -> None:
        """A `content` that is a list of parts, as Mistral's thinking models stream it."""
        for raw in content:
            part = read_part(raw)
            if part.type == "text" and part.text:
                events.append(TextDelta(part.text, index))
            elif part.type == "thinking" and (thought := wire.think_part(raw)):
                events.append(ThinkDelta(thought, choice=index))

    def _opaque(self, kind: str, data: bytes, events: list[Event]) -> None:
        """The choices of this frame as they are, for writers of this dialect; once a frame."""
        if not events or type(events[-1]) is not OpaqueDelta:
            events += [OpaqueDelta(NAME, kind, raw) for raw in _read_raw_choices(data).choices]

    def _call(self, call: _CallIn, seen: _Seen, data: bytes, events: list[Event]) -> None:
        number = self._number(call, seen)
        if number is None:
            number = self._begin(call, seen, events)
        if number < 0:
            self._opaque("custom", data, events)
            return
        function = call.function
        if function is not None and function.arguments is not None:
            fragment = wire.arguments_in(function.arguments)
            if fragment:
                events.append(ToolDelta(number, fragment, seen.index))

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
        if call.custom is not None:
            seen.calls[at] = -1
            return -1
        number = seen.calls[at] = len(seen.ids)
        identity = call.id or wire.call_id(self._id, seen.index, number)
        seen.ids.append(identity)
        name = (call.function.name or "") if call.function is not None else ""
        signature = wire.signature_in(call.extra_content) if call.extra_content is not None else None
        events.append(ToolStart(number, identity, name, seen.index, signature))
        return number


# --- writing


class _FunctionOut(Struct):
    arguments: str


class _FragmentOut(Struct):
    index: int
    function: _FunctionOut


class _StartOut(Struct):
    index: int
    id: str
    type: str
    function: wire.Function
    extra_content: dict[str, dict[str, str]] | UnsetType = UNSET


class _CallsOut(Struct):
    tool_calls: list[_FragmentOut | Raw]


class _StartsOut(Struct):
    tool_calls: list[_StartOut]


class _ThinkOut(Struct):
    reasoning_details: list[wire.Detail]
    reasoning_content: str | UnsetType = UNSET


class _CiteOut(Struct):
    annotations: list[wire.AnnotationOut] | UnsetType = UNSET
    citations: list[dict[str, Any]] | UnsetType = UNSET


class _FinishOut(Struct):
    index: int
    delta: dict[str, str]
    logprobs: None
    finish_reason: str
    provider_finish_reason: str | UnsetType = UNSET
    stop_reason: str | UnsetType = UNSET


class _HeadOut(Struct):
    id: str
    object: str
    created: int
    model: str
    service_tier: str | UnsetType = UNSET
    system_fingerprint: str | UnsetType = UNSET


class _ToolOf(Struct):
    index: int | None = None


class _DeltaOf(Struct):
    tool_calls: list[_ToolOf] | None = None


class _ChoiceOf(Struct):
    index: int = 0
    delta: _DeltaOf | None = None


_read_choice_of = msgspec.json.Decoder(_ChoiceOf).decode
_encode = msgspec.json.encode
_ROLE = b'"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}'
_PLAIN = b',"logprobs":null,"finish_reason":null}'


class _Told:
    """What has been written of one choice: its calls, where its text stands, its thinking's and its citations' count."""

    __slots__ = (
        "annotated",
        "cited",
        "cited_from",
        "head",
        "stopped",
        "thinking",
        "thoughts",
        "tools",
        "used",
        "written",
    )

    def __init__(self, index: int) -> None:
        self.head = b'{"index":%d,' % index
        self.tools: dict[int, int] = {}
        self.used = 0
        self.written: set[int] = set()
        self.thoughts = 0
        self.thinking = False
        self.cited_from: int | None = None
        self.cited = 0
        self.annotated = 0
        self.stopped = False


class ChatWriter:
    """Writes one stream to a client."""

    __slots__ = ("_choices", "_close", "_model", "_open", "_over", "_sizes", "_stream_usage", "_usage")

    def __init__(self, *, model: str, stream_usage: bool) -> None:
        self._model = model
        self._stream_usage = stream_usage
        self._usage: Usage | None = None
        self._choices: dict[int, _Told] = {}
        self._sizes: dict[int, int] = {}
        self._over = False
        self._open = b""
        # Where usage was asked for, every other chunk says that it has none.
        self._close = b'],"usage":null}\n\n' if stream_usage else b"]}\n\n"

    def feed(self, event: Event) -> bytes:
        """See `codec.Writer.feed`."""
        kind = type(event)
        if kind is TextDelta:
            return self._text(event)  # type: ignore[arg-type]
        if self._over:
            return b""
        write = _WRITERS.get(kind)
        return write(self, event) if write is not None else b""

    def end(self) -> bytes:
        """Finish what has not finished, then usage, where asked for and known, then `[DONE]`."""
        if self._over:
            return b""
        out = b"" if self._choices else self._told(0)[1]
        for index, told in self._choices.items():
            if not told.stopped:
                out += self._stop(Stop("stop", index))
        self._over = True
        if self._stream_usage and self._usage is not None:
            usage = _encode(wire.usage_out(self._usage))
            out += self._open + b'],"usage":' + usage + b"}\n\n"
        return out + b"data: [DONE]\n\n"

    def fail(self, error: GatewayError | Problem, call_id: str) -> bytes:
        """`data: {"error": ...}`; nothing follows it."""
        if self._over:
            return b""
        self._over = True
        if isinstance(error, Problem):
            return framing.data(errors.write(error)[1])
        return framing.data(envelopes.openai(error, call_id))

    def _start(self, event: Start) -> bytes:
        if not self._open:
            self._begin(event)
        return self._told(0)[1]

    def _begin(self, start: Start) -> None:
        head = _HeadOut(start.id, "chat.completion.chunk", start.created, start.model or self._model)
        if start.service_tier is not None:
            head.service_tier = start.service_tier
        if start.fingerprint is not None:
            head.system_fingerprint = start.fingerprint
        self._open = b"data: " + _encode(head)[:-1] + b',"choices":['

    def _told(self, index: int) -> tuple[_Told, bytes]:
        """A choice and, if this is its first chunk, the chunk with its role."""
        told = self._choices.get(index)
        if told is not None:
            return told, b""
        if not self._open:
            self._begin(Start())
        told = self._choices[index] = _Told(index)
        self._sizes[index] = 0
        return told, self._open + told.head + _ROLE + self._close

    def _text(self, event: TextDelta) -> bytes:
        if self._over:
            return b""
        index = event.choice
        told = self._choices.get(index)
        first = b""
        if told is None:
            told, first = self._told(index)
        if told.stopped:
            return first
        told.thinking = False
        text, logprobs = event.text, event.logprobs
        if text:
            if told.cited_from is not None:
                told.cited_from = None
                told.cited = self._sizes[index]
            self._sizes[index] += len(text)
            delta = b'"delta":{"content":' + _encode(text) + b"}"
        elif logprobs is None:
            return first
        else:
            delta = b'"delta":{"content":""}'
        if logprobs is None:
            return first + self._open + told.head + delta + _PLAIN + self._close
        tail = b',"logprobs":' + bytes(logprobs) + b',"finish_reason":null}'
        return first + self._open + told.head + delta + tail + self._close

    def _delta(self, index: int, delta: Struct | dict[str, str]) -> bytes:
        told, first = self._told(index)
        if told.stopped:
            return first
        return first + self._open + told.head + b'"delta":' + _encode(delta) + _PLAIN + self._close

    def _refusal(self, event: RefusalDelta) -> bytes:
        return self._delta(event.choice, {"refusal": event.text})

    def _think(self, event: ThinkDelta) -> bytes:
        """Each run of thinking has an index, by which clients put its pieces together."""
        told, first = self._told(event.choice)
        if not told.thinking or event.redacted is not None:
            told.thoughts += 1
        told.thinking = event.signature is None and event.redacted is None
        at = told.thoughts - 1
        if event.redacted is not None:
            return first + self._delta(event.choice, _ThinkOut([wire.DetailSealed(event.redacted, at)]))
        signature = UNSET if event.signature is None else event.signature
        out = _ThinkOut([wire.DetailText(event.text, at, signature)])
        if event.text:
            out.reasoning_content = event.text
        return first + self._delta(event.choice, out)

    def _tool_start(self, event: ToolStart) -> bytes:
        told, first = self._told(event.choice)
        told.thinking = False
        if event.index in told.tools:
            return first
        at = told.tools[event.index] = told.used
        told.used += 1
        signature = wire.sealed(event.signature)
        started = _StartOut(at, event.id, "function", wire.Function(event.name, ""), signature)
        return first + self._delta(event.choice, _StartsOut([started]))

    def _tool_delta(self, event: ToolDelta) -> bytes:
        told = self._choices.get(event.choice)
        if told is None or event.index not in told.tools or not event.fragment:
            return b""
        told.written.add(event.index)
        fragment = _FragmentOut(told.tools[event.index], _FunctionOut(event.fragment))
        return self._delta(event.choice, _CallsOut([fragment]))

    def _cite(self, event: CitationDelta) -> bytes:
        """A citation is of the text since the last one; the stream does not say where it begins more closely."""
        told, first = self._told(event.choice)
        end = self._sizes[event.choice]
        told.cited_from = told.cited
        annotation = wire.citation_out(event.raw, told.cited_from, end)
        if annotation is None:
            try:
                raw: dict[str, Any] = dict(wire.read_raws(event.raw))
            except wire.UNREADABLE:
                return first
            raw["index"] = told.annotated
            told.annotated += 1
            return first + self._delta(event.choice, _CiteOut(citations=[raw]))
        annotation.index = told.annotated
        told.annotated += 1
        return first + self._delta(event.choice, _CiteOut([annotation]))

    def _opaque(self, event: OpaqueDelta) -> bytes:
        if event.dialect != NAME:
            return b""
        choice = _read_choice_of(event.raw)
        told, first = self._told(choice.index)
        for call in (choice.delta.tool_calls or ()) if choice.delta is not None else ():
            told.used = max(told.used, (call.index or 0) + 1)
        return first + self._open + bytes(event.raw) + self._close

    def _stop(self, event: Stop) -> bytes:
        if event.reason == "error":
            said = f"the model's answer ended in an error ({event.native or 'no reason given'})"
            return self.fail(Problem("server", 502, said), "")
        told, out = self._told(event.choice)
        if told.stopped:
            return out
        for index in told.tools:
            if index not in told.written:  # OpenAI's own calls without arguments say {}
                out += self._tool_delta(ToolDelta(index, "{}", event.choice))
        told.stopped = True
        finish = "tool_calls" if told.tools and event.reason == "stop" else wire.FINISHES[event.reason]
        last = _FinishOut(event.choice, {}, None, finish)
        if event.native is not None and event.native != finish:
            last.provider_finish_reason = event.native
        if event.sequence is not None:
            last.stop_reason = event.sequence
        return out + self._open + _encode(last) + self._close

    def _usage_seen(self, event: UsageSeen) -> bytes:
        self._usage = merge_usage(self._usage, event.usage)
        return b""

    def _fail(self, event: Fail) -> bytes:
        return self.fail(event.problem, "")


_WRITERS: dict[type, Any] = {
    Start: ChatWriter._start,
    RefusalDelta: ChatWriter._refusal,
    ThinkDelta: ChatWriter._think,
    ToolStart: ChatWriter._tool_start,
    ToolDelta: ChatWriter._tool_delta,
    CitationDelta: ChatWriter._cite,
    OpaqueDelta: ChatWriter._opaque,
    Stop: ChatWriter._stop,
    UsageSeen: ChatWriter._usage_seen,
    Fail: ChatWriter._fail,
}
