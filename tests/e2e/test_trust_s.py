"""The security promises of the data plane, each shown over raw sockets. `s3` is the row of that number."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import KEY, SCRIPTED_KEY, World
from tests.support.gateway import Node, node, start_node, unique
from tests.support.rawclient import RawReply, call, connect
from tests.support.scripted import (
    Expect,
    ScriptedUpstream,
    Send,
    chat_completion,
    chat_events,
    chunked,
    head,
    reply,
    sse,
)

CHAT = "/v1/chat/completions"
GOOD: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
OK = [Expect(), Send(reply(body=chat_completion()))]


def raw(
    *lines: str, path: str = CHAT, method: str = "POST", body: Any = GOOD, hosts: tuple[str, ...] = ("test",),
    key: str | None = KEY,
) -> bytes:  # fmt: skip
    """A request with exactly these header lines beside Host, key, type and length."""
    data = json.dumps(body).encode() if body is not None else b""
    start = [f"{method} {path} HTTP/1.1", *(f"host: {host}" for host in hosts)]
    if key is not None:
        start.append(f"authorization: Bearer {key}")
    tail = ["content-type: application/json", f"content-length: {len(data)}"]
    return "\r\n".join([*start, *lines, *tail, "", ""]).encode("latin-1") + data


# S1: one path object for authentication and dispatch; Host checked

SPELLINGS = [
    "//v1/chat/completions", "/v1//chat/completions", "/v1/chat//completions", "/v1/chat/completions//",
    "/./v1/chat/completions", "/v1/./chat/completions", "/v1/../v1/chat/completions", "/v1/chat/../chat/completions",
    "/v1/x/../chat/completions", "/../v1/chat/completions", "/v1/chat/completions/..", "/v1/chat/completions/.",
    "/%2e/v1/chat/completions", "/v1/%2e%2e/v1/chat/completions", "/v1%2fchat/completions", "/v1/chat%2Fcompletions",
    "/v1/chat/completion%73", "/%761/chat/completions", "/v1/chat/completions%00", "/v1/chat/completions%20",
    "/v1/chat/completions;x=1", "/v1;a/chat/completions", "/v1/chat/completions;", "/v1\\chat\\completions",
    "/v1/chat/completions%3fx", "/v1/chat/completions%23x", "/v1/chat/completions/", "/V1/chat/completions",
    "/v1/Chat/Completions", "/v1/chat/completions.", "/v1/chat/completions.json",
    "/health/live/../../v1/chat/completions",
    "/health/live/..;/v1/chat/completions", "/health/ready%2f..%2f..%2fv1/chat/completions", "/health/live;/",
    "//health/live", "/health//live", "/health/./live", "/%68ealth/live", "/health/live/", "/HEALTH/live",
    "/v1/models/../chat/completions", "//v1/models", "/v1/models/%2e%2e", "/v1/models;x", "/metrics", "/status.json",
    "/api/v1/keys", "//admin", "/admin", "/v1/../admin", "/openai/../v1/models", "/openai//v1/models",
    "/v1beta/models/a/../b:generateContent", "/v1beta/models//b:generateContent",
    "/v1beta/models/../chat:generateContent", "/openai/deployments/../v1/chat/completions",
    "/openai/deployments/a%2fb/chat/completions", "*",
]  # fmt: skip


@pytest.mark.parametrize("keyed", [True, False], ids=["with key", "without"])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_s1_no_other_spelling_of_a_path_is_served(world: World, keyed: bool, method: str) -> None:
    """Whatever is not a path of ours as it stands is refused, and never served without a key."""
    async with world.upstream([OK * 3]) as upstream:
        for path in SPELLINGS:
            got = await call(world.node.port, raw(path=path, method=method, key=KEY if keyed else None))
            assert got.status in (400, 401, 404), (path, got.raw)
            if not keyed:
                assert b'"data"' not in got.body
        assert upstream.requests == []


async def test_s1_a_path_that_needs_a_key_needs_it_in_any_spelling(gateway: Node) -> None:
    """Fuzz: no path but the two of health is answered with 200 to a caller without a key."""
    rng = random.Random(7)
    parts = [
        "v1",
        "chat",
        "completions",
        "models",
        "health",
        "live",
        "ready",
        "..",
        ".",
        "",
        "%2e",
        "%2f",
        ";",
        "openai",
    ]
    for _ in range(150):
        path = "/" + "/".join(rng.choice(parts) for _ in range(rng.randint(1, 5)))
        got = await call(gateway.port, raw(path=path, method="GET", body=None, key=None))
        assert (got.status == 200) == (path in ("/health/live", "/health/ready")), (path, got.raw)


HOSTS: list[tuple[str, ...]] = [
    (), ("",), ("a", "b"), ("a", "a"), ("x/?",), ("x#",), ("x\ty",), ("x y",), ("u@x",), ("x:99999",), ("x:",),
    ("[::1",), ("x,y",), ("http://x",), ("x\\y",), ("x?k",), (":4000",), ("\xff",),
]  # fmt: skip


@pytest.mark.parametrize("hosts", HOSTS, ids=lambda hosts: repr(hosts))
async def test_s1_a_doubtful_host_is_refused(world: World, hosts: tuple[str, ...]) -> None:
    async with world.upstream([OK]) as upstream:
        got = await call(world.node.port, raw(hosts=hosts))
        assert (got.status, upstream.requests) == (400, [])


@pytest.mark.parametrize("host", ["test", "test:4000", "127.0.0.1:1", "[::1]:4000", "EXAMPLE.com", "under_score"])
async def test_s1_a_plain_host_is_served_and_not_forwarded(world: World, host: str) -> None:
    async with world.upstream([OK]) as upstream:
        assert (await call(world.node.port, raw(hosts=(host,)))).status == 200
        assert upstream.requests[0].header("host") == f"127.0.0.1:{upstream.port}"


async def test_s1_absolute_form(world: World) -> None:
    """The target's authority is no route: the same path is served, and the upstream is still the configured one."""
    async with world.upstream([OK * 2]) as upstream:
        got = await call(world.node.port, raw(path=f"http://evil.test{CHAT}"))
        assert got.status in (200, 400)
        refused = await call(world.node.port, raw(path=f"http://evil.test{CHAT}", key=None))
        assert refused.status in (400, 401)
        for request in upstream.requests:
            assert (request.target, request.header("host")) == (CHAT, f"127.0.0.1:{upstream.port}")


