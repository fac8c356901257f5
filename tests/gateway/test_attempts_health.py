"""Asking one target after the other: what is passed over, what a breaker is told, retries and sessions."""

import contextlib
from asyncio import CancelledError

import pytest

from fastgw._core import fields
from fastgw.dialects.openai import CHAT
from fastgw.errors import GatewayError
from fastgw.gateway import attempts
from fastgw.plan.plan import Retry
from fastgw.upstream.health import PROBES, RESTS, WELL
from tests.gateway.support import Way, call_of, key_of, reply_of, route_of
from tests.gateway.test_attempts import BODY, failure, noted, refused, send, ways_of


class Healthy:
    """A breaker in the test's hand: what it says, and what it was told."""

    def __init__(self, *says, why="failures"):
        self.says, self.why, self.told = list(says), why, []

    def ready(self, now_ms):
        return self.says.pop(0) if self.says else WELL

    def resting(self, now_ms):
        return (self.says[0] if self.says else WELL) == RESTS

    def wait_s(self, now_ms):
        return 2.5

    def well(self, now_ms):
        self.told.append("well")

    def failed(self, now_ms):
        self.told.append("failed")

    def rest(self, now_ms, seconds, why):
        self.told.append((why, seconds))

    def give_back(self, now_ms):
        self.told.append("given back")


def healthy(ways, *healths, alone=False):
    for way, health in zip(ways, healths, strict=False):
        way.health, way.alone = health, alone
    return ways


async def test_a_target_that_rests_is_passed_over_and_noted():
    ways = healthy(ways_of(reply_of(), reply_of()), Healthy(RESTS, why="rate"))
    call, _ = await send(ways)
    assert noted(call) == [("a/m", 0, "resting_rate"), ("b/m", 200, "")]
    assert ways[0].pool.sent == []


@pytest.mark.parametrize(
    ("why", "kind", "status"),
    [
        ("rate", "upstream_rate_limited", 429),
        ("auth", "no_target_available", 503),
        ("failures", "no_target_available", 503),
    ],
)  # fmt: skip
async def test_where_all_rest_the_refusal_says_for_how_long(why, kind, status):
    call, error = await refused(healthy(ways_of(reply_of()), Healthy(RESTS, why=why)))
    assert (error.kind, error.status, error.retry_after) == (kind, status, 2.5)
    assert noted(call) == [("a/m", 0, f"resting_{why}")]


async def test_a_failure_is_the_callers_where_all_others_rest():
    ways = healthy(ways_of(reply_of(503, b"broken"), reply_of()), Healthy(), Healthy(RESTS, RESTS))
    call, reply = await send(ways)
    assert (reply.status, reply.body, call.target) == (503, b"broken", ways[0])
    assert noted(call) == [("a/m", 503, "503"), ("b/m", 0, "resting_failures")]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (reply_of(), "well"), (reply_of(400, b"{}"), "well"), (reply_of(404, b"{}"), "well"),
        (reply_of(422, b"{}"), "well"), (reply_of(500, b"{}"), "failed"), (reply_of(529, b"{}"), "failed"),
        (reply_of(408, b"{}"), "failed"), (reply_of(429, b"{}"), ("rate", 2.0)),
        (reply_of(429, b"{}", [(b"retry-after", b"7")]), ("rate", 7.0)),
        (reply_of(429, b'{"error":{"code":"insufficient_quota"}}'), ("rate", 60.0)),
        (reply_of(401, b"{}"), ("auth", 60.0)), (reply_of(403, b"{}"), ("auth", 60.0)),
        (reply_of(403, b"<html>"), "well"), (reply_of(400, b"maximum context length"), "well"),
        (failure("connect"), "failed"), (failure("timeout"), "failed"), (failure("reset"), "failed"),
        (failure("invalid"), "failed"),
    ],
)  # fmt: skip
async def test_what_each_answer_says_of_its_target(answer, told):
    health = Healthy()
    ways = healthy(ways_of(answer, reply_of()), health)
    call = call_of(model=route_of(*ways, retry=Retry(1)))
    with contextlib.suppress(GatewayError):
        await attempts.send(call, CHAT, BODY)
    assert health.told == [told]


@pytest.mark.parametrize("reason", ["queue_full", "queue_timeout"])
async def test_what_is_of_our_own_making_says_nothing_of_it(reason):
    health = Healthy()
    await refused(healthy(ways_of(failure(reason)), health))
    assert health.told == []


@pytest.mark.parametrize(("status", "told"), [(401, []), (429, [])])
async def test_who_has_nobody_beside_it_rests_only_for_a_time_that_was_named(status, told):
    health = Healthy()
    call = call_of(model=route_of(Way("a", reply_of(status, b"{}"))))
    call.model.ways[0].health = health
    with contextlib.suppress(GatewayError):
        await attempts.send(call, CHAT, BODY)
    assert health.told == told


async def test_a_wildcards_credential_rests_for_a_moment_only_after_a_429():
    health = Healthy()
    ways = [
        Way("a", reply_of(429, b"{}", [(b"retry-after", b"900")]), model="", priority=1),
        Way("b", reply_of(), priority=2),
    ]
    await send(healthy(ways, health), upstream_model="gpt", model_name="a/gpt")
    assert health.told == [("rate", 2.0)]


