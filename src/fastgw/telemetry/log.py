r"""The log: one JSON object a line on standard error, written by a thread of its own.

A caller only encodes a line and puts it in a bounded queue; a reader that is slow or gone costs lines (counted), never
time. Lines hold no bodies and no secrets. Control characters, escape sequences and line separators of every kind come
out as ``\uXXXX``, so that no caller's text can forge a line or steer a terminal.
"""

import atexit
import os
import re
import select
import threading
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import orjson
from msgspec import Struct

from fastgw.secret import MASK, Secret
from fastgw.telemetry.record import Record

Level = Literal["debug", "info", "warning", "error"]
LEVELS: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}

MAX_LINE = 8 * 1024
"""Bytes; a longer line is replaced by one that says so, which bounds the queue's memory too."""

_CAPACITY = 8192
_BATCH_BYTES = 256 * 1024
_GATHER_SECONDS = 0.02
_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS
# DEL and C1 controls (some terminals obey U+009B as ESC [), the Unicode line ends, and marks that reorder text.
_UNSAFE = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]")


class Log:
    """A log of JSON lines.

    Args:
        level: lines below it are not made.
        fd: where the lines go.
        capacity: lines that may wait; more are dropped and counted.
    """

    def __init__(self, level: Level = "info", fd: int = 2, capacity: int = _CAPACITY) -> None:
        self._refused = self._unwritten = 0
        self._fd = fd
        self._capacity = capacity
        self._threshold = LEVELS[level]
        self._queue: deque[bytes | threading.Event] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def dropped(self) -> int:
        """Lines lost because the queue was full or the descriptor refused them."""
        return self._refused + self._unwritten

    def set_level(self, level: str) -> None:
        """Change the level at once.

        Raises:
            ValueError: an unknown level; the message lists the known ones.
        """
        if level not in LEVELS:
            raise ValueError(f"unknown log level {level[:40]!r}: use one of {', '.join(LEVELS)}")
        self._threshold = LEVELS[level]

    @property
    def level(self) -> str:
        """The level in force."""
        return next(name for name, rank in LEVELS.items() if rank == self._threshold)

    def enabled(self, level: Level) -> bool:
        """Whether a line of this level would be written; ask before computing costly fields."""
        return LEVELS[level] >= self._threshold

    def debug(self, event: str, **fields: Any) -> None:
        """For someone looking for a fault in the gateway itself."""
        self._write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """What happened as it should."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """What was mended or worked around, and may need a person."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """What failed and needs a person."""
        self._write("error", event, fields)

    def access(self, record: Record) -> None:
        """One line for one call, without its body: event ``call``, level info."""
        if self._threshold <= LEVELS["info"]:
            self._put(encode_call(record))

    def _write(self, level: Level, event: str, fields: Mapping[str, Any]) -> None:
        if LEVELS[level] >= self._threshold:
            self._put(encode_line(level, event, fields))

    def _put(self, line: bytes) -> None:
        if len(self._queue) >= self._capacity or self._closing:
            self._refused += 1
            return
        self._queue.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def _run(self) -> None:
        while not self._closing or self._queue:
            self._wake.wait()
            # A short pause makes one write of what a busy gateway logs meanwhile.
            if not self._closing:
                time.sleep(_GATHER_SECONDS)
            self._wake.clear()
            # Only what is there now: else a busy gateway's lines would be written one by one as they come.
            waiting = len(self._queue)
            while waiting > 0:
                waiting -= self._write_batch()
            if self._closing:
                self._wake.set()

    def _write_batch(self) -> int:
        """Write up to 256 KiB of lines, or up to the next mark that ``flush`` left; how much left the queue."""
        lines: list[bytes] = []
        size = 0
        mark: threading.Event | None = None
        while self._queue and size < _BATCH_BYTES and mark is None:
            item = self._queue.popleft()
            if isinstance(item, threading.Event):
                mark = item
            else:
                lines.append(item)
                size += len(item)
        try:
            _write_all(self._fd, b"".join(lines))
        except OSError:
            self._unwritten += len(lines)
        if mark is None:
            return len(lines)
        mark.set()
        return len(lines) + 1

    def flush(self, timeout: float = 1.0) -> bool:
        """Wait until what was logged is written; False when that took longer than ``timeout`` seconds."""
        mark = threading.Event()
        self._queue.append(mark)
        self._wake.set()
        return mark.wait(timeout)

    def close(self, timeout: float = 1.0) -> None:
        """Write what waits, for at most ``timeout`` seconds; later lines are dropped and counted."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout)
        atexit.unregister(self.close)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            # Standard error may have been made non-blocking by whoever shares it.
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()


