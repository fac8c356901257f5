"""What a dialect must be able to do to be translated from and to. Pure: bytes in, nouns out, and back."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

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


class Frames(Protocol):
    """Cuts one stream of a provider, as its bytes arrive, into what a `Reader` is fed with."""

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """(name, payload) of the frames that are complete now. Raises ValueError for what is no stream."""
        ...

    def end(self) -> list[tuple[str, bytes]]:
        """The upstream closed the stream: what is left. Raises ValueError when a frame is broken off."""
        ...


@runtime_checkable
class Framed(Protocol):
    """What a codec has beside the rest whose provider's streams are no server-sent events."""

    def frames(self) -> Frames:
        """What cuts one stream."""
        ...


class UpstreamCodec(Protocol):
    """A provider's half of a wire format. Its streams are server-sent events, unless it is `Framed`.

    `read_*` are flat and forgiving (unknown kinds are skipped), `write_*` are strict.
    """

    name: str

    def write_request(self, chat: Chat, target: Target) -> bytes:
        """The request for a provider. Raises hub.Unsupported."""
        ...

    def read_reply(self, body: bytes) -> Reply:
        """A provider's whole reply. Raises ValueError when it is none."""
        ...

    def reader(self) -> Reader:
        """A reader for one stream."""
        ...

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
        """A provider's error answer; never raises."""
        ...


class Codec(UpstreamCodec, Protocol):
    """A wire format, whole: one that clients speak as well.

    Towards clients it is exact: a `read_request` that cannot be understood raises `hub.Invalid`.
    """

    def read_request(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Chat:
        """A client's request. `model` and `stream` where the path says them. Raises hub.Invalid."""
        ...

    def write_reply(self, reply: Reply, *, model: str) -> bytes:
        """The whole reply for a client; `model` as the client named it, used where the reply names none."""
        ...

    def writer(self, *, model: str, stream_usage: bool) -> Writer:
        """A writer for one stream; `stream_usage`: the client asked for usage (where its dialect makes it a choice)."""
        ...

    def write_problem(self, problem: Problem, call_id: str) -> tuple[int, bytes]:
        """Status and body of an upstream's error for a client."""
        ...
