"""Writing a request for a provider that speaks OpenAI's Responses API.

The gateway keeps no state and so asks for none: `store` is false unless a caller of this dialect said otherwise, and
reasoning is asked for in its encrypted form, so that it can come back with the next request.

What has no counterpart is given up by name: `n`, `seed`, `stop`, `top_k`, penalties, `logit_bias`, audio. Noted as
left out, but never refused, is what changes no answer by its absence or could not be read by this provider anyway:
citations without a URL, `cache_control` (models that know breakpoints have the feature `cache_breakpoints`; the others
cache by themselves), thinking and call signatures of other providers (servers of open models that take plain reasoning
have the feature `reasoning_text`). A tool result with `is_error` goes out with the status `incomplete`.
"""

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fastgw.dialects.hub import (
    Audio,
    Chat,
    Document,
    Image,
    Opaque,
    Part,
    Refusal,
    Target,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
    effort_of,
)
from fastgw.dialects.openai_responses.items import (
    NAME,
    CallItem,
    MessageItem,
    OutputRefusal,
    OutputText,
    ReasoningItem,
    ReasoningText,
    SummaryText,
    annotations,
    encode,
    unseal,
)
from fastgw.dialects.openai_responses.read import FULL_REASONING, LOGPROBS

# What chat completions call by the same name, so that OpenAI's own two formats lose nothing between them.
SHARED = {
    "store": "store",
    "safety_identifier": "safety_identifier",
    "prompt_cache_key": "prompt_cache_key",
    "prompt_cache_retention": "prompt_cache_retention",
    "verbosity": "text.verbosity",
}


class _InputText(Struct, tag="input_text", tag_field="type"):
    text: str
    prompt_cache_breakpoint: Raw | UnsetType = UNSET


class _InputImage(Struct, tag="input_image", tag_field="type"):
    image_url: str
    detail: str = "auto"
    prompt_cache_breakpoint: Raw | UnsetType = UNSET


class _InputFile(Struct, tag="input_file", tag_field="type"):
    file_id: str | UnsetType = UNSET
    file_url: str | UnsetType = UNSET
    filename: str | UnsetType = UNSET
    file_data: str | UnsetType = UNSET
    prompt_cache_breakpoint: Raw | UnsetType = UNSET


class _Sound(Struct):
    data: str
    format: str


class _InputAudio(Struct, tag="input_audio", tag_field="type"):
    input_audio: _Sound


class _ResultItem(Struct, tag="function_call_output", tag_field="type"):
    call_id: str
    output: str | list[object]
    status: str | UnsetType = UNSET


class _FunctionTool(Struct, tag="function", tag_field="type"):
    name: str
    parameters: Raw | None
    description: str | UnsetType = UNSET
    strict: bool | UnsetType = UNSET


class _NamedTool(Struct, tag="function", tag_field="type"):
    name: str


class _AllowedTools(Struct, tag="allowed_tools", tag_field="type"):
    mode: str
    tools: list[_NamedTool]


class _JsonSchema(Struct, tag="json_schema", tag_field="type"):
    name: str
    schema: Raw
    strict: bool | UnsetType = UNSET
    description: str | UnsetType = UNSET


class _JsonObject(Struct, tag="json_object", tag_field="type"):
    pass


class _PlainText(Struct, tag="text", tag_field="type"):
    pass


class _TextOut(Struct):
    format: _JsonSchema | _JsonObject | _PlainText | UnsetType = UNSET
    verbosity: Raw | UnsetType = UNSET


class _ReasoningOut(Struct):
    effort: str | UnsetType = UNSET
    summary: Raw | str | UnsetType = UNSET
    context: Raw | UnsetType = UNSET
    mode: Raw | UnsetType = UNSET


class _Request(Struct):
    model: str
    input: list[object]
    instructions: str | UnsetType = UNSET
    tools: list[object] | UnsetType = UNSET
    tool_choice: str | _NamedTool | _AllowedTools | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET
    max_output_tokens: int | UnsetType = UNSET
    temperature: float | UnsetType = UNSET
    top_p: float | UnsetType = UNSET
    top_logprobs: int | UnsetType = UNSET
    text: _TextOut | UnsetType = UNSET
    reasoning: _ReasoningOut | UnsetType = UNSET
    include: list[str] | UnsetType = UNSET
    service_tier: str | UnsetType = UNSET
    user: str | UnsetType = UNSET
    metadata: Raw | UnsetType = UNSET
    stream: bool | UnsetType = UNSET


