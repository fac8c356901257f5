"""What upstreams and callers cannot make the gateway do, over the wire in four dialects (S4, S11, S21, S23, S32)."""

import asyncio
import gzip
import itertools
import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import CREDENTIAL, KEY, World
from tests.faults.invariants import Watched, fault
from tests.faults.tongues import BOTH, CHAT, EVENT_STREAM, JSON, MESSAGES, TONGUES, WELL, Tongue, streamed, tongue_of
from tests.support.gateway import Node, node, reserved_port
from tests.support.rawclient import RawReply, call, connect, post
from tests.support.scripted import RawRequest, ScriptedUpstream, Serve, chunked, reply

KINDS = [tongue.name for tongue in TONGUES]
PAIRS = list(itertools.product(TONGUES, TONGUES))
PAIR_KINDS = [f"{caller.name}-{target.name}" for caller, target in PAIRS]


async def send(run: Watched, tongue: Tongue, model: str, body: dict[str, Any]) -> RawReply:
    """A call of this body, recorded as all others."""
    headers = {"authorization": f"Bearer {KEY}", "x_request_id": run.label()}
    got = await call(run.node.port, post(body, tongue.path(model, False), **headers), 10.0)
    assert got.ending == "whole", got.raw[:300]
    return got


# S4: addresses in a request


def addresses(port: int) -> list[str]:
    """Spellings of an address at which a test listens, and of places that must not be looked at."""
    hosts = ["127.0.0.1", "localhost", "127.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "0", "[::1]",
             "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "user@127.0.0.1", "u:p@127.0.0.1", "127.0.0.1."]  # fmt: skip
    spelled = [f"{scheme}://{host}:{port}/x" for host in hosts for scheme in ("http", "https", "HTTP", "ws")]
    odd = [f"//127.0.0.1:{port}/x", f"http:/\\127.0.0.1:{port}/x", f"ftp://127.0.0.1:{port}/x"]
    return [*spelled, *odd, f"gopher://127.0.0.1:{port}/_x", "file:///etc/passwd", "http://169.254.169.254/latest/"]


def pictured(tongue: Tongue, model: str, url: str) -> dict[str, Any]:
    """A request with a picture that lies at an address."""
    if tongue.name == "gemini":
        return {"contents": [{"role": "user", "parts": [{"fileData": {"fileUri": url, "mimeType": "image/png"}}]}]}
    if tongue.name == "responses":
        return {"model": model, "input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]}
    picture: dict[str, Any] = {"type": "image_url", "image_url": {"url": url}}
    if tongue.name == "messages":
        picture = {"type": "image", "source": {"type": "url", "url": url}}
    return {"model": model, "messages": [{"role": "user", "content": [picture]}], "max_tokens": 9}


@pytest.mark.parametrize(("caller", "target"), PAIRS, ids=PAIR_KINDS)
async def test_s04_an_address_in_a_request_is_never_visited(world: World, caller: Tongue, target: Tongue) -> None:
    """It goes to the provider as it is, or the request is refused: the gateway fetches nothing for anybody."""
    right = Serve(lambda request: tongue_of(request).whole())
    async with (
        fault(world.node, KEY) as run,
        ScriptedUpstream([WELL]) as canary,
        world.upstream([[right]]) as upstream,
    ):
        urls = addresses(canary.port)
        assert len(urls) > 60
        for url in urls if caller is target else urls[::5]:
            before = len(upstream.requests)
            got = await send(run, caller, target.name, pictured(caller, target.name, url))
            assert got.status in (200, 400), got.raw
            if got.status == 200:
                assert json.dumps(url)[1:-1].encode() in upstream.requests[before].body.replace(b"\\/", b"/")
        assert not canary.connections, "somebody went there"
        assert upstream.requests or caller is not target


# S11: an upstream that tells our secret


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 503])
async def test_s11_a_credential_that_an_upstream_echoes_goes_no_further(world: World, status: int) -> None:
    def echo_secret(request: RawRequest) -> bytes:
        words = tongue_of(request).refusal(status, f"bad key {CREDENTIAL}, sent as {request.head.decode('latin-1')}")
        return reply(status, [*JSON, ("x-your-key", CREDENTIAL)], words)

    async with fault(world.node, KEY) as run, world.upstream([[Serve(echo_secret)]]):
        for tongue, one in zip(TONGUES, await run.many([(t, False) for t in TONGUES], ""), strict=True):
            assert CREDENTIAL.encode() not in one.reply.raw
            if status in (401, 403):
                tongue.assert_error(one.reply, 502, "upstream_auth_failed")
        for one in await run.many([(t, True) for t in TONGUES], ""):
            assert CREDENTIAL.encode() not in one.reply.raw
        for caller, target in PAIRS:
            assert CREDENTIAL.encode() not in (await run.ask(caller, target.name)).reply.raw
    assert CREDENTIAL not in world.node.stderr()
    assert CREDENTIAL not in json.dumps(world.node.records())


