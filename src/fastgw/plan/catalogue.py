"""The model catalogue: what a model of a kind of provider can do, and what it costs.

The file is made by `tools/build_catalogue.py` and read once, by the process that compiles plans; workers find the
prices they need in the plan. A model is looked up by its name, then by another name of it, then by the name without
what vendors put behind it (`prices.look_up`). Prices are those of the vendor's ordinary service at the shortest
context: `caveats` says what they leave out (`tiers` by length, `hours` of the day, `variants` such as batch, `beside`
tokens). Of prices by the hour the dearest is taken. An operator's own file of the same form goes over the one that
ships, row by row.
"""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct, field

from fastgw.plan.plan import Price
from fastgw.plan.prices import MAX_PRICE, look_up

# Kinds that are other doors to the models of another.
SAME = {
    "azure_foundry": "azure",
    "cohere_v2": "cohere",
    "vertex_anthropic": "vertex",
    "watsonx_gateway": "watsonx",
}
MAX_BYTES = 64 * 1024 * 1024


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
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
    """A whole file: `models` are rows by kind of provider; `version` is the day of its prices in the one that ships."""

    version: str
    sources: tuple[Source, ...] = ()
    models: dict[str, tuple[Entry, ...]] = {}


class Found(NamedTuple):
    """A row and the version of the catalogue it stands in."""

    entry: Entry
    version: str

    @property
    def price(self) -> Price | None:
        """What the model costs; None where that is not known."""
        return price(self.entry, self.version)


class Book:
    """Catalogues one over the other: of a model that several have, the last one's row counts."""

    def __init__(self, *catalogues: Catalogue) -> None:
        self.catalogues = catalogues
        self._kinds: dict[str, dict[str, Found]] = {}

    def names(self, kind: str) -> dict[str, Found]:
        """The models of a kind by name and by alias."""
        kind = SAME.get(kind, kind)
        if kind not in self._kinds:
            named: dict[str, Found] = {}
            for one in self.catalogues:
                rows = one.models.get(kind, ())
                named.update((alias, Found(row, one.version)) for row in rows for alias in row.aliases)
                named.update((row.model, Found(row, one.version)) for row in rows)
            self._kinds[kind] = named
        return self._kinds[kind]

    def find(self, kind: str, model: str) -> Found | None:
        """The model that a provider of this kind knows as `model`."""
        return look_up(self.names(kind), model)

    def price_of(self, kind: str, model: str) -> Price | None:
        """What a model of this kind of provider costs; None where that is not known."""
        found = self.find(kind, model)
        return None if found is None else found.price

    def price_list(self, kind: str) -> dict[str, Price]:
        """What is known of a kind's prices, by model and by alias: for names that come only with the calls."""
        priced = {name: found.price for name, found in self.names(kind).items()}
        return {name: one for name, one in priced.items() if one is not None}


@cache
def load() -> Catalogue:
    """The catalogue this version of fastgw came with."""
    return msgspec.json.decode(files("fastgw").joinpath("data/catalogue.json").read_bytes(), type=Catalogue)


@cache
def shipped() -> Book:
    """The book of that one alone."""
    return Book(load())


def book(path: Path | None) -> Book:
    """The catalogue that ships with an operator's own over it. Raises ValueError with what is wrong with the file."""
    return shipped() if path is None else Book(load(), read(path))


def read(path: Path) -> Catalogue:
    """An operator's file. Raises ValueError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        found = msgspec.json.decode(data, type=Catalogue)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no catalogue: {error}") from None
    if not found.version.isascii() or not found.version.isprintable() or not 0 < len(found.version) <= 64:
        raise ValueError(f"{path}: `version` must be 1 to 64 printable ASCII characters")
    for kind, rows in found.models.items():
        for row in rows:
            if row.tokens is not None and not _sound(row.tokens):
                raise ValueError(
                    f"{path}: {kind}/{row.model}: `price` must be 4 or 5 whole numbers of pico-dollars a token "
                    f"(input, output, cached, cache write, reasoning), each from 0 to {MAX_PRICE}"
                )
    return found


def _sound(tokens: tuple[int, ...]) -> bool:
    return len(tokens) in (4, 5) and all(0 <= one <= MAX_PRICE for one in tokens)


def list_models(kind: str) -> tuple[Entry, ...]:
    """Every model that the shipped catalogue knows of a kind of provider, by name."""
    return load().models.get(SAME.get(kind, kind), ())


def show(kind: str, model: str) -> Entry | None:
    """What the shipped catalogue knows of a model."""
    found = shipped().find(kind, model)
    return None if found is None else found.entry


def price(entry: Entry, version: str) -> Price | None:
    """What the model of a row costs, with the version its catalogue has; None where that is not known."""
    if entry.tokens is None:
        return None
    plain, output, cached, written, *reasoning = entry.tokens
    return Price(
        input=plain,
        output=output,
        cached=cached,
        cache_write=written,
        version=f"catalogue-{version}",
        reasoning=reasoning[0] if reasoning else None,
    )
