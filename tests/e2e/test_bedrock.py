"""Bedrock behind the gateway: each vendor's SDK gets from Converse what it gets from the mock in its own dialect.

The mock speaks Converse with AWS's own framing; what it does not say comes from an upstream written frame by frame.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anthropic
import openai
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from google import genai
from google.genai import types

from fastgw.dialects.event_stream import encode, event, exception
from tests.e2e.sdks import CLIENTS, PNG, Case, Client, Outcome, Refusal
from tests.support.gateway import FixedUpstream, Mock, Node, node, reserved_port, unique
from tests.support.scripted import Expect, Send

KEY = "fgw-bedrock-0123456789abcdef"
API_KEY = "bedrock-api-key-0123456789"
ACCESS_KEY, SECRET = "AKIAEXAMPLE012345678", "secret-access-key-0123456789abcdefghijkl"
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3d4e5f6"
FAULTS = ("mock-cut-900", "mock-fin-3", "mock-end-3", "mock-stream-error-3", "mock-badjson")
STATUSES = (400, 404, 413, 429, 500, 503)
MODELS = ("mock-small", "mock-cached", "echo", "mock-nousage", "mock-stream-error-0", "mock-cut-250", *FAULTS,
          *(f"mock-error-{status}" for status in (*STATUSES, 403)))  # fmt: skip
PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
HELLO = (("user", "Hello there"),)
HISTORY = (
    ("user", "What is the weather in Paris and in Rome?"),
    ("calls", (("call_a", "weather", '{"city":"Paris"}'), ("call_b", "weather", '{"city":"Rome"}'))),
    ("results", (("call_a", "weather", "rain é"), ("call_b", "weather", "sun"))),
)
CASES = {
    "text": Case(HELLO),
    "turns": Case((("user", "One."), ("assistant", "Two?"), ("user", "Three!")), system="Be brief."),
    "tool": Case((("user", "Weather?"),), tools=(("weather", PLACE),), force=True),
    "tools": Case((("user", "please call tools"),), tools=(("weather", PLACE), ("now", NOTHING))),
    "tools_unused": Case((("user", "Hello"),), tools=(("weather", PLACE),)),
    "results": Case(HISTORY, tools=(("weather", PLACE),)),
    "results_alone": Case(HISTORY),
    "image": Case((("image", "What is this?"),)),
    "schema": Case(
        (("user", "A name and a count."),),
        schema={"type": "object", "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
                "required": ["name", "count"], "additionalProperties": False},
    ),
    "length": Case((("user", "Tell me everything"),), max_tokens=5),
    "unicode": Case((("user", 'é 日本 🎉 \u2028\u2029\u0085 \\ " </script> \x7f'),), model="echo"),
    "cached": Case((("user", "Hello there, is there anything in the cache?"),), model="mock-cached"),
    "reasoning": Case((("user", "Think about it."),), think=True, max_tokens=4000),
}  # fmt: skip


def config(mock_url: str, plain_url: str, scripted_port: int) -> str:
    lines = [
        "providers:",
        f'  aws: {{kind: bedrock, base_url: "{mock_url}", region: us-east-1, api_key: "{API_KEY}"}}',
        f'  wrong: {{kind: bedrock, base_url: "{mock_url}", region: us-east-1, api_key: "not-the-key-0123"}}',
        f'  scripted: {{kind: bedrock, base_url: "http://127.0.0.1:{scripted_port}", region: us-east-1, '
        f'api_key: "{API_KEY}"}}',
        f'  signed: {{kind: bedrock, base_url: "{plain_url}", region: eu-west-1, '
        f'auth: {{scheme: aws, access_key_id: {ACCESS_KEY}, secret_access_key: "{SECRET}"}}}}',
        "models:",
        *(f"  {model}: {{targets: [{{provider: aws, model: {model}}}]}}" for model in MODELS),
        f'  profile: {{targets: [{{provider: aws, model: "{ARN}"}}]}}',
        '  claude: {targets: [{provider: aws, model: "us.anthropic.claude-sonnet-4-5-20250929-v1:0"}]}',
        '  llama: {targets: [{provider: aws, model: "meta.llama3-3-70b-instruct-v1:0"}]}',
        "  refused: {targets: [{provider: wrong, model: mock-small}]}",
        "  scripted: {targets: [{provider: scripted, model: m, price: {input: 1, output: 2}}]}",
        '  signed: {targets: [{provider: signed, model: "us.anthropic.claude-sonnet-4-5-20250929-v1:0"}]}',
        "keys:",
        f'  - {{name: main, secret: "{KEY}"}}',
    ]
    return "\n".join([*lines, ""])


class World:
    """A node, the mock behind it with and without its key, and each SDK at both ends."""

    def __init__(self, node: Node, mock: Mock, plain: Mock, scripted_port: int) -> None:
        self.node, self.mock, self.plain, self._scripted_port = node, mock, plain, scripted_port
        self.through = {one.dialect: one(node.url, KEY, False) for one in CLIENTS}
        self.straight = {one.dialect: one(plain.url, "sk-mock", True) for one in CLIENTS}

    def close(self) -> None:
        for one in (*self.through.values(), *self.straight.values()):
            one.sdk.close()

    def upstream(self, scripts: Any) -> FixedUpstream:
        """The upstream behind the model `scripted`, for the time of an `async with`."""
        return FixedUpstream(self._scripted_port, scripts)

    def sent(self) -> dict[str, Any]:
        """The last request the mock saw."""
        body = self.mock.stats()["last_body"]
        return dict(json.loads(body))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory: Path = tmp_path_factory.mktemp("bedrock")
    with ExitStack() as stack:
        mock = Mock(directory, "--key-env", "MOCK_KEY", env={"MOCK_KEY": API_KEY})
        stack.callback(mock.stop)
        plain = Mock(directory)
        stack.callback(plain.stop)
        scripted = stack.enter_context(reserved_port())
        running = stack.enter_context(node(directory, config(mock.url, plain.url, scripted), key=KEY))
        made = World(running, mock, plain, scripted)
        yield made
        made.close()
        assert not running.log("internal_error"), running.log("internal_error")


def ask(client: Client, model: str, case: Case, stream: bool) -> Outcome | Refusal:
    try:
        return client.streamed(model, case) if stream else client.whole(model, case)
    except client.failures as error:
        return client.refusal(error)


clients = pytest.mark.parametrize("client", [one.dialect for one in CLIENTS])
streams = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def comparable(client: str, outcome: Outcome) -> Outcome:
    """Without what Converse has no word for: how much of the output was thought."""
    if client.startswith("openai"):
        outcome.usage = outcome.usage[:4]
    elif client == "gemini" and outcome.usage:
        given, said, total, cached, thought = outcome.usage
        outcome.usage = (given, said + thought, total, cached)
    return outcome


@clients
@pytest.mark.parametrize("name", CASES)
@streams
def test_the_same_as_directly(world: World, client: str, name: str, stream: bool) -> None:
    case = CASES[name]
    expected = ask(world.straight[client], case.model, case, stream)
    outcome = ask(world.through[client], case.model, case, stream)
    assert isinstance(expected, Outcome), expected
    assert isinstance(outcome, Outcome), outcome
    assert expected.complete
    assert comparable(client, outcome) == comparable(client, expected)
    assert all(outcome.ids)
    assert len(set(outcome.ids)) == len(outcome.ids)
    stats = world.mock.stats()
    assert stats["last_path"] == f"/model/{case.model}/converse" + ("-stream" if stream else "")
    if name == "image":
        assert world.sent()["messages"][0]["content"][1]["image"]["source"]["bytes"] == PNG
    if name == "tools":
        assert outcome.calls[0] == ("weather", {"city": "mock", "days": 9007199254740993})
    if name == "reasoning":
        assert world.sent()["additionalModelRequestFields"]["thinking"]["type"] == "enabled"


@clients
@pytest.mark.parametrize("status", STATUSES)
@streams
def test_errors(world: World, client: str, status: int, stream: bool) -> None:
    case = Case(HELLO, model=f"mock-error-{status}")
    told = ask(world.through[client], case.model, case, stream)
    assert isinstance(told, Refusal), told
    assert told.status == (529 if status == 503 and client == "anthropic_messages" else status), told
    if status == 429:
        assert "Too many requests" in told.message


@clients
@pytest.mark.parametrize("model", ["refused", "mock-error-403"])
def test_a_refused_credential_is_the_gateways_own_affair(world: World, client: str, model: str) -> None:
    told = ask(world.through[client], model, CASES["text"], False)
    assert isinstance(told, Refusal)
    assert told.status == 502
    assert "key is fine" in told.message
    assert API_KEY not in told.message


@clients
@pytest.mark.parametrize("model", FAULTS)
def test_a_cut_stream_never_looks_complete(world: World, client: str, model: str) -> None:
    told = ask(world.through[client], model, CASES["text"], True)
    assert isinstance(told, Refusal) or not told.complete, told


@clients
def test_a_cut_reply_is_an_error(world: World, client: str) -> None:
    told = ask(world.through[client], "mock-cut-250", CASES["text"], False)
    assert isinstance(told, Refusal), told
    assert told.status == 502


@clients
def test_a_stream_that_opens_with_an_error(world: World, client: str) -> None:
    told = ask(world.through[client], "mock-stream-error-0", CASES["text"], True)
    assert isinstance(told, Refusal), told
    assert told.status in (503, 529), "nothing was sent yet, so the answer itself is the error"


@clients
@streams
def test_no_usage_is_no_invented_usage(world: World, client: str, stream: bool) -> None:
    outcome = ask(world.through[client], "mock-nousage", CASES["text"], stream)
    assert isinstance(outcome, Outcome), outcome
    assert outcome.complete
    assert not any(outcome.usage)


def test_a_model_is_one_segment_of_the_path(world: World) -> None:
    with openai.OpenAI(api_key=KEY, base_url=f"{world.node.url}/v1", max_retries=0) as sdk:
        reply = sdk.chat.completions.create(model="profile", messages=[{"role": "user", "content": "hi"}])
    assert reply.choices[0].message.content
    assert reply.id.startswith("req_"), "Converse gives none"
    stats = world.mock.stats()
    assert stats["last_path"] == f"/model/{quote(ARN, safe='')}/converse"
    assert ["authorization", f"Bearer {API_KEY}"] in stats["last_headers"]


@streams
def test_signed_requests(world: World, stream: bool) -> None:
    """The account's own credential: the signature is the one that AWS's library makes of the same request."""
    outcome = ask(world.through["openai_chat"], "signed", CASES["text"], stream)
    assert isinstance(outcome, Outcome), outcome
    assert outcome.complete
    stats = world.plain.stats()
    headers = dict(stats["last_headers"])
    said = dict(part.split("=", 1) for part in headers["authorization"].removeprefix("AWS4-HMAC-SHA256 ").split(", "))
    assert said["Credential"] == f"{ACCESS_KEY}/{headers['x-amz-date'][:8]}/eu-west-1/bedrock/aws4_request"
    signed = {name: headers[name] for name in said["SignedHeaders"].split(";")}
    request = AWSRequest("POST", f"https://{headers['host']}{stats['last_path']}", signed, stats["last_body"].encode())
    request.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(ReadOnlyCredentials(ACCESS_KEY, SECRET, None), "bedrock", "eu-west-1")
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert said["Signature"] == signer.signature(text, request)
    assert SECRET not in str(headers)


def test_what_an_agent_says_to_claude(world: World) -> None:
    """Anthropic's SDK, its words written as Converse's and answered in its own."""
    result = [
        {"type": "text", "text": "it failed"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
    ]
    with anthropic.Anthropic(api_key=KEY, base_url=world.node.url, max_retries=0) as sdk:
        message = sdk.messages.create(
            model="claude",
            max_tokens=4000,
            system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
            tools=[{"name": "look", "input_schema": PLACE, "cache_control": {"type": "ephemeral"}}],
            tool_choice={"type": "auto", "disable_parallel_tool_use": True},
            thinking={"type": "enabled", "budget_tokens": 2000},
            stop_sequences=["END"],
            extra_body={"top_k": 5},
            messages=[
                {"role": "user", "content": "Look"},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                    {"type": "redacted_thinking", "data": "cmVk"},
                    {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"city": "Paris"}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": result, "is_error": True},
                ]},
            ],
        )  # fmt: skip
    thinking, text = message.content
    assert (thinking.type, text.type, message.stop_reason) == ("thinking", "text", "end_turn")
    assert thinking.signature
    assert message.usage.cache_creation_input_tokens
    sent = world.sent()
    assert sent["system"] == [{"text": "Be brief."}, {"cachePoint": {"type": "default", "ttl": "1h"}}]
    assert sent["toolConfig"] == {
        "tools": [
            {"toolSpec": {"name": "look", "inputSchema": {"json": PLACE}}},
            {"cachePoint": {"type": "default"}},
        ]
    }
    assert sent["additionalModelRequestFields"] == {
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "top_k": 5,
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    }
    assert sent["inferenceConfig"] == {"maxTokens": 4000, "stopSequences": ["END"]}
    assert sent["messages"][1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "cmVk"}},
        {"toolUse": {"toolUseId": "toolu_1", "name": "look", "input": {"city": "Paris"}}},
    ]
    image = {"image": {"format": "png", "source": {"bytes": PNG}}}
    answered = {"toolUseId": "toolu_1", "content": [{"text": "it failed"}, image], "status": "error"}
    assert sent["messages"][2]["content"] == [{"toolResult": answered}]


def test_thinking_goes_there_and_back(world: World) -> None:
    """What an answer thought comes back to Bedrock unchanged, through a client whose dialect knows signatures."""
    asked: list[Any] = [{"role": "user", "content": "please call tools"}]
    tools: list[Any] = [{"name": "look", "input_schema": PLACE}]
    with anthropic.Anthropic(api_key=KEY, base_url=world.node.url, max_retries=0) as sdk:
        more: dict[str, Any] = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 3000}
        with sdk.messages.stream(model="claude", messages=asked, tools=tools, **more) as stream:
            first = stream.get_final_message()
        thinking, call = first.content
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "done"}
        asked += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        sdk.messages.create(model="claude", messages=asked, tools=tools, **more)
    back = world.sent()["messages"][1]["content"]
    said = {"text": thinking.thinking, "signature": thinking.signature}
    assert back[0] == {"reasoningContent": {"reasoningText": said}}
    assert back[1]["toolUse"] == {"toolUseId": call.id, "name": "look", "input": call.input}


def test_what_cannot_be_done_is_named(world: World) -> None:
    with openai.OpenAI(api_key=KEY, base_url=f"{world.node.url}/v1", max_retries=0) as sdk, world.mock.untouched():
        for field, more in {
            "seed": {"seed": 7},
            "response_format": {"response_format": {"type": "json_object"}},
            "reasoning_effort": {"reasoning_effort": "low"},
        }.items():
            with pytest.raises(openai.BadRequestError) as caught:
                sdk.chat.completions.create(model="llama", messages=[{"role": "user", "content": "hi"}], **more)
            assert (caught.value.code, caught.value.param) == ("unsupported_field", field)


def test_a_gemini_client_sees_calls_and_thoughts(world: World) -> None:
    options = types.HttpOptions(base_url=world.node.url, retry_options=types.HttpRetryOptions(attempts=1))
    sdk = genai.Client(api_key=KEY, vertexai=False, http_options=options)
    try:
        config = types.GenerateContentConfig(
            thinking_config=types.ThinkingConfig(thinking_budget=1024, include_thoughts=True), max_output_tokens=4000
        )
        reply = sdk.models.generate_content(model="claude", contents="hi", config=config)
    finally:
        sdk.close()
    thought, text = reply.candidates[0].content.parts
    assert thought.thought
    assert text.text
    assert world.sent()["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 1024


# --- streams written frame by frame


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\nx-amzn-requestid: aws-1\r\n"


def delta(text: str) -> bytes:
    return event("contentBlockDelta", json.dumps({"contentBlockIndex": 0, "delta": {"text": text}}).encode())


def chunked(*frames: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames)
    return HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


START = event("messageStart", b'{"role":"assistant"}')
STOP = event("messageStop", b'{"stopReason":"end_turn"}')
METADATA = event(
    "metadata",
    b'{"usage":{"inputTokens":3,"outputTokens":2,"totalTokens":15,"cacheReadInputTokens":6,"cacheWriteInputTokens":4}}',
)
THROTTLED = exception("throttlingException", b'{"message":"Too many tokens, please wait before trying again."}')


async def streamed(world: World, payload: bytes, label: str = "") -> tuple[str, list[Any]]:
    """The text and the usages of a stream; the SDK's error comes out as it is."""
    text, usages = "", []
    made = openai.AsyncOpenAI(api_key=KEY, base_url=f"{world.node.url}/v1", max_retries=0)
    async with world.upstream([[Expect(), Send(payload)]]), made as sdk:
        stream = await sdk.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "hi"}], stream=True,
            stream_options={"include_usage": True}, extra_headers={"x-request-id": label} if label else {},
        )  # fmt: skip
        async for chunk in stream:
            usages += [chunk.usage] if chunk.usage else []
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
    return text, usages


