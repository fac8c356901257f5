"""What requests, replies and streams of OpenAI's chat completions have in common: usage, thinking, files, small words.

Where the format has no place for something, it goes where others have put it before us, so that it comes back when a
client returns the assistant message as it got it:

- thinking: its text in `reasoning_content` (DeepSeek, xAI, vLLM), the whole of it with signatures in
  `reasoning_details` (OpenRouter): `{"type": "reasoning.text", "text", "signature", "index"}` and, for what only the
  provider can read, `{"type": "reasoning.encrypted", "data", "index"}`;
- the signature of a call or of a text: `extra_content.google.thought_signature` on the call or on the message (Google's
  own compatible endpoint);
- citations of something else than a web page: `citations`, raw, beside `annotations`.

Effort and budget: a budget of thinking tokens stands for the first level that holds it, as Google's page on OpenAI
compatibility pairs them: none 0, low 1024, medium 8192, high 24576; more than that is xhigh.
"""

from typing import Annotated, Any, get_args

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from fastgw.call import Usage
from fastgw.dialects.hub import Document, Effort, Image, Part, StopReason, Text, Thinking

NAME = "openai_chat"
UNREADABLE = (ValueError, RecursionError)
Count = Annotated[int, Meta(ge=0, lt=2**31)]
EFFORTS = frozenset(get_args(Effort))

NULL = Raw(b"null")
"""What is read as raw JSON defaults to this: msgspec reads nothing but null where a type says `Raw | None`."""

encode = msgspec.json.encode
read_raws = msgspec.json.Decoder(dict[str, Raw]).decode
_read_text = msgspec.json.Decoder(str).decode


def some(raw: Raw) -> Raw | None:
    """Raw JSON, None for null and for what was not there."""
    return None if raw is NULL or raw == NULL else raw


# --- why an answer ended

STOPS: dict[str, StopReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    # Other words that servers of this format use: Mistral, TGI, Together, DeepSeek, OpenRouter.
    "model_length": "length",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "insufficient_system_resource": "error",
    "error": "error",
    "abort": "error",
}
FINISHES: dict[StopReason, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    # A whole answer that ended in an error is for the caller of this module to refuse; none of the five words fits.
    "error": "length",
}


def stop_of(finish: str, called: bool) -> StopReason:
    """The hub's word for a `finish_reason`. A tool forced by name ends with `stop`, so the calls decide."""
    reason = STOPS.get(finish, "stop")
    return "tool_calls" if called and reason == "stop" else reason


# --- service tier

TIERS = {name: name for name in ("auto", "default", "flex", "scale", "priority", "fast")} | {"standard": "default"}
"""Others' words for how a request was served would break clients that know OpenAI's as an enumeration."""


# --- usage


class _PromptDetails(Struct):
    cached_tokens: Count | None = 0
    cache_write_tokens: Count | None = 0


class _CompletionDetails(Struct):
    reasoning_tokens: Count | None = 0


class UsageIn(Struct):
    """Usage. `prompt_cache_hit_tokens` is DeepSeek's, `cached_tokens` Moonshot's, `reasoning_tokens` Perplexity's."""

    prompt_tokens: Count | None = 0
    completion_tokens: Count | None = 0
    total_tokens: Count | None = 0
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: Count | None = 0
    cached_tokens: Count | None = 0
    reasoning_tokens: Count | None = 0

    def read(self) -> Usage:
        """What it says."""
        prompt, completion = self.prompt_tokens_details, self.completion_tokens_details
        reasoning = (completion.reasoning_tokens if completion else 0) or self.reasoning_tokens or 0
        given, written = self.prompt_tokens or 0, self.completion_tokens or 0
        # xAI counts reasoning beside the completion, which shows only in its total.
        if reasoning and self.total_tokens == given + written + reasoning:
            written += reasoning
        return Usage(
            input=given,
            output=written,
            cached=(prompt.cached_tokens if prompt else 0) or self.prompt_cache_hit_tokens or self.cached_tokens or 0,
            cache_write=(prompt.cache_write_tokens if prompt else 0) or 0,
            reasoning=reasoning,
        )


_read_usage = msgspec.json.Decoder(UsageIn).decode


