"""Names of models over the wire: wildcards, aliases, defaults, OpenRouter's fields, and the lists three SDKs read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2 as httpx
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors

from tests.support.gateway import Mock, Node, reserved_port, start_node, unique

KEYS = {
    "main": "fgw-names-main-0123456789",
    "own": "fgw-names-own-0123456789ab",
    "narrow": "fgw-names-narrow-0123456789",
    "wild": "fgw-names-wild-0123456789",
}
HELLO = [{"role": "user", "content": "Hello there"}]
PRICE = "price: {input: 1, output: 2}"


def config(url: str, closed: int) -> str:
    return f"""
providers:
  up: {{kind: openai_compatible, base_url: "{url}/v1"}}
  second: {{kind: groq, base_url: "{url}/v1", api_key: sk-mock}}
  router: {{kind: openrouter, base_url: "{url}/v1", api_key: sk-mock}}
  claude: {{kind: anthropic, base_url: "{url}", api_key: sk-mock}}
  hidden: {{kind: openai_compatible, base_url: "{url}/v1"}}
  closed: {{kind: openai_compatible, base_url: "http://127.0.0.1:{closed}/v1"}}
wildcards: [up, second, router, claude, closed]
aliases: {{gpt-4: fast, any: up/mock-large, claude-3: translated}}
default_model: gpt-4
models:
  fast: {{targets: [{{provider: up, model: mock-small, {PRICE}}}]}}
  large: {{targets: [{{provider: up, model: mock-large, price: {{input: 9, output: 9}}}},
                     {{provider: second, model: mock-large, price: {{input: 3, output: 3}}}}]}}
  translated: {{targets: [{{provider: claude, model: mock-small, {PRICE}}}]}}
  routed: {{targets: [{{provider: router, model: mock-small}}]}}
  down: {{targets: [{{provider: closed, model: m}}]}}
  failing: {{targets: [{{provider: up, model: mock-error-500}}]}}
  refusing: {{targets: [{{provider: up, model: mock-error-400}}]}}
  once: {{targets: [{{provider: up, model: mock-small}}], limits: {{requests: 1/min, burst: 1}}}}
keys:
  - {{name: main, secret: "{KEYS["main"]}"}}
  - {{name: own, secret: "{KEYS["own"]}", aliases: {{gpt-4: large, mine: up/mock-small}}, default_model: mine}}
  - {{name: narrow, secret: "{KEYS["narrow"]}", models: [gpt-4, down]}}
  - {{name: wild, secret: "{KEYS["wild"]}", models: ["second/*"]}}
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Mock]]:
    directory: Path = tmp_path_factory.mktemp("names")
    mock = Mock(directory, "--seed", "1")
    with reserved_port() as closed:
        node = start_node(directory, config(mock.url, closed))
        try:
            yield node, mock
        finally:
            code = node.stop()
            mock.stop()
    assert code == 0, node.stderr()
    assert not node.log("internal_error"), node.log("internal_error")


@pytest.fixture
def node(served: tuple[Node, Mock]) -> Node:
    return served[0]


@pytest.fixture
def mock(served: tuple[Node, Mock]) -> Mock:
    return served[1]


def ask(
    node: Node, body: dict[str, Any], who: str = "main", path: str = "/v1/chat/completions", **headers: str
) -> httpx.Response:
    sent = {"authorization": f"Bearer {KEYS[who]}", **{name.replace("_", "-"): v for name, v in headers.items()}}
    return httpx.post(f"{node.url}{path}", json=body, headers=sent, timeout=20)


def chat(node: Node, who: str = "main", **body: Any) -> httpx.Response:
    return ask(node, {"messages": HELLO, **body}, who)


def error(answer: httpx.Response) -> tuple[int, str, str | None]:
    told = answer.json()["error"]
    return answer.status_code, told["code"], told["param"]


def sent(mock: Mock) -> dict[str, Any]:
    """The body the mock saw last."""
    return dict(json.loads(mock.stats()["last_body"]))


# --- wildcards


