"""Every refusal of the catalogue, over raw sockets: status, type, code, param, a message, and nothing sent upstream."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.conftest import KEY, OTHER_KEYS
from tests.support.gateway import Mock, Node, unique, until
from tests.support.rawclient import RawReply, call, connect, post

CHAT = "/v1/chat/completions"
GOOD: dict[str, Any] = {"model": "mock-small", "messages": [{"role": "user", "content": "hi"}]}
BEARER = f"authorization: Bearer {KEY}"


def raw(
    body: bytes | dict[str, Any] = GOOD, *lines: str, method: str = "POST", path: str = CHAT, host: str | None = "test"
) -> bytes:
    """A request with exactly these header lines, content-length and content-type aside."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"{method} {path} HTTP/1.1", *([f"host: {host}"] if host is not None else []), *lines]
    if not any(line.lower().startswith("content-type") for line in lines):
        head.append("content-type: application/json")
    if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in lines):
        head.append(f"content-length: {len(data)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + data


@dataclass
class Case:
    """A request and the refusal that belongs to it."""

    request: bytes
    status: int
    code: str
    type: str = "invalid_request_error"
    param: str | None = None


def fields(**changes: Any) -> bytes:
    return raw({**GOOD, **changes}, BEARER)


def bad_json(body: bytes) -> Case:
    return Case(raw(body, BEARER), 400, "invalid_json")


def without(name: str) -> bytes:
    return raw({key: value for key, value in GOOD.items() if key != name}, BEARER)


FORBIDDEN = (
    "api_base", "base_url", "api_key", "api_version", "api_type", "organization", "extra_headers", "extra_query",
    "extra_body", "custom_llm_provider", "azure_ad_token", "aws_region_name", "aws_secret_access_key", "vertex_project",
)  # fmt: skip
CASES: dict[str, Case] = {
    "no key": Case(raw(), 401, "invalid_api_key"),
    "wrong key": Case(raw(GOOD, "authorization: Bearer fgw-not-a-key-of-ours"), 401, "invalid_api_key"),
    "empty bearer": Case(raw(GOOD, "authorization: Bearer"), 401, "invalid_api_key"),
    "basic": Case(raw(GOOD, "authorization: Basic Zm9vOmJhcg=="), 401, "invalid_api_key"),
    "quoting key": Case(raw(GOOD, "authorization: Bearer ' OR 1=1--"), 401, "invalid_api_key"),
    "not ascii": Case(raw(GOOD, "authorization: Bearer \xff\xfe\xe9"), 401, "invalid_api_key"),
    "long key": Case(raw(GOOD, "authorization: Bearer " + "k" * 5000), 401, "invalid_api_key"),
    "expired key": Case(raw(GOOD, f"x-api-key: {OTHER_KEYS['expired']}"), 401, "key_expired"),
    "blocked key": Case(raw(GOOD, f"api-key: {OTHER_KEYS['blocked']}"), 401, "key_blocked"),
    "two keys": Case(raw(GOOD, BEARER, f"x-api-key: {OTHER_KEYS['narrow']}"), 400, "ambiguous_key"),
    "two bearers": Case(raw(GOOD, BEARER, "authorization: Bearer another"), 400, "ambiguous_key"),
    "key in the query": Case(raw(GOOD, path=f"{CHAT}?key={KEY}"), 401, "invalid_api_key"),
    "unknown model": Case(fields(model="nope"), 404, "model_not_found", param="model"),
    "model that is a url": Case(fields(model="http://evil.test/x"), 404, "model_not_found", param="model"),
    "model of others": Case(
        raw(GOOD, f"authorization: Bearer {OTHER_KEYS['narrow']}"), 403, "model_not_allowed", "permission_error",
        param="model",
    ),
    "broken json": bad_json(b'{"model": "mock-small", "messages": ['),
    "no json": bad_json(b"hello"),
    "empty body": bad_json(b""),
    "array": bad_json(b"[]"),
    "string": bad_json(b'"x"'),
    "two documents": bad_json(json.dumps(GOOD).encode() * 2),
    "trailing comma": bad_json(b'{"model": "mock-small", "messages": [],}'),
    "single quotes": bad_json(b"{'model': 'mock-small'}"),
    "not a number": bad_json(b'{"model": "mock-small", "messages": [], "temperature": NaN}'),
    "not utf-8": bad_json(b'{"model": "mock-\xff", "messages": []}'),
    "control in a string": bad_json(b'{"model": "mock-\x01", "messages": []}'),
    "byte order mark": bad_json(b"\xef\xbb\xbf" + json.dumps(GOOD).encode()),
    "model twice": Case(
        raw(b'{"model":"mock-small","messages":[],"model":"mock-large"}', BEARER), 400, "duplicate_field", param="model"
    ),
    "model twice, once escaped": Case(
        raw(b'{"model":"mock-small","messages":[],"m\\u006fdel":"mock-large"}', BEARER), 400, "duplicate_field",
        param="model",
    ),
    "any field twice": Case(
        raw(b'{"model":"mock-small","x":1,"messages":[],"x":2}', BEARER), 400, "duplicate_field", param="x"
    ),
    "model is a number": Case(fields(model=5), 400, "invalid_type", param="model"),
    "model is null": Case(fields(model=None), 400, "missing_field", param="model"),
    "model is empty": Case(fields(model=""), 400, "missing_field", param="model"),
    "model is a list": Case(fields(model=["mock-small"]), 400, "invalid_type", param="model"),
    "stream is a string": Case(fields(stream="true"), 400, "invalid_type", param="stream"),
    "stream is a number": Case(fields(stream=1), 400, "invalid_type", param="stream"),
    "stream_options is a list": Case(
        fields(stream=True, stream_options=[]), 400, "invalid_type", param="stream_options"
    ),
    "no model": Case(without("model"), 400, "missing_field", param="model"),
    "no messages": Case(without("messages"), 400, "missing_field", param="messages"),
    "no input": Case(raw({"model": "mock-embedding"}, BEARER, path="/v1/embeddings"), 400, "missing_field",
                     param="input"),
    **{f"field {name}": Case(fields(**{name: "x"}), 400, "forbidden_field", param=name) for name in FORBIDDEN},
    "forbidden, escaped": Case(
        raw(b'{"model":"mock-small","messages":[],"api\\u005fbase":"http://evil.test"}', BEARER), 400,
        "forbidden_field", param="api_base",
    ),
    "not json": Case(raw(GOOD, BEARER, "content-type: text/plain"), 400, "bad_request"),
    "form": Case(raw(GOOD, BEARER, "content-type: application/x-www-form-urlencoded"), 400, "bad_request"),
    "compressed": Case(raw(GOOD, BEARER, "content-encoding: gzip"), 400, "bad_request"),
    "two content types": Case(
        raw(GOOD, BEARER, "content-type: application/json", "content-type: text/plain"), 400, "bad_request"
    ),
    "no host": Case(raw(GOOD, BEARER, host=None), 400, "bad_request"),
    "two hosts": Case(raw(GOOD, BEARER, "host: other"), 400, "bad_request"),
    "host with a path": Case(raw(GOOD, BEARER, host="test/x?"), 400, "bad_request"),
    "empty host": Case(raw(GOOD, BEARER, host=""), 400, "bad_request"),
    "underscore twin": Case(raw(GOOD, BEARER, "x_api_key: k"), 400, "bad_request"),
    "two slashes": Case(raw(GOOD, BEARER, path="//v1/chat/completions"), 400, "bad_request"),
    "dot segment": Case(raw(GOOD, BEARER, path="/v1/../v1/chat/completions"), 400, "bad_request"),
    "escaped path": Case(raw(GOOD, BEARER, path="/v1/chat%2fcompletions"), 400, "bad_request"),
    "path parameters": Case(raw(GOOD, BEARER, path="/v1;x/chat/completions"), 400, "bad_request"),
    "headers too large": Case(
        raw(GOOD, BEARER, *(f"x-filler-{i}: {'v' * 4000}" for i in range(10))), 431, "request_too_large"
    ),
    "wrong method": Case(raw(b"", BEARER, method="PUT"), 405, "bad_request"),
    "get on post": Case(raw(b"", BEARER, method="GET"), 405, "bad_request"),
    "post on models": Case(raw(GOOD, BEARER, path="/v1/models"), 405, "bad_request"),
    "unknown path": Case(raw(GOOD, BEARER, path="/v1/nothing"), 404, "endpoint_not_enabled"),
    "realtime": Case(raw(GOOD, BEARER, path="/v1/realtime/sessions"), 404, "endpoint_not_enabled"),
    "images": Case(raw(GOOD, BEARER, path="/v1/images/generations"), 400, "missing_field", param="prompt"),
    "audio": Case(raw(GOOD, BEARER, path="/v1/audio/speech"), 400, "missing_field", param="input"),
    "files": Case(raw(b"", BEARER, path="/v1/files", method="GET"), 404, "endpoint_not_enabled"),
    "root": Case(raw(b"", BEARER, path="/", method="GET"), 404, "endpoint_not_enabled"),
    "unknown path, no key": Case(raw(GOOD, path="/v1/nothing"), 401, "invalid_api_key"),
    "too large by its length": Case(
        raw(b"", BEARER, f"content-length: {2 * 1024 * 1024}"), 413, "request_too_large"
    ),
}  # fmt: skip


def labelled(request: bytes, label: str) -> bytes:
    """The request with the client's own id, by which its record is found."""
    line, rest = request.split(b"\r\n", 1)
    return b"%b\r\nx-request-id: %b\r\n%b" % (line, label.encode(), rest)


def check_error(reply: RawReply, case: Case) -> str:
    """The error's message, after everything else about it was checked."""
    assert reply.ending == "whole"
    assert reply.status == case.status, reply.raw
    assert reply.headers["content-type"] == "application/json"
    document = reply.json()
    assert document.keys() == {"error"}
    error = document["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["code"], error["param"]) == (case.type, case.code, case.param)
    assert len(error["message"]) > 15
    assert reply.headers["x-request-id"].startswith("req_")
    return str(error["message"])


@pytest.mark.parametrize("name", CASES)
async def test_refused(gateway: Node, mock: Mock, name: str) -> None:
    case, label = CASES[name], unique()
    with mock.untouched():
        reply = await call(gateway.port, labelled(case.request, label))
        message = check_error(reply, case)
    assert KEY not in message
    scan_failed = reply.json()["error"]["code"] in ("bad_request", "request_too_large", "ambiguous_key")
    if scan_failed and not gateway.records(label):
        label = ""  # headers that could not be trusted leave no label, but a record all the same
        row = until(lambda: [r for r in gateway.records() if r["id"] == reply.headers["x-request-id"]])[0]
    else:
        row = gateway.record(label)
    assert (row["id"], row["status"]) == (reply.headers["x-request-id"], case.status)
    assert row["error"] == case.code
    assert (row["attempts"], row["cost_nano"], row["input_tokens"]) == ([], None, 0)


ANTHROPIC = ("/v1/messages/batches", "/anthropic/v1/messages/batches", "/anthropic/v1/files")
GEMINI = ("/v1beta/models/m:batchGenerateContent", "/v1/models/m:batchGenerateContent", "/v1beta/cachedContents",
          "/genai/v1beta/models/m:asyncBatchEmbedContent")  # fmt: skip


@pytest.mark.parametrize("path", ANTHROPIC)
async def test_not_built_in_anthropics_shape(gateway: Node, mock: Mock, path: str) -> None:
    with mock.untouched():
        reply = await call(gateway.port, raw(GOOD, f"x-api-key: {KEY}", path=path))
        refused = await call(gateway.port, raw(GOOD, "x-api-key: wrong-key-wrong-key", path=path))
    assert (reply.status, reply.json()["type"], reply.json()["error"]["type"]) == (404, "error", "not_found_error")
    assert reply.json()["error"]["message"]
    assert reply.json()["request_id"] == reply.headers["x-request-id"]
    assert (refused.status, refused.json()["error"]["type"]) == (401, "authentication_error")


@pytest.mark.parametrize("path", GEMINI)
async def test_not_built_in_geminis_shape(gateway: Node, mock: Mock, path: str) -> None:
    with mock.untouched():
        reply = await call(gateway.port, raw(GOOD, f"x-goog-api-key: {KEY}", path=path))
        refused = await call(gateway.port, raw(GOOD, "x-goog-api-key: wrong-key-wrong", path=path))
    error = reply.json()["error"]
    assert (reply.status, error["code"], error["status"]) == (404, 404, "NOT_FOUND")
    assert error["details"][0]["reason"] == "endpoint_not_enabled"
    assert (refused.status, refused.json()["error"]["status"]) == (401, "UNAUTHENTICATED")


async def test_the_same_key_twice_is_no_doubt(gateway: Node) -> None:
    reply = await call(gateway.port, raw(GOOD, BEARER, f"x-api-key: {KEY}", f"api-key: {KEY}"))
    assert reply.status == 200


async def test_too_many_headers(gateway: Node, mock: Mock) -> None:
    """100 pass; beyond them hyper's own limit answers, without a body, before the gateway hears of it."""
    with mock.untouched():
        over = await call(gateway.port, raw(GOOD, BEARER, *(f"x-h{i}: v" for i in range(120))))
    assert over.status == 431
    under = await call(gateway.port, raw(GOOD, BEARER, *(f"x-h{i}: v" for i in range(90))))
    assert under.status == 200


async def test_too_large_without_a_length(gateway: Node, mock: Mock) -> None:
    """A chunked body is stopped at the cap, not after it."""
    label = unique()
    head = raw(b"", BEARER, "transfer-encoding: chunked", f"x-request-id: {label}")
    with mock.untouched():
        async with connect(gateway.port) as connection:
            connection.send(head)
            piece = b"%x\r\n%b\r\n" % (65536, b" " * 65536)
            for _ in range(20):
                connection.send(piece)
            reply = await connection.read()
    check_error(reply, Case(b"", 413, "request_too_large"))
    assert gateway.record(label)["status"] == 413
    gateway.assert_well()


@pytest.mark.parametrize("kept_back", [1, 20])
async def test_truncated_body_is_never_forwarded(gateway: Node, mock: Mock, kept_back: int) -> None:
    label = unique()
    request = raw(GOOD, BEARER, f"x-request-id: {label}")
    with mock.untouched():
        async with connect(gateway.port) as connection:
            connection.send(request[:-kept_back])
            await asyncio.sleep(0.05)
        row = await asyncio.to_thread(gateway.record, label)
    assert (row["status"], row["error"], row["attempts"]) == (499, "client_closed", [])


BROKEN_CHUNKS = {
    "cut": b'5\r\n{"mod\r\n',
    "no size": b"ZZ\r\nxx\r\n",
    "wrong size": b"5\r\n{}\r\n0\r\n\r\n",
    "huge size": b"1ffffffffffffffff\r\nx",
}


@pytest.mark.parametrize("name", BROKEN_CHUNKS)
@pytest.mark.parametrize("half_closed", [False, True], ids=["open", "half-closed"])
async def test_broken_chunks_are_never_forwarded(gateway: Node, mock: Mock, name: str, half_closed: bool) -> None:
    label = unique()
    with mock.untouched():
        async with connect(gateway.port) as connection:
            connection.send(raw(BROKEN_CHUNKS[name], BEARER, "transfer-encoding: chunked", f"x-request-id: {label}"))
            if half_closed:
                connection.writer.write_eof()
            reply = await connection.read()
        row = await asyncio.to_thread(gateway.record, label)
    assert row["attempts"] == []
    if name == "cut" and not half_closed:
        check_error(reply, Case(b"", 408, "request_timeout"))  # to the gateway the rest is only late
    else:
        check_error(reply, Case(b"", 400, "bad_request"))
        assert (row["status"], row["error"]) == (499, "client_closed")
    gateway.assert_well()


async def test_a_client_that_closes_its_sending_side_has_left(gateway: Node) -> None:
    """A half-close cannot be told from a close: the call is given up, as nginx does, and granian closes in silence."""
    label = unique()
    async with connect(gateway.port) as connection:
        connection.send(raw({**GOOD, "model": "mock-slow-400"}, BEARER, f"x-request-id: {label}"))
        await asyncio.sleep(0.1)  # with the close in the same segment, granian may drop the request unheard
        connection.writer.write_eof()
        reply = await connection.read()
    assert (reply.raw, reply.ending) == (b"", "fin")
    assert (await asyncio.to_thread(gateway.record, label))["status"] == 499


async def test_a_control_character_in_a_header(gateway: Node, mock: Mock) -> None:
    """hyper's own answer, before the gateway hears of it: 400 without a body."""
    with mock.untouched():
        reply = await call(gateway.port, raw(GOOD, "x-note: a\x01b", BEARER))
    assert (reply.status, reply.body) == (400, b"")


async def test_too_slow_a_body(gateway: Node, mock: Mock) -> None:
    label = unique()
    request = raw(GOOD, BEARER, f"x-request-id: {label}")
    with mock.untouched():
        async with connect(gateway.port) as connection:
            connection.send(request[:-10])
            reply = await connection.read(6.0)
    check_error(reply, Case(b"", 408, "request_timeout"))
    assert reply.headers["connection"] == "close"
    assert gateway.record(label)["status"] == 408


async def test_limit_reached(gateway: Node, mock: Mock) -> None:
    request = post(GOOD, authorization=f"Bearer {OTHER_KEYS['once']}")
    first = await call(gateway.port, request)
    assert first.status in (200, 429)  # another test of this file's run may have used it up
    with mock.untouched():
        label = unique()
        reply = await call(gateway.port, labelled(request, label))
        message = check_error(reply, Case(b"", 429, "rate_limit_exceeded", "rate_limit_error"))
    assert "1 requests per minute" in message
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert 0 < int(reply.headers["retry-after-ms"]) <= 60_000
    assert reply.headers["x-ratelimit-limit-requests"] == "1"
    assert reply.headers["x-ratelimit-remaining-requests"] == "0"
    assert reply.headers["x-ratelimit-reset-requests"].endswith("s")
    assert gateway.record(label)["error"] == "rate_limit_exceeded"
