"""Reaching an origin: the race of addresses, the tunnel, and TLS that refuses what it should."""

import asyncio
import contextlib
import datetime
import os
import socket
import ssl
import time

import pytest
import trustme

from fastgw.errors import UpstreamError
from fastgw.plan.plan import Origin, Timeouts
from fastgw.upstream import connect
from fastgw.upstream.client import Client
from fastgw.upstream.dns import Resolver
from tests.upstream.peers import HEAD, OK, SOON, Server, answering, until

LIMITS = Timeouts(connect=5, first_token=5, idle=5, total=10)


@pytest.fixture(scope="module")
def ca():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(ca, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return str(path)


def server_context(ca, *names, **more):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names, **more).configure_cert(context)
    return context


@pytest.fixture
async def client():
    """Every name but literal addresses is this machine."""
    loop = asyncio.get_running_loop()

    async def lookup(host, port):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    client = Client(loop, resolver=Resolver(loop, lookup=lookup))
    client.start()
    yield client
    await client.close()


async def call(client, origin, *, timeouts=LIMITS):
    return await client.pool(origin).send(HEAD, b"", timeouts, whole=True)


async def refused(client, origin, *, timeouts=LIMITS):
    with pytest.raises(UpstreamError) as caught:
        await call(client, origin, timeouts=timeouts)
    assert (caught.value.reason, caught.value.sent) == ("connect", False)
    assert client.pool(origin).stats().open == 0
    return caught.value


@pytest.mark.parametrize("host", ["up.test", "127.0.0.1"])
async def test_tls_with_a_private_authority(client, ca, ca_file, host):
    async with Server(answering, ssl=server_context(ca, host)) as server:
        origin = server.origin(host=host, ca_file=ca_file)
        for _ in range(3):
            reply = await call(client, origin)
            assert reply.body == b"ok"
        assert reply.reused
        assert client.pool(origin).stats().created == 1


async def test_tls_wrong_host(client, ca, ca_file):
    async with Server(answering, ssl=server_context(ca, "other.test")) as server:
        error = await refused(client, server.origin(host="up.test", ca_file=ca_file))
        assert "certificate refused" in error.message
        assert server.requests == []


async def test_tls_unknown_authority(client, ca):
    async with Server(answering, ssl=server_context(ca, "up.test")) as server:
        error = await refused(client, server.origin(host="up.test"))
        assert "certificate refused" in error.message


async def test_tls_expired(client, ca, ca_file):
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    context = server_context(ca, "up.test", not_before=past - datetime.timedelta(days=1), not_after=past)
    async with Server(answering, ssl=context) as server:
        error = await refused(client, server.origin(host="up.test", ca_file=ca_file))
        assert "expired" in error.message


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_tls_too_old(client, ca, ca_file):
    context = server_context(ca, "up.test")
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with Server(answering, ssl=context) as server:
        error = await refused(client, server.origin(host="up.test", ca_file=ca_file))
        assert error.kind == "upstream_unreachable"


async def test_tls_to_a_plain_server(client, ca_file):
    async def talks_plain(peer):
        await peer.reader.read(10)
        peer.send(OK)

    async with Server(talks_plain) as server:
        origin = server.origin(scheme="https", host="up.test", ca_file=ca_file)
        assert "TLS failed" in (await refused(client, origin)).message


async def test_tls_with_a_client_certificate(client, ca, ca_file, tmp_path):
    mine = ca.issue_cert("me@client.test")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    mine.cert_chain_pems[0].write_to_path(str(cert))
    mine.private_key_pem.write_to_path(str(key))
    context = server_context(ca, "up.test")
    context.verify_mode = ssl.CERT_REQUIRED
    ca.configure_trust(context)
    async with Server(answering, ssl=context) as server:
        origin = server.origin(host="up.test", ca_file=ca_file, client_cert=str(cert), client_key=str(key))
        assert (await call(client, origin)).body == b"ok"
        with pytest.raises(UpstreamError):
            await call(client, server.origin(host="up.test", ca_file=ca_file))