def test_any_model_of_a_provider(node: Node, mock: Mock) -> None:
    label = unique()
    answer = ask(node, {"model": "up/mock-large", "messages": HELLO}, x_request_id=label)
    assert answer.status_code == 200, answer.text
    assert (answer.headers["x-fastgw-model"], answer.headers["x-fastgw-target"]) == ("up/mock-large", "up/mock-large")
    assert sent(mock)["model"] == "mock-large"
    record = node.record(label)
    assert (record["model"], record["provider"], record["target"]) == ("up/mock-large", "up", "up/mock-large")


def test_a_name_behind_a_wildcard_has_no_series_of_its_own(node: Node) -> None:
    for name in ("second/one", "second/two"):
        assert chat(node, model=name).status_code == 200
    series = [name for name in node.metrics() if name.startswith("fastgw_requests_total") and "second/" in name]
    assert series
    assert not any("second/one" in name or "second/two" in name for name in series)
    assert any('model="second/*"' in name for name in series)


@pytest.mark.parametrize("name", ["mock-large", "hidden/mock-small", "nobody/m", "up/", "up/..", "up/a/../b", "/m"])
def test_what_no_wildcard_takes(node: Node, name: str) -> None:
    assert error(chat(node, model=name)) == (404, "model_not_found", "model")


def test_a_pattern_restricts_a_key(node: Node) -> None:
    assert chat(node, "wild", model="second/mock-small").status_code == 200
    for name in ("up/mock-small", "fast", "gpt-4"):
        assert error(chat(node, "wild", model=name)) == (403, "model_not_allowed", "model")


# --- aliases and defaults


def test_an_alias(node: Node, mock: Mock) -> None:
    label = unique()
    answer = ask(node, {"model": "gpt-4", "messages": HELLO}, x_request_id=label)
    assert (answer.status_code, answer.headers["x-fastgw-model"]) == (200, "fast")
    assert answer.json()["model"] == "mock-small"
    assert sent(mock)["model"] == "mock-small"
    record = node.record(label)
    assert (record["model"], record["target"]) == ("fast", "up/mock-small")
    assert record["cost_nano"] > 0


def test_an_alias_of_what_a_wildcard_takes(node: Node, mock: Mock) -> None:
    answer = chat(node, model="any")
    assert (answer.status_code, answer.headers["x-fastgw-model"]) == (200, "up/mock-large")
    assert sent(mock)["model"] == "mock-large"


def test_a_keys_own_alias_comes_first(node: Node, mock: Mock) -> None:
    assert chat(node, "own", model="gpt-4").headers["x-fastgw-model"] == "large"
    assert chat(node, "own", model="mine").headers["x-fastgw-model"] == "up/mock-small"
    assert error(chat(node, model="mine")) == (404, "model_not_found", "model")


def test_access_is_by_the_alias(node: Node) -> None:
    assert chat(node, "narrow", model="gpt-4").status_code == 200
    assert error(chat(node, "narrow", model="fast")) == (403, "model_not_allowed", "model")


def test_the_default(node: Node, mock: Mock) -> None:
    for body in ({}, {"model": None}, {"model": ""}):
        answer = chat(node, **body)
        assert (answer.status_code, answer.headers["x-fastgw-model"]) == (200, "fast")
        assert sent(mock)["model"] == "mock-small"
    assert chat(node, "own").headers["x-fastgw-model"] == "up/mock-small"


def test_every_dialect_knows_aliases_and_the_default(node: Node) -> None:
    for model in ({"model": "gpt-4"}, {}):
        turns = {"messages": HELLO, "max_tokens": 50, **model}
        answer = ask(node, turns, path="/v1/messages")
        assert (answer.status_code, answer.headers["x-fastgw-model"]) == (200, "fast")
        answer = ask(node, {"input": "Hello", **model}, path="/v1/responses")
        assert (answer.status_code, answer.headers["x-fastgw-model"]) == (200, "fast")
        answer = ask(node, {"input": "Hello", **model}, path="/v1/embeddings")
        assert (answer.status_code, answer.headers["x-fastgw-model"]) == (200, "fast")
    turns = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
    answer = ask(node, turns, path="/v1beta/models/gpt-4:generateContent")
    assert (answer.status_code, answer.headers["x-fastgw-model"]) == (200, "fast")
    answer = ask(node, {"messages": HELLO}, path="/openai/deployments/gpt-4/chat/completions")
    assert (answer.status_code, answer.headers["x-fastgw-model"]) == (200, "fast")


