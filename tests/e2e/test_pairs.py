"""Every client's dialect against every provider's: what an SDK parses through the gateway is what it parses directly.

The same mock stands behind all providers and speaks all dialects with the same words and counts. So each SDK is asked
twice: the mock in the SDK's own dialect, and the gateway, which asks the mock in the provider's.
"""

import http.client
import json
import os
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from fastgw.dialects.registry import CODECS
from tests.e2e.sdks import CLIENTS, PNG, Case, Client, Outcome, Refusal
from tests.support import grammar_anthropic_messages, grammar_gemini, grammar_openai_responses
from tests.support.gateway import Mock, Node, start_node, unique
from tests.support.grammar import chat_stream_problems

KEY = "fgw-pairs-0123456789abcdef"
UPSTREAMS = tuple(CODECS)
KINDS = {
    "openai_chat": ("pairs_chat", "/v1"), "openai_responses": ("pairs_responses", "/v1"),
    "anthropic_messages": ("anthropic", ""), "gemini": ("gemini", ""),
}  # fmt: skip
FAULTS = ("mock-cut-900", "mock-fin-1", "mock-fin-3", "mock-end-3", "mock-stream-error-3")
STATUSES = (400, 401, 404, 413, 429, 500, 503, 529)
MODELS = ("mock-small", "mock-cached", "echo", "mock-nousage", *FAULTS, "mock-cut-250", "mock-stream-error-0",
          *(f"mock-error-{status}" for status in STATUSES))  # fmt: skip
# Kinds of provider that speak one dialect of OpenAI's and no other, so that the other is translated.
SITE = """
from fastgw import providers
from fastgw.providers.base import Provider

for one in (
    Provider(kind="pairs_chat", speaks={"openai_chat": "/chat/completions"}),
    Provider(kind="pairs_responses", speaks={"openai_responses": "/responses"}),
):
    providers.PROVIDERS[one.kind] = one
"""


def config(mock_url: str) -> str:
    lines = ["providers:"]
    for name in UPSTREAMS:
        kind, path = KINDS[name]
        lines.append(f'  {name}: {{kind: {kind}, base_url: "{mock_url}{path}", api_key: "sk-mock"}}')
    lines.append("models:")
    for name in UPSTREAMS:
        lines += [f"  {name}.{model}: {{targets: [{{provider: {name}, model: {model}}}]}}" for model in MODELS]
        lines.append(f'  {name}.dropping: {{targets: [{{provider: {name}, model: mock-small, drop: ["*"]}}]}}')
    return "\n".join([*lines, "keys:", f'  - {{name: main, secret: "{KEY}"}}', ""])


class World:
    """A node, the mock behind it, each SDK at both, and what the SDKs were told by the mock itself."""

    def __init__(self, node: Node, mock: Mock) -> None:
        self.node, self.mock = node, mock
        self.through = {one.dialect: one(node.url, KEY, False) for one in CLIENTS}
        self.straight = {one.dialect: one(mock.url, "sk-mock", True) for one in CLIENTS}
        self._told: dict[str, Outcome | Refusal] = {}

    def close(self) -> None:
        """Let go of the connections the SDKs keep; left to the garbage collector they fail some later test."""
        for one in (*self.through.values(), *self.straight.values()):
            one.sdk.close()

    def directly(self, client: str, case: Case, stream: bool) -> Outcome | Refusal:
        """What the SDK gets from the mock in its own dialect."""
        key = f"{client} {stream} {case}"
        if key not in self._told:
            self._told[key] = ask(self.straight[client], case.model, case, stream)
        return self._told[key]

    def post(self, path: str, body: Any, label: str = "") -> tuple[int, dict[str, str], bytes]:
        """A request of no SDK."""
        connection = http.client.HTTPConnection("127.0.0.1", self.node.port, timeout=10)
        try:
            headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
            if label:
                headers["x-request-id"] = label
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()


def ask(client: Client, model: str, case: Case, stream: bool) -> Outcome | Refusal:
    try:
        return client.streamed(model, case) if stream else client.whole(model, case)
    except client.failures as error:
        return client.refusal(error)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory: Path = tmp_path_factory.mktemp("pairs")
    site = directory / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    mock = Mock(directory)
    node = start_node(directory, config(mock.url), key=KEY, env={"PYTHONPATH": path})
    try:
        world = World(node, mock)
        yield world
        world.close()
    finally:
        code = node.stop()
        mock.stop()
    assert code == 0, node.stderr()
    assert not node.log("internal_error"), node.log("internal_error")


