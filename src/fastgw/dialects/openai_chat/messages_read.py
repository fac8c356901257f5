"""Reading the messages of a chat completion's request."""

import re
from typing import Any, cast

import msgspec
from msgspec import Raw, Struct

from fastgw.dialects.hub import Audio, Invalid, Opaque, Part, Refusal, Role, Text, Thinking, ToolCall, ToolResult, Turn
from fastgw.dialects.openai_chat import wire
from fastgw.dialects.openai_chat.wire import NAME, NULL, some


class _ImageUrl(Struct):
    url: str
    detail: str | None = None


class _AudioData(Struct):
    data: str
    format: str


class _File(Struct):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class _Breakpoint(Struct):
    ttl: str | None = None


class _Part(Struct):
    type: str = "text"
    text: str | None = None
    refusal: str | None = None
    image_url: _ImageUrl | str | None = None
    input_audio: _AudioData | None = None
    file: _File | None = None
    cache_control: Raw = NULL
    prompt_cache_breakpoint: _Breakpoint | None = None


class _Function(Struct):
    name: str
    arguments: str = ""


class _Call(Struct):
    id: str = ""
    type: str = "function"
    function: _Function | None = None
    custom: Raw = NULL
    extra_content: Any = None
    cache_control: Raw = NULL


class Message(Struct):
    """A message of any role."""

    role: str
    content: str | list[Raw] | None = None
    name: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    function_call: _Function | None = None
    refusal: str | None = None
    audio: Raw = NULL
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[Raw] | None = None
    extra_content: Any = None
    cache_control: Raw = NULL


PLACE = re.compile(r"^(.*) - at `(?:key in )?\$\.?([^`]*)`$", re.S)

_read_part = msgspec.json.Decoder(_Part).decode


def invalid(error: BaseException, at: str) -> Invalid:
    """What a decoder says, with the place in the spelling of OpenAI's `param`."""
    if isinstance(error, RecursionError):
        return Invalid(at or "body", "is nested too deeply")
    found = PLACE.match(str(error))
    if found is None:
        return Invalid(at or "body", str(error) if at else f"is not JSON: {error}")
    reason, inner = found.groups()
    place = f"{at}.{inner}".rstrip(".") if at and not inner.startswith("[") else f"{at}{inner}"
    return Invalid(place or "body", reason[:1].lower() + reason[1:])


def turns(messages: list[Message]) -> list[Turn]:
    """The turns of a conversation. Raises hub.Invalid."""
    out: list[Turn] = []
    names: dict[str, str] = {}
    results: list[Part] | None = None
    for i, message in enumerate(messages):
        role = message.role
        if role in ("tool", "function"):
            if results is None:
                results = []
                out.append(Turn("user", results))
            results.append(_result(message, names, i))
            continue
        results = None
        if role == "assistant":
            out.append(Turn("assistant", _assistant(message, names, i), message.name))
        elif role in ("user", "system", "developer"):
            out.append(Turn(cast(Role, role), _content(message, i), message.name))
        else:
            raise Invalid(f"messages[{i}].role", f"{role[:40]!r} is no role")
    return out


def _result(message: Message, names: dict[str, str], i: int) -> ToolResult:
    """A `tool` message, or a legacy `function` one, which names its function and answers its last call."""
    if message.role == "function":
        call_id = next((k for k in reversed(names) if names[k] == message.name), None)
        where = "name"
    else:
        call_id, where = message.tool_call_id, "tool_call_id"
    if call_id is None or call_id not in names:
        raise Invalid(f"messages[{i}].{where}", "answers no tool call of the messages before it")
    return ToolResult(call_id, _content(message, i, whole=True), name=names[call_id], cache=some(message.cache_control))


