"""Rows of the table of failures and attacks, by their numbers.

F9: however a stream is cut and whatever its line ends, it says the same. F10: text that is no UTF-8, or is cut inside a
character. S22: JSON made to hurt whoever reads it. S34: sizes from the network against native code (the rest of it is
`make fuzz`).
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastgw._core import fields, headers, replies, sse
from fastgw.dialects import framing, openai, registry
from fastgw.dialects.framing import ServerSentEvents
from fastgw.dialects.hub import Chat, Target
from fastgw.errors import GatewayError, UpstreamError
from fastgw.gateway import routes
from fastgw.gateway.translate import MAX_OBJECTS, between, read_chat
from tests.fuzz.targets import FIXTURES
from tests.support.gateway import Mock, Node, node
from tests.support.rawclient import call, connect, get, post

STREAMS = {
    "openai_chat": "openai_chat/openai_tools.sse",
    "anthropic_messages": "anthropic_messages/tools.sse",
    "gemini": "gemini/text.sse",
    "openai_responses": "openai_responses/refusal.sse",
}
"""One recorded stream of each dialect that has server-sent events."""

Events = list[tuple[str, bytes]]


def recorded(name: str) -> bytes:
    return (FIXTURES / STREAMS[name]).read_bytes()


def read(parts: list[bytes]) -> Events:
    cutter = ServerSentEvents()
    return [event for part in parts for event in cutter.feed(part)] + cutter.end()


# -- F9 ----------------------------------------------------------------------------------------------------------------


def mixed(stream: bytes) -> bytes:
    """Every line with the next of the three ends."""
    ends = (b"\n", b"\r", b"\r\n")  # in this order no CR and LF of two lines meet
    return b"".join(line + ends[at % 3] for at, line in enumerate(stream.split(b"\n")[:-1]))


def commented(stream: bytes) -> bytes:
    return b": hello\n\n" + stream.replace(b"data: ", b": note\nid: 7\nretry: 10\ndata: ") + b":\n\n"


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "lf": lambda stream: stream,
    "crlf": lambda stream: stream.replace(b"\n", b"\r\n"),
    "cr": lambda stream: stream.replace(b"\n", b"\r"),
    "mixed": mixed,
    "byte order mark": lambda stream: framing.BOM + stream,
    "comments": commented,
    "no space": lambda stream: stream.replace(b"data: ", b"data:").replace(b"event: ", b"event:"),
    "no last empty line": lambda stream: stream.rstrip(b"\n"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", STREAMS)
def test_f9_a_stream_cut_at_every_byte_says_the_same(name: str, form: str):
    plain = recorded(name)
    wanted = [(framing.name(event), framing.payload(event)) for event in framing.events(plain)]
    stream = FORMS[form](plain)
    assert read([stream]) == wanted
    assert read([stream[at : at + 1] for at in range(len(stream))]) == wanted
    for at in range(1, len(stream)):
        assert read([stream[:at], stream[at:]]) == wanted


@pytest.mark.parametrize("name", STREAMS)
def test_f9_data_in_several_lines_is_one_document(name: str):
    """A payload may be told line by line: its reader finds the same events in it."""
    plain = recorded(name)
    lines = []
    for event in framing.events(plain):
        payload = framing.payload(event) or b""
        told = payload if payload == b"[DONE]" else json.dumps(json.loads(payload), indent=1).encode()
        title = framing.name(event)
        lines += [b"event: " + title.encode()] if title else []
        lines += [b"data: " + line for line in told.split(b"\n")] + [b""]
    stream = b"\n".join(lines) + b"\n"
    assert said(name, [stream]) == said(name, [plain])
    assert said(name, [stream[at : at + 7] for at in range(0, len(stream), 7)]) == said(name, [plain])


def said(name: str, parts: list[bytes]) -> list[Any]:
    """What the dialect's reader makes of a stream."""
    reader = registry.CODECS[name].reader()
    told = [event for title, payload in read(parts) for event in reader.feed(title, payload)] + reader.end()
    return [repr(event) for event in told if not hasattr(event, "raw")]


@pytest.mark.parametrize("size", [1 << 20, framing.MAX_EVENT - 100])
def test_f9_a_line_of_a_megabyte_and_of_the_most_there_may_be(size: int):
    line = b"data: " + b"x" * size + b"\r\n\r\n"
    parts = [line[at : at + 65536] for at in range(0, len(line), 65536)]
    assert read(parts) == read([line]) == [("", b"x" * size)]


def test_f9_a_line_without_end_is_given_up():
    cutter = ServerSentEvents()
    with pytest.raises(ValueError, match="larger than 8 MiB"):
        for _ in range(10):
            cutter.feed(b"x" * (1 << 20))


# -- F10 ---------------------------------------------------------------------------------------------------------------

WORDS = "Grüße, 世界 \U0001f600 — ﷽"


