"""Embeddings of the mock in Gemini's shape: the same vectors as in OpenAI's."""

from typing import Any, Final

import msgspec

from fastgw.mock.base import JSON, Answer
from fastgw.mock.gemini_generate import Content
from fastgw.mock.options import MockOptions
from fastgw.mock.text import vector

_DIMENSIONS: Final = 3072
_MAX_BATCH: Final = 100


class Embed(msgspec.Struct, rename="camel"):
    """An embedContent request."""

    content: Content | None = None
    output_dimensionality: int | None = None
    model: str = ""
    form: str = ""

    def problem(self) -> str | None:
        """What Google would refuse the request for, or None."""
        if self.content is None or not self.content.parts:
            return "* EmbedContentRequest.content: contents is required."
        if not 1 <= (1 if self.output_dimensionality is None else self.output_dimensionality) <= _DIMENSIONS:
            return f"* EmbedContentRequest.output_dimensionality: must be 1-{_DIMENSIONS}."
        return None

    def embedding(self) -> dict[str, Any]:
        """The vector."""
        text = self.content.text() if self.content is not None else ""
        return {"values": list(vector(text, self.output_dimensionality or _DIMENSIONS))}


class Batch(msgspec.Struct):
    """A batchEmbedContents request."""

    requests: list[Embed] | None = None
    model: str = ""
    form: str = ""

    def problem(self) -> str | None:
        """What Google would refuse the request for, or None."""
        if not self.requests or len(self.requests) > _MAX_BATCH:
            return f"* BatchEmbedContentsRequest.requests: must be 1-{_MAX_BATCH}."
        return next((wrong for one in self.requests if (wrong := one.problem()) is not None), None)


def answer_embed(request: Embed, options: MockOptions) -> Answer:
    """One vector."""
    return Answer(200, JSON, msgspec.json.encode({"embedding": request.embedding()}))


def answer_batch(request: Batch, options: MockOptions) -> Answer:
    """A vector for each request."""
    rows = [one.embedding() for one in request.requests or ()]
    return Answer(200, JSON, msgspec.json.encode({"embeddings": rows}))
