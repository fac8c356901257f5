"""What a node knows of itself, in `status.json` (mode 0600) for the console, `doctor` and people."""

import asyncio
from pathlib import Path

import msgspec

from fastgw.node.publish import write_private

STATUS = "status.json"
LOOK_S = 1.0
REWRITE_S = 5.0


class Spool(msgspec.Struct):
    """The record spool: bytes and files on disk, records dropped to keep it under its cap, what is wrong with it."""

    bytes: int = 0
    segments: int = 0
    dropped: int = 0
    problem: str | None = None


class Recorder(msgspec.Struct):
    """The recorder: records it ever took, segments it could not read to the end, seconds it is behind (0 below 3)."""

    pid: int | None = None
    restarts: int = 0
    records: int = 0
    damaged: int = 0
    behind_s: int = 0
    problem: str | None = None


class Worker(msgspec.Struct):
    """One worker's place. `live`: calls in flight; `idle`, `busy`: its upstream connections.

    `overloaded`: why it takes no new calls (`memory`, `lag`), else empty; `shed`: calls it ever refused for that.
    """

    index: int
    pid: int | None
    lane: int | None
    state: str
    revision: int
    started: float | None
    restarts: int
    error: str | None = None
    live: int = 0
    idle: int = 0
    busy: int = 0
    overloaded: str = ""
    shed: int = 0


class Status(msgspec.Struct):
    """The whole. Times are UTC seconds since the epoch; `tls_expires` is None without TLS."""

    pid: int
    version: str
    started: float
    ready: bool
    draining: bool
    demo: bool
    revision: int
    config_path: str | None
    config_error: list[str] | None
    listeners: list[str]
    console: list[str]
    workers: list[Worker]
    spool: Spool
    recorder: Recorder
    series: str
    data_dir: str
    tls_expires: int | None = None


class Reporter:
    """Writes the status when it changed, and every five seconds as a sign of life."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / STATUS
        self._written = b""
        self._at = 0.0
        self.problem: str | None = None

    def report(self, status: Status) -> None:
        """Write `status` if it says something new or the file is old; a full disk is noted in `problem`."""
        data = msgspec.json.encode(status)
        now = asyncio.get_running_loop().time()
        if data == self._written and now - self._at < REWRITE_S:
            return
        try:
            write_private(self._path, data + b"\n")
        except OSError as error:
            self.problem = f"cannot write {self._path}: {error.strerror or error}"
            return
        self.problem, self._written, self._at = None, data, now

    def remove(self) -> None:
        """The node has ended in good order: there is no status any more."""
        self._path.unlink(missing_ok=True)
