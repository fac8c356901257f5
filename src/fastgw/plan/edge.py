"""What the plan says of the edge: how clients connect, whose word of an address counts, who may come, and when not."""

from msgspec import Struct

from fastgw.secret import veiled

UNIX = "unix"
"""Stands among networks for whoever connects over the unix socket."""


class Tls(Struct, frozen=True):
    """What listeners show and ask for, as PEM texts: a file that changes or breaks later changes nothing here.

    `min_version` is `1.2` or `1.3`; without `client_ca` clients show no certificate. `expires` is the UTC second after
    which the certificate holds no longer.
    """

    cert: str
    key: str
    min_version: str = "1.2"
    client_ca: str = ""
    expires: int = 0

    def __repr__(self) -> str:
        return veiled(self, "key")


class Front(Struct, frozen=True):
    """How the TCP listeners speak: with TLS or in the clear, HTTP/1.1 alone or HTTP/2 beside it."""

    tls: Tls | None = None
    http2: bool = False


class Cors(Struct, frozen=True):
    """From which web pages browsers may call; `origins` `*`: from all. Without `headers` a page may send any."""

    origins: frozenset[str]
    headers: tuple[str, ...] = ()
    max_age: int = 600


class Overload(Struct, frozen=True):
    """When a worker takes no new calls; 0: never for that reason.

    `memory` is bytes of its own, `share` a part of what the machine or the cgroup has for each worker; `lag` is
    seconds by which its event loop is late.
    """

    memory: int = 0
    share: float = 0.0
    lag: float = 0.0


class Edge(Struct, frozen=True):
    """The whole. Addresses are networks as text (CIDR), or `UNIX`; an empty `allow` is everybody.

    `keyed`: some key is bound to addresses of its own. `watchdog` is seconds without a sign of life after which a
    worker is replaced, 0 for never.
    """

    front: Front = Front()
    trusted: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    keyed: bool = False
    cors: Cors | None = None
    watchdog: float = 15.0
    overload: Overload = Overload()
