"""A plan bound to this worker: its policies built, its models tied to connection pools. Replaced whole by the next."""

import time

import msgspec

from fastgw._core import table as shared
from fastgw.plan.plan import Key, Plan
from fastgw.policies import ORDER, Env
from fastgw.policies.models import allowed
from fastgw.upstream.client import Client
from fastgw.upstream.route import Routes


class Live:
    """What the request path reads. `head` and `body` are the policies' functions in their order."""

    __slots__ = ("body", "expose_facts", "head", "options", "plan", "revision", "revision_header", "routes")

    def __init__(self, plan: Plan, client: Client, table: shared.Table) -> None:
        self.plan = plan
        self.options = plan.options
        self.revision = plan.revision
        self.revision_header = (b"x-fastgw-revision", b"%d" % plan.revision)
        self.expose_facts = plan.options.expose_facts
        self.routes = Routes(plan, client)
        env = Env(self.routes, table, time.time)
        policies = [module.build(plan, env) for module in ORDER]
        self.head = tuple(policy.head for policy in policies if policy.head is not None)
        self.body = tuple(policy.body for policy in policies if policy.body is not None)

    def models_json(self, key: Key) -> bytes:
        """What `GET /v1/models` answers this key: OpenAI's list, of the models it may use."""
        routes = (*self.routes.exact.values(), *self.routes.wildcards.values())
        data = [_model(route.name) for route in routes if allowed(key, route.name)]
        return msgspec.json.encode({"object": "list", "data": data})

    def model_json(self, key: Key, name: str) -> bytes | None:
        """What `GET /v1/models/{name}` answers this key; None when it may not know of it."""
        found = self.routes.find(name)
        if found is None or not allowed(key, name, found[0].name):
            return None
        return msgspec.json.encode(_model(name))


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "fastgw"}
