"""From what was written to what is read: every name looked up, every value checked, every failure here.

Compiling happens in the supervisor, never in a worker; a config that does not compile leaves the running plan alone.
"""

from fastgw._core import table as shared
from fastgw.plan import config as written
from fastgw.plan import units
from fastgw.plan.compile import accounts, edge, keys, limits, models, names, providers
from fastgw.plan.compile.context import NAME, NAME_RULE, Context
from fastgw.plan.decode import ConfigErrors
from fastgw.plan.plan import (
    Options,
    Plan,
)
from fastgw.plan.sources import Sources, load, watched
from fastgw.state.secrets import ensure_pepper, read_secret
from fastgw.telemetry.metrics import SeriesRegistry

__all__ = ["ConfigErrors", "Sources", "build", "watched"]

LEVELS = frozenset({"debug", "info", "warning", "error"})
MAX_HEADERS = 10_000
LEAST_SEGMENTS, LEAST_MORE = 8, 1024 * 1024
"""Two workers with two segments each, as many that wait to be read, and the node's own: with less, calls would be
refused at rest."""


def build(sources: Sources, *, revision: int, table: shared.Table, registry: SeriesRegistry) -> Plan:
    """Compile everything the operator has said. Raises ConfigErrors with every error at once."""
    loaded = load(sources)
    pepper = bytes.fromhex(read_secret(ensure_pepper(sources.data_dir)))
    context = Context(loaded, pepper, table)
    plan = _plan(context, registry, revision, demo=sources.demo)
    if context.errors:
        raise ConfigErrors(context.errors)
    return plan


def check_stored(row: written.StoredKey) -> list[str]:
    """What is wrong with a key about to be stored; one that does not compile would hold up every later plan."""
    errors = []
    if not NAME.fullmatch(row.name):
        errors.append(NAME_RULE)
    errors += [f"limits{error}" for error in limits.draft(row.limits)[1]]
    try:
        if row.expires is not None:
            keys.epoch(row.expires)
    except ValueError as error:
        errors.append(str(error))
    return errors


def _plan(context: Context, registry: SeriesRegistry, revision: int, *, demo: bool) -> Plan:
    known = dict(
        made for name, one in context.config.providers.items() for made in providers.upstreams(context, name, one)
    )
    served = {name: models.model(context, name, one) for name, one in context.config.models.items()}
    wildcards = models.wildcards(context)
    known_names = names.compiled(context, served, wildcards)
    aliases = known_names.aliases(context, "aliases", context.config.aliases, strict=True)
    default = known_names.default(context, "default_model", context.config.default_model, {}, strict=True)
    compiled = keys.keys(context, known_names)
    options = _options(context, demo=demo)
    gateway = limits.rules(context, "gateway", "", context.config.limits, "limits")
    kept = accounts.accounts(context, {name: one for name, one in known.items() if "#" not in name})
    for model in (*served.values(), *wildcards.values(), *kept.values()):
        for target in model.targets:
            registry.target(model.name, target.upstream.partition("#")[0], target.id)
    series = dict(registry.series)
    return Plan(
        revision,
        context.pepper,
        known,
        served,
        wildcards,
        compiled,
        gateway,
        options,
        series,
        models.price_lists(context, wildcards),
        aliases,
        default,
        kept,
        edge.edge(context, keyed=any(key.allowed_ips for key in compiled)),
    )


def _options(context: Context, *, demo: bool) -> Options:
    bounds, records, log = context.config.bounds, context.config.records, context.config.log
    if log.level not in LEVELS:
        context.errors.append(f"log.level: {log.level!r} is none of {', '.join(sorted(LEVELS))}")

    if not 1 <= bounds.headers <= MAX_HEADERS:
        context.errors.append(f"bounds.headers: must be 1 to {MAX_HEADERS}")

    def size(path: str, text: str) -> int:
        return context.attempt(path, units.size, text, default=1)

    segment = max(65536, size("records.segment", records.segment) // 4096 * 4096)
    cap = size("records.spool_cap", records.spool_cap)
    _check_records(context, records, segment, cap)
    return Options(
        max_body=size("bounds.body", bounds.body),
        max_headers=bounds.headers,
        max_header_bytes=size("bounds.header_bytes", bounds.header_bytes),
        body_timeout=context.attempt("bounds.body_timeout", units.duration, bounds.body_timeout, default=1.0),
        body_rate=size("bounds.body_rate", bounds.body_rate),
        send_timeout=context.attempt("bounds.send_timeout", units.duration, bounds.send_timeout, default=1.0),
        heartbeat=context.attempt("bounds.heartbeat", units.duration, bounds.heartbeat, default=1.0),
        expose_facts=context.config.expose_facts,
        access_log=log.access,
        log_level=log.level,
        segment_bytes=segment,
        spool_cap=cap,
        records_keep_days=context.attempt("records.keep", units.days, records.keep, default=1),
        refuse_unrecorded=records.when_full == "refuse",
        demo=demo,
    )


def _check_records(context: Context, records: written.Records, segment: int, cap: int) -> None:
    if records.when_full not in ("shed", "refuse"):
        context.errors.append(f"records.when_full: {records.when_full!r} is neither shed nor refuse")
    least = LEAST_SEGMENTS * segment + LEAST_MORE
    if records.when_full == "refuse" and cap < least:
        rule = f"{LEAST_SEGMENTS} of records.segment and 1 MiB ({least} bytes)"
        context.errors.append(f"records.spool_cap: with when_full refuse it must hold {rule}; raise it")
