"""Writing a request of OpenAI's chat completions for OpenAI and for those who speak as it does.

`Target.features` says what a server takes beyond the plain API:
`cache_control` (marks on parts, as OpenRouter takes them), `prompt_cache_breakpoint` (OpenAI's own, newer models),
`reasoning_content` and `reasoning_details` (thinking of earlier turns comes back), `extra_content` (calls' signatures),
`reasoning` (OpenRouter's object with a budget), `tool_images` (images in tool results), `file_urls`, `top_k`,
`max_tokens` (the old name of the limit, and the only one), `system_only` (no `developer` role), `prefix` (an assistant
message at the end is to be continued), `many_stops` (more than four stop sequences); and what it does not take:
`no_stream_options`.

Hints whose loss changes no meaning (cache marks, thinking and citations of earlier turns, signatures, `is_error`) are
left out without asking where the server has no place for them, and noted in `Target.dropped` all the same.
"""

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fastgw.dialects.hub import Chat, Format, Opaque, Reasoning, Target, Tool, ToolChoice, effort_of
from fastgw.dialects.openai_chat import wire
from fastgw.dialects.openai_chat.messages_write import MessageOut, messages, note
from fastgw.dialects.openai_chat.wire import NAME

MAX_STOPS = 4


class _FunctionOut(Struct):
    name: str
    description: str | UnsetType = UNSET
    parameters: Raw | UnsetType = UNSET
    strict: bool | UnsetType = UNSET


class _ToolOut(Struct, tag_field="type", tag="function"):
    function: _FunctionOut
    cache_control: Raw | UnsetType = UNSET


class _NamedOut(Struct):
    name: str


class _OnlyOut(Struct, tag_field="type", tag="function"):
    function: _NamedOut


class _AllowOut(Struct):
    mode: str
    tools: list[_OnlyOut]


class _AllowedOut(Struct, tag_field="type", tag="allowed_tools"):
    allowed_tools: _AllowOut


class _SchemaOut(Struct):
    name: str
    description: str | UnsetType = UNSET
    schema: Raw | UnsetType = UNSET
    strict: bool | UnsetType = UNSET


class _PlainFormatOut(Struct):
    type: str


class _FormatOut(Struct, tag_field="type", tag="json_schema"):
    json_schema: _SchemaOut


class _ReasoningOut(Struct):
    effort: str | UnsetType = UNSET
    max_tokens: int | UnsetType = UNSET
    exclude: bool | UnsetType = UNSET


class _RequestOut(Struct):
    model: str
    messages: list[MessageOut]
    max_completion_tokens: int | UnsetType = UNSET
    max_tokens: int | UnsetType = UNSET
    temperature: float | UnsetType = UNSET
    top_p: float | UnsetType = UNSET
    top_k: int | UnsetType = UNSET
    stop: list[str] | UnsetType = UNSET
    seed: int | UnsetType = UNSET
    n: int | UnsetType = UNSET
    presence_penalty: float | UnsetType = UNSET
    frequency_penalty: float | UnsetType = UNSET
    logit_bias: Raw | UnsetType = UNSET
    logprobs: bool | UnsetType = UNSET
    top_logprobs: int | UnsetType = UNSET
    tools: list[_ToolOut | Raw] | UnsetType = UNSET
    tool_choice: str | _OnlyOut | _AllowedOut | Raw | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET
    response_format: _PlainFormatOut | _FormatOut | Raw | UnsetType = UNSET
    reasoning_effort: str | UnsetType = UNSET
    reasoning: _ReasoningOut | UnsetType = UNSET
    service_tier: str | UnsetType = UNSET
    user: str | UnsetType = UNSET
    metadata: Raw | UnsetType = UNSET
    stream: bool | UnsetType = UNSET
    stream_options: Raw | UnsetType = UNSET


_encode = msgspec.json.encode
_PLACED = frozenset({"tool_choice", "response_format", "stream_options"})
_ASK_USAGE = Raw(b'{"include_usage":true}')


def write(chat: Chat, target: Target) -> bytes:
    """The request for a provider; a stream always asks for its usage. Raises hub.Unsupported."""
    out = _RequestOut(target.model, messages(chat.turns, target))
    _numbers(chat, target, out)
    _words(chat, out)
    if chat.tools or chat.server_tools:
        out.tools = [_tool(tool, target) for tool in chat.tools]
        out.tools += _server_tools(chat.server_tools, target)
    if chat.tool_choice is not None:
        _tool_choice(chat.tool_choice, out)
    if chat.format is not None:
        out.response_format = _format(chat.format)
    if chat.reasoning is not None:
        _reasoning(chat.reasoning, target, out)
    if chat.stream:
        out.stream = True
        if "no_stream_options" not in target.features:
            out.stream_options = _ASK_USAGE
    rest = _extra(chat, target, out) if chat.extra or chat.hints else None
    body = _encode(out)
    return body[:-1] + b"," + _encode(rest)[1:] if rest else body


