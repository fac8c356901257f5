"""Models and their targets: names, prices, retries, deadlines."""

from math import lcm

from msgspec.structs import replace

from fastgw._core import table
from fastgw.plan import config as written
from fastgw.plan import prices, units
from fastgw.plan.compile.context import Context
from fastgw.plan.compile.limits import MAX_CONCURRENT, rules
from fastgw.plan.plan import Breaker, Model, Price, Retry, Rule, Target, Timeouts
from fastgw.providers.failures import FALLBACKS
from fastgw.state.table import slot_id

BALANCES = ("weighted", "priority", "least_busy", "least_latency", "cheapest", "sticky")
MAX_FAILURES = 1000
ALONE = Breaker(failures=20, open_ms=1_000)
"""The breaker of a target that has no other beside it."""
BREAKER, RETRIES, LOAD = bytes([table.BREAKER]), bytes([table.RETRY]), bytes([table.CONCURRENT])
RETRY_CLASSES = frozenset({"connect", "timeout", "reset", "5xx"})
DEFAULT_OUTPUT = 4096
MAX_RESERVE = 10_000_000
FAR_OFF = 100
"""A price that is this many times another's is more likely dollars per token, or per thousand, than a price."""


def model(context: Context, name: str, one: written.Model) -> Model:
    path = f"models.{name}"
    context.check_name(path, name)
    if not one.targets:
        context.errors.append(f"{path}.targets: needs one target or more")
    if one.balance not in BALANCES:
        context.errors.append(f"{path}.balance: {one.balance!r} is none of {', '.join(BALANCES)}")
    if not 1 <= one.reserve_output <= MAX_RESERVE:
        context.errors.append(f"{path}.reserve_output: must be 1 to {MAX_RESERVE:,} tokens")
    return Model(
        name=name,
        targets=_targets(context, path, one),
        balance=one.balance,
        retry=retry(context, f"{path}.retry", one.retry),
        timeout=timeouts(context, f"{path}.timeout", one.timeout),
        rules=rules(context, "model", name, one.limits, f"{path}.limits"),
        reserve_output=one.reserve_output,
        allow_unpriced=one.allow_unpriced,
        breaker=_breaker(context, f"{path}.breaker", one),
        retries=_slot(context, path, RETRIES, "model", name, "retries"),
        fallback=_fallback(context, f"{path}.fallback", name, one),
    )


def _slot(context: Context, path: str, kind: bytes, level: str, owner: str, what: str) -> int:
    return context.slots(path, slot_id(level, owner, what, "", ""), kind)[0]


def _breaker(context: Context, path: str, one: written.Model) -> Breaker:
    """As it is written. Where there is nobody else to ask, a target is given up later and for a shorter time."""
    if one.breaker is None:
        return Breaker() if len(one.targets) > 1 or one.fallback else ALONE
    if not 0 <= one.breaker.failures <= MAX_FAILURES:
        context.errors.append(f"{path}.failures: must be 0 to {MAX_FAILURES} (0: never left alone)")
    seconds = context.attempt(f"{path}.open", units.duration, one.breaker.open, default=1.0)
    return Breaker(one.breaker.failures, round(seconds * 1000))


def _fallback(context: Context, path: str, name: str, one: written.Model) -> dict[str, tuple[str, ...]]:
    if not isinstance(one.fallback, dict):
        # What a list is for: when this model cannot be had, not when the request does not fit it.
        wanted = {"outage": one.fallback, "rate": one.fallback} if one.fallback else {}
    else:
        wanted = one.fallback
    for means, models in wanted.items():
        if means not in FALLBACKS:
            context.errors.append(f"{path}: {means!r} is none of {', '.join(FALLBACKS)}")
        for other in models:
            if other == name or (other not in context.config.models and not _is_wildcard(context, other)):
                context.errors.append(f"{path}: {other!r} is no other model of this config")
    return {means: tuple(models) for means, models in wanted.items() if models}


def _is_wildcard(context: Context, name: str) -> bool:
    provider, slash, rest = name.partition("/")
    return bool(slash and rest) and provider in _wildcard_providers(context)


