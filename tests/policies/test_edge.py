"""The client's address and who may come, without a socket."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fastgw.errors import GatewayError
from fastgw.plan.edge import Edge
from fastgw.plan.plan import Key
from fastgw.policies import edge, key_addresses
from fastgw.policies.edge import UNKNOWN, Networks, client
from tests.policies.support import call_of, env_of, plan_of

PROXIES = Networks(["10.0.0.0/8", "2001:db8:1::/48", "unix"])
ADDRESSES = st.ip_addresses().map(str)


def forwarded(*values):
    return [(b"x-forwarded-for", value.encode()) for value in values]


@pytest.mark.parametrize(
    ("peer", "lines", "expected"),
    [
        ("192.0.2.1", forwarded("198.51.100.1"), "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", forwarded("198.51.100.1"), "198.51.100.1"),
        ("10.0.0.1", forwarded("203.0.113.5, 198.51.100.1"), "198.51.100.1"),
        ("10.0.0.1", forwarded("203.0.113.5", "198.51.100.1"), "198.51.100.1"),
        ("10.0.0.1", forwarded("198.51.100.1, 10.9.9.9"), "198.51.100.1"),
        ("10.0.0.1", forwarded("10.0.0.3, 10.0.0.2"), "10.0.0.3"),
        ("10.0.0.1", forwarded("198.51.100.1, nonsense"), UNKNOWN),
        ("10.0.0.1", forwarded("nonsense, 198.51.100.1"), "198.51.100.1"),
        ("10.0.0.1", forwarded(", ,"), "10.0.0.1"),
        ("10.0.0.1", forwarded(", ".join(["10.0.0.2"] * 33)), UNKNOWN),
        ("", forwarded("198.51.100.1"), "198.51.100.1"),
        ("::ffff:10.0.0.1", forwarded("198.51.100.1"), "198.51.100.1"),
        ("2001:db8:1::7", forwarded("2001:DB8:2::0:1"), "2001:db8:2::1"),
        ("10.0.0.1", [(b"forwarded", b'proto=https;For="[2001:db8:2::1]:99"; by=10.0.0.1')], "2001:db8:2::1"),
        ("10.0.0.1", [(b"forwarded", b"for=198.51.100.1:99")], "198.51.100.1"),
        ("10.0.0.1", [(b"forwarded", b"for=_hidden")], UNKNOWN),
        ("10.0.0.1", [(b"forwarded", b"proto=https")], UNKNOWN),
        ("10.0.0.1", [(b"forwarded", b"for=198.51.100.1"), *forwarded("198.51.100.1")], "198.51.100.1"),
    ],
)
def test_s19_the_client_is_whom_trusted_proxies_were_reached_from(peer, lines, expected):
    assert client(peer, lines, PROXIES) == expected


def test_s19_two_headers_that_differ_are_refused():
    lines = [(b"forwarded", b"for=198.51.100.1"), *forwarded("198.51.100.2")]
    with pytest.raises(GatewayError) as caught:
        client("10.0.0.1", lines, PROXIES)
    assert caught.value.kind == "bad_request"
    assert client("192.0.2.1", lines, PROXIES) == "192.0.2.1"


@given(st.lists(st.text(max_size=40), max_size=5), ADDRESSES)
def test_s19_what_stands_left_of_a_client_never_counts(hearsay, address):
    if address in PROXIES:
        return
    spoofed = [(b"x-forwarded-for", ",".join([*hearsay, address]).encode("utf-8", "replace"))]
    assert client("10.0.0.1", spoofed, PROXIES) == client("10.0.0.1", forwarded(address), PROXIES)


@given(ADDRESSES, st.integers(0, 128))
def test_an_address_is_in_its_networks_and_in_no_other(address, bits):
    width = 128 if ":" in address else 32
    read = edge.read_address(address)
    if read is None or (width == 128 and read.version == 4):
        return
    bits = min(bits, width)
    whole = edge.ipaddress.ip_network(f"{address}/{bits}", strict=False)
    assert address in Networks([str(whole)])
    if bits:
        flipped = type(read)(int(read) ^ (1 << (width - bits)))
        assert str(flipped) not in Networks([str(whole)])


def test_networks_of_one_kind_hold_nothing_of_the_other():
    assert "2001:db8::1" not in Networks(["0.0.0.0/0"])
    assert "192.0.2.1" not in Networks(["::/0"])
    assert "" not in Networks(["0.0.0.0/0", "::/0"])
    assert UNKNOWN not in Networks(["0.0.0.0/0", "::/0", "unix"])


def seen(peer, *lines, key=None, **rules):
    """What the policies make of a call: the error's kind, or the address."""
    keyed = bool(key is not None and key.allowed_ips)
    plan = replace(plan_of([key] if key else []), edge=Edge(keyed=keyed, **rules))
    call = call_of(key)
    call.exchange = SimpleNamespace(peer=peer, headers=list(lines))
    heads = [module.build(plan, env_of(plan)).head for module in (edge, key_addresses)]
    try:
        for head in heads:
            if head is not None:
                head(call, None)
    except GatewayError as error:
        return error.kind
    return call.exchange.peer


def test_nothing_is_done_where_nothing_is_set():
    plan = plan_of()
    assert edge.build(plan, env_of(plan)).head is None
    assert key_addresses.build(plan, env_of(plan)).head is None


@pytest.mark.parametrize(
    ("peer", "rules", "expected"),
    [
        ("192.0.2.1", {"allow": ("192.0.2.0/24",)}, "192.0.2.1"),
        ("192.0.3.1", {"allow": ("192.0.2.0/24",)}, "address_not_allowed"),
        ("192.0.2.1", {"deny": ("192.0.2.0/24",)}, "address_not_allowed"),
        ("192.0.2.1", {"allow": ("192.0.2.0/24",), "deny": ("192.0.2.1/32",)}, "address_not_allowed"),
        ("::ffff:192.0.2.1", {"deny": ("192.0.2.0/24",)}, "address_not_allowed"),
        ("", {"allow": ("unix",)}, ""),
        ("", {"allow": ("192.0.2.0/24",)}, "address_not_allowed"),
    ],
)
def test_who_may_come(peer, rules, expected):
    assert seen(peer, **rules) == expected


def test_a_client_that_a_proxy_does_not_tell_is_no_exception_from_a_rule():
    hidden = (b"forwarded", b"for=unknown")
    assert seen("10.0.0.1", hidden, trusted=("10.0.0.0/8",)) == UNKNOWN
    assert seen("10.0.0.1", hidden, trusted=("10.0.0.0/8",), deny=("192.0.2.0/24",)) == "address_not_allowed"
    key = Key("k", b"d" * 32, allowed_ips=("0.0.0.0/0",))
    assert seen("10.0.0.1", hidden, key=key, trusted=("10.0.0.0/8",)) == "address_not_allowed"


def test_a_key_is_bound_and_others_are_not():
    bound = Key("k", b"d" * 32, allowed_ips=("192.0.2.0/24", "2001:db8::/32"))
    assert seen("192.0.2.9", key=bound) == "192.0.2.9"
    assert seen("2001:db8::9", key=bound) == "2001:db8::9"
    assert seen("198.51.100.1", key=bound) == "address_not_allowed"
    assert seen("198.51.100.1", key=Key("free", b"d" * 32)) == "198.51.100.1"
