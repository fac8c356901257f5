"""The upstream client of one worker: a pool for every origin, and one sweep that holds all their deadlines."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection

from fastgw.plan.plan import Origin
from fastgw.upstream.auth.refresh import Report, Vault
from fastgw.upstream.connect import Connector
from fastgw.upstream.dns import Resolver
from fastgw.upstream.pool import Pool, PoolStats

__all__ = ["Client", "Pool"]

SWEEP = 0.05
"""Seconds between two looks at the deadlines: how late one may be noticed."""

LATE = 1.0
"""A sweep this late was not run by a waiting loop: data may lie unread, so that silence cannot be told yet."""

KEEPALIVE = 55.0
"""Seconds a connection may idle: below the 60 s after which common servers and balancers close theirs."""


class Client:
    """Hands out pools. Not for use from more than one loop or thread.

    Args:
        loop: the worker's event loop.
        clock: monotonic seconds. Not the loop's own, which uvloop keeps in whole milliseconds and only once a turn.
        resolver: names to addresses.
        keepalive: seconds a connection may idle.
        report: told when a credential cannot be renewed.

    Attributes:
        counts: what its targets count beside the records, by the place of the counter; who publishes it takes it off.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float] = time.monotonic,
        resolver: Resolver | None = None,
        keepalive: float = KEEPALIVE,
        report: Report | None = None,
    ) -> None:
        self.loop = loop
        self.clock = clock
        self._resolver = resolver or Resolver(loop, clock=clock)
        self.connector = Connector(loop, self._resolver)
        self.counts: Counter[int] = Counter()
        self.vault = Vault(loop, clock=clock, report=report)
        self._keepalive = keepalive
        self._pools: dict[Origin, Pool] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._swept_at = 0.0
        self._late = False

    def start(self) -> None:
        """Begin to hold deadlines."""
        if self._timer is None:
            self._swept_at = self.clock()
            self._timer = self.loop.call_later(SWEEP, self._sweep)

    async def close(self) -> None:
        """Close every connection, ending what is under way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for pool in self._pools.values():
            pool.close()
        self.vault.close()
        self._resolver.close()
        # Two turns: one in which the loop closes the sockets, one in which TLS above them learns of it.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def count(self, place: int) -> None:
        """One more at this place."""
        self.counts[place] += 1

    def pool(self, origin: Origin) -> Pool:
        """The pool of `origin`, always the same one for equal origins, so that connections outlive a plan."""
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(self, origin)
        pool.retired = False
        return pool

    def retire(self, keep: Collection[Origin]) -> None:
        """Close idle connections of origins that are not in `keep`; their busy ones close when their call ends."""
        for origin, pool in self._pools.items():
            if origin not in keep:
                pool.retire()

    def rejoin(self, pool: Pool) -> Pool:
        """Where calls of a retired pool go: a plan still in use may hold one that was already let go."""
        return self._pools.setdefault(pool.origin, pool)

    def stats(self) -> dict[Origin, PoolStats]:
        """The counts of every pool there is."""
        return {origin: pool.stats() for origin, pool in self._pools.items()}

    def _sweep(self) -> None:
        now = self.clock()
        # Twice in a row would be no accident: deadlines hold on a loop that is always late, too.
        self._late = now - self._swept_at > LATE and not self._late
        self._swept_at = now
        self._timer = self.loop.call_later(SWEEP, self._sweep)
        if self._late:
            return
        gone = []
        for origin, pool in self._pools.items():
            pool.sweep(now, self._keepalive)
            if pool.retired and pool.empty:
                gone.append(origin)
        for origin in gone:
            del self._pools[origin]
