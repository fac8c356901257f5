"""The node: compiles, binds, starts workers and console, keeps them alive, publishes changes, ends it all in order."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from fastgw import __version__
from fastgw._core import table as shared
from fastgw.child import Job, Listener, raise_descriptor_limit
from fastgw.node.children import Place, Process, Role
from fastgw.node.cores import available_cores
from fastgw.node.datadir import DataDir
from fastgw.node.errors import DATA_DIR, INVALID_CONFIG, NOTHING_TO_SERVE, StartError
from fastgw.node.greeting import greeting
from fastgw.node.housekeeping import Housekeeper
from fastgw.node.listeners import beyond_loopback, bind_tcp, bind_unix, close_all, describe
from fastgw.node.options import ServeOptions
from fastgw.node.publish import Publisher
from fastgw.node.reaper import Reaper
from fastgw.node.status import LOOK_S, Recorder, Reporter, Spool, Status, Worker
from fastgw.node.watch import Watcher
from fastgw.plan.compile import ConfigErrors, Sources, watched
from fastgw.plan.sources import providers_in
from fastgw.state.secrets import DEMO_KEY, SecretFileError, ensure_admin_key, ensure_pepper
from fastgw.state.spool import spool_dir, usage
from fastgw.state.table import open_table
from fastgw.telemetry.log import LEVELS, Log
from fastgw.telemetry.metrics import ProcessHandles

JANITOR_S = 2.0
REAP_S = 1.0
RECORDER_S = 10.0
BEHIND_S = 3.0
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

    def terminate(self) -> None:
        """End in good order; called again: at once."""
        if self._ending.is_set():
            self._now.set()
            for place in self._places:
                place.kill()
        self._ending.set()

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
                self._reporter.report(self.status())
        finally:
            await self._stop()

    async def _start(self) -> bool:
        """Everything that can fail, in the order in which it is best told; False when told to end meanwhile."""
        options = self.options
        self._data = DataDir.hold(options.data_dir)
        self._data_dir = self._data.path
        self._choose_demo()
        self._open_state()
        count = self._worker_count()
        self._sockets = bind_tcp(options.hosts, options.port)
        if options.unix:
            self._sockets.append(bind_unix(options.unix))
        self._console_sockets = bind_tcp((options.console_host,), options.console_port)
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
        await asyncio.to_thread(self._reaper.reap)
        self._reporter = Reporter(self._data_dir)
        raise_descriptor_limit()
        self._start_children(count)
        for work in (
            self._watcher.run(),
            self._reload_on_change(sources),
            self._keep_house(),
            self._reap_dead(),
            self._report(),
        ):
            self._task(work)
        return True

    def _choose_demo(self) -> None:
        options = self.options
        if options.auto and options.config is None and not providers_in(os.environ):
            self._demo = True
        exposed = beyond_loopback(options.hosts)
        if self._demo and exposed:
            problem = f"the demo is for this machine only: it does not listen on {', '.join(exposed)}"
            raise StartError(NOTHING_TO_SERVE, problem)

    def _open_state(self) -> None:
        try:
            ensure_pepper(self._data_dir)
            ensure_admin_key(self._data_dir)
            self._table = open_table(self._data_dir, create=True)
        except (SecretFileError, shared.TableError) as error:
            raise StartError(DATA_DIR, str(error)) from error
        except OSError as error:
            raise StartError(DATA_DIR, f"data directory {self._data_dir}: {error.strerror or error}") from error

    def _worker_count(self) -> int:
        """As many as told; a lane of the table each, and some lanes to spare for those that finish beside another."""
        most = self._table.lanes // 2
        if not 0 <= self.options.workers <= most:
            raise StartError(NOTHING_TO_SERVE, f"--workers must be 1 to {most}, or 0 for one a core")
        return self.options.workers or min(available_cores(), most)

    def _sources(self) -> Sources:
        url = ""
        if self._mock_sockets:
            url = describe(self._mock_sockets[0]) + "/v1"
        config = self.options.config if not self.options.demo else None
        return Sources(
            data_dir=str(self._data_dir), environ=dict(os.environ), config=config, demo=self._demo, demo_url=url
        )

    async def _first_plan(self) -> None:
        try:
            await asyncio.to_thread(self._publisher.recall)
            await asyncio.to_thread(self._publisher.publish)
        except ConfigErrors as errors:
            nothing = any(line.startswith("(nothing to serve)") for line in errors.errors)
            if self._publisher.plan is not None and not nothing and not self._demo:
                self._serve_last_good(errors.errors)
                return
            raise StartError(NOTHING_TO_SERVE if nothing else INVALID_CONFIG, *errors.errors) from errors
        except (SecretFileError, shared.TableError) as error:
            raise StartError(DATA_DIR, str(error)) from error
        except OSError as error:
            raise StartError(DATA_DIR, f"data directory {self._data_dir}: {error.strerror or error}") from error
        plan = self._publisher.plan
        if plan is not None and not plan.models and not plan.wildcards:
            raise StartError(NOTHING_TO_SERVE, "(nothing to serve): the config names no models")

    def _serve_last_good(self, errors: list[str]) -> None:
        """A node that ran is started again with a config that is wrong: it serves as it did, and says so."""
        self._config_error = errors
        revision = self._publisher.revision
        self.log.error("config_refused", revision_in_force=revision, errors=errors[:20], serving="the last good plan")

    def _start_children(self, count: int) -> None:
        if self._demo:
            self._add(Role("mock", self._modules["mock"], self._job(self._mock_sockets)), 0)
        worker = Role("worker", self._modules["worker"], self._job(self._sockets))
        self._workers = [self._add(worker, index) for index in range(count)]
        self._add(Role("console", self._modules["console"], self._job(self._console_sockets)), 0)
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
        elif event == "plan":
            self._note_plan(place, process, message)
        elif event == "beat":
            process.facts = message
            if place is self._recorder:
                self._recorder_said = message, process.heard
        elif event == "log_level" and place.role.name == "console":
            self._set_log_level(str(message.get("level")))
        if event != "beat":
            self._reporter.report(self.status())

    def _note_ready(self) -> None:
        if not self.ready and not self._ending.is_set():
            self.ready = True
            listeners = [describe(end) for end in self._sockets]
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
        if place in self._workers:
            self._lane.add(self._counters().worker_restarts, 1)

    def _counters(self) -> ProcessHandles:
        return ProcessHandles.find(self._publisher.registry.series)

    async def _reload_on_change(self, sources: Sources) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._reload(sources)
            self._reporter.report(self.status())
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
            before = self._reporter.problem
            self._reporter.report(self.status())
            if self._reporter.problem not in (None, before):
                self.log.error("status_not_written", error=self._reporter.problem)
            await asyncio.sleep(LOOK_S)

    def status(self) -> Status:
        """What is to be known of the node now."""
        spool = msgspec.structs.replace(self._spool)
        spool.problem = spool.problem or next(self._worker_problems(), None)
        return Status(
            pid=os.getpid(),
            version=__version__,
            started=self._started,
            ready=any(place.current and place.current.state == "ready" for place in self._workers),
            draining=self._ending.is_set(),
            demo=self._demo,
            revision=self._publisher.revision,
            config_path=self.options.config,
            config_error=self._config_error,
            listeners=[describe(end) for end in self._sockets if end.fileno() >= 0],
            console=[describe(end) for end in self._console_sockets if end.fileno() >= 0],
            workers=[_worker(place) for place in self._workers],
            spool=spool,
            recorder=_recorder(self._recorder, *self._recorder_said),
            series=str(self._publisher.series_file),
            data_dir=str(self._data_dir),
        )

    def _worker_problems(self) -> Iterator[str]:
        for place in self._workers:
            for process in place.processes:
                if process.facts.get("problem"):
                    yield str(process.facts["problem"])

    async def _stop(self) -> None:
        """Workers first, and only then what they and their watchers lean on."""
        self._ending.set()
        seconds = 0.0 if self._now.is_set() else self.options.drain
        workers = [place.stop(seconds) for place in self._workers]
        close_all(self._sockets)  # with the workers' own copies gone too, newcomers are refused at once
        await asyncio.gather(*workers)
        others = [place for place in self._places if place not in self._workers and place is not self._recorder]
        if self._workers:
            with suppress(OSError):
                self._reporter.report(self.status())
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
        if self._workers:
            self._reporter.remove()
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


def _recorder(place: Place | None, facts: dict[str, Any], heard: float) -> Recorder:
    """From what the last one said, when: a dead or stuck one is behind from then on."""
    behind = float(facts.get("behind_s", 0.0)) + time.monotonic() - heard
    return Recorder(
        pid=place.current.pid if place and place.current else None,
        restarts=place.restarts if place else 0,
        records=int(facts.get("records", 0)),
        damaged=int(facts.get("damaged", 0)),
        behind_s=int(behind) if behind >= BEHIND_S else 0,
        problem=facts.get("problem"),
    )


def _worker(place: Place) -> Worker:
    process = place.current
    if process is None:
        return Worker(place.index, None, None, "starting", 0, None, place.restarts)
    facts = process.facts
    return Worker(
        index=place.index,
        pid=process.pid,
        lane=process.lane,
        state=process.state,
        revision=process.revision,
        started=process.started,
        restarts=place.restarts,
        error=process.error,
        live=int(facts.get("live", 0)),
        idle=int(facts.get("idle", 0)),
        busy=int(facts.get("busy", 0)),
    )


def install_signals(node: Node) -> None:
    """SIGTERM and SIGINT end the node (a second one at once), SIGHUP reloads. Call on the node's loop."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.terminate)
    loop.add_signal_handler(signal.SIGHUP, node.reload)
