"""The edge of a real node: TLS, HTTP/2, who may come, web pages, workers that hang or have too much."""

import asyncio
import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
import trustme

from tests.support.gateway import Mock, Node, node, start_node, unique, until

KEY, BOUND = "fgw-edge-0123456789abcdef", "fgw-edge-bound-0123456789"
CHAT = "/v1/chat/completions"
SLOW, STALLS = "mock-slow-3000", "mock-stall-3"


def config(mock: Mock, more: str = "", key: str = "") -> str:
    models = ("mock-small", SLOW, STALLS)
    lines = [f'providers: {{mock: {{kind: openai_compatible, base_url: "{mock.url}/v1"}}}}', "models:"]
    lines += [f"  {name}: {{targets: [{{provider: mock, model: {name}}}]}}" for name in models]
    lines += ["keys:", f"  - {{name: main, secret: {KEY}}}", key, more, "bounds: {body: 64KiB}", ""]
    return "\n".join(lines)


def ask(
    port: int,
    method: str = "POST",
    path: str = CHAT,
    *,
    model: str = "mock-small",
    secret: str = KEY,
    tls: ssl.SSLContext | None = None,
    timeout: float = 10.0,
    source: str = "127.0.0.1",
    **headers: str,
) -> tuple[int, dict[str, str], bytes]:
    """One call on a connection of its own. Header names are written with underscores."""
    options: dict[str, Any] = {"timeout": timeout, "source_address": (source, 0)}
    if tls is None:
        connection: http.client.HTTPConnection = http.client.HTTPConnection("127.0.0.1", port, **options)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=tls, **options)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if secret:
        sent["authorization"] = f"Bearer {secret}"
    body = None
    if method == "POST":
        sent["content-type"] = "application/json"
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "x"}]})
    with contextlib.closing(connection):
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def code(body: bytes) -> str:
    return str(json.loads(body)["error"]["code"])


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mock]:
    started = Mock(tmp_path_factory.mktemp("mock"))
    yield started
    started.stop()


# TLS


class Certified:
    """A node that serves with TLS, and the authority of its certificate."""

    def __init__(self, directory: Path, mock: Mock, more: str = "") -> None:
        self.ca = trustme.CA()
        self.cert, self.key, self.clients = (directory / name for name in ("cert.pem", "key.pem", "clients.pem"))
        self.renew()
        self.client_ca = trustme.CA()
        self.client_ca.cert_pem.write_to_path(str(self.clients))
        tls = f"listen: {{http2: true, tls: {{cert: {self.cert}, key: {self.key}{more}}}}}"
        self.node = start_node(directory, config(mock, tls), wait=False)
        ready = until(lambda: next(iter(self.node.log("ready")), None), 30.0, "the node to be ready")
        self.url = ready["listeners"][0]
        self.node.port = self.port = int(self.url.rpartition(":")[2])

    def renew(self) -> None:
        """Write a new pair, one file after the other, as tools do."""
        made = self.ca.issue_cert("127.0.0.1")
        made.private_key_pem.write_to_path(str(self.key))
        made.cert_chain_pems[0].write_to_path(str(self.cert))

    def trusting(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context

    def shown(self) -> str:
        """The serial number of the certificate that newcomers are shown."""
        raw = socket.create_connection(("127.0.0.1", self.port), 5)
        with raw, self.trusting().wrap_socket(raw, server_hostname="127.0.0.1") as end:
            return str((end.getpeercert() or {})["serialNumber"])


@contextlib.contextmanager
def certified(directory: Path, mock: Mock, more: str = "") -> Iterator[Certified]:
    one = Certified(directory, mock, more)
    try:
        yield one
    except BaseException:
        one.node.process.end(signal.SIGKILL)
        print(one.node.stderr()[-8000:])
        raise
    assert one.node.stop() == 0, one.node.stderr()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, mock: Mock) -> Iterator[Certified]:
    with certified(tmp_path_factory.mktemp("tls"), mock) as one:
        yield one


