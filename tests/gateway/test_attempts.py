"""Asking one target after the other: when another is asked, when not, and what is written down."""

import json

import pytest

from fastgw._core import fields
from fastgw.dialects.openai import CHAT
from fastgw.dialects.registry import GEMINI
from fastgw.errors import GatewayError, UpstreamError
from fastgw.gateway import attempts
from fastgw.plan.plan import Retry
from tests.gateway.support import Way, call_of, reply_of, route_of

BODY = fields.scan(b'{"model":"fast","messages":[]}')
KINDS = {"connect": "upstream_unreachable", "queue_full": "upstream_busy", "queue_timeout": "upstream_busy"}
KINDS |= {"timeout": "upstream_timeout", "reset": "upstream_unreachable"}
KINDS |= {"invalid": "upstream_invalid_response", "too_large": "upstream_invalid_response"}


def failure(reason):
    return UpstreamError(KINDS[reason], "x", reason=reason, sent=reason not in attempts.NOT_SENT)


def ways_of(*answers):
    """Ways asked in this order, each giving one answer."""
    return [Way(name, answer, priority=rank) for rank, (name, answer) in enumerate(zip("abc", answers, strict=False))]


async def send(ways, retry=None, **more):
    call = call_of(model=route_of(*ways, retry=retry), **more)
    return call, await attempts.send(call, CHAT, BODY)


async def refused(ways, retry=None, **more):
    call = call_of(model=route_of(*ways, retry=retry), **more)
    with pytest.raises(GatewayError) as caught:
        await attempts.send(call, CHAT, BODY)
    return call, caught.value


def noted(call):
    return [(one.target, one.status, one.reason) for one in call.attempts]


async def test_the_first_answer_is_the_answer():
    ways = ways_of(reply_of(), reply_of())
    call, reply = await send(ways)
    assert (reply.status, call.target, call.reply) == (200, ways[0], reply)
    assert noted(call) == [("a/m", 200, "")]
    assert ways[1].pool.sent == []
    assert call.upstream_seconds >= 0


@pytest.mark.parametrize("reason", ["connect", "queue_full", "queue_timeout"])
async def test_what_was_not_sent_is_sent_elsewhere(reason):
    ways = ways_of(failure(reason), reply_of())
    call, _ = await send(ways)
    assert call.target is ways[1]
    assert noted(call) == [("a/m", 0, reason), ("b/m", 200, "")]


@pytest.mark.parametrize("reason", ["timeout", "reset", "invalid", "too_large"])
async def test_what_may_have_been_billed_is_not_asked_for_twice(reason):
    ways = ways_of(failure(reason), reply_of())
    call, error = await refused(ways)
    assert error.kind == KINDS[reason]
    assert noted(call) == [("a/m", 0, reason)]
    assert ways[1].pool.sent == []


async def test_unless_the_operator_says_so():
    call, _ = await send(ways_of(failure("timeout"), reply_of()), Retry(3, frozenset({"timeout"})))
    assert noted(call) == [("a/m", 0, "timeout"), ("b/m", 200, "")]


@pytest.mark.parametrize("reason", ["reset", "invalid", "too_large"])
async def test_a_broken_reply_is_never_retried(reason):
    everything = Retry(3, frozenset({"connect", "timeout", "5xx", "429", "503"}))
    call, _ = await refused(ways_of(failure(reason), reply_of()), everything)
    assert len(call.attempts) == 1


async def test_a_connect_failure_is_not_retried_when_it_is_not_listed():
    call, error = await refused(ways_of(failure("connect"), reply_of()), Retry(3, frozenset({"429"})))
    assert (error.kind, len(call.attempts)) == ("upstream_unreachable", 1)


@pytest.mark.parametrize(
    ("status", "on", "again"),
    [
        (429, {"429"}, True), (503, {"503"}, True), (503, {"5xx"}, True), (500, {"5xx"}, True), (529, {"5xx"}, True),
        (500, {"503"}, False), (429, {"5xx"}, False), (400, {"429", "5xx"}, False), (404, {"404"}, True),
        (401, {"5xx", "429"}, True), (403, {"429"}, True),
    ],
)  # fmt: skip
async def test_statuses(status, on, again):
    ways = ways_of(reply_of(status, b'{"error":{}}'), reply_of())
    retry = Retry(3, frozenset(on))
    call, reply = await send(ways, retry)
    assert reply.status == (200 if again else status)
    assert [one.status for one in call.attempts] == ([status, 200] if again else [status])
    assert call.attempts[0].reason == str(status)


