"""AWS's errors, however they are told."""

import json

import pytest

from fastgw.dialects.bedrock_converse.codec import CODEC
from fastgw.dialects.hub import CAUSES


def read(status, kind="", body=None, **headers):
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    if kind:
        named[b"x-amzn-errortype"] = kind.encode()
    return CODEC.read_error(status, named, json.dumps(body).encode() if body is not None else b"")


@pytest.mark.parametrize(
    ("status", "kind", "message", "cause"),
    [
        (400, "ValidationException", "The model returned: malformed input", "bad_request"),
        (400, "ValidationException:http://internal.amazon.com/coral/", "Input is too long for requested model.",
         "context_length"),
        (400, "ServiceQuotaExceededException", "Too many", "rate_limit"),
        (403, "AccessDeniedException", "no", "forbidden"),
        (403, "UnrecognizedClientException", "no", "auth"),
        (403, "ExpiredTokenException", "no", "auth"),
        (404, "ResourceNotFoundException", "no model", "not_found"),
        (408, "ModelTimeoutException", "slow", "timeout"),
        (424, "ModelErrorException", "broke", "server"),
        (429, "ThrottlingException", "slow down", "rate_limit"),
        (429, "ModelNotReadyException", "loading", "overloaded"),
        (500, "InternalServerException", "oops", "server"),
        (503, "ServiceUnavailableException", "later", "overloaded"),
        (503, "", "later", "overloaded"),
        (418, "TeapotException", "short", "bad_request"),
    ],
)  # fmt: skip
def test_what_an_error_is(status, kind, message, cause):
    problem = read(status, kind, {"message": message})
    assert (problem.cause, problem.status, problem.message) == (cause, status, message)
    assert problem.type == (kind.partition(":")[0] or None)
    assert cause in CAUSES


@pytest.mark.parametrize(
    "body",
    [
        {"__type": "com.amazon.coral.service#ThrottlingException", "message": "m"},
        {"code": "ThrottlingException", "Message": "m"},
    ],
)
def test_a_type_in_the_body(body):
    problem = read(400, "", body)
    assert (problem.cause, problem.type, problem.message) == ("rate_limit", "ThrottlingException", "m")


def test_what_stands_in_headers():
    problem = read(429, "ThrottlingException", {}, retry_after=b"2.5", x_amzn_requestid=b"aws-1")
    assert (problem.retry_after, problem.request_id) == (2.5, "aws-1")
    assert problem.message == "the provider answered with status 429 and said no more"
    assert read(429, retry_after=b"soon").retry_after is None


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b"[" * 100_000, b"\xff", b"7", b'{"message":7}'])
def test_what_is_no_error_body(body):
    problem = CODEC.read_error(502, {}, body)
    assert (problem.cause, problem.status) == ("server", 502)
    assert problem.message
    assert len(problem.message) <= 4000
