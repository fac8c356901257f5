"""Counting tokens through the node, and Gemini's streams for clients that want no events: with the vendors' SDKs.

The mock counts a prompt alike in every dialect, but for what dialects themselves add to it; so a count through the
gateway is compared with what the mock says to the provider's own SDK.
"""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import requests
from google import genai
from google.genai import types

from tests.support.arrays import ArrayCutter
from tests.support.gateway import Mock, Node, start_node, unique

KEY = "fgw-count-0123456789abcdef"
PROVIDERS = {
    "claude": ("anthropic", ""), "google": ("gemini", ""), "gpt": ("openai", "/v1"),
    "plain": ("openai_compatible", "/v1"),
}  # fmt: skip
COUNTING = ("claude", "google", "gpt")
MODELS = (
    "mock-small",
    "mock-error-429",
    "mock-stream-error-6",
    "mock-cut-2500",
    "mock-large",
    "mock-error-503",
    "mock-stream-error-0",
)
TEXT = "How many tokens may this text have, and why so many?"
MESSAGES: list[Any] = [{"role": "user", "content": TEXT}]
CONTENTS = [{"role": "user", "parts": [{"text": TEXT}]}]


def config(mock_url: str) -> str:
    lines = ["providers:"]
    for name, (kind, path) in PROVIDERS.items():
        lines.append(f'  {name}: {{kind: {kind}, base_url: "{mock_url}{path}", api_key: "sk-mock"}}')
    lines.append("models:")
    price = "price: {input: 2, output: 3}"
    lines += [
        f"  {name}.{model}: {{targets: [{{provider: {name}, model: {model}, {price}}}]}}"
        for name in PROVIDERS
        for model in MODELS
    ]
    return "\n".join([*lines, "keys:", f'  - {{name: main, secret: "{KEY}"}}', ""])


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mock]:
    # Paced, so that it can be seen whether a stream comes bit by bit.
    mock = Mock(tmp_path_factory.mktemp("mock"), "--tokens-per-second", "100")
    yield mock
    mock.stop()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, mock: Mock) -> Iterator[Node]:
    directory: Path = tmp_path_factory.mktemp("node")
    node = start_node(directory, config(mock.url), key=KEY)
    yield node
    assert node.stop() == 0, node.stderr()


def post(port: int, path: str, body: Any, label: str = "", key: str = KEY) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        headers |= {"anthropic-version": "2023-06-01"} | ({"x-request-id": label} if label else {})
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def counts(mock: Mock) -> dict[str, int]:
    """What the mock itself counts, in each provider's dialect."""
    _, _, claude = post(mock.port, "/v1/messages/count_tokens", {"model": "m", "messages": MESSAGES})
    _, _, google = post(mock.port, "/v1beta/models/m:countTokens", {"contents": CONTENTS})
    _, _, gpt = post(mock.port, "/v1/responses/input_tokens", {"model": "m", "input": TEXT})
    return {
        "claude": json.loads(claude)["input_tokens"],
        "google": json.loads(google)["totalTokens"],
        "gpt": json.loads(gpt)["input_tokens"],
    }


@pytest.mark.parametrize("provider", COUNTING)
def test_the_anthropic_sdk(node: Node, counts: dict[str, int], provider: str) -> None:
    label = unique()
    for base in (node.url, f"{node.url}/anthropic"):
        with anthropic.Anthropic(base_url=base, api_key=KEY, max_retries=0) as sdk:
            told = sdk.messages.count_tokens(
                model=f"{provider}.mock-small", messages=MESSAGES, extra_headers={"x-request-id": label}
            )
        assert told.input_tokens == counts[provider] > 10
    for record in node.records(label):
        assert (record["status"], record["input_tokens"], record["output_tokens"]) == (200, 0, 0)
        assert (record["cost_nano"], record["provider"]) == (0, provider)


@pytest.mark.parametrize("provider", COUNTING)
def test_the_google_sdk(node: Node, counts: dict[str, int], provider: str) -> None:
    options = types.HttpOptions(base_url=node.url, timeout=20_000)
    with genai.Client(api_key=KEY, http_options=options) as sdk:
        told = sdk.models.count_tokens(model=f"{provider}.mock-small", contents=TEXT)
    assert told.total_tokens == counts[provider]


@pytest.mark.parametrize("provider", COUNTING)
def test_the_openai_sdk(node: Node, counts: dict[str, int], provider: str) -> None:
    with openai.OpenAI(base_url=f"{node.url}/v1", api_key=KEY, max_retries=0) as sdk:
        told = sdk.responses.input_tokens.count(model=f"{provider}.mock-small", input=TEXT)
    assert (told.input_tokens, told.object) == (counts[provider], "response.input_tokens")


@pytest.mark.parametrize("prefix", ["/v1beta", "/v1", "/genai/v1beta"])
@pytest.mark.parametrize("provider", COUNTING)
def test_a_whole_request_is_counted(node: Node, counts: dict[str, int], prefix: str, provider: str) -> None:
    model = f"{provider}.mock-small"
    inner = {"model": f"models/{model}", "contents": CONTENTS, "generationConfig": {"temperature": 0.5}}
    status, _, body = post(node.port, f"{prefix}/models/{model}:countTokens", {"generateContentRequest": inner})
    assert (status, json.loads(body)["totalTokens"]) == (200, counts[provider])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages/count_tokens", {"model": "plain.mock-small", "messages": MESSAGES}),
        ("/v1beta/models/plain.mock-small:countTokens", {"contents": CONTENTS}),
        ("/v1/responses/input_tokens", {"model": "plain.mock-small", "input": TEXT}),
    ],
)
def test_who_cannot_count_says_so_and_nobody_guesses(node: Node, mock: Mock, path: str, body: Any) -> None:
    label = unique()
    with mock.untouched():
        status, _, answer = post(node.port, path, body, label)
    assert status == 404
    assert "cannot count tokens, and this gateway does not guess" in json.loads(answer)["error"]["message"]
    assert node.record(label)["error"] == "endpoint_not_enabled"