async def test_a_stream_frame_by_frame(world: World) -> None:
    label = unique()
    text, (usage,) = await streamed(world, chunked(START, delta("Hel"), delta("lo"), STOP, METADATA), label)
    assert text == "Hello"
    assert (usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens_details.cached_tokens) == (13, 2, 6)
    record = world.node.record(label)
    assert (record["input_tokens"], record["output_tokens"], record["usage_source"]) == (13, 2, "upstream")
    assert record["cached_tokens"] == 6


async def test_a_stream_in_single_bytes(world: World) -> None:
    whole = START + delta("Hel") + delta("lo") + STOP + METADATA
    text, _ = await streamed(world, chunked(*(whole[i : i + 1] for i in range(len(whole)))))
    assert text == "Hello"


async def test_a_stream_without_its_metadata_is_complete_without_a_count(world: World) -> None:
    label = unique()
    text, _ = await streamed(world, chunked(START, delta("Hello"), STOP), label)
    assert text == "Hello"
    record = world.node.record(label)
    assert (record["error"], record["usage_source"]) == (None, "estimated")


async def test_throttling_before_the_first_word_is_the_answer(world: World) -> None:
    with pytest.raises(openai.RateLimitError, match="Too many tokens"):
        await streamed(world, chunked(START, THROTTLED))


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (THROTTLED, "Too many tokens"),
        (
            exception("modelStreamErrorException", b'{"message":"It broke","originalMessage":"GPU"}'),
            r"It broke \(GPU\)",
        ),
        (encode({":message-type": "error", ":error-code": "InternalFailure", ":error-message": "Gone"}, b""), "Gone"),
        (b"\x00" * 40, "incomplete"),
        (delta("x")[:-1] + b"\x00", "incomplete"),
        (delta("x")[:-7], "incomplete"),
    ],
    ids=["throttled", "model", "error", "zeros", "checksum", "cut"],
)
async def test_a_failure_inside_a_stream(world: World, last: bytes, words: str) -> None:
    label = unique()
    with pytest.raises(openai.APIError, match=words):
        await streamed(world, chunked(START, delta("Hel"), last), label)
    record = world.node.record(label)
    assert (record["status"], bool(record["error"])) == (200, True)


async def test_an_answer_that_is_no_stream_is_an_error(world: World) -> None:
    body = b'{"output":{}}'
    payload = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    with pytest.raises(openai.InternalServerError) as caught:
        await streamed(world, payload)
    assert caught.value.status_code == 502
