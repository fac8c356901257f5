"""The Gemini dialect of the mock: routes, headers, errors, models. Bodies are made in `gemini_generate` and
`gemini_embed`.

Shapes follow https://ai.google.dev/api/generate-content and the errors google.rpc.Status in JSON.
"""

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qs, unquote

import msgspec

from fastgw.mock.base import JSON, Answer, Handler, Refused, Request, has_header
from fastgw.mock.gemini_embed import Batch, Embed, answer_batch, answer_embed
from fastgw.mock.gemini_generate import Count, Generate, answer_count, answer_generate, camel
from fastgw.mock.options import MockOptions

_MODEL: Final = re.compile(r"(?:/genai|/gemini)?/v1(?:beta|alpha)?/(?:[^:]+/)?models/([^:]+):(\w+)")
_OWN: Final = re.compile(
    r"(?:/genai|/gemini)/|/v1(?:beta(?!/openai/)|alpha)/|/v1/[^:]*models/[^:]+:[a-z]+(?:[A-Z][a-z]+)+\Z"
)
_LIST: Final = re.compile(r"(?:/genai|/gemini)?/v1(?:beta|alpha)/models(?:/([^:/]+))?")
_HEADERS: Final = b"vary: Origin, X-Origin, Referer\r\nx-gemini-service-tier: standard\r\n"
_RPC: Final = "type.googleapis.com/google.rpc."

# status -> (canonical code, message).
_ERRORS: Final = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
    403: ("PERMISSION_DENIED", "The caller does not have permission"),
    404: ("NOT_FOUND", "models/{model} is not found for API version v1beta."),
    408: ("DEADLINE_EXCEEDED", "Request timed out."),
    409: ("ABORTED", "The operation was aborted."),
    413: ("INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes."),
    422: ("INVALID_ARGUMENT", "Unprocessable entity."),
    429: ("RESOURCE_EXHAUSTED", "You exceeded your current quota. Please retry in 1s."),
    500: ("INTERNAL", "An internal error has occurred. Please retry."),
    502: ("UNAVAILABLE", "Bad gateway."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
    529: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
}
_RETRY: Final = {"@type": f"{_RPC}RetryInfo", "retryDelay": "1s"}
_BAD_KEY: Final = {"@type": f"{_RPC}ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
_METHODS: Final[dict[str, tuple[Any, Callable[..., Answer]]]] = {
    "generateContent": (Generate, answer_generate),
    "streamGenerateContent": (Generate, answer_generate),
    "countTokens": (Count, answer_count),
    "embedContent": (Embed, answer_embed),
    "batchEmbedContents": (Batch, answer_batch),
}
# Numbers that no float holds are the caller's right inside schemas and arguments.
_decode: Final = msgspec.json.Decoder(float_hook=float).decode


def error_body(code: int, status: str, message: str, *details: dict[str, str]) -> bytes:
    """An error object of Google's APIs."""
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    return msgspec.json.encode({"error": error | {"details": details} if details else error})


class Gemini:
    """`/v1beta/models/{model}:{method}`, the same under `/v1`, and Vertex's longer paths."""

    def __init__(self, options: MockOptions) -> None:
        self._options = options

    def owns(self, path: str) -> bool:
        """Google's own versions; of `/v1` only models with a method in camel case: others' names have colons too."""
        return _OWN.match(path) is not None

    def route(self, path: str) -> tuple[str, Handler] | None:
        """(method, handler) of a path; None is a 404."""
        if (found := _MODEL.fullmatch(path)) is not None and found[2] in _METHODS:
            model, method = unquote(found[1]), found[2]
            return "POST", lambda request: self._make(request, model, method)
        if (found := _LIST.fullmatch(path)) is not None:
            name = found[1]
            return "GET", self._models if name is None else lambda request: self._model(unquote(name))
        return None

    def admits(self, request: Request, key: str) -> bool:
        """The key in `x-goog-api-key`, in the query, or as a bearer token (Vertex)."""
        return (
            has_header(request, b"x-goog-api-key", key)
            or has_header(request, b"authorization", f"Bearer {key}")
            or key in parse_qs(request.query).get("key", ())
        )

    def error(self, status: int, model: str = "", path: str = "") -> Answer:
        """Google's usual error for a status; how long to wait after a 429 stands in the details, not in a header."""
        code, message = _ERRORS.get(status, _ERRORS[500 if status >= 500 else 400])
        details = (_RETRY,) if status == 429 else ()
        answer = self._refusal(status, code, message.format(model=model), *details)
        answer.model = model
        return answer

    def denied(self, path: str) -> Answer:
        """A wrong key is no 401 here: https://ai.google.dev/gemini-api/docs/troubleshooting."""
        return self._refusal(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", _BAD_KEY)

    def unknown(self, method: str, path: str) -> Answer:
        """Google's 404 for an address it does not have."""
        return self._refusal(404, "NOT_FOUND", f"Method not found: {method} {path}")

    def wrong_method(self, method: str, path: str, allowed: str) -> Answer:
        """Google's 405."""
        answer = self._refusal(405, "UNIMPLEMENTED", f"{method} is not supported here.")
        answer.headers += f"allow: {allowed}\r\n".encode()
        return answer

    def _refusal(self, status: int, code: str, message: str, *details: dict[str, str]) -> Answer:
        return Answer(status, JSON + _HEADERS, error_body(status, code, message, *details))

    def _invalid(self, message: str) -> Refused:
        return Refused(self._refusal(400, "INVALID_ARGUMENT", message))

    def _make(self, request: Request, model: str, method: str) -> Answer:
        kind, build = _METHODS[method]
        try:
            body = msgspec.convert(camel(_decode(request.body or b"{}")), kind)
        except msgspec.ValidationError as error:
            raise self._invalid(f"Invalid value at {error}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._invalid("Invalid JSON payload received.") from error
        body.model = model
        if (wrong := body.problem()) is not None:
            raise self._invalid(wrong)
        stream = method == "streamGenerateContent"
        sse = stream and parse_qs(request.query).get("alt") == ["sse"]
        body.form = "sse" if sse else "array" if stream else ""
        answer = build(body, self._options)
        answer.headers += _HEADERS
        answer.model = model
        failure = error_body(500, *_ERRORS[500])
        answer.error_event = b"data: " + failure + b"\r\n\r\n" if sse else b",\r\n" + failure + b"]"
        return answer

    def _models(self, request: Request) -> Answer:
        rows = [_model_row(name) for name in self._options.models]
        return Answer(200, JSON + _HEADERS, msgspec.json.encode({"models": rows}))

    def _model(self, name: str) -> Answer:
        if name in self._options.models or name.startswith("mock-"):
            return Answer(200, JSON + _HEADERS, msgspec.json.encode(_model_row(name)))
        return self.error(404, name)


def _model_row(name: str) -> dict[str, Any]:
    row = {"name": f"models/{name}", "version": "001", "displayName": name, "inputTokenLimit": 1_048_576}
    return row | {"outputTokenLimit": 65_536, "supportedGenerationMethods": list(_METHODS)}
