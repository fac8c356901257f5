"""The OpenAI dialect of the mock: routes, headers, errors, models. Bodies are made in `openai_chat`, `openai_text`
and `responses`.

Shapes follow the published OpenAI reference; those under `/openai/deployments/` follow Azure's.
"""

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from fastgw.mock.base import ID_MARK, JSON, Answer, Handler, Refused, Request, has_header
from fastgw.mock.openai_chat import Chat, answer_chat
from fastgw.mock.openai_text import Completion, Embedding, answer_completion, answer_embedding
from fastgw.mock.options import MockOptions
from fastgw.mock.responses import Responses, answer_input_tokens, answer_responses

MODELS_CREATED: Final = 1_700_000_000
_DEPLOYMENTS: Final = "/openai/deployments/"
_PREFIXES: Final = ("/v1/", "/openai/v1/", _DEPLOYMENTS)

# status -> (message, type, code), in the words of OpenAI's error reference.
_ERRORS: Final = {
    400: ("Invalid value for the request.", "invalid_request_error", "invalid_value"),
    401: ("Incorrect API key provided: mock-***. ", "invalid_request_error", "invalid_api_key"),
    403: ("Country, region, or territory not supported", "request_forbidden", "unsupported_country_region_territory"),
    404: ("The model `{model}` does not exist or you do not have access to it.", "invalid_request_error",
          "model_not_found"),
    408: ("Request timeout.", "timeout", "request_timeout"),
    409: ("The resource was updated by another request.", "conflict_error", None),
    413: ("Request body too large.", "invalid_request_error", "request_too_large"),
    422: ("Unprocessable entity.", "invalid_request_error", None),
    429: ("Rate limit reached for {model} on requests per min (RPM): Limit 500, Used 500, Requested 1. "
          "Please try again in 1s.", "requests", "rate_limit_exceeded"),
    500: ("The server had an error while processing your request. Sorry about that!", "server_error", None),
    502: ("Bad gateway.", "server_error", None),
    503: ("The engine is currently overloaded, please try again later.", "server_error", "overloaded"),
    504: ("Gateway timeout.", "server_error", None),
    529: ("The engine is currently overloaded, please try again later.", "server_error", "overloaded"),
}  # fmt: skip
_BODIES: Final[dict[str, tuple[type[Any], Callable[..., Answer]]]] = {
    "chat/completions": (Chat, answer_chat),
    "completions": (Completion, answer_completion),
    "embeddings": (Embedding, answer_embedding),
    "responses": (Responses, answer_responses),
    "responses/input_tokens": (Responses, answer_input_tokens),
}
_DEPLOYED: Final = frozenset({"chat/completions", "completions", "embeddings"})


