"""OpenAI's Responses of the mock: raw bytes against the grammar, the official SDK, and the same facts as in chats."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from fastgw.mock import MockOptions, Server, parse_chances, start
from tests.support.grammar_openai_responses import check, frames
from tests.support.rawclient import RawReply, call, get, post

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
WEATHER = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}
CLOCK = {"type": "function", "name": "clock", "parameters": None, "strict": False}
ARGUMENTS = {"city": "mock", "days": 9007199254740993}
LOREM = "Lorem ipsum dolor sit amet, consectetur"
SUMMARY = {"reasoning": {"effort": "low", "summary": "auto"}}


def ask(model: str = "m", path: str = "/v1/responses", **more: Any) -> bytes:
    return post({"model": model, "input": "hello"} | more, path)


def result_of(ident: str, output: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": ident, "output": output}


def call_of(ident: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": ident, "name": "weather", "arguments": "{}"}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with await start(MockOptions(tokens=6)) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="mock-key", max_retries=0) as client:
        yield client


async def test_whole(client: AsyncOpenAI) -> None:
    reply = await client.responses.create(model="gpt", instructions="Be brief.", input="hello")
    assert (reply.output_text, reply.status, reply.model, reply.object) == (LOREM, "completed", "gpt", "response")
    assert [item.type for item in reply.output] == ["message"]
    assert reply.id.startswith("resp_")
    assert reply.usage is not None
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.total_tokens) == (16, 6, 22)
    assert (reply.instructions, reply.tool_choice, reply.tools) == ("Be brief.", "auto", [])


async def test_sdk_accumulates_a_stream(client: AsyncOpenAI) -> None:
    async with client.responses.stream(model="m", input="call tools", tools=[WEATHER, CLOCK], **SUMMARY) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert [item.type for item in final.output] == ["reasoning", "function_call", "function_call"]
    assert json.loads(final.output[1].arguments) == ARGUMENTS
    async with client.responses.stream(model="m", input="hello") as stream:
        deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
    assert "".join(deltas) == LOREM


STREAMS: list[dict[str, Any]] = [
    {"input": text} | tools | more
    for text in ("hello", "call tool", "call tools")
    for tools in ({}, {"tools": [WEATHER, CLOCK]})
    for more in ({}, {"max_output_tokens": 1}, SUMMARY, {"reasoning": {"effort": "high"}}, {"model": "echo"},
                 {"instructions": "x" * 9000, "include": ["reasoning.encrypted_content"], **SUMMARY})
]  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/responses", "/openai/v1/responses"])
async def test_every_kind_of_stream_keeps_the_grammar_and_says_what_the_whole_says(path: str) -> None:
    async with await start(MockOptions(tokens=6)) as server:
        for more in STREAMS:
            whole = (await call(server.port, ask(path=path, **more))).json()
            reply = await call(server.port, ask(path=path, stream=True, **more))
            stream = check(reply.body)
            assert stream.problems == [], more
            assert b"[DONE]" not in reply.body
            assert stream.terminal is not None
            for response in (whole, stream.terminal):
                assert response.pop("created_at") > 0
                response.pop("completed_at")
                for one in (response, *response["output"]):
                    assert one.pop("id")
                    one.pop("call_id", None)
            assert stream.terminal == whole, more


@pytest.mark.parametrize(
    ("text", "choice", "names"),
    [
        ("please call tool", None, ["weather"]),
        ("please call tools", "auto", ["weather", "clock"]),
        ("hello", "required", ["weather"]),
        ("hello", {"type": "function", "name": "clock"}, ["clock"]),
        ("hello", {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "clock"}]},
         ["clock"]),
        ("call tool", "none", []),
        ("hello", "auto", []),
    ],
)  # fmt: skip
async def test_tools(client: AsyncOpenAI, text: str, choice: Any, names: list[str]) -> None:
    more: dict[str, Any] = {} if choice is None else {"tool_choice": choice}
    tools = [{"type": "web_search"}, WEATHER, CLOCK]
    reply = await client.responses.create(model="m", input=text, tools=tools, **more)
    calls = [item for item in reply.output if item.type == "function_call"]
    assert [one.name for one in calls] == names
    assert len({one.call_id for one in calls}) == len(names)
    assert [json.loads(one.arguments) for one in calls] == [ARGUMENTS if one == "weather" else {} for one in names]
    single = await client.responses.create(model="m", input="call tools", tools=tools, parallel_tool_calls=False)
    assert [item.type for item in single.output] == ["function_call"]
    assert single.parallel_tool_calls is False


async def test_a_tool_result_is_answered_in_words_and_images_are_taken(client: AsyncOpenAI) -> None:
    first = await client.responses.create(model="m", input="call tools", tools=[WEATHER, CLOCK])
    results = [result_of(item.call_id, "sunny") for item in first.output]
    history = [{"role": "user", "content": "call tools"}, *first.output, *results]
    reply = await client.responses.create(model="m", input=history, tools=[WEATHER])
    assert reply.output_text == LOREM
    assert reply.usage is not None
    assert reply.usage.input_tokens == 3 + (4 + 3) + 4 + 2 * (4 + 2)  # the question, both calls, their results
    image = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "auto"}
    content = [image, {"type": "input_text", "text": "look"}]
    reply = await client.responses.create(model="echo", input=[{"role": "user", "content": content}])
    assert reply.output_text == "look"


async def test_reasoning(client: AsyncOpenAI) -> None:
    reply = await client.responses.create(
        model="m", input="hi", include=["reasoning.encrypted_content"], reasoning={"effort": "low", "summary": "auto"}
    )
    thought, _ = reply.output
    assert thought.type == "reasoning"
    assert len(thought.summary[0].text.split()) == 16
    assert thought.encrypted_content
    assert reply.usage is not None
    assert (reply.usage.output_tokens, reply.usage.output_tokens_details.reasoning_tokens) == (22, 16)
    reply = await client.responses.create(model="m", input="hi", reasoning={"effort": "medium"})
    assert reply.output[0].summary == []


async def test_limit_cache_and_structured_output(client: AsyncOpenAI, server: Server) -> None:
    reply = await client.responses.create(model="m", input="hi", max_output_tokens=2)
    assert (reply.output_text, reply.status) == ("Lorem ipsum", "incomplete")
    assert reply.incomplete_details is not None
    assert reply.incomplete_details.reason == "max_output_tokens"
    usage = (await call(server.port, ask("gpt-cached", input="x" * 400))).json()["usage"]
    assert (usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"]) == (107, 53)
    body = {"model": "gpt-cached", "messages": [{"role": "user", "content": "x" * 400}]}
    usage = (await call(server.port, post(body))).json()["usage"]
    assert (usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]) == (107, 53)

    class Answer(BaseModel):
        name: str
        ratio: float

    parsed = await client.responses.parse(model="m", input="hi", text_format=Answer)
    assert parsed.output_parsed == Answer(name="mock", ratio=1.5)


async def test_what_was_asked_is_repeated_as_it_was_written(server: Server) -> None:
    tools = b'[{"type":"function","name":"f","parameters":{"b":1e400,"a":9007199254740993}}]'
    data = b'{"model":"m","input":"hi","temperature":0.10,"metadata":{"k":"v"},"tools":' + tools + b"}"
    reply = await call(server.port, post(data, "/v1/responses"))
    assert b'"tools":' + tools in reply.body
    assert b'"temperature":0.10,' in reply.body
    assert reply.json()["metadata"] == {"k": "v"}


async def test_input_tokens(client: AsyncOpenAI) -> None:
    counted = await client.responses.input_tokens.count(model="m", instructions="Be brief.", input="hello")
    assert (counted.input_tokens, counted.object) == (16, "response.input_tokens")


@pytest.mark.parametrize("text", ["hello", "call tool", "call tools"])
@pytest.mark.parametrize("effort", [None, "low"])
async def test_the_same_text_and_tokens_as_in_chats(server: Server, text: str, effort: str | None) -> None:
    reasoning = {"reasoning": {"effort": effort}}
    ours = (await call(server.port, ask(input=text, instructions="s", tools=[WEATHER, CLOCK], **reasoning))).json()
    functions = [
        {"type": "function", "function": {"name": tool["name"], "parameters": tool["parameters"]}}
        for tool in (WEATHER, CLOCK)
    ]
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": text}]
    body = {"model": "m", "messages": messages, "tools": functions, "reasoning_effort": effort}
    theirs = (await call(server.port, post(body))).json()
    message = theirs["choices"][0]["message"]
    said = [item["content"][0]["text"] for item in ours["output"] if item["type"] == "message"]
    assert "".join(said) == (message["content"] or "")
    assert [(one["name"], one["arguments"]) for one in ours["output"] if one["type"] == "function_call"] == [
        (one["function"]["name"], one["function"]["arguments"]) for one in message.get("tool_calls", ())
    ]
    assert ours["usage"]["input_tokens"] == theirs["usage"]["prompt_tokens"]
    assert ours["usage"]["output_tokens"] == theirs["usage"]["completion_tokens"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, openai.BadRequestError), (401, openai.AuthenticationError), (404, openai.NotFoundError),
     (429, openai.RateLimitError), (503, openai.InternalServerError)],
)  # fmt: skip
async def test_sdk_sees_its_own_exceptions(client: AsyncOpenAI, status: int, kind: Any) -> None:
    with pytest.raises(kind) as caught:
        await client.responses.create(model=f"mock-error-{status}", input="hi")
    assert caught.value.status_code == status
    assert caught.value.response.headers.get("retry-after") == ("1" if status in (429, 503) else None)


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ({"input": None}, "'input'", "missing_required_parameter"),
        ({"input": 5}, "$.input", "invalid_type"),
        ({"model": ""}, "model parameter", None),
        ({"max_output_tokens": 0}, "max_output_tokens", "integer_below_min_value"),
        ({"previous_response_id": "resp_1"}, "'resp_1' not found", "previous_response_not_found"),
        ({"tools": "all"}, "Invalid type", "invalid_type"),
        ({"tool_choice": 1}, "Invalid type", "invalid_type"),
        ({"text": []}, "Invalid type", "invalid_type"),
        ({"input": [result_of("a", "x")]}, "No tool call found for function call output with call_id a", None),
        ({"input": [call_of("a"), {"role": "user", "content": "x"}]}, "No tool output found for function call a", None),
    ],
)
async def test_refusals(server: Server, body: dict[str, Any], message: str, code: str | None) -> None:
    reply = await call(server.port, ask(**body))
    error = reply.json()["error"]
    assert (reply.status, error["type"], error["code"]) == (400, "invalid_request_error", code)
    assert message in error["message"]


@pytest.mark.parametrize(("headers", "status"), [({}, 401), ({"authorization": "Bearer mock-key"}, 200)])
async def test_key_and_method(headers: dict[str, str], status: int) -> None:
    async with await start(MockOptions(key="mock-key")) as server:
        reply = await call(server.port, post({"model": "m", "input": "hi"}, "/v1/responses", **headers))
        assert reply.status == status
        assert (await call(server.port, get("/v1/responses", **headers))).status == (405 if headers else 401)


async def fault(model: str, timeout: float = 5.0, **more: Any) -> RawReply:
    async with await start(MockOptions(tokens=6)) as server:
        return await call(server.port, ask(model, **more), timeout)


async def test_faults_of_sending() -> None:
    for stream in (False, True):
        reply = await fault("mock-cut-300", stream=stream)
        assert (len(reply.raw), reply.ending) == (300, "reset")
        assert (await fault("mock-timeout", 0.1, stream=stream)).ending == "timeout"
        reply = await fault("mock-huge-1", stream=stream)
        assert (reply.ending, len(reply.body) > 1024 * 1024) == ("whole", True)
    for model, ending in (("mock-fin-5", "fin"), ("mock-end-5", "whole"), ("mock-stall-5", "timeout")):
        reply = await fault(model, 0.3, stream=True)
        assert (reply.ending, len(frames(reply.body)[0])) == (ending, 5)
        assert check(reply.body).problems == ["the stream does not end"]
    for stream in (False, True):
        with pytest.raises(ValueError):
            reply = await fault("mock-badjson", stream=stream)
            frames(reply.body) if stream else reply.json()
    assert (await fault("mock-nousage")).json()["usage"] is None
    stream = check((await fault("mock-nousage", stream=True)).body)
    assert stream.problems == []
    assert stream.terminal is not None
    assert stream.terminal["usage"] is None


@pytest.mark.parametrize("place", [0, 5, 99])
async def test_an_error_inside_a_stream_is_numbered_on(place: int) -> None:
    named = await fault(f"mock-stream-error-{place}", stream=True)
    async with await start(MockOptions(tokens=6, faults=parse_chances(f"stream-error:{place}:1"))) as server:
        struck = await call(server.port, ask(stream=True))
    for reply in (named, struck):
        numbers = [data["sequence_number"] for _, data in frames(reply.body)[0]]
        assert numbers == list(range(len(numbers)))
        assert frames(reply.body)[0][-1][0] == "error"
        assert place == 99 or len(numbers) == place + 1
        if place == 5:
            assert check(reply.body).problems == []


async def test_sdk_is_told_of_an_error_inside_a_stream(client: AsyncOpenAI) -> None:
    stream = await client.responses.create(model="mock-stream-error-5", input="hi", stream=True)
    events = [event async for event in stream]
    assert len(events) == 6
    assert events[-1].type == "error"
    assert (events[-1].code, events[-1].sequence_number) == ("server_error", 5)
    assert "The server had an error" in events[-1].message
