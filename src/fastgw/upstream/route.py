"""The plan's models bound to this worker's connection pools: what is asked where, with which head."""

from collections.abc import Callable, Mapping
from functools import partial
from random import random
from time import monotonic
from urllib.parse import quote

from fastgw._core import headers
from fastgw._core import table as shared
from fastgw.dialects.registry import OPERATIONS
from fastgw.plan.plan import Model, Plan, Price, Quirks, Target, Timeouts, Upstream
from fastgw.plan.prices import look_up
from fastgw.providers import PROVIDERS
from fastgw.providers import quirks as vendors
from fastgw.providers.quirks import Traits
from fastgw.telemetry.metrics import Handles
from fastgw.upstream import choose
from fastgw.upstream.auth.refresh import Source
from fastgw.upstream.client import Client, Pool
from fastgw.upstream.health import Health, Latency

START = "{method} {path} HTTP/1.1\r\nhost: {host}\r\n{auth}{extra}accept-encoding: identity\r\n"
MAX_NAME = 256
MAX_TRAITS = 1024
"""How many models behind a wildcard have their traits kept; with more, they are found anew."""
DOTS = frozenset({".", "..", ""})
"""Segments that would change a path the name becomes part of."""
NO_PRICES: Mapping[str, Price] = {}
NO_WINDOWS = (0, 0, 0)
OPENROUTER = "openrouter"
NO_STREAM_OPTIONS = Quirks(features=("no_stream_options",))
FORWARDED = (b"accept", b"user-agent", b"idempotency-key", b"openai-beta")
FORWARDED_PREFIXES = (b"x-stainless-",)


class Way:
    """A target with its pool: everything of a request to it that does not change from call to call.

    `heads` maps a dialect's name to the start of the request head; it still holds `{model}` where the upstream's model
    is part of the path and not known before the call (a wildcard). `prices` are those of the models behind a wildcard.
    `signer` makes its credential where no fixed one will do, else None. `health` is its breaker, `load` the slot in
    which the calls it serves are counted (-1: nobody asks), `latency` what this worker knows of its speed; `alone`: its
    model has no other. `name` is the same for all credentials of a provider, `label` is not.
    `translated` maps an operation to the dialect that callers of another one are translated to, where there is one.
    """

    __slots__ = (
        "_traits",
        "_traits_of",
        "_upstream",
        "allow",
        "alone",
        "asks_usage",
        "drop",
        "facts",
        "handles",
        "heads",
        "health",
        "kind",
        "label",
        "latency",
        "load",
        "max_output",
        "model",
        "name",
        "pool",
        "price",
        "prices",
        "priority",
        "provider",
        "rules",
        "secret",
        "signer",
        "stream_heads",
        "translated",
        "weight",
    )

    def __init__(
        self,
        name: str,
        target: Target,
        upstream: Upstream,
        pool: Pool,
        handles: Handles,
        prices: Mapping[str, Price] = NO_PRICES,
        signer: Source | None = None,
        health: Health | None = None,
    ) -> None:
        self.name = target.id
        self.label = f"{target.upstream}/{target.model}"
        self.provider = upstream.name
        self.kind = upstream.kind
        self.model = target.model
        self.weight = target.weight
        self.rules = target.rules
        self.priority = target.priority
        self.price: Price | None = target.price
        self.prices = prices
        self.handles = handles
        self.facts = facts(name, upstream.name, target.id)
        self.pool = pool
        self.secret = upstream.auth_value.rpartition(" ")[2].encode()
        self.signer = signer
        self.heads = {dialect: _head(upstream, path, target.model) for dialect, path in upstream.paths.items()}
        self.stream_heads = {
            **self.heads,
            **{dialect: _head(upstream, path, target.model) for dialect, path in upstream.stream_paths.items()},
        }
        self.translated = {
            op: next(name for name in one.providers if name in self.heads)
            for op, one in OPERATIONS.items()
            if not self.heads.keys().isdisjoint(one.providers)
        }
        self.asks_usage = upstream.asks_usage
        self.drop = target.drop
        self.max_output = target.max_output
        self.health = health
        self.alone = True
        self.load = target.load
        self.latency = Latency()
        self._traits: dict[str, Traits] = {}
        self._traits_of = _traits_of(upstream)
        self._upstream = upstream
        self.allow = headers.Allow((*FORWARDED, *(name.encode() for name in upstream.allow)), FORWARDED_PREFIXES)

    async def signed(self, head: bytes, body: bytes, seconds: float) -> bytes:
        """A complete head with the headers that `signer` makes; waits `seconds` for its first token at most.

        Raises:
            UpstreamError: `upstream_auth_failed`; nothing was sent.
        """
        assert self.signer is not None
        proof = self.signer.current or await self.signer.first(seconds)
        return proof.sign(head, body)

    def price_for(self, model: str) -> Price | None:
        """What a call costs; `model` is the upstream's name where a wildcard left it to the call, else empty."""
        return look_up(self.prices, model) if model else self.price

    def traits(self, model: str) -> Traits:
        """What the upstream's `model` is like; found once a model."""
        found = self._traits.get(model)
        if found is None:
            if len(self._traits) >= MAX_TRAITS:
                self._traits.clear()
            found = self._traits[model] = self._traits_of(model)
        return found

    def head(self, dialect: str, model: str, forwarded: bytes, length: int, *, stream: bool = False) -> bytes:
        """A complete request head for a body of `length` bytes; `forwarded` are the caller's own header lines."""
        start = (self.stream_heads if stream else self.heads)[dialect]
        if not self.model:
            start = start.replace(b"{model}", quote(model, safe="").encode())
        return b"%b%bcontent-length: %d\r\n\r\n" % (start, forwarded, length)

    def passes(self, operation: str, model: str) -> str | None:
        """The path of an operation that is passed on without being understood; None where the vendor has none."""
        path = self._upstream.passes.get(operation)
        return None if path is None else path.replace("{model}", quote(self.model or model, safe=""))

    def keeps(self, path: str) -> str:
        """The vendor's path of something it keeps, by what follows the version in the caller's."""
        return self._upstream.keeps.replace("{path}", path)

    def keeps_response(self, ident: str, suffix: str) -> str:
        """The vendor's path of a response it keeps, or of something about it."""
        path, mark, query = self._upstream.paths["openai_responses"].partition("?")
        return f"{path}/{quote(ident, safe='')}{suffix}{mark}{query}"

    def opaque_head(self, method: str, path: str, forwarded: bytes, content_type: bytes, length: int) -> bytes:
        """A complete request head of any method and content; `length` -1: there is no body."""
        start = _start(self._upstream, path, method)
        typed = b"content-type: %b\r\n" % content_type if content_type else b""
        sized = b"content-length: %d\r\n" % length if length >= 0 else b""
        return b"%b%b%b%b\r\n" % (start, typed, forwarded, sized)


