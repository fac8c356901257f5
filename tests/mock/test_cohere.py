"""Cohere's dialect of the mock: embeddings as in OpenAI's shape, refusals as Cohere words them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastgw.mock import MockOptions, Server, start
from fastgw.mock.text import vector
from tests.support.rawclient import call, get, post

BODY = {"model": "m", "texts": ["a", "two texts"], "input_type": "search_query", "output_dimension": 256}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with await start(MockOptions(key="sk-mock")) as server:
        yield server


def ask(**more: Any) -> bytes:
    return post(BODY | more, "/v2/embed", authorization="Bearer sk-mock")


async def test_vectors_and_what_they_cost(server: Server) -> None:
    reply = await call(server.port, ask())
    told = json.loads(reply.body)
    assert reply.status == 200
    assert told["embeddings"]["float"] == [list(vector(text, 256)) for text in BODY["texts"]]
    assert (told["texts"], told["response_type"]) == (BODY["texts"], "embeddings_by_type")
    assert told["meta"]["billed_units"] == {"input_tokens": 4}
    assert "meta" not in json.loads((await call(server.port, ask(model="mock-nousage"))).body)


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        ({"model": ""}, "model is required"),
        ({"input_type": ""}, "input_type"),
        ({"texts": []}, "at most 96"),
        ({"texts": ["a"] * 97}, "received 97"),
        ({"output_dimension": 3}, "output_dimension"),
        ({"texts": 1}, "Expected `array`"),
    ],
)
async def test_what_is_refused(server: Server, more: dict[str, Any], wrong: str) -> None:
    reply = await call(server.port, ask(**more))
    assert reply.status == 400
    assert wrong in json.loads(reply.body)["message"]


async def test_other_refusals(server: Server) -> None:
    denied = await call(server.port, post(BODY, "/v2/embed"))
    assert (denied.status, json.loads(denied.body)["message"]) == (401, "invalid api token")
    assert (await call(server.port, get("/v2/embed", authorization="Bearer sk-mock"))).status == 405
    limited = await call(server.port, ask(model="mock-error-429"))
    assert (limited.status, set(json.loads(limited.body))) == (429, {"id", "message"})
