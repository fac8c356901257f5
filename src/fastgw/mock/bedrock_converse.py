"""Converse of the mock, whole and streamed, in Bedrock's shape.

A call gets what the same chat gets in OpenAI's dialect (see `openai_chat`): the same text, tool calls and tokens. With
Claude's `thinking` in `additionalModelRequestFields` it begins with reasoning; what stands before a `cachePoint` counts
as written to the cache (half the prompt), unless the model's name has `cached` in it, then as read from it.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Raw

from fastgw.dialects.event_stream import event
from fastgw.mock.base import JSON, Answer
from fastgw.mock.faults import named_fault
from fastgw.mock.openai_chat import Chat, Choice, Counts, Function, Message, Part, Tool, draft
from fastgw.mock.options import MockOptions
from fastgw.mock.thinking import effort_of, signature_of, thoughts

EVENT_STREAM: Final = b"content-type: application/vnd.amazon.eventstream\r\n"
_FRAGMENT: Final = 12
_LEAST_BUDGET: Final = 1024
_LATENCY: Final = {"latencyMs": 321}
_CHOICES: Final = {"any": "required", "none": "none", "auto": "auto"}
_STOPS: Final = {"stop": "end_turn", "length": "max_tokens"}
_NAME: Final = re.compile(r"(?:[A-Za-z0-9()\[\]-]|\s(?!\s)){1,200}")
_ID: Final = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_PADDING: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_encode = msgspec.json.encode


class Source(msgspec.Struct, rename="camel"):
    """Where a medium is."""

    bytes: str | None = None
    s3_location: dict[str, str] | None = None


class Medium(msgspec.Struct):
    """An image, document or sound."""

    format: str
    source: Source
    name: str = ""


class Use(msgspec.Struct, rename="camel"):
    """A call."""

    tool_use_id: str
    name: str
    input: dict[str, Any]


class Result(msgspec.Struct, rename="camel"):
    """What a tool answered."""

    tool_use_id: str
    content: "list[Block]"
    status: str = "success"


class Block(msgspec.Struct, rename="camel"):
    """A content block: one of these."""

    text: str | None = None
    image: Medium | None = None
    document: Medium | None = None
    audio: Medium | None = None
    tool_use: Use | None = None
    tool_result: Result | None = None
    reasoning_content: dict[str, Any] | None = None
    cache_point: dict[str, str] | None = None


class Turn(msgspec.Struct):
    """One message."""

    role: str
    content: list[Block]


class Spec(msgspec.Struct, rename="camel"):
    """A tool."""

    name: str
    input_schema: dict[str, dict[str, Any]]
    description: str | None = None
    strict: bool | None = None


class Offered(msgspec.Struct, rename="camel"):
    """An entry of `toolConfig.tools`."""

    tool_spec: Spec | None = None
    cache_point: dict[str, str] | None = None


class ToolConfig(msgspec.Struct, rename="camel"):
    """`toolConfig`."""

    tools: list[Offered]
    tool_choice: dict[str, dict[str, str]] | None = None


class Inference(msgspec.Struct, rename="camel"):
    """`inferenceConfig`."""

    max_tokens: int | None = None
    temperature: float | None = None


class Converse(msgspec.Struct, rename="camel"):
    """A request; fields not named here are ignored."""

    messages: list[Turn] = []
    system: list[Block] = []
    inference_config: Inference = msgspec.field(default_factory=Inference)
    tool_config: ToolConfig | None = None
    additional_model_request_fields: dict[str, Any] = {}
    additional_model_response_field_paths: list[str] = []
    output_config: dict[str, Any] = {}

    def thinks(self) -> bool:
        """Whether Claude's thinking is on."""
        thinking = self.additional_model_request_fields.get("thinking", {})
        return thinking.get("type") in ("enabled", "adaptive")


# --- what Bedrock refuses


def problem(body: Converse) -> str | None:
    """What the request would be refused for, or None."""
    if not body.messages:
        return "The messages field is required and must hold at least one message."
    if body.messages[0].role != "user":
        return "A conversation must start with a user message. Try again with one that does."
    most = body.inference_config.max_tokens
    if most is not None and most < 1:
        return "Value at 'inferenceConfig.maxTokens' failed to satisfy constraint: must be greater than or equal to 1"
    heat = body.inference_config.temperature
    if heat is not None and not 0 <= heat <= 1:
        return "Value at 'inferenceConfig.temperature' failed to satisfy constraint: must be between 0 and 1"
    if (wrong := _choice_problem(body) or _thinking_problem(body, most)) is not None:
        return wrong
    return next((wrong for place in range(len(body.messages)) if (wrong := _turn_problem(body, place))), None)


