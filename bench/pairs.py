"""Interleaved measuring: A B A B ..., each ratio of neighbours, the median of ratios as the figure.

A machine that is shared drifts by tens of percent within minutes; neighbours in time drift together, so that their
ratio holds where neither figure does.
"""

import statistics
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Samples = dict[str, list[float]]


class Spread(NamedTuple):
    """Median, smallest and largest of some samples."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: list[float]) -> "Spread":
        """Raises ValueError for no samples."""
        if not samples:
            raise ValueError("no samples")
        return cls(statistics.median(samples), min(samples), max(samples))


def interleave(measures: Mapping[str, Callable[[], float]], pairs: int) -> Samples:
    """Each measure once a round, in their order, for so many rounds."""
    samples: Samples = {name: [] for name in measures}
    for _ in range(pairs):
        for name, measure in measures.items():
            samples[name].append(measure())
    return samples


def ratios(samples: Samples, one: str, other: str) -> list[float]:
    """`one` divided by `other`, round by round. Raises ValueError where they were not measured in the same rounds."""
    return [a / b for a, b in zip(samples[one], samples[other], strict=True)]


class Figure(NamedTuple):
    """One measured thing.

    `samples` are in `unit`, by server; `notes` are further facts of it for people, by server. `compare` names the two
    servers whose ratio (or, for `difference`, whose difference) is held against `floor` and `aim`, in the ratio's or
    the difference's own terms; `floor` None where nothing is promised.
    """

    name: str
    title: str
    unit: str
    samples: Samples
    compare: tuple[str, str] | None = None
    difference: bool = False
    floor: float | None = None
    aim: float | None = None
    notes: dict[str, str] = {}  # noqa: RUF012 - a NamedTuple's default; never changed

    def verdicts(self) -> list[float]:
        """What is held against the floor, one a round."""
        if self.compare is None:
            return []
        one, other = self.compare
        if self.difference:
            return [a - b for a, b in zip(self.samples[one], self.samples[other], strict=True)]
        return ratios(self.samples, one, other)

    def as_json(self) -> dict[str, Any]:
        """Plain values, the samples included, so that others may judge them otherwise."""
        shown: dict[str, Any] = {"name": self.name, "title": self.title, "unit": self.unit}
        shown["servers"] = {
            name: {**Spread.of(values)._asdict(), "samples": values} for name, values in self.samples.items()
        }
        if self.compare is not None:
            kind = "difference" if self.difference else "ratio"
            shown[kind] = {
                "of": list(self.compare),
                **Spread.of(self.verdicts())._asdict(),
                "floor": self.floor,
                "aim": self.aim,
            }
        if self.notes:
            shown["notes"] = self.notes
        return shown
