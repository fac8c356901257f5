"""HTTP at its edges, byte by byte: who answers what, and that one request is never two.

`HYPER` are refusals of the HTTP parser in front: an empty body, `connection: close`, no record, since the gateway never
hears of them. Everything else is answered by the gateway in its own words, with one record.
"""

import http.client
import json

import pytest

from tests.e2e.conftest import KEY
from tests.support.gateway import Mock, Node, until
from tests.support.rawclient import RawReply, connect

BODY = json.dumps({"model": "mock-small", "messages": [{"role": "user", "content": "x"}]}).encode()
LINE = b"POST /v1/chat/completions HTTP/1.1\r\n"
HOST = b"host: t\r\n"
AUTH = f"authorization: Bearer {KEY}\r\n".encode()
TYPE = b"content-type: application/json\r\n"
LENGTH = b"content-length: %d\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
HEALTH = b"GET /health/live HTTP/1.1\r\nhost: t\r\n\r\n"


def plain(*lines: bytes, line: bytes = LINE, length: bytes = LENGTH, body: bytes = BODY) -> bytes:
    """A good request with these header lines more, or another part of it replaced."""
    return line + HOST + AUTH + TYPE + b"".join(lines) + length + b"\r\n" + body


def chunks(*lines: bytes, body: bytes = CHUNKS, line: bytes = LINE) -> bytes:
    return plain(*(lines or (CHUNKED,)), length=b"", body=body, line=line)


def path(target: bytes) -> bytes:
    return plain(line=b"POST " + target + b" HTTP/1.1\r\n")


