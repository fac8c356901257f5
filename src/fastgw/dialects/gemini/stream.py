"""Streams of Gemini: frames that are each a whole GenerateContentResponse.

Reading: there is no end mark; the stream is complete when every answer that was begun has said why it ended, and cut
otherwise. A generated image or file comes as an OpaqueDelta, since the hub's streams have no event for it.

Writing: calls go out whole, in their order, as soon as their arguments are; the reasons for the end go out in the very
last frame, with the last word on usage, since clients read the stream's end from there. Usage stands in every frame
once it is known.
"""

from msgspec import Raw

from fastgw.call import Usage
from fastgw.dialects.gemini import wire
from fastgw.dialects.gemini.errors import read_stream_error, write_failure
from fastgw.dialects.gemini.partial import PartialArguments
from fastgw.dialects.gemini.reply import (
    add_grounding,
    created_at,
    opaque_kind,
    read_citations,
    read_logprobs,
    read_response,
    read_usage,
    reason_of,
    stop_of,
    write_call,
    write_citations,
    write_logprobs,
    write_thinking,
    write_usage,
)
from fastgw.dialects.gemini.wire import (
    MAX_ARGUMENTS,
    NAME,
    UNREADABLE,
    Candidate,
    Content,
    Grounding,
    Part,
    Response,
    arguments_text,
    as_object,
    encode,
    made_up_id,
    read_plain,
    signature_in,
    signature_out,
)
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
    StopReason,
    TextDelta,
    ThinkDelta,
    ToolDelta,
    ToolStart,
    UsageSeen,
    merge_usage,
)
from fastgw.errors import GatewayError

MAX_CHOICES = 128
PLAIN_TRIES = 16
"""How often a frame that follows plain text may turn out to be another before this is no longer tried."""
BEFORE = b'data: {"candidates":[{"content":{"parts":[{"text":'


class _Answer:
    """What one candidate has said so far."""

    __slots__ = ("calls", "cited", "partial", "stopped")

    def __init__(self) -> None:
        self.calls = 0
        self.cited: set[bytes] = set()
        self.partial: PartialArguments | None = None
        self.stopped = False


