"""Writing a request of Amazon Bedrock's Converse.

What Converse itself has no field for goes to the model in `additionalModelRequestFields`, in the words of its vendor:
Claude's `thinking`, `top_k` and the `tool_choice` that forbids parallel calls, Nova's `reasoningConfig` and `topK`,
OpenAI's `reasoning_effort`. Ids without a vendor are taken for Claude's; see `wire.vendor_of`.

Features of a target that change what is written, as in `anthropic_messages.write`: `adaptive_thinking`, `effort_xhigh`
and `no_temperature`.

Choices made here: system messages go into `system` wherever they stand. Messages of one role in a row are one message,
its tool results first. Converse wants the tools declared wherever calls are in the conversation: where the client has
left them out, the names that were called are declared without parameters, and where it forbids calling (`none`), that
is told to Claude and given up for others. Thinking gives way where it cannot be had: a forced tool gives it up by name,
and a conversation amid calls whose thinking is lost goes on without and notes that.
What bears on no answer is left out and noted in `Target.dropped`; all else that cannot be done is given up by name.
"""

import re
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fastgw.dialects.anthropic_messages.parts import NAME as ANTHROPIC
from fastgw.dialects.anthropic_messages.parts import note, said
from fastgw.dialects.anthropic_messages.write import NO_PARAMETERS
from fastgw.dialects.bedrock_converse.parts import (
    BlockOut,
    Blocks,
    CachePointOut,
    ReasoningOut,
    TextOut,
    ToolResultOut,
    ToolUseOut,
)
from fastgw.dialects.bedrock_converse.reasoning import reason
from fastgw.dialects.bedrock_converse.wire import TIERS, vendor_of
from fastgw.dialects.hub import Chat, Format, Invalid, Part, Target, Tool, ToolChoice, Unsupported

TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")
STOP_SEQUENCE = "/stop_sequence"
"""Where Claude tells the stop sequence that matched: Converse tells it when asked for this field."""


class MessageOut(Struct):
    """One message."""

    role: str
    content: list[BlockOut]


class _Schema(Struct):
    json: Raw


class _Spec(Struct, rename="camel"):
    name: str
    input_schema: _Schema
    description: str | UnsetType = UNSET
    strict: bool | UnsetType = UNSET


class _ToolOut(Struct, rename="camel"):
    tool_spec: _Spec


class _Tools(Struct, rename="camel"):
    tools: list[_ToolOut | CachePointOut]
    tool_choice: dict[str, dict[str, str]] | UnsetType = UNSET


class _JsonSchema(Struct):
    schema: str
    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET


class _Structure(Struct, rename="camel"):
    json_schema: _JsonSchema


class _TextFormat(Struct, tag_field="type", tag="json_schema"):
    structure: _Structure


class _OutputConfig(Struct, rename="camel"):
    text_format: _TextFormat | UnsetType = UNSET
    effort: str | UnsetType = UNSET


class _Inference(Struct, rename="camel", omit_defaults=True):
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop_sequences: list[str] | None = None


class _RequestOut(Struct, rename="camel"):
    messages: list[MessageOut]
    system: list[BlockOut] | UnsetType = UNSET
    inference_config: _Inference | UnsetType = UNSET
    tool_config: _Tools | UnsetType = UNSET
    output_config: _OutputConfig | UnsetType = UNSET
    additional_model_request_fields: dict[str, Any] | UnsetType = UNSET
    additional_model_response_field_paths: list[str] | UnsetType = UNSET
    service_tier: dict[str, str] | UnsetType = UNSET


_encode = msgspec.json.encode


def write(chat: Chat, target: Target) -> bytes:
    """The request for a provider. Raises hub.Unsupported, and hub.Invalid for a conversation that is none."""
    try:
        return _encode(_Writer(chat, target).request())
    except UnicodeEncodeError:
        raise Unsupported("messages", "hold text that is no Unicode: a surrogate alone") from None


