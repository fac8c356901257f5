"""What requests, replies and streams of OpenAI's Responses API have in common: items, parts, annotations, usage.

Reading is flat: `Item` and `Content` hold the fields of every kind that the hub has a place for. Writing is tagged.
Sources: https://platform.openai.com/docs/api-reference/responses and the types of the official Python SDK.

Reasoning travels in both directions as an opaque string, and each direction has its own wrapping, so that it can be
told apart when it comes back. A reasoning item of OpenAI becomes a `Thinking` whose signature is `SEAL` + base64 of
id, NUL and `encrypted_content`: plain base64, as Gemini's clients want it. What another provider signed becomes the
`encrypted_content` of a reasoning item behind one of `SIGNED`, `REDACTED` and `CALL`: a signature, redacted thinking,
and the signature of the call that follows. Clients send reasoning items back as they came, so each returns home.
"""

import binascii
from base64 import b64decode, b64encode
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from fastgw.call import Usage
from fastgw.dialects.hub import Opaque, Part, Refusal, Text, Thinking, ToolCall

NAME = "openai_responses"
SEAL = b64encode(b"openai_responses\0\1").decode()
SIGNED, REDACTED, CALL = "fastgw:signed:", "fastgw:redacted:", "fastgw:call:"
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
PARAGRAPH = "\n\n"
"""Stands between two parts of one reasoning item, which the hub holds as one text."""

Count = Annotated[int, Meta(ge=0, lt=2**31)]
NULL = Raw(b"null")
"""A field that is absent or null: msgspec reads no union of Raw with anything."""
encode = msgspec.json.encode


# --- as read


class Summary(Struct):
    """One part of a reasoning item."""

    text: str = ""


class AudioData(Struct):
    """The inside of an `input_audio` part."""

    data: str
    format: str


class Content(Struct):
    """A content part of any kind."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: list[Raw] | None = None
    logprobs: Raw = NULL
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    file_data: str | None = None
    filename: str | None = None
    input_audio: AudioData | None = None
    prompt_cache_breakpoint: Raw = NULL


class Item(Struct):
    """An item of any kind."""

    type: str | None = None
    id: str | None = None
    role: str | None = None
    content: str | list[Content] | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: str | None = None
    output: str | list[Content] | None = None
    summary: list[Summary] | None = None
    encrypted_content: str | None = None
    status: str | None = None


class Kind(Struct):
    """The kind of an item or frame whose other fields are of shapes unknown here."""

    type: str = ""


class RawContent(Struct):
    """The parts of an item, unread."""

    content: list[Raw] = []


class RawOutput(Struct):
    """The parts of a tool's output, unread."""

    output: list[Raw] = []


class _Annotation(Struct):
    type: str = ""
    url: str = ""
    title: str | None = None


class _ChatLogprobs(Struct):
    content: Raw = NULL


class _InputDetails(Struct):
    cached_tokens: Count | None = 0
    cache_write_tokens: Count | None = 0


class _OutputDetails(Struct):
    reasoning_tokens: Count | None = 0


class _Usage(Struct):
    input_tokens: Count | None = 0
    output_tokens: Count | None = 0
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


read_item = msgspec.json.Decoder(Item).decode
read_kind = msgspec.json.Decoder(Kind).decode
_read_annotation = msgspec.json.Decoder(_Annotation).decode
_read_chat_logprobs = msgspec.json.Decoder(_ChatLogprobs).decode
_read_usage = msgspec.json.Decoder(_Usage).decode


def usage_of(raw: Raw) -> Usage | None:
    """Usage as told; None for none, and for one that holds anything but token counts."""
    if raw == NULL:
        return None
    try:
        told = _read_usage(raw)
    except UNREADABLE:
        return None
    given, made = told.input_tokens_details, told.output_tokens_details
    return Usage(
        input=told.input_tokens or 0,
        output=told.output_tokens or 0,
        cached=(given.cached_tokens or 0) if given else 0,
        cache_write=(given.cache_write_tokens or 0) if given else 0,
        reasoning=(made.reasoning_tokens or 0) if made else 0,
    )


# --- as written