def error_body(message: str, kind: str, code: str | None, param: str | None = None) -> bytes:
    """An OpenAI error object."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


class OpenAI:
    """`/v1/...` and `/openai/v1/...`, and Azure's `/openai/deployments/{model}/...`."""

    def __init__(self, options: MockOptions) -> None:
        self._options = options
        self._id_headers = (
            JSON
            + (
                f"x-request-id: req_{ID_MARK}\r\nopenai-processing-ms: {round(options.latency)}\r\n"
                "openai-version: 2020-10-01\r\nopenai-organization: mock-organization\r\n"
            ).encode()
        )
        self._limit_headers = (
            b"x-ratelimit-limit-requests: 10000\r\nx-ratelimit-limit-tokens: 200000\r\n"
            b"x-ratelimit-remaining-requests: 9999\r\nx-ratelimit-remaining-tokens: 199968\r\n"
            b"x-ratelimit-reset-requests: 6ms\r\nx-ratelimit-reset-tokens: 9ms\r\n"
        )
        self._decoders = {name: msgspec.json.Decoder(kind, float_hook=float) for name, (kind, _) in _BODIES.items()}

    def owns(self, path: str) -> bool:
        """The catch-all: paths of no other dialect get OpenAI's errors."""
        return True

    def route(self, path: str) -> tuple[str, Handler] | None:
        """(method, handler) of a path; None is a 404."""
        prefix = next((p for p in _PREFIXES if path.startswith(p)), None)
        if prefix is None:
            return None
        rest = path[len(prefix) :]
        if prefix == _DEPLOYMENTS:
            deployment, _, rest = rest.partition("/")
            if not deployment or rest not in _DEPLOYED:
                return None
            return "POST", lambda request: self._azure(request, unquote(deployment), rest)
        if rest in _BODIES:
            return "POST", lambda request: self._make(request, rest)
        if rest == "models":
            return "GET", self._models
        if rest.startswith("models/") and len(rest) > 7:
            return "GET", lambda request: self._model(unquote(rest[7:]))
        return None

    def admits(self, request: Request, key: str) -> bool:
        """OpenAI's bearer token or Azure's `api-key`."""
        return has_header(request, b"authorization", f"Bearer {key}") or has_header(request, b"api-key", key)

    def denied(self, path: str) -> Answer:
        """OpenAI's 401."""
        return self.error(401, "", path)

    def error(self, status: int, model: str = "", path: str = "") -> Answer:
        """OpenAI's (or Azure's) usual error for a status; 429, 503 and 529 ask to retry after one second."""
        message, kind, code = _ERRORS.get(status, _ERRORS[500 if status >= 500 else 400])
        if path.startswith(_DEPLOYMENTS):
            code = str(status)
        answer = self._refusal(status, message.format(model=model), kind, code)
        answer.model = model
        if status in (429, 503, 529):
            answer.headers += b"retry-after: 1\r\nretry-after-ms: 1000\r\n" if status == 429 else b"retry-after: 1\r\n"
        return answer

    def unknown(self, method: str, path: str) -> Answer:
        """OpenAI's 404 for an address it does not have."""
        return self._refusal(404, f"Invalid URL ({method} {path})", "invalid_request_error", None)

    def wrong_method(self, method: str, path: str, allowed: str) -> Answer:
        """OpenAI's 405."""
        body = error_body(f"Not allowed to {method} on {path}.", "invalid_request_error", "method_not_supported")
        return Answer(405, JSON + f"allow: {allowed}\r\n".encode(), body)

    def _refusal(self, status: int, message: str, kind: str, code: str | None, param: str | None = None) -> Answer:
        return Answer(status, self._id_headers, error_body(message, kind, code, param))

    def _make(self, request: Request, name: str, deployment: str = "") -> Answer:
        try:
            body = self._decoders[name].decode(request.body)
        except msgspec.ValidationError as error:
            raise Refused(
                self._refusal(400, f"Invalid type: {error}", "invalid_request_error", "invalid_type")
            ) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message = "We could not parse the JSON body of your request."
            raise Refused(self._refusal(400, message, "invalid_request_error", None)) from error
        if deployment:
            body.model = deployment
        if not body.model:
            message = "you must provide a model parameter"
            raise Refused(self._refusal(400, message, "invalid_request_error", None))
        if (wrong := body.problem()) is not None:
            message, param, code = wrong
            raise Refused(self._refusal(400, message, "invalid_request_error", code, param))
        answer: Answer = _BODIES[name][1](body, self._options, bool(deployment))
        answer.headers = (answer.headers or b"") + (
            self._limit_headers + (self._id_headers if not answer.events else self._id_headers[len(JSON) :])
        )
        answer.error_event = (
            answer.error_event or b"data: " + error_body(_ERRORS[500][0], "server_error", None) + b"\n\n"
        )
        return answer

    def _azure(self, request: Request, deployment: str, name: str) -> Answer:
        if "api-version=" not in request.query:
            body = msgspec.json.encode({"error": {"code": "404", "message": "Resource not found"}})
            raise Refused(Answer(404, self._id_headers, body))
        answer = self._make(request, name, deployment)
        answer.headers += f"apim-request-id: {ID_MARK}\r\nx-ms-region: Mock\r\n".encode()
        return answer

    def _models(self, request: Request) -> Answer:
        data = [_model_row(name) for name in self._options.models]
        return Answer(200, self._id_headers, msgspec.json.encode({"object": "list", "data": data}))

    def _model(self, name: str) -> Answer:
        if name in self._options.models or name.startswith("mock-"):
            return Answer(200, self._id_headers, msgspec.json.encode(_model_row(name)))
        return self.error(404, name)


def _model_row(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": MODELS_CREATED, "owned_by": "mock"}
