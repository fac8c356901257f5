"""Reading a request of Anthropic's Messages API, or of its token counting."""

from typing import cast

import msgspec
from msgspec import Raw, Struct

from fastgw.dialects.anthropic_messages.parts import NAME, NULL, fault, read_content, said
from fastgw.dialects.hub import (
    Chat,
    Effort,
    Format,
    Invalid,
    Opaque,
    Reasoning,
    Role,
    Text,
    Tool,
    ToolChoice,
    ToolMode,
    Turn,
)

MODES: dict[str, ToolMode] = {"auto": "auto", "any": "required", "none": "none", "tool": "named"}
EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})
THINKING = ("enabled", "adaptive", "between_tools")
HINTS = frozenset({"diagnostics", "inference_geo", "cache_control"})
"""Fields whose absence changes no answer."""
UNREADABLE = (ValueError, RecursionError)


class _Message(Struct):
    role: str
    content: str | list[Raw] | None = None


class _Choice(Struct):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Thinking(Struct):
    type: str
    budget_tokens: int | None = None
    display: str | None = None


class _Metadata(Struct):
    user_id: str | None = None


class _Request(Struct):
    model: str | None = None
    messages: list[_Message] | None = None
    max_tokens: int | None = None
    system: str | list[Raw] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    tools: list[Raw] | None = None
    tool_choice: _Choice | None = None
    thinking: _Thinking | None = None
    output_config: dict[str, Raw] | None = None
    output_format: Raw = NULL
    service_tier: str | None = None
    metadata: _Metadata | None = None


class _Plain(_Request, forbid_unknown_fields=True):
    """Nearly every request: nothing but known fields, so that one reading is enough."""


class _Tool(Struct):
    type: str | None = None
    name: str | None = None
    description: str | None = None
    input_schema: Raw = NULL
    strict: bool | None = None
    cache_control: Raw = NULL


class _Format(Struct):
    type: str
    schema: Raw = NULL


class _Edit(Struct):
    type: str
    keep: str | None = None


class _Management(Struct, forbid_unknown_fields=True):
    edits: list[_Edit] = []


KNOWN = frozenset(_Request.__struct_fields__)
TOOL_KNOWN = frozenset(_Tool.__struct_fields__)
_read_plain = msgspec.json.Decoder(_Plain).decode
_read_request = msgspec.json.Decoder(_Request).decode
_read_tool = msgspec.json.Decoder(_Tool).decode
_read_format = msgspec.json.Decoder(_Format).decode
_read_raws = msgspec.json.Decoder(dict[str, Raw]).decode
_read_text = msgspec.json.Decoder(str).decode
_read_management = msgspec.json.Decoder(_Management).decode


def read(body: bytes, *, model: str | None = None, stream: bool | None = None) -> Chat:
    """The request in `body`; `model` and `stream` where the path says them. Raises hub.Invalid."""
    chat = read_count_request(body, model=model, stream=stream)
    if chat.max_tokens is None:
        raise Invalid("max_tokens", "is missing")
    return chat


def read_count_request(body: bytes, *, model: str | None = None, stream: bool | None = None) -> Chat:
    """A request to count tokens: the same, but that `max_tokens` may be missing. Raises hub.Invalid."""
    extra: dict[str, Raw] = {}
    seen: _Request
    try:
        try:
            seen = _read_plain(body)
        except msgspec.ValidationError:  # a field unknown here, or a fault, which the second reading names
            seen, fields = _read_request(body), _read_raws(body)
            extra = {name: raw for name, raw in fields.items() if name not in KNOWN and raw != NULL}
    except UNREADABLE as error:
        raise fault(error, "") from None
    name = seen.model if model is None else model
    if name is None:
        raise Invalid("model", "is missing")
    if not seen.messages:
        raise Invalid("messages", "must hold at least one message")
    config = dict(seen.output_config) if seen.output_config else {}
    if seen.output_format != NULL:  # the beta's name for it
        config.setdefault("format", seen.output_format)
    chat = Chat(
        name,
        _turns(seen),
        NAME,
        tool_choice=_tool_choice(seen.tool_choice),
        max_tokens=seen.max_tokens,
        temperature=seen.temperature,
        top_p=seen.top_p,
        top_k=seen.top_k,
        stop=seen.stop_sequences or [],
        service_tier=seen.service_tier,
        user=seen.metadata.user_id if seen.metadata is not None else None,
        stream=bool(seen.stream) if stream is None else stream,
        stream_usage=True,
        extra=extra,
    )
    if seen.tools:
        _tools(seen.tools, chat)
    if seen.thinking is not None or config:
        _configure(seen.thinking, config, chat)
    if extra:
        chat.hints = {name: extra.pop(name) for name in HINTS & extra.keys()}
        if _idle(extra.get("context_management", NULL)):
            chat.hints["context_management"] = extra.pop("context_management")
    return chat


