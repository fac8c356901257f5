"""Generated content of the mock, whole and streamed, in Gemini's shape.

A call gets what the same chat gets in OpenAI's dialect (see `openai_chat`): the same text, tool calls and tokens. Calls
carry no ids, as Google's do not. With `includeThoughts` a thought comes first, and the first call has a signature.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Raw

from fastgw.mock.base import EVENT_STREAM, ID_MARK, JSON, Answer
from fastgw.mock.faults import named_fault
from fastgw.mock.openai_chat import Chat, Choice, Counts, Function, Message, Tool, draft
from fastgw.mock.options import MockOptions
from fastgw.mock.text import count_tokens
from fastgw.mock.thinking import effort_of, signature_of, thoughts

_MAX_CANDIDATES: Final = 8
_DEPTH: Final = 64
_MODES: Final = {"AUTO": "auto", "ANY": "required", "NONE": "none", "VALIDATED": "auto"}
_STOPS: Final = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS"}
# What stands in these is the caller's own and keeps its spelling.
_OPAQUE: Final = frozenset({"args", "response", "parameters", "parametersJsonSchema", "responseSchema",
                            "responseJsonSchema", "labels"})  # fmt: skip
_SNAKE: Final = re.compile(r"_([a-z])")
_encode = msgspec.json.encode


def camel(value: Any, depth: int = 0) -> Any:
    """The same with snake-case names of the API in camel case: Google reads both."""
    if depth > _DEPTH:
        return None
    if isinstance(value, list):
        return [camel(one, depth + 1) for one in value]
    if not isinstance(value, dict):
        return value
    pairs = ((_SNAKE.sub(lambda found: found[1].upper(), name), inner) for name, inner in value.items())
    return {name: inner if name in _OPAQUE else camel(inner, depth + 1) for name, inner in pairs}


class FunctionCall(msgspec.Struct):
    """A call in a replayed turn."""

    name: str
    args: dict[str, Any] | None = None


class FunctionResponse(msgspec.Struct):
    """The result of a call."""

    name: str
    response: dict[str, Any] | None = None

    def text(self) -> str:
        """The result's words: what stands under `output` or `error`, or else the object as JSON."""
        given = self.response or {}
        said = next(iter(given.values())) if len(given) == 1 and given.keys() <= {"output", "error"} else given
        return said if isinstance(said, str) else _encode(said).decode()


class Part(msgspec.Struct, rename="camel"):
    """A part of any kind; kinds without text count nothing."""

    text: str | None = None
    thought: bool | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None


class Content(msgspec.Struct):
    """One turn."""

    parts: list[Part] | None = None
    role: str | None = None

    def text(self) -> str:
        """All text but thoughts."""
        return "".join(part.text or "" for part in self.parts or () if not part.thought)


class Declaration(msgspec.Struct, rename="camel"):
    """A function that may be called."""

    name: str
    parameters: dict[str, Any] | None = None
    parameters_json_schema: dict[str, Any] | None = None


class Offered(msgspec.Struct, rename="camel"):
    """One entry of `tools`."""

    function_declarations: list[Declaration] | None = None


class Calling(msgspec.Struct, rename="camel"):
    """`functionCallingConfig`."""

    mode: str = "AUTO"
    allowed_function_names: list[str] | None = None


class ToolConfig(msgspec.Struct, rename="camel"):
    """`toolConfig`."""

    function_calling_config: Calling | None = None


class Thinking(msgspec.Struct, rename="camel"):
    """`thinkingConfig`."""

    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


class Config(msgspec.Struct, rename="camel"):
    """`generationConfig`."""

    max_output_tokens: int | None = None
    candidate_count: int | None = None
    response_mime_type: str | None = None
    response_schema: Any = None
    response_json_schema: Any = None
    thinking_config: Thinking | None = None


