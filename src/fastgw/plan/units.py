"""Durations, sizes and rates as people write them."""

import re

DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)$")
SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|KiB|MiB|GiB)?$")
RATE = re.compile(r"^(\d[\d_]*)\s*/\s*([a-z]+)$")

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
BYTES = {
    "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip
PERIODS = {"s": 1.0, "sec": 1.0, "second": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0}
MAX_SECONDS = 31 * 86400.0
MAX_BYTES = 2**50
MAX_RATE = 10**9
LATER = {"h", "hour", "d", "day", "mon", "month", "total"}


def duration(text: str) -> float:
    """`250ms`, `5s`, `10m`, `1h` in seconds; more than nothing. Raises ValueError."""
    match = DURATION.match(text)
    seconds = float(match[1]) * SECONDS[match[2]] if match else 0.0
    if not 0 < seconds <= MAX_SECONDS:
        raise ValueError(f"{text!r} is not a duration; write it like 250ms, 5s, 10m or 1h (31 days at most)")
    return seconds


def size(text: str) -> int:
    """`32MiB`, `10KB`, `512` in bytes; more than nothing. Raises ValueError."""
    match = SIZE.match(text)
    count = float(match[1]) * BYTES[match[2] or "B"] if match else 0.0
    if not 1 <= count <= MAX_BYTES:
        raise ValueError(f"{text!r} is not a size; write it like 512, 10KB, 32MiB or 1GiB")
    return int(count)


def rate(text: str) -> tuple[int, float]:
    """`600/min` as (600, 60.0). Raises ValueError."""
    match = RATE.match(text)
    if match and match[2] in LATER:
        raise ValueError(f"{text!r}: limits per {match[2]} are not built yet; write it per s or min")
    if not match or match[2] not in PERIODS or len(match[1]) > 20 or not 0 < int(match[1]) <= MAX_RATE:
        raise ValueError(f"{text!r} is not a rate; write it like 600/min or 20/s")
    return int(match[1]), PERIODS[match[2]]
