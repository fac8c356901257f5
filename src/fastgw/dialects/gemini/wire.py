"""Gemini's messages as structs, and what its requests, replies and streams have in common.

Sources: https://ai.google.dev/api/generate-content, https://ai.google.dev/api/caching#Content and the types of
google-genai 3.4. One set of structs serves reading and writing: unknown fields are skipped, and what is None is not
written. No field has a constant for a default, so none that must be said is ever left out.

Signatures carry their maker. A thoughtSignature is a secret between Gemini and its own history: another provider's
signature makes Gemini answer 400, and Gemini's makes the others do so. In the hub, Gemini's therefore stand behind
`gemini:`, and another provider's, shown to a Gemini client, is wrapped in base64 (the SDK decodes the field) behind a
mark of its own. Both come out again as they were.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from hashlib import blake2b

import msgspec
from msgspec import Raw, Struct

from fastgw.dialects.hub import Invalid

NAME = "gemini"
OURS = "gemini:"
FOREIGN = b"fastgw/signature:"
REDACTED = b"fastgw/redacted:"
SKIP_VALIDATOR = "skip_thought_signature_validator"
"""Stands for a signature that was lost: https://ai.google.dev/gemini-api/docs/thought-signatures."""
MADE_UP = "call_gm"
"""How ids begin that the gateway gave to calls which came without one."""
BROKEN_ARGUMENTS = "_invalid_json"
"""The one key of `args` under which a Gemini client finds arguments that are no JSON object, as text."""
MAX_ARGUMENTS = 8 * 1024 * 1024

UNREADABLE = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError)
EMPTY = Raw(b"{}")
LINE_END = re.compile(rb"[\r\n]")
NOTHING = Raw(b"")
"""Raw that is missing. (msgspec takes `Raw | None` for null alone.)"""


class Blob(Struct, rename="camel", omit_defaults=True):
    """Bytes in base64."""

    mime_type: str | None = None
    data: str | None = None
    display_name: str | None = None


class FileData(Struct, rename="camel", omit_defaults=True):
    """A file by its URI."""

    mime_type: str | None = None
    file_uri: str | None = None
    display_name: str | None = None


class PartialArg(Struct, rename="camel", omit_defaults=True):
    """A piece of the arguments, as Vertex streams them: a value, or more of a string, at a JSON path."""

    json_path: str = ""
    string_value: str | None = None
    number_value: Raw = NOTHING
    bool_value: bool | None = None
    null_value: Raw = NOTHING
    will_continue: bool | None = None


class FunctionCall(Struct, rename="camel", omit_defaults=True):
    """A call; `id` is often missing."""

    id: str | None = None
    name: str | None = None
    args: Raw = NOTHING
    partial_args: list[PartialArg] | None = None
    will_continue: bool | None = None


class ResponsePart(Struct, rename="camel", omit_defaults=True):
    """Media inside a functionResponse."""

    inline_data: Blob | None = None
    file_data: FileData | None = None


class FunctionResponse(Struct, rename="camel", omit_defaults=True):
    """What a function answered."""

    id: str | None = None
    name: str | None = None
    response: Raw = NOTHING
    parts: list[ResponsePart] | None = None
    will_continue: Raw = NOTHING
    scheduling: Raw = NOTHING


