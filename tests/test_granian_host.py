"""granian inside our own loop: what is relied upon, seen with real sockets."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from fastgw.child import Listener
from fastgw.granian_host import Host
from fastgw.plan.edge import Front

REQUEST = b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n"
Reached = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class App:
    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.waiting = asyncio.Event()

    async def __call__(self, scope: dict[str, Any], proto: Any) -> None:
        await proto.send({"type": "http.response.start", "status": 200, "headers": [(b"x-test", b"1")]})
        if scope["path"] == "/wait":
            await proto.send({"type": "http.response.body", "body": b"first", "more_body": True})
            self.waiting.set()
            await self.go_on.wait()
        await proto.send({"type": "http.response.body", "body": b"last", "more_body": False})


class Served:
    """A host on an IPv4, an IPv6 and a unix listener."""

    def __init__(self, app: App, place: Path, **options: Any) -> None:
        ends = [socket.create_server(("127.0.0.1", 0)), socket.create_server(("::1", 0), family=socket.AF_INET6)]
        ends.append(socket.socket(socket.AF_UNIX))
        ends[2].bind(str(place))
        ends[2].listen()
        self.addresses: list[Any] = [end.getsockname() for end in ends]
        for end in ends:
            end.setblocking(False)
        listeners = [Listener(end.detach(), index == 2) for index, end in enumerate(ends)]
        self.host = Host(app, listeners, asyncio.get_running_loop(), **options)
        self.host.start()

    async def reach(self, index: int, path: bytes = b"/") -> Reached:
        address = self.addresses[index]
        if index == 2:
            reader, writer = await asyncio.open_unix_connection(address)
        else:
            reader, writer = await asyncio.open_connection(*address[:2])
        writer.write(REQUEST % path)
        return reader, writer


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., Served]]:
    hosts: list[Served] = []

    def begin(app: App, **options: Any) -> Served:
        hosts.append(Served(app, tmp_path / f"s{len(hosts)}", **options))
        return hosts[-1]

    yield begin
    for one in hosts:
        one.host.stop()
        await asyncio.wait_for(one.host.stopped.wait(), 10)


async def test_all_listeners_in_one_loop(serve: Callable[..., Served]) -> None:
    served = serve(App())
    for index in range(3):
        reader, writer = await served.reach(index)
        assert (await reader.readuntil(b"last")).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_stop_closes_what_idles_and_waits_for_what_runs(serve: Callable[..., Served]) -> None:
    app = App()
    served = serve(app)
    idle, idle_writer = await served.reach(0)
    await idle.readuntil(b"last")
    busy, busy_writer = await served.reach(1, b"/wait")
    await app.waiting.wait()
    served.host.stop()
    assert await asyncio.wait_for(idle.read(), 10) == b""
    assert not served.host.stopped.is_set()
    for index in range(2):
        with pytest.raises(ConnectionRefusedError):
            for _ in range(500):  # the listener is closed in granian's own thread, a moment later
                _, late = await served.reach(index)
                late.close()
                await asyncio.sleep(0.01)
    app.go_on.set()
    assert (await asyncio.wait_for(busy.read(), 10)).rstrip().endswith(b"0")
    await asyncio.wait_for(served.host.stopped.wait(), 10)
    idle_writer.close()
    busy_writer.close()


async def test_connections_are_bounded_and_the_next_waits(serve: Callable[..., Served]) -> None:
    served = serve(App(), connections=2)
    held = [await served.reach(0) for _ in range(2)]
    for reader, _ in held:
        await reader.readuntil(b"last")
    reader, writer = await served.reach(0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.3)
    held[0][1].close()
    assert await asyncio.wait_for(reader.read(8), 10) == b"HTTP/1.1"
    writer.close()
    held[1][1].close()


async def test_no_descriptor_is_left(serve: Callable[..., Served]) -> None:
    served = serve(App())
    descriptors = [listener.fd for listener in served.host._listeners]
    served.host.stop()
    await asyncio.wait_for(served.host.stopped.wait(), 10)
    for _ in range(500):
        if not any(os.path.exists(f"/proc/self/fd/{fd}") for fd in descriptors):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a listener stayed open")


async def test_who_leaves_accepts_nobody_and_sends_clients_away_with_their_next_answer(
    serve: Callable[..., Served],
) -> None:
    """The queue of newcomers stays for others that listen on the same socket."""
    served = serve(App())
    copy = socket.socket(fileno=os.dup(served.host._listeners[0].fd))
    kept, kept_writer = await served.reach(0)
    idle, idle_writer = await served.reach(0)
    assert b"connection: close" not in await kept.readuntil(b"last")
    await idle.readuntil(b"last")
    served.host.leave()
    late, late_writer = await served.reach(0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(late.read(1), 0.3)
    taken, _ = await asyncio.get_running_loop().sock_accept(copy)
    assert taken.recv(100).startswith(b"GET /")
    kept_writer.write(REQUEST % b"/")
    assert b"connection: close" in await asyncio.wait_for(kept.read(), 10)
    served.host.stop()
    assert await asyncio.wait_for(idle.read(), 10) == b""
    await asyncio.wait_for(served.host.stopped.wait(), 10)
    for writer in (kept_writer, idle_writer, late_writer):
        writer.close()
    taken.close()
    copy.close()


async def test_another_front_is_for_newcomers(serve: Callable[..., Served]) -> None:
    app = App()
    served = serve(app)
    kept, kept_writer = await served.reach(0)
    await kept.readuntil(b"last")
    busy, busy_writer = await served.reach(1, b"/wait")
    await app.waiting.wait()
    served.host.renew(Front(http2=True))
    reader, writer = await asyncio.open_connection(*served.addresses[0])
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
    assert (await asyncio.wait_for(reader.readexactly(9), 10))[3] == 4, "SETTINGS (RFC 9113 section 6.5)"
    kept_writer.write(REQUEST % b"/")
    assert b"connection: close" in await asyncio.wait_for(kept.readuntil(b"last"), 10)
    app.go_on.set()
    assert b"last" in await asyncio.wait_for(busy.readuntil(b"last"), 10)
    for end in (writer, kept_writer, busy_writer):
        end.close()


async def test_another_application_serves_what_comes(serve: Callable[..., Served]) -> None:
    served = serve(App())

    async def other(scope: dict[str, Any], proto: Any) -> None:
        await proto.send({"type": "http.response.start", "status": 204, "headers": []})
        await proto.send({"type": "http.response.body", "body": b"", "more_body": False})

    served.host.use(other)
    reader, writer = await served.reach(0)
    assert await asyncio.wait_for(reader.read(12), 10) == b"HTTP/1.1 204"
    writer.close()
