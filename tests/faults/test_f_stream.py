"""Streams that stop, drip, never end, or tell of an error (F8, F11 to F15)."""

import time

import pytest

from tests.faults.conftest import KEY, World
from tests.faults.invariants import eventually, fault
from tests.faults.tongues import (
    BOTH,
    EVENT_STREAM,
    GEMINI,
    JSON,
    MESSAGES,
    TONGUES,
    WELL,
    Tongue,
    payloads,
    tongue_of,
)
from tests.support.rawclient import connect
from tests.support.scripted import Expect, Fin, Hold, RawRequest, Send, Sleep, Steps, Then, chunked, head

KINDS = [tongue.name for tongue in TONGUES]
BOTH_KINDS = [f"{tongue.name}-{'stream' if stream else 'whole'}" for tongue, stream in BOTH]
CUT = ("upstream_invalid_response", "upstream_unreachable")


# F8: chunks without the last one


@pytest.mark.parametrize("tongue", TONGUES, ids=KINDS)
async def test_f08_a_whole_reply_without_its_last_chunk_is_an_error(world: World, tongue: Tongue) -> None:
    broken = head(200, [*JSON, ("transfer-encoding", "chunked")]) + chunked(tongue.document(), last=False)
    async with fault(world.node, KEY) as run, world.upstream([[Expect(), Send(broken), Fin()], WELL]) as upstream:
        one = await run.ask(tongue, tongue.name)
        tongue.assert_error(one.reply, 502, *CUT)
        assert (await run.row(one.label))["cost_nano"] is None
        again = await run.ask(tongue, tongue.name)
        assert again.reply.status == 200
        assert [len(seen.requests) for seen in upstream.connections] == [1, 1], "the connection was used again"


@pytest.mark.parametrize("tongue", TONGUES, ids=KINDS)
async def test_f08_a_stream_without_its_last_chunk_is_an_error(world: World, tongue: Tongue) -> None:
    async with (
        fault(world.node, KEY) as run,
        world.upstream([[Expect(), Send(tongue.begun(2)), Fin()], WELL]) as upstream,
    ):
        one = await run.ask(tongue, tongue.name, stream=True)
        tongue.assert_cut(one.reply, *CUT)
        row = await run.row(one.label)
        assert row["error"] == "upstream_invalid_response"
        assert row["output_tokens"] > 0
        again = await run.ask(tongue, tongue.name, stream=True)
        assert again.reply.status == 200
        assert [len(seen.requests) for seen in upstream.connections] == [1, 1], "the connection was used again"


async def test_f08_a_stream_whose_last_words_came_is_whole_without_its_last_chunk(world: World) -> None:
    """How the connection ends no longer matters to the caller, but it is not used again. Gemini has no last words."""
    async with fault(world.node, KEY) as run:
        for tongue in TONGUES[:3]:
            whole = head(200, EVENT_STREAM) + chunked(*tongue.events(), last=False)
            async with world.upstream([[Expect(), Send(whole), Fin()], WELL]) as upstream:
                one = await run.ask(tongue, tongue.name, stream=True)
                assert tongue.terminal in one.reply.body
                assert (await run.row(one.label))["error"] is None
                assert (await run.ask(tongue, tongue.name)).reply.status == 200
                assert len(upstream.connections) == 2


# F11: silence in mid-stream


@pytest.mark.parametrize("tongue", TONGUES, ids=KINDS)
async def test_f11_a_stalled_stream_ends_with_an_error_and_was_passed_on_at_once(world: World, tongue: Tongue) -> None:
    async with fault(world.node, KEY) as run, world.upstream([[Expect(), Send(tongue.begun(2)), Hold()]]) as upstream:
        label = run.label()
        async with connect(world.node.port) as connection:
            connection.send(tongue.ask(tongue.name, label, KEY, stream=True))
            wanted = len(tongue.begun(2).partition(b"\r\n\r\n")[2])
            await eventually(lambda: upstream.connections and upstream.connections[0].sent)
            sent_at = time.monotonic()
            await connection.read_some(wanted)
            assert time.monotonic() - sent_at < 0.25, "the events were held back"
            got = await connection.read(5.0)
            assert 0.4 < time.monotonic() - sent_at < 3.0
        tongue.assert_cut(got, "upstream_timeout")
        assert upstream.connections[0].gone
        row = await run.row(label)
        assert (row["error"], row["usage_source"]) == ("upstream_timeout", row["usage_source"])
        assert row["output_tokens"] > 0


# F12: a drip


