"""Upstreams that cannot be reached, or vanish behind a connection that was kept (F2, F4, F5)."""

import asyncio
import random

import pytest

from tests.faults.conftest import KEY, World
from tests.faults.invariants import fault
from tests.faults.tongues import BOTH, TONGUES, WELL, Tongue, echo
from tests.support.faultproxy import FaultProxy, Faults
from tests.support.scripted import Answer, Expect, Fin, Hold, Reset, Send, Sleep

KINDS = [tongue.name for tongue in TONGUES]


# F2: a SYN that nobody answers


async def test_f02_connecting_has_a_deadline(world: World) -> None:
    async with fault(world.node, KEY) as run:
        asked = await run.many(BOTH, "-dark")
        for (tongue, _), one in zip(BOTH, asked, strict=True):
            tongue.assert_error(one.reply, 504, "upstream_timeout")
            assert 0.3 < one.seconds < 2.5
            assert [attempt["reason"] for attempt in (await run.row(one.label))["attempts"]] == ["connect"]


async def test_f02_another_target_stands_in(world: World) -> None:
    async with fault(world.node, KEY) as run, world.upstream([WELL], "b"):
        for one in await run.many(BOTH, "-dark-two"):
            assert one.reply.status == 200
            assert one.label.encode() in one.reply.body
            assert one.seconds < 2.5
            row = await run.row(one.label)
            assert [attempt["reason"] for attempt in row["attempts"]] == ["connect", ""]


# F4: the peer vanishes behind a kept connection


@pytest.mark.parametrize("tongue", TONGUES, ids=KINDS)
async def test_f04_a_kept_connection_that_went_dead_costs_one_deadline(world: World, tongue: Tongue) -> None:
    """Both sides stay open and nothing passes any more; the call after is served on a connection of its own."""
    reply = tongue.whole()
    faults = [Faults(half_open_at=len(reply)), Faults()]
    async with (
        fault(world.node, KEY) as run,
        world.upstream([[Expect(), Send(reply), Hold()], WELL], "b") as behind,
        FaultProxy(behind.port, faults, port=world.ports["a"]) as proxy,
    ):
        assert (await run.ask(tongue, tongue.name)).reply.status == 200
        one = await run.ask(tongue, tongue.name)
        tongue.assert_error(one.reply, 504, "upstream_timeout")
        assert 0.4 < one.seconds < 3.0
        assert proxy.connections[0].swallowed, "it was sent on the kept connection"
        assert proxy.connections[0].client_ended is not None
        again = await run.ask(tongue, tongue.name)
        assert (again.reply.status, len(proxy.connections)) == (200, 2)


@pytest.mark.parametrize("tongue", TONGUES, ids=KINDS)
async def test_f04_another_target_stands_in_for_a_dead_connection(world: World, tongue: Tongue) -> None:
    reply = tongue.whole()
    async with (
        fault(world.node, KEY) as run,
        world.upstream([[Expect(), Send(reply), *WELL]], "b") as behind,
        FaultProxy(behind.port, Faults(half_open_at=len(reply)), port=world.ports["a"]),
    ):
        assert (await run.ask(tongue, tongue.name)).reply.status == 200
        one = await run.ask(tongue, f"{tongue.name}-two")
        assert one.reply.status == 200
        assert [a["reason"] for a in (await run.row(one.label))["attempts"]] == ["timeout", ""]


# F5: the upstream closes a kept connection just as we send


@pytest.mark.parametrize("ending", [Fin(), Reset()], ids=["fin", "reset"])
async def test_f05_a_race_with_a_close_is_never_surfaced(world: World, ending: Fin | Reset) -> None:
    rng = random.Random(5)

    def script(_: int) -> list[object]:
        return [Expect(), Answer(echo), Sleep(rng.random() * 0.005), ending]

    async with fault(world.node, KEY) as run, world.upstream(script) as upstream:
        for turn in range(60):
            tongue, stream = BOTH[turn % len(BOTH)]
            one = await run.ask(tongue, tongue.name, stream=stream)
            assert one.reply.status == 200, one.reply.raw
            assert one.label.encode() in one.reply.body
            assert len((await run.row(one.label))["attempts"]) == 1
            await asyncio.sleep(rng.random() * 0.003)
        assert len(upstream.requests) >= 60


@pytest.mark.parametrize(("tongue", "stream"), BOTH, ids=[f"{t.name}-{'stream' if s else 'whole'}" for t, s in BOTH])
@pytest.mark.parametrize("ending", [Fin(), Reset()], ids=["fin", "reset"])
async def test_f05_a_request_that_met_the_close_is_sent_once_more(
    world: World, tongue: Tongue, stream: bool, ending: Fin | Reset
) -> None:
    """The close comes after the request: not a byte of an answer was there, and the connection had served before."""
    async with fault(world.node, KEY) as run:
        async with world.upstream([[Expect(), Answer(echo), Expect(), ending], WELL]) as upstream:
            assert (await run.ask(tongue, tongue.name, stream=stream)).reply.status == 200
            one = await run.ask(tongue, tongue.name, stream=stream)
            assert one.reply.status == 200
            assert one.label.encode() in one.reply.body
            first, second = upstream.connections
            assert [len(first.requests), len(second.requests)] == [2, 1]
            assert first.requests[1].body == second.requests[0].body
        # A connection that never served gives no such assurance: nothing is sent twice.
        async with world.upstream([[Expect(), ending]]) as upstream:
            fresh = await run.ask(tongue, tongue.name, stream=stream)
            tongue.assert_error(fresh.reply, 502, "upstream_unreachable")
            assert len(upstream.requests) == 1
