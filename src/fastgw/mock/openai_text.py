"""Legacy completions and embeddings of the mock, in OpenAI's shape."""

import base64
from typing import Any, Final

import msgspec

from fastgw.mock.base import CREATED_MARK, EVENT_STREAM, ID_MARK, Answer
from fastgw.mock.faults import named_fault
from fastgw.mock.openai_chat import DONE, FINGERPRINT, Problem, StreamOptions, cut, is_echo
from fastgw.mock.options import MAX_TOKENS, MockOptions
from fastgw.mock.text import count_tokens, lorem, split_tokens, vector

Inputs = str | list[str | int | list[int]]

_MAX_CHOICES: Final = 128
_MAX_INPUTS: Final = 2048
_DIMENSIONS: Final = 1536
_MAX_DIMENSIONS: Final = 3072
_encode = msgspec.json.encode


class Completion(msgspec.Struct):
    """A legacy completion request; fields not named here are ignored."""

    model: str = ""
    prompt: Inputs | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    max_tokens: int | None = None
    logprobs: int | None = None
    echo: bool | None = None

    def problem(self) -> Problem | None:
        """What OpenAI would refuse the request for, or None."""
        if not 1 <= (self.n or 1) * max(1, len(texts_of(self.prompt or ""))) <= _MAX_CHOICES:
            return f"Invalid 'n': at most {_MAX_CHOICES} choices.", "n", "integer_out_of_range"
        if self.max_tokens is not None and self.max_tokens < 0:
            return "Invalid 'max_tokens': must not be negative.", "max_tokens", "integer_below_min_value"
        return None


class Embedding(msgspec.Struct):
    """An embeddings request; fields not named here are ignored."""

    model: str = ""
    input: Inputs | None = None
    encoding_format: str | None = None
    dimensions: int | None = None

    def problem(self) -> Problem | None:
        """What OpenAI would refuse the request for, or None."""
        if not self.input or any(value in ("", []) for value in self.input):
            return "'$.input' is invalid. Please check the API reference.", "input", None
        if isinstance(self.input, list) and len(self.input) > _MAX_INPUTS:
            return f"Invalid 'input': at most {_MAX_INPUTS} entries.", "input", "array_above_max_length"
        if not 1 <= (1 if self.dimensions is None else self.dimensions) <= _MAX_DIMENSIONS:
            return f"Invalid 'dimensions': must be 1-{_MAX_DIMENSIONS}.", "dimensions", "integer_out_of_range"
        if self.encoding_format not in (None, "float", "base64"):
            return "Invalid 'encoding_format': must be float or base64.", "encoding_format", "invalid_value"
        return None


def texts_of(inputs: Inputs) -> list[str]:
    """The texts of a prompt or input, which may be one text, many, one list of token ids, or many."""
    if isinstance(inputs, str):
        return [inputs]
    if inputs and all(isinstance(value, int) for value in inputs):
        return [_spell(inputs)]
    return [
        value if isinstance(value, str) else _spell(value if isinstance(value, list) else [value]) for value in inputs
    ]


def _spell(ids: list[Any]) -> str:
    # Four characters an id, so that count_tokens counts each as one.
    return "".join(f"{value % 10000:04d}" for value in ids)


def answer_embedding(request: Embedding, options: MockOptions, azure: bool) -> Answer:
    """One vector for each input."""
    size = request.dimensions or (_MAX_DIMENSIONS if "3-large" in request.model else _DIMENSIONS)
    texts = texts_of(request.input or "")
    rows = []
    for index, text in enumerate(texts):
        values = vector(text, size)
        whole = base64.b64encode(values.tobytes()).decode() if request.encoding_format == "base64" else list(values)
        rows.append({"object": "embedding", "index": index, "embedding": whole})
    body: dict[str, Any] = {"object": "list", "data": rows, "model": request.model}
    if not _has_fault(request.model, "nousage"):
        total = sum(map(count_tokens, texts))
        body["usage"] = {"prompt_tokens": total, "total_tokens": total}
    return Answer(200, b"", _encode(body), model=request.model)