def _choice_problem(body: Converse) -> str | None:
    if body.tool_config is None or body.tool_config.tool_choice is None:
        return None
    if "tool_choice" in body.additional_model_request_fields:
        return "The additional field tool_choice conflicts with an existing field."
    return None


def _thinking_problem(body: Converse, most: int | None) -> str | None:
    if not body.thinks():
        return None
    thinking = body.additional_model_request_fields["thinking"]
    if thinking["type"] == "enabled":
        budget = thinking.get("budget_tokens", 0)
        if budget < _LEAST_BUDGET:
            return f"thinking.enabled.budget_tokens: Input should be greater than or equal to {_LEAST_BUDGET}"
        if most is not None and budget >= most:
            return "`max_tokens` must be greater than `thinking.budget_tokens`."
    if _choice(body)[0] in ("any", "tool"):
        return "Thinking may not be enabled when tool_choice forces tool use."
    return None


def _turn_problem(body: Converse, place: int) -> str | None:
    """Roles, emptiness, and tool results: in the message behind their calls."""
    turn, where = body.messages[place], f"messages.{place}"
    if not turn.content:
        return f"The content field in the Message object at {where} is empty. Add a ContentBlock object and try again."
    if place and body.messages[place - 1].role == turn.role:
        return "A conversation must alternate between user and assistant roles. Make sure the roles alternate."
    if body.tool_config is None and any(block.tool_use or block.tool_result for block in turn.content):
        return "The toolConfig field must be defined when using toolUse and toolResult content blocks."
    asked = [b.tool_use.tool_use_id for b in body.messages[place - 1].content if b.tool_use] if place else []
    given = [block.tool_result.tool_use_id for block in turn.content if block.tool_result]
    if any(one not in asked for one in given):
        return f"The number of toolResult blocks at {where}.content exceeds that of toolUse blocks of the turn before."
    if missing := [one for one in asked if one not in given]:
        return f"Expected toolResult blocks at {where}.content for the following Ids: {', '.join(missing)}"
    if any(_ID.fullmatch(one) is None for one in given):
        return f"Value at '{where}.content.toolResult.toolUseId' failed to satisfy constraint"
    found = (_block_problem(block, f"{where}.content.{i}") for i, block in enumerate(turn.content))
    return next(filter(None, found), None)


def _block_problem(block: Block, where: str) -> str | None:
    if block.text is not None and not block.text.strip():
        return f"The text field in the ContentBlock object at {where} is blank. Add text to it, and try again."
    for medium in (block.image, block.document, block.audio):
        if medium is not None and medium.source.bytes is not None:
            try:
                base64.b64decode(medium.source.bytes, validate=True)
            except binascii.Error:
                return f"The bytes at {where} are not base64."
    if block.document is not None and _NAME.fullmatch(block.document.name) is None:
        return "The document file name can only contain alphanumeric characters, whitespace, hyphens and brackets."
    return None


# --- the same chat in OpenAI's words


def as_chat(body: Converse, model: str, *, stream: bool) -> Chat:
    """The chat that OpenAI's dialect would have been asked for."""
    config = body.tool_config
    specs = [one.tool_spec for one in config.tools if one.tool_spec is not None] if config is not None else []
    tools = [Tool(function=Function(spec.name, spec.input_schema.get("json"))) for spec in specs]
    chat = Chat(model, list(_messages(body)), stream, max_tokens=body.inference_config.max_tokens, tools=tools or None)
    kind, name, alone = _choice(body)
    if tools and kind:
        chat.tool_choice = Tool(function=Function(name)) if kind == "tool" else _CHOICES.get(kind)
        chat.parallel_tool_calls = not alone
    schema = body.output_config.get("textFormat", {}).get("structure", {}).get("jsonSchema")
    if schema is not None:
        chat.response_format = {"type": "json_schema", "json_schema": {"schema": msgspec.json.decode(schema["schema"])}}
    if body.thinks():
        budget = body.additional_model_request_fields["thinking"].get("budget_tokens", -1)
        chat.reasoning_effort = body.output_config.get("effort") or effort_of(budget)
    return chat


def _choice(body: Converse) -> tuple[str, str, bool]:
    """(kind, name, one call at a time) of the choice, wherever it is made; kind "" for none."""
    own = body.additional_model_request_fields.get("tool_choice")
    if own is not None:
        return own["type"], own.get("name", ""), bool(own.get("disable_parallel_tool_use"))
    choice = body.tool_config.tool_choice if body.tool_config is not None else None
    if not choice:
        return "", "", False
    kind = next(iter(choice))
    return kind, choice[kind].get("name", ""), False


def _messages(body: Converse) -> Iterator[Message]:
    if body.system:
        yield Message("system", _text(body.system))
    for turn in body.messages:
        others = []
        for block in turn.content:
            if block.tool_result is not None:
                yield Message("tool", _text(block.tool_result.content))
            elif block.cache_point is None:
                others.append(Part("text" if block.text is not None else "other", block.text or ""))
        if others:
            yield Message(turn.role, others)