# S3: the caller never chooses where a call goes

FIELDS = [
    "api_base", "base_url", "api_key", "api_version", "api_type", "organization", "extra_headers", "extra_query",
    "extra_body", "custom_llm_provider", "azure_ad_token", "aws_access_key_id", "aws_secret_access_key",
    "aws_session_token", "aws_region_name", "aws_bedrock_runtime_endpoint", "vertex_project", "vertex_location",
    "vertex_credentials",
]  # fmt: skip
OTHER_FIELDS = [
    "fallbacks", "model_list", "mock_response", "proxy", "url", "endpoint", "host", "api_host", "headers", "client",
    "deployment_id", "litellm_params", "target", "providers", "custom_host", "webhook", "callback_url",
    "ssl_verify", "timeout", "metadata",
]  # fmt: skip


@pytest.fixture
async def canary() -> Any:
    """A listener that nobody has configured; it must never be visited."""
    async with ScriptedUpstream([OK]) as made:
        yield made
        assert made.connections == [], made.connections[0].requests


@pytest.mark.parametrize("name", FIELDS)
async def test_s3_fields_that_redirect_are_refused(world: World, canary: ScriptedUpstream, name: str) -> None:
    async with world.upstream([OK]) as upstream:
        for value in (canary.url, {"url": canary.url}, None):
            got = await call(world.node.port, raw(body={**GOOD, name: value}))
            assert (got.status, got.json()["error"]["code"], got.json()["error"]["param"]) == (
                400,
                "forbidden_field",
                name,
            )
        assert upstream.requests == []


