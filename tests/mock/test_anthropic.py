"""Anthropic's dialect of the mock: raw bytes against the grammar, the official SDK, and the same facts as OpenAI's."""

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic

from fastgw.mock import MockOptions, Server, parse_chances, start
from tests.support.rawclient import RawReply, call, get, post

WEATHER = {
    "name": "weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    },
}
CLOCK = {"name": "clock", "input_schema": {"type": "object", "properties": {}}}
ARGUMENTS = {"city": "mock", "days": 9007199254740993}
LOREM = "Lorem ipsum dolor sit amet, consectetur"
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
THINK = {"type": "enabled", "budget_tokens": 1024}


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def ask(model: str = "m", path: str = "/v1/messages", version: str = "2023-06-01", **more: Any) -> bytes:
    body = {"model": model, "max_tokens": 2000, "messages": said("hello")} | more
    return post({name: value for name, value in body.items() if value is not None}, path, anthropic_version=version)


def events_of(raw: bytes) -> list[dict[str, Any]]:
    """The data of each frame; asserts the framing: one event and one data line each, of the same name."""
    found = []
    assert raw.endswith(b"\n\n")
    for frame in raw.split(b"\n\n")[:-1]:
        name, data = frame.split(b"\n")
        found.append(json.loads(data.removeprefix(b"data: ")))
        assert name == b"event: " + found[-1]["type"].encode()
    return found


def stream_problems(events: list[dict[str, Any]]) -> list[str]:
    """`message_start → (BLOCK | ping)* → message_delta+ → message_stop`, blocks never inside each other."""
    state, place, problems, kind = "begin", -1, [], ""
    delta_of = {"text": {"text_delta"}, "tool_use": {"input_json_delta"},
                "thinking": {"thinking_delta", "signature_delta"}}  # fmt: skip
    allowed = {
        "begin": {"message_start"},
        "between": {"content_block_start", "message_delta"},
        "inside": {"content_block_delta", "content_block_stop"},
        "ending": {"message_stop"},
        "over": set(),
    }
    after = {"message_start": "between", "content_block_start": "inside", "content_block_delta": "inside",
             "content_block_stop": "between", "message_delta": "ending", "message_stop": "over"}  # fmt: skip
    for event in events:
        name = event["type"]
        if name == "ping":
            continue
        if name not in allowed[state]:
            problems.append(f"{name} in state {state}")
            return problems
        if name == "content_block_start":
            place, kind = place + 1, event["content_block"]["type"]
        if name.startswith("content_block") and event["index"] != place:
            problems.append(f"{name} has index {event['index']}, not {place}")
        if name == "content_block_delta" and event["delta"]["type"] not in delta_of[kind]:
            problems.append(f"{event['delta']['type']} in a {kind} block")
        state = after[name]
    return problems if state == "over" else [*problems, f"ends in state {state}"]


def accumulate(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole message that a stream told."""
    message = events[0]["message"]
    for event in events[1:]:
        if event["type"] == "content_block_start":
            message["content"].append(event["content_block"] | {"": ""})
        elif event["type"] == "content_block_delta":
            block, delta = message["content"][-1], event["delta"]
            if delta["type"] == "input_json_delta":
                block[""] += delta["partial_json"]
            else:
                name = delta["type"].removesuffix("_delta")
                block[name] += delta[name]
        elif event["type"] == "content_block_stop":
            fragments = message["content"][-1].pop("")
            if message["content"][-1]["type"] == "tool_use":
                message["content"][-1]["input"] = json.loads(fragments or "{}")
        elif event["type"] == "message_delta":
            message |= event["delta"]
            message["usage"] |= event["usage"]
    return message


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with await start(MockOptions(tokens=6, seed=1)) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=server.url, api_key="mock-key", max_retries=0) as client:
        yield client


async def test_whole(client: AsyncAnthropic) -> None:
    reply = await client.messages.create(model="claude", max_tokens=100, system="Be brief.", messages=said("hello"))
    assert [block.text for block in reply.content] == [LOREM]
    assert (reply.model, reply.role, reply.stop_reason, reply.stop_sequence) == (
        "claude",
        "assistant",
        "end_turn",
        None,
    )
    assert reply.id.startswith("msg_")
    assert reply._request_id is not None
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (16, 6)
    assert (reply.usage.cache_read_input_tokens, reply.usage.cache_creation_input_tokens) == (0, 0)


async def test_sdk_accumulates_a_stream(client: AsyncAnthropic) -> None:
    asked: dict[str, Any] = {
        "model": "m", "max_tokens": 2000, "messages": said("call tools"), "tools": [WEATHER, CLOCK], "thinking": THINK,
    }  # fmt: skip
    async with client.messages.stream(**asked) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_message()
    whole = await client.messages.create(**asked)
    assert final.stop_reason == whole.stop_reason == "tool_use"
    assert [block.type for block in final.content] == ["thinking", "tool_use", "tool_use"]
    assert final.content[1].input == ARGUMENTS
    assert (final.usage.input_tokens, final.usage.output_tokens) == (
        whole.usage.input_tokens,
        whole.usage.output_tokens,
    )


STREAMS: list[dict[str, Any]] = [
    {"messages": said(text)} | tools | more
    for text in ("hello", "call tool", "call tools")
    for tools in ({}, {"tools": [WEATHER, CLOCK]})
    for more in ({}, {"max_tokens": 1}, {"thinking": THINK}, {"system": "x" * 9000}, {"model": "echo"})
]


async def test_every_kind_of_stream_keeps_the_grammar_and_says_what_the_whole_says(server: Server) -> None:
    for more in STREAMS:
        whole = (await call(server.port, ask(**more))).json()
        reply = await call(server.port, ask(stream=True, **more))
        assert reply.headers["content-type"].startswith("text/event-stream")
        events = events_of(reply.body)
        assert stream_problems(events) == [], more
        told = accumulate(events)
        assert told.pop("id").startswith("msg_")
        assert whole.pop("id").startswith("msg_")
        for one in (*told["content"], *whole["content"]):
            one.pop("id", None)  # ids are a function of the body, which differs by `stream`
        assert told == whole, more


async def test_pings_and_usage_in_halves(server: Server) -> None:
    events = events_of((await call(server.port, ask(stream=True))).body)
    assert [event["type"] for event in events[:4]] == [
        "message_start", "content_block_start", "ping", "content_block_delta",
    ]  # fmt: skip
    assert events[0]["message"]["usage"]["input_tokens"] == 9
    assert events[-2]["usage"] == {"output_tokens": 6}
    events = events_of((await call(server.port, ask("mock-usage-in-finish", stream=True))).body)
    assert events[0]["message"]["usage"]["input_tokens"] == 0
    assert (events[-2]["usage"]["input_tokens"], events[-2]["usage"]["output_tokens"]) == (9, 6)
    for stream in (False, True):
        assert b'"usage"' not in (await call(server.port, ask("mock-nousage", stream=stream))).body


@pytest.mark.parametrize(
    ("text", "choice", "names"),
    [
        ("please call tool", None, ["weather"]),
        ("please call tools", {"type": "auto"}, ["weather", "clock"]),
        ("call tools", {"type": "auto", "disable_parallel_tool_use": True}, ["weather"]),
        ("hello", {"type": "any"}, ["weather"]),
        ("hello", {"type": "tool", "name": "clock"}, ["clock"]),
        ("call tool", {"type": "none"}, []),
        ("hello", None, []),
    ],
)
async def test_tools(client: AsyncAnthropic, text: str, choice: Any, names: list[str]) -> None:
    more: dict[str, Any] = {} if choice is None else {"tool_choice": choice}
    reply = await client.messages.create(model="m", max_tokens=100, messages=said(text), tools=[WEATHER, CLOCK], **more)
    calls = [block for block in reply.content if block.type == "tool_use"]
    assert [one.name for one in calls] == names
    assert reply.stop_reason == ("tool_use" if names else "end_turn")
    assert len({one.id for one in calls}) == len(names)
    assert [one.input for one in calls] == [ARGUMENTS if name == "weather" else {} for name in names]


def result_of(ident: str, content: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": ident, "content": content}


async def test_a_tool_result_is_answered_in_words_and_images_are_taken(client: AsyncAnthropic) -> None:
    first = await client.messages.create(model="m", max_tokens=100, messages=said("call tool"), tools=[WEATHER])
    results = [result_of(first.content[0].id, [{"type": "text", "text": "sunny"}, IMAGE])]
    messages = [
        *said("call tool"),
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": results},
    ]
    reply = await client.messages.create(model="m", max_tokens=100, messages=messages, tools=[WEATHER])
    assert [block.type for block in reply.content] == ["text"]
    assert reply.usage.input_tokens == 3 + (4 + 3) + 4 + (4 + 2)  # call tool, the call, sunny
    echo = [{"role": "user", "content": [IMAGE, {"type": "text", "text": "look"}]}]
    reply = await client.messages.create(model="echo", max_tokens=100, messages=echo)
    assert reply.content[0].text == "look"


async def test_numbers_that_no_float_holds_are_taken(server: Server) -> None:
    schema = b'{"type":"object","maximum":1e400,"minimum":99999999999999999999}'
    data = (b'{"model":"m","max_tokens":9,"tools":[{"name":"f","input_schema":' + schema + b'}],"messages":['
            b'{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{"x":1e400}}]},'
            b'{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"ok"}]}]}')  # fmt: skip
    reply = await call(server.port, post(data, "/v1/messages", anthropic_version="2023-06-01"))
    assert reply.status == 200


async def test_thinking(client: AsyncAnthropic, server: Server) -> None:
    reply = await client.messages.create(model="m", max_tokens=2000, messages=said("hi"), thinking=THINK)
    thought, text = reply.content
    assert thought.type == "thinking"
    assert len(thought.thinking.split()) == 16
    assert len(thought.signature) >= 40
    assert text.text == LOREM
    assert reply.usage.output_tokens == 22
    assert reply.usage.output_tokens_details.thinking_tokens == 16
    adaptive = {"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "high"}}
    hidden = (await call(server.port, ask(**adaptive))).json()
    assert hidden["content"][0]["thinking"] == ""
    assert hidden["content"][0]["signature"]
    assert hidden["usage"]["output_tokens"] == 256 + 6


async def test_limit_cache_and_structured_output(client: AsyncAnthropic, server: Server) -> None:
    reply = await client.messages.create(model="m", max_tokens=2, messages=said("hi"))
    assert (reply.content[0].text, reply.stop_reason) == ("Lorem ipsum", "max_tokens")
    usage = (await call(server.port, ask("claude-cached", messages=said("x" * 400)))).json()["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (54, 53)
    marked = [{"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral"}}]
    usage = (await call(server.port, ask(messages=[{"role": "user", "content": marked}]))).json()["usage"]
    assert (usage["input_tokens"], usage["cache_creation_input_tokens"]) == (54, 53)
    assert usage["cache_creation"]["ephemeral_5m_input_tokens"] == 53
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "big": {"type": "integer"}}}
    config = {"format": {"type": "json_schema", "schema": schema}}
    reply = (await call(server.port, ask(output_config=config))).json()
    assert json.loads(reply["content"][0]["text"]) == {"name": "mock", "big": 9007199254740993}


async def test_count_tokens(client: AsyncAnthropic) -> None:
    counted = await client.messages.count_tokens(model="m", system="Be brief.", messages=said("hello"))
    assert counted.input_tokens == 16


@pytest.mark.parametrize("text", ["hello", "call tool", "call tools"])
async def test_the_same_text_and_tokens_as_in_openais_dialect(server: Server, text: str) -> None:
    ours = (await call(server.port, ask(messages=said(text), system="s", tools=[WEATHER, CLOCK]))).json()
    functions = [
        {"type": "function", "function": {"name": tool["name"], "parameters": tool["input_schema"]}}
        for tool in (WEATHER, CLOCK)
    ]
    messages = [{"role": "system", "content": "s"}, *said(text)]
    theirs = (await call(server.port, post({"model": "m", "messages": messages, "tools": functions}))).json()
    message = theirs["choices"][0]["message"]
    assert "".join(block.get("text", "") for block in ours["content"]) == (message["content"] or "")
    assert [(one["name"], one["input"]) for one in ours["content"] if one["type"] == "tool_use"] == [
        (one["function"]["name"], json.loads(one["function"]["arguments"])) for one in message.get("tool_calls", ())
    ]
    assert ours["usage"]["input_tokens"] == theirs["usage"]["prompt_tokens"]
    assert ours["usage"]["output_tokens"] == theirs["usage"]["completion_tokens"]


@pytest.mark.parametrize(
    ("status", "kind", "name"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (403, anthropic.PermissionDeniedError, "permission_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (413, anthropic.APIStatusError, "request_too_large"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (504, anthropic.InternalServerError, "timeout_error"),
        (529, anthropic.InternalServerError, "overloaded_error"),
    ],
)
async def test_sdk_sees_its_own_exceptions(client: AsyncAnthropic, status: int, kind: Any, name: str) -> None:
    with pytest.raises(kind) as caught:
        await client.messages.create(model=f"mock-error-{status}", max_tokens=9, messages=said("hi"))
    assert caught.value.status_code == status
    assert caught.value.body["error"]["type"] == name
    assert caught.value.request_id == caught.value.body["request_id"]
    assert caught.value.response.headers.get("retry-after") == ("1" if status in (429, 529) else None)


async def test_an_error_inside_a_stream(client: AsyncAnthropic, server: Server) -> None:
    seen = 0
    with pytest.raises(anthropic.APIStatusError) as caught:
        stream = await client.messages.create(
            model="mock-stream-error-4", max_tokens=9, messages=said("hi"), stream=True
        )
        async for _ in stream:
            seen += 1
    assert caught.value.body["error"]["type"] == "overloaded_error"
    events = events_of((await call(server.port, ask("mock-stream-error-4", stream=True))).body)
    assert [event["type"] for event in events][-2:] == ["content_block_delta", "error"]
    assert len(events) == 5


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": None}, "messages: Field required"),
        ({"messages": []}, "at least one message"),
        ({"messages": "hi"}, "$.messages"),
        ({"model": None}, "model: Field required"),
        ({"version": ""}, ""),
        ({"messages": [{"role": "tool", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": []}]}, "non-empty content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, "must be non-empty"),
        ({"messages": [{"role": "user", "content": [result_of("a", "x")]}]}, "unexpected `tool_use_id`"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "t", "input": {}}]},
                       {"role": "user", "content": "x"}]}, "without `tool_result` blocks"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "t", "input": {}}]},
                       {"role": "user", "content": [{"type": "text", "text": "x"}, result_of("a", "x")]}]},
         "before other content"),
        ({"thinking": {"type": "enabled", "budget_tokens": 100}}, "budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "must be greater"),
        ({"thinking": THINK, "tools": [WEATHER], "tool_choice": {"type": "any"}}, "forces tool use"),
    ],
)  # fmt: skip
async def test_refusals(server: Server, body: dict[str, Any], message: str) -> None:
    raw = ask(**body)
    if "version" in body:
        raw, message = raw.replace(b"anthropic-version: \r\n", b""), "anthropic-version"
    reply = await call(server.port, raw)
    assert (reply.status, reply.json()["type"], reply.json()["error"]["type"]) == (
        400,
        "error",
        "invalid_request_error",
    )
    assert message in reply.json()["error"]["message"]
    for data in (b"{", b"\xff\xfe", b'"text"'):
        reply = await call(server.port, post(data, "/v1/messages", anthropic_version="2023-06-01"))
        assert (reply.status, reply.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get("/v1/messages"), 405),
        (post(b"{}", "/v1/messages/nothing"), 404),
        (post(b"{}", "/anthropic/nothing"), 404),
    ],
)
async def test_unknown_paths_and_methods(server: Server, data: bytes, status: int) -> None:
    reply = await call(server.port, data)
    assert (reply.status, reply.json()["type"]) == (status, "error")
    assert reply.headers.get("allow") == ("POST" if status == 405 else None)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"x_api_key": "wrong"}, 401),
        ({"x_goog_api_key": "mock-key"}, 401),
        ({"api_key": "mock-key"}, 401),
        ({"x_api_key": "mock-key"}, 200),
        ({"authorization": "Bearer mock-key"}, 200),
    ],
)
async def test_key(headers: dict[str, str], status: int) -> None:
    body = {"model": "m", "max_tokens": 9, "messages": said("hi")}
    async with await start(MockOptions(key="mock-key")) as server:
        reply = await call(server.port, post(body, "/anthropic/v1/messages", anthropic_version="2023-06-01", **headers))
    assert reply.status == status
    assert reply.json()["type"] == ("message" if status == 200 else "error")


@pytest.mark.parametrize(
    ("method", "change", "status"),
    [
        ("rawPredict", {}, 200),
        ("streamRawPredict", {"stream": True}, 200),
        ("rawPredict", {"anthropic_version": "2023-06-01"}, 400),
        ("rawPredict", {"model": "m"}, 400),
        ("rawPredict", {"stream": True}, 400),
        ("predict", {}, 404),
    ],
)
async def test_claude_as_vertex_has_it(server: Server, method: str, change: dict[str, Any], status: int) -> None:
    body = {"anthropic_version": "vertex-2023-10-16", "max_tokens": 9, "messages": said("hi"), **change}
    path = f"/v1/projects/p/locations/global/publishers/anthropic/models/claude%40x:{method}"
    reply = await call(server.port, post(body, path, authorization="Bearer t"))
    assert reply.status == status
    if status == 200 and not change:
        assert reply.json()["model"] == "claude@x"
    elif status == 200:
        assert stream_problems(events_of(reply.body)) == []


async def fault(model: str, timeout: float = 5.0, **more: Any) -> RawReply:
    async with await start(MockOptions(tokens=6)) as server:
        return await call(server.port, ask(model, **more), timeout)


async def test_faults_of_sending() -> None:
    for stream in (False, True):
        reply = await fault("mock-cut-300", stream=stream)
        assert (len(reply.raw), reply.ending) == (300, "reset")
        assert (await fault("mock-html-502", stream=stream)).headers["content-type"] == "text/html"
        assert (await fault("mock-timeout", 0.1, stream=stream)).ending == "timeout"
        reply = await fault("mock-huge-1", stream=stream)
        assert (reply.ending, len(reply.body) > 1024 * 1024) == ("whole", True)
        assert not stream or stream_problems(events_of(reply.body)) == []
    reply = await fault("mock-fin-4", stream=True)
    assert (reply.ending, len(events_of(reply.body))) == ("fin", 4)
    reply = await fault("mock-end-4", stream=True)
    assert (reply.ending, len(events_of(reply.body))) == ("whole", 4)
    reply = await fault("mock-stall-4", 0.2, stream=True)
    assert (reply.ending, len(events_of(reply.body))) == ("timeout", 4)
    with pytest.raises(ValueError):
        (await fault("mock-badjson")).json()
    with pytest.raises(ValueError):
        events_of((await fault("mock-badjson", stream=True)).body)


async def test_process_wide_faults_speak_the_dialect() -> None:
    async with await start(MockOptions(faults=parse_chances("error:529:1"))) as server:
        reply = await call(server.port, ask())
    assert (reply.status, reply.json()["error"]["type"]) == (529, "overloaded_error")
