"""The life of a request, from top to bottom.

accept → scan headers → peek (model, stream) → before-policies → choose target → send → retry → relay → settle and
record. One coroutine a call, no task of its own, no timer of its own.
"""

import asyncio
import os
from collections.abc import Awaitable
from time import monotonic_ns
from typing import Any

from fastgw._core import fields, headers
from fastgw._core import table as shared
from fastgw.call import Call
from fastgw.dialects.base import Dialect, Tap
from fastgw.dialects.opaque import OpaqueDialect
from fastgw.errors import GatewayError
from fastgw.gateway import attempts, fallback, names, passthrough, relay, responses_state, routes
from fastgw.gateway.answer import JSON, SERVER, Headers, add_facts, error_answer
from fastgw.gateway.exchange import Exchange
from fastgw.gateway.listing import shape_of
from fastgw.gateway.live import Live
from fastgw.gateway.routes import Match
from fastgw.gateway.settle import Lane, Ledger, Spool
from fastgw.gateway.translate import EarlyFailure
from fastgw.gateway.watch import Watch, body_deadline
from fastgw.plan.plan import Plan
from fastgw.telemetry.log import Log
from fastgw.upstream.client import Client
from fastgw.upstream.reply import Reply

FORBIDDEN = frozenset(
    {
        b"api_base", b"base_url", b"api_key", b"api_version", b"api_type", b"organization", b"extra_headers",
        b"extra_query", b"extra_body", b"custom_llm_provider", b"azure_ad_token",
    }
)  # fmt: skip
FORBIDDEN_PREFIXES = (b"aws_", b"vertex_")
UNRECORDED = "This gateway cannot record calls at the moment, and refuses them meanwhile; try again later."
JSON_TYPES = frozenset({None, b"application/json"})
CLOSE = (b"connection", b"close")
MAX_UNSTREAMED = 64 * 1024 * 1024


class Doubtful(GatewayError):
    """The head can be read in two ways: what follows on the connection may be no request, so it is not read."""

    __slots__ = ()


