"""Gemini's countTokens and its embeddings: small shapes of their own.

Sources: https://ai.google.dev/api/tokens and https://ai.google.dev/api/embeddings. countTokens takes either bare
`contents` or a whole `generateContentRequest`; batchEmbedContents takes many embedContent requests at once.
"""

import msgspec
from msgspec import Raw, Struct

from fastgw.dialects.gemini import names as gemini_names
from fastgw.dialects.gemini.request import read_request
from fastgw.dialects.gemini.wire import UNREADABLE, encode, invalid, read_object
from fastgw.dialects.gemini.write import request_fields
from fastgw.dialects.hub import Chat, Invalid, Target


class Embed(Struct):
    """A request for embeddings of texts. `batch`: it came, or is to go, as a batch, which decides the reply's shape."""

    model: str
    inputs: list[str]
    dimensions: int | None = None
    task: str | None = None
    title: str | None = None
    batch: bool = False


class _Part(Struct):
    text: str | None = None


class _Content(Struct, omit_defaults=True):
    parts: list[_Part] | None = None
    role: str | None = None


class _Settings(Struct, rename="camel", omit_defaults=True):
    task_type: str | None = None
    title: str | None = None
    output_dimensionality: int | None = None


class _One(Struct, rename="camel", omit_defaults=True):
    model: str | None = None
    content: _Content | None = None
    task_type: str | None = None
    title: str | None = None
    output_dimensionality: int | None = None
    embed_content_config: _Settings | None = None
    requests: list["_One"] | None = None


class _Values(Struct, omit_defaults=True):
    values: Raw = Raw(b"[]")


class _Vectors(Struct, omit_defaults=True):
    embedding: _Values | None = None
    embeddings: list[_Values] | None = None


class _Counted(Struct, rename="camel"):
    total_tokens: int


_read_one = msgspec.json.Decoder(_One, strict=False).decode
_read_vectors = msgspec.json.Decoder(_Vectors).decode
_read_counted = msgspec.json.Decoder(_Counted, strict=False).decode


def read_count_request(body: bytes, *, model: str | None = None) -> Chat:
    """A client's countTokens request. Raises hub.Invalid."""
    body = gemini_names.canonical(body)
    try:
        inner = read_object(body).get("generateContentRequest")
    except UNREADABLE as error:
        raise invalid("", error) from None
    return read_request(bytes(inner) if inner is not None else body, model=model)


def write_count_request(chat: Chat, target: Target) -> bytes:
    """A countTokens request for a provider. Raises hub.Unsupported and hub.Invalid."""
    fields = {"model": f"models/{target.model}", **request_fields(chat, target)}
    return encode({"generateContentRequest": fields})


def read_count_reply(body: bytes) -> int:
    """The tokens counted. Raises ValueError."""
    return max(_read_counted(body).total_tokens, 0)


def write_count_reply(tokens: int) -> bytes:
    """The reply to countTokens."""
    return encode({"totalTokens": tokens})


def read_embed_request(body: bytes, *, model: str | None = None) -> Embed:
    """A client's embedContent or batchEmbedContents request; all of a batch must ask alike. Raises hub.Invalid."""
    body = gemini_names.canonical(body, gemini_names.EMBED)
    try:
        request = _read_one(body)
    except UNREADABLE as error:
        raise invalid("", error) from None
    batch = request.requests is not None
    asked = request.requests if request.requests is not None else [request]
    if not asked:
        raise Invalid("requests", "must hold at least one request")
    name = (model or request.model or asked[0].model or "").removeprefix("models/")
    if not name:
        raise Invalid("model", "is missing")
    settings = [_settings(one) for one in asked]
    inputs = [_text(one, f"requests[{n}]." if batch else "") for n, one in enumerate(asked)]
    if any(one != settings[0] for one in settings):
        raise Invalid("requests", "must all ask for the same taskType, title and outputDimensionality")
    dimensions, task, title = settings[0]
    return Embed(name, inputs, dimensions, task, title, batch)


def _settings(one: _One) -> tuple[int | None, str | None, str | None]:
    own = one.embed_content_config or _Settings()
    return (
        one.output_dimensionality if one.output_dimensionality is not None else own.output_dimensionality,
        one.task_type or own.task_type,
        one.title or own.title,
    )


def _text(one: _One, path: str) -> str:
    parts = one.content.parts if one.content is not None else None
    if not parts:
        raise Invalid(f"{path}content.parts", "must hold at least one part")
    texts = [part.text for part in parts if part.text is not None]
    if len(texts) < len(parts):
        raise Invalid(f"{path}content.parts", "only text can be embedded")
    return "".join(texts)


def write_embed_request(embed: Embed, target: Target) -> bytes:
    """An embedContent request for a provider, or a batchEmbedContents one where `batch` or for several inputs."""
    many = [
        _One(f"models/{target.model}", _Content([_Part(text)]), embed.task, embed.title, embed.dimensions)
        for text in embed.inputs
    ]
    return encode({"requests": many} if embed.batch or len(many) != 1 else many[0])


def read_embed_reply(body: bytes) -> list[Raw]:
    """The vectors, each a raw array of numbers as they were written. Raises ValueError."""
    vectors = _read_vectors(body)
    if vectors.embeddings is not None:
        return [one.values for one in vectors.embeddings]
    if vectors.embedding is None:
        raise ValueError("neither embedding nor embeddings")
    return [vectors.embedding.values]


def write_embed_reply(vectors: list[Raw], *, batch: bool) -> bytes:
    """The reply to embedContent, or to batchEmbedContents."""
    written = [_Values(values) for values in vectors]
    return encode(_Vectors(None, written) if batch else _Vectors(written[0] if written else _Values()))
