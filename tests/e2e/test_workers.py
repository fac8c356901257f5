"""Workers that are killed under load: only their own calls in flight fail, and the place is filled again at once."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.support.gateway import Mock, Node, node, start_node, unique, until
from tests.support.rawclient import RawReply, call, post

KEY = "fgw-workers-0123456789abcdef"
CLIENTS = 8
FULL_STRENGTH_S = 5.0


def config(mock: Mock) -> str:
    return f"""
providers: {{mock: {{kind: openai_compatible, base_url: "{mock.url}/v1"}}}}
models: {{mock-small: {{targets: [{{provider: mock, model: mock-small}}]}}}}
keys: [{{name: one, secret: {KEY}}}]
"""


class Sample(NamedTuple):
    """One call on a connection of its own, and what became of it."""

    label: str
    began: float
    ended: float
    reply: RawReply

    @property
    def good(self) -> bool:
        return self.reply.ending == "whole" and self.reply.status == 200


async def load(gateway: Node, stop: asyncio.Event) -> list[Sample]:
    samples: list[Sample] = []

    async def client() -> None:
        while not stop.is_set():
            label, began = unique("w"), time.monotonic()
            request = post(
                {"model": "mock-small", "messages": [{"role": "user", "content": "hi"}]},
                authorization=f"Bearer {KEY}", x_request_id=label,
            )  # fmt: skip
            try:
                reply = await call(gateway.port, request, 10.0)
            except ConnectionError:
                reply = RawReply(b"", "reset")
            samples.append(Sample(label, began, time.monotonic(), reply))
            await asyncio.sleep(0.002)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return samples


async def full_strength(gateway: Node, without: int) -> float:
    """Seconds until two workers are ready, none of them the one that was killed."""
    began = time.monotonic()
    async with asyncio.timeout(4 * FULL_STRENGTH_S):
        while without in (pids := gateway.workers) or len(pids) < 2:
            await asyncio.sleep(0.02)
    return time.monotonic() - began


async def test_f28_ten_kills_under_load(tmp_path: Path, spare: Callable[..., Mock]) -> None:
    """The third and fourth strike the same place within three seconds."""
    mock = spare("--latency", "20")
    with node(tmp_path, config(mock), workers=2) as gateway:
        stop, kills, rng = asyncio.Event(), [], random.Random(3)
        running = asyncio.create_task(load(gateway, stop))
        await asyncio.sleep(0.3)
        for turn in range(10):
            victim = gateway.workers[0] if turn in (2, 3) else rng.choice(gateway.workers)
            kills.append(time.monotonic())
            os.kill(victim, signal.SIGKILL)
            assert await full_strength(gateway, victim) < FULL_STRENGTH_S
            await asyncio.sleep(0.2)
        assert kills[3] - kills[2] < 3.0
        stop.set()
        samples = await running
        assert_only_calls_in_flight_failed(samples, kills)
        await assert_records(gateway, samples)
        assert gateway.metrics()["fastgw_worker_restarts_total"] == 10
        assert len(gateway.workers) == 2


def assert_only_calls_in_flight_failed(samples: list[Sample], kills: list[float]) -> None:
    failed = [sample for sample in samples if not sample.good]
    assert len(samples) > 300
    assert 0 < len(failed) <= len(kills) * CLIENTS
    for sample in failed:
        # Nothing wrong was answered, the connection broke; and it broke because of a kill.
        assert sample.reply.raw == b"", sample
        assert any(sample.began <= kill + 0.1 and kill <= sample.ended for kill in kills), (sample, kills)
        assert sample.ended - sample.began < 2.0


async def assert_records(gateway: Node, samples: list[Sample]) -> None:
    """Every call that was answered has its record, once; what a killed worker wrote is not lost."""
    good = {sample.label for sample in samples if sample.good}
    async with asyncio.timeout(10):
        while not good <= {row["label"] for row in gateway.records()}:
            await asyncio.sleep(0.05)
    rows = gateway.records()
    labels = [row["label"] for row in rows if row["error"] != "worker_died"]
    assert len(labels) == len(set(labels))
    assert set(labels) <= {sample.label for sample in samples}
    # Whose worker died before it wrote the record has one all the same, without the label, which died with it.
    died = [row for row in rows if row["error"] == "worker_died"]
    assert len({row["id"] for row in rows}) == len(rows)
    assert len(died) <= sum(not sample.good for sample in samples)


async def test_workers_end_with_their_supervisor(tmp_path: Path, spare: Callable[..., Mock]) -> None:
    """kill -9 of the supervisor leaves nobody behind on the port, and the data directory can be used again."""
    mock = spare()
    gateway = start_node(tmp_path, config(mock), workers=2)
    pids = gateway.workers
    assert (await one(gateway)).status == 200
    gateway.signal(signal.SIGKILL)
    gateway.process.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 15.0, "the workers to end")
    with node(tmp_path, config(mock), workers=2) as again:
        assert (await one(again)).status == 200
        assert len(again.records()) == 2


async def one(gateway: Node) -> RawReply:
    request = post(
        {"model": "mock-small", "messages": [{"role": "user", "content": "hi"}]}, authorization=f"Bearer {KEY}"
    )
    return await call(gateway.port, request)


async def test_a_worker_told_to_end_finishes_its_calls_and_is_replaced(
    tmp_path: Path, spare: Callable[..., Mock]
) -> None:
    """SIGTERM to a worker is no kill: what it serves ends well while its successor takes the new calls."""
    mock = spare("--latency", "600")
    with node(tmp_path, config(mock), workers=1) as gateway:
        (old,) = gateway.workers
        running = asyncio.create_task(one(gateway))
        await asyncio.sleep(0.25)
        os.kill(old, signal.SIGTERM)
        assert (await running).status == 200
        async with asyncio.timeout(10):
            while old in (pids := gateway.workers) or not pids:
                await asyncio.sleep(0.02)
        assert (await one(gateway)).status == 200
