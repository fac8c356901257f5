"""A whole HTTP/1.1 reply in one segment, read at once: what nearly every reply is, and nothing else.

The pure twin of ``replies_c``: its specification and test oracle. Whatever is out of the ordinary in the least (another
version, a transfer coding, an odd line, a surplus byte) is left to the general parser, which knows what to refuse.
"""

import re
from typing import Final, NamedTuple

__all__ = ["MAX_HEADERS", "Whole", "whole"]

MAX_HEADERS: Final = 100
LENGTH_DIGITS: Final = 15
UNUSUAL: Final = frozenset({b"transfer-encoding", b"upgrade", b"trailer", b"proxy-connection"})
"""Headers that say something about framing or the connection which is not said here."""

_START: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [\t\x20-\x7e]*)?\r\n")
_LINE: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}):[ \t]*((?:[\x21-\x7e\x80-\xff][\t\x20-\x7e\x80-\xff]*)?)\r\n"
)
_BODILESS: Final = (204, 304)


class Whole(NamedTuple):
    """Status, headers (names in lower case, values without white space around them) and body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def whole(data: bytes, max_head: int, max_body: int) -> Whole | None:
    """The reply that these bytes are from their first to their last; None where that is not plain.

    Plain is: HTTP/1.1, a status from 200 to 599 that has a body, a head of at most ``max_head`` bytes, 100 headers and
    no line folding, one Content-Length of at most ``max_body`` and as many bytes, and a connection that stays open
    (RFC 9112 sections 4, 5, 6.3 and 9.3).
    """
    start = _START.match(data)
    if start is None or int(start[1]) in _BODILESS:
        return None
    headers: list[tuple[bytes, bytes]] = []
    length = -1
    at = start.end()
    while (line := _LINE.match(data, at)) is not None:
        name, value, at = line[1].lower(), line[2], line.end()
        if name in UNUSUAL or value[-1:] in (b" ", b"\t") or len(headers) == MAX_HEADERS:
            return None
        if name == b"content-length":
            if length >= 0 or not value.isdigit() or len(value) > LENGTH_DIGITS:
                return None
            length = int(value)
        elif name == b"connection" and value.lower() != b"keep-alive":
            return None
        headers.append((name, value))
    if data[at : at + 2] != b"\r\n" or not 0 <= length <= max_body:
        return None
    at += 2
    return Whole(int(start[1]), headers, data[at:]) if at <= max_head and len(data) - at == length else None
