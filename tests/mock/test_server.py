"""The mock as a server: HTTP manners, pacing, counters, the key, start and stop."""

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator

import pytest
import uvloop

from fastgw.mock import MockOptions, Server, start
from tests.support.grammar import chat_stream_problems
from tests.support.rawclient import call, connect, get, post

CHAT = {"model": "mock-small", "messages": [{"role": "user", "content": "hi"}]}
STREAM = CHAT | {"stream": True}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with await start(MockOptions(tokens=4)) as server:
        yield server


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post(CHAT, "/v1/nothing"), 404),
        (post(CHAT, "/openai/deployments/m/nothing?api-version=1"), 404),
        (post(CHAT, "/__mock/nothing"), 404),
        (get("/v1/chat/completions"), 405),
        (post(CHAT, "/v1/models"), 405),
        (get("/"), 404),
    ],
)
async def test_unknown_paths_and_methods(server: Server, request_bytes: bytes, status: int) -> None:
    reply = await call(server.port, request_bytes)
    assert (reply.status, reply.ending) == (status, "whole")
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert ("allow" in reply.headers) is (status == 405)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /v1/models HTTP/1.0\r\n\r\n", 505),
        (b"NOT HTTP\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 300 + b"\r\n", 431),
        (b"GET /v1/models HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 1x\r\n\r\n", 400),
    ],
)
async def test_bad_http_gets_one_answer_and_the_door(server: Server, data: bytes, status: int) -> None:
    async with connect(server.port) as client:
        client.send(data)
        assert (await client.read()).status == status
        assert (await client.read()).raw == b""
    assert server.stats.refused == 1


async def test_body_limit() -> None:
    async with await start(MockOptions(max_body=1000)) as server:
        assert (await call(server.port, post(b"x" * 1001))).status == 413
        assert (await call(server.port, post(b"x" * 1000))).status == 400


async def test_keep_alive_and_close(server: Server) -> None:
    async with connect(server.port) as client:
        for _ in range(3):
            client.send(post(CHAT))
            assert (await client.read()).status == 200
        client.send(post(CHAT, connection="close"))
        reply = await client.read()
        assert reply.headers["connection"] == "close"
        assert (await client.read()).ending == "fin"
    assert (server.stats.requests, server.stats.connections) == (4, 1)


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with await start(MockOptions(tokens=4, latency=5)) as server, connect(server.port) as client:
        texts = [f"text {i}" for i in range(40)]
        bodies = [{"model": "echo", "messages": [{"role": "user", "content": text}]} for text in texts]
        client.send(b"".join(post(body | {"stream": i % 3 == 0}) for i, body in enumerate(bodies)))
        for i, text in enumerate(texts):
            reply = await client.read()
            if i % 3 == 0:
                assert chat_stream_problems(reply.body) == []
                assert text.split()[1].encode() in reply.body
            else:
                assert reply.json()["choices"][0]["message"]["content"] == text
        assert server.stats.max_concurrent == 1


async def test_request_split_at_every_byte(server: Server) -> None:
    data = post(CHAT)
    async with connect(server.port) as client:
        for place in range(1, len(data)):
            client.send(data[:place])
            await asyncio.sleep(0)
            client.send(data[place:])
            assert (await client.read()).status == 200


