"""The model catalogue: what a model of a kind of provider can do, and what it costs.

The file is made by `tools/build_catalogue.py` and read once, by the process that compiles plans; workers find the
prices they need in the plan. A model is looked up by its name, then by another name of it, then by the name without
what vendors put behind it (`prices.look_up`). Prices are those of the vendor's ordinary service at the shortest
context: `caveats` says what they leave out (`tiers` by length, `hours` of the day, `variants` such as batch, `beside`
tokens). Of prices by the hour the dearest is taken.
"""

from functools import cache
from importlib.resources import files

import msgspec
from msgspec import Struct, field

from fastgw.plan.plan import Price
from fastgw.plan.prices import look_up

# Kinds that are other doors to the models of another.
SAME = {"azure_foundry": "azure"}


class Entry(Struct, frozen=True):
    """A model. `context` and `max_output` are tokens (0: not known); `deprecated` a date, or `yes` without one.

    `tokens` are pico-dollars by kind: input, output, cached, cache write and, where it is not that of output,
    reasoning; None where the model is not billed by token or its price is not known. `source` says whose price it is.
    """

    model: str
    mode: str = "chat"
    context: int = 0
    max_output: int = field(name="output", default=0)
    inputs: tuple[str, ...] = field(name="in", default=("text",))
    outputs: tuple[str, ...] = field(name="out", default=("text",))
    capabilities: tuple[str, ...] = field(name="can", default=())
    deprecated: str = ""
    tokens: tuple[int, ...] | None = field(name="price", default=None)
    source: str = "both"
    caveats: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


class Source(Struct, frozen=True):
    """Where rows come from; `sha256` is that of the data file that was read."""

    name: str
    version: str
    licence: str
    url: str
    sha256: str


class Catalogue(Struct, frozen=True):
    """The whole file: `models` are rows by kind of provider, `version` the day whose prices they are."""

    version: str
    sources: tuple[Source, ...]
    models: dict[str, tuple[Entry, ...]]


@cache
def load() -> Catalogue:
    """The catalogue this version of fastgw came with."""
    return msgspec.json.decode(files("fastgw").joinpath("data/catalogue.json").read_bytes(), type=Catalogue)


@cache
def _by_name(kind: str) -> dict[str, Entry]:
    rows = load().models.get(SAME.get(kind, kind), ())
    named = {alias: one for one in rows for alias in one.aliases}
    named.update((one.model, one) for one in rows)
    return named


def list_models(kind: str) -> tuple[Entry, ...]:
    """Every model known of a kind of provider, by name."""
    return load().models.get(SAME.get(kind, kind), ())


def find(kind: str, model: str) -> Entry | None:
    """The model that a provider of this kind knows as `model`."""
    return look_up(_by_name(kind), model)


def show(kind: str, model: str) -> Entry | None:
    """The same, for people."""
    return find(kind, model)


def price(entry: Entry) -> Price | None:
    """What the model costs; None where that is not known."""
    if entry.tokens is None:
        return None
    plain, output, cached, written, *reasoning = entry.tokens
    return Price(
        input=plain,
        output=output,
        cached=cached,
        cache_write=written,
        version=f"catalogue-{load().version}",
        reasoning=reasoning[0] if reasoning else None,
    )


def price_of(kind: str, model: str) -> Price | None:
    """What a model of this kind of provider costs; None where that is not known."""
    entry = find(kind, model)
    return None if entry is None else price(entry)


def price_list(kind: str) -> dict[str, Price]:
    """What is known of a kind's prices, by model and by alias: for names that come only with the calls."""
    found = {name: price(entry) for name, entry in _by_name(kind).items()}
    return {name: one for name, one in found.items() if one is not None}
