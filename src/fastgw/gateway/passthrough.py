"""What is passed on without being understood: operations whose only known field is the model, and things that vendors
keep (files, batches, ...), whose paths are passed on as they are to the one provider the operator named for them.

A reply goes on as it comes: JSON whole, for its usage; an event stream event by event; anything else piece by piece, of
which never more than a connection's buffer is held.
"""

import re
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from fastgw._core import fields, headers
from fastgw.call import Call
from fastgw.dialects import form
from fastgw.dialects.base import Tap
from fastgw.dialects.opaque import FORMS, OpaqueDialect
from fastgw.errors import GatewayError, UpstreamError
from fastgw.gateway import relay
from fastgw.gateway.answer import Headers, upstream_headers
from fastgw.gateway.routes import Kept
from fastgw.upstream.reply import Reply
from fastgw.upstream.route import Way

FORM = b"multipart/form-data"
MODEL = b"model"
SINGLE = frozenset({MODEL, b"stream"})
"""Parts that are read here, so that each may be there once."""
METHODS = frozenset({"GET", "POST", "DELETE"})
QUERY = re.compile(rb"[!-\"$-~]*")
NOT_PASSED = frozenset({b"key", b"api_key", b"api-key", b"access_token", b"api-version"})
"""Parameters that say as whom a vendor is called, or by which version of its interface."""
DISPOSITION = headers.Allow((b"content-disposition",))
MAX_WHOLE = 64 * 1024 * 1024
NOT_OFFERED = "The provider {!r} does not offer this operation."
Body = fields.Fields | form.Form
Edit = Callable[[Call, Reply], None]


class Asked(NamedTuple):
    """A request about something that is kept at a vendor, as it goes there. `path` is the vendor's."""

    method: str
    path: str
    payload: bytes


Request = Body | Asked


def boundary(dialect: object, scan: headers.Scan, raw: list[tuple[bytes, bytes]]) -> bytes | None:
    """Where the parts of a form are cut, None for JSON. GatewayError for a form without a boundary in good order."""
    if scan.content_type != FORM or not isinstance(dialect, OpaqueDialect) or dialect.name not in FORMS:
        return None
    try:
        return form.boundary(content_type(raw))
    except fields.FieldError as error:
        raise GatewayError(error.code, error.message) from None


def default_model(dialect: object) -> str:
    """The model an operation has where the caller names none."""
    return dialect.default if isinstance(dialect, OpaqueDialect) else ""


def read_form(call: Call, raw: bytes, mark: bytes, named: str, dialect: object) -> Any:
    """The form in a body; `call.model_name` is known afterwards, by a default where it is not `named` and names none.

    Raises FieldError.
    """
    found = form.scan(raw, mark, SINGLE)
    if found.forbidden(frozenset(), (b"model[",)) is not None:
        # What some servers read as `model` too.
        raise fields.FieldError("duplicate_field", "the model must be named by `model` alone", field="model")
    call.model_name = named or found.text(MODEL) or default_model(dialect)
    default = "" if call.model_name else call.key.default_model or call.live.plan.default_model
    if not default:
        return found
    call.model_name = default
    return with_model(found, default, mark)


def with_model(body: Any, name: str, mark: bytes | None) -> Any:
    """The body of JSON or, with its boundary `mark`, of a form in which the model is `name`. Raises FieldError.

    Where a path names the model a body may name another one, which the vendor would take: access to the one must never
    open the other.
    """
    if body.text(MODEL) == name:
        return body
    written = body.replace({MODEL: msgspec.json.encode(name)})
    return fields.scan(written) if mark is None else form.scan(written, mark, SINGLE)


def content_type(raw: list[tuple[bytes, bytes]]) -> bytes:
    """The caller's content-type as it is written."""
    return next((value.strip() for name, value in raw if name.lower() == b"content-type"), b"")


def asked(call: Call, kept: Kept) -> Callable[[bytes], Asked]:
    """Set the account that a path is about; how its request is then made of the caller's body.

    Raises GatewayError: `endpoint_not_enabled`, `method_not_allowed`, `bad_request`.
    """
    method = call.exchange.method
    if method not in METHODS:
        message = "This path takes GET, POST and DELETE requests only."
        raise GatewayError("method_not_allowed", message, allow="GET, POST, DELETE")
    family = f"{kept.interface}/{kept.family}"
    account = call.live.routes.accounts.get(family)
    if account is None:
        raise GatewayError(
            "endpoint_not_enabled",
            f"{kept.family} of the {kept.interface} interface are not passed on here. Whoever runs this gateway can "
            f"list {kept.family!r} under `pass_through` of the provider whose account is to hold them.",
        )
    if not call.key.pass_through:
        raise GatewayError(
            "endpoint_not_enabled",
            f"The key {call.key.name!r} may not use {kept.family}: all that may share one account and see each "
            "other's. Whoever runs this gateway can set `pass_through: true` for it.",
        )
    take(call, account)
    path = with_query(kept.upload + account.ways[0].keeps(kept.path), call.exchange.query)
    return lambda payload: Asked(method, path, payload)


