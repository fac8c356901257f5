"""`python -m tests.soak.run --minutes N --seed S`: everything goes wrong for a long time, and nothing is left of it.

Clients of four dialects, whole and streamed, some of which leave at random, ask a node of two workers whose upstreams
fail in every way at once; meanwhile configs are reloaded (some of them wrong) and one worker's place is killed again
and again. What must hold is in `Soak.judge` and `Soak.settle`; what did not is in the result's `violations`, and the
exit code is 1. The result is JSON, in `--out` and on standard output.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastgw.recorder import verify
from tests.faults.invariants import CANARY
from tests.faults.tongues import TONGUES, Tongue, echo, payloads
from tests.soak import world
from tests.soak.measure import descriptors, quantile, rss, slope
from tests.support.faultproxy import FaultProxy
from tests.support.gateway import Mock, Node, start_node, unique
from tests.support.rawclient import RawReply, call, connect
from tests.support.scripted import Answer, Expect, Hold, ScriptedUpstream

STATUSES = {200, 400, 429, 500, 502, 503, 504, 529}
CLIENTS = 12
HANG_S = world.LONGEST_S + 4.0
SETTLE_S = 20.0
SLOPE_LIMIT = 1024 * 1024
"""Bytes in ten minutes; a run of less than that says nothing of it."""
SLOPE_MINUTES = 10.0
KEPT = 50
SPARE_DESCRIPTORS = 4
"""A plan that calls which failed refer to until the next reload looks for such, a segment that is being closed."""
HEALTH_S = 0.5


class Soak:
    """One run against one node."""

    def __init__(self, node: Node, seed: int, weather: world.Weather, health_s: float = HEALTH_S) -> None:
        self.node, self.weather, self.health_s = node, weather, health_s
        self.rng = random.Random(seed)
        self.statuses: Counter[str] = Counter()
        self.wanted: dict[str, bool] = {}
        """By label: whether there must be a record; without, a kill may have taken its label with it."""
        self.kills: list[float] = []
        self.reloads = self.bad_reloads = 0
        self.health: list[tuple[float, float]] = []
        self.memory: list[tuple[float, float]] = []
        self.found = 0
        self.violations: list[str] = []
        self.over = False

    def violated(self, what: str) -> None:
        """Something that must hold did not."""
        self.found += 1
        if len(self.violations) < KEPT:
            self.violations.append(what)

    # what goes on

    async def client(self) -> None:
        """Ask, and sometimes leave, until it is over."""
        while not self.over:
            tongue, kind, stream = self.rng.choice(TONGUES), self.rng.choice(world.KINDS), self.rng.random() < 0.6
            key = world.ONE_KEY if self.rng.random() < 0.1 else world.KEY
            label, began = unique("canary"), time.monotonic()
            request = tongue.ask(f"{tongue.name}{kind}", label, key, stream=stream)
            try:
                if self.rng.random() < 0.15:
                    await self._leave(request)
                    self.statuses["left"] += 1
                    self.wanted[label] = not self._killed(began)
                    continue
                got = await call(self.node.port, request, HANG_S)
            except ConnectionError as error:
                got = RawReply(b"", repr(error))
            self.judge(label, tongue, kind, stream, began, got)
            await asyncio.sleep(self.rng.random() * 0.01)

    async def _leave(self, request: bytes) -> None:
        async with connect(self.node.port) as connection:
            connection.send(request)
            # Not before it was read: a request that breaks off on its way in is no call.
            await asyncio.sleep(0.15 + self.rng.random() * 0.3)

    async def reload(self) -> None:
        """Configs that differ in a price, and now and then one that is wrong, which changes nothing."""
        good = self.node.config.read_text() if self.node.config else ""
        while not self.over:
            await asyncio.sleep(1.0 + self.rng.random() * 4)
            if self.rng.random() < 0.25:
                self.node.write_config(good + "nonsense: true\n")
                self.bad_reloads += 1
            else:
                self.node.write_config(good.replace("input: 2,", f"input: {self.rng.randrange(1, 9)},"))
                self.reloads += 1
        self.node.write_config(good)

    async def kill(self, every: float) -> None:
        """Worker 0 dies again and again; worker 1 lives, and is what memory is measured of."""
        while not self.over:
            await asyncio.sleep(every * (0.5 + self.rng.random()))
            victim = self.node.status()["workers"][0]
            if victim["state"] == "ready" and not self.over:
                self.kills.append(time.monotonic())
                os.kill(victim["pid"], signal.SIGKILL)

    async def bursts(self) -> None:
        """The odd upstream refuses everything for a while."""
        while not self.over:
            await asyncio.sleep(2 + self.rng.random() * 4)
            self.weather.burst = True
            await asyncio.sleep(self.rng.random() * 2)
            self.weather.burst = False

    async def watch(self, pid: int) -> None:
        """The memory of the worker that lives."""
        while not self.over:
            self.memory.append((time.monotonic(), float(rss(pid))))
            await asyncio.sleep(0.5)

    def poll(self) -> None:
        """The node's health, from a thread of its own."""
        while not self.over:
            began = time.monotonic()
            try:
                status = self.node.get("/health/live")[0]
            except OSError:
                status = 0
            took = time.monotonic() - began
            self.health.append((began, took))
            if (status != 200 or took > self.health_s) and not self._killed(began):
                self.violated(f"health: {status} after {took:.3f} s")
            time.sleep(0.1)

    # what must hold

    def _killed(self, began: float) -> bool:
        """Whether a worker was killed since then, or so shortly before that it may still have been asked."""
        return any(moment > began - 0.5 for moment in self.kills[-8:])

    def judge(self, label: str, tongue: Tongue, kind: str, stream: bool, began: float, got: RawReply) -> None:
        """An answer is complete, or an error of its caller's dialect, in time, and holds nobody else's words."""
        killed, name = self._killed(began), f"{label} {tongue.name}{kind} {'stream' if stream else 'whole'}"
        self.wanted[label] = not killed
        if alien := set(CANARY.findall(got.raw)) - {label.encode()}:
            self.violated(f"{name}: words of {alien}")
        if got.ending != "whole":
            self.statuses["killed" if killed else got.ending] += 1
            if not killed:
                self.violated(f"{name}: {got.ending} after {time.monotonic() - began:.2f} s, {got.raw[-300:]!r}")
            return
        self.statuses[str(got.status)] += 1
        problem = _problem(tongue, kind, stream, label.encode(), got)
        if problem:
            self.violated(f"{name}: {got.status} {problem}: {got.raw[-400:]!r}")

    async def settle(self, descriptors_before: int, pid: int) -> None:
        """When it is over: one record a call, nothing held, as many descriptors as before, and sums that agree."""
        await self._until(lambda: not self._unrecorded(), "records are missing", self._unrecorded)
        rows = Counter(row["label"] for row in self.node.records() if row["label"])
        for label in (label for label, count in rows.items() if count > 1):
            self.violated(f"{label} has {rows[label]} records")
        now = lambda: descriptors(pid)  # noqa: E731 - said twice
        most = descriptors_before + SPARE_DESCRIPTORS
        await self._until(lambda: now() <= most, f"{descriptors_before} descriptors before", now)
        if self.node.log("internal_error"):
            self.violated(f"internal errors: {self.node.log('internal_error')[:3]}")
        await self._held()

        def differing() -> list[str]:
            verdict = verify.verify(str(self.node.data_dir))
            return [*verdict.differences, *verdict.problems]

        await self._until(lambda: not differing(), "records verify", differing)

    def _unrecorded(self) -> list[str]:
        told = {row["label"] for row in self.node.records()}
        return [label for label, needed in self.wanted.items() if needed and label not in told]

    async def _held(self) -> None:
        """The key that may have one call at once has none: one passes, and beside it no second."""
        async with ScriptedUpstream([[Expect(), Hold()]]) as upstream:
            self.node.write_config(world.config(upstream.port, upstream.port, upstream.port, price=20))
            await asyncio.to_thread(self.node.wait_revision, self.node.status()["revision"] + 1)
            async with connect(self.node.port) as connection:
                connection.send(TONGUES[0].ask("chat", unique("held"), world.ONE_KEY))
                await self._until(lambda: bool(upstream.requests), "one call more than none was refused", lambda: "")
                second = await call(self.node.port, TONGUES[0].ask("chat", unique("held"), world.ONE_KEY))
                if second.status != 429:
                    self.violated(f"a second call beside one that may be alone: {second.status}")

    async def _until(self, check: Any, what: str, tell: Any) -> None:
        deadline = time.monotonic() + SETTLE_S
        while not await asyncio.to_thread(check):
            if time.monotonic() > deadline:
                self.violated(f"{what}: {str(await asyncio.to_thread(tell))[:500]}")
                return
            await asyncio.sleep(0.2)

    # what came of it

    def result(self, minutes: float, seed: int) -> dict[str, Any]:
        """All that is worth keeping."""
        begun = self.memory[0][0] if self.memory else 0.0
        # The first third is for caches and arenas to fill, a minute at most... of a long run five.
        warm = [point for point in self.memory if point[0] - begun > min(minutes * 20, 300)]
        grown = slope(warm) * 600
        if minutes >= SLOPE_MINUTES and grown > SLOPE_LIMIT:
            self.violated(f"memory grows by {grown / 1e6:.2f} MB in ten minutes")
        took = [seconds for began, seconds in self.health if not any(abs(began - kill) < 2 for kill in self.kills)]
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": seed,
            "minutes": minutes,
            "calls": len(self.wanted),
            "answers": dict(sorted(self.statuses.items())),
            "faults": dict(sorted(self.weather.met.items())),
            "kills": len(self.kills),
            "reloads": self.reloads,
            "bad_reloads": self.bad_reloads,
            "health_p99_ms": round(quantile(took, 0.99) * 1000, 1),
            "health_max_ms": round(max(took, default=0.0) * 1000, 1),
            "rss_mb": [round(point[1] / 1e6, 1) for point in (*self.memory[:1], *self.memory[-1:])],
            "rss_growth_mb_per_10_min": round(grown / 1e6, 3),
            "violations": self.found,
            "first_violations": self.violations,
        }


