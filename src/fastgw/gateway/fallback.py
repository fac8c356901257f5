"""Asking the models a caller named, one after the other, of those providers the caller prefers.

Only for requests that say so (`call.wishes`). Another model is asked when one cannot answer: after any failure to get
an answer and after the statuses of `OUTAGE`, also where the model's `retry.on` would not try a second target, since
here the caller has asked for it. What the request itself causes (400, 413, ...) is the caller's to see at once.
"""

from collections.abc import Iterator
from time import monotonic_ns

from fastgw._core import fields
from fastgw.call import Call
from fastgw.dialects.base import Dialect
from fastgw.dialects.openrouter import Wishes
from fastgw.errors import GatewayError
from fastgw.gateway import attempts
from fastgw.policies.models import Meant, take
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
        if not _is_outage(reply.status) or not _turn(call, others):
            return reply
        reply.close()
        call.error = ""


async def _ask(call: Call, dialect: Dialect, body: fields.Fields, wishes: Wishes) -> Reply:
    """The reply of the model that is the call's now."""
    ways, most = call.model.ways, call.model.model.retry.attempts
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


def _is_outage(status: int) -> bool:
    return status in OUTAGE or status >= 500
