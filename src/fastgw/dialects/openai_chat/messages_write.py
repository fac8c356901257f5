"""Writing the messages of a chat completion, for requests. Features and hints: see `openai_chat.write`."""

from msgspec import UNSET, Raw, Struct, UnsetType

from fastgw.dialects.hub import (
    Audio,
    Document,
    Image,
    Opaque,
    Part,
    Refusal,
    Target,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
)
from fastgw.dialects.openai_chat import wire
from fastgw.dialects.openai_chat.wire import NAME


class _TextOut(Struct, tag_field="type", tag="text"):
    text: str
    cache_control: Raw | UnsetType = UNSET
    prompt_cache_breakpoint: Raw | UnsetType = UNSET


class _ImageUrl(Struct):
    url: str
    detail: str | UnsetType = UNSET


class _ImageOut(Struct, tag_field="type", tag="image_url"):
    image_url: _ImageUrl
    cache_control: Raw | UnsetType = UNSET
    prompt_cache_breakpoint: Raw | UnsetType = UNSET


class _AudioData(Struct):
    data: str
    format: str


class _AudioOut(Struct, tag_field="type", tag="input_audio"):
    input_audio: _AudioData


class _FileData(Struct):
    file_data: str | UnsetType = UNSET
    filename: str | UnsetType = UNSET
    file_id: str | UnsetType = UNSET


class _FileOut(Struct, tag_field="type", tag="file"):
    file: _FileData
    cache_control: Raw | UnsetType = UNSET
    prompt_cache_breakpoint: Raw | UnsetType = UNSET


_PartOut = _TextOut | _ImageOut | _AudioOut | _FileOut | Raw


_SHORT, _LONG = Raw(b'{"mode":"explicit"}'), Raw(b'{"mode":"explicit","ttl":"30m"}')


class MessageOut(Struct):
    """A message."""

    role: str
    content: str | list[_PartOut] | UnsetType | None = UNSET
    name: str | UnsetType = UNSET
    refusal: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning_details: list[wire.Detail] | UnsetType = UNSET
    audio: Raw | UnsetType = UNSET
    tool_calls: list[wire.CallOut | Raw] | UnsetType = UNSET
    tool_call_id: str | UnsetType = UNSET
    prefix: bool | UnsetType = UNSET
    extra_content: dict[str, dict[str, str]] | UnsetType = UNSET


def note(target: Target, field: str) -> None:
    """Write down a hint that was left out."""
    if field not in target.dropped:
        target.dropped.append(field)


def messages(turns: list[Turn], target: Target) -> list[MessageOut]:
    """The turns as messages. Raises hub.Unsupported."""
    out: list[MessageOut] = []
    last = len(turns) - 1
    for i, turn in enumerate(turns):
        role = turn.role
        if role == "assistant":
            message = _assistant(turn, target)
            if i == last and "prefix" in target.features:
                message.prefix = True
            out.append(message)
        elif role == "user":
            _user(turn, target, out)
        else:
            if role == "developer" and "system_only" in target.features:
                role = "system"
            out.append(MessageOut(role, _content(turn.parts, target)))
            if turn.name is not None:
                out[-1].name = turn.name
    return out


def _user(turn: Turn, target: Target, out: list[MessageOut]) -> None:
    """Results first, each a message of its own, since they must follow the calls; then all else the user says."""
    parts = turn.parts
    for part in parts:
        if type(part) is ToolResult:
            break
    else:
        out.append(MessageOut("user", _content(parts, target)))
        if turn.name is not None:
            out[-1].name = turn.name
        return
    rest: list[Part] = []
    out += [_result(part, target, rest) for part in parts if type(part) is ToolResult]
    rest += [part for part in parts if type(part) is not ToolResult]
    if rest:
        out.append(MessageOut("user", _content(rest, target)))
        if turn.name is not None:
            out[-1].name = turn.name


def _result(result: ToolResult, target: Target, rest: list[Part]) -> MessageOut:
    """A result. Images and files in it go into `rest`, said with the next user message, where the API wants text."""
    stay, moved = result.parts, []
    if "tool_images" not in target.features:
        stay = [part for part in result.parts if type(part) is not Image and type(part) is not Document]
        moved = [part for part in result.parts if type(part) is Image or type(part) is Document]
    if moved:
        rest.append(Text(f"Files in the result of the tool call {result.call_id}:"))
        rest += moved
    content = _content(stay, target)
    if result.is_error:
        # The text says what went wrong; only where there is none must the fact itself be put in words.
        note(target, "messages.content.is_error")
        content = content or "error"
    if result.cache is not None:
        if "cache_control" not in target.features and "prompt_cache_breakpoint" not in target.features:
            note(target, "cache_control")
        elif isinstance(content, str):
            content = [_TextOut(content)]
        if isinstance(content, list) and isinstance(content[-1], _TextOut):
            _mark(content[-1], result.cache, target)
    return MessageOut("tool", content, tool_call_id=result.call_id)


