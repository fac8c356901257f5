"""One connection to an upstream: bytes and states, one call at a time.

The parser is httptools (llhttp), strict as it comes. What it leaves open is closed here: caps on heads, interim
replies and trailers (it has none), framing headers it would read on with, a second response in the same segment
(it would go on into the same callbacks), and the end of a body that is framed by the connection's end.

No timer belongs to a call: `check` is called by the client's sweep and compares a few floats.
"""

from asyncio import AbstractEventLoop, BaseTransport, Future, Protocol, Transport
from collections.abc import Callable
from ssl import SSLError, SSLZeroReturnError
from typing import Protocol as Interface
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from fastgw._core import replies
from fastgw.errors import UpstreamError
from fastgw.upstream.framing import EMPTY, START_SIZE, Fault, check_start, ends_here, framing
from fastgw.upstream.reply import Reply

MAX_HEADERS = replies.MAX_HEADERS
MAX_INTERIM = 16
HIGH_WATER = 256 * 1024
JOIN_LIMIT = 32 * 1024
"""Up to here head and body are joined; beyond it the copy costs more than a second iovec (bench/micro/upstream.py)."""


_whole = replies.whole


class Keeper(Interface):
    """The pool as its connections see it."""

    def release(self, connection: "Connection") -> None:
        """The call has ended cleanly: the connection may carry another one."""

    def forget(self, connection: "Connection", *, keep_slot: bool = False) -> None:
        """The connection is closed; with `keep_slot` its place in the bound passes on to the call's replay."""