class Part(Struct, rename="camel", omit_defaults=True):
    """A part. What the hub has no noun for is kept raw."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None
    executable_code: Raw = NOTHING
    code_execution_result: Raw = NOTHING
    tool_call: Raw = NOTHING
    tool_response: Raw = NOTHING
    video_metadata: Raw = NOTHING
    media_resolution: Raw = NOTHING
    media_processing: Raw = NOTHING
    part_metadata: Raw = NOTHING


class Content(Struct, omit_defaults=True):
    """A message of a reply, or one that is written."""

    parts: list[Part] | None = None
    role: str | None = None


class Usage(Struct, rename="camel", omit_defaults=True):
    """`promptTokenCount` includes what was cached; `candidatesTokenCount` excludes the thoughts."""

    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    thoughts_token_count: int | None = None
    total_token_count: int | None = None


class LogprobsCandidate(Struct, rename="camel", omit_defaults=True):
    """A token and its log probability, the number as it was written."""

    token: str | None = None
    token_id: Raw = NOTHING
    log_probability: Raw = NOTHING


class TopCandidates(Struct):
    """The likeliest tokens of one step."""

    candidates: list[LogprobsCandidate] | None = None


class LogprobsResult(Struct, rename="camel", omit_defaults=True):
    """Log probabilities of the chosen tokens, and of the likeliest at each step."""

    chosen_candidates: list[LogprobsCandidate] | None = None
    top_candidates: list[TopCandidates] | None = None


class Web(Struct, omit_defaults=True):
    """A page found."""

    uri: str | None = None
    title: str | None = None


class GroundingChunk(Struct, rename="camel", omit_defaults=True):
    """A source."""

    web: Web | None = None
    retrieved_context: Web | None = None
    maps: Web | None = None


class Segment(Struct, rename="camel", omit_defaults=True):
    """A stretch of the answer; indices count bytes of UTF-8."""

    start_index: int | None = None
    end_index: int | None = None
    text: str | None = None


class GroundingSupport(Struct, rename="camel", omit_defaults=True):
    """Which sources a stretch of the answer rests on."""

    segment: Segment | None = None
    grounding_chunk_indices: list[int] | None = None


class Grounding(Struct, rename="camel", omit_defaults=True):
    """Sources and what rests on them."""

    grounding_chunks: list[GroundingChunk] | None = None
    grounding_supports: list[GroundingSupport] | None = None


class CitationSource(Struct, rename="camel", omit_defaults=True):
    """A source that was recited."""

    start_index: int | None = None
    end_index: int | None = None
    uri: str | None = None
    title: str | None = None


class Citations(Struct, rename="camel", omit_defaults=True):
    """The Gemini API says `citationSources`, Vertex `citations`."""

    citation_sources: list[CitationSource] | None = None
    citations: list[CitationSource] | None = None


class Candidate(Struct, rename="camel", omit_defaults=True):
    """One answer, or in a stream a piece of it."""

    content: Content | None = None
    finish_reason: str | None = None
    index: int | None = None
    citation_metadata: Citations | None = None
    grounding_metadata: Grounding | None = None
    logprobs_result: LogprobsResult | None = None


class PromptFeedback(Struct, rename="camel", omit_defaults=True):
    """Why a prompt was not answered."""

    block_reason: str | None = None
    block_reason_message: str | None = None


class Response(Struct, rename="camel", omit_defaults=True):
    """A reply, and each frame of a stream."""

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: Usage | None = None
    model_version: str | None = None
    response_id: str | None = None
    create_time: str | None = None
    error: Raw = NOTHING


class PlainPart(Struct, rename="camel", gc=False):
    """More text, and nothing that says more of it."""

    text: str
    thought: bool | None = None
    thought_signature: None = None


class PlainContent(Struct):
    """One part of that kind."""

    parts: tuple[PlainPart]


class PlainCandidate(Struct, rename="camel"):
    """An answer that goes on."""

    content: PlainContent
    index: int = 0
    finish_reason: None = None
    citation_metadata: None = None
    grounding_metadata: None = None
    logprobs_result: None = None


class PlainFrame(Struct, rename="camel"):
    """What a stream is made of but for a few frames: one answer with more text, and usage."""

    candidates: tuple[PlainCandidate]
    usage_metadata: Usage | None = None
    prompt_feedback: None = None
    error: None = None


encode = msgspec.json.encode
read_object = msgspec.json.Decoder(dict[str, Raw]).decode
read_list = msgspec.json.Decoder(list[Raw]).decode
read_str = msgspec.json.Decoder(str).decode
read_plain = msgspec.json.Decoder(PlainFrame).decode
# Numbers may be strings in the JSON form of protocol buffers, and whole numbers may say `40.0`.
read_response = msgspec.json.Decoder(Response, strict=False).decode


def invalid(path: str, error: Exception) -> Invalid:
    """A decoding error as an Invalid: the field below `path` that is wrong, and why."""
    if isinstance(error, RecursionError):
        return Invalid(path, "is nested too deeply")
    reason, found, inner = str(error).partition(" - at `$")
    inner = inner.rstrip("`") if found else ""
    return Invalid((path + inner).lstrip(".") or "body", reason)


def one_line(raw: Raw | bytes) -> bytes:
    """JSON without line ends, which would break an event apart; everything else stays as it was written."""
    data = bytes(raw)
    return msgspec.json.format(data, indent=-1) if LINE_END.search(data) else data


def as_object(text: str) -> Raw | None:
    """`text` as raw JSON if it is an object, `{}` for none at all, else None."""
    if not text or text.isspace():
        return EMPTY
    data = text.encode()
    try:
        read_object(data)
    except UNREADABLE:
        return None
    return Raw(one_line(data.strip()))


def arguments_text(call: FunctionCall) -> str:
    """The arguments of a call as the text that the hub keeps."""
    return one_line(call.args).decode() if call.args and bytes(call.args) != b"null" else ""


def made_up_id(seed: str, choice: int, number: int, name: str) -> str:
    """The id of a call that came without: always the same for the same call, and no two alike in one history."""
    digest = blake2b(f"{seed}\0{choice}\0{number}\0{name}".encode(), digest_size=12)
    return MADE_UP + digest.hexdigest()


def plain_base64(data: str) -> str:
    """Base64 in the standard alphabet and padded; URL-safe is what google-genai sends."""
    if "-" in data or "_" in data:
        data = data.replace("-", "+").replace("_", "/")
    return data + "=" * (-len(data) % 4) if len(data) % 4 else data


def signature_in(signature: str) -> tuple[str | None, str | None]:
    """A thoughtSignature as (signature, redacted) of the hub."""
    if signature == SKIP_VALIDATOR:
        return OURS + signature, None
    plain = plain_base64(signature)
    # Told by how base64 of the marks begins, so that Gemini's own, which are long, are not decoded.
    if plain.startswith("ZmFzdGd3"):
        try:
            inner = b64decode(plain, validate=True)
            if inner.startswith(FOREIGN):
                return inner[len(FOREIGN) :].decode(), None
            if inner.startswith(REDACTED):
                return None, inner[len(REDACTED) :].decode()
        except (Base64Error, UnicodeDecodeError):
            pass
    return OURS + plain, None


def own_signature(signature: str | None) -> str | None:
    """The thoughtSignature behind a signature of the hub, None when another provider made it."""
    return signature[len(OURS) :] if signature is not None and signature.startswith(OURS) else None


def signature_out(signature: str | None) -> str | None:
    """A signature of the hub as a Gemini client is to see it."""
    if signature is None:
        return None
    own = own_signature(signature)
    return own if own is not None else b64encode(FOREIGN + signature.encode()).decode()


def redacted_out(redacted: str) -> str:
    """Redacted thinking of another provider as a Gemini client is to see it."""
    return b64encode(REDACTED + redacted.encode()).decode()