def _content(parts: list[Part], target: Target) -> str | list[_PartOut]:
    if len(parts) == 1:
        part = parts[0]
        if type(part) is Text and part.cache is None:
            return part.text
    out = [written for part in parts if (written := _part(part, target)) is not None]
    return out or ""


def _part(part: Part, target: Target) -> _PartOut | None:
    kind = type(part)
    if type(part) is Text:
        text = _TextOut(part.text)
        if part.cache is not None:
            _mark(text, part.cache, target)
        return text
    if type(part) is Image:
        url = part.url if part.data is None else wire.data_url(part.media_type, part.data)
        image = _ImageOut(_ImageUrl(url or ""))
        if part.detail is not None:
            image.image_url.detail = part.detail
        if part.cache is not None:
            _mark(image, part.cache, target)
        return image
    if type(part) is Document:
        return _document(part, target)
    if type(part) is Audio:
        if part.format not in ("wav", "mp3"):
            target.give_up("messages.content.input_audio.format", "the provider takes wav and mp3")
            return None
        return _AudioOut(_AudioData(part.data, part.format))
    if type(part) is Opaque and part.dialect == NAME:
        return part.raw
    named = part.kind if type(part) is Opaque else kind.__name__.lower()
    target.give_up(f"messages.content.{named}", "has no place in this message of a chat completion")
    return None


def _document(part: Document, target: Target) -> _FileOut | None:
    file = _FileOut(_FileData())
    if part.file_id is not None:
        file.file.file_id = part.file_id
    elif part.data is not None:
        file.file.file_data = wire.data_url(part.media_type, part.data)
    elif part.url is not None and "file_urls" in target.features:
        file.file.file_data = part.url
    else:
        target.give_up("messages.content.file", "the provider takes files as data or by id, not by URL")
        return None
    if part.name is not None:
        file.file.filename = part.name
    elif part.data is not None:
        file.file.filename = "document." + (part.media_type.rpartition("/")[2] or "pdf")
    if part.cache is not None:
        _mark(file, part.cache, target)
    return file


def _mark(out: _TextOut | _ImageOut | _FileOut, cache: Raw, target: Target) -> None:
    """A cache mark, in the words of the server."""
    if "cache_control" in target.features:
        out.cache_control = cache
    elif "prompt_cache_breakpoint" in target.features:
        out.prompt_cache_breakpoint = _LONG if b"ttl" in bytes(cache) else _SHORT
    else:
        note(target, "cache_control")


def _assistant(turn: Turn, target: Target) -> MessageOut:
    said: list[Part] = []
    thoughts: list[Thinking] = []
    calls: list[wire.CallOut | Raw] = []
    out = MessageOut("assistant")
    for part in turn.parts:
        if type(part) is Text:
            if part.citations is not None:
                note(target, "messages.content.citations")
            if part.signature is not None:
                if "extra_content" in target.features:
                    out.extra_content = wire.sealed(part.signature)
                else:
                    note(target, "messages.content.signature")
                if not part.text:
                    continue
            said.append(part)
        elif type(part) is ToolCall:
            calls.append(_call(part, target))
        elif type(part) is Thinking:
            thoughts.append(part)
        elif type(part) is Refusal:
            out.refusal = part.text if out.refusal is UNSET else out.refusal + part.text
        elif type(part) is Opaque and part.dialect == NAME and part.kind == "audio":
            out.audio = part.raw
        elif type(part) is Opaque and part.dialect == NAME and part.kind == "custom":
            calls.append(part.raw)
        elif type(part) is Opaque and part.dialect == NAME:
            said.append(part)
        else:
            named = part.kind if type(part) is Opaque else type(part).__name__.lower()
            target.give_up(f"messages.content.{named}", "an assistant message cannot hold it")
    out.content = _content(said, target) if said else None
    if turn.name is not None:
        out.name = turn.name
    if thoughts:
        _thoughts(thoughts, target, out)
    if calls:
        out.tool_calls = calls
    elif out.content is None and out.refusal is UNSET and out.audio is UNSET:
        out.content = ""
    return out


def _thoughts(thoughts: list[Thinking], target: Target, out: MessageOut) -> None:
    details, content = "reasoning_details" in target.features, "reasoning_content" in target.features
    if details:
        out.reasoning_details = wire.thinking_out(thoughts)
    if content:
        out.reasoning_content = "".join([thought.text for thought in thoughts])
    if not details and (not content or any(t.signature or t.redacted for t in thoughts)):
        note(target, "messages.content.thinking")


def _call(call: ToolCall, target: Target) -> wire.CallOut:
    out = wire.CallOut(call.id, wire.Function(call.name, call.arguments or "{}"))
    if call.signature is not None:
        if "extra_content" in target.features:
            out.extra_content = wire.sealed(call.signature)
        else:
            note(target, "messages.tool_calls.signature")
    if call.cache is not None:
        note(target, "cache_control")
    return out
