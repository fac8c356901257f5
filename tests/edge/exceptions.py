"""Where the server in front of the gateway takes what it should refuse, and the gateway cannot see it.

docs/edge.md lists the same, and a test compares the two.
"""

OUTER, INNER = "outer", "inner"

SMUGGLING: dict[str, dict[str, tuple[str, ...]]] = {
    "length beside chunked": {
        **dict.fromkeys(("cl.te", "te first, then cl", "te.cl, valid body", "cl 0 and te"), (OUTER,)),
        **dict.fromkeys(("cl and te agree", "cl.te, behind a bare LF"), (OUTER,)),
        "get with both": (),
    },
    "bare LF in the head": {
        **dict.fromkeys(("LF in place of CRLF", "LF after the request line", "LF after a header"), (OUTER, INNER)),
        "LF ends the head": (OUTER, INNER),
        "0.cl, behind a bare LF": (),
    },
    "blank after a chunk size": {
        "chunk size with a space last": (OUTER, INNER),
        "chunk size with a tab last": (OUTER, INNER),
    },
    "control character in a chunk extension": {"chunk size with an extension of nul": (OUTER, INNER)},
    "bare LF among trailers": {"empty line with LF": (OUTER,), "trailers ended by LF": (OUTER,)},
}
"""By name: the payloads concerned (by id), and which requests come out of each."""

H1 = frozenset({"no Host, asking for its health", "a fragment", "HTTP/1.2", "HTTP/3.0"})
"""Cases of HTTP/1.1 that a node does not keep."""
BARE = frozenset(
    {
        "no Host", "two Hosts", "two different Hosts", "invalid Host", "no Host, asking for its health", "a fragment",
        "HTTP/1.2", "HTTP/3.0", "a coding that is not understood", "a body too large", "a method nobody knows",
        "methods have case", "CONNECT makes no tunnel",
    }
)  # fmt: skip
"""Those that a bare granian does not keep."""
