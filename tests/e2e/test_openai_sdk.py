"""The official OpenAI SDK, unchanged, against a real node: sync, async, streams, embeddings, models."""

import asyncio
import time

import openai
import pytest
from pydantic import BaseModel

from tests.e2e.conftest import KEY, OTHER_KEYS
from tests.support.gateway import Mock, Node, unique

HELLO = [{"role": "user", "content": "Hello there"}]


def test_chat(client: openai.OpenAI, gateway: Node) -> None:
    label = unique()
    answer = client.chat.completions.with_raw_response.create(
        model="echo", messages=HELLO, extra_headers={"x-request-id": label}
    )
    reply = answer.parse()
    assert reply.choices[0].message.content == "Hello there"
    assert reply.usage is not None
    assert answer.headers["x-fastgw-model"] == "echo"
    assert answer.headers["x-fastgw-provider"] == "mock"
    assert answer.headers["x-fastgw-target"] == "mock/echo"
    assert answer.headers["x-fastgw-attempts"] == "1"
    assert answer.headers["x-fastgw-cache"] == "off"
    cost = (reply.usage.prompt_tokens * 2500 + reply.usage.completion_tokens * 10_000) / 1e9
    assert float(answer.headers["x-fastgw-cost"]) == pytest.approx(cost, abs=1e-12)
    record = gateway.record(label)
    assert record["id"] == answer.headers["x-request-id"] == answer.request_id
    assert (record["status"], record["key"], record["model"], record["target"]) == (200, "main", "echo", "mock/echo")
    assert (record["input_tokens"], record["output_tokens"]) == (
        reply.usage.prompt_tokens,
        reply.usage.completion_tokens,
    )
    assert record["cost_nano"] == round(cost * 1e9)
    assert record["usage_source"] == "upstream"


def test_a_name_of_its_own_is_the_upstreams_model(client: openai.OpenAI, mock: Mock) -> None:
    answer = client.chat.completions.with_raw_response.create(model="renamed", messages=HELLO)
    assert answer.headers["x-fastgw-model"] == "renamed"
    assert answer.headers["x-fastgw-target"] == "mock/mock-small"
    assert answer.parse().model == "mock-small"
    assert '"mock-small"' in mock.stats()["last_body"]


def test_stream(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="echo", messages=HELLO, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "Hello there"
    assert all(chunk.choices for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_stream_helper(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="echo", messages=HELLO) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds
    assert final.choices[0].message.content == "Hello there"


def test_tools(client: openai.OpenAI) -> None:
    tool = {
        "type": "function",
        "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                                                            "required": ["city"]}},
    }  # fmt: skip
    reply = client.chat.completions.create(model="mock-small", messages=HELLO, tools=[tool], tool_choice="required")
    calls = reply.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.name == "get_weather"
    assert reply.choices[0].finish_reason == "tool_calls"


def test_structured_output(client: openai.OpenAI) -> None:
    class Answer(BaseModel):
        name: str
        count: int

    reply = client.chat.completions.parse(model="mock-small", messages=HELLO, response_format=Answer)
    assert isinstance(reply.choices[0].message.parsed, Answer)


def test_embeddings(client: openai.OpenAI, gateway: Node) -> None:
    label = unique()
    reply = client.embeddings.create(
        model="mock-embedding", input=["a", "b"], dimensions=64, extra_headers={"x-request-id": label}
    )
    assert [len(row.embedding) for row in reply.data] == [64, 64]
    record = gateway.record(label)
    assert (record["input_tokens"], record["output_tokens"]) == (reply.usage.prompt_tokens, 0)


def test_legacy_completions(client: openai.OpenAI) -> None:
    assert client.completions.create(model="mock-small", prompt="Hello").choices[0].text
    chunks = list(client.completions.create(model="mock-small", prompt="Hello", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks)


def test_models_are_those_the_key_may_use(client: openai.OpenAI, gateway: Node) -> None:
    names = {model.id for model in client.models.list()}
    assert {"echo", "renamed", "scripted"} <= names
    narrow = client.with_options(api_key=OTHER_KEYS["narrow"])
    assert {model.id for model in narrow.models.list()} == {"echo", "renamed"}
    assert narrow.models.retrieve("echo").id == "echo"
    with pytest.raises(openai.NotFoundError):
        narrow.models.retrieve("mock-small")


def test_the_azure_client(gateway: Node) -> None:
    with openai.AzureOpenAI(api_key=KEY, azure_endpoint=gateway.url, api_version="2024-10-21", max_retries=0) as azure:
        reply = azure.chat.completions.create(model="echo", messages=HELLO)
        assert reply.choices[0].message.content == "Hello there"


async def test_async_and_many_at_once(gateway: Node) -> None:
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{gateway.url}/v1", max_retries=0) as client:

        async def one(number: int) -> str:
            messages = [{"role": "user", "content": f"canary {number}"}]
            if number % 2:
                reply = await client.chat.completions.create(model="echo", messages=messages)
                return reply.choices[0].message.content
            stream = await client.chat.completions.create(model="echo", messages=messages, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        tasks = [asyncio.create_task(one(number)) for number in range(60)]
        assert [await task for task in tasks] == [f"canary {number}" for number in range(60)]
        assert [model.id async for model in client.models.list()]


def test_the_sdks_own_retry_obeys_retry_after(client: openai.OpenAI, mock: Mock) -> None:
    before = mock.stats()["by_model"].get("mock-error-429", 0)
    began = time.monotonic()
    with pytest.raises(openai.RateLimitError):
        client.with_options(max_retries=1).chat.completions.create(model="mock-error-429", messages=HELLO)
    assert time.monotonic() - began > 0.9, "the upstream's retry-after of one second did not reach the SDK"
    assert mock.stats()["by_model"]["mock-error-429"] == before + 2