class _CallLine(Struct):
    """An access line: names, outcome, sizes and timings; never a secret, never a body."""

    ts: str
    level: str
    event: str
    id: str
    key: str | None
    model: str | None
    target: str | None
    status: int
    error: str | None
    stream: bool
    attempts: int
    input_tokens: int
    output_tokens: int
    first_token_ms: float | None
    total_ms: float
    overhead_us: int
    cache: str
    label: str | None


class _Stamp:
    """Now as RFC 3339 with microseconds; the part that changes once a second is kept."""

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def now(self) -> str:
        second, micros = divmod(time.time_ns() // 1000, 1_000_000)
        if second != self._second:
            self._prefix = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}."
            self._second = second
        return f"{self._prefix}{micros:06d}Z"


_stamp = _Stamp()
_encode_struct = msgspec.json.Encoder().encode


def encode_call(record: Record) -> bytes:
    """The access line of a call, with its newline."""
    line = _encode_struct(
        _CallLine(
            _stamp.now(),
            "info",
            "call",
            record.id,
            record.key,
            record.model,
            record.target,
            record.status,
            record.error,
            record.stream,
            len(record.attempts),
            record.input_tokens,
            record.output_tokens,
            record.first_token_ms and int(record.first_token_ms * 1000) / 1000,
            int(record.total_ms * 1000) / 1000,
            record.overhead_us,
            record.cache,
            record.label,
        )
    )
    if not line.isascii() or b"\x7f" in line:
        line = _UNSAFE.sub(_escape, line)
    return line + b"\n"


def encode_line(level: str, event: str, fields: Mapping[str, Any]) -> bytes:
    """One line with its newline. Never raises: what JSON cannot say is said in some other way."""
    head = {"ts": datetime.now(UTC), "level": level, "event": event}
    # The head a second time: no field may pass for the line's own time or level.
    return _encode({**head, **fields, **head})


def _encode(shown: Mapping[str, Any]) -> bytes:
    try:
        line = orjson.dumps(shown, default=_plain, option=_OPTIONS)
    except TypeError:
        # A lone surrogate, an integer beyond 64 bits, a cycle.
        safe = {_ascii(key): _ascii(value) for key, value in shown.items()}
        line = orjson.dumps({**safe, "ts": shown["ts"]}, option=_OPTIONS)
    if len(line) > MAX_LINE:
        head = {"ts": shown["ts"], "level": shown["level"], "event": _ascii(shown["event"])[:200]}
        line = orjson.dumps({**head, "truncated_bytes": len(line)}, option=_OPTIONS)
    if not line.isascii() or b"\x7f" in line:
        line = _UNSAFE.sub(_escape, line)
    return line + b"\n"


def _escape(match: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(match[0].decode())


def _plain(value: Any) -> Any:
    if isinstance(value, Secret):
        return MASK
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, set | frozenset):
        return list(value)
    # Not repr(): that of an unknown object may show what it holds.
    return f"<{type(value).__name__}>"


def _ascii(value: Any) -> str:
    if isinstance(value, int):
        return f"<int of {value.bit_length()} bits>" if value.bit_length() > 64 else str(value)
    if isinstance(value, str):
        return value.encode("ascii", "backslashreplace").decode()
    return str(value) if isinstance(value, float | None) else f"<{type(value).__name__}>"
