"""A whole answer of OpenAI's chat completions, read and written.

Written beyond OpenAI's own fields: those of `openai_chat.wire`; `images` on the message, as OpenRouter has them; on the
choice `provider_finish_reason` (the provider's own word where it says more than `finish_reason`) and vLLM's
`stop_reason` (the stop sequence that matched). An answer that ended in an error is for the caller to turn into a 502;
written all the same, it says `length`: it is not whole.
"""

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fastgw.dialects.hub import (
    Audio,
    Choice,
    Failed,
    Image,
    Opaque,
    Part,
    Refusal,
    Reply,
    Text,
    Thinking,
    ToolCall,
)
from fastgw.dialects.openai_chat import errors, wire
from fastgw.dialects.openai_chat.wire import NAME, NULL, some


class _FunctionIn(Struct):
    name: str | None = None
    arguments: Raw = NULL


class _CallIn(Struct):
    id: str | None = None
    type: str | None = None
    function: _FunctionIn | None = None
    extra_content: Any = None


class _ImageUrlIn(Struct):
    url: str | None = None


class _ImageIn(Struct):
    image_url: _ImageUrlIn | None = None


class PartIn(Struct):
    """An entry of a `content` that is a list, as Mistral answers."""

    type: str = "text"
    text: str | None = None


class _MessageIn(Struct):
    content: str | list[Raw] | None = None
    refusal: str | None = None
    tool_calls: list[Raw] | None = None
    function_call: _FunctionIn | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: list[Raw] | None = None
    annotations: list[Raw] | None = None
    citations: list[Raw] | None = None
    images: list[_ImageIn] | None = None
    audio: Raw = NULL
    extra_content: Any = None


class _ChoiceIn(Struct):
    message: _MessageIn | None = None
    index: int | None = None
    finish_reason: str | None = None
    provider_finish_reason: Any = None
    stop_reason: Any = None
    logprobs: Raw = NULL


class _ReplyIn(Struct):
    choices: list[_ChoiceIn] | None = None
    id: str | None = None
    model: str | None = None
    created: Any = None
    usage: Raw = NULL
    service_tier: Any = None
    system_fingerprint: Any = None
    error: Raw = NULL


_read_reply = msgspec.json.Decoder(_ReplyIn).decode
_read_call = msgspec.json.Decoder(_CallIn).decode
read_part = msgspec.json.Decoder(PartIn).decode


