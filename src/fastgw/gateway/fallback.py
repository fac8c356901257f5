"""Asking the models a caller named, one after the other, of those providers the caller prefers.

For requests that say so (`call.wishes`), and for models whose operator has named fallbacks, by the class of failure
after which they are to be asked. Of a caller's models another is asked when one cannot answer: after any failure to get
an answer and after the statuses of `OUTAGE`, also where the model's `retry.on` would not try a second target, since
here the caller has asked for it. What the request itself causes (400, 413, ...) is the caller's to see at once.
"""

from collections.abc import Iterator, Mapping
from time import monotonic_ns

from fastgw._core import fields
from fastgw.call import Call
from fastgw.dialects.base import Dialect
from fastgw.dialects.openrouter import Wishes
from fastgw.errors import GatewayError
from fastgw.gateway import attempts
from fastgw.policies.models import Meant, take
from fastgw.providers import failures
from fastgw.upstream.choose import preferred
from fastgw.upstream.reply import Reply

OUTAGE = frozenset({404, 408, 429})
NOBODY = frozenset({"no_target_available", "model_not_found", "endpoint_not_enabled"})


async def send(call: Call, dialect: Dialect, body: fields.Fields) -> Reply:
    """The reply that is to be passed on, of whichever model gave it (`call.model`). Raises GatewayError.

    Where none can answer, the last failure is the caller's.
    """
    wishes: Wishes = call.wishes
    others: Iterator[Meant] = iter(wishes.others)
    while True:
        try:
            reply = await _ask(call, dialect, body, wishes)
        except GatewayError as error:
            if not _may_pass_on(error) or not _turn(call, others):
                raise
            continue
        if not _is_outage(call, reply) or not _turn(call, others):
            return reply
        reply.close()
        call.error = ""


async def by_operator(call: Call, dialect: Dialect, body: fields.Fields) -> Reply:
    """As `send`, of the models that the operator has named to stand in for the call's own.

    Whoever may use a model may use those that stand in for it.
    """
    named: Mapping[str, tuple[str, ...]] = call.model.model.fallback
    asked = {call.model_name}
    while True:
        try:
            reply = await attempts.send(call, dialect, body)
        except GatewayError as error:
            if not _stand_in(call, named, _class_of(call, error), asked):
                raise
            continue
        means = attempts.class_of(call, reply)
        if means is None or not _stand_in(call, named, failures.fallback_of(means), asked):
            return reply
        reply.close()
        call.error = ""


def _stand_in(call: Call, named: Mapping[str, tuple[str, ...]], means: str, asked: set[str]) -> bool:
    """Make the first that is left of those for this class the call's model; False when there is none."""
    left = [name for name in named.get(means, ()) if name not in asked]
    asked.update(left[:1])
    found = [(name, route) for name in left if (route := call.live.routes.find(name)) is not None]
    meant = (Meant("", name, route, upstream_model) for name, (route, upstream_model) in found)
    turned = _turn(call, meant)
    if turned:
        call.refused_by = ""
    return turned


def _class_of(call: Call, error: GatewayError) -> str:
    """For which of `failures.FALLBACKS` a failure without an answer counts."""
    if error.kind in attempts.OWN_LIMITS:
        # A limit of the caller's own is not to be got round.
        return "rate" if call.refused_by == "target" else ""
    if error.kind == "upstream_rate_limited":
        return "rate"
    return "outage" if _may_pass_on(error) else ""


async def _ask(call: Call, dialect: Dialect, body: fields.Fields, wishes: Wishes) -> Reply:
    """The reply of the model that is the call's now."""
    ways, most = call.model.ways, call.model.model.retry.attempts
    call.model.deposit()
    if wishes.provider is not None and call.model.takes_provider:
        if any(dialect.name not in way.heads for way in ways):
            message = f"provider cannot be passed on to {call.model.name!r} in this dialect. Leave it out."
            raise GatewayError("unsupported_field", message, param="provider")
        return await attempts.first_of(call, dialect, wishes.passed, (ways,), most)
    wish = wishes.preferences
    if wish is None:
        return await attempts.first_of(call, dialect, body, (ways,), most)
    tiers = preferred(ways, wish, call.upstream_model)
    if not tiers:
        message = "None of the model's providers is left by `provider`: ask for fewer restrictions, or another model."
        raise GatewayError("model_not_found", message, param="provider")
    once = not wish.fallbacks and not wish.order
    return await attempts.first_of(call, dialect, body, tiers, 1 if once else most)


def _turn(call: Call, others: Iterator[Meant]) -> bool:
    """Make the next model that is within its own limits that of the call; False when there is none."""
    for one in others:
        call.now_ns = monotonic_ns()
        try:
            call.live.limiter.enter_model(call, one.route)
        except GatewayError:
            continue
        take(call, one)
        return True
    return False


def _may_pass_on(error: GatewayError) -> bool:
    return error.row.retryable or error.kind in NOBODY


def _is_outage(call: Call, reply: Reply) -> bool:
    if reply.status < 400:
        means = attempts.class_of(call, reply)
        return means is not None and failures.fallback_of(means) in ("outage", "rate")
    return reply.status in OUTAGE or reply.status >= 500
