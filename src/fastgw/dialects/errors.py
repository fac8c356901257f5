"""The three shapes in which callers read errors. Sources: the error pages of the OpenAI, Anthropic and Gemini APIs."""

import msgspec

from fastgw.errors import GatewayError

ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
GEMINI_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def openai(error: GatewayError, call_id: str) -> bytes:
    """`{"error": {message, type, param, code}}`."""
    row = error.row
    return msgspec.json.encode(
        {"error": {"message": error.message, "type": row.type, "param": error.param, "code": row.code}}
    )


def anthropic(error: GatewayError, call_id: str) -> bytes:
    """`{"type": "error", "error": {type, message}, "request_id"}`."""
    kind = ANTHROPIC_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    return msgspec.json.encode(
        {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": call_id}
    )


def gemini(error: GatewayError, call_id: str) -> bytes:
    """`{"error": {code, message, status, details}}`, as google.rpc.Status is written in JSON."""
    status = GEMINI_STATUS.get(error.status, "INVALID_ARGUMENT" if error.status < 500 else "INTERNAL")
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": error.row.code, "domain": "fastgw"}]
    return msgspec.json.encode(
        {"error": {"code": error.status, "message": error.message, "status": status, "details": details}}
    )


WRITERS = {"openai": openai, "anthropic": anthropic, "gemini": gemini}
