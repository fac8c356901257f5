"""What a wire format must be able to do. Pure functions: bytes in, bytes out, no I/O, no clock.

These are the members a pass-through needs, where client and provider speak the same dialect and the bytes stay as they
are but for a closed list of edits. Translation between two dialects adds its own members beside them.
"""

from collections.abc import Callable
from typing import Protocol

from fastgw._core import fields
from fastgw.call import Usage
from fastgw.errors import GatewayError

Cost = Callable[[Usage], int | None]
"""Nano-dollars of a usage; None where the target has no price."""


class Tap(Protocol):
    """Watches one stream pass: what it costs, whether it ended as it should.

    `usage` is the last one seen. `complete`: the dialect's own end was seen. `failed`: the upstream told of an error
    inside the stream. `events`: how many events with content have passed.
    """

    usage: Usage | None
    complete: bool
    failed: bool
    events: int

    def feed(self, data: bytes) -> bytes:
        """The bytes to send now for the bytes that arrived: complete events only, the rest is kept. May be empty."""
        ...

    def finish(self) -> bytes:
        """The upstream ended cleanly: what is left to send."""
        ...


class Dialect(Protocol):
    """A wire format, as far as a pass-through needs it."""

    name: str
    streams: bool
    """Whether the format has a streamed form."""
    tells_cost: bool
    """Whether a stream's usage carries what it cost."""
    required: tuple[bytes, ...]
    """Fields without which a request is refused before anyone is asked."""

    def prepare(self, body: fields.Fields, model: str, *, rename: bool, stream: bool) -> bytes:
        """The request as it goes upstream: `model` renamed where `rename`, and usage asked for where `stream`."""
        ...

    def wants_usage(self, body: fields.Fields) -> bool:
        """Whether the caller asked for usage in the stream."""
        ...

    def usage(self, body: bytes) -> Usage | None:
        """The usage in a whole reply; None when there is none to be read."""
        ...

    def tap(self, *, wants_usage: bool, cost: Cost) -> Tap:
        """A watcher for one stream."""
        ...

    def estimate_input(self, body_size: int) -> int:
        """A rough number of input tokens from the size of the request, for replies without usage."""
        ...

    def error(self, error: GatewayError, call_id: str) -> bytes:
        """The body of an error answer."""
        ...

    def stream_error(self, error: GatewayError, call_id: str) -> bytes:
        """The event that ends a stream that failed after its first event."""
        ...
