"""Every client's dialect against every provider's, beneath the SDKs: bytes, arguments, refusals, records.

What the SDKs make of it is `tests/conformance`.
"""

import json
from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import pytest

from fastgw.dialects.registry import CODECS
from tests.e2e.pairs import CASES, FAULTS, ODD, UPSTREAMS, World, ask, paired
from tests.e2e.sdks import CLIENTS, Case, Outcome
from tests.support import grammar_anthropic_messages, grammar_gemini, grammar_openai_responses
from tests.support.gateway import unique
from tests.support.grammar import chat_stream_problems


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with paired(tmp_path_factory.mktemp("pairs")) as world:
        yield world


clients = pytest.mark.parametrize("client", [one.dialect for one in CLIENTS if one.dialect in CODECS])
upstreams = pytest.mark.parametrize("upstream", UPSTREAMS)
streams = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@clients
@upstreams
@streams
def test_arguments_stay_as_they_were_written(pairs: World, client: str, upstream: str, stream: bool) -> None:
    outcome = ask(pairs.through[client], f"{upstream}.mock-small", CASES["tools"], stream)
    assert isinstance(outcome, Outcome)
    assert list(json.loads(outcome.arguments[1])) == list(ODD["properties"]), "the order of keys"
    assert "9007199254740993" in outcome.arguments[1]
    if client.startswith("openai"):
        direct = pairs.directly(client, CASES["tools"], stream)
        assert outcome.arguments == direct.arguments


ARGUMENTS = '{"b": 12345678901234567890123, "a": 1.10, "c": 1e400, "d": -0.0, "\\u00e9": "\\u2028\\/"}'


@clients
@upstreams
def test_arguments_sent_back_stay_as_they_were_written(pairs: World, client: str, upstream: str) -> None:
    if client.startswith("openai"):
        arguments, numbers = ARGUMENTS, ("12345678901234567890123", "1.10", "1e400", "-0.0")
        if upstream == "gemini":
            # The mock reads these arguments, and there is no such number for it.
            arguments, numbers = arguments.replace("1e400", "1e40"), ("12345678901234567890123", "1.10", "1e40", "-0.0")
    else:
        # Their SDKs parse and write JSON themselves.
        arguments, numbers = '{"b":12345678901234567890123,"a":1.5,"é":"\\u2028"}', ("12345678901234567890123", "1.5")
    turns = (("user", "Go"), ("calls", (("call_1", "f", arguments),)), ("results", (("call_1", "f", "done"),)))
    outcome = ask(pairs.through[client], f"{upstream}.mock-small", Case(turns), False)
    assert isinstance(outcome, Outcome), outcome
    sent = pairs.mock.stats()["last_body"]
    for number in numbers:
        assert number in sent
    assert sent.index("12345678901234567890123") < sent.index(numbers[1])


@clients
@upstreams
def test_no_usage_is_no_invented_usage(pairs: World, client: str, upstream: str) -> None:
    for stream in (False, True):
        outcome = ask(pairs.through[client], f"{upstream}.mock-nousage", CASES["text"], stream)
        assert isinstance(outcome, Outcome), outcome
        assert outcome.complete
        assert not any(outcome.usage)


TEXT = {
    "openai_chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello there"}]}),
    "openai_responses": ("/v1/responses", {"input": "Hello there"}),
    "anthropic_messages": (
        "/v1/messages",
        {"messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 1000},
    ),
    "gemini": ("/v1beta/models/{model}:generateContent", {"contents": [{"parts": [{"text": "Hello there"}]}]}),
}
ASKED = {
    "openai_chat": "/v1/chat/completions", "openai_responses": "/v1/responses",
    "anthropic_messages": "/v1/messages", "gemini": "/v1beta/models/mock-small:generateContent",
}  # fmt: skip
ENDS = {
    "openai_chat": b"data: [DONE]", "openai_responses": b"event: response.completed",
    "anthropic_messages": b"event: message_stop", "gemini": b'"finishReason"',
}  # fmt: skip
GRAMMARS: dict[str, Callable[[bytes], list[str]]] = {
    "openai_chat": lambda raw: chat_stream_problems(raw, usage_asked=True),
    "openai_responses": grammar_openai_responses.problems,
    "anthropic_messages": grammar_anthropic_messages.stream_problems,
    "gemini": grammar_gemini.stream_problems,
}


def raw_stream(pairs: World, client: str, model: str, label: str) -> tuple[dict[str, str], bytes]:
    """Headers and bytes of a stream, with its usage asked for."""
    path, body = TEXT[client]
    path = path.format(model=model).replace(":generateContent", ":streamGenerateContent?alt=sse")
    more = {"model": model, "stream": True} if client != "gemini" else {}
    if client == "openai_chat":
        more["stream_options"] = {"include_usage": True}
    status, headers, raw = pairs.post(path, body | more, label)
    assert status == 200, raw
    assert headers["content-type"].startswith("text/event-stream")
    return headers, raw


