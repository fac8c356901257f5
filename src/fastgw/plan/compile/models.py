"""Models and their targets: names, prices, retries, deadlines."""

from fastgw.plan import config as written
from fastgw.plan import prices, units
from fastgw.plan.compile.context import Context
from fastgw.plan.compile.limits import rules
from fastgw.plan.plan import Model, Price, Retry, Target, Timeouts

RETRY_CLASSES = frozenset({"connect", "timeout", "5xx"})
DEFAULT_OUTPUT = 4096


def model(context: Context, name: str, one: written.Model) -> Model:
    path = f"models.{name}"
    context.check_name(path, name)
    if not one.targets:
        context.errors.append(f"{path}.targets: needs one target or more")
    if one.balance not in ("weighted", "priority"):
        context.errors.append(f"{path}.balance: {one.balance!r} is not built yet; weighted and priority are")
    return Model(
        name=name,
        targets=tuple(_target(context, f"{path}.targets[{i}]", target) for i, target in enumerate(one.targets)),
        balance=one.balance,
        retry=retry(context, f"{path}.retry", one.retry),
        timeout=timeouts(context, f"{path}.timeout", one.timeout),
        rules=rules(context, "model", name, one.limits, f"{path}.limits"),
    )


def _target(context: Context, path: str, one: written.Target) -> Target:
    if one.provider not in context.config.providers:
        known = ", ".join(context.config.providers) or "none is defined"
        context.errors.append(f"{path}.provider: unknown {one.provider!r}; known: {known}")
    if not one.model.isascii() or not one.model.isprintable() or not 0 < len(one.model) <= 256:
        context.errors.append(f"{path}.model: must be 1 to 256 printable ASCII characters")
    if not 0 <= one.weight <= 1_000_000:
        context.errors.append(f"{path}.weight: must be 0 to 1,000,000")
    cost = price(context, f"{path}.price", one.price) if one.price is not None else listed(context, one)
    if one.max_output is not None and one.max_output < 1:
        context.errors.append(f"{path}.max_output: must be 1 or more")
    return Target(
        f"{one.provider}/{one.model}",
        one.provider,
        one.model,
        one.weight,
        one.priority,
        cost,
        frozenset(one.drop),
        one.max_output or listed_output(context, one) or DEFAULT_OUTPUT,
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


def price(context: Context, path: str, one: written.Price) -> Price:
    def pico(field: str, value: float | str) -> int:
        return context.attempt(f"{path}.{field}", prices.per_million, value, default=0)

    plain = pico("input", one.input)
    return Price(
        input=plain,
        output=pico("output", one.output),
        cached=plain if one.cached is None else pico("cached", one.cached),
        cache_write=plain if one.cache_write is None else pico("cache_write", one.cache_write),
        version="config",
        reasoning=None if one.reasoning is None else pico("reasoning", one.reasoning),
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
    """From the environment alone: `provider/any-model`, and bare names when there is one provider."""
    kinds = context.loaded.wildcard_kinds
    names = [*kinds, *(["*"] if len(kinds) == 1 else [])]
    return {
        name: Model(
            name="*" if name == "*" else f"{name}/*",
            targets=(Target(f"{kinds[0] if name == '*' else name}/*", kinds[0] if name == "*" else name, ""),),
        )
        for name in names
    }


def price_lists(context: Context, wildcards: dict[str, Model]) -> dict[str, dict[str, Price]]:
    """Behind a wildcard a model is known only when it is asked for, so all that its kind sells comes along."""
    upstreams = {target.upstream for model in wildcards.values() for target in model.targets}
    lists = {name: context.catalogue.price_list(context.config.providers[name].kind) for name in sorted(upstreams)}
    return {name: found for name, found in lists.items() if found}
