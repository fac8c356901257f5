"""What vendors' errors mean: their bodies, as they were seen or as their references have them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.providers import PROVIDERS, failures
from fastgw.providers.failures import FALLBACKS, fallback_of, of_event, of_reply

VENDORS = Path(__file__).parents[1] / "fixtures" / "vendors"


def openai(message, kind="invalid_request_error", code=None, param=None):
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def anthropic(kind, message):
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def google(code, status, message, *details):
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
FILTERED = openai("The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
                  "", "content_filter", "prompt")  # fmt: skip

REPLIES = [
    # OpenAI and what speaks like it
    ("openai", 400, openai("This model's maximum context length is 8192 tokens. However, your messages resulted in "
     "8227 tokens.", code="context_length_exceeded", param="messages"), "context"),
    ("vllm", 400, {"object": "error", "message": "This model's maximum context length is 131072 tokens. However, you "
     "requested 351430 tokens.", "type": "BadRequestError", "code": 400}, "context"),
    ("openai", 429, openai("Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, "
     "Requested 54321. The input or output tokens must be reduced in order to run successfully.", "tokens",
     "rate_limit_exceeded"), "context"),
    ("groq", 413, openai("Request too large for model `llama` on tokens per minute (TPM): Limit 6000, Requested 9000",
     "tokens", "rate_limit_exceeded"), "context"),
    ("openai", 400, openai("Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
     code="invalid_prompt"), "policy"),
    ("openai", 400, openai("Your request was rejected as a result of our safety system.",
     code="content_policy_violation"), "policy"),
    ("azure", 400, FILTERED, "policy"),
    ("deepseek", 400, openai("Content Exists Risk"), "policy"),
    ("openai", 401, openai("Incorrect API key provided: sk-***.", code="invalid_api_key"), "auth"),
    ("azure", 401, {"statusCode": 401, "message": "Access denied due to invalid subscription key."}, "auth"),
    ("xai", 400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***."},
     "auth"),
    ("xai", 403, {"code": "The caller does not have permission", "error": "Content violates usage guidelines."},
     "policy"),
    ("openai", 429, openai("Rate limit reached for gpt-4o. Please try again in 1.5s.", "tokens",
     "rate_limit_exceeded"), "rate"),
    ("azure", 429, {"error": {"code": "429", "message": "Requests have exceeded call rate limit."}}, "rate"),
    ("openai", 429, openai("You exceeded your current quota, please check your plan and billing details.",
     "insufficient_quota", "insufficient_quota"), "quota"),
    ("deepseek", 402, openai("Insufficient Balance", "unknown_error"), "quota"),
    ("openai", 500, openai("The server had an error while processing your request.", "server_error"), "outage"),
    ("openai", 503, openai("The engine is currently overloaded, please try again later", "server_error"),
     "overloaded"),
    ("openai", 400, openai("Unsupported parameter: 'max_tokens'", code="unsupported_parameter"), "request"),
    ("openai", 404, openai("The model `x` does not exist", code="model_not_found"), "request"),
    ("openai_compatible", 504, {}, "timeout"),
    ("openai_compatible", 502, "<html><body>502 Bad Gateway</body></html>", "outage"),
    ("openai_compatible", 403, "<!DOCTYPE html><title>Attention Required! | Cloudflare</title>", "request"),
    # Anthropic
    ("anthropic", 400, anthropic("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
     "context"),
    ("anthropic", 400, anthropic("invalid_request_error", "input length and `max_tokens` exceed context limit: "
     "199000 + 8192 > 200000"), "context"),
    ("anthropic", 400, anthropic("invalid_request_error", "Output blocked by content filtering policy"), "policy"),
    ("anthropic", 400, anthropic("invalid_request_error", "Your credit balance is too low to access the Anthropic "
     "API."), "quota"),
    ("anthropic", 401, anthropic("authentication_error", "invalid x-api-key"), "auth"),
    ("anthropic", 403, anthropic("permission_error", "Your API key does not have permission"), "auth"),
    ("anthropic", 429, anthropic("rate_limit_error", "This request would exceed your organization's rate limit"),
     "rate"),
    ("anthropic", 529, anthropic("overloaded_error", "Overloaded"), "overloaded"),
    ("anthropic", 500, anthropic("api_error", "Internal server error"), "outage"),
    ("anthropic", 413, anthropic("request_too_large", "Request exceeds the maximum size"), "request"),
    # Google
    ("gemini", 400, google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", BAD_KEY),
     "auth"),
    ("gemini", 400, google(400, "INVALID_ARGUMENT", "The input token count exceeds the maximum number of tokens "
     "allowed (1048576)."), "context"),
    ("gemini", 400, google(400, "INVALID_ARGUMENT", "Unknown name \"x\""), "request"),
    ("gemini", 429, google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota"), "rate"),
    ("gemini", 503, google(503, "UNAVAILABLE", "The model is overloaded. Please try again later."), "outage"),
    ("gemini", 504, google(504, "DEADLINE_EXCEEDED", "The request timed out."), "timeout"),
    ("vertex", 403, google(403, "PERMISSION_DENIED", "Permission denied on resource project x"), "auth"),
    # AWS
    ("bedrock", 400, {"message": "Input is too long for requested model."}, "context"),
    ("bedrock", 429, {"message": "Too many tokens, please wait before trying again."}, "rate"),
    ("bedrock", 400, {"__type": "ThrottlingException", "message": "Too many requests"}, "rate"),
    ("bedrock", 408, {"message": "ModelTimeoutException"}, "timeout"),
    ("bedrock", 424, {"__type": "ModelNotReadyException", "message": "not ready"}, "overloaded"),
    ("bedrock", 400, {"message": "The maximum tokens you requested exceeds the model limit of 4096."}, "request"),
    # others
    ("huggingface", 503, {"error": "Model x is currently loading", "estimated_time": 20.0}, "overloaded"),
    ("openrouter", 404, {"error": {"code": 404, "message": "No endpoints found for x."}}, "outage"),
    ("openrouter", 402, {"error": {"code": 402, "message": "Insufficient credits"}}, "quota"),
    ("openrouter", 403, {"error": {"code": 403, "message": "Your input was flagged"}}, "policy"),
    ("cohere", 400, {"message": "too many tokens: total number of tokens in the prompt exceeds the limit"}, "context"),
    ("mistral", 400, {"object": "error", "message": "Prompt contains 40000 tokens, too large for model with 32768 "
     "maximum context length"}, "context"),
]  # fmt: skip


def encoded(body):
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


@pytest.mark.parametrize(("kind", "status", "body", "means"), REPLIES)
def test_replies(kind, status, body, means):
    assert of_reply(kind, status, encoded(body)) == means


def test_every_kind_with_rows_of_its_own_is_a_provider():
    assert set(failures.BY_KIND) <= set(PROVIDERS)


@pytest.mark.parametrize("path", sorted(VENDORS.glob("*/error.json")), ids=lambda path: path.parent.name)
def test_what_vendors_were_seen_to_say_of_a_request_is_not_their_own_failure(path):
    fixture = json.loads(path.read_bytes())
    status = fixture.get("status", 400) if isinstance(fixture, dict) else 400
    if not isinstance(status, int) or status >= 500:
        pytest.skip("no error of a request")
    means = of_reply(path.parent.name, status, path.read_bytes())
    assert means in ("request", "context", "policy", "auth", "rate", "quota")


EVENTS = [
    (anthropic("overloaded_error", "Overloaded"), "overloaded"),
    (anthropic("rate_limit_error", "slow down"), "rate"),
    (anthropic("api_error", "Internal server error"), "outage"),
    (anthropic("authentication_error", "invalid x-api-key"), "auth"),
    (anthropic("invalid_request_error", "prompt is too long: 3 > 2"), "context"),
    (anthropic("invalid_request_error", "messages: at least one message is required"), "request"),
    (openai("The server is over capacity", "server_error"), "overloaded"),
    (openai("x", "insufficient_quota", "insufficient_quota"), "quota"),
    (openai("x", "requests", "rate_limit_exceeded"), "rate"),
    (FILTERED, "policy"),
    (google(503, "UNAVAILABLE", "The model is overloaded."), "overloaded"),
    (google(429, "RESOURCE_EXHAUSTED", "quota"), "rate"),
    (google(403, "PERMISSION_DENIED", "no"), "auth"),
    (google(400, "INVALID_ARGUMENT", "no"), "request"),
    (google(500, "INTERNAL", "x"), "outage"),
    ({"type": "error", "code": "server_error", "message": "x", "sequence_number": 0}, "outage"),
    ({"type": "response.failed", "response": {"status": "failed", "error": {"code": "rate_limit_exceeded"}}}, "rate"),
    ({}, "outage"),
]


@pytest.mark.parametrize(("event", "means"), EVENTS)
def test_events(event, means):
    assert of_event(encoded(event)) == means


def test_fallbacks():
    expected = {"outage": "outage", "overloaded": "outage", "timeout": "outage", "quota": "outage", "auth": "outage"}
    expected |= {"rate": "rate", "context": "context", "policy": "policy", "request": ""}
    assert {means: fallback_of(means) for means in expected} == expected
    assert set(FALLBACKS) == set(expected.values()) - {""}


@given(st.sampled_from(sorted(PROVIDERS)), st.integers(100, 999), st.binary(max_size=300))
def test_whatever_comes_it_has_a_class(kind, status, body):
    means = of_reply(kind, status, body)
    assert status < 500 or status > 599 or means in ("outage", "overloaded", "timeout")
    assert fallback_of(means) in ("", *FALLBACKS)
    assert of_event(body) in failures.Class.__args__


def test_only_so_much_of_a_body_is_looked_at():
    far = b" " * failures.LOOK_AT + b"context_length_exceeded"
    assert of_reply("openai", 400, far) == "request"
    assert of_reply("openai", 400, far[30:]) == "context"
