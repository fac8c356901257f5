"""Models that stand in by the class of failure: for which, in which order, and what is not got round."""

from types import SimpleNamespace

import pytest

from fastgw.dialects.openai import CHAT
from fastgw.errors import GatewayError
from fastgw.gateway import fallback
from fastgw.plan.plan import Model, Retry, Target
from fastgw.upstream.route import Route
from tests.gateway.support import call_of, reply_of
from tests.gateway.test_fallback import BODY, Entered, failure, noted, way

EVENT = b'data: {"error":{"message":"This model\'s maximum context length is 8"}}\n\n'
EACH = {name: (name,) for name in ("outage", "rate", "context", "policy")}


def route(name, *ways, **named):
    model = Model(
        name, tuple(Target(one.name, one.provider, one.model) for one in ways), retry=Retry(3), fallback=named
    )
    return Route(model, ways)


async def ask(first, *others, enter=None, stream=False):
    known = {one.name: (one, "") for one in others}
    live = SimpleNamespace(limiter=enter or Entered(), routes=SimpleNamespace(find=known.get))
    live.options = SimpleNamespace(heartbeat=5.0)
    call = call_of(live, model=first, model_name="first", stream=stream)
    try:
        return call, await fallback.by_operator(call, CHAT, BODY)
    except GatewayError as error:
        return call, error


def spares():
    return [route(name, way(name, reply_of())) for name in EACH]


@pytest.mark.parametrize(
    ("answer", "stands_in"),
    [
        (reply_of(500, b""), "outage"), (reply_of(529, b""), "outage"), (reply_of(401, b""), "outage"),
        (reply_of(402, b""), "outage"), (reply_of(429, b""), "rate"),
        (reply_of(400, b"context_length_exceeded"), "context"), (reply_of(400, b"content_filter"), "policy"),
        (failure("connect"), "outage"), (failure("timeout", "upstream_timeout"), "outage"),
        (reply_of(400, b"bad field"), None), (reply_of(404, b""), None), (reply_of(413, b""), None),
        (reply_of(200), None),
    ],
)  # fmt: skip
async def test_each_class_has_its_models(answer, stands_in):
    call, reply = await ask(route("first", way("a", answer), **EACH), *spares())
    if stands_in is None:
        assert (reply, call.model_name) == (answer, "first")
    else:
        assert (reply.status, call.model_name, call.error) == (200, stands_in, "")
        assert noted(call)[-1] == (f"{stands_in}/m", 200)


async def test_a_class_without_models_is_the_callers():
    call, reply = await ask(route("first", way("a", reply_of(429, b"slow")), outage=("rate",)), *spares())
    assert (reply.status, reply.body, call.model_name, call.error) == (429, b"slow", "first", "upstream_429")


async def test_a_stream_that_opens_with_a_prompt_that_is_too_long():
    opened = reply_of(200, EVENT, stream=True)
    opened.headers = [(b"content-type", b"text/event-stream")]
    call, reply = await ask(route("first", way("a", opened), **EACH), *spares(), stream=True)
    assert (reply.status, call.model_name) == (200, "context")
    assert [one.reason for one in call.attempts] == ["event_context", ""]


async def test_in_their_order_and_each_once():
    first = route("first", way("a", reply_of(500, b"")), outage=("second", "third", "second", "first"))
    second, third = route("second", way("b", reply_of(502, b""))), route("third", way("c", reply_of(504, b"last")))
    call, reply = await ask(first, second, third)
    assert (reply.status, reply.body) == (504, b"last")
    assert noted(call) == [("a/m", 500), ("b/m", 502), ("c/m", 504)]


async def test_the_next_failure_decides_the_next_class():
    first = route("first", way("a", reply_of(500, b"")), outage=("second",), context=("third",))
    second = route("second", way("b", reply_of(400, b"maximum context length")), context=("nobody",))
    call, _ = await ask(first, second, route("third", way("c", reply_of())))
    assert call.model_name == "third", "the fallbacks are those of the model that was asked for"


async def test_a_model_at_its_limit_or_gone_is_passed_over():
    first = route("first", way("a", reply_of(500, b"")), outage=("gone", "second", "third"))
    others = route("second", way("b", reply_of())), route("third", way("c", reply_of()))
    call, _ = await ask(first, *others, enter=Entered("second"))
    assert (call.model_name, noted(call)) == ("third", [("a/m", 500), ("c/m", 200)])


@pytest.mark.parametrize("kind", ["rate_limit_exceeded", "concurrency_limit_exceeded", "budget_exceeded"])
@pytest.mark.parametrize("whose", ["key", "target"])
async def test_limits_of_the_callers_own_are_not_got_round(kind, whose):
    refusal = GatewayError(kind, "x")

    class Full(Entered):
        def attempt(self, call, way):
            if way.provider != "a":
                return None
            if whose == "target":
                return refusal
            call.refused_by = "key"
            raise refusal

    call, got = await ask(route("first", way("a", reply_of()), **EACH), *spares(), enter=Full())
    if whose == "key":
        assert got is refusal
        assert (call.model_name, call.refused_by) == ("first", "key")
    else:
        assert (got.status, call.model_name, call.refused_by) == (200, "rate", "")
