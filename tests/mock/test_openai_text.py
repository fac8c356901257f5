"""Legacy completions and embeddings of the mock through the official SDK."""

import base64
import math
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import AsyncOpenAI

from fastgw.mock import MockOptions, Server, start
from tests.support.grammar import sse_events
from tests.support.rawclient import call, post


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with await start(MockOptions(tokens=6)) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="mock-key", max_retries=0) as client:
        yield client


async def test_completion(client: AsyncOpenAI) -> None:
    reply = await client.completions.create(model="m", prompt="abcdefgh", max_tokens=3)
    assert (reply.choices[0].text, reply.choices[0].finish_reason) == ("Lorem ipsum dolor", "length")
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (2, 3, 5)


@pytest.mark.parametrize(
    ("prompt", "choices"), [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2), (None, 1)]
)
async def test_prompts(server: Server, prompt: Any, choices: int) -> None:
    reply = await call(server.port, post({"model": "m", "prompt": prompt, "n": 2}, "/v1/completions"))
    assert [choice["index"] for choice in reply.json()["choices"]] == list(range(choices * 2))


async def test_echo_and_logprobs(client: AsyncOpenAI) -> None:
    reply = await client.completions.create(model="echo", prompt="say this", echo=True, logprobs=1)
    assert reply.choices[0].text == "say thissay this"
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert (logprobs.tokens, logprobs.text_offset) == (["say", " this"], [8, 11])


async def test_stream(client: AsyncOpenAI, server: Server) -> None:
    whole = await client.completions.create(model="m", prompt="hi", echo=True)
    stream = await client.completions.create(
        model="m", prompt="hi", echo=True, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].text for c in chunks[:-1]) == whole.choices[0].text
    assert [c.choices[0].finish_reason for c in chunks[-3:-1]] == [None, "stop"]
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)
    reply = await call(server.port, post({"model": "m", "prompt": "hi", "stream": True}, "/v1/completions"))
    events, problems = sse_events(reply.body)
    assert (events[-1], problems) == ("[DONE]", [])
    assert not any("usage" in event for event in events)


async def test_embeddings_by_sdk(client: AsyncOpenAI) -> None:
    reply = await client.embeddings.create(model="e", input=["one", "two", "one"])
    vectors = [row.embedding for row in reply.data]
    assert [row.index for row in reply.data] == [0, 1, 2]
    assert vectors[0] == vectors[2] != vectors[1]
    assert {len(vector) for vector in vectors} == {1536}
    assert all(math.isclose(math.hypot(*vector), 1, rel_tol=1e-5) for vector in vectors)
    assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (3, 3)


async def test_both_encodings_say_the_same(client: AsyncOpenAI, server: Server) -> None:
    body = {"model": "e", "input": "text", "dimensions": 64}
    plain = (await call(server.port, post(body, "/v1/embeddings"))).json()["data"][0]["embedding"]
    packed = (await call(server.port, post(body | {"encoding_format": "base64"}, "/v1/embeddings"))).json()
    raw = base64.b64decode(packed["data"][0]["embedding"])
    assert list(struct.unpack("<64f", raw)) == plain
    floats = await client.embeddings.create(model="e", input="text", dimensions=64, encoding_format="float")
    assert floats.data[0].embedding == plain


@pytest.mark.parametrize(("given", "rows"), [([1, 2, 3], 1), ([[1], [2, 3]], 2), (["a", "b"], 2), ("a", 1)])
async def test_embedding_inputs(server: Server, given: Any, rows: int) -> None:
    reply = (await call(server.port, post({"model": "3-large", "input": given}, "/v1/embeddings"))).json()
    assert [len(row["embedding"]) for row in reply["data"]] == [3072] * rows
    assert reply["usage"]["total_tokens"] == (
        3 if isinstance(given, list) and isinstance(given[0], int | list) else rows
    )


async def test_no_usage(server: Server) -> None:
    for path, more in (("completions", {"prompt": "a"}), ("embeddings", {"input": "a"})):
        reply = await call(server.port, post({"model": "mock-nousage"} | more, f"/v1/{path}"))
        assert (reply.status, "usage" in reply.json()) == (200, False)
