"""Reading a request of OpenAI's chat completions. Source: https://platform.openai.com/docs/api-reference/chat/create.

Consecutive `tool` messages become one user turn. The legacy `functions` and `function_call` are read as tools. What the
hub has no place for stays raw: unknown fields in `Chat.extra` (those that change no answer in `Chat.hints`), unknown
parts and custom tools as `Opaque`.
"""

from typing import cast

import msgspec
from msgspec import Raw, Struct

from fastgw.dialects.hub import Chat, Effort, Format, Invalid, Opaque, Reasoning, Tool, ToolChoice, ToolMode
from fastgw.dialects.openai_chat import wire
from fastgw.dialects.openai_chat.messages_read import Message, invalid, turns
from fastgw.dialects.openai_chat.wire import NAME, NULL, some


class _ToolFunction(Struct):
    name: str
    description: str | None = None
    parameters: Raw = NULL
    strict: bool | None = None


class _Tool(Struct):
    type: str = "function"
    function: _ToolFunction | None = None
    cache_control: Raw = NULL


class _Named(Struct):
    name: str


class _Allowed(Struct):
    type: str = ""
    function: _Named | None = None


class _AllowedTools(Struct):
    mode: str = "auto"
    tools: list[_Allowed] = []


class _Choice(Struct):
    type: str = ""
    function: _Named | None = None
    allowed_tools: _AllowedTools | None = None


class _Schema(Struct):
    name: str | None = None
    schema: Raw = NULL
    strict: bool | None = None
    description: str | None = None


class _Format(Struct):
    type: str
    json_schema: _Schema | None = None


class _Reasoning(Struct):
    """OpenRouter's `reasoning` object."""

    effort: str | None = None
    max_tokens: int | None = None
    exclude: bool | None = None
    enabled: bool | None = None


class _Request(Struct):
    model: str | None = None
    messages: list[Message] | None = None
    tools: list[Raw] | None = None
    tool_choice: Raw = NULL
    parallel_tool_calls: bool | None = None
    functions: list[_ToolFunction] | None = None
    function_call: Raw = NULL
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Raw = NULL
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: Raw = NULL
    reasoning_effort: str | None = None
    reasoning: _Reasoning | None = None
    service_tier: str | None = None
    user: str | None = None
    metadata: Raw = NULL
    stream: bool | None = None
    stream_options: dict[str, Raw] | None = None


class _Plain(_Request, forbid_unknown_fields=True):
    """A request in which nothing is unknown: most are."""


KNOWN = frozenset(_Request.__struct_fields__)
HINTS = frozenset(
    {
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
        "safety_identifier",
        "store",
        "stream_options",
    }
)
MODES: dict[str, ToolMode] = {"auto": "auto", "none": "none", "required": "required"}

_read_plain = msgspec.json.Decoder(_Plain).decode
_read_request = msgspec.json.Decoder(_Request).decode
_read_tool = msgspec.json.Decoder(_Tool).decode
_read_choice = msgspec.json.Decoder(_Choice | str).decode
_read_format = msgspec.json.Decoder(_Format).decode


def read(body: bytes, *, model: str | None = None, stream: bool | None = None) -> Chat:
    """The request in `body`; `model` and `stream` where the path says them. Raises hub.Invalid."""
    fields: dict[str, Raw] = {}
    try:
        try:
            seen: _Request = _read_plain(body)
        except msgspec.ValidationError:  # a field unknown here, or a fault, which the second reading names
            seen, fields = _read_request(body), wire.read_raws(body)
    except wire.UNREADABLE as error:
        raise invalid(error, "") from None
    name = seen.model if model is None else model
    if name is None:
        raise Invalid("model", "is missing")
    if not seen.messages:
        raise Invalid("messages", "must hold at least one message")
    # `null` is how clients say nothing of a field.
    extra = {} if fields.keys() <= KNOWN else {k: v for k, v in fields.items() if k not in KNOWN and v != Raw(b"null")}
    options = seen.stream_options or {}
    if len(options) > ("include_usage" in options):
        extra["stream_options"] = Raw(wire.encode(options))
    if extra.get("modalities") == Raw(b'["text"]'):
        del extra["modalities"]
    tools, server_tools = _tools(seen)
    # In the order of the fields of `Chat`: by name, this would cost four times as much.
    return Chat(
        name,
        turns(seen.messages),
        NAME,
        tools,
        server_tools,
        _tool_choice(seen, extra),
        seen.max_tokens if seen.max_completion_tokens is None else seen.max_completion_tokens,
        seen.temperature,
        seen.top_p,
        seen.top_k,
        [seen.stop] if isinstance(seen.stop, str) else seen.stop or [],
        seen.seed,
        seen.n,
        seen.presence_penalty,
        seen.frequency_penalty,
        some(seen.logit_bias),
        seen.logprobs,
        seen.top_logprobs,
        _format(seen.response_format, extra) if some(seen.response_format) is not None else None,
        _reasoning(seen),
        seen.service_tier,
        seen.user,
        some(seen.metadata),
        bool(seen.stream) if stream is None else stream,
        options.get("include_usage") == Raw(b"true"),
        extra,
        {name: extra.pop(name) for name in HINTS & extra.keys()} if extra else {},
    )


