"""Records as lines of the exports, many at a time; the same bytes as `telemetry.record.to_json_line` gives for each."""

from datetime import UTC, datetime
from functools import lru_cache

import msgspec
from msgspec import Struct

from fastgw.telemetry.record import CacheResult, Record, UsageSource

_SECOND_US = 1_000_000

encode = msgspec.json.Encoder().encode_lines


class Attempt(Struct, gc=False):
    """`telemetry.record.Attempt`, as an object instead of an array."""

    target: str
    provider: str
    status: int
    reason: str
    ms: float


class Line(Struct, gc=False):
    """`telemetry.record.Record`, as an object instead of an array, ``ts`` in RFC 3339; the order is that of a line."""

    id: str
    ts: str
    key: str | None
    model: str | None
    provider: str | None
    target: str | None
    status: int
    error: str | None
    attempts: list[Attempt]
    stream: bool
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    usage_source: UsageSource
    cost_nano: int | None
    price_version: str | None
    bytes_in: int
    bytes_out: int
    first_token_ms: float | None
    total_ms: float
    overhead_us: int
    cache: CacheResult
    revision: int
    label: str | None


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    """RFC 3339 up to the point: the costliest part of a line, and the same for all records of a second."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}."


def line_of(record: Record) -> Line:
    """The line of a record. Raises ValueError, OverflowError for a ts no calendar has."""
    seconds, micros = divmod(record.ts, _SECOND_US)
    # By position and without a loop over the fields, which takes twice as long.
    return Line(
        record.id,
        f"{_second(seconds)}{micros:06d}Z",
        record.key,
        record.model,
        record.provider,
        record.target,
        record.status,
        record.error,
        [Attempt(one.target, one.provider, one.status, one.reason, one.ms) for one in record.attempts],
        record.stream,
        record.input_tokens,
        record.output_tokens,
        record.cached_tokens,
        record.cache_write_tokens,
        record.reasoning_tokens,
        record.usage_source,
        record.cost_nano,
        record.price_version,
        record.bytes_in,
        record.bytes_out,
        record.first_token_ms,
        record.total_ms,
        record.overhead_us,
        record.cache,
        record.revision,
        record.label,
    )
