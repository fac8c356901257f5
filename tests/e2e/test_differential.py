"""The same calls of the official SDK straight at the mock and through the gateway give the same objects or exceptions.

Exempt is what docs/pass-through.md lists: `usage.cost` in the usage chunk a client asked for, and the provider's
verdict on the gateway's own credential (tests at the end). Ids and times are the same since the mock is seeded.
"""

import time
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.e2e.conftest import OTHER_KEYS
from tests.support.gateway import Mock, until

HELLO = [{"role": "user", "content": "Tell me something about the sea"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "d",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
TIME = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "s",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "number"}},
            "required": ["a", "b"],
        },
    },
}
USAGE = {"include_usage": True}

Arguments = dict[str, Any]
CHAT: dict[str, Arguments] = {
    "plain": {},
    "params": {"temperature": 0.3, "top_p": 0.9, "seed": 7, "stop": ["\n"], "presence_penalty": 0.5, "user": "u"},
    "max_tokens": {"max_tokens": 3},
    "max_completion_tokens": {"max_completion_tokens": 5},
    "several_choices": {"n": 3},
    "logprobs": {"logprobs": True, "top_logprobs": 3},
    "tools_offered": {"tools": [WEATHER, TIME]},
    "tool_required": {"tools": [WEATHER, TIME], "tool_choice": "required"},
    "tool_by_name": {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
    "tools_parallel": {"tools": [WEATHER, TIME], "tool_choice": "required",
                       "messages": [{"role": "user", "content": "call tools please"}]},
    "json_object": {"response_format": {"type": "json_object"}},
    "json_schema": {"response_format": SCHEMA},
    "reasoning": {"reasoning_effort": "low"},
    "service_tier": {"service_tier": "flex"},
    "unicode": {"model": "echo", "messages": [{"role": "user", "content": "naïve 日本語 🙂 \u2028 \u0085 \\ \" end"}]},
    "parts": {"model": "echo", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"},
                                                                         {"type": "text", "text": "b"}]}]},
    "unknown_fields": {"extra_body": {"brand_new_field": {"deep": [1, 2.5, None, 1e300]}}},
    "no_usage": {"model": "mock-nousage"},
    "history": {"messages": [{"role": "system", "content": "s"}, *HELLO, {"role": "assistant", "content": "x"},
                             *HELLO]},
}  # fmt: skip
STREAMS: dict[str, Arguments] = {
    **CHAT,
    "usage": {"stream_options": USAGE},
    "usage_and_choices": {"stream_options": USAGE, "n": 2},
    "usage_declined": {"stream_options": {"include_usage": False}},
    "usage_in_the_finish_chunk": {"model": "mock-usage-in-finish", "stream_options": USAGE},
    "an_error_inside": {"model": "mock-stream-error-3"},
    "an_event_that_is_not_json": {"model": "mock-badjson"},
}
ERRORS: dict[str, Arguments] = {
    **{str(status): {"model": f"mock-error-{status}"} for status in
       (400, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529)},
    "html": {"model": "mock-html-502"},
    "bad_json": {"model": "mock-badjson"},
    "bad_n": {"n": 1000},
    "bad_max_tokens": {"max_tokens": 0},
    "no_messages": {"messages": []},
    "wrong_message_type": {"messages": "hello"},
}  # fmt: skip
TIMEOUTS: dict[str, Arguments] = {
    "whole": {"model": "mock-slow-3000", "timeout": 0.3},
    "stream": {"model": "mock-timeout", "timeout": 0.3, "stream": True},
    # Below the node's heartbeat of 300 ms, which keeps a client from giving up: that is what it is for.
    "inside_the_stream": {"model": "mock-stall-3", "timeout": 0.2, "stream": True},
    "before_the_stream": {"model": "mock-slow-3000", "timeout": 0.3, "stream": True},
}

Outcome = tuple[str, Any]


def described(error: Exception) -> Outcome:
    """What a program can see of an exception."""
    names = ("status_code", "code", "param", "type", "body", "message")
    return type(error).__name__, {name: getattr(error, name, None) for name in names}


def plain(value: Any) -> Any:
    """An SDK object with only what came over the wire, `usage: null` apart, which a metered stream may add."""
    data = value.to_dict(mode="json")
    if data.get("object") in ("chat.completion.chunk", "text_completion") and data.get("usage", 0) is None:
        del data["usage"]
    return data


def outcome(call: Callable[[], Any], *, stream: bool) -> Outcome:
    """The object, or the list of chunks and how it ended."""
    chunks: list[Any] = []
    try:
        reply = call()
        if not stream:
            return "reply", plain(reply)
        chunks.extend(plain(chunk) for chunk in reply)
    except Exception as error:
        return "error", (*described(error), chunks)
    return "stream", chunks


def both(straight: openai.OpenAI, client: openai.OpenAI, arguments: Arguments, *, stream: bool) -> list[Outcome]:
    full = {"model": "mock-small", "messages": HELLO, **arguments}
    if stream:
        full["stream"] = True
    return [outcome(lambda sdk=sdk: sdk.chat.completions.create(**full), stream=stream) for sdk in (straight, client)]


@pytest.mark.parametrize("name", CHAT)
def test_chat(straight: openai.OpenAI, client: openai.OpenAI, name: str) -> None:
    expected, got = both(straight, client, CHAT[name], stream=False)
    assert expected[0] == "reply"
    assert got == expected


