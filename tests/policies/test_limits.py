"""Limits: all together or not at all, the narrowest first, and the headers tell of the tightest."""

from types import SimpleNamespace

import pytest

from fastgw._core import table as shared
from fastgw.errors import GatewayError
from fastgw.plan.plan import Rule
from fastgw.policies import limits
from fastgw.state.table import slot_id
from tests.policies.support import call_of, env_of, key, model, open_table, plan_of, rule

NS = 10**9
LANES = {}
T0 = 10**15


@pytest.fixture
def table(tmp_path):
    table = open_table(tmp_path)
    LANES[table] = lane = table.claim_lane()
    yield table
    del LANES[table]
    lane.close()
    table.close()


class Setup:
    """One key, one model and the gateway, each with its limit (requests a minute, burst) or None."""

    def __init__(self, table, *, by_key=None, by_model=None, by_gateway=None, wildcard=False):
        self.table = table
        self.key = key("alice", rules=self.rules("key", "alice", by_key))
        self.other = key("bob")
        one = model("up/*" if wildcard else "fast", self.rules("model", "fast", by_model))
        self.plan = plan_of(
            [self.key, self.other],
            () if wildcard else [one],
            self.rules("gateway", "", by_gateway),
            [one] if wildcard else (),
        )
        self.env = env_of(self.plan, table, book=LANES[table].book())
        self.limiter = limits.Limiter(self.plan, self.env)
        self.body = self.limiter.enter
        self.name = "up/x" if wildcard else "fast"

    def rules(self, level, owner, spec):
        return (rule(self.table, level, owner, *spec),) if spec else ()

    def call(self, now_ns=T0, who=None):
        call = call_of(who or self.key, self.name, now_ns)
        call.model, call.upstream_model = self.env.routes.find(self.name)
        self.body(call)
        return call

    def refused(self, now_ns=T0, who=None):
        call = call_of(who or self.key, self.name, now_ns)
        call.model, call.upstream_model = self.env.routes.find(self.name)
        with pytest.raises(GatewayError) as caught:
            self.body(call)
        assert (caught.value.kind, caught.value.status) == ("rate_limit_exceeded", 429)
        return caught.value, call


def test_without_limits_a_call_is_noted_and_takes_nothing(table):
    setup = Setup(table)
    call = setup.call()
    book = LANES[table].book()
    assert (call.entry, book.in_flight(), book.charges(call.entry), call.ratelimit) == (0, 1, 0, {})


def test_a_worker_has_so_many_places_and_no_more(table):
    setup = Setup(table)
    for _ in range(64):
        setup.call()
    call = call_of(setup.key, setup.name, T0)
    call.model, call.upstream_model = setup.env.routes.find(setup.name)
    with pytest.raises(GatewayError) as caught:
        setup.body(call)
    assert (caught.value.kind, caught.value.retry_after) == ("overloaded", 1)


@pytest.mark.parametrize(
    ("level", "whose"), [("by_key", "key 'alice'"), ("by_model", "model 'fast'"), ("by_gateway", "this gateway")]
)
def test_each_level_refuses_after_its_burst_and_says_who_and_when(table, level, whose):
    setup = Setup(table, **{level: (60, 3)})
    for left in (2, 1, 0):
        assert setup.call().ratelimit["requests"][:2] == (60, left)
    error, call = setup.refused()
    assert error.message == (f"Rate limit reached for {whose}: 60 requests per minute, burst 3. Try again in 1.000 s.")
    assert error.retry_after == 1.0
    assert call.refused_by == level.removeprefix("by_")
    assert call.ratelimit == {"requests": (60, 0, 10**9)}
    setup.refused(T0 + NS - 1)
    setup.call(T0 + NS)
    setup.refused(T0 + NS)


def test_a_refusal_takes_nothing_anywhere(table):
    setup = Setup(table, by_key=(60, 5), by_gateway=(60, 2))
    setup.call()
    setup.call()
    for _ in range(10):
        assert setup.refused()[1].refused_by == "gateway"
    assert setup.call(T0 + 2 * NS).ratelimit["requests"][:2] == (60, 1)
    assert [setup.call(T0 + 10 * NS).ratelimit["requests"][1] for _ in range(2)] == [1, 0]


def test_the_narrowest_refuses_first(table):
    setup = Setup(table, by_key=(60, 1), by_model=(60, 1), by_gateway=(60, 1))
    setup.call()
    assert setup.refused()[1].refused_by == "key"
    assert setup.refused(who=setup.other)[1].refused_by == "model"


def test_the_headers_tell_of_the_tightest(table):
    setup = Setup(table, by_key=(600, 50), by_model=(120, 7), by_gateway=(6000, 100))
    limit, remaining, reset_ns = setup.call().ratelimit["requests"]
    assert (limit, remaining) == (120, 6)
    assert reset_ns == 500_000_000