async def test_f12_a_dripping_stream_stays_alive(world: World) -> None:
    """Each pause is shorter than the idle deadline, all of them together are three times as long."""

    def dripping(request: RawRequest) -> Steps:
        events = tongue_of(request).events()
        share = -(-len(events) // 9)
        pieces = [b"".join(events[i : i + share]) for i in range(0, len(events), share)]
        steps = [step for piece in pieces for step in (Send(chunked(piece, last=False)), Sleep(1.8 / len(pieces)))]
        return [Send(head(200, EVENT_STREAM)), *steps, Send(chunked())]

    async with fault(world.node, KEY) as run, world.upstream([[Expect(), Then(dripping)]]):
        asks = [(tongue, True) for tongue in TONGUES]
        for tongue, one in zip(TONGUES, await run.many(asks, ""), strict=True):
            assert one.seconds > 1.5
            assert one.reply.status == 200
            assert tongue.terminal in one.reply.body
            assert (await run.row(one.label))["error"] is None


# F13: pings for ever


@pytest.mark.parametrize("tongue", TONGUES, ids=KINDS)
async def test_f13_comments_for_ever_end_with_the_call_as_a_whole(world: World, tongue: Tongue) -> None:
    """They are signs of life, so that the idle deadline does not end the call; they reach the caller meanwhile."""
    comments = Send(chunked(b": still here\n\n", last=False) * 100, slice=20, every=0.05)
    async with (
        fault(world.node, KEY) as run,
        world.upstream([[Expect(), Send(tongue.begun(1)), comments, Hold()]]) as upstream,
    ):
        one = await run.ask(tongue, f"{tongue.name}-short", stream=True)
        assert 1.0 < one.seconds < 5.0
        tongue.assert_cut(one.reply, "upstream_timeout")
        assert one.reply.body.count(b": still here\n\n") >= 5
        assert upstream.connections[0].gone


ONLY_COMMENTS = (
    Send(head(200, EVENT_STREAM)),
    Send(chunked(b": x\n\n", last=False) * 100, slice=10, every=0.05),
    Hold(),
)


async def test_f13_comments_alone_end_with_an_error_too(world: World) -> None:
    async with fault(world.node, KEY) as run, world.upstream([[Expect(), *ONLY_COMMENTS]]) as upstream:
        asks = [(tongue, True) for tongue in TONGUES]
        for tongue, one in zip(TONGUES, await run.many(asks, "-short"), strict=True):
            assert one.seconds < 5.0
            assert tongue.terminal not in one.reply.body
            assert (await run.row(one.label))["error"] == "upstream_timeout"
        assert all(seen.gone for seen in upstream.connections)


async def test_f13_pings_of_the_provider_are_no_answer_for_ever(world: World) -> None:
    ping = chunked(b'event: ping\ndata: {"type": "ping"}\n\n', last=False)
    async with (
        fault(world.node, KEY) as run,
        world.upstream([[Expect(), Send(MESSAGES.begun(1)), Send(ping * 100, len(ping), 0.05), Hold()]]),
    ):
        one = await run.ask(MESSAGES, "messages-short", stream=True)
        assert 1.0 < one.seconds < 5.0
        MESSAGES.assert_cut(one.reply, "upstream_timeout")
        assert one.reply.body.count(b"event: ping") >= 5


# F14: an error as the first event


def error_first(tongue: Tongue) -> bytes:
    """A stream whose first words are an error; messages and responses begin with an envelope that says nothing."""
    envelope = tongue.events()[:1] if tongue.name == "responses" else []
    return head(200, EVENT_STREAM) + chunked(*envelope, tongue.error_event())


@pytest.mark.parametrize("tongue", TONGUES, ids=KINDS)
async def test_f14_an_error_before_the_first_words_lets_another_target_stand_in(world: World, tongue: Tongue) -> None:
    async with (
        fault(world.node, KEY) as run,
        world.upstream([[Expect(), Send(error_first(tongue))]]),
        world.upstream([WELL], "b"),
    ):
        one = await run.ask(tongue, f"{tongue.name}-two", stream=True)
        assert one.reply.status == 200
        assert one.label.encode() in one.reply.body
        assert b"overloaded" not in one.reply.body
        row = await run.row(one.label)
        assert (len(row["attempts"]), row["error"]) == (2, None)


@pytest.mark.parametrize("tongue", TONGUES, ids=KINDS)
async def test_f14_where_nothing_stands_in_the_caller_is_told(world: World, tongue: Tongue) -> None:
    async with fault(world.node, KEY) as run, world.upstream([[Expect(), Send(error_first(tongue))]]) as upstream:
        one = await run.ask(tongue, tongue.name, stream=True)
        assert b"overloaded" in one.reply.body
        assert tongue.terminal not in one.reply.body
        assert (await run.row(one.label))["error"] is not None
        assert len(upstream.requests) == 1


# F15: an error in mid-stream


@pytest.mark.parametrize("tongue", TONGUES, ids=KINDS)
async def test_f15_an_error_in_mid_stream_passes_and_nothing_stands_in(world: World, tongue: Tongue) -> None:
    broken = tongue.begun(2) + chunked(tongue.error_event())
    async with (
        fault(world.node, KEY) as run,
        world.upstream([[Expect(), Send(broken)]]),
        world.upstream([WELL], "b") as spare,
    ):
        one = await run.ask(tongue, f"{tongue.name}-two", stream=True)
        assert (one.reply.status, one.reply.ending) == (200, "whole")
        assert payloads(one.reply.body)[-1] == payloads(tongue.error_event())[-1]
        assert tongue.terminal not in one.reply.body
        row = await run.row(one.label)
        assert (row["error"], len(row["attempts"])) == ("upstream_error_event", 1)
        assert row["output_tokens"] > 0
        assert not spare.requests


async def test_f15_errors_in_mid_stream_count_against_the_target(world: World) -> None:
    broken = GEMINI.begun(2) + chunked(GEMINI.error_event())
    async with (
        fault(world.node, KEY) as run,
        world.upstream([[Expect(), Send(broken)]]) as upstream,
        world.upstream([WELL], "b") as spare,
    ):
        for _ in range(20):
            await run.ask(GEMINI, "gemini-frail", stream=True)
        assert len(upstream.requests) < 20
        assert spare.requests