def test_tls_is_served_and_told(secured: Certified) -> None:
    status, headers, _ = ask(secured.port, tls=secured.trusting())
    assert (status, headers["server"]) == (200, "fastgw")
    assert secured.url.startswith("https://127.0.0.1:")
    ends = ssl.cert_time_to_seconds(ssl._ssl._test_decode_cert(str(secured.cert))["notAfter"])  # type: ignore[attr-defined]
    assert secured.node.status()["tls_expires"] == ends
    with pytest.raises((http.client.BadStatusLine, ConnectionError)):
        ask(secured.port)


def test_tls_below_its_least_version_is_refused(tmp_path: Path, mock: Mock) -> None:
    with certified(tmp_path, mock, ", min_version: '1.3'") as one:
        old = one.trusting()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError):
            ask(one.port, tls=old)
        assert ask(one.port, tls=one.trusting())[0] == 200


def test_clients_without_a_certificate_are_not_served(tmp_path: Path, mock: Mock) -> None:
    with certified(tmp_path, mock, f", client_ca: {tmp_path / 'clients.pem'}") as one:
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.BadStatusLine)):
            ask(one.port, tls=one.trusting())
        known, stranger = one.trusting(), one.trusting()
        one.client_ca.issue_cert("someone@example.com").configure_cert(known)
        one.ca.issue_cert("someone@example.com").configure_cert(stranger)
        assert ask(one.port, tls=known)[0] == 200
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.BadStatusLine)):
            ask(one.port, tls=stranger)


def test_f43_a_handshake_that_stalls_is_ended_and_holds_nobody_up(secured: Certified) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", secured.port), 40) as silent:
        assert ask(secured.port, tls=secured.trusting())[0] == 200
        assert silent.recv(1) == b""
    assert 2.0 < time.monotonic() - began < 40.0


