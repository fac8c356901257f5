"""Embeddings through the node, whatever the client's SDK and the provider speak: the vectors are those of the mock.

The mock makes the same vector of a text in every shape, so what an SDK gets through the gateway is compared with what
the mock's own rule says.
"""

import base64
import http.client
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from google import genai
from google.genai import types

from fastgw.mock.text import vector
from tests.support.gateway import Mock, Node, start_node, unique

KEY = "fgw-embed-0123456789abcdef"
PROVIDERS = {
    "openai": ("openai_compatible", "/v1"), "google": ("gemini", ""), "cohere": ("cohere_v2", ""),
    "claude": ("anthropic", ""),
}  # fmt: skip
# Not named `gemini`: the SDK makes one content of many where that is in a model's name.
SPEAKING = ("openai", "google", "cohere")
MODELS = ("mock-embedding", "mock-nousage", "mock-error-400", "mock-error-401", "mock-error-429", "mock-badjson")
METHODS = ("embedContent", "batchEmbedContents")


def config(mock_url: str) -> str:
    lines = ["providers:"]
    for name, (kind, path) in PROVIDERS.items():
        lines.append(f'  {name}: {{kind: {kind}, base_url: "{mock_url}{path}", api_key: "sk-mock"}}')
    lines.append("models:")
    price = "price: {input: 2, output: 0}"
    lines += [
        f"  {name}.{model}: {{targets: [{{provider: {name}, model: {model}, {price}}}]}}"
        for name in PROVIDERS
        for model in MODELS
    ]
    lines.append("  both: {targets: [{provider: claude, model: m}, {provider: google, model: m, priority: 2}]}")
    return "\n".join([*lines, "keys:", f'  - {{name: main, secret: "{KEY}"}}', ""])


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mock]:
    mock = Mock(tmp_path_factory.mktemp("mock"))
    yield mock
    mock.stop()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, mock: Mock) -> Iterator[Node]:
    directory: Path = tmp_path_factory.mktemp("node")
    node = start_node(directory, config(mock.url), key=KEY)
    yield node
    assert node.stop() == 0, node.stderr()


@pytest.fixture
def sdk(node: Node) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{node.url}/v1", api_key=KEY, max_retries=0, timeout=20) as sdk:
        yield sdk


@pytest.fixture
def google(node: Node) -> Iterator[genai.Client]:
    options = types.HttpOptions(base_url=node.url, timeout=20_000)
    with genai.Client(api_key=KEY, http_options=options) as client:
        yield client


def post(node: Node, path: str, body: Any, label: str = "") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=10)
    try:
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        if label:
            headers["x-request-id"] = label
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def about(values: list[float], text: str, size: int) -> bool:
    return values == pytest.approx(list(vector(text, size)), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("provider", SPEAKING)
@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_the_openai_sdk(node: Node, sdk: openai.OpenAI, provider: str, encoding: Any) -> None:
    label = unique()
    given = ["one text", "another one"]
    told = sdk.embeddings.create(
        model=f"{provider}.mock-embedding", input=given, dimensions=256, encoding_format=encoding,
        extra_headers={"x-request-id": label},
    )  # fmt: skip
    assert [row.index for row in told.data] == [0, 1]
    # The SDK leaves the text of who asks for base64 by name alone.
    vectors: list[Any] = [row.embedding for row in told.data]
    if encoding == "base64":
        vectors = [list(struct.unpack("<256f", base64.b64decode(one))) for one in vectors]
    assert all(about(one, text, 256) for one, text in zip(vectors, given, strict=True))
    record = node.record(label)
    assert record["input_tokens"] == told.usage.prompt_tokens > 0
    # Gemini's own interface tells no usage here.
    assert record["usage_source"] == ("estimated" if provider == "google" else "upstream")
    assert record["cost_nano"] == record["input_tokens"] * 2000
    assert (told.usage.model_extra or {}).get("estimated", False) == (provider == "google")


@pytest.mark.parametrize("provider", SPEAKING)
def test_the_openai_sdk_as_it_comes(sdk: openai.OpenAI, provider: str) -> None:
    told = sdk.embeddings.create(model=f"{provider}.mock-embedding", input="just a text")
    (row,) = told.data
    assert about(row.embedding, "just a text", len(row.embedding))


@pytest.mark.parametrize("provider", SPEAKING)
def test_the_google_sdk(google: genai.Client, provider: str) -> None:
    given = ["one text", "another one"]
    told = google.models.embed_content(
        model=f"{provider}.mock-embedding",
        contents=given,
        config=types.EmbedContentConfig(output_dimensionality=512, task_type="RETRIEVAL_QUERY"),
    )
    assert told.embeddings is not None
    assert all(about(one.values or [], text, 512) for one, text in zip(told.embeddings, given, strict=True))


@pytest.mark.parametrize("prefix", ["/v1beta", "/v1", "/genai/v1beta", "/genai/v1"])
@pytest.mark.parametrize("provider", SPEAKING)
def test_geminis_paths(node: Node, prefix: str, provider: str) -> None:
    model = f"{provider}.mock-embedding"
    one = {"model": f"models/{model}", "content": {"parts": [{"text": "a"}]}, "outputDimensionality": 256}
    status, _, body = post(node, f"{prefix}/models/{model}:embedContent", one)
    assert (status, about(json.loads(body)["embedding"]["values"], "a", 256)) == (200, True), body
    status, _, body = post(node, f"{prefix}/models/{model}:batchEmbedContents", {"requests": [one, one]})
    assert (status, [about(row["values"], "a", 256) for row in json.loads(body)["embeddings"]]) == (200, [True] * 2)


@pytest.mark.parametrize("provider", ["google", "cohere"])
def test_tokens_cannot_be_embedded_everywhere(sdk: openai.OpenAI, provider: str) -> None:
    assert sdk.embeddings.create(model="openai.mock-embedding", input=[1, 2, 3]).data
    with pytest.raises(openai.BadRequestError, match="arrays of tokens") as caught:
        sdk.embeddings.create(model=f"{provider}.mock-embedding", input=[1, 2, 3])
    assert (caught.value.code, caught.value.param) == ("unsupported_field", "input")


@pytest.mark.parametrize(("provider", "most"), [("google", 100), ("cohere", 96)])
def test_a_batch_too_long_is_refused_before_it_is_sent(
    sdk: openai.OpenAI, mock: Mock, provider: str, most: int
) -> None:
    model = f"{provider}.mock-embedding"
    assert len(sdk.embeddings.create(model=model, input=["a"] * most).data) == most
    with mock.untouched(), pytest.raises(openai.BadRequestError, match=f"at most {most} inputs"):
        sdk.embeddings.create(model=model, input=["a"] * (most + 1))


def test_what_is_left_out_is_told(node: Node) -> None:
    body = {"content": {"parts": [{"text": "a"}]}, "taskType": "SEMANTIC_SIMILARITY", "title": "t"}
    for provider, dropped in (("openai", "taskType,title"), ("cohere", "title,taskType"), ("google", None)):
        status, headers, _ = post(node, f"/v1beta/models/{provider}.mock-embedding:embedContent", body)
        assert (status, headers.get("x-fastgw-dropped")) == (200, dropped)


@pytest.mark.parametrize("provider", SPEAKING)
@pytest.mark.parametrize(("model", "wanted"), [("400", 400), ("401", 502), ("429", 429)])
def test_errors_have_the_clients_shape(node: Node, provider: str, model: str, wanted: int) -> None:
    name = f"{provider}.mock-error-{model}"
    status, _, body = post(node, "/v1/embeddings", {"model": name, "input": "a"})
    assert status == wanted
    assert json.loads(body)["error"]["message"]
    status, _, body = post(node, f"/v1beta/models/{name}:embedContent", {"content": {"parts": [{"text": "a"}]}})
    assert status == wanted
    assert json.loads(body)["error"]["code"] in (wanted, int(model))


@pytest.mark.parametrize("provider", ["google", "cohere"])
def test_a_broken_reply_is_none(node: Node, provider: str) -> None:
    status, _, body = post(node, "/v1/embeddings", {"model": f"{provider}.mock-badjson", "input": "a"})
    assert (status, json.loads(body)["error"]["code"]) == (502, "upstream_invalid_response")


def test_usage_nobody_tells_is_estimated(node: Node) -> None:
    label = unique()
    body = {"model": "cohere.mock-nousage", "input": "a text of some length"}
    status, _, answer = post(node, "/v1/embeddings", body, label)
    usage = json.loads(answer)["usage"]
    assert (status, usage["estimated"], usage["prompt_tokens"] > 0) == (200, True, True)
    record = node.record(label)
    assert (record["usage_source"], record["input_tokens"]) == ("estimated", usage["prompt_tokens"])


def test_who_has_no_embeddings_says_so(node: Node, mock: Mock) -> None:
    with mock.untouched():
        status, _, body = post(node, "/v1/embeddings", {"model": "claude.mock-embedding", "input": "a"})
    error = json.loads(body)["error"]
    assert (status, error["code"]) == (404, "endpoint_not_enabled")
    assert "has no embeddings" in error["message"]


def test_who_has_no_embeddings_is_passed_over(node: Node) -> None:
    label = unique()
    assert post(node, "/v1/embeddings", {"model": "both", "input": "a"}, label)[0] == 200
    assert [one["reason"] for one in node.record(label)["attempts"]] == ["not_offered", ""]


def test_a_further_model_is_asked_where_the_first_has_no_embeddings(node: Node) -> None:
    label = unique()
    body = {"model": "claude.mock-embedding", "models": ["cohere.mock-embedding"], "input": "a"}
    status, headers, _ = post(node, "/v1/embeddings", body, label)
    assert (status, headers["x-fastgw-model"]) == (200, "cohere.mock-embedding")


ODD = (
    b"", b"[]", b"{", b'{"model":1}', b'{"input":"a"}', b'{"model":"%s","input":{}}', b'{"model":"%s","input":null}',
    b'{"model":"%s","input":"\\ud800"}', b'{"model":"%s","messages":1}', b'{"model":"%s","messages":[1]}',
    b'{"model":"%s","input":' + b"[" * 600 + b"]" * 600 + b"}", b'{"content":1,"requests":1,"contents":1}',
    b'{"content":{"parts":[{"text":1}]}}', b'{"requests":[{"content":{"parts":[]}}]}', b'{"requests":[[]]}',
    b'{"generateContentRequest":{"contents":[{"parts":[{"x":1}]}]}}', b'{"generateContentRequest":[]}',
)  # fmt: skip
PATHS = (
    "/v1/embeddings", "/v1/messages/count_tokens", "/v1/responses/input_tokens",
    *(f"/v1beta/models/%s:{method}" for method in (*METHODS, "countTokens")),
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("provider", [*SPEAKING, "claude"])
def test_whatever_is_sent_is_answered_in_good_order(node: Node, provider: str, path: str) -> None:
    model = f"{provider}.mock-embedding"
    for body in ODD:
        raw = body.replace(b"%s", model.encode())
        connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=10)
        try:
            headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
            connection.request("POST", path.replace("%s", model), raw, headers)
            answer = connection.getresponse()
            assert answer.status in (400, 404) or (answer.status == 200 and "countTokens" in path), raw
            assert json.loads(answer.read()), raw
        finally:
            connection.close()
    node.assert_well()