async def test_attempts_are_counted_in_all_and_each_target_is_asked_once():
    call, reply = await send(ways_of(*(reply_of(429, b"busy") for _ in range(3))), Retry(2, frozenset({"429"})))
    assert (reply.status, reply.body, len(call.attempts)) == (429, b"busy", 2)
    call, reply = await send(ways_of(*(reply_of(429, b"busy") for _ in range(3))), Retry(9, frozenset({"429"})))
    assert [one.target for one in call.attempts] == ["a/m", "b/m", "c/m"]
    assert call.error == "upstream_429"


async def test_the_last_failure_is_the_callers():
    call, error = await refused(ways_of(failure("connect"), failure("queue_full")))
    assert (error.kind, len(call.attempts)) == ("upstream_busy", 2)


async def test_a_retry_does_not_leave_an_error_behind():
    call, _ = await send(ways_of(reply_of(503, b""), reply_of()))
    assert call.error == ""


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("stream", [False, True])
async def test_our_own_credential_refused_is_not_the_callers_fault(status, stream):
    body = b'{"error":{"message":"Incorrect API key provided: sk-CANARY"}}'
    call, error = await refused([Way("a", reply_of(status, body, stream=stream), secret=b"sk-CANARY")], stream=stream)
    assert (error.kind, error.status) == ("upstream_auth_failed", 502)
    assert "CANARY" not in error.message
    assert noted(call) == [("a/m", status, str(status))]


@pytest.mark.parametrize("stream", [False, True])
async def test_our_credential_is_cut_out_of_an_upstreams_error(stream):
    body = b'{"error":{"message":"bad key sk-CANARY, really sk-CANARY"}}'
    _, reply = await send([Way("a", reply_of(400, body, stream=stream), secret=b"sk-CANARY")], stream=stream)
    assert reply.body == b'{"error":{"message":"bad key ***, really ***"}}'


async def test_an_upstreams_error_passes_as_it_came():
    body = b'{ "error" : {"code": null} }'
    call, reply = await send([Way("a", reply_of(422, body))])
    assert (reply.status, reply.body, call.error) == (422, body, "upstream_422")


async def test_an_error_without_end_in_a_stream_is_bounded():
    _, error = await refused([Way("a", reply_of(500, b"x" * (1024 * 1024 + 1), stream=True))], stream=True)
    assert error.kind == "upstream_invalid_response"


class Signer:
    """A credential that says what was done to it."""

    def __init__(self, problem=None):
        self.problem, self.secret, self.refusals = problem, b"tok-CANARY", 0

    def refused(self):
        self.refusals += 1


def signing(name, *answers, problem=None, **more):
    way = Way(name, *answers, **more)
    way.signer = Signer(problem)

    async def signed(head, body, seconds):
        if problem is not None:
            raise problem
        return b"%b signed %d %b" % (head, seconds, body)

    way.signed = signed
    return way


async def test_what_signs_sees_the_final_head_and_body():
    way = signing("a", reply_of(), model="up")
    await send([way])
    ((head, body, _),) = way.pool.sent
    assert head == b"openai_chat up  %d signed 5 %b" % (len(body), body)
    assert way.signer.refusals == 0


async def test_without_a_credential_another_target_is_asked():
    problem = UpstreamError("upstream_auth_failed", "x", reason="auth", sent=False)
    call, _ = await send([signing("a", problem=problem, priority=1), Way("b", reply_of(), priority=2)])
    assert noted(call) == [("a/m", 0, "auth"), ("b/m", 200, "")]
    call, error = await refused([signing("a", problem=problem)])
    assert (error.kind, error.status) == ("upstream_auth_failed", 502)


@pytest.mark.parametrize(("status", "told"), [(401, 1), (403, 1), (400, 0), (429, 0), (500, 0)])
async def test_a_refusal_is_told_to_what_made_the_credential(status, told):
    way = signing("a", reply_of(status, b'{"error":"tok-CANARY"}'))
    if told:
        _, error = await refused([way])
        assert "CANARY" not in error.message
    else:
        _, reply = await send([way])
        assert reply.body == b'{"error":"***"}'
    assert way.signer.refusals == told


async def test_what_is_sent():
    way = Way("a", reply_of(), model="up")
    call = call_of(model=route_of(way))
    call.exchange.headers += [(b"accept", b"x/y"), (b"cookie", b"no")]
    await attempts.send(call, CHAT, BODY)
    ((head, body, whole),) = way.pool.sent
    assert head == b"openai_chat up accept: x/y\r\n %d" % len(body)
    assert (json.loads(body)["model"], whole) == ("up", True)
    way = Way("a", reply_of(stream=True), model="fast")
    await send([way], stream=True)
    ((_, body, whole),) = way.pool.sent
    assert (json.loads(body), whole) == (
        {"model": "fast", "messages": [], "stream_options": {"include_usage": True}},
        False,
    )


