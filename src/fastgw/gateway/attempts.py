"""Asking upstreams until one answers: the next target after a failure that cannot have been billed.

Only while nothing has reached the client; each target is asked once. What counts as such a failure is the model's
`retry.on`: `connect` (nothing was sent), `timeout`, `5xx`, or a status.
"""

from asyncio import CancelledError
from collections.abc import Awaitable
from random import random
from time import monotonic, time
from typing import Any

from fastgw._core import fields, headers
from fastgw.call import Call
from fastgw.dialects.base import Dialect
from fastgw.dialects.hub import Target
from fastgw.dialects.opaque import OpaqueDialect
from fastgw.dialects.registry import OPERATION_OF, OPERATIONS
from fastgw.errors import GatewayError, UpstreamError
from fastgw.gateway import passthrough
from fastgw.gateway.translate import between, read_chat
from fastgw.plan.plan import Retry, Timeouts
from fastgw.telemetry.record import Attempt
from fastgw.upstream.choose import Tiers, next_of
from fastgw.upstream.reply import Reply
from fastgw.upstream.route import Way

NOT_SENT = frozenset({"auth", "connect", "queue_full", "queue_timeout", "not_offered"})
OUR_FAULT = frozenset({401, 403})


def send(call: Call, dialect: Dialect, body: Any) -> Awaitable[Reply]:
    """The reply that is to be passed on, of whichever target gave it (`call.target`). Raises GatewayError."""
    return first_of(call, dialect, body, (call.model.ways,), call.model.model.retry.attempts)


async def first_of(call: Call, dialect: Dialect, body: fields.Fields, tiers: Tiers[Way], most: int) -> Reply:
    """As `send`, of these targets of the call's model and in `most` attempts."""
    retry: Retry = call.model.model.retry
    if call.pinned:
        tiers = tuple(tuple(way for way in tier if way.provider == call.pinned) for tier in tiers)
    total = len(tiers[0]) if len(tiers) == 1 else sum(map(len, tiers))
    limiter = call.live.limiter
    tried: list[Way] = []
    asked = 0
    refused: GatewayError | None = None
    own: GatewayError | None = None
    while True:
        way = next_of(tiers, tried, random())  # noqa: S311 - shares load, guards nothing
        if way is None:
            if own is not None:
                call.refused_by = "target"
            raise refused or _none_left(call)
        tried.append(way)
        call.target = way
        own = limiter.attempt(call, way)
        if own is not None:
            refused = own
            continue
        asked += 1
        last = asked >= most or len(tried) == total
        started = monotonic()
        try:
            reply = call.reply = await _ask(call, dialect, body, way)
        except UpstreamError as error:
            call.upstream_seconds += monotonic() - started
            _note(call, way, 0, error.reason, started)
            limiter.retreat(call)
            if last or not _may_retry(error, retry):
                raise
            continue
        except GatewayError as error:
            # What this target has no word for another may have.
            limiter.retreat(call)
            if error.kind != "unsupported_field" or len(tried) == total:
                raise
            asked -= 1
            refused = error
            continue
        except CancelledError:
            call.upstream_seconds += monotonic() - started
            _note(call, way, 0, call.cause or "cancelled", started)
            raise
        call.upstream_seconds += monotonic() - started
        status = reply.status
        if status < 400:
            _note(call, way, status, "", started)
            return reply
        _note(call, way, status, str(status), started)
        limiter.retreat(call)
        if status in OUR_FAULT and way.signer is not None:
            way.signer.refused()
        if last or not _retried_status(status, retry):
            return await _error_reply(call, way, reply)
        reply.close()


# Neither this nor `send` is a coroutine of its own: each one more costs every call.