def _idle(raw: Raw) -> bool:
    """Whether this `context_management` changes nothing: no edits, or the clearing of thinking that keeps all of it.

    Claude Code sends the latter with every request. https://platform.claude.com/docs/en/build-with-claude/context-editing
    """
    try:
        edits = _read_management(raw).edits if raw != NULL else None
    except UNREADABLE:
        return False
    return edits is not None and all(edit.type == "clear_thinking_20251015" and edit.keep == "all" for edit in edits)


def _turns(seen: _Request) -> list[Turn]:
    turns: list[Turn] = []
    system = seen.system
    if system:
        turns.append(Turn("system", [Text(system)] if isinstance(system, str) else read_content(system, "system")))
    for number, message in enumerate(seen.messages or ()):
        role = message.role
        if role not in ("user", "assistant", "system"):
            raise Invalid(f"messages[{number}].role", f"{role[:40]!r} is no role")
        if message.content is None:
            raise Invalid(f"messages[{number}].content", "is missing")
        turns.append(Turn(cast(Role, role), read_content(message.content, f"messages[{number}].content")))
    return turns


def _tools(given: list[Raw], chat: Chat) -> None:
    tools: list[Tool] = []
    others: list[Opaque] = []
    for number, raw in enumerate(given):
        try:
            tool = _read_tool(raw)
            if tool.type not in (None, "custom"):
                others.append(Opaque(NAME, tool.type or "", raw))
                continue
            extra = {name: value for name, value in _read_raws(raw).items() if name not in TOOL_KNOWN and value != NULL}
        except UNREADABLE as error:
            raise fault(error, f"tools[{number}]") from None
        if not tool.name:
            raise Invalid(f"tools[{number}].name", "is missing")
        schema = None if tool.input_schema == NULL else tool.input_schema
        tools.append(Tool(tool.name, tool.description, schema, tool.strict, said(tool.cache_control), extra))
    chat.tools, chat.server_tools = tools, others


def _tool_choice(given: _Choice | None) -> ToolChoice | None:
    if given is None:
        return None
    if given.type not in MODES:
        raise Invalid("tool_choice.type", f"{given.type[:40]!r} is none of auto, any, tool and none")
    if given.type == "tool" and not given.name:
        raise Invalid("tool_choice.name", "is missing")
    apart = given.disable_parallel_tool_use
    names = [given.name] if given.type == "tool" and given.name else []
    return ToolChoice(MODES[given.type], names, None if apart is None else not apart)


def _configure(thinking: _Thinking | None, config: dict[str, Raw], chat: Chat) -> None:
    """`thinking` and `output_config`: effort, format, and what else is there for `extra`."""
    effort = None
    try:
        if "format" in config and config["format"] != NULL:
            form = _read_format(config["format"])
            if form.type == "json_schema" and form.schema != NULL:
                chat.format = Format("schema", schema=form.schema, strict=True)
                del config["format"]
        if "effort" in config and config["effort"] != NULL:
            effort = _read_text(config.pop("effort"))
    except UNREADABLE as error:
        raise fault(error, "output_config") from None
    if effort is not None and effort not in EFFORTS:
        raise Invalid("output_config.effort", f"{effort[:40]!r} is no level of effort")
    chat.extra.update({f"output_config.{name}": raw for name, raw in config.items() if raw != NULL})
    level = cast("Effort | None", effort)
    if thinking is None:
        chat.reasoning = None if level is None else Reasoning(level, native="effort")
    elif thinking.type == "disabled":
        # What an effort without thinking means, only this dialect knows.
        chat.reasoning = Reasoning("none", native="disabled" if effort is None else f"disabled {effort}")
    elif thinking.type in THINKING:
        show = None if thinking.display is None else thinking.display != "omitted"
        if show is None and thinking.type == "enabled":
            show = True
        chat.reasoning = Reasoning(level, thinking.budget_tokens, show, thinking.type)
    else:
        raise Invalid("thinking.type", f"{thinking.type[:40]!r} is none of {', '.join(THINKING)} and disabled")