class Generate(msgspec.Struct, rename="camel"):
    """A generateContent request; fields not named here are ignored. `form` is `sse`, `array` or, whole, empty."""

    contents: list[Content] | None = None
    system_instruction: Content | None = None
    generation_config: Config | None = None
    tools: list[Offered] | None = None
    tool_config: ToolConfig | None = None
    model: str = ""
    form: str = ""

    def problem(self) -> str | None:
        """What Google would refuse the request for, or None."""
        if not self.contents:
            return "* GenerateContentRequest.contents: contents is not specified"
        config = self.generation_config or Config()
        if not 1 <= (1 if config.candidate_count is None else config.candidate_count) <= _MAX_CANDIDATES:
            return f"* GenerateContentRequest.generation_config.candidate_count: must be 1-{_MAX_CANDIDATES}."
        if config.max_output_tokens is not None and config.max_output_tokens < 1:
            return "* GenerateContentRequest.generation_config.max_output_tokens: must be positive."
        for place, content in enumerate(self.contents):
            if content.role not in (None, "", "user", "model", "function"):
                return "Please use a valid role: user, model."
            if not content.parts:
                return f"* GenerateContentRequest.contents[{place}].parts: contents.parts must not be empty."
        return _pairing_problem(self.contents)


class Count(msgspec.Struct, rename="camel"):
    """A countTokens request: contents, or a whole request."""

    contents: list[Content] | None = None
    generate_content_request: Generate | None = None
    model: str = ""
    form: str = ""

    def problem(self) -> str | None:
        """What Google would refuse the request for, or None."""
        return self.request().problem()

    def request(self) -> Generate:
        """The request whose prompt is counted."""
        return self.generate_content_request or Generate(self.contents)


def _pairing_problem(contents: list[Content]) -> str | None:
    for place, content in enumerate(contents):
        given = sum(part.function_response is not None for part in content.parts or ())
        before = contents[place - 1].parts or () if place else ()
        asked = sum(part.function_call is not None for part in before)
        if given != asked:
            return ("Please ensure that the number of function response parts is equal to the number of function call "
                    "parts of the function call turn.")  # fmt: skip
    return None


# --- the same chat in OpenAI's words


def as_chat(body: Generate) -> Chat:
    """The chat that OpenAI's dialect would have been asked for."""
    config = body.generation_config or Config()
    chat = Chat(body.model, list(_messages(body)), bool(body.form), n=config.candidate_count)
    chat.max_tokens = config.max_output_tokens
    if config.response_mime_type == "application/json":
        schema = config.response_json_schema or _lower(config.response_schema)
        kind = "json_object" if schema is None else "json_schema"
        chat.response_format = {"type": kind, "json_schema": {"schema": schema}}
    if (thinking := config.thinking_config) is not None:
        level = (thinking.thinking_level or "").lower()
        budget = -1 if thinking.thinking_budget is None else thinking.thinking_budget
        chat.reasoning_effort = level or effort_of(budget)
    _offer(chat, body)
    return chat


def _offer(chat: Chat, body: Generate) -> None:
    """The tools, and which of them may or must be called."""
    declared = [one for tool in body.tools or () for one in tool.function_declarations or ()]
    calling = (body.tool_config or ToolConfig()).function_calling_config or Calling()
    allowed = calling.allowed_function_names
    chat.tools = [
        Tool(function=Function(one.name, one.parameters_json_schema or _lower(one.parameters)))
        for one in declared
        if not allowed or one.name in allowed
    ]
    chat.tool_choice = _MODES.get(calling.mode.upper())


def _messages(body: Generate) -> Iterator[Message]:
    if body.system_instruction is not None:
        yield Message("system", body.system_instruction.text())
    for content in body.contents or ():
        parts = content.parts or []
        results = [part.function_response for part in parts if part.function_response is not None]
        yield from (Message("tool", result.text()) for result in results)
        if len(results) < len(parts):
            yield Message("assistant" if content.role == "model" else "user", content.text())


def _lower(schema: Any, depth: int = 0) -> Any:
    """Google's schema with JSON Schema's names of types."""
    if isinstance(schema, list):
        return [_lower(one, depth + 1) for one in schema]
    if not isinstance(schema, dict) or depth > _DEPTH:
        return schema
    kind = schema.get("type")
    return {name: _lower(inner, depth + 1) for name, inner in schema.items()} | (
        {"type": kind.lower()} if isinstance(kind, str) else {}
    )


# --- answers


def answer_count(body: Count, options: MockOptions) -> Answer:
    """How many tokens the request's prompt has."""
    _, counts = draft(as_chat(body.request()), options)
    details = [{"modality": "TEXT", "tokenCount": counts.prompt}]
    return Answer(200, JSON, _encode({"totalTokens": counts.prompt, "promptTokensDetails": details}))