class Connection(Protocol):
    """A transport with its parser. `reply` is the call under way, None while idle.

    `closed` is set until connected and from the moment the connection is unusable, before its socket is closed.
    """

    __slots__ = (
        "_active",
        "_chunked",
        "_clock",
        "_deadline",
        "_ended",
        "_feed",
        "_head_left",
        "_headers",
        "_held",
        "_in_head",
        "_interim",
        "_keep_alive",
        "_max_body",
        "_max_head",
        "_old",
        "_overhead",
        "_parser",
        "_paused",
        "_pool",
        "_surplus",
        "_transport",
        "_unwritten",
        "_waiting",
        "_writing",
        "closed",
        "idle_since",
        "loop",
        "peer",
        "reply",
        "used",
    )

    def __init__(
        self,
        pool: Keeper,
        loop: AbstractEventLoop,
        clock: Callable[[], float],
        *,
        peer: str,
        max_head: int,
        max_body: int,
    ) -> None:
        self._pool = pool
        self.loop = loop
        self._clock = clock
        self.peer = peer
        self._max_head = max_head
        self._max_body = max_body
        self._transport: Transport
        self.reply: Reply | None = None
        self.closed = True
        self.used = False
        self.idle_since = 0.0
        self._deadline = 0.0
        self._writing = self._paused = self._active = self._waiting = False
        self._unwritten = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._parser = HttpResponseParser(self)
        self._feed = self._parser.feed_data
        self._reset()

    def _reset(self) -> None:
        """Ready for the next message."""
        self._in_head = True
        self._head_left = self._max_head
        self._held = b""
        self._chunked = self._old = self._ended = self._surplus = self._keep_alive = False
        self._interim = self._overhead = 0

    # -- the caller's side ------------------------------------------------------------------------------------------

    def begin(self, reply: Reply, head: bytes, body: bytes) -> Future[None]:
        """Send a request. The connection is idle and not `closed`.

        Returns a future that wakes the sender when there is a reply, whole or with its headers, or an error in it.
        """
        now = self._clock()
        self.reply = reply
        reply._wire = self
        waiter = reply._waiter = self.loop.create_future()
        reply._sent = True
        reply.reused = self.used
        reply.sent_at = now
        self.used = self._waiting = True
        self._active = False
        self._deadline = now + reply._timeouts.first_token
        if not body:
            self._transport.write(head)
        elif len(body) <= JOIN_LIMIT:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        return waiter

    def resume(self) -> None:
        """The reader has caught up: let the socket be read again."""
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def cut(self) -> None:
        """The caller gave up: nothing of this connection can be of use."""
        self.reply = None
        self.drop()

    def drop(self, *, keep_slot: bool = False) -> None:
        """Close at once and leave the pool; harmless when closed."""
        if not self.closed:
            self.closed = True
            self._transport.abort()
            self._pool.forget(self, keep_slot=keep_slot)

    def shut(self) -> None:
        """The client is closing: end the call under way, if any, and the connection."""
        if self.reply is None:
            self.drop()
        else:
            message = f"{self.peer}: the call was ended by the gateway's shutdown"
            self._fail(UpstreamError("upstream_unreachable", message, reason="reset", sent=True))

    def check(self, now: float, keepalive: float) -> None:
        """Hold the deadlines; called by the sweep, so each is kept to within its interval."""
        reply = self.reply
        if reply is None:
            if not self.idle_since:
                self.idle_since = now
            elif now - self.idle_since >= keepalive:
                self.drop()
            return
        if self._writing:
            self._check_upload(now, reply)
        if self._active or self._paused:
            # While paused the silence is ours, not the peer's.
            self._active = False
            if not self._waiting:
                self._deadline = now + reply._timeouts.idle
        if now >= reply._expires:
            self._time_out(f"not done within {reply._timeouts.total:g} s")
        elif now >= self._deadline:
            first = f"no first byte within {reply._timeouts.first_token:g} s"
            self._time_out(first if self._waiting else f"silent for {reply._timeouts.idle:g} s")

    def _check_upload(self, now: float, reply: Reply) -> None:
        """The wait for the first byte begins when the request has left; a peer that stops taking it runs into it."""
        unwritten = self._transport.get_write_buffer_size()
        if unwritten != self._unwritten:
            self._unwritten = unwritten
            self._deadline = now + reply._timeouts.first_token

    # -- the transport's side ---------------------------------------------------------------------------------------

    def connection_made(self, transport: BaseTransport) -> None:
        """asyncio: connected (with TLS: after the handshake)."""
        self._transport = cast(Transport, transport)
        self.closed = False

    def pause_writing(self) -> None:
        """asyncio: the kernel does not take the whole request at once."""
        self._writing = True
        self._unwritten = 0

    def resume_writing(self) -> None:
        """asyncio: the request has left, but for a small rest."""
        self._writing = False
        if self.reply is not None and self._waiting:
            self._deadline = self._clock() + self.reply._timeouts.first_token

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the upstream."""
        reply = self.reply
        if reply is None:
            # Nothing was asked, so whatever this is must not meet the next request.
            self.drop()
            return
        if reply._whole and not reply._head_only and self._untouched():
            found = _whole(data, self._max_head, self._max_body)
            if found is not None:
                self._take_whole(reply, *found)
                return
        self._active = True
        # The end of the head is news too, even if no body came with it.
        before = -1 if self._in_head else reply._buffered
        try:
            if self._in_head:
                self._receive_head(reply, data)
            else:
                self._feed(data)
        except HttpParserUpgrade:
            self._break_off("invalid", "switched protocols unasked")
        except HttpParserError as error:
            self._parser_failed(error)
        except Fault as fault:
            self._break_off(fault.reason, fault.what)
        else:
            if self._ended:
                self._finish(data)
            else:
                self._progress(reply, before, len(data))

    def eof_received(self) -> None:
        """asyncio: the peer ended its side."""
        reply = self.reply
        if reply is not None and reply.unframed and not self._in_head and self._notified():
            self._ended = True
            self._finish(b"")
        else:
            self._lost("closed the connection")

    def _notified(self) -> bool:
        """Over TLS, whether the end is the peer's own (a close_notify) and not a cut by anybody on the way.

        Both loops report either as an end of stream at times; the TLS object alone knows (RFC 8446 section 6.1).
        """
        tls = self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return not tls.read(1)
        except SSLZeroReturnError:
            return True
        except SSLError:
            return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the socket is closed. Without an end of stream before it, it was cut."""
        self._lost("reset the connection" if exc is not None else "cut the connection")

    # -- the parser's side ------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a message: a second one belongs to nobody."""
        if self._ended:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or a trailer, which is dropped at the message's end."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """A head is whole: an interim one is skipped, the final one decides the framing."""
        headers = self._headers
        self._headers = []
        reply = self.reply
        if self._ended or reply is None:
            self._surplus = True
            return
        if len(headers) > MAX_HEADERS:
            raise Fault("too_large", f"more than {MAX_HEADERS} headers")
        status = self._parser.get_status_code()
        framed = self._framing(headers)
        if status < 200:
            self._skip_interim(status, framed)
            return
        if status > 599:
            raise Fault("invalid", "a status beyond 599")
        if self._interim:
            reply.first_byte_at = self._clock()
        reply.status = status
        reply.headers = headers
        reply.unframed = not framed and status not in EMPTY and not reply._head_only
        self._in_head = False
        if reply._head_only:
            # The parser cannot be told that no body follows: end here and do not use it again.
            self._ended = True

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        reply = self.reply
        if self._ended or reply is None:
            self._surplus = True
            return
        reply._chunks.append(data)
        reply._buffered += len(data)

    def on_message_complete(self) -> None:
        """The end of a message; that of an interim one does not count."""
        if self._in_head:
            return
        if self._ended:
            self._surplus = True
            return
        self._ended = True
        self._keep_alive = self._parser.should_keep_alive()

    def _untouched(self) -> bool:
        """Whether the next byte is the first of its message."""
        return self._in_head and self._head_left == self._max_head and not self._held

    def _take_whole(self, reply: Reply, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """A plain reply that came in one piece: the parser, which keeps nothing between messages, need not see it."""
        reply.first_byte_at = self._clock()
        reply.status = status
        reply.headers = headers
        reply.body = body
        self._hand_over(reply, clean=True)

    # -- inside a message -------------------------------------------------------------------------------------------

    def _framing(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Whether the message tells its own length."""
        length, self._chunked = framing(headers, old=self._old)
        if length is None:
            return self._chunked
        reply = self.reply
        if reply is not None and reply._whole and not reply._head_only:
            self._limit_body(length)
        return True

    def _limit_body(self, size: int) -> None:
        if size > self._max_body:
            raise Fault("too_large", f"a body of more than {self._max_body} bytes")

    def _skip_interim(self, status: int, framed: bool) -> None:
        """RFC 9110 section 15.2: interim replies carry no content and end with their head."""
        self._interim += 1
        if status < 100 or status == 101 or framed:
            raise Fault("invalid", "an interim reply that is none")
        if self._interim > MAX_INTERIM:
            raise Fault("too_large", f"more than {MAX_INTERIM} interim replies")

    def _receive_head(self, reply: Reply, data: bytes) -> None:
        """Feed bytes while the final head is not whole, at most `max_head` of them."""
        if not reply.first_byte_at:
            reply.first_byte_at = self._clock()
        if self._head_left == self._max_head:
            if self._held:
                data = self._held + data
            if len(data) < START_SIZE:
                self._held = data
                return
            self._old = check_start(data)
        left = self._head_left
        self._head_left = left - len(data)
        if self._head_left >= 0:
            self._feed(data)
            return
        view = memoryview(data)
        self._feed(view[:left])
        if self._in_head:
            raise Fault("too_large", f"a head of more than {self._max_head} bytes")
        if self._ended:
            self._surplus = True
        else:
            self._feed(view[left:])

    def _progress(self, reply: Reply, before: int, size: int) -> None:
        """After a segment that did not end the message: hold the caps, wake the reader."""
        if self._in_head:
            return
        buffered = reply._buffered
        if buffered == before:
            # Chunk headers and trailers: nothing the caller gets, so nothing that may go on for ever.
            self._overhead += size
            if self._overhead > self._max_head:
                self._break_off("too_large", "endless chunk headers or trailers")
            return
        self._overhead = 0
        if buffered or reply._whole:
            self._waiting = False
        if not reply._whole:
            if buffered > HIGH_WATER and not self._paused:
                self._paused = True
                self._transport.pause_reading()
            reply._wake()
        elif buffered > self._max_body:
            self._break_off("too_large", f"a body of more than {self._max_body} bytes")

    # -- the ends of a message --------------------------------------------------------------------------------------

    def _finish(self, data: bytes) -> None:
        """The message is whole: hand it over, and the connection back if its state is beyond doubt."""
        reply = cast(Reply, self.reply)
        chunks = reply._chunks
        if reply._whole:
            size = reply._buffered
            if size > self._max_body:
                self._break_off("too_large", f"a body of more than {self._max_body} bytes")
                return
            reply.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        clean = self._keep_alive and not self._surplus and ends_here(data, chunks, self._chunked)
        if reply._whole:
            reply._chunks = []
        self._headers.clear()
        self._reset()
        self._hand_over(reply, clean=clean)

    def _hand_over(self, reply: Reply, *, clean: bool) -> None:
        """The reply to its caller, and the connection to the pool where it is `clean` and the request has left."""
        self.reply = None
        reply._wire = None
        reply.complete = True
        if clean and not self._transport.get_write_buffer_size():
            self.resume()
            self.idle_since = 0.0
            self._pool.release(self)
        else:
            self.drop()
        reply._wake()

    def _parser_failed(self, error: HttpParserError) -> None:
        """A break of the protocol; the parser wraps what its callbacks raise."""
        if self._ended:
            self._finish(b"")
            return
        cause = error.__context__
        if isinstance(cause, Fault):
            self._break_off(cause.reason, cause.what)
        else:
            self._break_off("invalid", "not a valid HTTP/1.1 message")

    def _break_off(self, reason: str, what: str) -> None:
        message = f"{self.peer} sent a reply that cannot be used: {what}"
        self._fail(UpstreamError("upstream_invalid_response", message, reason=reason, sent=True))

    def _time_out(self, what: str) -> None:
        self._fail(UpstreamError("upstream_timeout", f"{self.peer}: {what}", reason="timeout", sent=True))

    def _lost(self, what: str) -> None:
        """The connection ended. RFC 9110 section 9.2.2, RFC 9112 section 9.3.1: a pooled connection may be closed by
        the peer just as a request is written to it, so that a request which met no reply byte may be sent again.
        """
        reply = self.reply
        if reply is None:
            self.drop()
            return
        early = not reply.first_byte_at
        kind = "upstream_unreachable" if early else "upstream_invalid_response"
        message = f"{self.peer} {what} before {'a' if early else 'the end of its'} reply"
        error = UpstreamError(kind, message, reason="reset", sent=True)
        self._fail(error, replay=early and reply.reused)

    def _fail(self, error: UpstreamError, *, replay: bool = False) -> None:
        """End the call with an error; what has arrived of a stream can still be read."""
        reply = cast(Reply, self.reply)
        self.reply = None
        reply._wire = None
        reply._error = error
        waiter = reply._waiter
        replay = replay and waiter is not None and not waiter.done() and not self.closed
        reply._keeps_slot = replay
        self.drop(keep_slot=replay)
        reply._wake()
