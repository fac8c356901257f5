"""The plan's models bound to this worker's connection pools: what is asked where, with which head."""

from collections.abc import Mapping
from urllib.parse import quote

from fastgw._core import headers
from fastgw.dialects.registry import CODECS
from fastgw.plan.plan import Model, Plan, Price, Target, Timeouts, Upstream
from fastgw.plan.prices import look_up
from fastgw.telemetry.metrics import Handles
from fastgw.upstream.client import Client, Pool

HEAD = (
    "POST {path} HTTP/1.1\r\nhost: {host}\r\n{auth}{extra}"
    "accept-encoding: identity\r\ncontent-type: application/json\r\n"
)
MAX_NAME = 256
DOTS = frozenset({".", "..", ""})
"""Segments that would change a path the name becomes part of."""
NO_PRICES: Mapping[str, Price] = {}
FORWARDED = (b"accept", b"user-agent", b"idempotency-key", b"openai-beta")
FORWARDED_PREFIXES = (b"x-stainless-",)


class Way:
    """A target with its pool: everything of a request to it that does not change from call to call.

    `heads` maps a dialect's name to the start of the request head; it still holds `{model}` where the upstream's model
    is part of the path and not known before the call (a wildcard). `prices` are those of the models behind a wildcard.
    `translated` is the dialect that callers of another one are translated to, "" when there is none.
    """

    __slots__ = (
        "allow",
        "asks_usage",
        "drop",
        "facts",
        "handles",
        "heads",
        "max_output",
        "model",
        "name",
        "pool",
        "price",
        "prices",
        "priority",
        "provider",
        "secret",
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
    ) -> None:
        self.name = target.id
        self.provider = upstream.name
        self.model = target.model
        self.weight = target.weight
        self.priority = target.priority
        self.price: Price | None = target.price
        self.prices = prices
        self.handles = handles
        self.facts = facts(name, upstream.name, target.id)
        self.pool = pool
        self.secret = upstream.auth_value.rpartition(" ")[2].encode()
        self.heads = {dialect: _head(upstream, path, target.model) for dialect, path in upstream.paths.items()}
        self.stream_heads = {
            **self.heads,
            **{dialect: _head(upstream, path, target.model) for dialect, path in upstream.stream_paths.items()},
        }
        self.translated = next((name for name in CODECS if name in self.heads), "")
        self.asks_usage = upstream.asks_usage
        self.drop = target.drop
        self.max_output = target.max_output
        self.allow = headers.Allow((*FORWARDED, *(name.encode() for name in upstream.allow)), FORWARDED_PREFIXES)

    def price_for(self, model: str) -> Price | None:
        """What a call costs; `model` is the upstream's name where a wildcard left it to the call, else empty."""
        return look_up(self.prices, model) if model else self.price

    def head(self, dialect: str, model: str, forwarded: bytes, length: int, *, stream: bool = False) -> bytes:
        """A complete request head for a body of `length` bytes; `forwarded` are the caller's own header lines."""
        start = (self.stream_heads if stream else self.heads)[dialect]
        if not self.model:
            start = start.replace(b"{model}", quote(model, safe="").encode())
        return b"%b%bcontent-length: %d\r\n\r\n" % (start, forwarded, length)


class Route:
    """A model and the ways to it."""

    __slots__ = ("model", "name", "timeouts", "ways")

    def __init__(self, model: Model, ways: tuple[Way, ...]) -> None:
        self.name = model.name
        self.model = model
        self.ways = ways
        self.timeouts: Timeouts = model.timeout


class Routes:
    """Every model of a plan, ready to be asked."""

    __slots__ = ("exact", "wildcards")

    def __init__(self, plan: Plan, client: Client) -> None:
        pools = {name: client.pool(upstream.origin) for name, upstream in plan.upstreams.items()}

        def bind(model: Model) -> Route:
            return Route(model, tuple(way(model, target) for target in model.targets))

        def way(model: Model, target: Target) -> Way:
            handles = Handles.find(plan.series, model.name, target.upstream, target.id)
            prices = plan.prices.get(target.upstream, NO_PRICES)
            return Way(model.name, target, plan.upstreams[target.upstream], pools[target.upstream], handles, prices)

        self.exact = {name: bind(model) for name, model in plan.models.items()}
        self.wildcards = {name: bind(model) for name, model in plan.wildcards.items()}

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


def _head(upstream: Upstream, path: str, model: str) -> bytes:
    origin = upstream.origin
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    if origin.port != (443 if origin.scheme == "https" else 80):
        host = f"{host}:{origin.port}"
    if model:
        path = path.replace("{model}", quote(model, safe=""))
    auth = f"{upstream.auth_header}: {upstream.auth_value}\r\n" if upstream.auth_value else ""
    extra = "".join(f"{name}: {value}\r\n" for name, value in upstream.headers.items())
    return HEAD.format_map({"path": path, "host": host, "auth": auth, "extra": extra}).encode("latin-1")
