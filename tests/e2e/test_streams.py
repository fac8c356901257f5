"""Streams through a real node: usage asked for and dropped, cost, heartbeats, flushing, errors inside, cuts."""

import asyncio
import json
from typing import Any

import openai
import pytest

from tests.e2e.conftest import KEY, World
from tests.support.gateway import Node, unique
from tests.support.rawclient import RawConnection, RawReply, call, connect, post
from tests.support.scripted import (
    DONE,
    Expect,
    Fin,
    Hold,
    Reset,
    Send,
    Sleep,
    chat_completion,
    chat_events,
    chunked,
    head,
    reply,
    sse,
)

USAGE = {"include_usage": True}
HELLO = [{"role": "user", "content": "hi"}]
EVENT_STREAM = [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")]


def ask(model: str = "scripted", label: str = "", **fields: Any) -> bytes:
    body = {"model": model, "messages": HELLO, "stream": True, **fields}
    return post(body, authorization=f"Bearer {KEY}", x_request_id=label or unique())


def payloads(body: bytes) -> list[Any]:
    """The data of every event, decoded; `[DONE]` as text."""
    events = [event for event in body.split(b"\n\n") if event.startswith(b"data: ")]
    return ["[DONE]" if event == b"data: [DONE]" else json.loads(event[6:]) for event in events]


def wire(events: list[bytes | dict[str, Any]]) -> bytes:
    """The events' own bytes, without framing."""
    return b"".join(e if isinstance(e, bytes) else b"data: " + json.dumps(e).encode() + b"\n\n" for e in events)


async def one(world: World, steps: list[Any], request: bytes) -> tuple[RawReply, Any]:
    """The reply to one call, and the request as the upstream saw it."""
    async with world.upstream([[Expect(), *steps]]) as upstream:
        got = await call(world.node.port, request)
        return got, upstream.requests[0]


async def test_usage_is_asked_for_and_dropped(world: World) -> None:
    label, events = unique(), chat_events("a", "b", usage=(7, 3))
    got, seen = await one(world, [Send(sse(events))], ask(label=label))
    assert seen.json()["stream_options"] == {"include_usage": True}
    assert got.body == wire(events[:-2]) + DONE
    row = world.node.record(label)
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (7, 3, "upstream")
    assert row["cost_nano"] == 7 * 2500 + 3 * 10_000
    assert row["first_token_ms"] is not None
    assert row["bytes_out"] == len(got.body)


async def test_usage_asked_for_comes_with_its_cost(world: World) -> None:
    events = chat_events("a", usage=(7, 3))
    options = {**USAGE, "include_obfuscation": False}
    got, seen = await one(world, [Send(sse(events))], ask(stream_options=options))
    assert seen.json()["stream_options"] == options
    chunks = payloads(got.body)
    assert chunks[-1] == "[DONE]"
    assert chunks[-2]["usage"].pop("cost") == 0.0000475
    assert chunks[:-1] == events[:-1]
    assert b'"cost":0.0000475' in got.body


async def test_other_stream_options_survive_the_question_for_usage(world: World) -> None:
    _, seen = await one(world, [Send(sse(chat_events("a")))], ask(stream_options={"include_obfuscation": False}))
    assert seen.json()["stream_options"] == {"include_obfuscation": False, "include_usage": True}


async def test_without_usage_from_upstream_it_is_estimated(world: World) -> None:
    label = unique()
    await one(world, [Send(sse(chat_events("a", "b", "c")))], ask(label=label))
    row = world.node.record(label)
    assert row["usage_source"] == "estimated"
    assert row["input_tokens"] > 0
    assert 3 <= row["output_tokens"] <= 6


async def test_usage_in_a_finish_chunk_is_counted_and_stays(world: World) -> None:
    events = chat_events("a", done=False)
    last = {**events[-1], "usage": {"prompt_tokens": 11, "completion_tokens": 4}}
    label = unique()
    got, _ = await one(world, [Send(sse([*events[:-1], last, DONE]))], ask(label=label))
    assert payloads(got.body)[-2] == last
    row = world.node.record(label)
    assert (row["input_tokens"], row["output_tokens"]) == (11, 4)


async def test_empty_choices_that_are_no_usage_pass(world: World) -> None:
    preface = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": []}
    events = [preface, *chat_events("a")]
    got, _ = await one(world, [Send(sse(events))], ask())
    assert got.body == wire(events)


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_every_event_is_flushed_at_once(world: World, count: int) -> None:
    """The upstream sends so many events and then nothing: the client has them all, whole."""
    events = chat_events("a", "b", "c", "d", "e")[:count]
    pieces = [Send(head(200, EVENT_STREAM)), *(Send(chunked(wire([event]), last=False)) for event in events), Hold()]
    async with world.upstream([[Expect(), *pieces]]), connect(world.node.port) as connection:
        connection.send(ask())
        got = await until_bytes(connection, wire(events[-1:]))
    assert dechunked(got).endswith(wire(events))


async def until_bytes(connection: RawConnection, wanted: bytes, seconds: float = 3.0) -> bytes:
    """Everything up to and with the wanted bytes."""
    async with asyncio.timeout(seconds):
        while wanted not in connection.buffer:
            await connection.read_some(len(connection.buffer) + 1)
    return connection.buffer


def dechunked(raw: bytes) -> bytes:
    """The body so far of a chunked reply that goes on."""
    _, _, rest = raw.partition(b"\r\n\r\n")
    body = b""
    while b"\r\n" in rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


async def test_nothing_is_sent_before_the_first_event(world: World) -> None:
    start = head(200, EVENT_STREAM)
    half = chunked(b'data: {"id":', last=False)
    steps = [Expect(), Send(start), Send(half), Sleep(1.5), Fin()]
    async with world.upstream([steps]), connect(world.node.port) as connection:
        connection.send(ask())
        with pytest.raises(TimeoutError):
            await connection.read_some(1, timeout=1.0)
        got = await connection.read()
    assert (got.status, got.json()["error"]["code"]) == (502, "upstream_invalid_response")


async def test_heartbeats_in_silence(world: World) -> None:
    """The node's heartbeat is 300 ms here, looked after every half second."""
    events = chat_events("a", "b")
    first, rest = wire(events[:2]), wire(events[2:])
    steps = [Send(head(200, EVENT_STREAM) + chunked(first, last=False)), Sleep(1.6), Send(chunked(rest))]
    got, _ = await one(world, steps, ask())
    assert 1 <= got.body.count(b": ping\n\n") <= 5
    assert got.body.startswith(first + b": ping\n\n")
    assert got.body.replace(b": ping\n\n", b"") == first + rest
    got, _ = await one(world, steps, ask("scripted-quick"))
    assert payloads(got.body)[-1]["error"]["code"] == "upstream_timeout", "heartbeats of ours must not count as theirs"


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("ending", [b"\n\n", b"\r\n\r\n"], ids=["lf", "crlf"])
async def test_events_split_anywhere_arrive_as_they_were(world: World, size: int, ending: bytes) -> None:
    texts = ["é\u2028\u0085🙂", 'quote " and \\', "data: [DONE]"]
    base = chat_events(*texts, usage=(3, 4))
    odd = [b": comment\n\n", b"event: x\nid: 1\ndata: {}\n\n"]
    events = [*odd, *base]
    sent = wire(events).replace(b"\n\n", ending)
    expected = wire([*odd, *base[:-2], DONE]).replace(b"\n\n", ending)
    framed = head(200, EVENT_STREAM) + chunked(*(sent[i : i + size] for i in range(0, len(sent), size)))
    got, _ = await one(world, [Send(framed)], ask())
    assert got.body == expected


async def test_an_error_event_passes_and_is_noted(world: World) -> None:
    error = {"error": {"message": "overloaded", "type": "server_error", "param": None, "code": None}}
    label, events = unique(), [*chat_events("a", finish=False, done=False), error]
    got, _ = await one(world, [Send(sse(events))], ask(label=label))
    assert (got.ending, got.body) == ("whole", wire(events))
    row = world.node.record(label)
    assert (row["status"], row["error"], row["usage_source"]) == (200, "upstream_error_event", "estimated")


CUTS: dict[str, list[Any]] = {
    "reset": [Send(sse(chat_events("a", "b"), last=False)[:-20]), Reset()],
    "closed inside the framing": [Send(sse(chat_events("a", finish=False, done=False), last=False)), Fin()],
    "ended in order, without a finish": [Send(sse(chat_events("a", finish=False, done=False)))],
    "half an event": [Send(head(200, EVENT_STREAM) + chunked(wire(chat_events("a")[:2]), b'data: {"id"'))],
    "silence": [Send(sse(chat_events("a", finish=False, done=False), last=False)), Hold()],
    "bad framing": [Send(sse(chat_events("a", finish=False, done=False), last=False) + b"XYZ\r\n"), Hold()],
    "unframed": [Send(sse(chat_events("a", finish=False, done=False), chunked_framing=False)), Fin()],
}


@pytest.mark.parametrize("name", CUTS)
async def test_a_cut_stream_never_looks_complete(world: World, name: str) -> None:
    label = unique()
    got, _ = await one(world, CUTS[name], ask("scripted-quick", label))
    assert (got.status, got.ending) == (200, "whole")
    assert b"[DONE]" not in got.body
    *chunks, error = payloads(got.body)
    assert chunks[0] == chat_events("a")[0]
    assert error["error"]["code"] in ("upstream_invalid_response", "upstream_timeout", "upstream_unreachable")
    assert error["error"]["type"] == "api_error"
    row = world.node.record(label)
    assert (row["error"], row["usage_source"]) == (error["error"]["code"], "estimated")
    world.node.assert_well()


@pytest.mark.parametrize("model", ["mock-fin-3", "mock-end-3"])
def test_the_sdk_raises_for_a_cut_stream(client: openai.OpenAI, model: str) -> None:
    chunks = []
    with pytest.raises(openai.APIError) as caught:
        for chunk in client.chat.completions.create(model=model, messages=HELLO, stream=True):
            chunks.append(chunk)  # noqa: PERF402 - what came before the exception is what counts
    assert len(chunks) == 3
    assert caught.value.code == "upstream_invalid_response"


async def test_an_end_without_done_is_an_end_after_a_finish(world: World) -> None:
    label, events = unique(), chat_events("a", done=False)
    got, _ = await one(world, [Send(sse(events))], ask(label=label))
    assert got.body == wire(events)
    assert world.node.record(label)["error"] is None


async def test_one_document_instead_of_a_stream_passes_as_it_is(world: World) -> None:
    label, document = unique(), chat_completion(prompt=5, completion=2)
    got, _ = await one(world, [Send(reply(body=document))], ask(label=label))
    assert (got.headers["content-type"], got.json()) == ("application/json", document)
    row = world.node.record(label)
    assert (row["input_tokens"], row["output_tokens"], row["status"]) == (5, 2, 200)


async def test_a_stream_without_an_event_is_a_failure(world: World) -> None:
    label = unique()
    got, _ = await one(world, [Send(sse([]))], ask(label=label))
    assert (got.status, got.json()["error"]["code"]) == (502, "upstream_invalid_response")
    assert world.node.record(label)["status"] == 502


async def test_headers_of_a_stream(world: World) -> None:
    got, _ = await one(world, [Send(sse(chat_events("a")))], ask())
    assert got.headers["content-type"] == "text/event-stream"
    assert (got.headers["cache-control"], got.headers["x-accel-buffering"]) == ("no-cache", "no")
    assert got.headers["x-fastgw-target"] == "scripted/upstream-model"
    assert "x-fastgw-cost" not in got.headers


async def test_two_hundred_streams_at_once_keep_to_themselves(gateway: Node) -> None:
    async def one_call(number: int) -> None:
        text = f"canary {number} of two hundred"
        request = ask("echo", messages=[{"role": "user", "content": text}])
        got = await call(gateway.port, request, 20.0)
        *chunks, done = payloads(got.body)
        assert done == "[DONE]"
        assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == text

    async with asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(one_call(number))
    gateway.assert_well()
