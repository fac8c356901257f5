"""Images, sound and files: what Gemini tells apart by media type, the hub by noun."""

from msgspec import Struct

from fastgw.dialects.gemini.wire import Blob, FileData, Part, plain_base64
from fastgw.dialects.hub import Audio, Document, Image, Invalid, Target

_SOUNDS = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/x-wav": "wav", "audio/wave": "wav"}
_SUFFIXES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "heic": "image/heic",
    "pdf": "application/pdf",
    "txt": "text/plain",
}
# Base64 of the first bytes of a file, by which its kind is known.
_MAGIC = {
    "iVBORw0KGgo": "image/png",
    "/9j/": "image/jpeg",
    "R0lGOD": "image/gif",
    "UklGR": "image/webp",
    "JVBERi": "application/pdf",
}
_OWN_FILES = ("gs://", "https://generativelanguage.googleapis.com/", "https://www.youtube.com/", "https://youtu.be/")
FETCHES = "fetch_urls"
"""The feature of a target whose provider fetches any URL."""

Media = Image | Audio | Document


class _Source(Struct):
    """One medium on its way to Gemini; `field` names it to the client."""

    field: str
    media_type: str
    data: str | None = None
    url: str | None = None
    name: str | None = None


def from_blob(blob: Blob) -> Media:
    """An inlineData as a part of the hub."""
    kind, data = blob.mime_type or "", plain_base64(blob.data or "")
    if kind.startswith("image/") or not kind:
        return Image(media_type=kind, data=data)
    if kind.startswith("audio/"):
        # Parameters, such as a sample rate, are part of what the bytes mean and stay in the name.
        return Audio(data, _SOUNDS.get(kind, kind.removeprefix("audio/")))
    return Document(media_type=kind, data=data, name=blob.display_name)


def from_file(file: FileData) -> Media:
    """A fileData as a part of the hub."""
    kind = file.mime_type or _guessed(file.file_uri or "") or ""
    if kind.startswith("image/"):
        return Image(media_type=file.mime_type or "", url=file.file_uri)
    return Document(media_type=file.mime_type or "", url=file.file_uri, name=file.display_name)


def to_part(media: Media, target: Target) -> Part | None:
    """A medium as Gemini takes it; None when it was given up. Raises Unsupported and Invalid."""
    kind = type(media)
    if kind is Audio:
        return Part(inline_data=Blob(f"audio/{media.format}", media.data))  # type: ignore[union-attr]
    if kind is Image:
        return _part(_Source("image", media.media_type, media.data, media.url), target)  # type: ignore[union-attr]
    assert isinstance(media, Document)
    if media.file_id is not None and media.data is None and media.url is None:
        target.give_up("file_id", "the file lies in another provider's store")
        return None
    return _part(_Source("document", media.media_type, media.data, media.url, media.name), target)


def _part(source: _Source, target: Target) -> Part | None:
    if source.data is None and source.url is not None and source.url.startswith("data:"):
        head, _, source.data = source.url[5:].partition(",")
        if not head.endswith(";base64"):
            raise Invalid(source.field, "only base64 data URLs can be sent on")
        source.media_type = source.media_type or head.removesuffix(";base64")
    if source.data is not None:
        media_type = source.media_type or next((t for m, t in _MAGIC.items() if source.data.startswith(m)), None)
        if media_type is None:
            raise Invalid(source.field, "its media type is not said and cannot be told from its first bytes")
        return Part(inline_data=Blob(media_type, source.data, source.name))
    if source.url is None:
        raise Invalid(source.field, "has neither data nor a URL")
    if not source.url.startswith(_OWN_FILES) and FETCHES not in target.features:
        target.give_up(f"{source.field}.url", "the provider does not fetch URLs; send the data")
        return None
    return Part(file_data=FileData(source.media_type or _guessed(source.url), source.url, source.name))


def _guessed(url: str) -> str | None:
    """The media type that the end of a URL's path stands for."""
    return _SUFFIXES.get(url.partition("?")[0].rpartition(".")[2].lower())
