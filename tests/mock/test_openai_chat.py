"""Chat completions of the mock through the official SDK, and the streams through the grammar."""

import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from fastgw.mock import MockOptions, Server, start
from fastgw.mock.openai_chat import Chat, answer_chat
from fastgw.mock.text import count_prompt
from tests.support.grammar import check_chat_stream
from tests.support.rawclient import call, post

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
ARGUMENTS = {"city": "mock", "days": 9007199254740993, "unit": "celsius"}


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with await start(MockOptions(tokens=6)) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="mock-key", max_retries=0) as client:
        yield client


async def test_whole(client: AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(model="gpt-4o-mini", messages=said("hello"))
    assert reply.choices[0].message.content == "Lorem ipsum dolor sit amet, consectetur"
    assert reply.choices[0].finish_reason == "stop"
    assert (reply.model, reply.service_tier, bool(reply.system_fingerprint)) == ("gpt-4o-mini", "default", True)
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == count_prompt(["hello"]) == 9
    assert (reply.usage.completion_tokens, reply.usage.total_tokens) == (6, 15)
    assert reply.usage.prompt_tokens_details is not None
    assert reply.usage.prompt_tokens_details.cached_tokens == 0


@pytest.mark.parametrize("text", ["", "x", "  two  spaces\n", 'Ünïcødé 🎈\u2028\u0085 "q" \\', "a" * 5000])
async def test_echo(client: AsyncOpenAI, text: str) -> None:
    parts = [{"type": "text", "text": text[:1]}, {"type": "image_url", "image_url": {"url": "data:,"}},
             {"type": "text", "text": text[1:]}]  # fmt: skip
    messages = [*said("before"), {"role": "user", "content": parts}, {"role": "assistant", "content": "after"}]
    whole = await client.chat.completions.create(model="echo", messages=messages)
    assert whole.choices[0].message.content == text
    stream = await client.chat.completions.create(model="vendor/mock-echo", messages=messages, stream=True)
    assert "".join([c.choices[0].delta.content or "" async for c in stream]) == text


async def test_limits_cached_and_reasoning(client: AsyncOpenAI) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        reply = await client.chat.completions.create(model="m", messages=said("hi"), **{name: 2})
        assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("Lorem ipsum", "length")
    reply = await client.chat.completions.create(model="m", messages=said("x" * 8000), reasoning_effort="low")
    assert reply.usage is not None
    assert reply.usage.prompt_tokens_details is not None
    assert reply.usage.completion_tokens_details is not None
    assert reply.usage.prompt_tokens_details.cached_tokens == 896
    assert (reply.usage.completion_tokens_details.reasoning_tokens, reply.usage.completion_tokens) == (16, 22)


async def test_stream_with_usage(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="m", messages=said("hello"), stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert (chunks[-1].choices, chunks[-1].usage is not None) == ([], True)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    whole = await client.chat.completions.create(model="m", messages=said("hello"))
    assert chunks[-1].usage == whole.usage


async def test_sdk_accumulates_a_stream(client: AsyncOpenAI) -> None:
    async with client.chat.completions.stream(model="m", messages=said("call tool"), tools=[WEATHER], n=2) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    assert [choice.finish_reason for choice in final.choices] == ["tool_calls", "tool_calls"]
    for choice in final.choices:
        assert choice.message.tool_calls is not None
        assert json.loads(choice.message.tool_calls[0].function.arguments) == ARGUMENTS


@pytest.mark.parametrize(
    ("text", "choice", "finish", "names"),
    [
        ("please call tool", None, "tool_calls", ["weather"]),
        ("please call tools", "auto", "tool_calls", ["weather", "clock"]),
        ("hello", "required", "tool_calls", ["weather"]),
        ("hello", {"type": "function", "function": {"name": "clock"}}, "stop", ["clock"]),
        ("call tool", "none", "stop", []),
        ("hello", "auto", "stop", []),
    ],
)
async def test_tools(client: AsyncOpenAI, text: str, choice: Any, finish: str, names: list[str]) -> None:
    more: dict[str, Any] = {} if choice is None else {"tool_choice": choice}
    reply = await client.chat.completions.create(model="m", messages=said(text), tools=[WEATHER, CLOCK], **more)
    calls = reply.choices[0].message.tool_calls or []
    assert reply.choices[0].finish_reason == finish
    assert [call.function.name for call in calls] == names
    assert len({call.id for call in calls}) == len(names)
    assert (reply.choices[0].message.content is None) is bool(names)
    for made in calls:
        assert json.loads(made.function.arguments) == (ARGUMENTS if made.function.name == "weather" else {})


async def test_a_tool_result_is_answered_in_words(client: AsyncOpenAI) -> None:
    messages = [*said("call tool"), {"role": "tool", "tool_call_id": "x", "content": "sunny"}]
    reply = await client.chat.completions.create(model="m", messages=messages, tools=[WEATHER])
    assert reply.choices[0].message.content
    assert reply.choices[0].message.tool_calls is None


async def test_choices_differ_and_interleave(client: AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="m", messages=said("hi"), n=3)
    texts = [choice.message.content for choice in whole.choices]
    assert len(set(texts)) == 3
    stream = await client.chat.completions.create(model="m", messages=said("hi"), n=3, stream=True)
    chunks = [chunk async for chunk in stream]
    assert [c.choices[0].index for c in chunks[:6]] == [0, 1, 2, 0, 1, 2]
    for index, text in enumerate(texts):
        mine = [c.choices[0].delta.content or "" for c in chunks if c.choices[0].index == index]
        assert "".join(mine) == text


async def test_logprobs(client: AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(
        model="echo", messages=said("é one two"), logprobs=True, top_logprobs=3
    )
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert "".join(row.token for row in logprobs.content) == "é one two"
    assert bytes(itertools.chain.from_iterable(row.bytes or () for row in logprobs.content)).decode() == "é one two"
    assert {len(row.top_logprobs) for row in logprobs.content} == {3}
    stream = await client.chat.completions.create(model="m", messages=said("hi"), logprobs=True, stream=True)
    chunks = [chunk.choices[0] async for chunk in stream]
    assert [c.logprobs is not None for c in chunks] == [bool(c.delta.content) for c in chunks]


async def test_structured_output(client: AsyncOpenAI) -> None:
    class Answer(BaseModel):
        name: str
        ratio: float
        flags: list[bool]

    parsed = await client.chat.completions.parse(model="m", messages=said("hi"), response_format=Answer)
    assert parsed.choices[0].message.parsed == Answer(name="mock", ratio=1.5, flags=[True])
    loose = await client.chat.completions.create(
        model="m", messages=said("hi"), response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(loose.choices[0].message.content or ""), dict)


STREAMS: list[dict[str, Any]] = [
    {"messages": said(text)} | tools | choices | logprobs
    for text in ("hello", "call tool", "call tools")
    for tools in ({}, {"tools": [WEATHER, CLOCK]})
    for choices in ({}, {"n": 3}, {"max_tokens": 1})
    for logprobs in ({}, {"logprobs": True, "top_logprobs": 2})
]


@pytest.mark.parametrize("azure", [False, True])
@pytest.mark.parametrize("usage", [False, True])
async def test_every_kind_of_stream_keeps_the_grammar(server: Server, azure: bool, usage: bool) -> None:
    path = "/openai/deployments/echo/chat/completions?api-version=1" if azure else "/v1/chat/completions"
    options = {"stream_options": {"include_usage": True}} if usage else {}
    for more in STREAMS:
        reply = await call(server.port, post({"model": "m", "stream": True} | options | more, path))
        stream = check_chat_stream(reply.body, usage_asked=usage)
        assert stream.problems == [], more
        assert len(stream.choices) == more.get("n", 1)
        whole = (await call(server.port, post({"model": "m"} | more, path))).json()
        assert [stream.text(i) or None for i in range(more.get("n", 1))] == [
            choice["message"]["content"] for choice in whole["choices"]
        ]
        if usage:
            assert stream.usage == whole["usage"]


def test_work_is_bounded() -> None:
    chat = msgspec.convert({"model": "m", "messages": said("hi"), "n": 128}, Chat)
    body = msgspec.json.decode(answer_chat(chat, MockOptions(tokens=100_000), azure=False).body)
    assert body["usage"]["completion_tokens"] <= 100_000
