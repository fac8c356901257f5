"""streamGenerateContent without `alt=sse`: the frames are the elements of one JSON array, told as they come.

`ArrayCutter` takes an upstream's array apart; `ArrayWriter` puts a writer's events into one for a client.
"""

import re

from fastgw.dialects import framing
from fastgw.dialects.codec import Writer
from fastgw.dialects.hub import Event, Problem
from fastgw.errors import GatewayError

# What can change where an element ends; all else is skipped over. A string is one piece when its end is there.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}"]', re.DOTALL)
_BETWEEN = b" \t\r\n,"
MAX_DEPTH = 512


class ArrayCutter:
    """Cuts a JSON array, arriving in pieces, into its elements."""

    __slots__ = ("_at", "_buffer", "_depth", "_start", "complete")

    def __init__(self) -> None:
        self.complete = False
        """Whether the array's end was seen."""
        self._buffer = b""
        self._at = 0
        self._depth = 0
        self._start = -1

    def feed(self, data: bytes) -> list[bytes]:
        """The elements that are whole now. Raises ValueError for no array, and for an endless one."""
        self._buffer += data
        found: list[bytes] = []
        while (match := _TOKEN.search(self._buffer, self._at)) is not None:
            if match[0] == b'"':
                self._at = match.start()  # a string whose end has not come
                break
            self._token(match, found)
            self._at = match.end()
        else:
            self._at = len(self._buffer)
        keep = self._start if self._start >= 0 else self._at
        self._buffer, self._at = self._buffer[keep:], self._at - keep
        self._start = 0 if self._start >= 0 else -1
        if len(self._buffer) > framing.MAX_EVENT:
            raise ValueError("an element is larger than 8 MiB")
        return found

    def _token(self, match: re.Match[bytes], found: list[bytes]) -> None:
        token = match[0]
        if token in b"[{":
            if self.complete or token != (b"[" if self._depth == 0 else token) or self._depth >= MAX_DEPTH:
                raise ValueError("not one JSON array of objects")
            self._depth += 1
            if self._depth == 2:
                self._start = match.start()
        elif token in b"]}":
            self._depth -= 1
            if self._depth < 0:
                raise ValueError("not one JSON array of objects")
            if self._depth == 1:
                found.append(self._buffer[self._start : match.end()])
                self._start = -1
            self.complete = self._depth == 0


class ArrayWriter:
    """A writer whose frames are the elements of one array. See `codec.Writer`."""

    __slots__ = ("_begun", "_writer")

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._begun = False

    def feed(self, event: Event) -> bytes:
        """See `codec.Writer`."""
        return self._elements(self._writer.feed(event))

    def end(self) -> bytes:
        """See `codec.Writer`."""
        return self._elements(self._writer.end()) + (b"]" if self._begun else b"[]")

    def fail(self, error: GatewayError | Problem, call_id: str) -> bytes:
        """See `codec.Writer`. The error is the last element, and the array is closed, so that it can be read."""
        return self._elements(self._writer.fail(error, call_id)) + b"]"

    def _elements(self, events: bytes) -> bytes:
        written = []
        for event in framing.events(events):
            payload = framing.payload(event)
            if payload is not None:
                written.append((b",\r\n" if self._begun else b"[") + payload)
                self._begun = True
        return b"".join(written)
