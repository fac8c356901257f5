"""Keeps what the schemes fetch up to date, so that a request finds it ready: one attribute read, no waiting.

One task a credential on the worker's loop; what blocks is done in threads of its own, since a token service that hangs
must not hold up what else runs in threads. A proof is renewed at four fifths of its life; when that fails, ever more
rarely, and the old one serves until it has expired.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

from fastgw.errors import UpstreamError
from fastgw.plan.credentials import Credential
from fastgw.upstream.auth.base import AuthError, Fetch, Fresh, Proof, fetcher

Report = Callable[..., None]
"""`report(event, **facts)`, as the methods of a log."""

RENEW_AT = 0.8
JITTER = 0.1
"""Up to this part of the wait is left out, so that many workers do not ask at once."""
LEAST_S = 0.25
REREAD_S = 600.0
"""When a proof that tells no end is fetched anew: files are rotated in place."""
RETRY_FIRST_S, RETRY_MOST_S = 0.5, 30.0
REFUSED_S = 5.0
"""A proof this young is not renewed because an upstream refused it: it would refuse the next one too."""
THREADS = 4


class Source:
    """One credential of a worker. `current` is the proof that holds now, None when there is none."""

    __slots__ = (
        "_expiry", "_fetch", "_fetched_at", "_next_at", "_task", "_there", "_vault", "_wake", "credential", "current",
        "failures", "name", "problem", "renewals",
    )  # fmt: skip

    def __init__(self, vault: "Vault", credential: Credential, name: str) -> None:
        self.credential = credential
        self.name = name
        self.current: Proof | None = None
        self.problem = ""
        self.renewals = self.failures = 0
        self._vault = vault
        self._fetch: Fetch | None = None
        self._fetched_at = self._next_at = 0.0
        self._there, self._wake = asyncio.Event(), asyncio.Event()
        self._expiry: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def secret(self) -> bytes:
        """What of the proof no caller may see."""
        return self.current.secret if self.current is not None else b""

    def start(self) -> None:
        """Begin to fetch and renew."""
        if self._task is None and not self._vault.closed:
            self._task = self._vault.loop.create_task(self._keep())

    def stop(self) -> None:
        """Renew no more; what is there serves until it expires."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def close(self) -> None:
        """Let go of everything."""
        self.stop()
        if self._expiry is not None:
            self._expiry.cancel()

    def refused(self) -> None:
        """An upstream did not take the proof: fetch another at once, unless this one is quite new."""
        if self.current is not None and self._vault.clock() - self._fetched_at > REFUSED_S:
            self._wake.set()

    async def first(self, seconds: float) -> Proof:
        """The proof, waited for; no longer than until it is clear that `seconds` will not do.

        Raises:
            UpstreamError: `upstream_auth_failed`, with what was wrong.
        """
        source = self._vault.rejoin(self)
        if source is not self:
            return await source.first(seconds)
        until = self._vault.clock() + seconds
        while self.current is None:
            left = until - self._vault.clock()
            if left <= 0 or self._next_at > until:
                raise self._failed()
            try:
                # Never beyond the next attempt: after one that failed, the wait may no longer be worth it.
                await asyncio.wait_for(self._there.wait(), min(left, LEAST_S))
            except TimeoutError:
                continue
        return self.current

    def _failed(self) -> UpstreamError:
        scheme = self.credential.__struct_config__.tag
        problem = self.problem or "no answer in time"
        return UpstreamError(
            "upstream_auth_failed",
            f"This gateway could not get its own credential for the provider {self.name!r} ({scheme}: {problem}). "
            "Your key is fine; whoever runs this gateway must look at the provider's `auth`.",
            reason="auth",
            sent=False,
        )

    async def _keep(self) -> None:
        failed = 0
        while True:
            self._next_at = 0.0
            self._wake.clear()
            try:
                fresh = await self._vault.run(self._blocking)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
                self._note(str(error) if isinstance(error, AuthError) else f"failed with {type(error).__name__}")
                wait = min(RETRY_FIRST_S * 2**failed, RETRY_MOST_S)
                failed = min(failed + 1, 16)
            else:
                failed, wait = 0, self._take(fresh)
            await self._sleep(max(wait * (1 - JITTER * random.random()), LEAST_S))  # noqa: S311 - spreads load

    async def _sleep(self, seconds: float) -> None:
        self._next_at = self._vault.clock() + seconds
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return

    def _blocking(self) -> Fresh:
        if self._fetch is None:
            self._fetch = fetcher(self.credential)
        return self._fetch()

    def _take(self, fresh: Fresh) -> float:
        """Serve by this from now on; the seconds until the next is to be fetched."""
        self.current, self.problem = fresh.proof, ""
        self.renewals += 1
        self._fetched_at = self._vault.clock()
        self._there.set()
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if fresh.life is None:
            return REREAD_S
        self._expiry = self._vault.loop.call_later(fresh.life, self._expire)
        return fresh.life * RENEW_AT

    def _expire(self) -> None:
        self.current, self._expiry = None, None
        self._there.clear()

    def _note(self, problem: str) -> None:
        self.problem = problem
        self.failures += 1
        self._vault.failures += 1
        scheme = str(self.credential.__struct_config__.tag)
        serving = self.current is not None
        self._vault.report(
            "credential_not_renewed", provider=self.name, scheme=scheme, problem=problem, old_one_serves=serving
        )


class Vault:
    """The credentials of one worker. Not for use from more than one loop or thread.

    Args:
        loop: the worker's event loop.
        clock: monotonic seconds.
        report: told of every fetch that failed; `failures` counts them.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float] = time.monotonic,
        report: Report | None = None,
    ) -> None:
        self.loop = loop
        self.clock = clock
        self.report: Report = report or _unheard
        self.failures = 0
        self.closed = False
        self._sources: dict[Credential, Source] = {}
        self._threads: ThreadPoolExecutor | None = None

    def source(self, credential: Credential, name: str) -> Source:
        """The source for `credential`, always the same one for equal credentials, so that a token outlives a plan."""
        source = self._sources.get(credential)
        if source is None:
            source = self._sources[credential] = Source(self, credential, name)
        source.start()
        return source

    def retire(self, keep: Collection[Credential | None]) -> None:
        """Let go of those not in `keep`; calls of an older plan go on with the token that is there."""
        for credential in [one for one in self._sources if one not in keep]:
            self._sources.pop(credential).stop()

    def rejoin(self, source: Source) -> Source:
        """The source that is kept up to date: a call of an older plan may hold one that was let go."""
        found = self._sources.setdefault(source.credential, source)
        found.start()
        return found

    def sources(self) -> list[Source]:
        """Every source there is."""
        return list(self._sources.values())

    async def run(self, work: Callable[[], Fresh]) -> Fresh:
        """Do what blocks, in a thread."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, "fastgw-auth")
        return await self.loop.run_in_executor(self._threads, work)

    def close(self) -> None:
        """Let go of everything; a fetch under way ends by itself."""
        self.closed = True
        for source in self._sources.values():
            source.close()
        self._sources.clear()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None


def _unheard(event: str, **facts: object) -> None:
    """For a vault without a log."""
