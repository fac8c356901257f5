"""Asking upstreams until one answers: the next target after a failure that cannot have been billed.

Only while nothing has reached the client; each target is asked once. What counts as such a failure is the model's
`retry.on`: `connect` (nothing was sent), `timeout`, `5xx`, or a status.
"""

from asyncio import CancelledError
from random import random
from time import monotonic, time

from fastgw._core import fields, headers
from fastgw.call import Call
from fastgw.dialects.base import Dialect
from fastgw.dialects.hub import Target
from fastgw.dialects.registry import CODECS
from fastgw.errors import GatewayError, UpstreamError
from fastgw.gateway.translate import Translation, read_chat
from fastgw.plan.plan import Retry
from fastgw.telemetry.record import Attempt
from fastgw.upstream.choose import weighted
from fastgw.upstream.reply import Reply
from fastgw.upstream.route import Way

NOT_SENT = frozenset({"connect", "queue_full", "queue_timeout"})
OUR_FAULT = frozenset({401, 403})
NO_STREAM_OPTIONS = frozenset({"no_stream_options"})


async def send(call: Call, dialect: Dialect, body: fields.Fields) -> Reply:
    """The reply that is to be passed on, of whichever target gave it (`call.target`). Raises GatewayError."""
    retry: Retry = call.model.model.retry
    ways: tuple[Way, ...] = call.model.ways
    tried: list[Way] = []
    while True:
        way = weighted(ways, tried, random())  # noqa: S311 - shares load, guards nothing
        if way is None:
            raise _none_left(call)
        tried.append(way)
        call.target = way
        last = len(tried) >= retry.attempts or len(tried) == len(ways)
        started = monotonic()
        try:
            reply = await _ask(call, dialect, body, way)
        except UpstreamError as error:
            call.upstream_seconds += monotonic() - started
            _note(call, way, 0, error.reason, started)
            if last or not _may_retry(error, retry):
                raise
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
        if last or not _retried_status(status, retry):
            return await _error_reply(call, way, reply)
        reply.close()


async def _ask(call: Call, dialect: Dialect, body: fields.Fields, way: Way) -> Reply:
    model = call.upstream_model or way.model
    if dialect.name in way.heads:
        call.translation = None
        payload = dialect.prepare(body, model, rename=model != call.model_name, stream=call.stream and way.asks_usage)
        forwarded = headers.forward(call.exchange.headers, way.allow)
        head = way.head(dialect.name, model, forwarded, len(payload), stream=call.stream)
    else:
        payload = _translate(call, dialect, body, way, model)
        head = way.head(way.translated, model, b"", len(payload), stream=call.stream)
    reply: Reply = await way.pool.send(head, payload, call.model.timeouts, whole=not call.stream)
    call.reply = reply
    return reply


def _translate(call: Call, dialect: Dialect, body: fields.Fields, way: Way, model: str) -> bytes:
    """The request in a dialect the provider speaks; `call.translation` then translates its answer."""
    client, spoken = CODECS.get(dialect.name), CODECS.get(way.translated)
    if client is None or spoken is None:
        raise UpstreamError(
            "no_target_available",
            f"The provider {way.provider!r} does not offer this operation.",
            reason="connect",
            sent=False,
        )
    if call.chat is None:
        call.chat = read_chat(client, body.replace({}), model=call.model_name, stream=call.stream)
    translation = call.translation = Translation(client, spoken, call.chat, int(time()))
    features = frozenset() if way.asks_usage else NO_STREAM_OPTIONS
    return translation.request(Target(model, max_output=way.max_output, drop=way.drop, features=features))


def _may_retry(error: UpstreamError, retry: Retry) -> bool:
    if error.reason in NOT_SENT:
        return "connect" in retry.on
    return error.reason == "timeout" and "timeout" in retry.on


def _retried_status(status: int, retry: Retry) -> bool:
    return str(status) in retry.on or (status >= 500 and "5xx" in retry.on)


async def _error_reply(call: Call, way: Way, reply: Reply) -> Reply:
    """An upstream's error, whole; one about our own credential is not the caller's business and raises instead."""
    if call.stream:
        reply.body = await reply.rest(1024 * 1024)
    if reply.status in OUR_FAULT:
        raise GatewayError(
            "upstream_auth_failed",
            f"The provider {way.provider!r} refused this gateway's own credential (status {reply.status}). "
            "Your key is fine; whoever runs this gateway must look at the provider's key.",
        )
    if way.secret and way.secret in reply.body:
        reply.body = reply.body.replace(way.secret, b"***")
    call.error = f"upstream_{reply.status}"
    return reply


def _note(call: Call, way: Way, status: int, reason: str, started: float) -> None:
    name = f"{way.provider}/{call.upstream_model}" if call.upstream_model else way.name
    call.attempts.append(Attempt(name, way.provider, status, reason, (monotonic() - started) * 1000))


def _none_left(call: Call) -> GatewayError:
    return GatewayError("no_target_available", f"No target of the model {call.model.name!r} is left to try.")
