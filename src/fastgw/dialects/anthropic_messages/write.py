"""Writing a request of Anthropic's Messages API.

Features of a target that change what is written:
- `adaptive_thinking`: it thinks as much as it likes (`thinking.type: adaptive`) and takes `output_config.effort`; else
  an effort becomes a budget, see BUDGETS. The budget leaves `MIN_BUDGET` tokens of `max_tokens` for the answer where it
  can, and is given up where it cannot have `MIN_BUDGET` itself.
- `no_temperature`: it refuses temperature, top_p and top_k.

Choices made here: system messages before the first turn, and later ones unless `Target.mid_system`, go into `system`;
with it they stay in place, or come as soon behind it as no call is unanswered and the last message is the user's;
where that is nowhere they go into `system`. Messages of one role in a row are one message, its tool results first.
Thinking gives way where it cannot be had: a forced tool gives it up by name, and a conversation amid calls whose
thinking is lost (its client's dialect does not keep it) goes on without and notes that. Allow-lists of tools are kept
by sending no others.
What bears on no answer is left out and noted in `Target.dropped`; all else that Claude cannot do is given up by name.
"""

import re
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fastgw.dialects.anthropic_messages.parts import (
    NAME,
    BlockOut,
    RedactedOut,
    TextOut,
    ThinkingOut,
    ToolResultOut,
    ToolUseOut,
    note,
    said,
    squeeze,
    write_content,
)
from fastgw.dialects.hub import Chat, Effort, Format, Invalid, Part, Target, Tool, ToolChoice, Unsupported

BUDGETS: dict[Effort, int] = {
    "none": 0,
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24576,
    "xhigh": 27648,
    "max": 27648,
}
"""Tokens of thinking for an effort, as in `openai_chat.wire`; the most that leaves room within 32,000 of output."""
LEVELS: dict[Effort, str] = {"minimal": "low", "xhigh": "high"}
"""Efforts that not every model with levels knows, and what stands for them (`effort_xhigh`: xhigh is known)."""
MIN_BUDGET = 1024
ANSWER = 4096
MAX_USER = 256
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}\Z")
NO_PARAMETERS = Raw(b'{"type":"object","properties":{}}')
TIERS = {"auto": "auto", "default": "standard_only", "standard": "standard_only", "standard_only": "standard_only"}


class _MessageOut(Struct):
    role: str
    content: str | list[BlockOut]


class _ToolOut(Struct):
    name: str
    description: str | UnsetType
    input_schema: Raw
    strict: bool | UnsetType = UNSET
    cache_control: Raw | UnsetType = UNSET


class _ChoiceOut(Struct):
    type: str
    name: str | UnsetType = UNSET
    disable_parallel_tool_use: bool | UnsetType = UNSET


class _ThinkingOut(Struct):
    type: str
    budget_tokens: int | UnsetType = UNSET
    display: str | UnsetType = UNSET


class _FormatOut(Struct, tag_field="type", tag="json_schema"):
    schema: Raw


class _RequestOut(Struct):
    model: str
    max_tokens: int
    messages: list[_MessageOut]
    system: str | list[BlockOut] | UnsetType = UNSET
    temperature: float | UnsetType = UNSET
    top_p: float | UnsetType = UNSET
    top_k: int | UnsetType = UNSET
    stop_sequences: list[str] | UnsetType = UNSET
    tools: list[_ToolOut | Raw] | UnsetType = UNSET
    tool_choice: _ChoiceOut | UnsetType = UNSET
    thinking: _ThinkingOut | UnsetType = UNSET
    output_config: dict[str, str | _FormatOut | Raw] | UnsetType = UNSET
    service_tier: str | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET
    stream: Literal[True] | UnsetType = UNSET


