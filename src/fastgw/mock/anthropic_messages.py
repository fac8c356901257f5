"""Messages of the mock, whole and streamed, in Anthropic's shape.

A call gets what the same chat gets in OpenAI's dialect (see `openai_chat`): the same text, tool calls and tokens. With
`thinking` it begins with a thinking block; what `cache_control` marks counts as written to the cache (half the prompt),
unless the model's name has `cached` in it, then as read from it.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Raw

from fastgw.mock.base import EVENT_STREAM, ID_MARK, JSON, Answer
from fastgw.mock.faults import named_fault
from fastgw.mock.openai_chat import Chat, Choice, Counts, Function, Message, Part, Tool, draft
from fastgw.mock.options import MockOptions
from fastgw.mock.thinking import effort_of, signature_of, thoughts

_FRAGMENT: Final = 12
_LEAST_BUDGET: Final = 1024
_CHOICES: Final = {"any": "required", "none": "none", "auto": "auto"}
_STOPS: Final = {"stop": "end_turn", "length": "max_tokens"}
_PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'
_FULL: Final = "usage-in-finish"
_encode = msgspec.json.encode


class Block(msgspec.Struct):
    """A content block of any kind, read flat; kinds without text count nothing."""

    type: str = "text"
    text: str = ""
    id: str = ""
    tool_use_id: str = ""
    content: "str | list[Block] | dict[str, Any] | None" = None
    cache_control: dict[str, Any] | None = None


class Turn(msgspec.Struct):
    """One message."""

    role: str
    content: str | list[Block]

    def blocks(self) -> list[Block]:
        """The content as blocks."""
        return [Block(text=self.content)] if isinstance(self.content, str) else self.content


class Offered(msgspec.Struct):
    """A tool; those of the server's own have a type and no schema."""

    name: str
    type: str | None = None
    input_schema: dict[str, Any] | None = None
    cache_control: dict[str, Any] | None = None


class Choosing(msgspec.Struct):
    """`tool_choice`."""

    type: str
    name: str = ""
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct):
    """`thinking`."""

    type: str
    budget_tokens: int | None = None
    display: str | None = None


class OutputConfig(msgspec.Struct):
    """`output_config`."""

    effort: str | None = None
    format: dict[str, Any] | None = None


class Messages(msgspec.Struct):
    """A messages request; fields not named here are ignored."""

    model: str = ""
    messages: list[Turn] | None = None
    max_tokens: int | None = None
    system: str | list[Block] | None = None
    stream: bool | None = None
    tools: list[Offered] | None = None
    tool_choice: Choosing | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: dict[str, Any] | None = None

    def thinks(self) -> bool:
        """Whether thinking is on."""
        return self.thinking is not None and self.thinking.type in ("enabled", "adaptive")


def problem(body: Messages, counting: bool) -> str | None:
    """What Anthropic would refuse the request for, or None; counting needs no `max_tokens`."""
    if not body.model:
        return "model: Field required"
    if body.messages is None:
        return "messages: Field required"
    if not body.messages:
        return "messages: at least one message is required"
    if not counting:
        if body.max_tokens is None:
            return "max_tokens: Field required"
        if body.max_tokens < 1:
            return "max_tokens: Input should be greater than or equal to 1"
        if (wrong := _thinking_problem(body, body.max_tokens)) is not None:
            return wrong
    return next((wrong for place in range(len(body.messages)) if (wrong := _turn_problem(body.messages, place))), None)


def _thinking_problem(body: Messages, most: int) -> str | None:
    thinking = body.thinking
    if thinking is None or not body.thinks():
        return None
    if thinking.type == "enabled":
        if thinking.budget_tokens is None:
            return "thinking.enabled.budget_tokens: Field required"
        if thinking.budget_tokens < _LEAST_BUDGET:
            return f"thinking.enabled.budget_tokens: Input should be greater than or equal to {_LEAST_BUDGET}"
        if thinking.budget_tokens >= most:
            return "`max_tokens` must be greater than `thinking.budget_tokens`."
    if body.tool_choice is not None and body.tool_choice.type in ("any", "tool"):
        return "Thinking may not be enabled when tool_choice forces tool use."
    return None


