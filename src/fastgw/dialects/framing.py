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
_LF = 0x0A


def complete(data: bytes) -> tuple[bytes, bytes]:
    """`data` cut behind its last complete event: (the complete events, the rest)."""
    # `find`, since `in` tries a bytes object for a number first, and costs what an exception does.
    returns = data.find(b"\r")
    if returns < 0 and data.find(b"\n\n\n") < 0:
        return _behind(data, data.rfind(b"\n\n"), 2)
    if returns >= 0 and _only_pairs(data) and data.find(b"\r\n\r\n\r\n") < 0:
        return _behind(data, data.rfind(b"\r\n\r\n"), 4)
    end = 0
    # A CR at the very end may be the first half of a CRLF: where its event ends is not known yet.
    known = len(data) - data.endswith(b"\r")
    for match in EVENT_END.finditer(data):
        if match.end() <= known:
            end = match.end()
    return data[:end], data[end:]


def _behind(data: bytes, at: int, size: int) -> tuple[bytes, bytes]:
    """`data` cut behind the event's end of this size that stands at `at`."""
    if at < 0:
        return b"", data
    end = at + size
    return (data, b"") if end == len(data) else (data[:end], data[end:])


def _only_pairs(data: bytes) -> bool:
    """Whether every line of `data` ends in CRLF."""
    return data.count(b"\r\n") == data.count(b"\r") == data.count(b"\n")


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
        and event.find(b"\r") < 0
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
    if event.find(b"event:") < 0:
        return ""
    found = ""
    for line in LINE_END.split(event):
        if line.startswith(b"event:"):
            found = line[6:].strip().decode("utf-8", "replace")
    return found


def frames(block: bytes) -> list[tuple[str, bytes]]:
    """(name, payload) of the complete events of `block` that have a payload: see `name` and `payload`."""
    found: list[tuple[str, bytes]] = []
    parts: list[bytes] = []
    named = ""
    # Of bytes, unlike of text, this splits at CR, LF and CRLF and nowhere else.
    for line in block.splitlines():
        if not line:
            if parts:
                found.append((named, b"\n".join(parts)))
            named, parts = "", []
        elif line.startswith(b"data:"):
            parts.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line.startswith(b"event:"):
            named = line[6:].strip().decode("utf-8", "replace")
        elif line == b"data":
            parts.append(b"")
    return found


class ServerSentEvents:
    """Cuts one stream into the names and payloads of its events. See `codec.Frames`.

    `block`: the bytes of the complete events that the last `feed` found, `tail`: what has come of the next.
    """

    __slots__ = ("_begun", "_line", "_name", "block", "tail")

    def __init__(self) -> None:
        self.block = b""
        self.tail = b""
        self._begun = False
        self._line = b""
        self._name = ""

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The events that are complete now. Raises ValueError for one without end."""
        if not self.tail:
            # Nearly always what arrives is one event: a name, as a rule that of the one before, and one line of data.
            lines = data.splitlines()
            if len(lines) == 3 and not lines[2] and lines[0] == self._line and data[-1] == _LF:
                line = lines[1]
                found = line.removeprefix(b"data: ")
                if found is not line:
                    self.block = data
                    return [(self._name, found)]
            elif len(lines) == 2 and not lines[1] and data[-1] == _LF:
                line = lines[0]
                found = line.removeprefix(b"data: ")
                if found is not line:
                    self.block = data
                    return [("", found)]
        return self._cut(data)

    def _cut(self, data: bytes) -> list[tuple[str, bytes]]:
        block, self.tail = complete(self.tail + data if self.tail else data)
        if len(self.tail) > MAX_EVENT:
            raise ValueError("an event is larger than 8 MiB")
        self.block = block
        found = self._frames(block)
        if found and found[-1][0] != self._name:
            self._name = found[-1][0]
            self._line = b"event: " + self._name.encode()
        return found

    def end(self) -> list[tuple[str, bytes]]:
        """The last event, which may lack its empty line."""
        tail, self.tail = self.tail, b""
        return self._frames(tail + b"\n\n")

    def _frames(self, block: bytes) -> list[tuple[str, bytes]]:
        """`frames`, without the mark that may stand before a stream's first byte and nowhere else."""
        if not self._begun and block:
            self._begun = True
            block = block.removeprefix(BOM)
        return frames(block)


def comment(text: str) -> bytes:
    """An SSE comment, which every client skips: keeps a silent stream's connection alive."""
    return b": " + text.encode("ascii") + b"\n\n"


def data(payload_bytes: bytes) -> bytes:
    """One SSE event with this `data`, which must hold no line end."""
    return b"data: " + payload_bytes + b"\n\n"
