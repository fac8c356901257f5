"""A new node takes the place of one that runs on the same data directory, without a call failing for it.

The one that runs listens on a unix socket in the data directory (0600, and only for its own user). What is said there,
a JSON object a line:

1. The heir asks (`Ask`). The holder refuses, or hands it copies of its listening sockets and of its lock on the data
   directory, and until this is over reads no new config.
2. The heir starts its workers on the sockets: from here on both serve. When all of them are ready it says so.
3. The holder ends its recorder and all its upkeep, says `yours`, and from then on only finishes its calls.
4. The heir begins with its own recorder and upkeep.

Up to its word in 2. the heir may fail or vanish: the holder goes on as if nothing had been. A holder that vanishes
without a word has died, and its heir goes on alone.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, Self

import msgspec
from msgspec import Struct

from fastgw import __version__
from fastgw._core import NATIVE
from fastgw.child import Channel
from fastgw.node.errors import TAKE_OVER, StartError
from fastgw.state.table import FILE_NAME
from fastgw.telemetry.log import Log

SOCKET = "take-over.sock"
PROTOCOL = 1
ANSWER_S = 10.0
TAKE_OVER_S = 60.0
LEAVE_S = 3.0
"""How long those who are connected to a node that is leaving may still ask there, and are sent away with the answer."""

_BACKLOG = 8
_LINE = 64 * 1024
_MOST_SOCKETS = 250
_LOOK_S = 0.02
_CREDENTIALS = struct.Struct("3i")


class Ask(Struct, frozen=True):
    """What the heir says first: who it is, and what it makes of the shared table."""

    pid: int
    protocol: int = PROTOCOL
    version: str = __version__
    table: str = FILE_NAME
    native: bool = NATIVE["table"]


class Offer(Struct, frozen=True):
    """What the holder answers. With it come the lock, then so many sockets for callers, then those of the console."""

    pid: int
    version: str = __version__
    error: str | None = None
    data: int = 0
    console: int = 0


class Holder(Protocol):
    """What a node that runs must know to do here."""

    publishing: asyncio.Lock
    """Held by whoever may publish plans."""

    def refusal(self) -> str | None:
        """Why nobody can take over now."""

    def forget(self) -> None:
        """An heir may have published something, and is gone."""

    def belongings(self) -> tuple[int, Sequence[socket.socket], Sequence[socket.socket]]:
        """The descriptor of the lock, the sockets for callers and the console's."""

    async def give_up(self) -> None:
        """Leave all but the running calls to somebody else, and begin to end."""


