"""Content blocks of a request, written from the hub's parts.

A cache mark becomes a `cachePoint` behind its block, for the vendors that have a cache. Documents need a name of few
letters that no other has: one is made of theirs. Ids of calls that are not of Converse's letters are rewritten, the
same for the call and its result.
"""

import base64
import binascii
import re
from zlib import crc32

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fastgw.dialects.anthropic_messages.parts import FOREIGN_SIGNATURES, IMAGE_HEADS, is_object, note
from fastgw.dialects.bedrock_converse.wire import vendor_of
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
    Unsupported,
)

CACHES = frozenset({"anthropic", "amazon"})
"""Vendors whose models take cache points: https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html."""
IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
SOUNDS = frozenset(
    ("mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "mkv", "mka", "x-aac", "m4a", "mpeg", "mpga", "pcm", "webm")
)
PLAIN_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")
NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")
NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9\s()\[\]-]")
MAX_NAME = 200
S3 = "s3://"


class TextOut(Struct):
    """A text; like all of the `...Out` structs it is one member of Converse's union of blocks."""

    text: str


class S3Out(Struct):
    """An object of the provider's own storage."""

    uri: str


class SourceOut(Struct, rename="camel"):
    """Where a medium is: in the request, as base64, or in the provider's storage."""

    bytes: str | UnsetType = UNSET
    s3_location: S3Out | UnsetType = UNSET


class MediumOut(Struct):
    """A medium; `name` is for documents."""

    format: str
    source: SourceOut
    name: str | UnsetType = UNSET


class ImageOut(Struct):
    """An image block."""

    image: MediumOut


class DocumentOut(Struct):
    """A document block."""

    document: MediumOut


class AudioOut(Struct):
    """A block of sound."""

    audio: MediumOut


class UseOut(Struct, rename="camel"):
    """A call; `input` is the arguments' own text."""

    tool_use_id: str
    name: str
    input: Raw


class ToolUseOut(Struct, rename="camel"):
    """A block of a call."""

    tool_use: UseOut


class ResultOut(Struct, rename="camel"):
    """What a tool answered."""

    tool_use_id: str
    content: "list[BlockOut]"
    status: str | UnsetType = UNSET


class ToolResultOut(Struct, rename="camel"):
    """A block of a result."""

    tool_result: ResultOut


class SignedOut(Struct):
    """Reasoning with its signature."""

    text: str
    signature: str


class ReasonedOut(Struct, rename="camel"):
    """Reasoning, in words or only for the provider to read."""

    reasoning_text: SignedOut | UnsetType = UNSET
    redacted_content: str | UnsetType = UNSET


class ReasoningOut(Struct, rename="camel"):
    """A block of reasoning."""

    reasoning_content: ReasonedOut


class PointOut(Struct):
    """A cache point."""

    type: str = "default"
    ttl: str | UnsetType = UNSET


class CachePointOut(Struct, rename="camel"):
    """All before this is to be cached."""

    cache_point: PointOut


BlockOut = (
    TextOut | ImageOut | DocumentOut | AudioOut | ToolUseOut | ToolResultOut | ReasoningOut | CachePointOut
)  # fmt: skip


class _Mark(Struct):
    ttl: str | None = None


_read_mark = msgspec.json.Decoder(_Mark).decode


