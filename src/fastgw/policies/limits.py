"""How often: requests per second or minute at key, model and gateway level, taken all together or not at all."""

from collections.abc import Callable

from fastgw._core import table
from fastgw.call import Call
from fastgw.errors import GatewayError
from fastgw.plan.plan import Plan, Rule
from fastgw.policies.base import Env, Policy
from fastgw.upstream.route import Route

NO_RULES = table.Rules(())
NS = 10**9


def build(plan: Plan, env: Env) -> Policy:
    """Takes one request from every limit that applies, narrowest first; 429 with `retry-after` when one is used up."""
    by_key = {key.digest: _native(key.rules) for key in plan.keys if key.rules}
    by_model = {route.name: _native(route.model.rules) for route in _routes(env) if route.model.rules}
    gateway = _native(plan.rules)
    if not by_key and not by_model and not plan.rules:
        return Policy()
    take = env.table.take

    def rules_of(call: Call, index: int) -> Rule:
        rules: tuple[Rule, ...] = (*call.key.rules, *call.model.model.rules, *plan.rules)
        return rules[index]

    def body(call: Call) -> None:
        sets = (by_key.get(call.key.digest, NO_RULES), by_model.get(call.model.name, NO_RULES), gateway)
        refused, wait_ns, tight, remaining, reset_ns = take(sets, 1, call.now_ns)
        if refused >= 0:
            rule = rules_of(call, refused)
            call.ratelimit = (rule.limit, 0, wait_ns)
            call.refused_by = rule.level
            raise _refusal(rule, wait_ns)
        if tight >= 0:
            call.ratelimit = (rules_of(call, tight).limit, remaining, reset_ns)

    return Policy(body=body)


def for_model(plan: Plan, env: Env) -> Callable[[Call, Route], None]:
    """Takes one request from a model's own limits: for a model that is to answer in place of the one asked for.

    429 when one is used up, of which nothing is noted in the call.
    """
    by_model = {route.name: _native(route.model.rules) for route in _routes(env) if route.model.rules}
    take = env.table.take

    def enter(call: Call, route: Route) -> None:
        rules = by_model.get(route.name)
        if rules is not None:
            refused, wait_ns, *_ = take((rules,), 1, call.now_ns)
            if refused >= 0:
                raise _refusal(route.model.rules[refused], wait_ns)

    return enter


def _routes(env: Env) -> list[Route]:
    return [*env.routes.exact.values(), *env.routes.wildcards.values()]


def _native(rules: tuple[Rule, ...]) -> table.Rules:
    return table.Rules([(rule.slot, rule.interval_ns, rule.tau_ns) for rule in rules])


def _refusal(rule: Rule, wait_ns: int) -> GatewayError:
    seconds = wait_ns / NS
    per = "second" if rule.per == "s" else "minute"
    whose = "this gateway" if rule.level == "gateway" else f"{rule.level} {rule.owner!r}"
    return GatewayError(
        "rate_limit_exceeded",
        f"Rate limit reached for {whose}: {rule.limit} requests per {per}, burst {rule.burst}. "
        f"Try again in {seconds:.3f} s.",
        retry_after=seconds,
    )
