"""One request and its answer as the pipeline sees them, whichever front brought it."""

from collections.abc import Awaitable, Callable
from typing import Protocol


class Exchange(Protocol):
    """What a front offers. `path` is raw and undecoded; `started`: the head of the answer was sent."""

    method: str
    path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    peer: str
    started: bool

    async def body(self, length: int, limit: int) -> bytes:
        """The whole request body. Raises GatewayError `request_too_large` or `client_closed`."""
        ...

    def watch(self, gone: Callable[[], None]) -> None:
        """Call `gone` when the client leaves."""
        ...

    def unwatch(self) -> None:
        """Stop watching."""
        ...

    def respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> Awaitable[None]:
        """Send a whole answer."""
        ...

    def start_stream(self, status: int, headers: list[tuple[bytes, bytes]]) -> Awaitable[None]:
        """Send the head of a streamed answer."""
        ...

    def send(self, chunk: bytes) -> Awaitable[None]:
        """Send a part of a streamed answer at once; waits while the client does not read."""
        ...

    def close(self) -> Awaitable[None]:
        """End a streamed answer."""
        ...