def take(call: Call, account: Any) -> None:
    """Make the account stand where other calls have their model."""
    call.model, call.model_name = account, account.name


def with_query(path: str, query: bytes) -> str:
    """A vendor's path with the caller's query, but for credentials in it. GatewayError `bad_request`."""
    if not QUERY.fullmatch(query):
        raise GatewayError("bad_request", "The query must be printable ASCII without `#`; percent-encode the rest.")
    parts = [part for part in query.split(b"&") if part and _name(part) not in NOT_PASSED]
    if not parts:
        return path
    return path + ("&" if "?" in path else "?") + b"&".join(parts).decode("ascii")


async def ask(call: Call, dialect: OpaqueDialect, body: Body | Asked, way: Way) -> Reply:
    """One attempt: the reply up to the end of its headers. Raises UpstreamError."""
    call.translation = None
    exchange = call.exchange
    if isinstance(body, Asked):
        method, path, payload = body
    else:
        method, (path, payload) = "POST", _renamed(call, dialect, body, way)
    length = len(payload) if payload or method == "POST" else -1
    typed = content_type(exchange.headers) if payload else b""
    forwarded = headers.forward(exchange.headers, way.allow)
    head = way.opaque_head(method, path, forwarded, typed, length)
    if way.signer is not None:
        head = await way.signed(head, payload, call.model.timeouts.connect)
    call.live.limiter.sent(call)
    reply: Reply = await way.pool.send(head, payload, call.model.timeouts, whole=False)
    call.reply = reply
    return reply


def _renamed(call: Call, dialect: OpaqueDialect, body: Body, way: Way) -> tuple[str, bytes]:
    """Path and body at this target, with its own name of the model."""
    model = call.upstream_model or way.model
    path = way.passes(dialect.name, model)
    if path is None:
        message = NOT_OFFERED.format(way.provider)
        raise UpstreamError("endpoint_not_enabled", message, reason="not_offered", sent=False)
    return path, dialect.prepare(body, model, rename=model != (call.asked or call.model_name), stream=call.stream)


async def answer(
    call: Call, dialect: OpaqueDialect, reply: Reply, tap: Tap, edit: Edit | None
) -> tuple[Headers, bytes] | None:
    """Pass a reply on: the head and body of a whole answer, or None when it was sent already and only must be ended.

    `edit` is done to a reply that was read whole. Raises UpstreamError.
    """
    kind = (reply.header(b"content-type") or b"").partition(b";")[0].strip().lower()
    call.stream = reply.status < 300 and kind == b"text/event-stream"
    if call.stream:
        await relay.stream(call, dialect, reply, tap, call.live.options.heartbeat)
        return None
    if reply.status < 400:
        if kind != b"application/json" or _length(reply) > MAX_WHOLE:
            return await _pieces(call, reply)
        reply.body = await reply.rest(MAX_WHOLE)
    if reply.status < 300 and (usage := dialect.usage(reply.body)) is not None:
        relay.account(call, dialect, usage)
    if edit is not None:
        edit(call, reply)
    call.status = reply.status
    call.bytes_out = len(reply.body)
    return upstream_headers(call, reply), reply.body


async def _pieces(call: Call, reply: Reply) -> tuple[Headers, bytes] | None:
    """Bytes as they come. A cut of what has begun shows by the length, where the upstream told one."""
    exchange = call.exchange
    head = upstream_headers(call, reply)
    head += headers.respond(reply.headers, DISPOSITION)
    if (length := _length(reply)) > 0:
        head.append((b"content-length", b"%d" % length))
    call.status = reply.status
    try:
        while data := await reply.read():
            if not exchange.started:
                call.first_byte_at = monotonic()
                await exchange.start_stream(reply.status, head)
            await exchange.send(data)
            call.bytes_out += len(data)
    except UpstreamError as error:
        if exchange.started:
            call.error = error.row.code
        raise
    return None if exchange.started else (head, b"")


def _name(parameter: bytes) -> bytes:
    return unquote_to_bytes(parameter.partition(b"=")[0]).lower()


def _length(reply: Reply) -> int:
    value = reply.header(b"content-length")
    return int(value) if value and value.isdigit() else 0