class UrlCitation(Struct, tag="url_citation", tag_field="type"):
    """An annotation: the text from `start_index` to `end_index` rests on `url`."""

    start_index: int
    end_index: int
    url: str
    title: str


class OutputText(Struct, tag="output_text", tag_field="type"):
    """Text of the model."""

    text: str
    annotations: list[object] = []
    logprobs: Raw | list[object] | UnsetType = UNSET


class OutputRefusal(Struct, tag="refusal", tag_field="type"):
    """A refusal of the model."""

    refusal: str


class SummaryText(Struct, tag="summary_text", tag_field="type"):
    """One part of what a reasoning item shows."""

    text: str


class ReasoningText(Struct, tag="reasoning_text", tag_field="type"):
    """One part of reasoning itself, as servers of open models show it."""

    text: str


class MessageItem(Struct, tag="message", tag_field="type"):
    """A message; in requests without id and status."""

    role: str
    content: list[object]
    id: str | UnsetType = UNSET
    status: str | UnsetType = UNSET


class ReasoningItem(Struct, tag="reasoning", tag_field="type"):
    """A reasoning item."""

    summary: list[SummaryText]
    id: str | UnsetType = UNSET
    encrypted_content: str | UnsetType = UNSET
    content: list[ReasoningText] | UnsetType = UNSET
    status: str | UnsetType = UNSET


class CallItem(Struct, tag="function_call", tag_field="type"):
    """A call of a function."""

    call_id: str
    name: str
    arguments: str
    id: str | UnsetType = UNSET
    status: str | UnsetType = UNSET


class ImageItem(Struct, tag="image_generation_call", tag_field="type"):
    """An image the model made; `result` is base64."""

    id: str
    result: str
    status: str = "completed"


class InputDetails(Struct):
    """Of the input tokens: read from and written to the provider's cache."""

    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(Struct):
    """Of the output tokens: spent on reasoning."""

    reasoning_tokens: int


class UsageOut(Struct):
    """Usage as clients read it."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


def usage_out(usage: Usage | None) -> UsageOut | None:
    """`usage` as clients read it."""
    if usage is None:
        return None
    return UsageOut(
        usage.input,
        InputDetails(usage.cached, usage.cache_write),
        usage.output,
        OutputDetails(usage.reasoning),
        usage.input + usage.output,
    )


# --- reasoning


def seal(item_id: str | None, encrypted: str | None) -> str:
    """The signature under which a reasoning item of this API travels in other dialects."""
    return SEAL + b64encode(f"{item_id or ''}\0{encrypted or ''}".encode()).decode()


def unseal(signature: str | None) -> tuple[str, str] | None:
    """(id, encrypted_content) of what `seal` made; None for anything else."""
    if signature is None or not signature.startswith(SEAL):
        return None
    try:
        item_id, _, encrypted = b64decode(signature[len(SEAL) :]).decode().partition("\0")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return item_id, encrypted


def wrap(thinking: Thinking) -> tuple[str, str | None]:
    """(id or "", encrypted_content or None) of the reasoning item that carries `thinking` to a client."""
    own = unseal(thinking.signature)
    if own is not None:
        return own[0], own[1] or None
    if thinking.redacted is not None:
        return "", REDACTED + thinking.redacted
    return "", SIGNED + thinking.signature if thinking.signature is not None else None


def unwrap(text: str, item_id: str | None, encrypted: str | None) -> Thinking:
    """The thinking that a reasoning item carries; see the module. `CALL` is the caller's to look for."""
    if encrypted is not None:
        if encrypted.startswith(SIGNED):
            return Thinking(text, signature=encrypted[len(SIGNED) :])
        if encrypted.startswith(REDACTED):
            return Thinking(text, redacted=encrypted[len(REDACTED) :])
    if not item_id and not encrypted:
        return Thinking(text)
    # An id that we made for thinking nobody signed: there is nothing to look up under it.
    if encrypted is None and item_id and item_id.startswith("rs_fgw_"):
        return Thinking(text)
    return Thinking(text, signature=seal(item_id, encrypted))


def call_signature(item: Item) -> str | None:
    """The signature of the call that follows, where this reasoning item is only its carrier."""
    encrypted = item.encrypted_content
    return encrypted[len(CALL) :] if encrypted is not None and encrypted.startswith(CALL) else None


