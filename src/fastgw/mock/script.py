"""A reply as a script: the pieces to write, in order, and how it ends. Faults of sending live here."""

from collections.abc import Iterator
from enum import Enum
from itertools import count, islice
from typing import Final, NamedTuple

from fastgw.mock.engine import LAST_CHUNK, Identity, Prepared, chunk, fill
from fastgw.mock.faults import Fault

_PIECE: Final = 64 * 1024
_PIECES_PER_MB: Final = 1024 * 1024 // _PIECE


class Ending(Enum):
    """What happens to the connection after the last piece."""

    KEEP = "keep"  # ready for the next request, unless one side asked to close
    CLOSE = "close"  # FIN
    RESET = "reset"  # RST
    HOLD = "hold"  # nothing more, until the client goes


class Script(NamedTuple):
    """`pieces` are written one by one; the first goes out after `delay` seconds, None is the usual delay."""

    pieces: Iterator[bytes]
    ending: Ending = Ending.KEEP
    delay: float | None = None


def write_script(prepared: Prepared, preface: bytes, identity: Identity, paced: bool) -> Script:
    """The script of one reply; `preface` is status line and date. A stream not `paced` is one piece."""
    fault = prepared.fault
    if paced:
        usual = _stream(prepared, preface, identity, len(prepared.frames), LAST_CHUNK)
    else:
        usual = iter((preface + fill(prepared.wire, identity),))
    if fault is None:
        return Script(usual)
    number = fault.number
    match fault.kind:
        case "slow" | "latency":
            return Script(usual, delay=number / 1000)
        case "timeout":
            return Script(iter(()), Ending.HOLD, 0.0)
        case "cut":
            return Script(iter(((preface + fill(prepared.wire, identity))[:number],)), Ending.RESET)
        case "huge":
            return Script(_huge(prepared, preface, identity, number))
        case "fin" | "stall":
            ending = Ending.CLOSE if fault.kind == "fin" else Ending.HOLD
            return Script(_broken_off(prepared, preface, identity, fault), ending)
        case "end" if prepared.frames:
            return Script(_stream(prepared, preface, identity, number, LAST_CHUNK))
        case "stream-error" if prepared.frames:
            last = chunk(prepared.answer.error_event) + LAST_CHUNK
            return Script(_stream(prepared, preface, identity, number, last), Ending.CLOSE)
    return Script(usual)


def _stream(prepared: Prepared, preface: bytes, identity: Identity, events: int, last: bytes) -> Iterator[bytes]:
    """Head with the first event, then one event a piece; a whole reply is one piece."""
    if not prepared.frames:
        yield preface + fill(prepared.wire, identity)
        return
    frames = prepared.frames[:events]
    head = preface + prepared.head
    if not frames:
        yield fill(head + last, identity)
    for index, frame in enumerate(frames):
        piece = frame if index else head + frame
        yield fill(piece + last if index == len(frames) - 1 else piece, identity)


def _broken_off(prepared: Prepared, preface: bytes, identity: Identity, fault: Fault) -> Iterator[bytes]:
    """So many events of a stream, or bytes of a whole reply (of its body for `stall`), and no more."""
    if prepared.frames:
        return _stream(prepared, preface, identity, fault.number, b"")
    whole = preface + fill(prepared.wire, identity)
    size = fault.number + (len(preface) + len(prepared.head) if fault.kind == "stall" else 0)
    return iter((whole[:size],))


def _huge(prepared: Prepared, preface: bytes, identity: Identity, megabytes: int) -> Iterator[bytes]:
    """Padding before the reply's own bytes: spaces, which JSON allows, or repeated events. 0 MB never ends."""
    rounds = megabytes * _PIECES_PER_MB
    if prepared.frames:
        again = min(prepared.answer.again, len(prepared.frames) - 1)
        yield preface + fill(prepared.head + b"".join(prepared.frames[:again]), identity)
        # Counted without the framing, so that the body is no smaller than was asked for.
        padding = fill(prepared.frames[again], identity) * -(-_PIECE // len(prepared.answer.events[again]))
    else:
        yield preface + fill(_chunked_head(prepared), identity)
        padding = chunk(b" " * _PIECE)
    for _ in islice(count(), rounds or None):
        yield padding
    if prepared.frames:
        yield fill(b"".join(prepared.frames[again:]), identity) + LAST_CHUNK
    else:
        yield chunk(fill(prepared.answer.body, identity)) + LAST_CHUNK


def _chunked_head(prepared: Prepared) -> bytes:
    return prepared.answer.headers + b"transfer-encoding: chunked\r\n\r\n"
