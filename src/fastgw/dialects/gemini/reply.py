"""Whole replies, and what they share with the frames of a stream: usage, reasons, log probabilities, citations.

Usage: Gemini's `promptTokenCount` includes the cached tokens and excludes the results of its own tools, its
`candidatesTokenCount` excludes the thoughts; the hub's input and output include all of these.

Citations are kept in Anthropic's shape (`web_search_result_location`), on the last text: Gemini tells of them when the
text is over. Parts that only Gemini understands (its own code execution, say) are Opaque.
"""

from datetime import datetime

import msgspec
from msgspec import Raw, Struct

from fastgw.call import Usage
from fastgw.dialects.gemini import wire
from fastgw.dialects.gemini.media import from_blob, from_file, to_part
from fastgw.dialects.gemini.wire import (
    BROKEN_ARGUMENTS,
    NAME,
    NOTHING,
    Candidate,
    Content,
    FunctionCall,
    Grounding,
    GroundingChunk,
    GroundingSupport,
    LogprobsCandidate,
    LogprobsResult,
    Part,
    Response,
    Segment,
    TopCandidates,
    Web,
    arguments_text,
    as_object,
    encode,
    made_up_id,
    redacted_out,
    signature_in,
    signature_out,
)
from fastgw.dialects.hub import (
    Audio,
    Choice,
    Document,
    Image,
    Opaque,
    Refusal,
    Reply,
    StopReason,
    Target,
    Text,
    Thinking,
    ToolCall,
)
from fastgw.dialects.hub import Part as HubPart

FILTERED: tuple[str, ...] = (
    "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION", "MODEL_ARMOR",
)  # fmt: skip
FAILED: tuple[str, ...] = (
    "LANGUAGE", "OTHER", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "NO_IMAGE",
    "IMAGE_OTHER", "MISSING_THOUGHT_SIGNATURE", "MALFORMED_RESPONSE", "ESCALATION", "PUP_LIMITED_DISABLED",
)  # fmt: skip
STOPS: dict[str, StopReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    **dict.fromkeys(FILTERED, "content_filter"),
    **dict.fromkeys(FAILED, "error"),
}
"""What Gemini's reasons mean; STOP with calls is `tool_calls`, and a reason of tomorrow is `error`."""
REASONS: dict[str, str] = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "error": "OTHER",
}
_OPAQUE = ("executable_code", "code_execution_result", "tool_call", "tool_response")
_MEDIA = frozenset((Image, Audio, Document))


class _Cited(Struct):
    """Anthropic's citation of a page."""

    type: str = "web_search_result_location"
    cited_text: str | None = None
    url: str | None = None
    title: str | None = None
    encrypted_index: str | None = None


class _Top(Struct):
    """OpenAI's token with its log probability."""

    token: str
    logprob: Raw
    bytes: list[int] | None = None


class _Token(Struct):
    token: str
    logprob: Raw
    bytes: list[int] | None = None
    top_logprobs: list[_Top] = []


class _Logprobs(Struct):
    content: list[_Token] | None = None
    refusal: list[_Token] | None = None


_read_logprobs = msgspec.json.Decoder(_Logprobs).decode
_read_cited = msgspec.json.Decoder(_Cited).decode
_NO_NUMBER = Raw(b"0.0")


def read_reply(body: bytes) -> Reply:
    """See `codec.Codec`. A prompt that was blocked is a choice that was filtered."""
    response = read_response(body)
    if response.candidates is None and response.prompt_feedback is None and response.usage_metadata is None:
        raise ValueError("neither candidates nor promptFeedback")
    answers = response.candidates or []
    choices = [_choice(one, place if one.index is None else one.index, response) for place, one in enumerate(answers)]
    if not choices and response.prompt_feedback is not None:
        choices.append(_blocked(response.prompt_feedback))
    usage = response.usage_metadata
    return Reply(
        response.response_id or "",
        response.model_version or "",
        choices,
        read_usage(usage) if usage is not None else None,
        created_at(response.create_time),
    )