def write_request(chat: Chat, target: Target) -> bytes:
    """See `Codec.write_request`."""
    own = chat.origin == NAME
    extra = _extra(chat, target, own=own)
    turns = chat.turns
    request = _Request(target.model, [])
    if turns and turns[0].role == "system" and _is_instructions(turns[0]):
        request.instructions = turns[0].parts[0].text  # type: ignore[union-attr]
        turns = turns[1:]
    items = _Items(target, own=own)
    for turn in turns:
        items.turn(turn)
    request.input = items.items
    _scalars(request, chat)
    _refuse(chat, target)
    _tools(request, chat, target, own=own)
    _tool_choice(request, chat, extra)
    _text(request, chat, extra)
    _reasoning(request, chat, extra)
    _include(request, chat, extra)
    body = encode(request)
    if "store" not in extra:
        extra["store"] = Raw(b"false")
    return bytes(_with(body, extra))


def _is_instructions(turn: Turn) -> bool:
    return len(turn.parts) == 1 and type(turn.parts[0]) is Text and turn.parts[0].cache is None and turn.name is None


def _extra(chat: Chat, target: Target, *, own: bool) -> dict[str, Raw]:
    """What the caller's dialect has beside the hub, by the names of this one."""
    if own:
        return {**chat.hints, **chat.extra}
    found: dict[str, Raw] = {}
    fields = {**chat.hints, **chat.extra} if chat.origin == "openai_chat" else chat.extra
    for name, raw in fields.items():
        if chat.origin == "openai_chat" and name in SHARED:
            found[SHARED[name]] = raw
        elif name in chat.extra:
            target.give_up(name, "the provider has nothing like it")
    return found


def _refuse(chat: Chat, target: Target) -> None:
    """What this API does not have."""
    if chat.n is not None and chat.n != 1:
        target.give_up("n", "the provider gives one answer only")
    if chat.stop:
        target.give_up("stop", "the provider has no stop sequences")
    if chat.logit_bias is not None and bytes(chat.logit_bias) != b"{}":
        target.give_up("logit_bias", "the provider has no such setting")
    for name, value in (
        ("seed", chat.seed),
        ("top_k", chat.top_k),
        ("presence_penalty", chat.presence_penalty or None),
        ("frequency_penalty", chat.frequency_penalty or None),
    ):
        if value is not None:
            target.give_up(name, "the provider has no such setting")


def _scalars(request: _Request, chat: Chat) -> None:
    if chat.max_tokens is not None:
        request.max_output_tokens = chat.max_tokens
    if chat.temperature is not None:
        request.temperature = chat.temperature
    if chat.top_p is not None:
        request.top_p = chat.top_p
    if chat.top_logprobs is not None:
        request.top_logprobs = chat.top_logprobs
    if chat.service_tier is not None:
        request.service_tier = chat.service_tier
    if chat.user is not None:
        request.user = chat.user
    if chat.metadata is not None:
        request.metadata = chat.metadata
    if chat.stream:
        request.stream = True


def _tools(request: _Request, chat: Chat, target: Target, *, own: bool) -> None:
    tools: list[object] = [_tool(tool, target, own=own) for tool in chat.tools]
    for tool in chat.server_tools:
        if tool.dialect == NAME:
            tools.append(tool.raw)
        else:
            target.give_up(f"tools.{tool.kind}", "only its own provider runs this tool")
    if tools:
        request.tools = tools


def _tool(tool: Tool, target: Target, *, own: bool) -> object:
    written = _FunctionTool(tool.name, tool.schema)
    if tool.description is not None:
        written.description = tool.description
    if tool.strict is not None:
        written.strict = tool.strict
    elif not own:
        # Here, unlike in every other dialect, a schema is strict unless it says that it is not.
        written.strict = False
    if tool.cache is not None:
        _note(target, "cache_control")
    return _with(encode(written), tool.extra) if own and tool.extra else written