def test_f43_a_client_cut_without_close_notify_harms_nobody(secured: Certified) -> None:
    for sent in (
        b"",
        b"GET /v1/models HT",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{",
    ):
        with socket.create_connection(("127.0.0.1", secured.port), 5) as raw:
            end = secured.trusting().wrap_socket(raw, server_hostname="127.0.0.1")
            end.sendall(sent)
            os.close(end.detach())  # without a word
    assert ask(secured.port, tls=secured.trusting())[0] == 200
    assert not secured.node.log("internal_error")


def test_f43_a_new_pair_is_taken_over_and_a_broken_one_is_not(secured: Certified) -> None:
    first, context = secured.shown(), secured.trusting()
    kept = http.client.HTTPSConnection("127.0.0.1", secured.port, context=context, timeout=20)
    with contextlib.closing(kept):
        body = json.dumps({"model": SLOW, "messages": [{"role": "user", "content": "x"}]})
        sent = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        kept.request("POST", CHAT, body, sent)
        secured.renew()
        until(lambda: secured.shown() != first, 15.0, "the new certificate")
        second = secured.shown()
        answer = kept.getresponse()
        assert answer.status == 200
        assert json.loads(answer.read())["choices"], "the call went on over the old connection"
    secured.key.write_text(secured.key.read_text()[:200])
    until(lambda: secured.node.status()["config_error"], 15.0, "the broken pair to be refused")
    assert any("listen.tls" in line for line in secured.node.status()["config_error"])
    assert secured.shown() == second
    # A worker that is started now serves what was good, whatever stands in the files.
    pid = secured.node.workers[0]
    os.kill(pid, signal.SIGKILL)
    until(lambda: secured.node.workers not in ([], [pid]), 20.0, "another worker")
    assert secured.shown() == second
    secured.renew()
    until(lambda: secured.shown() != second, 15.0, "the mended pair")
    assert secured.node.status()["config_error"] is None


# HTTP/2


class Two:
    """A client that speaks HTTP/2 and checks nothing of what it sends."""

    def __init__(self, port: int) -> None:
        self.port = port
        loose = h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        self.wire = h2.connection.H2Connection(loose)

    async def __aenter__(self) -> "Two":
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.wire.initiate_connection()
        self.flush()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def flush(self) -> None:
        self.writer.write(self.wire.data_to_send())

    def head(self, *more: tuple[str, str], method: str = "POST", path: str = CHAT, **changed: str | None) -> int:
        """Send the head of a request; pseudo headers by their names, None leaves one out."""
        pseudo = {"method": method, "path": path, "scheme": "http", "authority": "localhost", **changed}
        fields = [(f":{name}", value) for name, value in pseudo.items() if value is not None]
        stream: int = self.wire.get_next_available_stream_id()
        common = [("authorization", f"Bearer {KEY}"), ("content-type", "application/json")]
        self.wire.send_headers(stream, [*fields, *common, *more], end_stream=method == "GET")
        self.flush()
        return stream

    def body(self, stream: int, data: bytes) -> None:
        self.wire.send_data(stream, data, end_stream=True)
        self.flush()

    async def events(self) -> list[Any]:
        async with asyncio.timeout(10):
            data = await self.reader.read(65536)
        found = self.wire.receive_data(data) if data else [None]
        self.flush()
        return list(found)

    async def answer(self, stream: int) -> tuple[int, bytes]:
        """Status and body; (0, b"") when the stream or the connection was ended instead."""
        status, body = 0, b""
        while True:
            for event in await self.events():
                if event is None or isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                    return status, body
                if isinstance(event, h2.events.ResponseReceived) and event.stream_id == stream:
                    status = int(dict(event.headers)[b":status"])
                elif isinstance(event, h2.events.DataReceived) and event.stream_id == stream:
                    body += event.data
                elif isinstance(event, h2.events.StreamEnded) and event.stream_id == stream:
                    return status, body


def chat(model: str = "mock-small", **more: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "x"}], **more}).encode()


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory, mock: Mock) -> Iterator[Node]:
    """A node that takes HTTP/2."""
    with node(tmp_path_factory.mktemp("h2"), config(mock, "listen: {http2: true}")) as one:
        yield one


async def test_http2_is_served_beside_the_older(second: Node) -> None:
    async with Two(second.port) as client:
        streams = [client.head() for _ in range(3)]
        for stream in streams:
            client.body(stream, chat())
        status, body = await client.answer(streams[2])
        assert status == 200
        assert json.loads(body)["choices"]
    assert ask(second.port)[0] == 200


async def test_http2_is_off_by_default(tmp_path: Path, mock: Mock) -> None:
    with node(tmp_path, config(mock)) as plain:
        async with Two(plain.port) as client:
            client.head(method="GET", path="/health/live")
            assert await client.events() == [None]


@pytest.mark.parametrize(
    ("more", "changed", "expected"),
    [
        ((), {"authority": None}, 400),
        ((("connection", "keep-alive"),), {}, 0),
        ((("transfer-encoding", "chunked"),), {}, 0),
        ((("te", "gzip"),), {}, 0),
        ((("content-length", "5"), ("content-length", "6")), {}, 0),
        ((("x_api_key", "another"),), {}, 400),
        ((), {"path": "//v1/chat/completions"}, 400),
        ((("x-long", "a" * 9000),) * 9, {}, 431),
        (tuple((f"x-{n}", "a") for n in range(150)), {}, 431),
    ],
)
async def test_http2_keeps_the_same_rules(
    second: Node, mock: Mock, more: tuple[tuple[str, str], ...], changed: dict[str, Any], expected: int
) -> None:
    with mock.untouched():
        async with Two(second.port) as client:
            stream = client.head(*more, **changed)
            with contextlib.suppress(Exception):  # the stream may be closed already
                client.body(stream, chat())
            assert (await client.answer(stream))[0] == expected
    second.assert_well()


