"""Anthropic's count_tokens. Source: https://platform.claude.com/docs/en/api/messages-count-tokens."""

from collections.abc import Mapping

import msgspec
from msgspec import Raw, Struct, structs

from fastgw.dialects.anthropic_messages import errors, read, write
from fastgw.dialects.counting.nouns import Counted, counted, prompt_of
from fastgw.dialects.hub import Chat, Problem, Target

NAME = "anthropic_count"
REFUSED = frozenset({"max_tokens", "stream"})
ROOM = 65536
"""Tokens of output that a budget for thinking is cut to fit into, since a request to count names none."""


class _Counted(Struct):
    input_tokens: int


_read = msgspec.json.Decoder(_Counted).decode
_read_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.encode


class AnthropicCount:
    """See `whole.WholeCodec`."""

    name = NAME

    def read_request(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Chat:
        """See `whole.WholeCodec`."""
        return prompt_of(read.read_count_request(body, model=model))

    def write_request(self, asked: Chat, target: Target) -> bytes:
        """See `whole.Asked`."""
        fields = _read_fields(write.write(structs.replace(asked, max_tokens=ROOM), target))
        return _encode({name: raw for name, raw in fields.items() if name not in REFUSED})

    def read_reply(self, body: bytes) -> Counted:
        """See `whole.Asked`."""
        return counted(_read(body).input_tokens)

    def write_reply(self, told: Counted, asked: Chat, *, model: str, estimate: int) -> bytes:
        """See `whole.WholeCodec`."""
        return _encode({"input_tokens": told.tokens})

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
        """See `whole.Asked`."""
        return errors.read(status, headers, body)

    def write_problem(self, problem: Problem, call_id: str) -> tuple[int, bytes]:
        """See `whole.WholeCodec`."""
        return errors.write(problem, call_id)


CODEC = AnthropicCount()