def _with(body: bytes, fields: dict[str, Raw]) -> Raw:
    """The object `body` with more fields."""
    return Raw(body[:-1] + b"".join([b"," + encode(name) + b":" + bytes(raw) for name, raw in fields.items()]) + b"}")


def _note(target: Target, field: str) -> None:
    """Something is left out that nobody needs to be refused for."""
    if field not in target.dropped:
        target.dropped.append(field)


def _tool_choice(request: _Request, chat: Chat, extra: dict[str, Raw]) -> None:
    choice = chat.tool_choice
    if choice is None:
        return
    if choice.parallel is not None:
        request.parallel_tool_calls = choice.parallel
    if "tool_choice" in extra:
        return
    if choice.mode == "named":
        request.tool_choice = _NamedTool(choice.names[0])
    elif choice.names:
        request.tool_choice = _AllowedTools(choice.mode, [_NamedTool(name) for name in choice.names])
    else:
        request.tool_choice = choice.mode


def _text(request: _Request, chat: Chat, extra: dict[str, Raw]) -> None:
    text, form = _TextOut(), chat.format
    verbosity = extra.pop("text.verbosity", None)
    if form is None and verbosity is None:
        return
    if verbosity is not None:
        text.verbosity = verbosity
    if form is not None and form.kind == "schema":
        schema = _JsonSchema(form.name or "response", form.schema or Raw(b"{}"))
        if form.strict is not None:
            schema.strict = form.strict
        if form.description is not None:
            schema.description = form.description
        text.format = schema
    elif form is not None:
        text.format = _JsonObject() if form.kind == "json" else _PlainText()
    request.text = text


def _reasoning(request: _Request, chat: Chat, extra: dict[str, Raw]) -> None:
    written, asked = _ReasoningOut(), chat.reasoning
    summary = extra.pop("reasoning.summary", None)
    context, mode = extra.pop("reasoning.context", None), extra.pop("reasoning.mode", None)
    if asked is not None:
        effort = asked.effort or (effort_of(asked.budget) if asked.budget is not None else None)
        if effort is not None:
            written.effort = effort
        if asked.show:
            written.summary = summary or "auto"
    if context is not None:
        written.context = context
    if mode is not None:
        written.mode = mode
    if written != _ReasoningOut():
        request.reasoning = written


_read_names = msgspec.json.Decoder(list[str]).decode


def _include(request: _Request, chat: Chat, extra: dict[str, Raw]) -> None:
    include: list[str] = []
    if "include" in chat.extra and "include" in extra:
        include += _read_names(chat.extra["include"])
    extra.pop("include", None)
    if chat.origin != NAME or "include" in chat.hints:
        include.append(FULL_REASONING)
    if chat.logprobs:
        include.append(LOGPROBS)
    if include:
        request.include = include


# --- turns into items


