"""The Anthropic dialect of the mock: routes, headers, errors. Bodies are made in `anthropic_messages`.

Shapes follow https://platform.claude.com/docs/en/api/messages and .../errors.
"""

import re
from typing import Final
from urllib.parse import unquote

import msgspec

from fastgw.mock.anthropic_messages import Messages, answer_count, answer_messages, problem
from fastgw.mock.base import ID_MARK, JSON, Answer, Handler, Refused, Request, has_header
from fastgw.mock.options import MockOptions

_PATHS: Final = ("/v1/messages", "/anthropic/v1/messages")
_COUNT: Final = "/count_tokens"
_INVALID: Final = "invalid_request_error"
_VERTEX: Final = re.compile(
    r"/v1/projects/[^/]+/locations/[^/]+/publishers/anthropic/models/([^/:]+):(rawPredict|streamRawPredict)"
)
_VERTEX_VERSION: Final = "vertex-2023-10-16"

# status -> (type, message), in the words of Anthropic's page on errors.
_ERRORS: Final = {
    400: (_INVALID, "There was an issue with the format or content of your request."),
    401: ("authentication_error", "invalid x-api-key"),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "model: {model}"),
    408: ("timeout_error", "Request timed out."),
    409: (_INVALID, "The resource was updated by another request."),
    413: ("request_too_large", "Request exceeds the maximum allowed number of bytes."),
    422: (_INVALID, "Unprocessable entity."),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit of 50 requests per minute."),
    500: ("api_error", "Internal server error"),
    502: ("api_error", "Bad gateway"),
    503: ("api_error", "Service unavailable"),
    504: ("timeout_error", "Request timed out while processing."),
    529: ("overloaded_error", "Overloaded"),
}
_RETRIED: Final = frozenset({429, 503, 529})


def error_body(kind: str, message: str) -> bytes:
    """An Anthropic error object."""
    error = {"type": kind, "message": message}
    return msgspec.json.encode({"type": "error", "error": error, "request_id": f"req_{ID_MARK}"})


class Anthropic:
    """`/v1/messages` and `/v1/messages/count_tokens`, also under `/anthropic`."""

    def __init__(self, options: MockOptions) -> None:
        self._options = options
        self._decoder = msgspec.json.Decoder(Messages, float_hook=float)
        self._id_header = f"request-id: req_{ID_MARK}\r\nanthropic-organization-id: mock-organization\r\n".encode()
        self._limit_headers = b"".join(
            b"anthropic-ratelimit-%b-limit: %d\r\nanthropic-ratelimit-%b-remaining: %d\r\n"
            b"anthropic-ratelimit-%b-reset: 2030-01-01T00:00:00Z\r\n" % (name, most, name, most - 1, name)
            for name, most in ((b"requests", 50), (b"input-tokens", 50_000), (b"output-tokens", 10_000))
        )

    def owns(self, path: str) -> bool:
        """`/v1/messages`, what is below it, `/anthropic/`, and Claude on Vertex AI."""
        return path == _PATHS[0] or path.startswith((_PATHS[0] + "/", "/anthropic/")) or bool(_VERTEX.fullmatch(path))

    def route(self, path: str) -> tuple[str, Handler] | None:
        """(method, handler) of a path; None is a 404."""
        if path in _PATHS:
            return "POST", self._messages
        if path.endswith(_COUNT) and path.removesuffix(_COUNT) in _PATHS:
            return "POST", self._count
        if (found := _VERTEX.fullmatch(path)) is not None:
            model, stream = unquote(found[1]), found[2] == "streamRawPredict"
            return "POST", lambda request: self._vertex(request, model, stream)
        return None

    def admits(self, request: Request, key: str) -> bool:
        """The key in `x-api-key`, or as a bearer token."""
        return has_header(request, b"x-api-key", key) or has_header(request, b"authorization", f"Bearer {key}")

    def error(self, status: int, model: str = "", path: str = "") -> Answer:
        """Anthropic's usual error for a status; 429, 503 and 529 ask to retry after one second."""
        kind, message = _ERRORS.get(status, _ERRORS[500 if status >= 500 else 400])
        answer = self._refusal(status, kind, message.format(model=model))
        answer.model = model
        if status in _RETRIED:
            answer.headers += b"retry-after: 1\r\n"
        return answer

    def denied(self, path: str) -> Answer:
        """Anthropic's 401."""
        return self.error(401)

    def unknown(self, method: str, path: str) -> Answer:
        """Anthropic's 404 for an address it does not have."""
        return self._refusal(404, "not_found_error", "Not found")

    def wrong_method(self, method: str, path: str, allowed: str) -> Answer:
        """Anthropic's 405."""
        answer = self._refusal(405, _INVALID, "Method Not Allowed")
        answer.headers += f"allow: {allowed}\r\n".encode()
        return answer

    def _refusal(self, status: int, kind: str, message: str) -> Answer:
        return Answer(status, JSON + self._id_header, error_body(kind, message))

    def _read(self, request: Request, counting: bool) -> Messages:
        """The request, refused where Anthropic would."""
        if not any(name.lower() == b"anthropic-version" for name, _ in request.headers):
            raise Refused(self._refusal(400, _INVALID, "anthropic-version: header is required"))
        try:
            body = self._decoder.decode(request.body)
        except msgspec.ValidationError as error:
            raise Refused(self._refusal(400, _INVALID, str(error))) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message = "The request body is not valid JSON: could not parse it."
            raise Refused(self._refusal(400, _INVALID, message)) from error
        if (wrong := problem(body, counting)) is not None:
            raise Refused(self._refusal(400, _INVALID, wrong))
        return body

    def _messages(self, request: Request) -> Answer:
        answer = answer_messages(self._read(request, counting=False), self._options)
        answer.headers += self._id_header + self._limit_headers
        kind, message = _ERRORS[529]
        answer.error_event = b"event: error\ndata: " + error_body(kind, message) + b"\n\n"
        return answer

    def _vertex(self, request: Request, model: str, stream: bool) -> Answer:
        """As `_messages`, but the path names the model and the body the version."""
        try:
            body = msgspec.json.decode(request.body, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(self._refusal(400, _INVALID, "The request body is not valid JSON.")) from error
        if body.pop("anthropic_version", b"") != msgspec.Raw(msgspec.json.encode(_VERTEX_VERSION)):
            raise Refused(self._refusal(400, _INVALID, f"anthropic_version: Input should be '{_VERTEX_VERSION}'"))
        if "model" in body:
            raise Refused(self._refusal(400, _INVALID, "model: Extra inputs are not permitted"))
        if (body.get("stream") == msgspec.Raw(b"true")) != stream:
            raise Refused(self._refusal(400, _INVALID, "stream: does not fit the method"))
        named = {"model": msgspec.Raw(msgspec.json.encode(model)), **body}
        headers = [*request.headers, (b"anthropic-version", _VERTEX_VERSION.encode())]
        return self._messages(request._replace(body=msgspec.json.encode(named), headers=headers))

    def _count(self, request: Request) -> Answer:
        answer = answer_count(self._read(request, counting=True), self._options)
        answer.headers += self._id_header
        return answer
