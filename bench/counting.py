"""What counting costs a call: the hot path with every limit of `everything-on.yaml`, beside the same without any."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from bench.hotpath import CONFIG
from bench.pairs import Figure, interleave
from bench.processes import BenchError, Stage

CALLS: Final = 8_000
BAR_US: Final = 3.0
_LIMITS: Final = re.compile(r"^( *limits:).*$", re.M)
_WHOLE: Final = re.compile(r"^whole +([0-9.]+) us$", re.M)


def without_limits(text: str) -> str:
    """The config with every owner's limits empty."""
    return _LIMITS.sub(r"\1 {}", text)


def counting(pairs: int) -> list[Figure]:
    """Twelve limits of three levels (requests, tokens, calls at once, money): taken, told and settled."""
    with Stage() as stage:
        bare = stage.path("without.yaml")
        bare.write_text(without_limits(CONFIG.read_text()))
        configs = {"counted": CONFIG, "not counted": bare}
        # Quick to run: many short rounds tell more than few long ones.
        samples = interleave({name: lambda path=path: _measure(path) for name, path in configs.items()}, pairs * 3)
    title = "the hot path without sockets, twelve limits of three levels: what counting adds to a call"
    return [Figure("counting", title, "us", samples, ("counted", "not counted"), True, BAR_US)]


def _measure(config: Path) -> float:
    command = [sys.executable, "-m", "bench.hotpath", "--calls", str(CALLS), "--config", str(config)]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    found = _WHOLE.search(done.stdout)
    if found is None:
        raise BenchError(f"bench.hotpath printed {done.stdout[-300:]!r} {done.stderr[-300:]!r}")
    return float(found[1])
