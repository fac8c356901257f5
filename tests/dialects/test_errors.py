"""The three shapes of an error, for every kind there is."""

import json

import pytest

from fastgw.dialects.errors import WRITERS
from fastgw.errors import KINDS, GatewayError

MESSAGE = 'a "quoted"\nmessage \u2028 \\'
# The types that the SDK's and Google's own tables know.
ANTHROPIC = {
    *("invalid_request_error", "authentication_error", "permission_error", "not_found_error", "request_too_large"),
    *("rate_limit_error", "api_error", "overloaded_error", "timeout_error"),
}
GEMINI = {
    *("INVALID_ARGUMENT", "UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND", "DEADLINE_EXCEEDED"),
    *("RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_openai(kind):
    error = GatewayError(kind, MESSAGE, param="model")
    row = KINDS[kind]
    expected = {"message": MESSAGE, "type": row.type, "param": "model", "code": row.code}
    assert json.loads(WRITERS["openai"](error, "req_1")) == {"error": expected}


@pytest.mark.parametrize("kind", KINDS)
def test_anthropic(kind):
    body = json.loads(WRITERS["anthropic"](GatewayError(kind, MESSAGE), "req_1"))
    assert set(body) == {"type", "error", "request_id"}
    assert (body["type"], body["request_id"], body["error"]["message"]) == ("error", "req_1", MESSAGE)
    assert body["error"]["type"] in ANTHROPIC
    server = KINDS[kind].status >= 500
    assert (body["error"]["type"] in {"api_error", "overloaded_error", "timeout_error"}) == server


@pytest.mark.parametrize("kind", KINDS)
def test_gemini(kind):
    body = json.loads(WRITERS["gemini"](GatewayError(kind, MESSAGE), "req_1"))["error"]
    assert (body["code"], body["message"]) == (KINDS[kind].status, MESSAGE)
    assert body["status"] in GEMINI
    assert body["details"][0]["reason"] == KINDS[kind].code


def test_no_param_is_null():
    assert json.loads(WRITERS["openai"](GatewayError("internal_error", "x"), "i"))["error"]["param"] is None


@pytest.mark.parametrize("family", WRITERS)
def test_an_error_is_one_line_so_that_it_fits_in_an_event(family):
    assert not set(WRITERS[family](GatewayError("internal_error", "a\r\nb"), "i")) & {10, 13}