def reasoning_text(item: Item) -> str:
    """All that a reasoning item shows, as one text."""
    texts = [part.text for part in item.summary or () if part.text]
    if isinstance(item.content, list):
        texts += [part.text for part in item.content if part.text]
    return PARAGRAPH.join(texts)


# --- annotations: the hub has citations as Anthropic does


class _WebCitation(Struct, tag="web_search_result_location", tag_field="type"):
    url: str
    title: str | None
    cited_text: str = ""
    encrypted_index: str = ""


_OWN_ANNOTATIONS = frozenset({"file_citation", "container_file_citation", "file_path"})


def citation(annotation: Raw) -> Raw:
    """An annotation as a citation. Those on files have no counterpart and keep their own shape."""
    try:
        read = _read_annotation(annotation)
    except UNREADABLE:
        return annotation
    if read.type != "url_citation":
        return annotation
    return Raw(encode(_WebCitation(read.url, read.title)))


def citations(annotations: list[Raw] | None) -> Raw | None:
    """The citations of one text part."""
    return Raw(encode([citation(one) for one in annotations])) if annotations else None


def annotation(raw: Raw, start: int, end: int) -> object | None:
    """A citation as an annotation of text[start:end]; None for kinds that name no URL and no file here."""
    try:
        read = _read_annotation(raw)
    except UNREADABLE:
        return None
    if read.type in _OWN_ANNOTATIONS:
        return raw
    if read.type in ("web_search_result_location", "url_citation") and read.url:
        return UrlCitation(start, end, read.url, read.title or "")
    return None


_read_raws = msgspec.json.Decoder(list[Raw]).decode


def annotations(text: Text) -> tuple[list[object], bool]:
    """The annotations of a text part, and whether they are all that its citations say."""
    if text.citations is None:
        return [], True
    try:
        raws = _read_raws(text.citations)
    except UNREADABLE:
        return [], False
    found = [one for raw in raws if (one := annotation(raw, 0, len(text.text))) is not None]
    return found, len(found) == len(raws)


# --- log probabilities: the hub has OpenAI's chat object, {"content": [...], "refusal": null}


def chat_logprobs(raw: Raw) -> Raw | None:
    """The list of an output text as chat's object; None for an empty one, and for what is no list."""
    if bytes(raw)[:1] != b"[" or bytes(raw) == b"[]":
        return None
    return Raw(b'{"content":' + bytes(raw) + b',"refusal":null}')


def own_logprobs(raw: Raw | None) -> Raw | list[object]:
    """Chat's object as the list of an output text; an empty one for what holds no list."""
    if raw is not None:
        try:
            found = _read_chat_logprobs(raw).content
        except UNREADABLE:
            found = NULL
        if bytes(found)[:1] == b"[":
            return found
    return []


# --- output items, as hub parts


def read_output(raw: Raw) -> Item | None:
    """An output item; None for kinds the hub has no place for."""
    try:
        item = read_item(raw)
    except UNREADABLE:
        return None
    return item if item.type in ("message", "reasoning", "function_call") else None


def message_parts(item: Item, raw: Raw) -> list[Part]:
    """The parts of a message of the model."""
    if isinstance(item.content, str):
        return [Text(item.content)]
    parts: list[Part] = []
    for part in item.content or ():
        if part.type == "refusal":
            parts.append(Refusal(part.refusal or ""))
        elif part.type in ("output_text", "input_text", "text"):
            parts.append(Text(part.text or "", citations=citations(part.annotations)))
        else:
            parts.append(Opaque(NAME, part.type, raw_part(raw, len(parts))))
    return parts


_read_raw_content = msgspec.json.Decoder(RawContent).decode


def raw_part(raw: Raw, index: int) -> Raw:
    """The content part `index` of the item `raw`, untouched."""
    return _read_raw_content(raw).content[index]


def call_part(item: Item, signature: str | None) -> ToolCall:
    """A function call of the model."""
    return ToolCall(item.call_id or item.id or "", item.name or "", item.arguments or "", signature=signature)
