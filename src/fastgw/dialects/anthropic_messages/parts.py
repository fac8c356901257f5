"""Content blocks of Anthropic's Messages API: read into the hub's parts, and written from them.

Reading is flat: one struct for all kinds, so that a kind this gateway has never heard of (and there is a new one every
month) becomes an `Opaque` of this dialect instead of an error. So do blocks of a known kind that say more than the hub
can carry: a `tool_use` that server code made or that belongs to a toolset, a document with citations or context, an
image from the provider's file store.

Two things have no place in the blocks and get one here:

* a signature on a tool call or a text (Gemini's) travels to a client as a `redacted_thinking` block right before its
  `tool_use`, or right behind the text, with `CALL_SIGNATURE` or `TEXT_SIGNATURE` in front: the one kind of block that
  every client must send back as it was;
* arguments that are no JSON object are wrapped in a reply as `{"_raw_arguments": "<text>"}`, since `input` must be one.

Source: https://docs.anthropic.com/en/api/messages and the types of the `anthropic` package 2.12.
"""

import base64
import binascii
import re
from zlib import crc32

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fastgw.dialects.gemini.wire import OURS
from fastgw.dialects.hub import (
    Audio,
    Document,
    Image,
    Invalid,
    Opaque,
    Part,
    Refusal,
    Target,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Unsupported,
)
from fastgw.dialects.openai_responses.items import SEAL

NAME = "anthropic_messages"
CALL_SIGNATURE = "fastgw:call:"
TEXT_SIGNATURE = "fastgw:text:"
FOREIGN_SIGNATURES = (OURS, SEAL)
"""How signatures begin that other providers made."""
RAW_ARGUMENTS = "_raw_arguments"
PLAIN_ID = re.compile(r"[a-zA-Z0-9_-]+\Z")
NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")
IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
IMAGE_HEADS = {"/9j/": "image/jpeg", "iVBOR": "image/png", "R0lG": "image/gif", "UklG": "image/webp"}
"""How base64 of each kind begins, for images whose type nobody named."""
NULL = Raw(b"null")
"""What is read as raw JSON defaults to this: msgspec reads nothing but null where a type says `Raw | None`."""
NOTHING = (b"null", b"[]", b"{}", b"")

_encode = msgspec.json.encode


class _Source(Struct):
    type: str = ""
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None


class _Caller(Struct):
    type: str = "direct"


class _Block(Struct):
    type: str = ""
    text: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = NULL
    tool_use_id: str | None = None
    content: str | list[Raw] | None = None
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    source: _Source | None = None
    title: str | None = None
    context: str | None = None
    cache_control: Raw = NULL
    citations: Raw = NULL
    caller: _Caller | None = None
    toolset_name: str | None = None
    transformations: Raw = NULL


class _Kind(Struct):
    type: str = ""


KNOWN = frozenset({"text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking"})
_read_block = msgspec.json.Decoder(_Block).decode
_read_kind = msgspec.json.Decoder(_Kind).decode
_read_object = msgspec.json.Decoder(dict[str, Raw]).decode


class TextOut(Struct, tag_field="type", tag="text"):
    """A text block as it is written, like all of the `...Out` structs: strict, with constants as tags."""

    text: str
    citations: Raw | UnsetType = UNSET
    cache_control: Raw | UnsetType = UNSET


class Base64Out(Struct, tag_field="type", tag="base64"):
    """A source that is in the request itself."""

    media_type: str
    data: str


class UrlOut(Struct, tag_field="type", tag="url"):
    """A source that the provider fetches."""

    url: str


class FileOut(Struct, tag_field="type", tag="file"):
    """A source in the provider's file store."""

    file_id: str


class PlainOut(Struct, tag_field="type", tag="text"):
    """A document of plain text, which is not in base64."""

    data: str
    media_type: str = "text/plain"


class ImageOut(Struct, tag_field="type", tag="image"):
    """An image block."""

    source: Base64Out | UrlOut
    cache_control: Raw | UnsetType = UNSET


class DocumentOut(Struct, tag_field="type", tag="document"):
    """A document block."""

    source: Base64Out | UrlOut | FileOut | PlainOut
    title: str | UnsetType = UNSET
    cache_control: Raw | UnsetType = UNSET


class ToolUseOut(Struct, tag_field="type", tag="tool_use"):
    """A call; `input` is the arguments' own text."""

    id: str
    name: str
    input: Raw
    cache_control: Raw | UnsetType = UNSET


