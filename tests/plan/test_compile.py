"""Compiling: every mistake an operator can make, and what the plan then promises to its readers."""

import hashlib
import re
import time

import pytest

from fastgw._core import table as shared
from fastgw.plan.compile.context import NAME
from fastgw.plan.config import StoredKey
from fastgw.policies.keys import digest
from fastgw.state.table import slot_id
from fastgw.telemetry.metrics import Handles
from tests.plan.support import MODELS, PROVIDERS, compiled, refused

CANARY = "sk-canary-31c0f"


def provider(fields, kind="openai_compatible", url="base_url: 'http://h/v1', "):
    return f"providers: {{up: {{kind: {kind}, {url}{fields}}}}}\n{MODELS}"


def model(fields, target=""):
    return f"{PROVIDERS}models: {{fast: {{targets: [{{provider: up, model: m{target}}}], {fields}}}}}\n"


def keys(*rows):
    return PROVIDERS + MODELS + "keys: [" + ", ".join(f"{{{row}}}" for row in rows) + "]\n"


MISTAKES = [
    (PROVIDERS.replace("openai_compatible", "opnai"), "providers.up.kind: unknown 'opnai'; known are openai, azure"),
    ("providers: {a b: {kind: openai, api_key: x}}", "providers.a b: a name is 1 to 128"),
    ("providers: {a: {kind: openai}}", "providers.a.api_key: missing"),
    ("providers: {a: {kind: azure, api_key: x}}", "providers.a.base_url: missing"),
    (provider("queue_timeout: 5"), "providers.up.queue_timeout: Expected `str`"),
    (provider("queue_timeout: soon"), "providers.up.queue_timeout: 'soon' is not a duration"),
    (provider("queue: 0"), "providers.up.queue: must be 1 or more"),
    (provider("max_connections: -1"), "providers.up.max_connections: must be 1 or more"),
    (provider("ca_file: /none.pem"), "providers.up.ca_file: no such file: /none.pem"),
    (provider("client_cert: /none.pem"), "providers.up.client_cert: no such file"),
    (provider("client_key: /etc/hosts"), "providers.up.client_key: needs `client_cert`"),
    (provider("proxy: 'ftp://h'"), "providers.up.proxy: the proxy's URL must be"),
    (provider("proxy: 'http://[::1'"), "providers.up.proxy: the proxy's URL cannot"),
    (provider("api_version: 'a b'"), "providers.up.api_version: must be letters"),
    (provider('api_version: "a\\r\\nx: y"'), "providers.up.api_version: must be letters"),
    (provider('headers: {x: "a\\r\\ny: z"}'), "providers.up.headers.x: must be printable ASCII"),
    (provider("headers: {x: 'é'}"), "providers.up.headers.x: must be printable ASCII"),
    (provider("headers: {x: ' a'}"), "providers.up.headers.x: must be printable ASCII"),
    (provider("headers: {'x y': a}"), "providers.up.headers: 'x y' may not be set"),
    (provider("headers: {Authorization: a}"), "providers.up.headers: 'Authorization' may not be set"),
    (provider("headers: {Content-Type: a}"), "providers.up.headers: 'Content-Type' may not be set"),
    (provider("headers: {Transfer-Encoding: a}"), "providers.up.headers: 'Transfer-Encoding' may not be set"),
    (provider("allow_headers: [Cookie]"), "providers.up.allow_headers: 'Cookie' may not be forwarded"),
    (provider("allow_headers: [X-Forwarded-For]"), "providers.up.allow_headers: 'X-Forwarded-For' may not"),
    (provider("allow_headers: ['x:y']"), "providers.up.allow_headers: 'x:y' may not be forwarded"),
    (provider("allow_headers: [TE]"), "providers.up.allow_headers: 'TE' may not be forwarded"),
    (provider('api_key: "a\\nb"'), "providers.up.api_key: must be printable ASCII"),
    (model("balance: fastest"), "models.fast.balance: 'fastest' is none of weighted, priority, least_busy"),
    (model("breaker: {failures: -1}"), "models.fast.breaker.failures: must be 0 to 1000"),
    (model("breaker: {open: soon}"), "models.fast.breaker.open: 'soon' is not a duration"),
    (model("fallback: [slow]"), "models.fast.fallback: 'slow' is no other model of this config"),
    (model("fallback: [fast]"), "models.fast.fallback: 'fast' is no other model of this config"),
    (model("fallback: {outage: [nobody/m]}"), "models.fast.fallback: 'nobody/m' is no other model"),
    (model("fallback: {slow: [up/m]}"), "models.fast.fallback: 'slow' is none of outage, rate, context, policy"),
    (provider("api_key: abc, api_keys: [abc, abd]"), "providers.up.api_keys: give them, or `api_key`, or `auth`"),
    (provider('api_keys: [abc, "a\\nb"]'), "providers.up.api_key: must be printable ASCII"),
    (model("retry: {attempts: 0}"), "models.fast.retry.attempts: must be 1 to 10"),
    (model("retry: {attempts: 11}"), "models.fast.retry.attempts: must be 1 to 10"),
    (model("retry: {on: [429, 700]}"), "models.fast.retry.on: '700' is none of"),
    (model("retry: {on: [broken]}"), "models.fast.retry.on: 'broken' is none of connect, timeout, reset, 5xx or"),
    (model("timeout: {idle: 0s}"), "models.fast.timeout.idle: '0s' is not a duration"),
    (model("limits: {requests: 5}"), "models.fast.limits.requests: Expected `str | array | null`, got `int`"),
    (model("limits: {requests: [5/day, 6/d]}"), "models.fast.limits.requests: 'day' stands here twice"),
    (model("limits: {tokens: 5/week}"), "models.fast.limits.tokens: '5/week' is not a rate"),
    (model("limits: {budget: 5/min}"), "models.fast.limits.budget: '5/min' is not a budget"),
    (model("limits: {soft_budget: many}"), "models.fast.limits.soft_budget: 'many' is not a budget"),
    (model("limits: {concurrent: 0}"), "models.fast.limits.concurrent: must be 1 to 1,000,000"),
    (model("limits: {burst: 5}"), "models.fast.limits.burst: needs `requests`"),
    (model("limits: {requests: 5/s, burst: 0}"), "models.fast.limits.burst: must be 1 or more"),
    (model("limits: {requests: 1/min, burst: 100000000}"), "models.fast.limits.burst: 100000000 at once and 1 per min"),
    (model("", ", weight: -1"), "models.fast.targets[0].weight: must be 0 to"),
    (model("", ", price: {input: -1, output: 1}"), "models.fast.targets[0].price.input: a price is"),
    (model("", ", price: {input: 1, output: x}"), "models.fast.targets[0].price.output: a price is"),
    (
        model("", ", price: {input: 1, output: 1, cached: 0.0000001}"),
        "models.fast.targets[0].price.cached: a price has",
    ),
    (model("", ", price: {input: 1}"), "models.fast.targets[0].price.output: missing"),
    (PROVIDERS + "models: {fast: {targets: []}}", "models.fast.targets: needs one target"),
    (MODELS, "models.fast.targets[0].provider: unknown 'up'; known: none is defined"),
    (MODELS.replace("model: m", 'model: "é"') + PROVIDERS, "models.fast.targets[0].model: must be 1 to 256"),
    (MODELS.replace("model: m", 'model: ""') + PROVIDERS, "models.fast.targets[0].model: must be 1 to 256"),
    (MODELS.replace("fast", '"a\\r\\nb"') + PROVIDERS, "models.a\r\nb: a name is"),
    (keys("name: a, secret: short"), "keys[0].secret: must be 8 to 512"),
    (keys("name: a, secret: 'with space'"), "keys[0].secret: must be 8 to 512"),
    (keys('name: a, secret: "tab\\tinside"'), "keys[0].secret: must be 8 to 512"),
    (keys(f"name: a, secret: {'x' * 513}"), "keys[0].secret: must be 8 to 512"),
    (keys("name: a b, secret: abcdefgh"), "keys[0].name: a name is"),
    (keys("name: a, secret: abcdefgh, expires: soon"), "keys[0].expires: 'soon' is not an ISO 8601 time"),
    (keys("name: a, secret: abcdefgh, models: [slow]"), "keys[0].models: unknown model 'slow'; known: fast"),
    (keys("name: a, secret: abcdefgh, limits: {requests: x}"), "keys[0].limits.requests: 'x' is not a rate"),
    (
        keys("name: a, secret: abcdefgh", "name: a, secret: abcdefgi"),
        "keys[1].name: 'a' is already the name of keys[0]",
    ),
    (keys("name: a, secret: abcdefgh", "name: b, secret: abcdefgh"), "keys[1]: has the same secret as another key"),
    (PROVIDERS + "log: {level: loud}", "log.level: 'loud' is none of"),
    (PROVIDERS + "bounds: {body: big}", "bounds.body: 'big' is not a size"),
    (PROVIDERS + "bounds: {headers: 0}", "bounds.headers: must be 1 to"),
    (PROVIDERS + "bounds: {heartbeat: x}", "bounds.heartbeat: 'x' is not a duration"),
    (PROVIDERS + "records: {spool_cap: 0}", "records.spool_cap: Expected `str`"),
    (PROVIDERS + "records: {when_full: block}", "records.when_full: 'block' is neither shed nor refuse"),
    (
        PROVIDERS + "records: {when_full: refuse, spool_cap: 64MiB}",
        "records.spool_cap: with when_full refuse it must hold 8 of records.segment and 1 MiB (68157440 bytes)",
    ),
    (PROVIDERS + "records: {keep: 30h}", "records.keep: '30h' is not a number of days"),
    (PROVIDERS + "records: {segment: '0'}", "records.segment: '0' is not a size"),
    (PROVIDERS + "limits: {requests: 0/s}", "limits.requests: '0/s' is not a rate"),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES, ids=[expected for _, expected in MISTAKES])