def read_response(body: bytes) -> Response:
    """A reply or frame. Raises ValueError when it is none, or an error."""
    try:
        response = wire.read_response(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return response


def created_at(stamp: str | None) -> int:
    """Seconds since the epoch of Vertex's `createTime`, 0 when it is missing or cannot be read."""
    try:
        return int(datetime.fromisoformat(stamp).timestamp()) if stamp else 0
    except ValueError:
        return 0


def read_usage(usage: wire.Usage) -> Usage | None:
    """Gemini's usage as the hub counts; None when it counts nothing (`{trafficType}` alone, in Vertex streams)."""
    prompt, candidates = usage.prompt_token_count or 0, usage.candidates_token_count or 0
    thoughts, tools = usage.thoughts_token_count or 0, usage.tool_use_prompt_token_count or 0
    cached = usage.cached_content_token_count or 0
    if not (prompt or candidates or thoughts or tools):
        return None
    if prompt < 0 or candidates < 0 or thoughts < 0 or tools < 0 or cached < 0:
        return None
    return Usage(prompt + tools, candidates + thoughts, cached, 0, thoughts)


def write_usage(usage: Usage) -> wire.Usage:
    """The hub's usage as Gemini tells it."""
    return wire.Usage(
        usage.input,
        usage.cached or None,
        max(usage.output - usage.reasoning, 0),
        None,
        usage.reasoning or None,
        usage.input + usage.output,
    )


def stop_of(reason: str, calls: bool) -> StopReason | None:
    """The hub's reason for Gemini's; None for "unspecified", which says that it goes on."""
    if reason == "FINISH_REASON_UNSPECIFIED":
        return None
    stop = STOPS.get(reason, "error")
    return "tool_calls" if stop == "stop" and calls else stop


def reason_of(stop: StopReason | None, native: str | None) -> str:
    """Gemini's reason for the hub's: its own word where there is one that means the same."""
    if native is not None and native in STOPS and REASONS.get(stop or "stop") == REASONS[STOPS[native]]:
        return native
    return REASONS[stop or "stop"]


def _blocked(feedback: wire.PromptFeedback) -> Choice:
    reason = feedback.block_reason
    parts: list[HubPart] = [Refusal(feedback.block_reason_message)] if feedback.block_reason_message else []
    return Choice(parts, "content_filter", reason)


def _choice(candidate: Candidate, index: int, response: Response) -> Choice:
    parts: list[HubPart] = []
    calls = 0
    for part in (candidate.content.parts or ()) if candidate.content is not None else ():
        call = part.function_call
        if call is not None:
            seed = response.response_id or ""
            call_id = call.id or made_up_id(seed or arguments_text(call), index, calls, call.name or "")
            signature = signature_in(part.thought_signature)[0] if part.thought_signature else None
            parts.append(ToolCall(call_id, call.name or "", arguments_text(call), signature))
            calls += 1
        else:
            _add(parts, part)
    found = read_citations(candidate)
    if found:
        _cite(parts, found)
    reason = candidate.finish_reason
    return Choice(
        parts,
        stop_of(reason, calls > 0) if reason else None,
        reason,
        None,
        read_logprobs(candidate.logprobs_result) if candidate.logprobs_result is not None else None,
    )


def _add(parts: list[HubPart], part: Part) -> None:
    """One part of a reply that is no call: texts and thoughts in pieces are joined up to the next signature."""
    last = parts[-1] if parts else None
    if part.text is not None or (part.thought_signature is not None and part.inline_data is None):
        signature, redacted = signature_in(part.thought_signature) if part.thought_signature else (None, None)
        text = part.text or ""
        if part.thought:
            if type(last) is Thinking and last.signature is None and last.redacted is None:
                last.text += text
                last.signature, last.redacted = signature, redacted
            elif text or signature or redacted:
                parts.append(Thinking(text, signature, redacted))
        elif type(last) is Text and last.signature is None:
            last.text += text
            last.signature = signature
        elif text or signature:
            parts.append(Text(text, signature=signature))
    elif part.inline_data is not None:
        parts.append(from_blob(part.inline_data))
    elif part.file_data is not None:
        parts.append(from_file(part.file_data))
    else:
        kind = opaque_kind(part)
        if kind is not None:
            parts.append(Opaque(NAME, kind, Raw(encode(part))))


def opaque_kind(part: Part) -> str | None:
    """What a part that the hub has no noun for is, None when nothing is known of it."""
    found = next((name for name in _OPAQUE if getattr(part, name)), None)
    if found is None:
        return None
    first, *rest = found.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _cite(parts: list[HubPart], found: list[bytes]) -> None:
    last = next((part for part in reversed(parts) if type(part) is Text), None)
    if last is None:
        last = Text("")
        parts.append(last)
    last.citations = Raw(b"[" + b",".join(found) + b"]")


def read_citations(candidate: Candidate) -> list[bytes]:
    """The citations of a candidate, each in Anthropic's shape."""
    found: list[bytes] = []
    grounding = candidate.grounding_metadata
    if grounding is not None and grounding.grounding_chunks:
        chunks = grounding.grounding_chunks
        for support in grounding.grounding_supports or ():
            text = support.segment.text if support.segment is not None else None
            for at in support.grounding_chunk_indices or ():
                chunk = chunks[at] if 0 <= at < len(chunks) else GroundingChunk()
                page = chunk.web or chunk.retrieved_context or chunk.maps
                if page is not None:
                    found.append(_citation(text or "", page.uri or "", page.title))
    cited = candidate.citation_metadata
    if cited is not None:
        found += [
            _citation("", one.uri, one.title) for one in (cited.citation_sources or cited.citations or ()) if one.uri
        ]
    return found


def _citation(text: str, url: str, title: str | None) -> bytes:
    return encode(_Cited(cited_text=text, url=url, title=title, encrypted_index=""))


def write_citations(found: list[Raw], start: int, end: int) -> Grounding | None:
    """Grounding for citations in Anthropic's shape, of the text from byte `start` to `end`; those of pages only."""
    chunks: list[GroundingChunk] = []
    supports: list[GroundingSupport] = []
    for raw in found:
        try:
            cited = _read_cited(raw)
        except msgspec.DecodeError:
            continue
        if cited.url:
            supports.append(GroundingSupport(Segment(start, end, cited.cited_text or None), [len(chunks)]))
            chunks.append(GroundingChunk(Web(cited.url, cited.title)))
    return Grounding(chunks, supports) if chunks else None


def read_logprobs(result: LogprobsResult) -> Raw:
    """Log probabilities in OpenAI's shape, their numbers as they were written."""
    tops = result.top_candidates or []
    content = [
        _Token(
            one.token or "",
            one.log_probability or _NO_NUMBER,
            list((one.token or "").encode()),
            [
                _Top(top.token or "", top.log_probability or _NO_NUMBER, list((top.token or "").encode()))
                for top in (tops[at].candidates or () if at < len(tops) else ())
            ],
        )
        for at, one in enumerate(result.chosen_candidates or ())
    ]
    return Raw(encode(_Logprobs(content)))


def write_logprobs(raw: Raw) -> LogprobsResult | None:
    """OpenAI's log probabilities in Gemini's shape; None for what is not of that shape."""
    try:
        content = _read_logprobs(raw).content
    except msgspec.DecodeError:
        return None
    if content is None:
        return None
    return LogprobsResult(
        [LogprobsCandidate(one.token, NOTHING, one.logprob) for one in content],
        [
            TopCandidates([LogprobsCandidate(top.token, NOTHING, top.logprob) for top in one.top_logprobs])
            for one in content
        ],
    )


def write_reply(reply: Reply, *, model: str) -> bytes:
    """See `codec.Codec`."""
    candidates = [_candidate(choice, index) for index, choice in enumerate(reply.choices)]
    usage = write_usage(reply.usage) if reply.usage is not None else None
    return encode(Response(candidates, None, usage, reply.model or model, reply.id or None))


def _candidate(choice: Choice, index: int) -> Candidate:
    written: list[Part] = []
    cited: list[tuple[Raw, int, int]] = []
    length = 0
    for part in choice.parts:
        one = write_part(part)
        if one is None:
            continue
        written.append(one)
        if type(part) is Text:
            start, length = length, length + len(part.text.encode())
            if part.citations is not None:
                cited.append((part.citations, start, length))
    return Candidate(
        Content(written, "model"),
        reason_of(choice.stop, choice.native_stop),
        index,
        grounding_metadata=_grounding(cited),
        logprobs_result=write_logprobs(choice.logprobs) if choice.logprobs is not None else None,
    )


def _grounding(cited: list[tuple[Raw, int, int]]) -> Grounding | None:
    """The citations of all texts as one grounding."""
    whole = Grounding([], [])
    for raw, start, end in cited:
        try:
            found = wire.read_list(raw)
        except msgspec.DecodeError:
            continue
        part = write_citations(found, start, end)
        if part is not None:
            add_grounding(whole, part)
    return whole if whole.grounding_chunks else None


def add_grounding(whole: Grounding, more: Grounding) -> None:
    """`more` joined to `whole`, its indices moved behind those that are there."""
    assert whole.grounding_chunks is not None
    assert whole.grounding_supports is not None
    shift = len(whole.grounding_chunks)
    whole.grounding_chunks += more.grounding_chunks or []
    for support in more.grounding_supports or ():
        indices = [at + shift for at in support.grounding_chunk_indices or ()]
        whole.grounding_supports.append(GroundingSupport(support.segment, indices))


def write_part(part: HubPart) -> Part | None:
    """A part of the answer for a client; None for what only another dialect understands."""
    kind = type(part)
    if kind is Text:
        return Part(part.text, thought_signature=signature_out(part.signature))  # type: ignore[union-attr]
    if kind is ToolCall:
        return write_call(part.id, part.name, part.arguments, part.signature)  # type: ignore[union-attr,arg-type]
    if kind is Thinking:
        return write_thinking(part.text, part.signature, part.redacted)  # type: ignore[union-attr]
    if kind is Refusal:
        return Part(part.text)  # type: ignore[union-attr]
    if kind in _MEDIA:
        return to_part(part, Target("", features=frozenset(("fetch_urls",))))  # type: ignore[arg-type]
    if kind is Opaque and part.dialect == NAME:  # type: ignore[union-attr]
        return part.raw  # type: ignore[union-attr,return-value]
    return None


def write_thinking(text: str, signature: str | None, redacted: str | None) -> Part:
    """A thought for a client."""
    shown = signature_out(signature) if redacted is None else redacted_out(redacted)
    return Part(text, True, shown)


def write_call(call_id: str, name: str, arguments: str, signature: str | None) -> Part:
    """A call for a client. Arguments that are no JSON object stand as text under BROKEN_ARGUMENTS."""
    args = as_object(arguments)
    if args is None:
        args = Raw(encode({BROKEN_ARGUMENTS: arguments}))
    return Part(thought_signature=signature_out(signature), function_call=FunctionCall(call_id or None, name, args))
