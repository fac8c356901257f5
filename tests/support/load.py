"""Many kept connections that ask again as soon as they are answered: little work a call, so that load costs little."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable

Again = Callable[[int], float | None]
"""Told the last status: seconds until the next request, or None when that was the last."""


class Caller(asyncio.Protocol):
    """One connection. Every answer must have a `content-length`; `done` ends with the last, or with what went wrong."""

    def __init__(self, request: bytes, again: Again, statuses: Counter[int]) -> None:
        self._request, self._again, self._statuses = request, again, statuses
        self._loop = asyncio.get_running_loop()
        self._data = b""
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found or len(body) < length(head):
            return
        self._data = b""
        status = int(head[9:12])
        self._statuses[status] += 1
        wait = self._again(status)
        if wait is None:
            self.done.set_result(None)
        elif wait == 0:
            self._ask()
        else:
            self._loop.call_later(wait, self._ask)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"cut off by the gateway: {exc}"))

    def drop(self) -> None:
        """End the connection at once."""
        self.done.cancel()
        if self._transport is not None:
            self._transport.abort()


def length(head: bytes) -> int:
    """The `content-length` of a message by its head. AssertionError where it has none."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise AssertionError(f"a message without a length: {head!r}")


@contextlib.asynccontextmanager
async def calling(
    port: int, request: bytes, clients: int, again: Again
) -> AsyncIterator[tuple[Counter[int], list[Caller]]]:
    """So many callers at work while the block lasts, and what they were answered, by status."""
    statuses: Counter[int] = Counter()
    loop, callers = asyncio.get_running_loop(), list[Caller]()
    try:
        for _ in range(clients):
            _, caller = await loop.create_connection(lambda: Caller(request, again, statuses), "127.0.0.1", port)
            callers.append(caller)
        yield statuses, callers
    finally:
        for caller in callers:
            caller.drop()
        await asyncio.sleep(0)


async def volley(port: int, request: bytes, clients: int, calls: int, seconds: float = 60.0) -> Counter[int]:
    """`calls` requests in all from so many clients at once; how many were answered with each status."""
    left = calls - clients

    def again(status: int) -> float | None:
        nonlocal left
        left -= 1
        return 0.0 if left >= 0 else None

    async with calling(port, request, clients, again) as (statuses, callers), asyncio.timeout(seconds):
        await asyncio.gather(*(caller.done for caller in callers))
    return statuses
