"""An upstream that sends exactly the bytes a test writes down, and remembers everything it was sent.

A script is a list of steps per connection. `Expect` reads one whole request, `Answer` answers it by a function, `Serve`
does both again and again, `Then` chooses by it how to go on; `Send`, `Sleep`, `Reset`, `Fin`, `Cut` and `Hold` do what
they say. When the steps are over the connection is closed with FIN.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, cast

_LINGER_ZERO = struct.pack("ii", 1, 0)

Header = tuple[str, str]


@dataclass(slots=True)
class RawRequest:
    """One request as it came: `head` with its last empty line, body without chunked framing, monotonic arrival."""

    head: bytes
    body: bytes
    at: float
    method: str = ""
    target: str = ""
    headers: list[Header] = field(default_factory=list)

    def __post_init__(self) -> None:
        first, *lines = self.head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ", 2)
        pairs = (line.split(":", 1) for line in lines if line)
        self.headers = [(name.lower(), value.strip()) for name, value in pairs]

    def header(self, name: str) -> str | None:
        """The only value of a header, None when absent; AssertionError when it came twice."""
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Expect:
    """Read one whole request."""


@dataclass(frozen=True, slots=True)
class Send:
    """Write bytes: at once, or `slice` bytes a write with `every` seconds between."""

    data: bytes
    slice: int = 0
    every: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Write what a function makes of the request that was read last."""

    make: Callable[[RawRequest], bytes]


@dataclass(frozen=True, slots=True)
class Serve:
    """Read requests and answer each by a function until the client goes; None for an answer ends the script."""

    make: Callable[[RawRequest], bytes | None]
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Then:
    """Go on with the steps that a function gives for the request that was read last."""

    choose: "Callable[[RawRequest], Steps]"


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reset:
    """RST, after everything sent so far has left."""


@dataclass(frozen=True, slots=True)
class Fin:
    """Close cleanly."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the socket as it is: over TLS without the words that end a session (close_notify)."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Do nothing until the client goes."""


@dataclass(frozen=True, slots=True)
class Flood:
    """Write `data` again and again until the client goes, or `times` times; waits while the client does not read."""

    data: bytes
    times: int | None = None


Step = Expect | Answer | Serve | Then | Send | Sleep | Reset | Fin | Cut | Hold | Flood
Steps = Sequence[Step]