def test_a_key_without_limits_counts_at_the_others_only(table):
    setup = Setup(table, by_key=(60, 1))
    setup.call()
    for _ in range(20):
        assert setup.call(who=setup.other).ratelimit == {}
    assert setup.refused()[1].refused_by == "key"


def test_a_wildcards_calls_count_at_key_and_gateway(table):
    setup = Setup(table, by_key=(60, 1), by_gateway=(60, 5), wildcard=True)
    setup.call()
    assert setup.refused()[1].refused_by == "key"


def test_per_second_is_named_so(table):
    holder = key("s", rules=(rule(table, "key", "s", 2, 1, "s"),))
    plan = plan_of([holder], [model("fast")])
    env = env_of(plan, table, book=LANES[table].book())
    body = limits.Limiter(plan, env).enter
    call = call_of(holder, "fast")
    call.model, _ = env.routes.find("fast")
    body(call)
    with pytest.raises(GatewayError, match=r"2 requests per second, burst 1\. Try again in 0\.500 s"):
        body(call)


def test_another_plan_goes_on_where_this_one_was(table):
    Setup(table, by_key=(60, 1)).call()
    assert Setup(table, by_key=(60, 1)).refused()[1].refused_by == "key"


def test_a_model_that_answers_in_place_of_another_takes_from_its_own_limit_only(table):
    setup = Setup(table, by_key=(60, 1), by_model=(60, 1), by_gateway=(60, 1))
    enter = setup.limiter.enter_model
    call = call_of(setup.key, "other", T0)
    (route,) = setup.env.routes.exact.values()
    call.entry = LANES[table].book().begin(call.id16, T0, 0, b"", b"")
    enter(call, route)
    with pytest.raises(GatewayError) as caught:
        enter(call, route)
    assert caught.value.kind == "rate_limit_exceeded"
    assert "model 'fast'" in caught.value.message
    assert call.ratelimit["requests"][:2] == (60, 0)
    # The key's and the gateway's are as they were; the model's is not.
    assert setup.refused()[1].refused_by == "model"


def test_a_model_without_limits_is_entered_freely(table):
    setup = Setup(table, by_key=(60, 1))
    enter = setup.limiter.enter_model
    for _ in range(3):
        enter(call_of(setup.key, "other", T0), setup.env.routes.exact["fast"])


WINDOWS = {"hour": shared.HOUR, "day": shared.DAY, "month": shared.MONTH}


def six(table, level, owner):
    """As many limits as one owner may have, none of them money, so wide that none refuses."""
    made = []
    for unit, per in [*(("requests", per) for per in WINDOWS), ("tokens", "hour"), ("tokens", "day")]:
        slot = table.slot(slot_id(level, owner, "window", unit, per), WINDOWS[per])
        made.append(Rule(level, owner, "window", unit, per, 10**9, slot=slot))
    return (*made, rule(table, level, owner, 60_000, 60_000))


def target(table, name):
    return SimpleNamespace(name=name, rules=six(table, "target", name), provider="up", model="m", price=None)


def test_a_call_of_one_model_has_room_for_six_limits_at_every_level(table):
    holder, one = key("alice", rules=six(table, "key", "alice")), model("fast", six(table, "model", "fast"))
    plan = plan_of([holder], [one], six(table, "gateway", ""))
    env = env_of(plan, table, book=LANES[table].book())
    way = target(table, "up/fast")
    limiter = limits.Limiter(plan, env)
    call = call_of(holder, "fast", T0)
    call.model, call.upstream_model = env.routes.find("fast")
    limiter.enter(call)
    assert limiter.attempt(call, way) is None
    assert LANES[table].book().charges(call.entry) == 24


def test_a_further_model_that_a_call_has_no_room_for_is_passed_over(table):
    """Six limits of key, gateway and the first model, and six of the next: its target's find no room any more."""
    holder = key("alice", rules=six(table, "key", "alice"))
    first, second = (model(name, six(table, "model", name)) for name in ("fast", "slow"))
    plan = plan_of([holder], [first, second], six(table, "gateway", ""))
    env = env_of(plan, table, book=LANES[table].book())
    way = target(table, "up/slow")
    env.routes.exact["slow"].ways = (way, way)
    limiter = limits.Limiter(plan, env)
    call = call_of(holder, "fast", T0)
    call.model, call.upstream_model = env.routes.find("fast")
    limiter.enter(call)
    with pytest.raises(GatewayError) as caught:
        limiter.enter_model(call, env.routes.exact["slow"])
    assert 400 <= caught.value.status < 500
    assert LANES[table].book().charges(call.entry) == 18, "it has taken nothing"
    assert call.refused_by == ""