class Pipeline:
    """Serves the requests of one worker by the plan that was applied last."""

    def __init__(self, plan: Plan, *, table: shared.Table, lane: Lane, spool: Spool, client: Client, log: Log) -> None:
        self.table = table
        self.client = client
        self.log = log
        self.book = lane.book()
        self.ledger = Ledger(lane, self.book, spool, log)
        self._loop = asyncio.get_running_loop()
        self.watch = Watch(self._loop)
        self.refusing = ""
        """Why no new calls are taken: `shutting_down`, `overloaded`, or empty while they are."""
        self.shed = 0
        self.live = Live(plan, client, table, self.book)
        self._prefix = os.urandom(6).hex()
        self._count = 0

    def start(self) -> None:
        """Begin to look after running calls."""
        self.watch.start()

    def close(self) -> None:
        """Stop looking after calls."""
        self.watch.stop()

    def apply(self, plan: Plan) -> None:
        """Serve new calls by `plan`; running ones keep theirs."""
        live = Live(plan, self.client, self.table, self.book)
        self.live = live
        self.client.retire({upstream.origin for upstream in plan.upstreams.values()})
        self.client.vault.retire({upstream.credential for upstream in plan.upstreams.values()})

    def serve(self, exchange: Exchange) -> Awaitable[None]:
        """One request, from its head to its record."""
        now_ns = monotonic_ns()
        self._count += 1
        call_id = f"req_{self._prefix}{self._count:08x}"
        call = Call(call_id, now_ns * 1e-9, now_ns, self.live, exchange)
        match = routes.PROXIED.get(exchange.path)
        if match is None or exchange.method != "POST" or self.refusing:
            return self._elsewhere(call, match)
        return self._proxied(call, match)

    async def _proxied(self, call: Call, match: Match) -> None:
        dialect = match.endpoint.dialect
        call.task = asyncio.current_task(self._loop)  # without the loop: a system call
        self.watch.add(call)
        try:
            await self._run(call, match)
        except GatewayError as error:
            await self._refuse(call, dialect, error)
        except asyncio.CancelledError:
            await self._interrupted(call, dialect)
        except Exception as error:  # noqa: BLE001 - the last wall: one call fails, the worker goes on
            await self._failed(call, dialect, error)
        finally:
            self._settle(call)
            self.watch.remove(call)
            if call.reply is not None:
                call.reply.close()

    async def _run(self, call: Call, match: Match) -> None:
        live, dialect = call.live, match.endpoint.dialect
        if self.ledger.spool.full and live.options.refuse_unrecorded:
            raise GatewayError("overloaded", UNRECORDED, retry_after=1)
        scan = self._scan(call)
        for check in live.head:
            check(call, scan)
        body: Any
        if match.kept is None:
            mark = _boundary(call, match, scan)
            body = _peek(call, match, mark, await self._take(call, scan))
        else:
            # Whether it may be made is known before its body is read.
            asked = responses_state.asked if match.kept.interface == "responses" else passthrough.asked
            made = asked(call, match.kept)
            body = made(await self._take(call, scan))
        call.content, call.operation = body, dialect.name
        call.now_ns = monotonic_ns()  # a slow body may have taken half a minute, and limits are counted by this
        for check in live.body:
            check(call)
        if isinstance(dialect, OpaqueDialect):
            await self._pass_on(call, dialect, body)
            return
        if dialect.name in responses_state.GOING_ON:
            body = responses_state.prepare(call, body)
        if call.wishes is not None:
            reply = await fallback.send(call, dialect, body)
        elif call.model.falls_back:
            reply = await fallback.by_operator(call, dialect, body)
        else:
            reply = await attempts.send(call, dialect, body)
        if not call.stream or reply.status >= 400:
            await self._respond_whole(call, dialect, reply)
            return
        if call.translation is None and not _is_event_stream(reply.header(b"content-type")):
            # Some servers answer a streamed request with one JSON document; it is passed on as what it is.
            reply.body = await reply.rest(MAX_UNSTREAMED)
            await self._respond_whole(call, dialect, reply)
            return
        wants_usage = dialect.wants_usage(body)
        tap: Tap = dialect.tap(wants_usage=wants_usage, cost=lambda usage: relay.price_of(call, usage))
        if call.translation is not None:
            tell_cost = tap.feed if dialect.tells_cost and wants_usage else None
            tap = call.translation.tap(call.shown, call.id, tell_cost)
        elif dialect.name == responses_state.NAME:
            tap = responses_state.SealingTap(tap, responses_state.swap_of(call))
        try:
            await relay.stream(call, dialect, reply, tap, live.options.heartbeat)
        except EarlyFailure as failure:
            await self._respond(call, *relay.problem(call, reply, failure.problem))
            return
        self._settle(call)
        await call.exchange.close()

    async def _pass_on(self, call: Call, dialect: OpaqueDialect, body: passthrough.Request) -> None:
        """A call of which nothing but the model, or not even that, is understood."""
        reply = await attempts.send(call, dialect, body)
        tap: Tap = dialect.tap(wants_usage=True, cost=lambda usage: relay.price_of(call, usage))
        edit = None
        if call.quoted is not None:
            tap, edit = responses_state.SealingTap(tap, responses_state.swap_of(call)), responses_state.seal_whole
        whole = await passthrough.answer(call, dialect, reply, tap, edit)
        if whole is not None:
            await self._respond(call, *whole)
            return
        self._settle(call)
        await call.exchange.close()

    def _respond_whole(self, call: Call, dialect: Dialect, reply: Reply) -> Awaitable[None]:
        if dialect.name in responses_state.GOING_ON and call.translation is None:
            responses_state.seal_whole(call, reply)
        return self._respond(call, *relay.whole(call, dialect, reply))

    def _settle(self, call: Call) -> None:
        """Record the call, once, and before the end of its answer: who has the answer can count on the record."""
        if not call.done:
            call.done = True
            self.ledger.settle(call)

    def _respond(self, call: Call, head: Headers, body: bytes) -> Awaitable[None]:
        self._settle(call)
        responding: Awaitable[None] = call.exchange.respond(call.status, head, body)
        return responding

    def _scan(self, call: Call) -> headers.Scan:
        options = call.live.options
        try:
            scan = headers.scan(call.exchange.headers, options.max_headers, options.max_header_bytes)
        except headers.HeaderError as error:
            raise Doubtful("headers_too_large" if error.status == 431 else error.code, error.message) from None
        if scan.label is not None:
            call.label = scan.label.decode("ascii")
        return scan

    async def _take(self, call: Call, scan: headers.Scan) -> bytes:
        """The body, read whole."""
        options = call.live.options
        call.body_deadline = body_deadline(options, call.started, scan.content_length)
        raw: bytes = await call.exchange.body(scan.content_length, options.max_body)
        call.body_deadline = 0.0
        call.bytes_in = len(raw)
        return raw

    async def _refuse(self, call: Call, dialect: Dialect | None, error: GatewayError) -> None:
        call.status, call.error = error.status, error.row.code
        if call.exchange.started:
            self._settle(call)
            if error.kind != "client_closed":
                await call.exchange.close()
            return
        if error.kind == "client_closed":
            # It may have closed its sending side only, or sent what cannot be read on: then this is its answer.
            error = GatewayError("bad_request", "The connection was closed before the answer, or the body broke off.")
            head, body = error_answer(call, dialect, error)
            self._settle(call)
            await call.exchange.respond(error.status, [*head, CLOSE], body)
            return
        head, body = error_answer(call, dialect, error)
        if error.kind in ("request_too_large", "request_timeout", "shutting_down") or isinstance(error, Doubtful):
            head.append(CLOSE)
        call.bytes_out = len(body)
        await self._respond(call, head, body)

    async def _interrupted(self, call: Call, dialect: Dialect) -> None:
        """The task was cancelled: by `call.abandon`, whose cause decides, or by the loop that is being closed."""
        task = asyncio.current_task()
        if not call.cause or task is None:
            call.status, call.error = 499, "cancelled"
            raise asyncio.CancelledError
        task.uncancel()
        if call.reply is not None:
            call.reply.close()
        error = relay.interrupted(call.cause)
        if call.sent and call.usage is None:
            # What was asked may be on the provider's bill, whoever has left.
            relay.account(call, dialect, None)
        last = relay.stream_error(call, dialect, error) if call.exchange.started else b""
        if last and error.kind != "client_closed":
            await call.exchange.send(last)
        await self._refuse(call, dialect, error)

    async def _failed(self, call: Call, dialect: Dialect | None, error: Exception) -> None:
        self.log.error("internal_error", id=call.id, error=error, where=_where(error))
        message = f"Something went wrong in this gateway. Its log has the details under {call.id}."
        await self._refuse(call, dialect, GatewayError("internal_error", message))

    async def _elsewhere(self, call: Call, match: Match | None) -> None:
        """Everything that is not proxied on the hot path: health, models, Azure's paths, what does not exist."""
        exchange = call.exchange
        if exchange.path in (routes.LIVE, routes.READY):
            await self._health(exchange)
            return
        if match is None and not self.refusing:
            match = routes.named(exchange.path) if exchange.method == "POST" else None
            match = match or routes.kept(exchange.path)
            if match is not None:
                await self._proxied(call, match)
                return
        try:
            status, body = self._answer(call, match)
            call.status = status
            head: Headers = [JSON]
            add_facts(call, head)
            call.bytes_out = len(body)
            await self._respond(call, head, body)
        except GatewayError as error:
            await self._refuse(call, None, error)
        except Exception as error:  # noqa: BLE001 - as above
            await self._failed(call, None, error)
        finally:
            self._settle(call)

    def _answer(self, call: Call, match: Match | None) -> tuple[int, bytes]:
        exchange = call.exchange
        scan = self._scan(call)
        if self.refusing == "overloaded":
            self.shed += 1
            raise GatewayError("overloaded", "Too much is going on here; send the request again.", retry_after=1)
        if self.refusing:
            raise relay.interrupted("shutting_down")
        named = routes.model_in(exchange.path) if exchange.method == "GET" else None
        if named is None and routes.malformed(exchange.path):
            raise Doubtful("bad_request", "The path is not in its plain form: no //, no dot segments, no escapes.")
        if match is not None or (exchange.path in routes.MODELS and exchange.method != "GET"):
            wanted = "POST" if match is not None else "GET"
            raise GatewayError("method_not_allowed", f"This path takes {wanted} requests only.", allow=wanted)
        for check in call.live.head:
            check(call, scan)
        if exchange.path in routes.MODELS:
            return 200, call.live.models_json(call.key, shape_of(exchange), exchange.query)
        if named is not None:
            return 200, self._model(call, named)
        raise GatewayError(
            "endpoint_not_enabled",
            f"{exchange.method} on this path is not served here. Served are /v1/chat/completions, /v1/completions, "
            "/v1/embeddings, /v1/responses, /v1/responses/input_tokens, /v1/messages, /v1/messages/count_tokens, "
            "/v1beta/models/{model}:generateContent, :streamGenerateContent, :embedContent, :batchEmbedContents, "
            ":countTokens, /v1/images/..., /v1/audio/..., /v1/moderations, /v1/rerank and /v1/models.",
        )

    def _model(self, call: Call, name: str) -> bytes:
        live: Live = call.live
        found = live.model_json(call.key, name, shape_of(call.exchange))
        if found is None:
            raise GatewayError(
                "model_not_found",
                "This model does not exist here. GET /v1/models lists those you may use.",
                param="model",
            )
        call.model_name = name
        return found

    async def _health(self, exchange: Exchange) -> None:
        state = {"": b"ready", "overloaded": b"overloaded"}.get(self.refusing, b"draining")
        if exchange.path == routes.LIVE:
            await exchange.respond(200, [JSON, SERVER], b'{"status":"live"}')
            return
        demo = b',"demo":true' if self.live.options.demo else b""
        body = b'{"status":"%b","revision":%d%b}' % (state, self.live.revision, demo)
        await exchange.respond(503 if self.refusing else 200, [JSON, SERVER], body)


