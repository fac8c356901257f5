"""Writing a stream of OpenAI's chat completions, by its grammar: role, deltas, finish of each choice; usage, where it
was asked for; `[DONE]`. What is written beyond OpenAI's own fields is told of in `openai_chat.wire` and
`openai_chat.reply`; entries of lists have an `index`, without which OpenAI's own SDK cannot put a list together.

An answer that ends in an error ends the stream with an error, as a whole answer would be a 502.
"""

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from fastgw.call import Usage
from fastgw.dialects import errors as envelopes
from fastgw.dialects import framing
from fastgw.dialects.hub import (
    CitationDelta,
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
from fastgw.dialects.openai_chat import errors, wire
from fastgw.dialects.openai_chat.wire import NAME
from fastgw.errors import GatewayError


class _StartOut(Struct):
    index: int
    id: str
    type: str
    function: wire.Function
    extra_content: dict[str, dict[str, str]] | UnsetType = UNSET


class _StartsOut(Struct):
    tool_calls: list[_StartOut]


class _ThinkOut(Struct):
    reasoning_details: list[wire.Detail]
    reasoning_content: str | UnsetType = UNSET


class _SignOut(Struct):
    extra_content: dict[str, dict[str, str]] | UnsetType


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
# The same bytes as `_ThinkOut` gives for more of a run of thinking.
_THOUGHT = (
    b'"delta":{"reasoning_details":[{"type":"reasoning.text","text":%b,"index":%d}],"reasoning_content":%b}' + _PLAIN
)
_FRAGMENT = b'"delta":{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' + _PLAIN


class _Told:
    """What has been written of one choice.

    `tools`: hub index → wire index; `used`: wire indices given out; `size`: characters of text; `cited`: where the text
    begins that the next citation is of; `fresh`: no citation has come since the last text. `flows`: text has just been
    written, so that more of it needs no look at the rest and stands between `before` and `behind`.
    """

    __slots__ = (
        "annotations",
        "before",
        "behind",
        "citations",
        "cited",
        "flows",
        "fresh",
        "head",
        "size",
        "stopped",
        "thinking",
        "thoughts",
        "tools",
        "used",
        "written",
    )

    def __init__(self, index: int, opening: bytes, closing: bytes) -> None:
        self.head = b'{"index":%d,' % index
        self.before = opening + self.head + b'"delta":{"content":'
        self.behind = b"}" + _PLAIN + closing
        self.flows = False
        self.tools: dict[int, int] = {}
        self.used = 0
        self.written: set[int] = set()
        self.thoughts = 0
        self.thinking = False
        self.size = 0
        self.cited = 0
        self.fresh = True
        self.annotations = 0
        self.citations = 0
        self.stopped = False


class ChatWriter:
    """Writes one stream to a client."""

    __slots__ = ("_choices", "_close", "_model", "_open", "_over", "_stream_usage", "_usage")

    def __init__(self, *, model: str, stream_usage: bool) -> None:
        self._model = model
        self._stream_usage = stream_usage
        self._usage: Usage | None = None
        self._choices: dict[int, _Told] = {}
        self._over = False
        self._open = b""
        # Where usage was asked for, every other chunk says that it has none.
        self._close = b'],"usage":null}\n\n' if stream_usage else b"]}\n\n"

    def feed(self, event: Event) -> bytes:
        """See `codec.Writer.feed`."""
        if self._over:
            return b""
        if type(event) is TextDelta:
            told, text = self._choices.get(event.choice), event.text
            if told is None or not told.flows or not text or event.logprobs is not None or event.signature is not None:
                return self._text(event)
            told.size += len(text)
            return told.before + _encode(text) + told.behind
        write = _WRITERS.get(type(event))
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
        if start.service_tier in wire.TIERS:
            head.service_tier = wire.TIERS[start.service_tier]
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
        told = self._choices[index] = _Told(index, self._open, self._close)
        return told, self._open + told.head + _ROLE + self._close

    def _text(self, event: TextDelta) -> bytes:
        index = event.choice
        told = self._choices.get(index)
        first = b""
        if told is None:
            told, first = self._told(index)
        if told.stopped:
            return first
        told.thinking = False
        text, logprobs = event.text, event.logprobs
        if event.signature is not None:
            said = self._text(TextDelta(text, index, logprobs))
            return first + said + self._delta(index, _SignOut(wire.sealed(event.signature)))
        if text:
            if not told.fresh:
                told.fresh = True
                told.cited = told.size
            told.size += len(text)
            told.flows = True
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
        if event.signature is None and event.redacted is None:
            if not event.text:
                return first
            if told.thinking and not told.stopped:
                text = _encode(event.text)
                return self._open + told.head + _THOUGHT % (text, told.thoughts - 1, text) + self._close
        if not told.thinking or event.redacted is not None:
            told.thoughts += 1
        told.flows = False
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
        if told.stopped:
            return b""
        fragment = _FRAGMENT % (told.tools[event.index], _encode(event.fragment))
        return self._open + told.head + fragment + self._close

    def _cite(self, event: CitationDelta) -> bytes:
        """A citation is of the text since the last one; the stream does not say more closely where it begins."""
        told, first = self._told(event.choice)
        told.fresh = told.flows = False
        annotation = wire.citation_out(event.raw, told.cited, told.size)
        if annotation is not None:
            annotation.index = told.annotations
            told.annotations += 1
            return first + self._delta(event.choice, _CiteOut([annotation]))
        try:
            raw: dict[str, Any] = dict(wire.read_raws(event.raw))
        except wire.UNREADABLE:
            return first
        raw["index"] = told.citations
        told.citations += 1
        return first + self._delta(event.choice, _CiteOut(citations=[raw]))

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
        told.stopped, told.flows = True, False
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
