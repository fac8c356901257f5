"""Errors of OpenAI's dialect and of those who speak it, read and written.

Read: `{"error": {message, type, param, code}}`; Mistral's and vLLM's same fields without the envelope; a bare string;
FastAPI's `detail`; Google's list of one. Source: https://platform.openai.com/docs/guides/error-codes.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fastgw.dialects.hub import Problem
from fastgw.dialects.openai_chat import wire
from fastgw.dialects.openai_chat.wire import NULL, some


class Row(NamedTuple):
    """How a cause is told to an OpenAI client. `status` None: the upstream's own."""

    type: str
    code: str | None
    status: int | None = None


ROWS: dict[str, Row] = {
    "bad_request": Row("invalid_request_error", None),
    "context_length": Row("invalid_request_error", "context_length_exceeded", 400),
    # It is the gateway's key that was refused: telling the client 401 would send it looking at its own.
    "auth": Row("api_error", "upstream_auth_failed", 502),
    "billing": Row("insufficient_quota", "insufficient_quota"),
    "forbidden": Row("permission_error", "permission_denied"),
    "not_found": Row("invalid_request_error", "model_not_found"),
    "too_large": Row("invalid_request_error", "request_too_large"),
    "rate_limit": Row("rate_limit_error", "rate_limit_exceeded"),
    "server": Row("server_error", "server_error"),
    "overloaded": Row("server_error", "overloaded", 503),
    "timeout": Row("server_error", "upstream_timeout", 504),
    "content_filter": Row("invalid_request_error", "content_filter", 400),
}
NAMED = frozenset({"context_length", "billing", "content_filter"})
"""Causes that clients know by their code, so that another dialect's number must not stand there."""
STATUS_CAUSES = {
    401: "auth",
    402: "billing",
    403: "forbidden",
    404: "not_found",
    408: "timeout",
    413: "too_large",
    429: "rate_limit",
    503: "overloaded",
    504: "timeout",
    524: "timeout",
    529: "overloaded",
}
WORD_CAUSES = {
    "context_length_exceeded": "context_length",
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "insufficient_quota": "billing",
    "billing_hard_limit_reached": "billing",
    "invalid_api_key": "auth",
    "authentication_error": "auth",
    "model_not_found": "not_found",
    "DeploymentNotFound": "not_found",
    "rate_limit_exceeded": "rate_limit",
    "rate_limit_error": "rate_limit",
    "too_many_requests": "rate_limit",
    "overloaded_error": "overloaded",
    "server_error": "server",
    "api_error": "server",
    "internal_server_error": "server",
    "invalid_request_error": "bad_request",
}
CAUSE_STATUS = {
    "bad_request": 400,
    "context_length": 400,
    "content_filter": 400,
    "auth": 401,
    "billing": 429,
    "forbidden": 403,
    "not_found": 404,
    "too_large": 413,
    "rate_limit": 429,
    "overloaded": 503,
    "timeout": 504,
}
# Servers other than OpenAI have no code for it: vLLM, Mistral, Together, llama.cpp.
TOO_LONG = re.compile(
    r"maximum context length|context (?:length|window|size)|too many tokens|prompt is too long|input is too long", re.I
)
MAX_MESSAGE = 4000


class _ErrorIn(Struct):
    message: Any = None
    type: Any = None
    param: Any = None
    code: Raw | UnsetType = UNSET


class _BodyIn(Struct):
    error: _ErrorIn | str | None = None
    message: Any = None
    detail: Raw = NULL
    type: Any = None
    param: Any = None
    code: Raw | UnsetType = UNSET


class _ErrorOut(Struct):
    message: str
    type: str
    param: str | None
    code: Raw
    request_id: str | UnsetType = UNSET


class _BodyOut(Struct):
    error: _ErrorOut


_read_body = msgspec.json.Decoder(_BodyIn | list[_BodyIn]).decode


