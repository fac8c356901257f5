"""Anthropic's Messages API, whole: see `codec.Codec`.

Its parts, by concern: `anthropic_messages_parts` (content blocks), `anthropic_messages_read` and
`anthropic_messages_write` (requests), `anthropic_messages_reply` (answers, usage, stop reasons),
`anthropic_messages_stream` and `anthropic_messages_writer` (streams), `anthropic_messages_errors`.
"""

from collections.abc import Mapping

from fastgw.dialects import anthropic_messages_errors as errors
from fastgw.dialects import anthropic_messages_read as requests
from fastgw.dialects import anthropic_messages_reply as replies
from fastgw.dialects import anthropic_messages_write as writing
from fastgw.dialects.anthropic_messages_parts import NAME
from fastgw.dialects.anthropic_messages_stream import MessagesReader
from fastgw.dialects.anthropic_messages_writer import MessagesWriter
from fastgw.dialects.hub import Chat, Problem, Reply, Target


class AnthropicMessages:
    """See `codec.Codec`."""

    name = NAME

    def read_request(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Chat:
        """See `Codec.read_request`. Requests to count tokens: `anthropic_messages_read.read_count_request`."""
        return requests.read(body, model=model, stream=stream)

    def write_request(self, chat: Chat, target: Target) -> bytes:
        """See `Codec.write_request`; what `target.features` may say: `anthropic_messages_write`."""
        return writing.write(chat, target)

    def read_reply(self, body: bytes) -> Reply:
        """See `Codec.read_reply`; also raises hub.Failed."""
        return replies.read(body)

    def write_reply(self, reply: Reply, *, model: str) -> bytes:
        """See `Codec.write_reply`."""
        return replies.write(reply, model=model)

    def reader(self) -> MessagesReader:
        """See `Codec.reader`."""
        return MessagesReader()

    def writer(self, *, model: str, stream_usage: bool) -> MessagesWriter:
        """See `Codec.writer`. Anthropic's streams always tell usage."""
        return MessagesWriter(model)

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
        """See `Codec.read_error`; `headers` have lower-case names."""
        return errors.read(status, headers, body)

    def write_problem(self, problem: Problem, call_id: str) -> tuple[int, bytes]:
        """See `Codec.write_problem`."""
        return errors.write(problem, call_id)


CODEC = AnthropicMessages()
