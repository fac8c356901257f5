"""Gemini's dialect of the mock: raw bytes against the grammar, the official SDK, and the same facts as OpenAI's."""

import json
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google import genai
from google.genai import errors, types

from fastgw.mock import MockOptions, Server, start
from tests.support.grammar_gemini import error_problems, frames, response_problems, stream_problems
from tests.support.rawclient import RawReply, call, get, post

PROPERTIES = {"city": {"type": "string"}, "days": {"type": "integer"}}
WEATHER = {"name": "weather", "parametersJsonSchema": {"type": "object", "properties": PROPERTIES}}
CLOCK = {"name": "clock"}
TOOLS = [{"functionDeclarations": [WEATHER, CLOCK]}]
ARGUMENTS = {"city": "mock", "days": 9007199254740993}
LOREM = "Lorem ipsum dolor sit amet, consectetur"
THINK = {"thinkingConfig": {"includeThoughts": True, "thinkingBudget": 1024}}
FORMS = {"whole": "generateContent", "stream": "streamGenerateContent?alt=sse", "array": "streamGenerateContent"}


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "parts": [{"text": text}]}]


def ask(model: str = "m", method: str = "generateContent", base: str = "/v1beta", **more: Any) -> bytes:
    return post({"contents": said("hello")} | more, f"{base}/models/{model}:{method}")


def told(raw: bytes) -> dict[str, Any]:
    """(per candidate: thoughts, text, calls, finish; usage) of a stream."""
    whole: dict[str, Any] = {}
    for frame in frames(raw)[0]:
        whole["usage"] = frame.get("usageMetadata")
        for candidate in frame["candidates"]:
            merge(whole, candidate)
    return whole


def merge(whole: dict[str, Any], candidate: dict[str, Any]) -> None:
    mine = whole.setdefault(candidate["index"], {"thought": "", "text": "", "calls": [], "finish": None})
    for part in candidate["content"]["parts"]:
        if "functionCall" in part:
            mine["calls"].append(part)
        else:
            mine["thought" if part.get("thought") else "text"] += part["text"]
    mine["finish"] = candidate.get("finishReason")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with await start(MockOptions(tokens=6)) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Any]:
    options = types.HttpOptions(base_url=server.url)
    client = genai.Client(api_key="mock-key", http_options=options)
    yield client.aio.models
    await client.aio.aclose()
    client.close()


async def test_whole(client: Any) -> None:
    config = types.GenerateContentConfig(system_instruction="Be brief.")
    reply = await client.generate_content(model="gemini", contents="hello", config=config)
    assert (reply.text, reply.candidates[0].finish_reason, reply.model_version) == (LOREM, "STOP", "gemini")
    usage = reply.usage_metadata
    assert (usage.prompt_token_count, usage.candidates_token_count, usage.total_token_count) == (16, 6, 22)
    assert (usage.thoughts_token_count, usage.cached_content_token_count) == (None, None)


async def test_sdk_stream(client: Any) -> None:
    stream = await client.generate_content_stream(model="m", contents="hello")
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.text for chunk in chunks) == LOREM
    assert [chunk.candidates[0].finish_reason for chunk in chunks] == [None] * 5 + ["STOP"]
    assert [chunk.usage_metadata.candidates_token_count for chunk in chunks] == [1, 2, 3, 4, 5, 6]
    assert len({chunk.response_id for chunk in chunks}) == 1


async def test_sdk_tools_and_chat(client: Any, server: Server) -> None:
    declared = types.FunctionDeclaration(name="weather", parameters_json_schema=WEATHER["parametersJsonSchema"])
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declared])])
    first = await client.generate_content(model="m", contents="call tool", config=config)
    (made,) = first.function_calls
    assert (made.name, made.args, made.id) == ("weather", ARGUMENTS, None)
    result = types.Part.from_function_response(name="weather", response={"output": "sunny"})
    image = types.Part.from_bytes(data=b"\x89PNG", mime_type="image/png")
    contents = [
        types.UserContent("call tool"),
        first.candidates[0].content,
        types.UserContent([result]),
    ]
    reply = await client.generate_content(model="m", contents=contents, config=config)
    assert (reply.text, reply.function_calls) == (LOREM, None)
    assert reply.usage_metadata.prompt_token_count == 3 + (4 + 3) + 4 + (4 + 2)
    reply = await client.generate_content(model="echo", contents=[image, "look"])
    assert reply.text == "look"


STREAMS: list[dict[str, Any]] = [
    {"contents": said(text), "generationConfig": config} | tools
    for text in ("hello", "call tool", "call tools", "x" * 9000)
    for tools in ({}, {"tools": TOOLS})
    for config in (
        {},
        {"maxOutputTokens": 1},
        {"candidateCount": 3},
        THINK,
        {"thinkingConfig": {"thinkingLevel": "LOW"}},
    )
]


@pytest.mark.parametrize("base", ["/v1beta", "/v1", "/genai/v1beta", "/v1/projects/p/locations/l/publishers/google"])
async def test_every_kind_of_stream_keeps_the_grammar_and_says_what_the_whole_says(server: Server, base: str) -> None:
    for more in STREAMS:
        whole = (await call(server.port, ask(base=base, **more))).json()
        assert response_problems(whole) == [], more
        reply = await call(server.port, ask(method=FORMS["stream"], base=base, **more))
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert stream_problems(reply.body) == [], more
        wanted: dict[str, Any] = {"usage": whole["usageMetadata"]}
        for candidate in whole["candidates"]:
            merge(wanted, candidate)
        assert told(reply.body) == wanted, more
        array = (await call(server.port, ask(method=FORMS["array"], base=base, **more))).json()
        events = frames(reply.body)[0]
        for one in (*array, *events):
            del one["responseId"]
        assert array == events


@pytest.mark.parametrize(
    ("text", "calling", "names"),
    [
        ("please call tool", {}, ["weather"]),
        ("please call tools", {"mode": "AUTO"}, ["weather", "clock"]),
        ("hello", {"mode": "ANY"}, ["weather"]),
        ("hello", {"mode": "ANY", "allowedFunctionNames": ["clock"]}, ["clock"]),
        ("call tool", {"mode": "NONE"}, []),
        ("hello", {"mode": "AUTO"}, []),
    ],
)
async def test_tools(server: Server, text: str, calling: dict[str, Any], names: list[str]) -> None:
    config = {"functionCallingConfig": calling}
    reply = (await call(server.port, ask(contents=said(text), tools=TOOLS, toolConfig=config))).json()
    (candidate,) = reply["candidates"]
    calls = [part["functionCall"] for part in candidate["content"]["parts"] if "functionCall" in part]
    assert calls == [{"name": name, "args": ARGUMENTS if name == "weather" else {}} for name in names]
    assert candidate["finishReason"] == "STOP"


async def test_snake_case_and_googles_own_schema(server: Server) -> None:
    schema = {"type": "OBJECT", "properties": {"two_words": {"type": "INTEGER"}, "x": {"type": "ARRAY"}}}
    tools = [{"function_declarations": [{"name": "f", "parameters": schema}]}]
    calling = {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["f"]}}
    body = {"contents": said("hi"), "tools": tools, "tool_config": calling}
    reply = (await call(server.port, post(body, "/v1/models/m:generateContent"))).json()
    args = reply["candidates"][0]["content"]["parts"][0]["functionCall"]["args"]
    assert args == {"two_words": 9007199254740993, "x": []}
    config = {"response_mime_type": "application/json", "response_schema": schema}
    reply = (await call(server.port, ask(generation_config=config))).json()
    assert json.loads(reply["candidates"][0]["content"]["parts"][0]["text"]) == args


async def test_numbers_that_no_float_holds_are_taken(server: Server) -> None:
    call_part = b'{"functionCall":{"name":"f","args":{"x":1e400,"y":99999999999999999999}}}'
    args = b'{"contents":[{"role":"model","parts":[' + call_part + b"]},"
    result = b'{"role":"user","parts":[{"functionResponse":{"name":"f","response":{"x":1e400}}}]}]}'
    assert (await call(server.port, post(args + result, "/v1beta/models/m:generateContent"))).status == 200


async def test_thinking(client: Any, server: Server) -> None:
    config = types.GenerateContentConfig(
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=99)
    )
    reply = await client.generate_content(model="m", contents="hi", config=config)
    thought, text = reply.candidates[0].content.parts
    assert (thought.thought, len(thought.text.split()), text.text) == (True, 16, LOREM)
    usage = reply.usage_metadata
    assert (usage.candidates_token_count, usage.thoughts_token_count) == (6, 16)
    assert usage.total_token_count == usage.prompt_token_count + 22
    reply = (await call(server.port, ask(contents=said("call tools"), tools=TOOLS, generationConfig=THINK))).json()
    signed = ["thoughtSignature" in part for part in reply["candidates"][0]["content"]["parts"]]
    assert signed == [False, True, False]
    silent = {"thinkingConfig": {"thinkingLevel": "HIGH"}}
    reply = (await call(server.port, ask(generationConfig=silent))).json()
    assert len(reply["candidates"][0]["content"]["parts"]) == 1
    assert reply["usageMetadata"]["thoughtsTokenCount"] == 256


async def test_limit_cache_and_usage_faults(server: Server) -> None:
    reply = (await call(server.port, ask(generationConfig={"maxOutputTokens": 2}))).json()
    (candidate,) = reply["candidates"]
    assert (candidate["content"]["parts"], candidate["finishReason"]) == ([{"text": "Lorem ipsum"}], "MAX_TOKENS")
    usage = (await call(server.port, ask("gemini-cached", contents=said("x" * 400)))).json()["usageMetadata"]
    assert (usage["promptTokenCount"], usage["cachedContentTokenCount"]) == (107, 53)
    for method in FORMS.values():
        assert b"usageMetadata" not in (await call(server.port, ask("mock-nousage", method))).body
    reply = await call(server.port, ask("mock-usage-in-finish", FORMS["stream"]))
    assert ["usageMetadata" in frame for frame in frames(reply.body)[0]] == [False] * 5 + [True]


async def test_count_and_embed(client: Any, server: Server) -> None:
    assert (await client.count_tokens(model="m", contents="hello")).total_tokens == 9
    request = {"model": "models/m", "contents": said("hello"), "systemInstruction": {"parts": [{"text": "Be brief."}]}}
    body = {"generateContentRequest": request}
    assert (await call(server.port, post(body, "/v1beta/models/m:countTokens"))).json()["totalTokens"] == 16
    config = types.EmbedContentConfig(output_dimensionality=64)
    reply = await client.embed_content(model="gemini-embedding-001", contents=["one", "two"], config=config)
    vectors = [row.values for row in reply.embeddings]
    assert [len(vector) for vector in vectors] == [64, 64]
    assert math.isclose(math.hypot(*vectors[0]), 1, rel_tol=1e-5)
    theirs = await call(server.port, post({"model": "e", "input": "one", "dimensions": 64}, "/v1/embeddings"))
    assert vectors[0] == theirs.json()["data"][0]["embedding"]
    one = post({"content": {"parts": [{"text": "one"}]}}, "/v1beta/models/e:embedContent")
    assert len((await call(server.port, one)).json()["embedding"]["values"]) == 3072


async def test_models(server: Server) -> None:
    # Under `/v1` the list of models is OpenAI's: nothing in the path tells the two apart.
    options = types.HttpOptions(base_url=server.url, api_version="v1beta")
    with genai.Client(api_key="mock-key", http_options=options) as client:
        async with client.aio as aio:
            names = [model.name async for model in await aio.models.list()]
            assert names == [f"models/{name}" for name in MockOptions().models]
            assert (await aio.models.get(model="echo")).name == "models/echo"
            with pytest.raises(errors.ClientError) as caught:
                await aio.models.get(model="nothing")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")


@pytest.mark.parametrize("text", ["hello", "call tool", "call tools"])
async def test_the_same_text_and_tokens_as_in_openais_dialect(server: Server, text: str) -> None:
    system = {"parts": [{"text": "s"}]}
    ours = (await call(server.port, ask(contents=said(text), systemInstruction=system, tools=TOOLS))).json()
    functions = [
        {"type": "function", "function": {"name": tool["name"], "parameters": tool.get("parametersJsonSchema")}}
        for tool in (WEATHER, CLOCK)
    ]
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": text}]
    theirs = (await call(server.port, post({"model": "m", "messages": messages, "tools": functions}))).json()
    message, parts = theirs["choices"][0]["message"], ours["candidates"][0]["content"]["parts"]
    assert "".join(part.get("text", "") for part in parts) == (message["content"] or "")
    assert [(one["functionCall"]["name"], one["functionCall"]["args"]) for one in parts if "functionCall" in one] == [
        (one["function"]["name"], json.loads(one["function"]["arguments"])) for one in message.get("tool_calls", ())
    ]
    assert ours["usageMetadata"]["promptTokenCount"] == theirs["usage"]["prompt_tokens"]
    assert ours["usageMetadata"]["candidatesTokenCount"] == theirs["usage"]["completion_tokens"]


@pytest.mark.parametrize(
    ("status", "kind", "name"),
    [
        (400, errors.ClientError, "INVALID_ARGUMENT"),
        (401, errors.ClientError, "UNAUTHENTICATED"),
        (403, errors.ClientError, "PERMISSION_DENIED"),
        (404, errors.ClientError, "NOT_FOUND"),
        (429, errors.ClientError, "RESOURCE_EXHAUSTED"),
        (500, errors.ServerError, "INTERNAL"),
        (503, errors.ServerError, "UNAVAILABLE"),
        (504, errors.ServerError, "DEADLINE_EXCEEDED"),
    ],
)
async def test_sdk_sees_its_own_exceptions(client: Any, status: int, kind: Any, name: str) -> None:
    with pytest.raises(kind) as caught:
        await client.generate_content(model=f"mock-error-{status}", contents="hi")
    assert (caught.value.code, caught.value.status) == (status, name)
    assert error_problems(caught.value.details) == []
    waits = [one["retryDelay"] for one in caught.value.details["error"].get("details", ()) if "retryDelay" in one]
    assert waits == (["1s"] if status == 429 else [])


