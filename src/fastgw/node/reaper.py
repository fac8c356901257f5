"""What dead workers leave: their calls are settled by their records, and a call without a record gets one.

Blocking, and for one thread at a time. A worker writes a call's record before it settles the call, and counts it after;
so behind the place up to which a lane has counted there is at most what it wrote last.

The node writes records for dead workers in a lane of its own. When it dies before it has freed a call it wrote one for,
its lane is among the dead ones that the next node sees to; so a call is looked for in all of these, and the lanes of
nodes are freed after those of the workers they saw to.
"""

import time
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from fastgw._core import table
from fastgw.state import segment
from fastgw.state.spool import SpoolError, Writer, spool_dir
from fastgw.telemetry import metrics, record
from fastgw.telemetry.log import Log
from fastgw.telemetry.record import Record, RecordError

DIED = "worker_died"
STATUS = 500
SEQUENCE_SHIFT = 32
SEGMENT_BYTES = 256 * 1024


Known = dict[bytes, tuple[int, int]]
"""Tokens and nano-dollars by call id."""


class _Left(NamedTuple):
    """What a dead owner wrote since it last counted.

    ``told`` is what it wrote of others that died, ``reaper`` when the last that did so began; 0 for a worker.
    """

    lane: int
    added: table.Totals
    known: Known
    told: Known
    reaper: int


class Reaper:
    """Looks after the lanes of workers that are gone.

    Args:
        lane: the node's own lane of the table, for the records it writes in their place.
        series: the places of all metric series, as they are now.
    """

    def __init__(
        self, shared: table.Table, lane: table.Lane, data_dir: Path, series: Callable[[], dict[str, int]], log: Log
    ) -> None:
        self._table = shared
        self._lane = lane
        self._book = lane.book()
        self._directory = spool_dir(data_dir)
        self._writer = Writer(self._directory, lane.index, SEGMENT_BYTES)
        self._series = series
        self._log = log
        self._told: Known = {}

    def reap(self) -> int:
        """See to every lane whose worker is gone; how many calls had no record."""
        dead = sorted((self._left(lane) for lane in self._table.unreaped()), key=attrgetter("reaper"))
        for left in dead:
            self._told.update(left.told)
        orphans = sum(self._reap(left) for left in dead)
        # Kept until all went well: what failed half-way is done again.
        self._told.clear()
        if orphans:
            self._writer.sync()
            self._writer.prepare()
        return orphans

    def close(self) -> None:
        """Let go of the spool; the lane is its owner's."""
        self._writer.close()

    def _left(self, lane: int) -> _Left:
        counted = self._table.lane_totals(lane)
        known: Known = {}
        told: Known = {}
        reaper = 0
        added = table.Totals(counted.segment, counted.offset, 0, 0, 0, 0)
        for place, written in self._written(lane, counted.segment):
            known[_id16(written.id)] = _used(written)
            if written.error == DIED:
                told[_id16(written.id)], reaper = _used(written), place[0]
            if place > (counted.segment, counted.offset):
                added = _plus(added, place, written)
        return _Left(lane, added, known, told, reaper)

    def _reap(self, left: _Left) -> int:
        if left.added.records:
            self._table.replay(left.lane, left.added)
        orphans = self._table.reap(left.lane, lambda call: left.known.get(call) or self._told.get(call), self._record)
        self._log.warning("lane_reaped", lane=left.lane, records_counted=left.added.records, calls=len(orphans))
        return len(orphans)

    def _written(self, lane: int, since: int) -> Iterator[tuple[tuple[int, int], Record]]:
        """Where each record of the lane ends, from the writer of that number on, and the record."""
        for name in segment.segment_names(self._directory):
            number, generation, sequence = (int(part) for part in name.removesuffix(".seg").split("-"))
            if number != lane or generation < since:
                continue
            try:
                for offset, payload in segment.frames(self._directory / name):
                    end = segment.after_frame(offset, payload)
                    yield (generation, sequence << SEQUENCE_SHIFT | end), record.decode(payload)
            except (SpoolError, RecordError, OSError) as error:
                self._log.error("record_unreadable", segment=name, error=error)

    def _record(self, orphan: table.Orphan) -> None:
        """Write the record of a call whose worker died before it could."""
        lived = max(time.time() - orphan.started_epoch, 0.0)
        written = Record(
            id=f"req_{orphan.call_id[:10].hex()}",
            ts=orphan.started_epoch * 1_000_000,
            key=orphan.key or None,
            model=orphan.model or None,
            status=STATUS,
            error=DIED,
            # What was held back, of which nobody knows how it would have been divided.
            input_tokens=orphan.tokens,
            usage_source="estimated" if orphan.sent else "none",
            cost_nano=orphan.nano if orphan.sent else None,
            total_ms=lived * 1000,
        )
        series = self._series()
        places = metrics.ProcessHandles.find(series)
        self._lane.add(places.calls_reaped, 1)
        if not self._writer.append(record.encode(written)):
            self._lane.add(places.records_shed, 1)
            return
        self._told[bytes(orphan.call_id)] = _used(written)
        self._book.commit_totals(*self._writer.place, written.input_tokens, 0, written.cost_nano or 0)
        self._lane.add(places.records_written, 1)
        metrics.account(self._lane, metrics.Handles.find(series), written)


def _id16(call_id: str) -> bytes:
    try:
        return bytes.fromhex(call_id.removeprefix("req_")).ljust(16, b"\0")
    except ValueError:
        return b""


def _used(written: Record) -> tuple[int, int]:
    return written.input_tokens + written.output_tokens, written.cost_nano or 0


def _plus(totals: table.Totals, place: tuple[int, int], written: Record) -> table.Totals:
    return table.Totals(
        *place,
        totals.records + 1,
        totals.input_tokens + written.input_tokens,
        totals.output_tokens + written.output_tokens,
        totals.cost_nano + (written.cost_nano or 0),
    )
