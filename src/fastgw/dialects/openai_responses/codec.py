"""OpenAI's Responses API, `POST /v1/responses`, whole: what `Codec` asks for, from the modules beside this one.

Items and reasoning: `_items`; requests: `_read` and `_write`; replies: `_reply`; streams: `_stream` (reading),
`_frames` and `_writer`; errors: `_error`.
"""

from collections.abc import Mapping

from fastgw.dialects.hub import Chat, Problem, Reply, Target
from fastgw.dialects.openai_responses.error import read_error, write_problem
from fastgw.dialects.openai_responses.items import NAME
from fastgw.dialects.openai_responses.read import read_request
from fastgw.dialects.openai_responses.reply import read_reply, write_reply
from fastgw.dialects.openai_responses.stream import ResponsesReader
from fastgw.dialects.openai_responses.write import write_request
from fastgw.dialects.openai_responses.writer import ResponsesWriter


class ResponsesCodec:
    """See `Codec`."""

    name = NAME

    def read_request(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Chat:
        """See `Codec.read_request`."""
        return read_request(body, model=model, stream=stream)

    def write_request(self, chat: Chat, target: Target) -> bytes:
        """See `Codec.write_request`."""
        return write_request(chat, target)

    def read_reply(self, body: bytes) -> Reply:
        """See `Codec.read_reply`."""
        return read_reply(body)

    def write_reply(self, reply: Reply, *, model: str) -> bytes:
        """See `Codec.write_reply`."""
        return write_reply(reply, model=model)

    def reader(self) -> ResponsesReader:
        """See `Codec.reader`."""
        return ResponsesReader()

    def writer(self, *, model: str, stream_usage: bool) -> ResponsesWriter:
        """See `Codec.writer`. Usage is always part of the terminal event."""
        return ResponsesWriter(model=model)

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
        """See `Codec.read_error`."""
        return read_error(status, headers, body)

    def write_problem(self, problem: Problem, call_id: str) -> tuple[int, bytes]:
        """See `Codec.write_problem`."""
        return write_problem(problem, call_id)


CODEC = ResponsesCodec()