@clients
@upstreams
def test_a_stream_on_the_wire(pairs: World, client: str, upstream: str) -> None:
    label = unique()
    headers, raw = raw_stream(pairs, client, f"{upstream}.mock-small", label)
    assert raw.count(ENDS[client]) == 1
    assert (headers["x-fastgw-provider"], headers["x-fastgw-target"]) == (upstream, f"{upstream}/mock-small")
    if client != upstream:
        # What is passed on as it came is the provider's own.
        assert GRAMMARS[client](raw) == []
    direct = pairs.directly(client, CASES["text"], True)
    assert isinstance(direct, Outcome)
    record = pairs.node.record(label)
    assert (record["status"], record["error"], record["stream"], record["usage_source"]) == (
        200,
        None,
        True,
        "upstream",
    )
    assert (record["input_tokens"], record["output_tokens"]) == direct.usage[:2]


@clients
@upstreams
@pytest.mark.parametrize("model", FAULTS)
def test_a_cut_stream_on_the_wire(pairs: World, client: str, upstream: str, model: str) -> None:
    label = unique()
    path, body = TEXT[client]
    target = f"{upstream}.{model}"
    path = path.format(model=target).replace(":generateContent", ":streamGenerateContent?alt=sse")
    more = {"model": target, "stream": True} if client != "gemini" else {}
    status, _, raw = pairs.post(path, body | more, label)
    last = raw.replace(b"\r\n", b"\n").rstrip(b"\n").rpartition(b"\n\n")[2]
    assert ENDS[client] not in raw
    assert b"error" in last
    record = pairs.node.record(label)
    assert (record["status"], bool(record["error"])) == (status, True)
    assert status in (200, 500, 502, 503)


@clients
@upstreams
def test_a_whole_reply_on_the_wire(pairs: World, client: str, upstream: str) -> None:
    label = unique()
    path, body = TEXT[client]
    model = f"{upstream}.mock-small"
    more = {"model": model} if client != "gemini" else {}
    status, headers, _ = pairs.post(path.format(model=model), body | more, label)
    assert (status, headers["content-type"].partition(";")[0]) == (200, "application/json")
    assert (headers["x-fastgw-provider"], headers["x-fastgw-attempts"]) == (upstream, "1")
    assert pairs.mock.stats()["last_path"] == ASKED[upstream]
    direct = pairs.directly(client, CASES["text"], False)
    assert isinstance(direct, Outcome)
    record = pairs.node.record(label)
    assert (record["status"], record["error"], record["stream"], record["usage_source"]) == (
        200,
        None,
        False,
        "upstream",
    )
    assert (record["input_tokens"], record["output_tokens"]) == direct.usage[:2]


WRONG = {
    "openai_chat": [{"messages": 7}, {"messages": [{"role": "king", "content": "x"}]}, {"messages": [7]}],
    "openai_responses": [{"input": 7}, {"input": [{"type": "function_call_output"}]}, {"input": [7]}],
    "anthropic_messages": [{"messages": 7, "max_tokens": 1}, {"messages": [{"role": "king"}], "max_tokens": 1}],
    "gemini": [{"contents": 7}, {"contents": [{"role": "king", "parts": []}]}, {"contents": [{"parts": [7]}]}],
}  # fmt: skip


@pytest.mark.parametrize(("client", "upstream"), list(permutations(UPSTREAMS, 2)))
def test_what_is_no_request_of_its_dialect(pairs: World, client: str, upstream: str) -> None:
    path, _ = TEXT[client]
    model = f"{upstream}.mock-small"
    with pairs.mock.untouched():
        for body in WRONG[client]:
            more = {"model": model} if client != "gemini" else {}
            status, _, answer = pairs.post(path.format(model=model), body | more)
            assert status == 400, answer
            assert json.loads(answer)["error"]["message"]


# A field of the client's dialect, and which providers have nothing like it.
UNSUPPORTED = [
    ("openai_chat", "logit_bias", {"logit_bias": {"5": 1}}, ("anthropic_messages", "gemini", "openai_responses")),
    ("openai_chat", "seed", {"seed": 7}, ("anthropic_messages", "openai_responses")),
    ("openai_responses", "max_tool_calls", {"max_tool_calls": 3}, ("openai_chat", "anthropic_messages", "gemini")),
    ("anthropic_messages", "top_k", {"top_k": 5}, ("openai_chat", "openai_responses")),
    ("gemini", "top_k", {"generationConfig": {"topK": 5}}, ("openai_chat", "openai_responses")),
]


@pytest.mark.parametrize(
    ("client", "upstream", "field", "more"),
    [
        (client, upstream, field, more)
        for client, field, more, others in UNSUPPORTED
        for upstream in others
        if {client, upstream} <= set(CODECS)
    ],
    ids=str,
)
def test_what_a_provider_cannot_do(pairs: World, client: str, upstream: str, field: str, more: dict[str, Any]) -> None:
    path, body = TEXT[client]
    model = f"{upstream}.mock-small"
    with pairs.mock.untouched():
        status, _, answer = pairs.post(path.format(model=model), body | more | {"model": model})
    told = json.loads(answer)
    assert status == 400, told
    assert field in told["error"]["message"]
    if client.startswith("openai"):
        assert (told["error"]["code"], told["error"]["param"]) == ("unsupported_field", field)
    model = f"{upstream}.dropping"
    status, headers, answer = pairs.post(path.format(model=model), body | more | {"model": model})
    assert status == 200, answer
    assert any(field in one for one in headers["x-fastgw-dropped"].split(","))
    status, headers, _ = pairs.post(path.format(model=model), body | {"model": model})
    assert (status, "x-fastgw-dropped" in headers) == (200, False)
