"""Cohere's own embeddings, as a provider's. Source: https://docs.cohere.com/reference/embed (API version 2).

Choices made here: `input_type` must be said, and is `search_document` for who said no task, or one Cohere does not
have; what is too long for the model is refused (`truncate: NONE`), not cut without a word as it is by default.
"""

from collections.abc import Mapping

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fastgw.dialects.embeddings.nouns import INPUT_TYPES, Embed, Task, Vectors, give_up_rest, note, texts, usage_of
from fastgw.dialects.hub import Problem, Target
from fastgw.dialects.openai_chat import errors

NAME = "cohere_embed"
MAX_INPUTS = 96
WORDS: dict[Task, str] = {task: word for word, task in INPUT_TYPES.items()}
WORDS |= {"answer": "search_query", "fact": "search_query", "code": "search_query"}


class _RequestOut(Struct):
    model: str
    texts: list[str]
    input_type: str
    embedding_types: list[str]
    truncate: str
    output_dimension: int | UnsetType = UNSET


class _ByType(Struct, rename={"floats": "float"}):
    floats: list[Raw]


class _Billed(Struct):
    input_tokens: float | None = None


class _Meta(Struct):
    billed_units: _Billed | None = None


class _Reply(Struct):
    embeddings: _ByType
    id: str = ""
    meta: _Meta | None = None


_read_reply = msgspec.json.Decoder(_Reply).decode
_encode = msgspec.json.encode


class CohereEmbed:
    """See `whole.Asked`."""

    name = NAME

    def write_request(self, asked: Embed, target: Target) -> bytes:
        """See `whole.Asked`."""
        inputs = texts(asked, MAX_INPUTS, "Cohere")
        give_up_rest(asked, target)
        note(target, asked.title_field, asked.title)
        note(target, "user", asked.user)
        word = WORDS.get(asked.task) if asked.task is not None else None
        if word is None:
            note(target, asked.task_field, asked.task)
        size = UNSET if asked.dimensions is None else asked.dimensions
        return _encode(_RequestOut(target.model, inputs, word or "search_document", ["float"], "NONE", size))

    def read_reply(self, body: bytes) -> Vectors:
        """See `whole.Asked`."""
        seen = _read_reply(body)
        billed = None if seen.meta is None else seen.meta.billed_units
        usage = usage_of(None if billed is None else billed.input_tokens)
        return Vectors(seen.embeddings.floats, usage, id=seen.id)

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
        """See `whole.Asked`. A body of a lone `message` is read like OpenAI's."""
        return errors.read(status, headers, body)


CODEC = CohereEmbed()