async def test_expect_continue(server: Server) -> None:
    head, _, body = post(CHAT, expect="100-continue").partition(b"\r\n\r\n")
    async with connect(server.port) as client:
        client.send(head + b"\r\n\r\n")
        assert await client.read_some(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(body)
        assert (await client.read()).status == 200


async def test_ids_are_fresh_and_date_is_sent(server: Server) -> None:
    replies = [await call(server.port, post(CHAT)) for _ in range(3)]
    assert len({reply.json()["id"] for reply in replies}) == 3
    assert len({reply.headers["x-request-id"] for reply in replies}) == 3
    assert abs(replies[0].json()["created"] - time.time()) < 30
    assert replies[0].headers["date"].endswith("GMT")
    assert {int(reply.headers["content-length"]) for reply in replies} == {len(replies[0].body)}


async def test_seed_makes_replies_a_function_of_the_body() -> None:
    async def bodies(seed: int) -> list[bytes]:
        async with await start(MockOptions(seed=seed)) as server:
            asked = [CHAT, CHAT | {"model": "other"}, CHAT | {"user": "x"}, STREAM]
            return [(await call(server.port, post(body))).body for body in asked]

    first, again, other = await bodies(1), await bodies(1), await bodies(2)
    assert first == again
    assert first[0] != other[0]
    ids = [json.loads(body.removeprefix(b"data: ").split(b"\n")[0])["id"] for body in first]
    assert ids[0] == ids[1]  # a gateway may rename the model
    assert len(set(ids)) == 3


async def test_latency_and_first_token() -> None:
    async with await start(MockOptions(latency=120, ttft=0, tokens=2)) as server:
        async with connect(server.port) as client:
            client.send(post(CHAT))
            assert (await client.read(0.03)).ending == "timeout"
            assert (await client.read()).status == 200
            client.send(post(STREAM))
            assert (await client.read()).status == 200
        assert server.stats.active == 0


async def test_pacing_sends_event_by_event() -> None:
    async with await start(MockOptions(tokens=10, tokens_per_second=100)) as server, connect(server.port) as client:
        began = time.monotonic()
        client.send(post(STREAM))
        first = await client.read_some(1)
        assert first.count(b"data: ") < 10
        reply = await client.read()
        assert time.monotonic() - began > 0.1  # 13 events, 10 ms apart
        assert chat_stream_problems(reply.body) == []
        assert server.stats.pieces == 13


async def test_flush_each_writes_each_event() -> None:
    async with await start(MockOptions(tokens=10, flush_each=True)) as server:
        reply = await call(server.port, post(STREAM))
        assert chat_stream_problems(reply.body) == []
        assert server.stats.pieces == 13


async def test_client_that_leaves_is_counted() -> None:
    async with await start(MockOptions(tokens=1000, tokens_per_second=50)) as server:
        async with connect(server.port) as client:
            client.send(post(STREAM))
            await client.read_some(1)
            assert (server.stats.active, server.stats.cancelled) == (1, 0)
        await call(server.port, get("/__mock/stats"))
        assert (server.stats.active, server.stats.cancelled, server.stats.open) == (0, 1, 1)
        assert time.monotonic() - server.stats.cancelled_at < 5


async def test_slow_reader_gets_everything() -> None:
    async with await start(MockOptions(tokens=30_000)) as server, connect(server.port) as client:
        client.send(post(STREAM) * 2)
        await asyncio.sleep(0.1)
        for _ in range(2):
            assert (await client.read()).body.count(b"data: ") == 30_003


async def test_stats_and_reset(server: Server) -> None:
    await call(server.port, post(CHAT, x_label="one"))
    await call(server.port, post({**CHAT, "model": "mock-error-500"}))
    await call(server.port, post(b"{"))
    seen = (await call(server.port, get("/__mock/stats"))).json()
    assert (seen["requests"], seen["connections"], seen["open"], seen["closed"]) == (3, 4, 1, 3)
    assert seen["by_model"] == {"mock-small": 1, "mock-error-500": 1}
    assert seen["by_status"] == {"200": 1, "500": 1, "400": 1}
    assert seen["faults"] == {"error": 1}
    assert (seen["last_method"], seen["last_path"], seen["last_body"]) == ("POST", "/v1/chat/completions", "{")
    assert ["host", "test"] in seen["last_headers"]
    assert (b"x-label", b"one") in server.stats.recent[0].headers
    await call(server.port, post(b"", "/__mock/reset"))
    assert (server.stats.requests, server.stats.last) == (0, None)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Bearer mock-key"}, 200),
        ({"api_key": "mock-key"}, 200),
    ],
)
async def test_key(headers: dict[str, str], status: int) -> None:
    async with await start(MockOptions(key="mock-key")) as server:
        reply = await call(server.port, post(CHAT, **headers))
        assert reply.status == status
        if status == 401:
            assert reply.json()["error"]["code"] == "invalid_api_key"
        assert server.stats.refused == (status == 401)
        assert (await call(server.port, get("/__mock/stats"))).status == 200


@pytest.mark.parametrize(
    "options",
    [{"port": 65536}, {"latency": -1}, {"ttft": -1}, {"tokens": -1}, {"tokens": 10**6}, {"tokens_per_second": -1}],
)
def test_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        MockOptions(**options)  # type: ignore[arg-type]


async def test_store_is_bounded_and_stays_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgw.mock.engine._STORE_BYTES", 10_000)
    async with await start(MockOptions(tokens=4)) as server:
        for i in range(50):
            body = {"model": "echo", "messages": [{"role": "user", "content": f"number {i % 30}"}]}
            reply = await call(server.port, post(body))
            assert reply.json()["choices"][0]["message"]["content"] == f"number {i % 30}"
        assert server._engine._stored <= 10_000


async def test_ipv6() -> None:
    async with await start(MockOptions(host="::1")) as server:
        assert server.url == f"http://[::1]:{server.port}"
        reader, writer = await asyncio.open_connection("::1", server.port)
        writer.write(get("/v1/models"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()


async def test_port_taken(server: Server) -> None:
    with pytest.raises(OSError):
        await start(MockOptions(port=server.port))


async def test_close_drops_connections() -> None:
    server = await start(MockOptions(latency=60_000))
    async with connect(server.port) as client:
        client.send(post(CHAT))
        while not server.stats.active:
            await asyncio.sleep(0.001)
        await server.close()
        assert (await client.read()).raw == b""
        assert server.stats.open == 0
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", server.port), 1)


def test_on_uvloop() -> None:
    async def main() -> None:
        async with await start(MockOptions(tokens=4)) as server:
            for model, ending in (("mock-small", "whole"), ("mock-cut-300", "reset"), ("mock-huge-1", "whole")):
                for stream in (False, True):
                    reply = await call(server.port, post(CHAT | {"model": model, "stream": stream}))
                    assert reply.ending == ending
                    assert ending == "whole" or len(reply.raw) == 300

    uvloop.run(main())


PROGRAM = "from fastgw.mock import MockOptions, run; run(MockOptions(tokens=3))"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_run_serves_until_a_signal(number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
        port = int(line.strip().rpartition(":")[2])
        assert (await call(port, post(CHAT))).status == 200
        async with connect(port) as waiting:
            waiting.send(post(CHAT | {"model": "mock-timeout"}))
            assert (await waiting.read(0.1)).ending == "timeout"
            process.send_signal(number)
            assert await asyncio.wait_for(process.wait(), 10) == 0
            assert (await waiting.read()).raw == b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
