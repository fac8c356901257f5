"""Where a reply ends: the rules of RFC 9112 section 6 that the parser leaves to its user. No state, no I/O."""

START_SIZE = len(b"HTTP/1.x ")
EMPTY = (204, 304)
"""Statuses whose replies have no body, whatever their headers say (RFC 9112 section 6.3)."""


class Fault(Exception):
    """The reply breaks a rule. Raised inside a parser callback it stops the parser.

    `reason` is one of `UpstreamError`'s; `what` is for its message and quotes nothing of the reply.
    """

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(reason, what)
        self.reason = reason
        self.what = what


def check_start(data: bytes) -> bool:
    """Whether a reply starting with `data` (at least `START_SIZE` bytes) is HTTP/1.0.

    The parser would also take RTSP, ICE and the versions 0.9 and 2.0, and skip empty lines.

    Raises:
        Fault: it is neither HTTP/1.0 nor HTTP/1.1.
    """
    if data.startswith(b"HTTP/1.1 "):
        return False
    if data.startswith(b"HTTP/1.0 "):
        return True
    raise Fault("invalid", "not an HTTP/1 status line")


def framing(headers: list[tuple[bytes, bytes]], *, old: bool) -> tuple[int | None, bool]:
    """The content length, if told, and whether the body is chunked. `old`: the reply is HTTP/1.0.

    Raises:
        Fault: what RFC 9112 section 6 calls faulty, and transfer codings that are not undone here.
    """
    length = coding = None
    for name, value in headers:
        if name == b"content-length":
            length = value
        elif name == b"transfer-encoding":
            if coding is not None or value.lower() != b"chunked" or old:
                raise Fault("invalid", "a transfer coding other than chunked")
            coding = value
    if length is None:
        return None, coding is not None
    if coding is not None:
        raise Fault("invalid", "both a length and a transfer coding")
    # The parser has seen to it that these are digits, at most 64 bits of value.
    return int(length[-20:]), False


def ends_here(data: bytes, chunks: list[bytes], chunked: bool) -> bool:
    """Whether the last segment ends with the message. Any other surplus starts a message and is seen there; this is
    about stray line ends, which the parser would skip in silence.
    """
    if data[-1:] != b"\n" and data[-1:] != b"\r":
        return True
    if chunks and not chunked:
        return data.endswith(chunks[-1])
    if len(data) < 5:
        return b"\r\n\r\n".endswith(data)
    return data[len(data.rstrip(b"\r\n")) :] == b"\r\n\r\n"
