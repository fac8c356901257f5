"""What can go wrong with a call: one exception class and the fixed catalogue of its kinds.

A kind is the stable name of a case. It decides the status, the OpenAI `type` and `code`, who caused it and whether
another attempt may be made, so that no caller of this module ever reads a message to decide anything.
"""

from typing import Literal, NamedTuple

Source = Literal["client", "gateway", "upstream"]


class Kind(NamedTuple):
    """One row of the catalogue. `retryable`: another target may be tried, as nothing has been answered yet."""

    status: int
    type: str
    code: str
    source: Source
    retryable: bool = False


KINDS: dict[str, Kind] = {
    "invalid_api_key": Kind(401, "invalid_request_error", "invalid_api_key", "client"),
    "key_expired": Kind(401, "invalid_request_error", "key_expired", "client"),
    "key_blocked": Kind(401, "invalid_request_error", "key_blocked", "client"),
    "ambiguous_key": Kind(400, "invalid_request_error", "ambiguous_key", "client"),
    "model_not_found": Kind(404, "invalid_request_error", "model_not_found", "client"),
    "response_not_found": Kind(404, "invalid_request_error", "response_not_found", "client"),
    "address_not_allowed": Kind(403, "permission_error", "address_not_allowed", "client"),
    "model_not_allowed": Kind(403, "permission_error", "model_not_allowed", "client"),
    "invalid_json": Kind(400, "invalid_request_error", "invalid_json", "client"),
    "duplicate_field": Kind(400, "invalid_request_error", "duplicate_field", "client"),
    "invalid_type": Kind(400, "invalid_request_error", "invalid_type", "client"),
    "missing_field": Kind(400, "invalid_request_error", "missing_field", "client"),
    "forbidden_field": Kind(400, "invalid_request_error", "forbidden_field", "client"),
    "unsupported_field": Kind(400, "invalid_request_error", "unsupported_field", "client"),
    "bad_request": Kind(400, "invalid_request_error", "bad_request", "client"),
    "headers_too_large": Kind(431, "invalid_request_error", "request_too_large", "client"),
    "request_too_large": Kind(413, "invalid_request_error", "request_too_large", "client"),
    "request_timeout": Kind(408, "invalid_request_error", "request_timeout", "client"),
    "client_closed": Kind(499, "invalid_request_error", "client_closed", "client"),
    "rate_limit_exceeded": Kind(429, "rate_limit_error", "rate_limit_exceeded", "client"),
    "concurrency_limit_exceeded": Kind(429, "rate_limit_error", "concurrency_limit_exceeded", "client"),
    "budget_exceeded": Kind(429, "insufficient_quota", "budget_exceeded", "client"),
    "price_unknown": Kind(400, "invalid_request_error", "price_unknown", "client"),
    "endpoint_not_enabled": Kind(404, "invalid_request_error", "endpoint_not_enabled", "client"),
    "method_not_allowed": Kind(405, "invalid_request_error", "bad_request", "client"),
    "upstream_unreachable": Kind(502, "api_error", "upstream_unreachable", "upstream", retryable=True),
    "upstream_timeout": Kind(504, "api_error", "upstream_timeout", "upstream", retryable=True),
    "upstream_auth_failed": Kind(502, "api_error", "upstream_auth_failed", "upstream", retryable=True),
    "upstream_invalid_response": Kind(502, "api_error", "upstream_invalid_response", "upstream", retryable=True),
    "upstream_rate_limited": Kind(429, "rate_limit_error", "rate_limit_exceeded", "upstream", retryable=True),
    "upstream_busy": Kind(503, "api_error", "overloaded", "gateway", retryable=True),
    "no_target_available": Kind(503, "api_error", "no_target_available", "gateway"),
    "overloaded": Kind(503, "api_error", "overloaded", "gateway"),
    "shutting_down": Kind(503, "api_error", "overloaded", "gateway"),
    "internal_error": Kind(500, "api_error", "internal_error", "gateway"),
}


class GatewayError(Exception):
    """A refusal or a failure in the catalogue's terms.

    Args:
        kind: a name of `KINDS`.
        message: for the caller: what is wrong, which rule said so, what to do. Never holds a secret or a body.
        param: the request field at fault, when there is one.
        retry_after: seconds until another attempt makes sense; sent as `retry-after`.
        allow: the methods that the path takes, where it is the method that is refused; sent as `allow`.
    """

    __slots__ = ("allow", "kind", "message", "param", "retry_after", "row")

    def __init__(
        self, kind: str, message: str, *, param: str | None = None, retry_after: float | None = None, allow: str = ""
    ) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.row = KINDS[kind]
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.allow = allow

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return self.row.status


class UpstreamError(GatewayError):
    """A failure of one attempt at an upstream; `reason` is a stable word for records and metrics.

    Reasons: `connect` (refused, unreachable, dns, tls: nothing was sent), `queue_full`, `queue_timeout` (no
    connection to be had: nothing was sent), `auth` (no credential to be had: nothing was sent), `not_offered` (the
    provider has no such operation: nothing was sent), `timeout` (first byte, idle or total deadline), `reset` (the
    connection ended before the reply did), `invalid` (not HTTP as RFC 9112 has it), `too_large` (a cap was hit).
    `sent` is False when not one byte of the request can have reached the upstream: nothing can have been billed.
    """

    __slots__ = ("reason", "sent")

    def __init__(self, kind: str, message: str, *, reason: str, sent: bool) -> None:
        super().__init__(kind, message)
        self.reason = reason
        self.sent = sent