def spoken(text: bytes) -> bytes:
    return b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":' \
           b'{"content":"' + text + b'"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'  # fmt: skip


def translated(client: str, parts: list[bytes]) -> bytes:
    chat = Chat("m", [], client, stream=True)
    tap = between(registry.CODECS[client], registry.CODECS["openai_chat"], chat, 1, streams=True).tap("m", "req_1")  # type: ignore[attr-defined]
    return b"".join([tap.feed(part) for part in parts]) + tap.finish()


@pytest.mark.parametrize("client", ["anthropic_messages", "gemini"])
def test_f10_a_character_cut_in_two_is_put_together_again(client: str):
    stream = spoken(WORDS.encode())
    whole = translated(client, [stream])
    assert WORDS in whole.decode()
    for at in range(1, len(stream)):
        assert translated(client, [stream[:at], stream[at:]]) == whole


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc0\xaf"])
def test_f10_bytes_that_are_no_text_pass_as_they_are_and_are_not_translated(bad: bytes):
    stream = spoken(b"a" + bad + b"b")
    tap = openai.CHAT.tap(wants_usage=False, cost=lambda usage: None)
    assert b"".join([tap.feed(stream[at : at + 1]) for at in range(len(stream))]) + tap.finish() == stream
    with pytest.raises(ValueError):
        translated("anthropic_messages", [stream])


def test_f10_what_is_kept_as_it_came_is_text_too():
    """A raw value is copied, not read: bytes in it that are no text would make the client's document none."""
    vectors = b'{"object":"list","data":[{"index":0,"embedding":["\xff"]},{"index":1,"embedding":[1]}]}'
    client, upstream = (
        registry.OPERATIONS["embeddings"].clients[name] for name in ("gemini_batch_embed", "openai_embeddings")
    )
    one = b'{"content":{"parts":[{"text":"a"}]}}'
    asked = read_chat(client, b'{"requests":[%b,%b]}' % (one, one), model="m", stream=False)
    with pytest.raises(UpstreamError) as caught:
        between(client, upstream, asked, 0, streams=False).whole(vectors, "m")
    assert caught.value.reason == "invalid"


def test_f10_an_error_that_is_no_text_is_still_told():
    translation = between(registry.CODECS["openai_responses"], registry.CODECS["openai_chat"], None, 0, streams=False)
    problem = translation.read_error(429, {}, b'{"error":{"message":"slow \xff down","code":"\xff"}}')
    status, body = translation.problem(problem, "req_1")
    assert status == 429
    assert json.loads(body)["error"]["message"] == "slow \ufffd down"


# -- S22 ---------------------------------------------------------------------------------------------------------------

