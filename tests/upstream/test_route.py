"""Routes: which model a name means, and the exact head that goes upstream."""

import asyncio

import pytest

from fastgw._core import headers
from fastgw.plan.plan import Model, Options, Origin, Plan, Target, Timeouts, Upstream
from fastgw.providers import PROVIDERS
from fastgw.telemetry.metrics import NONE, Handles, SeriesRegistry
from fastgw.upstream.client import Client
from fastgw.upstream.route import MAX_NAME, Routes, facts

CHAT = {"openai_chat": "/v1/chat/completions"}


def upstream(name="up", scheme="http", host="h", port=80, paths=CHAT, proxy=None, **more):
    return Upstream(name, "openai_compatible", Origin(scheme, host, port, proxy=proxy), dict(paths), **more)


def plan_of(upstreams, models=(), wildcards=None):
    registry = SeriesRegistry(4096)
    for model in models:
        for target in model.targets:
            registry.target(model.name, target.upstream, target.id)
    by_name = {model.name: model for model in models}
    return Plan(
        1, b"", {one.name: one for one in upstreams}, by_name, wildcards or {}, (), (), Options(), registry.series
    )


def one_way(client, up, model="m"):
    target = Target(f"{up.name}/{model}", up.name, model)
    return Routes(plan_of([up], [Model("fast", (target,))]), client).exact["fast"].ways[0]


def head(client, up, *, model="m", asked="", dialect="openai_chat", forwarded=b"", length=2):
    return one_way(client, up, model).head(dialect, asked or model, forwarded, length)


def test_a_head_byte_by_byte(client):
    up = upstream(auth_header="authorization", auth_value="Bearer KEY", headers={"x-org": "1"})
    assert head(client, up, forwarded=b"accept: */*\r\n", length=42) == (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer KEY\r\nx-org: 1\r\n"
        b"accept-encoding: identity\r\ncontent-type: application/json\r\naccept: */*\r\ncontent-length: 42\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("scheme", "host", "port", "shown"),
    [
        ("http", "h", 80, "h"), ("http", "h", 8000, "h:8000"), ("https", "h", 443, "h"), ("https", "h", 80, "h:80"),
        ("http", "h", 443, "h:443"), ("http", "::1", 80, "[::1]"), ("https", "fe80::1", 8443, "[fe80::1]:8443"),
    ],
)  # fmt: skip
def test_host_is_the_origin_without_its_default_port(client, scheme, host, port, shown):
    assert b"\r\nhost: " + shown.encode() + b"\r\n" in head(client, upstream(scheme=scheme, host=host, port=port))


def test_azure_has_the_deployment_in_its_path_quoted(client):
    paths = {"openai_chat": PROVIDERS["azure"].speaks["openai_chat"].replace("{api_version}", "2024-10-21")}
    up = upstream(paths=paths, auth_header="api-key", auth_value="KEY")
    line, rest = head(client, up, model="a b/?#\u00e9").split(b"\r\n", 1)
    assert line == b"POST /openai/deployments/a%20b%2F%3F%23%C3%A9/chat/completions?api-version=2024-10-21 HTTP/1.1"
    assert b"\r\napi-key: KEY\r\n" in rest


def test_a_wildcards_model_is_put_in_at_each_call(client):
    up = upstream(paths={"openai_chat": "/d/{model}/chat"})
    wild = Model("up/*", (Target("up/*", "up", ""),))
    way = Routes(plan_of([up], [], {"up": wild}), client).wildcards["up"].ways[0]
    assert way.head("openai_chat", "gpt 4/x", b"", 1).startswith(b"POST /d/gpt%204%2Fx/chat HTTP/1.1\r\n")
    assert way.head("openai_chat", "other", b"", 1).startswith(b"POST /d/other/chat HTTP/1.1\r\n")
    assert b"\r\nX" not in way.head("openai_chat", "a\r\nX: y", b"", 1)


async def test_through_a_proxy_the_request_is_in_absolute_form_once():
    seen = asyncio.get_running_loop().create_future()

    async def proxy(reader, writer):
        seen.set_result(await reader.readuntil(b"\r\n\r\n"))
        await reader.readexactly(2)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = Client(asyncio.get_running_loop())
    client.start()
    try:
        up = upstream(host="origin.example", port=8080, proxy=f"http://u:p@127.0.0.1:{port}")
        way = one_way(client, up)
        reply = await way.pool.send(way.head("openai_chat", "m", b"", 2), b"{}", Timeouts(), whole=True)
        assert (reply.status, reply.body) == (200, b"ok")
        lines = (await seen).split(b"\r\n")
        assert lines[0] == b"POST http://origin.example:8080/v1/chat/completions HTTP/1.1"
        assert b"host: origin.example:8080" in lines
        assert b"proxy-authorization: Basic dTpw" in lines
    finally:
        await client.close()
        server.close()
        await server.wait_closed()


