"""Budgets under those who would have more than is theirs. S26 is the row of that number: what a limit counted is what
the records say, whatever the caller, the provider or the moment; never less, and never below nothing.
"""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastgw.state.table import open_table, slot_id, windows
from tests.e2e.test_budgets import INPUT, KEYS, OUTPUT, TOKENS, ask, config, dollars, secret, upstream
from tests.support.gateway import Node, node
from tests.support.rawclient import RawConnection, connect, post
from tests.support.scripted import (
    RawRequest,
    ScriptedUpstream,
    Serve,
    chat_completion,
    chat_events,
    head,
    reply,
    sse,
)

COST = INPUT * 1500 + OUTPUT * 7000
HUGE = [2**31, 2**53, 10**15, 10**40, 1e308, -1, 0, "all", None]


def used(gateway: Node, key: str, unit: str, period: str = "day") -> int:
    """What the shared table has counted of a key's limit: the figure that decides."""
    table = open_table(gateway.data_dir, create=False)
    try:
        slot = table.find(slot_id("key", key, "window", unit, period))
        assert slot >= 0
        return table.used(slot, windows(int(time.time())))
    finally:
        table.close()


async def settled(gateway: Node, calls: int) -> list[dict[str, Any]]:
    """The records of so many calls; a record is written just before its call is settled, so a moment later."""
    async with asyncio.timeout(10):
        while len(rows := gateway.records()) < calls:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    assert len(rows) == calls
    return rows


def spent(rows: list[dict[str, Any]]) -> int:
    return sum(row["cost_nano"] or 0 for row in rows)


async def at_once(gateway: Node, requests: list[bytes]) -> list[int]:
    """The statuses of requests on connections of their own, all sent in the same moment."""

    async def one(request: bytes, go: asyncio.Event) -> int:
        async with connect(gateway.port) as connection:
            await go.wait()
            connection.send(request)
            return (await connection.read(20.0)).status

    go = asyncio.Event()
    tasks = [asyncio.create_task(one(request, go)) for request in requests]
    await asyncio.sleep(0.3)
    go.set()
    return await asyncio.gather(*tasks)


@pytest.mark.parametrize("workers", [2, 4])
async def test_s26_a_hundred_at_once_with_one_left(tmp_path: Path, workers: int) -> None:
    """Requests, tokens and money for three calls; two are made, then a hundred come in one moment: one passes."""
    limits = dict(zip(KEYS, ("requests: 3/day", f"tokens: {3 * TOKENS}/day", f"budget: {dollars(3)}/day"), strict=True))
    async with upstream() as provider:
        provider.hold = 0.05
        with node(tmp_path, config(provider.port, limits), workers=workers) as gateway:
            for number, key in enumerate(KEYS, 1):
                assert await at_once(gateway, [ask(key)] * 2) == [200, 200]
                statuses = await at_once(gateway, [ask(key)] * 100)
                assert (statuses.count(200), statuses.count(429)) == (1, 99), key
                assert provider.calls == 3 * number
            await settled(gateway, len(KEYS) * 102)
            figures = zip(KEYS, ("requests", "tokens", "nano"), (3, 3 * TOKENS, 3 * COST), strict=True)
            assert all(used(gateway, key, unit) == figure for key, unit, figure in figures)


async def test_s26_who_leaves_before_the_usage_pays_what_the_record_says(tmp_path: Path) -> None:
    """Leaving is no way to spend nothing, nor to spend what was only held back."""
    async with upstream() as provider:
        provider.hold = 30.0
        with node(tmp_path, config(provider.port, {"by-money": f"budget: {dollars(10)}/day"}), workers=2) as gateway:
            for number in range(1, 4):
                async with connect(gateway.port) as connection:
                    connection.send(ask("by-money"))
                    async with asyncio.timeout(5):
                        while provider.calls < number:
                            await asyncio.sleep(0.005)
            rows = await settled(gateway, 3)
            assert {row["status"] for row in rows} == {499}
            assert spent(rows) == 3 * INPUT * 1500
            assert used(gateway, "by-money", "nano") == spent(rows)
            provider.hold = 0.0
            statuses = await at_once(gateway, [ask("by-money")] * 12)
            assert statuses.count(200) == (10 * COST - spent(rows)) // COST


