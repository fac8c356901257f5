"""Reading a client's request to OpenAI's Responses API into the hub's terms."""

import msgspec
from msgspec import Raw, Struct

from fastgw.dialects.hub import Chat, Effort, Format, Invalid, Opaque, Reasoning, Tool, ToolChoice
from fastgw.dialects.openai_responses.items import NAME, NULL, UNREADABLE
from fastgw.dialects.openai_responses.turns import invalid, read_turns

FULL_REASONING, LOGPROBS = "reasoning.encrypted_content", "message.output_text.logprobs"
# Fields that only name things for a cache or against abuse.
HINTS = frozenset({"prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "safety_identifier"})
# Fields said with the value that they have anyway, or that translation gives them, ask for nothing.
DEFAULTS = {
    "store": b"false",
    "background": b"false",
    "truncation": b'"disabled"',
    "stream_options": b'{"include_obfuscation":false}',
}
ORDINARY = b'"medium"'
"""The verbosity of an answer when nothing is said of it."""
EFFORTS: dict[str, Effort] = {
    "none": "none",
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}


class _ReasoningIn(Struct):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None
    context: Raw = NULL
    mode: Raw = NULL


class _FormatIn(Struct):
    type: str
    name: str | None = None
    schema: Raw = NULL
    strict: bool | None = None
    description: str | None = None


class _TextIn(Struct):
    format: _FormatIn | None = None
    verbosity: Raw = NULL


class _ToolIn(Struct):
    type: str
    name: str | None = None
    description: str | None = None
    parameters: Raw = NULL
    strict: bool | None = None


class _PlainTool(_ToolIn, forbid_unknown_fields=True):
    pass


class _ToolKind(Struct):
    type: str


class _ChosenTool(Struct):
    type: str = ""
    name: str = ""


class _Choice(Struct):
    type: str = ""
    name: str = ""
    mode: str = ""
    tools: list[_ChosenTool] = []


class _Request(Struct):
    model: str | None = None
    input: Raw = NULL
    instructions: str | None = None
    tools: list[Raw] | None = None
    tool_choice: Raw = NULL
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    text: _TextIn | None = None
    reasoning: _ReasoningIn | None = None
    include: list[str] | None = None
    service_tier: str | None = None
    user: str | None = None
    metadata: Raw = NULL
    stream: bool | None = None
    previous_response_id: str | None = None


KNOWN = frozenset(_Request.__struct_fields__) - {"previous_response_id"}
KEEPERS = frozenset({"previous_response_id", "conversation", "prompt"})
"""Fields that bring in turns which the request itself does not show."""
PLAIN_TOOL = frozenset({"type", "name", "description", "parameters", "strict"})

_read_request = msgspec.json.Decoder(_Request).decode
_read_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_read_tool = msgspec.json.Decoder(_ToolIn).decode
_read_plain_tool = msgspec.json.Decoder(_PlainTool).decode
_read_kind_of_tool = msgspec.json.Decoder(_ToolKind).decode
_read_choice = msgspec.json.Decoder(_Choice | str).decode
_encode = msgspec.json.encode


def read_request(body: bytes, *, model: str | None = None, stream: bool | None = None) -> Chat:
    """See `Codec.read_request`."""
    try:
        request = _read_request(body)
        fields = _read_fields(body)
    except UNREADABLE as error:
        raise invalid(error, "") from None
    name = model or request.model
    if not name:
        raise Invalid("model", "is missing")
    chat = Chat(
        name,
        read_turns(
            request.instructions, request.input, alone=not any(fields.get(name, NULL) != NULL for name in KEEPERS)
        ),
        NAME,
        max_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_logprobs=request.top_logprobs,
        service_tier=request.service_tier,
        user=request.user,
        metadata=_set(request.metadata),
        stream=bool(request.stream) if stream is None else stream,
    )
    chat.stream_usage = chat.stream
    extra: dict[str, Raw] = {}
    _sort_fields(chat, fields, extra)
    _tools(chat, request)
    _tool_choice(chat, request, extra)
    _text(chat, request, extra)
    _reasoning(chat, request, extra)
    _include(chat, request, extra)
    chat.extra = extra
    return chat


def _set(raw: Raw) -> Raw | None:
    return None if raw == NULL else raw


def _sort_fields(chat: Chat, fields: dict[str, Raw], extra: dict[str, Raw]) -> None:
    """The fields without a place of their own: into `extra`, or `hints` where nothing hangs on them."""
    hints: dict[str, Raw] = {}
    for name in fields.keys() - KNOWN:
        value = bytes(fields[name])
        if fields[name] == NULL:
            continue
        if name in HINTS or (name in DEFAULTS and value.replace(b" ", b"") == DEFAULTS[name]):
            hints[name] = fields[name]
        else:
            extra[name] = fields[name]
    chat.hints = hints


def _tools(chat: Chat, request: _Request) -> None:
    tools: list[Tool] = []
    own: list[Opaque] = []
    for index, raw in enumerate(request.tools or ()):
        tool, extra = _tool(raw, index)
        if tool.type != "function" or extra.get("allowed_callers", NULL) != NULL:
            own.append(Opaque(NAME, tool.type, raw))  # the provider's own, or for programs of its own to call
        elif not tool.name:
            raise Invalid(f"tools[{index}].name", "is missing")
        else:
            tools.append(Tool(tool.name, tool.description, _set(tool.parameters), tool.strict, extra=extra))
    chat.tools, chat.server_tools = tools, own


def _tool(raw: Raw, index: int) -> tuple[_ToolIn, dict[str, Raw]]:
    """A tool and its fields beyond the known ones."""
    try:
        return _read_plain_tool(raw), {}
    except UNREADABLE:
        pass  # more fields than a plain tool has, or wrong ones
    try:
        tool = _read_kind_of_tool(raw)
        if tool.type != "function":
            return _ToolIn(tool.type), {}
        return _read_tool(raw), {name: value for name, value in _read_fields(raw).items() if name not in PLAIN_TOOL}
    except UNREADABLE as error:
        raise invalid(error, f"tools[{index}]") from None


def _tool_choice(chat: Chat, request: _Request, extra: dict[str, Raw]) -> None:
    raw, parallel = _set(request.tool_choice), request.parallel_tool_calls
    if raw is None:
        chat.tool_choice = None if parallel is None else ToolChoice(parallel=parallel)
        return
    try:
        choice = _read_choice(raw)
    except UNREADABLE as error:
        raise invalid(error, "tool_choice") from None
    chosen = ToolChoice(parallel=parallel)
    if isinstance(choice, str):
        if choice not in ("auto", "none", "required"):
            raise Invalid("tool_choice", "must be auto, none, required or an object")
        chosen.mode = choice  # type: ignore[assignment]
    elif choice.type == "function":
        chosen.mode, chosen.names = "named", [choice.name]
    elif choice.type == "allowed_tools" and all(tool.type == "function" for tool in choice.tools):
        chosen.mode = "required" if choice.mode == "required" else "auto"
        chosen.names = [tool.name for tool in choice.tools]
    else:
        extra["tool_choice"] = raw
    chat.tool_choice = chosen if "tool_choice" not in extra or parallel is not None else None


def _text(chat: Chat, request: _Request, extra: dict[str, Raw]) -> None:
    text = request.text
    if text is None:
        return
    if (verbosity := _set(text.verbosity)) is not None:
        (chat.hints if bytes(verbosity) == ORDINARY else extra)["text.verbosity"] = verbosity
    form = text.format
    if form is None:
        return
    if form.type == "json_schema":
        if form.schema == NULL:
            raise Invalid("text.format.schema", "is missing")
        chat.format = Format("schema", form.name, form.schema, form.strict, form.description)
    elif form.type == "json_object":
        chat.format = Format("json")
    elif form.type == "text":
        chat.format = Format("text")
    else:
        raise Invalid("text.format.type", "must be text, json_schema or json_object")


def _reasoning(chat: Chat, request: _Request, extra: dict[str, Raw]) -> None:
    asked = request.reasoning
    if asked is None:
        return
    if asked.effort is not None and asked.effort not in EFFORTS:
        raise Invalid("reasoning.effort", f"must be one of {', '.join(EFFORTS)}")
    summary = asked.summary or asked.generate_summary
    if asked.effort or summary:
        chat.reasoning = Reasoning(EFFORTS.get(asked.effort or ""), show=True if summary else None)
    for name, raw in (("context", asked.context), ("mode", asked.mode)):
        if bytes(raw) not in (b"null", b'"auto"', b'"standard"'):
            extra[f"reasoning.{name}"] = raw
    if summary and summary != "auto":
        chat.hints["reasoning.summary"] = Raw(_encode(summary))


def _include(chat: Chat, request: _Request, extra: dict[str, Raw]) -> None:
    asked = request.include or []
    if LOGPROBS in asked:
        chat.logprobs = True
    if FULL_REASONING in asked:
        chat.hints["include"] = Raw(_encode([FULL_REASONING]))
    rest = [name for name in asked if name not in (LOGPROBS, FULL_REASONING)]
    if rest:
        extra["include"] = Raw(_encode(rest))
