"""The record of one call: what happened, in the order and with the names of docs/record.md, which is a fixed surface.

In the spool a record is a msgpack array that begins with the schema version. New fields go at the end and keep the
version (an older reader ignores what it does not know); a change of meaning, order or type takes a new version.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
import orjson
from msgspec import Struct

SCHEMA_VERSION = 1

UsageSource = Literal["upstream", "estimated", "none"]
CacheResult = Literal["hit", "miss", "off", "semantic"]


class RecordError(ValueError):
    """A spool payload that is not a record this version can read; the message says why."""


class Attempt(Struct, array_like=True, gc=False):
    """One try at one target.

    Attributes:
        target: the target's id, ``provider/model``.
        provider: the provider's name in the config.
        status: HTTP status of the upstream; 0 when none arrived.
        reason: why it was not the last word (an error kind such as ``connect``); empty for the one that answered.
        ms: duration in milliseconds.
    """

    target: str
    provider: str
    status: int = 0
    reason: str = ""
    ms: float = 0.0


class Record(Struct, array_like=True, tag=SCHEMA_VERSION, gc=False):
    """One call. Each field is documented in docs/record.md; ``ts`` is UTC, microseconds since the epoch."""

    id: str
    ts: int
    key: str | None = None
    model: str | None = None
    provider: str | None = None
    target: str | None = None
    status: int = 0
    error: str | None = None
    attempts: tuple[Attempt, ...] = ()
    stream: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    usage_source: UsageSource = "none"
    cost_nano: int | None = None
    price_version: str | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    first_token_ms: float | None = None
    total_ms: float = 0.0
    overhead_us: int = 0
    cache: CacheResult = "off"
    revision: int = 0
    label: str | None = None


RESTING = "resting_"
"""How the reason of a target begins that was passed over."""


def asked(attempts: Sequence[Attempt]) -> int:
    """How many of these were asked at all."""
    return sum(not one.reason.startswith(RESTING) for one in attempts)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Record)

encode = _ENCODER.encode


def decode(payload: bytes) -> Record:
    """A record from its spool form.

    Raises:
        RecordError: broken msgpack, a schema version other than ours, or a field of the wrong type.
    """
    try:
        return _DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(_explain(payload, error)) from error


def _explain(payload: bytes, error: Exception) -> str:
    try:
        head = msgspec.msgpack.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return f"not a record: {error}"
    if not isinstance(head, list) or not head:
        return "not a record: expected an array that begins with its schema version"
    if head[0] != SCHEMA_VERSION:
        return f"record schema version {head[0]!r:.20} is not known here, only {SCHEMA_VERSION} is; use a newer fastgw"
    return f"broken record: {error}"


def rfc3339(ts: int) -> str:
    """Microseconds since the epoch as RFC 3339 in UTC, always with six decimals: ``2026-01-02T03:04:05.000006Z``."""
    seconds, micros = divmod(ts, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{micros:06d}Z"


def to_json_line(record: Record) -> bytes:
    """One line of ``records export``: the record's fields in order, ``ts`` as RFC 3339, ending in a newline."""
    fields = msgspec.structs.asdict(record)
    fields["ts"] = rfc3339(record.ts)
    fields["attempts"] = [msgspec.structs.asdict(attempt) for attempt in record.attempts]
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
