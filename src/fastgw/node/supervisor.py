"""The node: compiles, binds, starts workers and console, keeps them alive, publishes changes, ends it all in order."""

import asyncio
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from fastgw import __version__
from fastgw._core import table as shared
from fastgw.child import Job, Listener, raise_descriptor_limit
from fastgw.node.children import Place, Process, Role
from fastgw.node.cores import worker_count
from fastgw.node.datadir import DataDir, open_state
from fastgw.node.errors import NOTHING_TO_SERVE, TAKE_OVER, StartError
from fastgw.node.greeting import greeting
from fastgw.node.housekeeping import Housekeeper
from fastgw.node.listeners import beyond_loopback, bind_tcp, bind_unix, close_all, describe
from fastgw.node.options import ServeOptions
from fastgw.node.publish import Publisher
from fastgw.node.reaper import Reaper
from fastgw.node.report import listening, problems_of, ready_in, recorder_of, tls_expires, worker_of
from fastgw.node.status import LOOK_S, Reporter, Spool, Status
from fastgw.node.upgrade import LEAVE_S, Gate, Legacy
from fastgw.node.watch import Watcher
from fastgw.node.watchdog import Watchdog
from fastgw.plan.compile import ConfigErrors, Sources, watched
from fastgw.plan.sources import providers_in
from fastgw.state.secrets import DEMO_KEY
from fastgw.state.spool import spool_dir, usage
from fastgw.telemetry.log import LEVELS, Log
from fastgw.telemetry.metrics import ProcessHandles

JANITOR_S = 2.0
REAP_S = 1.0
RECORDER_S = 10.0
MODULES = {
    "worker": "fastgw.gateway.worker",
    "console": "fastgw.console",
    "recorder": "fastgw.recorder.worker",
    "mock": "fastgw.node.demo",
}