HYPER: dict[str, tuple[bytes, int]] = {
    "HTTP/1.2": (plain(line=LINE.replace(b"1.1", b"1.2")), 400),
    "TLS on a plain port": (b"\x16\x03\x01\x00\xff\x01\r\n\r\n", 400),
    "no version": (b"POST /v1/chat/completions\r\n\r\n", 400),
    "a method that is no token": (plain(line=LINE.replace(b"POST", b"P(ST")), 400),
    "two spaces": (plain(line=LINE.replace(b"POST ", b"POST  ")), 400),
    "CR alone": (LINE.replace(b"\r\n", b"\r") + HOST + b"\r\n", 400),
    "space before the colon": (plain(b"x-a : b\r\n"), 400),
    "folded header": (plain(b"x-a: b\r\n c\r\n"), 400),
    "header without a name": (plain(b": b\r\n"), 400),
    "header without a colon": (plain(b"nocolon\r\n"), 400),
    "NUL in a value": (plain(b"x-a: a\0b\r\n"), 400),
    "control in a value": (plain(b"x-a: a\x01b\r\n"), 400),
    "control in the path": (path(b"/v1/chat\x01"), 400),
    "not ASCII in the path": (path(b"/v1/ch\xe9t"), 400),
    "path without a slash": (path(b"v1/chat/completions"), 400),
    "coding that is not chunked": (chunks(b"transfer-encoding: identity\r\n"), 400),
    "coding that is nearly chunked": (chunks(b"transfer-encoding: xchunked\r\n"), 400),
    "chunked not last": (chunks(b"transfer-encoding: chunked, identity\r\n"), 400),
    "chunked in HTTP/1.0": (chunks(line=LINE.replace(b"1.1", b"1.0")), 400),
    "two lengths": (plain(b"content-length: 1\r\n"), 400),
    "list of lengths": (plain(length=b"content-length: %d, %d\r\n" % (len(BODY), len(BODY))), 400),
    "negative length": (plain(length=b"content-length: -1\r\n"), 400),
    "length with a sign": (plain(length=b"content-length: +%d\r\n" % len(BODY)), 400),
    "length in hex": (plain(length=b"content-length: 0x10\r\n"), 400),
    "length beyond 64 bits": (plain(length=b"content-length: 99999999999999999999\r\n"), 400),
    "101 headers": (plain(*(b"x-%d: a\r\n" % i for i in range(97))), 431),
    "very long target": (path(b"/v1/" + b"a" * 70_000), 414),
}
SERVED: dict[str, bytes] = {
    "as it should be": plain(),
    "HTTP/1.0": plain(line=LINE.replace(b"1.1", b"1.0")),
    "LF alone": plain(body=b"").replace(b"\r\n", b"\n") + BODY,
    "empty line first": b"\r\n" + plain(),
    "absolute target": path(b"http://evil.test/v1/chat/completions"),
    "the same length twice": plain(LENGTH),
    "chunked": chunks(),
    "chunk extensions": chunks(body=CHUNKS.replace(b"\r\n", b";a=b\r\n", 1)),
    "expects 100": plain(b"expect: 100-continue\r\n"),
    "expects something else": plain(b"expect: something\r\n"),
    "offers an upgrade": plain(b"connection: upgrade\r\nupgrade: h2c\r\n"),
    "100 headers": plain(*(b"x-%d: a\r\n" % i for i in range(96))),
    "30 KB header": plain(b"x-a: " + b"a" * 30_000 + b"\r\n"),
    "trailers that name a key": chunks(body=CHUNKS[:-2] + b"x-api-key: other-key-other-key\r\n\r\n"),
}
OURS: dict[str, tuple[bytes, int]] = {
    "HTTP/1.0 without a host": (plain(line=LINE.replace(b"1.1", b"1.0")).replace(HOST, b""), 400),
    "method in lower case": (plain(line=LINE.replace(b"POST", b"post")), 405),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "CONNECT": (b"CONNECT evil.test:443 HTTP/1.1\r\nhost: evil.test:443\r\n\r\n", 400),
    "TRACE": (b"TRACE /v1/chat/completions HTTP/1.1\r\n" + HOST + AUTH + b"\r\n", 405),
    "preflight": (b"OPTIONS /v1/chat/completions HTTP/1.1\r\n" + HOST + b"origin: http://evil.test\r\n\r\n", 405),
    "WebSocket": (b"GET /v1/chat/completions HTTP/1.1\r\n" + HOST + AUTH + b"connection: upgrade\r\n"
                  b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
                  b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", 405),
    "length and chunks": (chunks(LENGTH, CHUNKED, body=b"0\r\n\r\n"), 400),
    "gzip and chunked": (chunks(b"transfer-encoding: gzip, chunked\r\n"), 400),
    "chunked twice": (chunks(CHUNKED, CHUNKED), 400),
    "chunks that end with LF": (chunks(body=CHUNKS.replace(b"\r\n", b"\n")), 400),
    "expects 100 without a key": (plain(b"expect: 100-continue\r\n", body=b"").replace(AUTH, b""), 401),
    "40 KB header": (plain(b"x-a: " + b"a" * 40_000 + b"\r\n"), 431),
    "200 KB header": (plain(b"x-a: " + b"a" * 200_000 + b"\r\n"), 431),
    "long target": (path(b"/v1/" + b"a" * 30_000), 404),
}  # fmt: skip


async def ask(gateway: Node, mock: Mock, request: bytes) -> tuple[RawReply, int, int]:
    """The first reply, how many requests reached the upstream, and how many records there are more."""
    records, requests = len(gateway.records()), mock.stats()["requests"]
    async with connect(gateway.port) as connection:
        connection.send(request)
        reply = await connection.read()
    await_settled(gateway)
    return reply, mock.stats()["requests"] - requests, len(gateway.records()) - records


def await_settled(gateway: Node) -> None:
    """Once a later call of the one worker has its record, the call before it has, too."""
    status, headers, _ = gateway.get("/v1/nothing", host="t")
    assert status == 401
    until(lambda: any(row["id"] == headers["x-request-id"] for row in gateway.records()), 5.0)


@pytest.mark.parametrize("name", HYPER)
async def test_refused_by_the_parser(gateway: Node, mock: Mock, name: str) -> None:
    request, status = HYPER[name]
    reply, upstream, records = await ask(gateway, mock, request)
    assert (reply.status, reply.ending, reply.body) == (status, "whole", b"")
    assert reply.headers["connection"] == "close"
    assert (upstream, records) == (0, 1), "the one record is that of the call after it"


@pytest.mark.parametrize("name", SERVED)
async def test_served_once(gateway: Node, mock: Mock, name: str) -> None:
    reply, upstream, records = await ask(gateway, mock, SERVED[name])
    assert (reply.status, reply.ending, upstream, records) == (200, "whole", 1, 2)
    assert json.loads(mock.stats()["last_body"]) == json.loads(BODY)


@pytest.mark.parametrize("name", OURS)
async def test_refused_by_the_gateway(gateway: Node, mock: Mock, name: str) -> None:
    request, status = OURS[name]
    reply, upstream, records = await ask(gateway, mock, request)
    assert (reply.status, reply.ending, upstream, records) == (status, "whole", 0, 2)
    assert reply.json()["error"]["message"]
    assert "access-control-allow-origin" not in reply.headers


async def test_http_2_is_not_spoken(gateway: Node) -> None:
    async with connect(gateway.port) as connection:
        connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        reply = await connection.read()
    assert (reply.raw, reply.ending) == (b"", "fin")


@pytest.mark.parametrize("name", ["length and chunks", "refused, body unread", "get with a body", "bare line feeds"])
async def test_what_follows_a_doubtful_request(gateway: Node, mock: Mock, name: str) -> None:
    """The next request on the connection is the next request, or there is none: never a part of the body."""
    inner = b"POST /v1/embeddings HTTP/1.1\r\n" + HOST + AUTH + TYPE + b"content-length: 0\r\n\r\n"
    first = {
        "length and chunks": chunks(b"content-length: %d\r\n" % len(inner), CHUNKED, body=b"0\r\n\r\n") + inner,
        "refused, body unread": plain(length=b"content-length: %d\r\n" % len(inner), body=inner).replace(AUTH, b""),
        "get with a body": plain(line=b"GET /v1/models HTTP/1.1\r\n", length=b"content-length: %d\r\n" % len(inner),
                                 body=inner),
        "bare line feeds": HEALTH.replace(b"\r\n", b"\n"),
    }[name]  # fmt: skip
    with mock.untouched():
        async with connect(gateway.port) as connection:
            connection.send(first + HEALTH)
            one = await connection.read()
            two = await connection.read()
    assert one.status in (200, 400, 401)
    if name == "length and chunks":
        assert (one.headers["connection"], two.raw, two.ending) == ("close", b"", "fin")
    elif name == "refused, body unread" and not two.raw:
        assert two.ending in ("fin", "reset")  # hyper gives the connection up unless the body had come already
    else:
        assert (two.status, two.body) == (200, b'{"status":"live"}')


@pytest.mark.parametrize("size", [200_000, 900_000, 3_000_000])
@pytest.mark.parametrize("key", [KEY, "wrong-key-wrong-key"], ids=["good key", "wrong key"])
def test_a_refusal_reaches_who_is_still_sending(gateway: Node, size: int, key: str) -> None:
    """A large body is refused before it is read, and a client that writes first and reads then has the reason."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    body = json.dumps({"model": "nope", "messages": [{"role": "user", "content": "x" * size}]})
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", body, headers)
    answer = connection.getresponse()
    expected = 401 if key != KEY else 413 if size > 1_048_576 else 404
    assert (answer.status, "message" in json.load(answer)["error"]) == (expected, True)
    connection.close()


def test_health_says_little_and_needs_nothing(gateway: Node) -> None:
    for wanted in ("/health/live", "/health/ready"):
        status, headers, body = gateway.get(wanted)
        assert status == 200
        assert headers.keys() <= {"content-type", "server", "content-length", "date"}
        assert headers["server"] == "fastgw"
        assert json.loads(body).keys() <= {"status", "revision"}