@pytest.mark.parametrize("name", OTHER_FIELDS)
async def test_s3_other_fields_are_only_passed_on(world: World, canary: ScriptedUpstream, name: str) -> None:
    value = {"api_base": canary.url, "url": canary.url, "Authorization": "Bearer x"}
    async with world.upstream([OK]) as upstream:
        got = await call(world.node.port, raw(body={**GOOD, name: value}))
        assert got.status == 200
        assert upstream.requests[0].json()[name] == value
        assert upstream.requests[0].header("authorization") == f"Bearer {SCRIPTED_KEY}"


async def test_s3_headers_and_query_that_redirect_do_nothing(world: World, canary: ScriptedUpstream) -> None:
    names = [
        "x-portkey-custom-host", "x-portkey-provider", "x-litellm-api-base", "x-custom-host", "x-api-host",
        "x-base-url", "x-forwarded-host", "x-original-url", "x-rewrite-url",
        "x-goog-api-host", "openai-base-url", "x-ai-eg-model",
        "x-fastgw-target", "x-fastgw-provider", "x-envoy-original-dst-host",
    ]  # fmt: skip
    query = f"?api_base={canary.url}&base_url={canary.url}&model=other&api-version=1"
    async with world.upstream([OK]) as upstream:
        got = await call(world.node.port, raw(*(f"{name}: {canary.url}" for name in names), path=CHAT + query))
        assert got.status == 200
        (request,) = upstream.requests
        assert request.target == CHAT
        assert not {name for name, _ in request.headers} & set(names)


NAMES = [
    "http://{}/v1", "openai/{}", "../../{}", "//{}", "scripted/../closed", "scripted\x00x", "scripted ", " scripted",
    "SCRIPTED", "scripted#", "scripted?x=1",
]  # fmt: skip


@pytest.mark.parametrize("model", NAMES)
async def test_s3_a_models_name_is_looked_up_and_nothing_else(
    world: World, canary: ScriptedUpstream, model: str
) -> None:
    async with world.upstream([OK]) as upstream:
        got = await call(world.node.port, raw(body={**GOOD, "model": model.format(f"127.0.0.1:{canary.port}")}))
        assert (got.status, got.json()["error"]["code"]) == (404, "model_not_found")
        assert upstream.requests == []


# S5: redirects are not followed


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_s5_redirects_are_not_followed(world: World, canary: ScriptedUpstream, status: int, stream: bool) -> None:
    answer = reply(status, [("location", f"{canary.url}/steal"), ("content-type", "text/html")], b"moved")
    async with world.upstream([[Expect(), Send(answer)]]) as upstream:
        got = await call(world.node.port, raw(body={**GOOD, "stream": stream}))
        assert got.status in (status, 502)
        assert "location" not in got.headers, "a client must not be sent there either, with its key"
        assert len(upstream.requests) == 1


# S15: response splitting, both ways

CONTROLS = ["\r", "\n", "\r\nx-evil: 1", "\x00", "\x1b[31m", "%0d%0ax-evil: 1", "\u2028"]


@pytest.mark.parametrize("control", CONTROLS, ids=repr)
async def test_s15_a_models_name_cannot_split_the_answer(world: World, control: str) -> None:
    got = await call(world.node.port, raw(body={**GOOD, "model": f"a{control}b"}))
    assert (got.status, got.ending) == (404, "whole")
    assert_unsplit(got)
    assert got.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("value", ["a\x00b", "a\x1bb", "a\rb", "x" * 129, "caf\xe9", "a b", "a;b", '"quoted"'])
