"""Figures for people, and for `bench/results/latest.json`."""

import json
import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.pairs import Figure, Spread
from fastgw import _core as core

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("results") / "latest.json"


def text(figure: Figure) -> str:
    """A few lines: the figure's title, a line a server, and how it stands."""
    lines = [figure.title]
    width = max(map(len, figure.samples))
    for name, samples in figure.samples.items():
        spread = Spread.of(samples)
        line = f"  {name:{width}}  {spread.median:9.2f} {figure.unit}"
        if len(samples) > 1:
            line += f"  ({spread.low:.2f} - {spread.high:.2f})"
        if name in figure.notes:
            line += f"   {figure.notes[name]}"
        lines.append(line)
    if figure.compare is not None:
        lines.append("  " + standing(figure))
    return "\n".join(lines)


def standing(figure: Figure) -> str:
    """The ratio or difference, and on which side of floor and aim it is."""
    spread = Spread.of(figure.verdicts())
    one, other = figure.compare or ("", "")
    sign, unit = ("-", f" {figure.unit}") if figure.difference else ("/", "")
    line = f"{one} {sign} {other} = {spread.median:.2f}{unit}"
    if len(figure.verdicts()) > 1:
        line += f" ({spread.low:.2f} - {spread.high:.2f})"
    if figure.floor is not None:
        held = "holds" if spread.median <= figure.floor else "DOES NOT HOLD"
        line += f"; promised at most {figure.floor:g}{unit}: {held}"
    if figure.aim is not None:
        line += f"; aim {figure.aim:g}{unit}{': reached' if spread.median <= figure.aim else ''}"
    return line


def meta(**settings: Any) -> dict[str, Any]:
    """What one must know to compare these figures with others."""
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _first_line(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "native": core.NATIVE,
        "versions": {
            **{name: metadata.version(name) for name in ("fastgw", "granian", "uvloop", "httptools", "msgspec")},
            "nginx": _first_line(["nginx", "-v"]),
            "haproxy": _first_line(["haproxy", "-v"]),
        },
        **settings,
    }


def write(path: Path, about: dict[str, Any], figures: list[Figure]) -> None:
    """Replace `path`, whole or not at all."""
    shown = {"meta": about, "figures": [figure.as_json() for figure in figures]}
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(shown, indent=1) + "\n")
    scratch.replace(path)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines and not done.returncode else "unknown"
