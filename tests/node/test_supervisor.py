"""Whole nodes, in real processes: how they start, stay alive, change and end."""

import contextlib
import json
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.node.support import (
    SECRET,
    NodeProcess,
    Upstream,
    alive,
    config_text,
    eventually,
    stream,
)

Start = Callable[..., NodeProcess]
pytestmark = pytest.mark.timeout(120)


def write(path: Path, text: str) -> str:
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.replace(path)
    return str(path)


def sample(node: NodeProcess, name: str, **labels: str) -> float:
    status, body = node.console("/metrics")
    assert status == 200
    for family in text_string_to_metric_families(body.decode()):
        for one in family.samples:
            if one.name == name and labels.items() <= one.labels.items():
                return one.value
    raise AssertionError(f"no {name}")


def pid_of(node: NodeProcess, index: int) -> int | None:
    worker = node.status()["workers"][index]
    return worker["pid"] if worker["state"] == "ready" else None


def revisions(node: NodeProcess) -> set[int]:
    return {worker["revision"] for worker in node.status()["workers"]}


def test_demo_answers_and_the_key_is_never_printed(start: Start) -> None:
    node = start(auto=True).ready()
    key = (node.data_dir / "demo.key").read_text().strip()
    eventually(lambda: node.lines("child_ready"))
    status, body = node.call(
        "/v1/chat/completions", {"model": "mock-small", "messages": [{"role": "user", "content": "hi"}]}, key
    )
    assert (status, body["object"]) == (200, "chat.completion")
    node.signal(signal.SIGTERM)
    assert node.wait() == 0
    node.nothing_left()
    text = node.log.read_text()
    assert key not in text
    assert (node.data_dir / "admin.key").read_text().strip() not in text
    assert "curl http://127.0.0.1:" in text
    assert not (node.data_dir / "status.json").exists()


