"""What a dialect of an operation without streams must be able to do: to be asked for, to be passed, to be translated.

The same shape as that of a chat (`codec.Codec`, `base.Dialect`) minus streams. A provider's half (`Asked`) is enough
for a dialect that no client speaks here.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from fastgw._core import fields
from fastgw.call import Usage
from fastgw.dialects import errors, framing
from fastgw.dialects.base import Cost
from fastgw.dialects.hub import Problem, Target
from fastgw.errors import GatewayError

UNREADABLE = (ValueError, RecursionError)
BYTES_PER_TOKEN = 4
NO_USAGE = Usage()
Rename = Callable[[fields.Fields, str], bytes]
"""The body with the target's own name of the model wherever the body names one."""


class Asked(Protocol):
    """A wire format, as far as a provider that speaks it is asked. The nouns are those of the operation."""

    name: str

    def write_request(self, asked: Any, target: Target) -> bytes:
        """The request for a provider. Raises hub.Unsupported."""
        ...

    def read_reply(self, body: bytes) -> Any:
        """A provider's reply, with what it tells of its `usage`. Raises ValueError when it is none."""
        ...

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Problem:
        """A provider's error answer; never raises."""
        ...


class WholeCodec(Asked, Protocol):
    """A wire format, whole."""

    def read_request(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Any:
        """A client's request; `model` where the path says it, `stream` is never set. Raises hub.Invalid."""
        ...

    def write_reply(self, told: Any, asked: Any, *, model: str, estimate: int) -> bytes:
        """The reply for a client; `model` as the client named it, `estimate` of its input where no usage was told.

        Raises ValueError for a reply that is no answer to what was asked.
        """
        ...

    def write_problem(self, problem: Problem, call_id: str) -> tuple[int, bytes]:
        """Status and body of an upstream's error for a client."""
        ...


class Whole:
    """A tap for what has no events: it passes all and sees nothing. See `base.Tap`."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.complete = False
        self.failed = False
        self.events = 0

    def feed(self, data: bytes) -> bytes:
        """What arrived."""
        return data

    def finish(self) -> bytes:
        """Nothing is left."""
        self.complete = True
        return b""


class WholeDialect:
    """The pass-through half of an operation without streams. See `base.Dialect`.

    `billed` is false for what costs nothing, whatever it tells of tokens.
    """

    streams = False
    tells_cost = False

    def __init__(
        self, codec: WholeCodec, family: str, required: tuple[bytes, ...], rename: Rename, *, billed: bool = True
    ) -> None:
        self.name = codec.name
        self.required = required
        self._codec = codec
        self._family = family
        self._rename = rename
        self._billed = billed

    def prepare(self, body: fields.Fields, model: str, *, rename: bool, stream: bool) -> bytes:
        """The body as it came, but for the model's name."""
        return self._rename(body, model)

    def wants_usage(self, body: fields.Fields) -> bool:
        """There is no stream to tell it in."""
        return False

    def usage(self, body: bytes) -> Usage | None:
        """The usage in a reply; None when there is none to be read."""
        if not self._billed:
            return NO_USAGE
        try:
            told: Usage | None = self._codec.read_reply(body).usage
        except UNREADABLE:
            return None
        return told

    def tap(self, *, wants_usage: bool, cost: Cost) -> Whole:
        """A watcher that sees nothing."""
        return Whole()

    def estimate_input(self, body_size: int) -> int:
        """About four bytes of English a token; none where none is billed."""
        return body_size // BYTES_PER_TOKEN if self._billed else 0

    def error(self, error: GatewayError, call_id: str) -> bytes:
        """The body of an error answer."""
        return errors.WRITERS[self._family](error, call_id)

    def stream_error(self, error: GatewayError, call_id: str) -> bytes:
        """The same as an event."""
        return framing.data(self.error(error, call_id))


def rename_top(body: fields.Fields, model: str) -> bytes:
    """Rename where the model stands in the body's own `model`."""
    if body.text(b"model") in (None, model):
        return body.replace({})
    return body.replace({b"model": msgspec.json.encode(model)})
