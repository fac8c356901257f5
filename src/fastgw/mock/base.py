"""What flows inside the mock provider: a request in, an answer out, and what a dialect must offer.

A dialect is pure: no socket, clock or randomness. Where an answer needs a fresh id or time it writes `ID_MARK` or
`CREATED_MARK`, and the server puts the value in. Marks and values have the same width, so lengths computed once hold
for every copy of a prepared answer.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

# Random, so that no caller's text can contain one by accident.
ID_MARK: Final = secrets.token_hex(15)[:29]
CREATED_MARK: Final = 8_000_000_000 + secrets.randbelow(1_000_000_000)
ID_WIDTH: Final = len(ID_MARK)
ID_MARK_BYTES: Final = ID_MARK.encode()
CREATED_MARK_BYTES: Final = str(CREATED_MARK).encode()

JSON: Final = b"content-type: application/json\r\n"
HTML: Final = b"content-type: text/html\r\n"
EVENT_STREAM: Final = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"


class Request(NamedTuple):
    """One whole request as it came: method, target split at `?`, raw header pairs, whole body."""

    method: str
    path: str
    query: str
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass(slots=True)
class Answer:
    """One reply without framing.

    `headers` are complete header lines. `body` is the whole body, or, for a stream, empty with one complete frame of
    the dialect per entry of `events`. `model` is the name the caller used, `error_event` the frame that tells of a
    failure inside a stream, `again` the place of an event that may be said any number of times.
    """

    status: int
    headers: bytes
    body: bytes = b""
    events: tuple[bytes, ...] = ()
    model: str = ""
    error_event: bytes = b""
    again: int = 1


Handler = Callable[[Request], Answer]


class Dialect(Protocol):
    """A wire format that the mock speaks."""

    def owns(self, path: str) -> bool:
        """Whether this path is served, and errors on it are written, in this dialect."""

    def route(self, path: str) -> tuple[str, Handler] | None:
        """(method, handler) of a path, or None when the dialect does not serve it."""

    def admits(self, request: Request, key: str) -> bool:
        """Whether the request carries the key where this vendor looks for it."""

    def error(self, status: int, model: str, path: str) -> Answer:
        """The vendor's usual error for a status."""

    def denied(self, path: str) -> Answer:
        """What a wrong key gets."""

    def unknown(self, method: str, path: str) -> Answer:
        """The 404 for an address the vendor does not have."""

    def wrong_method(self, method: str, path: str, allowed: str) -> Answer:
        """The 405 for an address that takes another method."""


def has_header(request: Request, name: bytes, value: str) -> bool:
    """Whether a header (lower-case `name`) has exactly this value."""
    wanted = value.encode()
    return any(given == wanted and one.lower() == name for one, given in request.headers)


class Refused(Exception):
    """The request cannot be served; `answer` says so in the dialect's shape."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer
