"""OpenAI's dialect: routes, refusals, models, and the official SDK straight against the mock."""

import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import openai
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI

from fastgw.mock import MockOptions, Server, start
from tests.support.rawclient import call, get, post

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with await start(MockOptions(tokens=6)) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="mock-key", max_retries=0) as client:
        yield client


async def test_models(client: AsyncOpenAI) -> None:
    names = [model.id async for model in client.models.list()]
    assert names == list(MockOptions().models)
    assert (await client.models.retrieve("echo")).object == "model"
    assert (await client.models.retrieve("mock-error-429")).id == "mock-error-429"
    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve("nothing/like-it")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (503, openai.InternalServerError),
    ],
)
async def test_sdk_sees_its_own_exceptions(client: AsyncOpenAI, status: int, kind: type[openai.APIStatusError]) -> None:
    with pytest.raises(kind) as caught:
        await client.chat.completions.create(model=f"mock-error-{status}", messages=MESSAGES)
    assert caught.value.status_code == status
    assert caught.value.request_id is not None
    assert caught.value.request_id.startswith("req_")


async def test_sdk_sees_an_error_inside_a_stream(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="mock-stream-error-3", messages=MESSAGES, stream=True)
    seen = 0
    with pytest.raises(openai.APIError, match="The server had an error"):
        async for _ in stream:
            seen += 1
    assert seen == 3


@pytest.mark.parametrize(
    ("path", "body", "message", "code"),
    [
        ("chat/completions", b"{", "could not parse", None),
        ("chat/completions", b'"text"', "Invalid type", "invalid_type"),
        ("chat/completions", b"\xff\xfe", "could not parse", None),
        ("chat/completions", {"messages": MESSAGES}, "model parameter", None),
        ("chat/completions", {"model": "m"}, "'messages'", "missing_required_parameter"),
        ("chat/completions", {"model": "m", "messages": "hi"}, "$.messages", "invalid_type"),
        ("chat/completions", {"model": "m", "messages": MESSAGES, "n": 129}, "'n'", "integer_out_of_range"),
        ("chat/completions", {"model": "m", "messages": MESSAGES, "max_tokens": 0}, "max_tokens",
         "integer_below_min_value"),
        ("chat/completions", {"model": "m", "messages": MESSAGES, "stream_options": {}}, "'stream'", None),
        ("completions", {"model": "m", "prompt": ["a"] * 129}, "'n'", "integer_out_of_range"),
        ("embeddings", {"model": "m", "input": ""}, "input", None),
        ("embeddings", {"model": "m", "input": ["a", ""]}, "input", None),
        ("embeddings", {"model": "m", "input": "a", "dimensions": 0}, "dimensions", "integer_out_of_range"),
        ("embeddings", {"model": "m", "input": "a", "encoding_format": "hex"}, "encoding_format", "invalid_value"),
        ("embeddings", {"model": "m", "input": ["a"] * 2049}, "2048", "array_above_max_length"),
    ],
)  # fmt: skip
async def test_refusals(server: Server, path: str, body: object, message: str, code: str | None) -> None:
    reply = await call(server.port, post(body, f"/v1/{path}"))
    error = reply.json()["error"]
    assert reply.status == 400
    assert message in error["message"]
    assert (error["type"], error["code"]) == ("invalid_request_error", code)


async def test_headers(server: Server) -> None:
    body = {"model": "m", "messages": MESSAGES}
    for stream in (False, True):
        headers = (await call(server.port, post(body | {"stream": stream}))).headers
        assert headers["content-type"].startswith("text/event-stream" if stream else "application/json")
        for name in ("limit", "remaining", "reset"):
            assert {f"x-ratelimit-{name}-requests", f"x-ratelimit-{name}-tokens"} <= headers.keys()
        assert {"x-request-id", "openai-processing-ms", "openai-version"} <= headers.keys()


async def test_prefix_of_compatible_vendors(server: Server) -> None:
    reply = await call(server.port, post({"model": "m", "messages": MESSAGES}, "/openai/v1/chat/completions"))
    assert reply.json()["model"] == "m"


async def test_azure(server: Server) -> None:
    async with AsyncAzureOpenAI(azure_endpoint=server.url, api_key="k", api_version="2024-10-21") as client:
        whole = await client.chat.completions.create(model="gpt 4", messages=MESSAGES)
        assert whole.model == "gpt 4"
        assert "prompt_filter_results" in (whole.model_extra or {})
        stream = await client.chat.completions.create(model="echo", messages=MESSAGES, stream=True)
        chunks = [chunk async for chunk in stream]
        assert (chunks[0].choices, chunks[0].id) == ([], "")
        assert "prompt_filter_results" in (chunks[0].model_extra or {})
        assert "".join(c.choices[0].delta.content or "" for c in chunks[1:]) == "hi"
        embedded = await client.embeddings.create(model="e", input="text")
        assert len(embedded.data[0].embedding) == 1536
    assert dict(server.stats.by_model) == {"gpt 4": 1, "echo": 1, "e": 1}
    sent = server.stats.last
    assert sent is not None
    assert (b"api-key", b"k") in [(name.lower(), value) for name, value in sent.headers]


async def test_azure_needs_a_version(server: Server) -> None:
    path = "/openai/deployments/gpt/chat/completions"
    reply = await call(server.port, post({"messages": MESSAGES}, path))
    assert (reply.status, reply.json()) == (404, {"error": {"code": "404", "message": "Resource not found"}})
    reply = await call(
        server.port, post({"messages": MESSAGES}, path.replace("gpt", "mock-error-429") + "?api-version=1")
    )
    assert (reply.status, reply.json()["error"]["code"]) == (429, "429")


@contextlib.contextmanager
def subprocess_mock() -> Iterator[str]:
    code = "from fastgw.mock import MockOptions, run; run(MockOptions(tokens=5))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


def test_sdk_in_its_synchronous_form() -> None:
    """The mock in a process of its own, as `fastgw mock` runs it."""
    with subprocess_mock() as base, openai.OpenAI(base_url=f"{base}/v1", api_key="k", max_retries=0) as client:
        reply = client.chat.completions.create(model="mock-small", messages=MESSAGES)
        assert reply.choices[0].finish_reason == "stop"
        raw = client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
        assert raw.headers["x-request-id"] == raw.parse().id.replace("chatcmpl-", "req_")
        chunks = list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert client.embeddings.create(model="e", input="text").data[0].embedding[0] != 0
        assert len(client.models.list().data) == 4


async def test_models_over_raw_http(server: Server) -> None:
    reply = await call(server.port, get("/v1/models"))
    assert json.loads(reply.body)["object"] == "list"
