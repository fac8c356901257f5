"""Reading the streams of OpenAI's Responses API.

Deltas count; the `done` events and the items of the end are used only for what no delta said, since some servers send
whole items and no deltas. Reasoning items give one run of thinking each, closed by a signature when the item is done.
An `error` may be followed by `response.failed` for the same failure: it is told once.
"""

import msgspec
from msgspec import Raw, Struct

from fastgw.dialects.hub import (
    CitationDelta,
    Done,
    Event,
    Fail,
    Opaque,
    OpaqueDelta,
    Refusal,
    RefusalDelta,
    Start,
    Stop,
    Text,
    TextDelta,
    ThinkDelta,
    Thinking,
    ToolCall,
    ToolDelta,
    ToolStart,
    UsageSeen,
)
from fastgw.dialects.openai_responses.error import ErrorIn, problem_of, told
from fastgw.dialects.openai_responses.items import (
    NAME,
    NULL,
    PARAGRAPH,
    UNREADABLE,
    Item,
    call_part,
    call_signature,
    chat_logprobs,
    citation,
    message_parts,
    read_kind,
    read_output,
    reasoning_text,
    unwrap,
    usage_of,
)
from fastgw.dialects.openai_responses.reply import ResponseIn, output_parts, read_response, stop_of

TEXT = "response.output_text.delta"


class _Frame(Struct):
    """A frame of any kind."""

    type: str = ""
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    delta: str | None = None
    text: str | None = None
    refusal: str | None = None
    arguments: str | None = None
    logprobs: Raw = NULL
    item: Raw = NULL
    annotation: Raw = NULL
    response: Raw = NULL
    error: Raw = NULL
    code: Raw = NULL
    param: Raw = NULL
    message: str | None = None


class _Piece(Struct, tag_field="type", tag=TEXT):
    """The frame that a stream is made of but for a few."""

    delta: str
    output_index: int = 0
    logprobs: list[Raw] | None = None


_read_frame = msgspec.json.Decoder(_Frame).decode
_read_piece = msgspec.json.Decoder(_Piece).decode

SILENT = frozenset(
    {
        "response.in_progress",
        "response.queued",
        "response.content_part.added",
        "response.content_part.done",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_part.done",
        "response.reasoning_summary_text.done",
        "response.reasoning_text.done",
        "response.output_text.done",
        "response.refusal.done",
    }
)
"""Frames that only frame others; what they repeat is looked for in the done item."""


class _Call(Struct):
    """A function call under way."""

    index: int
    written: bool = False


