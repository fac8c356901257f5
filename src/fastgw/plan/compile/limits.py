"""Limits: what is written as `600/min` or `10.00/month` becomes rules over slots of the shared table."""

from functools import lru_cache
from math import ceil

import msgspec

from fastgw._core import table as shared
from fastgw.plan import config as written
from fastgw.plan import units
from fastgw.plan.compile.context import Context
from fastgw.plan.plan import Rule
from fastgw.state.table import compile_rate, slot_id

LEVELS = ("gateway", "key", "model", "target")
"""Whose limits apply to one call."""

MAX_LIMITS = shared.MAX_CHARGES // len(LEVELS)
"""So many at every level, and a call of one model can still be charged for all of them."""

MAX_CONCURRENT = 1_000_000
SECONDS = {"s": 1, "min": 60}
"""The periods that are rates, and their seconds; longer ones are windows of the calendar."""

PERIODS = ("s", "min", "hour", "day", "month", "total")
KINDS = {
    ("rate", "s"): shared.RATE,
    ("rate", "min"): shared.RATE,
    ("window", "hour"): shared.HOUR,
    ("window", "day"): shared.DAY,
    ("window", "month"): shared.MONTH,
    ("window", "total"): shared.TOTAL,
    ("concurrent", ""): shared.CONCURRENT,
}
NO_LIMITS = msgspec.msgpack.encode(written.Limits())
_quota = lru_cache(4096)(units.quota)
_money = lru_cache(4096)(units.money)


def rules(context: Context, level: str, owner: str, one: written.Limits, path: str) -> tuple[Rule, ...]:
    """The rules of one owner with their slots, in the order in which they are asked; errors are noted under `path`."""
    # The same limits stand at thousands of keys.
    written_as = msgspec.msgpack.encode(one)
    if written_as == NO_LIMITS:
        return ()
    known = context.drafts.get(written_as)
    if known is None:
        known = context.drafts[written_as] = draft(one)
    made, errors = known
    context.errors += [f"{path}{error}" for error in errors]
    ids = b"".join([slot_id(level, owner, _kept_as(rule), rule.unit, rule.per) for rule in made])
    slots = context.slots(path, ids, bytes([KINDS[rule.kind, rule.per] for rule in made]))
    return tuple([_placed(level, owner, rule, slot) for rule, slot in zip(made, slots, strict=True)])


def draft(one: written.Limits) -> tuple[list[Rule], list[str]]:
    """Rules without owner and slot, and what is wrong with the limits (`.field: ...`)."""
    errors: list[str] = []
    made: list[Rule] = []
    if one.concurrent is not None:
        if not 1 <= one.concurrent <= MAX_CONCURRENT:
            errors.append(f".concurrent: must be 1 to {MAX_CONCURRENT:,}")
        made.append(Rule("", "", "concurrent", "calls", "", one.concurrent))
    made += _counted(one.requests, "requests", one.burst, errors)
    made += _counted(one.tokens, "tokens", None, errors)
    made += _budgets(one.budget, "budget", errors)
    made += _budgets(one.soft_budget, "soft_budget", errors)
    if len(made) > MAX_LIMITS:
        errors.append(f": {len(made)} limits; one owner may have {MAX_LIMITS}")
    if one.burst is not None and not any(rule.unit == "requests" and rule.kind == "rate" for rule in made):
        errors.append(".burst: needs `requests` per s or min beside it")
    return made, errors


def _counted(texts: str | list[str] | None, unit: str, burst: int | None, errors: list[str]) -> list[Rule]:
    made: list[Rule] = []
    for text in _each(texts):
        try:
            limit, per = _quota(text)
        except ValueError as error:
            errors.append(f".{unit}: {error}")
            continue
        rate = _rate(unit, limit, per, burst, errors) if per in SECONDS else None
        made.append(rate or Rule("", "", "window", unit, per, limit))
    return _sorted(made, unit, errors)


def _rate(unit: str, limit: int, per: str, burst: int | None, errors: list[str]) -> Rule:
    # A request is a tenth of what a burst is; one call's tokens may be a minute's.
    size = (max(1, ceil(limit / 10)) if unit == "requests" else limit) if burst is None else burst
    if size < 1:
        errors.append(".burst: must be 1 or more")
        size = 1
    interval, tau = 1, 0
    try:
        interval, tau = compile_rate(limit, SECONDS[per], size)
        shared.Limits([shared.Limit(0, shared.RATE, shared.REQUESTS, limit, interval, tau)])
    except ValueError as error:
        field = "burst" if burst is not None and tau else unit
        errors.append(f".{field}: {size} at once and {limit} per {per} cannot be counted: {error}")
    return Rule("", "", "rate", unit, per, limit, size, -1, interval, tau)


def _budgets(texts: str | list[str] | None, field: str, errors: list[str]) -> list[Rule]:
    made: list[Rule] = []
    for text in _each(texts):
        try:
            nano, per = _money(text)
        except ValueError as error:
            errors.append(f".{field}: {error}")
            continue
        made.append(Rule("", "", "window", "nano", per, nano, soft=field == "soft_budget"))
    return _sorted(made, field, errors)


def _each(texts: str | list[str] | None) -> list[str]:
    return [] if texts is None else [texts] if isinstance(texts, str) else texts


def _sorted(made: list[Rule], field: str, errors: list[str]) -> list[Rule]:
    """The shortest period first; each at most once."""
    periods = [rule.per for rule in made]
    errors += [f".{field}: {per!r} stands here twice" for per in PERIODS if periods.count(per) > 1]
    return sorted(made, key=lambda rule: PERIODS.index(rule.per))


def _kept_as(rule: Rule) -> str:
    return f"soft-{rule.kind}" if rule.soft else rule.kind


def _placed(level: str, owner: str, rule: Rule, slot: int) -> Rule:
    # By position: this runs for every limit of every key.
    rate = (rule.burst, slot, rule.interval_ns, rule.tau_ns)
    return Rule(level, owner, rule.kind, rule.unit, rule.per, rule.limit, *rate, rule.soft)