async def test_s15_a_request_id_that_is_no_label_is_dropped(world: World, value: str) -> None:
    async with world.upstream([OK]) as upstream:
        got = await call(world.node.port, raw(f"x-request-id: {value}"))
        assert got.status in (200, 400)
        assert_unsplit(got)
        if got.status == 200:
            assert value not in {v for _, v in upstream.requests[0].headers}
            assert got.headers["x-request-id"].startswith("req_")
            row = await asyncio.to_thread(by_id, world.node, got.headers["x-request-id"])
            assert row["label"] is None


def by_id(gateway: Node, call_id: str) -> dict[str, Any]:
    return next(row for row in gateway.records() if row["id"] == call_id)


UPSTREAM_HEADERS = ["x-request-id", "openai-model", "openai-processing-ms", "openai-version", "content-type"]


@pytest.mark.parametrize("control", ["a\x00b", "a\rb", "a\x1bb", "a\x7fb", "a\r\n x-evil: 1", "\xff\xfe"], ids=repr)
@pytest.mark.parametrize("name", UPSTREAM_HEADERS)
async def test_s15_an_upstreams_header_cannot_split_the_answer(world: World, name: str, control: str) -> None:
    answer = reply(200, [(name, f"application/json{control}" if name == "content-type" else control)],
                   json.dumps(chat_completion()).encode())  # fmt: skip
    async with world.upstream([[Expect(), Send(answer)]]):
        got = await call(world.node.port, raw())
    assert got.status in (200, 502)
    assert_unsplit(got)


def assert_unsplit(got: RawReply) -> None:
    assert got.ending == "whole"
    assert "x-evil" not in got.headers
    assert "\x00" not in "".join(got.headers.values())


@pytest.mark.parametrize("field", ["name", "headers", "target"])
async def test_s15_config_values_that_would_split_are_refused(tmp_path: Path, field: str) -> None:
    evil = {"name": "x", "headers": "y", "target": "z", field: '"a\\r\\nx-evil: 1"'}
    config = f"""
providers: {{p: {{kind: openai_compatible, base_url: "http://127.0.0.1:1/v1", headers: {{x-h: {evil["headers"]}}}}}}}
models: {{m: {{targets: [{{provider: p, model: {evil["target"]}}}]}}}}
keys: [{{name: {evil["name"]}, secret: {KEY}}}]
"""
    refused = start_node(tmp_path, config, wait=False).process
    assert await asyncio.to_thread(refused.wait, 20.0) == 1
    assert "x-evil" not in "".join(refused.lines).replace("\\r\\nx-evil", "")


# S18, S19, S20: which headers travel

HOP_BY_HOP = [
    "connection: authorization, x-team-header, user-agent", "keep-alive: timeout=5", "te: trailers",
    "trailer: x-later", "upgrade: h2c", "http2-settings: AAMAAABkAAQ", "proxy-authorization: Basic Zm9v",
    "proxy-connection: keep-alive",
]  # fmt: skip
SPOOFED = [
    "x-forwarded-for: 6.6.6.6", "x-forwarded-host: evil.test", "x-forwarded-proto: https", "forwarded: for=6.6.6.6",
    "x-real-ip: 6.6.6.6", "x-user-id: admin", "x-tenant: other", "x-tenant-id: other", "via: 1.1 evil",
    "x-fastgw-key: admin", "x-original-uri: /admin", "x-client-ip: 6.6.6.6", "cf-connecting-ip: 6.6.6.6",
    "true-client-ip: 6.6.6.6",
]  # fmt: skip
STRANGE = [
    "cookie: session=abc", "anthropic-beta: x", "anthropic-version: 2023-06-01", "openai-organization: org-victim",
    "openai-project: proj-victim", "x-goog-user-project: p", "referer: http://internal/page", "origin: http://evil.test",
    "accept-encoding: gzip, br, zstd", "accept-language: de", "if-none-match: x", "range: bytes=0-1", "priority: u=1",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-custom: 1",
]  # fmt: skip


