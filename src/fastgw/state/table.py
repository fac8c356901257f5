"""The face of the shared table towards the rest: where its file lies, what a slot is called, what a rate becomes, and
the calendar (UTC) that its windows follow.
"""

import time
from calendar import timegm
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from fastgw._core import table

FILE_NAME = f"table-v{table.LAYOUT_VERSION}.map"
"""Name of the table's file in the data directory; another layout is another file."""

COUNTERS = 65_536
"""Counters of a stripe: a target takes about a hundred. Untouched parts of the file take no disk and no memory."""

NS_PER_SECOND = 1_000_000_000
HOUR_S, DAY_S = 3_600, 86_400


def slot_id(level: str, owner: str, kind: str, unit: str, period: str) -> bytes:
    """16-byte name of a slot, e.g. of ``("key", "demo", "rate", "requests", "60s")``; any other period is another slot.

    Stable between releases and machines. Fields are length-prefixed, so that no two quintuples are written alike.
    """
    name = _named(level) + _named(owner) + _named(kind) + _named(unit) + _named(period)
    return blake2b(name, digest_size=16).digest()


@lru_cache(1024)
def _named(field: str) -> bytes:
    encoded = field.encode()
    return len(encoded).to_bytes(4, "big") + encoded


def open_table(data_dir: Path | str, *, create: bool) -> table.Table:
    """The table of this data directory, with ``create`` made when absent. Raises ``TableError`` with the remedy."""
    return table.Table.open(str(Path(data_dir) / FILE_NAME), counters=COUNTERS, create=create)


def compile_rate(limit: int, period_seconds: int, burst: int | None = None) -> tuple[int, int]:
    """Emission interval and tolerance (ns) of ``limit`` units per period with ``burst`` units at once from rest.

    ``burst`` defaults to a tenth of the limit, at least 1. The interval is rounded up to a whole nanosecond, so the
    rate is never above what was asked. Raises ``ValueError`` for figures below 1 and for more than a unit a nanosecond.
    """
    size = max(1, limit // 10) if burst is None else burst
    if limit < 1 or period_seconds < 1 or size < 1:
        raise ValueError(f"limit {limit}, period {period_seconds} s and burst {size} must be at least 1")
    period_ns = period_seconds * NS_PER_SECOND
    if limit > period_ns:
        raise ValueError(f"limit {limit} per {period_seconds} s is more than one a nanosecond")
    interval = -(-period_ns // limit)
    return interval, interval * (size - 1)


def windows(epoch_s: int) -> table.Windows:
    """Indexes of the hour, day and month (UTC) of a time, as ``Book.take`` wants them. Cheap enough for every call."""
    return _windows(epoch_s // HOUR_S)


@lru_cache(maxsize=8)
def _windows(hour: int) -> table.Windows:
    year, month, *_ = time.gmtime(hour * HOUR_S)
    return hour, hour * HOUR_S // DAY_S, year * 12 + month - 1


def window_end(kind: int, epoch_s: int) -> int | None:
    """When (s since 1970) the window of this kind that a time lies in ends; None for a total, which never does.

    Raises ``ValueError`` for a kind that is no window.
    """
    if kind == table.TOTAL:
        return None
    if kind == table.MONTH:
        year, month, *_ = time.gmtime(epoch_s)
        return timegm((year + month // 12, month % 12 + 1, 1, 0, 0, 0))
    if kind not in (table.HOUR, table.DAY):
        raise ValueError(f"kind {kind} is no window")
    length = HOUR_S if kind == table.HOUR else DAY_S
    return (epoch_s // length + 1) * length
