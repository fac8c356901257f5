"""A whole answer of Anthropic's Messages API, read and written; with what streams share: usage, stop reasons.

`usage` counts input without what the cache had or got; the hub counts it all. Of `choices` the first is written: no
client of this dialect can ask for more.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from fastgw.call import Usage
from fastgw.dialects.anthropic_messages import errors
from fastgw.dialects.anthropic_messages.parts import ENVELOPE, NAME, NULL, BlockOut, read_content, said, write_answer
from fastgw.dialects.gemini.wire import one_line
from fastgw.dialects.hub import Choice, Failed, Opaque, Part, Reply, StopReason, ToolCall

Count = Annotated[int, Meta(ge=0, lt=2**31)]

STOPS: dict[str, StopReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "compaction": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
REASONS: dict[StopReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    # A whole answer that ended in an error is for the caller of this module to refuse; it is not whole.
    "error": "max_tokens",
}
TIERS = {"standard": "standard", "default": "standard", "priority": "priority", "batch": "batch"}


def stop_of(native: str, called: bool) -> StopReason:
    """The hub's word for a `stop_reason`."""
    reason = STOPS.get(native, "stop")
    return "tool_calls" if called and native == "end_turn" else reason


def reason_of(stop: StopReason, native: str | None, sequence: str | None, called: bool) -> str:
    """The `stop_reason` for a client; Anthropic's own word where the answer was Anthropic's."""
    if native is not None and STOPS.get(native) == stop and (native != "end_turn" or not called):
        return native
    if stop == "stop" and called:
        return "tool_use"
    return "stop_sequence" if stop == "stop" and sequence is not None else REASONS[stop]


# --- usage


class _Details(Struct):
    thinking_tokens: Count | None = None


class UsageIn(Struct):
    """`usage`; in a stream's last word fields may be missing that its first one had."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    output_tokens_details: _Details | None = None
    service_tier: str | None = None


_read_usage = msgspec.json.Decoder(UsageIn).decode


def usage_in(raw: Raw) -> UsageIn | None:
    """A `usage` object; None for null and for what holds anything but sane counts."""
    if raw is NULL or raw == NULL:
        return None
    try:
        return _read_usage(raw)
    except (ValueError, RecursionError):
        return None


def usage_of(seen: UsageIn) -> Usage:
    """The hub's counts."""
    cached, written = seen.cache_read_input_tokens or 0, seen.cache_creation_input_tokens or 0
    details = seen.output_tokens_details
    return Usage(
        (seen.input_tokens or 0) + cached + written,
        seen.output_tokens or 0,
        cached,
        written,
        (details.thinking_tokens or 0) if details is not None else 0,
    )


class _DetailsOut(Struct):
    thinking_tokens: int


class UsageOut(Struct):
    """`usage` as it is written."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: _DetailsOut | UnsetType = UNSET
    service_tier: str | UnsetType = UNSET


def usage_out(usage: Usage | None) -> UsageOut:
    """The counts for a client, who must be told some."""
    if usage is None:
        return UsageOut(0, 0, 0, 0)
    fresh = max(usage.input - usage.cached - usage.cache_write, 0)
    out = UsageOut(fresh, usage.cache_write, usage.cached, usage.output)
    if usage.reasoning:
        out.output_tokens_details = _DetailsOut(usage.reasoning)
    return out


# --- reading


class _ReplyIn(Struct):
    type: str = ""
    id: str | None = None
    model: str | None = None
    content: list[Raw] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: Raw = NULL
    container: Raw = NULL
    usage: Raw = NULL


_read_reply = msgspec.json.Decoder(_ReplyIn).decode


def read(body: bytes) -> Reply:
    """A provider's whole answer. Raises hub.Failed for an error in the place of one, ValueError for neither."""
    try:
        seen = _read_reply(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if seen.type == "error":
        raise Failed(errors.parse(0, body))
    if seen.content is None:
        raise ValueError("a message without content")
    parts = read_content(seen.content, "content")
    for kind, raw in (("stop_details", seen.stop_details), ("container", seen.container)):
        if (value := said(raw)) is not None:
            parts.append(Opaque(NAME, kind, value))
    usage = usage_in(seen.usage)
    native = seen.stop_reason
    called = any(type(part) is ToolCall for part in parts)
    choice = Choice(parts, None if native is None else stop_of(native, called), native, seen.stop_sequence)
    return Reply(
        seen.id or "",
        seen.model or "",
        [choice],
        None if usage is None else usage_of(usage),
        service_tier=None if usage is None else usage.service_tier,
    )


# --- writing


class _ReplyOut(Struct, tag_field="type", tag="message"):
    id: str
    role: str
    model: str
    content: list[BlockOut]
    stop_reason: str
    stop_sequence: str | None
    usage: UsageOut
    stop_details: Raw | UnsetType = UNSET
    container: Raw | UnsetType = UNSET


def write(reply: Reply, *, model: str) -> bytes:
    """The answer for a client."""
    choice = reply.choices[0] if reply.choices else Choice([])
    parts: list[Part] = choice.parts
    called = any(type(part) is ToolCall for part in parts)
    reason = reason_of(choice.stop or "stop", choice.native_stop, choice.stop_sequence, called)
    usage = usage_out(reply.usage)
    if reply.service_tier in TIERS:
        usage.service_tier = TIERS[reply.service_tier]
    blocks = write_answer(parts)
    out = _ReplyOut(reply.id, "assistant", reply.model or model, blocks, reason, choice.stop_sequence, usage)
    for part in parts:
        if type(part) is Opaque and part.dialect == NAME and part.kind in ENVELOPE:
            setattr(out, part.kind, Raw(one_line(part.raw)))
    return msgspec.json.encode(out)
