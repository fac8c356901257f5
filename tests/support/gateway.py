"""A real node and a real mock provider as processes of their own, for tests that go over the wire.

`start_node` runs `python -m fastgw serve` on free ports with a data directory of its own and returns when it is ready.
Everything here blocks, for short moments only, so that sync and async tests alike can use it.
"""

import asyncio
import http.client
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from fastgw.recorder.read import export
from tests.support.scripted import ScriptedUpstream, Seen

T = TypeVar("T")
READY_S = 30.0
INHERITED = ("PATH", "PYTHONPATH", "FASTGW_PURE")
"""All that a child sees of this environment: provider keys or proxies in it must not change what is tested."""
FOREVER_US = 1 << 62
_METRIC = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
_unique = itertools.count()


def until(check: Callable[[], T], seconds: float = 5.0, what: str = "") -> T:
    """The first true result of `check`; AssertionError when there is none in so many seconds. Blocks."""
    deadline = time.monotonic() + seconds
    while not (result := check()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or check}"
        time.sleep(0.01)
    return result


def unique(prefix: str = "t") -> str:
    """A label no other call in this run has; goes out as `x-request-id` and comes back in the record."""
    return f"{prefix}-{os.getpid()}-{next(_unique)}"


class Process:
    """A child with its standard error collected line by line."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        self.lines: list[str] = []
        self.out: list[str] = []
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "fastgw", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={name: os.environ[name] for name in INHERITED if name in os.environ} | dict(env),
            cwd=cwd,
            # What is started here is never a member of the terminal's or the test runner's group.
            process_group=0,
        )
        self._readers = [
            threading.Thread(target=self._collect, args=(stream, kept), daemon=True)
            for stream, kept in ((self.popen.stderr, self.lines), (self.popen.stdout, self.out))
        ]
        for reader in self._readers:
            reader.start()

    def _collect(self, stream: Any, kept: list[str]) -> None:
        for line in stream:
            kept.append(line.decode("utf-8", "replace").rstrip("\n"))  # noqa: PERF401 - read while it grows

    def end(self, number: int = signal.SIGTERM, seconds: float = 15.0) -> int:
        """Send a signal and wait for the exit code; killed when it does not end in time."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.wait(seconds)

    def wait(self, seconds: float = 15.0) -> int:
        """The exit code."""
        try:
            code = self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise
        finally:
            for reader in self._readers:
                reader.join(2.0)
            for stream in (self.popen.stderr, self.popen.stdout):
                if stream is not None and not any(reader.is_alive() for reader in self._readers):
                    stream.close()
        return code


