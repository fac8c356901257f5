"""From what was written to what is read: every name looked up, every value checked, every failure here.

Compiling happens in the supervisor, never in a worker; a config that does not compile leaves the running plan alone.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from fastgw._core import headers as native
from fastgw._core import table as shared
from fastgw.plan import catalogue, prices, units
from fastgw.plan import config as written
from fastgw.plan.config import ConfigErrors
from fastgw.plan.egress import from_environment
from fastgw.plan.plan import (
    Key,
    Model,
    Options,
    Origin,
    Plan,
    Price,
    Retry,
    Rule,
    Target,
    Timeouts,
    Upstream,
)
from fastgw.plan.sources import Loaded, Sources, load, watched
from fastgw.policies.keys import digest
from fastgw.providers import PROVIDERS
from fastgw.providers.base import Provider
from fastgw.state.secrets import ensure_pepper, read_secret
from fastgw.state.table import compile_rate, slot_id
from fastgw.telemetry.metrics import SeriesRegistry
from fastgw.upstream.proxy import parse as parse_proxy

__all__ = ["ConfigErrors", "Sources", "build", "watched"]

T = TypeVar("T")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}")
NAME_RULE = "a name is 1 to 128 of A-Z a-z 0-9 . _ : @ / - and begins with a letter or digit"
HASH = re.compile(r"[0-9A-Fa-f]{64}")
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
RETRY_CLASSES = frozenset({"connect", "timeout", "5xx"})
LEVELS = frozenset({"debug", "info", "warning", "error"})
MIN_SECRET, MAX_SECRET = 8, 512
DEFAULT_OUTPUT = 4096
SECRET = re.compile(rf"[!-~]{{{MIN_SECRET},{MAX_SECRET}}}")
URL = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[!-~]*)?", re.IGNORECASE)
API_VERSION = re.compile(r"[A-Za-z0-9._-]*")
MAX_HEADERS = 10_000
DEFAULT_PORTS = {"http": 80, "https": 443}
NEVER_FORWARDED = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "authorization", "cookie", "x-api-key", "api-key"}
)
OURS = frozenset({"content-type", "accept-encoding"})


def build(sources: Sources, *, revision: int, table: shared.Table, registry: SeriesRegistry) -> Plan:
    """Compile everything the operator has said. Raises ConfigErrors with every error at once."""
    loaded = load(sources)
    pepper = bytes.fromhex(read_secret(ensure_pepper(sources.data_dir)))
    compiler = _Compiler(loaded, pepper, table, registry)
    plan = compiler.plan(revision, demo=sources.demo)
    if compiler.errors:
        raise ConfigErrors(compiler.errors)
    return plan


def check_stored(row: written.StoredKey) -> list[str]:
    """What is wrong with a key about to be stored; one that does not compile would hold up every later plan."""
    errors = []
    if not NAME.fullmatch(row.name):
        errors.append(NAME_RULE)
    if row.limits.burst is not None and (row.limits.requests is None or row.limits.burst < 1):
        errors.append("burst must be 1 or more and needs requests beside it")
    try:
        if row.limits.requests is not None:
            limit, period = units.rate(row.limits.requests)
            shared.Rules([(0, *compile_rate(limit, int(period), row.limits.burst))])
        if row.expires is not None:
            _epoch(row.expires)
    except ValueError as error:
        errors.append(str(error))
    return errors


class _Compiler:
    """One compilation; `errors` grows while it goes on, so that the operator sees all of them."""

    def __init__(self, loaded: Loaded, pepper: bytes, table: shared.Table, registry: SeriesRegistry) -> None:
        self.config = loaded.config
        self.loaded = loaded
        self.pepper = pepper
        self.table = table
        self.registry = registry
        self.errors: list[str] = []
        self.catalogue = self.attempt("catalogue", catalogue.book, loaded.catalogue, default=catalogue.shipped())

    def plan(self, revision: int, *, demo: bool) -> Plan:
        upstreams = {name: self.upstream(name, one) for name, one in self.config.providers.items()}
        known = {name: one for name, one in upstreams.items() if one is not None}
        models = {name: self.model(name, one) for name, one in self.config.models.items()}
        wildcards = self.wildcards()
        keys = self.keys({*models, *(one.name for one in wildcards.values())})
        options = self.options(demo=demo)
        rules = self.rules("gateway", "", self.config.limits, "limits")
        for model in (*models.values(), *wildcards.values()):
            for target in model.targets:
                self.registry.target(model.name, target.upstream, target.id)
        series = dict(self.registry.series)
        return Plan(
            revision, self.pepper, known, models, wildcards, keys, rules, options, series, self.price_lists(wildcards)
        )

    def attempt(self, path: str, convert: Callable[..., T], *values: object, default: T) -> T:
        """`convert(*values)`, its ValueError noted under `path`."""
        try:
            return convert(*values)
        except ValueError as error:
            self.errors.append(f"{path}: {error}")
            return default

    def upstream(self, name: str, one: written.Provider) -> Upstream | None:
        path = f"providers.{name}"
        kind = PROVIDERS.get(one.kind)
        self.check_name(path, name)
        if kind is None:
            self.errors.append(f"{path}.kind: unknown {one.kind!r}; known are {', '.join(PROVIDERS)}")
            return None
        if kind.key_required and not one.api_key:
            self.errors.append(f"{path}.api_key: missing; give it as ${{NAME}} or ${{file:PATH}}")
        place = self.base(path, one, kind)
        if place is None:
            return None
        origin, prefix = place
        version = one.api_version or kind.api_version
        if not API_VERSION.fullmatch(version):
            self.errors.append(f"{path}.api_version: must be letters, digits, dots and hyphens")
        self.check_headers(path, one)
        return Upstream(
            name=name,
            kind=one.kind,
            origin=origin,
            paths=_paths(prefix, kind.speaks, version),
            stream_paths=_paths(prefix, kind.stream_speaks, version),
            asks_usage=kind.asks_usage,
            auth_header=kind.auth_header if one.api_key else "",
            auth_value=f"{kind.auth_scheme} {one.api_key}".strip() if one.api_key else "",
            headers={**kind.headers, **one.headers},
            allow=(*kind.allow, *(header.lower() for header in one.allow_headers)),
            region=one.region,
        )

    def base(self, path: str, one: written.Provider, kind: Provider) -> tuple[Origin, str] | None:
        """The origin and path prefix of a provider's base URL; None (and an error) when it has no usable one."""
        url = one.base_url or kind.base_url
        if not url:
            self.errors.append(f"{path}.base_url: missing; {one.kind} has no fixed address")
            return None
        try:
            parts = urlsplit(url) if URL.fullmatch(url) else None
            port = (parts.port or DEFAULT_PORTS[parts.scheme]) if parts else 0
        except ValueError:
            parts, port = None, 0
        if parts is None or not port or not parts.hostname or parts.query or parts.fragment:
            self.errors.append(
                f"{path}.base_url: must be http(s)://host[:port][/path], without user, query or fragment"
            )
            return None
        # `proxy: ""` asks for a direct connection whatever the environment says.
        proxy = (
            one.proxy if one.proxy is not None else from_environment(self.loaded.environ, parts.scheme, parts.hostname)
        )
        if proxy:
            self.attempt(f"{path}.proxy", parse_proxy, proxy, default=None)
        if one.client_key is not None and one.client_cert is None:
            self.errors.append(f"{path}.client_key: needs `client_cert` beside it")
        for field in ("ca_file", "client_cert", "client_key"):
            file = getattr(one, field)
            if file is not None and not Path(file).is_file():
                self.errors.append(f"{path}.{field}: no such file: {file}")
        for field in ("max_connections", "queue"):
            if getattr(one, field) < 1:
                self.errors.append(f"{path}.{field}: must be 1 or more")
        origin = Origin(
            scheme=parts.scheme,
            host=parts.hostname,
            port=port,
            proxy=proxy or None,
            ca_file=one.ca_file,
            client_cert=one.client_cert,
            client_key=one.client_key,
            max_connections=one.max_connections,
            queue=one.queue,
            queue_timeout=self.attempt(f"{path}.queue_timeout", units.duration, one.queue_timeout, default=5.0),
        )
        return origin, parts.path.rstrip("/")

    def check_headers(self, path: str, one: written.Provider) -> None:
        for name in one.allow_headers:
            if not _may_travel(name):
                self.errors.append(f"{path}.allow_headers: {name!r} may not be forwarded")
        for name, value in one.headers.items():
            if not _may_travel(name) or name.lower() in OURS:
                self.errors.append(f"{path}.headers: {name!r} may not be set here")
            self.check_header_value(f"{path}.headers.{name}", value)
        if one.api_key:
            self.check_header_value(f"{path}.api_key", one.api_key)

    def check_header_value(self, path: str, value: str) -> None:
        """The value itself is never shown: it may be a secret."""
        if not value.isascii() or not value.isprintable() or value != value.strip():
            self.errors.append(
                f"{path}: must be printable ASCII without spaces at its ends (a line break in the file?)"
            )

    def check_name(self, path: str, name: str) -> None:
        if not NAME.fullmatch(name):
            self.errors.append(f"{path}: {NAME_RULE}")

    def model(self, name: str, one: written.Model) -> Model:
        path = f"models.{name}"
        self.check_name(path, name)
        if not one.targets:
            self.errors.append(f"{path}.targets: needs one target or more")
        if one.balance not in ("weighted", "priority"):
            self.errors.append(f"{path}.balance: {one.balance!r} is not built yet; weighted and priority are")
        return Model(
            name=name,
            targets=tuple(self.target(f"{path}.targets[{i}]", target) for i, target in enumerate(one.targets)),
            balance=one.balance,
            retry=self.retry(f"{path}.retry", one.retry),
            timeout=self.timeouts(f"{path}.timeout", one.timeout),
            rules=self.rules("model", name, one.limits, f"{path}.limits"),
        )

    def target(self, path: str, one: written.Target) -> Target:
        if one.provider not in self.config.providers:
            known = ", ".join(self.config.providers) or "none is defined"
            self.errors.append(f"{path}.provider: unknown {one.provider!r}; known: {known}")
        if not one.model.isascii() or not one.model.isprintable() or not 0 < len(one.model) <= 256:
            self.errors.append(f"{path}.model: must be 1 to 256 printable ASCII characters")
        if not 0 <= one.weight <= 1_000_000:
            self.errors.append(f"{path}.weight: must be 0 to 1,000,000")
        price = self.price(f"{path}.price", one.price) if one.price is not None else self.listed(one)
        if one.max_output is not None and one.max_output < 1:
            self.errors.append(f"{path}.max_output: must be 1 or more")
        return Target(
            f"{one.provider}/{one.model}",
            one.provider,
            one.model,
            one.weight,
            one.priority,
            price,
            frozenset(one.drop),
            one.max_output or self.listed_output(one) or DEFAULT_OUTPUT,
        )

    def listed(self, one: written.Target) -> Price | None:
        """What the catalogue says a target costs; None where it has no price."""
        provider = self.config.providers.get(one.provider)
        return None if provider is None else self.catalogue.price_of(provider.kind, one.model)

    def listed_output(self, one: written.Target) -> int:
        """The longest answer the catalogue knows a target to give, in tokens; 0 where it does not know."""
        provider = self.config.providers.get(one.provider)
        found = None if provider is None else self.catalogue.find(provider.kind, one.model)
        return 0 if found is None else found.entry.max_output

    def price(self, path: str, one: written.Price) -> Price:
        def pico(field: str, value: float | str) -> int:
            return self.attempt(f"{path}.{field}", prices.per_million, value, default=0)

        plain = pico("input", one.input)
        return Price(
            input=plain,
            output=pico("output", one.output),
            cached=plain if one.cached is None else pico("cached", one.cached),
            cache_write=plain if one.cache_write is None else pico("cache_write", one.cache_write),
            version="config",
            reasoning=None if one.reasoning is None else pico("reasoning", one.reasoning),
        )

    def retry(self, path: str, one: written.Retry) -> Retry:
        if not 1 <= one.attempts <= 10:
            self.errors.append(f"{path}.attempts: must be 1 to 10, the first attempt included")
        classes = [str(item) for item in one.on]
        for item in classes:
            if item not in RETRY_CLASSES and not (item.isdigit() and 400 <= int(item) <= 599):
                self.errors.append(f"{path}.on: {item!r} is none of connect, timeout, 5xx or a status from 400 to 599")
        return Retry(one.attempts, frozenset(classes))

    def timeouts(self, path: str, one: written.Timeout) -> Timeouts:
        def seconds(field: str) -> float:
            return self.attempt(f"{path}.{field}", units.duration, getattr(one, field), default=1.0)

        return Timeouts(seconds("connect"), seconds("first_token"), seconds("idle"), seconds("total"))

    def rules(self, level: str, owner: str, one: written.Limits, path: str) -> tuple[Rule, ...]:
        if one.requests is None:
            if one.burst is not None:
                self.errors.append(f"{path}.burst: needs `requests` beside it")
            return ()
        limit, period = self.attempt(f"{path}.requests", units.rate, one.requests, default=(1, 1.0))
        burst = max(1, ceil(limit / 10)) if one.burst is None else one.burst
        if burst < 1:
            self.errors.append(f"{path}.burst: must be 1 or more")
            return ()
        interval, tau = self.attempt(path, compile_rate, limit, int(period), burst, default=(1, 0))
        try:
            shared.Rules([(0, interval, tau)])
            slot = self.table.slot(slot_id(level, owner, "rate", "requests", f"{int(period)}s"))
        except ValueError:
            self.errors.append(f"{path}.burst: {burst} is too large for {limit} requests per {int(period)} s")
            return ()
        except shared.TableError as error:
            self.errors.append(f"{path}: no room for another limit: {error}")
            return ()
        return (Rule(level, owner, limit, period, burst, slot, interval, tau),)

    def wildcards(self) -> dict[str, Model]:
        """From the environment alone: `provider/any-model`, and bare names when there is one provider."""
        kinds = self.loaded.wildcard_kinds
        names = [*kinds, *(["*"] if len(kinds) == 1 else [])]
        return {
            name: Model(
                name="*" if name == "*" else f"{name}/*",
                targets=(Target(f"{kinds[0] if name == '*' else name}/*", kinds[0] if name == "*" else name, ""),),
            )
            for name in names
        }

    def price_lists(self, wildcards: dict[str, Model]) -> dict[str, dict[str, Price]]:
        """Behind a wildcard a model is known only when it is asked for, so all that its kind sells comes along."""
        upstreams = {target.upstream for model in wildcards.values() for target in model.targets}
        lists = {name: self.catalogue.price_list(self.config.providers[name].kind) for name in sorted(upstreams)}
        return {name: found for name, found in lists.items() if found}

    def keys(self, models: set[str]) -> tuple[Key, ...]:
        keys: list[Key] = []
        places: dict[str, str] = {}
        digests: set[bytes] = set()
        for index, one in enumerate(self.config.keys):
            path = f"keys[{index}]"
            if not SECRET.fullmatch(one.secret):
                self.errors.append(
                    f"{path}.secret: must be {MIN_SECRET} to {MAX_SECRET} ASCII characters without spaces"
                )
            keys.append(self.key(path, one, digest(one.secret.encode(), self.pepper), models))
        for path, row in self.loaded.stored:
            keys.append(self.key(path, row, self.stored_digest(path, row), models))
        for place, key in zip(
            (*(f"keys[{i}]" for i in range(len(self.config.keys))), *(p for p, _ in self.loaded.stored)),
            keys,
            strict=True,
        ):
            if key.name in places:
                self.errors.append(f"{place}.name: {key.name!r} is already the name of {places[key.name]}")
            elif key.digest and key.digest in digests:
                self.errors.append(f"{place}: has the same secret as another key")
            places[key.name] = place
            digests.add(key.digest)
        return tuple(keys)

    def stored_digest(self, path: str, row: written.StoredKey) -> bytes:
        if not HASH.fullmatch(row.hash):
            self.errors.append(f"{path}.hash: must be 64 hexadecimal digits")
            return b""
        return bytes.fromhex(row.hash)

    def key(self, path: str, one: written.Key | written.StoredKey, hashed: bytes, models: set[str]) -> Key:
        self.check_name(f"{path}.name", one.name)
        exact, patterns = self.access(f"{path}.models", one.models, models, strict=isinstance(one, written.Key))
        expires = None
        if one.expires is not None:
            expires = self.attempt(f"{path}.expires", _epoch, one.expires, default=0.0)
        return Key(
            name=one.name,
            digest=hashed,
            models=exact,
            patterns=patterns,
            rules=self.rules("key", one.name, one.limits, f"{path}.limits"),
            expires=expires,
            blocked=one.blocked,
            prefix=one.prefix if isinstance(one, written.StoredKey) else "",
        )

    def access(
        self, path: str, names: list[str] | None, models: set[str], *, strict: bool
    ) -> tuple[frozenset[str] | None, tuple[str, ...]]:
        if names is None or "*" in names:
            return None, ()
        patterns = tuple(name[:-1] for name in names if name.endswith("*"))
        exact = frozenset(name for name in names if not name.endswith("*"))
        # A name below a wildcard model (openai/gpt-4o) stands in no list of models. A stored key may name a model that
        # the config has since lost: it opens nothing, and must not stand in the way of every later config.
        for name in sorted(exact - models) if strict else ():
            if f"{name.partition('/')[0]}/*" not in models and "*" not in models:
                self.errors.append(f"{path}: unknown model {name!r}; known: {', '.join(sorted(models)) or 'none'}")
        return exact, patterns

    def options(self, *, demo: bool) -> Options:
        bounds, records, log = self.config.bounds, self.config.records, self.config.log
        if log.level not in LEVELS:
            self.errors.append(f"log.level: {log.level!r} is none of {', '.join(sorted(LEVELS))}")

        if not 1 <= bounds.headers <= MAX_HEADERS:
            self.errors.append(f"bounds.headers: must be 1 to {MAX_HEADERS}")

        def size(path: str, text: str) -> int:
            return self.attempt(path, units.size, text, default=1)

        segment = size("records.segment", records.segment)
        return Options(
            max_body=size("bounds.body", bounds.body),
            max_headers=bounds.headers,
            max_header_bytes=size("bounds.header_bytes", bounds.header_bytes),
            body_timeout=self.attempt("bounds.body_timeout", units.duration, bounds.body_timeout, default=1.0),
            body_rate=size("bounds.body_rate", bounds.body_rate),
            heartbeat=self.attempt("bounds.heartbeat", units.duration, bounds.heartbeat, default=1.0),
            expose_facts=self.config.expose_facts,
            access_log=log.access,
            log_level=log.level,
            segment_bytes=max(65536, segment // 4096 * 4096),
            spool_cap=size("records.spool_cap", records.spool_cap),
            demo=demo,
        )


def _may_travel(name: str) -> bool:
    """Whether a header of this name may be sent to an upstream beside those the gateway makes itself."""
    if not HEADER_NAME.fullmatch(name) or name.lower() in NEVER_FORWARDED:
        return False
    try:
        native.Allow((name.encode(),))
    except ValueError:
        return False
    return True


def _paths(prefix: str, speaks: dict[str, str], version: str) -> dict[str, str]:
    return {dialect: prefix + template.replace("{api_version}", version) for dialect, template in speaks.items()}


def _epoch(text: str) -> float:
    """An ISO 8601 time as seconds since the epoch; a time without a zone is UTC. Raises ValueError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an ISO 8601 time like 2027-01-31T00:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