def answer_generate(body: Generate, options: MockOptions) -> Answer:
    """The whole or streamed answer to a generateContent request."""
    choices, counts = draft(as_chat(body), options)
    fault = named_fault(body.model)
    where = fault.kind if fault is not None else ""
    thinking = (body.generation_config or Config()).thinking_config
    thought = thoughts(counts.reasoning) if thinking is not None and thinking.include_thoughts else ()
    if body.form:
        return _stream(body, list(_steps(choices, thought)), counts, where)
    whole = {
        "candidates": [
            _candidate(index, _whole(choice, thought), _STOPS[choice.finish]) for index, choice in enumerate(choices)
        ],
    }
    if where != "nousage":
        whole["usageMetadata"] = _usage(counts, counts.spoken, counts.reasoning)
    return Answer(200, JSON, _encode(whole | {"modelVersion": body.model, "responseId": ID_MARK}))


def _usage(counts: Counts, spoken: int, reasoning: int) -> Any:
    """Usage so far: candidates do not include thoughts, the prompt includes what is cached."""
    usage: dict[str, Any] = {
        "promptTokenCount": counts.prompt,
        "candidatesTokenCount": spoken,
        "totalTokenCount": counts.prompt + spoken + reasoning,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": counts.prompt}],
    }
    if counts.cached:
        usage["cachedContentTokenCount"] = counts.cached
        usage["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": counts.cached}]
    if counts.reasoning:
        usage["thoughtsTokenCount"] = reasoning
    return usage


def _candidate(index: int, parts: list[dict[str, Any]], finish: str | None) -> Any:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": index}
    return candidate if finish is None else candidate | {"finishReason": finish}


def _whole(choice: Choice, thought: tuple[str, ...]) -> list[dict[str, Any]]:
    parts = [{"text": "".join(thought), "thought": True}] if thought else []
    if choice.calls:
        return [*parts, *_calls(choice, thought)]
    return [*parts, {"text": "".join(choice.pieces)}]


def _calls(choice: Choice, thought: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for place, (name, arguments) in enumerate(choice.calls):
        part: dict[str, Any] = {"functionCall": {"name": name, "args": Raw(arguments.encode())}}
        yield part | {"thoughtSignature": signature_of("".join(thought))} if thought and not place else part


Step = tuple[int, dict[str, Any], str | None, int, int]  # candidate, part, finish, tokens spoken, tokens thought


def _steps(choices: list[Choice], thought: tuple[str, ...]) -> Iterator[Step]:
    """What a stream tells, part by part; thoughts are counted once, with the first candidate."""
    for index, choice in enumerate(choices):
        for piece in thought:
            yield index, {"text": piece, "thought": True}, None, 0, int(index == 0)
        finish = _STOPS[choice.finish]
        parts = list(_calls(choice, thought)) or [{"text": piece} for piece in choice.pieces] or [{"text": ""}]
        sizes = [count_tokens(name + arguments) for name, arguments in choice.calls] or [1] * len(choice.pieces) or [0]
        for place, (part, size) in enumerate(zip(parts, sizes, strict=True)):
            yield index, part, finish if place == len(parts) - 1 else None, size, 0


def _stream(body: Generate, steps: list[Step], counts: Counts, fault: str) -> Answer:
    events = []
    spoken, reasoning = 0, 0
    if not any(step[4] for step in steps):
        reasoning = counts.reasoning  # thought of, but not shown
    for place, (index, part, finish, said, thought) in enumerate(steps):
        spoken, reasoning = spoken + said, reasoning + thought
        chunk: dict[str, Any] = {"candidates": [_candidate(index, [part], finish)]}
        if fault != "nousage" and (fault != "usage-in-finish" or place == len(steps) - 1):
            chunk["usageMetadata"] = _usage(counts, spoken, reasoning)
        events.append(_encode(chunk | {"modelVersion": body.model, "responseId": ID_MARK}))
    if body.form == "sse":
        frames = tuple(b"data: " + event + b"\r\n\r\n" for event in events)
        return Answer(200, EVENT_STREAM, events=frames, again=0)
    first, *rest = events
    return Answer(200, JSON, events=(b"[" + first, *(b",\r\n" + event for event in rest), b"]"))
