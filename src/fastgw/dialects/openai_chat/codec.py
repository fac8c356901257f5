"""OpenAI's chat completions as a codec: what `/v1/chat/completions` says, read into the hub and written from it.

The same-dialect pass-through is `openai`; this is for clients and providers that speak different dialects.
"""

from collections.abc import Mapping

from fastgw.dialects.hub import Chat, Problem, Reply, Target
from fastgw.dialects.openai_chat import errors
from fastgw.dialects.openai_chat import read as openai_chat_read
from fastgw.dialects.openai_chat import reply as replies
from fastgw.dialects.openai_chat import write as openai_chat_write
from fastgw.dialects.openai_chat.reader import ChatReader
from fastgw.dialects.openai_chat.wire import NAME
from fastgw.dialects.openai_chat.writer import ChatWriter


class OpenAIChat:
    """See `codec.Codec`."""

    name = NAME

    def read_request(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Chat:
        """See `Codec.read_request`; `hub.Invalid` names the field as OpenAI's `param` does."""
        return openai_chat_read.read(body, model=model, stream=stream)

    def write_request(self, chat: Chat, target: Target) -> bytes:
        """See `Codec.write_request`; what `target.features` may say: `openai_chat.write`."""
        return openai_chat_write.write(chat, target)

    def read_reply(self, body: bytes) -> Reply:
        """See `Codec.read_reply`; also raises hub.Failed."""
        return replies.read(body)

    def write_reply(self, reply: Reply, *, model: str) -> bytes:
        """See `Codec.write_reply`."""
        return replies.write(reply, model=model)

    def reader(self) -> ChatReader:
        """See `Codec.reader`."""
        return ChatReader()

    def writer(self, *, model: str, stream_usage: bool) -> ChatWriter:
        """See `Codec.writer`."""
        return ChatWriter(model=model, stream_usage=stream_usage)

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
        """See `Codec.read_error`; `headers` have lower-case names."""
        return errors.read(status, headers, body)

    def write_problem(self, problem: Problem, call_id: str) -> tuple[int, bytes]:
        """See `Codec.write_problem`."""
        return errors.write(problem)


CODEC = OpenAIChat()