def usage_in(raw: Raw) -> Usage | None:
    """A `usage` object; None for null and for what holds anything but sane counts."""
    if raw is NULL or raw == NULL:
        return None
    try:
        return _read_usage(raw).read()
    except UNREADABLE:
        return None


class _PromptDetailsOut(Struct):
    cached_tokens: int
    cache_write_tokens: int


class _CompletionDetailsOut(Struct):
    reasoning_tokens: int


class UsageOut(Struct):
    """`usage` as it is written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _PromptDetailsOut
    completion_tokens_details: _CompletionDetailsOut


def usage_out(usage: Usage) -> UsageOut:
    """The hub's counts follow OpenAI's laws already: input holds what was cached, output what was thought."""
    return UsageOut(
        usage.input,
        usage.output,
        usage.input + usage.output,
        _PromptDetailsOut(usage.cached, usage.cache_write),
        _CompletionDetailsOut(usage.reasoning),
    )


# --- thinking


class _DetailIn(Struct):
    type: str = ""
    text: str | None = None
    summary: str | None = None
    signature: str | None = None
    data: str | None = None


class DetailText(Struct, tag_field="type", tag="reasoning.text"):
    """A run of thinking in words."""

    text: str
    index: int
    signature: str | UnsetType = UNSET


class DetailSealed(Struct, tag_field="type", tag="reasoning.encrypted"):
    """A run of thinking that only the provider can read."""

    data: str
    index: int


Detail = DetailText | DetailSealed
_read_detail = msgspec.json.Decoder(_DetailIn).decode


def thinking_in(details: list[Raw]) -> list[Thinking]:
    """The entries of a `reasoning_details` list; kinds nobody knows are skipped."""
    found = []
    for raw in details:
        try:
            seen = _read_detail(raw)
        except UNREADABLE:
            continue
        if seen.type == "reasoning.encrypted":
            if seen.data:
                found.append(Thinking(redacted=seen.data))
        elif seen.text is not None or seen.summary is not None or seen.signature:
            found.append(Thinking(seen.text or seen.summary or "", seen.signature or None))
    return found


def thinking_out(thoughts: list[Thinking]) -> list[Detail]:
    """The `reasoning_details` of a message."""
    return [
        DetailText(t.text, i, UNSET if t.signature is None else t.signature)
        if t.redacted is None
        else DetailSealed(t.redacted, i)
        for i, t in enumerate(thoughts)
    ]


class _Think(Struct):
    text: str | None = None


class _ThinkPart(Struct):
    thinking: list[_Think] | str | None = None


_read_think = msgspec.json.Decoder(_ThinkPart).decode


def think_part(raw: Raw) -> str:
    """The text of Mistral's `{"type": "thinking", "thinking": [{"type": "text", "text"}]}`."""
    inner = _read_think(raw).thinking or ""
    return inner if type(inner) is str else "".join([t.text or "" for t in inner])  # type: ignore[union-attr]


# --- calls


class Function(Struct):
    """A call's function as it is written; `name` only once in a stream."""

    name: str
    arguments: str


class CallOut(Struct, tag_field="type", tag="function"):
    """A whole call."""

    id: str
    function: Function
    extra_content: dict[str, dict[str, str]] | UnsetType = UNSET


def sealed(signature: str | None) -> dict[str, dict[str, str]] | UnsetType:
    """`extra_content` with the signature of a call."""
    return UNSET if signature is None else {"google": {"thought_signature": signature}}


def signature_in(extra: Any) -> str | None:
    """The signature in the `extra_content` of a call or a message."""
    google = extra.get("google") if type(extra) is dict else None
    found = google.get("thought_signature") if type(google) is dict else None
    return found if type(found) is str else None


def arguments_in(raw: Raw) -> str:
    """A call's arguments: a string by the format, an object from some servers; kept as its text."""
    if raw is NULL or raw == NULL:
        return ""
    text = bytes(raw)
    return _read_text(text) if text.startswith(b'"') else text.decode()


def call_id(reply_id: str, choice: int, index: int) -> str:
    """An id for a call that came without one: the same for the same place in the same reply."""
    tail = "".join([c for c in reply_id[-16:] if c.isascii() and c.isalnum()])
    return f"call_{tail}_{choice}_{index}"


