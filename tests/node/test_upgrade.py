"""The two sides of a take-over against each other, with a node that is none."""

import asyncio
import fcntl
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from fastgw.node import upgrade
from fastgw.node.datadir import DataDir
from fastgw.node.errors import DATA_DIR, TAKE_OVER, StartError
from fastgw.node.listeners import bind_tcp, bind_unix, close_all
from fastgw.node.upgrade import Ask, Gate, Legacy, Offer
from fastgw.telemetry.log import Log


class Holder:
    """What a node would be; says what was asked of it."""

    def __init__(self, directory: Path) -> None:
        self.data = DataDir.hold(directory)
        self.publishing = asyncio.Lock()
        self.sockets = bind_tcp(("127.0.0.1",), 0)
        self.console = bind_tcp(("127.0.0.1",), 0)
        self.problem: str | None = None
        self.said: list[str] = []

    def refusal(self) -> str | None:
        return self.problem

    def forget(self) -> None:
        self.said.append("forget")

    def belongings(self) -> tuple[int, Sequence[socket.socket], Sequence[socket.socket]]:
        return self.data.lock_fd, self.sockets, self.console

    async def give_up(self) -> None:
        self.said.append("give up")
        self.data.release()


@asynccontextmanager
async def holding(tmp_path: Path) -> AsyncIterator[tuple[Holder, Gate, Path]]:
    directory = tmp_path / ("long" * 30) / "data"  # beyond what the name of a unix socket may have
    holder, log = Holder(directory), Log()
    gate = Gate(directory, holder, log)
    gate.open()
    running = asyncio.create_task(gate.run())
    try:
        yield holder, gate, directory
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        gate.close()
        close_all([*holder.sockets, *holder.console])
        holder.data.release()
        log.close()


async def asked(directory: Path) -> Legacy:
    legacy = await asyncio.to_thread(Legacy.ask, directory)
    assert legacy is not None
    return legacy


async def eventually(holder: Holder, said: list[str]) -> None:
    async with asyncio.timeout(5):
        while holder.said != said:
            await asyncio.sleep(0.01)


def locked(directory: Path) -> bool:
    fd = os.open(directory / "lock", os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


async def test_all_is_handed_over_and_the_lock_never_free(tmp_path: Path) -> None:
    async with holding(tmp_path) as (holder, _, directory):
        legacy = await asked(directory)
        assert legacy.pid == os.getpid()
        assert [end.getsockname() for end in legacy.data] == [end.getsockname() for end in holder.sockets]
        assert [end.getsockname() for end in legacy.console] == [end.getsockname() for end in holder.console]
        assert holder.publishing.locked()
        data = DataDir.adopt(directory, legacy.lock)
        assert await legacy.claim(asyncio.Event()) is None
        assert holder.said == ["give up"]
        assert locked(directory)
        data.sign()
        assert (directory / "lock").read_text() == f"{os.getpid()}\n"
        close_all([*holder.sockets])
        with socket.create_connection(legacy.data[0].getsockname(), 5):
            pass  # still listens: the copy is the same socket
        legacy.close()
        data.release()
        assert not locked(directory)


async def test_whoever_vanishes_before_it_is_ready_changes_nothing(tmp_path: Path) -> None:
    async with holding(tmp_path) as (holder, _, directory):
        legacy = await asked(directory)
        legacy.close()
        os.close(legacy.lock)
        await eventually(holder, ["forget"])
        async with asyncio.timeout(5):
            while holder.publishing.locked():
                await asyncio.sleep(0.01)
        assert locked(directory)
        again = await asked(directory)
        assert await again.claim(asyncio.Event()) is None
        again.close()
        os.close(again.lock)


async def test_whoever_says_ready_and_vanishes_is_not_given_anything(tmp_path: Path) -> None:
    async with holding(tmp_path) as (holder, _, directory):
        legacy = await asked(directory)
        end = legacy._end
        assert end is not None
        await asyncio.get_running_loop().run_in_executor(None, end.sendall, b'{"event":"ready"}\n')
        legacy.close()
        os.close(legacy.lock)
        await eventually(holder, ["forget"])


async def test_a_holder_that_cannot_go_refuses_first_and_last(tmp_path: Path) -> None:
    async with holding(tmp_path) as (holder, _, directory):
        holder.problem = "it is only starting"
        with pytest.raises(StartError, match="refuses: it is only starting") as refused:
            await asked(directory)
        assert refused.value.code == TAKE_OVER
        holder.problem = None
        legacy = await asked(directory)
        with pytest.raises(StartError, match=f"process {os.getpid()} is taking over already"):
            await asked(directory)
        holder.problem = "it is ending"
        with pytest.raises(StartError, match="refuses: it is ending"):
            await legacy.claim(asyncio.Event())
        legacy.close()
        os.close(legacy.lock)
        await eventually(holder, ["forget"])


@pytest.mark.parametrize(
    ("ask", "problem"),
    [
        (Ask(1, protocol=2), "cannot take over from"),
        (Ask(1, table="table-v0.map"), "has another shared table"),
        (Ask(1, native=not Ask(1).native), "has another shared table"),
    ],
    ids=["protocol", "table", "native"],
)
async def test_another_make_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask, problem: str) -> None:
    async with holding(tmp_path) as (holder, _, directory):
        monkeypatch.setattr(upgrade, "Ask", lambda _: ask)
        monkeypatch.setattr(Gate, "_meet", _meet_as_it_is)
        with pytest.raises(StartError, match=problem):
            await asked(directory)
        assert holder.said == []


