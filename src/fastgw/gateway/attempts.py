"""Asking upstreams until one answers: the next target after a failure that cannot have been billed.

Only while nothing has reached the client; each target is asked once. What counts as such a failure is the model's
`retry.on`: `connect` (nothing was sent), `timeout`, `reset`, `5xx`, or a status. A target that rests (its breaker is
open, its credential was refused, it asked to be left alone) is passed over, and a model's calls have one account of
retries between them, so that trouble upstream is not made worse.
"""

from asyncio import CancelledError
from collections.abc import Awaitable, Collection
from random import random
from time import monotonic, time
from typing import Any, cast

from fastgw._core import fields
from fastgw.call import Call
from fastgw.dialects.base import Dialect
from fastgw.errors import GatewayError, UpstreamError
from fastgw.gateway import opening
from fastgw.gateway.asking import ask
from fastgw.plan.plan import Retry
from fastgw.providers import failures
from fastgw.telemetry import record
from fastgw.telemetry.record import Attempt
from fastgw.upstream import retry_after
from fastgw.upstream.choose import Tiers, next_of
from fastgw.upstream.health import PROBES, WELL, Health
from fastgw.upstream.reply import Reply
from fastgw.upstream.route import Route, Way

NOT_SENT = frozenset({"auth", "connect", "queue_full", "queue_timeout", "not_offered"})
OURS = frozenset({"queue_full", "queue_timeout", "not_offered"})
"""Failures of this gateway's own making, which say nothing of the target."""
OUR_FAULT = frozenset({401, 403})
OWN_LIMITS = frozenset({"rate_limit_exceeded", "concurrency_limit_exceeded", "budget_exceeded"})
"""Refusals by a target's own limits; those of the caller's end the call at once."""
MAX_ERROR = 1024 * 1024
REST_S = {"rate": 2.0, "quota": 60.0, "auth": 60.0}
"""How long a credential is left alone that was refused, where the refusal names no time."""
AS_STATUS = {"overloaded": 503, "outage": 503, "rate": 429, "timeout": 504, "quota": 429, "auth": 401}
"""The status an error in a stream would have had."""
EVENT = "event_"
"""How the reason begins where a stream opened with an error; its class follows."""
SESSION_FIELDS = (b"prompt_cache_key", b"session_id", b"user", b"metadata")
PROMPT_FIELDS = (b"system", b"systemInstruction", b"instructions", b"messages", b"contents", b"input", b"prompt")
PROMPT_BYTES, MAX_SESSION = 512, 4096


def send(call: Call, dialect: Dialect, body: Any) -> Awaitable[Reply]:
    """The reply that is to be passed on, of whichever target gave it (`call.target`). Raises GatewayError."""
    route: Route = call.model
    route.deposit()
    tiers = route.tiers(session_of(call)) if len(route.ways) > 1 else (route.ways,)
    return first_of(call, dialect, body, tiers, route.model.retry.attempts)


async def first_of(call: Call, dialect: Dialect, body: fields.Fields, tiers: Tiers[Way], most: int) -> Reply:
    """As `send`, of these targets of the call's model and in `most` attempts."""
    if call.pinned:
        tiers = tuple(tuple(way for way in tier if way.provider == call.pinned) for tier in tiers)
    tried: list[Way] = []
    asked = 0
    refused: GatewayError | None = None
    while (way := next_of(tiers, tried, random())) is not None:  # noqa: S311 - shares load, guards nothing
        tried.append(way)
        call.target = way
        started = monotonic()
        ready = WELL if way.health is None else way.health.ready(int(started * 1000))
        if not ready:
            refused = _sooner(refused, _rests(call, way, started))
            continue
        way.latency.busy += 1
        try:
            no = call.live.limiter.attempt(call, way)
            if no is not None:
                refused = _sooner(refused, no)
                continue
            reply = call.reply = await ask(call, dialect, body, way)
            broken = await opening.failure_in(call, reply) if call.stream and reply.status < 400 else None
            if reply.status < 400 and broken is None:
                _answered(call, way, reply.status, started, ready)
                return reply
            asked += 1
            another = await _to_next(call, way, reply, broken, started)
            if not another or not _another(call, _more(tiers, tried), asked < most, sent=True):
                return reply if broken is not None else _error_reply(call, way, reply)
            reply.close()
        except UpstreamError as error:
            asked += 1
            _failed(call, way, started, error)
            another = _is_retried(error, call.model)
            if not another or not _another(call, _more(tiers, tried), asked < most, sent=error.sent):
                raise
        except GatewayError as error:
            # What this target has no word for another may have.
            call.live.limiter.retreat(call)
            if error.kind != "unsupported_field" or not _more(tiers, tried):
                raise
            refused = error
        except CancelledError:
            _note(call, way, 0, call.cause or "cancelled", started)
            raise
        finally:
            way.latency.busy -= 1
            if ready == PROBES:
                cast(Health, way.health).give_back(int(monotonic() * 1000))
    if refused is not None and refused.kind in OWN_LIMITS:
        call.refused_by = "target"
    raise refused or _none_left(call)


def _more(tiers: Tiers[Way], tried: Collection[Way]) -> list[Way]:
    return [way for tier in tiers for way in tier if way not in tried]


def _another(call: Call, left: list[Way], may: bool, *, sent: bool) -> bool:
    """Whether another of those `left` may be asked now; those that rest are noted where no other is.

    A retry is then taken, but not after what was never sent: that has added to nobody's load.
    """
    if not left or not may:
        return False
    now = monotonic()
    now_ms = int(now * 1000)
    if any(way.health is None or not way.health.resting(now_ms) for way in left):
        return not sent or bool(call.model.may_retry())
    for way in left:
        _rests(call, way, now)
    return False