async def test_http2_bodies_have_the_same_bound(second: Node, mock: Mock) -> None:
    with mock.untouched():
        async with Two(second.port) as client:
            while client.wire.outbound_flow_control_window < 100_000:
                await client.events()  # until the server has said how much it takes
            stream = client.head()
            for _ in range(5):
                client.wire.send_data(stream, b" " * 16384)
            client.body(stream, b"{}")
            status, body = await client.answer(stream)
            assert status == 413, body


async def test_http2_a_reset_stream_ends_the_call_to_the_upstream(second: Node) -> None:
    label = unique("rst")
    async with Two(second.port) as client:
        stream = client.head(("x-request-id", label))
        client.body(stream, chat(STALLS, stream=True))
        while not any(isinstance(event, h2.events.DataReceived) for event in await client.events()):
            pass
        client.wire.reset_stream(stream)
        client.flush()
        row = await asyncio.to_thread(second.record, label)
        assert (row["status"], row["error"]) == (499, "client_closed")
        other = client.head(method="GET", path="/v1/models")
        assert (await client.answer(other))[0] == 200, "the connection lives on"


async def test_http2_a_flood_of_resets_ends_the_connection(second: Node) -> None:
    """CVE-2023-44487: streams that are opened and reset at once cost the client less than the server."""
    sent = 0
    async with Two(second.port) as client:
        with contextlib.suppress(ConnectionError):
            while sent < 20_000:
                stream = client.head(method="GET", path="/v1/models")
                client.wire.reset_stream(stream)
                client.flush()
                sent += 1
                if sent % 100 == 0:
                    await client.writer.drain()
                    await asyncio.sleep(0)
                    if client.reader.at_eof() or client.writer.transport.is_closing():
                        break
    assert sent < 20_000
    await asyncio.to_thread(second.assert_well)


# who may come


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, mock: Mock) -> Iterator[Node]:
    more = 'trusted_proxies: [127.0.0.1, 10.0.0.0/8]\ndeny: [192.0.2.0/24, "2001:db8:bad::/48"]\n'
    key = f"  - {{name: bound, secret: {BOUND}, allowed_ips: [198.51.100.0/24]}}"
    with node(tmp_path_factory.mktemp("guarded"), config(mock, more, key)) as one:
        yield one


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"x_forwarded_for": "203.0.113.9"}, 200),
        ({"x_forwarded_for": "192.0.2.7"}, 403),
        ({"x_forwarded_for": "192.0.2.7, 10.1.2.3"}, 403),
        ({"x_forwarded_for": "192.0.2.7, 203.0.113.9"}, 200),
        ({"x_forwarded_for": "::ffff:192.0.2.7"}, 403),
        ({"x_forwarded_for": "192.0.2.7:4711"}, 403),
        ({"x_forwarded_for": "[2001:db8:bad::1]:4711"}, 403),
        ({"forwarded": 'for="[2001:db8:bad::1]";proto=https'}, 403),
        ({"forwarded": "for=unknown"}, 403),
        ({"forwarded": "for=192.0.2.7, for=203.0.113.9"}, 200),
        ({"forwarded": "for=203.0.113.9", "x_forwarded_for": "203.0.113.9"}, 200),
        ({"forwarded": "for=203.0.113.9", "x_forwarded_for": "203.0.113.10"}, 400),
    ],
)
def test_s19_a_trusted_proxy_is_believed_as_far_as_it_can_know(
    guarded: Node, headers: dict[str, str], status: int
) -> None:
    found, _, body = ask(guarded.port, **headers)
    assert found == status, body
    if status == 403:
        assert code(body) == "address_not_allowed"


