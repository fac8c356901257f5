"""Every call's record reaches the exports exactly once, and everything adds up, whatever happens to the recorder."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from fastgw.recorder.recorder import recorded
from fastgw.recorder.verify import verify
from tests.support.gateway import Mock, Node, node, start_node, unique, until
from tests.support.rawclient import call, post

KEY = "fgw-records-0123456789abcdef"
KILLS = int(os.environ.get("FASTGW_STRESS_KILLS", "8"))


def config(mock: Mock) -> str:
    price = "price: {input: 2.5, output: 10}"
    return f"""
providers: {{mock: {{kind: openai_compatible, base_url: "{mock.url}/v1"}}}}
models: {{mock-small: {{targets: [{{provider: mock, model: mock-small, {price}}}]}}}}
keys: [{{name: one, secret: {KEY}}}]
records: {{segment: 64KiB}}
"""


async def load(gateway: Node, stop: asyncio.Event, lost: list[str] | None = None, clients: int = 4) -> list[str]:
    """The labels of the calls that were answered well, which all are as long as no worker dies."""
    labels: list[str] = []
    lost = [] if lost is None else lost

    async def client() -> None:
        while not stop.is_set():
            label = unique("r")
            request = post(
                {"model": "mock-small", "messages": [{"role": "user", "content": "hi"}]},
                authorization=f"Bearer {KEY}", x_request_id=label,
            )  # fmt: skip
            try:
                reply = await call(gateway.port, request, 10.0)
            except ConnectionError:
                lost.append(label)
                continue
            if (reply.ending, reply.status) == ("whole", 200):
                labels.append(label)
            else:
                lost.append(label)

    await asyncio.gather(*(client() for _ in range(clients)))
    return labels


def exported(gateway: Node) -> Counter[str]:
    """Labels in the files of the exports themselves, up to their committed sizes, as often as they are there."""
    found: Counter[str] = Counter()
    for name, export in recorded(gateway.data_dir).exports.items():
        text = (gateway.data_dir / "records" / name).read_bytes()[: export.size]
        found.update(json.loads(line)["label"] for line in text.splitlines())
    return found


def fastgw(gateway: Node, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "fastgw", *arguments, "--data-dir", str(gateway.data_dir)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


async def kill_recorders(gateway: Node, kills: int, rng: random.Random) -> None:
    killed: set[int] = set()
    async with asyncio.timeout(120):
        while len(killed) < kills:
            pid = gateway.status()["recorder"]["pid"]
            if pid and pid not in killed:
                await asyncio.sleep(rng.random() * 0.5)
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            await asyncio.sleep(0.02)


async def test_deaths_of_the_recorder_lose_and_double_nothing(tmp_path: Path, spare: Callable[..., Mock]) -> None:
    mock = spare("--latency", "5")
    with node(tmp_path, config(mock), workers=2) as gateway:
        stop, lost = asyncio.Event(), []
        running = asyncio.create_task(load(gateway, stop, lost))
        await kill_recorders(gateway, KILLS, random.Random(5))
        live = await asyncio.to_thread(verify, gateway.data_dir)
        stop.set()
        labels = await running
        assert not live.differences, live
        assert not live.problems, live
        assert (len(labels) > 300, lost) == (True, [])
        assert gateway.metrics()["fastgw_records_shed_total"] == 0
        until(lambda: exported(gateway).total() >= len(labels), 15.0, "the recorder to catch up")
        assert exported(gateway) == Counter(labels)
        assert Counter(row["label"] for row in gateway.records()) == Counter(labels)
        done = fastgw(gateway, "records", "verify")
        assert done.returncode == 0, done.stdout + done.stderr
        status = gateway.status()["recorder"]
        assert (status["restarts"] >= KILLS, status["damaged"], status["problem"]) == (True, 0, None)
        until(lambda: gateway.metrics()["fastgw_recorder_records"] == len(labels), 10.0, "the gauge")
        assert gateway.metrics()["fastgw_recorder_behind_seconds"] == 0
        gateway.assert_well()
    assert exported(gateway) == Counter(labels)
    assert fastgw(gateway, "records", "verify").returncode == 0


async def test_f28_f40_workers_that_die_under_load_leave_sums_that_agree(
    tmp_path: Path, spare: Callable[..., Mock]
) -> None:
    with node(tmp_path, config(spare("--latency", "5")), workers=2) as gateway:
        stop, rng = asyncio.Event(), random.Random(7)
        running = asyncio.create_task(load(gateway, stop))
        for _ in range(4):
            await asyncio.sleep(0.5)
            os.kill(rng.choice(gateway.workers or [gateway.status()["recorder"]["pid"]]), signal.SIGKILL)
        await asyncio.sleep(0.5)
        stop.set()
        labels = await running

        def adds_up() -> bool:
            return fastgw(gateway, "records", "verify").returncode == 0

        until(adds_up, 20.0, "sums that agree")
        found = Counter(row["label"] for row in gateway.records())
        assert [label for label in labels if found[label] != 1] == []
        ids = Counter(row["id"] for row in gateway.records())
        assert max(ids.values()) == 1
    assert adds_up()


async def test_the_recorder_takes_all_before_the_node_ends_and_goes_on_after_a_restart(
    tmp_path: Path, spare: Callable[..., Mock]
) -> None:
    labels: list[str] = []
    for _ in range(2):
        gateway = start_node(tmp_path, config(spare("--latency", "5")), workers=2)
        stop = asyncio.Event()
        running = asyncio.create_task(load(gateway, stop))
        await asyncio.sleep(0.6)
        stop.set()
        labels += await running
        assert gateway.metrics()["fastgw_records_shed_total"] == 0
        assert gateway.stop() == 0, gateway.stderr()
        assert exported(gateway) == Counter(labels), gateway.stderr()[-5000:]
    assert Counter(row["label"] for row in gateway.records()) == Counter(labels)
    last = fastgw(gateway, "records", "tail", "-n", "7")
    assert [json.loads(line)["label"] in labels for line in last.stdout.splitlines()] == [True] * 7
    done = fastgw(gateway, "records", "verify")
    assert done.returncode == 0, done.stdout
    assert str(len(labels)) in done.stdout

    file = next((gateway.data_dir / "records").glob("*.jsonl"))
    text = file.read_bytes()
    at = text.index(b'"output_tokens":') + len(b'"output_tokens":')
    file.write_bytes(text[:at] + (b"9" if text[at : at + 1] != b"9" else b"8") + text[at + 1 :])
    done = fastgw(gateway, "records", "verify")
    assert done.returncode == 1
    assert f"differs: {file.name}" in done.stdout


async def test_f40_with_the_node_killed_nothing_is_lost_either(tmp_path: Path, spare: Callable[..., Mock]) -> None:
    labels: list[str] = []
    for _ in range(3):
        gateway = start_node(tmp_path, config(spare("--latency", "5")), workers=2)
        stop = asyncio.Event()
        running = asyncio.create_task(load(gateway, stop))
        await asyncio.sleep(0.5)
        stop.set()
        labels += await running
        victims = [gateway.process.popen.pid, *gateway.workers, gateway.status()["recorder"]["pid"]]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        gateway.process.wait()
    assert Counter(row["label"] for row in gateway.records()) == Counter(labels)
    gateway = start_node(tmp_path, config(spare("--latency", "5")), workers=2)
    until(lambda: exported(gateway) == Counter(labels), 10.0, "the recorder to take what was left")
    assert fastgw(gateway, "records", "verify").returncode == 0
    assert gateway.stop() == 0
