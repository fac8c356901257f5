"""Places and their processes: real children with bad manners."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from fastgw.child import Job
from fastgw.node import children
from fastgw.node.children import Place, Process, Role
from fastgw.telemetry.log import Log
from tests.node.support import alive


async def eventually(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        await asyncio.sleep(0.01)


class Stage:
    """A place with the fake child in it, and all it said."""

    def __init__(self, behaviour: str, log: Log, ready_s: float) -> None:
        self.messages: list[dict[str, Any]] = []
        self.pids: list[int] = []
        self.restarted = 0

        def job(index: int, control: int) -> Job:
            return Job(
                parent=os.getpid(), control=control, listeners=(), data_dir="", plan=behaviour, revision=3, index=index
            )

        role = Role("fake", "tests.node.fake_child", job, ready_s)
        self.place = Place(role, 0, log, heard=self._heard, restarted=self._restarted)
        self.task = asyncio.create_task(self.place.run())

    def _heard(self, _: Place, process: Process, message: dict[str, Any]) -> None:
        self.messages.append(message)

    def _restarted(self, _: Place) -> None:
        self.restarted += 1

    def ready(self) -> bool:
        return self.place.current is not None and self.place.current.state == "ready"


@pytest.fixture
async def stage() -> AsyncIterator[Callable[..., Stage]]:
    log = Log(fd=os.open(os.devnull, os.O_WRONLY))
    stages: list[Stage] = []

    def begin(behaviour: str, ready_s: float = 20.0) -> Stage:
        stages.append(Stage(behaviour, log, ready_s))
        return stages[-1]

    yield begin
    for one in stages:
        one.place.kill()
        await one.place.stop(0.0)
        await one.task
    log.close()


async def test_ready_send_stop(stage: Callable[..., Stage]) -> None:
    one = stage("good")
    await eventually(one.ready)
    assert one.place.current is not None
    pid = one.place.current.pid
    one.place.send({"cmd": "plan", "path": "p", "revision": 4})
    await eventually(lambda: any(message.get("message", {}).get("revision") == 4 for message in one.messages))
    await one.place.stop(5.0)
    await one.task
    assert not alive(pid)
    assert one.restarted == 0
    assert one.messages[-1]["message"] == {"cmd": "drain", "seconds": 5.0}


async def test_backs_off_while_it_dies_young(stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch) -> None:
    one = stage("die")
    pauses: list[float] = []
    usual = one.place._pause

    def noted(process: Process | None) -> float:
        pauses.append(usual(process))
        return pauses[-1] / 50

    monkeypatch.setattr(one.place, "_pause", noted)
    await eventually(lambda: len(pauses) >= 8)
    assert pauses[:8] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert one.restarted >= 8


async def test_pause_begins_anew_after_a_long_life(stage: Callable[..., Stage]) -> None:
    one = stage("good")
    await eventually(one.ready)
    process = one.place.current
    assert process is not None
    assert [one.place._pause(process) for _ in range(3)] == [0.05, 0.1, 0.2]
    process.born -= children.SETTLED_S
    assert one.place._pause(process) == 0.05
    process.state = "draining"
    assert one.place._pause(process) == 0.0
    process.state = "ready"


async def test_never_ready_is_replaced(stage: Callable[..., Stage]) -> None:
    one = stage("mute", ready_s=0.3)
    await eventually(lambda: one.restarted >= 2)


async def test_deaf_process_is_killed_after_its_time(stage: Callable[..., Stage]) -> None:
    one = stage("stubborn")
    await eventually(one.ready)
    assert one.place.current is not None
    pid = one.place.current.pid
    await one.place.stop(0.1)
    assert not alive(pid)


async def test_deaf_starting_process_is_killed(stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "START_KILL_S", 0.2)
    one = stage("stubborn-start")
    await eventually(lambda: one.messages)
    assert one.place.current is not None
    pid = one.place.current.pid
    await one.place.stop(30.0)
    assert not alive(pid)


async def test_a_child_that_cannot_be_started_is_tried_again(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "_python", lambda: ("/nonexistent/python",))
    one = stage("good")
    await eventually(lambda: one.restarted >= 1)
    monkeypatch.undo()
    await eventually(one.ready)
