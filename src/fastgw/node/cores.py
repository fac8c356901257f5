"""How many cores this process may use."""

import math
import os
from pathlib import Path

from fastgw.node.errors import NOTHING_TO_SERVE, StartError

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


def worker_count(wanted: int, lanes: int) -> int:
    """As many as wanted, 0 for one a core; a lane of the table each, and some to spare for those that finish beside.

    Raises:
        StartError: (2) that many cannot be had.
    """
    most = lanes // 2
    if not 0 <= wanted <= most:
        raise StartError(NOTHING_TO_SERVE, f"--workers must be 1 to {most}, or 0 for one a core")
    return wanted or min(available_cores(), most)