async def test_a_probe_is_given_back_whatever_becomes_of_it():
    full = GatewayError("rate_limit_exceeded", "x")
    for ending in ("own limit", "caller's limit", "cancelled", "queue", "no word", "answer"):
        health = Healthy(PROBES)
        answers = {"cancelled": CancelledError(), "queue": failure("queue_full"), "answer": reply_of()}
        way = Way("a", answers.get(ending, reply_of()), dialects=() if ending == "no word" else ("openai_chat",))
        (way,) = healthy([way], health)
        call = call_of(model=route_of(way))
        if ending == "own limit":
            call.live.limiter.full["a/m"] = full
        elif ending == "caller's limit":
            call.live.limiter.attempt = raising(full)
        if ending == "answer":
            await attempts.send(call, CHAT, BODY)
        else:
            with pytest.raises((GatewayError, CancelledError)):
                await attempts.send(call, CHAT, BODY)
        assert health.told[-1] == "given back", ending
        assert health.told[:-1] == (["well"] if ending == "answer" else []), ending
        assert way.latency.busy == 0


def raising(error):
    def attempt(call, way):
        raise error

    return attempt


async def test_an_endless_error_does_not_keep_the_probe():
    health = Healthy(PROBES)
    way = Way("a", reply_of(500, b"x" * (1024 * 1024 + 1), stream=True))
    call, _ = await refused(healthy([way], health), stream=True)
    assert health.told == ["failed", "given back"]
    assert noted(call) == [("a/m", 0, "too_large")]


class Account:
    """So many retries."""

    def __init__(self, left):
        self.left = left

    def retry_deposit(self, slot):
        pass

    def retry_withdraw(self, slot):
        self.left -= 1
        return self.left >= 0


def account(call, left=0):
    call.model.retries, call.model._table = 5, Account(left)
    return call.model._table


async def test_without_a_retry_left_the_first_failure_is_the_answer():
    ways = ways_of(reply_of(503, b"broken"), reply_of())
    call = call_of(model=route_of(*ways))
    account(call)
    reply = await attempts.send(call, CHAT, BODY)
    assert (reply.status, len(call.attempts)) == (503, 1)


async def test_what_was_never_sent_takes_no_retry():
    ways = ways_of(failure("connect"), reply_of())
    call = call_of(model=route_of(*ways))
    account(call)
    assert (await attempts.send(call, CHAT, BODY)).status == 200


async def test_a_call_with_nobody_else_to_ask_takes_no_retry():
    taken = []
    for ways in (
        ways_of(reply_of(503, b"")),
        healthy(ways_of(reply_of(503, b""), reply_of()), Healthy(), Healthy(RESTS)),
    ):
        call = call_of(model=route_of(*ways))
        taken.append(account(call, 9))
        await attempts.send(call, CHAT, BODY)
    assert [one.left for one in taken] == [9, 9]


EVENT = b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n'


def streaming(body):
    reply = reply_of(200, body, stream=True)
    reply.headers = [(b"content-type", b"text/event-stream")]
    return reply


async def test_a_stream_that_opens_with_an_error_is_asked_of_another():
    ways = healthy(
        ways_of(streaming(EVENT), streaming(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n')), Healthy()
    )
    call, reply = await send(ways, stream=True)
    assert noted(call) == [("a/m", 200, "event_overloaded"), ("b/m", 200, "")]
    assert ways[0].health.told == ["failed"]
    assert attempts.class_of(call, reply) is None


async def test_where_nobody_stands_in_the_stream_is_the_callers():
    call, reply = await send(ways_of(streaming(EVENT)), stream=True)
    assert await reply.read() == EVENT
    assert attempts.class_of(call, reply) == "overloaded"


async def test_the_sooner_of_two_refusals_is_told():
    one, two = Healthy(RESTS, why="failures"), Healthy(RESTS, why="rate")
    two.wait_s = lambda now_ms: 0.5
    _, error = await refused(healthy(ways_of(reply_of(), reply_of()), one, two))
    assert (error.kind, error.retry_after) == ("upstream_rate_limited", 0.5)


# sessions


def session(body, key="alice", by_session=True):
    call = call_of(model=route_of(Way("a")), key=key_of(key), content=fields.scan(body))
    call.model.by_session = by_session
    return attempts.session_of(call)


def test_a_session_is_the_first_of_the_fields_that_name_one():
    named = b'{"user":"u","prompt_cache_key":"c","session_id":"s","messages":[]}'
    assert session(named) == b'alice"c"'
    assert session(b'{"user":"u","session_id":null,"messages":[]}') == b'alice"u"'
    assert session(b'{"user":"u"}', "bob") != session(b'{"user":"u"}', "alice")
    assert session(named, by_session=False) == b""


def test_or_how_the_conversation_begins():
    begin = b'{"messages":[{"role":"system","content":"' + b"x" * 600
    one, two = session(begin + b'one"}]}'), session(begin + b'two"}]}')
    assert one == two
    assert session(b'{"messages":["a"]}') != session(b'{"messages":["b"]}')
    assert session(b'{"system":"s","messages":["a"]}') == session(b'{"system":"s","messages":["b"]}')
    assert session(b"{}") == b"alice"
