"""Which model is meant, and whether this key may use it."""

from typing import NamedTuple

from fastgw.call import Call
from fastgw.dialects.openrouter import Wishes, read_preferences
from fastgw.errors import GatewayError
from fastgw.plan.plan import Key, Plan
from fastgw.policies.base import Env, Policy
from fastgw.upstream.route import Route


class Meant(NamedTuple):
    """What a client's name stands for. `alias` is that name where it is not the model's own."""

    alias: str
    name: str
    route: Route
    upstream_model: str


def allowed(key: Key, *names: str) -> bool:
    """Whether a key may use a model known under any of these names."""
    if key.models is None or not key.models.isdisjoint(names):
        return True
    return any(name.startswith(key.patterns) for name in names) if key.patterns else False


def unaliased(key: Key, plan: Plan, name: str) -> str:
    """The model's name behind an alias: the key's own before those of all, and one step only."""
    return key.aliases.get(name) or plan.aliases.get(name, name)


def build(plan: Plan, env: Env) -> Policy:
    """Sets `call.model` (a Route) and `call.upstream_model`; 404 for unknown models, 403 for those of others.

    An alias is replaced in `call.model_name`. What `call.wishes` names further is found and checked in the same way.
    """
    find, exact = env.routes.find, env.routes.exact

    def meant(key: Key, asked: str, param: str) -> Meant:
        name = unaliased(key, plan, asked)
        found = find(name)
        if found is None:
            raise GatewayError(
                "model_not_found",
                f"The model {_shown(asked)} does not exist here. GET /v1/models lists those you may use.",
                param=param,
            )
        if key.models is not None and not allowed(key, asked, name, found[0].name):
            raise GatewayError(
                "model_not_allowed",
                f"The key {key.name!r} may not use the model {_shown(asked)}. GET /v1/models lists those it may.",
                param=param,
            )
        return Meant(asked if name != asked else "", name, *found)

    def by_own_name(call: Call) -> bool:
        """The usual case: one model, called by its own name."""
        key: Key = call.key
        route = exact.get(call.model_name)
        if route is None or call.wishes is not None or plan.aliases or key.aliases:
            return False
        if key.models is not None and call.model_name not in key.models:
            return False
        call.model = route
        return True

    def wished(key: Key, wishes: Wishes, first: Meant) -> None:
        found = {first.name: first}
        for index, asked in enumerate(wishes.models):
            one = meant(key, asked, f"models[{index}]")
            found.setdefault(one.name, one)
        if wishes.provider is not None and not all(one.route.takes_provider for one in found.values()):
            wishes.preferences = read_preferences(wishes.provider)
        wishes.others = tuple(found.values())[1:]

    def body(call: Call) -> None:
        if call.model is not None:
            return  # it is about what is kept at a vendor, as its path has said
        if by_own_name(call):
            return
        first = meant(call.key, call.model_name, "model")
        take(call, first)
        if call.wishes is not None:
            wished(call.key, call.wishes, first)

    return Policy(body=body)


def take(call: Call, one: Meant) -> None:
    """Make this the model of a call. What stands in the request is kept in `call.asked`."""
    if one.name != call.model_name:
        call.asked = call.asked or call.model_name
        call.model_name = one.name
    call.alias, call.model, call.upstream_model = one.alias, one.route, one.upstream_model


def _shown(name: str) -> str:
    """A caller's model name, cut and escaped for a message."""
    return ascii(name if len(name) <= 100 else name[:100] + "...")