def test_a_mistake_is_told_with_its_path(tmp_path, text, expected):
    errors = refused(tmp_path, text)
    assert [error for error in errors if error.startswith(expected)] == errors


URLS = ["h", "http://", "ftp://h/v1", "http://u:p@h/v1", "http://h/v1?x=1", "http://h/v1#f", "http://h:99999"]
URLS += ["http://h:x", "http://[::1", "http://é.example"]


@pytest.mark.parametrize(
    "url", [*URLS, "", "http://h/a b", "http://h/a\r\nx: y", "http://h/a\x0bb", "http://h\\@g", "http://a b/"]
)
def test_base_urls_that_will_not_do(tmp_path, url):
    text = provider("", url="base_url: " + ascii(url).replace("'", '"') + ", ")
    (error,) = refused(tmp_path, text)
    assert error.startswith("providers.up.base_url: m")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://h", ("http", "h", 80, "/chat/completions")),
        ("HTTPS://H/v1/", ("https", "h", 443, "/v1/chat/completions")),
        ("http://[::1]:8000/v1", ("http", "::1", 8000, "/v1/chat/completions")),
        ("https://api.example.com:8443/a/b", ("https", "api.example.com", 8443, "/a/b/chat/completions")),
    ],
)
def test_base_urls_that_do(tmp_path, url, place):
    up = compiled(tmp_path, provider("", url=f"base_url: '{url}', ")).upstreams["up"]
    assert (up.origin.scheme, up.origin.host, up.origin.port, up.paths["openai_chat"]) == place


