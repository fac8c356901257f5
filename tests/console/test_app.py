"""The console's routes, on a real table, with the server's side of a request played by the test."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fastgw._core import table as shared
from fastgw.console.app import Console
from fastgw.state.table import open_table
from fastgw.telemetry.metrics import METRICS, SeriesRegistry, series_name

KEY = "fgw-" + "k" * 32
AUTH = (b"authorization", f"Bearer {KEY}".encode())
HOST = (b"host", b"localhost:4001")

STATUS: dict[str, Any] = {
    "pid": 1, "version": "0", "started": 1000.5, "ready": True, "draining": False, "demo": False, "revision": 7,
    "config_path": "c.yaml", "config_error": None, "listeners": [], "console": [],
    "workers": [
        {"index": 0, "pid": 5, "lane": 1, "state": "ready", "revision": 7, "started": 1.0, "restarts": 0,
         "live": 2, "idle": 3, "busy": 1},
        {"index": 1, "pid": None, "lane": None, "state": "starting", "revision": 0, "started": None, "restarts": 4,
         "live": 0, "idle": 0, "busy": 0},
    ],
    "spool": {"bytes": 4096, "segments": 2, "dropped": 0, "problem": None}, "series": "", "data_dir": "",
    "recorder": {"pid": 5, "restarts": 0, "records": 7, "damaged": 0, "behind_s": 0, "problem": None},
}  # fmt: skip


class Answer:
    """What came back."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Proto:
    """granian's side of one request."""

    def __init__(self, body: bytes, answer: Answer) -> None:
        self._messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]
        self._answer = answer

    async def receive(self) -> dict[str, Any]:
        return self._messages.pop(0) if self._messages else {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._answer.status, self._answer.headers = message["status"], dict(message["headers"])
        else:
            self._answer.body += message["body"]


Ask = Callable[..., Any]


@pytest.fixture
def levels() -> list[str]:
    return []


@pytest.fixture
def table(tmp_path: Path) -> Iterator[shared.Table]:
    table = open_table(tmp_path, create=True)
    yield table
    table.close()


@pytest.fixture
def registry(tmp_path: Path, table: shared.Table) -> SeriesRegistry:
    registry = SeriesRegistry(table.counters)
    (tmp_path / "series.json").write_bytes(registry.dump())
    (tmp_path / "status.json").write_bytes(msgspec.json.encode(STATUS))
    return registry


@pytest.fixture
def ask(tmp_path: Path, table: shared.Table, registry: SeriesRegistry, levels: list[str]) -> Ask:
    def take(level: str) -> bool:
        levels.append(level)
        return True

    console = Console(data_dir=tmp_path, table=table, admin_key=KEY, hosts=["gw.example"], set_level=take)

    async def one(path: str, *headers: tuple[bytes, bytes], method: str = "GET", body: bytes = b"") -> Answer:
        answer = Answer()
        scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
        await console(scope, Proto(body, answer))
        assert int(answer.headers[b"content-length"]) == len(answer.body) or method == "HEAD"
        return answer

    return one


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost", 200), (b"LOCALHOST:4001", 200), (b"127.0.0.1:4001", 200), (b"[::1]:4001", 200), (b"[::1]", 200),
        (b"10.1.2.3:9", 200), (b"gw.example:4001", 200), (b"evil.example", 403), (b"localhost.evil.example", 403),
        (b"127.0.0.1.evil.example", 403), (b"gw.example.", 403), (b"", 400), (b"a b", 400), (b"localhost:x", 400),
        (b"[::1", 400), (b"localhost@evil.example", 400), (b"evil.example/localhost", 400),
    ],
)  # fmt: skip
async def test_host(ask: Ask, host: bytes, status: int) -> None:
    for path in ("/", "/health/live"):
        assert (await ask(path, (b"host", host))).status == status
    assert (await ask("/status.json", (b"host", host), AUTH)).status == status


async def test_host_missing_or_twice(ask: Ask) -> None:
    assert (await ask("/")).status == 400
    assert (await ask("/", HOST, HOST)).status == 400


@pytest.mark.parametrize("path", ["/status.json", "/metrics", "/log-level"])
@pytest.mark.parametrize(
    "value", [None, b"", b"Bearer", b"Bearer ", b"Bearer wrong", KEY.encode(), b"Basic " + KEY.encode(), b"Bearer \xff"]
)
async def test_the_key_is_asked_for(ask: Ask, path: str, value: bytes | None, levels: list[str]) -> None:
    headers = [HOST] if value is None else [HOST, (b"authorization", value)]
    for method in ("GET", "POST", "HEAD"):
        answer = await ask(path, *headers, method=method, body=b'{"level":"debug"}')
        assert answer.status == 401
        assert answer.headers[b"www-authenticate"].startswith(b"Bearer")
        assert KEY.encode() not in answer.body
    assert (await ask(path, HOST, AUTH, AUTH)).status == 401
    assert levels == []