class Route:
    """A model and the ways to it. `takes_provider`: they all read the request's `provider` field themselves.

    `by_session`: who is asked hangs on which conversation it is. `falls_back`: other models may stand in.
    """

    __slots__ = (
        "_fixed",
        "_table",
        "by_session",
        "falls_back",
        "model",
        "name",
        "retries",
        "takes_provider",
        "timed",
        "timeouts",
        "ways",
    )

    def __init__(self, model: Model, ways: tuple[Way, ...], table: shared.Table | None = None) -> None:
        self.name = model.name
        self.model = model
        self.ways = ways
        self.timeouts: Timeouts = model.timeout
        self.takes_provider = all(way.kind == OPENROUTER for way in ways)
        self.falls_back = bool(model.fallback)
        self.by_session = model.balance == "sticky"
        self.timed = model.balance == "least_latency"
        for way in ways:
            way.alone = len(ways) == 1
        self.retries = model.retries if len(ways) > 1 or model.fallback else -1
        self._table = table
        self._fixed: choose.Tiers[Way] = choose.by_price(ways) if model.balance == "cheapest" else (ways,)

    def tiers(self, session: bytes) -> choose.Tiers[Way]:
        """The targets in the order in which they are to be asked. `session`: what `by_session` goes by."""
        if len(self.ways) > 1:
            if self.by_session:
                return choose.by_session(self.ways, session, _label)
            if self.timed:
                now = monotonic()
                # Shares load, guards nothing.
                rolls = random(), random()  # noqa: S311
                return choose.by_cost(self.ways, lambda way: way.latency.cost(now), rolls)
            if self.model.balance == "least_busy" and self._table is not None:
                return choose.by_load(self.ways, self._busy)
        return self._fixed

    def _busy(self, way: Way) -> float:
        assert self._table is not None
        return self._table.used(way.load, NO_WINDOWS) if way.load >= 0 else 0

    def deposit(self) -> None:
        """A call was made: a fifth of a retry more."""
        if self.retries >= 0 and self._table is not None:
            self._table.retry_deposit(self.retries)

    def may_retry(self) -> bool:
        """Whether the model's calls have a retry left among them all; it is then taken."""
        return self.retries < 0 or self._table is None or self._table.retry_withdraw(self.retries)


