"""Responses of the mock, whole and streamed, in OpenAI's shape.

A call gets what the same chat gets at `/v1/chat/completions`: the same text, tool calls and tokens. Reasoning is an
item without text, unless a summary is asked for. Nothing is stored, so there are no previous responses.
"""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final

import msgspec

from fastgw.mock.base import CREATED_MARK, EVENT_STREAM, ID_MARK, Answer
from fastgw.mock.faults import named_fault
from fastgw.mock.openai_chat import Chat, Choice, Counts, Function, Message, Problem, Tool, draft
from fastgw.mock.options import MockOptions
from fastgw.mock.thinking import signature_of, thoughts

_FRAGMENT: Final = 12
_CALLS: Final = frozenset({"function_call", "custom_tool_call"})
_SEALED: Final = "reasoning.encrypted_content"
_encode = msgspec.json.encode


class Part(msgspec.Struct):
    """One content part; kinds without text count nothing."""

    type: str = ""
    text: str = ""


class Item(msgspec.Struct):
    """An input item of any kind, read flat."""

    type: str | None = None
    role: str = ""
    content: str | list[Part] | None = None
    call_id: str = ""
    output: str | list[Part] | None = None


class Offered(msgspec.Struct):
    """A tool; those of the server's own are ignored."""

    type: str
    name: str = ""
    parameters: dict[str, Any] | None = None


class Allowed(msgspec.Struct):
    """`tool_choice` where it is an object: one tool, or the tools that are allowed."""

    type: str
    name: str = ""
    mode: str = "auto"
    tools: list[Offered] | None = None


class Format(msgspec.Struct):
    """`text.format`."""

    type: str = "text"
    schema: dict[str, Any] | None = None


class Text(msgspec.Struct):
    """`text`."""

    format: Format | None = None


class Reasoning(msgspec.Struct):
    """`reasoning`."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class Responses(msgspec.Struct):
    """A responses request, read flat and forgiving; what a response repeats is kept as it was written."""

    model: str = ""
    input: str | list[Item] | None = None
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    tools: msgspec.Raw = msgspec.Raw(b"[]")
    tool_choice: msgspec.Raw = msgspec.Raw(b'"auto"')
    text: msgspec.Raw = msgspec.Raw(b'{"format":{"type":"text"},"verbosity":"medium"}')
    metadata: msgspec.Raw = msgspec.Raw(b"{}")
    temperature: msgspec.Raw = msgspec.Raw(b"1.0")
    top_p: msgspec.Raw = msgspec.Raw(b"1.0")
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    include: list[str] | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    service_tier: str | None = None
    truncation: str | None = None
    user: str | None = None

    def problem(self) -> Problem | None:
        """What OpenAI would refuse the request for, or None."""
        if not self.input and not self.instructions:
            return "Missing required parameter: 'input'.", "input", "missing_required_parameter"
        if self.max_output_tokens is not None and self.max_output_tokens < 1:
            return ("Invalid 'max_output_tokens': must be at least 1.", "max_output_tokens",
                    "integer_below_min_value")  # fmt: skip
        if self.previous_response_id is not None:
            message = f"Previous response with id '{self.previous_response_id}' not found."
            return message, "previous_response_id", "previous_response_not_found"
        try:
            self.offered(), self.choice(), self.format()
        except msgspec.ValidationError as error:
            return f"Invalid type: {error}", None, "invalid_type"
        return self._orphan()

    def _orphan(self) -> Problem | None:
        """Every result needs its call before it, and every call its result."""
        calls, results = set(), set()
        for item in self.items():
            if item.type in _CALLS:
                calls.add(item.call_id)
            elif item.type is not None and item.type.endswith("call_output"):
                if item.type.startswith(("function", "custom")) and item.call_id not in calls:
                    return f"No tool call found for function call output with call_id {item.call_id}.", "input", None
                results.add(item.call_id)
        if left := calls - results:
            return f"No tool output found for function call {min(left)}.", "input", None
        return None

    def items(self) -> list[Item]:
        """The input as items."""
        return self.input if isinstance(self.input, list) else [Item(role="user", content=self.input)]

    def offered(self) -> list[Offered]:
        """The caller's own tools."""
        return [tool for tool in _decode_tools(self.tools) or () if tool.type == "function"]

    def choice(self) -> str | Allowed | None:
        """Which tools may or must be called."""
        return _decode_choice(self.tool_choice)

    def format(self) -> Format:
        """The shape that the text must have."""
        return (_decode_text(self.text) or Text()).format or Format()


