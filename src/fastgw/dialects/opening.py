"""Whether a stream has begun in earnest: what may come before the first of its content, and what says that it failed.

Until then nothing need have been sent, so that a stream that opens with an error can be asked of somebody else.
Pure, and by the dialect that the upstream speaks; dialects that are not here have begun with their first event.
"""

from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec import Raw, Struct

Verdict = Literal["waiting", "begun", "failed"]
NOTHING = frozenset({b"null", b'""', b"[]", b"{}"})
QUIET_ANTHROPIC = frozenset({"message_start", "ping"})
QUIET_RESPONSES = frozenset({"response.created", "response.queued", "response.in_progress"})
ROLE = "role"


class _Choice(Struct):
    delta: dict[str, Raw] | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Chunk(Struct):
    error: Raw = Raw(b"null")
    choices: list[_Choice] | None = None
    usage: Raw = Raw(b"null")


class _Typed(Struct):
    type: str = ""


class _Failing(Struct):
    error: Raw = Raw(b"null")


_read_chunk = msgspec.json.Decoder(_Chunk).decode
_read_type = msgspec.json.Decoder(_Typed).decode
_read_failing = msgspec.json.Decoder(_Failing).decode


def _openai(payload: bytes) -> Verdict:
    if payload.strip() == b"[DONE]":
        return "begun"
    chunk = _read_chunk(payload)
    if bytes(chunk.error) not in NOTHING:
        return "failed"
    for choice in chunk.choices or ():
        if choice.text or choice.finish_reason:
            return "begun"
        if any(name != ROLE and bytes(value) not in NOTHING for name, value in (choice.delta or {}).items()):
            return "begun"
    return "waiting"


def _anthropic(payload: bytes) -> Verdict:
    kind = _read_type(payload).type
    if kind == "error":
        return "failed"
    return "waiting" if kind in QUIET_ANTHROPIC else "begun"


def _responses(payload: bytes) -> Verdict:
    kind = _read_type(payload).type
    if kind in ("error", "response.failed"):
        return "failed"
    return "waiting" if kind in QUIET_RESPONSES else "begun"


def _gemini(payload: bytes) -> Verdict:
    return "failed" if bytes(_read_failing(payload).error) not in NOTHING else "begun"


JUDGES: dict[str, Callable[[bytes], Verdict]] = {
    "openai_chat": _openai,
    "openai_completions": _openai,
    "openai_responses": _responses,
    "anthropic_messages": _anthropic,
    "gemini": _gemini,
}


def judge(dialect: str, payload: bytes) -> Verdict:
    """What one event's data says of the stream it stands in. What cannot be read has begun: the relay will tell."""
    try:
        return JUDGES[dialect](payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "begun"
