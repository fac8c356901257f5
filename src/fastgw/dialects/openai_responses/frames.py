"""The frames of a Responses stream, as written. Each is one SSE event named as its `type`."""

import msgspec
from msgspec import Raw, Struct

from fastgw.dialects.openai_responses.error import ErrorOut
from fastgw.dialects.openai_responses.items import OutputRefusal, OutputText, SummaryText
from fastgw.dialects.openai_responses.reply import ResponseOut

_encode = msgspec.json.encode


class Frame(Struct, tag_field="type"):
    """Any frame; `sequence_number` counts the frames of a stream from 0."""

    sequence_number: int


class Created(Frame, tag="response.created"):
    """The first frame."""

    response: ResponseOut


class InProgress(Frame, tag="response.in_progress"):
    """The second frame."""

    response: ResponseOut


class Completed(Frame, tag="response.completed"):
    """The end of a whole response."""

    response: ResponseOut


class IncompleteEnd(Frame, tag="response.incomplete"):
    """The end of a response that was cut short by a limit or filter."""

    response: ResponseOut


class FailedEnd(Frame, tag="response.failed"):
    """The end of a response that failed."""

    response: ResponseOut


class ItemAdded(Frame, tag="response.output_item.added"):
    """An item begins."""

    output_index: int
    item: object


class ItemDone(Frame, tag="response.output_item.done"):
    """An item is whole."""

    output_index: int
    item: object


class PartAdded(Frame, tag="response.content_part.added"):
    """A part of a message begins."""

    item_id: str
    output_index: int
    content_index: int
    part: OutputText | OutputRefusal


class PartDone(Frame, tag="response.content_part.done"):
    """A part of a message is whole."""

    item_id: str
    output_index: int
    content_index: int
    part: OutputText | OutputRefusal


class TextPiece(Frame, tag="response.output_text.delta"):
    """More text."""

    item_id: str
    output_index: int
    content_index: int
    delta: str
    logprobs: Raw | list[object]


class TextDone(Frame, tag="response.output_text.done"):
    """All text of a part."""

    item_id: str
    output_index: int
    content_index: int
    text: str
    logprobs: Raw | list[object]


class AnnotationAdded(Frame, tag="response.output_text.annotation.added"):
    """An annotation of the text so far."""

    item_id: str
    output_index: int
    content_index: int
    annotation_index: int
    annotation: object


class RefusalPiece(Frame, tag="response.refusal.delta"):
    """More of a refusal."""

    item_id: str
    output_index: int
    content_index: int
    delta: str


class RefusalDone(Frame, tag="response.refusal.done"):
    """A whole refusal."""

    item_id: str
    output_index: int
    content_index: int
    refusal: str


class SummaryAdded(Frame, tag="response.reasoning_summary_part.added"):
    """A part of a reasoning item begins."""

    item_id: str
    output_index: int
    summary_index: int
    part: SummaryText


class SummaryDone(Frame, tag="response.reasoning_summary_part.done"):
    """A part of a reasoning item is whole."""

    item_id: str
    output_index: int
    summary_index: int
    part: SummaryText


class SummaryPiece(Frame, tag="response.reasoning_summary_text.delta"):
    """More reasoning."""

    item_id: str
    output_index: int
    summary_index: int
    delta: str


class SummaryTextDone(Frame, tag="response.reasoning_summary_text.done"):
    """All reasoning of a part."""

    item_id: str
    output_index: int
    summary_index: int
    text: str


class ArgumentsPiece(Frame, tag="response.function_call_arguments.delta"):
    """More arguments."""

    item_id: str
    output_index: int
    delta: str


class ArgumentsDone(Frame, tag="response.function_call_arguments.done"):
    """All arguments of a call."""

    item_id: str
    output_index: int
    arguments: str


class ErrorEvent(Frame, tag="error"):
    """An error. Documented with `code`, `message` and `param` beside the type; OpenAI sends them inside `error`, which
    is also what makes the official SDKs raise, so both are written.
    """

    code: Raw | str | None
    message: str
    param: str | None
    error: ErrorOut


TEXT_PIECE = (
    b"event: response.output_text.delta\n"
    b'data: {"type":"response.output_text.delta","sequence_number":%d%b%b,"logprobs":[]}\n\n'
)
"""A `TextPiece` without log probabilities as an SSE event: its number, its `place`, its text as JSON."""


def place(item_id: str, output_index: int, content_index: int) -> bytes:
    """The fields of a `TextPiece` between its number and its text."""
    at = (_encode(item_id), output_index, content_index)
    return b',"item_id":%b,"output_index":%d,"content_index":%d,"delta":' % at


def sse(frame: Frame) -> bytes:
    """The frame as an SSE event."""
    return b"%bdata: %b\n\n" % (_HEADS[type(frame)], _encode(frame))


_HEADS: dict[type[Frame], bytes] = {
    kind: f"event: {kind.__struct_config__.tag}\n".encode() for kind in Frame.__subclasses__()
}
