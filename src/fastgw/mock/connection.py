"""One client connection of the mock: HTTP/1.1 in, prepared replies out, in the order of the requests."""

import asyncio
import socket
import struct
from collections import deque
from typing import Final, NamedTuple, cast

import httptools

from fastgw.mock.base import JSON, Answer
from fastgw.mock.engine import Engine, Prepared, fill, prepare, status_line
from fastgw.mock.openai import error_body
from fastgw.mock.script import Ending, Script, write_script

_MAX_HEADERS: Final = 200
_MAX_HEADER_BYTES: Final = 64 * 1024
_MAX_QUEUE: Final = 16
_TURN: Final = 32  # pieces after which other connections get a turn
_DRAIN_POLL: Final = 0.001
_DRAIN_POLLS: Final = 5_000
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)


class _Waiting(NamedTuple):
    """A request whose turn has not come."""

    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    keep: bool


class Connection(asyncio.Protocol):
    """Parses requests and answers them one after another; a reply without waits is one write, without a task."""

    __slots__ = (
        "_body", "_body_size", "_closing", "_engine", "_expects", "_handle", "_header_size", "_headers", "_keep",
        "_loop", "_owner", "_parser", "_paused", "_polls", "_queue", "_reading", "_rejected", "_script", "_sent",
        "_start", "_target", "_transport",
    )  # fmt: skip

    def __init__(self, engine: Engine, owner: set["Connection"], loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._owner = owner
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[_Waiting] = deque()
        self._script: Script | None = None
        self._handle: asyncio.Handle | None = None
        self._paused = self._closing = self._rejected = False
        self._reading = self._keep = True
        self._sent = self._polls = 0
        self._start = 0.0
        self.on_message_begin()

    # transport callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        # uvloop's transports do not derive from asyncio.Transport, so only a cast serves both loops.
        self._transport = cast(asyncio.Transport, transport)
        self._owner.add(self)
        stats = self._engine.stats
        stats.connections += 1
        stats.open += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went, or was shown out."""
        self._owner.discard(self)
        stats = self._engine.stats
        stats.open -= 1
        stats.closed += 1
        if self._handle is not None:
            self._handle.cancel()
        if self._script is not None:
            self._script = None
            stats.lost()
        self._closing = True
        self._queue.clear()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what is not HTTP/1.1 gets one error and the door."""
        if self._closing or self._rejected:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._reject(501, "Upgrades are not supported.")
        except httptools.HttpParserError:
            self._reject(400, "Malformed HTTP request.")

    def eof_received(self) -> bool:
        """The client sends no more; whoever half-closes has gone, as far as a provider cares."""
        return False

    def pause_writing(self) -> None:
        """The client reads slower than the reply is written."""
        self._paused = True

    def resume_writing(self) -> None:
        """The client caught up."""
        self._paused = False
        if self._script is not None and self._handle is None:
            self._play()
        elif self._script is None:
            self._next()

    # parser callbacks

    def on_message_begin(self) -> None:
        """A request begins."""
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_size = self._body_size = 0
        self._expects = False
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        """Part of the request target."""
        self._target += url
        self._header_size += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field."""
        self._headers.append((name, value))
        self._header_size += len(name) + len(value)
        if len(name) == 6 and name.lower() == b"expect":
            self._expects = True
        if len(self._headers) > _MAX_HEADERS or self._header_size > _MAX_HEADER_BYTES:
            self._reject(431, "Request header fields too large.")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self._parser.get_http_version() != "1.1":
            self._reject(505, "Only HTTP/1.1 is supported.")
        elif self._expects and self._script is None and not self._queue:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Part of the body."""
        self._body.append(body)
        self._body_size += len(body)
        if self._body_size > self._engine.options.max_body:
            self._reject(413, "Request body too large.")

    def on_message_complete(self) -> None:
        """A request is whole: answer it, or let it wait its turn."""
        if self._rejected or self._closing:
            return
        parser = self._parser
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        method, target = parser.get_method().decode("ascii"), self._target.decode("latin-1")
        keep = parser.should_keep_alive()
        if self._script is None and not self._paused and not self._queue:
            self._serve(method, target, self._headers, body, keep)
            return
        self._queue.append(_Waiting(method, target, self._headers, body, keep))
        if len(self._queue) > _MAX_QUEUE and self._reading:
            self._reading = False
            self._transport.pause_reading()

    # answering

    def _serve(self, method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes, keep: bool) -> None:
        engine = self._engine
        self._keep = keep
        if target.startswith("/__mock/"):
            self._write_at_once(engine.control(method, target), b"")
            return
        prepared = engine.find(method, target, headers, body)
        if engine.options.faults and prepared.fault is None:
            prepared = engine.strike(prepared, target.partition("?")[0])
        stats = engine.stats
        stats.by_status[prepared.answer.status] += 1
        stats.began()
        if prepared.fault is None and engine.at_once(prepared):
            stats.active -= 1
            stats.pieces += 1
            self._write_at_once(prepared, body)
            return
        if prepared.fault is not None:
            stats.faults[prepared.fault.kind] += 1
        self._begin(prepared, body)

    def _write_at_once(self, prepared: Prepared, body: bytes) -> None:
        preface, identity = self._engine.render(prepared, body, self._keep)
        self._transport.write(preface + fill(prepared.wire, identity))
        if not self._keep:
            self._close()

    def _begin(self, prepared: Prepared, body: bytes) -> None:
        """Start a reply that takes time."""
        options = self._engine.options
        preface, identity = self._engine.render(prepared, body, self._keep)
        script = self._script = write_script(
            prepared, preface, identity, options.tokens_per_second > 0 or options.flush_each
        )
        usual = options.ttft if prepared.frames and options.ttft is not None else options.latency
        delay = usual / 1000 if script.delay is None else script.delay
        self._sent = 0
        self._start = self._loop.time() + delay
        if delay > 0:
            self._handle = self._loop.call_at(self._start, self._play)
        else:
            self._play()

    def _play(self) -> None:
        """Write the pieces that are due; the next timer, tick or `resume_writing` goes on."""
        self._handle = None
        script, options = self._script, self._engine.options
        while script is not None and not self._paused:
            piece = next(script.pieces, None)
            if piece is None:
                self._finish(script.ending)
                return
            self._transport.write(piece)
            self._sent += 1
            self._engine.stats.pieces += 1
            if options.tokens_per_second > 0:
                due = self._start + self._sent / options.tokens_per_second
                if due > self._loop.time():
                    self._handle = self._loop.call_at(due, self._play)
                    return
            elif options.flush_each or self._sent % _TURN == 0:
                self._handle = self._loop.call_soon(self._play)
                return

    def _finish(self, ending: Ending) -> None:
        if ending is Ending.HOLD:
            return
        if ending is Ending.RESET and self._transport.get_write_buffer_size() and self._polls < _DRAIN_POLLS:
            # A reset throws away what is not sent yet, and the fault promises an exact number of bytes.
            self._polls += 1
            self._handle = self._loop.call_later(_DRAIN_POLL, self._finish, ending)
            return
        self._script = None
        self._engine.stats.active -= 1
        if ending is Ending.RESET:
            self._reset()
        elif ending is Ending.CLOSE or not self._keep:
            self._close()
        else:
            self._next()

    def _next(self) -> None:
        """Answer the requests that wait, until one takes time."""
        while self._queue and self._script is None and not self._paused and not self._closing:
            self._serve(*self._queue.popleft())
        if not self._reading and len(self._queue) <= _MAX_QUEUE // 2 and not self._closing:
            self._reading = True
            self._transport.resume_reading()

    # endings

    def _reject(self, status: int, message: str) -> None:
        """Answer what cannot be served at all, once, and close."""
        if self._rejected:
            return
        self._rejected = True
        self._engine.stats.refused += 1
        if self._script is None:
            answer = prepare(Answer(status, JSON, error_body(message, "invalid_request_error", None)))
            preface = status_line(status) + self._engine.date() + b"connection: close\r\n"
            self._transport.write(preface + answer.wire)
            self._close()
        else:
            self.abort()

    def _close(self) -> None:
        self._closing = True
        self._transport.close()

    def _reset(self) -> None:
        self._closing = True
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._transport.abort()

    def abort(self) -> None:
        """Drop the connection; a reply under way is lost."""
        self._closing = True
        self._transport.abort()