# S21: callers that take their time


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[tuple[Node, int]]:
    """A node that waits a second for a body, and the port of its upstream."""
    with reserved_port() as port:
        lines = ["providers:"]
        lines += [f'  {t.name}: {{kind: {t.kind}, base_url: "http://127.0.0.1:{port}{t.base}", api_key: sk-one}}'
                  for t in TONGUES]  # fmt: skip
        lines += ["models:", *(f"  {t.name}: {{targets: [{{provider: {t.name}, model: m}}]}}" for t in TONGUES)]
        lines += [f"keys: [{{name: k, secret: {KEY}}}]", "bounds: {body_timeout: 1s, body_rate: 1MiB}", ""]
        with node(tmp_path, "\n".join(lines)) as gateway:
            yield gateway, port


async def test_s21_f27_slow_callers_hold_nobody_up(patient: tuple[Node, int]) -> None:
    """Silent connections, heads and bodies byte by byte, by the hundred: bodies end in time, others are served."""
    gateway, port = patient
    async with fault(gateway, KEY) as run, ScriptedUpstream([WELL], port=port) as upstream:
        over = asyncio.Event()
        crowd = [asyncio.create_task(dawdle(gateway.port, kind, over)) for kind in ("silent", "head") * 150]
        slow = [asyncio.create_task(upload(run, TONGUES[number % 4])) for number in range(60)]
        await asyncio.sleep(0.5)
        for _ in range(10):
            for one in await run.many(BOTH, ""):
                assert (one.reply.status, one.seconds < 0.5) == (200, True)
        served = len(upstream.requests)
        for tongue, got in await asyncio.gather(*slow):
            tongue.assert_error(got, 408, "request_timeout")
        assert len(upstream.requests) == served == 80, "half a body went on"
        over.set()
        await asyncio.gather(*crowd)


