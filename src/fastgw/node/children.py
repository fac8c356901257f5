"""The processes of the tree: each has a place, and a place whose process dies gets another one.

A place is kept filled for ever: the pause before a new process grows from 0.05 s to 2 s while they keep dying young,
and a process that is not ready in time is replaced like a dead one. A process that says it is draining (somebody sent
it SIGTERM) is replaced at once and finishes beside its successor.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from fastgw.child import Channel, Job
from fastgw.telemetry.log import Log

READY_S = 20.0
BACKOFF_S = 0.05
BACKOFF_LIMIT_S = 2.0
SETTLED_S = 10.0
START_KILL_S = 3.0
KILL_AFTER_S = 2.0


class Role(msgspec.Struct, frozen=True):
    """What the processes of a place are: how they are started, and what they are told."""

    name: str
    module: str
    job: Callable[[int, int], Job]
    """`job(index, control descriptor)`."""
    ready_s: float = READY_S


class Process:
    """One living process."""

    def __init__(self, inner: asyncio.subprocess.Process, channel: Channel) -> None:
        self._inner = inner
        self.channel = channel
        self.pid = inner.pid
        self.state = "starting"
        self.lane: int | None = None
        self.revision = 0
        self.error: str | None = None
        self.facts: dict[str, Any] = {}
        """What it last told of itself: calls in flight, connections, trouble with the spool."""
        self.started = time.time()
        self.born = time.monotonic()
        self.heard = self.born
        self.left = asyncio.Event()
        """It has died, or will soon on its own account: its place is to be filled."""
        self.gone = asyncio.Event()

    @property
    def outcome(self) -> str:
        """How it ended."""
        code = self._inner.returncode
        if code is None:
            return "running"
        if code >= 0:
            return f"exit code {code}"
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            self._inner.send_signal(number)

    async def reap(self) -> None:
        """Wait for its end."""
        await self._inner.wait()
        self.state = "gone"
        self.channel.close()
        self.left.set()
        self.gone.set()


class Place:
    """A place in the tree and the processes in it: the current one, and those that are finishing."""

    def __init__(
        self,
        role: Role,
        index: int,
        log: Log,
        *,
        heard: Callable[["Place", Process, dict[str, Any]], None],
        restarted: Callable[["Place"], None],
    ) -> None:
        self.role = role
        self.index = index
        self.restarts = 0
        self.current: Process | None = None
        self._finishing: list[Process] = []
        self._log = log
        self._heard = heard
        self._restarted = restarted
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._backoff = BACKOFF_S

    @property
    def name(self) -> str:
        """For logs."""
        return f"{self.role.name} {self.index}"

    @property
    def processes(self) -> tuple[Process, ...]:
        """All that live."""
        return (*self._finishing, *([self.current] if self.current else []))

    async def run(self) -> None:
        """Keep the place filled until `stop`."""
        while not self._stopping.is_set():
            process = await self._start()
            if process is not None:
                await self._hold(process)
            if self._stopping.is_set():
                return
            self.restarts += 1
            self._restarted(self)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._pause(process))

    async def stop(self, seconds: float, leave: float = 0.0) -> None:
        """End what is here: a running process gets `seconds` to finish, a starting one three at most.

        For `leave` seconds of them it goes on for those who are connected, since others listen on its sockets.
        """
        self._stopping.set()
        living = self.processes
        for process in living:
            self._ask_to_end(process, seconds, leave)
        if living:
            await asyncio.gather(*(self._end(process, seconds) for process in living))
        for task in tuple(self._tasks):
            with suppress(asyncio.CancelledError):
                await task

    def kill(self) -> None:
        """End what is here at once."""
        self._stopping.set()
        for process in self.processes:
            process.kill()

    def send(self, message: dict[str, Any]) -> None:
        """Tell the current process, if there is one."""
        if self.current is not None and not self.current.channel.send(message):
            self._log.warning("child_not_listening", child=self.name, pid=self.current.pid)

    async def _start(self) -> Process | None:
        ours, theirs = socket.socketpair()
        try:
            job = self.role.job(self.index, theirs.fileno())
            inner = await asyncio.create_subprocess_exec(
                *_python(),
                "-m",
                self.role.module,
                msgspec.json.encode(job).decode(),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *(listener.fd for listener in job.listeners)),
                # A group of its own: the terminal's Ctrl-C is for the supervisor, which drains.
                process_group=0,
            )
        except OSError as error:
            ours.close()
            self._log.error("child_start_failed", child=self.name, error=error)
            return None
        finally:
            theirs.close()
        process = self.current = Process(inner, await Channel.open(ours))
        if self._stopping.is_set():  # it came into being while it was being called off
            process.kill()
        self._task(self._listen(process))
        self._task(self._reap(process))
        return process

    async def _hold(self, process: Process) -> None:
        """Until the place must be filled anew."""
        timer = asyncio.get_running_loop().call_later(self.role.ready_s, self._give_up, process)
        await process.left.wait()
        timer.cancel()
        self.current = None
        if not process.gone.is_set():
            self._finishing.append(process)

    async def _listen(self, process: Process) -> None:
        while (message := await process.channel.receive()) is not None:
            process.heard = time.monotonic()
            event = message.get("event")
            if event == "ready":
                process.state = "ready"
            elif event == "draining":
                process.state = "draining"
                process.left.set()
            self._heard(self, process, message)

    async def _reap(self, process: Process) -> None:
        await process.reap()
        if process in self._finishing:
            self._finishing.remove(process)
        if not self._stopping.is_set():
            lived = round(time.monotonic() - process.born, 3)
            self._log.warning(
                "child_ended", child=self.name, pid=process.pid, lane=process.lane, how=process.outcome, lived_s=lived
            )

    def _give_up(self, process: Process) -> None:
        if process.state == "starting":
            self._log.error("child_not_ready", child=self.name, pid=process.pid, seconds=self.role.ready_s)
            process.kill()

    def _pause(self, process: Process | None) -> float:
        """Seconds before the next try; none to replace a process that is leaving in good order."""
        lived = time.monotonic() - process.born if process is not None else 0.0
        if lived >= SETTLED_S:
            self._backoff = BACKOFF_S
        if process is not None and process.state == "draining":
            return 0.0
        pause, self._backoff = self._backoff, min(self._backoff * 2, BACKOFF_LIMIT_S)
        return pause

    def _ask_to_end(self, process: Process, seconds: float, leave: float) -> None:
        if process.state == "starting":
            process.kill(signal.SIGTERM)
        process.channel.send({"cmd": "drain", "seconds": seconds} | ({"leave": leave} if leave else {}))

    async def _end(self, process: Process, seconds: float) -> None:
        limit = START_KILL_S if process.state == "starting" else seconds + KILL_AFTER_S
        try:
            await asyncio.wait_for(process.gone.wait(), limit)
        except TimeoutError:
            self._log.warning("child_killed", child=self.name, pid=process.pid, seconds=limit)
            process.kill()
            await process.gone.wait()

    def _task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _python() -> Sequence[str]:
    """Our own interpreter; without the working directory on its path, unless it is on ours."""
    local = "" in sys.path or os.getcwd() in sys.path
    return (sys.executable,) if local else (sys.executable, "-P")
