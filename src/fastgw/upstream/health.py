"""Whether a target is fit to be asked: its breaker, shared by all workers of a node, and how quickly it answers here.

The breaker is one word of the shared table: so many failures in a row open it for a while, then one call is let
through as a probe and its end decides. A refusal that names a time (429 with `retry-after`) opens it for that long.
Why it is open stands in the two lowest bits of the time until which it is, so that every worker knows.
"""

from collections.abc import Callable
from math import exp
from typing import Final

from fastgw._core import table as shared
from fastgw._core.table_layout import BREAKER_TIME_BITS
from fastgw.plan.plan import Breaker

PROBE_MS = 60_000
"""How long a probe may take before another is let through."""
DECAY_S = 10.0
UNKNOWN_S = 60.0
"""What a target is taken to need that is being asked for the first time: others are asked until it has answered."""
MAX_REST_S = 3600.0
SOON_MS = 1000
"""When to come again where a probe is under way."""
RESTS, WELL, PROBES = range(3)
WHYS: Final = ("failures", "rate", "auth", "failures")
_TIME = (1 << BREAKER_TIME_BITS) - 1


class Health:
    """The breaker of one target with one credential. Times are milliseconds of CLOCK_MONOTONIC.

    `opened` is called when this worker opens it.
    """

    __slots__ = ("_failures", "_open_ms", "_opened", "_slot", "_table", "_told")

    def __init__(self, table: shared.Table, slot: int, breaker: Breaker, opened: Callable[[], None]) -> None:
        self._table = table
        self._slot = slot
        self._failures = breaker.failures
        self._open_ms = breaker.open_ms
        self._told = False
        self._opened = opened

    def ready(self, now_ms: int) -> int:
        """Whether it may be asked now: `RESTS` (0), `WELL`, or `PROBES`: then the probe is the caller's to end.

        It ends with `well`, `failed` or `rest`, and with `give_back` where nothing was learned.
        """
        state = self._table.breaker_state(self._slot, now_ms)
        if state == shared.CLOSED:
            return WELL
        if state != shared.PROBE:
            return RESTS
        self._told = True  # its end is news, whatever it is
        claim_ms = _marked(now_ms + PROBE_MS, self.why) - now_ms
        return PROBES if self._table.breaker_claim_probe(self._slot, now_ms, claim_ms) else RESTS

    def resting(self, now_ms: int) -> bool:
        """Whether it is to be left alone now; unlike `ready` this takes nothing."""
        return self._table.breaker_state(self._slot, now_ms) in (shared.OPENED, shared.PROBING)

    def well(self, now_ms: int) -> None:
        """It answered. Written down only where something else was before."""
        if self._told:
            self._told = False
            self._table.breaker_report(self._slot, True, now_ms, self._failures, self._open_ms)

    def failed(self, now_ms: int) -> None:
        """It could not be reached, kept silent or answered that it is broken."""
        if self._failures:
            self._open("failures", now_ms, self._failures, self._open_ms)

    def rest(self, now_ms: int, seconds: float, why: str) -> None:
        """It asked to be left alone for so long, or this credential is of no use: `why` is `rate` or `auth`."""
        self._open(why, now_ms, 1, round(min(max(seconds, 0.001), MAX_REST_S) * 1000))

    def give_back(self, now_ms: int) -> None:
        """The probe came to nothing: the next call may try."""
        if self._table.breaker_state(self._slot, now_ms) == shared.PROBING:
            until = _marked(now_ms + 1, self.why)
            self._table.breaker_report(self._slot, False, now_ms, 1, until - now_ms)

    def _open(self, why: str, now_ms: int, failures: int, open_ms: int) -> None:
        self._told = True
        before = self._table.breaker_state(self._slot, now_ms)
        until = _marked(now_ms + open_ms, why)
        after = self._table.breaker_report(self._slot, False, now_ms, failures, until - now_ms)
        if after == shared.OPENED != before:
            self._opened()

    @property
    def why(self) -> str:
        """Why it rests, or rested last: `failures`, `rate` or `auth`."""
        return WHYS[self._table.flag(self._slot) & 3]

    def wait_s(self, now_ms: int) -> float:
        """How long it is to be left alone still, in seconds; a second while somebody else tries it."""
        if self._table.breaker_state(self._slot, now_ms) != shared.OPENED:
            return SOON_MS / 1000
        return max((self._table.flag(self._slot) & _TIME) - now_ms, 1) / 1000


def _marked(until_ms: int, why: str) -> int:
    """The time, or up to three milliseconds later, so that it says why."""
    return (until_ms + 3 & ~3) + WHYS.index(why)


class Latency:
    """How long a target takes to answer, in seconds: a peak-sensitive moving average of one worker.

    A slower answer counts in full at once, quicker ones and the time that passes bring the average down over about ten
    seconds (the peak EWMA of Finagle's load balancers). `busy` is how many calls of this worker wait for it now.
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
            weight = self._weight(now)
            self._average = self._average * weight + seconds * (1 - weight)
        self._at = now

    def cost(self, now: float) -> float:
        """What another call may take to be answered; 0 for a target that was never asked."""
        if not self._average:
            return self.busy * UNKNOWN_S
        # Who is left alone for being slow is asked again some day.
        return self._average * self._weight(now) * (self.busy + 1)

    def _weight(self, now: float) -> float:
        return exp(-max(now - self._at, 0.0) / DECAY_S)
