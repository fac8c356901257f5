"""What coding agents send, whole turns of it, to providers of every dialect.

The requests have the shapes that Claude Code and Codex send (see `tests/fixtures/agents`): long system prompts with
cache marks, tools with schemas of all sorts, thinking, betas in headers and query, reasoning that comes back sealed.
"""

import copy
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.pairs import KEY, UPSTREAMS, World, paired
from tests.support import grammar_anthropic_messages, grammar_openai_responses
from tests.support.stage import AFTER, ANSWERED, SIGNATURE, Stage

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "agents"
LONG = "\n".join(f"{number}. Rule {number}: keep to the style of the file, é." for number in range(1500))
TRANSLATED = tuple(name for name in UPSTREAMS if name != "anthropic_messages")
upstreams = pytest.mark.parametrize("upstream", UPSTREAMS)


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Stage() as stage, paired(tmp_path_factory.mktemp("agents"), stage) as world:
        yield world


class Asked:
    """A request as an agent sends it, for one model."""

    def __init__(self, name: str, model: str) -> None:
        kept = json.loads((FIXTURES / f"{name}.json").read_text())
        self.path, self.headers = kept["path"], kept["headers"]
        self.body: dict[str, Any] = {"model": model} | kept["body"]

    def send(self, world: World) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", world.node.port, timeout=20)
        headers = {**self.headers, "authorization": f"Bearer {KEY}", "content-type": "application/json"}
        try:
            connection.request("POST", self.path, json.dumps(self.body), headers)
            answer = connection.getresponse()
            return answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def stream(self, world: World) -> list[dict[str, Any]]:
        """The events of a streamed answer."""
        status, headers, raw = self.send(world)
        assert status == 200, raw
        assert headers["content-type"].startswith("text/event-stream")
        self.raw = raw
        return [json.loads(line[6:]) for line in raw.splitlines() if line.startswith(b"data: ")]


