"""The gate against slow-downs, part of `make check`: python -m bench.gate [--only PART] [--update] [--slow N].

Two kinds of figures, each held against `baseline.json` beside this file:

- `instructions`: of one call and of one relayed event in the hot path, as multiples of a reference loop counted in the
  same run. They repeat to a hundredth whatever else the machine does, so that 5 % is a slow-down and not the weather.
  They belong to one build of Python; another one is held to its nearest relative's figures with a wider margin. Where
  valgrind is missing, the same in time and with a margin for noise.
- `ratios`: CPU of fastgw over CPU of nginx on the same work in the same minutes, over sockets, the median of five
  interleaved pairs. One that is too high is measured again, twice at most: a busy neighbour comes and goes, a
  slow-down stays. The promised floors hold whatever the baseline says.

`--slow N` burns N microseconds in every call, on purpose: `python -m bench.gate --slow 40` must end with 1.
`--update` writes what was measured as the new baseline; commit it with the change that explains it.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench import cases, instructions
from bench.cases import Settings
from bench.pairs import Spread
from bench.processes import BenchError, need
from fastgw import _core as core

BASELINE: Final = Path(__file__).with_name("baseline.json")
ROUNDS: Final = 3
PAIRS: Final = 5
SECONDS: Final = 1.0
RATIO_MARGIN: Final = 1.25
COUNT_MARGIN: Final = 1.05
STRANGE_BUILD_MARGIN: Final = 1.30
TIME_MARGIN: Final = 1.35
COUNTED: Final = ("call", "event")
RATIOS: Final = ("chat-0.4k", "stream")


class Bound(NamedTuple):
    """What a figure may be at most, and why."""

    allowed: float
    reason: str


class Verdict(NamedTuple):
    """One figure held against its bound; `measured` is the best of its rounds."""

    name: str
    measured: float
    baseline: float | None
    bound: Bound
    rounds: int

    @property
    def passed(self) -> bool:
        """Whether it is within its bound."""
        return self.measured <= self.bound.allowed

    def line(self) -> str:
        """All of it, for people."""
        mark = "ok  " if self.passed else "FAIL"
        known = "none" if self.baseline is None else f"{self.baseline:.3f}"
        again = f", best of {self.rounds} rounds" if self.rounds > 1 else ""
        return (
            f"{mark} {self.name}: measured {self.measured:.3f}, baseline {known}, "
            f"allowed {self.bound.allowed:.3f} ({self.bound.reason}){again}"
        )


def ratio_bound(baseline: float | None, floor: float | None) -> Bound:
    """The lower of what the baseline allows and what is promised. Raises BenchError where there is neither."""
    bounds = []
    if baseline is not None:
        bounds.append(Bound(baseline * RATIO_MARGIN, f"baseline x {RATIO_MARGIN:g}"))
    if floor is not None:
        bounds.append(Bound(floor, "the promised floor"))
    if not bounds:
        raise BenchError("neither a baseline nor a floor; run python -m bench.gate --update and commit the baseline")
    return min(bounds)


def nearest(known: dict[str, Any], environment: str) -> tuple[dict[str, float], bool]:
    """The figures of this build, else those most like it by name, and whether they are its own. Raises BenchError."""
    if environment in known:
        return known[environment], True
    if not known:
        raise BenchError("no baseline at all; run python -m bench.gate --update and commit it")

    def alike(name: str) -> int:
        return next((i for i, (a, b) in enumerate(zip(name, environment, strict=False)) if a != b), len(name))

    return known[max(sorted(known), key=alike)], False


def best_of(measure: Callable[[], float], allowed: float, rounds: int) -> tuple[float, int]:
    """The smallest of up to so many measurements, and how many it took: no more once one is within what is allowed."""
    found = measure()
    for done in range(1, rounds):
        if found <= allowed:
            return found, done
        found = min(found, measure())
    return found, rounds


def check_hot_path(baseline: dict[str, Any], slowed: int) -> list[Verdict]:
    """The hot path against its baseline. Raises BenchError or CountError."""
    counted = instructions.available()
    part, measure, rounds = (
        ("instructions", instructions.count, 2) if counted else ("times", instructions.time_it, ROUNDS)
    )
    environment = instructions.environment()
    base, own = nearest(baseline.get(part, {}), environment)
    margin = TIME_MARGIN if not counted else COUNT_MARGIN if own else STRANGE_BUILD_MARGIN
    reason = f"baseline x {margin:g}" + ("" if own else f"; {environment} has no baseline of its own")
    was = {name: base[name] / base["reference"] for name in COUNTED}
    best = dict.fromkeys(COUNTED, math.inf)
    done = 0
    while done < rounds and any(best[name] > was[name] * margin for name in COUNTED):
        run = measure(slowed)
        best = {name: min(best[name], run[name] / run["reference"]) for name in COUNTED}
        done += 1
    return [
        Verdict(f"{part} of one {name} / reference", best[name], was[name], Bound(was[name] * margin, reason), done)
        for name in COUNTED
    ]


def check_ratios(baseline: dict[str, Any], slowed: int) -> list[Verdict]:
    """fastgw over nginx against the baseline. Raises BenchError."""
    need("nginx", "wrk", "taskset", "setpriv")
    known = baseline.get("ratios", {})
    verdicts = []
    for name in RATIOS:
        bound = ratio_bound(known.get(name), cases.FLOORS.get(name))
        found, rounds = best_of(partial(ratio, name, slowed), bound.allowed, ROUNDS)
        verdicts.append(Verdict(f"{name}: CPU of fastgw / nginx", found, known.get(name), bound, rounds))
    return verdicts


def ratio(name: str, slowed: int = 0) -> float:
    """The median ratio of one round of pairs. Raises BenchError."""
    chosen = Settings(pairs=PAIRS, seconds=SECONDS, peers=("nginx",), slowed=slowed)
    spread = Spread.of(cases.CASES[name](chosen)[0].verdicts())
    print(f"     {name}: {spread.median:.2f} ({spread.low:.2f} - {spread.high:.2f})", flush=True)
    return spread.median


def update(baseline: dict[str, Any], only: str | None) -> dict[str, Any]:
    """The baseline with what is measured now in it, other builds' figures kept. Raises BenchError or CountError."""
    new = dict(baseline)
    if only != "ratios":
        need("valgrind")
        environment = instructions.environment()
        for part, measure in (("instructions", instructions.count), ("times", instructions.time_it)):
            found = {name: round(value, 2) for name, value in measure().items()}
            new[part] = {**baseline.get(part, {}), environment: found}
    if only != "instructions":
        need("nginx", "wrk", "taskset", "setpriv")
        new["ratios"] = {name: round(statistics.median(ratio(name) for _ in range(ROUNDS)), 3) for name in RATIOS}
    return new


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=("instructions", "ratios"), help="one part")
    parser.add_argument("--update", action="store_true", help=f"write {BASELINE.name}")
    parser.add_argument("--slow", type=int, default=0, metavar="N", help="burn N microseconds a call: must fail")
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="another file")
    found = parser.parse_args(argv)
    if found.slow and found.update:
        parser.error("a slow-down on purpose is no baseline")
    return found