def _boundary(call: Call, match: Match, scan: headers.Scan) -> bytes | None:
    """Where the parts of a form are cut, None for JSON; refuses what is neither, before it is read."""
    mark = passthrough.boundary(match.endpoint.dialect, scan, call.exchange.headers)
    if mark is None and scan.content_type not in JSON_TYPES:
        raise GatewayError("bad_request", "The body must be JSON: send `content-type: application/json`.")
    if match.stream:
        call.form = routes.form(call.exchange.query)
    return mark


def _peek(call: Call, match: Match, mark: bytes | None, raw: bytes) -> Any:
    """The body that was read, looked into: `call.model_name` and `call.stream` are known afterwards."""
    dialect = match.endpoint.dialect
    try:
        if mark is not None:
            body: Any = passthrough.read_form(call, raw, mark, match.model, dialect)
        else:
            body = fields.scan(raw)
            call.model_name = match.model or body.text(b"model") or passthrough.default_model(dialect)
            body = names.prepare(call, match, body)
        if match.deployed:
            body = passthrough.with_model(body, match.model, mark)
        call.stream = match.stream if match.stream is not None else dialect.streams and body.flag(b"stream")
    except fields.FieldError as error:
        raise GatewayError(error.code, error.message, param=error.field) from None
    _check_fields(body, dialect, match)
    if not call.model_name:
        raise GatewayError("missing_field", "You must provide model, and it must not be empty.", param="model")
    return body


def _check_fields(body: passthrough.Body, dialect: Dialect, match: Match) -> None:
    bad = body.forbidden(FORBIDDEN, FORBIDDEN_PREFIXES)
    if bad is not None:
        name = bad.decode("utf-8", "replace")
        raise GatewayError(
            "forbidden_field", f"{name} may not be sent: where a call goes is decided by this gateway.", param=name
        )
    for field in dialect.required:
        if not body.has(field) and not (match.model and field == b"model"):
            name = field.decode()
            raise GatewayError("missing_field", f"You must provide {name}.", param=name)


def _is_event_stream(content_type: bytes | None) -> bool:
    return content_type is None or content_type.lower().startswith(b"text/event-stream")


def _where(error: BaseException) -> str:
    """File and line of the innermost frame, for the log: never values."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else ""
