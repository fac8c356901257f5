"""Gemini's generateContent and streamGenerateContent, whole: see `codec.Codec`.

Its parts, by concern: `gemini.wire` (structs, signatures), `gemini.names` (both spellings), `gemini.request` and
`gemini.write` (requests), `gemini.schema`, `gemini.media`, `gemini.reply`, `gemini.stream`, `gemini.partial`,
`gemini.errors`; beside the codec stands `gemini.array` (streams without SSE). countTokens and embeddings are
operations of their own: `dialects.counting`, `dialects.embeddings`.
"""

from collections.abc import Mapping

from fastgw.dialects.codec import Reader as AnyReader
from fastgw.dialects.codec import Writer as AnyWriter
from fastgw.dialects.gemini import errors as gemini_errors
from fastgw.dialects.gemini import reply as gemini_reply
from fastgw.dialects.gemini import request as gemini_request
from fastgw.dialects.gemini import write as gemini_write
from fastgw.dialects.gemini.stream import Reader, Writer
from fastgw.dialects.gemini.wire import NAME
from fastgw.dialects.hub import Chat, Problem, Reply, Target


class GeminiCodec:
    """See `codec.Codec`."""

    name = NAME

    def read_request(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Chat:
        """See `codec.Codec`. The path says both the model and whether to stream."""
        return gemini_request.read_request(body, model=model, stream=stream)

    def write_request(self, chat: Chat, target: Target) -> bytes:
        """See `codec.Codec`. The model and whether to stream belong into the path."""
        return gemini_write.write_request(chat, target)

    def read_reply(self, body: bytes) -> Reply:
        """See `codec.Codec`."""
        return gemini_reply.read_reply(body)

    def write_reply(self, reply: Reply, *, model: str) -> bytes:
        """See `codec.Codec`."""
        return gemini_reply.write_reply(reply, model=model)

    def reader(self) -> AnyReader:
        """See `codec.Codec`."""
        return Reader()

    def writer(self, *, model: str, stream_usage: bool) -> AnyWriter:
        """See `codec.Codec`. Gemini's streams always tell usage."""
        return Writer(model)

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
        """See `codec.Codec`."""
        return gemini_errors.read_error(status, headers, body)

    def write_problem(self, problem: Problem, call_id: str) -> tuple[int, bytes]:
        """See `codec.Codec`."""
        return gemini_errors.write_problem(problem, call_id)


CODEC = GeminiCodec()
