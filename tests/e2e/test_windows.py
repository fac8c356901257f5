"""Windows of the calendar under load, with the clock moved while the node runs: over real sockets, on two workers.

F41 and S27 are the rows of those numbers: a clock that is set resets nothing twice and cuts no call short, and no other
way of asking is another caller.
"""

import asyncio
import time
from calendar import timegm
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.test_budgets import TOKENS, Upstream, ask, config, dollars, secret, upstream
from tests.support.clock import Clock
from tests.support.gateway import Node, node
from tests.support.load import Caller, calling, volley
from tests.support.rawclient import call, post

HOUR, DAY = 3_600, 86_400
CLIENTS = 32
EDGES = 100
EACH = 20


def at(*moment: int) -> float:
    """Seconds since 1970 of a moment (UTC): year, month, day and so on."""
    return timegm((*moment, *(0,) * (6 - len(moment))))


def again(status: int) -> float:
    """At once, and soon where there is nothing to be had: the edge must be met by many at the same time."""
    return 0.0 if status == 200 else 0.02


async def used_up(statuses: Counter[int], callers: list[Caller], passed: int) -> None:
    """Until so many have passed, and then everybody was refused twice."""
    async with asyncio.timeout(30):
        while statuses[200] < passed:
            await asyncio.sleep(0.002)
        refused = statuses[429]
        while statuses[429] < refused + 2 * len(callers):
            await asyncio.sleep(0.002)


@pytest.mark.parametrize(
    ("limit", "length", "first"),
    [
        # Over the second that 32 bits cannot hold, and over months, a year and a 29th of February.
        pytest.param(f"requests: {EACH}/hour", HOUR, at(2038, 1, 17), id="hours"),
        pytest.param(f"budget: {dollars(EACH)}/day, tokens: {EACH * TOKENS}/day", DAY, at(2027, 12, 20), id="days"),
    ],
)
async def test_each_of_a_hundred_windows_lets_exactly_its_limit_pass(
    tmp_path: Path, limit: str, length: int, first: float
) -> None:
    """32 callers ask all the time and 101 windows pass by, each edge in its own time and met by all of them."""
    async with upstream() as provider:
        with Clock(tmp_path) as clock:
            clock.set(first + 1)
            text = config(provider.port, {"one": limit})
            with node(tmp_path, text, workers=2, env=clock.env) as gateway:
                async with calling(gateway.port, ask("one"), CLIENTS, again) as (statuses, callers):
                    for edge in range(1, EDGES + 2):
                        await used_up(statuses, callers, EACH * edge)
                        assert (statuses[200], provider.calls) == (EACH * edge, EACH * edge), edge
                        clock.set(first + length * edge - 0.01)
                    assert set(statuses) == {200, 429}
                assert not any(caller.done.done() and not caller.done.cancelled() for caller in callers)


class Spender:
    """What passes of volleys that would take more than any limit here, by key."""

    def __init__(self, gateway: Node, clock: Clock) -> None:
        self.gateway = gateway
        self.clock = clock

    async def passes(self, *keys: str) -> list[int]:
        """How many of twice what the limit allows are let through, for each key."""
        return [(await volley(self.gateway.port, ask(key), 8, 2 * EACH))[200] for key in keys]

    async def after(self, seconds: float, *keys: str) -> list[int]:
        """The same, with the clock moved on or back before."""
        self.clock.move(seconds)
        return await self.passes(*keys)


def by_period() -> dict[str, str]:
    return {
        "hour": f"requests: {EACH}/hour",
        "day": f"tokens: {EACH * TOKENS}/day",
        "month": f"budget: {dollars(EACH)}/month",
        "total": f"budget: {dollars(EACH)}/total",
    }


async def test_f41_a_clock_set_back_and_forth_resets_nothing_twice(tmp_path: Path) -> None:
    """An hour and a day, back and forth: who was in a window once finds it used up however often it comes again."""
    keys = tuple(by_period())
    async with upstream() as provider:
        with Clock(tmp_path) as clock:
            clock.set(at(2027, 5, 15, 12, 30))
            with node(tmp_path, config(provider.port, by_period()), workers=2, env=clock.env) as gateway:
                workers, spender = gateway.workers, Spender(gateway, clock)
                assert await spender.passes(*keys) == [EACH] * 4
                for step in (-HOUR, HOUR, -HOUR, HOUR):
                    assert await spender.after(step, *keys) == [0] * 4, step
                assert await spender.after(HOUR, *keys) == [EACH, 0, 0, 0]
                for step in (-HOUR, HOUR):
                    assert await spender.after(step, *keys) == [0] * 4, step
                for step in (-DAY, DAY):
                    assert await spender.after(step, *keys[1:]) == [0] * 3, step
                assert await spender.after(DAY, *keys[1:]) == [EACH, 0, 0]
                for step in (-DAY, DAY, -HOUR, HOUR):
                    assert await spender.after(step, *keys[1:]) == [0] * 3, step
                assert gateway.workers == workers
                gateway.assert_well()