class ResponsesReader:
    """See `Reader`."""

    __slots__ = ("_calls", "_closed", "_failed", "_index", "_said", "_signature", "_started", "_thought")

    def __init__(self) -> None:
        self._started = False
        self._failed = False
        self._closed: set[int] = set()
        self._calls: dict[int, _Call] = {}
        self._said: set[int] = set()
        self._index = -1
        self._thought: tuple[int, str, int] | None = None
        self._signature: str | None = None

    def feed(self, name: str, data: bytes) -> list[Event]:
        """See `Reader.feed`."""
        if name == TEXT:
            try:
                piece = _read_piece(data)
            except UNREADABLE:
                return self._frame(name, data)
            if not piece.logprobs:
                if piece.output_index != self._index:
                    self._index = piece.output_index
                    self._said.add(piece.output_index)
                return [TextDelta(piece.delta)] if piece.delta else []
        return self._frame(name, data)

    def _frame(self, name: str, data: bytes) -> list[Event]:
        """A frame of any kind."""
        if data == b"[DONE]":
            return []  # not of this grammar, but some servers send it
        try:
            frame = _read_frame(data)
        except msgspec.ValidationError:
            return self._odd(data)
        kind = frame.type or name
        if kind == TEXT:
            index = frame.output_index or 0
            if index != self._index:
                self._index = index
                self._said.add(index)
            logprobs = frame.logprobs
            if logprobs in _NO_LOGPROBS:
                return [TextDelta(frame.delta or "")] if frame.delta else []
            return [TextDelta(frame.delta or "", 0, chat_logprobs(logprobs))]
        if kind in SILENT:
            return []
        take = _TAKERS.get(kind)
        if take is not None:
            return take(self, frame)
        return [OpaqueDelta(NAME, kind, Raw(data))] if kind else []

    def end(self) -> list[Event]:
        """Nothing: a stream without its terminal event was cut."""
        return []

    def _odd(self, data: bytes) -> list[Event]:
        """A frame of another shape than those known here."""
        try:
            kind = read_kind(data).type
        except UNREADABLE:
            return []
        known = kind in _TAKERS or kind in SILENT or kind == TEXT
        return [OpaqueDelta(NAME, kind, Raw(data))] if kind and not known else []

    def _created(self, frame: _Frame) -> list[Event]:
        return self._start(_response(frame))

    def _start(self, response: ResponseIn) -> list[Event]:
        if self._started:
            return []
        self._started = True
        created = int(response.created_at or 0)
        return [Start(response.id, response.model, created, response.service_tier)]

    def _refusal(self, frame: _Frame) -> list[Event]:
        self._said.add(frame.output_index or 0)
        return [RefusalDelta(frame.delta)] if frame.delta else []

    def _summary(self, frame: _Frame) -> list[Event]:
        return self._think(frame, "summary", frame.summary_index or 0)

    def _reasoning(self, frame: _Frame) -> list[Event]:
        return self._think(frame, "content", frame.content_index or 0)

    def _think(self, frame: _Frame, kind: str, part: int) -> list[Event]:
        if not frame.delta:
            return []
        index = frame.output_index or 0
        place, before = (index, kind, part), self._thought
        self._thought = place
        self._said.add(index)
        if before is not None and before[0] == index and before != place:
            return [ThinkDelta(PARAGRAPH + frame.delta)]
        return [ThinkDelta(frame.delta)]

    def _annotation(self, frame: _Frame) -> list[Event]:
        if frame.annotation == NULL:
            return []
        return [CitationDelta(citation(frame.annotation))]

    # --- items

    def _added(self, frame: _Frame) -> list[Event]:
        item = read_output(frame.item)
        if item is None or item.type != "function_call":
            return []
        return self._call_starts(frame.output_index or 0, item)

    def _call_starts(self, index: int, item: Item) -> list[Event]:
        call = call_part(item, self._signature)
        self._signature = None
        self._calls[index] = _Call(len(self._calls))
        return [ToolStart(self._calls[index].index, call.id, call.name, signature=call.signature)]

    def _arguments(self, frame: _Frame) -> list[Event]:
        call = self._calls.get(frame.output_index or 0)
        if call is None or not frame.delta:
            return []
        call.written = True
        return [ToolDelta(call.index, frame.delta)]

    def _arguments_done(self, frame: _Frame) -> list[Event]:
        call = self._calls.get(frame.output_index or 0)
        if call is None or call.written or not frame.arguments:
            return []
        call.written = True
        return [ToolDelta(call.index, frame.arguments)]

    def _item_done(self, frame: _Frame) -> list[Event]:
        index = frame.output_index or 0
        if frame.item == NULL or index in self._closed:
            return []
        self._closed.add(index)
        item = read_output(frame.item)
        if item is None:
            return [OpaqueDelta(NAME, frame.type, frame.item)]
        if item.type == "function_call":
            return self._call_done(index, item)
        if item.type == "reasoning":
            return self._reasoning_done(index, item)
        return [] if index in self._said else _whole_message(item, frame.item)

    def _call_done(self, index: int, item: Item) -> list[Event]:
        events = [] if index in self._calls else self._call_starts(index, item)
        call = self._calls[index]
        if item.arguments and not call.written:
            call.written = True
            events.append(ToolDelta(call.index, item.arguments))
        return events

    def _reasoning_done(self, index: int, item: Item) -> list[Event]:
        self._signature = call_signature(item)
        if self._signature is not None:
            return []
        text = "" if index in self._said else reasoning_text(item)
        thought = unwrap(text, item.id, item.encrypted_content)
        if not text and thought.signature is None and thought.redacted is None:
            return []
        return [ThinkDelta(thought.text, thought.signature, thought.redacted)]

    # --- the end

    def _ended(self, frame: _Frame) -> list[Event]:
        response = _response(frame)
        events = self._start(response)
        if not self._said and not self._closed and not self._calls:
            events += self._unsaid(response.output or [])
        usage = usage_of(response.usage)
        if usage is not None:
            events.append(UsageSeen(usage))
        if response.status is None:
            response.status = frame.type.removeprefix("response.")
        reason, native = stop_of(response, calls=bool(self._calls))
        events.append(Stop(reason or "stop", native=native))
        events.append(Done())
        return events

    def _unsaid(self, output: list[Raw]) -> list[Event]:
        """The items of a terminal response that came without any event of their own."""
        events: list[Event] = []
        for part in output_parts(output)[0]:
            if type(part) is ToolCall:
                index = len(self._calls)
                self._calls[index] = _Call(index, True)
                events.append(ToolStart(index, part.id, part.name, signature=part.signature))
                events.append(ToolDelta(index, part.arguments))
            elif type(part) is Thinking:
                events.append(ThinkDelta(part.text, part.signature, part.redacted))
            elif type(part) is Opaque:
                events.append(OpaqueDelta(NAME, "response.output_item.done", part.raw))
            else:
                events += _said(part)
        return events

    def _failed_response(self, frame: _Frame) -> list[Event]:
        response = _response(frame)
        usage = usage_of(response.usage)
        events: list[Event] = [UsageSeen(usage)] if usage is not None else []
        if not self._failed:
            self._failed = True
            events.append(Fail(problem_of(told(response.error))))
        return events

    def _error(self, frame: _Frame) -> list[Event]:
        """An `error` event: documented flat, sent by OpenAI with the error inside."""
        if self._failed:
            return []
        self._failed = True
        error = told(frame.error)
        if error.message is None and error.code == NULL:
            error = ErrorIn(frame.message, None, frame.code, frame.param)
        return [Fail(problem_of(error))]