def _assistant(message: Message, names: dict[str, str], i: int) -> list[Part]:
    parts: list[Part] = []
    if message.reasoning_details:
        parts += wire.thinking_in(message.reasoning_details)
    if not parts and (thought := message.reasoning_content or message.reasoning):
        parts.append(Thinking(thought))
    parts += _content(message, i)
    if message.extra_content is not None:
        wire.sign(parts, wire.signature_in(message.extra_content))
    if message.refusal is not None:
        parts.append(Refusal(message.refusal))
    if some(message.audio) is not None:
        parts.append(Opaque(NAME, "audio", message.audio))
    if message.function_call is not None:
        call = message.function_call
        names[f"call_{i}"] = call.name
        parts.append(ToolCall(f"call_{i}", call.name, call.arguments))
    for k, each in enumerate(message.tool_calls or ()):
        parts.append(_call(each, i, k, names))
    return parts


def _call(call: _Call, i: int, k: int, names: dict[str, str]) -> Part:
    if not call.id:
        raise Invalid(f"messages[{i}].tool_calls[{k}].id", "is missing")
    function = call.function
    if function is None:
        if some(call.custom) is None:
            raise Invalid(f"messages[{i}].tool_calls[{k}].function", "is missing")
        names[call.id] = ""
        return Opaque(NAME, call.type, Raw(wire.encode({"id": call.id, "type": call.type, "custom": call.custom})))
    names[call.id] = function.name
    signature = wire.signature_in(call.extra_content) if call.extra_content is not None else None
    return ToolCall(call.id, function.name, function.arguments, signature, some(call.cache_control))


def _content(message: Message, i: int, *, whole: bool = False) -> list[Part]:
    """The parts of a message; `cache_control` beside a text marks it, or its message, unless the `whole` has it."""
    content = message.content
    if content is None:
        return []
    cache = None if whole else some(message.cache_control)
    if isinstance(content, str):
        return [Text(content, cache)]
    parts = [_part(raw, i, k) for k, raw in enumerate(content)]
    if cache is not None and parts and type(parts[-1]) is Text:
        parts[-1].cache = cache
    return parts


def _part(raw: Raw, i: int, k: int) -> Part:
    try:
        part = _read_part(raw)
    except wire.UNREADABLE as error:
        raise invalid(error, f"messages[{i}].content[{k}]") from None
    if part.type == "text" and part.text is not None:
        return Text(part.text, _cache(part))
    return _other_part(part, raw, f"messages[{i}].content[{k}]")


def _other_part(part: _Part, raw: Raw, at: str) -> Part:
    kind = part.type
    cache = _cache(part)
    if kind == "text":
        raise Invalid(f"{at}.text", "is missing")
    if kind == "image_url":
        return _image(part, at, cache)
    if kind == "input_audio":
        if part.input_audio is None:
            raise Invalid(f"{at}.input_audio", "is missing")
        return Audio(part.input_audio.data, part.input_audio.format)
    if kind == "file":
        file = part.file or _File()
        document = wire.document_in(file.file_data, file.file_id, file.filename, cache)
        if document is None:
            raise Invalid(f"{at}.file", "needs a file_id or base64 file_data")
        return document
    if kind == "refusal":
        return Refusal(part.refusal or "")
    if kind == "thinking":
        return Thinking(wire.think_part(raw))
    return Opaque(NAME, kind, raw)


def _image(part: _Part, at: str, cache: Raw | None) -> Part:
    given = part.image_url
    if given is None:
        raise Invalid(f"{at}.image_url", "is missing")
    url, detail = (given, None) if isinstance(given, str) else (given.url, given.detail)
    image = wire.image_in(url, detail, cache)
    if image is None:
        raise Invalid(f"{at}.image_url.url", "a data URL must be base64")
    return image


def _cache(part: _Part) -> Raw | None:
    """`cache_control`, or OpenAI's `prompt_cache_breakpoint` put the same way."""
    point = part.prompt_cache_breakpoint
    cache = some(part.cache_control)
    if cache is not None or point is None:
        return cache
    return Raw(b'{"type":"ephemeral"}' if point.ttl is None else b'{"type":"ephemeral","ttl":"1h"}')
