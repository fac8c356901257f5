"""Chat completions of the mock, whole and streamed, in OpenAI's and Azure's shape.

What a call gets: filler text of so many tokens; the last user text back from the model `echo`; a value that fits the
schema under `response_format`; tool calls when `tool_choice` asks for one or the last user text says "call tool"
("call tools": every tool at once).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from fastgw.mock.base import CREATED_MARK, EVENT_STREAM, ID_MARK, Answer
from fastgw.mock.faults import named_fault
from fastgw.mock.options import MAX_TOKENS, MockOptions
from fastgw.mock.text import cached_part, count_prompt, count_tokens, example, lorem, split_tokens

FINGERPRINT: Final = "fp_mock0000001"
DONE: Final = b"data: [DONE]\n\n"
_MAX_CHOICES: Final = 128
_FRAGMENT: Final = 12
_SAFE: Final = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
_REASONING: Final = {"minimal": 0, "low": 16, "medium": 64, "high": 256, "xhigh": 512, "max": 512}
_encode = msgspec.json.encode

Problem = tuple[str, str | None, str | None]  # message, param, code


class StreamOptions(msgspec.Struct):
    """The part of `stream_options` that changes what is sent."""

    include_usage: bool | None = None


class Part(msgspec.Struct):
    """One content part; kinds without text count nothing."""

    type: str = ""
    text: str = ""


class Message(msgspec.Struct):
    """One chat message."""

    role: str
    content: str | list[Part] | None = None

    def text(self) -> str:
        """All text of the message."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class Function(msgspec.Struct):
    """A function as a tool declares or a choice names it."""

    name: str = ""
    parameters: dict[str, Any] | None = None


class Tool(msgspec.Struct):
    """A tool, or the choice of one."""

    type: str = "function"
    function: Function = msgspec.field(default_factory=Function)


class Chat(msgspec.Struct):
    """A chat request, read flat and forgiving: what is not named here is ignored."""

    model: str = ""
    messages: list[Message] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    tools: list[Tool] | None = None
    tool_choice: str | Tool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    service_tier: str | None = None
    parallel_tool_calls: bool | None = None

    def problem(self) -> Problem | None:
        """What OpenAI would refuse the request for, or None."""
        if not self.messages:
            return "Missing required parameter: 'messages'.", "messages", "missing_required_parameter"
        if not 1 <= (self.n or 1) <= _MAX_CHOICES:
            return f"Invalid 'n': must be 1-{_MAX_CHOICES}.", "n", "integer_out_of_range"
        if self.stream_options is not None and not self.stream:
            return "The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options", None
        limit = self.limit()
        if limit is not None and limit < 1:
            return "Invalid 'max_tokens': must be at least 1.", "max_tokens", "integer_below_min_value"
        return None

    def limit(self) -> int | None:
        """The caller's bound on completion tokens."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    def last_user_text(self) -> str:
        """Text of the last user message."""
        return next((m.text() for m in reversed(self.messages or ()) if m.role == "user"), "")


@dataclass(slots=True)
class Choice:
    """What one choice will say."""

    pieces: tuple[str, ...]
    finish: str = "stop"
    calls: list[tuple[str, str]] = field(default_factory=list)  # (function name, arguments as JSON text)

    def tokens(self) -> int:
        """Completion tokens of the choice without reasoning."""
        return len(self.pieces) + sum(count_tokens(name + arguments) for name, arguments in self.calls)


class Counts(NamedTuple):
    """Tokens of a call: the prompt, `cached` of it from the cache; `spoken` without `reasoning`."""

    prompt: int
    cached: int
    spoken: int
    reasoning: int


def answer_chat(chat: Chat, options: MockOptions, azure: bool) -> Answer:
    """The whole or streamed answer to a chat request."""
    choices, counts = draft(chat, options)
    usage = usage_of(counts)
    fault = named_fault(chat.model)
    where = fault.kind if fault is not None else ""
    if chat.stream:
        return _stream(chat, choices, usage, azure, where)
    body = _envelope(chat, "chat.completion") | {"choices": [_whole(chat, c, i, azure) for i, c in enumerate(choices)]}
    if where != "nousage":
        body["usage"] = usage
    if azure:
        body["prompt_filter_results"] = [{"prompt_index": 0, "content_filter_results": _SAFE}]
    return Answer(200, b"", _encode(body), model=chat.model)


def draft(chat: Chat, options: MockOptions) -> tuple[list[Choice], Counts]:
    """What a chat gets, in whichever dialect it is told: the choices and what they cost."""
    chosen = _tool_calls(chat)
    choices = [_choice(chat, options, index, chosen) for index in range(chat.n or 1)]
    prompt = count_prompt([m.text() for m in chat.messages or ()])
    spoken = sum(choice.tokens() for choice in choices)
    reasoning = _REASONING.get(chat.reasoning_effort or "", 0)
    return choices, Counts(prompt, cached_part(prompt, chat.model), spoken, reasoning)


def usage_of(counts: Counts) -> dict[str, Any]:
    """OpenAI's usage object; reasoning tokens are part of the completion."""
    prompt, cached, spoken, reasoning = counts
    completion = spoken + reasoning
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def is_echo(model: str) -> bool:
    """Whether the model gives back what it was told."""
    return model.rpartition("/")[2] in ("echo", "mock-echo")


