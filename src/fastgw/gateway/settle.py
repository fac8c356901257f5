"""The end of a call: its record into the spool, its numbers into the shared counters, its line into the log."""

from time import monotonic, time
from typing import Protocol

from fastgw.call import Call, Usage
from fastgw.telemetry import metrics, record
from fastgw.telemetry.log import Log
from fastgw.telemetry.metrics import Handles, ProcessHandles

NO_USAGE = Usage()


class Lane(metrics.Adder, Protocol):
    """The worker's stripe of the shared counters."""


class Spool(Protocol):
    """Where records are appended."""

    def append(self, payload: bytes) -> bool:
        """Write one record; False when it was shed."""
        ...


class Ledger:
    """Writes down calls that have ended."""

    def __init__(self, lane: Lane, spool: Spool, log: Log) -> None:
        self.lane = lane
        self.spool = spool
        self.log = log
        self._series: dict[str, int] | None = None

    def settle(self, call: Call) -> None:
        """Record, count and log one call, once."""
        series = call.live.plan.series
        if series is not self._series:
            self._use(series)
        written = record_of(call)
        if self.spool.append(record.encode(written)):
            self.lane.add(self._process.records_written, 1)
        else:
            self.lane.add(self._process.records_shed, 1)
        handles = call.target.handles if call.target is not None else self._none
        metrics.account(self.lane, handles, written)
        if call.refused_by:
            self.lane.add(getattr(self._process, f"refusals_{call.refused_by}"), 1)
        if call.live.options.access_log:
            self.log.access(written)

    def _use(self, series: dict[str, int]) -> None:
        self._series = series
        self._process = ProcessHandles.find(series)
        self._none = Handles.find(series)


def record_of(call: Call) -> record.Record:
    """The record of a call that has ended."""
    total = monotonic() - call.started
    usage = call.usage or NO_USAGE
    target = call.target
    name = ""
    if target is not None:
        name = f"{target.provider}/{call.upstream_model}" if call.upstream_model else target.name
    price = target.price_for(call.upstream_model) if target is not None and call.usage is not None else None
    # By position, in the order of record.Record: a third of the time of keywords, a quarter of settling.
    return record.Record(
        call.id,
        int((time() - total) * 1_000_000),
        call.key.name if call.key is not None else None,
        call.model_name if call.model is not None else None,
        target.provider if target is not None else None,
        name or None,
        call.status,
        call.error or None,
        tuple(call.attempts),
        call.stream,
        usage.input,
        usage.output,
        usage.cached,
        usage.cache_write,
        usage.reasoning,
        call.usage_source,
        call.cost_nano if price is not None else None,
        price.version if price is not None else None,
        call.bytes_in,
        call.bytes_out,
        (call.first_byte_at - call.started) * 1000 if call.first_byte_at else None,
        total * 1000,
        int((total - call.upstream_seconds) * 1_000_000),
        "off",
        call.live.revision,
        call.label,
    )