class Reader:
    """See `codec.Reader`. `_plain`: the last frame was plain text, so that the next is tried as such."""

    __slots__ = ("_answers", "_blocked", "_failed", "_id", "_plain", "_started", "_tries", "_usage")

    def __init__(self) -> None:
        self._answers: dict[int, _Answer] = {}
        self._blocked = self._failed = self._started = False
        self._id = ""
        self._plain = False
        self._tries = PLAIN_TRIES
        self._usage: Usage | None = None

    def feed(self, name: str, data: bytes) -> list[Event]:
        """See `codec.Reader`."""
        if self._plain:
            try:
                frame = read_plain(data)
            except UNREADABLE:
                self._plain = False
                self._tries -= 1
            else:
                (candidate,) = frame.candidates
                (part,) = candidate.content.parts
                answer = self._answers.get(candidate.index)
                if answer is not None and not part.thought and part.text:
                    said = TextDelta(part.text, candidate.index)
                    seen = self._used(frame.usage_metadata)
                    return [said] if seen is None else [UsageSeen(seen), said]
        events = self._frame(data)
        self._plain = bool(events) and type(events[-1]) is TextDelta and self._tries > 0
        return events

    def _used(self, usage: wire.Usage | None) -> Usage | None:
        """What a frame says of usage, None where that is nothing new."""
        seen = read_usage(usage) if usage is not None else None
        if seen is None or seen == self._usage:
            return None
        self._usage = seen
        return seen

    def _frame(self, data: bytes) -> list[Event]:
        """A frame of any kind."""
        frame = read_response(data)
        if frame.error:
            self._failed = True
            return [Fail(read_stream_error(frame.error))]
        events: list[Event] = []
        if not self._started:
            self._start(frame, events)
        if (seen := self._used(frame.usage_metadata)) is not None:
            events.append(UsageSeen(seen))
        if frame.candidates is not None:
            for place, candidate in enumerate(frame.candidates):
                self._candidate(candidate, place if candidate.index is None else candidate.index, events)
        if frame.prompt_feedback is not None and frame.prompt_feedback.block_reason and not self._answers:
            self._block(frame.prompt_feedback, events)
        return events

    def end(self) -> list[Event]:
        """See `codec.Reader`."""
        answers = self._answers.values()
        complete = self._blocked or (bool(answers) and all(answer.stopped for answer in answers))
        return [Done()] if complete and not self._failed else []

    def _start(self, frame: Response, events: list[Event]) -> None:
        if frame.candidates is None and frame.prompt_feedback is None and frame.usage_metadata is None:
            return
        self._started = True
        self._id = frame.response_id or ""
        events.append(Start(self._id, frame.model_version or "", created_at(frame.create_time)))

    def _block(self, feedback: wire.PromptFeedback, events: list[Event]) -> None:
        if not self._blocked:
            self._blocked = True
            if feedback.block_reason_message:
                events.append(RefusalDelta(feedback.block_reason_message))
            events.append(Stop("content_filter", 0, feedback.block_reason))

    def _candidate(self, candidate: Candidate, index: int, events: list[Event]) -> None:
        answer = self._answers.get(index)
        if answer is None:
            if len(self._answers) >= MAX_CHOICES:
                raise ValueError(f"more than {MAX_CHOICES} candidates")
            answer = self._answers[index] = _Answer()
        logprobs = read_logprobs(candidate.logprobs_result) if candidate.logprobs_result is not None else None
        if candidate.content is not None and candidate.content.parts is not None:
            for part in candidate.content.parts:
                text = part.text
                if text is not None and part.thought_signature is None and not part.thought:
                    if text:
                        events.append(TextDelta(text, index, logprobs))
                        logprobs = None
                else:
                    self._part(part, index, answer, events)
        if logprobs is not None:
            events.append(TextDelta("", index, logprobs))
        if candidate.grounding_metadata is not None or candidate.citation_metadata is not None:
            for found in read_citations(candidate):
                if found not in answer.cited:
                    answer.cited.add(found)
                    events.append(CitationDelta(Raw(found), index))
        reason = candidate.finish_reason
        if reason and not answer.stopped:
            self._close(index, answer, events)
            stop = stop_of(reason, answer.calls > 0)
            if stop is not None:
                answer.stopped = True
                events.append(Stop(stop, index, reason))

    def _part(self, part: Part, index: int, answer: _Answer, events: list[Event]) -> None:
        """A part that is more than plain text."""
        if part.function_call is not None:
            self._call(part, part.function_call, index, answer, events)
        elif part.text is not None or (part.thought_signature is not None and part.inline_data is None):
            signature, redacted = signature_in(part.thought_signature) if part.thought_signature else (None, None)
            if part.thought:
                if part.text or signature or redacted:
                    events.append(ThinkDelta(part.text or "", signature, redacted, index))
            elif part.text or signature:
                events.append(TextDelta(part.text or "", index, None, signature))
        else:
            kind = "inlineData" if part.inline_data is not None else "fileData" if part.file_data is not None else None
            kind = kind or opaque_kind(part)
            if kind is not None:
                events.append(OpaqueDelta(NAME, kind, Raw(encode(part))))

    def _call(self, part: Part, call: wire.FunctionCall, index: int, answer: _Answer, events: list[Event]) -> None:
        if answer.partial is None or call.name:
            self._close(index, answer, events)
            text = arguments_text(call)
            name = call.name or ""
            call_id = call.id or made_up_id(self._id or text, index, answer.calls, name)
            signature = signature_in(part.thought_signature)[0] if part.thought_signature else None
            events.append(ToolStart(answer.calls, call_id, name, index, signature))
            answer.calls += 1
            if call.will_continue or call.partial_args:
                answer.partial = PartialArguments()
            elif text:
                events.append(ToolDelta(answer.calls - 1, text, index))
        if answer.partial is not None:
            if call.partial_args:
                answer.partial.feed(call.partial_args)
            if not call.will_continue:
                self._close(index, answer, events)

    def _close(self, index: int, answer: _Answer, events: list[Event]) -> None:
        """The call whose arguments came in pieces is over: they can be told."""
        if answer.partial is not None:
            events.append(ToolDelta(answer.calls - 1, answer.partial.text(), index))
            answer.partial = None


class _Open:
    """A call whose arguments are still coming."""

    __slots__ = ("fragments", "id", "name", "signature", "size")

    def __init__(self, event: ToolStart) -> None:
        self.id = event.id
        self.name = event.name
        self.signature = event.signature
        self.fragments: list[str] = []
        self.size = 0


class _Shown:
    """What a client has been shown of one answer. `length` counts bytes of text, `block` where the last text began.

    Between `BEFORE` and `behind` stands a text.
    """

    __slots__ = ("behind", "block", "calls", "grounding", "length", "stop")

    def __init__(self, index: int) -> None:
        self.behind = b'}],"role":"model"},"index":%d}' % index
        self.block = 0
        self.calls: dict[int, _Open] = {}
        self.grounding = Grounding([], [])
        self.length = 0
        self.stop: tuple[StopReason, str | None] | None = None