def main(argv: list[str] | None = None) -> int:
    """0 when every figure is within its bound, 1 when not or when one could not be measured."""
    found = arguments(argv)
    twins = [name for name, native in core.NATIVE.items() if not native]
    if twins:
        print(f"FAIL not compiled: {', '.join(twins)} ({core.REASONS}); run make native", file=sys.stderr)
        return 1
    baseline = json.loads(found.baseline.read_text()) if found.baseline.exists() else {}
    try:
        if found.update:
            found.baseline.write_text(json.dumps(update(baseline, found.only), indent=1, sort_keys=True) + "\n")
            print(f"written to {found.baseline}")
            return 0
        verdicts = [] if found.only == "ratios" else check_hot_path(baseline, found.slow)
        verdicts += [] if found.only == "instructions" else check_ratios(baseline, found.slow)
    except (BenchError, instructions.CountError) as error:
        print(f"FAIL {error}", file=sys.stderr)
        return 1
    return judge(verdicts)


def judge(verdicts: list[Verdict]) -> int:
    """Print them; 1 when one has failed, or when there is none to speak of."""
    for verdict in verdicts:
        print(verdict.line())
    failed = [verdict for verdict in verdicts if not verdict.passed]
    if failed or not verdicts:
        print(f"FAIL: {len(failed)} of {len(verdicts)} figures are above what is allowed")
        return 1
    better = [verdict.name for verdict in verdicts if verdict.baseline and verdict.measured < 0.9 * verdict.baseline]
    if better:
        print(f"faster than the baseline by a tenth or more: {'; '.join(better)}; --update keeps it so")
    return 0


if __name__ == "__main__":
    sys.exit(main())
