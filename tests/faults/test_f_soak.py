"""All faults at once, at random, by a seed (F46).

Six seconds of it are part of every run of the tests; `FASTGW_SOAK_S=1800 FASTGW_SOAK_SEED=7` makes it half an hour of
another one.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import KEY, World
from tests.faults.invariants import CANARY, Watched, fault
from tests.faults.tongues import EVENT_STREAM, JSON, TONGUES, Tongue, echo, streamed, tongue_of
from tests.support.rawclient import RawReply, connect
from tests.support.scripted import (
    Cut,
    Expect,
    Fin,
    Hold,
    RawRequest,
    Reset,
    Send,
    Serve,
    Sleep,
    Steps,
    Then,
    chunked,
    head,
    reply,
)

SECONDS = float(os.environ.get("FASTGW_SOAK_S", "6"))
SEED = int(os.environ.get("FASTGW_SOAK_SEED", "1"))
CLIENTS = 16
MODELS = ("", "", "-two", "-two", "-short", "-tight", "-dark-two")
GROWTH = 1024 * 1024
"""Bytes that ten minutes may add, beside what the first seconds do."""

Odd = Callable[[random.Random, RawRequest, Tongue], Steps]


def some(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


FAULTS: dict[str, Odd] = {
    "reset": lambda rng, r, t: [Send(some(rng, echo(r))), Reset()],
    "end": lambda rng, r, t: [Send(some(rng, echo(r))), Fin()],
    "cut": lambda rng, r, t: [Send(some(rng, echo(r))), Cut()],
    "silence": lambda rng, r, t: [Send(some(rng, echo(r))), Hold()],
    "late": lambda rng, r, t: [Sleep(rng.random() * 0.8), Send(echo(r))],
    "dripping": lambda rng, r, t: [Send(echo(r), rng.randrange(20, 400), 0.005)],
    "refusal": lambda rng, r, t: [
        Send(reply(rng.choice((400, 401, 429, 500, 502, 503, 529)), JSON, t.refusal(503, "no")))
    ],
    "error inside": lambda rng, r, t: [Send(head(200, EVENT_STREAM) + chunked(t.error_event()))],
    "surplus": lambda rng, r, t: [Send(echo(r) + b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\ncanary-0-0"), Hold()],
    "noise": lambda rng, r, t: [Send(rng.randbytes(rng.randrange(1, 4000))), Fin()],
    "damage": lambda rng, r, t: [Send(damaged(rng, echo(r))), Fin()],
}


def damaged(rng: random.Random, data: bytes) -> bytes:
    """One bit of it is another one; not of the label, which would then seem to be another call's."""
    spans = [range(*match.span()) for match in CANARY.finditer(data)]
    place = rng.choice([place for place in range(len(data)) if not any(place in span for span in spans)])
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


class Soak:
    """Clients of all kinds at upstreams of all kinds."""

    def __init__(self, world: World, run: Watched, rng: random.Random) -> None:
        self.world, self.run, self.rng = world, run, rng
        self.statuses: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.until = time.monotonic() + SECONDS

    def script(self, _: int) -> Steps:
        """A connection serves well for a while, and then it does not."""
        return [step for _ in range(self.rng.randrange(1, 6)) for step in (Expect(), Then(self._well))] + [
            Expect(),
            Then(self._odd),
        ]

    def _well(self, request: RawRequest) -> Steps:
        return [Send(echo(request))]

    def _odd(self, request: RawRequest) -> Steps:
        name = self.rng.choice(list(FAULTS))
        self.faults[name] += 1
        return FAULTS[name](self.rng, request, tongue_of(request))

    async def client(self) -> None:
        while time.monotonic() < self.until:
            tongue, stream, model = self.rng.choice(TONGUES), self.rng.random() < 0.6, self.rng.choice(MODELS)
            if self.rng.random() < 0.15:
                await self._leave(tongue, f"{tongue.name}{model}", stream)
                continue
            one = await self.run.ask(tongue, f"{tongue.name}{model}", stream=stream)
            self.statuses[one.reply.status] += 1
            self._judge(tongue, one.reply)

    def _judge(self, tongue: Tongue, got: RawReply) -> None:
        """Whole, of a status that belongs to the faults, and never a fault of the gateway's own."""
        assert got.ending == "whole", got.raw
        assert got.status in (200, 400, 429, 500, 502, 503, 504, 529), got.raw[:500]
        assert b"internal_error" not in got.body, got.body
        if got.status == 504:
            tongue.assert_error(got, 504, "upstream_timeout")

    async def _leave(self, tongue: Tongue, model: str, stream: bool) -> None:
        label = self.run.label()
        async with connect(self.world.node.port) as connection:
            connection.send(tongue.ask(model, label, KEY, stream=stream))
            # Not before it was read: a request that breaks off on its way in is no call.
            await asyncio.sleep(0.1 + self.rng.random() * 0.3)


def rss(pid: int) -> int:
    """Resident memory in bytes."""
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


@pytest.mark.timeout(SECONDS * 2 + 120)
async def test_f46_faults_of_all_kinds_at_random_leave_nothing_behind(world: World) -> None:
    (pid,) = world.node.workers
    async with fault(world.node, KEY) as run:
        soak = Soak(world, run, random.Random(SEED))
        async with (
            world.upstream(soak.script),
            world.upstream(soak.script, "b"),
            world.upstream(soak.script, "narrow"),
            asyncio.TaskGroup() as group,
        ):
            for _ in range(CLIENTS):
                group.create_task(soak.client())
            await asyncio.sleep(SECONDS / 3)
            before = rss(pid)
        grown = rss(pid) - before
    print(f"seed {SEED}: {sum(soak.statuses.values())} answers {dict(soak.statuses)}, {dict(soak.faults)}, +{grown} B")
    assert set(soak.faults) == set(FAULTS), "too short to have met them all"
    assert soak.statuses[200] > 100
    assert grown < GROWTH * (8 + SECONDS / 600)


async def test_f46_calls_that_take_their_time_leave_no_memory_behind(world: World) -> None:
    """Long enough that somebody looks whether their client is still there; the first 1,200 are for warming up."""
    (pid,) = world.node.workers
    async with fault(world.node, KEY) as run, world.upstream([[Serve(echo, after=0.08)]]):

        async def calls() -> int:
            for _ in range(20):
                await run.many([(TONGUES[0], number % 2 == 0) for number in range(60)], "")
            await asyncio.sleep(0.3)
            return rss(pid)

        before = await calls()
        assert await calls() - before < 4 * GROWTH


def test_the_faults_are_made_as_they_are_named() -> None:
    """Nothing random is left out by mistake: every one sends something, and the damage is one bit."""
    tongue = TONGUES[0]
    request = RawRequest(tongue.ask("m", "canary-1-1", KEY).partition(b"\r\n\r\n")[0] + b"\r\n\r\n", b"", 0.0)
    request.body = tongue.ask("m", "canary-1-1", KEY).partition(b"\r\n\r\n")[2]
    assert not streamed(request)
    whole = echo(request)
    twisted = damaged(random.Random(1), whole)
    assert sum(bin(a ^ b).count("1") for a, b in zip(whole, twisted, strict=True)) == 1
    for odd in FAULTS.values():
        assert any(isinstance(step, Send) for step in odd(random.Random(2), request, tongue))
