"""Limits of the calendar, of tokens, money and calls at once, over real sockets: exact across workers."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.gateway import Node, node, until
from tests.support.load import length, volley
from tests.support.rawclient import RawReply, connect, post

KEYS = ("by-requests", "by-tokens", "by-money")
OUTPUT = 20
LIMIT = 1000
CLIENTS = 64


def secret(name: str) -> str:
    return f"fgw-budgets-{name}-0123456789"


def ask(key: str, **fields: object) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": OUTPUT, **fields}
    return post(body, authorization=f"Bearer {secret(key)}")


INPUT = len(ask("x").partition(b"\r\n\r\n")[2]) // 4
TOKENS = INPUT + OUTPUT


class Upstream:
    """A provider whose answers use what was held back for them, or what `used` says; `hold` keeps them waiting."""

    def __init__(self) -> None:
        self.used = (INPUT, OUTPUT)
        self.calls = self.now = self.most = 0
        self.hold = 0.0
        self.port = 0
        self.open: set[Served] = set()

    def reply(self) -> bytes:
        given, made = self.used
        usage = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
        choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
        body = json.dumps({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        return (head + body).encode()


class Served(asyncio.Protocol):
    """One of the gateway's connections to the provider, with one request at a time."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._data = b""
        self._held: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._upstream.open.add(self)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found or len(body) < length(head):
            return
        self._data = b""
        upstream = self._upstream
        upstream.calls += 1
        upstream.now += 1
        upstream.most = max(upstream.most, upstream.now)
        if upstream.hold:
            self._held = asyncio.get_running_loop().call_later(upstream.hold, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        self._held = None
        self._upstream.now -= 1
        self.transport.write(self._upstream.reply())

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.open.discard(self)
        if self._held is not None:
            self._held.cancel()
            self._upstream.now -= 1


@contextlib.asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    made = Upstream()
    server = await asyncio.get_running_loop().create_server(lambda: Served(made), "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for served in set(made.open):
            served.transport.abort()
        await asyncio.sleep(0)


def config(port: int, limits: dict[str, str], *, price: str = "{input: 1.5, output: 7, force: true}") -> str:
    rows = (f"  - {{name: {name}, secret: {secret(name)}, limits: {{{text}}}}}" for name, text in limits.items())
    keys = "\n".join(rows)
    target = f"{{provider: up, model: m{f', price: {price}' if price else ''}}}"
    return f"""
providers: {{up: {{kind: openai_compatible, base_url: "http://127.0.0.1:{port}/v1"}}}}
models: {{m: {{targets: [{target}]}}}}
keys:
{keys}
"""


def dollars(calls: int) -> str:
    nano = (INPUT * 1500 + OUTPUT * 7000) * calls
    return f"{nano // 10**9}.{nano % 10**9:09d}"


async def hammer(gateway: Node, key: str, clients: int, calls: int) -> list[RawReply]:
    """So many calls from each of so many clients at once."""

    async def client() -> list[RawReply]:
        async with connect(gateway.port) as connection:
            replies = []
            for _ in range(calls):
                connection.send(ask(key))
                replies.append(await connection.read(30.0))
            return replies

    return [reply for replies in await asyncio.gather(*(client() for _ in range(clients))) for reply in replies]


@pytest.mark.parametrize("workers", [2, 4])
async def test_a_days_limits_let_exactly_so_many_pass(tmp_path: Path, workers: int) -> None:
    """Requests, tokens and money of a thousand calls: 64 clients at once, and not one more or less is let through."""
    limits = {
        "by-requests": f"requests: {LIMIT}/day",
        "by-tokens": f"tokens: {LIMIT * TOKENS}/day",
        "by-money": f"budget: {dollars(LIMIT)}/day",
    }
    asked = LIMIT + 5 * CLIENTS
    async with upstream() as provider:
        with node(tmp_path, config(provider.port, limits), workers=workers) as gateway:
            for number, key in enumerate(KEYS, 1):
                statuses = await volley(gateway.port, ask(key), CLIENTS, asked)
                assert statuses == {200: LIMIT, 429: asked - LIMIT}, key
                assert provider.calls == number * LIMIT


async def test_refusals_say_what_is_used_up_and_headers_what_is_left(tmp_path: Path) -> None:
    limits = {
        "by-requests": "requests: 2/day",
        "by-tokens": f"tokens: [{TOKENS + 1}/min, {TOKENS + 1}/day]",
        "by-money": f"budget: {dollars(1)}/month, soft_budget: {dollars(1)}/day",
    }
    async with upstream() as provider:
        with node(tmp_path, config(provider.port, limits)) as gateway:
            first, *_, last = await hammer(gateway, "by-requests", 1, 3)
            assert [first.headers[f"x-ratelimit-{what}-requests"] for what in ("limit", "remaining")] == ["2", "1"]
            assert first.headers["x-ratelimit-reset-requests"].endswith("s")
            assert last.json()["error"]["code"] == "rate_limit_exceeded"
            assert "key 'by-requests': 2 requests per day (UTC), 2 used" in last.json()["error"]["message"]
            assert 0 < int(last.headers["retry-after"]) <= 86_400

            first, second = await hammer(gateway, "by-tokens", 1, 2)
            assert [first.headers[f"x-ratelimit-{what}-tokens"] for what in ("limit", "remaining")] == [
                str(TOKENS + 1),
                "1",
            ]
            assert second.status == 429
            assert f"this call may use {TOKENS}" in second.json()["error"]["message"]

            first, second = await hammer(gateway, "by-money", 1, 2)
            assert (first.status, first.headers.get("x-fastgw-soft-budget")) == (200, None)
            error = second.json()["error"]
            assert (second.status, error["type"], error["code"]) == (429, "insufficient_quota", "budget_exceeded")
            assert second.headers["x-should-retry"] == "false"
            assert "per month (UTC)" in error["message"]


async def test_a_soft_budget_is_told_and_refuses_nothing(tmp_path: Path) -> None:
    async with upstream() as provider:
        with node(tmp_path, config(provider.port, {"by-money": f"soft_budget: {dollars(1)}/day"})) as gateway:
            first, second = await hammer(gateway, "by-money", 1, 2)
            assert (first.status, second.status) == (200, 200)
            assert "x-fastgw-soft-budget" not in first.headers
            assert second.headers["x-fastgw-soft-budget"].startswith("key 0.0")
            assert sum(v for name, v in gateway.metrics().items() if "soft_budget" in name) == 1


@pytest.mark.parametrize("workers", [2, 4])
async def test_never_more_calls_at_once_than_may_be(tmp_path: Path, workers: int) -> None:
    async with upstream() as provider:
        provider.hold = 0.02
        with node(tmp_path, config(provider.port, {"by-requests": "concurrent: 50"}), workers=workers) as gateway:
            statuses = await volley(gateway.port, ask("by-requests"), 100, 4000)
            assert set(statuses) == {200, 429}
            assert statuses[200] == provider.calls
            assert provider.most == 50
            replies = await hammer(gateway, "by-requests", 100, 1)
            refused = next(reply for reply in replies if reply.status == 429)
            assert refused.json()["error"]["code"] == "concurrency_limit_exceeded"
            # Everything was released: as many as may be can be had again at once.
            assert await volley(gateway.port, ask("by-requests"), 50, 50) == {200: 50}


async def test_what_is_used_counts_not_what_was_held_back(tmp_path: Path) -> None:
    """A call that used less gives back; one that used more goes beyond, by that much and no more, and is counted."""
    async with upstream() as provider:
        limits = {"by-tokens": f"tokens: {4 * TOKENS}/day"}
        with node(tmp_path, config(provider.port, limits)) as gateway:
            provider.used = (1, 1)
            assert {reply.status for reply in await hammer(gateway, "by-tokens", 1, 10)} == {200}
            provider.used = (INPUT, 10 * OUTPUT)
            statuses = [reply.status for reply in await hammer(gateway, "by-tokens", 1, 3)]
            assert statuses == [200, 429, 429]
            beyond = 20 + INPUT + 10 * OUTPUT - 4 * TOKENS
            assert 0 < beyond <= INPUT + 10 * OUTPUT - TOKENS, "no more than the call used beyond what was held back"
            assert sum(v for name, v in gateway.metrics().items() if "token_overshoot" in name) == beyond


async def test_a_model_without_a_price_is_refused_under_a_budget(tmp_path: Path) -> None:
    async with upstream() as provider:
        with node(tmp_path, config(provider.port, {"by-money": "budget: 1/day"}, price="")) as gateway:
            (reply,) = await hammer(gateway, "by-money", 1, 1)
            assert (reply.status, reply.json()["error"]["code"]) == (400, "price_unknown")
            assert provider.calls == 0


async def test_budgets_outlive_a_restart(tmp_path: Path) -> None:
    async with upstream() as provider:
        text = config(provider.port, {"by-money": f"budget: {dollars(3)}/total"})
        with node(tmp_path, text) as gateway:
            assert [reply.status for reply in await hammer(gateway, "by-money", 1, 2)] == [200, 200]
        with node(tmp_path, text) as gateway:
            assert [reply.status for reply in await hammer(gateway, "by-money", 1, 2)] == [200, 429]


async def test_f28_f40_a_dead_workers_calls_are_seen_to(tmp_path: Path) -> None:
    """Killed with calls in flight: what they held at once is free within seconds, and each has its one record."""
    async with upstream() as provider:
        provider.hold = 30.0
        text = config(provider.port, {"by-money": f"concurrent: 3, budget: {dollars(100)}/day"})
        with node(tmp_path, text) as gateway:
            calls = [asyncio.create_task(hammer(gateway, "by-money", 1, 1)) for _ in range(3)]
            await asyncio.to_thread(until, lambda: provider.now == 3)
            os.kill(gateway.workers[0], signal.SIGKILL)
            await asyncio.gather(*calls, return_exceptions=True)
            provider.hold = 0.0

            def died() -> list[dict[str, object]]:
                return [row for row in gateway.records() if row["error"] == "worker_died"]

            await asyncio.to_thread(until, lambda: len(died()) == 3, 10.0)
            assert {row["usage_source"] for row in died()} == {"estimated"}
            assert {row["cost_nano"] for row in died()} == {INPUT * 1500 + OUTPUT * 7000}
            await asyncio.to_thread(until, lambda: gateway.get("/health/ready")[0] == 200, 10.0)
            assert {reply.status for reply in await hammer(gateway, "by-money", 3, 1)} == {200}
            # Three that died are taken for paid, three were paid: 94 are left.
            statuses = [reply.status for reply in await hammer(gateway, "by-money", 1, 96)]
            assert statuses.count(200) == 94


async def test_a_target_at_its_limit_is_passed_over_and_refuses_only_when_none_is_left(tmp_path: Path) -> None:
    async with upstream() as provider:
        text = config(provider.port, {"by-requests": "requests: 100/day"})
        one = "{provider: up, model: m, price: {input: 1.5, output: 7, force: true}}"
        first = "{provider: up, model: first, limits: {requests: 1/day}}"
        second = "{provider: up, model: second, priority: 2, limits: {requests: 1/day}}"
        with node(tmp_path, text.replace(one, f"{first}, {second}")) as gateway:
            replies = await hammer(gateway, "by-requests", 1, 3)
            assert [reply.status for reply in replies] == [200, 200, 429]
            assert [reply.headers.get("x-fastgw-target") for reply in replies[:2]] == ["up/first", "up/second"]
            assert "target 'up/" in replies[2].json()["error"]["message"]
            refusals = {name: value for name, value in gateway.metrics().items() if "limit_refusals" in name and value}
            assert refusals == {'fastgw_limit_refusals_total{level="target"}': 1.0}