def test_everything_at_once_over_all_parts(tmp_path):
    text = """
providers: {a: {kind: openai}, b: {kind: azure, api_key: x}, c: {kind: nope}}
models: {m: {targets: [{provider: z, model: x, weight: -1}], retry: {attempts: 99}}}
keys: [{name: k, secret: x, models: [n]}]
bounds: {body: x}
limits: {burst: 1}
"""
    paths = [error.partition(": ")[0] for error in refused(tmp_path, text)]
    assert sorted(paths) == sorted(
        [
            *("providers.a.api_key", "providers.b.base_url", "providers.c.kind", "models.m.targets[0].provider"),
            *("models.m.targets[0].weight", "models.m.retry.attempts", "keys[0].secret", "keys[0].models"),
            *("bounds.body", "limits.burst"),
        ]
    )


@pytest.mark.parametrize(
    "text",
    [
        provider(f"api_key: {CANARY}, headers: {{x: '{CANARY} é'}}, queue: 0"),
        provider(f'api_key: "{CANARY}\\n"'),
        provider(f"proxy: 'ftp://u:{CANARY}@h'"),
        provider("", url=f"base_url: 'http://u:{CANARY}@h/v1', "),
        provider("", url=f"base_url: 'http://h/v1?key={CANARY}', "),
        keys(f"name: a, secret: '{CANARY} x'"),
        keys(f"name: a, secret: {CANARY}", f"name: b, secret: {CANARY}"),
        keys(f"name: a, secret: {CANARY}", f"name: a, secret: {CANARY}x"),
    ],
)
def test_no_error_shows_a_secret(tmp_path, text):
    errors = refused(tmp_path, text)
    assert errors
    assert CANARY not in "\n".join(errors)


