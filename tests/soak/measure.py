"""What a soak measures of processes: memory, descriptors, and whether the first grows."""

import os
from collections.abc import Sequence
from pathlib import Path


def rss(pid: int) -> int:
    """Resident memory in bytes."""
    line = next(row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def descriptors(pid: int) -> int:
    """Open files."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the line that fits best (least squares), per unit of the first; 0.0 for fewer than two different points."""
    count = len(points)
    if not count:
        return 0.0
    mean_x, mean_y = (sum(point[axis] for point in points) / count for axis in (0, 1))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that is at least so large a part of all; 0.0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0