# With the hook a number that no float holds is no error; without it it would be.
_decode_tools: Callable[[msgspec.Raw], list[Offered] | None] = msgspec.json.Decoder(
    list[Offered] | None, float_hook=float
).decode
_decode_choice: Callable[[msgspec.Raw], str | Allowed | None] = msgspec.json.Decoder(str | Allowed | None).decode
_decode_text: Callable[[msgspec.Raw], Text | None] = msgspec.json.Decoder(Text | None, float_hook=float).decode


# --- the same chat in the words of chat completions


def as_chat(body: Responses) -> Chat:
    """The chat that `/v1/chat/completions` would have been asked for."""
    chat = Chat(body.model, list(_messages(body)), body.stream, max_tokens=body.max_output_tokens)
    tools, choice, shape = body.offered(), body.choice(), body.format()
    if isinstance(choice, Allowed):
        if choice.type == "allowed_tools":
            names = {tool.name for tool in choice.tools or ()}
            tools = [tool for tool in tools if tool.name in names]
            chat.tool_choice = choice.mode
        else:
            chat.tool_choice = Tool(function=Function(choice.name))
    else:
        chat.tool_choice = choice
    chat.tools = [Tool(function=Function(tool.name, tool.parameters)) for tool in tools]
    chat.parallel_tool_calls = body.parallel_tool_calls
    chat.response_format = {"type": shape.type, "json_schema": {"schema": shape.schema}}
    chat.reasoning_effort = body.reasoning.effort if body.reasoning is not None else None
    return chat


def _messages(body: Responses) -> Iterator[Message]:
    if body.instructions:
        yield Message("system", body.instructions)
    calling = False  # calls behind a message of the assistant, or behind each other, are one message in a chat
    for item in body.items():
        if item.type in (None, "message"):
            calling = item.role == "assistant"
            yield Message(item.role, _text(item.content))
        elif item.type in _CALLS:
            if not calling:
                yield Message("assistant", "")
            calling = True
        elif item.type is not None and item.type.endswith("call_output"):
            calling = False
            yield Message("tool", _text(item.output))


def _text(content: str | list[Part] | None) -> str:
    return "".join(part.text for part in content) if isinstance(content, list) else content or ""


# --- answers


def answer_input_tokens(body: Responses, options: MockOptions, azure: bool) -> Answer:
    """How many tokens the request's prompt has."""
    _, counts = draft(as_chat(body), options)
    counted = {"object": "response.input_tokens", "input_tokens": counts.prompt}
    return Answer(200, b"", _encode(counted), model=body.model)


def answer_responses(body: Responses, options: MockOptions, azure: bool) -> Answer:
    """The whole or streamed answer to a responses request."""
    (choice,), counts = draft(as_chat(body), options)
    fault = named_fault(body.model)
    usage = None if fault is not None and fault.kind == "nousage" else _usage(counts)
    if body.stream:
        return _stream(body, choice, counts, usage, _error_place(body, options))
    items = [whole for whole, _ in _items(body, choice, counts)]
    return Answer(200, b"", _encode(_envelope(body, _ending(choice), items, usage)), model=body.model)


def _usage(counts: Counts) -> dict[str, Any]:
    spoken = counts.spoken + counts.reasoning
    return {
        "input_tokens": counts.prompt,
        "input_tokens_details": {"cached_tokens": counts.cached, "cache_write_tokens": 0},
        "output_tokens": spoken,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.prompt + spoken,
    }


def _ending(choice: Choice) -> str:
    return "incomplete" if choice.finish == "length" else "completed"


def _envelope(body: Responses, status: str, output: list[Any], usage: Any) -> dict[str, Any]:
    reasoning = body.reasoning or Reasoning()
    return {
        "id": f"resp_{ID_MARK}",
        "object": "response",
        "created_at": CREATED_MARK,
        "status": status,
        "background": False,
        "completed_at": CREATED_MARK if status == "completed" else None,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": None,
        "model": body.model,
        "output": output,
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": reasoning.effort, "summary": reasoning.summary or reasoning.generate_summary},
        "service_tier": "default" if body.service_tier in (None, "auto") else body.service_tier,
        "store": body.store is not False,
        "temperature": body.temperature,
        "text": body.text,
        "tool_choice": body.tool_choice,
        "tools": body.tools,
        "top_logprobs": 0,
        "top_p": body.top_p,
        "truncation": body.truncation or "disabled",
        "usage": usage,
        "user": body.user,
        "metadata": body.metadata,
    }


Event = dict[str, Any]  # without its number and place in the output


def _items(body: Responses, choice: Choice, counts: Counts) -> Iterator[tuple[dict[str, Any], list[Event]]]:
    """(the whole item, the events between its beginning and its end) of each."""
    if counts.reasoning:
        yield _reasoning_item(body, counts.reasoning)
    for place, (name, arguments) in enumerate(choice.calls):
        yield _call_item(place, name, arguments)
    if not choice.calls:
        yield _message_item(choice)