FOREIGN = ("n", "seed", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs")
"""Fields that Anthropic has nothing like."""
NOTHING_FOREIGN = (None,) * len(FOREIGN)

_encode = msgspec.json.encode


def write(chat: Chat, target: Target) -> bytes:
    """The request for a provider. Raises hub.Unsupported, and hub.Invalid for a conversation that is none."""
    try:
        return _write(chat, target)
    except UnicodeEncodeError:
        raise Unsupported("messages", "hold text that is no Unicode: a surrogate alone") from None


def _write(chat: Chat, target: Target) -> bytes:
    messages = _Messages(chat, target)
    out = _RequestOut(target.model, target.max_output if chat.max_tokens is None else chat.max_tokens, messages.out)
    if messages.system:
        out.system = squeeze(messages.system)
    if chat.tools or chat.server_tools:
        _tools(chat, target, out)
    if chat.tool_choice is not None:
        _tool_choice(chat.tool_choice, chat, target, out)
    if chat.format is not None and chat.format.kind != "text":
        _format(chat.format, target, out)
    if chat.reasoning is not None:
        _reasoning(chat, target, out, amid_calls=messages.amid_calls())
    _sampling(chat, target, out)
    _words(chat, target, out)
    if chat.stream:
        out.stream = True
    rest = _extra(chat, target, out) if chat.extra or chat.hints else None
    body = _encode(out)
    return body[:-1] + b"," + _encode(rest)[1:] if rest else body


class _Messages:
    """The turns as messages and `system`."""

    __slots__ = ("_blocks", "_calls", "_held", "_own", "_role", "_target", "out", "system")

    def __init__(self, chat: Chat, target: Target) -> None:
        self.out: list[_MessageOut] = []
        self.system: list[BlockOut] = []
        self._own = chat.origin == NAME
        self._target = target
        self._role = ""
        self._blocks: list[BlockOut] = []
        self._calls: set[str] = set()
        self._held: list[BlockOut] = []
        for turn in chat.turns:
            if turn.name is not None:
                note(target, "messages.name")
            self._add(turn.role, turn.parts)
        self.system += self._held
        if not self._own and self._role == "assistant":
            self._trim()
        self._flush()
        if not self.out and self.system:
            # A system message alone becomes the user's, as Anthropic wants at least one.
            self.out, self.system = [_MessageOut("user", squeeze(self.system))], []
        if not self.out:
            raise Invalid("messages", "must hold at least one message")

    def _add(self, role: str, parts: list[Part]) -> None:
        blocks = write_content(parts, self._target, own=self._own)
        if role == "system" or role == "developer":
            if not self._target.mid_system or not (self.out or self._blocks):
                self.system += blocks
                return
            self._held += blocks
        else:
            self._turn(role, blocks)
        if self._held and not self._calls and self._last() in ("user", "system"):
            held, self._held = self._held, []
            self._turn("system", held)

    def _turn(self, role: str, blocks: list[BlockOut]) -> None:
        if role != self._role:
            self._flush()
            self._role = role
            if role == "assistant":
                self._calls.clear()
        self._blocks += blocks
        for block in blocks:
            if type(block) is ToolUseOut:
                self._calls.add(block.id)
            elif type(block) is ToolResultOut:
                self._calls.discard(block.tool_use_id)

    def _last(self) -> str:
        """The role of the last message that says something."""
        if self._blocks:
            return self._role
        return self.out[-1].role if self.out else ""

    def _flush(self) -> None:
        blocks, self._blocks = self._blocks, []
        if not blocks:
            return
        if self._role == "user" and len(blocks) > 1:
            blocks.sort(key=lambda block: type(block) is not ToolResultOut)
        content = squeeze(blocks)
        if self.out and self.out[-1].role == self._role:  # where what stood between the two said nothing
            last = self.out[-1]
            before: list[BlockOut] = [TextOut(last.content)] if isinstance(last.content, str) else last.content
            last.content = before + blocks
        else:
            self.out.append(_MessageOut(self._role, content))

    def _trim(self) -> None:
        """Anthropic refuses white space at the end of an answer that it is to continue."""
        if self._blocks and isinstance(last := self._blocks[-1], TextOut):
            last.text = last.text.rstrip()
            if not last.text:
                self._blocks.pop()

    def amid_calls(self) -> bool:
        """Whether results of calls are to be answered whose thinking is lost."""
        if len(self.out) < 2 or self.out[-1].role != "user":
            return False
        called = self.out[-2].content
        return (
            isinstance(called, list)
            and any(type(block) is ToolUseOut for block in called)
            and not isinstance(called[0], ThinkingOut | RedactedOut)
        )


# --- tools, format


def _tools(chat: Chat, target: Target, out: _RequestOut) -> None:
    allowed = chat.tool_choice.names if chat.tool_choice is not None and chat.tool_choice.mode != "none" else []
    one = chat.tool_choice is not None and chat.tool_choice.mode == "named" and len(allowed) == 1
    own = chat.origin == NAME
    tools = [_tool(tool, own=own) for tool in chat.tools if not allowed or one or tool.name in allowed]
    for other in chat.server_tools:
        if other.dialect == NAME:
            tools.append(other.raw)
        else:
            target.give_up(f"tools.{other.kind}", f"only {other.dialect} has this tool")
    if tools:
        out.tools = tools


def _tool(tool: Tool, *, own: bool) -> _ToolOut | Raw:
    if TOOL_NAME.match(tool.name) is None:
        raise Unsupported("tools.function.name", f"{tool.name[:140]!r} must be 1 to 128 letters, digits, _ and - only")
    schema = NO_PARAMETERS if tool.schema is None or (not own and said(tool.schema) is None) else tool.schema
    out = _ToolOut(tool.name, UNSET if tool.description is None else tool.description, schema)
    if tool.strict or (own and tool.strict is not None):
        out.strict = tool.strict
    if tool.cache is not None:
        out.cache_control = tool.cache
    if own and tool.extra:
        return Raw(_encode(out)[:-1] + b"," + _encode(tool.extra)[1:])
    return out


def _tool_choice(choice: ToolChoice, chat: Chat, target: Target, out: _RequestOut) -> None:
    if out.tools is UNSET:
        if choice.mode in ("required", "named"):
            target.give_up("tool_choice", "there are no tools to choose from")
        return
    if choice.mode == "none":
        out.tool_choice = _ChoiceOut("none")
        return
    written = _ChoiceOut("auto" if choice.mode == "auto" else "any")
    if choice.mode == "named" and len(choice.names) == 1:
        written = _ChoiceOut("tool", choice.names[0])
    if choice.parallel is False or (choice.parallel is not None and chat.origin == NAME):
        written.disable_parallel_tool_use = not choice.parallel
    out.tool_choice = written


def _format(given: Format, target: Target, out: _RequestOut) -> None:
    if given.kind == "json" or given.schema is None:
        target.give_up("response_format", "an answer in JSON needs a schema (json_schema)")
        return
    out.output_config = {"format": _FormatOut(given.schema)}


# --- reasoning


def _reasoning(chat: Chat, target: Target, out: _RequestOut, *, amid_calls: bool) -> None:
    """`thinking` and `output_config.effort`; `Reasoning.native` is how an own client had it."""
    asked = chat.reasoning
    assert asked is not None
    native, _, effort = (asked.native or "").partition(" ")
    if chat.origin == NAME and native:
        _own_reasoning(native, effort or asked.effort, asked.budget, asked.show, out)
        return
    if asked.effort == "none" or asked.budget == 0:
        if "adaptive_thinking" in target.features:
            out.thinking = _ThinkingOut("disabled")
        return
    if asked.effort is None and asked.budget is None and asked.show is False:
        return
    if out.tool_choice is not UNSET and out.tool_choice.type in ("any", "tool"):
        target.give_up("reasoning_effort", "a model that must call a tool cannot think")
        return
    if "adaptive_thinking" in target.features:
        out.thinking = _ThinkingOut("adaptive")
        level = asked.effort or (None if asked.budget is None else _level(asked.budget))
        if level is not None:
            if level != "xhigh" or "effort_xhigh" not in target.features:
                level = LEVELS.get(level, level)  # type: ignore[assignment]
            _configure(out, "effort", str(level))
    else:
        _budget(chat, target, out, amid_calls=amid_calls)
    if out.thinking is not UNSET and asked.show is not None:
        out.thinking.display = "summarized" if asked.show else "omitted"


def _level(budget: int) -> Effort | None:
    if budget < 0:
        return None
    return next((level for level in ("low", "medium", "high") if budget <= BUDGETS[level]), "max")


def _own_reasoning(native: str, effort: str | None, budget: int | None, show: bool | None, out: _RequestOut) -> None:
    if native != "effort":
        out.thinking = _ThinkingOut(native)
        if budget is not None:
            out.thinking.budget_tokens = budget
        if show is False or (show and native == "adaptive"):
            out.thinking.display = "summarized" if show else "omitted"
    if effort not in (None, "none"):
        _configure(out, "effort", str(effort))


def _configure(out: _RequestOut, key: str, value: str | Raw) -> None:
    config = {} if out.output_config is UNSET else out.output_config
    config[key] = value
    out.output_config = config


def _budget(chat: Chat, target: Target, out: _RequestOut, *, amid_calls: bool) -> None:
    asked = chat.reasoning
    assert asked is not None
    if amid_calls:
        note(target, "reasoning_effort")
        return
    budget = asked.budget if asked.budget is not None and asked.budget > 0 else BUDGETS[asked.effort or "medium"]
    budget = max(budget, MIN_BUDGET)
    if chat.max_tokens is None:
        out.max_tokens = max(target.max_output, budget + ANSWER)
    elif budget > chat.max_tokens - MIN_BUDGET:
        budget = max(chat.max_tokens - MIN_BUDGET, MIN_BUDGET)
        if budget >= chat.max_tokens:
            target.give_up("reasoning_effort", f"thinking takes more than {MIN_BUDGET} tokens of max_tokens")
            return
    out.thinking = _ThinkingOut("enabled", budget)


# --- numbers and words


def _sampling(chat: Chat, target: Target, out: _RequestOut) -> None:
    thinks = out.thinking is not UNSET and out.thinking.type != "disabled"
    barred = "the model's sampling is fixed" if "no_temperature" in target.features else ""
    barred = barred or ("cannot be set for a model that thinks" if thinks and chat.origin != NAME else "")
    if chat.temperature is not None:
        if barred and chat.temperature != 1:
            target.give_up("temperature", barred)
        elif chat.temperature > 1:
            target.give_up("temperature", "is at most 1")
            out.temperature = 1.0
        elif not barred:
            out.temperature = chat.temperature
    if chat.top_p is not None:
        if barred and chat.top_p < 0.95:
            target.give_up("top_p", barred)
        elif not barred:
            out.top_p = chat.top_p
    if chat.top_k is not None:
        if barred:
            target.give_up("top_k", barred)
        else:
            out.top_k = chat.top_k
    if chat.stop:
        _stop(chat, target, out)
    if _foreign(chat) != NOTHING_FOREIGN:
        for field, value, same in zip(FOREIGN, _foreign(chat), (1, None, 0, 0, False, 0), strict=True):
            if value is not None and value != same:
                target.give_up(field, "the provider has nothing of the kind")
    if chat.logit_bias is not None and said(chat.logit_bias) is not None:
        target.give_up("logit_bias", "the provider has no logit bias")


def _foreign(chat: Chat) -> tuple[float | None, ...]:
    """The values of `FOREIGN`."""
    return chat.n, chat.seed, chat.presence_penalty, chat.frequency_penalty, chat.logprobs, chat.top_logprobs


def _stop(chat: Chat, target: Target, out: _RequestOut) -> None:
    stops = chat.stop
    if chat.origin != NAME and not all(one.strip() for one in stops):
        target.give_up("stop", "the provider takes no sequence of white space alone")
        stops = [one for one in stops if one.strip()]
    if stops:
        out.stop_sequences = stops


def _words(chat: Chat, target: Target, out: _RequestOut) -> None:
    if chat.service_tier is not None:
        tier = TIERS.get(chat.service_tier)
        if tier is None:
            target.give_up("service_tier", f"there is no tier {chat.service_tier!r}")
        else:
            out.service_tier = tier
    if chat.user is not None:
        if len(chat.user) <= MAX_USER or chat.origin == NAME:
            out.metadata = {"user_id": chat.user}
        else:
            note(target, "user")
    if chat.metadata is not None:
        note(target, "metadata")


def _extra(chat: Chat, target: Target, out: _RequestOut) -> dict[str, Raw]:
    """Fields that only this dialect knows; those within `output_config` go there."""
    if chat.origin != NAME:
        for name in chat.extra:
            target.give_up(name, f"only {chat.origin} has it")
        return {}
    rest: dict[str, Raw] = {}
    for name, raw in {**chat.extra, **chat.hints}.items():
        outer, _, inner = name.partition(".")
        if outer == "output_config" and inner:
            _configure(out, inner, raw)
        else:
            rest[name] = raw
    return rest
