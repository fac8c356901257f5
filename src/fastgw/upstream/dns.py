"""Names to addresses, remembered: a name server that fails or dawdles does not take the gateway's providers away.

An answer is fresh for `ttl` seconds. Past that the next caller starts one shared look-up and waits for it no longer
than `patience` when there is an older answer; the last good answer serves while look-ups fail, for at most `stale`
seconds. `getaddrinfo` tells no TTL, hence the fixed one.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import ip_address
from typing import Any

Address = tuple[int, int, int, str, Any]
"""As `getaddrinfo` has it: family, type, protocol, canonical name, socket address."""

Lookup = Callable[[str, int], Awaitable[list[Address]]]

TTL = 30.0
STALE = 3600.0
PATIENCE = 1.0
RETRY_AFTER = 1.0
MAX_NAMES = 1024


class _Name:
    """What is known of one (host, port)."""

    __slots__ = ("addresses", "asked_at", "error", "found_at", "task")

    def __init__(self) -> None:
        self.addresses: list[Address] = []
        self.found_at = self.asked_at = float("-inf")
        self.error = ""
        self.task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        return self.task is not None and not self.task.done()


THREADS = 16


class Resolver:
    """A cache before `getaddrinfo`, one per worker.

    Args:
        loop: where look-ups run (in its own threads).
        lookup: what to ask instead of the loop's `getaddrinfo`.
        clock: monotonic seconds.
        ttl, stale, patience: as the module says.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        lookup: Lookup | None = None,
        clock: Callable[[], float] = time.monotonic,
        ttl: float = TTL,
        stale: float = STALE,
        patience: float = PATIENCE,
    ) -> None:
        self._loop = loop
        self._lookup = lookup or self._ask
        self._clock = clock
        self._ttl = ttl
        self._stale = stale
        self._patience = patience
        self._names: dict[tuple[str, int], _Name] = {}
        # Of its own: names that nobody answers for must not hold up what else runs in threads.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="dns")
        self.lookups = 0
        self.failures = 0
        self.served_stale = 0

    async def resolve(self, host: str, port: int) -> list[Address]:
        """The addresses of `host`, best first, at least one.

        Raises:
            OSError: the name cannot be resolved and no answer young enough is remembered.
        """
        literal = _literal(host, port)
        if literal is not None:
            return literal
        name = self._name(host, port)
        age = self._clock() - name.found_at
        if age < self._ttl:
            return name.addresses
        usable = age < self._stale
        task = self._refresh(host, port, name)
        if task is not None:
            # `wait` leaves the shared look-up running when this caller is cancelled or has waited enough.
            await asyncio.wait({task}, timeout=self._patience if usable else None)
        if self._clock() - name.found_at < self._ttl:
            return name.addresses
        if usable:
            self.served_stale += 1
            return name.addresses
        raise OSError(f"cannot resolve {host}: {name.error or 'the look-up was abandoned'}")

    def close(self) -> None:
        """Forget everything and stop waiting for look-ups."""
        for name in self._names.values():
            if name.task is not None:
                name.task.cancel()
        self._names.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _name(self, host: str, port: int) -> _Name:
        key = (host, port)
        name = self._names.get(key)
        if name is None:
            if len(self._names) >= MAX_NAMES:
                self._drop_oldest()
            name = self._names[key] = _Name()
        return name

    def _drop_oldest(self) -> None:
        del self._names[min(self._names, key=lambda key: (self._names[key].busy, self._names[key].found_at))]

    def _refresh(self, host: str, port: int, name: _Name) -> "asyncio.Task[None] | None":
        """The look-up under way, or a new one; None right after a failure that an older answer covers."""
        if name.busy:
            return name.task
        now = self._clock()
        if now - name.found_at < self._stale and now - name.asked_at < RETRY_AFTER:
            return None
        name.asked_at = now
        name.task = self._loop.create_task(self._update(host, port, name))
        return name.task

    async def _update(self, host: str, port: int, name: _Name) -> None:
        self.lookups += 1
        try:
            found = await self._lookup(host, port)
            if not found:
                raise OSError("no address")
        except (OSError, UnicodeError) as error:
            self.failures += 1
            name.error = getattr(error, "strerror", None) or str(error)
            return
        name.addresses = list(found)
        name.found_at = self._clock()
        name.error = ""

    async def _ask(self, host: str, port: int) -> list[Address]:
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        return list[Address](await self._loop.run_in_executor(self._threads, ask))


def _literal(host: str, port: int) -> list[Address] | None:
    """An address that needs no look-up, scope and all, or None for a name."""
    try:
        version = ip_address(host.partition("%")[0]).version
    except ValueError:
        return None
    if version == 4:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    address, _, scope = host.partition("%")
    number = socket.if_nametoindex(scope) if scope else 0
    return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, number))]


def interleave(addresses: list[Address]) -> list[Address]:
    """The addresses with their families taking turns, the first one's first (RFC 8305 section 4)."""
    if not addresses:
        return []
    first = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    turns: list[Address] = []
    for index in range(max(len(first), len(others))):
        turns += first[index : index + 1] + others[index : index + 1]
    return turns
