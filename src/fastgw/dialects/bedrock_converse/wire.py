"""What Converse's requests, replies and streams have in common: names, vendors of models, usage, stop reasons.

Sources: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html and the service model of
botocore 1.44 (bedrock-runtime 2023-09-30).
"""

import re
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from fastgw.call import Usage
from fastgw.dialects.hub import StopReason

NAME = "bedrock_converse"
NULL = Raw(b"null")
"""What is read as raw JSON defaults to this: msgspec reads nothing but null where a type says `Raw | None`."""
UNREADABLE = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError)

_VENDOR = re.compile(
    r"(?:\A|[./])(ai21|amazon|anthropic|cohere|deepseek|google|meta|minimax|mistral|moonshot|moonshotai|nvidia|openai"
    r"|qwen|stability|twelvelabs|writer|zai)\."
)


def vendor_of(model: str) -> str:
    """Whose model it is, by its id or ARN (`us.anthropic.claude-...`): what it takes beside Converse's own fields.

    Ids without a vendor (application inference profiles, provisioned throughput) are taken for Claude's.
    """
    found = _VENDOR.search(model)
    return "anthropic" if found is None else found[1]


# --- stop reasons

STOPS: dict[str, StopReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "malformed_model_output": "error",
    "malformed_tool_use": "error",
}


def stop_of(native: str, called: bool) -> StopReason:
    """The hub's word for a `stopReason`."""
    return "tool_calls" if called and native == "end_turn" else STOPS.get(native, "stop")


class _Fields(Struct):
    stop_sequence: str | None = None


_read_fields = msgspec.json.Decoder(_Fields).decode


def sequence_of(fields: Raw) -> str | None:
    """The stop sequence that matched, out of `additionalModelResponseFields`."""
    try:
        return _read_fields(fields).stop_sequence
    except UNREADABLE:
        return None


# --- usage

Count = Annotated[int, Meta(ge=0, lt=2**31)]


class _Usage(Struct, rename="camel"):
    input_tokens: Count = 0
    output_tokens: Count = 0
    cache_read_input_tokens: Count | None = None
    cache_write_input_tokens: Count | None = None


_read_usage = msgspec.json.Decoder(_Usage).decode


def usage_of(raw: Raw) -> Usage | None:
    """A `usage` object; None for null and for what holds anything but sane counts.

    `inputTokens` are those that neither came from the cache nor went into it; the hub counts them all:
    https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html. What was thought is not told apart.
    """
    if raw is NULL or raw == NULL:
        return None
    try:
        seen = _read_usage(raw)
    except UNREADABLE:
        return None
    cached, written = seen.cache_read_input_tokens or 0, seen.cache_write_input_tokens or 0
    return Usage(seen.input_tokens + cached + written, seen.output_tokens, cached, written)


# --- service tiers

TIERS = {
    "default": "default",
    "standard": "default",
    "standard_only": "default",
    "flex": "flex",
    "priority": "priority",
}
"""How a request is to be served, in Converse's words."""


class Tier(Struct):
    """`serviceTier`."""

    type: str | None = None
