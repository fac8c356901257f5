"""Errors as Google tells them: google.rpc.Status in JSON, https://ai.google.dev/gemini-api/docs/troubleshooting.

A bad key comes as 400 INVALID_ARGUMENT with the reason API_KEY_INVALID; how long to wait stands in RetryInfo. Whole
error bodies of streams come as an array of one.
"""

import re
from collections.abc import Mapping

import msgspec
from msgspec import Raw, Struct

from fastgw.dialects import errors
from fastgw.dialects.gemini.wire import NOTHING, UNREADABLE, encode
from fastgw.dialects.hub import Problem
from fastgw.errors import GatewayError


class _Detail(Struct, rename={"kind": "@type", "retry_delay": "retryDelay"}):
    kind: str | None = None
    reason: str | None = None
    retry_delay: str | None = None


class _Status(Struct):
    code: Raw = NOTHING
    message: str | None = None
    status: str | None = None
    details: list[_Detail] | None = None


class _Body(Struct):
    error: _Status | None = None


_read_body = msgspec.json.Decoder(_Body).decode
_read_bodies = msgspec.json.Decoder(list[_Body]).decode
_read_status = msgspec.json.Decoder(_Status).decode

STATUSES: dict[str, tuple[str, int]] = {
    "INVALID_ARGUMENT": ("bad_request", 400),
    "FAILED_PRECONDITION": ("bad_request", 400),
    "OUT_OF_RANGE": ("bad_request", 400),
    "UNAUTHENTICATED": ("auth", 401),
    "PERMISSION_DENIED": ("forbidden", 403),
    "NOT_FOUND": ("not_found", 404),
    "ALREADY_EXISTS": ("bad_request", 409),
    "ABORTED": ("server", 409),
    "RESOURCE_EXHAUSTED": ("rate_limit", 429),
    "CANCELLED": ("server", 499),
    "UNKNOWN": ("server", 500),
    "DATA_LOSS": ("server", 500),
    "INTERNAL": ("server", 500),
    "UNIMPLEMENTED": ("bad_request", 501),
    "UNAVAILABLE": ("overloaded", 503),
    "DEADLINE_EXCEEDED": ("timeout", 504),
}
"""Google's canonical codes: the cause, and the HTTP status that goes with it."""
_BY_HTTP = {
    400: "bad_request",
    401: "auth",
    402: "billing",
    403: "forbidden",
    404: "not_found",
    408: "timeout",
    413: "too_large",
    429: "rate_limit",
    503: "overloaded",
    504: "timeout",
}
_WRITTEN: dict[str, tuple[int, str]] = {
    "bad_request": (400, "INVALID_ARGUMENT"),
    "context_length": (400, "INVALID_ARGUMENT"),
    "auth": (502, "UNAVAILABLE"),
    "billing": (429, "RESOURCE_EXHAUSTED"),
    "forbidden": (403, "PERMISSION_DENIED"),
    "not_found": (404, "NOT_FOUND"),
    "too_large": (413, "INVALID_ARGUMENT"),
    "rate_limit": (429, "RESOURCE_EXHAUSTED"),
    "server": (500, "INTERNAL"),
    "overloaded": (503, "UNAVAILABLE"),
    "timeout": (504, "DEADLINE_EXCEEDED"),
    "content_filter": (400, "INVALID_ARGUMENT"),
}
_TOO_LONG = re.compile(r"(?:token count|input token|prompt).{0,80}(?:exceed|too long)", re.IGNORECASE)
_SECONDS = re.compile(r"(\d{1,9}(?:\.\d+)?)s?\Z")
_OUR_KEY = "the provider refused the gateway's own credentials"
_RPC = "type.googleapis.com/google.rpc."
MAX_MESSAGE = 8192


