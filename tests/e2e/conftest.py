"""One mock and one node for the whole session (and test process), and what every test here needs of them.

The node serves three kinds of model: those named after the mock's faults, `scripted-*` for upstreams a test writes
byte by byte, and `closed` where nothing listens. Its bounds are small, so that reaching them takes little time.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.gateway import FixedUpstream, Mock, Node, reserved_port, start_node

KEY = "fgw-e2e-0123456789abcdef"
OTHER_KEYS = {
    "narrow": "fgw-e2e-narrow-0123456789",
    "expired": "fgw-e2e-expired-0123456789",
    "blocked": "fgw-e2e-blocked-0123456789",
    "once": "fgw-e2e-once-0123456789abc",
}
UPSTREAM_KEY = "sk-mock-provider-credential-1"
WRONG_UPSTREAM_KEY = "sk-not-the-right-credential-2"
SCRIPTED_KEY = "sk-scripted-provider-credential-3"
MOCK_MODELS = (
    "mock-small", "mock-large", "echo", "mock-embedding", "mock-slow-400", "mock-slow-3000", "mock-timeout",
    "mock-stall-3", "mock-fin-3", "mock-cut-600", "mock-end-3", "mock-stream-error-3", "mock-badjson",
    "mock-html-502", "mock-redirect", "mock-nousage", "mock-usage-in-finish",
    *(f"mock-error-{status}" for status in (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529)),
)  # fmt: skip
PRICE = "price: {input: 2.5, output: 10, cached: 1.25}"


def config(mock_url: str, scripted_port: int, closed_port: int) -> str:
    """The session node's config."""
    mock_models = "\n".join(
        f"  {name}: {{targets: [{{provider: mock, model: {name}, {PRICE}}}], breaker: {{failures: 0}}}}"
        for name in MOCK_MODELS
    )
    scripted = "provider: scripted, model: upstream-model"
    unbroken = "breaker: {failures: 0}"  # one test's faults are not to tell in the next
    quick = "timeout: {first_token: 600ms, idle: 600ms, total: 5s}"
    return f"""
providers:
  mock: {{kind: openai_compatible, base_url: "{mock_url}/v1", api_key: "{UPSTREAM_KEY}"}}
  mock_wrong_key: {{kind: openai_compatible, base_url: "{mock_url}/v1", api_key: "{WRONG_UPSTREAM_KEY}"}}
  scripted: {{kind: openai_compatible, base_url: "http://127.0.0.1:{scripted_port}/v1", api_key: "{SCRIPTED_KEY}",
              allow_headers: [x-team-header]}}
  closed: {{kind: openai_compatible, base_url: "http://127.0.0.1:{closed_port}/v1", api_key: "{SCRIPTED_KEY}"}}
models:
{mock_models}
  renamed: {{targets: [{{provider: mock, model: mock-small, {PRICE}}}]}}
  unpriced: {{targets: [{{provider: mock, model: mock-large}}]}}
  our-key-refused: {{targets: [{{provider: mock_wrong_key, model: mock-small}}]}}
  scripted: {{targets: [{{{scripted}, {PRICE}}}], {unbroken}}}
  scripted-quick: {{targets: [{{{scripted}, {PRICE}}}], {unbroken}, {quick}}}
  scripted-retry:
    {unbroken}
    targets: [{{{scripted}}}, {{provider: mock, model: mock-small, priority: 2}}]
    balance: priority
    retry: {{attempts: 2, on: [connect, timeout, 5xx, 429, 503]}}
    timeout: {{first_token: 600ms, idle: 600ms, total: 5s}}
  closed: {{targets: [{{provider: closed, model: m}}]}}
  closed-retry: {{targets: [{{provider: closed, model: m}}, {{provider: mock, model: mock-small, priority: 2}}],
                  balance: priority}}
keys:
  - {{name: main, secret: "{KEY}"}}
  - {{name: narrow, secret: "{OTHER_KEYS["narrow"]}", models: [echo, renamed]}}
  - {{name: expired, secret: "{OTHER_KEYS["expired"]}", expires: "2020-01-01T00:00:00Z"}}
  - {{name: blocked, secret: "{OTHER_KEYS["blocked"]}", blocked: true}}
  - {{name: once, secret: "{OTHER_KEYS["once"]}", limits: {{requests: 1/min, burst: 1}}}}
bounds: {{body: 1MiB, body_timeout: 1s, body_rate: 1MiB, heartbeat: 300ms}}
records: {{segment: 1MiB}}
"""


class World:
    """What the session's processes are: the node, its mock, and the ports of the other two providers."""

    def __init__(self, node: Node, mock: Mock, scripted_port: int) -> None:
        self.node = node
        self.mock = mock
        self._scripted_port = scripted_port

    def upstream(self, scripts: Any) -> FixedUpstream:
        """The upstream behind the models `scripted*`, for the time of an `async with`."""
        return FixedUpstream(self._scripted_port, scripts)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory: Path = tmp_path_factory.mktemp("world")
    mock = Mock(directory, "--seed", "1", "--key-env", "MOCK_KEY", env={"MOCK_KEY": UPSTREAM_KEY})
    with reserved_port() as scripted, reserved_port() as closed:
        node = start_node(directory, config(mock.url, scripted, closed), key=KEY)
        try:
            yield World(node, mock, scripted)
        finally:
            code = node.stop()
            mock.stop()
    assert code == 0, node.stderr()
    assert not node.log("internal_error"), node.log("internal_error")


@pytest.fixture
def gateway(world: World) -> Node:
    return world.node


@pytest.fixture
def mock(world: World) -> Mock:
    return world.mock


@pytest.fixture(scope="session")
def client(world: World) -> Iterator[openai.OpenAI]:
    """The official SDK, pointed at the gateway."""
    with openai.OpenAI(api_key=KEY, base_url=f"{world.node.url}/v1", max_retries=0, timeout=20) as made:
        yield made


@pytest.fixture(scope="session")
def straight(world: World) -> Iterator[openai.OpenAI]:
    """The official SDK, pointed at the mock."""
    with openai.OpenAI(api_key=UPSTREAM_KEY, base_url=f"{world.mock.url}/v1", max_retries=0, timeout=20) as made:
        yield made


@pytest.fixture
def spare(tmp_path: Path) -> Iterator[Callable[..., Mock]]:
    """Further mocks, ended with the test."""
    made: list[Mock] = []

    def make(*arguments: str) -> Mock:
        made.append(Mock(tmp_path, *arguments))
        return made[-1]

    yield make
    for one in made:
        one.stop()
