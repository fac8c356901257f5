"""What a request for embeddings and its answer are, whoever's shape they had.

A vector is kept as the JSON text it came as: an array of numbers, or a base64 string of 32-bit floats (little-endian,
as OpenAI has them), and is decoded only where the other of the two is asked for.
"""

import sys
from array import array
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from fastgw.call import Usage
from fastgw.dialects.hub import Target, Unsupported

Task = Literal["query", "document", "similarity", "classification", "clustering", "answer", "fact", "code"]
"""What the vectors are for: some models make other ones for a question than for what is to be found by it."""

INPUT_TYPES: dict[str, Task] = {
    "search_query": "query",
    "search_document": "document",
    "classification": "classification",
    "clustering": "clustering",
}
"""Cohere's words for them: https://docs.cohere.com/reference/embed."""


class Embed(Struct):
    """A request for embeddings. `tokens` is a raw array of token ids, or of such arrays, in place of `inputs`.

    `dimensions`: how long the vectors are to be; `title`: that of the document; `encoding`: how the client wants them.
    `task_field`, `title_field` and `size_field` are the client's own names of these.
    """

    model: str
    inputs: list[str] = []
    tokens: Raw | None = None
    dimensions: int | None = None
    task: Task | None = None
    title: str | None = None
    encoding: Literal["float", "base64"] = "float"
    user: str | None = None
    task_field: str = "input_type"
    title_field: str = "title"
    size_field: str = "dimensions"
    extra: dict[str, Raw] = {}


class Vectors(Struct):
    """The answer: one vector for each input, in their order. `model` and `id` where the provider says them."""

    vectors: list[Raw]
    usage: Usage | None = None
    model: str = ""
    id: str = ""


_read_numbers = msgspec.json.Decoder(list[float]).decode
_read_text = msgspec.json.Decoder(str).decode


def numbers(vector: Raw) -> Raw:
    """A vector as an array of numbers. Raises ValueError."""
    if bytes(vector)[:1] != b'"':
        return vector
    floats = array("f")
    try:
        floats.frombytes(b64decode(_read_text(vector), validate=True))
    except Base64Error:
        raise ValueError("a vector is no base64") from None
    return Raw(msgspec.json.encode(_little(floats).tolist()))


def base64(vector: Raw) -> Raw:
    """A vector as base64 of 32-bit floats. Raises ValueError."""
    if bytes(vector)[:1] == b'"':
        return vector
    return Raw(b'"' + b64encode(_little(array("f", _read_numbers(vector))).tobytes()) + b'"')


def _little(floats: "array[float]") -> "array[float]":
    """Floats from, or for, little-endian bytes."""
    if sys.byteorder == "big":
        floats.byteswap()
    return floats


def encoded(told: Vectors, asked: Embed) -> list[Raw]:
    """The vectors as the client wants them. Raises ValueError, also when their number is not that of the inputs."""
    if asked.tokens is None and len(told.vectors) != len(asked.inputs):
        raise ValueError(f"{len(told.vectors)} vectors for {len(asked.inputs)} inputs")
    convert = base64 if asked.encoding == "base64" else numbers
    return [convert(vector) for vector in told.vectors]


def texts(asked: Embed, most: int, vendor: str) -> list[str]:
    """The inputs for a provider that embeds texts, at most so many at once. Raises Unsupported."""
    if asked.tokens is not None:
        raise Unsupported("input", f"{vendor} embeds texts, not arrays of tokens")
    if len(asked.inputs) > most:
        count = len(asked.inputs)
        raise Unsupported("input", f"{vendor} takes at most {most} inputs in one request, and these are {count}")
    return asked.inputs


def usage_of(tokens: float | None) -> Usage | None:
    """The usage a provider told; None where it told none, or something that is none."""
    return None if tokens is None or not 0 <= tokens < 2**31 else Usage(input=int(tokens))


def give_up_rest(asked: Embed, target: Target) -> None:
    """Refuse, or leave out where the operator allows it, fields that only the client's own dialect has."""
    for field in asked.extra:
        target.give_up(field, "the provider has no such field")


def note(target: Target, field: str, value: object) -> None:
    """List a field that was said and is left out without asking: no provider without it could do more."""
    if value is not None and field not in target.dropped:
        target.dropped.append(field)