@pytest.mark.parametrize("stream", [False, True])
def test_a_replys_model_is_what_the_upstream_says(node: Node, mock: Mock, stream: bool) -> None:
    answer = chat(node, model="claude-3", stream=stream)
    assert (answer.status_code, answer.headers["x-fastgw-model"]) == (200, "translated")
    assert '"model":"mock-small"' in answer.text
    assert sent(mock)["model"] == "mock-small"


# --- models and provider


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("first", ["down", "failing", "closed/x", "up/mock-error-429", "up/mock-error-404"])
def test_the_next_model_answers(node: Node, mock: Mock, first: str, stream: bool) -> None:
    label = unique()
    body = {"model": first, "models": ["gpt-4"], "messages": HELLO, "stream": stream}
    answer = ask(node, body, x_request_id=label)
    assert (answer.status_code, answer.headers["x-fastgw-model"]) == (200, "fast"), answer.text
    assert "models" not in sent(mock)
    record = node.record(label)
    assert (record["model"], record["status"], record["error"]) == ("fast", 200, None)
    assert len(record["attempts"]) == 2
    assert record["cost_nano"] > 0


def test_models_alone(node: Node) -> None:
    answer = chat(node, models=["down", "failing", "large"])
    assert (answer.status_code, answer.headers["x-fastgw-attempts"]) == (200, "3")
    assert answer.headers["x-fastgw-model"] == "large"


def test_a_translated_fallback(node: Node) -> None:
    answer = chat(node, model="down", models=["claude-3"])
    assert (answer.status_code, answer.headers["x-fastgw-model"]) == (200, "translated")


def test_what_the_request_causes_is_not_tried_elsewhere(node: Node) -> None:
    answer = chat(node, model="refusing", models=["fast"])
    assert (answer.status_code, answer.headers["x-fastgw-attempts"]) == (400, "1")


def test_every_model_must_be_allowed(node: Node, mock: Mock) -> None:
    with mock.untouched():
        answer = chat(node, "narrow", model="gpt-4", models=["down", "large"])
        assert error(answer) == (403, "model_not_allowed", "models[1]")
        assert "large" in answer.text
        assert error(chat(node, model="fast", models=["nope"])) == (404, "model_not_found", "models[0]")


def test_a_fallbacks_own_limit_holds(node: Node) -> None:
    assert chat(node, model="down", models=["once"]).headers["x-fastgw-model"] == "once"
    assert chat(node, model="down", models=["once", "fast"]).headers["x-fastgw-model"] == "fast"
    assert chat(node, model="down", models=["once"]).status_code == 502


def test_providers_by_name_kind_and_price(node: Node, mock: Mock) -> None:
    wishes: list[tuple[dict[str, Any], str]] = [
        ({"only": ["second"]}, "second"),
        ({"only": ["GROQ"]}, "second"),
        ({"ignore": ["groq"]}, "up"),
        ({"order": ["up"]}, "up"),
        ({"order": ["nobody", "second"], "allow_fallbacks": False}, "second"),
        ({"sort": "price"}, "second"),
        ({"max_price": {"prompt": 5}}, "second"),
    ]
    for wish, provider in wishes:
        for _ in range(4):
            answer = chat(node, model="large", provider=wish)
            assert (answer.status_code, answer.headers["x-fastgw-provider"]) == (200, provider), wish
            assert "provider" not in sent(mock)


@pytest.mark.parametrize(
    ("wish", "status", "code", "param"),
    [
        ({"only": ["nobody"]}, 404, "model_not_found", "provider"),
        ({"max_price": {"completion": "0.5"}}, 404, "model_not_found", "provider"),
        ({"sort": "latency"}, 400, "unsupported_field", "provider.sort"),
        ({"zdr": True}, 400, "unsupported_field", "provider.zdr"),
        ({"order": "up"}, 400, "invalid_type", "provider.order"),
    ],
)
def test_wishes_that_cannot_be_met(
    node: Node, mock: Mock, wish: dict[str, Any], status: int, code: str, param: str
) -> None:
    with mock.untouched():
        assert error(chat(node, model="large", provider=wish)) == (status, code, param)


