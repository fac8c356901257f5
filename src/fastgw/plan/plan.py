"""The plan as the data plane reads it: frozen data, no behaviour, everything looked up and checked beforehand.

Prices are integer pico-dollars per token, limits are rules over slots of the shared table, durations are seconds.
A plan holds upstream credentials: it is written only to files of mode 0600 and never logged.
"""

from collections.abc import Iterator

from msgspec import Struct

from fastgw.plan.credentials import Credential
from fastgw.plan.edge import Edge
from fastgw.secret import veiled


class Timeouts(Struct, frozen=True):
    """Deadlines of one attempt, in seconds (`total` is that of the whole call)."""

    connect: float = 5.0
    first_token: float = 60.0
    idle: float = 60.0
    total: float = 600.0


class Origin(Struct, frozen=True):
    """Where connections of one pool go. Equal origins share a pool, also from one revision to the next."""

    scheme: str
    host: str
    port: int
    proxy: str | None = None
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    max_connections: int = 512
    queue: int = 1024
    queue_timeout: float = 5.0
    max_head: int = 32 * 1024
    max_body: int = 64 * 1024 * 1024

    def __repr__(self) -> str:
        return veiled(self, "proxy")


class Price(Struct, frozen=True):
    """Integer pico-dollars per token, by kind; `version` names the table it came from.

    `reasoning` None: what `output` costs. `request` is pico-dollars per request, beside its tokens.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    version: str = ""
    reasoning: int | None = None
    request: int = 0


class Rule(Struct, frozen=True, array_like=True):
    """One limit of `owner` (at `level`: key, model, gateway, target), counted in `slot` of the shared table.

    `kind` is `rate` (per s or min; `burst` units at once, as `interval_ns` and `tau_ns` have it), `window` (per hour,
    day, month of UTC, or in total) or `concurrent`; `unit` is requests, tokens, nano (nano-dollars) or calls. A `soft`
    one refuses nothing and is only told of.
    """

    level: str
    owner: str
    kind: str
    unit: str
    per: str
    limit: int
    burst: int = 0
    slot: int = -1
    interval_ns: int = 0
    tau_ns: int = 0
    soft: bool = False


class Quirks(Struct, frozen=True, omit_defaults=True):
    """Where a vendor's interface differs from its dialect, as data: edits of the top-level fields of what goes to it.

    In this order: `drop` leaves fields out, `rename` gives them another name, `clamp` keeps numbers within (low, high),
    `default` adds what is not there, `set` stands in any case. Values of `default` and `set` are raw JSON. `features`
    are the words that the dialects' writers know (`dialects.*.write`); one with a `-` before it takes a word away.
    """

    drop: tuple[str, ...] = ()
    rename: dict[str, str] = {}
    clamp: dict[str, tuple[float, float]] = {}
    default: dict[str, str] = {}
    set: dict[str, str] = {}
    features: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return veiled(self, "default", "set")


class Upstream(Struct, frozen=True):
    """A provider with everything resolved: where it is, how a request to it is signed, which headers may travel.

    `paths` maps the name of a dialect to a path template in which `{model}` is replaced: what it speaks, and where;
    `stream_paths` holds those that are others for streams.
    `auth_header` and `auth_value` are one request header; the value is a secret. `credential` is what makes such
    headers where no fixed one will do. `quirks` are the operator's own, which go over those of its kind. `passes` and
    `keeps` are paths for what is passed on without being understood: see `providers.surfaces`.
    """

    name: str
    kind: str
    origin: Origin
    paths: dict[str, str]
    stream_paths: dict[str, str] = {}
    asks_usage: bool = True
    auth_header: str = ""
    auth_value: str = ""
    headers: dict[str, str] = {}
    allow: tuple[str, ...] = ()
    region: str = ""
    quirks: Quirks = Quirks()
    credential: Credential | None = None
    passes: dict[str, str] = {}
    keeps: str = ""

    def __repr__(self) -> str:
        return veiled(self, "auth_value", "headers")


class Target(Struct, frozen=True):
    """One way to serve a model. `id` is `provider/upstream-model`.

    `drop` names request fields that may be left out where the provider cannot serve them; `max_output` is what is asked
    for where a provider demands a bound on its answer and the caller named none.

    An empty `model` stands for the part of the client's name that the wildcard matched. `breaker` is its word of the
    shared table, `load` that of the calls it serves now, where its model asks for it; -1 without.
    """

    id: str
    upstream: str
    model: str
    weight: int = 1
    priority: int = 1
    price: Price | None = None
    drop: frozenset[str] = frozenset()
    max_output: int = 4096
    rules: tuple[Rule, ...] = ()
    breaker: int = -1
    load: int = -1


class Breaker(Struct, frozen=True):
    """When a target is left alone: after `failures` in a row (0: never), for so many milliseconds."""

    failures: int = 5
    open_ms: int = 5_000


class Retry(Struct, frozen=True):
    """`attempts` in all; `on` names the error classes after which another target may be tried."""

    attempts: int = 3
    on: frozenset[str] = frozenset({"connect", "429", "503"})


class Model(Struct, frozen=True):
    """A name clients use; in `Plan.wildcards` one for all names that begin with `provider/`.

    `retries` is the slot of its retry account, -1 without; `fallback` names other models by the class of failure after
    which they are asked (`providers.failures.FALLBACKS`).
    """

    name: str
    targets: tuple[Target, ...]
    balance: str = "weighted"
    retry: Retry = Retry()
    timeout: Timeouts = Timeouts()
    rules: tuple[Rule, ...] = ()
    created: int = 0
    reserve_output: int = 1024
    allow_unpriced: bool = False
    breaker: Breaker = Breaker()
    retries: int = -1
    fallback: dict[str, tuple[str, ...]] = {}


class Key(Struct, frozen=True, array_like=True):
    """A caller's key, known by the keyed hash of its secret only.

    `models` None: every model. `patterns` are the prefixes of names given as `prefix*`. `aliases` are names that mean
    another for this key, `default_model` is meant where a request names none. `pass_through`: it may use what is kept
    at vendors (files, batches, ...), which all such keys share. `flag` is the slot of the shared table where a stored
    key is blocked for all workers at once, -1 for others. `allowed_ips` are networks from which alone it may be used.
    """

    name: str
    digest: bytes
    models: frozenset[str] | None = None
    patterns: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    expires: float | None = None
    blocked: bool = False
    prefix: str = ""
    aliases: dict[str, str] = {}
    default_model: str = ""
    pass_through: bool = False
    flag: int = -1
    allowed_ips: tuple[str, ...] = ()


class Keys:
    """The keys of a plan, wherever they lie: `plan.keyring` has them in memory and in files."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Key]:
        raise NotImplementedError

    def find(self, digest: bytes) -> Key | None:
        """The key whose secret has this digest (32 bytes)."""
        raise NotImplementedError