def everything(value: Any) -> Iterator[str]:
    """All strings in JSON, keys too, and in strings that are JSON themselves."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from everything(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from everything(inner)


# --- Claude Code


def blocks(events: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """The content that the events make together, and the stop reason."""
    content: list[dict[str, Any]] = []
    stop = ""
    for event in events:
        if event["type"] == "content_block_start":
            content.append(copy.deepcopy(event["content_block"]))
            content[-1] |= {"input": ""} if content[-1]["type"] == "tool_use" else {}
        elif event["type"] == "content_block_delta":
            ((name, more),) = ((name, more) for name, more in event["delta"].items() if name != "type")
            name = "input" if name == "partial_json" else name
            content[event["index"]][name] = content[event["index"]].get(name, "") + more
        elif event["type"] == "message_delta":
            stop = event["delta"]["stop_reason"]
    for block in content:
        if block["type"] == "tool_use":
            block["input"] = json.loads(block["input"] or "{}")
    return content, stop


def claude_code(upstream: str, model: str = "stage-signed") -> Asked:
    asked = Asked("claude_code", f"{upstream}.{model}")
    asked.body["system"][-1]["text"] += LONG
    return asked


@upstreams
def test_claude_code_calls_a_tool_and_goes_on(agents: World, upstream: str) -> None:
    first = claude_code(upstream)
    content, stop = blocks(first.stream(agents))
    if upstream != "anthropic_messages":
        # What is passed on as it came is the provider's own.
        assert grammar_anthropic_messages.stream_problems(first.raw) == []
    assert stop == "tool_use"
    # A call's own signature, as Gemini has it, travels in redacted thinking before the call.
    assert [block["type"] for block in content if block["type"] != "redacted_thinking"] == ["thinking", "tool_use"]
    assert content[0]["thinking"] == "Ask the tool."
    assert (content[-1]["name"], content[-1]["input"]) == ("weather", {"city": "Paris"})
    second = claude_code(upstream)
    result = {"type": "tool_result", "tool_use_id": content[-1]["id"], "is_error": False}
    result |= {"content": [{"type": "text", "text": ANSWERED.decode()}], "cache_control": {"type": "ephemeral"}}
    text = "<system-reminder>\nThe list of what is to be done is empty.\n</system-reminder>"
    hint = {"type": "text", "text": text}
    second.body["messages"] += [{"role": "assistant", "content": content}, {"role": "user", "content": [result, hint]}]
    content, stop = blocks(second.stream(agents))
    assert (content[-1]["text"], stop) == (AFTER.text, "end_turn")
    if upstream != "openai_chat":
        assert SIGNATURE in agents.stage.last["body"].decode(), "the thought goes back with its signature"


@upstreams
def test_claude_codes_request_arrives_whole(agents: World, upstream: str) -> None:
    asked = claude_code(upstream)
    asked.stream(agents)
    sent = agents.stage.last["asked"]
    said = list(everything(sent))
    for block in asked.body["system"]:
        assert any(block["text"] in one for one in said), block["text"][:80]
    for block in asked.body["messages"][0]["content"]:
        assert any(block["text"] in one for one in said)
    for tool in asked.body["tools"]:
        assert {tool["name"], tool["description"]} <= set(said)
    wanted = {"openai_chat": "reasoning_effort", "openai_responses": "reasoning", "anthropic_messages": "thinking"}
    assert sent.get(wanted.get(upstream, "")) or sent["generationConfig"]["thinkingConfig"]
    assert len(agents.stage.last["body"]) > len(LONG)


def test_to_anthropic_nothing_of_it_is_touched(agents: World) -> None:
    asked = claude_code("anthropic_messages")
    asked.stream(agents)
    seen = agents.stage.last
    assert seen["asked"] == asked.body | {"model": "stage-signed"}
    assert list(seen["asked"]) == list(asked.body)
    assert seen["headers"]["anthropic-beta"] == asked.headers["anthropic-beta"]
    assert seen["headers"]["anthropic-version"] == "2023-06-01"
    assert KEY not in str(seen["headers"])


@pytest.mark.parametrize("upstream", TRANSLATED)
def test_betas_are_no_business_of_others(agents: World, upstream: str) -> None:
    claude_code(upstream).stream(agents)
    sent = agents.stage.last["headers"]
    assert not {name for name in sent if name.startswith(("anthropic", "x-stainless", "x-claude"))}


@pytest.mark.parametrize("upstream", TRANSLATED)
def test_editing_of_the_context_is_refused_when_it_would_change_something(agents: World, upstream: str) -> None:
    asked = claude_code(upstream)
    asked.body["context_management"]["edits"].append({"type": "clear_tool_uses_20250919"})
    status, _, answer = asked.send(agents)
    assert status == 400, answer
    assert "context_management cannot be served" in json.loads(answer)["error"]["message"]


@upstreams
def test_claude_code_asks_for_a_title(agents: World, upstream: str) -> None:
    content, stop = blocks(Asked("claude_code_title", f"{upstream}.mock-small").stream(agents))
    assert json.loads(content[-1]["text"]) == {"title": "mock"}
    assert stop == "end_turn"


def test_claude_code_counts_tokens(agents: World) -> None:
    asked = claude_code("anthropic_messages", "mock-small")
    asked.path = "/v1/messages/count_tokens?beta=true"
    for field in ("max_tokens", "stream", "metadata", "context_management", "output_config"):
        del asked.body[field]
    status, _, answer = asked.send(agents)
    assert status == 200, answer
    assert json.loads(answer)["input_tokens"] > len(LONG) // 8
    assert agents.mock.stats()["last_path"].startswith("/v1/messages/count_tokens")


@upstreams
def test_claude_code_is_told_of_an_overload_as_anthropic_would(agents: World, upstream: str) -> None:
    status, headers, answer = claude_code(upstream, "mock-error-529").send(agents)
    told = json.loads(answer)
    assert (status, told["type"], told["error"]["type"]) == (529, "error", "overloaded_error")
    if upstream != "gemini":
        assert headers["retry-after"] == "1"


# --- Codex


def codex(upstream: str, model: str = "stage-signed") -> Asked:
    asked = Asked("codex", f"{upstream}.{model}")
    asked.body["instructions"] += LONG
    return asked


@upstreams
def test_codex_calls_a_tool_and_goes_on(agents: World, upstream: str) -> None:
    first = codex(upstream)
    events = first.stream(agents)
    if upstream != "openai_responses":
        assert grammar_openai_responses.problems(first.raw) == []
    # Codex keeps the items that are done, and sends them back as they came.
    items = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert items == events[-1]["response"]["output"]
    call = items[-1]
    assert (call["type"], call["name"], json.loads(call["arguments"])) == (
        "function_call",
        "weather",
        {"city": "Paris"},
    )
    thought = next(item for item in items if item["type"] == "reasoning" and item["summary"])
    assert thought["summary"] == [{"type": "summary_text", "text": "Ask the tool."}]
    second = codex(upstream)
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": ANSWERED.decode()}
    second.body["input"] += [*items, output]
    items = [event["item"] for event in second.stream(agents) if event["type"] == "response.output_item.done"]
    assert items[-1]["content"][0]["text"] == AFTER.text
    if upstream != "openai_chat":
        assert SIGNATURE in agents.stage.last["body"].decode(), "what was sealed goes back to who sealed it"


@upstreams
def test_codexs_request_arrives_whole(agents: World, upstream: str) -> None:
    asked = codex(upstream)
    asked.stream(agents)
    sent = agents.stage.last["asked"]
    said = list(everything(sent))
    texts = [asked.body["instructions"], *(part["text"] for item in asked.body["input"] for part in item["content"])]
    for text in texts:
        assert any(text.strip() in one for one in said), text[:80]
    for tool in asked.body["tools"]:
        assert {tool["name"], tool["description"]} <= set(said)
    if upstream == "openai_responses":
        assert sent == asked.body | {"model": "stage-signed"}
    else:
        assert not {"store", "include", "prompt_cache_key", "text"} & sent.keys()


OWN_TOOLS = {
    "custom": {"type": "custom", "name": "apply_patch", "description": "Edits files.",
               "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/s"}},
    "web_search": {"type": "web_search", "external_web_access": False},
}  # fmt: skip


@pytest.mark.parametrize("upstream", [name for name in UPSTREAMS if name != "openai_responses"])
@pytest.mark.parametrize("kind", OWN_TOOLS)
def test_tools_that_only_openai_has_are_refused_or_dropped(agents: World, upstream: str, kind: str) -> None:
    asked = codex(upstream)
    asked.body["tools"].append(OWN_TOOLS[kind])
    status, _, answer = asked.send(agents)
    assert status == 400, answer
    told = json.loads(answer)["error"]
    assert (told["code"], told["param"].startswith("tools")) == ("unsupported_field", True)
    asked.body["model"] = f"{upstream}.dropping"
    status, headers, answer = asked.send(agents)
    assert status == 200, answer
    assert "tools" in headers["x-fastgw-dropped"]


@upstreams
def test_codex_is_told_of_a_cut_stream(agents: World, upstream: str) -> None:
    status, _, raw = codex(upstream, "mock-stream-error-3").send(agents)
    assert b"response.completed" not in raw
    assert b"error" in raw
    assert status == 200 or json.loads(raw)["error"]["message"], "before its first word it is an answer of its own"