class _Writer:
    """One request under construction. `_more`: what goes to the model beside Converse's own fields."""

    __slots__ = ("_blocks", "_chat", "_inference", "_more", "_target", "_vendor")

    def __init__(self, chat: Chat, target: Target) -> None:
        self._chat = chat
        self._target = target
        self._vendor = vendor_of(target.model)
        self._blocks = Blocks(target)
        self._inference = _Inference(max_tokens=chat.max_tokens)
        self._more: dict[str, Any] = {}

    def request(self) -> _RequestOut:
        """All of it."""
        chat, target = self._chat, self._target
        messages = _Messages(chat, target, self._blocks)
        out = _RequestOut(messages.out)
        if messages.system:
            out.system = messages.system
        forced = self._tools(out, messages)
        if chat.format is not None and chat.format.kind != "text":
            self._format(chat.format, out)
        self._reasoning(out, messages, forced=forced)
        self._sampling(out)
        self._words(out)
        if self._inference != _Inference():
            out.inference_config = self._inference
        if self._more:
            out.additional_model_request_fields = self._more
        return out

    # --- tools, format

    def _tools(self, out: _RequestOut, messages: "_Messages") -> bool:
        """`toolConfig`; whether a tool must be called."""
        chat, target = self._chat, self._target
        choice = chat.tool_choice or ToolChoice()
        for other in chat.server_tools:
            target.give_up(f"tools.{other.kind}", f"only {other.dialect} has this tool")
        one = choice.mode == "named" and len(choice.names) == 1
        narrowed = bool(choice.names) and choice.mode != "none" and not one
        offered = [tool for tool in chat.tools if not narrowed or tool.name in choice.names]
        if choice.mode == "none" and not messages.called:
            offered = []
        tools = [item for tool in offered for item in self._tool(tool)]
        if not tools:
            if choice.mode in ("required", "named"):
                target.give_up("tool_choice", "there are no tools to choose from")
                choice = ToolChoice()
            # Converse takes no calls, in whoever's turn, without a declaration of what was called.
            tools = [item for name in messages.called for item in self._tool(Tool(name))]
            if not tools:
                return False
        out.tool_config = _Tools(tools)
        return self._tool_choice(choice, out.tool_config)

    def _tool(self, tool: Tool) -> list[_ToolOut | CachePointOut]:
        if TOOL_NAME.match(tool.name) is None:
            raise Unsupported("tools.function.name", f"{tool.name[:140]!r} must be 1 to 64 letters, digits, _ and -")
        schema = NO_PARAMETERS if tool.schema is None or said(tool.schema) is None else tool.schema
        spec = _Spec(tool.name, _Schema(schema), tool.description or UNSET, True if tool.strict else UNSET)
        point = self._blocks.point(tool.cache) if self._vendor == "anthropic" else None
        return [_ToolOut(spec)] if point is None else [_ToolOut(spec), point]

    def _tool_choice(self, choice: ToolChoice, tools: _Tools) -> bool:
        """Where Claude is to hear more than Converse can say, it hears all of it in its own words: both would clash."""
        kind = {"auto": "auto", "none": "none"}.get(choice.mode, "any")
        name = choice.names[0] if choice.mode == "named" and len(choice.names) == 1 else ""
        kind = "tool" if name else kind
        named = {"name": name} if name else {}
        alone = choice.parallel is False and kind != "none"
        if kind == "none" or alone:
            if self._vendor == "anthropic":
                self._more["tool_choice"] = (
                    {"type": kind} | named | ({"disable_parallel_tool_use": True} if alone else {})
                )
                return kind in ("any", "tool")
            field = "parallel_tool_calls" if alone else "tool_choice"
            self._target.give_up(field, "the model cannot be kept from it while the conversation has calls")
        if kind in ("any", "tool"):
            tools.tool_choice = {kind: named}
        return kind in ("any", "tool")

    def _format(self, given: Format, out: _RequestOut) -> None:
        if given.kind == "json" or given.schema is None:
            self._target.give_up("response_format", "an answer in JSON needs a schema (json_schema)")
            return
        schema = _JsonSchema(bytes(given.schema).decode(), given.name or UNSET, given.description or UNSET)
        out.output_config = _OutputConfig(_TextFormat(_Structure(schema)))

    # --- reasoning, numbers and words

    def _reasoning(self, out: _RequestOut, messages: "_Messages", *, forced: bool) -> None:
        if self._chat.reasoning is None:
            return
        found = reason(self._chat, self._target, self._vendor, forced=forced, amid_calls=messages.amid_calls())
        self._more.update(found.fields)
        if found.effort is not None:
            out.output_config = _OutputConfig() if out.output_config is UNSET else out.output_config
            out.output_config.effort = found.effort
        if found.max_tokens is not None:
            self._inference.max_tokens = found.max_tokens

    def _barred(self) -> str:
        """Why the model's sampling cannot be set; "" when it can."""
        if "no_temperature" in self._target.features:
            return "the model's sampling is fixed"
        thinks = self._more.get("thinking", {}).get("type", "disabled") != "disabled"
        return "cannot be set for a model that thinks" if thinks and self._chat.origin != ANTHROPIC else ""

    def _sampling(self, out: _RequestOut) -> None:
        chat, target, barred = self._chat, self._target, self._barred()
        if chat.temperature is not None:
            if barred and chat.temperature != 1:
                target.give_up("temperature", barred)
            elif chat.temperature > 1:
                target.give_up("temperature", "is at most 1")
                self._inference.temperature = 1.0
            elif not barred:
                self._inference.temperature = chat.temperature
        if chat.top_p is not None:
            if barred and chat.top_p < 0.95:
                target.give_up("top_p", barred)
            elif not barred:
                self._inference.top_p = chat.top_p
        if chat.top_k is not None:
            self._top_k(chat.top_k, barred)
        if chat.stop:
            self._stop(out)
        for field, value, same in (
            ("n", chat.n, 1),
            ("seed", chat.seed, None),
            ("presence_penalty", chat.presence_penalty, 0),
            ("frequency_penalty", chat.frequency_penalty, 0),
            ("logprobs", chat.logprobs, False),
            ("top_logprobs", chat.top_logprobs, 0),
        ):
            if value is not None and value != same:
                target.give_up(field, "the provider has nothing of the kind")
        if chat.logit_bias is not None and said(chat.logit_bias) is not None:
            target.give_up("logit_bias", "the provider has no logit bias")

    def _top_k(self, top_k: int, barred: str) -> None:
        if barred:
            self._target.give_up("top_k", barred)
        elif self._vendor == "amazon":
            self._more["inferenceConfig"] = {"topK": top_k}
        elif self._vendor in ("anthropic", "mistral", "qwen"):
            self._more["top_k"] = top_k
        else:
            self._target.give_up("top_k", "the provider has no field for it")

    def _stop(self, out: _RequestOut) -> None:
        stops = [one for one in self._chat.stop if one.strip()]
        if len(stops) < len(self._chat.stop):
            self._target.give_up("stop", "the provider takes no sequence of white space alone")
        if stops:
            self._inference.stop_sequences = stops
            if self._vendor == "anthropic":
                out.additional_model_response_field_paths = [STOP_SEQUENCE]

    def _words(self, out: _RequestOut) -> None:
        chat, target = self._chat, self._target
        if chat.service_tier not in (None, "auto"):
            tier = TIERS.get(str(chat.service_tier))
            if tier is None:
                target.give_up("service_tier", f"there is no tier {chat.service_tier!r}")
            else:
                out.service_tier = {"type": tier}
        for field in ("user", "metadata"):
            if getattr(chat, field) is not None:
                note(target, field)
        for name in chat.extra:
            target.give_up(name, f"only {chat.origin} has it")