def _text(blocks: list[Block]) -> str:
    return "".join(block.text or "" for block in blocks)


# --- answers


def answer_converse(body: Converse, model: str, options: MockOptions, *, stream: bool) -> Answer:
    """The whole or streamed answer to a request."""
    (choice,), counts = draft(as_chat(body, model, stream=stream), options)
    fault = named_fault(model)
    usage = None if fault is not None and fault.kind == "nousage" else _usage(body, model, counts)
    thinking = body.additional_model_request_fields.get("thinking", {})
    thought = thoughts(counts.reasoning)
    shown = thought if thinking.get("display") != "omitted" else ()
    blocks = list(_blocks(choice, thought, shown))
    ending: dict[str, Any] = {"stopReason": "tool_use" if choice.calls else _STOPS[choice.finish]}
    if "/stop_sequence" in body.additional_model_response_field_paths:
        ending["additionalModelResponseFields"] = {"stop_sequence": None}
    counted: dict[str, Any] = {"metrics": _LATENCY} if usage is None else {"usage": usage, "metrics": _LATENCY}
    if stream:
        return _stream(blocks, ending, counted)
    message = {"role": "assistant", "content": [whole for _, _, whole in blocks]}
    return Answer(200, JSON, _encode({"output": {"message": message}} | ending | counted))


def _usage(body: Converse, model: str, counts: Counts) -> dict[str, Any]:
    """Bedrock's usage: `inputTokens` are those that neither came from the cache nor went into it."""
    read, written = counts.cached, 0
    if "cached" not in model and _marked(body):
        read, written = 0, counts.prompt // 2
    output = counts.spoken + counts.reasoning
    return {
        "inputTokens": counts.prompt - read - written,
        "outputTokens": output,
        "totalTokens": counts.prompt + output,
        "cacheReadInputTokens": read,
        "cacheWriteInputTokens": written,
    }


def _marked(body: Converse) -> bool:
    blocks = [*body.system, *(block for turn in body.messages for block in turn.content)]
    tools = body.tool_config.tools if body.tool_config is not None else []
    return any(one.cache_point for one in blocks) or any(one.cache_point for one in tools)


Deltas = list[dict[str, Any]]


def _blocks(
    choice: Choice, thought: tuple[str, ...], shown: tuple[str, ...]
) -> Iterator[tuple[dict[str, Any] | None, Deltas, dict[str, Any]]]:
    """(what the block begins with, its deltas, the whole block) of each; only calls have a beginning."""
    if thought:
        signature = signature_of("".join(thought))
        deltas = [{"reasoningContent": {"text": piece}} for piece in shown]
        deltas.append({"reasoningContent": {"signature": signature}})
        whole = {"reasoningText": {"text": "".join(shown), "signature": signature}}
        yield None, deltas, {"reasoningContent": whole}
    if choice.pieces:
        yield None, [{"text": piece} for piece in choice.pieces], {"text": "".join(choice.pieces)}
    for place, (name, arguments) in enumerate(choice.calls):
        parts = ["", *(arguments[start : start + _FRAGMENT] for start in range(0, len(arguments), _FRAGMENT))]
        digest = hashlib.sha256(f"{place} {name} {arguments}".encode()).digest()
        call = {"toolUseId": f"tooluse_{base64.urlsafe_b64encode(digest)[:22].decode()}", "name": name}
        deltas = [{"toolUse": {"input": part}} for part in parts]
        yield {"toolUse": call}, deltas, {"toolUse": call | {"input": Raw(arguments.encode())}}


def _stream(
    blocks: list[tuple[dict[str, Any] | None, Deltas, dict[str, Any]]], ending: dict[str, Any], counted: dict[str, Any]
) -> Answer:
    events = [_event("messageStart", {"role": "assistant"})]
    for index, (begun, deltas, _) in enumerate(blocks):
        place = {"contentBlockIndex": index}
        if begun is not None:
            events.append(_event("contentBlockStart", place | {"start": begun}))
        events += [_event("contentBlockDelta", place | {"delta": delta}) for delta in deltas]
        events.append(_event("contentBlockStop", place))
    events += [_event("messageStop", ending), _event("metadata", counted)]
    return Answer(200, EVENT_STREAM, events=tuple(events), again=2 if blocks else 0)


def _event(name: str, payload: dict[str, Any]) -> bytes:
    """With padding in `p`, as AWS sends it, so that the length of a frame does not give away that of the text."""
    said = _encode(payload)
    return event(name, _encode(payload | {"p": _PADDING[: 1 + hashlib.sha256(said).digest()[0] % len(_PADDING)]}))
