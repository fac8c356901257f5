import json

import pytest
from msgspec import Raw

from fastgw.dialects import hub
from fastgw.dialects.openai_responses.codec import CODEC


def body(message="M", kind="invalid_request_error", code=None, param=None):
    return json.dumps({"error": {"message": message, "type": kind, "code": code, "param": param}}).encode()


@pytest.mark.parametrize(
    ("status", "answer", "cause"),
    [
        (400, body(), "bad_request"),
        (400, body(code="context_length_exceeded"), "context_length"),
        (400, body("This model's maximum context length is 8192 tokens"), "context_length"),
        (400, body(code="content_filter"), "content_filter"),
        (400, body(code="invalid_image_url"), "bad_request"),
        (401, body(code="invalid_api_key"), "auth"),
        (403, body(), "forbidden"),
        (404, body(code="DeploymentNotFound"), "not_found"),
        (413, b"<html>", "too_large"),
        (429, body(kind="tokens", code="rate_limit_exceeded"), "rate_limit"),
        (429, body(kind="insufficient_quota", code="insufficient_quota"), "billing"),
        (500, b"", "server"),
        (503, body(code=None, kind="server_error"), "server"),
        (503, b"[]", "overloaded"),
        (504, b"\xff", "timeout"),
        (529, b"null", "overloaded"),
    ],
)
def test_causes(status, answer, cause):
    problem = CODEC.read_error(status, {}, answer)
    assert (problem.cause, problem.status) == (cause, status)
    assert problem.cause in hub.CAUSES
    assert problem.message


@pytest.mark.parametrize("code", ['"x"', "429", "null"])
def test_a_code_stays_what_it_was(code):
    answer = b'{"error":{"message":"M","type":"t","param":"input","code":%s}}' % code.encode()
    problem = CODEC.read_error(400, {}, answer)
    assert (problem.message, problem.type, problem.param) == ("M", "t", "input")
    _, written = CODEC.write_problem(problem, "id")
    assert json.loads(written)["error"]["code"] == json.loads(code)


@pytest.mark.parametrize(
    "answer",
    [
        b'{"error":"Broken"}',
        b'{"message":"Broken"}',
        b'{"detail":"Broken"}',
        b'{"error":{"message":"Broken","code":{}}}',
    ],
)
def test_other_shapes_of_errors(answer):
    assert CODEC.read_error(500, {}, answer).message == "Broken"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({b"retry-after": b"7"}, 7.0),
        ({b"retry-after": b"7", b"retry-after-ms": b"1500"}, 1.5),
        ({b"retry-after": b"Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({b"retry-after": b"nan"}, None),
        ({b"retry-after": b"-1"}, None),
    ],
)
def test_when_to_come_back(headers, seconds):
    problem = CODEC.read_error(429, {**headers, b"x-request-id": b"req_1"}, body())
    assert (problem.retry_after, problem.request_id) == (seconds, "req_1")


@pytest.mark.parametrize(
    ("problem", "status", "kind", "code"),
    [
        (hub.Problem("bad_request", 400, "M"), 400, "invalid_request_error", None),
        (hub.Problem("context_length", 400, "M"), 400, "invalid_request_error", "context_length_exceeded"),
        (
            hub.Problem("context_length", 400, "M", None, Raw(b"400")),
            400,
            "invalid_request_error",
            "context_length_exceeded",
        ),
        (hub.Problem("auth", 401, "M", "authentication_error"), 502, "api_error", "upstream_auth_failed"),
        (hub.Problem("billing", 402, "M", "billing_error"), 402, "insufficient_quota", "insufficient_quota"),
        (hub.Problem("forbidden", 403, "M"), 403, "permission_error", None),
        (hub.Problem("not_found", 404, "M"), 404, "invalid_request_error", "model_not_found"),
        (hub.Problem("too_large", 413, "M"), 413, "invalid_request_error", None),
        (hub.Problem("rate_limit", 429, "M", "rate_limit_error"), 429, "rate_limit_error", "rate_limit_exceeded"),
        (hub.Problem("rate_limit", 429, "M", "tokens", Raw(b'"x"')), 429, "tokens", "x"),
        (hub.Problem("overloaded", 529, "M", "overloaded_error"), 503, "server_error", "server_error"),
        (hub.Problem("timeout", 504, "M"), 504, "server_error", "server_error"),
        (hub.Problem("server", 200, "M"), 500, "server_error", "server_error"),
        (hub.Problem("content_filter", 400, "M"), 400, "invalid_request_error", "content_filter"),
    ],
)
def test_what_a_client_is_told(problem, status, kind, code):
    told, written = CODEC.write_problem(problem, "id")
    assert told == status
    assert json.loads(written) == {"error": {"message": "M", "type": kind, "param": None, "code": code}}