def _has_fault(model: str, kind: str) -> bool:
    fault = named_fault(model)
    return fault is not None and fault.kind == kind


def answer_completion(request: Completion, options: MockOptions, azure: bool) -> Answer:
    """The whole or streamed answer to a legacy completion request."""
    prompts = texts_of(request.prompt if request.prompt is not None else "<|endoftext|>")
    drafts = [_draft(request, options, prompt, i) for prompt in prompts for i in range(request.n or 1)]
    spoken = sum(len(pieces) for pieces, _, _ in drafts)
    prompt_tokens = sum(map(count_tokens, prompts))
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": spoken, "total_tokens": prompt_tokens + spoken}
    if request.stream:
        return _stream(request, drafts, usage)
    choices = [
        _entry(request, index, lead, pieces, finish) for index, (pieces, finish, lead) in enumerate(drafts)
    ]  # fmt: skip
    body = _envelope(request) | {"choices": choices}
    if not _has_fault(request.model, "nousage"):
        body["usage"] = usage
    return Answer(200, b"", _encode(body), model=request.model)


def _draft(request: Completion, options: MockOptions, prompt: str, index: int) -> tuple[tuple[str, ...], str, str]:
    """(pieces, finish reason, what the echo option puts before them)."""
    lead = prompt if request.echo else ""
    wanted = min(options.tokens, MAX_TOKENS // (request.n or 1))
    pieces = split_tokens(prompt) if is_echo(request.model) else lorem(wanted, start=7 * index)
    return *cut(pieces, request.max_tokens), lead


def _envelope(request: Completion) -> dict[str, Any]:
    return {
        "id": f"cmpl-{ID_MARK}",
        "object": "text_completion",
        "created": CREATED_MARK,
        "model": request.model,
        "system_fingerprint": FINGERPRINT,
    }


def _entry(request: Completion, index: int, lead: str, pieces: tuple[str, ...], finish: str | None) -> dict[str, Any]:
    logprobs = _logprobs(pieces, len(lead), request.logprobs) if request.logprobs is not None else None
    return {"text": lead + "".join(pieces), "index": index, "logprobs": logprobs, "finish_reason": finish}


def _logprobs(pieces: tuple[str, ...], offset: int, top: int) -> dict[str, Any]:
    offsets = []
    for piece in pieces:
        offsets.append(offset)
        offset += len(piece)
    tops = [{piece: -0.25} for piece in pieces] if top else None
    return {"tokens": pieces, "token_logprobs": [-0.25] * len(pieces), "top_logprobs": tops, "text_offset": offsets}


def _stream(request: Completion, drafts: list[tuple[tuple[str, ...], str, str]], usage: dict[str, Any]) -> Answer:
    asked = request.stream_options is not None and bool(request.stream_options.include_usage)
    told = asked and not _has_fault(request.model, "nousage") and not _has_fault(request.model, "usage-in-finish")
    head = b"data: " + _encode(_envelope(request))[:-1] + b',"choices":['
    tail = b'],"usage":null}\n\n' if told else b"]}\n\n"
    usage_tail = b'],"usage":' + _encode(usage) + b"}\n\n"
    last_tail = usage_tail if _has_fault(request.model, "usage-in-finish") else tail
    events = []
    for index, (pieces, finish, lead) in enumerate(drafts):
        if lead:
            events.append(head + _encode(_entry(request, index, lead, (), None)) + tail)
        events += [head + _encode(_entry(request, index, "", (piece,), None)) + tail for piece in pieces]
        events.append(head + _encode(_entry(request, index, "", (), finish)) + last_tail)
    if told:
        events.append(head + usage_tail)
    events.append(DONE)
    return Answer(200, EVENT_STREAM, events=tuple(events), model=request.model)
