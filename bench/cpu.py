"""CPU time and memory of process trees, from /proc. Linux only."""

import os
from pathlib import Path
from typing import Final, NamedTuple

PROC: Final = Path("/proc")
TICK: Final = 1 / os.sysconf("SC_CLK_TCK")


class Stat(NamedTuple):
    """One process: name, state, parent, user and system CPU seconds of all its threads, when it started (ticks)."""

    name: str
    state: str
    parent: int
    user: float
    system: float
    started: int


class Memory(NamedTuple):
    """Bytes of one process in memory: all of them, and those that no file and no other process share."""

    rss: int
    anonymous: int


def parse_stat(line: str) -> Stat:
    """A line of /proc/PID/stat (proc(5)). The name may hold spaces and parentheses: it ends at the last one."""
    before, _, after = line.rpartition(")")
    fields = after.split()
    user, system = int(fields[11]) * TICK, int(fields[12]) * TICK
    return Stat(before.partition("(")[2], fields[0], int(fields[1]), user, system, int(fields[19]))


def parse_memory(status: str) -> Memory:
    """What /proc/PID/status says in kB. Raises KeyError for a process that has ended."""
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return Memory(*(int(lines[name].split()[0]) * 1024 for name in ("VmRSS", "RssAnon")))


def stat(pid: int) -> Stat | None:
    """The process, or None when there is none."""
    try:
        return parse_stat((PROC / str(pid) / "stat").read_text())
    except (OSError, ValueError, IndexError):
        return None


def memory(pid: int) -> Memory:
    """The memory of a process. Raises OSError or KeyError when it has ended."""
    return parse_memory((PROC / str(pid) / "status").read_text())


def command(pid: int) -> str:
    """The command line, arguments joined by spaces; empty for a process that has ended."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def tree(root: int) -> list[int]:
    """`root` and all its descendants, as far as they live."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (found := stat(int(entry.name))) is not None:
            children.setdefault(found.parent, []).append(int(entry.name))
    pids, left = [], [root]
    while left:
        pid = left.pop()
        pids.append(pid)
        left += children.get(pid, [])
    return pids


def seconds(pids: list[int]) -> float:
    """CPU seconds, user and system, that these processes have used so far; those that have ended count nothing."""
    return sum(found.user + found.system for found in map(stat, pids) if found is not None)
