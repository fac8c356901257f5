"""Which target an attempt takes. Pure: the roll of the die is an argument.

Targets come in tiers: one of a later tier is taken when all of the earlier ones were tried. Usually there is one tier;
what a caller prefers (`dialects.openrouter.Preferences`) makes more of it, and may leave targets out.
"""

from collections.abc import Callable, Collection, Sequence
from hashlib import blake2b
from itertools import groupby
from math import log
from typing import Any, Protocol, TypeVar

from fastgw.dialects.openrouter import Preferences
from fastgw.plan.plan import Price


class Weighted(Protocol):
    """What choosing looks at."""

    @property
    def weight(self) -> int: ...
    @property
    def priority(self) -> int: ...


class Named(Weighted, Protocol):
    """What a caller's preferences look at."""

    @property
    def provider(self) -> str: ...
    @property
    def kind(self) -> str: ...
    def price_for(self, model: str) -> Price | None: ...


W = TypeVar("W", bound=Weighted)
N = TypeVar("N", bound=Named)
Tiers = tuple[Sequence[W], ...]


def next_of(tiers: Tiers[W], tried: Collection[W], roll: float) -> W | None:
    """A target of the first tier that has one left; None when every target was tried. `roll` is in [0, 1)."""
    for tier in tiers:
        found = weighted(tier, tried, roll)
        if found is not None:
            return found
    return None


def weighted(targets: Sequence[W], tried: Collection[W], roll: float) -> W | None:
    """One of the targets not `tried` yet: lowest priority first, within it by weight. `roll` is in [0, 1).

    None when every target was tried. Targets of weight 0 are taken only when nothing else of their priority is left.
    """
    if len(targets) == 1:
        return None if targets[0] in tried else targets[0]
    left = [target for target in targets if target not in tried]
    if not left:
        return None
    first = min(target.priority for target in left)
    group = [target for target in left if target.priority == first]
    point = roll * sum(target.weight for target in group)
    for target in group:
        point -= target.weight
        if point < 0:
            return target
    return group[0]


def by_price(targets: Sequence[N]) -> Tiers[N]:
    """Within a priority the cheapest first: a tier for each price of a token read and one written together."""
    return _ranked(targets, lambda target: _per_token(target, ""))


def by_load(targets: Sequence[W], load: Callable[[W], float]) -> Tiers[W]:
    """Within a priority the one with the least load for its weight first."""
    return _ranked(targets, lambda target: load(target) / max(target.weight, 0.001))


def by_cost(targets: Sequence[W], cost: Callable[[W], float], rolls: tuple[float, float]) -> Tiers[W]:
    """Within a priority the better of two that are drawn, then the others by cost: two choices at random keep many
    workers from running to the same target at once (Mitzenmacher, The Power of Two Choices).
    """
    tiers: list[list[W]] = []
    for group in _groups(targets):
        costs = [cost(target) for target in group]
        ranked = sorted(range(len(group)), key=costs.__getitem__)
        first = min(_drawn(len(group), rolls), key=costs.__getitem__)
        tiers += [[group[first]], *([group[place]] for place in ranked if place != first)]
    return tuple(tiers)


def _drawn(count: int, rolls: tuple[float, float]) -> tuple[int, int]:
    """Two different places out of so many, where there are two."""
    one = min(int(rolls[0] * count), count - 1)
    other = min(int(rolls[1] * (count - 1)), count - 2)
    return one, one if count == 1 else other + (other >= one)


def by_session(targets: Sequence[W], session: bytes, name: Callable[[W], str]) -> Tiers[W]:
    """Within a priority always in the same order for the same session, and another one for another: rendezvous
    hashing, so that a target that comes or goes moves only the sessions it had. Weights count as in Thaler and
    Ravishankar's weighted form: -weight / ln(hash).
    """

    def score(target: W) -> float:
        digest = blake2b(session + b"\0" + name(target).encode(), digest_size=8).digest()
        part = (int.from_bytes(digest, "big") + 0.5) / 2.0**64
        return max(target.weight, 0.001) / log(part)

    return _ranked(targets, score)


def _groups(targets: Sequence[W]) -> list[list[W]]:
    """The targets by priority, the lowest number first."""
    levels = sorted({target.priority for target in targets})
    return [[target for target in targets if target.priority == level] for level in levels]


def _ranked(targets: Sequence[W], key: Callable[[W], Any]) -> Tiers[W]:
    tiers: list[list[W]] = []
    for group in _groups(targets):
        tiers += [list(same) for _, same in groupby(sorted(group, key=key), key)]
    return tuple(tiers)


def preferred(targets: Sequence[N], wish: Preferences, model: str) -> Tiers[N]:
    """The tiers a caller's preferences make of a model's targets; none when they leave nothing.

    `model` is the upstream's name where a wildcard left it to the call, else empty. What is said in `order` goes
    before a sorting by price, and both before weights; targets whose price is not known are the dearest.
    """
    left = [target for target in targets if _may(target, wish, model)]
    tiers: list[list[N]] = []
    for name in wish.order:
        tiers.append([target for target in left if name in _names(target)])
        left = [target for target in left if name not in _names(target)]
    if wish.order and not wish.fallbacks:
        left = []
    if wish.by_price:
        tiers += [[target] for target in sorted(left, key=lambda target: _per_token(target, model))]
    else:
        tiers.append(left)
    return tuple(tier for tier in tiers if tier)


def _may(target: Named, wish: Preferences, model: str) -> bool:
    names = _names(target)
    if (wish.only is not None and wish.only.isdisjoint(names)) or not wish.ignore.isdisjoint(names):
        return False
    if wish.prompt is None and wish.completion is None:
        return True
    price = target.price_for(model)
    if price is None:
        return False
    return (wish.prompt is None or price.input <= wish.prompt) and (
        wish.completion is None or price.output <= wish.completion
    )


def _names(target: Named) -> tuple[str, str]:
    return target.provider.lower(), target.kind


def _per_token(target: Named, model: str) -> tuple[bool, int]:
    price = target.price_for(model)
    return (True, 0) if price is None else (False, price.input + price.output)
