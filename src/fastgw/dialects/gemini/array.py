"""streamGenerateContent without `alt=sse`: the stream is one JSON array, its elements told as they come.

The provider is always asked for server-sent events; what a client is sent is made of them here, whatever dialect they
were written from. Source: https://ai.google.dev/api/generate-content#method:-models.streamgeneratecontent; that without
`alt` it is an array, as with `alt=json`, is the system parameter's rule, https://cloud.google.com/apis/docs/system-parameters.
"""

import msgspec

from fastgw.dialects import framing

_is_json = msgspec.json.Decoder(msgspec.Raw).decode
_ALT = frozenset({b"alt", b"$alt", b"%24alt"})


class JsonArray:
    """The elements of one array, out of a stream's events.

    A stream that fails after its first event ends with the error as its last element; the array is closed all the same,
    so that it can be read.
    """

    __slots__ = ("_begun",)

    content_type = b"application/json"
    ping = b"\n"
    """Space between elements, which every reader skips: keeps a silent stream's connection alive."""

    def __init__(self) -> None:
        self._begun = False

    def feed(self, events: bytes) -> bytes:
        """The elements for events; b"" for those that have no data, and for half an event at the very end.

        Raises ValueError for an event that would make the array unreadable.
        """
        whole, rest = framing.complete(events)
        found = [framing.payload(event) for event in framing.events(whole)]
        if rest and _readable(last := framing.payload(rest + b"\n\n")):
            found.append(last)
        return b"".join([self._element(payload) for payload in found if payload is not None])

    def _element(self, payload: bytes) -> bytes:
        if not _readable(payload):
            raise ValueError("an event is not JSON")
        begun, self._begun = self._begun, True
        return (b",\r\n" if begun else b"[") + payload

    def end(self) -> bytes:
        """The end of the array."""
        return b"]" if self._begun else b"[]"


def _readable(payload: bytes | None) -> bool:
    try:
        return payload is not None and bool(_is_json(payload))
    except (msgspec.DecodeError, RecursionError):
        return False


def form_of(query: bytes) -> JsonArray | None:
    """How a stream is to be written by its path's query: None for server-sent events.

    Raises ValueError for another `alt` than `sse` and `json` (which may carry settings: `json;enum-encoding=int`).
    """
    asked = [value for name, _, value in (pair.partition(b"=") for pair in query.split(b"&")) if name in _ALT]
    if b"sse" in asked:
        return None
    if all(value.partition(b";")[0].partition(b"%3B")[0] == b"json" for value in asked):
        return JsonArray()
    raise ValueError("alt must be sse or json")