def _ask(call: Call, dialect: Dialect, body: fields.Fields, way: Way) -> Awaitable[Reply]:
    if isinstance(dialect, OpaqueDialect):
        return passthrough.ask(call, dialect, body, way)
    model = call.upstream_model or way.model
    if dialect.name in way.heads:
        call.translation = None
        rename = model != (call.asked or call.model_name)
        payload = dialect.prepare(body, model, rename=rename, stream=call.stream and way.asks_usage)
        payload = _adjusted(call, way, model, payload)
        forwarded = headers.forward(call.exchange.headers, way.allow)
        head = way.head(dialect.name, model, forwarded, len(payload), stream=call.stream)
    else:
        payload, spoken = _translate(call, dialect, body, way, model)
        payload = _adjusted(call, way, model, payload)
        head = way.head(spoken, model, b"", len(payload), stream=call.stream)
    if way.signer is not None:
        return _ask_signed(call, way, head, payload)
    call.live.limiter.sent(call)
    sending: Awaitable[Reply] = way.pool.send(head, payload, call.model.timeouts, whole=not call.stream)
    return sending


async def _ask_signed(call: Call, way: Way, head: bytes, payload: bytes) -> Reply:
    timeouts: Timeouts = call.model.timeouts
    head = await way.signed(head, payload, timeouts.connect)
    call.live.limiter.sent(call)
    return await way.pool.send(head, payload, timeouts, whole=not call.stream)


def _adjusted(call: Call, way: Way, model: str, payload: bytes) -> bytes:
    """The request as this vendor wants it for this model."""
    adjust = way.traits(model).adjust
    payload, call.dropped = (payload, ()) if adjust is None else adjust.apply(payload)
    return payload


def _translate(call: Call, dialect: Dialect, body: fields.Fields, way: Way, model: str) -> tuple[bytes, str]:
    """The request in a dialect the provider speaks, and which; `call.translation` then translates its answer."""
    op = OPERATION_OF.get(dialect.name, "")
    spoken = way.translated.get(op)
    client = OPERATIONS[op].clients.get(dialect.name) if op else None
    if client is None or spoken is None:
        lacking = OPERATIONS[op].lacking if op else "does not offer this operation"
        raise UpstreamError(
            "endpoint_not_enabled",
            f"The provider {way.provider!r} of the model {call.model_name!r} {lacking}.",
            reason="not_offered",
            sent=False,
        )
    if call.chat is None:
        call.chat = read_chat(client, body.replace({}), model=call.model_name, stream=call.stream)
    translation = call.translation = between(
        client,
        OPERATIONS[op].providers[spoken],
        call.chat,
        int(time()),
        streams=OPERATIONS[op].streams,
        call_id=call.id,
    )
    traits = way.traits(model)
    target = Target(model, way.max_output, way.drop, mid_system=traits.mid_system, features=traits.features)
    return translation.request(target), spoken


def _may_retry(error: UpstreamError, retry: Retry) -> bool:
    if error.reason in NOT_SENT:
        return "connect" in retry.on
    return error.reason == "timeout" and "timeout" in retry.on


def _retried_status(status: int, retry: Retry) -> bool:
    return str(status) in retry.on or (status >= 500 and "5xx" in retry.on)


async def _error_reply(call: Call, way: Way, reply: Reply) -> Reply:
    """An upstream's error, whole; one about our own credential is not the caller's business and raises instead."""
    if not reply.body:
        reply.body = await reply.rest(1024 * 1024)
    if reply.status in OUR_FAULT:
        raise GatewayError(
            "upstream_auth_failed",
            f"The provider {way.provider!r} refused this gateway's own credential (status {reply.status}). "
            "Your key is fine; whoever runs this gateway must look at the provider's key.",
        )
    secret = way.secret if way.signer is None else way.signer.secret
    if secret and secret in reply.body:
        reply.body = reply.body.replace(secret, b"***")
    call.error = f"upstream_{reply.status}"
    return reply


def _note(call: Call, way: Way, status: int, reason: str, started: float) -> None:
    name = f"{way.provider}/{call.upstream_model}" if call.upstream_model else way.name
    call.attempts.append(Attempt(name, way.provider, status, reason, (monotonic() - started) * 1000))


def _none_left(call: Call) -> GatewayError:
    return GatewayError("no_target_available", f"No target of the model {call.model.name!r} is left to try.")
