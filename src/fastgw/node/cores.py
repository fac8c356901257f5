"""How many cores this process may use."""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cores(cgroup: Path = _CGROUP) -> int:
    """The cores the affinity mask and the cgroup's CPU quota (v2 or v1) allow, at least 1; a part counts whole."""
    cores = len(os.sched_getaffinity(0))
    quota = _quota(cgroup)
    return max(1, min(cores, math.ceil(quota))) if quota else cores


def _quota(cgroup: Path) -> float | None:
    """Cores by quota, or None where there is none."""
    try:
        words = (cgroup / "cpu.max").read_text().split()
    except OSError:
        try:
            words = [(cgroup / "cpu" / name).read_text().strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
        except OSError:
            return None
    try:
        quota, period = int(words[0]), int(words[1])
    except (ValueError, IndexError):  # "max 100000": no quota
        return None
    return quota / period if quota > 0 and period > 0 else None