async def test_files_that_cannot_be_used(client, tmp_path):
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for path in (str(empty), str(tmp_path / "missing.pem")):
        await refused(client, Origin("https", "up.test", 1, ca_file=path))


async def test_a_replaced_authority_is_taken_without_restart(client, ca, tmp_path):
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    async with Server(answering, ssl=server_context(ca, "up.test")) as server:
        origin = server.origin(host="up.test", ca_file=str(path))
        await refused(client, origin)
        new = tmp_path / "new.pem"
        ca.cert_pem.write_to_path(str(new))
        os.replace(new, path)
        assert (await call(client, origin)).body == b"ok"


def test_no_context_trusts_blindly():
    context = connect.build_context(None, None, None)
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert not context.options & getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)


async def stalls(peer):
    await peer.wait_gone()


async def test_a_stalled_handshake_meets_the_connect_deadline(client, ca_file):
    async with Server(stalls) as server:
        origin = server.origin(scheme="https", host="up.test", ca_file=ca_file)
        error = await refused(client, origin, timeouts=Timeouts(connect=0.3))
        assert error.kind == "upstream_timeout"
        await asyncio.wait_for(server.peers[0].gone.wait(), SOON)


async def test_cancel_in_the_handshake_closes_the_socket(client, ca_file):
    async with Server(stalls) as server:
        origin = server.origin(scheme="https", host="up.test", ca_file=ca_file)
        task = asyncio.create_task(call(client, origin))
        await until(lambda: server.peers)
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait({task})
        assert client.pool(origin).stats().open == 0
        await asyncio.wait_for(server.peers[0].gone.wait(), SOON)


async def test_cancel_over_tls_closes_the_socket(client, ca, ca_file):
    async with Server(stalls, ssl=server_context(ca, "up.test")) as server:
        origin = server.origin(host="up.test", ca_file=ca_file)
        task = asyncio.create_task(call(client, origin))
        await until(lambda: client.pool(origin).stats().busy)
        task.cancel()
        await asyncio.wait({task})
        assert client.pool(origin).stats().open == 0
        await asyncio.wait_for(server.peers[0].gone.wait(), SOON)


@pytest.mark.parametrize("notify", [True, False])
async def test_only_a_close_notify_ends_a_body_that_lasts_until_the_end(client, ca, ca_file, notify):
    async def until_eof(peer):
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000)
        await peer.writer.drain()
        await asyncio.sleep(0.1)
        if not notify:
            peer.writer.transport.abort()

    async with Server(until_eof, ssl=server_context(ca, "up.test")) as server:
        origin = server.origin(host="up.test", ca_file=ca_file)
        if notify:
            reply = await call(client, origin)
            assert (reply.body, reply.unframed) == (b"x" * 1000, True)
        else:
            with pytest.raises(UpstreamError) as caught:
                await call(client, origin)
            assert (caught.value.kind, caught.value.reason) == ("upstream_invalid_response", "reset")


async def tunnels(peer):
    """A proxy that connects where it is told to, then copies bytes."""
    request = await peer.request()
    host, _, port = request.split(b" ")[1].rpartition(b":")
    assert host == b"up.test"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    peer.send(b"HTTP/1.1 200 Connection established\r\nx-proxy: yes\r\n\r\n")

    async def copy(source, sink):
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                sink.write(data)
        sink.close()

    try:
        await asyncio.gather(copy(peer.reader, writer), copy(reader, peer.writer))
    finally:
        writer.close()


async def test_tls_through_a_proxy(client, ca, ca_file):
    async with Server(answering, ssl=server_context(ca, "up.test")) as server, Server(tunnels) as way:
        origin = server.origin(host="up.test", ca_file=ca_file, proxy=f"http://127.0.0.1:{way.port}")
        assert (await call(client, origin)).body == b"ok"
        assert (await call(client, origin)).reused
        assert len(way.peers) == 1
        client.retire(set())
        await until(lambda: not client.stats())


