"""What a broken upstream may do to a call: the rows of the fault table, each with the invariants of all of them.

After every fault: the caller has an answer of the right shape and in time, no other call's words in it, exactly one
record tells of it, and the node is well. Retries hold where `retry.on` lists the class (`scripted-retry` does, and
falls back to the mock), otherwise the fault ends in the catalogue's error (`scripted`, `scripted-quick`).
"""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import KEY, World
from tests.support.gateway import Mock, Node, node, unique
from tests.support.rawclient import RawReply, call, connect, post
from tests.support.scripted import (
    DONE,
    Expect,
    Fin,
    Flood,
    Hold,
    Reset,
    ScriptedUpstream,
    Send,
    chat_completion,
    chat_events,
    chunked,
    head,
    reply,
    sse,
)

EVENT_STREAM = [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")]


def ask(model: str, label: str, *, stream: bool = False) -> bytes:
    """A request whose words are its label: the canary."""
    body = {"model": model, "messages": [{"role": "user", "content": label}], "stream": stream}
    return post(body, authorization=f"Bearer {KEY}", x_request_id=label)


def data_of(body: bytes) -> list[Any]:
    """The data of every event, `[DONE]` as text; every event must be whole."""
    assert body.endswith(b"\n\n")
    events = [event for event in body.split(b"\n\n") if event and not event.startswith(b":")]
    assert all(event.startswith(b"data: ") for event in events), body
    return ["[DONE]" if event == b"data: [DONE]" else json.loads(event[6:]) for event in events]


def error_of(got: RawReply, *codes: str) -> dict[str, Any]:
    """The catalogue's error in an answer that is one."""
    assert got.ending == "whole"
    error: dict[str, Any] = got.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] in codes, error
    assert error["type"] == "api_error"
    assert len(error["message"]) > 15
    return error


