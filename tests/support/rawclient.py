"""A client that sees every byte: what came, whether the reply was whole, and how the connection ended."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class RawReply:
    """One reply. `ending` is `whole` (framing complete), else how it broke off: `fin`, `reset` or `timeout`."""

    raw: bytes
    ending: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def post(body: bytes | Mapping[str, Any], path: str = "/v1/chat/completions", **headers: str) -> bytes:
    """The bytes of a POST; header names are written with `_` for `-`."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n{lines}"
    return f"{head}content-length: {len(data)}\r\n\r\n".encode() + data


def get(path: str, **headers: str) -> bytes:
    """The bytes of a GET."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"GET {path} HTTP/1.1\r\nhost: test\r\n{lines}\r\n".encode()


@contextlib.asynccontextmanager
async def connect(port: int) -> AsyncIterator["RawConnection"]:
    """A connection to a port on loopback, dropped at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def call(port: int, data: bytes, timeout: float = 5.0) -> RawReply:
    """Send bytes on a connection of their own and read one reply."""
    async with connect(port) as connection:
        connection.send(data)
        return await connection.read(timeout)


class RawConnection:
    """A connection that replies are read from one by one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self.buffer = b""

    def send(self, data: bytes) -> None:
        """Write bytes."""
        self.writer.write(data)

    async def read(self, timeout: float = 5.0) -> RawReply:
        """The next reply, or what there is of it after an end, a reset or `timeout` seconds."""
        ending, fresh = "", len(self.buffer)
        deadline = asyncio.get_running_loop().time() + timeout
        while (reply := _take(self.buffer, fresh, bool(ending))) is None:
            fresh = 0
            try:
                async with asyncio.timeout_at(deadline):
                    data = await self._reader.read(1024 * 1024)
            except TimeoutError:
                ending = "timeout"
            except ConnectionError:
                ending = "reset"
            else:
                ending, fresh = "" if data else "fin", len(data)
                self.buffer += data
        if reply.ending != "whole":
            reply.ending = ending
        self.buffer = self.buffer[len(reply.raw) :]
        return reply

    async def read_some(self, size: int, timeout: float = 5.0) -> bytes:
        """At least `size` bytes as they are."""
        async with asyncio.timeout(timeout):
            while len(self.buffer) < size:
                data = await self._reader.read(65536)
                assert data, f"ended after {len(self.buffer)} bytes"
                self.buffer += data
        return self.buffer


def _take(raw: bytes, fresh: int, ended: bool) -> RawReply | None:
    """The first reply in the bytes, of which the last `fresh` are new; with `ended` also one that is not whole."""
    head, found, rest = raw.partition(b"\r\n\r\n")
    if not found:
        return RawReply(raw, "") if ended else None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    status = int(first.split(" ")[1])
    if status == 100:
        start = len(head) + 4
        inner = _take(raw[start:], fresh, ended)
        if inner is not None:
            inner.raw = raw[: start + len(inner.raw)]
        return inner
    if "chunked" in headers.get("transfer-encoding", ""):
        if not ended and b"\r\n0\r\n\r\n" not in raw[-fresh - 6 :]:
            return None  # taking a long stream apart at every read would cost its square
        body, used, whole = _dechunk(rest)
    elif "content-length" in headers:
        used = int(headers["content-length"])
        body, whole = rest[:used], len(rest) >= used
    else:
        body, used, whole = rest, len(rest), ended
    if not whole and not ended:
        return None
    raw = raw[: len(head) + 4 + used] if whole else raw
    return RawReply(raw, "whole" if whole else "", status, headers, body)


def _dechunk(data: bytes) -> tuple[bytes, int, bool]:
    """(body so far, bytes used, whether the last chunk came)."""
    body, place = bytearray(), 0
    while (line := data.find(b"\r\n", place)) >= 0:
        size = int(data[place:line], 16)
        stop = line + 2 + size
        body += data[line + 2 : stop]
        if len(data) < stop + 2:
            return bytes(body), len(data), False
        place = stop + 2
        if size == 0:
            return bytes(body), place, True
    return bytes(body), len(data), False