def _label(way: Way) -> str:
    return way.label


class Routes:
    """Every model of a plan, ready to be asked."""

    __slots__ = ("accounts", "exact", "wildcards")

    def __init__(self, plan: Plan, client: Client, table: shared.Table | None = None) -> None:
        pools = {name: client.pool(upstream.origin) for name, upstream in plan.upstreams.items()}
        signers = {
            name: client.vault.source(upstream.credential, name)
            for name, upstream in plan.upstreams.items()
            if upstream.credential is not None
        }

        def bind(model: Model) -> Route:
            return Route(model, tuple(way(model, target) for target in model.targets), table)

        def way(model: Model, target: Target) -> Way:
            prices = plan.prices.get(target.upstream, NO_PRICES)
            upstream, pool = plan.upstreams[target.upstream], pools[target.upstream]
            handles = Handles.find(plan.series, model.name, upstream.name, target.id)
            health = None
            if table is not None and target.breaker >= 0:
                opened = partial(client.count, handles.breaker_opened)
                health = Health(table, target.breaker, model.breaker, opened)
            return Way(model.name, target, upstream, pool, handles, prices, signers.get(target.upstream), health)

        self.exact = {name: bind(model) for name, model in plan.models.items()}
        self.wildcards = {name: bind(model) for name, model in plan.wildcards.items()}
        self.accounts = {name: bind(model) for name, model in plan.accounts.items()}

    def find(self, name: str) -> tuple[Route, str] | None:
        """The route for a client's model name and, for a wildcard, the upstream's name of the model ("" otherwise)."""
        route = self.exact.get(name)
        if route is not None:
            return route, ""
        # What goes into a path, a header and a record must be harmless in all of them.
        if not self.wildcards or len(name) > MAX_NAME or not name.isascii() or not name.isprintable():
            return None
        if DOTS & set(name.split("/")):
            return None
        prefix, slash, rest = name.partition("/")
        if slash and rest and (route := self.wildcards.get(prefix)) is not None:
            return route, rest
        bare = self.wildcards.get("*")
        return (bare, name) if bare is not None and name and not slash else None


def facts(model: str, provider: str, target: str) -> list[tuple[bytes, bytes]]:
    """The answer headers that tell who served a call."""
    return [
        (b"x-fastgw-cache", b"off"),
        (b"x-fastgw-model", model.encode()),
        (b"x-fastgw-provider", provider.encode()),
        (b"x-fastgw-target", target.encode()),
    ]


def _traits_of(upstream: Upstream) -> Callable[[str], Traits]:
    kind = PROVIDERS.get(upstream.kind)
    base, models, fix = (kind.quirks, kind.models, kind.fix_request) if kind else (vendors.NONE, {}, None)
    if not upstream.asks_usage:
        base = vendors.merge(base, NO_STREAM_OPTIONS)
    return lambda model: vendors.traits(base, models, upstream.quirks, model, fix)


def _head(upstream: Upstream, path: str, model: str) -> bytes:
    if model:
        path = path.replace("{model}", quote(model, safe=""))
    return _start(upstream, path, "POST") + b"content-type: application/json\r\n"


def _start(upstream: Upstream, path: str, method: str) -> bytes:
    origin = upstream.origin
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    if origin.port != (443 if origin.scheme == "https" else 80):
        host = f"{host}:{origin.port}"
    auth = f"{upstream.auth_header}: {upstream.auth_value}\r\n" if upstream.auth_value else ""
    extra = "".join(f"{name}: {value}\r\n" for name, value in upstream.headers.items())
    values = {"method": method, "path": path, "host": host, "auth": auth, "extra": extra}
    return START.format_map(values).encode("latin-1")
