"""What the tests of this folder share: an upstream that echoes, and a way to hear a connection out."""

import itertools
from collections.abc import Iterator
from typing import Any

from tests.support.gateway import FixedUpstream
from tests.support.rawclient import RawConnection, RawReply, connect
from tests.support.scripted import Expect, RawRequest, Seen, Send, Step, chat_completion, chat_events, reply, sse

PROBE = b"GET /health/live HTTP/1.1\r\nhost: edge.test\r\nconnection: close\r\n\r\n"
_count = itertools.count()


def canary() -> str:
    """A word of sixteen characters that no other request has."""
    return f"canary-{next(_count):09d}"


def said(request: RawRequest) -> str:
    """What a chat request that reached the upstream asks."""
    return str(request.json()["messages"][0]["content"])


class Echo(FixedUpstream):
    """Answers every chat with what was asked, for as long as the connection lasts; `first` is done before that."""

    def __init__(self, port: int, first: dict[int, list[Step]] | None = None) -> None:
        super().__init__(port, self._steps)
        self.first = first or {}

    def _steps(self, index: int) -> Iterator[Step]:
        seen = self.connections[index]
        yield from self.first.get(index, ())
        while True:
            yield Expect()
            if seen.gone and not seen.requests:
                return
            yield Send(_answer(seen.requests[-1]))

    def check_framing(self) -> None:
        """Everything that came is framed by the gateway: one length, no coding, no byte that belongs to no request."""
        for seen in self.connections:
            assert (bytes(seen.unread), seen.problem) == (b"", None)
            for request in seen.requests:
                _check_framing(request, seen)


def _answer(request: RawRequest) -> bytes:
    text = said(request)
    return sse(chat_events(text)) if request.json().get("stream") else reply(body=chat_completion(text))


def _check_framing(request: RawRequest, seen: Seen) -> None:
    names = [name for name, _ in request.headers]
    assert names.count("content-length") == 1, request.head
    assert int(request.header("content-length") or -1) == len(request.body)
    assert not {"transfer-encoding", "te", "trailer", "connection", "expect", "upgrade"} & set(names), request.head
    assert not any(byte < 32 and byte not in b"\r\n" for byte in request.head), seen.requests


async def hear_out(connection: RawConnection, timeout: float = 5.0) -> tuple[list[RawReply], str]:
    """Every further reply until the connection ends, and how it ended: `fin`, `reset` or `timeout`."""
    heard: list[RawReply] = []
    while (got := await connection.read(timeout)).ending == "whole":
        heard.append(got)
    if got.status:
        heard.append(got)
    return heard, got.ending


async def read_all(connection: RawConnection, timeout: float = 5.0) -> tuple[bytes, str]:
    """Every byte until the connection ends, and how it ended."""
    try:
        while True:
            await connection.read_some(len(connection.buffer) + 1, timeout)
    except AssertionError:  # its word for an end
        return connection.buffer, "fin"
    except ConnectionError:
        return connection.buffer, "reset"
    except TimeoutError:
        return connection.buffer, "timeout"


async def deliver(port: int, data: bytes, *, honest: bool, timeout: float = 5.0) -> tuple[list[RawReply], str]:
    """Send bytes and hear the connection out; the replies, and how it ended.

    `honest`: a client that means what it sent and goes on, with a request that asks for the connection's end. Else it
    waits for the other side to end the connection by itself.
    """
    async with connect(port) as connection:
        connection.send(data)
        if data.startswith(b"HEAD "):  # its reply has a length and no body: only the end of all tells where it ends
            connection.send(PROBE if honest else b"")
            return await _hear_head(connection, timeout)
        first = await connection.read(timeout)
        if first.ending != "whole":
            return [first] if first.status else [], first.ending
        if honest and first.headers.get("connection") != "close":
            connection.send(PROBE)
        rest, ending = await hear_out(connection, timeout)
        return [first, *rest], ending


async def _hear_head(connection: RawConnection, timeout: float) -> tuple[list[RawReply], str]:
    raw, ending = await read_all(connection, timeout)
    heads = raw.split(b"HTTP/1.1 ")[1:]
    return [RawReply(head, "whole", int(head[:3])) for head in heads], ending


async def ask(connection: RawConnection, word: str, key: bytes) -> Any:
    """An honest chat on a connection of its own choosing; the text that came back."""
    body = b'{"model":"edge","messages":[{"role":"user","content":"%b"}]}' % word.encode()
    connection.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: edge.test\r\nauthorization: Bearer %b\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (key, len(body), body)
    )
    got = await connection.read(10.0)
    assert (got.status, got.ending) == (200, "whole"), got.raw
    return got.json()["choices"][0]["message"]["content"]
