"""Passing an answer on: whole, or event by event with its usage tapped."""

from math import ceil
from time import monotonic

from fastgw.call import Call, Usage
from fastgw.dialects import framing
from fastgw.dialects.base import Dialect, Tap
from fastgw.dialects.hub import Problem
from fastgw.dialects.opaque import OpaqueDialect
from fastgw.errors import GatewayError, UpstreamError
from fastgw.gateway.answer import Headers, translated_headers, upstream_headers
from fastgw.gateway.translate import EarlyFailure
from fastgw.plan import prices
from fastgw.upstream.reply import Reply

BYTES_AROUND, BYTES_PER_TOKEN = 320, 4
"""Of an event what is not text, at most about; and of text what a token takes in English."""
PING = framing.comment("ping")


def account(call: Call, dialect: Dialect, usage: Usage | None, estimated_output: int = 0) -> None:
    """Note what the call used and costs; without a usage from the upstream it is estimated and marked so."""
    if usage is not None:
        call.usage_source = "upstream"
    elif isinstance(dialect, OpaqueDialect):
        return  # nothing to estimate from
    else:
        usage = Usage(input=dialect.estimate_input(call.bytes_in), output=estimated_output)
        call.usage_source = "estimated"
    call.usage = usage
    call.cost_nano = price_of(call, usage)


def price_of(call: Call, usage: Usage) -> int | None:
    """Nano-dollars of `usage` at this call's target; None where it has no price."""
    price = call.target.price_for(call.upstream_model)
    return None if price is None else prices.cost_nano(price, usage)


def whole(call: Call, dialect: Dialect, reply: Reply) -> tuple[Headers, bytes]:
    """The head and body of an answer that passes a complete reply on, its bytes untouched where dialects agree."""
    if call.translation is not None:
        return _translated(call, dialect, reply)
    body = reply.body
    if reply.status < 300:
        account(call, dialect, dialect.usage(body))
    call.status = reply.status
    call.bytes_out = len(body)
    return upstream_headers(call, reply), body


def _translated(call: Call, dialect: Dialect, reply: Reply) -> tuple[Headers, bytes]:
    """The same in the caller's dialect. Raises UpstreamError when the reply cannot be read."""
    if reply.status >= 400:
        return problem(call, reply, call.translation.read_error(reply.status, dict(reply.headers), reply.body))
    body: bytes
    try:
        body, usage = call.translation.whole(reply.body, call.shown, dialect.estimate_input(call.bytes_in))
    except EarlyFailure as failure:
        return problem(call, reply, failure.problem)
    account(call, dialect, usage)
    call.status = reply.status
    call.bytes_out = len(body)
    return translated_headers(call, reply), body


def problem(call: Call, reply: Reply, told: Problem) -> tuple[Headers, bytes]:
    """The head and body of an upstream's error in the caller's dialect, wherever the upstream told it."""
    call.stream = False
    body: bytes
    call.status, body = call.translation.problem(told, call.id)
    call.error = call.error or "upstream_error_event"
    call.bytes_out = len(body)
    headers = translated_headers(call, reply)
    if told.retry_after is not None and not any(name == b"retry-after" for name, _ in headers):
        headers.append((b"retry-after", b"%d" % max(1, ceil(told.retry_after))))
    return headers, body


async def stream(call: Call, dialect: Dialect, reply: Reply, tap: Tap, heartbeat: float) -> None:
    """A streamed reply, sent event by event but not ended; nothing is sent before the upstream's first event.

    Raises UpstreamError while nothing was sent yet; later failures are told inside the stream, which then ends
    without the dialect's own end.
    """
    exchange = call.exchange
    headers = upstream_headers(call, reply) if call.translation is None else translated_headers(call, reply)
    if call.form is not None:
        headers = [(b"content-type", call.form.content_type), *(pair for pair in headers if pair[0] != b"content-type")]
    call.status = reply.status
    try:
        await _pass(call, reply, tap, headers, heartbeat)
        failure = _cut("the upstream ended the stream before its end")
    except UpstreamError as error:
        failure = error
    except ValueError as error:
        failure = _cut(str(error))
    finally:
        if exchange.started:
            account(call, dialect, tap.usage, _made(call, tap.events))
    _tell_health(call, well=tap.complete and not tap.failed)
    # How the connection ended no longer matters once the stream's own end, or an error of its own, has passed.
    if not tap.complete and not tap.failed:
        if not exchange.started:
            raise failure
        call.error = failure.row.code
        await exchange.send(stream_error(call, dialect, failure))
        return
    if tap.failed:
        call.error = "upstream_error_event"
    if call.form is not None and exchange.started:
        await exchange.send(call.form.end())


def _tell_health(call: Call, *, well: bool) -> None:
    """What the end of a stream says of its target, for its breaker."""
    health = call.target.health
    if health is not None:
        (health.well if well else health.failed)(int(monotonic() * 1000))


def _made(call: Call, events: int) -> int:
    """About how many tokens a stream has carried that does not say: one an event, more where events are long."""
    return max(events, (call.bytes_out - events * BYTES_AROUND) // BYTES_PER_TOKEN)


def stream_error(call: Call, dialect: Dialect, error: GatewayError) -> bytes:
    """The event that ends a stream that has begun; nothing where it is no stream of events."""
    if isinstance(dialect, OpaqueDialect) and not call.stream:
        return b""
    teller = dialect.stream_error if call.translation is None else call.translation.fail
    told: bytes = teller(error, call.id)
    return told if call.form is None else call.form.feed(told) + call.form.end()


async def _pass(call: Call, reply: Reply, tap: Tap, headers: Headers, heartbeat: float) -> None:
    exchange, take, arrival, feed, form = call.exchange, reply.take, reply.arrival, tap.feed, call.form
    send = exchange.send
    while True:
        data = take()
        if data is None:
            await arrival()
            data = take()
        if data is None:
            call.poke_at = 0.0
            await send(PING if form is None else form.ping)
            call.poke_at = monotonic() + heartbeat
            continue
        out = feed(data) if data else tap.finish()
        if form is not None:
            out = form.feed(out)
        if out:
            if not exchange.started:
                call.first_byte_at = monotonic()
                await exchange.start_stream(reply.status, headers)
            call.poke_at = 0.0  # until it is taken: the watch sees who takes nothing
            await send(out)
            call.bytes_out += len(out)
            call.poke_at = monotonic() + heartbeat
        if not data:
            return


def _cut(why: str) -> UpstreamError:
    return UpstreamError("upstream_invalid_response", f"The answer is incomplete: {why}.", reason="reset", sent=True)


def interrupted(cause: str) -> GatewayError:
    """Why a running call was ended by the gateway, for its caller."""
    if cause == "shutting_down":
        return GatewayError("shutting_down", "This gateway is shutting down; send the request again.", retry_after=1)
    if cause == "request_timeout":
        return GatewayError(
            "request_timeout", "The request body came too slowly; send it faster or raise bounds.body_timeout."
        )
    return GatewayError("client_closed", "The client left.")