class Options(Struct, frozen=True):
    """What is set for the whole gateway. Sizes in bytes, times in seconds.

    `refuse_unrecorded`: a new call is refused while its record could not be written.
    """

    max_body: int = 32 * 1024 * 1024
    max_headers: int = 100
    max_header_bytes: int = 32 * 1024
    body_timeout: float = 30.0
    body_rate: int = 1024
    send_timeout: float = 60.0
    heartbeat: float = 15.0
    expose_facts: bool = True
    access_log: bool = True
    log_level: str = "info"
    segment_bytes: int = 8 * 1024 * 1024
    spool_cap: int = 1024 * 1024 * 1024
    records_keep_days: int = 30
    refuse_unrecorded: bool = False
    demo: bool = False


class Plan(Struct, frozen=True):
    """Everything the request path may look at, in one object that is swapped whole.

    `wildcards` are models by the prefix of the name before its first `/`; the one called `*` takes bare names.
    `series` maps every metric series to its counter in the shared table. `prices` are, by upstream, those of the models
    behind its wildcard, by the vendor's names of them. `aliases` and `default_model` are for all keys that have none.
    `accounts` are where things are kept: see `compile.accounts`.
    """

    revision: int
    pepper: bytes
    upstreams: dict[str, Upstream]
    models: dict[str, Model]
    wildcards: dict[str, Model]
    keys: Keys
    rules: tuple[Rule, ...]
    options: Options
    series: dict[str, int]
    prices: dict[str, dict[str, Price]] = {}
    aliases: dict[str, str] = {}
    default_model: str = ""
    accounts: dict[str, Model] = {}
    edge: Edge = Edge()

    def __repr__(self) -> str:
        return veiled(self, "pepper")
