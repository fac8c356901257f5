"""What an upstream's error means, as data: which of a few classes, by status and by words in its body.

Vendors agree on statuses for the common cases and on little else: the same 400 says that a prompt is too long, that it
was refused by a content filter, or that a field is wrong. The words are those of the vendors' references and of what
they were seen to send; a vendor's own rows go before those of all.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Class = Literal["outage", "overloaded", "timeout", "rate", "quota", "auth", "context", "policy", "request"]
"""`outage`, `overloaded`, `timeout`: the target's fault, another may do better. `rate`, `quota`, `auth`: this
credential is to be left alone. `context`, `policy`: this model cannot take the request. `request`: nobody could."""

FALLBACKS: Final = ("outage", "rate", "context", "policy")
"""The classes an operator names fallbacks for; `outage` stands for all that are the target's or the credential's fault
but `rate`."""


class Sign(NamedTuple):
    """A class, and by what it is known: one of `statuses` (none: any) and one of `words` in the body (none: any)."""

    means: Class
    statuses: frozenset[int]
    words: tuple[bytes, ...] = ()


def _on(*statuses: int) -> frozenset[int]:
    return frozenset(statuses)


_BODY_FAULTS: Final = _on(400, 403, 413, 422)

GENERAL: Final = (
    Sign(
        "context",
        _BODY_FAULTS,
        (
            b"context_length_exceeded", b"maximum context length", b"prompt is too long", b"nput is too long",
            b"exceeds the maximum number of tokens", b"exceed context limit", b"context window", b"context length",
            b"too many input tokens", b"too many tokens:", b"reduce the length of the",
        ),
    ),
    Sign(
        "policy",
        _BODY_FAULTS,
        (
            b"content_policy_violation", b"content_filter", b"ResponsibleAIPolicyViolation",
            b"content management policy", b"moderation_blocked", b"flagged", b"PROHIBITED_CONTENT", b"safety system",
            b"usage policies", b"usage guidelines", b"content filtering policy", b"Content Exists Risk",
        ),
    ),
    # One request that is larger than a minute's allowance says nothing of the others.
    Sign("context", _on(413, 429), (b"Request too large for", b"tokens must be reduced")),
    Sign("quota", _on(402)),
    Sign(
        "quota",
        _on(400, 403, 429),
        (b"insufficient_quota", b"credit balance is too low", b"billing_hard_limit", b"spend limit"),
    ),
    Sign("overloaded", _on(529)),
    Sign("overloaded", _on(429, 503), (b"overloaded_error", b"over capacity", b"engine is currently overloaded")),
    Sign("rate", _on(429)),
    # A wall in front of the provider did not like what stands in this one request.
    Sign("request", _on(403), (b"<html", b"<HTML", b"<!DOCTYPE", b"<!doctype")),
    Sign("auth", _on(401, 403)),
    Sign("timeout", _on(408, 504, 524)),
    Sign("outage", frozenset(range(500, 600))),
)  # fmt: skip

BY_KIND: Final[Mapping[str, tuple[Sign, ...]]] = {
    "gemini": (Sign("auth", _on(400), (b"API_KEY_INVALID", b"API key not valid")),),
    "vertex": (Sign("auth", _on(400), (b"API_KEY_INVALID",)),),
    "bedrock": (
        Sign("rate", _on(400, 429), (b"ThrottlingException", b"Too many requests", b"Too many tokens")),
        Sign("overloaded", _on(424, 429, 503), (b"ModelNotReadyException", b"ServiceUnavailableException")),
        Sign("timeout", _on(408), (b"ModelTimeoutException",)),
    ),
    "huggingface": (Sign("overloaded", _on(503), (b"is currently loading",)),),
    "xai": (Sign("auth", _on(400), (b"Incorrect API key provided",)),),
    "openrouter": (Sign("outage", _on(404), (b"No endpoints found", b"No allowed providers")),),
}

# In a stream there is no status: the names that vendors give such events.
EVENTS: Final = (
    Sign("overloaded", _on(), (b"overloaded", b"over capacity", b"UNAVAILABLE", b"serviceUnavailable")),
    Sign("quota", _on(), (b"insufficient_quota", b"credit balance")),
    Sign("rate", _on(), (b"rate_limit", b"RESOURCE_EXHAUSTED", b"throttling", b"Too Many Requests")),
    Sign("context", _on(), GENERAL[0].words),
    Sign("policy", _on(), GENERAL[1].words),
    Sign("auth", _on(), (b"authentication_error", b"invalid_api_key", b"PERMISSION_DENIED")),
    Sign("request", _on(), (b"invalid_request_error", b"INVALID_ARGUMENT", b"validationException")),
)
LOOK_AT: Final = 16 * 1024
"""Bytes of a body that are looked at."""


def of_reply(kind: str, status: int, body: bytes) -> Class:
    """The class of an error reply of a provider of this `kind`."""
    head = body[:LOOK_AT]
    for sign in (*BY_KIND.get(kind, ()), *GENERAL):
        if status in sign.statuses and (not sign.words or any(word in head for word in sign.words)):
            return sign.means
    return "request"


def of_event(payload: bytes) -> Class:
    """The class of an error told inside a stream."""
    head = payload[:LOOK_AT]
    for sign in EVENTS:
        if any(word in head for word in sign.words):
            return sign.means
    return "outage"


def fallback_of(means: Class) -> str:
    """For which of `FALLBACKS` a failure counts; empty where no other model could do better."""
    if means in ("context", "policy", "rate"):
        return means
    return "" if means == "request" else "outage"