class Mock:
    """`fastgw mock` in a process of its own."""

    def __init__(self, directory: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self._process = Process(["mock", "--port", "0", *arguments], env or {}, directory)
        line = until(lambda: next(iter(self._process.out), None), READY_S, "the mock to start")
        self.url = line.rpartition(" ")[2]
        self.port = int(self.url.rpartition(":")[2])

    def stats(self) -> dict[str, Any]:
        """What the mock has seen: see `fastgw.mock.stats`."""
        with urllib.request.urlopen(f"{self.url}/__mock/stats", timeout=5) as answer:
            return json.load(answer)

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Within this block no request may reach the mock."""
        before = self.stats()["requests"]
        yield
        assert self.stats()["requests"] == before, "a request reached the upstream"

    def stop(self) -> None:
        """End it."""
        self._process.end()


class FixedUpstream(ScriptedUpstream):
    """A scripted upstream on a given port, so that a node configured once serves many tests."""

    def __init__(self, port: int, scripts: Any) -> None:
        super().__init__(scripts)
        self.port = port

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Seen(self), "127.0.0.1", self.port, backlog=1024)
        return self


class Node:
    """A running `fastgw serve`. `key` is for callers that need just any; `url` has no path."""

    def __init__(self, process: Process, data_dir: Path, config: Path | None, key: str) -> None:
        self.process = process
        self.data_dir = data_dir
        self.config = config
        self.key = key
        self.url = self.console_url = ""
        self.port = self.console_port = 0

    def wait_ready(self, workers: int = 1) -> None:
        """Until the node says so in its log, `/health/ready` agrees and so many workers are there.

        AssertionError with the log when it ends instead.
        """

        def ready() -> dict[str, Any] | None:
            assert self.process.popen.poll() is None, f"the node ended: {self.stderr()}"
            return next(iter(self.log("ready")), None)

        line = until(ready, READY_S, "the node to be ready")
        self.url, self.console_url = line["listeners"][0], line["console"][0]
        self.port, self.console_port = (int(url.rpartition(":")[2]) for url in (self.url, self.console_url))
        until(lambda: self.get("/health/ready")[0] == 200, READY_S, "/health/ready")
        until(lambda: len(self.workers) >= workers, READY_S, f"{workers} workers")

    # what it says of itself

    def stderr(self) -> str:
        """Everything it has written to standard error."""
        return "\n".join(self.process.lines)

    def log(self, event: str | None = None) -> list[dict[str, Any]]:
        """The lines of its log, of one event or all. Every line must be JSON."""
        found = []
        for line in list(self.process.lines):
            try:
                entry = json.loads(line)
            except ValueError:
                raise AssertionError(f"not a line of the log: {line}\n{self.stderr()}") from None
            if event is None or entry.get("event") == event:
                found.append(entry)
        return found

    def records(self, label: str | None = None) -> list[dict[str, Any]]:
        """All records, or those of calls with this label, oldest first."""
        rows = (json.loads(line) for line in export(str(self.data_dir), 0, FOREVER_US))
        return [row for row in rows if label is None or row["label"] == label]

    def record(self, label: str, seconds: float = 5.0) -> dict[str, Any]:
        """The record of the one call with this label: waited for, and there must be exactly one."""
        until(lambda: self.records(label), seconds, f"a record of {label}")
        rows = self.records(label)
        assert len(rows) == 1, rows
        return rows[0]

    def metrics(self) -> dict[str, float]:
        """Every sample of `/metrics`: `name{labels}` → value."""
        status, _, body = self.console("GET", "/metrics")
        assert status == 200, body
        samples = (_METRIC.match(line) for line in body.decode().splitlines() if not line.startswith("#"))
        return {f"{m[1]}{{{m[2]}}}" if m[2] else m[1]: float(m[3]) for m in samples if m}

    def status(self) -> dict[str, Any]:
        """`status.json` as the supervisor last wrote it."""
        return dict(json.loads((self.data_dir / "status.json").read_bytes()))

    @property
    def workers(self) -> list[int]:
        """Process ids of the workers that are ready."""
        return [worker["pid"] for worker in self.status()["workers"] if worker["state"] == "ready"]

    # talking to it

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """GET on the data port."""
        return _ask(self.port, "GET", path, {name.replace("_", "-"): value for name, value in headers.items()})

    def console(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        """A request to the console with the admin key."""
        key = (self.data_dir / "admin.key").read_text().strip()
        return _ask(self.console_port, method, path, {"authorization": f"Bearer {key}"}, body)

    def assert_well(self) -> None:
        """The invariant after every fault: it answers, quickly, and nothing went wrong inside."""
        began = time.monotonic()
        assert self.get("/health/ready")[0] == 200
        assert time.monotonic() - began < 1.0
        assert not self.log("internal_error"), self.log("internal_error")

    # steering it

    def write_config(self, text: str) -> None:
        """Replace the config file in one step, as editors and deployments do."""
        assert self.config is not None
        draft = self.config.with_name("draft.yaml")
        draft.write_text(text)
        draft.replace(self.config)

    def wait_revision(self, revision: int, seconds: float = 10.0) -> None:
        """Until every worker serves this revision or a later one."""

        def served() -> bool:
            workers = self.status()["workers"]
            return all(w["revision"] >= revision and w["state"] == "ready" for w in workers)

        until(served, seconds, f"revision {revision} in {self.status()['workers']}")

    def signal(self, number: int) -> None:
        """Send the supervisor a signal."""
        self.process.popen.send_signal(number)

    def stop(self, seconds: float = 20.0) -> int:
        """End it in good order; the exit code."""
        return self.process.end(signal.SIGTERM, seconds)


def start_node(
    directory: Path,
    config: str | None = None,
    *,
    workers: int = 1,
    env: Mapping[str, str] | None = None,
    args: Sequence[str] = (),
    key: str = "",
    wait: bool = True,
) -> Node:
    """Start a node in `directory`, with this text as its config file; `wait=False` returns at once."""
    directory.mkdir(parents=True, exist_ok=True)
    data_dir, file = directory / "data", None
    arguments = ["serve", "--port", "0", "--console-port", "0", "--data-dir", str(data_dir), "--workers", str(workers)]
    if config is not None:
        file = directory / "fastgw.yaml"
        file.write_text(config)
        arguments += ["-c", str(file)]
    node = Node(Process([*arguments, *args], env or {}, directory), data_dir, file, key)
    if wait:
        try:
            node.wait_ready(workers)
        except BaseException:
            node.process.end(signal.SIGKILL)
            raise
    return node


@contextmanager
def node(directory: Path, config: str | None = None, **options: Any) -> Iterator[Node]:
    """A node for the time of a block. At its end it must go in good order, unless the test ended it itself."""
    started = start_node(directory, config, **options)
    try:
        yield started
    except BaseException:
        started.process.end(signal.SIGTERM)
        sys.stderr.write(started.stderr()[-20_000:] + "\n")
        raise
    if started.process.popen.poll() is None:
        assert started.stop() == 0, started.stderr()


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port of loopback that nobody else is given while the block lasts, though a test may listen on it.

    A bound socket that never listens keeps the kernel from handing the number out; with SO_REUSEADDR on both sides
    another one may still listen there. While none does, connecting is refused.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def _ask(
    port: int, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body or None, dict(headers))
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()
