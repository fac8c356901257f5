"""A connection's replies, taken apart by RFC 9112 alone: what is no HTTP about them is told and not repaired."""

import re
from dataclasses import dataclass, field

_HEAD = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[^\r\n]*\r\n((?:[!-9;-~]+:[^\r\n]*\r\n)*)\r\n")
_CHUNK = re.compile(rb"([0-9a-fA-F]+)\r\n")
_NO_BODY = (204, 304)


@dataclass(slots=True)
class Answer:
    """One reply, cut by the rules of RFC 9112 section 6.3. `framed`: how its body ends."""

    status: int
    headers: dict[str, list[str]]
    body: bytes
    framed: str

    def header(self, name: str) -> str:
        """The header's only value; "" when it is not there once."""
        values = self.headers.get(name, [])
        return values[0] if len(values) == 1 else ""


@dataclass(slots=True)
class Heard:
    """All that came on a connection; `faults`: what is not HTTP about it."""

    answers: list[Answer]
    ending: str
    faults: list[str] = field(default_factory=list)

    @property
    def final(self) -> list[Answer]:
        """The answers that are not interim."""
        return [answer for answer in self.answers if answer.status >= 200]

    @property
    def statuses(self) -> list[int]:
        """The statuses of all, interim ones too."""
        return [answer.status for answer in self.answers]


def cut(raw: bytes, ending: str, methods: tuple[str, ...]) -> Heard:
    """Take a connection's bytes apart, by the methods that were asked with."""
    heard, asked = Heard([], ending), list(methods)
    while raw:
        match = _HEAD.match(raw)
        if match is None:
            heard.faults.append(f"no reply: {raw[:80]!r}")
            return heard
        raw = raw[match.end() :]
        status, headers = int(match[1]), _headers(match[2])
        method = asked.pop(0) if status >= 200 and asked else "GET"
        empty = method == "HEAD" or status in _NO_BODY or status < 200
        body, framed, raw = (b"", "empty", raw) if empty else _body(headers, raw, heard.faults)
        heard.answers.append(Answer(status, headers, body, framed))
    return heard


def _headers(lines: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in lines.decode("latin-1").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        found.setdefault(name.lower(), []).append(value.strip(" \t"))
    return found


def _body(headers: dict[str, list[str]], raw: bytes, faults: list[str]) -> tuple[bytes, str, bytes]:
    """(body, how it was framed, what follows it)."""
    if "transfer-encoding" in headers:
        if "content-length" in headers:
            faults.append("both a length and a coding")
        return _chunks(raw, faults)
    if "content-length" in headers:
        size = int(headers["content-length"][0])
        if len(raw) < size:
            faults.append("a body cut short")
        return raw[:size], "length", raw[size:]
    return raw, "end", b""


def _chunks(raw: bytes, faults: list[str]) -> tuple[bytes, str, bytes]:
    body = b""
    while (match := _CHUNK.match(raw)) is not None:
        size = int(match[1], 16)
        piece, end, raw = raw[match.end() :][:size], raw[match.end() + size :][:2], raw[match.end() + size + 2 :]
        if end != b"\r\n":
            break
        if size == 0:
            return body, "chunked", raw
        body += piece
    faults.append("chunks cut short")
    return body, "chunked", b""
