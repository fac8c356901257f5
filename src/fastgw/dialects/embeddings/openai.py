"""OpenAI's embeddings. Source: https://platform.openai.com/docs/api-reference/embeddings.

Beside OpenAI's own fields a client may say `input_type` in Cohere's words, which is where servers of models that tell
questions from documents expect it. Vectors are asked for as numbers, which every server of this dialect can, and become
base64 here for clients that ask for it, as OpenAI's own SDK does unless told otherwise.
"""

from collections.abc import Mapping
from typing import Literal, cast

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fastgw.dialects.embeddings.nouns import INPUT_TYPES, Embed, Vectors, encoded, give_up_rest, note, usage_of
from fastgw.dialects.hub import Invalid, Problem, Target
from fastgw.dialects.openai_chat import errors
from fastgw.dialects.whole import UNREADABLE

NAME = "openai_embeddings"
ENCODINGS = ("float", "base64")
KNOWN = frozenset({"model", "input", "dimensions", "encoding_format", "user", "input_type"})
NULL = Raw(b"null")


class _Request(Struct):
    model: str | None = None
    input: Raw = NULL
    dimensions: int | None = None
    encoding_format: str | None = None
    user: str | None = None
    input_type: Raw = NULL


class _RequestOut(Struct):
    model: str
    input: list[str] | str | Raw
    dimensions: int | UnsetType = UNSET
    user: str | UnsetType = UNSET


class _Row(Struct):
    embedding: Raw
    index: int = 0


class _UsageIn(Struct):
    prompt_tokens: float | None = None
    total_tokens: float | None = None


class _Reply(Struct):
    data: list[_Row]
    model: str | None = None
    usage: _UsageIn | None = None


class _RowOut(Struct):
    object: str
    index: int
    embedding: Raw


class _UsageOut(Struct, omit_defaults=True):
    prompt_tokens: int
    total_tokens: int
    estimated: bool = False


class _ReplyOut(Struct):
    object: str
    data: list[_RowOut]
    model: str
    usage: _UsageOut


_read_request = msgspec.json.Decoder(_Request).decode
_read_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_read_texts = msgspec.json.Decoder(str | list[str]).decode
_read_tokens = msgspec.json.Decoder(list[int]).decode
_read_token_lists = msgspec.json.Decoder(list[list[int]]).decode
_read_reply = msgspec.json.Decoder(_Reply).decode
_encode = msgspec.json.encode


class OpenAIEmbeddings:
    """See `whole.WholeCodec`."""

    name = NAME

    def read_request(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Embed:
        """See `whole.WholeCodec`."""
        try:
            seen, fields = _read_request(body), _read_fields(body)
        except UNREADABLE as error:
            raise Invalid("body", _reason(error)) from None
        name = model or seen.model
        if not name:
            raise Invalid("model", "is missing")
        if seen.encoding_format not in (None, *ENCODINGS):
            raise Invalid("encoding_format", "must be float or base64")
        if seen.dimensions is not None and seen.dimensions < 1:
            raise Invalid("dimensions", "must be 1 or more")
        asked = Embed(name, dimensions=seen.dimensions, user=seen.user)
        asked.encoding = cast(Literal["float", "base64"], seen.encoding_format or "float")
        asked.inputs, asked.tokens = _inputs(seen.input)
        asked.task = INPUT_TYPES.get(bytes(seen.input_type).strip(b'"').decode("utf-8", "replace"))
        known = KNOWN if asked.task is not None else KNOWN - {"input_type"}
        asked.extra = {name: raw for name, raw in fields.items() if name not in known and raw != NULL}
        return asked

    def write_request(self, asked: Embed, target: Target) -> bytes:
        """See `whole.Asked`. Tasks and titles are nothing that servers of this dialect have in common."""
        give_up_rest(asked, target)
        note(target, asked.task_field, asked.task)
        note(target, asked.title_field, asked.title)
        inputs = asked.tokens if asked.tokens is not None else asked.inputs
        size = UNSET if asked.dimensions is None else asked.dimensions
        return _encode(_RequestOut(target.model, inputs, size, UNSET if asked.user is None else asked.user))

    def read_reply(self, body: bytes) -> Vectors:
        """See `whole.Asked`."""
        seen = _read_reply(body)
        rows = sorted(seen.data, key=lambda row: row.index)
        usage = seen.usage or _UsageIn()
        told = usage_of(usage.total_tokens if usage.prompt_tokens is None else usage.prompt_tokens)
        return Vectors([row.embedding for row in rows], told, seen.model or "")

    def write_reply(self, told: Vectors, asked: Embed, *, model: str, estimate: int) -> bytes:
        """See `whole.WholeCodec`. This dialect must tell usage; one that is estimated says so."""
        rows = [_RowOut("embedding", number, vector) for number, vector in enumerate(encoded(told, asked))]
        tokens = estimate if told.usage is None else told.usage.input
        usage = _UsageOut(tokens, tokens, told.usage is None)
        return _encode(_ReplyOut("list", rows, told.model or model, usage))

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
        """See `whole.Asked`."""
        return errors.read(status, headers, body)

    def write_problem(self, problem: Problem, call_id: str) -> tuple[int, bytes]:
        """See `whole.WholeCodec`."""
        return errors.write(problem)


def _inputs(raw: Raw) -> tuple[list[str], Raw | None]:
    """Texts, or token ids as they came. Raises Invalid."""
    try:
        found = _read_texts(raw)
        inputs = [found] if isinstance(found, str) else found
    except UNREADABLE:
        return [], _tokens(raw)
    if not inputs or "" in inputs:
        raise Invalid("input", "must hold at least one text, and no empty ones")
    return inputs, None


def _tokens(raw: Raw) -> Raw:
    for read in (_read_tokens, _read_token_lists):
        try:
            read(raw)
        except UNREADABLE:
            continue
        return raw
    raise Invalid("input", "must be a text, a list of texts, a list of token ids, or a list of such lists")


def _reason(error: Exception) -> str:
    return "is nested too deeply" if isinstance(error, RecursionError) else str(error)


CODEC = OpenAIEmbeddings()