def _turn_problem(turns: list[Turn], place: int) -> str | None:
    """Roles, emptiness, and tool results: in the message behind their calls, before its other content."""
    turn, where = turns[place], f"messages.{place}"
    if turn.role not in ("user", "assistant", "system"):
        return f"{where}.role: Input should be 'user' or 'assistant'"
    blocks = turn.blocks()
    if not turn.content and not (turn.role == "assistant" and place == len(turns) - 1):
        return f"{where}: all messages must have non-empty content except for the optional final assistant message"
    if isinstance(turn.content, list) and any(block.type == "text" and not block.text for block in blocks):
        return f"{where}: text content blocks must be non-empty"
    asked = _call_ids(turns[place - 1]) if place else []
    given = [block.tool_use_id for block in blocks if block.type == "tool_result"]
    if (orphan := next((one for one in given if one not in asked), None)) is not None:
        return f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: {orphan}"
    if open_ := [one for one in asked if one not in given]:
        return (f"{where}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(open_)}")  # fmt: skip
    if any(block.type == "tool_result" for block in blocks[len(given) :]):
        return f"{where}: `tool_result` blocks must come before other content"
    return None


def _call_ids(turn: Turn) -> list[str]:
    return [block.id for block in turn.blocks() if block.type == "tool_use"] if turn.role == "assistant" else []


# --- the same chat in OpenAI's words


def as_chat(body: Messages) -> Chat:
    """The chat that OpenAI's dialect would have been asked for."""
    tools = [
        Tool(function=Function(tool.name, tool.input_schema))
        for tool in body.tools or ()
        if tool.type in (None, "custom")
    ]
    chat = Chat(body.model, list(_messages(body)), body.stream, max_tokens=body.max_tokens, tools=tools or None)
    choice, config = body.tool_choice, body.output_config
    if choice is not None:
        chat.tool_choice = Tool(function=Function(choice.name)) if choice.type == "tool" else _CHOICES.get(choice.type)
        chat.parallel_tool_calls = not choice.disable_parallel_tool_use
    if config is not None and config.format is not None:
        chat.response_format = {"type": config.format.get("type"), "json_schema": config.format}
    if body.thinking is not None and body.thinks():
        budget, effort = body.thinking.budget_tokens, config.effort if config is not None else None
        chat.reasoning_effort = effort or effort_of(-1 if budget is None else budget)
    return chat


def _messages(body: Messages) -> Iterator[Message]:
    if body.system:
        yield Message("system", _text(body.system))
    for turn in body.messages or ():
        others = []
        for block in turn.blocks():
            if block.type == "tool_result":
                yield Message("tool", _text(block.content))
            else:
                others.append(Part(block.type, block.text if block.type == "text" else ""))
        if others:
            yield Message(turn.role, others)


def _text(content: str | list[Block] | dict[str, Any] | None) -> str:
    if isinstance(content, list):
        return "".join(block.text for block in content if block.type == "text")
    return content if isinstance(content, str) else ""


# --- answers


def answer_count(body: Messages, options: MockOptions) -> Answer:
    """How many tokens the request's prompt has."""
    _, counts = draft(as_chat(body), options)
    return Answer(200, JSON, _encode({"input_tokens": counts.prompt}), model=body.model)


def answer_messages(body: Messages, options: MockOptions) -> Answer:
    """The whole or streamed answer to a messages request."""
    (choice,), counts = draft(as_chat(body), options)
    fault = named_fault(body.model)
    where = fault.kind if fault is not None else ""
    usage = _usage(body, counts)
    thought = thoughts(counts.reasoning)
    shown = thought if body.thinking is not None and body.thinking.display != "omitted" else ()
    message: dict[str, Any] = {"id": f"msg_{ID_MARK}", "type": "message", "role": "assistant", "model": body.model}
    ending = {"stop_reason": "tool_use" if choice.calls else _STOPS[choice.finish], "stop_sequence": None}
    if body.stream:
        start: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
        return _stream(message | start, ending, usage, list(_blocks(choice, thought, shown)), where)
    message |= {"content": [whole for _, _, whole in _blocks(choice, thought, shown)]} | ending
    if where != "nousage":
        message["usage"] = usage
    return Answer(200, JSON, _encode(message), model=body.model)


