"""Names and specs of faults, and each fault as a raw client sees it."""

import asyncio
import random

import pytest

from fastgw.mock import Chance, Fault, MockOptions, parse_chances, start
from fastgw.mock.faults import named_fault, roll
from tests.support.grammar import chat_stream_problems, check_chat_stream
from tests.support.rawclient import RawReply, call, connect, get, post


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        ("mock-error-429", Fault("error", 429)),
        ("vendor/mock-error-529", Fault("error", 529)),
        ("mock-html-502", Fault("html-502")),
        ("mock-stream-error-3", Fault("stream-error", 3)),
        ("mock-timeout", Fault("timeout")),
        ("mock-usage-in-finish", Fault("usage-in-finish")),
        ("mock-cut-0", Fault("cut", 0)),
        ("mock-error-418", None),
        ("mock-cut", None),
        ("mock-cut-", None),
        ("mock-cut--1", None),
        ("mock-cut-9999999999", None),
        ("mock-timeout-5", None),
        ("mock-small", None),
        ("smock-error-429", None),
        ("", None),
    ],
)
def test_named_fault(model: str, fault: Fault | None) -> None:
    assert named_fault(model) == fault


def test_parse_chances() -> None:
    assert parse_chances("error:503:0.1, latency:200:0.5,timeout:1") == (
        Chance(Fault("error", 503), 0.1),
        Chance(Fault("latency", 200), 0.5),
        Chance(Fault("timeout"), 1.0),
    )
    assert parse_chances("") == ()


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ("eror:503:0.1", "unknown kind"),
        ("error:0.1", "NUMBER"),
        ("error:503:1.5", "0-1"),
        ("error:503:-0.1", "0-1"),
        ("error:503:nan", "0-1"),
        ("error:299:0.1", "status"),
        ("cut:x:0.1", "numeric"),
        ("nousage:0.5", "unknown kind"),
    ],
)
def test_parse_chances_refuses(spec: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_chances(spec)


def test_roll_follows_the_probability() -> None:
    chances = parse_chances("error:503:0.25")
    hits = sum(roll(chances, rng) is not None for rng in [random.Random(1)] for _ in range(10_000))
    assert 2300 < hits < 2700
    assert roll((), random.Random(1)) is None


def chat(model: str, **more: object) -> bytes:
    return post({"model": model, "messages": [{"role": "user", "content": "hi"}], **more})


async def ask(model: str, timeout: float = 5.0, **more: object) -> tuple[RawReply, dict[str, int]]:
    async with await start(MockOptions(tokens=5)) as server:
        reply = await call(server.port, chat(model, **more), timeout)
        return reply, dict(server.stats.faults)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 422, 429, 500, 502, 503, 504, 529])
@pytest.mark.parametrize("stream", [False, True])
async def test_errors(status: int, stream: bool) -> None:
    reply, faults = await ask(f"mock-error-{status}", stream=stream)
    assert (reply.status, reply.ending) == (status, "whole")
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert reply.headers.get("retry-after") == ("1" if status in (429, 503, 529) else None)
    assert reply.headers["x-request-id"].startswith("req_")
    assert faults == {"error": 1}


@pytest.mark.parametrize("stream", [False, True])
async def test_cut_gives_exactly_so_many_bytes_then_resets(stream: bool) -> None:
    for k in (0, 1, 17, 200, 700):
        reply, _ = await ask(f"mock-cut-{k}", stream=stream)
        assert (len(reply.raw), reply.ending) == (k, "reset"), k


async def test_fin_whole_and_stream() -> None:
    reply, _ = await ask("mock-fin-250")
    assert (len(reply.raw), reply.ending) == (250, "fin")
    reply, _ = await ask("mock-fin-3", stream=True)
    assert reply.ending == "fin"
    assert reply.body.count(b"data: ") == 3
    assert "no [DONE]" in chat_stream_problems(reply.body)


async def test_end_closes_the_framing_without_done() -> None:
    reply, _ = await ask("mock-end-2", stream=True)
    assert (reply.ending, reply.body.count(b"data: ")) == ("whole", 2)
    assert b"[DONE]" not in reply.body


