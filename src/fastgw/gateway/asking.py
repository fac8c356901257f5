"""Asking one target: the request in its dialect, as its vendor wants it, with its head and its credential."""

from collections.abc import Awaitable
from time import time

from fastgw._core import fields, headers
from fastgw.call import Call
from fastgw.dialects.base import Dialect
from fastgw.dialects.hub import Target
from fastgw.dialects.opaque import OpaqueDialect
from fastgw.dialects.registry import OPERATION_OF, OPERATIONS
from fastgw.errors import UpstreamError
from fastgw.gateway import passthrough
from fastgw.gateway.translate import between, read_chat
from fastgw.plan.plan import Timeouts
from fastgw.upstream.reply import Reply
from fastgw.upstream.route import Way


def ask(call: Call, dialect: Dialect, body: fields.Fields, way: Way) -> Awaitable[Reply]:
    """The reply of this target: whole, or up to the end of its headers where it is a stream.

    Not a coroutine of its own: each one more costs every call. Raises GatewayError, at once or when awaited.
    """
    if isinstance(dialect, OpaqueDialect):
        call.spoken = ""
        return passthrough.ask(call, dialect, body, way)
    model = call.upstream_model or way.model
    if dialect.name in way.heads:
        call.spoken = dialect.name
        call.translation = None
        rename = model != (call.asked or call.model_name)
        payload = dialect.prepare(body, model, rename=rename, stream=call.stream and way.asks_usage)
        payload = _adjusted(call, way, model, payload)
        forwarded = headers.forward(call.exchange.headers, way.allow)
        head = way.head(dialect.name, model, forwarded, len(payload), stream=call.stream)
    else:
        payload, spoken = _translate(call, dialect, body, way, model)
        call.spoken = spoken
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
