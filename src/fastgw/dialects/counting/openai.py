"""Counting for OpenAI's Responses API. Source: https://platform.openai.com/docs/api-reference/responses/input-tokens."""

from collections.abc import Mapping

import msgspec
from msgspec import Raw, Struct

from fastgw.dialects.counting.nouns import Counted, counted, prompt_of
from fastgw.dialects.hub import Chat, Problem, Target
from fastgw.dialects.openai_responses.error import read_error, write_problem
from fastgw.dialects.openai_responses.read import read_request
from fastgw.dialects.openai_responses.write import write_request

NAME = "openai_responses_count"
TAKEN = frozenset(
    {"model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text",
     "conversation", "previous_response_id", "truncation", "personality"}
)  # fmt: skip


class _Counted(Struct):
    input_tokens: int


_read = msgspec.json.Decoder(_Counted).decode
_read_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.encode


class ResponsesCount:
    """See `whole.WholeCodec`."""

    name = NAME

    def read_request(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Chat:
        """See `whole.WholeCodec`."""
        return prompt_of(read_request(body, model=model, stream=False))

    def write_request(self, asked: Chat, target: Target) -> bytes:
        """See `whole.Asked`. Fields that the endpoint does not list are those that bear on the answer alone."""
        fields = _read_fields(write_request(asked, target))
        return _encode({name: raw for name, raw in fields.items() if name in TAKEN})

    def read_reply(self, body: bytes) -> Counted:
        """See `whole.Asked`."""
        return counted(_read(body).input_tokens)

    def write_reply(self, told: Counted, asked: Chat, *, model: str, estimate: int) -> bytes:
        """See `whole.WholeCodec`."""
        return _encode({"object": "response.input_tokens", "input_tokens": told.tokens})

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
        """See `whole.Asked`."""
        return read_error(status, headers, body)

    def write_problem(self, problem: Problem, call_id: str) -> tuple[int, bytes]:
        """See `whole.WholeCodec`."""
        return write_problem(problem, call_id)


CODEC = ResponsesCount()