def _sooner(one: GatewayError | None, other: GatewayError) -> GatewayError:
    """That refusal after which to come again sooner."""
    if one is None or one.retry_after is None:
        return other
    return other if other.retry_after is not None and other.retry_after < one.retry_after else one


def session_of(call: Call) -> bytes:
    """What tells one conversation from another, for targets that are to keep theirs (and its prompt cache)."""
    if not call.model.by_session:
        return b""
    whose: bytes = call.key.name.encode()
    content = call.content
    if isinstance(content, fields.Fields):
        for name in SESSION_FIELDS:
            if (found := content.get(name)) is not None and found != b"null":
                return whose + found[:MAX_SESSION]
        for name in PROMPT_FIELDS:
            if (found := content.get(name)) is not None:
                # How a conversation begins does not change as it goes on.
                return whose + found[:PROMPT_BYTES]
    return whose


def _rests(call: Call, way: Way, now: float) -> GatewayError:
    """Note a target that is to be left alone now; the refusal, where it was the last."""
    health = way.health
    assert health is not None
    _note(call, way, 0, record.RESTING + health.why, now)
    wait = health.wait_s(int(now * 1000))
    if health.why == "rate":
        return GatewayError(
            "upstream_rate_limited",
            f"The provider {way.provider!r} asked to be left alone for a while. Try again in {wait:.1f} s.",
            retry_after=wait,
        )
    why = "the provider refused this gateway's credential" if health.why == "auth" else "it has failed too often"
    return GatewayError(
        "no_target_available",
        f"No target of the model {call.model.name!r} can be asked now: {way.name} rests, as {why}. "
        f"Try again in {wait:.1f} s.",
        retry_after=wait,
    )


def _answered(call: Call, way: Way, status: int, started: float, ready: int) -> None:
    now = _note(call, way, status, "", started)
    # Of a stream only its end tells that all is well; a probe need not wait for that.
    if way.health is not None and (not call.stream or ready == PROBES):
        way.health.well(int(now * 1000))
    if call.model.timed:
        way.latency.add(now - started, now)


def _failed(call: Call, way: Way, started: float, error: UpstreamError) -> None:
    """No answer came."""
    now = _note(call, way, 0, error.reason, started)
    call.live.limiter.retreat(call)
    if error.reason == "timeout":
        way.latency.add(now - started, now)
    if way.health is not None and error.reason not in OURS:
        way.health.failed(int(now * 1000))


async def _to_next(call: Call, way: Way, reply: Reply, broken: bytes | None, started: float) -> bool:
    """After an error as an answer, or a stream that opens with one: whether another target may do better."""
    retry: Retry = call.model.model.retry
    if broken is None:
        if not reply.body:
            reply.body = await reply.rest(MAX_ERROR)
        means = failures.of_reply(way.kind, reply.status, reply.body)
        status, reason = reply.status, str(reply.status)
    else:
        means = failures.of_event(broken)
        status, reason = AS_STATUS.get(means, 400), EVENT + means
    now = _note(call, way, reply.status, reason, started)
    call.live.limiter.retreat(call)
    _remember(way, means, reply, int(now * 1000))
    return means == "auth" or _retried_status(status, retry)


def class_of(call: Call, reply: Reply) -> failures.Class | None:
    """What failed in a reply that is to be passed on; None where nothing did."""
    if reply.status >= 400:
        return failures.of_reply(call.target.kind, reply.status, reply.body)
    last: str = next(one.reason for one in reversed(call.attempts) if not one.reason.startswith(record.RESTING))
    return cast(failures.Class, last.removeprefix(EVENT)) if last.startswith(EVENT) else None


def _remember(way: Way, means: failures.Class, reply: Reply, now_ms: int) -> None:
    """What the error says of the target, for the calls to come."""
    if means == "auth" and way.signer is not None:
        way.signer.refused()
    health = way.health
    if health is None:
        return
    if means in ("outage", "overloaded", "timeout"):
        health.failed(now_ms)
    elif means in REST_S:
        told = retry_after.seconds(reply.headers, reply.body, time())
        if means == "rate" and not way.model:
            told = REST_S["rate"]  # of all that is behind a wildcard it is one model that is asked for too often
        if told is not None or not way.alone:
            health.rest(now_ms, REST_S[means] if told is None else told, "auth" if means == "auth" else "rate")
    else:
        health.well(now_ms)


def _is_retried(error: UpstreamError, route: Route) -> bool:
    named = "connect" if error.reason in NOT_SENT else error.reason
    return named in ("connect", "timeout", "reset") and named in route.model.retry.on


def _retried_status(status: int, retry: Retry) -> bool:
    return str(status) in retry.on or (status >= 500 and "5xx" in retry.on)


def _error_reply(call: Call, way: Way, reply: Reply) -> Reply:
    """An upstream's error, whole; one about our own credential is not the caller's business and raises instead."""
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


def _note(call: Call, way: Way, status: int, reason: str, started: float) -> float:
    """Write an attempt down; when it ended."""
    now = monotonic()
    call.upstream_seconds += now - started
    name = f"{way.provider}/{call.upstream_model}" if call.upstream_model else way.name
    call.attempts.append(Attempt(name, way.provider, status, reason, (now - started) * 1000))
    return now


def _none_left(call: Call) -> GatewayError:
    return GatewayError("no_target_available", f"No target of the model {call.model.name!r} is left to try.")