def test_private_files(start: Start) -> None:
    node = start(demo=True, workers=1).ready()
    assert stat.S_IMODE(node.data_dir.stat().st_mode) == 0o700
    loose = [path.name for path in node.data_dir.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert loose == []


def test_killed_worker_is_replaced_again_and_again(start: Start, tmp_path: Path, upstream: Upstream) -> None:
    node = start(config=write(tmp_path / "c.yaml", config_text(upstream.url))).ready()
    other = pid_of(node, 1)
    failures: list[Exception] = []
    done = threading.Event()

    def keep_asking() -> None:
        while not done.is_set():
            try:
                assert node.call()[0] == 200
            except (ConnectionResetError, ConnectionRefusedError) as error:
                failures.append(error)

    asker = threading.Thread(target=keep_asking)
    asker.start()
    try:
        # Twice within three seconds: what granian's own supervisor takes for a crash loop.
        for _ in range(2):
            before = pid_of(node, 0)
            assert before
            os.kill(before, signal.SIGKILL)
            eventually(lambda before=before: pid_of(node, 0) not in (None, before), what="a new worker")
    finally:
        done.set()
        asker.join()
    assert pid_of(node, 1) == other
    assert node.status()["workers"][0]["restarts"] == 2
    # Only what the dead worker held in its hands may have failed.
    assert len(failures) <= 2
    ended = eventually(lambda: len(found := node.lines("child_ended")) == 2 and found)
    assert [line["how"] for line in ended] == ["killed by SIGKILL"] * 2
    assert sample(node, "fastgw_worker_restarts_total") == 2


def test_no_orphans_when_the_supervisor_is_killed(start: Start, tmp_path: Path, upstream: Upstream) -> None:
    node = start(config=write(tmp_path / "c.yaml", config_text(upstream.url))).ready()
    with stream(node):
        node.signal(signal.SIGKILL)
        assert node.wait() == -signal.SIGKILL
        # Five seconds are the promise: three for the stream, and a little for what comes after.
        node.nothing_left(seconds=10)
    again = start(config=str(tmp_path / "c.yaml")).ready()
    assert again.call()[0] == 200


def test_port_taken(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        node = start(demo=True, port=port)
        assert node.wait() == 3
        assert f"port {port}: taken by" in node.log.read_text()
        assert f"(pid {os.getpid()})" in node.log.read_text()
        assert start("other", demo=True, console_port=port).wait() == 3
    assert not node.pids()


def test_second_instance(start: Start) -> None:
    first = start(demo=True, workers=1).ready()
    second = NodeProcess(first.data_dir, demo=True)
    # The log of the first was truncated by that; the second one's is what counts now.
    assert second.wait() == 4
    assert f"(pid {first.pid})" in second.log.read_text()
    assert first.process.poll() is None


def test_unsafe_data_directory(start: Start, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    node = start(demo=True)
    assert node.wait() == 4
    assert "chmod 700" in node.log.read_text()


def test_wrong_config_tells_every_error(start: Start, tmp_path: Path) -> None:
    text = config_text("http://127.0.0.1:1/v1").replace("provider: local", "provider: nobody")
    text = text.replace("kind: openai_compatible", "kind: nonsense")
    node = start(config=write(tmp_path / "c.yaml", text))
    assert node.wait() == 1
    log = node.log.read_text()
    assert "providers.local.kind" in log
    assert "models.fast.targets[0].provider" in log


def test_nothing_to_serve(start: Start, tmp_path: Path) -> None:
    assert start().wait() == 2
    assert start("other", config=write(tmp_path / "c.yaml", "providers: {}\n")).wait() == 2


def test_too_many_workers(start: Start) -> None:
    node = start(demo=True, workers=1000)
    assert node.wait() == 2
    assert "--workers" in node.log.read_text()


def test_demo_stays_on_this_machine(start: Start) -> None:
    node = start(demo=True, hosts=("0.0.0.0",))
    assert node.wait() == 2
    assert "0.0.0.0" in node.log.read_text()


@pytest.mark.parametrize("moment", ["lock", "plans", "child", "children"])
def test_sigterm_while_starting(start: Start, moment: str) -> None:
    node = start(demo=True)

    def reached() -> bool:
        children = node.pids()
        if moment == "child":
            return len(children) >= 1
        if moment == "children":
            return len(children) >= 4
        return (node.data_dir / moment).exists()

    eventually(reached)
    node.signal(signal.SIGTERM)
    assert node.wait(10) == 0, node.log.read_text()
    node.nothing_left(seconds=1)
    assert not node.lines("child_killed")


def test_sigterm_lets_a_stream_finish(start: Start, tmp_path: Path, upstream: Upstream) -> None:
    node = start(config=write(tmp_path / "c.yaml", config_text(upstream.url)), drain=20.0).ready()
    with stream(node) as answer:
        node.signal(signal.SIGTERM)
        eventually(lambda: refused(node.address()), what="newcomers refused")
        assert node.process.poll() is None
        eventually(lambda: node.status()["draining"])
        upstream.finish.set()
        rest = answer.read()
    assert rest.rstrip().endswith(b"data: [DONE]")
    assert node.wait(15) == 0
    node.nothing_left(seconds=1)


def test_drain_has_an_end(start: Start, tmp_path: Path, upstream: Upstream) -> None:
    node = start(config=write(tmp_path / "c.yaml", config_text(upstream.url)), drain=0.5).ready()
    with stream(node) as answer:
        node.signal(signal.SIGTERM)
        rest = answer.read()
    assert b'"error"' in rest
    assert b"[DONE]" not in rest
    assert node.wait(10) == 0
    node.nothing_left(seconds=1)


def test_second_signal_ends_at_once(start: Start, tmp_path: Path, upstream: Upstream) -> None:
    node = start(config=write(tmp_path / "c.yaml", config_text(upstream.url)), drain=60.0).ready()
    with stream(node):
        node.signal(signal.SIGTERM)
        eventually(lambda: node.lines("draining"))
        node.signal(signal.SIGTERM)
        assert node.wait(5) == 0
    node.nothing_left(seconds=1)


def test_worker_told_to_end_by_somebody_else_is_replaced_at_once(
    start: Start, tmp_path: Path, upstream: Upstream
) -> None:
    node = start(config=write(tmp_path / "c.yaml", config_text(upstream.url)), workers=1, drain=30.0).ready()
    with stream(node) as answer:
        before = pid_of(node, 0)
        assert before
        os.kill(before, signal.SIGTERM)
        eventually(lambda: pid_of(node, 0) not in (None, before))
        assert alive(before)
        assert node.call()[0] == 200
        upstream.finish.set()
        assert answer.read().rstrip().endswith(b"data: [DONE]")
    eventually(lambda: not alive(before))


def test_sighup_and_file_change(start: Start, tmp_path: Path, upstream: Upstream) -> None:
    path = tmp_path / "c.yaml"
    node = start(config=write(path, config_text(upstream.url))).ready()
    pids = sorted(node.pids())
    assert revisions(node) == {1}
    # Unchanged content, by signal and by a new file: no new revision.
    node.signal(signal.SIGHUP)
    eventually(lambda: len(node.lines("config_reloaded")) == 1)
    write(path, config_text(upstream.url))
    eventually(lambda: len(node.lines("config_reloaded")) == 2)
    assert node.status()["revision"] == 1
    write(path, config_text(upstream.url, models=("fast", "second")))
    eventually(lambda: revisions(node) == {2})
    # Written in place this time.
    path.write_text(config_text(upstream.url, models=("fast", "third")))
    eventually(lambda: revisions(node) == {3})
    _, models = node.call("/v1/models", key=SECRET)
    assert {row["id"] for row in models["data"]} == {"fast", "third"}
    for name in ("fourth", "fifth"):
        wanted = node.status()["revision"] + 1
        write(path, config_text(upstream.url, models=("fast", name)))
        eventually(lambda wanted=wanted: revisions(node) == {wanted})
    assert sorted(one.name for one in (node.data_dir / "plans").iterdir()) == ["plan-4.bin", "plan-5.bin"]
    assert sorted(node.pids()) == pids
    node.signal(signal.SIGTERM)
    assert node.wait() == 0
    again = start(config=str(path)).ready()
    assert again.status()["revision"] == 5  # the same words after a restart are the same revision


def test_a_worker_that_starts_while_a_plan_is_published_gets_it(
    start: Start, tmp_path: Path, upstream: Upstream
) -> None:
    path = tmp_path / "c.yaml"
    node = start(config=write(path, config_text(upstream.url)), workers=1).ready()
    for revision in (2, 3, 4):
        before = pid_of(node, 0)
        assert before
        os.kill(before, signal.SIGKILL)
        write(path, config_text(upstream.url, models=("fast", f"m{revision}")))
        node.signal(signal.SIGHUP)
        eventually(lambda before=before: pid_of(node, 0) not in (None, before))
        eventually(lambda revision=revision: revisions(node) == {revision})


def test_stored_keys_are_watched(start: Start, tmp_path: Path, upstream: Upstream) -> None:
    node = start(config=write(tmp_path / "c.yaml", config_text(upstream.url)), workers=1).ready()
    row = {"name": "late", "hash": "0" * 64}
    (node.data_dir / "keys.jsonl").write_text(json.dumps(row) + "\n")
    eventually(lambda: revisions(node) == {2})


def test_config_map(start: Start, tmp_path: Path, upstream: Upstream) -> None:
    """Kubernetes swaps a link to the directory: the file's own name and link never change."""
    volume = tmp_path / "volume"
    for name, models in (("..1", ("fast",)), ("..2", ("fast", "second"))):
        (volume / name).mkdir(parents=True)
        (volume / name / "fastgw.yaml").write_text(config_text(upstream.url, models=models))
    (volume / "..data").symlink_to("..1")
    (volume / "fastgw.yaml").symlink_to("..data/fastgw.yaml")
    node = start(config=str(volume / "fastgw.yaml"), workers=1).ready()
    (volume / "..data_tmp").symlink_to("..2")
    (volume / "..data_tmp").rename(volume / "..data")
    eventually(lambda: revisions(node) == {2})


@pytest.mark.parametrize("kind", ["nonsense", "half", "gone"])
def test_broken_file_changes_nothing(start: Start, tmp_path: Path, upstream: Upstream, kind: str) -> None:
    path = tmp_path / "c.yaml"
    good = config_text(upstream.url)
    node = start(config=write(path, good), workers=1).ready()
    if kind == "gone":
        path.unlink()
    else:
        path.write_text("providers: [" if kind == "nonsense" else good[: len(good) // 2])
    eventually(lambda: node.status()["config_error"], what="the error in the status")
    assert revisions(node) == {1}
    assert node.call("/v1/models", key=SECRET)[0] == 200
    assert eventually(lambda: node.lines("config_refused"))[0]["level"] == "error"
    assert sample(node, "fastgw_config_reloads_total", result="failed") >= 1
    write(path, config_text(upstream.url, models=("fast", "second")))
    eventually(lambda: revisions(node) == {2} and node.status()["config_error"] is None)


def test_unix_socket_and_ipv6(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as left_behind:
        left_behind.bind(str(path))
    node = start(demo=True, hosts=("127.0.0.1", "::1"), unix=str(path), workers=1).ready()
    addresses = node.lines("ready")[0]["listeners"]
    assert addresses[1].startswith("http://[::1]:")
    assert addresses[2] == f"unix:{path}"
    places = [node.address(0), node.address(1), str(path)]
    for place in places:
        family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        with socket.socket(family) as end:
            end.settimeout(5)
            end.connect(place)
            end.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert end.recv(64).startswith(b"HTTP/1.1 200"), place
    node.signal(signal.SIGTERM)
    assert node.wait() == 0
    assert not path.exists()


def test_log_level_reaches_every_process(start: Start, tmp_path: Path, upstream: Upstream) -> None:
    node = start(config=write(tmp_path / "c.yaml", config_text(upstream.url)), workers=1).ready()
    node.call("/v1/models", key=SECRET)
    eventually(lambda: node.lines("call"))
    assert node.console("/log-level", {"level": "error"})[0] == 200

    def silent() -> bool:
        before = len(node.lines("call"))
        node.call("/v1/models", key=SECRET)
        threading.Event().wait(0.1)
        return len(node.lines("call")) == before

    eventually(silent)
    # A worker that comes later is told too.
    before = pid_of(node, 0)
    assert before
    os.kill(before, signal.SIGKILL)
    eventually(lambda: pid_of(node, 0) not in (None, before))
    eventually(silent)


def refused(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=5).close()
    except ConnectionError:
        return True
    return False