# --- tools, format, reasoning


def _tools(seen: _Request) -> tuple[list[Tool], list[Opaque]]:
    """(functions, other tools)."""
    tools: list[Tool] = []
    others: list[Opaque] = []
    for i, raw in enumerate(seen.tools or ()):
        try:
            tool = _read_tool(raw)
        except wire.UNREADABLE as error:
            raise invalid(error, f"tools[{i}]") from None
        if tool.type != "function":
            others.append(Opaque(NAME, tool.type, raw))
        elif tool.function is None:
            raise Invalid(f"tools[{i}].function", "is missing")
        else:
            tools.append(_tool(tool.function, some(tool.cache_control)))
    tools += [_tool(function, None) for function in seen.functions or ()]
    return tools, others


def _tool(function: _ToolFunction, cache: Raw | None) -> Tool:
    return Tool(function.name, function.description, some(function.parameters), function.strict, cache)


def _tool_choice(seen: _Request, extra: dict[str, Raw]) -> ToolChoice | None:
    """`tool_choice` and `parallel_tool_calls`. A choice the hub cannot say stays in `extra`."""
    parallel = seen.parallel_tool_calls
    choice = None if parallel is None else ToolChoice(parallel=parallel)
    if some(seen.tool_choice) is None:
        return _function_choice(seen.function_call) if some(seen.function_call) is not None else choice
    try:
        given = _read_choice(seen.tool_choice)
    except wire.UNREADABLE as error:
        raise invalid(error, "tool_choice") from None
    if isinstance(given, str):
        if given not in MODES:
            raise Invalid("tool_choice", f"{given[:40]!r} is none of auto, none and required")
        return ToolChoice(MODES[given], [], parallel)
    if given.type == "function" and given.function is not None:
        return ToolChoice("named", [given.function.name], parallel)
    allowed = given.allowed_tools
    if given.type == "allowed_tools" and allowed is not None and allowed.mode in MODES:
        names = [tool.function.name for tool in allowed.tools if tool.function is not None]
        if names and len(names) == len(allowed.tools):
            return ToolChoice(MODES[allowed.mode], names, parallel)
    extra["tool_choice"] = seen.tool_choice
    return choice


def _function_choice(raw: Raw) -> ToolChoice:
    """The legacy `function_call`: none, auto or a name."""
    try:
        given: str | _Named = msgspec.json.decode(raw, type=str | _Named)
    except wire.UNREADABLE as error:
        raise invalid(error, "function_call") from None
    if not isinstance(given, str):
        return ToolChoice("named", [given.name])
    if given not in MODES:
        raise Invalid("function_call", f"{given[:40]!r} is neither auto nor none")
    return ToolChoice(MODES[given])


def _format(raw: Raw, extra: dict[str, Raw]) -> Format | None:
    try:
        seen = _read_format(raw)
    except wire.UNREADABLE as error:
        raise invalid(error, "response_format") from None
    if seen.type == "json_object":
        return Format("json")
    if seen.type == "json_schema":
        schema = seen.json_schema
        if schema is None:
            raise Invalid("response_format.json_schema", "is missing")
        return Format("schema", schema.name, schema.schema, schema.strict, schema.description)
    if seen.type == "text":
        return Format("text")
    extra["response_format"] = raw
    return None


def _reasoning(seen: _Request) -> Reasoning | None:
    """`reasoning_effort`, or OpenRouter's `reasoning` object with a budget."""
    given = seen.reasoning
    effort = seen.reasoning_effort or (given.effort if given else None)
    if effort is not None and effort not in wire.EFFORTS:
        raise Invalid("reasoning_effort", f"{effort[:40]!r} is no level of effort")
    if given is None:
        return None if effort is None else Reasoning(cast(Effort, effort))
    if effort is None and given.enabled is False:
        effort = "none"
    show = None if given.exclude is None else not given.exclude
    if effort is None and given.max_tokens is None and show is None:
        return Reasoning("medium") if given.enabled else None
    return Reasoning(cast("Effort | None", effort), given.max_tokens, show)
