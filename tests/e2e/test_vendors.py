"""Every vendor with a fixture behind a real node: what reaches it, and what callers of each dialect get."""

import http.client
import json

import pytest

from fastgw.dialects.registry import CODECS, UPSTREAMS
from fastgw.providers import PROVIDERS
from fastgw.providers.surfaces import SURFACES
from tests.dialects.openai_chat_support import gather
from tests.providers.served import vendors
from tests.providers.vendors import KINDS, Vendor, meaning, read
from tests.support.gateway import start_node, unique

KEY = "fgw-vendors-0123456789abcdef"
PATHS = {
    "openai_chat": "/v1/chat/completions",
    "anthropic_messages": "/v1/messages",
    "gemini": "/v1beta/models/{model}:{method}",
    "openai_responses": "/v1/responses",
}
HELLO = {
    "openai_chat": {"messages": [{"role": "user", "content": "hi"}]},
    "anthropic_messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2048},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
    "openai_responses": {"input": "hi"},
}


def config(server):
    rows = [f"  {kind}: {{kind: {kind}, api_key: sk-{kind}, base_url: '{server.url(kind)}'}}" for kind in KINDS]
    quirks = "{drop: [seed], set: {tier: slow}, clamp: {temperature: [0, 0.5]}, features: [top_k]}"
    mine = f"  mine: {{kind: openai_compatible, base_url: '{server.url('openai_compatible')}', quirks: {quirks}}}"
    lines = ["providers:", *rows, mine, "models:"]
    for kind in KINDS:
        model = json.dumps(Vendor(kind).model)
        lines.append(f"  {kind}: {{targets: [{{provider: {kind}, model: {model}}}]}}")
        lines.append(f"  {kind}.broken: {{targets: [{{provider: {kind}, model: broken}}]}}")
    lines += [
        "  claude: {targets: [{provider: anthropic, model: claude-opus-4-7}]}",
        "  gemini-3: {targets: [{provider: gemini, model: gemini-3-pro-preview}]}",
        "  o3: {targets: [{provider: openai, model: o3}]}",
        "  mine: {targets: [{provider: mine, model: m}]}",
    ]
    return "\n".join([*lines, f"keys: [{{name: main, secret: {KEY}}}]", ""])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with vendors(KINDS) as server:
        node = start_node(tmp_path_factory.mktemp("vendors"), config(server), key=KEY)
        try:
            yield node, server
        finally:
            code = node.stop()
    assert code == 0, node.stderr()
    assert not node.log("internal_error"), node.log("internal_error")


def ask(node, dialect, model, body, *, stream=False, label=""):
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    path = PATHS[dialect].format(model=model, method=method)
    if dialect != "gemini":
        body = {**body, "model": model} | ({"stream": True} if stream else {})
    head = {"authorization": f"Bearer {KEY}", "content-type": "application/json", "x-request-id": label or unique()}
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=20)
    try:
        connection.request("POST", path, json.dumps(body), head)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def own(kind):
    return next(name for name in UPSTREAMS if name in PROVIDERS[kind].speaks)


by_kind = pytest.mark.parametrize("kind", KINDS)
# Those that offer Responses themselves are asked in it, and their fixtures are of the chat.
CROSSINGS = [
    (kind, client)
    for kind in KINDS
    for client in CODECS.values()
    if client.name != "openai_responses" or kind not in SURFACES or not SURFACES[kind].responses
]


@by_kind
def test_a_request_passes_with_the_vendors_quirks_and_no_other_change(world, kind):
    node, server = world
    vendor, dialect = server.vendors[kind], own(kind)
    label = unique()
    body = {name: value for name, value in json.loads(vendor.client).items() if name not in ("model", "stream")}
    status, headers, raw = ask(node, dialect, kind, body, stream=True, label=label)
    assert status == 200, raw
    assert server.seen[-1][0] == kind
    assert server.seen[-1][3] == json.loads(vendor.request)
    assert headers.get("x-fastgw-dropped", "") == ",".join(vendor.about["dropped"])
    assert meaning(gather(read(CODECS[dialect], raw))) == vendor.about["stream"]
    record = node.record(label)
    assert [record[f"{name}_tokens"] for name in ("input", "output", "cached", "cache_write", "reasoning")] == (
        vendor.about["stream"]["usage"]
    )


@by_kind
def test_a_whole_reply_passes_byte_by_byte(world, kind):
    node, server = world
    dialect = own(kind)
    status, _, raw = ask(node, dialect, kind, HELLO[dialect])
    assert status == 200, raw
    assert raw == server.vendors[kind].reply


@pytest.mark.parametrize(("kind", "client"), CROSSINGS, ids=[f"{kind}-{client.name}" for kind, client in CROSSINGS])
def test_callers_of_every_dialect_are_served(world, kind, client):
    node, server = world
    want = {**server.vendors[kind].about["reply"], "usage": None}
    status, headers, raw = ask(node, client.name, kind, HELLO[client.name])
    assert status == 200, raw
    assert headers["x-fastgw-provider"] == kind
    assert {**meaning(client.read_reply(raw)), "usage": None} == want


@by_kind
def test_its_errors_are_told_in_anothers_words(world, kind):
    node, server = world
    about = server.vendors[kind].about["error"]
    client = next(one for name, one in CODECS.items() if name != own(kind))
    status, _, raw = ask(node, client.name, f"{kind}.broken", HELLO[client.name])
    assert status >= 400
    problem = client.read_error(status, {}, raw)
    assert about["message"] in problem.message


def test_newer_models_are_asked_in_their_own_way(world):
    node, server = world
    body = {**HELLO["openai_chat"], "reasoning_effort": "high"}
    assert ask(node, "openai_chat", "claude", body)[0] == 200
    sent = server.seen[-1][3]
    assert (sent["thinking"], sent["output_config"]) == ({"type": "adaptive"}, {"effort": "high"})
    assert ask(node, "openai_chat", "anthropic", body)[0] == 200
    assert server.seen[-1][3]["thinking"]["type"] == "enabled"
    assert ask(node, "openai_chat", "gemini-3", body)[0] == 200
    assert server.seen[-1][3]["generationConfig"]["thinkingConfig"] == {"thinkingLevel": "HIGH"}
    assert ask(node, "openai_chat", "gemini", body)[0] == 200
    assert "thinkingBudget" in server.seen[-1][3]["generationConfig"]["thinkingConfig"]


def test_what_is_lost_of_a_translated_request_is_named(world):
    node, server = world
    status, headers, raw = ask(node, "anthropic_messages", "o3", {**HELLO["anthropic_messages"], "temperature": 0.5})
    assert status == 200, raw
    assert headers["x-fastgw-dropped"] == "temperature"
    sent = server.seen[-1][3]
    assert sent["max_completion_tokens"] == 2048
    assert "temperature" not in sent


def test_an_operators_quirks_hold_for_what_passes_and_what_is_translated(world):
    node, server = world
    body = {**HELLO["openai_chat"], "seed": 1, "temperature": 0.9}
    status, headers, raw = ask(node, "openai_chat", "mine", body)
    assert status == 200, raw
    assert headers["x-fastgw-dropped"] == "seed,temperature"
    assert server.seen[-1][3] == {**HELLO["openai_chat"], "model": "m", "temperature": 0.5, "tier": "slow"}
    status, headers, raw = ask(node, "anthropic_messages", "mine", {**HELLO["anthropic_messages"], "top_k": 5})
    assert status == 200, raw
    assert "x-fastgw-dropped" not in headers
    assert (server.seen[-1][3]["top_k"], server.seen[-1][3]["tier"]) == (5, "slow")