def scripted(make: Callable[[RawRequest], bytes | None]) -> ScriptedUpstream:
    return ScriptedUpstream([[Serve(make)]])


async def read_whole(connection: RawConnection, request: bytes) -> int:
    connection.send(request)
    answer = await connection.read(10.0)
    assert answer.ending == "whole"
    return answer.status


async def test_s26_a_stream_that_tells_no_usage_is_charged_by_what_was_delivered(tmp_path: Path) -> None:
    """Far more than `max_tokens` let be held back for, and counted all the same."""
    words = 20 * OUTPUT

    def stream(request: RawRequest) -> bytes:
        return sse(chat_events(*["word "] * words))

    async with scripted(stream) as provider:
        with node(tmp_path, config(provider.port, {"by-money": f"budget: {dollars(100)}/day"})) as gateway:
            async with connect(gateway.port) as connection:
                for _ in range(3):
                    assert await read_whole(connection, ask("by-money", stream=True)) == 200
                rows = await settled(gateway, 3)
                assert {row["usage_source"] for row in rows} == {"estimated"}
                assert all(row["output_tokens"] >= words for row in rows)
                assert used(gateway, "by-money", "nano") == spent(rows) > 10 * COST
                statuses = [200]
                while statuses[-1] == 200:
                    statuses.append(await read_whole(connection, ask("by-money", stream=True)))
            rows = await settled(gateway, 2 + len(statuses))
            assert statuses[-1] == 429
            beyond = spent(rows) - 100 * COST
            # Beyond the budget goes what the last call used and was not held back for, and no more.
            assert beyond <= max(row["cost_nano"] or 0 for row in rows) - COST
            assert used(gateway, "by-money", "nano") == spent(rows)


async def test_s26_many_answers_are_held_back_for_and_charged_as_many(tmp_path: Path) -> None:
    """`n: 128` is 128 answers: where the budget holds 127 it is refused before anybody is asked."""
    many = 128
    size = INPUT + 3  # `, "n": 128` makes the body longer
    enough = {"by-money": f"tokens: {size + many * OUTPUT}/day", "by-tokens": f"tokens: {size + 127 * OUTPUT}/day"}
    async with upstream() as provider:
        with node(tmp_path, config(provider.port, enough)) as gateway:
            async with connect(gateway.port) as connection:
                assert await read_whole(connection, ask("by-tokens", n=many)) == 429
                assert provider.calls == 0
                provider.used = (INPUT, many * OUTPUT)
                assert await read_whole(connection, ask("by-money", n=many)) == 200
                assert await read_whole(connection, ask("by-money")) == 429
            await settled(gateway, 3)
            assert used(gateway, "by-money", "tokens") == INPUT + many * OUTPUT
            assert used(gateway, "by-tokens", "tokens") == 0


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", "n"])
async def test_s26_figures_beyond_all_measure_take_nothing_and_break_nothing(tmp_path: Path, field: str) -> None:
    """Whatever is asked for, the answer is a reason or an answer, and what is counted is what was answered."""
    async with upstream() as provider:
        limits = {"by-money": f"budget: {dollars(1000)}/day", "by-tokens": f"tokens: {1000 * TOKENS}/day"}
        with node(tmp_path, config(provider.port, limits)) as gateway:
            requests = [(key, {field: value}) for key in limits for value in HUGE]
            async with connect(gateway.port) as connection:
                statuses = [await read_whole(connection, ask(key, **more)) for key, more in requests]
            assert set(statuses) <= {200, 400, 429}
            refused = [more[field] for (_, more), status in zip(requests, statuses, strict=True) if status != 200]
            assert {2**53, 10**15} <= {value for value in refused if isinstance(value, int)}
            rows = await settled(gateway, len(requests))
            served = {key: sum(row["status"] == 200 for row in rows if row["key"] == key) for key in limits}
            assert used(gateway, "by-money", "nano") == served["by-money"] * COST
            assert used(gateway, "by-tokens", "tokens") == served["by-tokens"] * TOKENS
            gateway.assert_well()


