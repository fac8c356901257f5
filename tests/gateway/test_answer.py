"""The head of an answer."""

import json
from time import monotonic

import pytest

from fastgw.call import Usage
from fastgw.dialects.openai import CHAT
from fastgw.errors import KINDS, GatewayError
from fastgw.gateway.answer import add_facts, error_answer, upstream_headers
from fastgw.telemetry.record import Attempt
from tests.gateway.support import Way, call_of, live_of, reply_of


def facts_of(call):
    found = []
    add_facts(call, found)
    assert len({name for name, _ in found}) == len(found)
    return dict(found)


def served(**more):
    return call_of(started=monotonic(), target=Way("a"), attempts=[Attempt("a/m", "a", 200)], **more)


def test_the_facts_of_a_call_that_was_served():
    found = facts_of(served(usage=Usage(1), cost_nano=1500, ratelimit={"requests": (600, 599, 120_000_000)}))
    overhead = found.pop(b"x-fastgw-overhead-ms")
    assert 0 <= float(overhead) < 5000
    assert found == {
        b"x-request-id": b"req_1",
        b"server": b"fastgw",
        b"x-ratelimit-limit-requests": b"600",
        b"x-ratelimit-remaining-requests": b"599",
        b"x-ratelimit-reset-requests": b"120ms",
        b"x-fastgw-revision": b"3",
        b"x-fastgw-cache": b"off",
        b"x-fastgw-model": b"fast",
        b"x-fastgw-provider": b"a",
        b"x-fastgw-target": b"a/m",
        b"x-fastgw-attempts": b"1",
        b"x-fastgw-cost": b"0.0000015",
    }


def test_an_operator_can_hide_the_facts():
    call = served(live=live_of(expose_facts=False), cost_nano=1, usage=Usage(1), ratelimit={"requests": (1, 0, 10**9)})
    found = facts_of(call)
    assert not [name for name in found if name.startswith(b"x-fastgw-")]
    assert found[b"x-request-id"] == b"req_1"
    assert found[b"x-ratelimit-reset-requests"] == b"1s"


def test_before_a_target_was_chosen_there_is_little_to_tell():
    assert set(facts_of(call_of())) == {b"x-request-id", b"server", b"x-fastgw-revision"}


def test_retries_are_counted_with_the_first():
    call = served()
    call.attempts *= 3
    assert facts_of(call)[b"x-fastgw-attempts"] == b"3"


def test_a_wildcards_target_is_told_with_the_upstreams_model():
    found = facts_of(served(upstream_model="gpt", model_name="a/gpt"))
    assert (found[b"x-fastgw-model"], found[b"x-fastgw-target"]) == (b"a/gpt", b"a/gpt")


@pytest.mark.parametrize(("cost", "usage"), [(None, Usage(1)), (5, None)])
def test_a_cost_that_is_not_known_is_not_told(cost, usage):
    assert b"x-fastgw-cost" not in facts_of(served(cost_nano=cost, usage=usage))


UPSTREAM = [
    (b"retry-after", b"7"), (b"openai-processing-ms", b"5"), (b"openai-organization", b"CANARY"),
    (b"set-cookie", b"CANARY"),
    (b"server", b"CANARY"), (b"transfer-encoding", b"chunked"), (b"content-length", b"2"),
    (b"x-fastgw-cost", b"CANARY"),
    (b"x-ratelimit-limit-requests", b"CANARY"), (b"connection", b"close"), (b"x-request-id", b"up_1"),
    (b"x-should-retry", b"false"), (b"openai-version", b"CANARY\r\nx: y"),
]  # fmt: skip


@pytest.mark.parametrize("status", [200, 429])
def test_what_of_an_upstreams_headers_travels(status):
    found = dict(upstream_headers(served(), reply_of(status, lines=UPSTREAM)))
    assert b"CANARY" not in b"".join(found.values())
    assert (found[b"content-type"], found[b"x-request-id"]) == (b"application/json", b"req_1")
    assert found[b"x-fastgw-upstream-request-id"] == b"up_1"
    assert {b"transfer-encoding", b"content-length", b"connection", b"set-cookie"}.isdisjoint(found)
    assert (b"retry-after" in found, b"x-should-retry" in found) == (status == 429, status == 429)
    assert (b"openai-processing-ms" in found) == (status == 200)


@pytest.mark.parametrize("bad", [b"", b"a b", b"a\r\nb", b"a\x00", b"\xff", b"x" * 129])
def test_an_upstreams_id_that_could_do_harm_is_left_out(bad):
    headers = dict(upstream_headers(served(), reply_of(lines=[(b"x-request-id", bad)])))
    assert b"x-fastgw-upstream-request-id" not in headers


@pytest.mark.parametrize(("stream", "status", "hints"), [(True, 200, True), (True, 400, False), (False, 200, False)])
def test_a_stream_is_not_to_be_buffered_on_its_way(stream, status, hints):
    found = dict(upstream_headers(served(stream=stream), reply_of(status)))
    assert (found.get(b"x-accel-buffering") == b"no") is hints
    assert (found.get(b"cache-control") == b"no-cache") is hints


@pytest.mark.parametrize(
    ("seconds", "whole", "milliseconds"),
    [
        (0.0, b"1", b"1"), (0.0004, b"1", b"1"), (0.1999, b"1", b"200"), (1.0, b"1", b"1000"), (1.001, b"2", b"1001"),
        (59.2, b"60", b"59200"),
    ],
)  # fmt: skip
def test_retry_after_is_rounded_up(seconds, whole, milliseconds):
    headers, _ = error_answer(call_of(), CHAT, GatewayError("rate_limit_exceeded", "x", retry_after=seconds))
    found = dict(headers)
    assert (found[b"retry-after"], found[b"retry-after-ms"]) == (whole, milliseconds)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_json_with_an_id(kind):
    headers, body = error_answer(call_of(), CHAT, GatewayError(kind, "x"))
    found = dict(headers)
    assert (found[b"content-type"], found[b"x-request-id"]) == (b"application/json", b"req_1")
    assert b"retry-after" not in found
    assert json.loads(body)["error"]["code"] == KINDS[kind].code


@pytest.mark.parametrize(
    ("path", "where"),
    [
        (b"/v1/chat/completions", lambda body: body["error"]["code"] == "endpoint_not_enabled"),
        (b"/nowhere", lambda body: body["error"]["type"] == "invalid_request_error"),
        (b"/v1/messages", lambda body: body["type"] == "error" and body["request_id"] == "req_1"),
        (b"/anthropic/v1/messages", lambda body: body["error"]["type"] == "not_found_error"),
        (b"/v1beta/models/x:generateContent", lambda body: body["error"]["status"] == "NOT_FOUND"),
        (b"/v1/models/x:generateContent", lambda body: body["error"]["code"] == 404),
    ],
)
def test_without_a_dialect_the_path_tells_the_shape(path, where):
    _, body = error_answer(call_of(path=path), None, GatewayError("endpoint_not_enabled", "x"))
    assert where(json.loads(body))