def test_stored_rows_are_checked_too_and_their_hash_is_not_shown(tmp_path):
    good = hashlib.blake2b(b"x", digest_size=32).hexdigest()
    rows = [("a", good[:-1] + "z"), ("b", ""), ("c", good), ("d", good)]
    (tmp_path / "keys.jsonl").write_text("".join(f'{{"name":"{name}","hash":"{text}"}}\n' for name, text in rows))
    assert refused(tmp_path, PROVIDERS + MODELS) == [
        "keys.jsonl:1.hash: must be 64 hexadecimal digits",
        "keys.jsonl:2.hash: must be 64 hexadecimal digits",
        "keys.jsonl:4: has the same secret as another key",
    ]


def test_what_a_plan_promises_its_readers(tmp_path):
    text = """
providers:
  az: {kind: azure, base_url: "https://x.openai.azure.com", api_key: KEY, api_version: 2025-01-01}
  oa: {kind: openai, api_key: KEY, headers: {openai-organization: org}, allow_headers: [X-Trace], region: eu}
models:
  fast:
    targets:
      - {provider: oa, model: gpt, weight: 9, price: {input: 0.15, output: 0.6, cached: 0.075}}
      - {provider: az, model: dep, priority: 2}
    retry: {attempts: 2, on: [429, 5xx]}
    limits: {requests: 600/min}
keys: [{name: k, secret: abcdefgh, models: [fast, "oa/*"], limits: {requests: 5/s, burst: 2}, expires: 2030-01-01}]
limits: {requests: 1000/s, burst: 10}
bounds: {body: 1MiB, headers: 50}
records: {segment: 100KB}
expose_facts: false
"""
    plan = compiled(tmp_path, text)
    assert plan.revision == 7
    assert plan.upstreams["oa"].auth_value == "Bearer KEY"
    assert (plan.upstreams["oa"].allow, plan.upstreams["oa"].headers) == (("x-trace",), {"openai-organization": "org"})
    azure = plan.upstreams["az"]
    assert (azure.auth_header, azure.auth_value) == ("api-key", "KEY")
    assert azure.paths["openai_chat"] == "/openai/deployments/{model}/chat/completions?api-version=2025-01-01"
    first, second = plan.models["fast"].targets
    assert (first.id, first.weight, first.price.input, first.price.cached) == ("oa/gpt", 9, 150_000, 75_000)
    assert (first.price.cache_write, first.price.version) == (150_000, "config")
    assert (second.id, second.priority, second.price) == ("az/dep", 2, None)
    assert plan.models["fast"].retry.on == {"429", "5xx"}
    (key,) = plan.keys
    assert key.digest == digest(b"abcdefgh", plan.pepper)
    assert (key.models, key.patterns, key.expires) == ({"fast"}, ("oa/",), 1893456000.0)
    rules = [key.rules[0], plan.models["fast"].rules[0], plan.rules[0]]
    assert [(rule.level, rule.limit, rule.per, rule.burst) for rule in rules] == [
        ("key", 5, "s", 2),
        ("model", 600, "min", 60),
        ("gateway", 1000, "s", 10),
    ]
    assert len({rule.slot for rule in rules}) == 3
    assert (plan.options.max_body, plan.options.max_headers, plan.options.expose_facts) == (2**20, 50, False)
    assert plan.options.segment_bytes == 98304
    for target in plan.models["fast"].targets:
        places = Handles.find(plan.series, "fast", target.upstream, target.id)
        assert places != Handles.find(plan.series)


