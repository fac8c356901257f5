"""Clients that are no vendor's own SDK, each in a process and an environment of its own; see `tools/conformance.py`."""

import json
import subprocess
from typing import Any

import pytest

from fastgw.mock.text import lorem
from tests.conformance.conftest import Told
from tests.conformance.scenarios import UNSUPPORTED
from tests.e2e.pairs import CASES, HELLO, KEY, World
from tests.e2e.sdks import Outcome
from tests.support.stage import AFTER
from tools import conformance

CALLED = {"calls": [["weather", {"city": "Paris"}]], "text": AFTER.text}
STATED: dict[str, Any] = {
    "tool call": CALLED, "streamed tool call": CALLED,
    "structured output": {"value": {"name": "mock", "done": True}},
}  # fmt: skip
# litellm asks Gemini's models for a schema only where it knows their names; else it asks for any JSON.
ANY_JSON = ("litellm", "gemini", "structured output")
KINDS = {
    "ChatOpenAI": "OpenAIRateLimitError", "ChatOpenAI, responses": "OpenAIRateLimitError",
    "ChatAnthropic": "AnthropicRateLimitError", "ChatGoogleGenerativeAI": "ClientError",
    "litellm": "RateLimitError", "vercel": "APICallError",
}  # fmt: skip
"""The exception for a 429, by the client's class, or by the client."""
REFUSED = {
    ("litellm", "gemini", "structured output", "anthropic_messages"): "response_format",
    ("vercel", "anthropic", "structured output", "gemini"): "parallel_tool_calls",
}
"""(client, its class, scenario, upstream) → the field that is named."""


@pytest.mark.timeout(180)
@pytest.mark.parametrize("client", conformance.CLIENTS)
def test_client(stand: World, told: Told, client: str) -> None:
    if not conformance.made(client):
        pytest.skip(f"{client} has no environment: make conformance makes it")
    asked = {"url": stand.node.url, "key": KEY, "prompt": HELLO[0][1], "upstreams": conformance.COLUMNS}
    done = subprocess.run(
        conformance.command(client), input=json.dumps(asked), capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    rows = list(dict.fromkeys(tuple(name.split("|")[:2]) for name in answers))
    assert len(rows) >= 15
    for name, answer in answers.items():
        kind, scenario, upstream = name.split("|")
        field = REFUSED.get((client, kind, scenario, upstream))
        verdict = f"refused: {field}" if field is not None else "ok"
        if field is not None:
            found = UNSUPPORTED.search(answer["raised"])
            assert found is not None, (name, answer)
            assert found[1] == field
        else:
            assert_as_stated(stand, client, kind, scenario, answer)
        told(client, f"{kind}: {scenario}", upstream, verdict, rows.index((kind, scenario)), "")


def assert_as_stated(stand: World, client: str, kind: str, scenario: str, answer: Any) -> None:
    """Texts and tokens are those that the openai SDK is told by the provider itself; the rest is stated above."""
    direct = stand.directly("openai_chat", CASES["text"], False)
    assert isinstance(direct, Outcome)
    where = (client, kind, scenario)
    if scenario == "text":
        assert answer == {"text": direct.text, "usage": list(direct.usage[:2])}, where
    elif scenario == "stream":
        assert answer["text"] == direct.text, where
        assert answer["pieces"] >= min(len(lorem(8)), len(direct.text.split())), where
    elif scenario == "error":
        assert answer == {"status": 429, "kind": KINDS.get(kind) or KINDS[client]}, where
    else:
        assert answer == ({"value": {"answer": "mock"}} if where == ANY_JSON else STATED[scenario]), where
