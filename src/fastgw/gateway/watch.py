"""Watches over running calls without a timer or a task a call.

A sweep looks at the calls that are older than one interval: short calls never pay for it, and a client that leaves is
still noticed within two intervals. Slow uploads and silent streams are looked after by the same sweep.
"""

import asyncio
from time import monotonic

from fastgw.call import Call
from fastgw.plan.plan import Options

INTERVAL = 0.025
SLOW_EVERY = 20


class Watch:
    """The calls of one worker that are running."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._fresh: dict[Call, None] = {}
        self._watched: dict[Call, None] = {}
        self._uploading: dict[Call, None] = {}
        self._sending: dict[Call, tuple[int, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._ticks = 0

    def __len__(self) -> int:
        return len(self._fresh) + len(self._watched) + len(self._uploading)

    def start(self) -> None:
        """Begin to sweep."""
        self._timer = self._loop.call_later(INTERVAL, self._sweep)

    def stop(self) -> None:
        """Stop sweeping."""
        if self._timer is not None:
            self._timer.cancel()

    def add(self, call: Call) -> None:
        """A call has begun."""
        self._fresh[call] = None

    def remove(self, call: Call) -> None:
        """A call has ended."""
        if call in self._fresh:
            del self._fresh[call]
            return
        self._watched.pop(call, None)
        self._sending.pop(call, None)
        self._uploading.pop(call, None)
        call.exchange.unwatch()

    def end_all(self, cause: str) -> None:
        """Abandon every running call."""
        for calls in (self._fresh, self._watched, self._uploading):
            for call in list(calls):
                call.abandon(cause)

    def _sweep(self) -> None:
        self._timer = self._loop.call_later(INTERVAL, self._sweep)
        now = monotonic()
        self._promote(now - INTERVAL)
        if self._uploading:
            self._look_at_uploads(now)
        self._ticks += 1
        if self._ticks % SLOW_EVERY == 0 and self._watched:
            self._keep_alive(now)

    def _promote(self, before: float) -> None:
        old = []
        for call in self._fresh:
            if call.started > before:
                break
            old.append(call)
        for call in old:
            del self._fresh[call]
            if call.body_deadline:
                self._uploading[call] = None
            else:
                self._follow(call)

    def _follow(self, call: Call) -> None:
        self._watched[call] = None
        call.exchange.watch(lambda: call.abandon("client_closed"))

    def _look_at_uploads(self, now: float) -> None:
        for call in list(self._uploading):
            if not call.body_deadline:
                del self._uploading[call]
                self._follow(call)
            elif now > call.body_deadline:
                call.abandon("request_timeout")

    def _keep_alive(self, now: float) -> None:
        for call in list(self._watched):
            if not call.poke_at:
                self._look_at_sending(call, now)
            elif now >= call.poke_at and call.reply is not None:
                call.reply.poke()

    def _look_at_sending(self, call: Call, now: float) -> None:
        """A client that takes nothing of its answer for too long has left, whatever its connection says."""
        if not call.exchange.started:
            return
        sent, since = self._sending.get(call, (-1, now))
        if sent != call.bytes_out:
            self._sending[call] = call.bytes_out, now
        elif now - since >= call.live.options.send_timeout:
            call.abandon("client_closed")


def body_deadline(options: Options, now: float, length: int) -> float:
    """When a body of `length` bytes (-1: unknown) must be in: the fixed allowance, and more for what is large."""
    return now + max(options.body_timeout, max(length, 0) / options.body_rate)
