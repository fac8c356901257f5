"""Models and their targets: names, prices, retries, deadlines."""

from fastgw.plan import config as written
from fastgw.plan import prices, units
from fastgw.plan.compile.context import Context
from fastgw.plan.compile.limits import rules
from fastgw.plan.plan import Model, Price, Retry, Target, Timeouts

RETRY_CLASSES = frozenset({"connect", "timeout", "5xx"})
DEFAULT_OUTPUT = 4096
MAX_RESERVE = 10_000_000
FAR_OFF = 100
"""A price that is this many times another's is more likely dollars per token, or per thousand, than a price."""


def model(context: Context, name: str, one: written.Model) -> Model:
    path = f"models.{name}"
    context.check_name(path, name)
    if not one.targets:
        context.errors.append(f"{path}.targets: needs one target or more")
    if one.balance not in ("weighted", "priority"):
        context.errors.append(f"{path}.balance: {one.balance!r} is not built yet; weighted and priority are")
    if not 1 <= one.reserve_output <= MAX_RESERVE:
        context.errors.append(f"{path}.reserve_output: must be 1 to {MAX_RESERVE:,} tokens")
    return Model(
        name=name,
        targets=tuple(_target(context, f"{path}.targets[{i}]", target) for i, target in enumerate(one.targets)),
        balance=one.balance,
        retry=retry(context, f"{path}.retry", one.retry),
        timeout=timeouts(context, f"{path}.timeout", one.timeout),
        rules=rules(context, "model", name, one.limits, f"{path}.limits"),
        reserve_output=one.reserve_output,
        allow_unpriced=one.allow_unpriced,
    )


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
            context.errors.append(f"{path}.on: {item!r} is none of connect, timeout, 5xx or a status from 400 to 599")
    return Retry(one.attempts, frozenset(classes))


def timeouts(context: Context, path: str, one: written.Timeout) -> Timeouts:
    def seconds(field: str) -> float:
        return context.attempt(f"{path}.{field}", units.duration, getattr(one, field), default=1.0)

    return Timeouts(seconds("connect"), seconds("first_token"), seconds("idle"), seconds("total"))


def wildcards(context: Context) -> dict[str, Model]:
    """`provider/any-model`, and from the environment alone also bare names when there is one provider."""
    names = _wildcard_providers(context)
    found = {name: _wildcard(f"{name}/*", name) for name in names}
    # Never by a file: whoever writes one says which bare names there are.
    if len(context.loaded.wildcard_kinds) == 1:
        found["*"] = _wildcard("*", names[0])
    return found


def _wildcard(name: str, provider: str) -> Model:
    return Model(name=name, targets=(Target(f"{provider}/*", provider, ""),))


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
    lists = {name: context.catalogue.price_list(context.config.providers[name].kind) for name in sorted(upstreams)}
    return {name: found for name, found in lists.items() if found}
