"""Looking after running calls: by hand-made sweeps, and once on a real loop."""

import asyncio
from time import monotonic

import pytest

from fastgw.gateway import watch as module
from fastgw.gateway.watch import INTERVAL, SLOW_EVERY, Watch, body_deadline
from fastgw.plan.plan import Options
from tests.gateway.support import call_of


class Clock:
    """A loop that keeps its timers to itself, and a clock that stands still."""

    def __init__(self):
        self.now, self.timers = 100.0, []

    def call_later(self, delay, callback):
        self.timers.append((delay, callback))
        return self

    def cancel(self):
        self.timers.clear()

    def __call__(self):
        return self.now

    def sweep(self, seconds=0.0):
        self.now += seconds
        delay, callback = self.timers.pop()
        assert delay == INTERVAL
        callback()


class Task:
    def __init__(self):
        self.cancelled = 0

    def cancel(self):
        self.cancelled += 1


class Reply:
    pokes = 0

    def poke(self):
        self.pokes += 1


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


@pytest.fixture
def watch(clock):
    watch = Watch(clock)
    watch.start()
    return watch


def begun(watch, clock, **fields):
    call = call_of(started=clock.now, task=Task(), **fields)
    watch.add(call)
    return call


def test_a_short_call_is_never_watched(watch, clock):
    call = begun(watch, clock)
    clock.sweep(INTERVAL / 2)
    assert len(watch) == 1
    watch.remove(call)
    assert (len(watch), call.exchange.watching, call.exchange.unwatched) == (0, None, 0)


def test_an_old_call_is_watched_and_ends_with_its_client(watch, clock):
    call = begun(watch, clock)
    clock.sweep(INTERVAL)
    call.exchange.watching()
    call.exchange.watching()
    assert (call.cause, call.task.cancelled) == ("client_closed", 1)
    watch.remove(call)
    assert (len(watch), call.exchange.unwatched) == (0, 1)


def test_only_calls_of_that_age_are_looked_at(watch, clock):
    old = begun(watch, clock)
    clock.now += INTERVAL
    young = begun(watch, clock)
    clock.sweep()
    assert (old.exchange.watching is not None, young.exchange.watching) == (True, None)
    clock.sweep(INTERVAL)
    assert young.exchange.watching is not None
    assert len(watch) == 2


def test_a_call_that_is_done_is_not_cancelled(watch, clock):
    call = begun(watch, clock)
    clock.sweep(INTERVAL)
    call.done = True
    call.exchange.watching()
    assert (call.cause, call.task.cancelled) == ("", 0)


def test_an_upload_is_not_watched_for_leaving_but_for_slowness(watch, clock):
    call = begun(watch, clock, body_deadline=clock.now + 1)
    clock.sweep(INTERVAL)
    clock.sweep(0.9)
    assert (call.exchange.watching, call.cause) == (None, "")
    clock.sweep(0.2)
    assert (call.cause, call.task.cancelled) == ("request_timeout", 1)
    clock.sweep(1)
    assert call.task.cancelled == 1
    watch.remove(call)
    assert len(watch) == 0


def test_an_upload_that_came_in_is_watched_as_any_other(watch, clock):
    call = begun(watch, clock, body_deadline=clock.now + 1)
    clock.sweep(INTERVAL)
    call.body_deadline = 0.0
    clock.sweep(5)
    assert (call.cause, len(watch)) == ("", 1)
    call.exchange.watching()
    assert call.cause == "client_closed"


def test_silence_is_filled_when_its_time_has_come(watch, clock):
    silent = begun(watch, clock, poke_at=clock.now + 10, reply=Reply())
    young = begun(watch, clock, poke_at=clock.now + 1000, reply=Reply())
    begun(watch, clock, poke_at=clock.now + 10)
    waiting = begun(watch, clock, reply=Reply())
    for _ in range(SLOW_EVERY):
        clock.sweep(INTERVAL)
    assert silent.reply.pokes == 0
    clock.now += 10
    for _ in range(SLOW_EVERY):
        clock.sweep(INTERVAL)
    assert [call.reply.pokes for call in (silent, young, waiting)] == [1, 0, 0]


def test_all_can_be_ended_in_every_phase(watch, clock):
    calls = [begun(watch, clock), begun(watch, clock, body_deadline=clock.now + 9)]
    clock.sweep(INTERVAL)
    calls.append(begun(watch, clock))
    watch.end_all("shutting_down")
    watch.end_all("client_closed")
    assert [(call.cause, call.task.cancelled) for call in calls] == [("shutting_down", 1)] * 3


def test_stopping_stops(watch, clock):
    watch.stop()
    assert clock.timers == []
    Watch(clock).stop()


@pytest.mark.parametrize(
    ("length", "allowed"), [(-1, 30.0), (0, 30.0), (30 * 1024, 30.0), (60 * 1024, 60.0), (32 * 1024 * 1024, 32768.0)]
)
def test_a_large_body_gets_more_time(length, allowed):
    assert body_deadline(Options(body_timeout=30.0, body_rate=1024), 5.0, length) == 5.0 + allowed


async def test_on_a_real_loop_a_client_that_leaves_is_noticed_soon():
    watch = Watch(asyncio.get_running_loop())
    watch.start()
    call = call_of(started=monotonic())

    async def serve():
        await asyncio.sleep(30)

    call.task = asyncio.create_task(serve())
    watch.add(call)
    began = monotonic()
    while call.exchange.watching is None:
        await asyncio.sleep(0.001)
    assert monotonic() - began < 10 * INTERVAL
    call.exchange.watching()
    with pytest.raises(asyncio.CancelledError):
        await call.task
    watch.remove(call)
    watch.stop()
    assert (call.cause, len(watch)) == ("client_closed", 0)