def test_no_two_keys_share_a_slot_and_slots_are_found_again(tmp_path):
    text = keys(*(f"name: k{i}, secret: secret-{i}, limits: {{requests: 60/min}}" for i in range(50)))
    first, second = compiled(tmp_path, text), compiled(tmp_path, text.replace("60/min", "90/min"))
    slots = [key.rules[0].slot for key in first.keys]
    assert len(set(slots)) == 50
    assert [key.rules[0].slot for key in second.keys] == slots
    table = shared.Table.open(str(tmp_path / "table"), create=False)
    assert table.find(slot_id("key", "k3", "rate", "requests", "min")) == slots[3]
    table.close()


def test_a_full_table_is_an_error_of_the_config_not_a_crash(tmp_path):
    text = keys(*(f"name: k{i}, secret: secret-{i}, limits: {{requests: 60/min}}" for i in range(100)))
    errors = refused(tmp_path, text, slots=64)
    assert errors[0].startswith("keys[")
    assert all("no room for another limit" in error for error in errors)


def test_access_by_name_by_prefix_and_to_all(tmp_path):
    plan = compiled(
        tmp_path,
        keys(
            "name: a, secret: abcdefgh",
            "name: b, secret: abcdefgi, models: []",
            "name: c, secret: abcdefgj, models: ['*', fast]",
            "name: d, secret: abcdefgk, models: ['f*']",
        ),
    )
    assert [(key.models, key.patterns) for key in plan.keys] == [
        (None, ()),
        (frozenset(), ()),
        (None, ()),
        (frozenset(), ("f",)),
    ]


def test_from_the_environment_a_key_may_name_models_no_list_has(tmp_path):
    (tmp_path / "keys.jsonl").write_text('{"name":"a","hash":"' + "1" * 64 + '","models":["openai/gpt-4o","gpt-4o"]}\n')
    plan = compiled(tmp_path, environ={"OPENAI_API_KEY": "sk-x"})
    assert list(plan.keys)[-1].models == {"openai/gpt-4o", "gpt-4o"}


def test_a_provider_without_a_key_sends_none(tmp_path):
    up = compiled(tmp_path, PROVIDERS + MODELS).upstreams["up"]
    assert (up.auth_header, up.auth_value) == ("", "")


def test_a_thousand_keys_compile_quickly(tmp_path):
    rows = (
        StoredKey(name=f"k{i}", hash=hashlib.blake2b(str(i).encode(), digest_size=32).hexdigest()) for i in range(1000)
    )
    (tmp_path / "keys.jsonl").write_text(
        "".join(f'{{"name":"{r.name}","hash":"{r.hash}","limits":{{"requests":"60/min"}}}}\n' for r in rows)
    )
    began = time.monotonic()
    plan = compiled(tmp_path, PROVIDERS + MODELS, slots=4096)
    assert time.monotonic() - began < 5
    assert len({key.rules[0].slot for key in plan.keys}) == 1000


@pytest.mark.parametrize("name", ["a", "A9", "gpt-4o", "openai/gpt-4o", "llama3:8b", "a@b.c", "x" * 128])
def test_names(name):
    assert NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", "-a", ".a", "/a", "a b", "a\n", "é", "a%20", 'a"', "x" * 129])
def test_what_is_no_name(name):
    assert not NAME.fullmatch(name)


def test_no_secret_is_in_the_plan_but_the_upstreams(tmp_path):
    plan = compiled(tmp_path, keys(f"name: a, secret: {CANARY}"))
    assert CANARY not in re.sub(r"\s", "", repr(plan))
