"""Durations, sizes and rates as people write them."""

import re
from decimal import Decimal

DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)$")
DAYS = re.compile(r"^(\d{1,4})\s*d$")
SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|KiB|MiB|GiB)?$")
QUOTA = re.compile(r"^(\d[\d_]*)\s*/\s*([a-z]+)$")
MONEY = re.compile(r"^\$?(\d[\d_]*(?:\.\d{1,9})?)\s*/\s*([a-z]+)$")

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
BYTES = {
    "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip
PERIODS = {
    "s": "s", "sec": "s", "second": "s", "m": "min", "min": "min", "minute": "min", "h": "hour", "hour": "hour",
    "d": "day", "day": "day", "mon": "month", "month": "month", "total": "total",
}  # fmt: skip
MAX_SECONDS = 31 * 86400.0
MAX_DAYS = 3650
MAX_BYTES = 2**50
MAX_QUOTA = 10**12
MAX_NANO = 10**18


def duration(text: str) -> float:
    """`250ms`, `5s`, `10m`, `1h` in seconds; more than nothing. Raises ValueError."""
    match = DURATION.match(text)
    seconds = float(match[1]) * SECONDS[match[2]] if match else 0.0
    if not 0 < seconds <= MAX_SECONDS:
        raise ValueError(f"{text!r} is not a duration; write it like 250ms, 5s, 10m or 1h (31 days at most)")
    return seconds


def days(text: str) -> int:
    """`30d` as 30; from a day to ten years. Raises ValueError."""
    match = DAYS.match(text)
    count = int(match[1]) if match else 0
    if not 1 <= count <= MAX_DAYS:
        raise ValueError(f"{text!r} is not a number of days; write it like 30d, from 1d to {MAX_DAYS}d")
    return count


def size(text: str) -> int:
    """`32MiB`, `10KB`, `512` in bytes; more than nothing. Raises ValueError."""
    match = SIZE.match(text)
    count = float(match[1]) * BYTES[match[2] or "B"] if match else 0.0
    if not 1 <= count <= MAX_BYTES:
        raise ValueError(f"{text!r} is not a size; write it like 512, 10KB, 32MiB or 1GiB")
    return int(count)


def quota(text: str) -> tuple[int, str]:
    """`600/min` as (600, "min"); the periods are s, min, hour, day, month and total. Raises ValueError."""
    match = QUOTA.match(text)
    if not match or match[2] not in PERIODS or len(match[1]) > 25 or not 0 < int(match[1]) <= MAX_QUOTA:
        raise ValueError(
            f"{text!r} is not a rate; write it like 600/min: a number from 1 to {MAX_QUOTA:,} per s, min, hour, day, "
            "month or total"
        )
    return int(match[1]), PERIODS[match[2]]


def money(text: str) -> tuple[int, str]:
    """`10.00/month` (dollars) as (10_000_000_000, "month"): nano-dollars. Raises ValueError."""
    match = MONEY.match(text)
    nano = int(Decimal(match[1]).scaleb(9)) if match and len(match[1]) <= 30 else 0
    if not match or PERIODS.get(match[2], "s") in ("s", "min") or not 0 < nano <= MAX_NANO:
        raise ValueError(
            f"{text!r} is not a budget; write it like 10.00/month: dollars, up to 1,000,000,000, per hour, day, month "
            "or total"
        )
    return nano, PERIODS[match[2]]
