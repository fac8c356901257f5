"""Cuts a stream that is one JSON array into its elements as they come, as a client without SSE does."""

import re

MAX_ELEMENT = 8 * 1024 * 1024
MAX_DEPTH = 512
# What can change where an element ends; all else is skipped over. A string is one piece when its end is there.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}"]', re.DOTALL)


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
        if len(self._buffer) > MAX_ELEMENT:
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
