"""Google's errors, read and written."""

import json
from pathlib import Path

import pytest
from msgspec import Raw

from fastgw.dialects import hub
from fastgw.dialects.gemini.codec import CODEC
from tests.support.grammar_gemini import error_problems

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "gemini"


def read(status, body, headers=None):
    return CODEC.read_error(status, headers or {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def error(code, status, message="m"):
    return {"error": {"code": code, "message": message, "status": status}}


def test_a_rate_limit_says_how_long_to_wait():
    problem = read(429, (FIXTURES / "rate_limit.error.json").read_bytes(), {b"retry-after": b"99"})
    assert (problem.cause, problem.status, problem.retry_after) == ("rate_limit", 429, 34.4)
    assert (problem.type, bytes(problem.code)) == ("RESOURCE_EXHAUSTED", b"429")
    status, body = CODEC.write_problem(problem, "c-1")
    assert (status, error_problems(json.loads(body))) == (429, [])
    assert json.loads(body)["error"]["details"][1]["retryDelay"] == "34.4s"
    again = read(status, body)
    assert (again.cause, again.retry_after, again.message) == ("rate_limit", 34.4, problem.message)


def test_our_bad_key_is_not_told_as_the_clients():
    problem = read(400, (FIXTURES / "bad_key.error.json").read_bytes())
    assert problem.cause == "auth"
    status, body = CODEC.write_problem(problem, "c-1")
    assert (status, json.loads(body)["error"]["status"]) == (502, "UNAVAILABLE")
    assert b"API key" not in body


@pytest.mark.parametrize(
    ("status", "body", "cause"),
    [
        (400, error(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens allowed"),
         "context_length"),
        (400, error(400, "FAILED_PRECONDITION", "Enable billing on your project"), "billing"),
        (400, error(400, "INVALID_ARGUMENT"), "bad_request"),
        (403, error(403, "PERMISSION_DENIED"), "forbidden"),
        (404, error(404, "NOT_FOUND"), "not_found"),
        (500, error(500, "INTERNAL"), "server"),
        (503, error(503, "UNAVAILABLE"), "overloaded"),
        (504, error(504, "DEADLINE_EXCEEDED"), "timeout"),
        (413, b"<html>too large</html>", "too_large"),
        (502, b"", "server"),
        (418, b"[", "bad_request"),
        (429, b"\xff\xfe", "rate_limit"),
    ],
)  # fmt: skip
def test_causes(status, body, cause):
    problem = read(status, body)
    assert (problem.cause, problem.status) == (cause, status)
    assert problem.message


@pytest.mark.parametrize("cause", hub.CAUSES)
def test_every_cause_can_be_told(cause):
    problem = hub.Problem(cause, 529, "m", "t", Raw(b'"c"'), "messages", 1.5, "req-1")
    status, body = CODEC.write_problem(problem, "c-1")
    told = json.loads(body)
    assert error_problems(told) == []
    assert 400 <= status < 600
    assert status != 529
    assert told["error"]["code"] == status
    assert told["error"]["details"][0]["metadata"]["requestId"] == "c-1"
    assert read(status, body).retry_after == 1.5


@pytest.mark.parametrize(("text", "seconds"), [(b"7", 7.0), (b"Wed, 21 Oct 2026 07:28:00 GMT", None), (b"", None)])
def test_retry_after(text, seconds):
    assert read(429, b"{}", {b"retry-after": text}).retry_after == seconds
