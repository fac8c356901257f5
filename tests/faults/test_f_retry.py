"""Upstreams that refuse, fail in bursts, or are slow (F19 to F23): who is asked again, who is left alone, who waits."""

import asyncio
import email.utils
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastgw.plan import config as fields
from tests.faults.conftest import KEY, PRICE, RETRY, World
from tests.faults.invariants import eventually, fault
from tests.faults.tongues import BOTH, CHAT, JSON, MESSAGES, TONGUES, WELL, Tongue, echo, tongue_of
from tests.support.gateway import Node, node, reserved_port
from tests.support.rawclient import connect
from tests.support.scripted import RawRequest, ScriptedUpstream, Serve, Step, reply

KINDS = [tongue.name for tongue in TONGUES]
Pair = tuple[Node, int, int]


def breaker() -> str:
    """The breaker of a model's targets, quick to come back."""
    return ", breaker: {failures: 5, open: 1s}" if "breaker" in fields.Model.__struct_fields__ else ""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """A node with a target, and one that stands in for it; and the ports of both."""
    with reserved_port() as port, reserved_port() as spare:
        lines = ["providers:"]
        for tongue, (name, at) in itertools.product(TONGUES, (("a", port), ("b", spare))):
            url = f'base_url: "http://127.0.0.1:{at}{tongue.base}", api_key: sk-{tongue.name}'
            lines.append(f"  {tongue.name}_{name}: {{kind: {tongue.kind}, {url}}}")
        lines.append("models:")
        for name in KINDS:
            one = f"{{provider: {name}_a, model: m, {PRICE}}}"
            lines.append(f"  {name}: {{targets: [{one}], {RETRY}{breaker()}}}")
            lines.append(f"  {name}-plain: {{targets: [{one}], {RETRY}, breaker: {{failures: 0}}}}")
            two = f"{{provider: {name}_b, model: m, priority: 2}}"
            lines.append(f"  {name}-two: {{targets: [{one}, {two}], {RETRY}{breaker()}}}")
        lines += [f"keys: [{{name: k, secret: {KEY}}}]", ""]
        with node(tmp_path, "\n".join(lines)) as started:
            yield started, port, spare


# F19: 429, with every spelling of when to come again


def later(seconds: float) -> str:
    """A date so far away, as HTTP writes it: whole seconds, so up to one second sooner."""
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


def retry_info(seconds: float) -> list[dict[str, str]]:
    return [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds}s"}]


SPELLINGS: dict[str, Callable[[], tuple[list[tuple[str, str]], list[dict[str, str]]]]] = {
    "seconds": lambda: ([("retry-after", "2")], []),
    "date": lambda: ([("retry-after", later(3))], []),
    "milliseconds": lambda: ([("retry-after-ms", "1800")], []),
    "RetryInfo": lambda: ([], retry_info(1.8)),
}


def refusing(spelling: str) -> Serve:
    """An upstream that refuses everything for two seconds or so, in words of its own."""

    def refuse(request: RawRequest) -> bytes:
        headers, details = SPELLINGS[spelling]() if spelling else ([], [])
        return reply(429, [*JSON, *headers], tongue_of(request).refusal(429, "too many requests", details))

    return Serve(refuse)


def spelled(spelling: str) -> list[Tongue]:
    """The dialects whose providers write it so."""
    return [tongue for tongue in TONGUES if (tongue.name == "gemini") or spelling != "RetryInfo"]


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_f19_the_caller_learns_when_to_come_again(pair: Pair, spelling: str) -> None:
    gateway, port, _ = pair
    names = {"seconds": "retry-after", "date": "retry-after", "milliseconds": "retry-after-ms"}
    async with fault(gateway, KEY) as run, ScriptedUpstream([[refusing(spelling)]], port=port) as upstream:
        asks = [(tongue, stream) for tongue in spelled(spelling) for stream in (False, True)]
        for one in await run.many(asks, "-plain"):
            assert (one.reply.status, one.reply.ending) == (429, "whole")
            assert b"too many requests" in one.reply.body
            if spelling == "RetryInfo":
                assert b'"retryDelay": "1.8s"' in one.reply.body
            else:
                assert one.reply.headers[names[spelling]]
            assert (await run.row(one.label))["error"] == "upstream_429"
        assert len(upstream.requests) == len(asks), "somebody was asked again at once"


