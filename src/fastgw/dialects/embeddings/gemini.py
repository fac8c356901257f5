"""Gemini's embedContent and batchEmbedContents. Source: https://ai.google.dev/api/embeddings.

Two dialects, since they are two paths: one text in and one vector out, or many at once. Translated to is the second,
which serves one input as well. Whichever of both spellings of names a client uses, it is understood.
"""

from collections.abc import Mapping

import msgspec
from msgspec import Raw, Struct

from fastgw._core import fields
from fastgw.call import Usage
from fastgw.dialects.embeddings.nouns import Embed, Task, Vectors, encoded, give_up_rest, note, texts, usage_of
from fastgw.dialects.gemini import errors
from fastgw.dialects.gemini import names as gemini_names
from fastgw.dialects.gemini.wire import UNREADABLE, encode, invalid
from fastgw.dialects.hub import Invalid, Problem, Target

ONE, MANY = "gemini_embed", "gemini_batch_embed"
MAX_INPUTS = 100
TASKS: dict[str, Task] = {
    "RETRIEVAL_QUERY": "query",
    "RETRIEVAL_DOCUMENT": "document",
    "SEMANTIC_SIMILARITY": "similarity",
    "CLASSIFICATION": "classification",
    "CLUSTERING": "clustering",
    "QUESTION_ANSWERING": "answer",
    "FACT_VERIFICATION": "fact",
    "CODE_RETRIEVAL_QUERY": "code",
}
WORDS: dict[Task, str] = {task: word for word, task in TASKS.items()}
UNSAID = (None, "TASK_TYPE_UNSPECIFIED")


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


class _Many(Struct):
    requests: list[_One]


class _Statistics(Struct, rename="camel"):
    token_count: float | None = None


class _Values(Struct, omit_defaults=True):
    values: Raw
    statistics: _Statistics | None = None


class _Usage(Struct, rename="camel", omit_defaults=True):
    prompt_token_count: float | None = None


class _Vectors(Struct, rename="camel", omit_defaults=True):
    embedding: _Values | None = None
    embeddings: list[_Values] | None = None
    usage_metadata: _Usage | None = None


_read_one = msgspec.json.Decoder(_One, strict=False).decode
_read_many = msgspec.json.Decoder(_Many, strict=False).decode
_read_vectors = msgspec.json.Decoder(_Vectors).decode
_read_objects = msgspec.json.Decoder(list[dict[str, Raw]]).decode


class GeminiEmbed:
    """See `whole.WholeCodec`. `batch`: many requests at once."""

    def __init__(self, *, batch: bool) -> None:
        self.name = MANY if batch else ONE
        self._batch = batch

    def read_request(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Embed:
        """See `whole.WholeCodec`. All of a batch must ask alike: no other provider can do them one by one."""
        body = gemini_names.canonical(body, gemini_names.EMBED)
        try:
            requests = _read_many(body).requests if self._batch else [_read_one(body)]
        except UNREADABLE as error:
            raise invalid("", error) from None
        if not requests:
            raise Invalid("requests", "must hold at least one request")
        name = (model or requests[0].model or "").removeprefix("models/")
        if not name:
            raise Invalid("model", "is missing")
        settings = [_settings(one) for one in requests]
        inputs = [_text(one, f"requests[{n}]." if self._batch else "") for n, one in enumerate(requests)]
        if any(one != settings[0] for one in settings):
            raise Invalid("requests", "must all ask for the same taskType, title and outputDimensionality")
        size, task, title = settings[0]
        if task not in UNSAID and task not in TASKS:
            raise Invalid("taskType", f"{task[:40]!r} is no task" if task else "is empty")
        asked = Embed(name, inputs, dimensions=size, task=TASKS.get(task or ""), title=title)
        asked.task_field, asked.size_field = "taskType", "outputDimensionality"
        return asked

    def write_request(self, asked: Embed, target: Target) -> bytes:
        """See `whole.Asked`."""
        inputs = texts(asked, MAX_INPUTS, "Gemini")
        give_up_rest(asked, target)
        note(target, "user", asked.user)
        task = None if asked.task is None else WORDS[asked.task]
        many = [
            _One(f"models/{target.model}", _Content([_Part(text)]), task, asked.title, asked.dimensions)
            for text in inputs
        ]
        return encode(_Many(many) if self._batch else many[0])

    def read_reply(self, body: bytes) -> Vectors:
        """See `whole.Asked`."""
        seen = _read_vectors(body)
        rows = seen.embeddings if seen.embeddings is not None else [seen.embedding] if seen.embedding else None
        if rows is None:
            raise ValueError("neither embedding nor embeddings")
        return Vectors([row.values for row in rows], _usage(seen, rows))

    def write_reply(self, told: Vectors, asked: Embed, *, model: str, estimate: int) -> bytes:
        """See `whole.WholeCodec`. This dialect may leave usage out, and does where nobody told it."""
        rows = [_Values(vector) for vector in encoded(told, asked)]
        usage = None if told.usage is None else _Usage(told.usage.input)
        return encode(_Vectors(None, rows, usage) if self._batch else _Vectors(rows[0], None, usage))

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
        """See `whole.Asked`."""
        return errors.read_error(status, headers, body)

    def write_problem(self, problem: Problem, call_id: str) -> tuple[int, bytes]:
        """See `whole.WholeCodec`."""
        return errors.write_problem(problem, call_id)


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
    found = [part.text for part in parts if part.text is not None]
    if len(found) < len(parts):
        raise Invalid(f"{path}content.parts", "only text can be embedded")
    return "".join(found)


def _usage(seen: _Vectors, rows: list[_Values]) -> Usage | None:
    """What the whole reply tells, or what each vector does (Vertex)."""
    if seen.usage_metadata is not None:
        return usage_of(seen.usage_metadata.prompt_token_count)
    counts = [row.statistics.token_count for row in rows if row.statistics is not None]
    told = [count for count in counts if count is not None]
    return usage_of(sum(told)) if told and len(told) == len(rows) else None


def rename(body: fields.Fields, model: str) -> bytes:
    """Each request of a batch names the model again, and so may a lone one: Google wants it to be that of the path."""
    wanted = Raw(encode(f"models/{model}"))
    changes: dict[bytes, bytes | None] = {}
    if body.has(b"model") and body.get(b"model") != bytes(wanted):
        changes[b"model"] = bytes(wanted)
    try:
        requests = _read_objects(body.get(b"requests") or b"[]")
    except UNREADABLE:
        return body.replace(changes)  # what is no batch is refused by the provider
    if any(one.get("model", wanted) != wanted for one in requests):
        changes[b"requests"] = encode([one | {"model": wanted} for one in requests])
    return body.replace(changes)


CODEC_ONE = GeminiEmbed(batch=False)
CODEC_MANY = GeminiEmbed(batch=True)