async def test_status(ask: Ask, registry: SeriesRegistry, table: shared.Table, tmp_path: Path) -> None:
    registry.target("m", "p", "p/m")
    (tmp_path / "series.json").write_bytes(registry.dump())
    lane = table.claim_lane()
    lane.add(registry.series[series_name("fastgw_requests_total", "m", "p", "p/m", "2xx")], 5)
    lane.add(registry.series[series_name("fastgw_requests_total", "none", "none", "none", "2xx")], 1)
    lane.add(registry.series[series_name("fastgw_requests_total", "m", "p", "p/m", "429")], 2)
    answer = await ask("/status.json", HOST, AUTH)
    lane.close()
    assert answer.status == 200
    assert answer.headers[b"cache-control"] == b"no-store"
    found = answer.json
    assert found["requests"] == {"2xx": 6, "4xx": 0, "429": 2, "499": 0, "5xx": 0}
    assert 0 < found["disk"]["free"] <= found["disk"]["total"]
    assert {name: found[name] for name in STATUS} == STATUS


async def test_status_without_a_supervisor(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "status.json").unlink()
    assert "pid" not in (await ask("/status.json", HOST, AUTH)).json
    (tmp_path / "status.json").write_bytes(b'{"pid":')
    assert (await ask("/status.json", HOST, AUTH)).status == 200
    values = parsed((await ask("/metrics", HOST, AUTH)).body)
    assert values["fastgw_ready"] == 0


async def test_metrics(ask: Ask) -> None:
    answer = await ask("/metrics", HOST, AUTH)
    assert answer.status == 200
    assert answer.headers[b"content-type"].startswith(b"text/plain; version=0.0.4")
    values = parsed(answer.body)
    assert values["fastgw_config_revision"] == 7
    assert values["fastgw_workers"] == 1
    assert values["fastgw_ready"] == 1
    assert values["fastgw_requests_in_flight"] == 2
    assert values['fastgw_upstream_connections{state="idle"}'] == 3
    assert values['fastgw_upstream_connections{state="busy"}'] == 1
    assert values["fastgw_spool_bytes"] == 4096
    assert values["fastgw_spool_segments"] == 2
    assert values["fastgw_start_time_seconds"] == 1000.5
    shown = {name.partition("{")[0] for name in values}
    gauges = {name for name, metric in METRICS.items() if metric.kind == "gauge"}
    assert gauges <= shown


async def test_a_broken_series_file_leaves_what_was_known(ask: Ask, tmp_path: Path) -> None:
    before = parsed((await ask("/metrics", HOST, AUTH)).body)
    (tmp_path / "series.json").write_bytes(b"{")
    assert parsed((await ask("/metrics", HOST, AUTH)).body) == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"level":"debug"}', 200), (b'{"level":"loud"}', 400), (b"{}", 400), (b"level=debug", 400), (b"[]", 400),
        (b'{"level":7}', 400), (b"\xff", 400), (b'{"level":"' + b"x" * 2000 + b'"}', 413),
    ],
)  # fmt: skip
async def test_log_level(ask: Ask, levels: list[str], body: bytes, status: int) -> None:
    assert (await ask("/log-level", HOST, AUTH, method="POST", body=body)).status == status
    assert levels == (["debug"] if status == 200 else [])


async def test_methods_and_paths(ask: Ask) -> None:
    assert (await ask("/none", HOST)).status == 404
    wrong = await ask("/", HOST, method="DELETE")
    assert (wrong.status, wrong.headers[b"allow"]) == (405, b"GET")
    assert (await ask("/log-level", HOST, AUTH)).status == 405
    head = await ask("/", HOST, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers[b"content-length"]) > 1000


async def test_page(ask: Ask) -> None:
    answer = await ask("/", HOST)
    assert answer.status == 200
    assert answer.headers[b"content-type"].startswith(b"text/html")
    assert b"default-src 'none'" in answer.headers[b"content-security-policy"]
    assert b"frame-ancestors 'none'" in answer.headers[b"content-security-policy"]
    # Without the key it knows nothing of the node.
    assert b"c.yaml" not in answer.body


def parsed(body: bytes) -> dict[str, float]:
    """Value by series name, as Prometheus' own parser reads it."""
    return {
        one.name + ("{" + ",".join(f'{k}="{v}"' for k, v in one.labels.items()) + "}" if one.labels else ""): one.value
        for family in text_string_to_metric_families(body.decode())
        for one in family.samples
    }
