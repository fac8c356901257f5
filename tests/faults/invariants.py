"""What holds under every fault, whatever else a test asserts of it.

Exactly one record a call, nobody else's words in an answer, nothing hangs, health answers all the while, and when it is
over the workers hold no more sockets than before. `fault` is put around the faulty upstreams and asserts all of it.
"""

import asyncio
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.faults.tongues import Tongue
from tests.support.gateway import Node, unique
from tests.support.rawclient import RawReply, call

HEALTH_S = 0.5
CANARY = re.compile(rb"canary-\d+-\d+")


@dataclass(frozen=True)
class Asked:
    """One call: its label, which were also its words, its answer, and how long that took."""

    label: str
    reply: RawReply
    seconds: float


async def eventually(check: Callable[[], Any], seconds: float = 5.0, what: str = "") -> Any:
    """The first true result of `check`; AssertionError when there is none in so many seconds."""
    deadline = time.monotonic() + seconds
    while not (result := check()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or check}"
        await asyncio.sleep(0.005)
    return result


def sockets(pids: Iterable[int]) -> int:
    """Sockets these processes hold."""
    found = 0
    for pid in pids:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                found += os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
            except FileNotFoundError:
                continue
    return found


class Watched:
    """The calls of a test, and what is asserted of all of them."""

    def __init__(self, node: Node, key: str) -> None:
        self.node, self.key = node, key
        self.labels: list[str] = []
        self.health: list[float] = []

    def label(self) -> str:
        """The label of a call that the test sends by itself; its record is counted too."""
        self.labels.append(unique("canary"))
        return self.labels[-1]

    async def ask(
        self, tongue: Tongue, model: str, *, stream: bool = False, key: str = "", timeout: float = 10.0
    ) -> Asked:
        """One call on a connection of its own. It must end, and hold nobody else's words."""
        label, began = self.label(), time.monotonic()
        got = await call(self.node.port, tongue.ask(model, label, key or self.key, stream=stream), timeout)
        self.assert_own(label, got.raw)
        assert got.ending != "timeout", (label, model, got.raw[:300])
        return Asked(label, got, time.monotonic() - began)

    async def many(self, asks: Iterable[tuple[Tongue, bool]], model: str, **more: Any) -> list[Asked]:
        """Several at once, each of `{tongue}{model}`."""
        return list(
            await asyncio.gather(*(self.ask(t, f"{t.name}{model}", stream=stream, **more) for t, stream in asks))
        )

    def assert_own(self, label: str, raw: bytes) -> None:
        """Of all labels only its own is in an answer."""
        assert set(CANARY.findall(raw)) <= {label.encode()}, (label, raw)

    async def row(self, label: str) -> dict[str, Any]:
        """The record of a call, once it is there."""
        rows = await eventually(lambda: self.node.records(label), 5.0, f"a record of {label}")
        assert len(rows) == 1, rows
        return dict(rows[0])

    def poll(self, over: threading.Event) -> None:
        """Ask for the node's health again and again; in a thread, since the test itself may keep its loop busy."""
        while not over.wait(0.05):
            began = time.monotonic()
            try:
                status = self.node.get("/health/live")[0]
            except OSError:
                status = 0
            self.health.append(time.monotonic() - began if status == 200 else float("inf"))

    async def assert_recorded(self) -> None:
        """Exactly one record of every call."""
        wanted = set(self.labels)

        def told() -> list[str]:
            return [row["label"] for row in self.node.records() if row["label"] in wanted]

        await eventually(lambda: len(told()) >= len(wanted), 8.0, "the records")
        assert sorted(told()) == sorted(wanted)


@asynccontextmanager
async def fault(node: Node, key: str) -> AsyncIterator[Watched]:
    """A fault, from before it begins until after it is over; its upstreams and connections must be closed inside."""
    watched, pids, over = Watched(node, key), node.workers, threading.Event()
    before = sockets(pids)
    polling = threading.Thread(target=watched.poll, args=(over,), daemon=True)
    polling.start()
    try:
        yield watched
    finally:
        over.set()
        await asyncio.to_thread(polling.join)
    assert max(watched.health, default=0.0) < HEALTH_S, watched.health
    await watched.assert_recorded()
    await eventually(lambda: sockets(pids) <= before, 8.0, f"{before} sockets as before, now {sockets(pids)}")
    node.assert_well()