def _targets(context: Context, path: str, one: written.Model) -> tuple[Target, ...]:
    """The targets of a model: one for each credential of each that is written, their weight shared out."""
    keys = [credentials_of(context, target.provider) for target in one.targets]
    whole = lcm(*(len(names) for names in keys)) if keys else 1
    made: list[Target] = []
    for i, (target, names) in enumerate(zip(one.targets, keys, strict=True)):
        base = _target(context, f"{path}.targets[{i}]", target)
        load = _slot(context, path, LOAD, "target", base.id, "load") if one.balance == "least_busy" else -1
        never = one.breaker is not None and not one.breaker.failures
        for upstream in names:
            owner = base.id + upstream[len(target.provider) :]
            place = -1 if never else _slot(context, path, BREAKER, "target", owner, "breaker")
            weight = base.weight * whole // len(names)
            counted = (*base.rules, _counting(base.id, load)) if load >= 0 else base.rules
            made.append(replace(base, upstream=upstream, weight=weight, breaker=place, load=load, rules=counted))
    return tuple(made)


def _counting(target_id: str, slot: int) -> Rule:
    """A limit on calls at once that nothing ever reaches: it counts them for all workers."""
    return Rule("target", target_id, "concurrent", "calls", "", MAX_CONCURRENT, slot=slot)


def credentials_of(context: Context, provider: str) -> tuple[str, ...]:
    """The names in `Plan.upstreams` of a provider: its own, and one more for each further credential."""
    one = context.config.providers.get(provider)
    count = len(one.api_keys) if one is not None else 0
    return (provider, *(f"{provider}#{number}" for number in range(2, count + 1)))


def _target(context: Context, path: str, one: written.Target) -> Target:
    if one.provider not in context.config.providers:
        known = ", ".join(context.config.providers) or "none is defined"
        context.errors.append(f"{path}.provider: unknown {one.provider!r}; known: {known}")
    if not one.model.isascii() or not one.model.isprintable() or not 0 < len(one.model) <= 256:
        context.errors.append(f"{path}.model: must be 1 to 256 printable ASCII characters")
    if not 0 <= one.weight <= 1_000_000:
        context.errors.append(f"{path}.weight: must be 0 to 1,000,000")
    ours = listed(context, one)
    cost = ours if one.price is None else price(context, f"{path}.price", one.price, ours)
    if one.max_output is not None and one.max_output < 1:
        context.errors.append(f"{path}.max_output: must be 1 or more")
    target_id = f"{one.provider}/{one.model}"
    return Target(
        target_id,
        one.provider,
        one.model,
        one.weight,
        one.priority,
        cost,
        frozenset(one.drop),
        one.max_output or listed_output(context, one) or DEFAULT_OUTPUT,
        rules(context, "target", target_id, one.limits, f"{path}.limits"),
    )


def listed(context: Context, one: written.Target) -> Price | None:
    """What the catalogue says a target costs; None where it has no price."""
    provider = context.config.providers.get(one.provider)
    return None if provider is None else context.catalogue.price_of(provider.kind, one.model)


def listed_output(context: Context, one: written.Target) -> int:
    """The longest answer the catalogue knows a target to give, in tokens; 0 where it does not know."""
    provider = context.config.providers.get(one.provider)
    found = None if provider is None else context.catalogue.find(provider.kind, one.model)
    return 0 if found is None else found.entry.max_output


def price(context: Context, path: str, one: written.Price, known: Price | None = None) -> Price:
    """A price as it is written; one far from the catalogue's (`known`) is an error unless it is forced."""

    def pico(field: str, value: float | str) -> int:
        return context.attempt(f"{path}.{field}", prices.per_million, value, default=0)

    plain = pico("input", one.input)
    made = Price(
        input=plain,
        output=pico("output", one.output),
        cached=plain if one.cached is None else pico("cached", one.cached),
        cache_write=plain if one.cache_write is None else pico("cache_write", one.cache_write),
        version="config",
        reasoning=None if one.reasoning is None else pico("reasoning", one.reasoning),
        request=context.attempt(f"{path}.request", prices.per_request, one.request or 0, default=0),
    )
    if known is not None and not one.force:
        _check_price(context, path, made, known)
    return made


