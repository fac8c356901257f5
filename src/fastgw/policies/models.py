"""Which model is meant, and whether this key may use it."""

from fastgw.call import Call
from fastgw.errors import GatewayError
from fastgw.plan.plan import Key, Plan
from fastgw.policies.base import Env, Policy


def allowed(key: Key, *names: str) -> bool:
    """Whether a key may use a model known under any of these names."""
    if key.models is None or not key.models.isdisjoint(names):
        return True
    return any(name.startswith(key.patterns) for name in names) if key.patterns else False


def build(plan: Plan, env: Env) -> Policy:
    """Sets `call.model` (a Route) and `call.upstream_model`; 404 for unknown models, 403 for those of others."""
    routes = env.routes

    def body(call: Call) -> None:
        found = routes.find(call.model_name)
        if found is None:
            raise GatewayError(
                "model_not_found",
                f"The model {_shown(call.model_name)} does not exist here. GET /v1/models lists those you may use.",
                param="model",
            )
        call.model, call.upstream_model = found
        key = call.key
        if key.models is not None and not allowed(key, call.model_name, call.model.name):
            raise GatewayError(
                "model_not_allowed",
                f"The key {key.name!r} may not use the model {_shown(call.model_name)}. "
                "GET /v1/models lists those it may.",
                param="model",
            )

    return Policy(body=body)


def _shown(name: str) -> str:
    """A caller's model name, cut and escaped for a message."""
    return ascii(name if len(name) <= 100 else name[:100] + "...")
