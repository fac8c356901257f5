"""A whole answer of Converse. It has no id and names no model."""

import base64
import binascii

import msgspec
from msgspec import Raw, Struct

from fastgw.dialects.bedrock_converse.wire import NULL, UNREADABLE, Tier, sequence_of, stop_of, usage_of
from fastgw.dialects.hub import Choice, Image, Part, Reply, Text, Thinking, ToolCall


class _ToolUse(Struct, rename="camel"):
    tool_use_id: str | None = None
    name: str | None = None
    input: Raw = NULL
    type: str | None = None


class _ReasoningText(Struct):
    text: str | None = None
    signature: str | None = None


class _Reasoning(Struct, rename="camel"):
    reasoning_text: _ReasoningText | None = None
    redacted_content: str | None = None


class _Said(Struct):
    text: str | None = None


class _Cited(Struct):
    content: list[_Said] | None = None


class _Source(Struct):
    bytes: str | None = None


class _Image(Struct):
    format: str = "png"
    source: _Source | None = None


class _Block(Struct, rename="camel"):
    text: str | None = None
    tool_use: _ToolUse | None = None
    reasoning_content: _Reasoning | None = None
    citations_content: _Cited | None = None
    image: _Image | None = None


class _Message(Struct):
    content: list[Raw] | None = None


class _Output(Struct):
    message: _Message | None = None


class _ReplyIn(Struct, rename="camel"):
    output: _Output | None = None
    stop_reason: str | None = None
    usage: Raw = NULL
    additional_model_response_fields: Raw = NULL
    service_tier: Tier | None = None


_read_reply = msgspec.json.Decoder(_ReplyIn).decode
_read_block = msgspec.json.Decoder(_Block).decode
_read_kinds = msgspec.json.Decoder(dict[str, Raw]).decode


def read(body: bytes) -> Reply:
    """See `codec.UpstreamCodec.read_reply`."""
    try:
        seen = _read_reply(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    message = None if seen.output is None else seen.output.message
    if message is None or message.content is None:
        raise ValueError("an answer without a message")
    parts = [part for raw in message.content if (part := _part(raw)) is not None]
    native = seen.stop_reason
    called = any(type(part) is ToolCall for part in parts)
    sequence = sequence_of(seen.additional_model_response_fields)
    choice = Choice(parts, None if native is None else stop_of(native, called), native, sequence)
    tier = None if seen.service_tier is None else seen.service_tier.type
    return Reply("", "", [choice], usage_of(seen.usage), service_tier=tier)


def _part(raw: Raw) -> Part | None:
    """One block; None for kinds nobody knows. Raises ValueError for a broken one of those that are known."""
    try:
        block = _read_block(raw)
    except UNREADABLE as error:
        if set(_read_kinds(raw)) & set(_Block.__struct_encode_fields__):
            raise ValueError(f"a block of the answer cannot be read: {error}") from None
        return None
    if block.text is not None:
        return Text(block.text)
    if block.tool_use is not None:
        return _call(block.tool_use)
    if block.reasoning_content is not None:
        return _thinking(block.reasoning_content)
    if block.citations_content is not None:
        return Text("".join([one.text or "" for one in block.citations_content.content or ()]))
    if block.image is not None and block.image.source is not None and block.image.source.bytes is not None:
        return Image(f"image/{block.image.format}", block.image.source.bytes)
    return None


def _call(use: _ToolUse) -> ToolCall | None:
    if use.type is not None:
        return None  # the provider's own tool, which it calls itself
    if not use.tool_use_id or not use.name:
        raise ValueError("a call without an id or a name")
    return ToolCall(use.tool_use_id, use.name, "{}" if use.input == NULL else bytes(use.input).decode())


def _thinking(seen: _Reasoning) -> Thinking | None:
    if seen.redacted_content is not None:
        return Thinking(redacted=seen.redacted_content)
    said = seen.reasoning_text
    return None if said is None else Thinking(said.text or "", said.signature or None)


def joined(pieces: list[str]) -> str:
    """Pieces of base64 as one. Raises ValueError for what is none."""
    if len(pieces) == 1:
        return pieces[0]
    try:
        return base64.b64encode(b"".join([base64.b64decode(piece, validate=True) for piece in pieces])).decode()
    except binascii.Error:
        raise ValueError("redacted reasoning that is no base64") from None
