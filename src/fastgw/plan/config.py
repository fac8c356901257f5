"""The config as an operator writes it; what is not built yet is refused by name. `parse` reads it, `decode` checks."""

from typing import Any, ClassVar

from fastgw.plan.decode import Section
from fastgw.secret import veiled


class Limits(Section, frozen=True):
    """`requests` and `tokens` are `600/min`, `20/s`, `10000/day`, ..., or several of these; budgets `10.00/month`.

    `burst` is how many requests per second or minute may come at once (a tenth by default), `concurrent` how many calls
    may run at once. A soft budget refuses nothing: answers and metrics tell that it is used up.
    """

    requests: str | list[str] | None = None
    burst: int | None = None
    tokens: str | list[str] | None = None
    concurrent: int | None = None
    budget: str | list[str] | None = None
    soft_budget: str | list[str] | None = None


class Quirks(Section, frozen=True):
    """Where a server differs from its dialect: edits of the top-level fields of what is sent to it, in this order.

    `features` are words that the writers of its dialect know; `-word` takes one away that its kind has.
    """

    drop: list[str] = []
    rename: dict[str, str] = {}
    clamp: dict[str, tuple[float, float]] = {}
    default: dict[str, Any] = {}
    set: dict[str, Any] = {}
    features: list[str] = []

    def __repr__(self) -> str:
        return veiled(self, "default", "set")


class AwsAuth(Section, frozen=True, tag_field="scheme", tag="aws"):
    """Requests signed for AWS (Signature Version 4). Without keys or a profile: where AWS's own tools would look."""

    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    profile: str = ""
    region: str = ""
    service: str = "bedrock"

    def __repr__(self) -> str:
        return veiled(self, "secret_access_key", "session_token")


class GoogleAuth(Section, frozen=True, tag_field="scheme", tag="google"):
    """Google Cloud's tokens. Without a file: where Google's own tools would look (the environment, the metadata)."""

    credentials_file: str | None = None


class AzureAdAuth(Section, frozen=True, tag_field="scheme", tag="azure_ad"):
    """Tokens of Microsoft Entra ID, for an application (by its secret, certificate or federation) or an identity."""

    tenant_id: str = ""
    client_id: str = ""
    client_secret: str = ""
    certificate_file: str | None = None
    federated_token_file: str | None = None
    managed_identity: bool = False
    scope: str = "https://cognitiveservices.azure.com/.default"
    authority: str = "https://login.microsoftonline.com"

    def __repr__(self) -> str:
        return veiled(self, "client_secret")


class IbmAuth(Section, frozen=True, tag_field="scheme", tag="ibm"):
    """IBM Cloud's tokens, for an API key."""

    api_key: str
    url: str = "https://iam.cloud.ibm.com/identity/token"

    def __repr__(self) -> str:
        return veiled(self, "api_key")


class Provider(Section, frozen=True):
    """An account at a vendor. `allow_headers` lists further request headers of callers that may travel to it.

    `api_keys` are several instead of one `api_key`: calls are shared out, and one that is refused rests by itself.
    `pass_through` names families of paths about things the vendor keeps (files, batches, ...) that are passed on to it.
    """

    kind: str
    base_url: str | None = None
    api_key: str | None = None
    api_keys: list[str] = []
    api_version: str | None = None
    region: str = ""
    headers: dict[str, str] = {}
    allow_headers: list[str] = []
    proxy: str | None = None
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    max_connections: int = 512
    queue: int = 1024
    queue_timeout: str = "5s"
    pass_through: list[str] = []
    quirks: Quirks = Quirks()
    auth: AwsAuth | GoogleAuth | AzureAdAuth | IbmAuth | None = None
    project: str = ""
    location: str = ""

    def __repr__(self) -> str:
        return veiled(self, "api_key", "api_keys", "headers", "proxy")


class Price(Section, frozen=True):
    """Dollars per million tokens. `cached` and `cache_write` default to `input`, `reasoning` to `output`.

    `request` is dollars per request, beside its tokens. `force` lets a price stand that is far from the catalogue's.
    """

    input: float | str
    output: float | str
    cached: float | str | None = None
    cache_write: float | str | None = None
    reasoning: float | str | None = None
    request: float | str | None = None
    force: bool = False


class Target(Section, frozen=True):
    """One way to serve a model; lower `priority` first, `weight` shares within a priority.

    `drop` lists request fields that may be left out where the provider cannot serve them (`*`: any); `max_output` is
    what is asked for where the provider demands a bound and the caller named none.
    """

    provider: str
    model: str
    weight: int = 1
    priority: int = 1
    price: Price | None = None
    drop: list[str] = []
    max_output: int | None = None
    limits: Limits = Limits()


class Retry(Section, frozen=True):
    """`attempts` in all; `on`: connect, timeout, 5xx, or a status like 429."""

    attempts: int = 3
    on: tuple[str | int, ...] = ("connect", 429, 503)


class Breaker(Section, frozen=True):
    """After so many `failures` in a row (0: never) a target is left alone for `open`; then one call tries it."""

    failures: int = 5
    open: str = "5s"


