"""A plan bound to this worker: its policies built, its models tied to connection pools. Replaced whole by the next."""

import time

from fastgw._core import table as shared
from fastgw.gateway.listing import OPENAI, Shape, described, listed
from fastgw.plan.plan import Key, Plan
from fastgw.policies import ORDER, Env, limits
from fastgw.policies.models import allowed, unaliased
from fastgw.state.seal import Seal
from fastgw.upstream.client import Client
from fastgw.upstream.route import Routes


class Live:
    """What the request path reads. `head` and `body` are the policies' functions in their order.

    `limiter` is the last of the policies, which also has a word in every attempt and at the end.
    """

    __slots__ = (
        "body",
        "expose_facts",
        "head",
        "limiter",
        "options",
        "plan",
        "revision",
        "revision_header",
        "routes",
        "seal",
    )

    def __init__(self, plan: Plan, client: Client, table: shared.Table, book: shared.Book) -> None:
        self.plan = plan
        self.options = plan.options
        self.revision = plan.revision
        self.revision_header = (b"x-fastgw-revision", b"%d" % plan.revision)
        self.expose_facts = plan.options.expose_facts
        self.routes = Routes(plan, client, table)
        self.seal = Seal(plan.pepper)
        env = Env(self.routes, table, book, time.time)
        self.limiter = limits.Limiter(plan, env)
        policies = [module.build(plan, env) for module in ORDER]
        self.head = tuple(policy.head for policy in policies if policy.head is not None)
        body = [policy.body for policy in policies if policy.body is not None]
        self.body = (*body, self.limiter.enter)

    def models_json(self, key: Key, shape: Shape = OPENAI, query: bytes = b"") -> bytes:
        """What `GET /v1/models` answers this key: the models it may use and their aliases.

        Wildcards are no names that could be asked for: they are listed, as such, only where there are no models.
        Raises GatewayError (`bad_request`) for a page that `query` asks for and that cannot be given.
        """
        names = [*self.routes.exact, *self.plan.aliases, *key.aliases]
        mine = [name for name in dict.fromkeys(names) if self._visible(key, name)]
        if not self.routes.exact:
            mine += [route.name for route in self.routes.wildcards.values() if allowed(key, route.name)]
        return listed(shape, mine, query)

    def model_json(self, key: Key, name: str, shape: Shape = OPENAI) -> bytes | None:
        """What `GET /v1/models/{name}` answers this key; None when it may not know of it."""
        return described(shape, name) if self._visible(key, name) else None

    def _visible(self, key: Key, name: str) -> bool:
        meant = unaliased(key, self.plan, name)
        found = self.routes.find(meant)
        return found is not None and allowed(key, name, meant, found[0].name)