class Gate:
    """The holder's side."""

    def __init__(self, directory: Path, holder: Holder, log: Log) -> None:
        self._path = directory / SOCKET
        self._holder = holder
        self._log = log
        self._heir: int | None = None
        self._socket: socket.socket | None = None
        self._given = False

    def open(self) -> None:
        """Listen; whoever listened there before is not heard any more. Raises OSError."""
        end = socket.socket(socket.AF_UNIX)
        try:
            end.setblocking(False)
            with _Short(self._path.with_name(f".{SOCKET}.draft")) as draft, _Short(self._path) as name:
                with suppress(FileNotFoundError):
                    os.unlink(draft)
                end.bind(draft)
                os.chmod(draft, 0o600)
                end.listen(_BACKLOG)
                os.rename(draft, name)
        except BaseException:
            end.close()
            raise
        self._socket = end

    def close(self) -> None:
        """Listen no more; idempotent."""
        end, self._socket = self._socket, None
        if end is not None:
            end.close()
            if not self._given:
                self._path.unlink(missing_ok=True)

    async def run(self) -> None:
        """Answer heirs until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as meetings:
            while self._socket is not None:
                end, _ = await loop.sock_accept(self._socket)
                end.setblocking(False)
                meetings.create_task(self._meet(end))

    async def _meet(self, end: socket.socket) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                ask = msgspec.json.decode(await _line(end), type=Ask)
        except (OSError, msgspec.MsgspecError) as error:
            end.close()
            self._log.warning("take_over_refused", error=error)
            return
        problem = self._refusal(end, ask)
        if problem is not None:
            self._log.warning("take_over_refused", pid=ask.pid, error=problem)
            with end, suppress(OSError):
                end.send(msgspec.json.encode(Offer(os.getpid(), error=problem)) + b"\n")
            return
        self._heir = ask.pid
        self._log.info("take_over_begun", pid=ask.pid, version=ask.version)
        try:
            await self._hand(end)
        finally:
            self._heir = None

    def _refusal(self, end: socket.socket, ask: Ask) -> str | None:
        if (uid := peer_user(end)) != os.geteuid():
            return f"user {uid} may not take over a node of user {os.geteuid()}"
        if ask.protocol != PROTOCOL:
            return f"version {ask.version} cannot take over from {__version__}; stop this one and start the other"
        if (ask.table, ask.native) != (FILE_NAME, NATIVE["table"]):
            return f"version {ask.version} has another shared table; stop this one and start the other"
        if self._heir is not None:
            return f"process {self._heir} is taking over already"
        return self._holder.refusal()

    async def _hand(self, end: socket.socket) -> None:
        """From the offer to the end of it; whatever goes wrong before the heir is ready changes nothing here."""
        holder = self._holder
        async with holder.publishing:
            try:
                lock, data, console = holder.belongings()
                offer = msgspec.json.encode(Offer(os.getpid(), data=len(data), console=len(console)))
                fds = [lock, *(one.fileno() for one in (*data, *console))]
                socket.send_fds(end, [offer + b"\n"], fds)
            except OSError as error:
                end.close()
                self._log.error("take_over_failed", error=error)
                return
            channel = await Channel.open(end)
            try:
                if problem := await self._wait(channel):
                    self._log.warning("take_over_failed", error=problem)
                    channel.send({"event": "refused", "error": problem})
                    await asyncio.to_thread(holder.forget)
                    return
                self._given = True
                self.close()
                await holder.give_up()
                channel.send({"event": "yours"})
                self._log.info("taken_over", pid=self._heir)
            finally:
                channel.close()

    async def _wait(self, channel: Channel) -> str | None:
        """Until the heir is ready; else what went wrong."""
        try:
            async with asyncio.timeout(TAKE_OVER_S):
                message = await channel.receive()
        except TimeoutError:
            return f"it was not ready within {TAKE_OVER_S:g} s"
        if message is None or await _hung_up(channel):
            return "it ended before it was ready"
        return self._holder.refusal()


class Legacy:
    """The heir's side: what a node that runs has handed over, and the line to it.

    Attributes:
        lock: the descriptor of the lock on the data directory.
        data, console: copies of its listening sockets.
    """

    def __init__(self, end: socket.socket, offer: Offer, fds: list[int]) -> None:
        self._end: socket.socket | None = end
        self._channel: Channel | None = None
        self.pid, self.version = offer.pid, offer.version
        self.lock = fds[0]
        sockets = [socket.socket(fileno=fd) for fd in fds[1:]]
        for one in sockets:
            one.setblocking(False)
        self.data, self.console = sockets[: offer.data], sockets[offer.data :]

    @classmethod
    def ask(cls, data_dir: str | Path) -> Self | None:
        """Ask the node that runs on a data directory; None when none does. Blocks, ten seconds at most.

        Raises:
            StartError: it refuses, or does not answer.
        """
        end = socket.socket(socket.AF_UNIX)
        end.settimeout(ANSWER_S)
        try:
            with _Short(Path(data_dir) / SOCKET) as name:
                end.connect(name)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            end.close()
            return None
        except OSError as error:
            end.close()
            raise _failed(f"cannot ask the node that runs: {error.strerror or error}") from error
        try:
            return cls._answered(end)
        except OSError as error:
            end.close()
            raise _failed(f"the node that runs did not answer: {error.strerror or error}") from error
        except BaseException:
            end.close()
            raise

    @classmethod
    def _answered(cls, end: socket.socket) -> Self:
        if peer_user(end) != os.geteuid():
            raise _failed(f"the node that runs is of user {peer_user(end)}, not of {os.geteuid()}")
        end.sendall(msgspec.json.encode(Ask(os.getpid())) + b"\n")
        line, fds, _, _ = socket.recv_fds(end, _LINE, _MOST_SOCKETS)
        try:
            offer = msgspec.json.decode(line, type=Offer)
            if offer.error is not None:
                raise _failed(f"the node that runs (pid {offer.pid}) refuses: {offer.error}")
            if len(fds) != 1 + offer.data + offer.console:
                raise _failed("the node that runs handed over something else than it said")
        except BaseException as error:
            for fd in fds:
                os.close(fd)
            if isinstance(error, msgspec.MsgspecError):
                raise _failed(f"the node that runs gave no answer: {error}") from error
            raise
        return cls(end, offer, fds)

    async def claim(self, ending: asyncio.Event) -> str | None:
        """Say that all is ready, and wait until all is ours; why the old one did not say so, when it has died.

        For as long as it takes, since both serve meanwhile; or until ``ending``.

        Raises:
            StartError: it has changed its mind, and goes on; or this one is told to end.
        """
        assert self._end is not None
        end, self._end = self._end, None
        channel = self._channel = await Channel.open(end)
        channel.send({"event": "ready"})
        told, ended = asyncio.create_task(channel.receive()), asyncio.create_task(ending.wait())
        try:
            await asyncio.wait({told, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not told.done():
                raise _failed("told to end before the node that runs had let go")
            message = told.result()
        finally:
            told.cancel()
            ended.cancel()
        if message is None:
            return "it ended without a word"
        if message.get("event") != "yours":
            raise _failed(f"the node that runs refuses: {message.get('error')}")
        return None

    def close(self) -> None:
        """Let go of the line and of what nobody took; idempotent."""
        if self._channel is not None:
            self._channel.close()
        if self._end is not None:
            self._end.close()
        for one in (*self.data, *self.console):
            one.close()
        self.data, self.console = [], []


class _Short:
    """A name of at most a few characters for a file: a unix socket's may have 107 (unix(7)). Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> str:
        self._fd = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{self._path.name}"

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)


def peer_user(end: socket.socket) -> int:
    """The user at the other end of a unix socket, as the kernel knows it (SO_PEERCRED)."""
    found = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(found)[1])


async def _line(end: socket.socket) -> bytes:
    """What stands before the first end of a line. Raises OSError (too long, ended)."""
    loop, read = asyncio.get_running_loop(), b""
    while not read.endswith(b"\n"):
        data = await loop.sock_recv(end, _LINE)
        read += data
        if not data or len(read) > _LINE:
            raise ConnectionError("it said nothing that could be understood")
    return read


async def _hung_up(channel: Channel) -> bool:
    """Whether who has just spoken is gone already: what it said may be old."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_LOOK_S):
            return await channel.receive() is None
    return False


def _failed(problem: str) -> StartError:
    return StartError(TAKE_OVER, f"take-over: {problem}")
