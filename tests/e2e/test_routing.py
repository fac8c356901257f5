"""Who is asked, and who stands in: real nodes before upstreams that fail in their vendors' own words."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.routing import ERRORS, JSON, PLACES, Stage, answers_as, chat, error, stage
from tests.faults.tongues import CHAT, EVENT_STREAM, TONGUES, Tongue, echo, payloads
from tests.support.gateway import unique
from tests.support.rawclient import connect
from tests.support.scripted import RawRequest, chunked, head, reply

KINDS = [tongue.name for tongue in TONGUES]
THREE = ", ".join(f"{{provider: {place}, model: m}}" for place in PLACES)


# strategies


async def test_weighted_shares_are_the_weights(tmp_path: Path) -> None:
    targets = "{provider: a, model: m, weight: 3}, {provider: b, model: m}, {provider: c, model: m, weight: 0}"
    async with stage(tmp_path, {"m": f"targets: [{targets}]"}) as at:
        await at.many(400, "m")
        counts = at.counts()
        assert counts["c"] == 0
        assert 240 <= counts["a"] <= 350, counts


async def test_lower_priority_first_while_it_can_serve(tmp_path: Path) -> None:
    targets = "{provider: a, model: m, priority: 2}, {provider: b, model: m}"
    async with stage(tmp_path, {"m": f"targets: [{targets}], balance: priority"}) as at:
        await at.many(20, "m")
        assert at.counts() == {"b": 20}
        at.behave("b", answers_as(503))
        for _ in range(20):
            assert (await at.ask("m")).status == 200
        assert at.counts() == {"b": 25, "a": 20}, "five failures, and it is left alone"


async def test_the_least_busy_is_asked_whichever_worker_is_asked(tmp_path: Path) -> None:
    """One target keeps its calls waiting: while one of them waits, either worker asks the others."""
    async with stage(tmp_path, {"m": f"targets: [{THREE}], balance: least_busy"}, workers=2) as at:
        at.behave("a", echo, after=4.0)
        waiting = []
        while not at.counts()["a"]:
            waiting.append(asyncio.create_task(at.ask("m", timeout=15)))
            await asyncio.sleep(0.02)
        stalled = at.counts()["a"]
        for _ in range(60):
            await at.ask("m")
        assert at.counts()["a"] == stalled, at.counts()
        assert min(at.counts()[place] for place in "bc") >= 10
        assert at.served_by_both()
        assert {one.status for one in await asyncio.gather(*waiting)} == {200}


async def test_the_quicker_is_asked_for_nearly_everything(tmp_path: Path) -> None:
    targets = "{provider: a, model: m}, {provider: b, model: m}"
    async with stage(tmp_path, {"m": f"targets: [{targets}], balance: least_latency"}) as at:
        at.behave("a", echo, after=0.3)
        await at.many(2, "m")
        for _ in range(20):
            await at.many(5, "m")
        counts = at.counts()
        assert counts["a"] <= 12, counts


async def test_the_cheapest_first(tmp_path: Path) -> None:
    prices = {"a": "{input: 3, output: 9}", "b": "{input: 1, output: 2}", "c": "{input: 2, output: 2}"}
    targets = ", ".join(f"{{provider: {place}, model: m, price: {price}}}" for place, price in prices.items())
    async with stage(tmp_path, {"m": f"targets: [{targets}], balance: cheapest"}) as at:
        await at.many(10, "m")
        assert at.counts() == {"b": 10}
        at.behave("b", answers_as(503))
        assert (await at.ask("m")).headers["x-fastgw-target"] == "c/m"


async def test_a_session_keeps_its_target_and_only_those_of_a_lost_one_move(tmp_path: Path) -> None:
    async with stage(tmp_path, {"m": f"targets: [{THREE}], balance: sticky"}, workers=2) as at:
        sessions = [f"session-{number}" for number in range(24)]

        async def homes() -> dict[str, str]:
            replies = await asyncio.gather(*(at.ask("m", prompt_cache_key=one) for one in sessions))
            return {one: got.headers["x-fastgw-provider"] for one, got in zip(sessions, replies, strict=True)}

        first = await homes()
        assert set(first.values()) == set(PLACES)
        for _ in range(3):
            assert await homes() == first
        assert at.served_by_both()
        await at.stop("a")
        moved = await homes()
        assert all(moved[one] == home for one, home in first.items() if home != "a")
        assert "a" not in moved.values()


async def test_a_conversation_is_known_by_how_it_begins(tmp_path: Path) -> None:
    async with stage(tmp_path, {"m": f"targets: [{THREE}], balance: sticky"}) as at:
        turns: list[dict[str, str]] = [{"role": "system", "content": "a long and settled beginning " * 30}]
        seen = set()
        for turn in range(5):
            turns.append({"role": "user", "content": f"turn {turn}"})
            seen.add((await at.ask("m", messages=turns)).headers["x-fastgw-provider"])
        assert len(seen) == 1


# fallback

CLASSES = "fallback: {outage: [out], rate: [slow], context: [long], policy: [free]}"
STAND_INS = {name: f"targets: [{{provider: b, model: {name}}}]" for name in ("out", "slow", "long", "free")}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("kind", "status", "body", "means"), ERRORS)
async def test_each_failure_leads_to_the_models_named_for_it(fallbacks: Stage, kind: str, status: int, body: Any,
                                                             means: str, stream: bool) -> None:  # fmt: skip
    at = fallbacks
    at.behave("a", lambda _: reply(status, JSON, body))
    label = unique()
    got = await at.ask(kind, stream=stream, label=label, tongue=_tongue(kind))
    stands_in = {"outage": "out", "rate": "slow", "context": "long", "policy": "free"}.get(means)
    row = await at.row(label)
    if stands_in is None:
        assert got.status == status
        assert row["model"] == kind
        return
    assert got.status == 200, got.raw[:500]
    assert got.headers["x-fastgw-model"] == row["model"] == stands_in
    assert label.encode() in got.body
    assert [(one["status"], one["reason"]) for one in row["attempts"]] == [(status, str(status)), (200, "")]
    assert got.headers["x-fastgw-attempts"] == "2"
    assert got.headers["x-fastgw-route"] == f"{_place(kind)}/m={status}, b/{stands_in}=200"


def _tongue(kind: str) -> Tongue:
    return {"anthropic": TONGUES[1], "gemini": TONGUES[3]}.get(kind, CHAT)


def _place(kind: str) -> str:
    return {"openai": "a"}.get(kind, f"a_{kind}")


@pytest.fixture
async def fallbacks(tmp_path: Path) -> AsyncIterator[Stage]:
    models = {
        kind: f"targets: [{{provider: {_place(kind)}, model: m}}], {CLASSES}, breaker: {{failures: 0}}"
        for kind in ("openai", "anthropic", "gemini")
    }
    async with stage(tmp_path, models | STAND_INS) as at:
        yield at


async def test_a_list_is_for_outages_and_rates_only(tmp_path: Path) -> None:
    models = {"m": "targets: [{provider: a, model: m}], fallback: [s, t], breaker: {failures: 0}"}
    models |= {"s": "targets: [{provider: b, model: s}]", "t": "targets: [{provider: c, model: t}]"}
    async with stage(tmp_path, models) as at:
        at.behave("a", answers_as(500))
        assert (await at.ask("m")).headers["x-fastgw-model"] == "s"
        at.behave("b", answers_as(502))
        got = await at.ask("m")
        assert (got.status, got.headers["x-fastgw-model"]) == (200, "t")
        at.behave("c", answers_as(504))
        assert (await at.ask("m")).status == 504, "the last failure is the caller's"
        at.behave("a", lambda _: reply(400, JSON, error("context_length_exceeded")))
        assert (await at.ask("m")).status == 400


async def test_where_nobody_listens_another_model_stands_in(tmp_path: Path) -> None:
    models = {"m": "targets: [{provider: a, model: m}], fallback: [s]", "s": "targets: [{provider: b, model: s}]"}
    async with stage(tmp_path, models) as at:
        await at.stop("a")
        for _ in range(8):
            assert (await at.ask("m")).headers["x-fastgw-model"] == "s"
        label = unique()
        await at.ask("m", label=label)
        row = await at.row(label)
        assert [one["reason"] for one in row["attempts"]] == ["resting_failures", ""], "the breaker is open by now"


async def test_a_limit_of_the_callers_own_is_not_got_round(tmp_path: Path) -> None:
    models = {"m": "targets: [{provider: a, model: m}], fallback: [s]", "s": "targets: [{provider: b, model: s}]"}
    async with stage(tmp_path, models, key="limits: {requests: 1/min, burst: 1}") as at:
        assert (await at.ask("m")).status == 200
        assert (await at.ask("m")).status == 429
        assert at.counts() == {"a": 1}


async def test_a_limit_of_the_targets_own_is_what_fallbacks_are_for(tmp_path: Path) -> None:
    limited = "targets: [{provider: a, model: m, limits: {requests: 1/min, burst: 1}}"
    models = {"m": f"{limited}], fallback: [s]", "s": "targets: [{provider: b, model: s}]"}
    models["n"] = f"{limited}, {{provider: a, model: n, limits: {{requests: 1/day}}}}], fallback: [s]"
    async with stage(tmp_path, models) as at:
        assert (await at.ask("m")).headers["x-fastgw-model"] == "m"
        assert (await at.ask("m")).headers["x-fastgw-model"] == "s"
        assert [(await at.ask("n")).headers["x-fastgw-model"] for _ in range(2)] == ["n", "s"]


# streams that open with an error


@pytest.mark.parametrize("tongue", TONGUES, ids=KINDS)
@pytest.mark.parametrize("way", ["target", "model"])
async def test_a_stream_that_opens_with_an_error_is_asked_of_another(tmp_path: Path, tongue: Tongue, way: str) -> None:
    one, two = (f"{{provider: {place}_{tongue.kind}, model: m" for place in ("a", "b"))
    models = {
        "target": {"m": f"targets: [{one}}}, {two}, priority: 2}}], retry: {{on: [5xx]}}"},
        "model": {"m": f"targets: [{one}}}], fallback: [s]", "s": f"targets: [{two}}}]"},
    }[way]
    async with stage(tmp_path, models) as at:
        quiet = () if tongue.name == "gemini" else tongue.events()[:1]
        opened = head(200, EVENT_STREAM) + chunked(*quiet, tongue.error_event())
        at.behave("a", lambda _: opened)
        label = unique()
        got = await at.ask("m", stream=True, label=label, tongue=tongue)
        assert (got.status, got.ending) == (200, "whole")
        assert label.encode() in got.body
        assert tongue.terminal in got.body
        assert not any("error" in one and one["error"] for one in payloads(got.body) if isinstance(one, dict))
        row = await at.row(label)
        assert [one["reason"] for one in row["attempts"]] == ["event_overloaded", ""]
        assert row["error"] is None


# the breaker


async def test_the_breaker_opens_refuses_at_once_and_probes_once(tmp_path: Path) -> None:
    models = {"m": "targets: [{provider: a, model: m}], breaker: {failures: 3, open: 1s}"}
    async with stage(tmp_path, models, workers=2) as at:
        at.behave("a", answers_as(500))
        for _ in range(3):
            assert (await at.ask("m")).status == 500
        began = time.monotonic()
        label = unique()
        refused = await at.ask("m", label=label)
        assert time.monotonic() - began < 0.5
        assert refused.status == 503
        assert refused.json()["error"]["code"] == "no_target_available"
        assert 1 <= int(refused.headers["retry-after"]) <= 2
        assert 0 < int(refused.headers["retry-after-ms"]) <= 1010
        assert [(one["status"], one["reason"]) for one in (await at.row(label))["attempts"]] == [
            (0, "resting_failures")
        ]
        assert at.counts() == {"a": 3}
        at.behave("a", echo, after=0.5)
        await asyncio.sleep(1.1)
        statuses = Counter(one.status for one in await at.gather(10, "m"))
        assert statuses == {200: 1, 503: 9}, "one probe, of both workers together"
        at.behave("a", echo)
        await at.many(10, "m")
        name = 'fastgw_breaker_opened_total{model="m",provider="a",target="a/m"}'
        await at.until(lambda: at.node.metrics().get(name) == 1)


async def test_a_probe_whose_client_leaves_is_the_next_ones(tmp_path: Path) -> None:
    models = {"m": "targets: [{provider: a, model: m}], breaker: {failures: 1, open: 300ms}"}
    async with stage(tmp_path, models) as at:
        at.behave("a", answers_as(500))
        assert (await at.ask("m")).status == 500
        await asyncio.sleep(0.4)
        at.behave("a", echo, after=5.0)
        async with connect(at.node.port) as leaving:
            leaving.send(chat("m"))
            await at.until(lambda: at.counts()["a"] == 2)
            assert (await at.ask("m")).status == 503
        at.behave("a", echo)
        await at.until_served("m", 3.0)


async def test_what_a_request_does_wrong_is_no_failure_of_the_target(tmp_path: Path) -> None:
    models = {"m": "targets: [{provider: a, model: m}], breaker: {failures: 2, open: 5s}"}
    async with stage(tmp_path, models) as at:
        for status in (400, 404, 409, 413, 422):
            at.behave("a", answers_as(500))
            assert (await at.ask("m")).status == 500
            at.behave("a", answers_as(status))
            assert (await at.ask("m")).status == status, "a failure before it is forgotten"


# credentials

TWO_KEYS = "api_keys: [sk-one-credential, sk-two-credential]"


@pytest.mark.parametrize("status", [401, 429])
@pytest.mark.parametrize("model", ["m", "a/anything"])
async def test_a_credential_that_is_refused_rests_by_itself(tmp_path: Path, status: int, model: str) -> None:
    def by_key(request: RawRequest) -> bytes:
        if request.header("authorization") == "Bearer sk-one-credential":
            return reply(status, [*JSON, ("retry-after", "30")], error("rate_limit_exceeded"))
        return echo(request)

    models = {"m": "targets: [{provider: a, model: m}]"}
    async with stage(tmp_path, models, providers={"a": TWO_KEYS}, workers=2) as at:
        at.behave("a", by_key)
        for _ in range(10):
            assert (await at.ask(model)).status == 200
        await at.many(30, model)
        used = Counter(request.header("authorization") for request in at.requests("a"))
        assert used == {"Bearer sk-two-credential": 40, "Bearer sk-one-credential": 1}
        labels = [row["attempts"] for row in at.node.records()]
        reasons = Counter(one["reason"] for attempts in labels for one in attempts)
        assert set(reasons) <= {"", str(status), "resting_rate", "resting_auth"}


async def test_all_credentials_at_rest_is_a_429_that_names_the_time(tmp_path: Path) -> None:
    models = {"m": "targets: [{provider: a, model: m}]"}
    async with stage(tmp_path, models, providers={"a": TWO_KEYS}, workers=2) as at:
        at.behave("a", lambda _: reply(429, [*JSON, ("retry-after", "20")], error("rate_limit_exceeded")))
        assert (await at.ask("m")).status == 429
        for _ in range(6):
            label = unique()
            got = await at.ask("m", label=label)
            assert (got.status, got.json()["error"]["code"]) == (429, "rate_limit_exceeded")
            assert 17 <= int(got.headers["retry-after"]) <= 20
            assert [one["reason"] for one in (await at.row(label))["attempts"]] == ["resting_rate"] * 2
        assert at.counts() == {"a": 2}


# the retry account


async def test_retries_stay_within_a_fifth_of_the_calls(tmp_path: Path) -> None:
    turns = itertools.count()

    def half(request: RawRequest) -> bytes:
        return reply(503, JSON, error("server_error")) if next(turns) % 2 else echo(request)

    targets = "{provider: a, model: m}, {provider: b, model: m}"
    models = {"m": f"targets: [{targets}], retry: {{on: [503]}}, breaker: {{failures: 0}}"}
    async with stage(tmp_path, models, workers=2) as at:
        for place in ("a", "b"):
            at.behave(place, half)
        for _ in range(20):
            await at.many(10, "m", expect=None)
        attempts = sum(at.counts().values())
        assert 200 <= attempts <= 1.2 * 200 + 3
