"""Whole replies of OpenAI's Responses API.

A response is one answer: of a reply with several choices the first is written. Its request is not at hand where it is
written, so the fields that echo the request hold what a request without them would have got.
"""

import secrets

import msgspec
from msgspec import Raw, Struct

from fastgw.dialects.hub import (
    Choice,
    Failed,
    Image,
    Opaque,
    Part,
    Refusal,
    Reply,
    StopReason,
    Text,
    Thinking,
    ToolCall,
)
from fastgw.dialects.openai_responses.error import ErrorOut, problem_of, told
from fastgw.dialects.openai_responses.items import (
    CALL,
    NAME,
    NULL,
    UNREADABLE,
    CallItem,
    ImageItem,
    Item,
    MessageItem,
    OutputRefusal,
    OutputText,
    ReasoningItem,
    SummaryText,
    UsageOut,
    annotations,
    call_part,
    call_signature,
    chat_logprobs,
    encode,
    message_parts,
    own_logprobs,
    read_kind,
    read_output,
    reasoning_text,
    unwrap,
    usage_of,
    usage_out,
    wrap,
)


class Incomplete(Struct):
    """Why a response is incomplete."""

    reason: str | None = None


class ResponseIn(Struct):
    """A response as read."""

    id: str = ""
    model: str = ""
    created_at: float | None = None
    status: str | None = None
    output: list[Raw] | None = None
    usage: Raw = NULL
    error: Raw = NULL
    incomplete_details: Incomplete | None = None
    service_tier: str | None = None
    object: str | None = None


class _NoReasoning(Struct, frozen=True):
    effort: str | None = None
    summary: str | None = None


class _Plain(Struct, frozen=True, tag="text", tag_field="type"):
    pass


class _TextConfig(Struct, frozen=True):
    format: _Plain = _Plain()


class FailedWith(Struct):
    """The error of a failed response."""

    code: Raw | str | None
    message: str


class ResponseOut(Struct, tag="response", tag_field="object"):
    """A response as written."""

    id: str
    created_at: int
    status: str
    model: str
    output: list[object]
    usage: UsageOut | None = None
    error: FailedWith | None = None
    incomplete_details: Incomplete | None = None
    service_tier: str = "default"
    background: bool = False
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    metadata: dict[str, str] = {}
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    reasoning: _NoReasoning = _NoReasoning()
    safety_identifier: str | None = None
    store: bool = False
    temperature: float | None = None
    text: _TextConfig = _TextConfig()
    tool_choice: str = "auto"
    tools: list[str] = []
    top_logprobs: int = 0
    top_p: float | None = None
    truncation: str = "disabled"
    user: str | None = None


read_response = msgspec.json.Decoder(ResponseIn).decode

INCOMPLETE: dict[str, StopReason] = {
    "max_output_tokens": "length",
    "max_tokens": "length",
    "max_messages": "length",
    "content_filter": "content_filter",
}
REASONS: dict[StopReason, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}
STATUSES: dict[StopReason, str] = {"length": "incomplete", "content_filter": "incomplete", "error": "failed"}


def stop_of(response: ResponseIn, *, calls: bool) -> tuple[StopReason | None, str | None]:
    """(reason, the provider's own word) for the end of a response; None for one that has not ended."""
    status = response.status or "completed"
    if status == "completed":
        return ("tool_calls" if calls else "stop"), status
    if status == "incomplete":
        reason = response.incomplete_details.reason if response.incomplete_details else None
        return INCOMPLETE.get(reason or "", "stop"), reason or status
    if status in ("failed", "cancelled"):
        return "error", status
    return None, status


def read_reply(body: bytes) -> Reply:
    """See `Codec.read_reply`. Raises hub.Failed for a failed response."""
    response = read_response(body)
    if response.status == "failed" or (response.error != NULL and response.output is None):
        raise Failed(problem_of(told(response.error)))
    if response.output is None and response.status is None:
        raise ValueError("the reply is no response")
    parts, logprobs = output_parts(response.output or [])
    stop, native = stop_of(response, calls=any(type(part) is ToolCall for part in parts))
    return Reply(
        response.id,
        response.model,
        [Choice(parts, stop, native, logprobs=logprobs)],
        usage=usage_of(response.usage),
        created=int(response.created_at or 0),
        service_tier=response.service_tier,
    )


def output_parts(output: list[Raw]) -> tuple[list[Part], Raw | None]:
    """(parts, log probabilities) of output items."""
    parts: list[Part] = []
    logprobs: list[bytes] = []
    signature: str | None = None
    for raw in output:
        item = read_output(raw)
        if item is None:
            parts.append(Opaque(NAME, _kind(raw), raw))
        elif item.type == "message":
            parts += message_parts(item, raw)
            logprobs += _logprobs(item)
        elif item.type == "function_call":
            parts.append(call_part(item, signature))
            signature = None
        else:
            signature = call_signature(item)
            if signature is None:
                parts.append(unwrap(reasoning_text(item), item.id, item.encrypted_content))
    return parts, chat_logprobs(Raw(b"[" + b",".join(logprobs) + b"]"))