async def test_stream_error() -> None:
    reply, _ = await ask("mock-stream-error-3", stream=True)
    stream = check_chat_stream(reply.body)
    assert stream.problems == []
    assert stream.error is not None
    assert stream.error["type"] == "server_error"
    assert (stream.chunks, stream.done) == (3, False)


async def test_stall_and_timeout_hold_until_the_client_goes() -> None:
    async with await start(MockOptions(tokens=5)) as server:
        for model, stream, events in (("mock-stall-2", True, 2), ("mock-timeout", False, 0)):
            reply = await call(server.port, chat(model, stream=stream), 0.2)
            assert (reply.ending, reply.body.count(b"data: ")) == ("timeout", events)
        reply = await call(server.port, chat("mock-stall-10"), 0.2)
        assert (reply.ending, len(reply.body), reply.status) == ("timeout", 10, 200)
        await call(server.port, get("/__mock/stats"))
        assert (server.stats.cancelled, server.stats.active) == (3, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_bad_json(stream: bool) -> None:
    reply, _ = await ask("mock-badjson", stream=stream)
    assert (reply.status, reply.ending) == (200, "whole")
    if stream:
        assert any("not JSON" in problem for problem in chat_stream_problems(reply.body))
    else:
        with pytest.raises(ValueError):
            reply.json()


async def test_html_and_redirect() -> None:
    reply, _ = await ask("mock-html-502")
    assert (reply.status, reply.headers["content-type"]) == (502, "text/html")
    assert b"<html>" in reply.body
    reply, _ = await ask("mock-redirect")
    assert (reply.status, reply.headers["location"]) == (302, MockOptions().redirect_to)


async def test_slow() -> None:
    async with await start() as server, connect(server.port) as client:
        client.send(chat("mock-slow-150"))
        assert (await client.read(0.05)).ending == "timeout"
        assert (await client.read()).ending == "whole"


@pytest.mark.parametrize("stream", [False, True])
async def test_huge_ends_properly(stream: bool) -> None:
    reply, _ = await ask("mock-huge-2", stream=stream)
    assert reply.ending == "whole"
    assert len(reply.body) > 2 * 1024 * 1024
    if stream:
        assert chat_stream_problems(reply.body) == []
    else:
        assert reply.json()["object"] == "chat.completion"


async def test_endless_waits_for_the_reader() -> None:
    async with await start() as server:
        async with connect(server.port) as client:
            client.send(chat("mock-huge-0"))
            await client.read_some(1_000_000)
            # Nobody reads now, so once every buffer on the way is full nothing more may be written.
            pieces = -1
            async with asyncio.timeout(5):
                while pieces != server.stats.pieces:
                    pieces = server.stats.pieces
                    await asyncio.sleep(0.1)
            assert (await call(server.port, chat("mock-small"))).status == 200
        await call(server.port, get("/__mock/stats"))
        assert server.stats.cancelled == 1


async def test_usage_faults() -> None:
    reply, _ = await ask("mock-nousage")
    assert "usage" not in reply.json()
    asked = {"include_usage": True}
    reply, _ = await ask("mock-nousage", stream=True, stream_options=asked)
    assert chat_stream_problems(reply.body) == []
    reply, _ = await ask("mock-usage-in-finish", stream=True, stream_options=asked)
    with_usage = [event for event in reply.body.split(b"\n\n") if b'"usage":{' in event]
    assert len(with_usage) == 1
    assert b'"finish_reason":"stop"' in with_usage[0]


async def test_process_wide_faults_strike_by_chance_and_repeat_with_a_seed() -> None:
    async def statuses() -> list[int]:
        options = MockOptions(faults=parse_chances("error:503:0.3,cut:0:0.2"), seed=7)
        async with await start(options) as server:
            return [(await call(server.port, chat("mock-small"))).status for _ in range(60)]

    first = await statuses()
    assert {0, 200, 503} == set(first)
    assert first == await statuses()
