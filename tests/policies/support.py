"""A plan's policies over a real table, and calls to put before them."""

from types import SimpleNamespace

from fastgw._core import table as shared
from fastgw.call import Call
from fastgw.plan.compile.limits import SECONDS
from fastgw.plan.keyring import HeldKeys
from fastgw.plan.plan import Key, Model, Options, Plan, Rule, Target
from fastgw.policies.base import Env
from fastgw.state.table import compile_rate, slot_id

PEPPER = b"p" * 32


class Routes:
    """As much of `upstream.route.Routes` as policies use, without pools."""

    def __init__(self, plan):
        self.exact = {
            name: SimpleNamespace(name=model.name, model=model, ways=()) for name, model in plan.models.items()
        }
        self.wildcards = {
            name: SimpleNamespace(name=model.name, model=model, ways=()) for name, model in plan.wildcards.items()
        }

    def find(self, name):
        if name in self.exact:
            return self.exact[name], ""
        prefix, slash, rest = name.partition("/")
        return (self.wildcards[prefix], rest) if slash and prefix in self.wildcards else None


def rule(table, level, owner, limit, burst, per="min"):
    interval, tau = compile_rate(limit, SECONDS[per], burst)
    slot = table.slot(slot_id(level, owner, "rate", "requests", per))
    return Rule(level, owner, "rate", "requests", per, limit, burst, slot, interval, tau)


def plan_of(keys=(), models=(), rules=(), wildcards=()):
    def named(names):
        return {one.name.removesuffix("/*"): one for one in names}

    return Plan(1, PEPPER, {}, named(models), named(wildcards), HeldKeys(keys), tuple(rules), Options(), {})


def env_of(plan, table=None, now=1000.0, book=None):
    return Env(Routes(plan), table or SimpleNamespace(flag=lambda slot: 0), book, lambda: now)


def call_of(key=None, model="", now_ns=10**15):
    call = Call("req_" + "01" * 10, 0.0, now_ns, None, SimpleNamespace(path=b"/v1/chat/completions", query=b""))
    call.key, call.model_name = key, model
    return call


def model(name, rules=()):
    return Model(name, (Target(f"up/{name}", "up", name),), rules=tuple(rules))


def key(name="k", **more):
    return Key(name, name.encode().ljust(32, b"."), **more)


def open_table(directory):
    return shared.Table.open(str(directory / "table"), slots=64, lanes=1, counters=256, entries=64, create=True)
