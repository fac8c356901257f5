"""TLS to an upstream that stalls, is cut, or changes its certificate (F43)."""

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.faults.conftest import KEY
from tests.faults.invariants import eventually, fault
from tests.faults.tongues import BOTH, EVENT_STREAM, JSON, TONGUES, WELL, streamed, tongue_of
from tests.support.gateway import Node, node, reserved_port
from tests.support.scripted import Answer, Cut, Expect, Fin, Hold, RawRequest, ScriptedUpstream, head


class Secured:
    """A node that trusts one authority for all its providers, and an upstream that shows certificates."""

    def __init__(self, gateway: Node, port: int, ca_file: Path, ca: trustme.CA) -> None:
        self.gateway, self.port, self.ca_file = gateway, port, ca_file
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.show(ca)

    def show(self, ca: trustme.CA) -> None:
        """Show a new certificate of this authority to whoever connects from now on."""
        ca.issue_cert("127.0.0.1").configure_cert(self.server)

    def trust(self, ca: trustme.CA) -> None:
        """Replace the file of authorities in one step, as an operator's tools do."""
        draft = self.ca_file.with_name("draft.pem")
        ca.cert_pem.write_to_path(str(draft))
        os.replace(draft, self.ca_file)

    def upstream(self, scripts: object) -> ScriptedUpstream:
        return ScriptedUpstream(scripts, port=self.port, tls=self.server)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[Secured]:
    directory = tmp_path_factory.mktemp("tls")
    ca_file = directory / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with reserved_port() as port:
        lines = ["providers:"]
        for tongue in TONGUES:
            url = f'base_url: "https://127.0.0.1:{port}{tongue.base}", api_key: sk-one, ca_file: "{ca_file}"'
            lines.append(f"  {tongue.name}: {{kind: {tongue.kind}, {url}}}")
        quick = "timeout: {connect: 600ms, first_token: 600ms, idle: 600ms, total: 3s}"
        lines += ["models:"]
        lines += [f"  {t.name}: {{targets: [{{provider: {t.name}, model: m}}], {quick}}}" for t in TONGUES]
        lines += [f"keys: [{{name: k, secret: {KEY}}}]", ""]
        with node(directory, "\n".join(lines)) as gateway:
            yield Secured(gateway, port, ca_file, authority)


async def test_f43_a_handshake_that_stalls_has_the_deadline_of_connecting(secured: Secured) -> None:
    """TCP is there, TLS never: a listener that says nothing."""
    async with fault(secured.gateway, KEY) as run, ScriptedUpstream([[Hold()]], port=secured.port) as upstream:
        for (tongue, _), one in zip(BOTH, await run.many(BOTH, ""), strict=True):
            tongue.assert_error(one.reply, 504, "upstream_timeout")
            assert 0.4 < one.seconds < 3.0
            assert [a["reason"] for a in (await run.row(one.label))["attempts"]] == ["connect"]
        assert all(seen.unread for seen in upstream.connections), "the handshake was begun"
        await eventually(lambda: all(seen.gone for seen in upstream.connections))


def to_the_end(request: RawRequest) -> bytes:
    """An answer whose end is the connection's end; all of it but, of a stream, the last words."""
    tongue = tongue_of(request)
    if not streamed(request):
        return head(200, JSON) + tongue.document()
    words = [event for event in tongue.events() if tongue.terminal not in event]
    return head(200, EVENT_STREAM[:1]) + b"".join(words)


async def test_f43_a_cut_is_no_end(secured: Secured) -> None:
    """Closed without close_notify, by whomever on the way: what is framed by the end may be missing its rest."""
    async with fault(secured.gateway, KEY) as run:
        async with secured.upstream([[Expect(), Answer(to_the_end), Cut()]]):
            for (tongue, stream), one in zip(BOTH, await run.many(BOTH, ""), strict=True):
                if stream:
                    tongue.assert_cut(one.reply, "upstream_invalid_response", "upstream_unreachable")
                else:
                    tongue.assert_error(one.reply, 502, "upstream_invalid_response", "upstream_unreachable")
        async with secured.upstream([[Expect(), Answer(to_the_end), Fin()]]):
            for one in await run.many([(tongue, False) for tongue in TONGUES], ""):
                assert one.reply.status == 200, "closed in order it is whole"


async def test_f43_a_new_certificate_needs_no_restart(secured: Secured, authority: trustme.CA) -> None:
    async with fault(secured.gateway, KEY) as run:
        for _ in range(3):
            async with secured.upstream([WELL]):
                assert [one.reply.status for one in await run.many(BOTH, "")] == [200] * len(BOTH)
            secured.show(authority)


async def test_f43_a_new_authority_needs_no_restart(secured: Secured, authority: trustme.CA) -> None:
    """Until its file is replaced it is refused, and then it is not."""
    other = trustme.CA()
    pids = secured.gateway.workers
    async with fault(secured.gateway, KEY) as run:
        secured.show(other)
        async with secured.upstream([WELL]) as upstream:
            for (tongue, _), one in zip(BOTH, await run.many(BOTH, ""), strict=True):
                tongue.assert_error(one.reply, 502, "upstream_unreachable")
            assert not upstream.requests, "a request went to whom nobody trusts"
            secured.trust(other)
            assert [one.reply.status for one in await run.many(BOTH, "")] == [200] * len(BOTH)
        secured.trust(authority)
        secured.show(authority)
        async with secured.upstream([WELL]):
            assert [one.reply.status for one in await run.many(BOTH, "")] == [200] * len(BOTH)
    assert secured.gateway.workers == pids
