"""A worker: the process that serves. `python -m fastgw.gateway.worker JOB`, started by the node and by nobody else.

It reads plans, never configs; it owns a lane of the shared table and a series of spool segments, and lets go of both
when it ends. It ends when told to (drain), on SIGTERM (the same), or soon after its parent is gone.
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import time
from typing import Any

import uvloop

from fastgw import child
from fastgw.child import Channel, Job
from fastgw.gateway.asgi import Gateway
from fastgw.gateway.cors import CrossOrigin
from fastgw.gateway.overload import Gauge, machine_memory, own_memory
from fastgw.granian_host import Application, Host, HostError
from fastgw.plan import file as plan_file
from fastgw.plan.plan import Plan
from fastgw.state.spool import Writer, spool_dir
from fastgw.state.table import open_table
from fastgw.telemetry.log import Log
from fastgw.telemetry.metrics import Mirror, ProcessHandles
from fastgw.upstream.client import Client

TICK_S = 0.25
TICKS_A_BEAT = 4
LAST_WORDS_S = 1.0
COLLECT_S = 2.0
GC_THRESHOLDS = (50_000, 20, 20)


class Worker:
    """One worker. Made on the running loop, from a plan that was read."""

    def __init__(self, job: Job, channel: Channel, plan: Plan, log: Log) -> None:
        loop = asyncio.get_running_loop()
        self._job = job
        self._channel = channel
        self._log = log
        self._plan = plan
        self._table = open_table(job.data_dir, create=False)
        self._lane = self._table.claim_lane(time.monotonic_ns())
        self._writer = Writer(spool_dir(job.data_dir), self._lane.index, plan.options.segment_bytes)
        self._use(plan)
        self._client = Client(loop, report=log.warning)
        self._gateway = Gateway(
            plan, table=self._table, lane=self._lane, spool_writer=self._writer, client=self._client, log=log
        )
        self._host = Host(self._application(plan), job.listeners, loop, front=plan.edge.front)
        self._gauge = Gauge(machine_memory() // job.workers)
        self._counts = Counts(plan)
        self._drain_s: float | None = None
        self._leave_s = 0.0
        self._ending = asyncio.Event()

    async def run(self) -> None:
        """Serve until told to end, and finish what is under way."""
        loop = asyncio.get_running_loop()
        self._client.start()
        self._gateway.start()
        self._host.start()
        loop.add_signal_handler(signal.SIGTERM, self._on_term)
        work = [
            asyncio.create_task(self._obey()),
            asyncio.create_task(self._keep_house()),
            asyncio.create_task(self._live()),
        ]
        self._tell("ready", pid=os.getpid(), lane=self._lane.index, revision=self._plan.revision)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        await self._ending.wait()
        await self._drain()
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await self._close()

    def _on_term(self) -> None:
        self._end(child.ORPHAN_DRAIN_S if child.orphaned(self._job) else self._job.drain)

    def _end(self, seconds: float) -> None:
        """Begin to end; told again, the shorter time holds only if draining has not begun."""
        if self._drain_s is None:
            self._drain_s = seconds
            self._ending.set()

    async def _obey(self) -> None:
        """Do what the supervisor says; without a supervisor, end."""
        while (message := await self._channel.receive()) is not None:
            match message.get("cmd"):
                case "plan":
                    await self._apply(str(message["path"]), int(message["revision"]))
                case "drain":
                    self._leave_s = float(message.get("leave", 0.0))
                    self._end(float(message["seconds"]))
                case "log_level":
                    self._log.set_level(str(message["level"]))
        self._end(child.ORPHAN_DRAIN_S)

    async def _apply(self, path: str, revision: int) -> None:
        """Read a plan off the loop, then swap; one that cannot be served by leaves the old one in force."""
        try:
            plan = await asyncio.to_thread(plan_file.read, path)
            self._host.renew(plan.edge.front)
            self._gateway.apply(plan)
            self._host.use(self._application(plan))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, serving goes on
            self._log.error("plan_refused", revision=revision, error=error)
            self._tell("plan", revision=revision, ok=False, error=f"{type(error).__name__}: {error}")
            return
        if plan.options.log_level != self._plan.options.log_level:
            self._log.set_level(plan.options.log_level)
        self._plan = plan
        self._use(plan)
        self._counts.use(plan)
        # Calls that failed are garbage in cycles, which hold the plan before this one, and its file, until then.
        asyncio.get_running_loop().call_later(COLLECT_S, gc.collect)
        self._tell("plan", revision=plan.revision, ok=True)

    def _use(self, plan: Plan) -> None:
        """Where calls are refused for want of room, the cap is kept by making no segment; else by deleting."""
        options = plan.options
        self._writer.cap_bytes = options.spool_cap if options.refuse_unrecorded else None

    def _application(self, plan: Plan) -> Application:
        """What serves: the gateway itself, unless something stands before it."""
        return CrossOrigin(self._gateway, plan.edge.cors) if plan.edge.cors is not None else self._gateway

    async def _live(self) -> None:
        """Show signs of life, and see whether there is too much to do. It waits for nothing but the time."""
        loop, tick = asyncio.get_running_loop(), 0
        while True:
            if tick % TICKS_A_BEAT == 0:
                self._beat()
            tick += 1
            due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self._weigh(loop.time() - due)

    def _weigh(self, lag: float) -> None:
        before = self._gauge.reason
        reason = self._gauge.look(self._plan.edge.overload, lag, own_memory())
        self._gateway.shed(bool(reason))
        if reason != before:
            event = "overloaded" if reason else "overload_over"
            self._log.warning(event, reason=reason or before, lag_s=round(lag, 3), memory=own_memory())

    async def _keep_house(self) -> None:
        """What must not happen on the request path: ready the next spool segment, sync."""
        tick = 0
        while True:
            # First of all, since a slow disk holds up the rest: without a next segment records are shed.
            if len(self._writer.live) < 2:
                await asyncio.to_thread(self._writer.prepare)
            if tick % TICKS_A_BEAT == 0:
                await asyncio.to_thread(self._writer.sync)
            tick += 1
            await asyncio.sleep(TICK_S)

    def _beat(self) -> None:
        self._lane.beat(time.monotonic_ns())
        self._counts.publish(self._lane, self._client, self._log, self._gateway.pipeline.shed)
        pools = self._client.stats().values()
        self._tell(
            "beat",
            live=self._gateway.live,
            idle=sum(pool.idle for pool in pools),
            busy=sum(pool.busy for pool in pools),
            problem=self._writer.problem,
            overloaded=self._gauge.reason,
            shed=self._gateway.pipeline.shed,
        )

    async def _drain(self) -> None:
        """Refuse new calls, give running ones their time; those still running then end with an error of ours."""
        seconds = self._drain_s or 0.0
        self._tell("draining")
        if self._leave_s:
            # Others listen on the same sockets: nobody is refused here who could not have asked there.
            self._host.leave()
            await asyncio.sleep(min(self._leave_s, seconds))
            seconds = max(seconds - self._leave_s, 0.0)
        self._gateway.drain(seconds)
        self._host.stop()
        try:
            await asyncio.wait_for(self._host.stopped.wait(), seconds + LAST_WORDS_S)
        except TimeoutError:
            self._log.warning("drain_incomplete", live=self._gateway.live, seconds=seconds)

    async def _close(self) -> None:
        await self._gateway.close()
        await asyncio.sleep(0)  # a turn for calls that were ended just now to write their records
        self._counts.publish(self._lane, self._client, self._log, self._gateway.pipeline.shed)
        self._writer.close()
        self._lane.close()
        self._table.close()
        self._channel.close()

    def _tell(self, event: str, **facts: Any) -> None:
        self._channel.send({"event": event, **facts})


class Counts:
    """Brings what the process counts for itself (log lines dropped, upstream connections) into the shared table."""

    def __init__(self, plan: Plan) -> None:
        places = ProcessHandles.find(plan.series)
        self._places = places
        self._log_lines = Mirror(places.log_lines_dropped)
        self._credentials = Mirror(places.credential_failures)
        self._shed = Mirror(places.calls_shed)
        self._pools: dict[Any, tuple[int, ...]] = {}

    def use(self, plan: Plan) -> None:
        """Places never move, so that a new plan changes nothing that was begun."""
        self._places = ProcessHandles.find(plan.series)

    def publish(self, lane: Any, client: Client, log: Log, shed: int) -> None:
        """Add what has come since the last time."""
        self._log_lines.publish(lane, log.dropped)
        self._shed.publish(lane, shed)
        self._credentials.publish(lane, client.vault.failures)
        for place, count in client.counts.items():
            lane.add(place, count)
        client.counts.clear()
        places = self._places
        at = (
            places.connections_opened,
            places.connections_reused,
            places.connections_failed,
            places.queue_refused,
        )
        pools: dict[Any, tuple[int, ...]] = {}
        for origin, pool in client.stats().items():
            now = pools[origin] = (pool.created, pool.reused, pool.connect_failures, pool.queue_full)
            before = self._pools.get(origin, (0, 0, 0, 0))
            for place, count, old in zip(at, now, before, strict=True):
                # Less than before: the pool was let go and made anew, so all it counts is new.
                grown = count - old if count >= old else count
                if grown:
                    lane.add(place, grown)
        self._pools = pools


async def _serve(job: Job, control: socket.socket) -> int:
    channel = await Channel.open(control)
    log = Log()
    try:
        plan = await asyncio.to_thread(plan_file.read, job.plan)
        log.set_level(plan.options.log_level)
        worker = Worker(job, channel, plan, log)
        del plan  # or the first one would stay for the worker's life, whatever is published
    except Exception as error:  # noqa: BLE001 - told here, once; the node tries again
        log.error("worker_start_failed", worker=job.index, error=error)
        log.close()
        return 1
    try:
        await worker.run()
    except HostError as error:
        log.error("worker_start_failed", worker=job.index, error=error)
        return 1
    finally:
        log.close()
    return 0


def _schedule_in_batches() -> None:
    """SCHED_BATCH (sched(7)): a thread that wakes does not preempt the one that runs.

    granian's thread and the loop's wake each other for every request; left to preempt, they change places for every
    request too, which costs about a third of a worker's CPU on one core. Where the policy is refused, nothing else
    changes.
    """
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def main(argument: str) -> None:
    """Do the job described by `argument`; does not return."""
    job = child.read_job(argument)
    control = child.adopt(job)
    child.raise_descriptor_limit()
    _schedule_in_batches()
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    code = loop.run_until_complete(_serve(job, control))
    sys.stdout.flush()
    # granian's threads may still be waiting for the interpreter; a regular exit could wait for them in turn.
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