async def _meet_as_it_is(self: Gate, end: socket.socket) -> None:
    """`Gate._meet` with the type that the test has replaced for the other side."""
    told = self._refusal(end, msgspec.json.decode(await upgrade._line(end), type=Ask))
    with end:
        end.send(msgspec.json.encode(Offer(os.getpid(), error=told)) + b"\n")


async def test_a_holder_that_has_died_leaves_it_all(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    lock = os.open(tmp_path, os.O_RDONLY)
    legacy = Legacy(ours, Offer(1), [lock])
    theirs.close()
    assert await legacy.claim(asyncio.Event()) == "it ended without a word"
    legacy.close()
    os.close(lock)


async def test_told_to_end_while_the_holder_is_silent(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    ending = asyncio.Event()
    legacy = Legacy(ours, Offer(1), [-1])
    asyncio.get_running_loop().call_later(0.05, ending.set)
    with theirs, pytest.raises(StartError, match="told to end"):
        await legacy.claim(ending)
    legacy.close()


def test_nobody_there(tmp_path: Path) -> None:
    assert Legacy.ask(tmp_path) is None
    assert Legacy.ask(tmp_path / "missing") is None
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / upgrade.SOCKET))
    assert Legacy.ask(tmp_path) is None


def test_a_lock_of_another_directory_is_not_adopted(tmp_path: Path) -> None:
    one, other = DataDir.hold(tmp_path / "one"), DataDir.hold(tmp_path / "other")
    with pytest.raises(StartError, match="holds another one") as refused:
        DataDir.adopt(one.path, other.lock_fd)
    assert refused.value.code == DATA_DIR
    one.release()
    other.release()


def test_sockets_that_are_given_are_used(tmp_path: Path) -> None:
    (given,) = bind_tcp(("127.0.0.1",), 0)
    name = str(tmp_path / "s")
    unix = bind_unix(name)
    rest = [given, unix]
    try:
        assert bind_tcp(("127.0.0.1",), given.getsockname()[1], rest) == [given]
        assert bind_unix(name, rest) is unix
        assert rest == []
        rest = [given]
        (fresh,) = bind_tcp(("127.0.0.2",), 0, rest)
        assert fresh is not given
        assert rest == [given]
        assert bind_tcp(("127.0.0.1",), 0, rest) == [given]
        fresh.close()
        close_all([unix], unlink=False)
        assert (tmp_path / "s").exists()
    finally:
        close_all([given])
