"""Reading a client's request to OpenAI's Responses API into the hub's terms."""

from collections.abc import Callable

import msgspec
from msgspec import Raw, Struct

from fastgw.dialects.hub import (
    Audio,
    Chat,
    Document,
    Effort,
    Format,
    Image,
    Invalid,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from fastgw.dialects.openai_responses_items import (
    NAME,
    NULL,
    UNREADABLE,
    Content,
    Item,
    Kind,
    RawOutput,
    call_signature,
    citations,
    raw_part,
    read_item,
    read_kind,
    reasoning_text,
    unwrap,
)

ROLES = frozenset({"user", "assistant", "system", "developer"})
MODELLED = frozenset({"message", "reasoning", "function_call", "function_call_output"})
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
    input: str | list[Raw] | None = None
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
_read_choice = msgspec.json.Decoder(_Choice | str).decode
_read_raw_output = msgspec.json.Decoder(RawOutput).decode
_encode = msgspec.json.encode


def read_request(body: bytes, *, model: str | None = None, stream: bool | None = None) -> Chat:
    """See `Codec.read_request`."""
    try:
        request = _read_request(body)
        fields = _read_fields(body)
    except UNREADABLE as error:
        raise _invalid(error, "") from None
    name = model or request.model
    if not name:
        raise Invalid("model", "is missing")
    chat = Chat(
        name,
        _turns(request, fields),
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


def _invalid(error: Exception, place: str) -> Invalid:
    """The decoder ends its messages with the path, as in "Expected `str`, got `int` - at `$.model`"."""
    reason, _, path = str(error).partition(" - at `$")
    return Invalid((place + path.rstrip("`")).lstrip(".") or "body", reason)


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
        try:
            tool = _read_tool(raw)
        except UNREADABLE as error:
            raise _invalid(error, f"tools[{index}]") from None
        if tool.type != "function":
            own.append(Opaque(NAME, tool.type, raw))
        elif not tool.name:
            raise Invalid(f"tools[{index}].name", "is missing")
        else:
            extra = {name: value for name, value in _read_fields(raw).items() if name not in PLAIN_TOOL}
            if extra.get("allowed_callers", NULL) != NULL:
                own.append(Opaque(NAME, tool.type, raw))  # for programs of the provider's own to call
            else:
                tools.append(Tool(tool.name, tool.description, _set(tool.parameters), tool.strict, extra=extra))
    chat.tools, chat.server_tools = tools, own


def _tool_choice(chat: Chat, request: _Request, extra: dict[str, Raw]) -> None:
    raw, parallel = _set(request.tool_choice), request.parallel_tool_calls
    if raw is None:
        chat.tool_choice = None if parallel is None else ToolChoice(parallel=parallel)
        return
    try:
        choice = _read_choice(raw)
    except UNREADABLE as error:
        raise _invalid(error, "tool_choice") from None
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
        extra["text.verbosity"] = verbosity
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


# --- items into turns


class _Turns:
    """Gathers items: what the model said in a row is one turn, what tools answered in a row another."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.names: dict[str, str] = {}
        self.orphan: tuple[int, str] | None = None
        self.referring = False
        self.signature: str | None = None
        self._results = False

    def said(self, role: Role, parts: list[Part]) -> None:
        """A message, or an item of the model."""
        if role == "assistant" and self.turns and self.turns[-1].role == "assistant":
            self.turns[-1].parts.extend(parts)
        else:
            self.turns.append(Turn(role, parts))
        self._results = False

    def answered(self, result: ToolResult) -> None:
        """A tool's answer."""
        if self._results:
            self.turns[-1].parts.append(result)
        else:
            self.turns.append(Turn("user", [result]))
        self._results = True


def _turns(request: _Request, fields: dict[str, Raw]) -> list[Turn]:
    gathered = _Turns()
    if request.instructions:
        gathered.said("system", [Text(request.instructions)])
    if isinstance(request.input, str):
        gathered.said("user", [Text(request.input)])
    elif request.input is not None:
        for index, raw in enumerate(request.input):
            _take(gathered, raw, index)
    if gathered.orphan is not None and not gathered.referring and not _keeps(fields):
        index, call_id = gathered.orphan
        raise Invalid(f"input[{index}].call_id", f"no function_call before it has the id {call_id!r}")
    if not gathered.turns and not _keeps(fields):
        raise Invalid("input", "is missing")
    return gathered.turns


def _keeps(fields: dict[str, Raw]) -> bool:
    return any(fields[name] != NULL for name in KEEPERS if name in fields)


def _take(gathered: _Turns, raw: Raw, index: int) -> None:
    place = f"input[{index}]"
    try:
        item = read_item(raw)
        kind = item.type or ("message" if item.role else "item_reference" if item.id else "")
    except UNREADABLE as error:
        item, kind = Item(), _kind(raw, error, place)
    take = _TAKERS.get(kind)
    if take is not None:
        take(gathered, item, raw, index)
    elif not kind:
        raise Invalid(f"{place}.type", "is missing")
    else:
        gathered.referring = gathered.referring or kind == "item_reference"
        gathered.said("assistant", [Opaque(NAME, kind, raw)])


def _kind(raw: Raw, error: Exception, place: str) -> str:
    """The kind of an item whose fields have other shapes than those known here."""
    try:
        kind: Kind = read_kind(raw)
    except UNREADABLE:
        raise _invalid(error, place) from None
    if kind.type in MODELLED or not kind.type:
        raise _invalid(error, place)
    return kind.type


def _take_message(gathered: _Turns, item: Item, raw: Raw, index: int) -> None:
    role = item.role
    if role not in ROLES:
        raise Invalid(f"input[{index}].role", "must be user, assistant, system or developer")
    if item.content is None:
        raise Invalid(f"input[{index}].content", "is missing")
    if isinstance(item.content, str):
        parts: list[Part] = [Text(item.content)]
    else:
        parts = [
            _part(part, place) or Opaque(NAME, part.type, raw_part(raw, place)) if part.type else _untyped(index, place)
            for place, part in enumerate(item.content)
        ]
    gathered.said(role, parts)  # type: ignore[arg-type]


def _untyped(index: int, place: int) -> Part:
    raise Invalid(f"input[{index}].content[{place}].type", "is missing")


def _take_reasoning(gathered: _Turns, item: Item, raw: Raw, index: int) -> None:
    signature = call_signature(item)
    if signature is not None:
        gathered.signature = signature
        return
    thinking: Thinking = unwrap(reasoning_text(item), item.id, item.encrypted_content)
    gathered.said("assistant", [thinking])


def _take_call(gathered: _Turns, item: Item, raw: Raw, index: int) -> None:
    if not item.call_id:
        raise Invalid(f"input[{index}].call_id", "is missing")
    if not item.name:
        raise Invalid(f"input[{index}].name", "is missing")
    if item.namespace:
        gathered.said("assistant", [Opaque(NAME, "function_call", raw)])
    else:
        call = ToolCall(item.call_id, item.name, item.arguments or "", signature=gathered.signature)
        gathered.said("assistant", [call])
    gathered.names[item.call_id] = item.name
    gathered.signature = None


def _take_result(gathered: _Turns, item: Item, raw: Raw, index: int) -> None:
    if not item.call_id:
        raise Invalid(f"input[{index}].call_id", "is missing")
    if item.output is None:
        raise Invalid(f"input[{index}].output", "is missing")
    name = gathered.names.get(item.call_id)
    if name is None:
        gathered.orphan = gathered.orphan or (index, item.call_id)
    if isinstance(item.output, str):
        parts: list[Part] = [Text(item.output)]
    else:
        parts = [
            _part(part, at) or Opaque(NAME, part.type, _read_raw_output(raw).output[at])
            for at, part in enumerate(item.output)
        ]
    gathered.answered(ToolResult(item.call_id, parts, item.status == "incomplete", name or item.name))


_TAKERS: dict[str, Callable[[_Turns, Item, Raw, int], None]] = {
    "message": _take_message,
    "reasoning": _take_reasoning,
    "function_call": _take_call,
    "function_call_output": _take_result,
}


# --- content parts


def _part(part: Content, index: int) -> Part | None:
    """The part in the hub's terms; None for what only this dialect has."""
    kind = part.type
    if kind in ("input_text", "output_text"):
        return Text(part.text or "", cache=_cache(part), citations=citations(part.annotations))
    if kind == "refusal":
        return Refusal(part.refusal or "")
    if kind == "input_image" and part.image_url:
        return _image(part, part.image_url)
    if kind == "input_file" and part.detail in (None, "auto"):
        return _document(part)
    if kind == "input_audio" and part.input_audio is not None:
        return Audio(part.input_audio.data, part.input_audio.format)
    return None


def _cache(part: Content) -> Raw | None:
    """A breakpoint as Anthropic's `cache_control`; the long lifetime as its long one."""
    if part.prompt_cache_breakpoint == NULL:
        return None
    long = b'"12h"' in bytes(part.prompt_cache_breakpoint)
    return Raw(b'{"type":"ephemeral","ttl":"1h"}' if long else b'{"type":"ephemeral"}')


def _data_url(url: str) -> tuple[str, str] | None:
    """(media type, base64 data) of a base64 data URL (RFC 2397); None for any other URL."""
    if not url.startswith("data:"):
        return None
    head, _, data = url[5:].partition(",")
    media_type, *marks = head.split(";")
    return (media_type, data) if "base64" in marks else None


def _image(part: Content, url: str) -> Image:
    data = _data_url(url)
    if data is None:
        return Image(url=url, detail=part.detail, cache=_cache(part))
    return Image(data[0], data[1], detail=part.detail, cache=_cache(part))


def _document(part: Content) -> Document:
    data = _data_url(part.file_data or "")
    return Document(
        data[0] if data and data[0] else "application/pdf",
        data[1] if data else part.file_data,
        part.file_url,
        part.file_id,
        part.filename,
        _cache(part),
    )