def _problem(tongue: Tongue, kind: str, stream: bool, label: bytes, got: RawReply) -> str:
    """What is wrong with a whole answer; nothing when all is well."""
    if got.status not in STATUSES or b"internal_error" in got.body:
        return "is no answer to these faults"
    try:
        if got.status != 200:
            return "" if _is_error(tongue, got.json()) else "is no error of this dialect"
        if not stream:
            return "" if got.json() and label in got.body else "has not its own words"
        last = payloads(got.body)[-1]
    except (ValueError, AssertionError, IndexError) as error:
        return f"cannot be read: {error!r}"
    if tongue.terminal in got.body:
        # The mock's words come in several events.
        return "" if kind == "-mock" or label in got.body else "ended without its own words"
    return "" if _is_error(tongue, last) else "has neither an end nor an error"


def _is_error(tongue: Tongue, told: Any) -> bool:
    if not isinstance(told, dict):
        return False
    if tongue.name == "messages":
        return told.get("type") == "error" and {"type", "message"} <= told["error"].keys()
    if tongue.name == "responses" and told.get("type") in ("error", "response.failed"):
        return True
    error = told.get("error")
    return isinstance(error, dict) and "message" in error and ("status" if tongue.name == "gemini" else "type") in error


@asynccontextmanager
async def _bad_weather(directory: Path, weather: world.Weather) -> AsyncIterator[tuple[int, int, int]]:
    """The ports of the upstreams."""
    mock = await asyncio.to_thread(Mock, directory, "--fault", world.MOCK_FAULTS)
    try:
        async with (
            # Its connections end after a while, or few would meet the proxy's faults.
            ScriptedUpstream([[Expect(), Answer(echo)] * 6]) as well,
            FaultProxy(well.port, weather.proxy) as plain,
            ScriptedUpstream(weather.odd) as odd,
            FaultProxy(mock.port, weather.proxy) as mocked,
        ):
            yield plain.port, odd.port, mocked.port
    finally:
        await asyncio.to_thread(mock.stop)


