"""Errors in Anthropic's shape, both ways."""

import json

import pytest

from fastgw.dialects import hub
from fastgw.dialects.anthropic_messages.codec import CODEC


def body(kind, message="m"):
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}).encode()


@pytest.mark.parametrize(
    ("status", "kind", "message", "cause"),
    [
        (400, "invalid_request_error", "max_tokens: too big", "bad_request"),
        (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", "context_length"),
        (400, "invalid_request_error", "Your credit balance is too low", "billing"),
        (401, "authentication_error", "invalid x-api-key", "auth"),
        (402, "billing_error", "m", "billing"),
        (403, "permission_error", "m", "forbidden"),
        (404, "not_found_error", "m", "not_found"),
        (413, "request_too_large", "m", "too_large"),
        (429, "rate_limit_error", "m", "rate_limit"),
        (500, "api_error", "m", "server"),
        (504, "timeout_error", "m", "timeout"),
        (529, "overloaded_error", "m", "overloaded"),
        (429, "new_error", "m", "rate_limit"),
        (502, "new_error", "m", "server"),
        (418, "new_error", "m", "bad_request"),
    ],
)
def test_causes(status, kind, message, cause):
    problem = CODEC.read_error(status, {b"retry-after": b"7", b"request-id": b"req_2"}, body(kind, message))
    assert (problem.cause, problem.status, problem.message, problem.type) == (cause, status, message, kind)
    assert (problem.retry_after, problem.request_id) == (7.0, "req_2")


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[]", b'{"error":"no"}', b"\xff", b"[" * 100_000])
def test_whatever_comes_is_a_problem(raw):
    problem = CODEC.read_error(502, {b"retry-after": b"soon"}, raw)
    assert (problem.cause, problem.retry_after) == ("server", None)
    assert problem.message


@pytest.mark.parametrize("cause", hub.CAUSES)
def test_what_is_written_is_read_again(cause):
    problem = hub.Problem(cause, 400, "what happened", code=hub.Raw(b"7"), param="p")
    status, raw = CODEC.write_problem(problem, "call_1")
    said = json.loads(raw)
    assert (said["type"], said["request_id"]) == ("error", "call_1")
    back = CODEC.read_error(status, {}, raw)
    if cause == "auth":  # the gateway's key is not the client's business
        assert (status, back.cause) == (502, "server")
        assert "what happened" not in raw.decode()
        return
    told = "prompt is too long: what happened" if cause == "context_length" else "what happened"
    assert (back.message, bytes(back.code), back.param) == (told, b"7", "p")
    same = back.cause == cause
    assert same or cause == "content_filter"


def test_clients_are_told_of_a_long_prompt_in_the_words_they_look_for():
    said = "prompt is too long: 300000 tokens > 200000 maximum"
    for message, told in ((said, said), ("context of 8192 tokens", "prompt is too long: context of 8192 tokens")):
        status, raw = CODEC.write_problem(hub.Problem("context_length", 400, message), "c")
        assert json.loads(raw)["error"]["message"] == told
        assert CODEC.read_error(status, {}, raw).message == message


def test_the_status_is_that_of_the_type():
    assert CODEC.write_problem(hub.Problem("server", 503, "m"), "")[0] == 503
    assert CODEC.write_problem(hub.Problem("server", 200, "m"), "")[0] == 500
    assert CODEC.write_problem(hub.Problem("bad_request", 422, "m"), "")[0] == 422
    assert CODEC.write_problem(hub.Problem("overloaded", 503, "m"), "")[0] == 529
    assert b"request_id" not in CODEC.write_problem(hub.Problem("server", 500, "m"), "")[1]
    raw = CODEC.write_problem(hub.Problem("context_length", 400, "m"), "")[1]
    assert CODEC.read_error(400, {}, raw).cause == "context_length"