def test_only_listed_headers_of_the_caller_travel(client):
    way = one_way(client, upstream(allow=("x-trace",)))
    sent = [
        (b"accept", b"a"), (b"user-agent", b"b"), (b"idempotency-key", b"c"), (b"openai-beta", b"d"),
        (b"X-Trace", b"e"),
        (b"x-stainless-lang", b"f"), (b"authorization", b"CANARY"), (b"cookie", b"CANARY"), (b"x-api-key", b"CANARY"),
        (b"x-forwarded-for", b"CANARY"), (b"x-other", b"CANARY"), (b"host", b"CANARY"), (b"x-fastgw-model", b"CANARY"),
        (b"openai-organization", b"CANARY"), (b"content-length", b"9"), (b"content-type", b"text/CANARY"),
    ]  # fmt: skip
    lines = headers.forward(sent, way.allow)
    assert b"CANARY" not in lines
    names = [line.partition(b":")[0] for line in lines.split(b"\r\n") if line]
    assert names == [b"accept", b"user-agent", b"idempotency-key", b"openai-beta", b"x-trace", b"x-stainless-lang"]


@pytest.mark.parametrize(("value", "secret"), [("Bearer KEY", b"KEY"), ("KEY", b"KEY"), ("", b"")])
def test_the_secret_alone_is_known_for_masking(client, value, secret):
    assert one_way(client, upstream(auth_header="authorization", auth_value=value)).secret == secret


def test_without_a_credential_no_header_for_it_is_sent(client):
    assert b"authorization" not in head(client, upstream())


def test_finding_a_model_by_its_name(client):
    up, other = upstream("openai"), upstream("azure")
    wild = {
        "openai": Model("openai/*", (Target("openai/*", "openai", ""),)),
        "azure": Model("azure/*", (Target("azure/*", "azure", ""),)),
        "*": Model("*", (Target("openai/*", "openai", ""),)),
    }
    fast = Model("a/b", (Target("openai/m", "openai", "m"),))
    routes = Routes(plan_of([up, other], [fast], wild), client)
    found = {
        name: (found[0].name, found[1]) if (found := routes.find(name)) else None
        for name in (
            "a/b",
            "openai/gpt",
            "openai/a/b",
            "azure/x",
            "gpt",
            "nope/x",
            "openai/",
            "/x",
            "",
            "*",
            "openai/*",
        )
    }
    assert found == {
        "a/b": ("a/b", ""),
        "openai/gpt": ("openai/*", "gpt"),
        "openai/a/b": ("openai/*", "a/b"),
        "azure/x": ("azure/*", "x"),
        "gpt": ("*", "gpt"),
        "nope/x": None,
        "openai/": None,
        "/x": None,
        "": None,
        "*": ("*", "*"),
        "openai/*": ("openai/*", "*"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "openai/..",
        "openai/./x",
        "openai/a//b",
        "../x",
        "openai/a\r\nb",
        "openai/\x00",
        "gpt\u00e9",
        "x" * (MAX_NAME + 1),
        "\u2028",
    ],
)
def test_a_name_that_could_do_harm_matches_no_wildcard(client, name):
    wild = {key: Model(key, (Target("openai/*", "openai", ""),)) for key in ("openai", "*")}
    assert Routes(plan_of([upstream("openai")], [], wild), client).find(name) is None


def test_without_wildcards_only_exact_names(client):
    routes = Routes(plan_of([upstream()], [Model("fast", (Target("up/m", "up", "m"),))]), client)
    assert routes.find("fast")[0].ways[0].name == "up/m"
    assert routes.find("Fast") is None
    assert routes.find("up/m") is None


def test_equal_origins_share_one_pool_and_series_are_the_targets_own(client):
    models = [Model("a", (Target("up/m", "up", "m"),)), Model("b", (Target("two/m", "two", "m"),))]
    plan = plan_of([upstream("up"), upstream("two")], models)
    first, second = (Routes(plan, client).exact[name].ways[0] for name in "ab")
    assert first.pool is second.pool
    assert first.handles == Handles.find(plan.series, "a", "up", "up/m") != second.handles
    assert first.handles != Handles.find(plan.series, NONE, NONE, NONE)


def test_facts():
    assert facts("fast", "up", "up/m") == [
        (b"x-fastgw-cache", b"off"),
        (b"x-fastgw-model", b"fast"),
        (b"x-fastgw-provider", b"up"),
        (b"x-fastgw-target", b"up/m"),
    ]