def _usage(body: Messages, counts: Counts) -> dict[str, Any]:
    """Anthropic's usage: `input_tokens` are those that neither came from the cache nor went into it."""
    read = counts.cached
    written = 0
    if "cached" not in body.model and _marked(body):
        read, written = 0, counts.prompt // 2
    usage: dict[str, Any] = {
        "input_tokens": counts.prompt - read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": counts.spoken + counts.reasoning,
        "service_tier": "standard",
    }
    if body.thinks():
        usage["output_tokens_details"] = {"thinking_tokens": counts.reasoning}
    return usage


def _marked(body: Messages) -> bool:
    blocks = [block for turn in body.messages or () for block in turn.blocks()]
    blocks += body.system if isinstance(body.system, list) else []
    return any(one.cache_control is not None for one in (body, *blocks, *(body.tools or ())))


Deltas = list[dict[str, Any]]


def _blocks(
    choice: Choice, thought: tuple[str, ...], shown: tuple[str, ...]
) -> Iterator[tuple[dict[str, Any], Deltas, dict[str, Any]]]:
    """(what the block begins with, its deltas, the whole block) of each."""
    if thought:
        signature = signature_of("".join(thought))
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in shown]
        deltas.append({"type": "signature_delta", "signature": signature})
        whole = {"type": "thinking", "thinking": "".join(shown), "signature": signature}
        yield {"type": "thinking", "thinking": "", "signature": ""}, deltas, whole
    if choice.pieces:
        deltas = [{"type": "text_delta", "text": piece} for piece in choice.pieces]
        yield {"type": "text", "text": ""}, deltas, {"type": "text", "text": "".join(choice.pieces)}
    for place, (name, arguments) in enumerate(choice.calls):
        parts = ["", *(arguments[start : start + _FRAGMENT] for start in range(0, len(arguments), _FRAGMENT))]
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        call = {"type": "tool_use", "id": f"toolu_{ID_MARK}{place:02x}", "name": name}
        yield call | {"input": {}}, deltas, call | {"input": Raw(arguments.encode())}


def _stream(
    message: dict[str, Any],
    ending: dict[str, Any],
    usage: dict[str, Any],
    blocks: list[tuple[dict[str, Any], Deltas, dict[str, Any]]],
    fault: str,
) -> Answer:
    """Usage comes in halves, input first, unless `usage-in-finish` asks for all of it at the end."""
    last: dict[str, Any] = {"type": "message_delta", "delta": ending}
    if fault == _FULL:
        message["usage"] = dict.fromkeys(("input_tokens", "output_tokens"), 0)
        last["usage"] = {name: usage[name] for name in usage if name not in ("cache_creation", "service_tier")}
    elif fault != "nousage":
        details = ("output_tokens", "output_tokens_details")
        message["usage"] = {name: value for name, value in usage.items() if name not in details} | {"output_tokens": 1}
        last["usage"] = {name: usage[name] for name in details if name in usage}
    events = [_event({"type": "message_start", "message": message})]
    for index, (begun, deltas, _) in enumerate(blocks):
        events.append(_event({"type": "content_block_start", "index": index, "content_block": begun}))
        if index == 0:
            events.append(_PING)
        events += [_event({"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas]
        events.append(_event({"type": "content_block_stop", "index": index}))
    events += [_event(last), _event({"type": "message_stop"})]
    return Answer(200, EVENT_STREAM, events=tuple(events), model=message["model"], again=3 if blocks else 0)


def _event(data: dict[str, Any]) -> bytes:
    return f"event: {data['type']}\n".encode() + b"data: " + _encode(data) + b"\n\n"