class Blocks:
    """Writes the content of one request's messages; knows the names of its documents."""

    __slots__ = ("_names", "_target", "_vendor")

    def __init__(self, target: Target) -> None:
        self._target = target
        self._vendor = vendor_of(target.model)
        self._names: set[str] = set()

    def write(self, parts: list[Part]) -> list[BlockOut]:
        """The blocks of a message or a result. Raises Unsupported."""
        blocks: list[BlockOut] = []
        for part in parts:
            block = self._block(part)
            if block is None:
                continue
            blocks.append(block)
            point = self.point(getattr(part, "cache", None))
            if point is not None:
                blocks.append(point)
        return blocks

    def point(self, cache: Raw | None) -> CachePointOut | None:
        """The cache point for a mark."""
        if cache is None:
            return None
        if self._vendor not in CACHES:
            note(self._target, "cache_control")
            return None
        try:
            ttl = _read_mark(cache).ttl
        except (ValueError, RecursionError):
            ttl = None
        return CachePointOut(PointOut(ttl=ttl if ttl == "1h" else UNSET))

    def _block(self, part: Part) -> BlockOut | None:
        if isinstance(part, Text):
            return self._text(part)
        if isinstance(part, ToolCall):
            return self._call(part)
        if isinstance(part, ToolResult):
            return self._result(part)
        if isinstance(part, Thinking):
            return self._thinking(part)
        if isinstance(part, Image):
            return self._image(part)
        if isinstance(part, Document):
            return self._document(part)
        if isinstance(part, Audio):
            return self._audio(part)
        if isinstance(part, Refusal):
            return TextOut(part.text) if part.text.strip() else None
        assert isinstance(part, Opaque), part
        self._target.give_up(part.kind, f"is a part only {part.dialect} understands")
        return None

    def _text(self, part: Text) -> TextOut | None:
        if part.signature is not None:
            note(self._target, "signature")
        if part.citations is not None:
            note(self._target, "citations")
        # Converse refuses a blank text, and it says nothing.
        return TextOut(part.text) if part.text.strip() else None

    def _call(self, part: ToolCall) -> ToolUseOut:
        if part.signature is not None:
            note(self._target, "signature")
        try:
            text = part.arguments.encode() or b"{}"
        except UnicodeEncodeError:
            text = b""
        if text != b"{}" and not is_object(text):
            raise Unsupported("messages.tool_calls.function.arguments", f"of call {part.id} are no JSON object")
        return ToolUseOut(UseOut(clean_id(part.id), part.name, Raw(text)))

    def _result(self, part: ToolResult) -> ToolResultOut:
        content: list[BlockOut] = [block for block in self.write(part.parts) if not isinstance(block, CachePointOut)]
        return ToolResultOut(ResultOut(clean_id(part.call_id), content, "error" if part.is_error else UNSET))

    def _thinking(self, part: Thinking) -> ReasoningOut | None:
        if part.redacted is not None:
            if not _is_base64(part.redacted):
                note(self._target, "reasoning_content")
                return None
            return ReasoningOut(ReasonedOut(redacted_content=part.redacted))
        if part.signature is None or part.signature.startswith(FOREIGN_SIGNATURES):
            # Reasoning of another vendor's model: it cannot be verified, and no model needs it to go on.
            note(self._target, "reasoning_content")
            return None
        return ReasoningOut(ReasonedOut(SignedOut(part.text, part.signature)))

    def _image(self, part: Image) -> ImageOut | None:
        if part.detail not in (None, "auto"):
            note(self._target, "image_url.detail")
        url, data = _inline(part.url, part.data)
        if data is None and not (url or "").startswith(S3):
            self._target.give_up("image_url", "the provider fetches no URLs but s3://...; send the image itself")
            return None
        name = (part.url or "").partition("?")[0].rpartition(".")[2] if data is None else ""
        media = part.media_type or _head_of(data or "") or _type_of(part.url) or f"image/{name}"
        kind = IMAGES.get(media)
        if kind is None:
            self._target.give_up("image_url", f"images of type {media} are not taken: PNG, JPEG, GIF and WebP are")
            return None
        return ImageOut(MediumOut(kind, _source(url, data)))

    def _document(self, part: Document) -> DocumentOut | None:
        url, data = _inline(part.url, part.data)
        if data is None and not (url or "").startswith(S3):
            what = "file.file_id" if part.file_id is not None else "file"
            self._target.give_up(what, "the provider fetches no files but s3://...; send the document itself")
            return None
        media = _type_of(part.url) or part.media_type
        kind = DOCUMENTS.get(media.partition(";")[0])
        if kind is None:
            said = ", ".join(DOCUMENTS.values())
            self._target.give_up("file", f"documents of type {media or 'unknown'} are not taken; taken are {said}")
            return None
        return DocumentOut(MediumOut(kind, _source(url, data), self._name(part.name)))

    def _name(self, name: str | None) -> str:
        """A name Converse allows, and no other document of this request has."""
        plain = " ".join(NOT_IN_NAME.sub("-", name or "")[: MAX_NAME - 8].split()) or "document"
        made, number = plain, 1
        while made in self._names:
            number += 1
            made = f"{plain} {number}"
        self._names.add(made)
        return made

    def _audio(self, part: Audio) -> AudioOut | None:
        if self._vendor == "anthropic" or part.format not in SOUNDS:
            self._target.give_up("input_audio", f"the model takes no sound, or none of the format {part.format!r}")
            return None
        return AudioOut(MediumOut(part.format, SourceOut(part.data)))


def clean_id(call_id: str) -> str:
    """A call's id as Converse allows it; the same for the call and its result, and unlike any other's."""
    if PLAIN_ID.match(call_id):
        return call_id
    return f"{NOT_IN_ID.sub('_', call_id)[:55]}_{crc32(call_id.encode('utf-8', 'surrogatepass')):08x}"


def _inline(url: str | None, data: str | None) -> tuple[str | None, str | None]:
    """(URL, base64): what a data URL holds is data."""
    if data is None and url is not None and url.startswith("data:"):
        head, _, rest = url.partition(",")
        if head.endswith(";base64"):
            return None, rest
    return url, data


def _type_of(url: str | None) -> str:
    """The media type in a data URL."""
    return url[5:].partition(",")[0].partition(";")[0] if url is not None and url.startswith("data:") else ""


def _head_of(data: str) -> str:
    return next((kind for head, kind in IMAGE_HEADS.items() if data.startswith(head)), "")


def _source(url: str | None, data: str | None) -> SourceOut:
    return SourceOut(s3_location=S3Out(url or "")) if data is None else SourceOut(data)


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True