class Seen(asyncio.Protocol):
    """One connection: its requests, what came unasked, and when it opened and ended (monotonic)."""

    def __init__(self, upstream: "ScriptedUpstream") -> None:
        self.requests: list[RawRequest] = []
        self.unread = bytearray()
        self.opened = time.monotonic()
        self.peer_closed: float | None = None
        self.closed: float | None = None
        self.sent = 0
        self.problem: Exception | None = None
        self._upstream = upstream
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not derive from it
        index = len(self._upstream.connections)
        self._upstream.connections.append(self)
        self._task = asyncio.get_running_loop().create_task(self._play(self._upstream.steps_of(index)))

    def data_received(self, data: bytes) -> None:
        self.unread += data
        self._changed.set()

    def eof_received(self) -> bool:
        self.peer_closed = self.peer_closed or time.monotonic()
        self._changed.set()
        return True  # the script decides when this side ends

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = time.monotonic()
        if exc is not None:
            self.peer_closed = self.peer_closed or self.closed
        self._changed.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    @property
    def gone(self) -> bool:
        """The client has ended the connection."""
        return self.peer_closed is not None or self.closed is not None

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(AttributeError):  # asyncio's TLS before 3.11.5, where it was aborted already
            self._transport.abort()

    async def _play(self, steps: Steps) -> None:
        try:
            await self._all(steps)
            await self._flushed()
        except ValueError as problem:  # not HTTP
            self.problem = problem
        self._transport.close()

    async def _all(self, steps: Steps) -> bool:
        for step in steps:
            if not await self._do(step):
                return False
        return True

    async def _do(self, step: Step) -> bool:
        """One step; False ends the script."""
        match step:
            case Expect():
                return await self._expect()
            case Answer(make):
                await self._write(make(self.requests[-1]))
            case Serve():
                return await self._serve(step)
            case Then(choose):
                return await self._all(choose(self.requests[-1]))
            case Send(data, size, every):
                for start in range(0, len(data), size or len(data) or 1):
                    await self._write(data[start : start + (size or len(data))])
                    if size:
                        await self._flushed()
                        await asyncio.sleep(every)
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case Reset():
                await self._flushed()
                raw = self._transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
                self._transport.abort()
                return False
            case Fin():
                return False
            case Cut():
                await self._flushed()
                self._transport.abort()
                return False
            case Hold():
                while not self.gone:
                    await self._change()
            case Flood(data, times):
                while not self.gone and (times is None or times > 0):
                    await self._write(data)
                    await asyncio.sleep(0)
                    times = None if times is None else times - 1
        return True

    async def _expect(self) -> bool:
        while (taken := take_request(self.unread)) is None:
            if self.gone:
                return False
            await self._change()
        self.requests.append(taken)
        return True

    async def _serve(self, step: Serve) -> bool:
        while await self._expect():
            await asyncio.sleep(step.after)
            answer = step.make(self.requests[-1])
            if answer is None:
                return True
            await self._write(answer)
        return False

    async def _write(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(data)
        self.sent += len(data)
        await self._writable.wait()

    async def _flushed(self) -> None:
        while self._transport.get_write_buffer_size() and not self._transport.is_closing():
            await asyncio.sleep(0.001)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class ScriptedUpstream:
    """`async with ScriptedUpstream([steps of connection 0, of connection 1, ...]) as upstream:`.

    The last list serves all further connections; a callable gets the connection's number instead.
    """

    def __init__(
        self, scripts: Sequence[Steps] | Callable[[int], Steps], *, port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self._scripts = scripts
        self._tls = tls
        self.connections: list[Seen] = []
        self.port = port

    @property
    def url(self) -> str:
        """Base address without a path."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[RawRequest]:
        """All requests in the order of their arrival."""
        return sorted((r for seen in self.connections for r in seen.requests), key=lambda request: request.at)

    def steps_of(self, index: int) -> Steps:
        """The script of one connection."""
        if callable(self._scripts):
            return self._scripts(index)
        return self._scripts[min(index, len(self._scripts) - 1)]

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Seen(self), "127.0.0.1", self.port, backlog=1024, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for seen in self.connections:
            await seen.stop()
        await self._server.wait_closed()
        await asyncio.sleep(0)


def take_request(buffer: bytearray) -> RawRequest | None:
    """Cut one whole request from the front of the buffer; None when it is not whole yet. ValueError: not HTTP."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(buffer[: end + 4])
    request = RawRequest(head, b"", time.monotonic())
    if "chunked" in (request.header("transfer-encoding") or ""):
        taken = _take_chunked(buffer, end + 4)
    else:
        size = int(request.header("content-length") or 0)
        stop = end + 4 + size
        taken = (bytes(buffer[end + 4 : stop]), stop) if len(buffer) >= stop else None
    if taken is None:
        return None
    request.body, used = taken
    del buffer[:used]
    return request


def _take_chunked(buffer: bytearray, place: int) -> tuple[bytes, int] | None:
    body = bytearray()
    while (line := buffer.find(b"\r\n", place)) >= 0:
        size = int(bytes(buffer[place:line]).split(b";")[0], 16)
        data = line + 2
        if len(buffer) < data + size + 2:
            return None
        body += buffer[data : data + size]
        place = data + size + 2
        if size == 0:
            return bytes(body), place
    return None


def reply(status: int = 200, headers: Iterable[Header] = (), body: bytes | dict[str, Any] = b"") -> bytes:
    """A whole reply. Content-Length is added unless the headers frame the body themselves (also wrongly)."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    pairs = list(headers)
    names = {name.lower() for name, _ in pairs}
    if isinstance(body, dict) and "content-type" not in names:
        pairs.append(("content-type", "application/json"))
    if not names & {"content-length", "transfer-encoding"}:
        pairs.append(("content-length", str(len(data))))
    return head(status, pairs) + data


def head(status: int, headers: Iterable[Header]) -> bytes:
    """Status line and headers as given, with the empty line."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode("latin-1")


def chunked(*pieces: bytes, last: bool = True) -> bytes:
    """Chunked framing of the pieces; `last=False` leaves the final chunk out."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + (b"0\r\n\r\n" if last else b"")


def sse(events: Iterable[bytes | dict[str, Any]], *, chunked_framing: bool = True, last: bool = True) -> bytes:
    """A streamed reply: dicts become `data:` events, bytes go as they are. Without chunks the close ends it."""
    frames = [
        b"data: " + json.dumps(event).encode() + b"\n\n" if isinstance(event, dict) else event for event in events
    ]
    start = [("content-type", "text/event-stream")]
    if not chunked_framing:
        return head(200, start) + b"".join(frames)
    return head(200, [*start, ("transfer-encoding", "chunked")]) + chunked(*frames, last=last)


DONE = b"data: [DONE]\n\n"


def chat_completion(text: str = "hello", model: str = "m", prompt: int = 5, completion: int = 2) -> dict[str, Any]:
    """A small OpenAI chat completion."""
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
    }  # fmt: skip


def chat_events(
    *texts: str, model: str = "m", finish: bool = True, usage: tuple[int, int] | None = None, done: bool = True
) -> list[bytes | dict[str, Any]]:
    """The events of a small OpenAI chat stream: role, one delta a text, finish, usage (prompt, completion), DONE."""
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": model}
    extra = {} if usage is None else {"usage": None}

    def step(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return base | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]} | extra

    events: list[bytes | dict[str, Any]] = [step({"role": "assistant", "content": ""})]
    events += [step({"content": text}) for text in texts]
    if finish:
        events.append(step({}, "stop"))
    if usage is not None:
        prompt, completion = usage
        counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        events.append(base | {"choices": [], "usage": counts})
    return [*events, DONE] if done else events