async def forwarded(world: World, *lines: str, stream: bool = False) -> dict[str, str]:
    """The headers that a call with these header lines has upstream, by name; each must be there once."""
    answer = sse(chat_events("a")) if stream else reply(body=chat_completion())
    async with world.upstream([[Expect(), Send(answer)]]) as upstream:
        got = await call(world.node.port, raw(*lines, body={**GOOD, "stream": stream}))
        assert got.status == 200, got.raw
        names = [name for name, _ in upstream.requests[0].headers]
        assert len(names) == len(set(names))
        return dict(upstream.requests[0].headers)


def expected(world: World, **more: str) -> set[str]:
    return {"host", "authorization", "accept-encoding", "content-type", "content-length", *more}


@pytest.mark.parametrize("line", HOP_BY_HOP)
async def test_s18_hop_by_hop_headers_end_here(world: World, line: str) -> None:
    sent = await forwarded(world, line, "accept: */*")
    assert sent.keys() == {*expected(world), "accept"}
    assert sent["authorization"] == f"Bearer {SCRIPTED_KEY}", "Connection must not be able to remove our credential"


async def test_s18_what_connection_names_does_not_travel(world: World) -> None:
    sent = await forwarded(world, "connection: x-team-header, authorization", "x-team-header: t")
    assert "x-team-header" not in sent
    assert "x-team-header" in await forwarded(world, "x-team-header: t")


async def test_s18_hop_by_hop_headers_of_a_reply_end_here(world: World) -> None:
    extra = [
        ("connection", "x-secret, keep-alive"), ("x-secret", "1"), ("keep-alive", "timeout=600"), ("trailer", "x-t"),
        ("proxy-authenticate", "Basic"), ("upgrade", "h2c"), ("set-cookie", "a=b"), ("server", "nginx/1"),
        ("x-fastgw-cost", "999"), ("x-powered-by", "evil"), ("access-control-allow-origin", "*"), ("via", "1.1 x"),
        ("x-ratelimit-remaining-requests", "1"), ("openai-organization", "org-secret"),
    ]  # fmt: skip
    body = json.dumps(chat_completion()).encode()
    async with world.upstream([[Expect(), Send(reply(200, [*extra, ("content-type", "application/json")], body))]]):
        got = await call(world.node.port, raw())
    names = set(got.headers) - {name for name in got.headers if name.startswith("x-fastgw-")}
    assert names == {"content-type", "x-request-id", "server", "content-length", "date"}
    assert (got.headers["server"], got.headers["x-fastgw-cost"]) == ("fastgw", "0.0000325")


async def test_s18_trailers_of_a_reply_end_here(world: World) -> None:
    start = head(200, [("content-type", "application/json"), ("transfer-encoding", "chunked"), ("trailer", "x-evil")])
    body = chunked(json.dumps(chat_completion()).encode(), last=False) + b"0\r\nx-evil: 1\r\n\r\n"
    async with world.upstream([[Expect(), Send(start + body)]]):
        got = await call(world.node.port, raw())
    assert (got.status, got.json()) == (200, chat_completion())
    assert b"x-evil" not in got.raw


@pytest.mark.parametrize("line", SPOOFED)
async def test_s19_identity_is_not_taken_from_headers(world: World, line: str) -> None:
    label = unique()
    sent = await forwarded(world, line, f"x-request-id: {label}")
    assert sent.keys() == expected(world)
    row = await asyncio.to_thread(world.node.record, label)
    assert row["key"] == "main"
    assert "6.6.6.6" not in json.dumps(row)


TWINS = [
    "x_api_key: k", "api_key: k", "x_goog_api_key: k", "content_length: 3", "transfer_encoding: chunked",
    "content_type: text/plain", "x_forwarded_for: 6.6.6.6", "x_real_ip: 6.6.6.6", "x_tenant_id: t", "x_user_id: u",
    "x_request_id: r", "x_fastgw_key: k", "proxy_authorization: x", "idempotency_key: k",
]  # fmt: skip