def read_error(status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
    """See `codec.Codec`."""
    try:
        if body.lstrip()[:1] == b"[":
            found = next((one.error for one in _read_bodies(body) if one.error is not None), None)
        else:
            found = _read_body(body).error
    except UNREADABLE:
        found = None
    if found is None:
        text = body[:MAX_MESSAGE].decode("utf-8", "replace").strip()
        found = _Status(message=text or f"the upstream answered {status}")
    return _problem(found, status, headers)


def read_stream_error(raw: Raw) -> Problem:
    """The error of a frame, which has no HTTP status of its own."""
    try:
        found = _read_status(raw)
    except UNREADABLE:
        found = _Status(message=bytes(raw)[:MAX_MESSAGE].decode("utf-8", "replace"))
    code = bytes(found.code)
    status = int(code) if code.isdigit() and len(code) == 3 else STATUSES.get(found.status or "", ("", 500))[1]
    return _problem(found, status, {})


def _problem(found: _Status, status: int, headers: Mapping[bytes, bytes]) -> Problem:
    message = (found.message or "")[:MAX_MESSAGE] or f"the upstream answered {status}"
    reasons = {one.reason for one in found.details or () if one.reason}
    cause = STATUSES.get(found.status or "", (None, 0))[0] or _BY_HTTP.get(status)
    if cause is None:
        cause = "bad_request" if status < 500 else "server"
    if "API_KEY_INVALID" in reasons or "API_KEY_EXPIRED" in reasons or message.startswith("API key not valid"):
        cause = "auth"
    elif cause == "bad_request" and _TOO_LONG.search(message):
        cause = "context_length"
    elif (cause == "bad_request" and "billing" in message.lower()) or "BILLING_DISABLED" in reasons:
        cause = "billing"
    delay = next((one.retry_delay for one in found.details or () if one.retry_delay), None)
    return Problem(
        cause,
        status,
        message,
        found.status,
        found.code or None,
        None,
        _seconds(delay) if delay is not None else _seconds(headers.get(b"retry-after", b"").decode("latin-1")),
        headers.get(b"x-request-id", b"").decode("latin-1") or None,
    )


def _seconds(text: str) -> float | None:
    """Seconds of `34.4s` or `34`; None for anything else, such as a date, which needs a clock."""
    match = _SECONDS.match(text.strip())
    return float(match[1]) if match is not None else None


def write_problem(problem: Problem, call_id: str) -> tuple[int, bytes]:
    """See `codec.Codec`. A refusal of our own key is not told as one of the client's."""
    status, name = _WRITTEN.get(problem.cause, (problem.status, "INTERNAL"))
    if problem.type in STATUSES and STATUSES[problem.type][0] == problem.cause and problem.cause != "auth":
        name = problem.type
    if problem.cause in ("server", "bad_request") and 400 <= problem.status < 600 and problem.status != 529:
        status = problem.status
    message = _OUR_KEY if problem.cause == "auth" else problem.message
    return status, encode({"error": _error(status, name, message, problem, call_id)})


def _error(status: int, name: str, message: str, problem: Problem, call_id: str) -> dict[str, object]:
    metadata: dict[str, str] = {"requestId": call_id} if call_id else {}
    if problem.request_id:
        metadata["providerRequestId"] = problem.request_id
    if problem.param:
        metadata["param"] = problem.param
    if problem.code is not None and bytes(problem.code) != b"null" and problem.cause != "auth":
        metadata["code"] = bytes(problem.code).decode().strip('"')
    reason = (problem.cause if problem.cause != "auth" else "upstream_auth_failed").upper()
    info: dict[str, object] = {"@type": f"{_RPC}ErrorInfo", "reason": reason, "domain": "fastgw", "metadata": metadata}
    details: list[dict[str, object]] = [info]
    if problem.retry_after is not None:
        delay = f"{problem.retry_after:.9f}".rstrip("0").rstrip(".") + "s"
        details.append({"@type": f"{_RPC}RetryInfo", "retryDelay": delay})
    return {"code": status, "message": message, "status": name, "details": details}


def write_failure(error: GatewayError | Problem, call_id: str) -> bytes:
    """The body of an error of either kind, as it stands in a stream."""
    if isinstance(error, Problem):
        return write_problem(error, call_id)[1]
    return errors.gemini(error, call_id)