def _check_price(context: Context, path: str, made: Price, known: Price) -> None:
    for field in ("input", "output"):
        ours, theirs = getattr(made, field), getattr(known, field)
        if ours and theirs and not theirs / FAR_OFF < ours < theirs * FAR_OFF:
            context.errors.append(
                f"{path}.{field}: {ours / 1e6:g} dollars per million tokens, and the catalogue says {theirs / 1e6:g}; "
                "set `force: true` beside it if it is right"
            )


def retry(context: Context, path: str, one: written.Retry) -> Retry:
    if not 1 <= one.attempts <= 10:
        context.errors.append(f"{path}.attempts: must be 1 to 10, the first attempt included")
    classes = [str(item) for item in one.on]
    for item in classes:
        if item not in RETRY_CLASSES and not (item.isdigit() and 400 <= int(item) <= 599):
            context.errors.append(
                f"{path}.on: {item!r} is none of connect, timeout, reset, 5xx or a status from 400 to 599"
            )
    return Retry(one.attempts, frozenset(classes))


def timeouts(context: Context, path: str, one: written.Timeout) -> Timeouts:
    def seconds(field: str) -> float:
        return context.attempt(f"{path}.{field}", units.duration, getattr(one, field), default=1.0)

    return Timeouts(seconds("connect"), seconds("first_token"), seconds("idle"), seconds("total"))


def wildcards(context: Context) -> dict[str, Model]:
    """`provider/any-model`, and from the environment alone also bare names when there is one provider."""
    names = _wildcard_providers(context)
    found = {name: _wildcard(context, f"{name}/*", name) for name in names}
    # Never by a file: whoever writes one says which bare names there are.
    if len(context.loaded.wildcard_kinds) == 1:
        found["*"] = _wildcard(context, "*", names[0])
    return found


def _wildcard(context: Context, name: str, provider: str) -> Model:
    names = credentials_of(context, provider)
    base = Target(f"{provider}/*", provider, "")
    targets: list[Target] = []
    for upstream in names:
        # A credential that is refused rests where there is another; one model's failures are not those of all.
        owner = base.id + upstream[len(provider) :]
        place = _slot(context, "wildcards", BREAKER, "target", owner, "breaker") if len(names) > 1 else -1
        targets.append(replace(base, upstream=upstream, breaker=place))
    retries = _slot(context, "wildcards", RETRIES, "model", name, "retries")
    return Model(name=name, targets=tuple(targets), breaker=Breaker(failures=0), retries=retries)


def _wildcard_providers(context: Context) -> list[str]:
    """The providers whose every model can be asked for. A name ends at its first `/`, so one with a `/` cannot be."""
    wanted, providers = context.config.wildcards, context.config.providers
    if isinstance(wanted, bool):
        return [name for name in providers if "/" not in name] if wanted else []
    for index, name in enumerate(wanted):
        if name not in providers:
            known = ", ".join(providers) or "none is defined"
            context.errors.append(f"wildcards[{index}]: unknown provider {name!r}; known: {known}")
        elif "/" in name:
            context.errors.append(f"wildcards[{index}]: {name!r} has a `/` itself; give the provider another name")
    return [name for name in dict.fromkeys(wanted) if name in providers and "/" not in name]


def price_lists(context: Context, wildcards: dict[str, Model]) -> dict[str, dict[str, Price]]:
    """Behind a wildcard a model is known only when it is asked for, so all that its kind sells comes along."""
    upstreams = {target.upstream for model in wildcards.values() for target in model.targets}
    kinds = {name: context.config.providers[name.partition("#")[0]].kind for name in sorted(upstreams)}
    lists = {name: context.catalogue.price_list(kind) for name, kind in kinds.items()}
    return {name: found for name, found in lists.items() if found}
