"""A pass-through made of a codec: for dialects whose bytes need no edit but the model's name.

The reader that translation uses doubles as the tap: it is fed every event, and the event's own bytes go on.
"""

import msgspec

from fastgw._core import fields
from fastgw.call import Usage
from fastgw.dialects import errors, framing
from fastgw.dialects.base import Cost
from fastgw.dialects.codec import Codec, Reader
from fastgw.dialects.hub import (
    Done,
    Fail,
    RefusalDelta,
    Stop,
    TextDelta,
    ThinkDelta,
    ToolDelta,
    ToolStart,
    UsageSeen,
    merge_usage,
)
from fastgw.errors import GatewayError

CONTENT = frozenset({TextDelta, RefusalDelta, ThinkDelta, ToolStart, ToolDelta, Stop})
UNREADABLE = (ValueError, RecursionError)
BYTES_PER_TOKEN = 4


class WatchingTap:
    """Lets the complete events of a stream pass, untouched, with a look at each. See `base.Tap`."""

    __slots__ = ("_frames", "complete", "events", "failed", "usage")

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.complete = False
        self.failed = False
        self.events = 0
        self._frames = framing.ServerSentEvents()

    def feed(self, data: bytes) -> bytes:
        """The complete events of what has arrived, untouched. Raises ValueError for an endless event."""
        frames = self._frames
        for name, payload in frames.feed(data):
            self._look(name, payload)
        return frames.block

    def _finish(self) -> bytes:
        """What is left, which may be an event without its empty line, when that was looked at too."""
        tail = self._frames.tail
        for name, payload in self._frames.end():
            self._look(name, payload)
        return tail

    def _look(self, name: str, payload: bytes) -> None:
        raise NotImplementedError


class PassingTap(WatchingTap):
    """Watches a stream pass by the reader of its dialect."""

    __slots__ = ("_reader",)

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self._reader = reader

    def finish(self) -> bytes:
        """What is left when the upstream has ended."""
        tail = self._finish()
        for event in self._reader.end():
            self._note(event)
        return tail

    def _look(self, name: str, payload: bytes) -> None:
        try:
            seen = self._reader.feed(name, payload)
        except UNREADABLE:
            return
        for one in seen:
            if type(one) is TextDelta:
                self.events += 1
            else:
                self._note(one)

    def _note(self, event: object) -> None:
        kind = type(event)
        if kind in CONTENT:
            self.events += 1
        elif isinstance(event, UsageSeen):
            self.usage = merge_usage(self.usage, event.usage)
        elif kind is Done:
            self.complete = True
        elif kind is Fail:
            self.failed = True


class PassingDialect:
    """The pass-through half of a dialect that has a codec. See `base.Dialect`."""

    streams = True
    tells_cost = False

    def __init__(self, codec: Codec, family: str, required: tuple[bytes, ...]) -> None:
        self.name = codec.name
        self.required = required
        self._codec = codec
        self._family = family

    def prepare(self, body: fields.Fields, model: str, *, rename: bool, stream: bool) -> bytes:
        """The body as it came, but for the model's name where the body has one."""
        if not rename or not body.has(b"model"):
            return body.replace({})
        return body.replace({b"model": msgspec.json.encode(model)})

    def wants_usage(self, body: fields.Fields) -> bool:
        """These dialects always tell usage."""
        return True

    def usage(self, body: bytes) -> Usage | None:
        """The usage in a whole reply."""
        try:
            return self._codec.read_reply(body).usage
        except UNREADABLE:
            return None

    def tap(self, *, wants_usage: bool, cost: Cost) -> PassingTap:
        """A watcher for one stream."""
        return PassingTap(self._codec.reader())

    def estimate_input(self, body_size: int) -> int:
        """About four bytes of English a token."""
        return body_size // BYTES_PER_TOKEN

    def error(self, error: GatewayError, call_id: str) -> bytes:
        """The body of an error answer."""
        return errors.WRITERS[self._family](error, call_id)

    def stream_error(self, error: GatewayError, call_id: str) -> bytes:
        """The event that ends a failed stream."""
        return self._codec.writer(model="", stream_usage=False).fail(error, call_id)