MANY = 1_000_000
DEEP = 100_000
MB = 1 << 20
BOMBS: dict[str, Callable[[], bytes]] = {
    "deep lists": lambda: b'{"model":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects": lambda: b'{"model":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "deep and never closed": lambda: b'{"model":' + b"[" * DEEP,
    "a million fields": lambda: b"{" + b",".join(b'"k%d":0' % at for at in range(MANY)) + b"}",
    "the same field a million times": lambda: b"{" + b'"model":"m",' * MANY + b'"n":1}',
    "model twice": lambda: b'{"model":"mock-small","messages":[],"model":"other"}',
    "not a number": lambda: b'{"model":"m","messages":[],"temperature":NaN}',
    "infinity": lambda: b'{"model":"m","messages":[],"temperature":-Infinity}',
    "byte order mark": lambda: b'\xef\xbb\xbf{"model":"m","messages":[]}',
    "utf-16": lambda: '{"model":"m","messages":[]}'.encode("utf-16"),
    "half a surrogate pair": lambda: rb'{"model":"\ud800","messages":[]}',
    "half a surrogate pair in bytes": lambda: b'{"model":"\xed\xa0\x80","messages":[]}',
    "a number without end as the model": lambda: b'{"model":' + b"1" * 100_000 + b',"messages":[]}',
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_s22_a_bomb_is_refused_at_little_cost(bomb: str):
    body = BOMBS[bomb]()
    begun = time.process_time()
    with pytest.raises(fields.FieldError) as caught:
        fields.scan(body).text(b"model")
    spent = time.process_time() - begun
    assert caught.value.code in ("invalid_json", "duplicate_field", "invalid_type")
    assert len(caught.value.message) < 200
    # 50 ms a megabyte is the bound; a busy machine gets five times that.
    assert spent < 0.25 * max(1.0, len(body) / MB), f"{spent:.3f} s for {len(body)} bytes"


INNER: dict[str, bytes] = {
    "as deep as may be": b"[" * 500 + b"]" * 500,
    "objects as deep as may be": b'{"a":' * 500 + b"1" + b"}" * 500,
    "a number of 100,000 digits": b"1" * 100_000,
    "a fraction of 100,000 digits": b"0." + b"3" * 100_000,
    "an exponent": b"1e999999999",
    "a million numbers": b"[" + b"1," * MANY + b"1]",
    "a million empty objects": b"[" + b"{}," * MANY + b"{}]",
    "half a surrogate pair": rb'"\ud800"',
    "nul": rb'"\u0000"',
}
PLACES = (
    b'{"model":"m","max_tokens":%b,"messages":[{"role":"user","content":"a"}]}',
    b'{"model":"m","max_tokens":5,"messages":%b}',
    b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":%b}]}',
    b'{"model":"m","max_tokens":5,"input":%b}',
    b'{"contents":%b}',
    b'{"contents":[{"role":"user","parts":%b}]}',
    b'{"model":"m","max_tokens":5,"input":"a","messages":[{"role":"user","content":"a"}],"contents":[{"parts":[{"text":"a"}]}],'
    b'"tools":[{"type":"function","name":"f","input_schema":%b,"parameters":%b,"function":{"name":"f","parameters":%b}}]}',
)


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("name", registry.CODECS)
def test_s22_what_is_a_document_is_read_or_refused(name: str, inner: str):
    """What the scanner lets through is read by the client's dialect and written for every provider's."""
    client = registry.CODECS[name]
    for place in PLACES:
        body = place.replace(b"%b", INNER[inner])
        fields.scan(body)
        told = refused(lambda body=body: read_chat(client, body, model="m", stream=False))
        if isinstance(told, GatewayError):
            assert told.kind in ("invalid_type", "invalid_json", "request_too_large"), told
            assert len(told.message) < 2000
            continue
        for upstream in registry.UPSTREAMS.values():
            made = between(client, upstream, told, 0, streams=True)
            told_off = refused(lambda made=made: made.request(Target("m", drop=frozenset({"*"}))))
            if isinstance(told_off, GatewayError):
                assert told_off.kind in ("invalid_type", "invalid_json", "unsupported_field"), told_off


def refused(ask: Callable[[], Any]) -> Any:
    """The refusal, or what came of it."""
    try:
        return ask()
    except GatewayError as error:
        return error


LOADS = {
    "/v1beta/models/mock-small:generateContent": b'{"contents":[' + b"{}," * MANY * 4 + b"{}]}",
    "/v1/models/mock-small:generateContent": b'{"contents":[{"parts":[' + b"{}," * MANY + b"{}]}]}",
    "/v1/messages": b'{"model":"mock-small","max_tokens":1,"messages":[' + b'{"role":"user"},' * MANY + b"{}]}",
    "/v1/responses": b'{"model":"mock-small","input":[' + b'{"type":"x"},' * MANY + b"{}]}",
}
"""Documents in good order that would keep a worker busy for seconds if they were translated."""


@pytest.mark.parametrize("path", LOADS)
def test_s22_more_than_is_translated_is_refused_at_little_cost(path: str):
    match = routes.PROXIED.get(path.encode()) or routes.named(path.encode())
    assert match is not None
    name = match.endpoint.dialect.name
    body = LOADS[path]
    begun = time.process_time()
    fields.scan(body)
    with pytest.raises(GatewayError) as caught:
        read_chat(registry.OPERATIONS[registry.OPERATION_OF[name]].clients[name], body, model="m", stream=False)
    spent = time.process_time() - begun
    assert caught.value.kind == "request_too_large"
    assert spent < 0.25 * len(body) / MB


def test_s22_as_many_as_are_translated():
    body = b'{"contents":[' + b'{"parts":[{"text":"a"}]},' * (MAX_OBJECTS // 2 - 1) + b'{"parts":[]}]}'
    chat = read_chat(registry.CODECS["gemini"], body, model="m", stream=False)
    assert len(chat.turns) >= 1


KEY = "fgw-fuzz-0123456789abcdef"
CONFIG = """
providers:
  mock: {{kind: openai_compatible, base_url: "{url}/v1", api_key: sk-mock}}
  claude: {{kind: anthropic, base_url: "{url}", api_key: sk-mock}}
models:
  claude: {{targets: [{{provider: claude, model: mock-small}}]}}
  mock-small: {{targets: [{{provider: mock, model: mock-small}}]}}
keys:
  - {{name: main, secret: "{key}"}}
bounds: {{body: 16MiB}}
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Mock]]:
    """A node of one worker, so that whoever is served beside a bomb is served by the worker that has it."""
    directory: Path = tmp_path_factory.mktemp("bombs")
    mock = Mock(directory)
    try:
        with node(directory, CONFIG.format(url=mock.url, key=KEY)) as started:
            yield started, mock
            assert not started.log("internal_error"), started.log("internal_error")
    finally:
        mock.stop()


async def healthy(port: int) -> AsyncIterator[float]:
    """How long each question for the worker's health took, one after the other."""
    while True:
        begun = time.monotonic()
        reply = await call(port, get("/health/live"), timeout=10.0)
        assert reply.status == 200
        yield time.monotonic() - begun
        await asyncio.sleep(0.02)


async def slowest(port: int, stop: asyncio.Event) -> float:
    most = 0.0
    async for seconds in healthy(port):
        most = max(most, seconds)
        if stop.is_set():
            return most
    raise AssertionError


async def test_s22_bombs_over_a_socket_are_refused_while_others_are_served(small: tuple[Node, Mock]):
    started, mock = small
    stop = asyncio.Event()
    watching = asyncio.create_task(slowest(started.port, stop))
    try:
        with mock.untouched():
            for bomb, make in BOMBS.items():
                reply = await call(started.port, post(make(), authorization=f"Bearer {KEY}"), timeout=20.0)
                assert reply.status in (400, 413), (bomb, reply.raw[:300])
                assert reply.json()["error"]["type"] == "invalid_request_error", bomb
            for path, body in LOADS.items():
                reply = await call(started.port, post(body, path=path, authorization=f"Bearer {KEY}"), timeout=20.0)
                assert reply.status == 413, path
            for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses"):
                body = b'{"model":' + b"[" * DEEP + b"]" * DEEP + b"}"
                reply = await call(started.port, post(body, path=path, authorization=f"Bearer {KEY}"), timeout=20.0)
                assert reply.status == 400, path
    finally:
        stop.set()
        most = await watching
    # 500 ms is the bound; a machine that does other things too gets five times that.
    assert most < 2.5, f"health took {most:.3f} s"
    good = {"model": "mock-small", "messages": [{"role": "user", "content": "hi"}]}
    assert (await call(started.port, post(good, authorization=f"Bearer {KEY}"))).status == 200


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([], 400),
        ([{"role": "user", "content": "hi"}], 200),
    ],
)
async def test_s22_a_conversation_that_only_the_provider_s_dialect_refuses(
    small: tuple[Node, Mock], messages: list[Any], status: int
):
    """It is the caller's error, whoever finds it."""
    body = {"model": "claude", "messages": messages}
    reply = await call(small[0].port, post(body, authorization=f"Bearer {KEY}"))
    assert reply.status == status, reply.raw
    if status == 400:
        assert reply.json()["error"]["code"] == "invalid_type"


async def test_s22_a_string_of_100_megabytes_is_refused_by_its_length(small: tuple[Node, Mock]):
    """Whether it says so itself, or sends chunk after chunk."""
    started, mock = small
    head = post(b"", authorization=f"Bearer {KEY}").replace(b"content-length: 0", b"content-length: 104857600")
    with mock.untouched():
        reply = await call(started.port, head + b'{"model":"' + b"x" * 65536, timeout=10.0)
        assert reply.status == 413
        chunked = post(b"", authorization=f"Bearer {KEY}").replace(b"content-length: 0", b"transfer-encoding: chunked")
        async with connect(started.port) as connection:
            connection.send(chunked)
            for _ in range(400):
                connection.send(b"40000\r\n" + b"x" * 0x40000 + b"\r\n")
                with contextlib.suppress(ConnectionError):
                    await connection.writer.drain()
            reply = await connection.read(20.0)
    assert reply.status == 413 or (reply.status == 0 and reply.ending in ("reset", "fin"))
    assert (await call(started.port, get("/health/live"))).status == 200


# -- S34 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "length", ["0", "1", "4294967295", "4294967296", "9223372036854775807", "18446744073709551617"]
)
def test_s34_lengths_that_do_not_fit_a_word_are_read_as_what_they_are(length: str):
    told = b"HTTP/1.1 200 OK\r\ncontent-length: " + length.encode() + b"\r\n\r\n"
    assert (replies.whole(told, 4096, 1 << 62) is not None) is (length == "0")
    line = [(b"host", b"h"), (b"content-length", length.encode())]
    if len(length) <= 18:
        assert headers.scan(line).content_length == int(length)
    else:
        with pytest.raises(headers.HeaderError):
            headers.scan(line)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 4095, 4096, 4097])
def test_s34_input_that_ends_anywhere(size: int):
    """Whatever is read eight or sixteen bytes at a time must stop at the end: every size around a block's."""
    for filler in (b"a", b'"', b"\\", b"\n", b"[", b"\xe4", b" "):
        block = (filler * size)[:size]
        assert sse.look(block) >> sse.EVENTS == block.count(b"\n\n")
        with pytest.raises(fields.FieldError):
            fields.scan(b'{"model":"' + block)
        assert replies.whole(b"HTTP/1.1 200 " + block, 4096, 4096) is None
        body = b'{"a":"' + b"x" * size + b'"}'
        assert fields.scan(body).get(b"a") == body[5:-1]
