"""Errors of OpenAI and its like, both ways."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from fastgw.dialects import hub
from fastgw.dialects.openai_chat.codec import CODEC
from fastgw.dialects.openai_chat.errors import ROWS


def body(**error):
    return json.dumps({"error": error}).encode()


def read(status, data, **headers):
    return CODEC.read_error(status, {k.replace("_", "-").encode(): v for k, v in headers.items()}, data)


def write(problem):
    status, data = CODEC.write_problem(problem, "call")
    return status, json.loads(data)["error"]


@pytest.mark.parametrize(
    ("status", "data", "cause"),
    [
        (400, body(message="x", type="invalid_request_error", code="context_length_exceeded"), "context_length"),
        (400, b'{"object":"error","message":"maximum context length is 4096 tokens","code":400}', "context_length"),
        (
            400,
            body(message="filtered", code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}),
            "content_filter",
        ),
        (400, body(message="no such model", code="model_not_found"), "not_found"),
        (400, body(message="bad", type="invalid_request_error", param="temperature", code=None), "bad_request"),
        (401, body(message="Incorrect API key", code="invalid_api_key"), "auth"),
        (402, b'{"error":{"message":"Insufficient Balance","type":"unknown_error"}}', "billing"),
        (403, body(message="region"), "forbidden"),
        (404, body(message="gone", code="DeploymentNotFound"), "not_found"),
        (408, b"", "timeout"),
        (413, b"<html>too large</html>", "too_large"),
        (422, b'{"detail":[{"loc":["body","messages"],"msg":"field required"}]}', "bad_request"),
        (429, body(message="slow", type="requests", code="rate_limit_exceeded"), "rate_limit"),
        (429, body(message="pay", type="insufficient_quota", code="insufficient_quota"), "billing"),
        (500, body(message="oops", type="server_error"), "server"),
        (502, b"Bad Gateway", "server"),
        (503, b'{"message":"Service unavailable","type":"x"}', "overloaded"),
        (504, b"", "timeout"),
        (529, b'[{"error":{"code":529,"message":"busy","status":"UNAVAILABLE"}}]', "overloaded"),
    ],
)
def test_causes(status, data, cause):
    problem = read(status, data)
    assert (problem.cause, problem.status) == (cause, status)
    assert problem.message


def test_what_an_error_says_is_kept():
    data = b'{"error":{"message":"m","type":"t","param":"messages[0]","code":429}}'
    problem = read(429, data, retry_after=b"1.5", x_request_id=b"req_1")
    assert problem == hub.Problem("rate_limit", 429, "m", "t", Raw(b"429"), "messages[0]", 1.5, "req_1")
    assert write(problem) == (
        429,
        {"message": "m", "type": "rate_limit_error", "param": "messages[0]", "code": 429, "request_id": "req_1"},
    )


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after_ms": b"250", "retry_after": b"9"}, 0.25),
        ({"retry_after": b"7"}, 7.0),
        ({}, None),
        ({"retry_after": b"Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry_after": b"-1"}, None),
        ({"retry_after": b"nan"}, None),
        ({"retry_after": b"1e99"}, None),
    ],
)
def test_when_to_come_again(headers, seconds):
    assert read(429, b"", **headers).retry_after == seconds


@given(
    st.integers(400, 599),
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "message", "type", "code", "param", "detail"]), inner, max_size=4
            )
        ),
    ).map(lambda value: json.dumps(value).encode()),
)
def test_reading_an_error_never_fails(status, data):
    problem = read(status, data)
    assert problem.cause in hub.CAUSES
    assert problem.status == status
    assert problem.message
    out, error = write(problem)
    assert 400 <= out < 600
    assert set(error) >= {"message", "type", "param", "code"}


def test_a_message_is_bounded():
    assert len(read(500, b"x" * 10**6).message) <= 4000
    assert len(read(500, body(message="x" * 10**6)).message) <= 4000


@pytest.mark.parametrize("cause", hub.CAUSES)
def test_every_cause_has_a_row_and_a_code(cause):
    status, error = write(hub.Problem(cause, 400, "m"))
    assert error["type"] == ROWS[cause].type
    assert (error["code"] is None) == (cause == "bad_request")
    assert status == (ROWS[cause].status or 400)


def test_a_refused_key_of_ours_is_not_the_clients_fault_nor_shown():
    status, error = write(
        hub.Problem("auth", 401, "Incorrect API key provided: sk-ab***yz", "x", Raw(b'"invalid_api_key"'))
    )
    assert (status, error["code"]) == (502, "upstream_auth_failed")
    assert "sk-" not in json.dumps(error)


@pytest.mark.parametrize(
    ("problem", "status", "kind", "code"),
    [
        (hub.Problem("overloaded", 529, "busy", "overloaded_error"), 503, "server_error", "overloaded"),
        (hub.Problem("rate_limit", 429, "slow", "RESOURCE_EXHAUSTED", Raw(b"429")), 429, "rate_limit_error", 429),
        (
            hub.Problem("context_length", 400, "long", "INVALID_ARGUMENT", Raw(b"400")),
            400,
            "invalid_request_error",
            "context_length_exceeded",
        ),
        (
            hub.Problem("bad_request", 400, "no", "invalid_request_error", Raw(b"null")),
            400,
            "invalid_request_error",
            None,
        ),
        (hub.Problem("bad_request", 400, "no", "tokens", Raw(b'"odd"')), 400, "tokens", "odd"),
        (hub.Problem("billing", 402, "pay"), 402, "insufficient_quota", "insufficient_quota"),
        (hub.Problem("server", 200, "odd"), 502, "server_error", "server_error"),
    ],
)
def test_other_dialects_errors_in_openais_words(problem, status, kind, code):
    got, error = write(problem)
    assert (got, error["type"], error["code"], error["message"]) == (status, kind, code, problem.message)
