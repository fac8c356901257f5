"""Fuzz one target: `python -m tests.fuzz.run --target headers --seconds 600 --seed 1`.

Inputs whose outcome was not seen before are mutated further. What fails is written to `found/<target>/`, where the
tests replay it ever after, and the run ends with 1.
"""

import argparse
import contextlib
import faulthandler
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import FrameType

from fastgw import _core
from tests.fuzz.mutate import Mutator
from tests.fuzz.targets import FOUND, SCRATCH, TARGETS, Target, files

SLOW_S = 10
MOST_OUTCOMES = 20_000
_DIGITS = re.compile(r"[0-9]+|'[^']*'")


class SlowError(Exception):
    """One input took longer than any may."""


def outcome(target: Target, data: bytes) -> str:
    """What a target makes of an input, in a form that is the same for alike ones. Raises what may not leave it."""
    try:
        return repr(target.run(data))[:200]
    except target.allowed as error:
        return type(error).__name__ + _DIGITS.sub("#", str(error))[:60]


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """At most so many seconds, in the main thread. Raises SlowError."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SlowError(f"longer than {SLOW_S} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SLOW_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fuzz(name: str, seconds: float, seed: int, most: int = 10) -> int:
    """Run a target for so long; how many inputs of different kinds failed, at most `most`."""
    target = TARGETS[name]
    mutator = Mutator([path.read_bytes() for path in files(name)], target.tokens, f"{name}-{seed}")
    seen: set[str] = set()
    failed: set[str] = set()
    last = SCRATCH / f"last-{name}"
    SCRATCH.mkdir(parents=True, exist_ok=True)
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end and len(failed) < most:
        data = mutator.next()
        count += 1
        if target.native:
            last.write_bytes(data)  # a native crash takes the process with it
        try:
            with bounded():
                label = outcome(target, data)
        except Exception as error:
            if (kind := place(error)) not in failed:
                failed.add(kind)
                report(name, data, error)
            continue
        if label not in seen and len(seen) < MOST_OUTCOMES:
            seen.add(label)
            mutator.keep(data)
    last.unlink(missing_ok=True)
    print(f"{name}: {count} inputs, {len(seen)} outcomes, {len(failed)} failures", flush=True)
    return len(failed)


def place(error: BaseException) -> str:
    """Where an error comes from, to tell failures apart."""
    frames = traceback.extract_tb(error.__traceback__)[-2:]
    return repr((type(error), [(frame.filename, frame.lineno) for frame in frames]))


def report(name: str, data: bytes, error: BaseException) -> None:
    """Keep an input that fails."""
    path = FOUND / name / sha256(data).hexdigest()[:12]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    print(f"{name}: {path}", *traceback.format_exception(error)[-4:], sep="\n", flush=True)


def main() -> int:
    """Run what the command line says; 1 when anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=["all", "native", "others", *TARGETS], default="all")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    faulthandler.enable()
    sets = {
        "all": list(TARGETS),
        "native": [name for name, one in TARGETS.items() if one.native],
        "others": [name for name, one in TARGETS.items() if not one.native],
    }
    if options.target == "native" and (fault := unfit(os.environ.get("FASTGW_ASAN_TREE", ""))):
        parser.error(fault)
    chosen = sets.get(options.target, [options.target])
    return int(sum([fuzz(name, options.seconds, options.seed) for name in chosen]) > 0)


def unfit(tree: str) -> str:
    """Why the modules that were loaded are not those to be fuzzed: their twins, or not those of `tree` where one is."""
    if _core.REASONS:
        return f"twins serve: {_core.REASONS}"
    places = [Path(str(sys.modules[f"fastgw._core.{name}_c"].__file__)).resolve() for name in _core.NATIVE]
    strange = [str(place) for place in places if tree and not place.is_relative_to(Path(tree).resolve())]
    return f"not from {tree}: {', '.join(strange)}" if strange else ""


if __name__ == "__main__":
    sys.exit(main())
