"""The Bedrock dialect of the mock: routes, headers, errors of Converse. Bodies are made in `bedrock_converse`.

Shapes follow https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html. The framing of streams
is AWS's own, checksums and all; nothing in a frame differs from call to call, or they would not hold.
"""

import re
from typing import Final
from urllib.parse import unquote

import msgspec

from fastgw.dialects.event_stream import exception
from fastgw.mock.base import ID_MARK, JSON, Answer, Handler, Refused, Request, has_header
from fastgw.mock.bedrock_converse import Converse, answer_converse, problem
from fastgw.mock.options import MockOptions

_PATH: Final = re.compile(r"/model/([^/]+)/(converse|converse-stream)")

# status -> (type, message), in the words of AWS's pages on errors.
_ERRORS: Final = {
    400: ("ValidationException", "The input fails to satisfy the constraints specified by an AWS service."),
    401: ("UnrecognizedClientException", "The security token included in the request is invalid."),
    403: ("AccessDeniedException", "You don't have access to the model with the specified model ID."),
    404: ("ResourceNotFoundException", "Could not resolve the foundation model from the model identifier {model}."),
    408: ("ModelTimeoutException", "Model has timed out in processing the request. Try your request again."),
    409: ("ConflictException", "Error occurred because of a conflict while performing an operation."),
    413: ("RequestEntityTooLargeException", "The request is larger than 25 MB."),
    424: ("ModelErrorException", "The system encountered an unexpected error during processing."),
    429: ("ThrottlingException", "Too many requests, please wait before trying again."),
    500: ("InternalServerException", "The system encountered an unexpected error during processing. Try again."),
    502: ("InternalServerException", "Bad gateway"),
    503: ("ServiceUnavailableException", "Bedrock is unable to process your request."),
    504: ("ModelTimeoutException", "Model has timed out in processing the request. Try your request again."),
}


class Bedrock:
    """`/model/{model}/converse` and `/model/{model}/converse-stream`."""

    def __init__(self, options: MockOptions) -> None:
        self._options = options
        # Floats would lose digits of the caller's numbers; none of them matter here.
        self._decoder = msgspec.json.Decoder(Converse, float_hook=float)

    def owns(self, path: str) -> bool:
        """All below `/model/`."""
        return path.startswith("/model/")

    def route(self, path: str) -> tuple[str, Handler] | None:
        """(method, handler) of a path; None is a 404."""
        found = _PATH.fullmatch(path)
        if found is None:
            return None
        model, stream = unquote(found[1]), found[2] == "converse-stream"
        return "POST", lambda request: self._converse(request, model, stream=stream)

    def admits(self, request: Request, key: str) -> bool:
        """A Bedrock API key, as a bearer token."""
        return has_header(request, b"authorization", f"Bearer {key}")

    def error(self, status: int, model: str = "", path: str = "") -> Answer:
        """AWS's usual error for a status; how long to wait is never told."""
        kind, message = _ERRORS.get(status, _ERRORS[500 if status >= 500 else 400])
        answer = self._refusal(status, kind, message.format(model=model))
        answer.model = model
        return answer

    def denied(self, path: str) -> Answer:
        """What a wrong key gets."""
        message = "Authentication failed: Please make sure your API Key is valid."
        return self._refusal(403, "AccessDeniedException", message)

    def unknown(self, method: str, path: str) -> Answer:
        """AWS's 404 for an address it does not have."""
        return self._refusal(404, "UnknownOperationException", "")

    def wrong_method(self, method: str, path: str, allowed: str) -> Answer:
        """AWS's 405."""
        answer = self._refusal(405, "UnsupportedOperationException", f"{method} is not supported here.")
        answer.headers += f"allow: {allowed}\r\n".encode()
        return answer

    def _refusal(self, status: int, kind: str, message: str) -> Answer:
        headers = f"x-amzn-requestid: {ID_MARK}\r\nx-amzn-errortype: {kind}:http://internal.amazon.com/\r\n".encode()
        return Answer(status, JSON + headers, msgspec.json.encode({"message": message}))

    def _converse(self, request: Request, model: str, *, stream: bool) -> Answer:
        try:
            body = self._decoder.decode(request.body)
        except msgspec.ValidationError as error:
            raise self._invalid(str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(self._refusal(400, "SerializationException", "could not parse the JSON document")) from error
        if (wrong := problem(body)) is not None:
            raise self._invalid(wrong)
        answer = answer_converse(body, model, self._options, stream=stream)
        answer.headers += f"x-amzn-requestid: {ID_MARK}\r\n".encode()
        answer.model = model
        kind, message = _ERRORS[503]
        answer.error_event = exception(kind[0].lower() + kind[1:], msgspec.json.encode({"message": message}))
        return answer

    def _invalid(self, message: str) -> Refused:
        return Refused(self._refusal(400, "ValidationException", message))
