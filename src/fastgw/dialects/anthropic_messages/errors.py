"""Errors as Anthropic tells them, read and written: `{"type": "error", "error": {type, message}, "request_id"}`.

Source: https://docs.anthropic.com/en/api/errors. Beside Anthropic's own two fields stand `code` and `param` of the
provider that said them.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fastgw.dialects import errors as envelopes
from fastgw.dialects.hub import Problem
from fastgw.dialects.openai_chat.errors import STATUS_CAUSES, TOO_LONG
from fastgw.errors import GatewayError

TYPES: dict[str, tuple[str, int]] = {
    "invalid_request_error": ("bad_request", 400),
    "authentication_error": ("auth", 401),
    "billing_error": ("billing", 402),
    "permission_error": ("forbidden", 403),
    "not_found_error": ("not_found", 404),
    "request_too_large": ("too_large", 413),
    "rate_limit_error": ("rate_limit", 429),
    "api_error": ("server", 500),
    "timeout_error": ("timeout", 504),
    "overloaded_error": ("overloaded", 529),
}
"""Anthropic's types: the cause, and the status that goes with it."""
ROWS: dict[str, tuple[int | None, str]] = {
    "bad_request": (None, "invalid_request_error"),
    "context_length": (400, "invalid_request_error"),
    # It is the gateway's key that was refused: telling the client 401 would send it looking at its own.
    "auth": (502, "api_error"),
    "billing": (402, "billing_error"),
    "forbidden": (403, "permission_error"),
    "not_found": (404, "not_found_error"),
    "too_large": (413, "request_too_large"),
    "rate_limit": (429, "rate_limit_error"),
    "server": (None, "api_error"),
    "overloaded": (529, "overloaded_error"),
    "timeout": (504, "timeout_error"),
    "content_filter": (400, "invalid_request_error"),
}
"""How a cause is told to a client; no status: the upstream's own, where it goes with the type."""
OUR_KEY = "the provider refused the gateway's credentials"
CLIENTS_LOOK_FOR = "prompt is too long"
"""Anthropic has no code for it: its clients know by these words that they must shorten the conversation."""
PREFIXED = re.compile(CLIENTS_LOOK_FOR + r": (?!\d+ tokens)")
"""These words in front of a message that is not Anthropic's own (which goes on with a count of tokens)."""
MAX_MESSAGE = 4000
OUR_CODE = Raw(b'"context_length_exceeded"')
_SAID = {"context_length_exceeded": "context_length", "content_filter": "content_filter"}


class _ErrorIn(Struct):
    type: Any = None
    message: Any = None
    param: Any = None
    code: Raw | UnsetType = UNSET


class _BodyIn(Struct):
    error: _ErrorIn | str | None = None
    message: Any = None
    request_id: Any = None


class _ErrorOut(Struct):
    type: str
    message: str
    code: Raw | UnsetType = UNSET
    param: str | UnsetType = UNSET


class _BodyOut(Struct, tag_field="type", tag="error"):
    error: _ErrorOut
    request_id: str | UnsetType = UNSET


_read_body = msgspec.json.Decoder(_BodyIn).decode
_encode = msgspec.json.encode


def read(status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
    """A provider's error answer; never raises. `headers` have lower-case names."""
    problem = parse(status, body)
    try:
        seconds = float(headers[b"retry-after"])
        if 0 <= seconds < 10**7:
            problem.retry_after = seconds
    except (KeyError, ValueError):
        pass
    said = headers.get(b"request-id") or headers.get(b"x-request-id")
    if said is not None:
        problem.request_id = said.decode("latin-1")
    return problem


def parse(status: int, body: bytes) -> Problem:
    """The problem in a body, be it JSON or not. `status` 0: inside a stream, where the body alone tells."""
    request_id = None
    try:
        seen = _read_body(body)
    except (ValueError, RecursionError):
        error = _ErrorIn(message=body[:MAX_MESSAGE].decode("utf-8", "replace").strip())
    else:
        inner = seen.error
        error = inner if isinstance(inner, _ErrorIn) else _ErrorIn(message=inner or seen.message)
        request_id = seen.request_id if type(seen.request_id) is str else None
    kind = error.type if type(error.type) is str else None
    message = error.message if type(error.message) is str else ""
    code = None if error.code is UNSET else error.code
    cause = _cause(status, kind or "", message, code)
    if code == OUR_CODE and (prefix := PREFIXED.match(message)) is not None:
        # Anthropic tells no code: a gateway put both there, and the message is what the provider behind it said.
        message = message[prefix.end() :]
    status = status or TYPES.get(kind or "", ("", 500))[1]
    message = message[:MAX_MESSAGE] or f"the provider answered with status {status} and said no more"
    param = error.param if type(error.param) is str else None
    return Problem(cause, status, message, kind, code, param, request_id=request_id)


def _cause(status: int, kind: str, message: str, code: Raw | None) -> str:
    word = bytes(code).decode("utf-8", "replace").strip('"') if code is not None else ""
    if word in _SAID:
        return _SAID[word]
    found = TYPES.get(kind, ("", 0))[0]
    if found in ("bad_request", "") and status in (0, 400, 413):
        if TOO_LONG.search(message):
            return "context_length"
        if "credit balance" in message:
            return "billing"
    if found and found not in ("bad_request", "server"):
        return found
    if status in STATUS_CAUSES:
        return STATUS_CAUSES[status]
    return found or ("bad_request" if 400 <= status < 500 else "server")


def write(problem: Problem, call_id: str) -> tuple[int, bytes]:
    """Status and body for a client. A message about the gateway's own key is not repeated: it holds parts of it."""
    row, kind = ROWS.get(problem.cause, ROWS["server"])
    auth = problem.cause == "auth"
    status = row or problem.status
    if row is None:
        wanted = range(400, 500) if problem.cause == "bad_request" else range(500, 600)
        status = status if status in wanted else wanted.start
    message = OUR_KEY if auth else problem.message
    if problem.cause == "context_length" and CLIENTS_LOOK_FOR not in message.lower():
        message = f"{CLIENTS_LOOK_FOR}: {message}"
    error = _ErrorOut(kind, message)
    if not auth and problem.code is not None and bytes(problem.code) != b"null":
        error.code = problem.code
    elif problem.cause in _SAID.values() or problem.cause == "context_length":
        error.code = Raw(_encode("content_filter" if problem.cause == "content_filter" else "context_length_exceeded"))
    if problem.param is not None:
        error.param = problem.param
    request_id = problem.request_id or call_id
    return status, _encode(_BodyOut(error, request_id or UNSET))


def event(error: GatewayError | Problem, call_id: str) -> bytes:
    """The event that ends a stream that failed."""
    body = write(error, call_id)[1] if isinstance(error, Problem) else envelopes.anthropic(error, call_id)
    return b"event: error\ndata: " + body + b"\n\n"
