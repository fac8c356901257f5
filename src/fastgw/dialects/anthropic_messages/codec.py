"""Anthropic's Messages API, whole: see `codec.Codec`.

Its parts, by concern: `anthropic_messages.parts` (content blocks), `anthropic_messages.read` and
`anthropic_messages.write` (requests), `anthropic_messages.reply` (answers, usage, stop reasons),
`anthropic_messages.stream` and `anthropic_messages.writer` (streams), `anthropic_messages.errors`.
"""

from collections.abc import Mapping

from fastgw.dialects.anthropic_messages import errors
from fastgw.dialects.anthropic_messages import read as requests
from fastgw.dialects.anthropic_messages import reply as replies
from fastgw.dialects.anthropic_messages import write as writing
from fastgw.dialects.anthropic_messages.parts import NAME
from fastgw.dialects.anthropic_messages.stream import MessagesReader
from fastgw.dialects.anthropic_messages.writer import MessagesWriter
from fastgw.dialects.hub import Chat, Problem, Reply, Target


class AnthropicMessages:
    """See `codec.Codec`."""

    name = NAME

    def read_request(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Chat:
        """See `Codec.read_request`. Requests to count tokens: `anthropic_messages.read.read_count_request`."""
        return requests.read(body, model=model, stream=stream)

    def write_request(self, chat: Chat, target: Target) -> bytes:
        """See `Codec.write_request`; what `target.features` may say: `anthropic_messages.write`."""
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