async def test_f41_workers_whose_clocks_differ_share_one_window(tmp_path: Path) -> None:
    """One worker is a minute ahead at an hour's end: the new hour begins once, with whoever is there first."""
    async with upstream() as provider:
        with Clock(tmp_path) as clock:
            clock.set(at(2027, 5, 15, 12, 59, 20))
            limits = {"hour": f"requests: {EACH}/hour"}
            with node(tmp_path, config(provider.port, limits), workers=2, env=clock.env) as gateway:
                spender = Spender(gateway, clock)
                assert await spender.passes("hour") == [EACH]
                clock.apart(gateway.workers[0], 60)
                # Whoever asks the slow one before the fast one has begun the hour is refused: that is no fault.
                passed = [await spender.passes("hour") for _ in range(4)]
                assert sum(n for (n,) in passed) == EACH
                clock.set(at(2027, 5, 15, 13, 0, 1))
                clock.apart(gateway.workers[0], 0)
                assert await spender.passes("hour") == [0]


async def test_f41_deadlines_go_by_no_clock_that_can_be_set(tmp_path: Path) -> None:
    """A call that waits survives a day's leap, either way; one that waits too long ends in its own time."""
    async with upstream() as provider:
        with Clock(tmp_path) as clock:
            limits = {"one": f"requests: 600/min, budget: {dollars(100)}/total"}
            text = config(provider.port, limits).replace(
                "models: {m: {", "models: {m: {timeout: {first_token: 1500ms}, "
            )
            with node(tmp_path, text, workers=2, env=clock.env) as gateway:
                for step in (DAY, -DAY, HOUR, -HOUR):
                    assert await leapt(gateway, provider, clock, step, held=0.4) == 200
                began = time.monotonic()
                assert await leapt(gateway, provider, clock, -DAY, held=30.0) == 504
                assert 1.4 < time.monotonic() - began < 7.5
                gateway.assert_well()


async def leapt(gateway: Node, provider: Upstream, clock: Clock, step: float, held: float) -> int:
    """The status of a call that its upstream holds so long, while the clock leaps."""
    provider.hold = held
    calls = provider.calls
    waiting = asyncio.create_task(call(gateway.port, ask("one"), 10.0))
    async with asyncio.timeout(5):
        while provider.calls == calls:
            await asyncio.sleep(0.005)
    clock.move(step)
    return (await waiting).status


async def test_s27_a_minutes_edge_lets_no_second_burst_through(tmp_path: Path) -> None:
    """A rate goes by no window: whatever the clock says, no more than the burst and what the time since then gave."""
    async with upstream() as provider:
        with Clock(tmp_path) as clock:
            clock.set(at(2027, 5, 15, 12, 59, 59))
            with node(
                tmp_path, config(provider.port, {"one": "requests: 60/min, burst: 10"}), env=clock.env
            ) as gateway:
                began = time.monotonic()
                passed = 0
                for _ in range(30):
                    passed += (await volley(gateway.port, ask("one"), 8, 16))[200]
                    clock.move(60)
                # The first was let through after `began`, the last before now.
                assert 10 <= passed <= 10 + (time.monotonic() - began)


GEMINI = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
GEMINI_PATH = "/v1beta/models/m:generateContent"


def spellings(key: str) -> list[bytes]:
    """Every way to present a key in headers."""
    headers = [
        {"authorization": f"Bearer {key}"},
        {"Authorization": f"Bearer {key}"},
        {"AUTHORIZATION": f"bearer {key}"},
        {"aUtHoRiZaTiOn": f"BEARER   {key}"},
        {"x-api-key": key},
        {"X-API-Key": key},
        {"api-key": key},
        {"Api-Key": f"  {key}  "},
        {"x-goog-api-key": key},
        {"X-Goog-Api-Key": key},
        {"x-api-key": key, "authorization": f"Bearer {key}"},
    ]
    return [*(post(CHAT, **one) for one in headers), post(GEMINI, GEMINI_PATH, **headers[-2])]


def in_queries(key: str) -> list[bytes]:
    """The ways to write a key into a query, as Gemini's clients may."""
    escaped = f"%{ord(key[0]):02x}{key[1:]}"
    queries = [f"?key={key}", f"?alt=json&key={key}", f"?key={escaped}", f"?key={key}&key={key}", f"?KEY={key}"]
    return [post(GEMINI, GEMINI_PATH + query) for query in queries]


async def test_s27_a_key_is_one_caller_however_it_is_spelled(tmp_path: Path) -> None:
    """By any header, in any case, in a query: all count as one, and none is let through once that is used up."""
    async with upstream() as provider:
        requests, queries = spellings(secret("one")), in_queries(secret("one"))
        limit = len(requests) + len(queries)
        with node(tmp_path, config(provider.port, {"one": f"requests: {limit}/day"}), workers=2) as gateway:
            assert {(await call(gateway.port, request)).status for request in requests} == {200}
            served = [(await call(gateway.port, request)).status for request in queries]
            assert set(served) <= {200, 400, 401}, "it is the key, or it is none"
            left = len(queries) - served.count(200)
            more = [(await call(gateway.port, requests[0])).status for _ in range(left + 1)]
            assert more == [200] * left + [429]
            assert {(await call(gateway.port, request)).status for request in requests} == {429}
            assert {(await call(gateway.port, request)).status for request in queries} <= {429, 400, 401}
            assert provider.calls == limit
