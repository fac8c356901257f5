"""What the hot path costs, counted: instructions under callgrind where valgrind is, else time against a reference loop.

Counts repeat to about one in a hundred whatever else the machine does (what is left is when batches of log lines end
and when memory is collected), so that a gate of five in a hundred neither cries wolf nor sleeps. They hold for one
build of the interpreter: `environment` names it. Figures are compared as multiples of a reference loop of the same run.
"""

import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from bench.hotpath import EVENTS

CALLS: Final = 1_000
FALLBACK_CALLS: Final = 4_000
FALLBACK_RUNS: Final = 7
TIMEOUT_S: Final = 240
NAMES: Final = ("whole", "stream", "reference")
MARK: Final = "getloadavg"

_TOTAL = re.compile(r"^(?:totals|summary): (\d+)", re.M)
_LINE = re.compile(r"^(whole|stream|reference) +([0-9.]+) us$", re.M)


class CountError(RuntimeError):
    """The hot path could not be run or counted; says why."""


def environment() -> str:
    """The build that counts belong to."""
    return f"{platform.python_implementation()}-{platform.python_version()}-{platform.machine()}"


def available() -> bool:
    """Whether instructions can be counted here."""
    return shutil.which("valgrind") is not None


def per_item(whole: float, stream: float, reference: float, calls: int = CALLS) -> dict[str, float]:
    """Costs of whole runs as costs of one call, one stream, one relayed event and one reference round."""
    streams = max(1, calls // 10)
    return {
        "call": whole / calls,
        "event": stream / streams / EVENTS,
        "reference": reference / max(1, calls // 4),
    }


def parse_parts(texts: list[str]) -> tuple[float, float, float]:
    """The totals of callgrind's parts 2, 3 and 4; part 1 is what came before the first mark. Raises CountError."""
    found = [_TOTAL.search(text) for text in texts]
    if len(found) < 4 or not all(found):
        raise CountError(f"callgrind wrote {len(texts)} parts, not the four that the marks in bench.hotpath ask for")
    second, third, fourth = (float(match[1]) for match in found[1:4] if match)
    return second, third, fourth


def count(slowed: int = 0) -> dict[str, float]:
    """Instructions of one call, one relayed event and one reference round. Takes about 15 s. Raises CountError."""
    with tempfile.TemporaryDirectory(prefix="fastgw-callgrind-") as scratch:
        out = Path(scratch) / "out"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", f"--dump-before={MARK}"]
        _run([*command, *_hotpath(CALLS, slowed)])
        parts = [out.with_name(f"out.{number}") for number in range(1, 5)]
        if not all(part.is_file() for part in parts):
            raise CountError(f"callgrind saw no call of {MARK}: is the C library another than glibc?")
        return per_item(*parse_parts([part.read_text() for part in parts]))


def time_it(slowed: int = 0) -> dict[str, float]:
    """The same in CPU microseconds, the median of ratios over several runs put back on the fastest reference."""
    runs = []
    for _ in range(FALLBACK_RUNS):
        text = _run(_hotpath(FALLBACK_CALLS, slowed))
        found = {name: float(value) for name, value in _LINE.findall(text)}
        if set(found) != set(NAMES):
            raise CountError(f"bench.hotpath printed {text[-500:]!r}")
        runs.append(found)
    reference = min(run["reference"] for run in runs)

    def cost(name: str) -> float:
        return statistics.median(run[name] / run["reference"] for run in runs) * reference

    return {"call": cost("whole"), "event": cost("stream") / EVENTS, "reference": reference}


def _hotpath(calls: int, slowed: int) -> list[str]:
    return [sys.executable, "-m", "bench.hotpath", "--calls", str(calls), "--slow", str(slowed)]


def _run(command: list[str]) -> str:
    # A fixed hash seed: the order of sets and the collisions of dicts are part of what is counted.
    environ = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    root = Path(__file__).resolve().parent.parent
    try:
        done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise CountError(f"{command[0]} was not done within {TIMEOUT_S} s") from None
    if done.returncode:
        raise CountError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-1000:]}")
    return done.stdout