clients = pytest.mark.parametrize("client", [one.dialect for one in CLIENTS if one.dialect in CODECS])
upstreams = pytest.mark.parametrize("upstream", UPSTREAMS)
streams = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
ODD = {
    "type": "object",
    "properties": {
        "zeta": {"type": "string", "enum": ['q"\\ \u2028\u2029\u0085 é 日本 🎉 \n\t </script>']},
        "alpha": {"type": "integer"},
        "deep": {"type": "object", "properties": {"list": {"type": "array", "items": {"type": "number"}}}},
        "": {"type": "boolean"},
    },
}
HELLO = (("user", "Hello there"),)
NOTHING = {"type": "object", "properties": {}}
HISTORY = (
    ("user", "What is the weather in Paris and in Rome?"),
    ("calls", (("call_a", "weather", '{"city":"Paris"}'), ("call_b", "weather", '{"city":"Rome"}'))),
    ("results", (("call_a", "weather", "rain é"), ("call_b", "weather", "sun"))),
)
CASES = {
    "text": Case(HELLO),
    "turns": Case(
        (("user", "One."), ("assistant", "Two?"), ("user", "Three!"), ("assistant", "Four."), ("user", "Five")),
        system="Be brief.",
    ),
    "tool": Case((("user", "Weather?"),), tools=(("weather", PLACE),), force=True),
    "tools": Case((("user", "please call tools"),), tools=(("weather", PLACE), ("clock", ODD), ("now", NOTHING))),
    "tools_unused": Case((("user", "Hello"),), tools=(("weather", PLACE),)),
    "results": Case(HISTORY, tools=(("weather", PLACE),)),
    "image": Case((("image", "What is this?"),)),
    "schema": Case(
        (("user", "A name and a count."),),
        schema={"type": "object", "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
                "required": ["name", "count"], "additionalProperties": False},
    ),
    "length": Case((("user", "Tell me everything"),), max_tokens=5),
    "unicode": Case((("user", "é 日本 🎉 \u2028\u2029\u0085 \\ \" </script> \x7f"),), model="echo"),
    "cached": Case((("user", "Hello there, is there anything in the cache?"),), model="mock-cached"),
    "reasoning": Case((("user", "Think about it."),), think=True, max_tokens=4000),
}  # fmt: skip


@clients
@upstreams
@pytest.mark.parametrize("name", CASES)
@streams
def test_the_same_as_directly(pairs: World, client: str, upstream: str, name: str, stream: bool) -> None:
    case = CASES[name]
    expected = pairs.directly(client, case, stream)
    assert isinstance(expected, Outcome), expected
    assert expected.complete
    outcome = ask(pairs.through[client], f"{upstream}.{case.model}", case, stream)
    assert outcome == expected
    assert isinstance(outcome, Outcome)
    if (client, upstream) != ("gemini", "gemini"):
        # Gemini may give no ids at all; whoever translates must.
        assert all(outcome.ids)
        assert len(set(outcome.ids)) == len(outcome.ids)
    if name == "image":
        assert PNG in pairs.mock.stats()["last_body"].replace("-", "+").replace("_", "/")


@clients
@streams
def test_the_cases_try_what_they_say(pairs: World, client: str, stream: bool) -> None:
    told = {name: pairs.directly(client, case, stream) for name, case in CASES.items()}
    assert all(isinstance(one, Outcome) and (one.text or one.calls) for one in told.values())
    assert [name for name, _ in told["tool"].calls] == ["weather"]
    assert [name for name, _ in told["tools"].calls] == ["weather", "clock", "now"]
    odd = told["tools"].calls[1][1]
    assert (odd["zeta"], odd["alpha"]) == (ODD["properties"]["zeta"]["enum"][0], 9007199254740993)
    assert not told["results"].calls
    assert json.loads(told["schema"].text).keys() == {"name", "count"}
    assert told["length"].stop != told["text"].stop
    assert told["unicode"].text == CASES["unicode"].turns[0][1]


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


STATUS_OF = {401: 502, 529: 503}
"""Statuses that are told as others; Anthropic has 529 itself."""


@clients
@upstreams
@pytest.mark.parametrize("status", STATUSES)
@streams
def test_errors(pairs: World, client: str, upstream: str, status: int, stream: bool) -> None:
    case = Case(HELLO, model=f"mock-error-{status}")
    told = ask(pairs.through[client], f"{upstream}.{case.model}", case, stream)
    assert isinstance(told, Refusal), told
    if client == upstream and status != 401:
        expected = status
    elif client == "anthropic_messages" and status in (503, 529):
        expected = 529
    else:
        expected = STATUS_OF.get(status, status)
    assert told.status == expected, told
    assert told.message
    if status == 401:
        assert "key is fine" in told.message
    elif status in (400, 404, 413, 429, 500):
        direct = pairs.directly(client, case, stream)
        assert told == direct
    if status == 429 and client != upstream:
        # Where nothing is translated, what the provider says of it is passed on, in a header or not.
        assert told.retry_after == "1"


@clients
@upstreams
@pytest.mark.parametrize("model", FAULTS)
def test_a_cut_stream_never_looks_complete(pairs: World, client: str, upstream: str, model: str) -> None:
    told = ask(pairs.through[client], f"{upstream}.{model}", CASES["text"], True)
    assert isinstance(told, Refusal) or not told.complete, told


@clients
@upstreams
def test_a_cut_reply_is_an_error(pairs: World, client: str, upstream: str) -> None:
    told = ask(pairs.through[client], f"{upstream}.mock-cut-250", CASES["text"], False)
    assert isinstance(told, Refusal), told
    assert told.status == 502


@clients
@upstreams
def test_a_stream_that_opens_with_an_error(pairs: World, client: str, upstream: str) -> None:
    told = ask(pairs.through[client], f"{upstream}.mock-stream-error-0", CASES["text"], True)
    assert isinstance(told, Refusal), told
    if client != upstream:
        assert told.status in (500, 503, 529), "nothing was sent yet, so the answer itself is the error"


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