class ToolResultOut(Struct, tag_field="type", tag="tool_result"):
    """A result; a lone text stands as a string."""

    tool_use_id: str
    content: "str | list[BlockOut] | UnsetType" = UNSET
    is_error: bool | UnsetType = UNSET
    cache_control: Raw | UnsetType = UNSET


class ThinkingOut(Struct, tag_field="type", tag="thinking"):
    """Signed reasoning; the signature of an unsigned one is empty in a reply."""

    thinking: str
    signature: str


class RedactedOut(Struct, tag_field="type", tag="redacted_thinking"):
    """Reasoning that only the provider can read."""

    data: str


BlockOut = TextOut | ImageOut | DocumentOut | ToolUseOut | ToolResultOut | ThinkingOut | RedactedOut | Raw


def said(raw: Raw) -> Raw | None:
    """`raw`, or None where it is null or empty."""
    return None if raw is NULL or bytes(raw) in NOTHING else raw


def fault(error: Exception, path: str) -> Invalid:
    """A decoder's complaint as `Invalid`, with the place it names behind `path`."""
    reason, _, place = str(error).partition(" - at `$")
    field = (path + place.rstrip("`")).lstrip(".")
    return Invalid(field or "body", reason)


def read_content(content: str | list[Raw] | None, path: str) -> list[Part]:
    """The parts of a message's or a result's content. Raises Invalid, naming the block under `path`."""
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(content)]
    parts: list[Part] = []
    signature: str | None = None
    for number, raw in enumerate(content):
        part = _read_part(raw, path, number)
        if type(part) is Thinking and part.redacted is not None and part.redacted.startswith(CALL_SIGNATURE):
            signature = part.redacted[len(CALL_SIGNATURE) :]
            continue
        if type(part) is Thinking and part.redacted is not None and part.redacted.startswith(TEXT_SIGNATURE):
            if parts and type(last := parts[-1]) is Text:
                last.signature = part.redacted[len(TEXT_SIGNATURE) :]
            continue
        if signature is not None and type(part) is ToolCall:
            part.signature, signature = signature, None
        parts.append(part)
    return parts