class Writer:
    """See `codec.Writer`. Frames end in CRLF, as Google's do."""

    __slots__ = ("_failed", "_id", "_model", "_shown", "_tail", "_usage")

    def __init__(self, model: str) -> None:
        self._failed = False
        self._id = ""
        self._model = model
        self._shown: dict[int, _Shown] = {}
        self._usage: Usage | None = None
        self._tail = b""
        self._said()

    def feed(self, event: Event) -> bytes:
        """See `codec.Writer`."""
        if type(event) is TextDelta:
            return self._text(event)
        kind = type(event)
        if kind is ThinkDelta:
            return self._think(event)  # type: ignore[arg-type]
        if kind is ToolDelta:
            return self._fragment(event)  # type: ignore[arg-type]
        if kind is ToolStart:
            shown = self._answer(event.choice)  # type: ignore[union-attr]
            ready = self._ready(shown, event.choice)  # type: ignore[union-attr]
            shown.calls[event.index] = _Open(event)  # type: ignore[union-attr,arg-type]
            return ready
        if kind is UsageSeen:
            self._usage = merge_usage(self._usage, event.usage)  # type: ignore[union-attr]
            self._said()
        elif kind is Stop:
            shown = self._answer(event.choice)  # type: ignore[union-attr]
            shown.stop = (event.reason, event.native)  # type: ignore[union-attr]
            return self._ready(shown, event.choice, complete=True)  # type: ignore[union-attr]
        elif kind is Start:
            self._id = event.id or self._id  # type: ignore[union-attr]
            self._model = event.model or self._model  # type: ignore[union-attr]
            self._said()
        elif kind is RefusalDelta:
            return self._text(TextDelta(event.text, event.choice))  # type: ignore[union-attr]
        elif kind is CitationDelta:
            self._cite(event)  # type: ignore[arg-type]
        elif kind is OpaqueDelta and event.dialect == NAME:  # type: ignore[union-attr]
            return self._parts([event.raw], 0)  # type: ignore[union-attr,list-item]
        elif kind is Fail:
            return self.fail(event.problem, "")  # type: ignore[union-attr]
        return b""

    def end(self) -> bytes:
        """See `codec.Writer`: the frame that says why each answer ended."""
        if self._failed:
            return b""
        if not self._shown:
            self._answer(0)
        before = [self._ready(shown, index, complete=True) for index, shown in self._shown.items()]
        last = [self._last(index, self._shown[index]) for index in sorted(self._shown)]
        return b"".join(before) + self._frame(last)

    def fail(self, error: GatewayError | Problem, call_id: str) -> bytes:
        """See `codec.Writer`."""
        self._failed = True
        return b"data: " + write_failure(error, call_id) + b"\r\n\r\n"

    def _said(self) -> None:
        """What stands behind the candidates in every frame."""
        usage = write_usage(self._usage) if self._usage is not None else None
        rest = encode(Response(None, None, usage, self._model, self._id or None))
        self._tail = b"]," + rest[1:] + b"\r\n\r\n"

    def _answer(self, index: int) -> _Shown:
        shown = self._shown.get(index)
        if shown is None:
            shown = self._shown[index] = _Shown(index)
        return shown

    def _frame(self, candidates: list[Candidate]) -> bytes:
        return b'data: {"candidates":' + encode(candidates)[:-1] + self._tail

    def _parts(self, parts: list[Part], index: int) -> bytes:
        return self._frame([Candidate(Content(parts, "model"), None, index)])

    def _text(self, event: TextDelta) -> bytes:
        shown = self._shown.get(event.choice) or self._answer(event.choice)
        before = self._ready(shown, event.choice) if shown.calls else b""
        said = event.text
        shown.length += len(said) if said.isascii() else len(said.encode())
        if event.logprobs is None and event.signature is None:
            return before + BEFORE + encode(said) + shown.behind + self._tail if said else before
        part = Part(event.text, None, signature_out(event.signature))
        candidate = Candidate(Content([part], "model"), None, event.choice)
        if event.logprobs is not None:
            candidate.logprobs_result = write_logprobs(event.logprobs)
        return before + self._frame([candidate])

    def _think(self, event: ThinkDelta) -> bytes:
        shown = self._answer(event.choice)
        shown.block = shown.length
        part = write_thinking(event.text, event.signature, event.redacted)
        if not part.text and part.thought_signature is None:
            return b""
        return self._ready(shown, event.choice) + self._parts([part], event.choice)

    def _fragment(self, event: ToolDelta) -> bytes:
        call = self._answer(event.choice).calls.get(event.index)
        if call is None:
            return b""  # white space behind arguments that were complete
        call.size += len(event.fragment)
        if call.size > MAX_ARGUMENTS:
            raise ValueError("the arguments of a call are larger than 8 MiB")
        call.fragments.append(event.fragment)
        return b""

    def _ready(self, shown: _Shown, index: int, *, complete: bool = False) -> bytes:
        """The calls that are over: up to the first whose arguments may go on, or all where the answer is `complete`."""
        parts: list[Part] = []
        for number, call in list(shown.calls.items()):
            text = "".join(call.fragments)
            if not complete and (not text or as_object(text) is None):
                break
            parts.append(write_call(call.id, call.name, text, call.signature))
            del shown.calls[number]
        if not parts:
            return b""
        shown.block = shown.length
        return self._parts(parts, index)

    def _cite(self, event: CitationDelta) -> None:
        shown = self._answer(event.choice)
        more = write_citations([event.raw], shown.block, shown.length)
        if more is not None:
            add_grounding(shown.grounding, more)

    def _last(self, index: int, shown: _Shown) -> Candidate:
        stop, native = shown.stop or ("error", None)
        grounding = shown.grounding if shown.grounding.grounding_chunks else None
        content = Content([Part("")], "model")
        return Candidate(content, reason_of(stop, native), index, grounding_metadata=grounding)