_NO_LOGPROBS = (Raw(b"[]"), NULL)


def _response(frame: _Frame) -> ResponseIn:
    try:
        return read_response(frame.response)
    except UNREADABLE:
        return ResponseIn()


def _said(part: object) -> list[Event]:
    """A text part or a refusal in one piece."""
    if type(part) is Text:
        events: list[Event] = [TextDelta(part.text)]
        if part.citations is not None:
            events += [CitationDelta(raw) for raw in _read_raws(part.citations)]
        return events
    return [RefusalDelta(part.text)] if type(part) is Refusal else []


def _whole_message(item: Item, raw: Raw) -> list[Event]:
    return [event for part in message_parts(item, raw) for event in _said(part)]


_read_raws = msgspec.json.Decoder(list[Raw]).decode

_TAKERS = {
    "response.created": ResponsesReader._created,
    "response.output_item.added": ResponsesReader._added,
    "response.output_item.done": ResponsesReader._item_done,
    "response.refusal.delta": ResponsesReader._refusal,
    "response.reasoning_summary_text.delta": ResponsesReader._summary,
    "response.reasoning_text.delta": ResponsesReader._reasoning,
    "response.function_call_arguments.delta": ResponsesReader._arguments,
    "response.function_call_arguments.done": ResponsesReader._arguments_done,
    "response.output_text.annotation.added": ResponsesReader._annotation,
    "response.completed": ResponsesReader._ended,
    "response.incomplete": ResponsesReader._ended,
    "response.failed": ResponsesReader._failed_response,
    "response.cancelled": ResponsesReader._failed_response,
    "error": ResponsesReader._error,
}