class Node:
    """One node. `run` is its whole life; `terminate` and `reload` may be called at any time on its loop.

    Args:
        modules: which module each kind of child runs.
    """

    def __init__(self, options: ServeOptions, log: Log, modules: dict[str, str] | None = None) -> None:
        self.options = options
        self.log = log
        self.ready = False
        self._modules = {**MODULES, **(modules or {})}
        self._demo = options.demo
        self._config_error: list[str] | None = None
        self._log_level: str | None = None
        self._spool = Spool()
        self._started = time.time()
        self._ending = asyncio.Event()
        self._now = asyncio.Event()
        self._changed = asyncio.Event()
        self._places: list[Place] = []
        self._workers: list[Place] = []
        self._recorder: Place | None = None
        self._recorder_said: tuple[dict[str, Any], float] = {}, time.monotonic()
        self._sockets: list[socket.socket] = []
        self._console_sockets: list[socket.socket] = []
        self._mock_sockets: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._data: DataDir | None = None
        self.publishing = asyncio.Lock()
        self._upkeep = asyncio.Lock()
        self._legacy: Legacy | None = None
        self._gate: Gate | None = None
        self._in_charge = False
        self._settled = asyncio.Event()

    def terminate(self) -> None:
        """End in good order; called again: at once."""
        if self._ending.is_set():
            self._now.set()
            for place in self._places:
                place.kill()
        self._ending.set()
        self._settled.set()

    def reload(self) -> None:
        """Read the config again and publish what is new."""
        self._changed.set()

    async def run(self) -> None:
        """Serve until told to end.

        Raises:
            StartError: it could not start.
        """
        try:
            if await self._start():
                await self._ending.wait()
                self.log.info("draining", seconds=self.options.drain)
                self._tell_status()
        finally:
            await self._stop()

    async def _start(self) -> bool:
        """Everything that can fail, in the order in which it is best told; False when told to end meanwhile."""
        options = self.options
        legacy = self._legacy = await asyncio.to_thread(Legacy.ask, options.data_dir) if options.take_over else None
        self._data = DataDir.adopt(options.data_dir, legacy.lock) if legacy else DataDir.hold(options.data_dir)
        self._data_dir = self._data.path
        self._choose_demo()
        self._table = open_state(self._data_dir)
        count = worker_count(options.workers, self._table.lanes)
        self._bind()
        if self._demo:
            self._mock_sockets = bind_tcp(("127.0.0.1",), 0)
        sources = self._sources()
        self._publisher = Publisher(sources, self._data_dir, self._table)
        # Looked at before it is read: what changes in between is read again.
        self._watcher = Watcher(await asyncio.to_thread(watched, sources), self.reload, self._warn_watch)
        await self._first_plan()
        if self._ending.is_set():
            return False
        self._lane = self._table.claim_lane(time.monotonic_ns())
        self._reaper = Reaper(self._table, self._lane, self._data_dir, self._publisher.series, self.log)
        self._reporter = Reporter(self._data_dir)
        self._watchdog = Watchdog(self._table, self.log)
        raise_descriptor_limit()
        self._gate = Gate(self._data_dir, self, self.log)
        if legacy is None:
            await self._take_charge()
        self._start_children(count)
        if legacy is not None and not await self._take_over(legacy):
            return False
        self._start_recorder()
        for work in (
            self._watcher.run(),
            self._reload_on_change(sources),
            self._keep_house(),
            self._reap_dead(),
            self._report(),
            self._gate.run(),
        ):
            self._task(work)
        return True

    def _bind(self) -> None:
        options, legacy = self.options, self._legacy
        data, console = (legacy.data, legacy.console) if legacy else ([], [])
        self._sockets = bind_tcp(options.hosts, options.port, data)
        if options.unix:
            self._sockets.append(bind_unix(options.unix, data))
        self._console_sockets = bind_tcp((options.console_host,), options.console_port, console)

    async def _take_charge(self) -> None:
        """From here on this node, and no other, looks after what is in the data directory."""
        assert self._data is not None
        assert self._gate is not None
        self._in_charge = True
        self._data.sign()
        self._gate.open()
        await asyncio.to_thread(self._reaper.reap)

    async def _take_over(self, legacy: Legacy) -> bool:
        """Let the node that runs go when all is ready here; False when told to end meanwhile."""
        await self._settled.wait()
        if self._ending.is_set():
            return False
        if any(place.restarts for place in self._places):
            raise StartError(TAKE_OVER, "take-over: a process of this node did not start; the one that runs goes on")
        problem = await legacy.claim(self._ending)
        self.log.info("took_over", pid=legacy.pid, version=legacy.version, problem=problem)
        await self._take_charge()
        close_all([*legacy.data, *legacy.console])
        legacy.close()
        self._note_ready()
        return True

    # what an heir of this node asks of it, beside `publishing`

    def refusal(self) -> str | None:
        """Why nobody can take over now."""
        if self._ending.is_set():
            return "it is ending"
        return None if self.ready else "it is only starting"

    def forget(self) -> None:
        """An heir may have published something, and is gone. Blocks."""
        self._publisher.forget()

    def belongings(self) -> tuple[int, Sequence[socket.socket], Sequence[socket.socket]]:
        """The descriptor of the lock, the sockets for callers and the console's."""
        return self._data.lock_fd if self._data else -1, self._sockets, self._console_sockets

    async def give_up(self) -> None:
        """Leave all but the running calls to an heir, and begin to end."""
        await self._upkeep.acquire()  # and never release it
        self._in_charge = False
        ours = [place for place in self._places if place.role.name in ("recorder", "console")]
        await asyncio.gather(*(place.stop(RECORDER_S) for place in ours))
        if self._data is not None:
            self._data.release()
        self._ending.set()

    def _choose_demo(self) -> None:
        options = self.options
        if options.auto and options.config is None and not providers_in(os.environ):
            self._demo = True
        exposed = beyond_loopback(options.hosts)
        if self._demo and exposed:
            problem = f"the demo is for this machine only: it does not listen on {', '.join(exposed)}"
            raise StartError(NOTHING_TO_SERVE, problem)

    def _sources(self) -> Sources:
        url = ""
        if self._mock_sockets:
            url = describe(self._mock_sockets[0]) + "/v1"
        config = self.options.config if not self.options.demo else None
        return Sources(
            data_dir=str(self._data_dir), environ=dict(os.environ), config=config, demo=self._demo, demo_url=url
        )

    async def _first_plan(self) -> None:
        last_good = not self._demo and self._legacy is None
        self._config_error = await asyncio.to_thread(self._publisher.begin, last_good=last_good)
        if self._config_error:
            revision, errors = self._publisher.revision, self._config_error[:20]
            self.log.error("config_refused", revision_in_force=revision, errors=errors, serving="the last good plan")

    def _start_children(self, count: int) -> None:
        if self._demo:
            self._add(Role("mock", self._modules["mock"], self._job(self._mock_sockets)), 0)
        worker = Role("worker", self._modules["worker"], self._job(self._sockets))
        self._workers = [self._add(worker, index) for index in range(count)]
        self._add(Role("console", self._modules["console"], self._job(self._console_sockets)), 0)

    def _start_recorder(self) -> None:
        self._recorder = self._add(Role("recorder", self._modules["recorder"], self._job([])), 0)

    def _job(self, sockets: list[socket.socket]) -> Any:
        """What a child is told: always the plan of the moment it is started."""
        listeners = tuple(Listener(end.fileno(), end.family == socket.AF_UNIX) for end in sockets)

        def job(index: int, control: int) -> Job:
            return Job(
                parent=os.getpid(),
                control=control,
                listeners=listeners,
                data_dir=str(self._data_dir),
                plan=str(self._publisher.path),
                revision=self._publisher.revision,
                index=index,
                drain=self.options.drain,
                hosts=(self.options.console_host,),
                workers=max(1, len(self._workers)),
            )

        return job

    def _add(self, role: Role, index: int) -> Place:
        place = Place(role, index, self.log, heard=self._heard, restarted=self._restarted)
        self._places.append(place)
        self._task(place.run())
        return place

    def _heard(self, place: Place, process: Process, message: dict[str, Any]) -> None:
        """A child has spoken."""
        event = message.get("event")
        if event == "ready":
            process.lane, process.revision = message.get("lane"), int(message.get("revision", 0))
            self.log.info("child_ready", child=place.name, pid=process.pid, lane=process.lane)
            if self._log_level is not None:
                place.send({"cmd": "log_level", "level": self._log_level})
            if place in self._workers:
                if process.revision != self._publisher.revision:  # published while it was on its way
                    place.send(self._plan_message())
                self._note_ready()
            if place is self._recorder:
                self._tell_recorder()
            if all(one.current and one.current.state == "ready" for one in self._places):
                self._settled.set()
        elif event == "plan":
            self._note_plan(place, process, message)
        elif event == "beat":
            process.facts = message
            if place is self._recorder:
                self._recorder_said = message, process.heard
        elif event == "log_level" and place.role.name == "console":
            self._set_log_level(str(message.get("level")))
        if event != "beat":
            self._tell_status()

    def _note_ready(self) -> None:
        if not self.ready and self._in_charge and not self._ending.is_set():
            self.ready = True
            listeners = listening(self._sockets, self._publisher.plan)
            console = [describe(end) for end in self._console_sockets]
            started = round(time.time() - self._started, 3)
            self.log.info(
                "ready",
                listeners=listeners,
                console=console,
                revision=self._publisher.revision,
                workers=len(self._workers),
                demo=self._demo,
                started_s=started,
            )
            if self.options.config is None and self._publisher.plan is not None:
                print(greeting(self._publisher.plan, listeners[0], self._data_dir / DEMO_KEY), flush=True)

    def _tell_recorder(self) -> None:
        if self._recorder is not None and self._publisher.plan is not None:
            self._recorder.send({"cmd": "keep", "days": self._publisher.plan.options.records_keep_days})

    def _plan_message(self) -> dict[str, Any]:
        return {"cmd": "plan", "path": str(self._publisher.path), "revision": self._publisher.revision}

    def _note_plan(self, place: Place, process: Process, message: dict[str, Any]) -> None:
        if message.get("ok"):
            process.revision, process.error = int(message.get("revision", 0)), None
            return
        process.error = str(message.get("error"))
        self.log.error("plan_not_applied", child=place.name, revision=message.get("revision"), error=process.error)

    def _set_log_level(self, level: str) -> None:
        if level not in LEVELS:
            return
        self._log_level = level
        self.log.set_level(level)
        for place in self._places:
            place.send({"cmd": "log_level", "level": level})

    def _restarted(self, place: Place) -> None:
        self._settled.set()
        if place in self._workers:
            self._lane.add(self._counters().worker_restarts, 1)

    def _counters(self) -> ProcessHandles:
        return ProcessHandles.find(self._publisher.registry.series)

    async def _reload_on_change(self, sources: Sources) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            async with self.publishing:
                if not self._in_charge:
                    return  # an heir reads it
                await self._reload(sources)
            self._tell_status()
            self._watcher.follow(await asyncio.to_thread(watched, sources))

    async def _reload(self, sources: Sources) -> None:
        publisher = self._publisher
        try:
            new = await asyncio.to_thread(publisher.publish)
        except ConfigErrors as errors:
            self._reload_failed(errors.errors)
        except Exception as error:  # noqa: BLE001 - whatever a config can provoke, the plan in force stays
            self._reload_failed([f"{type(error).__name__}: {error}"])
        else:
            self._config_error = None
            self._lane.add(self._counters().reloads_ok, 1)
            self.log.info("config_reloaded", revision=publisher.revision, changed=new)
            if new:
                for place in self._workers:
                    place.send(self._plan_message())
                self._tell_recorder()

    def _reload_failed(self, errors: list[str]) -> None:
        self._config_error = errors
        self._lane.add(self._counters().reloads_failed, 1)
        self.log.error("config_refused", revision_in_force=self._publisher.revision, errors=errors[:20])

    def _warn_watch(self, problem: str) -> None:
        self.log.warning("config_watch_failed", error=problem)

    async def _keep_house(self) -> None:
        """The spool under its cap, and what it takes."""
        directory, keeper = spool_dir(self._data_dir), Housekeeper(self._data_dir)
        while True:
            plan = self._publisher.plan
            try:
                if plan is not None:
                    cap, refuse = plan.options.spool_cap, plan.options.refuse_unrecorded
                    async with self._upkeep:
                        cleaned = await asyncio.to_thread(keeper.clean, cap, refuse=refuse)
                    self._note_dropped(cleaned.records)
                found = await asyncio.to_thread(usage, directory)
                self._spool.bytes, self._spool.segments = found.bytes, found.segments
                self._spool.problem = None
            except OSError as error:
                self._spool.problem = f"{directory}: {error.strerror or error}"
                self.log.error("spool_janitor_failed", error=self._spool.problem)
            await asyncio.sleep(JANITOR_S)

    async def _reap_dead(self) -> None:
        """What dead workers left, within a second or so: what they held is held from nobody for longer."""
        while True:
            await asyncio.sleep(REAP_S)
            try:
                async with self._upkeep:
                    await asyncio.to_thread(self._reaper.reap)
            except (shared.TableError, OSError) as error:
                self.log.error("reaping_failed", error=error)

    def _note_dropped(self, records: int) -> None:
        if records:
            self._spool.dropped += records
            self._lane.add(self._counters().records_dropped, records)
            self.log.warning("records_dropped", records=records, reason="the spool is at its cap")

    async def _report(self) -> None:
        while True:
            self._lane.beat(time.monotonic_ns())
            self._watchdog.look(self._workers, self._publisher.plan)
            before = self._reporter.problem
            self._tell_status()
            if self._reporter.problem not in (None, before):
                self.log.error("status_not_written", error=self._reporter.problem)
            await asyncio.sleep(LOOK_S)

    def _tell_status(self) -> None:
        if self._in_charge:
            self._reporter.report(self.status())

    def status(self) -> Status:
        """What is to be known of the node now."""
        spool = msgspec.structs.replace(self._spool)
        spool.problem = spool.problem or next(problems_of(self._workers), None)
        return Status(
            pid=os.getpid(),
            version=__version__,
            started=self._started,
            ready=ready_in(self._workers),
            draining=self._ending.is_set(),
            demo=self._demo,
            revision=self._publisher.revision,
            config_path=self.options.config,
            config_error=self._config_error,
            listeners=listening(self._sockets, self._publisher.plan),
            console=[describe(end) for end in self._console_sockets if end.fileno() >= 0],
            workers=[worker_of(place) for place in self._workers],
            spool=spool,
            recorder=recorder_of(self._recorder, *self._recorder_said),
            series=str(self._publisher.series_file),
            data_dir=str(self._data_dir),
            tls_expires=tls_expires(self._publisher.plan),
        )

    async def _stop(self) -> None:
        """Workers first, and only then what they and their watchers lean on."""
        self._ending.set()
        if self._legacy is not None:
            self._legacy.close()
        seconds = 0.0 if self._now.is_set() else self.options.drain
        # With the workers' own copies gone too, newcomers are refused at once; unless others listen there.
        beside = not self._in_charge and (bool(self._workers) or self._legacy is not None)
        workers = [place.stop(seconds, LEAVE_S if beside else 0.0) for place in self._workers]
        close_all(self._sockets, unlink=not beside)
        await asyncio.gather(*workers)
        others = [place for place in self._places if place not in self._workers and place is not self._recorder]
        if self._workers:
            with suppress(OSError):
                self._tell_status()
        if self._recorder is not None:  # the workers have ended: what they left is all there is to take
            await self._recorder.stop(0.0 if self._now.is_set() else RECORDER_S)
        await asyncio.gather(*(place.stop(0.0) for place in others))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        close_all([*self._console_sockets, *self._mock_sockets])
        if self._data is not None:
            self._release()

    def _release(self) -> None:
        if self._gate is not None and self._in_charge:
            self._gate.close()
            self._reporter.remove()
        if self._workers:
            self._reaper.close()
            self._lane.close()
        if self._data is not None:
            self._data.release()

    def _task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._fail)
        self._tasks.append(task)

    def _fail(self, task: asyncio.Task[None]) -> None:
        """A task of the node itself has failed, which is a fault of ours: say so, and go on with what is left."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("internal_error", error=error, where=str(task.get_coro()))