async def test_the_certificate_is_the_origins_not_the_proxys(client, ca, ca_file):
    async with Server(answering, ssl=server_context(ca, "127.0.0.1")) as server, Server(tunnels) as way:
        origin = server.origin(host="up.test", ca_file=ca_file, proxy=f"http://127.0.0.1:{way.port}")
        assert "certificate refused" in (await refused(client, origin)).message


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", "credentials"),
        (b"HTTP/1.1 403 No\r\n\r\n", "status 403"),
        (b"HTTP/1.1 200 OK\r\n\r\nsurplus", "valid HTTP"),
        (b"HTTP/1.1 200 OK\nx: y\r\n\r\n", "valid HTTP"),
        (b"HTTP/2 200 OK\r\n\r\n", "valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nx y\r\n\r\n", "valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nx: y", "no complete answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 5000 + b"\r\n", "no complete answer"),
    ],
)
async def test_what_a_proxy_may_not_answer(client, ca_file, answer, words):
    async def answers(peer):
        assert b"proxy-authorization: Basic bWU6c2VjcmV0\r\n" in await peer.request()
        peer.send(answer)

    async with Server(answers) as way:
        url = f"http://me:secret@127.0.0.1:{way.port}"
        error = await refused(client, Origin("https", "up.test", 443, ca_file=ca_file, proxy=url))
        assert words in error.message
        assert "secret" not in error.message
        assert "bWU6" not in error.message


async def test_a_silent_proxy_meets_the_connect_deadline(client, ca_file):
    async with Server(stalls) as way:
        origin = Origin("https", "up.test", 443, ca_file=ca_file, proxy=f"http://127.0.0.1:{way.port}")
        error = await refused(client, origin, timeouts=Timeouts(connect=0.2))
        assert error.kind == "upstream_timeout"
        await asyncio.wait_for(way.peers[0].gone.wait(), SOON)


def address(port, host="127.0.0.1"):
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))


async def test_the_race_goes_on_at_once_after_a_refusal():
    loop = asyncio.get_running_loop()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refusing = address(closed.getsockname()[1])
        async with Server(answering) as server:
            started = time.monotonic()
            sock = await connect.race(loop, [refusing, refusing, address(server.port)], stagger=5)
            assert sock.getpeername()[1] == server.port
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert time.monotonic() - started < SOON
            sock.close()
        with pytest.raises(OSError):
            await connect.race(loop, [refusing, refusing], stagger=0.01)
        with pytest.raises(OSError):
            await connect.race(loop, [refusing])


async def test_the_race_passes_a_dead_family_by(monkeypatch):
    """The first address swallows packets: the second is tried after the stagger, and the loser's socket is closed."""
    loop = asyncio.get_running_loop()
    dialled = []
    dial = connect._dial

    async def slow_first(loop, where):
        dialled.append(where)
        if len(dialled) == 1:
            try:
                await asyncio.sleep(30)
            finally:
                dialled.append("cancelled")
        return await dial(loop, where)

    monkeypatch.setattr(connect, "_dial", slow_first)
    async with Server(answering) as server:
        dead = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", server.port, 0, 0))
        sock = await connect.race(loop, [dead, address(server.port)], stagger=0.05)
        assert sock.getpeername() == ("127.0.0.1", server.port)
        await asyncio.sleep(0)
        assert dialled == [dead, address(server.port), "cancelled"]
        sock.close()


async def test_a_cancelled_race_leaves_no_socket():
    loop = asyncio.get_running_loop()
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        full = address(listener.getsockname()[1])
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full[4])
        task = asyncio.create_task(connect.race(loop, [full, full, full], stagger=0.01))
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.wait({task})
        await asyncio.sleep(0.05)
        for filler in fillers:
            filler.close()
    assert len(os.listdir("/proc/self/fd")) <= before
