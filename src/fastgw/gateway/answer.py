"""The head of an answer: the upstream's headers that may travel, and the facts fastgw adds."""

import re
from collections.abc import Sequence
from math import ceil
from time import monotonic

from fastgw._core import headers as native
from fastgw._core import table
from fastgw._core.table_told import lines
from fastgw.call import Call
from fastgw.dialects.base import Dialect
from fastgw.dialects.errors import WRITERS
from fastgw.errors import GatewayError
from fastgw.gateway import routes
from fastgw.plan.plan import Rule
from fastgw.plan.prices import dollars
from fastgw.telemetry import record
from fastgw.upstream.reply import Reply
from fastgw.upstream.route import facts

Headers = list[tuple[bytes, bytes]]

FROM_UPSTREAM = native.Allow(
    (b"content-type", b"content-encoding", b"openai-processing-ms", b"openai-version", b"openai-model"), ()
)
WITH_ERRORS = native.Allow(
    (b"content-type", b"content-encoding", b"retry-after", b"retry-after-ms", b"x-should-retry"), ()
)
JSON = (b"content-type", b"application/json")
CHALLENGE = (b"www-authenticate", b"Bearer")
EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
SSE_HINTS: Headers = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
SERVER = (b"server", b"fastgw")
ONE = (b"x-fastgw-attempts", b"1")
NO_RETRY = frozenset({"budget_exceeded"})
"""What the SDKs would otherwise ask for again and again, hours before it can be had."""

UPSTREAM_IDS = frozenset({b"x-request-id", b"request-id", b"x-amzn-requestid"})
"""What OpenAI and most others, Anthropic and AWS call the id of a request."""

SAFE_ID = re.compile(rb"[!-~]{1,128}")
UNITS = {"requests": table.REQUESTS, "tokens": table.TOKENS}


def upstream_headers(call: Call, reply: Reply) -> Headers:
    """The headers of an answer that came from an upstream."""
    headers: Headers = native.respond(reply.headers, FROM_UPSTREAM if reply.status < 400 else WITH_ERRORS)
    if call.stream and reply.status < 300:
        headers += SSE_HINTS
    _add_upstream_id(headers, reply)
    _add_dropped(headers, call.dropped)
    add_facts(call, headers)
    return headers


def translated_headers(call: Call, reply: Reply) -> Headers:
    """The headers of an answer in another dialect than the upstream's: its type is ours, its own are few."""
    headers: Headers = [EVENT_STREAM, *SSE_HINTS] if call.stream and reply.status < 300 else [JSON]
    if reply.status >= 400:
        headers += native.respond([pair for pair in reply.headers if pair[0] != b"content-type"], WITH_ERRORS)
    _add_upstream_id(headers, reply)
    _add_dropped(headers, [*call.translation.dropped, *call.dropped])
    add_facts(call, headers)
    return headers


def _add_dropped(headers: Headers, names: Sequence[str]) -> None:
    """Which fields of the request were left out or altered, where any were."""
    if names:
        headers.append((b"x-fastgw-dropped", ",".join(dict.fromkeys(names)).encode("ascii", "replace")))


def _add_upstream_id(headers: Headers, reply: Reply) -> None:
    for name, value in reply.headers:
        if name in UPSTREAM_IDS:
            if SAFE_ID.fullmatch(value):
                headers.append((b"x-fastgw-upstream-request-id", value))
            return


def add_facts(call: Call, headers: Headers) -> None:
    """What fastgw tells of every call: its id, limits and, unless the operator hides them, the `x-fastgw-*` facts."""
    live = call.live
    headers += ((b"x-request-id", call.id.encode()), SERVER)
    headers += call.told
    for unit, (limit, remaining, reset_ns) in call.ratelimit.items():
        headers += lines(UNITS[unit], limit, remaining, reset_ns)
    if call.soft:
        headers.append((b"x-fastgw-soft-budget", b", ".join(_soft(rule) for rule in call.soft)))
    if not live.expose_facts:
        return
    target = call.target
    if target is None:
        headers.append(live.revision_header)
        return
    if call.upstream_model:
        headers += facts(call.model_name, target.provider, f"{target.provider}/{call.upstream_model}")
    else:
        headers += target.facts
    if call.cost_nano is not None and call.usage is not None:
        headers.append((b"x-fastgw-cost", dollars(call.cost_nano).encode()))
    if len(call.attempts) > 1:
        headers.append((b"x-fastgw-route", _route(call.attempts)))
    overhead_us = int((monotonic() - call.started - call.upstream_seconds) * 1_000_000)
    headers += (
        live.revision_header,
        ONE if len(call.attempts) == 1 and call.status < 400 else _asked(call.attempts),
        (b"x-fastgw-overhead-ms", b"%d.%03d" % divmod(overhead_us, 1000)),
    )


def _asked(attempts: Sequence[record.Attempt]) -> tuple[bytes, bytes]:
    return b"x-fastgw-attempts", b"%d" % record.asked(attempts)


def _route(attempts: Sequence[record.Attempt]) -> bytes:
    """Which targets were looked at, in order, and what came of each: `a/m=503, b/m=200`."""
    return ", ".join(f"{one.target}={one.reason or one.status}" for one in attempts).encode("ascii", "replace")


def error_answer(call: Call, dialect: Dialect | None, error: GatewayError) -> tuple[Headers, bytes]:
    """Headers and body of a refusal or failure, in the caller's dialect."""
    if dialect is not None:
        body = dialect.error(error, call.id)
    else:
        body = WRITERS[routes.family(call.exchange.path)](error, call.id)
    headers: Headers = [JSON]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, ceil(error.retry_after))))
        headers.append((b"retry-after-ms", b"%d" % max(1, ceil(error.retry_after * 1000))))
    if error.status == 401:
        headers.append(CHALLENGE)
    if error.allow:
        headers.append((b"allow", error.allow.encode()))
    if error.kind in NO_RETRY:
        headers.append((b"x-should-retry", b"false"))
    add_facts(call, headers)
    return headers, body


def _soft(rule: Rule) -> bytes:
    """A soft budget that is used up: `key 1.5/day`."""
    return f"{rule.level} {dollars(rule.limit)}/{rule.per}".encode()
