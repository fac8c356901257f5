"""Errors of OpenAI's Responses API: in answers, in failed responses and in streams, both ways.

Source: https://platform.openai.com/docs/guides/error-codes and the type `ResponseError` of the official SDK.
"""

from collections.abc import Mapping

import msgspec
from msgspec import Raw, Struct

from fastgw.dialects.hub import Problem
from fastgw.dialects.openai_responses.items import NULL, UNREADABLE
from fastgw.errors import GatewayError

STATUS = {
    "bad_request": 400,
    "context_length": 400,
    "auth": 502,
    "billing": 429,
    "forbidden": 403,
    "not_found": 404,
    "too_large": 413,
    "rate_limit": 429,
    "server": 500,
    "overloaded": 503,
    "timeout": 504,
    "content_filter": 400,
}
"""The status of each cause, where the upstream's own cannot stand."""
TYPES = {
    "auth": "api_error",
    "billing": "insufficient_quota",
    "forbidden": "permission_error",
    "rate_limit": "rate_limit_error",
    "server": "server_error",
    "overloaded": "server_error",
    "timeout": "server_error",
}
CODES = {
    "context_length": "context_length_exceeded",
    "auth": "upstream_auth_failed",
    "billing": "insufficient_quota",
    "not_found": "model_not_found",
    "rate_limit": "rate_limit_exceeded",
    "server": "server_error",
    "overloaded": "server_error",
    "timeout": "server_error",
    "content_filter": "content_filter",
}
NAMED = frozenset({"context_length", "billing", "content_filter"})
"""Causes that clients know by their code, so that another dialect's number must not stand there."""
OWN_TYPES = frozenset(
    {
        "invalid_request_error",
        "rate_limit_error",
        "insufficient_quota",
        "server_error",
        "api_error",
        "permission_error",
        "tokens",
        "requests",
        "image_generation_user_error",
    }
)
CAUSE_OF_CODE = {
    "context_length_exceeded": "context_length",
    "invalid_api_key": "auth",
    "insufficient_quota": "billing",
    "billing_hard_limit_reached": "billing",
    "model_not_found": "not_found",
    "DeploymentNotFound": "not_found",
    "rate_limit_exceeded": "rate_limit",
    "server_error": "server",
    "server_is_overloaded": "overloaded",
    "slow_down": "overloaded",
    "vector_store_timeout": "timeout",
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "image_content_policy_violation": "content_filter",
    "bio_policy": "content_filter",
    "misalignment_policy_violation": "content_filter",
    "invalid_prompt": "bad_request",
}
CAUSE_OF_STATUS = {
    401: "auth",
    402: "billing",
    403: "forbidden",
    404: "not_found",
    408: "timeout",
    413: "too_large",
    429: "rate_limit",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}
UNSAID = "the provider gave no reason"


class ErrorIn(Struct):
    """An error as told: inside an answer, a failed response or an event. `code` and `param` are kept as they are."""

    message: str | None = None
    type: str | None = None
    code: Raw = NULL
    param: Raw = NULL


class _Body(Struct):
    error: Raw = NULL
    message: str | None = None
    detail: Raw = NULL


class ErrorOut(Struct):
    """An error as clients read it."""

    message: str
    type: str
    param: str | None
    code: Raw | str | None


_read_body = msgspec.json.Decoder(_Body).decode
_read_error = msgspec.json.Decoder(ErrorIn).decode
_read_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.encode


def _text(raw: Raw) -> str | None:
    """The JSON string `raw`; None for anything else."""
    try:
        return _read_text(raw)
    except UNREADABLE:
        return None


def cause_of(status: int, code: str | None, message: str) -> str:
    """The cause in the hub's words: by the code where it is known, then by the status (0: unknown)."""
    cause = CAUSE_OF_CODE.get(code or "")
    if cause is not None:
        return cause
    if code is not None and "image" in code:
        return "bad_request"
    if status == 400 and ("context length" in message or "context window" in message):
        return "context_length"
    return CAUSE_OF_STATUS.get(status, "server" if status >= 500 or not status else "bad_request")


def told(raw: Raw) -> ErrorIn:
    """An error object, forgivingly: a bare string is its message."""
    try:
        return _read_error(raw)
    except UNREADABLE:
        return ErrorIn(message=_text(raw))


def problem_of(error: ErrorIn, status: int = 0) -> Problem:
    """An error in the hub's terms; `status` 0 for one inside a stream or reply, which takes its cause's."""
    message, code = error.message or UNSAID, _text(error.code)
    cause = cause_of(status, code or error.type, message)
    kept = None if error.code == NULL else error.code
    return Problem(cause, status or STATUS[cause], message, error.type, kept, _text(error.param))


def read_error(status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
    """See `Codec.read_error`."""
    try:
        read = _read_body(body)
    except UNREADABLE:
        read = _Body()
    error = told(read.error)
    if error.message is None:
        error.message = read.message or _text(read.detail)
    problem = problem_of(error, status)
    problem.retry_after = _retry_after(headers)
    request_id = headers.get(b"x-request-id")
    problem.request_id = request_id.decode("latin-1") if request_id else None
    return problem


def _retry_after(headers: Mapping[bytes, bytes]) -> float | None:
    """Seconds, from `retry-after-ms` or `retry-after`; None for a date, which takes a clock to read."""
    for name, unit in ((b"retry-after-ms", 1000.0), (b"retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        if 0.0 <= seconds < 1e6:
            return seconds
    return None


def status_of(problem: Problem) -> int:
    """The status for a client. Our own key refused is our fault (502), 529 is a word of Anthropic's."""
    if problem.cause in ("auth", "overloaded") or not 400 <= problem.status <= 599:
        return STATUS.get(problem.cause, 502)
    return problem.status


def error_out(error: GatewayError | Problem) -> ErrorOut:
    """An error as clients read it."""
    if isinstance(error, GatewayError):
        return ErrorOut(error.message, error.row.type, error.param, error.row.code)
    kind = TYPES.get(error.cause, "invalid_request_error")
    if error.type in OWN_TYPES and error.cause != "auth":
        kind = error.type
    numbered = error.cause in NAMED and error.code is not None and not bytes(error.code).startswith(b'"')
    code = CODES.get(error.cause) if error.code is None or error.cause == "auth" or numbered else error.code
    return ErrorOut(error.message, kind, error.param, code)


class _Answer(Struct):
    error: ErrorOut


def write_problem(problem: Problem, call_id: str) -> tuple[int, bytes]:
    """See `Codec.write_problem`."""
    return status_of(problem), _encode(_Answer(error_out(problem)))