async def soak(
    directory: Path, minutes: float, seed: int, *, health_s: float = HEALTH_S, kill_every: float = 20.0
) -> dict[str, Any]:
    """One run, and its result."""
    weather = world.Weather(random.Random(seed + 1))
    node: Node | None = None
    try:
        async with _bad_weather(directory, weather) as ports:
            node = await asyncio.to_thread(start_node, directory, world.config(*ports), workers=2)
            pid = node.status()["workers"][1]["pid"]
            before = descriptors(pid)
            one = Soak(node, seed, weather, health_s)
            polling = threading.Thread(target=one.poll, daemon=True)
            polling.start()
            async with asyncio.TaskGroup() as group:
                for _ in range(CLIENTS):
                    group.create_task(one.client())
                for work in (one.reload(), one.kill(kill_every), one.bursts(), one.watch(pid)):
                    group.create_task(work)
                await asyncio.sleep(minutes * 60)
                one.over = True
            await asyncio.to_thread(polling.join)
        await one.settle(before, pid)
        if (code := await asyncio.to_thread(node.stop)) != 0:
            one.violated(f"the node ended with {code}")
        return one.result(minutes, seed)
    finally:
        if node is not None:
            await asyncio.to_thread(node.process.end, signal.SIGKILL)


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="Everything goes wrong for a long time.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fastgw-soak-") as directory:
        result = asyncio.run(soak(Path(directory), told.minutes, told.seed))
    text = json.dumps(result, indent=2) + "\n"
    told.out.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    (told.out / f"soak-{stamp}-{told.seed}.json").write_text(text)
    print(text, end="")
    return 1 if result["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
