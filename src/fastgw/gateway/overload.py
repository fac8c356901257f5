"""When a worker has too much: memory of its own, and how late its event loop is.

Whoever is above a bound takes no new calls, so that those it has can end. It takes calls again below nine tenths of the
bound, so that it does not change its mind with every call.
"""

import os
from pathlib import Path

from fastgw.plan.edge import Overload

BELOW = 0.9
LATE_LOOKS = 2
"""One late look is a moment; two in a row are a state."""

_PAGE = os.sysconf("SC_PAGE_SIZE")
_NONE = 1 << 60
"""What cgroups write for no limit is larger than this."""


class Gauge:
    """Looks at one worker. `share` is what it may take of the memory there is, in bytes."""

    def __init__(self, share: int) -> None:
        self._share = share
        self._late = 0
        self.reason = ""
        """`memory` or `lag` while there is too much, else empty."""

    def look(self, bounds: Overload, lag: float, memory: int) -> str:
        """The reason, now that the loop is `lag` seconds late and so much memory is in use."""
        easier = BELOW if self.reason else 1.0
        most = bounds.memory or int(bounds.share * self._share)
        self._late = self._late + 1 if bounds.lag and lag > bounds.lag * easier else 0
        if most and memory > most * easier:
            self.reason = "memory"
        elif self._late >= (1 if self.reason == "lag" else LATE_LOOKS):
            self.reason = "lag"
        else:
            self.reason = ""
        return self.reason


def own_memory() -> int:
    """Bytes this process holds that it shares with nobody (proc_pid_statm(5): resident less shared)."""
    fields = Path("/proc/self/statm").read_bytes().split()
    return (int(fields[1]) - int(fields[2])) * _PAGE


def machine_memory(root: Path = Path("/")) -> int:
    """Bytes there are for this process and its siblings: the cgroup's limit, version 2 or 1, or the machine's."""
    found = [_total(root)]
    found += [limit for file in _limits(root) if (limit := _number(file)) is not None and limit < _NONE]
    return min(found)


def _limits(root: Path) -> list[Path]:
    """Where limits may stand: of our cgroup and of those around it (cgroups(7))."""
    tree = root / "sys/fs/cgroup"
    files = [tree / "memory.max", tree / "memory/memory.limit_in_bytes"]
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return files
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            top, name = (tree / "memory", "memory.limit_in_bytes") if controllers else (tree, "memory.max")
            here = top / path.lstrip("/")
            while here != top and top in here.parents:
                files.append(here / name)
                here = here.parent
    return files


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # not there, or `max`
        return None


def _total(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) * 1024
    return _NONE
