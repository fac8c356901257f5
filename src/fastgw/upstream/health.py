"""Whether a target is fit to be asked: its breaker, shared by all workers of a node, and how quickly it answers here.

The breaker is one word of the shared table: so many failures in a row open it for a while, then one call is let
through as a probe and its end decides. A refusal that names a time (429 with `retry-after`) opens it for that long.
"""

from math import exp

from fastgw._core import table as shared
from fastgw.plan.plan import Breaker

PROBE_MS = 60_000
"""How long a probe may take before another is let through."""
DECAY_S = 10.0
MAX_REST_S = 3600.0


class Health:
    """The breaker of one target with one credential. Times are milliseconds of CLOCK_MONOTONIC."""

    __slots__ = ("_failures", "_open_ms", "_slot", "_table", "_told", "until", "why")

    def __init__(self, table: shared.Table, slot: int, breaker: Breaker) -> None:
        self._table = table
        self._slot = slot
        self._failures = breaker.failures
        self._open_ms = breaker.open_ms
        self._told = False
        self.why = "failures"
        self.until = 0

    def ready(self, now_ms: int) -> bool:
        """Whether it may be asked now; with True for a probe the probe is the caller's."""
        state = self._table.breaker_state(self._slot, now_ms)
        if state == shared.CLOSED:
            return True
        if state != shared.PROBE:
            return False
        self._told = True  # its end is news, whatever it is
        return self._table.breaker_claim_probe(self._slot, now_ms, PROBE_MS)

    def well(self, now_ms: int) -> None:
        """It answered. Written down only where something else was before."""
        if self._told:
            self._told = False
            self._table.breaker_report(self._slot, True, now_ms, self._failures, self._open_ms)

    def failed(self, now_ms: int) -> None:
        """It could not be reached, kept silent or answered that it is broken."""
        if self._failures:
            self._told = True
            self._open("failures", now_ms, self._failures, self._open_ms)

    def rest(self, now_ms: int, seconds: float, why: str) -> None:
        """It asked to be left alone for so long, or this credential is of no use: `why` is `rate` or `auth`."""
        self._told = True
        self._open(why, now_ms, 1, round(min(max(seconds, 0.001), MAX_REST_S) * 1000))

    def _open(self, why: str, now_ms: int, failures: int, open_ms: int) -> None:
        if self._table.breaker_report(self._slot, False, now_ms, failures, open_ms) == shared.OPENED:
            self.why, self.until = why, now_ms + open_ms

    def wait_s(self, now_ms: int) -> float:
        """About how long it is to be left alone still, in seconds: as this worker knows it."""
        return max(self.until - now_ms, min(self._open_ms, 1000)) / 1000


class Latency:
    """How long a target takes to answer, in seconds: a peak-sensitive moving average of one worker.

    A slower answer counts in full at once, quicker ones bring the average down over about ten seconds (the peak EWMA
    of Finagle's load balancers). `busy` is how many calls of this worker wait for it now.
    """

    __slots__ = ("_at", "_average", "busy")

    def __init__(self) -> None:
        self._average = self._at = 0.0
        self.busy = 0

    def add(self, seconds: float, now: float) -> None:
        """An answer came after so many seconds, `now` on a monotonic clock."""
        if seconds >= self._average:
            self._average = seconds
        else:
            weight = exp(-max(now - self._at, 0.0) / DECAY_S)
            self._average = self._average * weight + seconds * (1 - weight)
        self._at = now

    @property
    def cost(self) -> float:
        """What another call may take to be answered; 0 for a target that was never asked."""
        return self._average * (self.busy + 1)
