"""Replaces workers that are alive and do nothing: stopped by a signal, or with an event loop that never comes round."""

import time
from collections.abc import Iterable
from typing import Protocol

from fastgw.node.children import Place
from fastgw.plan.plan import Plan
from fastgw.telemetry.log import Log

LATE_S = 3.0
NS = 10**9


class Beats(Protocol):
    """As much of the shared table as is needed."""

    def lane_info(self, lane: int) -> "Beat":
        """What is known of a lane."""
        ...


class Beat(Protocol):
    """When the process in a lane was last seen alive, in nanoseconds of CLOCK_MONOTONIC."""

    @property
    def pid(self) -> int:
        """Its process."""
        ...

    @property
    def beat_ns(self) -> int:
        """When."""
        ...


class Watchdog:
    """Ends workers that have shown no sign of life for too long, so that their places are filled anew.

    A worker writes its sign into the shared table, so that it can be seen whatever has become of its channel. When the
    one who looks was late itself (the machine or the container was stopped), it gives everybody another round.
    """

    def __init__(self, table: Beats, log: Log) -> None:
        self._table = table
        self._log = log
        self._looked = time.monotonic()

    def look(self, places: Iterable[Place], plan: Plan | None) -> None:
        """To be called about every second."""
        now = time.monotonic()
        late, self._looked = now - self._looked > LATE_S, now
        limit = plan.edge.watchdog if plan is not None else 0.0
        if late or not limit:
            return
        for place in places:
            for process in place.processes:
                if process.state not in ("ready", "draining") or process.lane is None:
                    continue
                info = self._table.lane_info(process.lane)
                seen = info.beat_ns / NS if info.pid == process.pid else 0.0
                silent = now - max(seen, process.heard)
                if silent > limit:
                    process.state = "stuck"
                    self._log.error(
                        "child_stuck", child=place.name, pid=process.pid, lane=process.lane, silent_s=round(silent, 3)
                    )
                    process.kill()