@pytest.mark.parametrize("tongue", TONGUES, ids=KINDS)
async def test_f19_a_refusal_that_names_no_time_is_not_asked_again_in_a_loop(pair: Pair, tongue: Tongue) -> None:
    """As of a spend limit, which no waiting helps; another target is asked, once."""
    gateway, port, other = pair
    async with (
        fault(gateway, KEY) as run,
        ScriptedUpstream([[refusing("")]], port=port) as upstream,
        ScriptedUpstream([[refusing("")]], port=other) as spare,
    ):
        alone = await run.ask(tongue, tongue.name)
        assert (alone.reply.status, len(upstream.requests)) == (429, 1)
        both = await run.ask(tongue, f"{tongue.name}-two")
        assert both.reply.status == 429
        assert len(upstream.requests) <= 2
        assert len(spare.requests) == 1


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_f19_who_refused_is_left_alone_for_as_long_as_it_said(pair: Pair, spelling: str) -> None:
    gateway, port, spare = pair
    async with (
        fault(gateway, KEY) as run,
        ScriptedUpstream([[refusing(spelling)]], port=port) as upstream,
        ScriptedUpstream([WELL], port=spare),
    ):
        for tongue in spelled(spelling):
            asked = len(upstream.requests)
            for _ in range(5):
                assert (await run.ask(tongue, f"{tongue.name}-two")).reply.status == 200
            assert len(upstream.requests) - asked == 1, "it was asked before its time"
        await asyncio.sleep(3.2)
        asked = len(upstream.requests)
        await run.ask(tongue, f"{tongue.name}-two")
        assert len(upstream.requests) == asked + 1, "its time is over"


@pytest.fixture
def two_keys(tmp_path: Path) -> Iterator[tuple[Node, int]]:
    """One address, two credentials for it."""
    with reserved_port() as port:
        url = f'kind: openai_compatible, base_url: "http://127.0.0.1:{port}/v1"'
        config = f"""
providers: {{one: {{{url}, api_key: sk-number-one}}, two: {{{url}, api_key: sk-number-two}}}}
models:
  m: {{targets: [{{provider: one, model: m}}, {{provider: two, model: m, priority: 2}}], {RETRY}}}
keys: [{{name: k, secret: {KEY}}}]
"""
        with node(tmp_path, config) as started:
            yield started, port


async def test_f19_another_credential_at_the_same_address_is_still_used(two_keys: tuple[Node, int]) -> None:
    gateway, port = two_keys

    def by_key(request: RawRequest) -> bytes:
        if request.header("authorization") == "Bearer sk-number-two":
            return echo(request)
        return reply(429, [*JSON, ("retry-after", "5")], CHAT.refusal(429))

    async with fault(gateway, KEY) as run, ScriptedUpstream([[Serve(by_key)]], port=port) as upstream:
        for _ in range(10):
            assert (await run.ask(CHAT, "m")).reply.status == 200
        keys = [request.header("authorization") for request in upstream.requests]
        assert keys.count("Bearer sk-number-two") == 10
        assert keys.count("Bearer sk-number-one") == 1


# F20, F21: bursts of failures


class Switch:
    """An upstream that fails with a status until it is told to be well, and counts how many it was asked at once."""

    def __init__(self, status: int, after: float = 0.0) -> None:
        self.status = status
        self.script: list[Step] = [Serve(self._answer, after)]

    def _answer(self, request: RawRequest) -> bytes:
        if not self.status:
            return echo(request)
        return reply(self.status, JSON, tongue_of(request).refusal(self.status))


@pytest.mark.parametrize("status", [500, 502, 503, 504, 529])
async def test_f20_a_burst_of_failures_opens_the_breaker(pair: Pair, status: int) -> None:
    gateway, port, spare = pair
    async with (
        fault(gateway, KEY) as run,
        ScriptedUpstream([Switch(status).script], port=port) as upstream,
        ScriptedUpstream([WELL], port=spare),
    ):
        asked = [await run.ask(TONGUES[turn % 4], f"{KINDS[turn % 4]}-two") for turn in range(40)]
        # Until it opens the bound on retries may leave a failure to the caller.
        assert sum(one.reply.status == 200 for one in asked) >= 30
        assert {one.reply.status for one in asked[-8:]} == {200}
        # Each dialect's target is one of its own here.
        assert len(upstream.requests) <= 4 * 6


async def test_f20_one_probe_at_a_time_and_then_all_of_it_again(pair: Pair) -> None:
    gateway, port, spare = pair
    switch = Switch(500, after=0.3)
    async with (
        fault(gateway, KEY) as run,
        ScriptedUpstream([switch.script], port=port) as upstream,
        ScriptedUpstream([WELL], port=spare),
    ):
        for _ in range(8):
            await run.ask(CHAT, "chat-two")
        asked = len(upstream.requests)
        assert asked < 8
        await asyncio.sleep(1.2)
        await asyncio.gather(*(run.ask(CHAT, "chat-two") for _ in range(10)))
        assert len(upstream.requests) == asked + 1, "more than one probe"
        switch.status = 0
        await asyncio.sleep(2.5)
        await run.ask(CHAT, "chat-two")
        asked = len(upstream.requests)
        await asyncio.gather(*(run.ask(CHAT, "chat-two") for _ in range(10)))
        assert len(upstream.requests) == asked + 10, "it is well and not used"


