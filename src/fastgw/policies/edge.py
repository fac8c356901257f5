"""Where a call comes from: the client's address, as far as it can be known, and whether calls from there are taken.

Anybody can write `X-Forwarded-For`. It counts only when the connection comes from a trusted proxy, and then from the
right: each proxy adds the address it was reached from, so the rightmost one that is no trusted proxy's is the client's,
and what stands left of it is hearsay. `Forwarded` (RFC 7239) is read in the same way. Where both are there and mean
different clients, one of them was not written by the proxy, so the call is refused.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence

from fastgw._core import headers
from fastgw.call import Call
from fastgw.errors import GatewayError
from fastgw.plan.edge import UNIX
from fastgw.plan.plan import Plan
from fastgw.policies.base import Env, Policy

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
HOPS = 32
UNKNOWN = "unknown"
_FOR = re.compile(r"(?:^|;)\s*for\s*=\s*(\"[^\"]*\"|[^;\s\"]*)\s*(?=;|$)", re.IGNORECASE)
_PORT = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<four>[0-9.]+))(?::[0-9]{1,5})?")


class Networks:
    """A set of networks. A look-up takes as long as there are different lengths of prefix, however many networks."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._unix = False
        self._heads: dict[tuple[int, int], set[int]] = {}
        for text in texts:
            if text == UNIX:
                self._unix = True
                continue
            network = ipaddress.ip_network(text)
            rest = network.max_prefixlen - network.prefixlen
            self._heads.setdefault((network.version, rest), set()).add(int(network.network_address) >> rest)

    def __contains__(self, address: str) -> bool:
        """`address`: as `client` gives it. One that is not known is in no network."""
        if not address:
            return self._unix
        if (read := read_address(address)) is None:
            return False
        number, version = int(read), read.version
        return any(number >> rest in heads for (kind, rest), heads in self._heads.items() if kind == version)


def read_address(text: str) -> Address | None:
    """An address, with or without a port; IPv4 inside IPv6 as IPv4. None for what is none."""
    if match := _PORT.fullmatch(text):
        text = match["six"] or match["four"]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def client(peer: str, raw: Sequence[tuple[bytes, bytes]], trusted: Networks) -> str:
    """The client's address: of the peer, or what trusted proxies say of it.

    Empty for the unix socket, `UNKNOWN` where a trusted proxy would not or could not say. Raises GatewayError
    (`bad_request`) when the two headers mean different clients.
    """
    if peer not in trusted:
        return _plain(peer)
    forwarded = _values(raw, b"x-forwarded-for")
    elements = [_for(element) for element in _values(raw, b"forwarded")]
    found = {_walked(peer, hops, trusted) for hops in (forwarded, elements) if hops}
    if len(found) > 1:
        raise GatewayError(
            "bad_request",
            "X-Forwarded-For and Forwarded name different clients. Have the proxy write one and drop the other.",
        )
    return found.pop() if found else _plain(peer)


def shown(address: str) -> str:
    """An address for a message."""
    return "an address that the proxy does not tell" if address == UNKNOWN else address or "the unix socket"


def build(plan: Plan, env: Env) -> Policy:
    """Sets the exchange's `peer` to the client's address; 403 for who is not to come. Nothing where nothing is set."""
    edge = plan.edge
    if not (edge.trusted or edge.allow or edge.deny):
        return Policy()
    trusted, allow, deny = Networks(edge.trusted), Networks(edge.allow), Networks(edge.deny)
    everybody, guarded = not edge.allow, bool(edge.allow or edge.deny)

    def head(call: Call, scan: headers.Scan) -> None:
        exchange = call.exchange
        address = exchange.peer = client(exchange.peer, exchange.headers, trusted)
        if guarded and (address == UNKNOWN or address in deny or not (everybody or address in allow)):
            raise GatewayError("address_not_allowed", f"Calls from {shown(address)} are not taken here.")

    return Policy(head=head)


def _walked(peer: str, hops: Sequence[str], trusted: Networks) -> str:
    """The rightmost hop that is no trusted proxy; the leftmost when all are."""
    address = peer
    for hop in reversed(hops[-HOPS:]):
        read = read_address(hop)
        if read is None:
            return UNKNOWN
        address = str(read)
        if address not in trusted:
            return address
    # More proxies than anybody has, or nobody but proxies.
    return address if len(hops) <= HOPS else UNKNOWN


def _values(raw: Sequence[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """The members of a list header, of all its lines (RFC 9110 section 5.6.1), empty ones left out."""
    text = ",".join(value.decode("latin-1") for key, value in raw if key.lower() == name)
    return [member for one in text.split(",") if (member := one.strip())]


def _for(element: str) -> str:
    """The `for` of an element of Forwarded: an address, or what is none."""
    match = _FOR.search(element)
    return match[1].strip('"') if match else ""


def _plain(peer: str) -> str:
    """An address as it is compared and shown."""
    read = read_address(peer) if peer else None
    return str(read) if read is not None else peer