@pytest.mark.parametrize("line", TWINS)
async def test_s19_the_underscore_spelling_is_refused(world: World, line: str) -> None:
    async with world.upstream([OK]) as upstream:
        got = await call(world.node.port, raw(line))
        assert (got.status, got.json()["error"]["code"], upstream.requests) == (400, "bad_request", [])


async def test_s19_a_spoofed_header_that_comes_twice_is_gone_twice(world: World) -> None:
    sent = await forwarded(
        world, "x-forwarded-for: 1.1.1.1", "X-Forwarded-For: 2.2.2.2", "x-user-id: a", "X-USER-ID: b"
    )
    assert sent.keys() == expected(world)


@pytest.mark.parametrize("line", STRANGE)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_s20_headers_that_are_not_on_the_list_stay_here(world: World, line: str, stream: bool) -> None:
    sent = await forwarded(world, line, stream=stream)
    assert sent.keys() == expected(world)
    assert sent["accept-encoding"] == "identity"


async def test_s20_exactly_these_headers_travel(world: World) -> None:
    lines = [
        "accept: application/json", "user-agent: OpenAI/Python 3", "idempotency-key: abc", "openai-beta: assistants=v2",
        "x-stainless-lang: python", "X-Stainless-Retry-Count: 1", "X-Team-Header: t", *STRANGE, *SPOOFED,
        *HOP_BY_HOP[1:],
    ]  # fmt: skip
    sent = await forwarded(world, *lines)
    assert sent == {
        "host": sent["host"],
        "authorization": f"Bearer {SCRIPTED_KEY}",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": sent["content-length"],
        "accept": "application/json",
        "user-agent": "OpenAI/Python 3",
        "idempotency-key": "abc",
        "openai-beta": "assistants=v2",
        "x-stainless-lang": "python",
        "x-stainless-retry-count": "1",
        "x-team-header": "t",
    }


@pytest.mark.parametrize("name", ["x-api-key", "api-key", "x-goog-api-key", "authorization"])
async def test_s20_the_callers_key_never_travels(world: World, name: str) -> None:
    value = f"Bearer {KEY}" if name == "authorization" else KEY
    async with world.upstream([OK]) as upstream:
        got = await call(world.node.port, raw(f"{name}: {value}", key=None))
        assert got.status == 200
        request = upstream.requests[0]
        assert KEY.encode() not in request.head + request.body
        assert request.header("authorization") == f"Bearer {SCRIPTED_KEY}"


async def test_s20_a_provider_without_a_key_gets_none(tmp_path: Path) -> None:
    async with ScriptedUpstream([OK]) as upstream:
        config = f"""
providers: {{p: {{kind: openai_compatible, base_url: "{upstream.url}/v1"}}}}
models: {{scripted: {{targets: [{{provider: p, model: m}}]}}}}
keys: [{{name: k, secret: {KEY}}}]
"""
        with node(tmp_path, config) as gateway:
            assert (await call(gateway.port, raw())).status == 200
        assert upstream.requests[0].header("authorization") is None


async def test_s16_requests_on_one_connection_keep_apart(world: World) -> None:
    """Pipelined requests with other keys, bodies and models: as many upstream as were sent, in order."""
    async with world.upstream([OK * 8]) as upstream:
        async with connect(world.node.port) as connection:
            bodies = [{**GOOD, "messages": [{"role": "user", "content": f"canary {i}"}]} for i in range(5)]
            connection.send(b"".join(raw(body=body) for body in bodies))
            replies = [await connection.read() for _ in bodies]
        assert [got.status for got in replies] == [200] * 5
        assert [request.json()["messages"][0]["content"] for request in upstream.requests] == [
            f"canary {i}" for i in range(5)
        ]