@pytest.mark.parametrize("name", STREAMS)
def test_stream(straight: openai.OpenAI, client: openai.OpenAI, name: str) -> None:
    expected, got = both(straight, client, STREAMS[name], stream=True)
    if "error" not in expected[0]:
        assert len(expected[1]) > 2
        if STREAMS[name].get("stream_options") == USAGE:
            cost = next(c for c in reversed(got[1]) if c.get("usage"))["usage"].pop("cost")
            assert 0 < cost < 0.01
    assert got == expected


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_errors(straight: openai.OpenAI, client: openai.OpenAI, name: str, stream: bool) -> None:
    if stream and name == "429":
        time.sleep(1.2)  # the provider has asked to be left alone for a second
    expected, got = both(straight, client, ERRORS[name], stream=stream)
    assert expected[0] == "error" or name == "bad_json"
    assert got == expected


@pytest.mark.parametrize("name", TIMEOUTS)
def test_timeouts(straight: openai.OpenAI, client: openai.OpenAI, name: str) -> None:
    arguments = TIMEOUTS[name]
    expected, got = both(straight, client, arguments, stream=arguments.get("stream", False))
    assert expected[0] == "error"
    assert expected[1][0] == "APITimeoutError"
    assert got == expected


def test_a_cancelled_stream_gives_the_same_chunks_and_reaches_the_upstream(
    straight: openai.OpenAI, client: openai.OpenAI, mock: Mock
) -> None:
    seen = []
    for sdk in (straight, client):
        with sdk.chat.completions.create(model="mock-stall-3", messages=HELLO, stream=True) as stream:
            seen.append([plain(chunk) for _, chunk in zip(range(3), stream, strict=False)])
            assert mock.stats()["active"] >= 1
        until(lambda: mock.stats()["active"] == 0, 5.0, "the upstream to see the cancel")
    assert seen[0] == seen[1]


EMBEDDINGS: dict[str, Arguments] = {
    "text": {"input": "hello"},
    "list": {"input": ["a", "b", "c"]},
    "tokens": {"input": [1, 2, 3]},
    "floats": {"input": "hello", "encoding_format": "float", "dimensions": 8},
    "base64": {"input": "hello", "encoding_format": "base64", "dimensions": 8},
    "empty": {"input": ""},
    "bad_dimensions": {"input": "a", "dimensions": 100_000},
}


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embeddings(straight: openai.OpenAI, client: openai.OpenAI, name: str) -> None:
    arguments = {"model": "mock-embedding", **EMBEDDINGS[name]}
    results = [outcome(lambda sdk=sdk: sdk.embeddings.create(**arguments), stream=False) for sdk in (straight, client)]
    assert results[0] == results[1]


COMPLETIONS: dict[str, Arguments] = {
    "text": {"prompt": "hello"},
    "several": {"prompt": ["a", "b"], "n": 2},
    "echo": {"prompt": "hello", "echo": True, "max_tokens": 4},
    "logprobs": {"prompt": "hello", "logprobs": 2},
    "stream": {"prompt": "hello", "stream": True},
    "stream_with_usage": {"prompt": "hello", "stream": True, "stream_options": USAGE},
}


@pytest.mark.parametrize("name", COMPLETIONS)
def test_completions(straight: openai.OpenAI, client: openai.OpenAI, name: str) -> None:
    arguments = {"model": "mock-small", **COMPLETIONS[name]}
    stream = arguments.get("stream", False)
    expected, got = (
        outcome(lambda sdk=sdk: sdk.completions.create(**arguments), stream=stream) for sdk in (straight, client)
    )
    if "stream_options" in arguments:
        assert 0 < got[1][-1]["usage"].pop("cost") < 0.01
    assert got == expected


# the documented edits


def test_a_wrong_key_is_the_same_exception(straight: openai.OpenAI, client: openai.OpenAI) -> None:
    errors = []
    for sdk in (straight, client):
        with pytest.raises(openai.AuthenticationError) as caught:
            sdk.with_options(api_key="sk-wrong").chat.completions.create(model="mock-small", messages=HELLO)
        errors.append((caught.value.status_code, caught.value.code, caught.value.type))
    assert errors[0] == errors[1] == (401, "invalid_api_key", "invalid_request_error")


def test_a_model_that_is_not_the_keys_is_a_permission_error(client: openai.OpenAI) -> None:
    narrow = client.with_options(api_key=OTHER_KEYS["narrow"])
    with pytest.raises(openai.PermissionDeniedError) as caught:
        narrow.chat.completions.create(model="mock-small", messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("model_not_allowed", "model")


def test_an_unknown_model_is_the_same_exception(straight: openai.OpenAI, client: openai.OpenAI) -> None:
    errors = []
    for sdk, name in ((straight, "mock-error-404"), (client, "no-such-model")):
        with pytest.raises(openai.NotFoundError) as caught:
            sdk.chat.completions.create(model=name, messages=HELLO)
        errors.append((caught.value.status_code, caught.value.code, caught.value.type))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("model", ["mock-error-401", "mock-error-403", "our-key-refused"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_our_own_key_refused_is_not_blamed_on_the_caller(client: openai.OpenAI, model: str, stream: bool) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=model, messages=HELLO, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_auth_failed")