async def test_f21_with_all_targets_down_every_call_fails_in_time(pair: Pair) -> None:
    """Nothing listens on either port."""
    gateway, _, _ = pair
    async with fault(gateway, KEY) as run:
        for _ in range(3):
            for (tongue, _), one in zip(BOTH, await run.many(BOTH, "-two"), strict=True):
                assert one.seconds < 1.0
                if one.reply.status == 502:
                    tongue.assert_error(one.reply, 502, "upstream_unreachable")
                else:
                    tongue.assert_error(one.reply, 503, "no_target_available")


async def test_f21_an_open_breaker_fails_fast_and_the_last_target_is_still_probed(pair: Pair) -> None:
    gateway, port, _ = pair
    async with fault(gateway, KEY) as run, ScriptedUpstream([Switch(500, 0.4).script], port=port) as upstream:
        await asyncio.gather(*(run.ask(CHAT, "chat") for _ in range(10)))
        fast = [await run.ask(CHAT, "chat") for _ in range(5)]
        assert sum(one.seconds < 0.25 for one in fast) >= 4
        for one in fast:
            assert one.reply.status in (500, 503)
        asked = len(upstream.requests)
        await asyncio.sleep(1.2)
        await run.ask(CHAT, "chat")
        assert len(upstream.requests) == asked + 1


# F22: a storm of retries


async def test_f22_retries_stay_within_a_fifth_of_the_calls(pair: Pair) -> None:
    """Of both upstreams' answers every other one is a 503, so without a bound every other call would be retried."""
    gateway, port, spare = pair
    calls, turns = 200, itertools.count()

    def half(request: RawRequest) -> bytes:
        return reply(503, JSON, CHAT.refusal()) if next(turns) % 2 else echo(request)

    async with (
        fault(gateway, KEY) as run,
        ScriptedUpstream([[Serve(half)]], port=port) as one,
        ScriptedUpstream([[Serve(half)]], port=spare) as two,
    ):
        for _ in range(calls // 20):
            await asyncio.gather(*(run.ask(CHAT, "chat-two") for _ in range(20)))
        attempts = len(one.requests) + len(two.requests)
        assert calls <= attempts <= 1.2 * calls + 3


# F23: a slow upstream


async def test_f23_a_slow_upstream_has_a_bounded_queue_and_its_neighbours_feel_nothing(world: World) -> None:
    """One connection and four places to wait: the rest is refused at once, and others are served as ever."""
    async with fault(world.node, KEY) as run:
        slow = [Serve(echo, after=0.5)]
        async with world.upstream([slow], "narrow") as upstream, world.upstream([WELL]):
            waiting = [asyncio.create_task(run.ask(tongue, f"{tongue.name}-narrow")) for tongue in TONGUES]
            await asyncio.sleep(0.1)
            waiting.append(asyncio.create_task(run.ask(CHAT, "chat-narrow")))
            await eventually(lambda: len(upstream.requests) == 1)
            await asyncio.sleep(0.05)
            for tongue, one in zip(TONGUES, await run.many([(t, False) for t in TONGUES], "-narrow"), strict=True):
                tongue.assert_error(one.reply, 503, "overloaded")
                assert one.seconds < 0.25
                assert (await run.row(one.label))["error"] == "overloaded"
            for one in await run.many(BOTH, ""):
                assert (one.reply.status, one.seconds < 0.4) == (200, True)
            assert [one.reply.status for one in await asyncio.gather(*waiting)] == [200] * 5
            assert len(upstream.connections) == 1


async def test_f23_the_queue_has_a_deadline(tmp_path: Path) -> None:
    with reserved_port() as port:
        url = f'base_url: "http://127.0.0.1:{port}"'
        config = f"""
providers: {{one: {{kind: anthropic, {url}, api_key: sk-one, max_connections: 1, queue: 100, queue_timeout: 300ms}}}}
models: {{m: {{targets: [{{provider: one, model: m}}]}}}}
keys: [{{name: k, secret: {KEY}}}]
"""
        with node(tmp_path, config) as gateway:
            async with fault(gateway, KEY) as run, ScriptedUpstream([[Serve(echo, after=3.0)]], port=port) as upstream:
                label = run.label()
                async with connect(gateway.port) as holder:
                    holder.send(MESSAGES.ask("m", label, KEY))
                    await eventually(lambda: upstream.requests)
                    for one in await asyncio.gather(*(run.ask(MESSAGES, "m") for _ in range(20))):
                        MESSAGES.assert_error(one.reply, 503, "overloaded")
                        assert 0.2 < one.seconds < 1.6
                        assert len((await run.row(one.label))["attempts"]) == 1
                    assert len(upstream.requests) == 1
