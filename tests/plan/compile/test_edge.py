"""The edge as it is written, and as the plan has it."""

import datetime
import ssl
from types import SimpleNamespace

import pytest
import trustme

from fastgw.plan import config as written
from fastgw.plan.compile import edge
from fastgw.plan.compile.context import Context
from fastgw.plan.edge import Cors, Edge, Overload


def compiled(**fields):
    """The edge, and what is wrong with it."""
    context = Context.__new__(Context)
    context.config, context.errors = written.Config(**fields), []
    return edge.edge(context, keyed=False), context.errors


@pytest.fixture
def pair(tmp_path):
    """A certificate's files."""
    made = trustme.CA().issue_cert("x.example", not_after=datetime.datetime(2061, 2, 3, 4, 5, 6, tzinfo=datetime.UTC))
    made.cert_chain_pems[0].write_to_path(str(tmp_path / "cert"))
    made.private_key_pem.write_to_path(str(tmp_path / "key"))
    return SimpleNamespace(cert=tmp_path / "cert", key=tmp_path / "key", place=tmp_path)


def listen(pair, **more):
    return written.Listen(tls=written.Tls(cert=str(pair.cert), key=str(pair.key), **more))


def test_nothing_said_is_the_default():
    assert compiled() == (Edge(overload=Overload(share=0.85)), [])


def test_a_pair_is_taken_whole_and_its_key_is_not_shown(pair):
    found, errors = compiled(listen=listen(pair, min_version="1.3"))
    assert errors == []
    tls = found.front.tls
    assert (tls.cert, tls.key) == (pair.cert.read_text(), pair.key.read_text())
    assert tls.expires == datetime.datetime(2061, 2, 3, 4, 5, 6, tzinfo=datetime.UTC).timestamp()
    assert tls.key.splitlines()[1] not in repr(found)


@pytest.mark.parametrize("year", [2030, 2049, 2050, 2100])
def test_the_end_of_a_certificate_is_read_as_openssl_reads_it(tmp_path, year):
    made = trustme.CA().issue_cert("x.example", not_after=datetime.datetime(year, 1, 2, tzinfo=datetime.UTC))
    made.cert_chain_pems[0].write_to_path(str(tmp_path / "c"))
    ends = ssl._ssl._test_decode_cert(str(tmp_path / "c"))["notAfter"]
    assert edge.not_after((tmp_path / "c").read_text()) == ssl.cert_time_to_seconds(ends)


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_the_beginning_of_a_certificate_is_none(pair, cut):
    der = ssl.PEM_cert_to_DER_cert(pair.cert.read_text())
    with pytest.raises(ValueError, match="certificate"):
        edge.not_after(ssl.DER_cert_to_PEM_cert(der[:cut]))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda pair: pair.key.unlink(), "listen.tls.key: cannot read"),
        (lambda pair: pair.key.write_text(""), "listen.tls.key: {key} is empty"),
        (lambda pair: pair.cert.write_bytes(b"\xff\x00"), "listen.tls.cert: {cert} is not PEM"),
        (lambda pair: pair.key.write_text(pair.key.read_text()[:100]), "listen.tls: {cert} and {key} are no pair"),
        (
            lambda pair: trustme.CA().issue_cert("x").private_key_pem.write_to_path(str(pair.key)),
            "listen.tls: {cert} and {key} are no pair",
        ),
    ],
)
def test_what_cannot_be_served_with_is_told(pair, spoil, said):
    spoil(pair)
    _, errors = compiled(listen=listen(pair))
    assert [line for line in errors if line.startswith(said.format(cert=pair.cert, key=pair.key))], errors
    assert not [line for line in errors if "PRIVATE" in line]


def test_authorities_of_clients_must_be_some(pair):
    (pair.place / "ca").write_text("nothing")
    _, errors = compiled(listen=listen(pair, client_ca=str(pair.place / "ca"), min_version="1.1"))
    assert [line.partition(":")[0] for line in errors] == ["listen.tls.min_version", "listen.tls.client_ca"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10.0.0.1/8", "write 10.0.0.0/8"),
        ("10.0.0.0/33", "is no network"),
        ("example.com", "is no network"),
        ("", "is no network"),
    ],
)
def test_a_network_is_one(text, said):
    _, errors = compiled(trusted_proxies=["10.0.0.0/8", text])
    assert len(errors) == 1
    assert errors[0].startswith("trusted_proxies[1]: ")
    assert said in errors[0]


def test_networks_are_written_in_one_way():
    found, errors = compiled(allow=["192.0.2.1", "2001:DB8::/32", "unix"], deny=["::1"])
    assert (found.allow, found.deny, errors) == (("192.0.2.1/32", "2001:db8::/32", "unix"), ("::1/128",), [])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cors": written.Cors(origins=[])}, "cors.origins:"),
        ({"cors": written.Cors(origins=["https://a.example/"])}, "cors.origins[0]:"),
        ({"cors": written.Cors(origins=["https://A.example"])}, "cors.origins[0]:"),
        ({"cors": written.Cors(origins=["*"], headers=["*"])}, "cors.headers[0]:"),
        ({"cors": written.Cors(origins=["*"], headers=["a b"])}, "cors.headers[0]:"),
        ({"cors": written.Cors(origins=["*"], max_age=-1)}, "cors.max_age:"),
        ({"watchdog": "1s"}, "watchdog: must be 2s"),
        ({"watchdog": "soon"}, "watchdog: 'soon'"),
        ({"overload": written.Overload(memory="5%")}, "overload.memory: must be"),
        ({"overload": written.Overload(memory="101%")}, "overload.memory: must be"),
        ({"overload": written.Overload(memory="much")}, "overload.memory: 'much'"),
        ({"overload": written.Overload(lag="1ms")}, "overload.lag: must be"),
    ],
)
def test_a_mistake_is_told_with_its_place(fields, said):
    _, errors = compiled(**fields)
    assert len(errors) == 1
    assert errors[0].startswith(said)


def test_what_is_meant_is_what_the_plan_has():
    found, errors = compiled(
        cors=written.Cors(origins=["http://localhost:3000", "*"], headers=["X-Team"], max_age=0),
        watchdog="off",
        overload=written.Overload(memory="2GiB", lag="500ms"),
    )
    assert errors == []
    assert found.cors == Cors(frozenset({"http://localhost:3000", "*"}), ("x-team",), 0)
    assert (found.watchdog, found.overload) == (0.0, Overload(memory=2 << 30, lag=0.5))