async def dawdle(port: int, kind: str, over: asyncio.Event) -> None:
    """A connection that sends nothing, or the head of a request byte by byte."""
    async with connect(port) as connection:
        for byte in itertools.cycle(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-slow: "):
            if kind == "head":
                connection.send(bytes([byte]))
            try:
                await asyncio.wait_for(over.wait(), 0.25)
            except TimeoutError:
                continue
            return


async def upload(run: Watched, tongue: Tongue) -> tuple[Tongue, RawReply]:
    """A request whose body comes a byte at a time."""
    request = tongue.ask(tongue.name, run.label(), KEY)
    head, _, body = request.partition(b"\r\n\r\n")
    async with connect(run.node.port) as connection:
        connection.send(head + b"\r\n\r\n")
        reading = asyncio.create_task(connection.read(10.0))
        for byte in body:
            if reading.done():
                break
            connection.send(bytes([byte]))
            await asyncio.sleep(0.1)
        return tongue, await reading


# S23: what is small and becomes large


def rss(pid: int) -> int:
    """Resident memory in bytes."""
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def bomb(size: int = 200_000_000) -> bytes:
    """Zeros by the hundred megabytes in a few hundred kilobytes."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(deflate.compress(bytes(1_000_000)) for _ in range(size // 1_000_000)), deflate.flush()])


async def test_s23_a_compressed_bomb_is_never_unpacked(world: World) -> None:
    """Of an upstream or of a caller, passed on or translated: nothing is decompressed here."""
    (pid,) = world.node.workers
    packed = bomb()
    assert len(packed) < 1_000_000
    answer = Serve(lambda request: reply(200, [*JSON, ("content-encoding", "gzip")], packed))
    async with fault(world.node, KEY) as run, world.upstream([[answer]]) as upstream:
        before, began = rss(pid), time.monotonic()
        for caller, target in PAIRS:
            one = await run.ask(caller, target.name)
            if one.reply.status == 200:
                assert (one.reply.headers["content-encoding"], one.reply.body == packed) == ("gzip", True)
            else:
                caller.assert_error(one.reply, 502, "upstream_invalid_response")
        asked = len(upstream.requests)
        for tongue in TONGUES:
            headers = {"authorization": f"Bearer {KEY}", "content_encoding": "gzip"}
            got = await call(world.node.port, post(packed, tongue.path(tongue.name, False), **headers))
            assert 400 <= got.status < 500
        assert len(upstream.requests) == asked
        assert rss(pid) - before < 64 * 1024 * 1024
        assert time.monotonic() - began < 10.0


async def test_s23_a_form_of_a_hundred_thousand_parts_costs_little(world: World) -> None:
    part = b'--b\r\ncontent-disposition: form-data; name="x%d"\r\n\r\ny\r\n'
    form = b"".join(part % number for number in range(100_000)) + b"--b--\r\n"
    lines = f"authorization: Bearer {KEY}\r\ncontent-type: multipart/form-data; boundary=%s\r\ncontent-length: %d\r\n"
    async with fault(world.node, KEY) as run, world.upstream([WELL]) as upstream:
        for boundary, body in (("b", form), ("b" * 60_000, form), ("", form), ("b\r\nx: y", form)):
            label = run.label()
            head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\nx-request-id: {label}\r\n"
            began = time.monotonic()
            got = await call(world.node.port, (head + lines % (boundary, len(body)) + "\r\n").encode() + body, 10.0)
            assert time.monotonic() - began < 3.0
            assert 400 <= got.status < 500, got.raw[:200]
            if not world.node.records(label):
                run.labels.remove(label)  # a head too large for HTTP never became a call
        assert not upstream.requests


# S32: an upstream that is not to be trusted

ODD: dict[str, Any] = {
    "no JSON": b"{not json",
    "a page": b"<!doctype html><script>alert(1)</script>",
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a number": b"1e400",
    "another object": b'{"hello": "world"}',
    "wrong types": b'{"choices": 1, "output": {}, "content": "x", "candidates": {"a": 1}, "usage": [], "id": 5}',
    "wrong types within": (
        b'{"choices": [null, 5], "output": [7], "content": [null], "candidates": [[]], "usageMetadata": 3,'
        b' "usage": {"prompt_tokens": "many", "input_tokens": -1, "output_tokens": 1e99}}'
    ),
    "an unknown end": (
        b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "bored"}],'
        b' "stop_reason": "bored", "status": "bored", "candidates": [{"content": {"parts": [{"text": "x"}]},'
        b' "finishReason": "BORED"}], "content": [{"type": "text", "text": "x"}], "output": [], "type": "message",'
        b' "role": "assistant", "usage": {"input_tokens": 1, "output_tokens": 1}}'
    ),
    "arguments that are no JSON": (
        b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": null, "tool_calls": [{"id": "c",'
        b' "type": "function", "function": {"name": "f", "arguments": "{oops"}}]}, "finish_reason": "tool_calls"}],'
        b' "output": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{oops"}], "status":'
        b' "completed", "type": "message", "role": "assistant", "stop_reason": "tool_use", "content": [{"type":'
        b' "tool_use", "id": "c", "name": "f", "input": "{oops"}], "candidates": [{"content": {"parts":'
        b' [{"functionCall": {"name": "f", "args": "{oops"}}]}}]}'
    ),
    "very deep": b"[" * 50_000 + b"]" * 50_000,
    "bytes that are no text": b'{"id": "\xff\xfe\x00", "choices": []}',
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
async def test_s32_whatever_an_upstream_says_is_passed_on_or_an_error(world: World, name: str) -> None:
    """As a document and as the data of an event, in every pair of dialects; never a fault of the gateway's own."""
    document = ODD[name]
    event = b"data: " + document.replace(b"\n", b"") + b"\n\n"

    def odd(request: RawRequest) -> bytes:
        if streamed(request):
            return reply(200, EVENT_STREAM, chunked(event))
        return reply(200, JSON, document)

    async with fault(world.node, KEY) as run, world.upstream([[Serve(odd)]]):
        for caller, target in PAIRS:
            for stream in (False, True):
                one = await run.ask(caller, target.name, stream=stream)
                assert one.reply.ending == "whole"
                assert one.reply.status in (200, 502), (caller.name, target.name, stream, one.reply.raw[:300])
                if one.reply.status == 502:
                    caller.assert_error(one.reply, 502, "upstream_invalid_response")
                elif caller is target and not stream and document:
                    assert one.reply.body == document


async def test_s32_markup_stays_text(world: World) -> None:
    """What a model says goes out as JSON or as an event, never as a page."""
    words = "</script><script>alert(1)</script>"
    answer = Serve(lambda request: tongue_of(request).whole(words).replace(b"application/json", b"text/html"))
    async with fault(world.node, KEY) as run, world.upstream([[answer]]):
        translated = await run.ask(CHAT, MESSAGES.name)
        assert translated.reply.headers["content-type"].startswith("application/json")
        assert translated.reply.json()["choices"][0]["message"]["content"] == words


def test_the_bomb_is_one() -> None:
    assert len(gzip.decompress(bomb(3_000_000))) == 3_000_000
