"""Errors as AWS tells them: the header `x-amzn-errortype`, or `__type` in the body, with `{"message"}`; and in streams.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html and the errors of Converse there.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from fastgw.dialects.bedrock_converse.wire import UNREADABLE
from fastgw.dialects.event_stream import FAILED
from fastgw.dialects.hub import Problem
from fastgw.dialects.openai_chat.errors import STATUS_CAUSES, TOO_LONG

TYPES: dict[str, tuple[str, int]] = {
    "accessdenied": ("forbidden", 403),
    "expiredtoken": ("auth", 403),
    "incompletesignature": ("auth", 403),
    "invalidsignature": ("auth", 403),
    "internalfailure": ("server", 500),
    "internalserver": ("server", 500),
    "missingauthenticationtoken": ("auth", 403),
    "modelerror": ("server", 424),
    "modelnotready": ("overloaded", 429),
    "modelstreamerror": ("server", 500),
    "modeltimeout": ("timeout", 408),
    "notauthorized": ("forbidden", 403),
    "requestexpired": ("auth", 400),
    "requestentitytoolarge": ("too_large", 413),
    "resourcenotfound": ("not_found", 404),
    "servicequotaexceeded": ("rate_limit", 400),
    "serviceunavailable": ("overloaded", 503),
    "throttling": ("rate_limit", 429),
    "toomanyrequests": ("rate_limit", 429),
    "unrecognizedclient": ("auth", 403),
    "validation": ("bad_request", 400),
}
"""AWS's types, in small letters without `Exception`: the cause, and the status that goes with it."""
MAX_MESSAGE = 4000


class _Body(Struct):
    message: Any = None
    capital: Any = msgspec.field(default=None, name="Message")
    type: Any = msgspec.field(default=None, name="__type")
    code: Any = None
    original: Any = msgspec.field(default=None, name="originalMessage")


_read_body = msgspec.json.Decoder(_Body).decode


def read(status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
    """See `codec.UpstreamCodec.read_error`. `headers` have lower-case names."""
    problem = _problem(status, headers.get(b"x-amzn-errortype", b"").decode("latin-1"), body)
    try:
        seconds = float(headers[b"retry-after"])
        if 0 <= seconds < 10**7:
            problem.retry_after = seconds
    except (KeyError, ValueError):
        pass
    said = headers.get(b"x-amzn-requestid")
    if said is not None:
        problem.request_id = said.decode("latin-1")
    return problem


def in_stream(name: str, payload: bytes) -> Problem:
    """The problem that an exception, or a message of type `error`, tells inside a stream."""
    return _problem(0, "" if name == FAILED else name, payload)


def _problem(status: int, kind: str, body: bytes) -> Problem:
    try:
        seen = _read_body(body)
    except UNREADABLE:
        seen = _Body(message=body[:MAX_MESSAGE].decode("utf-8", "replace").strip())
    kind = _plain(kind) or _plain(seen.type) or _plain(seen.code)
    cause, usual = TYPES.get(kind.lower().removesuffix("exception"), ("", 500))
    message = _words(seen)
    if cause in ("bad_request", "") and status in (0, 400, 413) and TOO_LONG.search(message):
        cause = "context_length"
    if not cause:
        cause = STATUS_CAUSES.get(status, "bad_request" if 400 <= status < 500 else "server")
    status = status or usual
    message = message or f"the provider answered with status {status} and said no more"
    return Problem(cause, status, message, kind or None)


def _plain(kind: Any) -> str:
    """`aws.protocols#ValidationException:http://...` → `ValidationException`."""
    return kind.partition(":")[0].rpartition("#")[2].strip() if isinstance(kind, str) else ""


def _words(seen: _Body) -> str:
    """What it says; what the model's own server said is more to the point."""
    said = next((one for one in (seen.message, seen.capital) if isinstance(one, str) and one), "")
    inner = seen.original if isinstance(seen.original, str) else ""
    return (f"{said} ({inner})" if said and inner and inner not in said else said or inner)[:MAX_MESSAGE]