def test_what_goes_on_from_a_response_must_be_the_keys_own(node: Node, mock: Mock) -> None:
    body = {"model": "gpt.mock-small", "input": TEXT, "previous_response_id": "resp_of_somebody_else"}
    with mock.untouched():
        status, _, answer = post(node.port, "/v1/responses/input_tokens", body)
    assert (status, json.loads(answer)["error"]["param"]) == (404, "previous_response_id")


@pytest.mark.parametrize("provider", COUNTING)
def test_errors_have_the_clients_shape(node: Node, provider: str) -> None:
    model = f"{provider}.mock-error-429"
    status, _, body = post(node.port, "/v1/messages/count_tokens", {"model": model, "messages": MESSAGES})
    assert (status, json.loads(body)["error"]["type"]) == (429, "rate_limit_error")
    status, _, body = post(node.port, f"/v1beta/models/{model}:countTokens", {"contents": CONTENTS})
    assert (status, json.loads(body)["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert post(node.port, "/v1/messages/count_tokens", {"model": "claude.mock-small"})[0] == 400


# --- streams that are one array


def generate(node: Node, model: str, query: str = "", label: str = "") -> tuple[int, dict[str, str], bytes]:
    path = f"/v1beta/models/{model}:streamGenerateContent{query}"
    return post(node.port, path, {"contents": CONTENTS}, label)


def text_of(elements: list[Any]) -> str:
    parts = [part for one in elements for part in one["candidates"][0].get("content", {}).get("parts", ())]
    return "".join(part.get("text", "") for part in parts)


def events(raw: bytes) -> list[Any]:
    return [json.loads(line[6:]) for line in raw.splitlines() if line.startswith(b"data: ")]


@pytest.mark.parametrize("provider", ["google", "claude", "plain"])
@pytest.mark.parametrize("query", ["", "?alt=json", "?$alt=json;enum-encoding=int"])
def test_a_stream_as_one_array(node: Node, provider: str, query: str) -> None:
    label = unique()
    status, headers, raw = generate(node, f"{provider}.mock-small", query, label)
    assert (status, headers["content-type"]) == (200, "application/json")
    told, cutter = json.loads(raw), ArrayCutter()
    assert [json.loads(one) for at in range(0, len(raw), 50) for one in cutter.feed(raw[at : at + 50])] == told
    _, sse_headers, sse = generate(node, f"{provider}.mock-small", "?alt=sse")
    assert sse_headers["content-type"].startswith("text/event-stream")
    assert text_of(told) == text_of(events(sse)) != ""
    assert told[-1]["candidates"][0]["finishReason"] == events(sse)[-1]["candidates"][0]["finishReason"] == "STOP"
    record = node.record(label)
    assert (record["stream"], record["usage_source"], record["error"]) == (True, "upstream", None)
    assert record["output_tokens"] == told[-1]["usageMetadata"]["candidatesTokenCount"]


@pytest.mark.parametrize("provider", ["google", "claude", "plain"])
@pytest.mark.parametrize("model", ["mock-stream-error-6", "mock-cut-2500"])
def test_a_stream_that_fails_can_be_read_as_an_array(node: Node, provider: str, model: str) -> None:
    label = unique()
    status, _, raw = generate(node, f"{provider}.{model}", label=label)
    told = json.loads(raw)
    assert status == 200
    assert text_of(told[:-1])
    assert told[-1]["error"]["status"] in ("INTERNAL", "UNAVAILABLE")
    assert node.record(label)["error"] in (
        "upstream_error_event", "upstream_invalid_response", "upstream_unreachable",
    )  # fmt: skip


@pytest.mark.parametrize("model", ["google.mock-error-503", "plain.mock-error-503", "claude.mock-stream-error-0"])
def test_an_error_before_the_stream_is_an_ordinary_one(node: Node, model: str) -> None:
    status, headers, raw = generate(node, model)
    assert (status >= 500, headers["content-type"]) == (True, "application/json")
    assert json.loads(raw)["error"]["code"] == status


def test_a_client_that_reads_json_needs_nothing_else(node: Node) -> None:
    url = f"{node.url}/v1beta/models/plain.mock-small:streamGenerateContent"
    with requests.post(url, json={"contents": CONTENTS}, headers={"x-goog-api-key": KEY}, timeout=10) as answer:
        assert text_of(answer.json())


def test_elements_come_one_by_one(node: Node) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=10)
    try:
        path = "/v1beta/models/google.mock-large:streamGenerateContent"
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        connection.request("POST", path, json.dumps({"contents": CONTENTS}), headers)
        answer, cutter, seen = connection.getresponse(), ArrayCutter(), []
        while data := answer.read1():
            seen.append(len(cutter.feed(data)))
    finally:
        connection.close()
    assert cutter.complete
    assert len([count for count in seen if count]) > 1, "all elements came at once"


def test_other_forms_are_refused(node: Node) -> None:
    status, _, body = generate(node, "google.mock-small", "?alt=proto")
    assert (status, json.loads(body)["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert "alt must be sse" in json.loads(body)["error"]["message"]
