"""Reads a Gemini client's request.

Choices made here, beyond the field map:
- calls without an id get one, always the same for the same history; a functionResponse without an id answers the
  oldest unanswered call of its name; one that answers no call is refused.
- consecutive `model` contents are one turn, and text or thoughts in pieces are joined up to the next signature: chat
  histories of the SDKs keep every frame of a stream as a content of its own.
- of `response`, a lone `output` or `error` that is a string is the result's text; anything else is kept as JSON text.
- `thinkingBudget: -1` (the model decides) is thinking without a budget.
- what the hub has no noun for stands in `extra` under its path (`generationConfig.speechConfig`), so that other
  dialects can name it.
"""

import msgspec
from msgspec import Raw, Struct

from fastgw.dialects.gemini.media import from_blob, from_file
from fastgw.dialects.gemini.names import canonical
from fastgw.dialects.gemini.schema import to_json_schema
from fastgw.dialects.gemini.wire import (
    NAME,
    NOTHING,
    UNREADABLE,
    FunctionCall,
    FunctionResponse,
    Part,
    arguments_text,
    invalid,
    made_up_id,
    one_line,
    read_object,
    read_str,
    signature_in,
)
from fastgw.dialects.hub import (
    Chat,
    Effort,
    Format,
    Invalid,
    Opaque,
    Reasoning,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from fastgw.dialects.hub import Part as HubPart


class _Content(Struct):
    parts: list[Raw] | None = None
    role: str | None = None


class _Body(Struct, rename="camel"):
    contents: list[_Content] | None = None
    system_instruction: _Content | None = None
    tools: list[dict[str, Raw]] | None = None
    tool_config: dict[str, Raw] | None = None
    generation_config: Raw = NOTHING
    service_tier: str | None = None
    model: str | None = None


class _Thinking(Struct, rename="camel"):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


class _Config(Struct, rename="camel"):
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    candidate_count: int | None = None
    max_output_tokens: int | None = None
    stop_sequences: list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = None
    response_mime_type: str | None = None
    response_schema: Raw = NOTHING
    response_json_schema: Raw = NOTHING
    thinking_config: _Thinking | None = None


class _Declaration(Struct, rename="camel"):
    name: str
    description: str | None = None
    parameters: Raw = NOTHING
    parameters_json_schema: Raw = NOTHING
    response: Raw = NOTHING
    response_json_schema: Raw = NOTHING
    behavior: Raw = NOTHING


class _Calling(Struct, rename="camel"):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


_read_body = msgspec.json.Decoder(_Body).decode
_read_part = msgspec.json.Decoder(Part).decode
_read_config = msgspec.json.Decoder(_Config, strict=False).decode
_read_declarations = msgspec.json.Decoder(list[_Declaration]).decode
_read_calling = msgspec.json.Decoder(_Calling).decode

_BODY_FIELDS = frozenset(name for name in _Body.__struct_encode_fields__)
_CONFIG_FIELDS = frozenset(name for name in _Config.__struct_encode_fields__)
_CALLING_FIELDS = frozenset(name for name in _Calling.__struct_encode_fields__)
_ROLES = frozenset(("user", "function", "tool", "", None))
EFFORTS: dict[str, Effort] = {"MINIMAL": "minimal", "LOW": "low", "MEDIUM": "medium", "HIGH": "high", "XHIGH": "xhigh"}
TIERS = {"standard": "default", "flex": "flex", "priority": "priority"}
_HINTS = frozenset(("labels", "store"))
_TEXT_ONLY = (b'["TEXT"]', b'["text"]')
NULL = b"null"


def read_request(body: bytes, *, model: str | None = None, stream: bool | None = None) -> Chat:
    """See `codec.Codec`. `model` is the path's, with or without `models/`."""
    body = canonical(body)
    try:
        request = _read_body(body)
        fields = read_object(body)
    except UNREADABLE as error:
        raise invalid("", error) from None
    name = (model or request.model or "").removeprefix("models/")
    if not name:
        raise Invalid("model", "is missing")
    if not request.contents:
        raise Invalid("contents", "must hold at least one content")
    chat = Chat(name, _Turns().read(request), NAME, stream=bool(stream))
    for key, raw in fields.items():
        if key not in _BODY_FIELDS and _said(raw):
            (chat.hints if key in _HINTS else chat.extra)[key] = raw
    if request.tools:
        _tools(request.tools, chat)
    if request.tool_config:
        _tool_config(request.tool_config, chat)
    if request.generation_config and bytes(request.generation_config) != NULL:
        _generation_config(request.generation_config, chat)
    if request.service_tier not in (None, "", "unspecified", "SERVICE_TIER_UNSPECIFIED"):
        tier = str(request.service_tier).lower().removeprefix("service_tier_")
        chat.service_tier = TIERS.get(tier, tier)
    return chat


class _Turns:
    """Reads contents in order; remembers which calls are still unanswered."""

    __slots__ = ("_calls", "_pending")

    def __init__(self) -> None:
        self._calls = 0
        self._pending: list[tuple[str, str]] = []

    def read(self, request: _Body) -> list[Turn]:
        """All turns of a request."""
        turns: list[Turn] = []
        if request.system_instruction is not None and request.system_instruction.parts:
            turns.append(Turn("system", self._parts(request.system_instruction.parts, "systemInstruction", False)))
        for n, content in enumerate(request.contents or ()):
            path = f"contents[{n}]"
            if content.role == "model":
                parts = self._parts(content.parts or [], path, True)
                if turns and turns[-1].role == "assistant":
                    _join(turns[-1].parts, parts)
                else:
                    turns.append(Turn("assistant", _join([], parts)))
            elif content.role in _ROLES:
                turns.append(Turn("user", self._parts(content.parts or [], path, False)))
            else:
                raise Invalid(f"{path}.role", "must be user or model")
        return turns

    def _parts(self, raws: list[Raw], path: str, model: bool) -> list[HubPart]:
        parts: list[HubPart] = []
        for n, raw in enumerate(raws):
            try:
                part = _read_part(raw)
            except UNREADABLE as error:
                raise invalid(f"{path}.parts[{n}]", error) from None
            if part.text is not None and part.thought_signature is None and not part.thought:
                parts.append(Text(part.text))
            else:
                parts.append(self._part(part, raw, f"{path}.parts[{n}]"))
        return parts

    def _part(self, part: Part, raw: Raw, path: str) -> HubPart:
        if part.function_call is not None:
            return self._call(part.function_call, part.thought_signature, f"{path}.functionCall")
        if part.function_response is not None:
            return self._result(part.function_response, raw, f"{path}.functionResponse")
        if part.inline_data is not None or part.file_data is not None:
            return _media(part, raw, path)
        if part.text is None and part.thought_signature is None:
            return Opaque(NAME, next(iter(read_object(raw)), "part"), raw)
        signature, redacted = signature_in(part.thought_signature) if part.thought_signature else (None, None)
        if part.thought:
            return Thinking(part.text or "", signature, redacted)
        return Text(part.text or "", signature=signature)

    def _call(self, call: FunctionCall, signature: str | None, path: str) -> ToolCall:
        if not call.name:
            raise Invalid(f"{path}.name", "is missing")
        arguments = arguments_text(call)
        if arguments and not arguments.startswith("{"):
            raise Invalid(f"{path}.args", "must be an object")
        call_id = call.id or made_up_id("", 0, self._calls, call.name)
        self._calls += 1
        self._pending.append((call_id, call.name))
        return ToolCall(call_id, call.name, arguments, signature_in(signature)[0] if signature else None)

    def _result(self, result: FunctionResponse, raw: Raw, path: str) -> HubPart:
        if result.will_continue or result.scheduling:
            return Opaque(NAME, "functionResponse", raw)
        answered = next((one for one in self._pending if one[0] == result.id), None) if result.id else None
        if answered is None:
            answered = next((one for one in self._pending if one[1] == result.name), None)
        if answered is None:
            raise Invalid(path, f"answers no functionCall named {result.name!r} before it")
        self._pending.remove(answered)
        parts, is_error = _answer(result.response, path)
        for n, part in enumerate(result.parts or ()):
            if part.inline_data is not None:
                parts.append(from_blob(part.inline_data))
            elif part.file_data is not None:
                parts.append(from_file(part.file_data))
            else:
                raise Invalid(f"{path}.parts[{n}]", "has neither inlineData nor fileData")
        return ToolResult(answered[0], parts, is_error, answered[1])


def _join(parts: list[HubPart], more: list[HubPart]) -> list[HubPart]:
    """`more` added to the model's `parts`: pieces of one text are joined, a signature ends it."""
    for part in more:
        last = parts[-1] if parts else None
        kind = type(part)
        if kind is Text and type(last) is Text and last.signature is None:
            last.text += part.text  # type: ignore[union-attr]
            last.signature = part.signature  # type: ignore[union-attr]
        elif kind is Thinking and type(last) is Thinking and last.signature is None and last.redacted is None:
            last.text += part.text  # type: ignore[union-attr]
            last.signature, last.redacted = part.signature, part.redacted  # type: ignore[union-attr]
        elif kind is Text and parts and not part.text and part.signature is None:  # type: ignore[union-attr]
            continue  # the empty text that ends a stream
        else:
            parts.append(part)
    return parts


def _media(part: Part, raw: Raw, path: str) -> HubPart:
    """A medium; with settings of Gemini's own beside it, it is Gemini's own part."""
    own = (part.video_metadata, part.media_resolution, part.media_processing, part.part_metadata)
    if part.thought_signature is not None or part.thought or any(own):
        return Opaque(NAME, "inlineData" if part.inline_data is not None else "fileData", raw)
    if part.inline_data is not None:
        if not part.inline_data.data:
            raise Invalid(f"{path}.inlineData.data", "is missing")
        return from_blob(part.inline_data)
    assert part.file_data is not None
    if not part.file_data.file_uri:
        raise Invalid(f"{path}.fileData.fileUri", "is missing")
    return from_file(part.file_data)


def _answer(response: Raw, path: str) -> tuple[list[HubPart], bool]:
    """The parts of a `response` and whether it is an error."""
    if not response or bytes(response) == NULL:
        return [], False
    data = bytes(response)
    if not data.startswith(b"{"):
        raise Invalid(f"{path}.response", "must be an object")
    fields = read_object(response)
    if len(fields) == 1:
        ((key, value),) = fields.items()
        if key in ("output", "error"):
            text = read_str(value) if bytes(value).startswith(b'"') else one_line(value).decode()
            return [Text(text)], key == "error"
    return [Text(one_line(data).decode())], False


def _tools(tools: list[dict[str, Raw]], chat: Chat) -> None:
    for n, tool in enumerate(tools):
        for kind, raw in tool.items():
            path = f"tools[{n}].{kind}"
            if kind != "functionDeclarations":
                chat.server_tools.append(Opaque(NAME, kind, raw))
            elif bytes(raw) != NULL:
                try:
                    declared = _read_declarations(raw)
                except UNREADABLE as error:
                    raise invalid(path, error) from None
                chat.tools += [_tool(one, f"{path}[{i}]") for i, one in enumerate(declared)]


def _tool(declared: _Declaration, path: str) -> Tool:
    own = {
        key: raw
        for key, raw in (
            ("response", declared.response),
            ("responseJsonSchema", declared.response_json_schema),
            ("behavior", declared.behavior),
        )
        if raw and bytes(raw) != NULL
    }
    schema = declared.parameters_json_schema
    if not schema and declared.parameters and bytes(declared.parameters) != NULL:
        schema = to_json_schema(declared.parameters, f"{path}.parameters")
    return Tool(declared.name, declared.description, schema or None, extra=own)


def _tool_config(config: dict[str, Raw], chat: Chat) -> None:
    for key, raw in config.items():
        if key != "functionCallingConfig":
            chat.extra[f"toolConfig.{key}"] = raw
            continue
        path = f"toolConfig.{key}"
        try:
            calling = _read_calling(raw)
            fields = read_object(raw)
        except UNREADABLE as error:
            raise invalid(path, error) from None
        chat.extra.update({f"{path}.{name}": value for name, value in fields.items() if name not in _CALLING_FIELDS})
        mode, names = (calling.mode or "AUTO").upper(), calling.allowed_function_names or []
        if mode == "ANY":
            chat.tool_choice = ToolChoice("named" if len(names) == 1 else "required", names)
        elif mode in ("AUTO", "VALIDATED", "MODE_UNSPECIFIED"):
            chat.tool_choice = ToolChoice("auto", names)
        elif mode == "NONE":
            chat.tool_choice = ToolChoice("none")
        else:
            raise Invalid(f"{path}.mode", "must be AUTO, ANY, VALIDATED or NONE")


def _said(raw: Raw) -> bool:
    """Whether a field says anything: to protocol buffers an empty list is no field at all, and clients send them."""
    return bytes(raw) != NULL and one_line(raw).replace(b" ", b"") != b"[]"


def _generation_config(raw: Raw, chat: Chat) -> None:
    try:
        config = _read_config(raw)
        fields = read_object(raw)
    except UNREADABLE as error:
        raise invalid("generationConfig", error) from None
    chat.temperature, chat.top_p, chat.top_k = config.temperature, config.top_p, config.top_k
    chat.n, chat.max_tokens, chat.seed = config.candidate_count, config.max_output_tokens, config.seed
    chat.stop = config.stop_sequences or []
    chat.presence_penalty, chat.frequency_penalty = config.presence_penalty, config.frequency_penalty
    chat.logprobs, chat.top_logprobs = config.response_logprobs, config.logprobs
    for key, value in fields.items():
        if key not in _CONFIG_FIELDS and _said(value):
            plain = key == "responseModalities" and one_line(value).replace(b" ", b"") in _TEXT_ONLY
            (chat.hints if plain else chat.extra)[f"generationConfig.{key}"] = value
    if config.thinking_config is not None:
        chat.reasoning = _reasoning(config.thinking_config)
    if config.response_mime_type is not None or config.response_schema or config.response_json_schema:
        chat.format = _format(config, chat)


def _reasoning(thinking: _Thinking) -> Reasoning:
    budget, level = thinking.thinking_budget, (thinking.thinking_level or "").upper()
    if level and level != "THINKING_LEVEL_UNSPECIFIED" and level not in EFFORTS:
        raise Invalid("generationConfig.thinkingConfig.thinkingLevel", "is not known")
    if budget is not None and budget < -1:
        raise Invalid("generationConfig.thinkingConfig.thinkingBudget", "must be -1 or more")
    native = "dynamic" if budget == -1 else None
    return Reasoning(EFFORTS.get(level), None if native else budget, thinking.include_thoughts, native)


def _format(config: _Config, chat: Chat) -> Format | None:
    mime = config.response_mime_type or "text/plain"
    schema = config.response_json_schema
    if mime == "application/json":
        if not schema and config.response_schema:
            schema = to_json_schema(config.response_schema, "generationConfig.responseSchema")
        return Format("schema", schema=schema) if schema else Format("json")
    if mime == "text/plain" and not schema and not config.response_schema:
        return Format("text")
    # Such as text/x.enum: a constraint no other provider has.
    chat.extra["generationConfig.responseMimeType"] = Raw(msgspec.json.encode(mime))
    for key, raw in (("responseSchema", config.response_schema), ("responseJsonSchema", schema)):
        if raw:
            chat.extra[f"generationConfig.{key}"] = raw
    return None
