"""The end of a call: its record into the spool, its numbers into the shared counters, its line into the log."""

from time import monotonic, monotonic_ns, time
from typing import Protocol

from fastgw._core import table
from fastgw.call import Call, Usage
from fastgw.telemetry import metrics, record
from fastgw.telemetry.log import Log
from fastgw.telemetry.metrics import Handles, ProcessHandles

NO_USAGE = Usage()


class Lane(metrics.Adder, Protocol):
    """The worker's stripe of the shared counters."""

    def book(self) -> table.Book:
        """The worker's calls in flight."""
        ...


class Spool(Protocol):
    """Where records are appended; `place` is where the last one ends: a segment's number and an offset."""

    full: bool

    @property
    def place(self) -> tuple[int, int]: ...

    def append(self, payload: bytes) -> bool:
        """Write one record; False when it was shed."""
        ...


class Ledger:
    """Writes down calls that have ended."""

    def __init__(self, lane: Lane, book: table.Book, spool: Spool, log: Log) -> None:
        self.lane = lane
        self.book = book
        self.spool = spool
        self.log = log
        self._series: dict[str, int] | None = None

    def settle(self, call: Call) -> None:
        """Record, count and log one call, once."""
        series = call.live.plan.series
        if series is not self._series:
            self._use(series)
        written = record_of(call)
        # The last room is for calls that reached an upstream: those that were refused are many when it runs out.
        if (call.target is not None or not self.spool.full) and self.spool.append(record.encode(written)):
            cost = written.cost_nano or 0
            self.book.commit_totals(*self.spool.place, written.input_tokens, written.output_tokens, cost)
            self.lane.add(self._process.records_written, 1)
        else:
            self.lane.add(self._process.records_shed, 1)
        if call.entry >= 0:
            self._leave(call, written)
        handles = call.target.handles if call.target is not None else self._none
        metrics.account(self.lane, handles, written)
        if call.refused_by:
            self.lane.add(getattr(self._process, f"refusals_{call.refused_by}"), 1)
        if call.live.options.access_log:
            self.log.access(written)

    def _leave(self, call: Call, written: record.Record) -> None:
        """Bring what the call took to what it used, once its record is written."""
        entry, tokens, nano = call.entry, written.input_tokens + written.output_tokens, written.cost_nano or 0
        over_tokens, over_nano = self.book.finish(entry, tokens, nano, monotonic_ns())
        if over_tokens:
            self.lane.add(self._process.overshoot_tokens, over_tokens)
        if over_nano:
            self.lane.add(self._process.overshoot_nano, over_nano)
        if call.soft:
            self.lane.add(self._process.soft_exceeded, 1)

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
