"""One node for all faults of upstreams and clients: four dialects, each with an upstream, a spare one, and worse.

Of each dialect there are the models `NAME` (one target, short deadlines), `NAME-two` (the spare one stands in),
`NAME-frail` (and soon does so at once), `NAME-short` (ends soon as a whole), `NAME-patient` (long deadlines),
`NAME-narrow` and `NAME-tight` (one connection; long and short deadlines), and `NAME-dark`, `NAME-dark-two`,
`NAME-dark-patient` (an upstream that never accepts).
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from fastgw.plan import config as fields
from tests.faults.tongues import TONGUES
from tests.support.faultproxy import full_backlog
from tests.support.gateway import Node, reserved_port, start_node
from tests.support.scripted import ScriptedUpstream

KEY = "fgw-faults-0123456789abcdef"
ONE_KEY = "fgw-faults-one-0123456789abc"
CREDENTIAL = "sk-faults-credential-1"
QUICK = "timeout: {connect: 400ms, first_token: 600ms, idle: 600ms, total: 3s}"
SHORT = "timeout: {connect: 400ms, first_token: 600ms, idle: 600ms, total: 1200ms}"
PATIENT = "timeout: {connect: 20s, first_token: 20s, idle: 20s, total: 30s}"
RETRY = "balance: priority, retry: {attempts: 2, on: [connect, timeout, 5xx, 429]}"
PRICE = "price: {input: 2.5, output: 10}"


def steady() -> str:
    """What keeps the faults of one test from telling in the next one."""
    return ", breaker: {failures: 0}" if "breaker" in fields.Model.__struct_fields__ else ""


class World:
    """The node and the ports of its upstreams: `a` serves, `b` stands in, `narrow` has one connection."""

    def __init__(self, node: Node, ports: dict[str, int]) -> None:
        self.node = node
        self.ports = ports

    def upstream(self, scripts: Any, place: str = "a") -> ScriptedUpstream:
        """An upstream for the time of an `async with`."""
        return ScriptedUpstream(scripts, port=self.ports[place])


def config(ports: dict[str, int]) -> str:
    """The node's config."""
    lines = ["providers:"]
    for tongue in TONGUES:
        for place, port in ports.items():
            more = ", max_connections: 1, queue: 4" if place == "narrow" else ""
            url = f'base_url: "http://127.0.0.1:{port}{tongue.base}", api_key: "{CREDENTIAL}"{more}'
            lines.append(f"  {tongue.name}_{place}: {{kind: {tongue.kind}, {url}}}")
    lines.append("models:")
    for name in (tongue.name for tongue in TONGUES):
        a, b, narrow, dark = (f"{{provider: {name}_{place}, model: m, {PRICE}" for place in ports)
        spare = f"{b}, priority: 2}}"
        lines += [
            f"  {name}: {{targets: [{a}}}], {QUICK}{steady()}}}",
            f"  {name}-two: {{targets: [{a}}}, {spare}], {RETRY}, {QUICK}{steady()}}}",
            f"  {name}-frail: {{targets: [{a}}}, {spare}], {RETRY}, {QUICK}, breaker: {{failures: 5, open: 1s}}}}",
            f"  {name}-short: {{targets: [{a}}}], {SHORT}{steady()}}}",
            f"  {name}-patient: {{targets: [{a}}}, {spare}], {RETRY}, {PATIENT}{steady()}}}",
            f"  {name}-narrow: {{targets: [{narrow}}}], {PATIENT}{steady()}}}",
            f"  {name}-tight: {{targets: [{narrow}}}], {SHORT}{steady()}}}",
            f"  {name}-dark: {{targets: [{dark}}}], {QUICK}{steady()}}}",
            f"  {name}-dark-two: {{targets: [{dark}}}, {spare}], {RETRY}, {QUICK}{steady()}}}",
            f"  {name}-dark-patient: {{targets: [{dark}}}], timeout: {{connect: 4s}}{steady()}}}",
        ]
    return "\n".join([
        *lines,
        "keys:",
        f'  - {{name: main, secret: "{KEY}"}}',
        f'  - {{name: one, secret: "{ONE_KEY}", limits: {{concurrent: 1}}}}',
        "bounds: {heartbeat: 300ms, send_timeout: 2s}",
        "records: {segment: 1MiB}",
        "",
    ])  # fmt: skip


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        ports = {place: stack.enter_context(reserved_port()) for place in ("a", "b", "narrow")}
        ports["dark"] = stack.enter_context(full_backlog())
        node = start_node(tmp_path_factory.mktemp("faults"), config(ports), key=KEY)
        try:
            yield World(node, ports)
        finally:
            code = node.stop()
        assert code == 0, node.stderr()
        assert not node.log("internal_error"), node.log("internal_error")
