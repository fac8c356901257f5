"""The plan is data: frozen, comparable, and equal parts are equal keys."""

import pytest

from fastgw.plan import config as written
from fastgw.plan.plan import Key, Model, Options, Origin, Plan, Target, Upstream
from fastgw.plan.sources import Loaded, Sources


def test_the_plan_is_frozen():
    plan = Plan(1, b"p", {}, {}, {}, (), (), Options(), {})
    for thing, field in (
        (plan, "revision"),
        (Options(), "demo"),
        (Key("a", b"d"), "blocked"),
        (Target("a", "b", "c"), "id"),
    ):
        with pytest.raises(AttributeError):
            setattr(thing, field, 1)


def test_equal_origins_share_a_pool():
    one, other = Origin("https", "a.example", 443), Origin("https", "a.example", 443)
    assert {one: 1}[other] == 1
    different = [
        Origin("http", "a.example", 443),
        Origin("https", "a.example", 443, proxy="http://p:1"),
        Origin("https", "a.example", 443, ca_file="/x"),
        Origin("https", "a.example", 443, max_connections=1),
    ]
    assert all(one != origin for origin in different)


def test_the_defaults_are_those_the_design_promises():
    options, model, origin = Options(), Model("m", ()), Origin("http", "h", 80)
    assert (options.max_body, options.max_headers, options.max_header_bytes) == (32 * 2**20, 100, 32 * 2**10)
    assert (origin.max_connections, origin.queue, origin.queue_timeout, origin.max_body) == (512, 1024, 5.0, 64 * 2**20)
    timeout = model.timeout
    assert (timeout.connect, timeout.first_token, timeout.idle, timeout.total) == (5.0, 60.0, 60.0, 600.0)
    assert (model.retry.attempts, model.retry.on) == (3, {"connect", "429", "503"})
    assert (options.heartbeat, options.spool_cap, options.expose_facts) == (15.0, 2**30, True)


CANARY = "sk-canary-0123456789"


@pytest.mark.parametrize(
    "holder",
    [
        Origin("https", "h", 443, proxy=f"http://u:{CANARY}@p:1"),
        Upstream("u", "openai", Origin("https", "h", 443), {}, auth_value=CANARY, headers={"x": CANARY}),
        written.Provider(kind="openai", api_key=CANARY, proxy=f"http://u:{CANARY}@p:1", headers={"x": CANARY}),
        written.Key(name="k", secret=CANARY),
        written.Config(keys=[written.Key(name="k", secret=CANARY)]),
        Sources("d", {"OPENAI_API_KEY": CANARY}),
        Loaded(written.Config(), [], [], {"OPENAI_API_KEY": CANARY}),
    ],
    ids=lambda holder: type(holder).__name__,
)
def test_what_holds_a_credential_does_not_show_it(holder):
    for text in (repr(holder), str(holder), f"{holder}", repr([holder])):
        assert CANARY not in text
    assert repr(holder).startswith(type(holder).__name__)


def test_a_plan_shows_neither_its_pepper_nor_its_credentials():
    upstream = Upstream("u", "openai", Origin("https", "h", 443), {}, auth_value=CANARY)
    plan = Plan(1, b"pepper-canary", {"u": upstream}, {}, {}, (), (), Options(), {})
    assert "canary" not in repr(plan)
    assert "revision=1" in repr(plan)
