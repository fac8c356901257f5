"""From an origin to a connected transport: addresses raced, the proxy's tunnel, TLS that cannot be turned off.

uvloop refuses `create_connection(happy_eyeballs_delay=)`, so the race of RFC 8305 is run here over plain sockets,
and the winner alone pays for tunnel and handshake.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any

from fastgw.plan.plan import Origin
from fastgw.upstream import proxy as egress
from fastgw.upstream.dns import Address, Resolver, interleave

STAGGER = 0.25
"""Seconds before the next address is tried beside the ones under way (RFC 8305 section 5)."""

MAX_ADDRESSES = 8

_OPTIONS = (
    (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 20),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 20_000),
)
"""A peer that vanished is noticed by the kernel: idle within 35 s, with unacknowledged bytes within 20 s."""

_Files = tuple[str | None, str | None, str | None]


class Contexts:
    """TLS settings by (CA bundle, certificate, key), rebuilt when a file has changed: no restart after rotation."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._built: dict[_Files, tuple[object, ssl.SSLContext]] = {}

    async def get(self, origin: Origin) -> ssl.SSLContext:
        """The context for `origin`. Reading a CA bundle takes milliseconds, hence the thread.

        Raises:
            OSError: a file cannot be read or holds no certificate or key.
        """
        files = (origin.ca_file, origin.client_cert, origin.client_key)
        stamp = tuple(_stamp(path) for path in files)
        known = self._built.get(files)
        if known is not None and known[0] == stamp:
            return known[1]
        context = await self._loop.run_in_executor(None, build_context, *files)
        self._built[files] = (stamp, context)
        return context


def _stamp(path: str | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    stat = os.stat(path)
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def build_context(ca_file: str | None, client_cert: str | None, client_key: str | None) -> ssl.SSLContext:
    """Verifying, TLS 1.2 or later, HTTP/1.1 only, and an end of stream without close_notify is an error.

    Raises:
        OSError: as `ssl` does, for files that cannot be used.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # CPython sets this so that a cut reads like an end; a body framed by the end needs the difference.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    if client_cert is not None:
        context.load_cert_chain(client_cert, client_key)
    return context


class Connector:
    """Opens connections for the pools of one worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop, resolver: Resolver) -> None:
        self._loop = loop
        self._resolver = resolver
        self._contexts = Contexts(loop)

    async def open(self, origin: Origin, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        """Connect `factory()` to `origin`; the caller bounds the time. Cancelling closes every socket.

        Raises:
            OSError: it cannot be reached, named or trusted (`ssl.SSLError` is one). Tells no secrets.
        """
        proxy = _proxy_of(origin)
        context = await self._contexts.get(origin) if origin.scheme == "https" else None
        host, port = (proxy.host, proxy.port) if proxy else (origin.host, origin.port)
        sock = await race(self._loop, await self._resolver.resolve(host, port))
        try:
            if proxy is not None and context is not None:
                await egress.tunnel(self._loop, sock, proxy, origin.host, origin.port)
            name = origin.host if context is not None else None
            await self._loop.create_connection(factory, sock=sock, ssl=context, server_hostname=name)
        except BaseException:
            sock.close()
            raise


def _proxy_of(origin: Origin) -> egress.Proxy | None:
    if not origin.proxy:
        return None
    try:
        return egress.parse(origin.proxy)
    except ValueError as error:
        raise OSError(str(error)) from None


async def race(loop: asyncio.AbstractEventLoop, addresses: list[Address], *, stagger: float = STAGGER) -> socket.socket:
    """A socket connected to the first address that answers; each next one starts after `stagger` or a failure.

    Raises:
        OSError: none could be connected; the first address's error.
    """
    turns = interleave(addresses)[:MAX_ADDRESSES]
    if len(turns) == 1:
        return await _dial(loop, turns[0])
    started: list[asyncio.Task[socket.socket]] = []
    winner: socket.socket | None = None
    try:
        for address in turns:
            started.append(loop.create_task(_dial(loop, address)))
            await _first_of(started, stagger)
            if (winner := _won(started)) is not None:
                return winner
        while winner is None and not all(task.done() for task in started):
            await _first_of(started, None)
            winner = _won(started)
    finally:
        _dismiss(started, winner)
    if winner is None:
        raise (None if started[0].cancelled() else started[0].exception()) or OSError("no address")
    return winner


async def _first_of(tasks: Iterable["asyncio.Task[socket.socket]"], timeout: float | None) -> None:
    pending = {task for task in tasks if not task.done()}
    if pending:
        await asyncio.wait(pending, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)


def _won(tasks: Iterable["asyncio.Task[socket.socket]"]) -> socket.socket | None:
    for task in tasks:
        if task.done() and not task.cancelled() and task.exception() is None:
            return task.result()
    return None


def _dismiss(tasks: Iterable["asyncio.Task[socket.socket]"], winner: socket.socket | None) -> None:
    """Stop those still trying and close what came second."""
    for task in tasks:
        if task.cancel() or task.cancelled() or task.exception() is not None:
            continue
        if task.result() is not winner:
            task.result().close()


async def _dial(loop: asyncio.AbstractEventLoop, address: Address) -> socket.socket:
    family, kind, protocol, _, where = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        for level, name, value in _OPTIONS:
            option = getattr(socket, name, None)
            if option is not None:
                sock.setsockopt(level, option, value)
        await _connect(loop, sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect(loop: asyncio.AbstractEventLoop, sock: socket.socket, where: Any) -> None:
    """As `loop.sock_connect`, but that uvloop's asks its resolver threads about addresses too: one name server that
    keeps silent would hold up new connections to everybody.
    """
    try:
        sock.connect(where)
    except (BlockingIOError, InterruptedError):
        pass
    else:
        return
    done: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock.fileno(), _connected, sock, done)
    try:
        await done
    finally:
        loop.remove_writer(sock.fileno())


def _connected(sock: socket.socket, done: "asyncio.Future[None]") -> None:
    if done.done():
        return
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        done.set_exception(OSError(error, os.strerror(error)))
    else:
        done.set_result(None)