def test_an_openrouter_reads_provider_itself_and_never_models(node: Node, mock: Mock) -> None:
    wish = {"only": ["deepinfra"], "zdr": True}
    for model in ("routed", "router/mock-small"):
        answer = chat(node, model=model, models=["router/mock-large"], provider=wish)
        assert (answer.status_code, answer.headers["x-fastgw-provider"]) == (200, "router")
        body = sent(mock)
        assert (body["provider"], body["model"]) == (wish, "mock-small")
        assert "models" not in body
    # Where another kind of provider might answer, every member must be one that is understood here.
    answer = chat(node, model="routed", models=["fast"], provider=wish)
    assert error(answer) == (400, "unsupported_field", "provider.zdr")


def test_the_sdk_with_extra_body(node: Node) -> None:
    with openai.OpenAI(api_key=KEYS["main"], base_url=f"{node.url}/v1", max_retries=0, timeout=20) as client:
        extra = {"models": ["large"], "provider": {"sort": "price"}}
        answer = client.chat.completions.with_raw_response.create(model="down", messages=HELLO, extra_body=extra)  # type: ignore[call-overload]
    assert answer.headers["x-fastgw-target"] == "second/mock-large"


# --- lists


VISIBLE = {
    "main": [
        "fast",
        "large",
        "translated",
        "routed",
        "down",
        "failing",
        "refusing",
        "once",
        "gpt-4",
        "any",
        "claude-3",
    ],
    "narrow": ["down", "gpt-4"],
    "wild": [],
}
VISIBLE["own"] = [*VISIBLE["main"], "mine"]


@pytest.mark.parametrize("who", VISIBLE)
def test_openais_list(node: Node, who: str) -> None:
    with openai.OpenAI(api_key=KEYS[who], base_url=f"{node.url}/v1", max_retries=0, timeout=20) as client:
        assert [model.id for model in client.models.list()] == VISIBLE[who]
        if who != "wild":
            assert client.models.retrieve("gpt-4").id == "gpt-4"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("nope")


def test_openais_names_with_a_slash(node: Node) -> None:
    with openai.OpenAI(api_key=KEYS["wild"], base_url=f"{node.url}/v1", max_retries=0, timeout=20) as client:
        assert client.models.retrieve("second/a:b").id == "second/a:b"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("up/mock-small")


@pytest.mark.parametrize("prefix", ["", "/anthropic"])
def test_anthropics_list(node: Node, prefix: str) -> None:
    with anthropic.Anthropic(api_key=KEYS["main"], base_url=node.url + prefix, max_retries=0, timeout=20) as client:
        assert [model.id for model in client.models.list()] == VISIBLE["main"]
        assert [model.id for model in client.models.list(limit=2)] == VISIBLE["main"]
        one = client.models.retrieve("gpt-4")
        assert (one.id, one.type, one.display_name) == ("gpt-4", "model", "gpt-4")
        assert one.created_at.year == 1970
        assert client.models.retrieve("up/mock-large").id == "up/mock-large"
        with pytest.raises(anthropic.NotFoundError):
            client.models.retrieve("nope")


@pytest.mark.parametrize(("prefix", "version"), [("", None), ("", "v1beta"), ("/genai", "v1beta"), ("/genai", "v1")])
def test_geminis_list(node: Node, prefix: str, version: str | None) -> None:
    options = genai.types.HttpOptions(base_url=node.url + prefix, api_version=version, timeout=20_000)
    client = genai.Client(api_key=KEYS["main"], vertexai=False, http_options=options)
    try:
        assert [model.name for model in client.models.list()] == [f"models/{name}" for name in VISIBLE["main"]]
        paged = client.models.list(config={"page_size": 2})
        assert [model.name for model in paged] == [f"models/{name}" for name in VISIBLE["main"]]
        one = client.models.get(model="gpt-4")
        assert (one.name, one.display_name) == ("models/gpt-4", "gpt-4")
        assert "generateContent" in (one.supported_actions or [])
        with pytest.raises(genai_errors.ClientError) as caught:
            client.models.get(model="nope")
        assert caught.value.code == 404
    finally:
        client.close()


def test_a_list_takes_a_key(node: Node) -> None:
    for path in ("/v1/models", "/v1beta/models", "/anthropic/v1/models", "/v1/models/fast", "/v1/models/up%2Fx"):
        assert node.get(path)[0] == 401
