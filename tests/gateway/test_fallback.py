"""Asking one model after the other: after which failures, at what limits, and what the call is left with."""

import json
from types import SimpleNamespace

import pytest

from fastgw._core import fields
from fastgw.dialects.openai import CHAT
from fastgw.dialects.openrouter import Preferences, Wishes
from fastgw.errors import GatewayError, UpstreamError
from fastgw.gateway import fallback
from fastgw.plan.plan import Model, Retry, Target
from fastgw.policies.models import Meant
from fastgw.upstream.route import Route
from tests.gateway.support import Limiter, Way, call_of, reply_of

BODY = fields.scan(b'{"model":"first","messages":[]}')
PASSED = fields.scan(b'{"model":"first","messages":[],"provider":{"sort":"price"}}')
RETRY = Retry(3, frozenset({"connect", "429"}))


def failure(reason, kind="upstream_unreachable"):
    return UpstreamError(kind, "x", reason=reason, sent=reason != "connect")


def route(name, *ways, takes_provider=False):
    model = Model(name, tuple(Target(way.name, way.provider, way.model) for way in ways), retry=RETRY)
    made = Route(model, ways)
    made.takes_provider = takes_provider
    return made


def way(name, *answers, kind="openai", **more):
    one = Way(name, *answers, **more)
    one.kind = kind
    return one


class Entered(Limiter):
    """What was taken from the limits of models; those in `full` have none left."""

    def __init__(self, *full):
        super().__init__()
        self.without, self.names = full, []

    def enter_model(self, call, taken):
        assert call.now_ns > 0
        self.names.append(taken.name)
        if taken.name in self.without:
            raise GatewayError("rate_limit_exceeded", "x")


def call_for(*routes, enter=None, provider=None, wish=None):
    first, *others = routes
    live = SimpleNamespace(limiter=enter or Entered())
    call = call_of(live, model=first)
    call.model_name = first.name
    meant = tuple(Meant("", one.name, one, "") for one in others)
    call.wishes = Wishes((), provider, PASSED, wish, meant)
    return call


async def send(*routes, **more):
    call = call_for(*routes, **more)
    return call, await fallback.send(call, CHAT, BODY)


def noted(call):
    return [(one.target, one.status) for one in call.attempts]


async def test_the_first_that_answers_is_the_calls():
    a, b = way("a", reply_of()), way("b", reply_of())
    enter = Entered()
    call, reply = await send(route("first", a), route("second", b), enter=enter)
    assert (reply.status, call.model_name, call.target) == (200, "first", a)
    assert (b.pool.sent, enter.names) == ([], [])


@pytest.mark.parametrize(
    "answer",
    [failure("connect"), failure("timeout", "upstream_timeout"), failure("reset"),
     failure("queue_full", "upstream_busy"), failure("invalid", "upstream_invalid_response")]
    + [reply_of(status, b"{}") for status in (401, 403, 404, 408, 429, 500, 502, 503, 529)],
    ids=lambda one: one.reason if isinstance(one, UpstreamError) else str(one.status),
)  # fmt: skip
async def test_who_cannot_answer_is_followed_by_the_next(answer):
    b = way("b", reply_of())
    enter = Entered()
    call, reply = await send(route("first", way("a", answer)), route("second", b), enter=enter)
    assert (reply.status, call.model_name, call.asked, call.error) == (200, "second", "first", "")
    assert (call.target, call.model.name, enter.names) == (b, "second", ["second"])
    assert noted(call)[-1] == ("b/m", 200)
    assert json.loads(b.pool.sent[0][1]) == {"model": "m", "messages": []}


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_what_the_request_causes_is_told_at_once(status):
    b = way("b", reply_of())
    call, reply = await send(route("first", way("a", reply_of(status, b"{}"))), route("second", b))
    assert (reply.status, call.model_name, b.pool.sent) == (status, "first", [])


async def test_each_models_own_targets_come_first():
    a, a2 = way("a", reply_of(429, b""), priority=1), way("a2", reply_of(429, b""), priority=2)
    call, _ = await send(route("first", a, a2), route("second", way("b", reply_of())))
    assert noted(call) == [("a/m", 429), ("a2/m", 429), ("b/m", 200)]


async def test_the_last_failure_is_the_callers():
    call, reply = await send(
        route("first", way("a", failure("connect"))), route("second", way("b", reply_of(503, b"busy")))
    )
    assert (reply.status, reply.body, call.error, call.model_name) == (503, b"busy", "upstream_503", "second")
    call = call_for(route("first", way("a", reply_of(500, b""))), route("second", way("b", failure("reset"))))
    with pytest.raises(UpstreamError):
        await fallback.send(call, CHAT, BODY)


async def test_a_model_at_its_limit_is_passed_over():
    enter = Entered("second")
    b, c = way("b", reply_of()), way("c", reply_of())
    routes = [route("first", way("a", failure("reset"))), route("second", b), route("third", c)]
    call, _ = await send(*routes, enter=enter)
    assert (call.model_name, enter.names, b.pool.sent) == ("third", ["second", "third"], [])


async def test_where_all_others_are_at_their_limit_the_failure_is_the_answer():
    routes = [route("first", way("a", reply_of(500, b"broken"))), route("second", way("b", reply_of()))]
    call, reply = await send(*routes, enter=Entered("second"))
    assert (reply.status, reply.body, call.model_name) == (500, b"broken", "first")
    assert call.error == "upstream_500"


# --- preferences


async def test_order_comes_before_priority_and_weight():
    a, b = way("a", reply_of()), way("b", reply_of(), priority=5)
    call, _ = await send(route("first", a, b), provider=b"{}", wish=Preferences(order=("b",)))
    assert call.target is b


async def test_without_fallbacks_one_attempt_is_made_or_what_is_in_order():
    def pair():
        return way("a", failure("connect"), priority=1), way("b", reply_of(), priority=2)

    with pytest.raises(UpstreamError):
        await send(route("first", *pair()), provider=b"{}", wish=Preferences(fallbacks=False))
    call, _ = await send(route("first", *pair()), provider=b"{}", wish=Preferences(order=("a", "b"), fallbacks=False))
    assert noted(call) == [("a/m", 0), ("b/m", 200)]


async def test_a_model_none_of_whose_providers_is_left_is_passed_over():
    nobody = Preferences(only=frozenset({"b"}))
    a, b = way("a", reply_of()), way("b", reply_of())
    call, _ = await send(route("first", a), route("second", b), provider=b"{}", wish=nobody)
    assert (call.model_name, a.pool.sent) == ("second", [])
    with pytest.raises(GatewayError) as caught:
        await send(route("first", way("a", reply_of())), provider=b"{}", wish=nobody)
    assert (caught.value.kind, caught.value.status, caught.value.param) == ("model_not_found", 404, "provider")


async def test_an_openrouter_gets_the_field_as_it_came():
    a, b = way("a", failure("connect"), kind="openrouter"), way("b", reply_of())
    routes = [route("first", a, takes_provider=True), route("second", b)]
    await send(*routes, provider=b'{"sort":"price"}', wish=Preferences(by_price=True))
    assert json.loads(a.pool.sent[0][1])["provider"] == {"sort": "price"}
    assert "provider" not in json.loads(b.pool.sent[0][1])


async def test_but_not_in_a_dialect_it_does_not_speak():
    a = way("a", reply_of(), kind="openrouter", dialects=())
    with pytest.raises(GatewayError) as caught:
        await send(route("first", a, takes_provider=True), provider=b"{}")
    assert (caught.value.kind, caught.value.param) == ("unsupported_field", "provider")
