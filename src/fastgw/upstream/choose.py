"""Which target an attempt takes. Pure: the roll of the die is an argument."""

from collections.abc import Collection, Sequence
from typing import Protocol, TypeVar


class Weighted(Protocol):
    """What choosing looks at."""

    @property
    def weight(self) -> int: ...
    @property
    def priority(self) -> int: ...


W = TypeVar("W", bound=Weighted)


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