def _read_part(raw: Raw, path: str, number: int) -> Part:
    try:
        block = _read_block(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _unread(raw, error, f"{path}[{number}]")
    kind = block.type
    if kind == "text":
        if block.text is None:
            raise Invalid(f"{path}[{number}].text", "missing")
        return Text(block.text, said(block.cache_control), said(block.citations))
    if kind == "tool_use":
        return _call(block, raw, f"{path}[{number}]")
    if kind == "tool_result":
        return _result(block, f"{path}[{number}]")
    if kind == "thinking":
        return Thinking(block.thinking or "", block.signature or None)
    if kind == "redacted_thinking":
        return Thinking(redacted=block.data or "")
    if kind == "image" or kind == "document":
        return _medium(block, raw, f"{path}[{number}].source")
    if not kind:
        raise Invalid(f"{path}[{number}].type", "missing")
    return Opaque(NAME, kind, raw)


def _unread(raw: Raw, error: Exception, path: str) -> Part:
    """What does not fit the flat struct is either a kind of its own or wrong."""
    try:
        kind = _read_kind(raw).type
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as worse:
        raise fault(worse, path) from None
    if not kind or kind in KNOWN:
        raise fault(error, path) from None
    return Opaque(NAME, kind, raw)


def _call(block: _Block, raw: Raw, path: str) -> Part:
    if not block.id or not block.name:
        raise Invalid(f"{path}.id" if not block.id else f"{path}.name", "missing")
    if block.toolset_name is not None or (block.caller is not None and block.caller.type != "direct"):
        return Opaque(NAME, "tool_use", raw)
    try:
        text = "{}" if block.input == NULL else bytes(block.input).decode()
    except UnicodeDecodeError as error:
        raise fault(error, f"{path}.input") from None
    if not text.startswith("{"):
        raise Invalid(f"{path}.input", "must be an object")
    return ToolCall(block.id, block.name, text, cache=said(block.cache_control))


def _result(block: _Block, path: str) -> ToolResult:
    if not block.tool_use_id:
        raise Invalid(f"{path}.tool_use_id", "missing")
    parts = read_content(block.content, f"{path}.content")
    return ToolResult(block.tool_use_id, parts, block.is_error or False, cache=said(block.cache_control))


def _medium(block: _Block, raw: Raw, path: str) -> Part:
    source, kind = block.source, block.type
    if source is None:
        raise Invalid(path, "missing")
    own = said(block.citations) is not None or block.context is not None or said(block.transformations) is not None
    if own or source.type not in ("base64", "url", "file", "text") or (kind == "image" and source.type == "file"):
        return Opaque(NAME, kind, raw)
    value = {"base64": source.data, "text": source.data, "url": source.url, "file": source.file_id}[source.type]
    if value is None:
        raise Invalid(f"{path}.{'data' if source.type in ('base64', 'text') else source.type}", "missing")
    cache = said(block.cache_control)
    data = value if source.type == "base64" else None
    url = value if source.type == "url" else None
    if kind == "image":
        return Image(source.media_type or "", data, url, cache=cache)
    if source.type == "text":
        return Document("text/plain", base64.b64encode(value.encode()).decode(), name=block.title, cache=cache)
    file_id = value if source.type == "file" else None
    return Document(source.media_type or "application/pdf", data, url, file_id, block.title, cache)


def clean_id(call_id: str) -> str:
    """A call's id in the letters Anthropic allows; the same for the call and its result, and unlike any other's."""
    if PLAIN_ID.match(call_id):
        return call_id
    return f"{NOT_IN_ID.sub('_', call_id)}_{crc32(call_id.encode()):08x}"


def is_object(text: bytes) -> bool:
    """Whether `text` is one JSON object."""
    try:
        _read_object(text)
    except (ValueError, RecursionError):
        return False
    return True


def write_content(parts: list[Part], target: Target, *, own: bool) -> list[BlockOut]:
    """The blocks of a request's message; `own`: the client speaks this dialect too. Raises Unsupported."""
    blocks: list[BlockOut] = []
    for part in parts:
        kind = type(part)
        if kind is Text:
            block: BlockOut | None = _text_out(part, target, own)  # type: ignore[arg-type]
        elif kind is ToolCall:
            block = _call_out(part, target)  # type: ignore[arg-type]
        elif kind is ToolResult:
            block = _result_out(part, target, own)  # type: ignore[arg-type]
        elif kind is Thinking:
            block = _thinking_out(part, target)  # type: ignore[arg-type]
        else:
            block = _rare_out(part, target, own)
        if block is not None:
            blocks.append(block)
    return blocks


def _text_out(part: Text, target: Target, own: bool) -> TextOut | None:
    if part.signature is not None:
        note(target, "signature")
    # Anthropic refuses empty text blocks, and an empty text says nothing.
    if not part.text:
        return None
    if part.citations is not None and not own:
        # Only Anthropic can make the encrypted index that a citation must come back with.
        note(target, "citations")
        return TextOut(part.text, UNSET, _or_unset(part.cache))
    return TextOut(part.text, _or_unset(part.citations), _or_unset(part.cache))


def _or_unset(raw: Raw | None) -> Raw | UnsetType:
    return UNSET if raw is None else raw


def _call_out(part: ToolCall, target: Target) -> ToolUseOut:
    if part.signature is not None:
        note(target, "signature")
    try:
        text = part.arguments.encode() or b"{}"
    except UnicodeEncodeError:
        text = b""
    if text != b"{}" and not is_object(text):
        raise Unsupported("messages.tool_calls.function.arguments", f"of call {part.id} are no JSON object")
    return ToolUseOut(clean_id(part.id), part.name, Raw(text), _or_unset(part.cache))


def _result_out(part: ToolResult, target: Target, own: bool) -> ToolResultOut:
    content = squeeze(write_content(part.parts, target, own=own))
    error = True if part.is_error else UNSET
    return ToolResultOut(clean_id(part.call_id), UNSET if content == [] else content, error, _or_unset(part.cache))


def _thinking_out(part: Thinking, target: Target) -> BlockOut | None:
    if part.redacted is not None:
        return RedactedOut(part.redacted)
    if part.signature is None or part.signature.startswith(FOREIGN_SIGNATURES):
        # Reasoning of another vendor's model: it cannot be verified, and no model needs it to go on.
        note(target, "reasoning_content")
        return None
    return ThinkingOut(part.text, part.signature)


def _rare_out(part: Part, target: Target, own: bool) -> BlockOut | None:
    kind = type(part)
    if kind is Image:
        return _image_out(part, target)  # type: ignore[arg-type]
    if kind is Document:
        return _document_out(part, target, own)  # type: ignore[arg-type]
    if kind is Refusal:
        return TextOut(part.text) if part.text else None  # type: ignore[union-attr]
    if kind is Opaque:
        if part.dialect == NAME:  # type: ignore[union-attr]
            return part.raw  # type: ignore[union-attr]
        target.give_up(part.kind, f"is a part only {part.dialect} understands")  # type: ignore[union-attr]
        return None
    assert kind is Audio, kind
    target.give_up("input_audio", "Anthropic models take no sound")
    return None


def _image_out(part: Image, target: Target) -> ImageOut | None:
    if part.detail not in (None, "auto"):
        note(target, "image_url.detail")
    cache = _or_unset(part.cache)
    if part.data is None:
        return ImageOut(UrlOut(part.url or ""), cache)
    media = part.media_type or next((kind for head, kind in IMAGE_HEADS.items() if part.data.startswith(head)), "")
    media = "image/jpeg" if media == "image/jpg" else media
    if media not in IMAGE_TYPES:
        target.give_up("image_url", f"images of type {media or 'unknown'} are not taken: JPEG, PNG, GIF and WebP are")
        return None
    return ImageOut(Base64Out(media, part.data), cache)


def _document_out(part: Document, target: Target, own: bool) -> DocumentOut | None:
    source: Base64Out | UrlOut | FileOut | PlainOut
    if part.file_id is not None:
        if not own:
            target.give_up("file.file_id", "files kept by another provider cannot be read")
            return None
        source = FileOut(part.file_id)
    elif part.url is not None:
        source = UrlOut(part.url)
    elif part.media_type == "application/pdf":
        source = Base64Out(part.media_type, part.data or "")
    else:
        try:
            if part.media_type != "text/plain":
                raise ValueError
            source = PlainOut(base64.b64decode(part.data or "", validate=True).decode())
        except (binascii.Error, ValueError):
            target.give_up("file", f"documents of type {part.media_type} are not taken: PDF and plain UTF-8 text are")
            return None
    return DocumentOut(source, part.name if part.name is not None else UNSET, _or_unset(part.cache))


def note(target: Target, field: str) -> None:
    """List `field` among what was left out: a hint or a token of another provider, nothing to refuse a call for."""
    if field not in target.dropped:
        target.dropped.append(field)


def squeeze(blocks: list[BlockOut]) -> str | list[BlockOut]:
    """A lone plain text as the string it can be."""
    if len(blocks) == 1:
        block = blocks[0]
        if type(block) is TextOut and block.cache_control is UNSET and block.citations is UNSET:
            return block.text
    return blocks


def write_answer(parts: list[Part]) -> list[BlockOut]:
    """The blocks of a reply. Opaque parts of other dialects are theirs alone and are not told.

    What no assistant block can hold (an image a model drew, sound) becomes a Markdown link.
    """
    blocks: list[BlockOut] = []
    for part in parts:
        kind = type(part)
        if kind is Text:
            blocks.append(TextOut(part.text, _or_unset(part.citations)))  # type: ignore[union-attr]
            if part.signature is not None:  # type: ignore[union-attr]
                blocks.append(RedactedOut(TEXT_SIGNATURE + part.signature))  # type: ignore[union-attr]
        elif kind is ToolCall:
            blocks += _answered_call(part)  # type: ignore[arg-type]
        elif kind is Thinking:
            hidden, signature = part.redacted, part.signature  # type: ignore[union-attr]
            blocks.append(ThinkingOut(part.text, signature or "") if hidden is None else RedactedOut(hidden))  # type: ignore[union-attr]
        elif kind is Opaque:
            if part.dialect == NAME and part.kind not in ENVELOPE:  # type: ignore[union-attr]
                blocks.append(part.raw)  # type: ignore[union-attr]
        elif kind is Refusal:
            blocks.append(TextOut(part.text))  # type: ignore[union-attr]
        else:
            blocks.append(TextOut(_link(part)))
    return blocks


ENVELOPE = frozenset({"stop_details", "container"})
"""Kinds of `Opaque` that are no blocks but fields beside `content`."""


def _answered_call(part: ToolCall) -> list[BlockOut]:
    text = part.arguments.encode() or b"{}"
    if text != b"{}" and not is_object(text):
        text = _encode({RAW_ARGUMENTS: part.arguments})
    call = ToolUseOut(part.id, part.name, Raw(text))
    return [call] if part.signature is None else [RedactedOut(CALL_SIGNATURE + part.signature), call]


def _link(part: Part) -> str:
    if type(part) is Image:
        return f"![image]({part.url or f'data:{part.media_type};base64,{part.data}'})"
    if type(part) is Audio:
        return f"[audio](data:audio/{part.format};base64,{part.data})"
    assert type(part) is Document, part
    return f"[{part.name or 'file'}]({part.url or f'data:{part.media_type};base64,{part.data}'})"