def cut(pieces: tuple[str, ...], limit: int | None) -> tuple[tuple[str, ...], str]:
    """Pieces within the caller's limit, and the finish reason that results."""
    if limit is not None and limit < len(pieces):
        return pieces[:limit], "length"
    return pieces, "stop"


def _choice(chat: Chat, options: MockOptions, index: int, calls: list[tuple[str, str]]) -> Choice:
    if calls:
        # OpenAI ends with `stop` where the caller forced one function by name.
        return Choice((), "stop" if isinstance(chat.tool_choice, Tool) else "tool_calls", calls)
    if is_echo(chat.model):
        pieces = split_tokens(chat.last_user_text())
    elif (schema := _wanted_schema(chat.response_format)) is not None:
        pieces = split_tokens(_encode(example(schema)).decode())
    else:
        wanted = min(options.tokens, MAX_TOKENS // (chat.n or 1))
        pieces = lorem(wanted, start=7 * index)
    return Choice(*cut(pieces, chat.limit()))


def _wanted_schema(response_format: dict[str, Any] | None) -> Any:
    kind = (response_format or {}).get("type")
    if kind == "json_object":
        return {"properties": {"answer": {"type": "string"}}}
    if kind == "json_schema" and isinstance(inner := (response_format or {}).get("json_schema"), dict):
        return inner.get("schema")
    return None


def _tool_calls(chat: Chat) -> list[tuple[str, str]]:
    tools = [tool.function for tool in chat.tools or () if tool.type == "function"]
    if not tools or chat.tool_choice == "none":
        return []
    text = chat.last_user_text().lower()
    if isinstance(chat.tool_choice, Tool):
        wanted = chat.tool_choice.function.name
        tools = [tool for tool in tools if tool.name == wanted]
    else:
        answered = chat.messages is not None and chat.messages[-1].role == "tool"
        if chat.tool_choice != "required" and ("call tool" not in text or answered):
            return []
        tools = tools if "call tools" in text and chat.parallel_tool_calls is not False else tools[:1]
    return [(tool.name, _encode(example(tool.parameters or {"type": "object"})).decode()) for tool in tools]


def _envelope(chat: Chat, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{ID_MARK}",
        "object": kind,
        "created": CREATED_MARK,
        "model": chat.model,
        "service_tier": "default" if chat.service_tier in (None, "auto") else chat.service_tier,
        "system_fingerprint": FINGERPRINT,
    }


def _whole(chat: Chat, choice: Choice, index: int, azure: bool) -> dict[str, Any]:
    text = "".join(choice.pieces)
    message: dict[str, Any] = {"role": "assistant", "content": None if choice.calls else text, "refusal": None}
    if choice.calls:
        message["tool_calls"] = [
            {"id": _call_id(index, i), "type": "function", "function": {"name": name, "arguments": arguments}}
            for i, (name, arguments) in enumerate(choice.calls)
        ]
    message["annotations"] = []
    probabilities = _logprobs(choice.pieces, chat.top_logprobs or 0) if chat.logprobs else None
    whole = {"index": index, "message": message, "logprobs": probabilities, "finish_reason": choice.finish}
    return whole | {"content_filter_results": _SAFE} if azure else whole


def _call_id(choice: int, call: int) -> str:
    return f"call_{ID_MARK}{choice:02x}{call:02x}"


def _logprobs(pieces: tuple[str, ...], top: int) -> dict[str, Any]:
    content = []
    for piece in pieces:
        row: dict[str, Any] = {"token": piece, "logprob": -0.25, "bytes": list(piece.encode())}
        others = ({"token": f"{piece}{i}", "logprob": -0.25 - i, "bytes": None} for i in range(1, min(top, 20)))
        content.append(row | {"top_logprobs": [dict(row), *others] if top else []})
    return {"content": content, "refusal": None}


def _stream(chat: Chat, choices: list[Choice], usage: dict[str, Any], azure: bool, fault: str) -> Answer:
    asked = chat.stream_options is not None and bool(chat.stream_options.include_usage)
    told = asked and fault not in ("nousage", "usage-in-finish")
    head = b"data: " + _encode(_envelope(chat, "chat.completion.chunk"))[:-1] + b',"choices":['
    tail = b'],"usage":null}\n\n' if told else b"]}\n\n"
    finish_tail = b'],"usage":' + _encode(usage) + b"}\n\n" if fault == "usage-in-finish" else tail
    deltas = [list(_deltas(chat, choice, index, azure)) for index, choice in enumerate(choices)]
    events = [_azure_preface()] if azure else []
    for step in range(max(map(len, deltas))):
        for steps in deltas:
            # The last step of a choice is its finish; choices of other lengths go on without it.
            events += [
                head + data + (finish_tail if step == len(steps) - 1 else tail) for data in steps[step : step + 1]
            ]
    if told:
        events.append(head + b'],"usage":' + _encode(usage) + b"}\n\n")
    events.append(DONE)
    return Answer(200, EVENT_STREAM, events=tuple(events), model=chat.model)


def _azure_preface() -> bytes:
    first = {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
    return b"data: " + _encode(first | {"prompt_filter_results": [
        {"prompt_index": 0, "content_filter_results": _SAFE}
    ]}) + b"\n\n"  # fmt: skip


def _deltas(chat: Chat, choice: Choice, index: int, azure: bool) -> Iterator[bytes]:
    """The chunks' `choices` entries of one choice: role, content or tool fragments, finish."""
    role = {"role": "assistant", "content": None if choice.calls else "", "refusal": None}
    yield _step(index, role)
    for piece in choice.pieces:
        probabilities = _logprobs((piece,), chat.top_logprobs or 0) if chat.logprobs else None
        yield _step(index, {"content": piece}, probabilities, None, azure)
    for call, (name, arguments) in enumerate(choice.calls):
        function = {"name": name, "arguments": ""}
        first = {"index": call, "id": _call_id(index, call), "type": "function", "function": function}
        yield _step(index, {"tool_calls": [first]})
        for start in range(0, len(arguments), _FRAGMENT):
            part = {"index": call, "function": {"arguments": arguments[start : start + _FRAGMENT]}}
            yield _step(index, {"tool_calls": [part]})
    yield _step(index, {}, finish=choice.finish)


def _step(
    index: int, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None, azure: bool = False
) -> bytes:
    step = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
    return _encode(step | {"content_filter_results": _SAFE} if azure else step)
