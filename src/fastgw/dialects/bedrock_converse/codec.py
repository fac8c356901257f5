"""Amazon Bedrock's Converse, the provider's half: see `codec.UpstreamCodec`. No client is spoken to in it.

Its parts, by concern: `bedrock_converse.wire` (what they share), `bedrock_converse.parts`, `bedrock_converse.reasoning`
and `bedrock_converse.write` (requests), `bedrock_converse.reply` and `bedrock_converse.stream` (answers),
`bedrock_converse.errors`; the framing of its streams is in `event_stream`.
"""

from collections.abc import Mapping

from fastgw.dialects.bedrock_converse import errors
from fastgw.dialects.bedrock_converse import reply as replies
from fastgw.dialects.bedrock_converse import write as writing
from fastgw.dialects.bedrock_converse.stream import ConverseReader
from fastgw.dialects.bedrock_converse.wire import NAME
from fastgw.dialects.event_stream import EventStream
from fastgw.dialects.hub import Chat, Problem, Reply, Target


class BedrockConverse:
    """See `codec.UpstreamCodec` and `codec.Framed`."""

    name = NAME

    def frames(self) -> EventStream:
        """See `Framed.frames`: AWS's own framing."""
        return EventStream()

    def write_request(self, chat: Chat, target: Target) -> bytes:
        """See `UpstreamCodec.write_request`; the model is in the path. What `target.features` may say: `write`."""
        return writing.write(chat, target)

    def read_reply(self, body: bytes) -> Reply:
        """See `UpstreamCodec.read_reply`."""
        return replies.read(body)

    def reader(self) -> ConverseReader:
        """See `UpstreamCodec.reader`."""
        return ConverseReader()

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
        """See `UpstreamCodec.read_error`."""
        return errors.read(status, headers, body)


CODEC = BedrockConverse()
