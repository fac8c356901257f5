"""Writing the streams of OpenAI's Responses API.

One item is open at a time. Fragments of a call that arrive while another call is open wait until that one is whole (its
arguments are a JSON value, or something else begins): items never interleave, and nothing is lost.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from fastgw.call import Usage
from fastgw.dialects.hub import (
    CitationDelta,
    Event,
    Fail,
    OpaqueDelta,
    Problem,
    RefusalDelta,
    Start,
    Stop,
    StopReason,
    TextDelta,
    ThinkDelta,
    Thinking,
    ToolDelta,
    ToolStart,
    UsageSeen,
    merge_usage,
)
from fastgw.dialects.openai_responses import frames
from fastgw.dialects.openai_responses.error import error_out
from fastgw.dialects.openai_responses.items import (
    CALL,
    NAME,
    SIGNED,
    UNREADABLE,
    CallItem,
    MessageItem,
    OutputRefusal,
    OutputText,
    ReasoningItem,
    SummaryText,
    annotation,
    chat_logprobs,
    own_logprobs,
    unseal,
    usage_out,
    wrap,
)
from fastgw.dialects.openai_responses.reply import ResponseOut, finish, item_id, response_id
from fastgw.errors import GatewayError

_encode = msgspec.json.encode
_is_json = msgspec.json.Decoder(Raw).decode
sse = frames.sse


class _Text(Struct):
    """The open text part. `at`: where it stands, as `frames.TEXT_PIECE` has it."""

    at: bytes
    said: list[str] = []
    annotations: list[object] = []
    logprobs: list[bytes] = []
    length: int = 0
    cited: int = 0


class _Call(Struct):
    """A call, open or waiting. `said` is what has been sent, `waiting` what has not."""

    start: ToolStart
    said: list[str] = []
    waiting: list[str] = []


class ResponsesWriter:
    """See `Writer`."""

    def __init__(self, *, model: str) -> None:
        self._model = model
        self._response: ResponseOut | None = None
        self._sequence = 0
        self._output: list[object] = []
        self._message: MessageItem | None = None
        self._text: _Text | None = None
        self._refusal: list[str] | None = None
        self._reasoning: ReasoningItem | None = None
        self._thoughts: list[str] = []
        self._call: _Call | None = None
        self._calls: dict[int, _Call] = {}
        self._queue: list[_Call] = []
        self._id = ""
        self._part = 0
        self._stop: StopReason | None = None
        self._usage: Usage | None = None
        self._over = False

    def feed(self, event: Event) -> bytes:
        """See `Writer.feed`. Only the first choice is this format's to tell."""
        if type(event) is TextDelta and event.choice == 0 and event.logprobs is None and self._text is not None:
            return self._piece(self._text, event.text)
        take = _TAKERS.get(type(event))
        if take is None or self._over or getattr(event, "choice", None):
            return b""
        if self._response is None and type(event) is not Start and type(event) is not Fail:
            return self._start(Start()) + take(self, event)
        return take(self, event)

    def end(self) -> bytes:
        """The terminal event, with the whole response."""
        if self._over:
            return b""
        out = b"" if self._response is not None else self._start(Start())
        assert self._response is not None
        out += self._close("incomplete" if self._stop == "length" else "completed")
        self._over = True
        finish(self._response, self._stop or "stop", None)
        kind = _ENDS[self._response.status]
        return out + sse(kind(self._next(), self._whole(self._response)))

    def fail(self, error: GatewayError | Problem, call_id: str) -> bytes:
        """`error`, then `response.failed` where the response has begun: the order in which OpenAI tells it."""
        if self._over:
            return b""
        self._over, self._text = True, None
        told = error_out(error)
        out = sse(frames.ErrorEvent(self._next(), told.code, told.message, told.param, told))
        if self._response is None:
            return out
        finish(self._response, "error", told)
        return out + sse(frames.FailedEnd(self._next(), self._whole(self._response)))

    # --- the frame around it all

    def _next(self) -> int:
        number = self._sequence
        self._sequence = number + 1
        return number

    def _whole(self, response: ResponseOut) -> ResponseOut:
        response.output = self._output
        response.usage = usage_out(self._usage)
        return response

    def _start(self, event: Start) -> bytes:
        if self._response is not None:
            return b""
        tier = event.service_tier or "default"
        own_id, model = response_id(event.id), event.model or self._model
        self._response = ResponseOut(own_id, event.created, "in_progress", model, [], service_tier=tier)
        created = sse(frames.Created(self._next(), self._response))
        return created + sse(frames.InProgress(self._next(), self._response))

    def _take_start(self, event: Start) -> bytes:
        return self._start(event)

    def _stopped(self, event: Stop) -> bytes:
        self._stop = event.reason
        return self._close("incomplete" if event.reason == "length" else "completed")

    def _used(self, event: UsageSeen) -> bytes:
        self._usage = merge_usage(self._usage, event.usage)
        return b""

    def _failure(self, event: Fail) -> bytes:
        return self.fail(event.problem, "")

    def _new_id(self, prefix: str) -> str:
        assert self._response is not None
        self._id = item_id(prefix, self._response.id, len(self._output))
        return self._id

    def _close(self, status: str) -> bytes:
        """Ends whatever is open, and tells of the calls that waited."""
        out = self._close_message(status) + self._close_reasoning(None)
        while self._call is not None:
            out += self._close_call()
        return out

    # --- messages

    def _open_message(self) -> bytes:
        if self._message is not None:
            return b""
        out = self._close("completed")
        self._message = MessageItem("assistant", [], self._new_id("msg"), "in_progress")
        self._part = 0
        return out + sse(frames.ItemAdded(self._next(), len(self._output), self._message))

    def _close_message(self, status: str) -> bytes:
        message = self._message
        if message is None:
            return b""
        out = self._close_part()
        message.status = status
        index = len(self._output)
        self._output.append(message)
        self._message = None
        return out + sse(frames.ItemDone(self._next(), index, message))

    def _close_part(self) -> bytes:
        at = (self._id, len(self._output), self._part)
        if self._text is not None:
            text, self._text = self._text, None
            logprobs = own_logprobs(chat_logprobs(Raw(b"[" + b",".join(text.logprobs) + b"]")))
            part: OutputText | OutputRefusal = OutputText("".join(text.said), text.annotations, logprobs)
            out = sse(frames.TextDone(self._next(), *at, part.text, logprobs))  # type: ignore[union-attr]
        elif self._refusal is not None:
            said, self._refusal = self._refusal, None
            part = OutputRefusal("".join(said))
            out = sse(frames.RefusalDone(self._next(), *at, part.refusal))
        else:
            return b""
        assert self._message is not None
        self._message.content.append(part)
        self._part += 1
        return out + sse(frames.PartDone(self._next(), *at, part))

    def _open_text(self) -> bytes:
        out = self._open_message() + self._close_part()
        self._text = _Text(frames.place(self._id, len(self._output), self._part))
        part = OutputText("", [], [])
        return out + sse(frames.PartAdded(self._next(), self._id, len(self._output), self._part, part))

    def _piece(self, open_text: _Text, text: str) -> bytes:
        if not text:
            return b""
        open_text.said.append(text)
        open_text.length += len(text)
        number = self._sequence
        self._sequence = number + 1
        return frames.TEXT_PIECE % (number, open_text.at, _encode(text))

    def _text_delta(self, event: TextDelta) -> bytes:
        if not event.text and event.logprobs is None:
            return b""
        out = self._open_text() if self._text is None else b""
        assert self._text is not None
        text, logprobs = self._text, own_logprobs(event.logprobs)
        if isinstance(logprobs, Raw):
            inside = bytes(logprobs).strip()[1:-1].strip()
            if inside:
                text.logprobs.append(inside)
        text.said.append(event.text)
        text.length += len(event.text)
        at = (self._id, len(self._output), self._part)
        return out + sse(frames.TextPiece(self._next(), *at, event.text, logprobs))

    def _refusal_delta(self, event: RefusalDelta) -> bytes:
        if not event.text:
            return b""
        out = b""
        if self._refusal is None:
            out = self._open_message() + self._close_part()
            self._refusal = []
            part = OutputRefusal("")
            out += sse(frames.PartAdded(self._next(), self._id, len(self._output), self._part, part))
        self._refusal.append(event.text)
        at = (self._id, len(self._output), self._part)
        return out + sse(frames.RefusalPiece(self._next(), *at, event.text))

    def _citation(self, event: CitationDelta) -> bytes:
        """A citation rests on the text since the one before it; one before any text has nothing to rest on yet."""
        out = self._open_text() if self._text is None else b""
        assert self._text is not None
        text = self._text
        found = annotation(event.raw, text.cited, text.length)
        if found is None:
            return out
        text.cited = text.length
        text.annotations.append(found)
        at = (self._id, len(self._output), self._part, len(text.annotations) - 1)
        return out + sse(frames.AnnotationAdded(self._next(), *at, found))

    # --- reasoning

    def _think_delta(self, event: ThinkDelta) -> bytes:
        out = b""
        if event.text:
            out = self._open_reasoning()
            at = (self._id, len(self._output), 0)
            if not self._thoughts:
                out += sse(frames.SummaryAdded(self._next(), *at, SummaryText("")))
            self._thoughts.append(event.text)
            out += sse(frames.SummaryPiece(self._next(), *at, event.text))
        if event.signature is not None or event.redacted is not None:
            out += self._open_reasoning() + self._close_reasoning(Thinking("", event.signature, event.redacted))
        return out

    def _open_reasoning(self) -> bytes:
        if self._reasoning is not None:
            return b""
        out = self._close("completed")
        self._reasoning = ReasoningItem([], self._new_id("rs"))
        self._thoughts = []
        return out + sse(frames.ItemAdded(self._next(), len(self._output), self._reasoning))

    def _close_reasoning(self, signed: Thinking | None) -> bytes:
        item = self._reasoning
        if item is None:
            return b""
        self._reasoning = None
        out, index = b"", len(self._output)
        if self._thoughts:
            whole = SummaryText("".join(self._thoughts))
            item.summary.append(whole)
            out = sse(frames.SummaryTextDone(self._next(), self._id, index, 0, whole.text))
            out += sse(frames.SummaryDone(self._next(), self._id, index, 0, whole))
        if signed is not None:
            # The item has its id already: the whole seal, and not only what is in it, carries the other one back.
            sealed = unseal(signed.signature) is not None
            encrypted = f"{SIGNED}{signed.signature}" if sealed else wrap(signed)[1]
            if encrypted is not None:
                item.encrypted_content = encrypted
        self._output.append(item)
        return out + sse(frames.ItemDone(self._next(), index, item))

    # --- calls

    def _tool_start(self, event: ToolStart) -> bytes:
        call = self._calls[event.index] = _Call(event)
        if self._call is None:
            return self._close("completed") + self._open_call(call)
        self._queue.append(call)
        return self._advance()

    def _tool_delta(self, event: ToolDelta) -> bytes:
        call = self._calls.get(event.index)
        if call is None or not event.fragment:
            return b""
        if call is not self._call:
            call.waiting.append(event.fragment)
            return self._advance()
        call.said.append(event.fragment)
        out = sse(frames.ArgumentsPiece(self._next(), self._id, len(self._output), event.fragment))
        return out + self._advance() if self._queue else out

    def _advance(self) -> bytes:
        """Ends the open call if another waits and its arguments are whole."""
        out = b""
        while self._queue and self._call is not None and _whole_json("".join(self._call.said)):
            out += self._close_call()
        return out

    def _open_call(self, call: _Call) -> bytes:
        out, start = b"", call.start
        if start.signature is not None:
            carrier = ReasoningItem([], self._new_id("rs"), CALL + start.signature)
            out = self._at_once(carrier)
        self._call = call
        item = CallItem(start.id, start.name, "", self._new_id("fc"), "in_progress")
        out += sse(frames.ItemAdded(self._next(), len(self._output), item))
        waiting, call.waiting = call.waiting, []
        for fragment in waiting:
            call.said.append(fragment)
            out += sse(frames.ArgumentsPiece(self._next(), self._id, len(self._output), fragment))
        return out

    def _close_call(self) -> bytes:
        """Ends the open call and opens the next one that waits. A call without arguments has the empty object."""
        call, self._call = self._call, None
        assert call is not None
        out, index = b"", len(self._output)
        arguments = "".join(call.said)
        if not arguments:
            arguments = "{}"
            out = sse(frames.ArgumentsPiece(self._next(), self._id, index, arguments))
        out += sse(frames.ArgumentsDone(self._next(), self._id, index, arguments))
        self._calls = {key: other for key, other in self._calls.items() if other is not call}
        out += self._done(CallItem(call.start.id, call.start.name, arguments, self._id, "completed"))
        return out + self._open_call(self._queue.pop(0)) if self._queue else out

    # --- items in one piece

    def _done(self, item: object) -> bytes:
        self._output.append(item)
        return sse(frames.ItemDone(self._next(), len(self._output) - 1, item))

    def _at_once(self, item: object) -> bytes:
        return sse(frames.ItemAdded(self._next(), len(self._output), item)) + self._done(item)

    def _opaque(self, event: OpaqueDelta) -> bytes:
        """Items only this dialect knows, when they are whole; those of others are not for this client."""
        if event.dialect != NAME or event.kind != "response.output_item.done":
            return b""
        return self._close("completed") + self._at_once(event.raw)


_ENDS: dict[str, type[frames.Completed] | type[frames.IncompleteEnd] | type[frames.FailedEnd]] = {
    "completed": frames.Completed,
    "incomplete": frames.IncompleteEnd,
    "failed": frames.FailedEnd,
}


def _whole_json(text: str) -> bool:
    try:
        _is_json(text)
    except UNREADABLE:
        return False
    return True


_TAKERS: dict[type, Callable[[ResponsesWriter, Any], bytes]] = {
    Start: ResponsesWriter._take_start,
    TextDelta: ResponsesWriter._text_delta,
    RefusalDelta: ResponsesWriter._refusal_delta,
    ThinkDelta: ResponsesWriter._think_delta,
    ToolStart: ResponsesWriter._tool_start,
    ToolDelta: ResponsesWriter._tool_delta,
    CitationDelta: ResponsesWriter._citation,
    OpaqueDelta: ResponsesWriter._opaque,
    Stop: ResponsesWriter._stopped,
    UsageSeen: ResponsesWriter._used,
    Fail: ResponsesWriter._failure,
}