async def records(gateway: Node, labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The records of these calls: exactly one each."""
    async with asyncio.timeout(10):
        while True:
            rows = [row for row in gateway.records() if row["label"] in set(labels)]
            if len(rows) >= len(labels):
                break
            await asyncio.sleep(0.05)
    assert len(rows) == len(labels) == len({row["label"] for row in rows})
    return {row["label"]: row for row in rows}


# F1: nothing listens


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_f1_upstream_refused(gateway: Node, mock: Mock, stream: bool) -> None:
    label, other = unique(), unique()
    began = time.monotonic()
    got = await call(gateway.port, ask("closed", label, stream=stream))
    assert time.monotonic() - began < 1.0
    assert got.status == 502
    error_of(got, "upstream_unreachable")
    assert got.headers["x-fastgw-attempts"] == "1"
    saved = await call(gateway.port, ask("closed-retry", other, stream=stream))
    assert saved.status == 200
    assert (saved.headers["x-fastgw-attempts"], saved.headers["x-fastgw-provider"]) == ("2", "mock")
    rows = await records(gateway, [label, other])
    assert [a["reason"] for a in rows[label]["attempts"]] == ["connect"]
    assert [(a["provider"], a["reason"], a["status"]) for a in rows[other]["attempts"]] == [
        ("closed", "connect", 0),
        ("mock", "", 200),
    ]
    gateway.assert_well()


# F3: accepts and never answers


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_f3_never_answers(world: World, stream: bool) -> None:
    label, other = unique(), unique()
    async with world.upstream([[Expect(), Hold()]]) as upstream:
        began = time.monotonic()
        got = await call(world.node.port, ask("scripted-quick", label, stream=stream))
        assert 0.5 < time.monotonic() - began < 3.0
        assert got.status == 504
        error_of(got, "upstream_timeout")
        assert upstream.connections[0].gone, "the connection is not used again"
        saved = await call(world.node.port, ask("scripted-retry", other, stream=stream))
        assert (saved.status, saved.headers["x-fastgw-provider"]) == (200, "mock")
    rows = await records(world.node, [label, other])
    assert (rows[label]["status"], rows[label]["error"]) == (504, "upstream_timeout")
    assert [a["reason"] for a in rows[other]["attempts"]] == ["timeout", ""]
    world.node.assert_well()


# F6: reset at every byte; F7: end at every byte

WHOLE = reply(200, [("content-type", "application/json")], json.dumps(chat_completion("hello canary")).encode())
EVENTS = chat_events("a", "b", usage=(3, 2))
STREAM = head(200, EVENT_STREAM) + chunked(*(
    e if isinstance(e, bytes) else b"data: " + json.dumps(e, separators=(",", ":")).encode() + b"\n\n" for e in EVENTS
))  # fmt: skip
FIRST_CONTENT = STREAM.index(b"\n\n", STREAM.index(b'"content":"a"')) + 2
DONE_END = STREAM.index(DONE) + len(DONE)
FINISHED = STREAM.index(b'"stop"')
SHARDS = 8


async def at_every_byte(
    world: World, data: bytes, ending: Any, model: str, positions: range, *, stream: bool
) -> list[tuple[int, RawReply, dict[str, Any]]]:
    """(k, what the caller got, its record) for each position at which the reply breaks off."""
    found, labels = [], []
    for k in positions:
        label = unique(f"k{k}")
        async with world.upstream([[Expect(), Send(data[:k]), ending]]):
            found.append((k, await call(world.node.port, ask(model, label, stream=stream))))
        labels.append(label)
    rows = await records(world.node, labels)
    assert len(found) == len(positions) > 10
    return [(k, got, rows[label]) for (k, got), label in zip(found, labels, strict=True)]


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("ending", [Reset(), Fin()], ids=["f6-reset", "f7-fin"])
async def test_f6_f7_whole_reply_broken_off_at_every_byte(world: World, ending: Any, shard: int) -> None:
    positions = range(shard, len(WHOLE), SHARDS)
    for k, got, row in await at_every_byte(world, WHOLE, ending, "scripted", positions, stream=False):
        assert got.status == 502, (k, got.raw)
        error_of(got, "upstream_unreachable", "upstream_invalid_response")
        assert b"canary" not in got.body
        assert (row["status"], row["cost_nano"], len(row["attempts"])) == (502, None, 1), (k, row)
    world.node.assert_well()


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("ending", [Reset(), Fin()], ids=["f6-reset", "f7-fin"])
async def test_f6_f7_stream_broken_off_at_every_byte(world: World, ending: Any, shard: int) -> None:
    positions = range(shard, len(STREAM), SHARDS)
    for k, got, row in await at_every_byte(world, STREAM, ending, "scripted", positions, stream=True):
        assert got.ending == "whole", k
        if k < FIRST_CONTENT:
            assert got.status == 502, (k, got.raw)
            error_of(got, "upstream_unreachable", "upstream_invalid_response")
            assert row["status"] == 502
            continue
        assert got.status == 200
        assert_prefix(k, got.body, row)
    world.node.assert_well()


def assert_prefix(k: int, body: bytes, row: dict[str, Any]) -> None:
    """What the caller has is a beginning of the stream, and it ends with an error unless all of it came."""
    *chunks, last = data_of(body)
    sent = [event for event in EVENTS if isinstance(event, dict) and event["choices"]]
    if last == "[DONE]":
        # A reset may overtake nothing that was delivered: [DONE] is only here when the upstream had sent it.
        assert k >= DONE_END - len(b"\n\n"), k
        assert chunks[: len(sent)] == sent
        return
    assert chunks == sent[: len(chunks)], k
    assert last["error"]["code"] in ("upstream_unreachable", "upstream_invalid_response"), (k, last)
    assert last["error"]["type"] == "api_error"
    assert k < len(STREAM)
    assert row["error"] == last["error"]["code"], (k, row)
    assert row["usage_source"] == ("upstream" if k > STREAM.index(b'"total_tokens"') + 40 else row["usage_source"])


@pytest.mark.parametrize("ending", [Reset(), Fin()], ids=["f6-reset", "f7-fin"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_f6_f7_broken_off_before_content_nothing_is_sent_twice(
    world: World, mock: Mock, ending: Any, stream: bool
) -> None:
    """A call that reached the upstream may have been billed: `scripted-retry` lists no class for it, so it ends."""
    label = unique()
    async with world.upstream([[Expect(), Send(STREAM[:30]), ending]]) as upstream:
        with mock.untouched():
            got = await call(world.node.port, ask("scripted-retry", label, stream=stream))
        assert got.status == 502
        assert len(upstream.requests) == 1
    rows = await records(world.node, [label])
    assert len(rows[label]["attempts"]) == 1


async def test_f6_many_at_once_keep_apart(world: World) -> None:
    """Half of the upstream's connections break: the callers on the other half have their answer whole."""

    def script(index: int) -> Any:
        text = sse(chat_events("fine", "as", "it", "can", "be", usage=(1, 1)))
        return [Expect(), Send(text[: len(text) // 2 if index % 2 else None]), Reset() if index % 2 else Fin()]

    labels = [unique() for _ in range(60)]
    async with world.upstream(script) as upstream:
        replies = await asyncio.gather(*(call(world.node.port, ask("scripted-quick", x, stream=True)) for x in labels))
    ends = [data_of(got.body)[-1] if got.status == 200 else "failed" for got in replies]
    whole = [seen for index, seen in enumerate(upstream.connections) if seen.requests and index % 2 == 0]
    assert ends.count("[DONE]") == len(whole) >= 20
    assert all(end == "[DONE]" or end["error"]["code"] == "upstream_invalid_response" for end in ends)
    await records(world.node, labels)
    world.node.assert_well()


@pytest.mark.parametrize("count", range(1, len(EVENTS)))
async def test_f7_stream_ends_in_order_after_each_event(world: World, count: int) -> None:
    """The framing is whole, only the words are missing."""
    label = unique()
    async with world.upstream([[Expect(), Send(sse(EVENTS[:count]))]]):
        got = await call(world.node.port, ask("scripted", label, stream=True))
    data = data_of(got.body)
    finished = any(isinstance(e, dict) and e["choices"] and e["choices"][0]["finish_reason"] for e in EVENTS[:count])
    row = (await records(world.node, [label]))[label]
    if finished:
        assert "error" not in data[-1]
        assert row["error"] is None
    else:
        assert data[-1]["error"]["code"] == row["error"] == "upstream_invalid_response"
        assert row["usage_source"] == "estimated"
    assert "[DONE]" not in data


# F16: a body without end


def rss(pid: int) -> int:
    """Resident memory in bytes."""
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


ENDLESS = {
    "whole, chunked": (False, head(200, [("content-type", "application/json"), ("transfer-encoding", "chunked")]),
                       chunked(b" " * 262_144, last=False)),
    "whole, a gigabyte told": (False, head(200, [("content-type", "text/plain"), ("content-length", str(1 << 30))]),
                               b" " * 262_144),
    "one event": (True, head(200, EVENT_STREAM) + chunked(b"data: ", last=False), chunked(b"x" * 262_144, last=False)),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDLESS)
async def test_f16_an_endless_reply_is_cut_off_and_memory_bounded(world: World, name: str) -> None:
    stream, start, piece = ENDLESS[name]
    (pid,) = world.node.workers
    label, before, highest = unique(), rss(pid), 0
    async with world.upstream([[Expect(), Send(start), Flood(piece)]]) as upstream:
        running = asyncio.create_task(call(world.node.port, ask("scripted", label, stream=stream), 30.0))
        while not running.done():
            highest = max(highest, rss(pid))
            await asyncio.sleep(0.005)
        got = await running
        await asyncio.sleep(0.1)
        assert upstream.connections[0].gone
    assert got.status == 502, got.raw[:500]
    error_of(got, "upstream_invalid_response")
    assert highest - before < 160 * 1024 * 1024, "the cap is 64 MiB; joined once more at most"
    assert (await records(world.node, [label]))[label]["status"] == 502
    world.node.assert_well()


async def test_f16_an_endless_stream_flows_in_bounded_memory(world: World) -> None:
    """200 MB through a reader that is sometimes slow, then it leaves."""
    (pid,) = world.node.workers
    label = unique()
    event = b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n' % (b"x" * 8000)
    async with world.upstream([[Expect(), Send(head(200, EVENT_STREAM)), Flood(chunked(event * 8, last=False))]]) as up:
        async with connect(world.node.port) as connection:
            connection.send(ask("scripted", label, stream=True))
            before, highest, received = rss(pid), 0, 0
            async with asyncio.timeout(30):
                while received < 200_000_000:
                    await connection.read_some(1)
                    received += len(connection.buffer)
                    connection.buffer = b""
                    highest = max(highest, rss(pid))
                    if received % 50 == 0:
                        await asyncio.sleep(0.01)
        async with asyncio.timeout(3):
            while not up.connections[0].gone:
                await asyncio.sleep(0.005)
    assert highest - before < 64 * 1024 * 1024
    assert (await records(world.node, [label]))[label]["status"] == 499


async def test_f16_a_client_that_stops_reading_holds_the_upstream_back(world: World) -> None:
    (pid,) = world.node.workers
    label = unique()
    event = b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n' % (b"x" * 8000)
    async with world.upstream([[Expect(), Send(head(200, EVENT_STREAM)), Flood(chunked(event * 8, last=False))]]) as up:
        before = rss(pid)
        async with connect(world.node.port) as connection:
            connection.writer.transport.pause_reading()
            connection.send(ask("scripted", label, stream=True))
            await asyncio.sleep(1.5)
            sent = up.connections[0].sent
            await asyncio.sleep(0.5)
            assert up.connections[0].sent == sent, "the upstream is not held back"
            assert sent < 64 * 1024 * 1024
            assert rss(pid) - before < 64 * 1024 * 1024
    await records(world.node, [label])
    world.node.assert_well()


# F31: a config that cannot be


GOOD_CONFIG = """
providers: {{p: {{kind: openai_compatible, base_url: "http://127.0.0.1:{port}/v1"}}}}
models: {{m: {{targets: [{{provider: p, model: m}}]}}}}
keys: [{{name: k, secret: {key}}}]
"""
BROKEN = {
    "not yaml": "providers: {p: [",
    "empty": "",
    "unknown field": "{good}\nnonsense: 1\n",
    "unknown provider": "{good}".replace("{good}", "models: {m: {targets: [{provider: nobody, model: m}]}}"),
    "missing variable": '{good}\nkeys_file: "${NO_SUCH_VARIABLE}"\n',
    "same key twice": "{good}\nmodels: {}\n",
    "half of it": "{half}",
    "not text": "\x00\x01\x02",
}


async def test_f31_a_bad_config_changes_nothing(tmp_path: Path) -> None:
    ok = [Expect(), Send(reply(body=chat_completion()))]
    async with ScriptedUpstream([ok * 200]) as upstream:
        good = GOOD_CONFIG.format(port=upstream.port, key=KEY)
        with node(tmp_path, good) as gateway:
            for number, text in enumerate(BROKEN.values(), 1):
                bad = text.replace("{good}", good).replace("{half}", good[: len(good) // 2])
                write(gateway, bad, replace=number % 2 == 0)
                await until(lambda number=number: len(gateway.log("config_refused")) >= number)
                got = await call(gateway.port, ask("m", unique()))
                assert (got.status, got.headers["x-fastgw-revision"]) == (200, "1")
                refused = gateway.log("config_refused")[-1]
                assert refused["errors"]
                assert refused["level"] == "error"
                assert KEY not in json.dumps(refused)
                assert gateway.status()["config_error"]
            failed = {k: v for k, v in gateway.metrics().items() if "reload" in k}
            assert any(v >= len(BROKEN) for v in failed.values()), failed
            write(gateway, good + "  \nlog: {level: debug}\n", replace=True)
            await until(lambda: gateway.status()["revision"] == 2)
            assert gateway.status()["config_error"] is None
            await until(lambda: gateway.status()["workers"][0]["revision"] == 2)


async def test_f31_a_half_written_config_is_not_taken_for_whole(tmp_path: Path) -> None:
    """Truncated and written in place, piece by piece: none of the pieces is served, the whole is."""
    async with ScriptedUpstream([[Expect(), Send(reply(body=chat_completion()))] * 50]) as upstream:
        good = GOOD_CONFIG.format(port=upstream.port, key=KEY)
        with node(tmp_path, good) as gateway:
            assert gateway.config is not None
            providers, models, keys = good.strip().splitlines()
            with gateway.config.open("w") as file:
                for line in ("", f"{keys}\n", f"{models}\n"):
                    refused = len(gateway.log("config_refused"))
                    file.write(line)
                    file.flush()
                    await until(lambda refused=refused: len(gateway.log("config_refused")) > refused)
                    got = await call(gateway.port, ask("m", unique()))
                    assert (got.status, got.headers["x-fastgw-revision"]) == (200, "1")
                file.write(f"{providers}\nlog: {{level: debug}}\n")
            await until(lambda: gateway.status()["config_error"] is None and gateway.status()["revision"] == 2)
            assert (await call(gateway.port, ask("m", unique()))).status == 200


def write(gateway: Node, text: str, *, replace: bool) -> None:
    """Put a config there: by rename, as editors do, or in place, as shells do."""
    assert gateway.config is not None
    if replace:
        gateway.write_config(text)
    else:
        gateway.config.write_text(text)


async def until(check: Any, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.02)


def test_the_recorded_replies_are_small() -> None:
    """Every byte of them is tried."""
    assert 200 < len(WHOLE) < 600
    assert 600 < len(STREAM) < 1500
    assert 0 < FIRST_CONTENT < FINISHED < DONE_END < len(STREAM)