class _Messages:
    """The turns as messages and `system`. `called`: the names of the calls in them."""

    __slots__ = ("_blocks", "_role", "_writer", "called", "out", "system")

    def __init__(self, chat: Chat, target: Target, writer: Blocks) -> None:
        self.out: list[MessageOut] = []
        self.system: list[BlockOut] = []
        self.called: dict[str, None] = {}
        self._role = ""
        self._blocks: list[BlockOut] = []
        self._writer = writer
        for turn in chat.turns:
            if turn.name is not None:
                note(target, "messages.name")
            self._add(turn.role, turn.parts)
        if self._role == "assistant":
            self._trim()
        self._flush()
        if not self.out and self.system:
            # A system message alone becomes the user's, as at least one is wanted.
            self.out, self.system = [MessageOut("user", self.system)], []
        if not self.out:
            raise Invalid("messages", "must hold at least one message")

    def _add(self, role: str, parts: list[Part]) -> None:
        blocks = self._writer.write(parts)
        if role in ("system", "developer"):
            self.system += blocks
            return
        if role != self._role:
            self._flush()
            self._role = role
        self._blocks += blocks
        for block in blocks:
            if isinstance(block, ToolUseOut):
                self.called[block.tool_use.name] = None

    def _flush(self) -> None:
        blocks, self._blocks = self._blocks, []
        if not blocks:
            return
        if self._role == "user" and len(blocks) > 1:
            blocks = _results_first(blocks)
        if self.out and self.out[-1].role == self._role:  # where what stood between the two said nothing
            self.out[-1].content += blocks
        else:
            self.out.append(MessageOut(self._role, blocks))

    def _trim(self) -> None:
        """Claude refuses white space at the end of an answer that it is to continue."""
        if self._blocks and isinstance(last := self._blocks[-1], TextOut):
            last.text = last.text.rstrip()

    def amid_calls(self) -> bool:
        """Whether results of calls are to be answered whose thinking is lost."""
        if len(self.out) < 2 or self.out[-1].role != "user":
            return False
        called = self.out[-2].content
        return any(isinstance(block, ToolUseOut) for block in called) and not isinstance(called[0], ReasoningOut)


def _results_first(blocks: list[BlockOut]) -> list[BlockOut]:
    """Tool results before all else, each with the cache point behind it."""
    first: list[BlockOut] = []
    rest: list[BlockOut] = []
    kept = False
    for block in blocks:
        if not isinstance(block, CachePointOut):
            kept = isinstance(block, ToolResultOut)
        (first if kept else rest).append(block)
    return first + rest