def _kind(raw: Raw) -> str:
    try:
        return read_kind(raw).type
    except UNREADABLE:
        return ""


def _logprobs(item: Item) -> list[bytes]:
    """The insides of the lists of a message's texts."""
    found = []
    for part in item.content if isinstance(item.content, list) else ():
        told = bytes(part.logprobs)
        if told[:1] == b"[" and (inside := told[1:-1].strip()):
            found.append(inside)
    return found


# --- writing


def response_id(given: str) -> str:
    """The provider's id with the prefix of this API; a new one where it gave none."""
    if given.startswith("resp_"):
        return given
    return f"resp_{given or secrets.token_hex(12)}"


def item_id(prefix: str, response: str, index: int) -> str:
    """The id of the item `index` of a response."""
    return f"{prefix}_fgw_{response.removeprefix('resp_')}_{index}"


def write_reply(reply: Reply, *, model: str) -> bytes:
    """See `Codec.write_reply`."""
    choice = reply.choices[0] if reply.choices else Choice([])
    own_id = response_id(reply.id)
    stop = choice.stop or "stop"
    items = _Output(own_id, "incomplete" if stop == "length" else "completed")
    for part in choice.parts:
        items.add(part)
    items.logprobs(choice.logprobs)
    response = ResponseOut(
        own_id,
        reply.created,
        STATUSES.get(stop, "completed"),
        reply.model or model,
        items.items,
        usage_out(reply.usage),
        service_tier=reply.service_tier or "default",
    )
    finish(response, stop, None)
    return encode(response)


def finish(response: ResponseOut, stop: StopReason, error: ErrorOut | None) -> None:
    """The status that `stop` means, with its details."""
    response.status = STATUSES.get(stop, "completed")
    if stop in REASONS:
        response.incomplete_details = Incomplete(REASONS[stop])
    elif stop == "error":
        response.error = FailedWith("server_error", "the model ended with an error")
        if error is not None:
            response.error = FailedWith(error.code or "server_error", error.message)


class _Output:
    """Gathers output items."""

    def __init__(self, response: str, last: str) -> None:
        self.items: list[object] = []
        self._response = response
        self._last = last
        self._message: MessageItem | None = None

    def _id(self, prefix: str) -> str:
        return item_id(prefix, self._response, len(self.items))

    def _content(self, content: OutputText | OutputRefusal) -> None:
        if self._message is None:
            self._message = MessageItem("assistant", [], self._id("msg"), self._last)
            self.items.append(self._message)
        self._message.content.append(content)

    def add(self, part: Part) -> None:
        """The item, or the part of a message, for `part`. What only another dialect knows is not for this client."""
        kind = type(part)
        if kind is Text:
            self._content(OutputText(part.text, annotations(part)[0], []))  # type: ignore[union-attr,arg-type]
            return
        if kind is Refusal:
            self._content(OutputRefusal(part.text))  # type: ignore[union-attr]
            return
        self._message = None
        if kind is ToolCall:
            self._call(part)  # type: ignore[arg-type]
        elif kind is Thinking:
            self._thought(part)  # type: ignore[arg-type]
        elif kind is Opaque and part.dialect == NAME:  # type: ignore[union-attr]
            self.items.append(part.raw)  # type: ignore[union-attr]
        elif kind is Image and part.data is not None:  # type: ignore[union-attr]
            self.items.append(ImageItem(self._id("ig"), part.data))  # type: ignore[union-attr]

    def _call(self, call: ToolCall) -> None:
        if call.signature is not None:
            self.items.append(ReasoningItem([], self._id("rs"), CALL + call.signature))
        self.items.append(CallItem(call.id, call.name, call.arguments or "{}", self._id("fc"), "completed"))

    def _thought(self, thinking: Thinking) -> None:
        own_id, encrypted = wrap(thinking)
        summary = [SummaryText(thinking.text)] if thinking.text else []
        item = ReasoningItem(summary, own_id or self._id("rs"))
        if encrypted is not None:
            item.encrypted_content = encrypted
        self.items.append(item)

    def logprobs(self, raw: Raw | None) -> None:
        """The log probabilities of all text, on the first text part."""
        for item in self.items if raw is not None else ():
            if type(item) is MessageItem and type(item.content[0]) is OutputText:
                item.content[0].logprobs = own_logprobs(raw)
                return