def _reasoning_item(body: Responses, tokens: int) -> tuple[dict[str, Any], list[Event]]:
    asked = body.reasoning is not None and (body.reasoning.summary or body.reasoning.generate_summary)
    pieces = thoughts(tokens) if asked else ()
    text = "".join(pieces)
    item: dict[str, Any] = {"id": f"rs_{ID_MARK}", "type": "reasoning", "summary": []}
    if _SEALED in (body.include or ()):
        item["encrypted_content"] = signature_of("".join(thoughts(tokens)))
    if not pieces:
        return item, []
    part = {"type": "summary_text", "text": text}
    item["summary"] = [part]
    name, at = "response.reasoning_summary", {"item_id": item["id"], "summary_index": 0}
    return item, [
        {"type": f"{name}_part.added", **at, "part": part | {"text": ""}},
        *({"type": f"{name}_text.delta", **at, "delta": piece} for piece in pieces),
        {"type": f"{name}_text.done", **at, "text": text},
        {"type": f"{name}_part.done", **at, "part": part},
    ]


def _call_item(place: int, name: str, arguments: str) -> tuple[dict[str, Any], list[Event]]:
    ident = f"fc_{ID_MARK}{place:02x}"
    item = {"id": ident, "type": "function_call", "status": "completed", "arguments": arguments}
    item |= {"call_id": f"call_{ID_MARK}{place:02x}", "name": name}
    kind = "response.function_call_arguments"
    parts = [arguments[start : start + _FRAGMENT] for start in range(0, len(arguments), _FRAGMENT)]
    deltas: list[Event] = [{"type": f"{kind}.delta", "item_id": ident, "delta": part} for part in parts]
    return item, [*deltas, {"type": f"{kind}.done", "item_id": ident, "name": name, "arguments": arguments}]


def _message_item(choice: Choice) -> tuple[dict[str, Any], list[Event]]:
    text = "".join(choice.pieces)
    part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    item: dict[str, Any] = {"id": f"msg_{ID_MARK}", "type": "message", "status": _ending(choice), "content": [part]}
    name, at = "response.output_text", {"item_id": item["id"], "content_index": 0}
    return item | {"role": "assistant"}, [
        {"type": "response.content_part.added", **at, "part": part | {"text": ""}},
        *({"type": f"{name}.delta", **at, "delta": piece, "logprobs": []} for piece in choice.pieces),
        {"type": f"{name}.done", **at, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": part},
    ]


def _begun(item: dict[str, Any]) -> dict[str, Any]:
    """The item as its stream begins."""
    empty: dict[str, Any] = {"message": {"content": []}, "reasoning": {"summary": []}}.get(
        item["type"], {"arguments": ""}
    )
    return item | empty | ({"status": "in_progress"} if "status" in item else {})


def _stream(body: Responses, choice: Choice, counts: Counts, usage: Any, error_place: int) -> Answer:
    numbers = count()

    def event(data: Event) -> bytes:
        kind = data["type"]
        numbered = {"type": kind, "sequence_number": next(numbers)} | data
        return f"event: {kind}\n".encode() + b"data: " + _encode(numbered) + b"\n\n"

    running = _envelope(body, "in_progress", [], None)
    events = [event({"type": f"response.{kind}", "response": running}) for kind in ("created", "in_progress")]
    again, items = 0, []
    for index, (item, between) in enumerate(_items(body, choice, counts)):
        begun = {"type": "response.output_item.added", "output_index": index, "item": _begun(item)}
        done = {"type": "response.output_item.done", "output_index": index, "item": item}
        for data in (begun, *(one | {"output_index": index} for one in between), done):
            again = again or len(events) * data["type"].endswith(".delta")
            events.append(event(data))
        items.append(item)
    status = _ending(choice)
    events.append(event({"type": f"response.{status}", "response": _envelope(body, status, items, usage)}))
    numbers = count(min(error_place, len(events)))
    failure = {"type": "error", "code": "server_error", "message": _FAILED, "param": None}
    return Answer(
        200, EVENT_STREAM, events=tuple(events), model=body.model, again=again, error_event=event(failure)
    )  # fmt: skip


_FAILED: Final = "The server had an error while processing your request. Sorry about that!"


def _error_place(body: Responses, options: MockOptions) -> int:
    """How many events come before an error in the stream: its number must go on from theirs."""
    faults = (named_fault(body.model), *(chance.fault for chance in options.faults))
    return next((fault.number for fault in faults if fault is not None and fault.kind == "stream-error"), 0)