def test_s19_nobody_else_is_believed(guarded: Node) -> None:
    """127.0.0.2 is no trusted proxy: what it writes opens nothing, and closes nothing."""
    assert ask(guarded.port, source="127.0.0.2", x_forwarded_for="192.0.2.7")[0] == 200
    status, _, body = ask(guarded.port, source="127.0.0.2", secret=BOUND, x_forwarded_for="198.51.100.4")
    assert (status, code(body)) == (403, "address_not_allowed")


def test_a_key_is_bound_to_its_addresses(guarded: Node, mock: Mock) -> None:
    assert ask(guarded.port, secret=BOUND, x_forwarded_for="198.51.100.4")[0] == 200
    with mock.untouched():
        status, _, body = ask(guarded.port, secret=BOUND)
        assert (status, code(body)) == (403, "address_not_allowed")
        assert "'bound'" in json.loads(body)["error"]["message"]
        assert ask(guarded.port, "GET", "/v1/models", secret=BOUND)[0] == 403


def test_only_who_is_allowed(tmp_path: Path, mock: Mock) -> None:
    path = tmp_path / "s.sock"
    more = "allow: [127.0.0.3, unix]"
    with node(tmp_path, config(mock, more), args=["--unix", str(path)]) as one:
        status, _, body = ask(one.port, secret="nobodys-key-0123456789")
        assert (status, code(body)) == (403, "address_not_allowed"), "before it is known whose key it is"
        assert ask(one.port, source="127.0.0.3")[0] == 200
        with socket.socket(socket.AF_UNIX) as end:
            end.settimeout(10)
            end.connect(str(path))
            end.sendall(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n\r\n" % KEY.encode())
            assert end.recv(100).startswith(b"HTTP/1.1 200")


# web pages


@pytest.fixture(scope="module")
def open_to_pages(tmp_path_factory: pytest.TempPathFactory, mock: Mock) -> Iterator[Node]:
    more = "cors: {origins: ['https://app.example.com'], max_age: 60}"
    with node(tmp_path_factory.mktemp("cors"), config(mock, more)) as one:
        yield one


PAGE = {"origin": "https://app.example.com"}


def test_a_preflight_is_answered_without_a_key(open_to_pages: Node) -> None:
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "authorization,content-type"}
    status, headers, body = ask(open_to_pages.port, "OPTIONS", secret="", **PAGE, **asked)
    assert (status, body) == (204, b"")
    assert headers["access-control-allow-origin"] == PAGE["origin"]
    assert headers["access-control-allow-headers"] == "authorization,content-type"
    assert "POST" in headers["access-control-allow-methods"]
    assert (headers["access-control-max-age"], headers["vary"]) == ("60", "origin")
    assert "access-control-allow-credentials" not in headers
    _, headers, _ = ask(open_to_pages.port, "OPTIONS", secret="", origin="https://evil.example", **asked)
    assert not [name for name in headers if name.startswith("access-control-")]


@pytest.mark.parametrize(("secret", "model", "status"), [(KEY, "mock-small", 200), (KEY, "no", 404), ("", "no", 401)])
def test_a_page_reads_answers_and_errors(open_to_pages: Node, secret: str, model: str, status: int) -> None:
    found, headers, _ = ask(open_to_pages.port, model=model, secret=secret, **PAGE)
    assert found == status
    assert (headers["access-control-allow-origin"], headers["vary"]) == (PAGE["origin"], "origin")
    assert "access-control-allow-origin" not in ask(open_to_pages.port, origin="https://evil.example")[1]
    assert "access-control-allow-origin" not in ask(open_to_pages.port)[1]


def test_cors_comes_and_goes_with_the_config(tmp_path: Path, mock: Mock) -> None:
    with node(tmp_path, config(mock)) as one:
        assert ask(one.port, "OPTIONS", secret="", access_control_request_method="POST", **PAGE)[0] == 405
        one.write_config(config(mock, "cors: {origins: ['*'], headers: [authorization]}"))
        until(lambda: ask(one.port, **PAGE)[1].get("access-control-allow-origin") == "*", 10.0, "cors")
        _, headers, _ = ask(one.port, "OPTIONS", secret="", access_control_request_method="POST", **PAGE)
        assert headers["access-control-allow-headers"] == "authorization"
        one.write_config(config(mock))
        until(lambda: "access-control-allow-origin" not in ask(one.port, **PAGE)[1], 10.0, "no cors")


