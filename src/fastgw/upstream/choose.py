"""Which target an attempt takes. Pure: the roll of the die is an argument.

Targets come in tiers: one of a later tier is taken when all of the earlier ones were tried. Usually there is one tier;
what a caller prefers (`dialects.openrouter.Preferences`) makes more of it, and may leave targets out.
"""

from collections.abc import Collection, Sequence
from typing import Protocol, TypeVar

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
