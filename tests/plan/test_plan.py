"""The plan is data: frozen, comparable, and equal parts are equal keys."""

import pytest

from fastgw.plan.plan import Key, Model, Options, Origin, Plan, Target


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