class _Items:
    """Gathers the items of a conversation."""

    def __init__(self, target: Target, *, own: bool) -> None:
        self.items: list[object] = []
        self._target = target
        self._breakpoints = own or "cache_breakpoints" in target.features
        self._message: MessageItem | None = None

    def turn(self, turn: Turn) -> None:
        """All items of a turn."""
        if turn.name is not None:
            self._target.give_up("messages.name", "the provider has no names for speakers")
        take = self._said if turn.role == "assistant" else self._given
        self._message = None
        for part in turn.parts:
            take(turn.role, part)

    def _add(self, item: object) -> None:
        self.items.append(item)
        self._message = None

    def _content(self, role: str, content: object) -> None:
        if self._message is None:
            self._message = MessageItem(role, [])
            self.items.append(self._message)
        self._message.content.append(content)

    def _said(self, role: str, part: Part) -> None:
        """A part of what the model said."""
        kind = type(part)
        if kind is Text:
            self._text(role, part)  # type: ignore[arg-type]
        elif kind is ToolCall:
            self._call(part)  # type: ignore[arg-type]
        elif kind is Thinking:
            self._thought(part)  # type: ignore[arg-type]
        elif kind is Refusal:
            self._content(role, OutputRefusal(part.text))  # type: ignore[union-attr]
        elif kind is Opaque:
            self._opaque(role, part)  # type: ignore[arg-type]
        else:
            self._target.give_up("messages.content", f"the provider takes no {kind.__name__.lower()} of the model")

    def _text(self, role: str, text: Text) -> None:
        if text.cache is not None:
            _note(self._target, "cache_control")
        found, whole = annotations(text)
        if not whole:
            _note(self._target, "citations")
        self._content(role, OutputText(text.text, found))

    def _call(self, call: ToolCall) -> None:
        if call.signature is not None:
            _note(self._target, "signature")
        if call.cache is not None:
            _note(self._target, "cache_control")
        self._add(CallItem(call.id, call.name, call.arguments or "{}"))

    def _thought(self, thinking: Thinking) -> None:
        own = unseal(thinking.signature)
        if own is not None:
            item = ReasoningItem([SummaryText(thinking.text)] if thinking.text else [])
            if own[0]:
                item.id = own[0]
            if own[1]:
                item.encrypted_content = own[1]
            self._add(item)
        elif "reasoning_text" in self._target.features and thinking.text:
            self._add(ReasoningItem([], content=[ReasoningText(thinking.text)]))
        else:
            _note(self._target, "thinking")

    def _opaque(self, role: str, part: Opaque) -> None:
        if part.dialect != NAME:
            self._target.give_up(f"messages.{part.kind}", "only its own provider knows this part")
        elif part.kind.startswith(("input_", "output_")):
            self._content(role, part.raw)
        else:
            self._add(part.raw)

    def _given(self, role: str, part: Part) -> None:
        """A part of what the model is given."""
        if type(part) is ToolResult:
            self._result(part)
        elif type(part) is Opaque and not (part.dialect == NAME and part.kind.startswith("input_")):
            self._opaque(role, part)
        else:
            content = self._input(part)
            if content is not None:
                self._content(role, content)

    def _result(self, result: ToolResult) -> None:
        parts = result.parts
        if result.cache is not None:
            _note(self._target, "cache_control")
        item = _ResultItem(result.call_id, "")
        if len(parts) == 1 and type(parts[0]) is Text and parts[0].cache is None:
            item.output = parts[0].text
        elif parts:
            written = [self._input(part) for part in parts]
            item.output = [one for one in written if one is not None]
        if result.is_error:
            item.status = "incomplete"
        self._add(item)

    def _input(self, part: Part) -> object | None:
        """A content part for the model; None for what was given up."""
        kind = type(part)
        if kind is Text:
            return _InputText(part.text, self._breakpoint(part.cache))  # type: ignore[union-attr]
        if kind is Image:
            return self._image(part)  # type: ignore[arg-type]
        if kind is Document:
            return self._file(part)  # type: ignore[arg-type]
        if kind is Opaque and part.dialect == NAME:  # type: ignore[union-attr]
            return part.raw  # type: ignore[union-attr]
        if kind is Audio and "audio" in self._target.features:
            return _InputAudio(_Sound(part.data, part.format))  # type: ignore[union-attr,arg-type]
        self._target.give_up("messages.content", f"the provider takes no {kind.__name__.lower()} here")
        return None

    def _breakpoint(self, cache: Raw | None) -> Raw | UnsetType:
        if cache is None:
            return UNSET
        if not self._breakpoints:
            _note(self._target, "cache_control")
            return UNSET
        return Raw(b'{"mode":"explicit"}')

    def _image(self, image: Image) -> _InputImage:
        url = image.url or f"data:{image.media_type or 'image/png'};base64,{image.data or ''}"
        return _InputImage(url, image.detail or "auto", self._breakpoint(image.cache))

    def _file(self, document: Document) -> _InputFile:
        item = _InputFile(prompt_cache_breakpoint=self._breakpoint(document.cache))
        if document.data is not None:
            item.file_data = f"data:{document.media_type};base64,{document.data}"
            item.filename = document.name or ("document.pdf" if document.media_type == "application/pdf" else "file")
        elif document.name is not None:
            item.filename = document.name
        if document.url is not None:
            item.file_url = document.url
        if document.file_id is not None:
            item.file_id = document.file_id
        return item