def read(body: bytes) -> Reply:
    """A provider's whole answer. Raises hub.Failed for an error in the place of one, ValueError for neither."""
    try:
        seen = _read_reply(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if some(seen.error) is not None:
        raise Failed(errors.parse(0, body))
    if seen.choices is None:
        raise ValueError("a chat completion without choices")
    identity = seen.id or ""
    choices = sorted(seen.choices, key=lambda choice: choice.index or 0)
    return Reply(
        id=identity,
        model=seen.model or "",
        choices=[_choice(choice, identity, i) for i, choice in enumerate(choices)],
        usage=wire.usage_in(seen.usage),
        created=seconds(seen.created),
        service_tier=text_or_none(seen.service_tier),
        fingerprint=text_or_none(seen.system_fingerprint),
    )


def seconds(created: Any) -> int:
    """`created`, which some servers write as a float or as text."""
    return int(created) if type(created) in (int, float) and 0 <= created < 2**53 else 0


def text_or_none(value: Any) -> str | None:
    """A text, None for all else."""
    return value if type(value) is str else None


def _choice(seen: _ChoiceIn, reply_id: str, number: int) -> Choice:
    parts = _parts(seen.message, reply_id, number) if seen.message is not None else []
    finish = seen.finish_reason
    called = any(type(part) is ToolCall for part in parts)
    return Choice(
        parts,
        wire.stop_of(finish, called) if finish is not None else None,
        text_or_none(seen.provider_finish_reason) or finish,
        text_or_none(seen.stop_reason),
        some(seen.logprobs),
    )


def _parts(seen: _MessageIn, reply_id: str, number: int) -> list[Part]:
    parts: list[Part] = []
    if seen.reasoning_details:
        parts += wire.thinking_in(seen.reasoning_details)
    if not parts and (thought := seen.reasoning_content or seen.reasoning) and type(thought) is str:
        parts.append(Thinking(thought))
    content = seen.content
    if isinstance(content, str):
        if content:
            parts += _cited(content, seen.annotations or [], seen.citations or [])
    elif content is not None:
        for raw in content:
            part = _content_part(raw)
            if part is not None:
                parts.append(part)
    if seen.extra_content is not None:
        wire.sign(parts, wire.signature_in(seen.extra_content))
    if seen.refusal:
        parts.append(Refusal(seen.refusal))
    for image in seen.images or ():
        found = wire.image_in(image.image_url.url, None) if image.image_url and image.image_url.url else None
        if found is not None:
            parts.append(found)
    if some(seen.audio) is not None:
        parts.append(Opaque(NAME, "audio", seen.audio))
    if seen.function_call is not None and seen.function_call.name:
        legacy = seen.function_call
        parts.append(
            ToolCall(wire.call_id(reply_id, number, 0), legacy.name or "", wire.arguments_in(legacy.arguments))
        )
    for i, raw in enumerate(seen.tool_calls or ()):
        parts.append(_call(raw, reply_id, number, i))
    return parts


def _call(raw: Raw, reply_id: str, number: int, index: int) -> Part:
    call = _read_call(raw)
    function = call.function
    if function is None:
        return Opaque(NAME, call.type or "", raw)
    signature = wire.signature_in(call.extra_content) if call.extra_content is not None else None
    identity = call.id or wire.call_id(reply_id, number, index)
    return ToolCall(identity, function.name or "", wire.arguments_in(function.arguments), signature)


def _content_part(raw: Raw) -> Part | None:
    part = read_part(raw)
    if part.type == "text":
        return Text(part.text) if part.text else None
    if part.type == "thinking":
        thought = wire.think_part(raw)
        return Thinking(thought) if thought else None
    return Opaque(NAME, part.type, raw)


def _cited(content: str, annotations: list[Raw], citations: list[Raw]) -> list[Part]:
    """The text, cut where a citation of a web page covers it; citations of other things stand with the whole of it."""
    spans: dict[tuple[int, int], list[Raw]] = {}
    for raw in annotations:
        found = wire.citation_in(raw, content)
        if found is not None:
            spans.setdefault(found[:2], []).append(found[2])
    parts: list[Part] = []
    at = 0
    for (start, end), cited in sorted(spans.items()):
        if start > at:
            parts.append(Text(content[at:start]))
        if end > max(at, start) or not parts:
            parts.append(Text(content[max(at, start) : end], citations=Raw(wire.encode(cited))))
        else:  # within the text before it
            last = parts[-1]
            if type(last) is Text:
                before = msgspec.json.decode(last.citations, type=list[Raw]) if last.citations is not None else []
                last.citations = Raw(wire.encode(before + cited))
        at = max(at, end)
    if at < len(content) or not parts:
        parts.append(Text(content[at:]))
    if citations and type(parts[-1]) is Text:
        last = parts[-1]
        before = msgspec.json.decode(last.citations, type=list[Raw]) if last.citations is not None else []
        last.citations = Raw(wire.encode(before + citations))
    return parts


# --- writing


class _ImageUrlOut(Struct):
    url: str


class _ImageOut(Struct, tag_field="type", tag="image_url"):
    image_url: _ImageUrlOut


class _AudioOut(Struct):
    id: str
    data: str
    expires_at: int
    transcript: str


class _MessageOut(Struct):
    role: str
    content: str | None
    refusal: str | None
    reasoning_content: str | UnsetType = UNSET
    reasoning_details: list[wire.Detail] | UnsetType = UNSET
    annotations: list[wire.AnnotationOut] | UnsetType = UNSET
    citations: list[Raw] | UnsetType = UNSET
    images: list[_ImageOut] | UnsetType = UNSET
    audio: _AudioOut | Raw | UnsetType = UNSET
    tool_calls: list[wire.CallOut | Raw] | UnsetType = UNSET
    extra_content: dict[str, dict[str, str]] | UnsetType = UNSET


class _ChoiceOut(Struct):
    index: int
    message: _MessageOut
    logprobs: Raw | None
    finish_reason: str
    provider_finish_reason: str | UnsetType = UNSET
    stop_reason: str | UnsetType = UNSET


class _ReplyOut(Struct):
    id: str
    object: str
    created: int
    model: str
    choices: list[_ChoiceOut]
    usage: wire.UsageOut | UnsetType = UNSET
    service_tier: str | UnsetType = UNSET
    system_fingerprint: str | UnsetType = UNSET


def write(reply: Reply, *, model: str) -> bytes:
    """The answer for a client."""
    out = _ReplyOut(
        reply.id,
        "chat.completion",
        reply.created,
        reply.model or model,
        [_choice_out(choice, i) for i, choice in enumerate(reply.choices)],
    )
    if reply.usage is not None:
        out.usage = wire.usage_out(reply.usage)
    if reply.service_tier in wire.TIERS:
        out.service_tier = wire.TIERS[reply.service_tier]
    if reply.fingerprint is not None:
        out.system_fingerprint = reply.fingerprint
    return wire.encode(out)


def _choice_out(choice: Choice, index: int) -> _ChoiceOut:
    message = _message(choice.parts)
    called = any(type(part) is ToolCall for part in choice.parts)
    finish = wire.FINISHES[choice.stop or "stop"]
    out = _ChoiceOut(index, message, choice.logprobs, "tool_calls" if called and finish == "stop" else finish)
    if choice.native_stop is not None and choice.native_stop != out.finish_reason:
        out.provider_finish_reason = choice.native_stop
    if choice.stop_sequence is not None:
        out.stop_reason = choice.stop_sequence
    return out


def _message(parts: list[Part]) -> _MessageOut:
    texts: list[str] = []
    thoughts: list[Thinking] = []
    calls: list[wire.CallOut | Raw] = []
    images: list[_ImageOut] = []
    out = _MessageOut("assistant", None, None)
    at = 0
    for part in parts:
        if type(part) is Text:
            if part.citations is not None:
                _cite(part.citations, at, at + len(part.text), out)
            at += len(part.text)
            texts.append(part.text)
            if part.signature is not None:
                out.extra_content = wire.sealed(part.signature)
        elif type(part) is ToolCall:
            function = wire.Function(part.name, part.arguments or "{}")
            calls.append(wire.CallOut(part.id, function, wire.sealed(part.signature)))
        elif type(part) is Thinking:
            thoughts.append(part)
        elif type(part) is Refusal:
            out.refusal = (out.refusal or "") + part.text
        elif type(part) is Image:
            url = part.url if part.data is None else wire.data_url(part.media_type, part.data)
            images.append(_ImageOut(_ImageUrlOut(url or "")))
        elif type(part) is Audio:
            out.audio = _AudioOut("audio", part.data, 0, "")
        elif type(part) is Opaque and part.dialect == NAME:
            if part.kind == "audio":
                out.audio = part.raw
            elif part.kind == "custom":
                calls.append(part.raw)
    if texts:
        out.content = "".join(texts)
    if thoughts:
        out.reasoning_content = "".join([thought.text for thought in thoughts])
        out.reasoning_details = wire.thinking_out(thoughts)
    if images:
        out.images = images
    if calls:
        out.tool_calls = calls
    return out


def _cite(citations: Raw, start: int, end: int, out: _MessageOut) -> None:
    for raw in msgspec.json.decode(citations, type=list[Raw]):
        annotation = wire.citation_out(raw, start, end)
        if annotation is None:
            out.citations = [raw] if out.citations is UNSET else [*out.citations, raw]
        else:
            out.annotations = [annotation] if out.annotations is UNSET else [*out.annotations, annotation]
