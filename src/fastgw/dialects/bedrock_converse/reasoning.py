"""How much a model is to think, in the words of the vendor whose model it is."""

from typing import Any

from msgspec import Struct

from fastgw.dialects.anthropic_messages.parts import NAME as ANTHROPIC
from fastgw.dialects.anthropic_messages.parts import note
from fastgw.dialects.anthropic_messages.write import ANSWER, BUDGETS, LEVELS, MIN_BUDGET
from fastgw.dialects.hub import Chat, Effort, Reasoning, Target, effort_of

STEPS: dict[Effort, str] = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high"}
"""Levels for those who know three; all above are the highest."""


class Found(Struct):
    """`fields` for the model itself, Converse's own `effort`, and the bound on the answer that goes with them."""

    fields: dict[str, Any] = {}
    effort: str | None = None
    max_tokens: int | None = None


def reason(chat: Chat, target: Target, vendor: str, *, forced: bool, amid_calls: bool) -> Found:
    """What asks for the thinking that `chat` wants; `forced`: a tool must be called. Raises Unsupported."""
    asked = chat.reasoning
    assert asked is not None
    if vendor == "anthropic":
        return _claude(chat, asked, target, forced=forced, amid_calls=amid_calls)
    if asked.effort is None and asked.budget is None:
        return Found()
    if asked.effort == "none" or asked.budget == 0:
        return Found()
    level = STEPS.get(asked.effort or effort_of(asked.budget or 0) or "medium", "high")
    if vendor == "openai":
        return Found({"reasoning_effort": level})
    if vendor == "amazon" and "nova-2" in target.model:
        # https://docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html: high goes with no bounds.
        if level == "high" and (chat.max_tokens, chat.temperature, chat.top_p) != (None, None, None):
            note(target, "reasoning_effort")
            level = "medium"
        return Found({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": level}})
    target.give_up("reasoning_effort", "the model cannot be told how much to think")
    return Found()


def _claude(chat: Chat, asked: Reasoning, target: Target, *, forced: bool, amid_calls: bool) -> Found:
    native, _, effort = (asked.native or "").partition(" ")
    if chat.origin == ANTHROPIC and native:
        return _own(native, effort or asked.effort, asked)
    adaptive = "adaptive_thinking" in target.features
    if asked.effort == "none" or asked.budget == 0:
        return Found({"thinking": {"type": "disabled"}} if adaptive else {})
    if asked.effort is None and asked.budget is None and asked.show is False:
        return Found()
    if forced:
        target.give_up("reasoning_effort", "a model that must call a tool cannot think")
        return Found()
    found = _adaptive(asked, target) if adaptive else _budget(chat, asked, target, amid_calls=amid_calls)
    if found.fields and asked.show is not None:
        found.fields["thinking"]["display"] = "summarized" if asked.show else "omitted"
    return found


def _own(native: str, effort: str | None, asked: Reasoning) -> Found:
    """As a client of Anthropic's own dialect had it."""
    found = Found(effort=effort if effort != "none" else None)
    if native == "effort":
        return found
    thinking: dict[str, Any] = {"type": native}
    if asked.budget is not None:
        thinking["budget_tokens"] = asked.budget
    if asked.show is False or (asked.show and native == "adaptive"):
        thinking["display"] = "summarized" if asked.show else "omitted"
    found.fields["thinking"] = thinking
    return found


def _adaptive(asked: Reasoning, target: Target) -> Found:
    level = asked.effort or (None if asked.budget is None else effort_of(asked.budget))
    effort = None if level is None else str(level)
    if level is not None and (level != "xhigh" or "effort_xhigh" not in target.features):
        effort = LEVELS.get(level, level)
    return Found({"thinking": {"type": "adaptive"}}, effort)


def _budget(chat: Chat, asked: Reasoning, target: Target, *, amid_calls: bool) -> Found:
    """A budget in tokens, which leaves room for the answer where the client has set a bound."""
    if amid_calls:
        note(target, "reasoning_effort")
        return Found()
    budget = asked.budget if asked.budget is not None and asked.budget > 0 else BUDGETS[asked.effort or "medium"]
    budget = max(budget, MIN_BUDGET)
    most = None
    if chat.max_tokens is None:
        most = max(target.max_output, budget + ANSWER)
    elif budget > chat.max_tokens - MIN_BUDGET:
        budget = max(chat.max_tokens - MIN_BUDGET, MIN_BUDGET)
        if budget >= chat.max_tokens:
            target.give_up("reasoning_effort", f"thinking takes more than {MIN_BUDGET} tokens of max_tokens")
            return Found()
    return Found({"thinking": {"type": "enabled", "budget_tokens": budget}}, max_tokens=most)
