"""How a stream's bytes are cut into events.

SSE as the WHATWG HTML standard has it (section 9.2): lines end with LF, CR or CRLF and with nothing else (U+2028 and
U+0085 are text); an empty line ends an event; `data` lines of one event are joined with LF; one space after the colon
is not part of the value.
"""

import re

EVENT_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
LINE_END = re.compile(rb"\r\n|\n|\r")
BOM = b"\xef\xbb\xbf"
MAX_EVENT = 8 * 1024 * 1024


def complete(data: bytes) -> tuple[bytes, bytes]:
    """`data` cut behind its last complete event: (the complete events, the rest)."""
    if b"\r" not in data and b"\n\n\n" not in data:
        end = data.rfind(b"\n\n")
        if end < 0:
            return b"", data
        end += 2
        return (data, b"") if end == len(data) else (data[:end], data[end:])
    end = 0
    # A CR at the very end may be the first half of a CRLF: where its event ends is not known yet.
    known = len(data) - data.endswith(b"\r")
    for match in EVENT_END.finditer(data):
        if match.end() <= known:
            end = match.end()
    return data[:end], data[end:]


def events(block: bytes) -> list[bytes]:
    """The complete events of `block`, each with the empty line that ends it; joined they are `block` again."""
    if b"\r" not in block:
        return [part + b"\n\n" for part in block.split(b"\n\n")[:-1]]
    found, start = [], 0
    for match in EVENT_END.finditer(block):
        found.append(block[start : match.end()])
        start = match.end()
    return found


def payload(event: bytes) -> bytes | None:
    """The `data` of an event, or None when it has none (a comment, a bare `event:` line)."""
    if (
        event.startswith(b"data: ")
        and b"\r" not in event
        and event.find(b"\n\n") == event.find(b"\n") == len(event) - 2
    ):
        return event[6:-2]
    parts = []
    for line in LINE_END.split(event.removeprefix(BOM)):
        if line.startswith(b"data:"):
            parts.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line == b"data":
            parts.append(b"")
    return b"\n".join(parts) if parts else None


def name(event: bytes) -> str:
    """The event's name (its last `event:` line), "" when it has none."""
    if b"event:" not in event:
        return ""
    found = ""
    for line in LINE_END.split(event):
        if line.startswith(b"event:"):
            found = line[6:].strip().decode("utf-8", "replace")
    return found


class ServerSentEvents:
    """Cuts one stream into the names and payloads of its events. See `codec.Frames`."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The events that are complete now. Raises ValueError for one without end."""
        block, self._tail = complete(self._tail + data if self._tail else data)
        if len(self._tail) > MAX_EVENT:
            raise ValueError("an event is larger than 8 MiB")
        return [(name(event), found) for event in events(block) if (found := payload(event)) is not None]

    def end(self) -> list[tuple[str, bytes]]:
        """The last event, which may lack its empty line."""
        tail, self._tail = self._tail, b""
        event = tail + b"\n\n"
        found = payload(event) if tail.strip() else None
        return [] if found is None else [(name(event), found)]


def comment(text: str) -> bytes:
    """An SSE comment, which every client skips: keeps a silent stream's connection alive."""
    return b": " + text.encode("ascii") + b"\n\n"


def data(payload_bytes: bytes) -> bytes:
    """One SSE event with this `data`, which must hold no line end."""
    return b"data: " + payload_bytes + b"\n\n"