def sign(parts: list[Part], signature: str | None) -> None:
    """Give the last text of a message its signature."""
    if signature is None:
        return
    for part in reversed(parts):
        if type(part) is Text:
            part.signature = signature
            return
    parts.append(Text("", signature=signature))


# --- files

SNIFF = (("/9j/", "image/jpeg"), ("iVBORw0KGgo", "image/png"), ("R0lGOD", "image/gif"), ("UklGR", "image/webp"))


def data_url(media_type: str, data: str) -> str:
    """An image or file as a URL of RFC 2397."""
    return f"data:{media_type or sniff(data)};base64,{data}"


def split_data_url(url: str) -> tuple[str, str] | None:
    """(media type, base64) of a data URL, None where the URL is something else or is not base64."""
    head, comma, data = url.partition(",")
    if not comma or head[:5].lower() != "data:":
        return None
    words = head[5:].split(";")
    return (words[0].strip().lower(), data) if words[-1].strip().lower() == "base64" else None


def sniff(data: str) -> str:
    """The media type of a base64 image by its first bytes; PNG where they say nothing."""
    for start, media_type in SNIFF:
        if data.startswith(start):
            return media_type
    return "image/png"


def image_in(url: str, detail: str | None, cache: Raw | None = None) -> Image | None:
    """An image by the URL it came as; None for a data URL that is not base64."""
    if url[:5].lower() != "data:":
        return Image(url=url, detail=detail, cache=cache)
    parts = split_data_url(url)
    if parts is None:
        return None
    return Image(media_type=parts[0] or sniff(parts[1]), data=parts[1], detail=detail, cache=cache)


def document_in(data: str | None, file_id: str | None, name: str | None, cache: Raw | None = None) -> Document | None:
    """A file part; its data is a data URL, bare base64 (a PDF), or a URL with OpenRouter. None when it is nothing."""
    if file_id is not None:
        return Document(file_id=file_id, name=name, cache=cache)
    if data is None:
        return None
    if data.startswith(("https://", "http://")):
        return Document(url=data, name=name, cache=cache)
    if data[:5].lower() != "data:":
        return Document(data=data, name=name, cache=cache)
    parts = split_data_url(data)
    if parts is None:
        return None
    return Document(media_type=parts[0] or "application/pdf", data=parts[1], name=name, cache=cache)


# --- citations


class _UrlCitation(Struct):
    url: str
    title: str | None = None
    start_index: int | None = None
    end_index: int | None = None


class _AnnotationIn(Struct):
    url_citation: _UrlCitation | None = None


class _WebCitation(Struct):
    """Anthropic's citation of a search result; `encrypted_index` is what only Anthropic can fill."""

    type: str = ""
    url: str | None = None
    title: str | None = None


class _WebCitationOut(Struct, tag_field="type", tag="web_search_result_location"):
    cited_text: str
    url: str
    title: str | None
    encrypted_index: str = ""


class _UrlCitationOut(Struct):
    start_index: int
    end_index: int
    url: str
    title: str


class AnnotationOut(Struct, tag_field="type", tag="url_citation"):
    """A citation of a web page. `index` only in streams, where clients merge lists by it."""

    url_citation: _UrlCitationOut
    index: int | UnsetType = UNSET


_read_annotation = msgspec.json.Decoder(_AnnotationIn).decode
_read_web = msgspec.json.Decoder(_WebCitation).decode


def citation_in(raw: Raw, text: str | None) -> tuple[int, int, Raw] | None:
    """(start, end, the citation as Anthropic has it) of an annotation of `text`; None for other kinds."""
    try:
        seen = _read_annotation(raw).url_citation
    except UNREADABLE:
        return None
    if seen is None:
        return None
    size = len(text or "")
    start = min(max(seen.start_index or 0, 0), size)
    end = min(max(seen.end_index or 0, start), size)
    cited = _WebCitationOut((text or "")[start:end], seen.url, seen.title)
    return start, end, Raw(encode(cited))


def citation_out(raw: Raw, start: int, end: int) -> AnnotationOut | None:
    """The annotation for a citation of the text between `start` and `end`; None when it is not of a web page."""
    try:
        seen = _read_web(raw)
    except UNREADABLE:
        return None
    if seen.type != "web_search_result_location" or seen.url is None:
        return None
    return AnnotationOut(_UrlCitationOut(start, end, seen.url, seen.title or seen.url))
