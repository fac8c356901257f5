"""Every client's dialect against every provider's: a node with a provider of each, and SDKs at both ends of it.

The same mock stands behind all providers and speaks all dialects with the same words and counts. So each SDK is asked
twice: the mock in the SDK's own dialect, and the gateway, which asks the mock in the provider's.
"""

import http.client
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastgw.dialects.registry import CODECS
from tests.e2e.sdks import CLIENTS, Case, Client, Outcome, Refusal
from tests.support.gateway import Mock, Node, start_node
from tests.support.stage import STAGED, Stage

KEY = "fgw-pairs-0123456789abcdef"
UPSTREAMS = tuple(CODECS)
KINDS = {
    "openai_chat": ("pairs_chat", "/v1"), "openai_responses": ("pairs_responses", "/v1"),
    "anthropic_messages": ("anthropic", ""), "gemini": ("gemini", ""),
}  # fmt: skip
FAULTS = ("mock-cut-900", "mock-fin-1", "mock-fin-3", "mock-end-3", "mock-stream-error-3")
STATUSES = (400, 401, 404, 413, 429, 500, 503, 529)
MODELS = ("mock-small", "mock-cached", "echo", "mock-nousage", *FAULTS, "mock-cut-250", "mock-stream-error-0",
          *(f"mock-error-{status}" for status in STATUSES))  # fmt: skip
# Kinds of provider that speak one dialect of OpenAI's and no other, so that the other is translated.
SITE = """
from fastgw import providers
from fastgw.providers.base import Provider

for one in (
    Provider(kind="pairs_chat", speaks={"openai_chat": "/chat/completions"}),
    Provider(kind="pairs_responses", speaks={"openai_responses": "/responses"}),
):
    providers.PROVIDERS[one.kind] = one
"""


STEADY = "breaker: {failures: 0}"
"""One test's errors are not to tell in the next."""


def config(mock_url: str, stage: Stage | None) -> str:
    lines = ["providers:"]
    for name in UPSTREAMS:
        kind, path = KINDS[name]
        for prefix, url in [("", mock_url)] + ([("staged_", stage.url)] if stage is not None else []):
            lines.append(f'  {prefix}{name}: {{kind: {kind}, base_url: "{url}{path}", api_key: "sk-mock"}}')
    lines.append("models:")
    for name in UPSTREAMS:
        if stage is not None:
            lines += [
                f"  {name}.{model}: {{targets: [{{provider: staged_{name}, model: {model}}}], {STEADY}}}"
                for model in STAGED
            ]
        lines += [
            f"  {name}.{model}: {{targets: [{{provider: {name}, model: {model}}}], {STEADY}}}" for model in MODELS
        ]
        lines.append(f'  {name}.dropping: {{targets: [{{provider: {name}, model: mock-small, drop: ["*"]}}]}}')
    return "\n".join([*lines, "keys:", f'  - {{name: main, secret: "{KEY}"}}', ""])


class World:
    """A node, what is behind it, each SDK at both, and what the SDKs were told by the mock (or stage) itself."""

    def __init__(self, node: Node, mock: Mock, stage: Stage | None) -> None:
        self.node, self.mock = node, mock
        self.staged = {one.dialect: one(stage.url, "sk-mock", True) for one in CLIENTS} if stage is not None else {}
        self.stage = stage or Stage()
        self.through = {one.dialect: one(node.url, KEY, False) for one in CLIENTS}
        self.straight = {one.dialect: one(mock.url, "sk-mock", True) for one in CLIENTS}
        self._told: dict[str, Outcome | Refusal] = {}

    def close(self) -> None:
        """Let go of the connections the SDKs keep; left to the garbage collector they fail some later test."""
        for one in (*self.through.values(), *self.straight.values(), *self.staged.values()):
            one.sdk.close()

    def directly(self, client: str, case: Case, stream: bool) -> Outcome | Refusal:
        """What the SDK gets from the mock in its own dialect."""
        key = f"{client} {stream} {case}"
        if key not in self._told:
            asked = self.staged if case.model in STAGED else self.straight
            self._told[key] = ask(asked[client], case.model, case, stream)
        return self._told[key]

    def post(self, path: str, body: Any, label: str = "") -> tuple[int, dict[str, str], bytes]:
        """A request of no SDK."""
        connection = http.client.HTTPConnection("127.0.0.1", self.node.port, timeout=10)
        try:
            headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
            if label:
                headers["x-request-id"] = label
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()


def ask(client: Client, model: str, case: Case, stream: bool) -> Outcome | Refusal:
    try:
        return client.streamed(model, case) if stream else client.whole(model, case)
    except client.failures as error:
        return client.refusal(error)


@contextmanager
def paired(directory: Path, stage: Stage | None = None) -> Iterator[World]:
    """The world for the time of a block, with a running `stage` as further provider of each dialect."""
    site = directory / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    mock = Mock(directory)
    node = start_node(directory, config(mock.url, stage), key=KEY, env={"PYTHONPATH": path})
    try:
        world = World(node, mock, stage)
        yield world
        world.close()
    finally:
        code = node.stop()
        mock.stop()
    assert code == 0, node.stderr()
    assert not node.log("internal_error"), node.log("internal_error")


PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
ODD = {
    "type": "object",
    "properties": {
        "zeta": {"type": "string", "enum": ['q"\\ \u2028\u2029\u0085 é 日本 🎉 \n\t </script>']},
        "alpha": {"type": "integer"},
        "deep": {"type": "object", "properties": {"list": {"type": "array", "items": {"type": "number"}}}},
        "": {"type": "boolean"},
    },
}
HELLO = (("user", "Hello there"),)
NOTHING = {"type": "object", "properties": {}}
HISTORY = (
    ("user", "What is the weather in Paris and in Rome?"),
    ("calls", (("call_a", "weather", '{"city":"Paris"}'), ("call_b", "weather", '{"city":"Rome"}'))),
    ("results", (("call_a", "weather", "rain é"), ("call_b", "weather", "sun"))),
)
CASES = {
    "text": Case(HELLO),
    "turns": Case(
        (("user", "One."), ("assistant", "Two?"), ("user", "Three!"), ("assistant", "Four."), ("user", "Five")),
        system="Be brief.",
    ),
    "tool": Case((("user", "Weather?"),), tools=(("weather", PLACE),), force=True),
    "tools": Case((("user", "please call tools"),), tools=(("weather", PLACE), ("clock", ODD), ("now", NOTHING))),
    "tools_unused": Case((("user", "Hello"),), tools=(("weather", PLACE),)),
    "results": Case(HISTORY, tools=(("weather", PLACE),)),
    "image": Case((("image", "What is this?"),)),
    "schema": Case(
        (("user", "A name and a count."),),
        schema={"type": "object", "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
                "required": ["name", "count"], "additionalProperties": False},
    ),
    "length": Case((("user", "Tell me everything"),), max_tokens=5),
    "unicode": Case((("user", "é 日本 🎉 \u2028\u2029\u0085 \\ \" </script> \x7f"),), model="echo"),
    "cached": Case((("user", "Hello there, is there anything in the cache?"),), model="mock-cached"),
    "reasoning": Case((("user", "Think about it."),), think=True, max_tokens=4000),
}  # fmt: skip
