"""The Cohere dialect of the mock: `/v2/embed`, with the same vectors as in OpenAI's shape.

Shapes follow https://docs.cohere.com/reference/embed and https://docs.cohere.com/reference/errors.
"""

from typing import Final

import msgspec

from fastgw.mock.base import ID_MARK, JSON, Answer, Handler, Refused, Request, has_header
from fastgw.mock.faults import named_fault
from fastgw.mock.options import MockOptions
from fastgw.mock.text import count_tokens, vector

_PATH: Final = "/v2/embed"
_MAX_TEXTS: Final = 96
_DIMENSIONS: Final = (1536, 256, 512, 1024)
_TYPES: Final = frozenset({"search_document", "search_query", "classification", "clustering", "image"})
_MESSAGES: Final = {
    400: "invalid request",
    401: "invalid api token",
    403: "forbidden",
    404: "model '{model}' not found, make sure the correct model ID was used and that you have access to the model.",
    413: "request entity too large",
    422: "unprocessable entity",
    429: "You are past the per minute request limit, please wait and try again later.",
    500: "internal server error",
    503: "service unavailable",
}


class Embed(msgspec.Struct):
    """An embed request; fields not named here are ignored."""

    model: str = ""
    texts: list[str] = []
    input_type: str = ""
    embedding_types: list[str] = []
    output_dimension: int | None = None
    truncate: str = "END"

    def problem(self) -> str | None:
        """What Cohere would refuse the request for, or None."""
        if not self.model:
            return "invalid request: model is required"
        if self.input_type not in _TYPES:
            return "invalid request: valid input_type must be provided with the provided model"
        if not 1 <= len(self.texts) <= _MAX_TEXTS:
            return f"invalid request: total number of texts must be at most {_MAX_TEXTS} - received {len(self.texts)}"
        if self.output_dimension is not None and self.output_dimension not in _DIMENSIONS:
            return f"invalid request: output_dimension must be one of {sorted(_DIMENSIONS)}"
        return None


_decode = msgspec.json.Decoder(Embed, float_hook=float).decode


class Cohere:
    """`/v2/embed`."""

    def __init__(self, options: MockOptions) -> None:
        self._options = options

    def owns(self, path: str) -> bool:
        """That path alone."""
        return path == _PATH

    def route(self, path: str) -> tuple[str, Handler] | None:
        """(method, handler)."""
        return "POST", self._embed

    def admits(self, request: Request, key: str) -> bool:
        """The key as a bearer token."""
        return has_header(request, b"authorization", f"Bearer {key}")

    def error(self, status: int, model: str = "", path: str = "") -> Answer:
        """Cohere's usual error for a status."""
        message = _MESSAGES.get(status, _MESSAGES[500 if status >= 500 else 400])
        answer = self._refusal(status, message.format(model=model))
        answer.model = model
        return answer

    def denied(self, path: str) -> Answer:
        """Cohere's 401."""
        return self.error(401)

    def unknown(self, method: str, path: str) -> Answer:
        """Cohere's 404 for an address it does not have."""
        return self._refusal(404, "page not found")

    def wrong_method(self, method: str, path: str, allowed: str) -> Answer:
        """Cohere's 405."""
        answer = self._refusal(405, "method not allowed")
        answer.headers += f"allow: {allowed}\r\n".encode()
        return answer

    def _refusal(self, status: int, message: str) -> Answer:
        return Answer(status, JSON, msgspec.json.encode({"id": ID_MARK, "message": message}))

    def _embed(self, request: Request) -> Answer:
        try:
            body = _decode(request.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(self._refusal(400, f"invalid request: {error}")) from error
        if (wrong := body.problem()) is not None:
            raise Refused(self._refusal(400, wrong))
        size = body.output_dimension or _DIMENSIONS[0]
        rows = [list(vector(text, size)) for text in body.texts]
        whole: dict[str, object] = {"id": ID_MARK, "embeddings": {"float": rows}, "texts": body.texts}
        fault = named_fault(body.model)
        if fault is None or fault.kind != "nousage":
            billed = {"input_tokens": sum(map(count_tokens, body.texts))}
            whole["meta"] = {"api_version": {"version": "2"}, "billed_units": billed}
        whole["response_type"] = "embeddings_by_type"
        return Answer(200, JSON, msgspec.json.encode(whole), model=body.model)
