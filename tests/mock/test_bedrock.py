"""Bedrock's dialect of the mock: AWS's own SDK understands it, and it says the same as the mock's other dialects."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from fastgw.dialects.event_stream import EventStream
from fastgw.mock import MockOptions, Server, start
from tests.support.rawclient import call, post

WEATHER = {
    "name": "weather",
    "inputSchema": {
        "json": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    },
}
ARGUMENTS = {"city": "mock", "days": 9007199254740993}
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with await start(MockOptions()) as running:
        yield running


@contextmanager
def sdk(url: str) -> Iterator[Any]:
    """AWS's client, asking the mock with credentials it takes no notice of."""
    session = botocore.session.Session()
    client = session.create_client(
        "bedrock-runtime", "us-east-1", endpoint_url=url, aws_access_key_id="AKIAMOCK", aws_secret_access_key="mock",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=10),
    )  # fmt: skip
    try:
        yield client
    finally:
        client.close()


async def converse(server: Server, model: str = "m", **more: Any) -> dict[str, Any]:
    def ask() -> dict[str, Any]:
        with sdk(server.url) as client:
            return dict(client.converse(modelId=model, **said(**more)))

    return await asyncio.to_thread(ask)


async def streamed(server: Server, model: str = "m", **more: Any) -> list[dict[str, Any]]:
    def ask() -> list[dict[str, Any]]:
        with sdk(server.url) as client:
            answer = client.converse_stream(modelId=model, **said(**more))
            try:
                return list(answer["stream"])
            finally:
                answer["stream"].close()

    return await asyncio.to_thread(ask)


def said(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"text": text}]}]} | more


def stream_problems(events: list[dict[str, Any]]) -> list[str]:
    """`messageStart → BLOCK* → messageStop → metadata`, blocks in order and never inside each other."""
    names = [next(iter(event)) for event in events]
    problems = [] if [names[0], *names[-2:]] == ["messageStart", "messageStop", "metadata"] else [f"frame {names}"]
    place, inside = 0, False
    for event in events[1:-2]:
        ((name, value),) = event.items()
        if value["contentBlockIndex"] != place:
            problems.append(f"{name} of block {value['contentBlockIndex']} in {place}")
        if name == "contentBlockStart" and inside:
            problems.append("a block in a block")
        inside = name != "contentBlockStop"
        place += not inside
    return [*problems, "a block is open"] if inside else problems


async def test_a_whole_answer(server: Server) -> None:
    answer = await converse(server)
    (block,) = answer["output"]["message"]["content"]
    assert block["text"].startswith("Lorem ipsum dolor")
    assert (answer["output"]["message"]["role"], answer["stopReason"]) == ("assistant", "end_turn")
    usage = answer["usage"]
    assert (usage["inputTokens"], usage["outputTokens"], usage["totalTokens"]) == (9, 16, 25)
    assert answer["ResponseMetadata"]["RequestId"]


async def test_a_stream(server: Server) -> None:
    events = await streamed(server)
    assert stream_problems(events) == []
    text = "".join(event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event)
    whole = await converse(server)
    assert text == whole["output"]["message"]["content"][0]["text"]
    assert events[-1]["metadata"]["usage"] == whole["usage"]


async def test_calls(server: Server) -> None:
    more: dict[str, Any] = {"toolConfig": {"tools": [{"toolSpec": WEATHER}], "toolChoice": {"any": {}}}}
    whole = await converse(server, **more)
    (use,) = [block["toolUse"] for block in whole["output"]["message"]["content"]]
    assert (use["name"], use["input"], whole["stopReason"]) == ("weather", ARGUMENTS, "tool_use")
    events = await streamed(server, **more)
    assert stream_problems(events) == []
    (begun,) = [event["contentBlockStart"]["start"]["toolUse"] for event in events if "contentBlockStart" in event]
    assert begun == {"toolUseId": use["toolUseId"], "name": "weather"}
    parts = [
        event["contentBlockDelta"]["delta"]["toolUse"]["input"] for event in events if "contentBlockDelta" in event
    ]
    assert json.loads("".join(parts)) == ARGUMENTS


async def test_parallel_calls_unless_forbidden(server: Server) -> None:
    tools = {"tools": [{"toolSpec": WEATHER}, {"toolSpec": WEATHER | {"name": "rain"}}]}
    both = await converse(server, text="call tools", toolConfig=tools)
    ids = [block["toolUse"]["toolUseId"] for block in both["output"]["message"]["content"]]
    assert len(set(ids)) == 2
    alone = {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
    one = await converse(server, text="call tools", toolConfig=tools, additionalModelRequestFields=alone)
    assert len(one["output"]["message"]["content"]) == 1


async def test_thinking(server: Server) -> None:
    more = {"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}}}
    whole = await converse(server, **more)
    thought, text = whole["output"]["message"]["content"]
    reasoning = thought["reasoningContent"]["reasoningText"]
    assert reasoning["text"]
    assert reasoning["signature"]
    assert text["text"].startswith("Lorem")
    events = await streamed(server, **more)
    assert stream_problems(events) == []
    deltas = [
        event["contentBlockDelta"]["delta"].get("reasoningContent", {})
        for event in events
        if "contentBlockDelta" in event
    ]
    assert "".join(one.get("text", "") for one in deltas) == reasoning["text"]
    assert [one["signature"] for one in deltas if "signature" in one] == [reasoning["signature"]]


async def test_a_schema_a_cache_point_and_a_bound(server: Server) -> None:
    schema = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}})
    config = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": schema}}}}
    answer = await converse(server, outputConfig=config, system=[{"text": "s"}, {"cachePoint": {"type": "default"}}])
    assert json.loads(answer["output"]["message"]["content"][0]["text"]) == {"n": 9007199254740993}
    usage = answer["usage"]
    assert usage["cacheWriteInputTokens"] == (usage["inputTokens"] + usage["cacheWriteInputTokens"]) // 2 > 0
    cut = await converse(server, inferenceConfig={"maxTokens": 3}, additionalModelResponseFieldPaths=["/stop_sequence"])
    assert (cut["stopReason"], cut["additionalModelResponseFields"]) == ("max_tokens", {"stop_sequence": None})
    cached = (await converse(server, model="mock-cached"))["usage"]
    assert (cached["cacheReadInputTokens"], cached["inputTokens"]) == (4, 5)


