"""Request limits over real sockets: exact across workers, told to the caller, the same after a reload."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastgw.state import spool
from tests.support.gateway import Mock, Node, node, unique
from tests.support.rawclient import RawReply, connect, post

KEY = "fgw-limits-0123456789abcdef"
OTHER = "fgw-limits-other-0123456789"


def config(mock: Mock, *, key: str = "", model: str = "", gateway: str = "", more: str = "") -> str:
    def limits(text: str) -> str:
        return f", limits: {{{text}}}" if text else ""

    return f"""
providers: {{mock: {{kind: openai_compatible, base_url: "{mock.url}/v1"}}}}
models:
  mock-small: {{targets: [{{provider: mock, model: mock-small}}]{limits(model)}}}
  mock-large: {{targets: [{{provider: mock, model: mock-large}}]}}
keys:
  - {{name: one, secret: {KEY}{limits(key)}}}
  - {{name: two, secret: {OTHER}}}
{f"limits: {{{gateway}}}" if gateway else ""}
{more}
"""


def ask(key: str = KEY, model: str = "mock-small", label: str = "", **fields: Any) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
    return post(body, authorization=f"Bearer {key}", x_request_id=label or unique())


async def send(gateway: Node, *requests: bytes) -> list[RawReply]:
    """The replies to requests one after the other on one connection."""
    async with connect(gateway.port) as connection:
        replies = []
        for request in requests:
            connection.send(request)
            replies.append(await connection.read())
        return replies


Sample = tuple[float, float, int]  # began, ended, status


async def hammer(gateway: Node, clients: int, seconds: float) -> list[Sample]:
    """Clients that ask again and again on connections of their own, a little apart."""
    samples: list[Sample] = []
    end = time.monotonic() + seconds

    async def client(number: int) -> None:
        async with connect(gateway.port) as connection:
            while (began := time.monotonic()) < end:
                connection.send(ask())
                reply = await connection.read(10.0)
                assert reply.ending == "whole"
                samples.append((began, time.monotonic(), reply.status))
                await asyncio.sleep(0.05 + number / 1000)

    await asyncio.gather(*map(client, range(clients)))
    return samples


async def test_64_clients_on_two_workers_get_exactly_the_limit(tmp_path: Path, spare: Callable[..., Mock]) -> None:
    """600 a minute with a burst of 100: in no span of time more than 100 + 10 a second, and nearly all of that."""
    mock = spare()
    with node(tmp_path, config(mock, key="requests: 600/min, burst: 100"), workers=2) as gateway:
        samples = await hammer(gateway, 64, 4.0)
        accepted = sorted(sample for sample in samples if sample[2] == 200)
        assert {status for _, _, status in samples} == {200, 429}
        # A call is counted somewhere between its beginning and its end.
        first, last = min(s[0] for s in samples), max(s[1] for s in samples)
        assert len(accepted) <= 100 + 10 * (last - first)
        sure = min(s[1] for s in accepted), max(s[0] for s in samples)
        assert len(accepted) >= 0.99 * (100 + 10 * (sure[1] - sure[0])) - 1
        assert_every_span(accepted, burst=100, rate=10.0)
        assert mock.stats()["by_model"]["mock-small"] == len(accepted)
        await counted(gateway, len(accepted), len(samples) - len(accepted))
        assert both_workers_served(gateway)


def assert_every_span(accepted: list[Sample], burst: int, rate: float) -> None:
    """No span from one call's beginning to another's end holds more whole calls than the limit allows."""
    for start in (began for began, _, _ in accepted):
        inside = sorted(end for began, end, _ in accepted if began >= start)
        for count, end in enumerate(inside, 1):
            assert count <= burst + rate * (end - start) + 1e-6, (count, end - start)
    assert len(accepted) > burst


async def counted(gateway: Node, accepted: int, refused: int) -> None:
    """Records and metrics tell the same numbers."""
    async with asyncio.timeout(10):
        while len(rows := gateway.records()) < accepted + refused:
            await asyncio.sleep(0.05)
    statuses = [row["status"] for row in rows]
    assert (statuses.count(200), statuses.count(429)) == (accepted, refused)
    assert all(row["attempts"] == [] for row in rows if row["status"] == 429)
    metrics = gateway.metrics()
    refusals = {name: value for name, value in metrics.items() if "refus" in name and "key" in name}
    assert sum(refusals.values()) == refused, refusals


def both_workers_served(gateway: Node) -> bool:
    """Each worker writes into a series of spool files of its own: two lanes hold records."""
    lanes = {name.partition("-")[0] for name, _, _ in spool.read(spool.spool_dir(gateway.data_dir))}
    return len(lanes) == 2


@pytest.mark.parametrize("level", ["key", "model", "gateway"])
async def test_each_level_refuses_in_its_own_name(tmp_path: Path, mock: Mock, level: str) -> None:
    spare_key = {"key": 200, "model": 429, "gateway": 429}[level]
    spare_model = {"key": 429, "model": 200, "gateway": 429}[level]
    # No credential is asked for where none is given, so the session's mock would refuse: a 502 counts as let through.
    with node(tmp_path, config(mock, **{level: "requests: 2/min, burst: 2"})) as gateway:
        replies = await send(gateway, *[ask() for _ in range(3)], ask(OTHER), ask(model="mock-large"))
        statuses = [200 if reply.status == 502 else reply.status for reply in replies]
        assert statuses == [200, 200, 429, spare_key, spare_model]
        error = replies[2].json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert ("this gateway" if level == "gateway" else level) in error["message"]
        assert [r.headers["x-ratelimit-remaining-requests"] for r in replies[:3]] == ["1", "0", "0"]
        assert replies[0].headers["x-ratelimit-limit-requests"] == "2"
        assert 25 < int(replies[2].headers["retry-after"]) <= 30
        assert replies[2].headers["x-ratelimit-reset-requests"].endswith("s")


SIX = 'concurrent: 9, requests: [100/s, 1000/hour], tokens: [1000000/min, 9000000/day], budget: "10/month"'
WHOSE = {
    "target": "target 'mock/mock-small'",
    "model": "model 'mock-small'",
    "gateway": "this gateway",
    "key": "key 'one'",
}


@pytest.mark.parametrize("narrow", ["key", "model", "gateway", "target"])
async def test_six_limits_at_every_level_are_all_counted(
    tmp_path: Path, spare: Callable[..., Mock], narrow: str
) -> None:
    """As many as a call can be charged for; one of the 24 lets three pass, and it is that one which refuses."""
    limits = dict.fromkeys(WHOSE, SIX) | {narrow: SIX.replace("1000/hour", "3/hour")}
    price = "price: {input: 1, output: 1, force: true}"
    text = config(spare(), key=limits["key"], model=limits["model"], gateway=limits["gateway"])
    one = "{provider: mock, model: mock-small}"
    text = text.replace(one, f"{{provider: mock, model: mock-small, {price}, limits: {{{limits['target']}}}}}")
    with node(tmp_path, text) as gateway:
        replies = await send(gateway, *[ask() for _ in range(5)])
        assert [reply.status for reply in replies] == [200] * 3 + [429] * 2
        assert all(WHOSE[narrow] in reply.json()["error"]["message"] for reply in replies[3:])


async def test_who_waits_as_told_is_served(tmp_path: Path, spare: Callable[..., Mock]) -> None:
    with node(tmp_path, config(spare(), key="requests: 2/s, burst: 1")) as gateway:
        first, second = await send(gateway, ask(), ask())
        assert (first.status, second.status) == (200, 429)
        wait = int(second.headers["retry-after-ms"]) / 1000
        assert 0 < wait <= 0.5
        await asyncio.sleep(wait + 0.01)
        assert [reply.status for reply in await send(gateway, ask())] == [200]


async def test_a_refusal_takes_from_no_other_limit(tmp_path: Path, spare: Callable[..., Mock]) -> None:
    """What one limit refuses the others give back: the wide one is not used up by refused calls."""
    text = config(spare(), key="requests: 1/min, burst: 1", gateway="requests: 3/min, burst: 3")
    with node(tmp_path, text) as gateway:
        replies = await send(gateway, *[ask() for _ in range(10)], ask(OTHER), ask(OTHER), ask(OTHER))
        assert [reply.status for reply in replies] == [200, *[429] * 9, 200, 200, 429]


async def test_what_never_reaches_the_limits_takes_nothing(tmp_path: Path, spare: Callable[..., Mock]) -> None:
    with node(tmp_path, config(spare(), key="requests: 1/min, burst: 1")) as gateway:
        bad = [ask(api_base="x"), ask(model="nope"), ask("wrong-key-wrong-key"), ask(stream="x")]
        replies = await send(gateway, *bad, ask(), ask())
        assert [reply.status for reply in replies] == [400, 404, 401, 400, 200, 429]


async def test_a_reload_neither_forgives_nor_forgets(tmp_path: Path, spare: Callable[..., Mock]) -> None:
    """Counts stay with the limit through a new revision; a wider limit lets on at once."""
    mock = spare()
    with node(tmp_path, config(mock, key="requests: 2/min, burst: 2"), workers=2) as gateway:
        assert [reply.status for reply in await send(gateway, ask(), ask(), ask())] == [200, 200, 429]
        gateway.write_config(config(mock, key="requests: 2/min, burst: 2", more="log: {level: debug}"))
        await asyncio.to_thread(gateway.wait_revision, 2)
        assert [reply.status for reply in await send(gateway, ask())] == [429]
        gateway.write_config(config(mock, key="requests: 6000/min, burst: 100"))
        await asyncio.to_thread(gateway.wait_revision, 3)
        (reply,) = await send(gateway, ask())
        if reply.status == 429:  # what was taken counts as a whole burst of the new limit, which refills in no time
            assert int(reply.headers["retry-after-ms"]) <= 10
            await asyncio.sleep(0.02)
            (reply,) = await send(gateway, ask())
        assert reply.status == 200