async def test_a_wildcards_model_goes_by_the_callers_name():
    way = Way("a", reply_of(), model="")
    call, _ = await send([way], upstream_model="gpt", model_name="a/gpt")
    assert json.loads(way.pool.sent[0][1])["model"] == "gpt"
    assert noted(call) == [("a/gpt", 200, "")]


async def test_a_provider_without_the_operation_is_passed_over():
    ways = [Way("a", priority=1, dialects=()), Way("b", reply_of(), priority=2)]
    call, _ = await send(ways)
    assert noted(call) == [("a/m", 0, "not_offered"), ("b/m", 200, "")]
    _, error = await refused([Way("a", dialects=())])
    assert (error.kind, error.status) == ("endpoint_not_enabled", 404)


def translating(name, *answers, **more):
    """A way to a provider that speaks Gemini's dialect only."""
    drop = more.pop("drop", frozenset())
    way = Way(name, *answers, dialects=("gemini",), **more)
    way.translated, way.drop, way.max_output = {"chat": "gemini"}, drop, 99
    return way


CHAT_BODY = fields.scan(b'{"model":"fast","messages":[{"role":"user","content":"hi"}],"logit_bias":{"5":1}}')


async def test_a_provider_of_another_dialect_is_asked_in_its_own():
    way = translating("a", reply_of(), drop=frozenset({"logit_bias"}))
    call = call_of(model=route_of(way))
    call.exchange.headers += [(b"accept", b"x/y")]
    await attempts.send(call, CHAT, CHAT_BODY)
    ((head, body, whole),) = way.pool.sent
    assert head == b"gemini m  %d" % len(body), "none of the caller's own headers"
    assert json.loads(body)["contents"] == [{"role": "user", "parts": [{"text": "hi"}]}]
    assert whole
    assert call.translation.dropped == ["logit_bias"]
    assert call.chat is call.translation.chat


@pytest.mark.parametrize("asks", [True, False])
async def test_usage_is_asked_for_only_where_that_is_understood(asks):
    way = Way("a", reply_of(stream=True))
    way.translated, way.asks_usage = {"chat": "openai_chat"}, asks
    call = call_of(model=route_of(way), stream=True)
    await attempts.send(call, GEMINI, fields.scan(b'{"contents":[{"parts":[{"text":"hi"}]}]}'))
    sent = json.loads(way.pool.sent[0][1])
    assert sent["stream"]
    assert ("stream_options" in sent) == asks


async def test_what_it_cannot_do_is_said_before_anyone_is_asked():
    way = translating("a", reply_of())
    call = call_of(model=route_of(way))
    with pytest.raises(GatewayError) as caught:
        await attempts.send(call, CHAT, CHAT_BODY)
    assert (caught.value.row.code, caught.value.param, way.pool.sent) == ("unsupported_field", "logit_bias", [])


async def test_each_attempt_translates_or_not_for_its_own_target():
    drop = frozenset({"*"})
    ways = [
        translating("a", failure("connect"), priority=1, drop=drop),
        translating("b", failure("connect"), priority=2, drop=drop),
        Way("c", reply_of(), priority=3),
    ]
    call = call_of(model=route_of(*ways, retry=Retry(3, frozenset({"connect"}))))
    await attempts.send(call, CHAT, CHAT_BODY)
    assert call.translation is None, "the last one speaks the caller's dialect"
    assert json.loads(ways[2].pool.sent[0][1])["logit_bias"] == {"5": 1}
    assert ways[0].pool.sent[0][1] == ways[1].pool.sent[0][1]
    ways = [Way("a", failure("connect"), priority=1), translating("b", reply_of(), priority=2, drop=drop)]
    call = call_of(model=route_of(*ways))
    await attempts.send(call, CHAT, CHAT_BODY)
    assert call.translation is not None


async def test_a_model_without_targets():
    _, error = await refused([])
    assert (error.kind, error.status) == ("no_target_available", 503)


async def test_an_alias_is_renamed_even_where_its_model_has_the_upstreams_name():
    way = Way("a", reply_of(), model="gpt-4o")
    await send([way], model_name="gpt-4o", asked="fast")
    assert json.loads(way.pool.sent[0][1])["model"] == "gpt-4o"
    way = Way("a", reply_of(), model="fast")
    await send([way], model_name="other", asked="fast")
    assert way.pool.sent[0][1] is BODY.replace({})