# too much, or nothing at all


def test_f29_a_worker_that_hangs_is_replaced(tmp_path: Path, mock: Mock) -> None:
    with node(tmp_path, config(mock, "watchdog: 3s")) as one:
        (pid,) = one.workers
        os.kill(pid, signal.SIGSTOP)
        until(lambda: not one.status()["ready"], 20.0, "readiness to be told")
        until(lambda: one.workers not in ([], [pid]), 20.0, "another worker")
        (stuck,) = one.log("child_stuck")
        assert (stuck["pid"], stuck["silent_s"] > 3.0) == (pid, True)
        assert ask(one.port)[0] == 200
        one.assert_well()


def test_f29_nobody_is_replaced_who_shows_life(tmp_path: Path, mock: Mock) -> None:
    with node(tmp_path, config(mock, "watchdog: 2s")) as one:
        before = one.workers
        assert ask(one.port, model=SLOW)[0] == 200
        assert one.workers == before
        assert not one.log("child_stuck")


def test_f32_a_worker_with_too_much_memory_takes_no_new_calls(tmp_path: Path, mock: Mock) -> None:
    with node(tmp_path, config(mock)) as one:
        slow: list[int] = []
        running = _aside(lambda: slow.append(ask(one.port, model=SLOW)[0]))
        until(lambda: mock.stats()["requests"] and one.status()["workers"][0]["live"], 10.0, "a call under way")
        one.write_config(config(mock, "overload: {memory: 1MiB}"))
        until(lambda: one.get("/health/ready")[0] == 503, 10.0, "the overload")
        assert json.loads(one.get("/health/ready")[2])["status"] == "overloaded"
        status, headers, body = ask(one.port)
        assert (status, code(body), headers["retry-after"]) == (503, "overloaded", "1")
        until(lambda: [row for row in one.records() if row["error"] == "overloaded"], 5.0, "its record")
        assert one.get("/health/live")[0] == 200
        running()
        assert slow == [200], "what ran went on"
        until(lambda: one.status()["workers"][0]["shed"] >= 1, 10.0, "the count")
        told = one.status()
        assert (told["workers"][0]["overloaded"], told["ready"]) == ("memory", False)
        assert [line["reason"] for line in one.log("overloaded")] == ["memory"]
        one.write_config(config(mock))
        until(lambda: ask(one.port)[0] == 200, 10.0, "calls to be taken again")
        one.assert_well()


def test_f33_accepting_goes_on_when_descriptors_ran_out(tmp_path: Path, mock: Mock) -> None:
    with node(tmp_path, config(mock), workers=1) as one:
        (pid,) = one.workers
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE, (256, 256))
        assert before[0] >= 256
        held: list[socket.socket] = []
        try:
            for _ in range(300):
                end = socket.create_connection(("127.0.0.1", one.port), 5)
                held.append(end)
                end.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
            until(lambda: len(os.listdir(f"/proc/{pid}/fd")) >= 256, 10.0, "no descriptor to be left")
            with pytest.raises((TimeoutError, ConnectionError, http.client.HTTPException)):
                ask(one.port, timeout=1.0)
        finally:
            for end in held:
                end.close()
        until(lambda: _answers(one.port), 20.0, "calls to be served again")
        assert one.workers == [pid]
        one.assert_well()


def _answers(port: int) -> bool:
    try:
        return ask(port, timeout=2.0)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def _aside(work: Callable[[], object]) -> Callable[[], None]:
    """Begin `work` in a thread; call the result to wait for its end."""
    thread = threading.Thread(target=work)
    thread.start()
    return lambda: thread.join(20)