def _numbers(chat: Chat, target: Target, out: _RequestOut) -> None:
    if chat.max_tokens is not None:
        if "max_tokens" in target.features:
            out.max_tokens = chat.max_tokens
        else:
            out.max_completion_tokens = chat.max_tokens
    if chat.temperature is not None:
        out.temperature = chat.temperature
    if chat.top_p is not None:
        out.top_p = chat.top_p
    if chat.top_k is not None:
        if "top_k" in target.features:
            out.top_k = chat.top_k
        else:
            target.give_up("top_k", "the provider samples by temperature and top_p only")
    if chat.seed is not None:
        out.seed = chat.seed
    if chat.n is not None:
        out.n = chat.n
    if chat.presence_penalty is not None:
        out.presence_penalty = chat.presence_penalty
    if chat.frequency_penalty is not None:
        out.frequency_penalty = chat.frequency_penalty
    if chat.logprobs is not None:
        out.logprobs = chat.logprobs
    if chat.top_logprobs is not None:
        out.top_logprobs = chat.top_logprobs
    if chat.stop:
        out.stop = chat.stop
        if len(chat.stop) > MAX_STOPS and "many_stops" not in target.features:
            target.give_up("stop", f"the provider takes at most {MAX_STOPS}")
            out.stop = chat.stop[:MAX_STOPS]


def _words(chat: Chat, out: _RequestOut) -> None:
    if chat.logit_bias is not None:
        out.logit_bias = chat.logit_bias
    if chat.service_tier is not None:
        # Anthropic's word for never paying for priority.
        out.service_tier = "default" if chat.service_tier == "standard_only" else chat.service_tier
    if chat.user is not None:
        out.user = chat.user
    if chat.metadata is not None:
        out.metadata = chat.metadata


def _extra(chat: Chat, target: Target, out: _RequestOut) -> dict[str, Raw]:
    """Fields that only this dialect knows; those that share a name with a field written above go there."""
    if chat.origin != NAME:
        for name in chat.extra:
            target.give_up(name, f"only {chat.origin} has it")
        return {}
    given = {**chat.extra, **chat.hints}
    if "tool_choice" in given:
        out.tool_choice = given["tool_choice"]
    if "response_format" in given:
        out.response_format = given["response_format"]
    if chat.stream and "stream_options" in given and "no_stream_options" not in target.features:
        options = wire.read_raws(given["stream_options"])
        out.stream_options = Raw(_encode({**options, "include_usage": True}))
    return {name: raw for name, raw in given.items() if name not in _PLACED}


# --- tools, format, reasoning


def _tool(tool: Tool, target: Target) -> _ToolOut | Raw:
    out = _FunctionOut(tool.name)
    if tool.description is not None:
        out.description = tool.description
    if tool.schema is not None:
        out.parameters = tool.schema
    if tool.strict is not None:
        out.strict = tool.strict
    written = _ToolOut(out)
    if tool.cache is not None:
        if "cache_control" in target.features:
            written.cache_control = tool.cache
        else:
            note(target, "cache_control")
    return written


def _server_tools(tools: list[Opaque], target: Target) -> list[_ToolOut | Raw]:
    out: list[_ToolOut | Raw] = []
    for tool in tools:
        if tool.dialect == NAME:
            out.append(tool.raw)
        else:
            target.give_up("tools", f"{tool.kind} is a tool of {tool.dialect}")
    return out


def _tool_choice(choice: ToolChoice, out: _RequestOut) -> None:
    if choice.parallel is not None:
        out.parallel_tool_calls = choice.parallel
    if choice.names:
        if choice.mode == "named" and len(choice.names) == 1:
            out.tool_choice = _OnlyOut(_NamedOut(choice.names[0]))
        else:
            only = [_OnlyOut(_NamedOut(name)) for name in choice.names]
            out.tool_choice = _AllowedOut(_AllowOut("required" if choice.mode == "named" else choice.mode, only))
    elif choice.mode != "auto" or choice.parallel is None:
        out.tool_choice = "required" if choice.mode == "named" else choice.mode


def _format(given: Format) -> _PlainFormatOut | _FormatOut:
    if given.kind != "schema":
        return _PlainFormatOut("json_object" if given.kind == "json" else "text")
    schema = _SchemaOut(given.name or "response")
    if given.description is not None:
        schema.description = given.description
    if given.schema is not None:
        schema.schema = given.schema
    if given.strict is not None:
        schema.strict = given.strict
    return _FormatOut(schema)


def _reasoning(given: Reasoning, target: Target, out: _RequestOut) -> None:
    """A level; a budget only where the server takes one, else as the level that stands for it."""
    if "reasoning" in target.features:
        out.reasoning = _ReasoningOut()
        if given.budget is not None:
            out.reasoning.max_tokens = given.budget
        elif given.effort is not None:
            out.reasoning.effort = given.effort
        if given.show is not None:
            out.reasoning.exclude = not given.show
        return
    if given.effort is not None:
        out.reasoning_effort = given.effort
    elif given.budget is not None:
        out.reasoning_effort = effort_of(given.budget) or UNSET
