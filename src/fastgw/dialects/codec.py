"""What a dialect must be able to do to be translated from and to. Pure: bytes in, nouns out, and back."""

from collections.abc import Mapping
from typing import Protocol

from fastgw.dialects.hub import Chat, Event, Problem, Reply, Target
from fastgw.errors import GatewayError


class Reader(Protocol):
    """Reads one upstream stream. Fed one frame at a time: an SSE event's name ("" without one) and data."""

    def feed(self, name: str, data: bytes) -> list[Event]:
        """What the frame says; unknown frames say nothing. Raises ValueError for what is not JSON at all."""
        ...

    def end(self) -> list[Event]:
        """The upstream closed the stream: what is still to be said (never `Done`, unless its grammar allows it)."""
        ...


class Writer(Protocol):
    """Writes one stream to a client, in the client's grammar."""

    def feed(self, event: Event) -> bytes:
        """The frames for one event; b"" for none."""
        ...

    def end(self) -> bytes:
        """The dialect's own end of a complete stream."""
        ...

    def fail(self, error: GatewayError | Problem, call_id: str) -> bytes:
        """An error after the stream has begun; nothing that looks like a clean end may follow."""
        ...


class Codec(Protocol):
    """A wire format, whole.

    `read_*` are flat and forgiving towards providers (unknown kinds are skipped) and exact towards clients (a
    `read_request` that cannot be understood raises `hub.Invalid`); `write_*` are strict.
    """

    name: str

    def read_request(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Chat:
        """A client's request. `model` and `stream` where the path says them. Raises hub.Invalid."""
        ...

    def write_request(self, chat: Chat, target: Target) -> bytes:
        """The request for a provider. Raises hub.Unsupported."""
        ...

    def read_reply(self, body: bytes) -> Reply:
        """A provider's whole reply. Raises ValueError when it is none."""
        ...

    def write_reply(self, reply: Reply, *, model: str) -> bytes:
        """The whole reply for a client; `model` as the client named it, used where the reply names none."""
        ...

    def reader(self) -> Reader:
        """A reader for one stream."""
        ...

    def writer(self, *, model: str, stream_usage: bool) -> Writer:
        """A writer for one stream; `stream_usage`: the client asked for usage (where its dialect makes it a choice)."""
        ...

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
        """A provider's error answer; never raises."""
        ...

    def write_problem(self, problem: Problem, call_id: str) -> tuple[int, bytes]:
        """Status and body of an upstream's error for a client."""
        ...