async def test_media_and_results(server: Server) -> None:
    content = [{"text": "see"}, {"image": {"format": "png", "source": {"bytes": PNG}}},
               {"document": {"format": "pdf", "name": "a", "source": {"bytes": b"%PDF"}}}]  # fmt: skip
    assert await converse(server, messages=[{"role": "user", "content": content}])
    turns = [
        *said()["messages"],
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "weather", "input": {}}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [{"text": "rain"}]}}]},
    ]
    answer = await converse(server, messages=turns, toolConfig={"tools": [{"toolSpec": WEATHER}]})
    assert answer["stopReason"] == "end_turn"


USE = {"toolUse": {"toolUseId": "t", "name": "weather", "input": {}}}
DONE = {"toolResult": {"toolUseId": "t", "content": []}}
TOOLS = {"tools": [{"toolSpec": WEATHER}]}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "assistant", "content": [{"text": "x"}]}]}, "must start with a user"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}] * 2}, "must alternate"),
        ({"messages": [{"role": "user", "content": []}]}, "is empty"),
        ({"messages": [{"role": "user", "content": [{"text": " "}]}]}, "is blank"),
        ({"messages": [{"role": "user", "content": [DONE]}]}, "toolConfig field must be defined"),
        ({"messages": [{"role": "user", "content": [DONE]}], "toolConfig": TOOLS}, "exceeds"),
        ({"messages": [*said()["messages"], {"role": "assistant", "content": [USE]}, *said()["messages"]],
          "toolConfig": TOOLS}, "Expected toolResult blocks at messages.2.content for the following Ids: t"),
        ({"inferenceConfig": {"maxTokens": 0}}, "maxTokens"),
        ({"inferenceConfig": {"temperature": 1.5}}, "temperature"),
        ({"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 5}}}, "1024"),
        ({"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
          "inferenceConfig": {"maxTokens": 1024}}, "greater than"),
        ({"additionalModelRequestFields": {"tool_choice": {"type": "auto"}},
          "toolConfig": TOOLS | {"toolChoice": {"any": {}}}}, "conflicts"),
        ({"messages": [{"role": "user", "content": [{"document": {
            "format": "pdf", "name": "a.pdf", "source": {"bytes": "AAAA"}}}]}]}, "document file name"),
        ({"messages": [{"role": "user", "content": [{"image": {
            "format": "png", "source": {"bytes": "!"}}}]}]}, "base64"),
        ({"messages": 7}, "messages"),
    ],
)  # fmt: skip
async def test_what_is_refused(server: Server, fields: dict[str, Any], words: str) -> None:
    reply = await call(server.port, post(said() | fields, "/model/m/converse"))
    assert reply.status == 400
    assert reply.headers["x-amzn-errortype"].startswith("ValidationException")
    assert words in json.loads(reply.body)["message"]


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503])
async def test_errors_as_the_sdk_sees_them(server: Server, status: int) -> None:
    with pytest.raises(ClientError) as caught:
        await converse(server, model=f"mock-error-{status}")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert caught.value.response["Error"]["Code"].endswith("Exception")
    assert caught.value.response["Error"]["Message"]


async def test_an_error_inside_a_stream(server: Server) -> None:
    with pytest.raises(EventStreamError, match="serviceUnavailableException"):
        await streamed(server, model="mock-stream-error-3")


async def test_frames_are_whole_and_padded(server: Server) -> None:
    reply = await call(server.port, post(said(), "/model/us.anthropic.claude-x%3A0/converse-stream"))
    assert reply.headers["content-type"] == "application/vnd.amazon.eventstream"
    frames = EventStream().feed(reply.body)
    assert all(json.loads(payload)["p"] for _, payload in frames)
    assert server.stats.by_model == {"us.anthropic.claude-x:0": 1}


async def test_a_key(server: Server) -> None:
    async with await start(MockOptions(key="k")) as locked:
        refused = await call(locked.port, post(said(), "/model/m/converse"))
        assert (refused.status, refused.headers["x-amzn-errortype"].partition(":")[0]) == (403, "AccessDeniedException")
        assert (await call(locked.port, post(said(), "/model/m/converse", authorization="Bearer k"))).status == 200


@pytest.mark.parametrize(("path", "status"), [("/model/m/invoke", 404), ("/model/m", 404)])
async def test_other_addresses(server: Server, path: str, status: int) -> None:
    assert (await call(server.port, post(said(), path))).status == status
