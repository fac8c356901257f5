"""The recorder's process: started by the node, takes what is left and ends with it; `python -m fastgw.recorder.worker`.

It says how it goes every second: records taken so far, how long ago it had taken all there was, and what is wrong.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from contextlib import suppress

import uvloop

from fastgw import child
from fastgw.child import Channel, Job
from fastgw.recorder.offsets import StateError
from fastgw.recorder.recorder import Recorder
from fastgw.telemetry.log import Log

POLL_S = 0.5
"""A commit takes a millisecond of the processor whatever is in it; who follows the records reads the spool itself."""
BEAT_S = 1.0
RETRY_S = 1.0
EXPIRE_S = 60.0
NICE = 5


class Process:
    """The recorder at work, and what it says of it."""

    def __init__(self, recorder: Recorder, channel: Channel, log: Log) -> None:
        self._recorder = recorder
        self._channel = channel
        self._log = log
        self._keep_days: int | None = None
        self._problem: str | None = None
        self._caught_up = time.monotonic()
        self._expire_at = 0.0
        self.ending = asyncio.Event()

    async def run(self) -> None:
        """Take records until told to end, and then what is left."""
        while True:
            # Looked at before the step: when told to end, one more step begins after that.
            last = self.ending.is_set()
            more = await asyncio.to_thread(self._step)
            if last and not more:
                return
            if not more:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.ending.wait(), RETRY_S if self._problem else POLL_S)

    async def beat(self) -> None:
        """Tell the node, for ever, how it goes."""
        while True:
            self._channel.send(
                {
                    "event": "beat",
                    "records": self._recorder.state.totals.records,
                    "damaged": self._recorder.state.damaged,
                    "behind_s": round(time.monotonic() - self._caught_up, 1),
                    "problem": self._problem,
                }
            )
            await asyncio.sleep(BEAT_S)

    async def obey(self) -> None:
        """Do what the supervisor says; when it is gone, end."""
        while (message := await self._channel.receive()) is not None:
            if message.get("cmd") == "drain":
                break
            if message.get("cmd") == "log_level":
                self._log.set_level(str(message["level"]))
            if message.get("cmd") == "keep":
                self._keep_days, self._expire_at = int(message["days"]), 0.0
        self.ending.set()

    def _step(self) -> bool:
        """True when there is more to do at once."""
        try:
            if self._problem is not None:
                self._recorder.reload()
            more = self._recorder.step()
            self._expire()
        except (OSError, StateError) as error:
            self._note(str(error))
            return False
        self._note(None)
        if not more:
            self._caught_up = time.monotonic()
        return more

    def _expire(self) -> None:
        days = self._keep_days
        if days is None or time.monotonic() < self._expire_at:
            return
        self._expire_at = time.monotonic() + EXPIRE_S
        for name in self._recorder.expire(days, time.time()):
            self._log.info("export_expired", file=name)

    def _note(self, problem: str | None) -> None:
        if problem is not None and problem != self._problem:
            self._log.error("recorder_failed", error=problem)
        elif problem is None and self._problem is not None:
            self._log.info("recorder_recovered")
        self._problem = problem


async def _serve(job: Job, control: socket.socket) -> int:
    channel = await Channel.open(control)
    log = Log()
    try:
        recorder = Recorder(job.data_dir, lambda problem: log.error("spool_unreadable", error=problem))
    except (OSError, StateError) as error:
        log.error("recorder_start_failed", error=error)
        log.close()
        return 1
    process = Process(recorder, channel, log)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, process.ending.set)
    channel.send({"event": "ready", "pid": os.getpid(), "lane": None, "revision": job.revision})
    tasks = [asyncio.create_task(process.beat()), asyncio.create_task(process.obey())]
    try:
        await process.run()
    finally:
        for task in tasks:
            task.cancel()
        recorder.close()
        log.close()
    return 0


def main(argument: str) -> None:
    """Do the job described by `argument`; does not return."""
    job = child.read_job(argument)
    control = child.adopt(job)
    with suppress(OSError):
        os.nice(NICE)
    sys.exit(uvloop.run(_serve(job, control)))


if __name__ == "__main__":
    main(sys.argv[1])
