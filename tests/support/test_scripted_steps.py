"""The steps of the scripted upstream that answer by the request, and what only shows over TLS."""

import asyncio
import socket
import ssl

import pytest
import trustme

from tests.support.rawclient import call, connect, get
from tests.support.scripted import (
    Answer,
    Cut,
    Expect,
    Fin,
    RawRequest,
    ScriptedUpstream,
    Send,
    Serve,
    Steps,
    Then,
    reply,
)


def told(request: RawRequest) -> bytes:
    return reply(200, body=request.target.encode())


async def test_an_answer_is_made_of_the_request() -> None:
    async with ScriptedUpstream([[Expect(), Answer(told)]]) as upstream:
        assert (await call(upstream.port, get("/one"))).body == b"/one"


async def test_serving_goes_on_until_there_is_no_answer() -> None:
    def twice(request: RawRequest) -> bytes | None:
        return None if request.target == "/last" else told(request)

    async with ScriptedUpstream([[Serve(twice), Send(reply(418))]]) as upstream, connect(upstream.port) as connection:
        for path in ("/one", "/two"):
            connection.send(get(path))
            assert (await connection.read()).body == path.encode()
        connection.send(get("/last"))
        assert (await connection.read()).status == 418
        assert [request.target for request in upstream.requests] == ["/one", "/two", "/last"]


async def test_how_to_go_on_is_chosen_by_the_request() -> None:
    def choose(request: RawRequest) -> Steps:
        return [Fin()] if request.target == "/end" else [Send(told(request))]

    steps = [Expect(), Then(choose), Expect(), Then(choose), Send(b"never")]
    async with ScriptedUpstream([steps]) as upstream, connect(upstream.port) as connection:
        connection.send(get("/on") + get("/end"))
        assert (await connection.read()).body == b"/on"
        assert ((await connection.read()).ending, connection.buffer) == ("fin", b"")


@pytest.mark.parametrize(("ending", "in_order"), [(Fin(), True), (Cut(), False)], ids=["fin", "cut"])
async def test_over_tls_a_cut_lacks_the_closing_words(ending: Fin | Cut, in_order: bool) -> None:
    ca = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    client.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    ca.configure_trust(client)
    async with ScriptedUpstream([[Expect(), Send(b"words"), ending]], tls=server) as upstream:
        assert upstream.url.startswith("https://")
        assert await asyncio.to_thread(ends_in_order, client, upstream.port) is in_order


def ends_in_order(context: ssl.SSLContext, port: int) -> bool:
    """Whether a TLS session ends with its closing words; blocks. (asyncio's own streams do not tell.)"""
    with (
        socket.create_connection(("127.0.0.1", port), 5.0) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1", suppress_ragged_eofs=False) as secured,
    ):
        secured.sendall(get("/"))
        assert secured.recv(100) == b"words"
        try:
            return secured.recv(100) == b""
        except ssl.SSLError:
            return False


async def test_a_port_may_be_given() -> None:
    async with ScriptedUpstream([[Serve(told)]]) as first:
        port = first.port
    async with ScriptedUpstream([[Serve(told)]], port=port) as again:
        assert again.port == port
        assert (await call(port, get("/x"))).status == 200