@pytest.mark.parametrize(
    ("method", "body", "message"),
    [
        ("generateContent", {"contents": []}, "contents is not specified"),
        ("generateContent", {"contents": "hi"}, "$.contents"),
        ("generateContent", {"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "valid role"),
        ("generateContent", {"contents": [{"role": "user", "parts": []}]}, "parts must not be empty"),
        ("generateContent", {"generationConfig": {"candidateCount": 9}}, "candidate_count"),
        ("generateContent", {"generationConfig": {"maxOutputTokens": 0}}, "max_output_tokens"),
        ("generateContent", {"contents": [{"role": "model", "parts": [{"functionCall": {"name": "f"}}]},
                                          *said("no result")]}, "equal to the number of function call"),
        ("generateContent", {"contents": [{"parts": [{"functionResponse": {"name": "f", "response": {}}}]}]},
         "equal to the number of function call"),
        ("countTokens", {"contents": []}, "contents is not specified"),
        ("embedContent", {}, "contents is required"),
        ("embedContent", {"content": {"parts": [{"text": "x"}]}, "outputDimensionality": 4000},
         "output_dimensionality"),
        ("batchEmbedContents", {"requests": []}, "must be 1-100"),
    ],
)  # fmt: skip
async def test_refusals(server: Server, method: str, body: dict[str, Any], message: str) -> None:
    reply = await call(server.port, ask(method=method, **body))
    assert (reply.status, error_problems(reply.json())) == (400, [])
    assert message in reply.json()["error"]["message"]
    for data in (b"{", b"\xff\xfe", b'"text"'):
        reply = await call(server.port, post(data, f"/v1beta/models/m:{method}"))
        assert (reply.status, reply.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get("/v1beta/models/m:generateContent"), 405),
        (post(b"{}", "/v1beta/models/m:nothing"), 404),
        (post(b"{}", "/v1/models/m:nothingKnown"), 404),
        (post(b"{}", "/v1beta/files"), 404),
    ],
)
async def test_unknown_paths_and_methods(server: Server, data: bytes, status: int) -> None:
    reply = await call(server.port, data)
    assert (reply.status, reply.json()["error"]["code"]) == (status, status)
    assert reply.headers.get("allow") == ("POST" if status == 405 else None)


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({}, "", 400),
        ({"x_goog_api_key": "wrong"}, "", 400),
        ({"x_api_key": "mock-key"}, "", 400),
        ({"x_goog_api_key": "mock-key"}, "", 200),
        ({"authorization": "Bearer mock-key"}, "", 200),
        ({}, "?key=mock-key", 200),
    ],
)
async def test_key(headers: dict[str, str], query: str, status: int) -> None:
    async with await start(MockOptions(key="mock-key")) as server:
        data = post({"contents": said("hi")}, f"/v1beta/models/m:generateContent{query}", **headers)
        reply = await call(server.port, data)
        assert reply.status == status
        if status == 400:
            assert reply.json()["error"]["details"][0]["reason"] == "API_KEY_INVALID"
        assert server.stats.refused == (status == 400)


async def fault(model: str, form: str, timeout: float = 5.0) -> RawReply:
    async with await start(MockOptions(tokens=6)) as server:
        return await call(server.port, ask(model, FORMS[form]), timeout)


async def test_faults_of_sending() -> None:
    for form in FORMS:
        reply = await fault("mock-cut-300", form)
        assert (len(reply.raw), reply.ending) == (300, "reset")
        assert (await fault("mock-timeout", form, 0.1)).ending == "timeout"
        reply = await fault("mock-huge-1", form)
        assert (reply.ending, len(reply.body) > 1024 * 1024) == ("whole", True)
        assert stream_problems(reply.body) == [] if form == "stream" else reply.json()
        if form != "stream":
            with pytest.raises(ValueError):
                (await fault("mock-badjson", form)).json()
    assert "not JSON" in frames((await fault("mock-badjson", "stream")).body)[1][0]
    for model, ending in (("mock-fin-3", "fin"), ("mock-end-3", "whole"), ("mock-stall-3", "timeout")):
        reply = await fault(model, "stream", 0.3)
        assert (reply.ending, len(frames(reply.body)[0])) == (ending, 3)
        assert stream_problems(reply.body, cut=True) == []


async def test_an_error_inside_a_stream() -> None:
    reply = await fault("mock-stream-error-3", "stream")
    found, problems = frames(reply.body)
    assert (len(found), problems, stream_problems(reply.body)) == (4, [], [])
    assert found[-1]["error"]["code"] == 500
    array = (await fault("mock-stream-error-3", "array")).json()
    assert (len(array), array[-1]) == (4, found[-1])