def read(status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
    """A provider's error answer; never raises. `headers` have lower-case names."""
    problem = parse(status, body)
    problem.retry_after = _retry_after(headers)
    for name in (b"x-request-id", b"request-id", b"apim-request-id", b"x-ms-request-id", b"cf-ray"):
        if name in headers:
            problem.request_id = headers[name].decode("latin-1")
            break
    return problem


def _retry_after(headers: Mapping[bytes, bytes]) -> float | None:
    """Seconds; a date is no number of seconds without a clock and is left aside."""
    for name, scale in ((b"retry-after-ms", 1000.0), (b"retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / scale
        except (KeyError, ValueError):
            continue
        if 0 <= seconds < 10**7:
            return seconds
    return None


def parse(status: int, body: bytes) -> Problem:
    """The problem in a body, be it JSON or not. `status` 0: inside a stream, where the body alone tells."""
    try:
        seen = _read_body(body)
        seen = seen[0] if isinstance(seen, list) else seen
    except (*wire.UNREADABLE, IndexError):
        text = body[:MAX_MESSAGE].decode("utf-8", "replace").strip()
        return _problem(status, _ErrorIn(message=text))
    error = seen.error
    if isinstance(error, str):
        return _problem(status, _ErrorIn(message=error, type=seen.type, code=seen.code))
    if error is not None:
        return _problem(status, error)
    message = seen.message
    if message is None and some(seen.detail) is not None:
        detail = bytes(seen.detail)
        message = wire.arguments_in(seen.detail) if detail.startswith(b'"') else detail.decode("utf-8", "replace")
    return _problem(status, _ErrorIn(message=message, type=seen.type, param=seen.param, code=seen.code))


def _problem(status: int, error: _ErrorIn) -> Problem:
    code = None if error.code is UNSET else error.code
    word = _word(code)
    kind = error.type if type(error.type) is str else None
    message = _text(error.message)
    if not status and word.isdigit() and 400 <= int(word[:4]) < 600:  # OpenRouter's codes are statuses
        status = int(word)
    cause = _cause(status, word, kind or "", message)
    status = status or CAUSE_STATUS.get(cause, 500)
    message = message[:MAX_MESSAGE] or f"the provider answered with status {status} and said no more"
    return Problem(cause, status, message, kind, code, error.param if type(error.param) is str else None)


def _text(message: Any) -> str:
    """A message as text: Mistral's is an object where a field of the request was wrong."""
    if message is None or type(message) is str:
        return message or ""
    return wire.encode(message).decode()


def _word(code: Raw | None) -> str:
    """A code as text, whatever it was."""
    return bytes(code).decode("utf-8", "replace").strip('"') if code is not None else ""


def _cause(status: int, code: str, kind: str, message: str) -> str:
    found = WORD_CAUSES.get(code) or WORD_CAUSES.get(kind)
    if found in NAMED:
        return found
    if status in (0, 400, 413, 422) and TOO_LONG.search(message):
        return "context_length"
    if status == 400 and found in ("auth", "not_found"):
        return found
    if status in STATUS_CAUSES:
        return STATUS_CAUSES[status]
    if status >= 500:
        return "server"
    if status >= 400:
        return "bad_request"
    return found or "server"


def write(problem: Problem) -> tuple[int, bytes]:
    """Status and body for a client. A message about the gateway's own key is not repeated: it holds parts of it."""
    row = ROWS.get(problem.cause, ROWS["server"])
    auth = problem.cause == "auth"
    code = problem.code
    if auth or code is None or (problem.cause in NAMED and not bytes(code).startswith(b'"')):
        code = Raw(wire.encode(row.code))
    known = not auth and problem.type in KNOWN_TYPES
    error = _ErrorOut(
        "the provider refused the gateway's credentials" if auth else problem.message,
        problem.type if known and problem.type is not None else row.type,
        problem.param,
        code,
    )
    if problem.request_id is not None:
        error.request_id = problem.request_id
    status = row.status or problem.status
    return (503 if status == 529 else status if 400 <= status < 600 else 502), wire.encode(_BodyOut(error))


KNOWN_TYPES = frozenset(
    {"invalid_request_error", "insufficient_quota", "permission_error", "rate_limit_error", "server_error", "tokens",
     "requests", "image_generation_user_error"}
)  # fmt: skip
"""Types that OpenAI itself uses; others' words would tell its clients nothing."""