async def test_s26_words_that_are_no_numbers_are_no_json(tmp_path: Path) -> None:
    async with upstream() as provider:
        with node(tmp_path, config(provider.port, {"by-money": f"budget: {dollars(10)}/day"})) as gateway:
            async with connect(gateway.port) as connection:
                for word in (b"NaN", b"Infinity", b"-Infinity"):
                    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":%b}' % word
                    request = post(body, authorization=f"Bearer {secret('by-money')}")
                    assert await read_whole(connection, request) == 400
            assert provider.calls == 0
            assert used(gateway, "by-money", "nano") == 0


def usage(given: Any, made: Any, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": given, "completion_tokens": made, **more}


USAGES = [
    usage(-5, -1000),
    usage(-(10**18), 3),
    usage(10**18, 10**18),
    usage(1e308, 1e308),
    usage("7", None),
    usage(10, 5, prompt_tokens_details={"cached_tokens": 10**6}),
    usage(10, 5, prompt_tokens_details={"cached_tokens": -(10**6)}),
    usage(10, 5, completion_tokens_details={"reasoning_tokens": 10**6}),
    {},
]


@pytest.mark.parametrize("told", USAGES, ids=lambda told: json.dumps(told)[:48])
async def test_s26_a_usage_that_cannot_be_pays_nothing_back(tmp_path: Path, told: dict[str, Any]) -> None:
    """A provider that tells of less than nothing, or of more than there is: what is counted never goes down."""
    answers = iter([usage(INPUT, OUTPUT), told])

    def answer(request: RawRequest) -> bytes:
        body = chat_completion()
        body["usage"] = next(answers)
        return reply(body=body)

    async with scripted(answer) as provider:
        with node(tmp_path, config(provider.port, {"by-money": f"budget: {dollars(100)}/day"})) as gateway:
            async with connect(gateway.port) as connection:
                assert await read_whole(connection, ask("by-money")) == 200
                before = spent(await settled(gateway, 1))
                assert used(gateway, "by-money", "nano") == before == COST
                assert await read_whole(connection, ask("by-money")) in (200, 502)
            rows = await settled(gateway, 2)
            assert all(row["cost_nano"] >= 0 for row in rows)
            assert used(gateway, "by-money", "nano") == spent(rows) >= before
            gateway.assert_well()


async def test_s26_a_retry_is_charged_once(tmp_path: Path) -> None:
    """Calls that are refused once by their provider and then served: the budget is charged for what was served."""
    turns = iter(range(1000))
    # The first and the third call; more at a time would use up what retries there are.
    failing = {0, 3}

    def answer(request: RawRequest) -> bytes:
        if next(turns) in failing:
            return head(503, [("content-length", "0"), ("retry-after", "0")])
        body = chat_completion()
        body["usage"] = usage(INPUT, OUTPUT)
        return reply(body=body)

    async with scripted(answer) as provider:
        text = config(provider.port, {"by-money": f"budget: {dollars(5)}/day"})
        # A second target, since the one that failed is not asked again.
        again = "{provider: up, model: m2, priority: 2, price: {input: 1.5, output: 7, force: true}}"
        text = text.replace("force: true}}]", f"force: true}}}}, {again}]")
        with node(tmp_path, text) as gateway:
            async with connect(gateway.port) as connection:
                statuses = [await read_whole(connection, ask("by-money")) for _ in range(6)]
            assert statuses == [200] * 5 + [429]
            rows = await settled(gateway, 6)
            assert [len(row["attempts"]) for row in rows] == [2, 1, 2, 1, 1, 0]
            assert used(gateway, "by-money", "nano") == spent(rows) == 5 * COST
