"""Gemini's countTokens. Source: https://ai.google.dev/api/tokens.

A client sends bare `contents` or a whole `generateContentRequest`; the provider is sent the latter, since the former
has no place for tools and instructions.
"""

from collections.abc import Mapping

import msgspec
from msgspec import Raw, Struct

from fastgw._core import fields
from fastgw.dialects.counting.nouns import Counted, counted, prompt_of
from fastgw.dialects.gemini import errors
from fastgw.dialects.gemini import names as gemini_names
from fastgw.dialects.gemini.request import read_request
from fastgw.dialects.gemini.wire import UNREADABLE, encode, invalid, read_object
from fastgw.dialects.gemini.write import request_fields
from fastgw.dialects.hub import Chat, Problem, Target

NAME = "gemini_count"
INNER = "generateContentRequest"
SPELLINGS = (INNER.encode(), b"generate_content_request")


class _Counted(Struct, rename="camel"):
    total_tokens: int


_read = msgspec.json.Decoder(_Counted, strict=False).decode


class GeminiCount:
    """See `whole.WholeCodec`."""

    name = NAME

    def read_request(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Chat:
        """See `whole.WholeCodec`."""
        body = gemini_names.canonical(body)
        try:
            inner = read_object(body).get(INNER)
        except UNREADABLE as error:
            raise invalid("", error) from None
        return prompt_of(read_request(bytes(inner) if inner is not None else body, model=model, stream=False))

    def write_request(self, asked: Chat, target: Target) -> bytes:
        """See `whole.Asked`."""
        return encode({INNER: {"model": f"models/{target.model}", **request_fields(asked, target)}})

    def read_reply(self, body: bytes) -> Counted:
        """See `whole.Asked`."""
        return counted(_read(body).total_tokens)

    def write_reply(self, told: Counted, asked: Chat, *, model: str, estimate: int) -> bytes:
        """See `whole.WholeCodec`."""
        return encode({"totalTokens": told.tokens})

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
        """See `whole.Asked`."""
        return errors.read_error(status, headers, body)

    def write_problem(self, problem: Problem, call_id: str) -> tuple[int, bytes]:
        """See `whole.WholeCodec`."""
        return errors.write_problem(problem, call_id)


def rename(body: fields.Fields, model: str) -> bytes:
    """The request inside names the model again: Google wants it to be that of the path."""
    wanted = Raw(encode(f"models/{model}"))
    changes: dict[bytes, bytes | None] = {}
    for name in SPELLINGS:
        try:
            inner = read_object(body.get(name) or b"{}")
        except UNREADABLE:
            continue  # what is no request is refused by the provider
        if inner.get("model", wanted) != wanted:
            changes[name] = encode(inner | {"model": wanted})
    return body.replace(changes)


CODEC = GeminiCount()
