"""What every process of the tree has in common: its job, its control channel, and how it dies with its parent.

The channel is one end of a socket pair with a JSON object a line, both ways. Commands to the child:
`{"cmd":"plan","path":...,"revision":n}`, `{"cmd":"drain","seconds":30}` (with `"leave":3`: for so long others listen on
the same sockets, and who is connected still asks here), `{"cmd":"log_level","level":"debug"}`.
Events from it: `{"event":"ready","pid":...,"lane":...,"revision":...}`, `{"event":"plan","revision":n,"ok":bool,
"error":...}`, `{"event":"beat"}`, `{"event":"draining"}`, `{"event":"log_level","level":...}`.
"""

import asyncio
import ctypes
import os
import resource
import select
import signal
import socket
import threading
import time
from typing import Any

import msgspec

LINE_LIMIT = 64 * 1024
SEND_LIMIT = 256 * 1024
ORPHAN_DRAIN_S = 3.0
ORPHAN_LIMIT_S = 4.0

_PR_SET_PDEATHSIG = 1


class Listener(msgspec.Struct, frozen=True):
    """A listening socket to serve on: an inherited descriptor, owned by whoever serves on it."""

    fd: int
    unix: bool = False


class Job(msgspec.Struct, frozen=True):
    """What a child is told in its one argument. It holds names and descriptors, never a secret."""

    parent: int
    control: int
    listeners: tuple[Listener, ...]
    data_dir: str
    plan: str
    revision: int
    index: int = 0
    drain: float = 30.0
    hosts: tuple[str, ...] = ()
    workers: int = 1


def read_job(argument: str) -> Job:
    """The job in a command-line argument.

    Raises:
        msgspec.ValidationError: it is not a job.
    """
    return msgspec.json.decode(argument, type=Job)


class Channel:
    """One end of a control channel."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.dropped = 0
        """Messages not sent, because the other end had stopped reading or was gone."""

    @classmethod
    async def open(cls, end: socket.socket) -> "Channel":
        """The channel over a connected stream socket, which is the channel's to close."""
        return cls(*await asyncio.open_connection(sock=end, limit=LINE_LIMIT))

    def send(self, message: dict[str, Any]) -> bool:
        """Queue a message; False (and counted) when the other end is gone or does not read."""
        transport = self._writer.transport
        if transport.is_closing() or transport.get_write_buffer_size() > SEND_LIMIT:
            self.dropped += 1
            return False
        self._writer.write(msgspec.json.encode(message) + b"\n")
        return True

    async def receive(self) -> dict[str, Any] | None:
        """The next message, or None when the other end is gone. A line that is no object is skipped."""
        while True:
            try:
                line = await self._reader.readline()
            except ValueError:  # a line beyond the limit: what was read of it is gone, the rest is no JSON
                continue
            except ConnectionError:
                return None
            if not line.endswith(b"\n"):
                return None
            try:
                return msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.DecodeError:
                continue

    def close(self) -> None:
        """Close this end; idempotent."""
        self._writer.close()


def adopt(job: Job) -> socket.socket:
    """Become a child of the process tree: die with the parent, ignore the terminal. Returns the control socket.

    Called first thing, before anything is opened. SIGTERM keeps its default action until the caller handles it.

    Raises:
        SystemExit: the parent is gone already.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != job.parent:  # it died before the line above: no signal will come
        raise SystemExit(1)
    threading.Thread(target=_outlive_briefly, args=(job.control,), name="lifeline", daemon=True).start()
    control = socket.socket(fileno=job.control)
    control.setblocking(False)
    return control


def orphaned(job: Job) -> bool:
    """Whether the parent has died."""
    return os.getppid() != job.parent


def _outlive_briefly(control: int) -> None:
    """End the process soon after the parent's end of the channel closed, whatever the event loop is doing.

    `poll` with no event asked for wakes on hang-up only, so this thread costs nothing and steals no data.
    """
    poll = select.poll()
    poll.register(control, 0)
    poll.poll()
    time.sleep(ORPHAN_LIMIT_S)
    os._exit(1)


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):  # some sandboxes refuse even this; the soft limit then stands
            return soft
    return hard
