"""Starting and stopping what is measured: each process in a group of its own, all of them gone whatever happens."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from bench import cpu

READY_S: Final = 20.0
STOP_S: Final = 6.0
HOST: Final = "127.0.0.1"


class BenchError(RuntimeError):
    """A measurement could not be made; says why, and what to do."""


def need(*programs: str) -> None:
    """Raises BenchError naming the packages of those programs that are not installed."""
    packages = {"nginx": "nginx-light", "taskset": "util-linux", "setpriv": "util-linux"}
    missing = list(dict.fromkeys(packages.get(name, name) for name in programs if shutil.which(name) is None))
    if missing:
        raise BenchError(
            f"not installed: {', '.join(missing)}. Run: sudo apt-get update && sudo apt-get install -y "
            f"--no-install-recommends {' '.join(missing)}"
        )


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def raise_descriptor_limit() -> int:
    """As many open files as allowed, for this process and those it starts; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Cores:
    """Which cores the measured server gets, and which the load and the upstream."""

    def __init__(self, allowed: Sequence[int] | None = None) -> None:
        cores = sorted(os.sched_getaffinity(0) if allowed is None else allowed)
        self.all = frozenset(cores)
        self.server = frozenset(cores[-1:])
        self.load = frozenset(cores[:-1] or cores)
        self.shared = self.server == self.load

    @classmethod
    def unpinned(cls) -> "Cores":
        """Everything everywhere, for what is about more than one core."""
        cores = cls()
        cores.server = cores.load = cores.all
        cores.shared = True
        return cores


class Process:
    """A started program and its descendants."""

    def __init__(self, name: str, popen: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name = name
        self.popen = popen
        self.log = log
        self._seen: dict[int, int] = {}

    def pids(self) -> list[int]:
        """The tree as it is now, the first process first."""
        found = cpu.tree(self.popen.pid)
        for pid in found:
            if (known := cpu.stat(pid)) is not None:
                self._seen[pid] = known.started
        return found

    def last_words(self) -> str:
        """The end of what it has written, without the lines that only tell of calls."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if '"event":"call"' not in line)[-2000:].strip()

    def wait_for(self, ready: Callable[[], bool], limit: float = READY_S) -> None:
        """Until `ready`. Raises BenchError when the process ends first, or never gets there."""
        until = time.monotonic() + limit
        while not ready():
            if self.popen.poll() is not None:
                raise BenchError(f"{self.name} ended with {self.popen.returncode} at once:\n{self.last_words()}")
            if time.monotonic() > until:
                raise BenchError(f"{self.name} was not ready within {limit:g} s:\n{self.last_words()}")
            time.sleep(0.02)
        self.pids()

    def stop(self) -> None:
        """End it and whatever it started: politely, then by force. Harmless when it has ended."""
        if self.popen.poll() is None:
            self.pids()
            self.popen.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.popen.wait(STOP_S)
        for pid in self._left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.popen.wait()
        until = time.monotonic() + STOP_S
        while self._left() and time.monotonic() < until:
            time.sleep(0.01)

    def _left(self) -> list[int]:
        """Those of the tree that run still. The number alone might be somebody else's by now."""
        known = ((pid, started, cpu.stat(pid)) for pid, started in self._seen.items())
        return [pid for pid, started, now in known if now and now.started == started and now.state not in "ZX"]


class Stage:
    """All processes and files of a run. A context: whatever way it is left, nothing of it stays."""

    def __init__(self, *, pinned: bool = True) -> None:
        self.cores = Cores() if pinned else Cores.unpinned()
        self.directory = Path(tempfile.mkdtemp(prefix="fastgw-bench-"))
        self._processes: list[Process] = []
        self._started = 0
        self._interrupted = False

    def __enter__(self) -> "Stage":
        raise_descriptor_limit()
        # What loads runs in this process or is started by it: off the measured core.
        os.sched_setaffinity(0, self.cores.load)
        # Without this a SIGTERM would end the harness and leave the servers behind.
        self._previous = signal.signal(signal.SIGTERM, self._interrupt)
        return self

    def __exit__(self, *exc: object) -> None:
        with ExitStack() as last:  # each is called, whatever the others raise
            last.callback(signal.signal, signal.SIGTERM, self._previous)
            last.callback(os.sched_setaffinity, 0, self.cores.all)
            last.callback(shutil.rmtree, self.directory, ignore_errors=True)
            for process in self._processes:
                last.callback(process.stop)
        if self._interrupted:
            raise KeyboardInterrupt

    def _interrupt(self, number: int, frame: object) -> None:
        # Raised in a callback of an event loop it may end as an error of that connection: hence the mark.
        self._interrupted = True
        raise KeyboardInterrupt

    def path(self, name: str) -> Path:
        """A new path in the run's own directory; `name` may come more than once."""
        self._started += 1
        return self.directory / f"{self._started}-{name.replace(' ', '-')}"

    def start(
        self, name: str, command: Sequence[str], cores: frozenset[int], environ: dict[str, str] | None = None
    ) -> Process:
        """Start a program on these cores, its output in a file; the caller waits until it is ready."""
        log = self.path(f"{name}.log")
        # Ends with the harness, even when that is killed.
        bound = ("setpriv", "--pdeathsig", "TERM", "taskset", "-c", ",".join(map(str, sorted(cores))))
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [*bound, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **(environ or {})},
                cwd=self.directory,
                process_group=0,
            )
        process = Process(name, popen, log)
        self._processes.append(process)
        return process

    def stop(self, process: Process) -> None:
        """End one of them before the others."""
        process.stop()
        self._processes.remove(process)


def listening(port: int) -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0