class Timeout(Section, frozen=True):
    """Durations like `5s`, `250ms`, `10m`."""

    connect: str = "5s"
    first_token: str = "60s"  # noqa: S105 - no password
    idle: str = "60s"
    total: str = "600s"


class Model(Section, frozen=True):
    """A name clients use and the targets behind it.

    `balance`: weighted, priority, least_busy, least_latency, cheapest or sticky. `fallback` names other models that are
    asked when no target can serve: a list for outages and rate limits, or lists by class (outage, rate, context,
    policy).
    `reserve_output` is what limits on tokens and money hold back for an answer that the caller set no bound to;
    `allow_unpriced` lets a target without a price serve callers that have a budget.
    """

    not_built: ClassVar[frozenset[str]] = frozenset({"cache"})
    targets: list[Target]
    balance: str = "weighted"
    fallback: list[str] | dict[str, list[str]] = []
    breaker: Breaker | None = None
    retry: Retry = Retry()
    timeout: Timeout = Timeout()
    limits: Limits = Limits()
    reserve_output: int = 1024
    allow_unpriced: bool = False


class Key(Section, frozen=True):
    """A caller's key; `models` are names or prefixes like `openai/*`, all when absent; `expires` an ISO 8601 time.

    `aliases` are names of its own for models, `default_model` what it means by no name at all; `allowed_ips` are the
    networks from which it may be used.
    """

    not_built: ClassVar[frozenset[str]] = frozenset({"tags"})
    name: str
    secret: str
    models: list[str] | None = None
    limits: Limits = Limits()
    expires: str | None = None
    blocked: bool = False
    pass_through: bool = False
    aliases: dict[str, str] = {}
    default_model: str | None = None
    allowed_ips: list[str] = []

    def __repr__(self) -> str:
        return veiled(self, "secret")


class StoredKey(Section, frozen=True):
    """A row of `keys.jsonl`: as `Key`, with the keyed hash of the secret (hex) in its place."""

    name: str
    hash: str
    prefix: str = ""
    models: list[str] | None = None
    limits: Limits = Limits()
    expires: str | None = None
    blocked: bool = False
    pass_through: bool = False
    created: str = ""
    aliases: dict[str, str] = {}
    default_model: str | None = None
    allowed_ips: list[str] = []


class Records(Section, frozen=True):
    """Where records go until they are read: `spool_cap` bounds the disk they take; `keep` bounds the exports' age.

    `when_full` is `shed` (calls go on, records are lost and counted) or `refuse` (no call without its record).
    """

    not_built: ClassVar[frozenset[str]] = frozenset({"payloads"})
    spool_cap: str = "1GiB"
    when_full: str = "shed"
    segment: str = "8MiB"
    keep: str = "30d"


class Log(Section, frozen=True):
    """`level`: debug, info, warning, error; `access`: one line a call."""

    level: str = "info"
    access: bool = True


class Bounds(Section, frozen=True):
    """Caps on what a caller may send."""

    body: str = "32MiB"
    headers: int = 100
    header_bytes: str = "32KiB"
    body_timeout: str = "30s"
    body_rate: str = "1KiB"
    send_timeout: str = "60s"
    heartbeat: str = "15s"


class Tls(Section, frozen=True):
    """Files (PEM) that are served with. With `client_ca` only clients that show a certificate of it are served."""

    cert: str
    key: str
    min_version: str = "1.2"
    client_ca: str | None = None


class Listen(Section, frozen=True):
    """How the TCP listeners speak; the unix socket is always in the clear. `http2`: beside HTTP/1.1."""

    tls: Tls | None = None
    http2: bool = False


class Cors(Section, frozen=True):
    """Which web pages may call from a browser: `origins` like `https://app.example.com`, or `*`.

    `headers` are those that a page may send, any when left out; `max_age` is how many seconds a browser remembers.
    """

    origins: list[str]
    headers: list[str] = []
    max_age: int = 600


class Overload(Section, frozen=True):
    """When a worker takes no new calls: `memory` is a size or a part of its share (`85%`), `lag` that of its loop."""

    memory: str = "85%"
    lag: str = "off"


class Config(Section, frozen=True):
    """The whole file. `wildcards`: providers of which every model has the name `provider/model`; all by default."""

    not_built: ClassVar[frozenset[str]] = frozenset({"cache", "tenants", "guards", "routes"})
    providers: dict[str, Provider] = {}
    models: dict[str, Model] = {}
    keys: list[Key] = []
    keys_file: str | None = None
    catalogue: str | None = None
    limits: Limits = Limits()
    records: Records = Records()
    log: Log = Log()
    bounds: Bounds = Bounds()
    expose_facts: bool = True
    wildcards: bool | list[str] = True
    aliases: dict[str, str] = {}
    default_model: str | None = None
    listen: Listen = Listen()
    trusted_proxies: list[str] = []
    allow: list[str] = []
    deny: list[str] = []
    cors: Cors | None = None
    watchdog: str = "15s"
    overload: Overload = Overload()
