"""Writing a stream of Anthropic's Messages API, by its grammar: see `anthropic_messages.stream`.

Blocks are never interleaved, while another dialect may tell several calls at once, or text amid one: one call is open,
and what comes after it is held until its arguments are complete, or until the end. A signature ends a thinking block;
one without gets an empty one, as in a whole reply. Arguments that do not begin as an object are held back and wrapped
as `anthropic_messages.parts` tells.
Usage stands in `message_delta`, all of it; in `message_start` what is known before the first content. A text after a
citation begins a block of its own; a citation with no text before it is left out. Only the first choice is written.
"""

from collections import deque
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fastgw.call import Usage
from fastgw.dialects.anthropic_messages import errors
from fastgw.dialects.anthropic_messages.parts import (
    CALL_SIGNATURE,
    ENVELOPE,
    NAME,
    RAW_ARGUMENTS,
    TEXT_SIGNATURE,
    RedactedOut,
    is_object,
)
from fastgw.dialects.anthropic_messages.reply import TIERS, UsageOut, reason_of, usage_out
from fastgw.dialects.gemini.wire import one_line
from fastgw.dialects.hub import (
    CitationDelta,
    Event,
    Fail,
    OpaqueDelta,
    Problem,
    RefusalDelta,
    Start,
    Stop,
    TextDelta,
    ThinkDelta,
    ToolDelta,
    ToolStart,
    UsageSeen,
    merge_usage,
)
from fastgw.errors import GatewayError

MAX_ARGUMENTS = 8 * 1024 * 1024
MAX_HELD = 8 * 1024 * 1024
MAX_CALLS = 1024
MAX_CHECKED = 64 * 1024 * 1024
"""Most bytes that are parsed to learn whether a call's arguments are complete; beyond, what is held waits for the end.
"""
HELD_COST = 64

_encode = msgspec.json.encode
_read_raws = msgspec.json.Decoder(dict[str, Raw]).decode
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":'
_START = b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":'
_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
_END = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


class _MessageOut(Struct, tag_field="type", tag="message"):
    id: str
    role: str
    model: str
    content: list[Raw]
    stop_reason: None
    stop_sequence: None
    usage: UsageOut


class _StartOut(Struct, tag_field="type", tag="message_start"):
    message: _MessageOut


class _EndedOut(Struct):
    stop_reason: str
    stop_sequence: str | None
    stop_details: Raw | UnsetType = UNSET
    container: Raw | UnsetType = UNSET


class _DeltaOut(Struct, tag_field="type", tag="message_delta"):
    delta: _EndedOut
    usage: UsageOut


class _UseOut(Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Raw]


class _Call:
    """A call that is open or held. `said`: its arguments so far; `plain`: they begin as an object, and were sent;
    `whole`: they are known to be complete.
    """

    __slots__ = ("plain", "said", "size", "start", "whole")

    def __init__(self, start: ToolStart) -> None:
        self.start = start
        self.said: list[str] = []
        self.size = 0
        self.plain = False
        self.whole = False

    def add(self, fragment: str) -> None:
        """More of the arguments. Raises ValueError for arguments without end."""
        self.size += len(fragment)
        if self.size > MAX_ARGUMENTS:
            raise ValueError("the arguments of a call are larger than 8 MiB")
        self.said.append(fragment)
        self.whole = False

    def text(self) -> str:
        """The arguments so far."""
        return "".join(self.said)


class MessagesWriter:
    """Writes one stream to a client. `_kind`: that of the open block, "" for none; `_cited`: it ends in a citation."""

    __slots__ = (
        "_begun", "_call", "_called", "_checked", "_cited", "_envelope", "_head", "_held", "_index", "_kind", "_later",
        "_model", "_over", "_start", "_stop", "_usage", "_weight",
    )  # fmt: skip

    def __init__(self, model: str) -> None:
        self._model = model
        self._start = Start()
        self._begun = False
        self._over = False
        self._index = 0
        self._kind = ""
        self._cited = False
        self._head = b""
        self._call: _Call | None = None
        self._held: deque[_Call | Event] = deque()
        self._later: dict[int, _Call] = {}
        self._weight = 0
        self._checked = 0
        self._called = False
        self._stop: Stop | None = None
        self._usage: Usage | None = None
        self._envelope: dict[str, Raw] = {}

    def feed(self, event: Event) -> bytes:
        """See `codec.Writer.feed`. Also raises ValueError for more than can be held, and arguments of a closed call."""
        if self._over:
            return b""
        if type(event) is TextDelta and self._kind == "text" and not (self._cited or event.signature or event.choice):
            return self._head + b'"text_delta","text":' + _encode(event.text) + b"}}\n\n" if event.text else b""
        write = _WRITERS.get(type(event))
        if write is None or getattr(event, "choice", 0) != 0:
            return b""
        if self._call is not None and type(event) in _BLOCKS and self._hold(event):
            return b""
        return write(self, event)  # type: ignore[no-any-return]

    def end(self) -> bytes:
        """Close what is open, then `message_delta` with reason and usage, then `message_stop`."""
        if self._over:
            return b""
        out = self._begin() + self._drain(everything=True) + self._close()
        self._over = True
        stop = self._stop or Stop("stop")
        ended = _EndedOut(reason_of(stop.reason, stop.native, stop.sequence, self._called), stop.sequence)
        for kind, raw in self._envelope.items():
            setattr(ended, kind, raw)
        delta = _encode(_DeltaOut(ended, usage_out(self._usage)))
        return out + b"event: message_delta\ndata: " + delta + b"\n\n" + _END

    def fail(self, error: GatewayError | Problem, call_id: str) -> bytes:
        """`event: error`; nothing follows it."""
        if self._over:
            return b""
        self._over = True
        return errors.event(error, call_id)

    def _begin(self) -> bytes:
        """`message_start`, once: as late as can be, for the usage that is known by then."""
        if self._begun:
            return b""
        self._begun = True
        start = self._start
        usage = usage_out(self._usage)
        usage.service_tier = TIERS.get(start.service_tier or "", UNSET)
        message = _MessageOut(start.id, "assistant", start.model or self._model, [], None, None, usage)
        return b"event: message_start\ndata: " + _encode(_StartOut(message)) + b"\n\n"

    def _open(self, kind: str, block: bytes) -> bytes:
        """Begin a block, behind the end of the one before it."""
        out = self._begin() + self._close()
        self._kind = kind
        self._cited = False
        self._head = _DELTA % self._index + b'{"type":'
        return out + _START % self._index + block + b"}\n\n"

    def _close(self) -> bytes:
        """End the open block, a call's with all of its arguments."""
        kind, self._kind = self._kind, ""
        if not kind:
            return b""
        out = b""
        if kind == "thinking":
            out = self._head + b'"signature_delta","signature":""}}\n\n'
        elif kind == "tool_use" and self._call is not None:
            call, self._call = self._call, None
            text = call.text()
            if not call.plain and text.strip():
                out = self._fragment(text if is_object(text.encode()) else _encode({RAW_ARGUMENTS: text}).decode())
        out += _STOP % self._index
        self._index += 1
        return out

    # --- text and thinking

    def _said(self, event: TextDelta) -> bytes:
        return self._text(event.text, event.signature)

    def _text(self, text: str, signature: str | None = None) -> bytes:
        out = b""
        if text:
            if self._kind != "text" or self._cited:
                out = self._open("text", b'{"type":"text","text":""}')
            out += self._head + b'"text_delta","text":' + _encode(text) + b"}}\n\n"
        if signature is not None:
            if not out and self._kind != "text":
                out = self._open("text", b'{"type":"text","text":""}')
            out += self._open("redacted_thinking", _encode(RedactedOut(TEXT_SIGNATURE + signature))) + self._close()
        return out

    def _refusal(self, event: RefusalDelta) -> bytes:
        return self._text(event.text)

    def _cite(self, event: CitationDelta) -> bytes:
        if self._kind != "text":
            return b""
        self._cited = True
        return self._head + b'"citations_delta","citation":' + one_line(event.raw) + b"}}\n\n"

    def _think(self, event: ThinkDelta) -> bytes:
        if event.redacted is not None:
            return self._open("redacted_thinking", _encode(RedactedOut(event.redacted))) + self._close()
        if not event.text and event.signature is None:
            return b""
        out = b""
        if self._kind != "thinking":
            out = self._open("thinking", b'{"type":"thinking","thinking":"","signature":""}')
        if event.text:
            out += self._head + b'"thinking_delta","thinking":' + _encode(event.text) + b"}}\n\n"
        if event.signature is not None:
            out += self._head + b'"signature_delta","signature":' + _encode(event.signature) + b"}}\n\n"
            self._kind = "signed"
            out += self._close()
        return out

    # --- calls

    def _tool_start(self, event: ToolStart) -> bytes:
        return self._open_call(_Call(event))

    def _hold(self, event: Event) -> bool:
        """Keep a block's event for later while the open call goes on; whether it was kept."""
        if type(event) is OpaqueDelta and (event.dialect != NAME or event.kind in ENVELOPE):
            return False
        call = self._call
        if call is None or (not self._held and self._complete(call)):
            return False
        self._weigh(HELD_COST + _size(event))
        if type(event) is not ToolStart:
            self._held.append(event)
            return True
        if len(self._later) >= MAX_CALLS:
            raise ValueError(f"more than {MAX_CALLS} calls wait for another's end")
        self._later[event.index] = later = _Call(event)
        self._held.append(later)
        return True

    def _weigh(self, size: int) -> None:
        self._weight += size
        if self._weight > MAX_HELD:
            raise ValueError("more than 8 MiB wait for the end of a call")

    def _complete(self, call: _Call) -> bool:
        if call.whole or not call.size or self._checked > MAX_CHECKED:
            return call.whole
        self._checked += call.size
        text = call.text()
        call.said = [text]
        call.whole = text.rstrip().endswith("}") and is_object(text.encode())
        return call.whole

    def _drain(self, *, everything: bool = False) -> bytes:
        """What is held, up to the next call that is not complete; `everything`: beyond it too."""
        out = []
        while self._held:
            if not everything and self._call is not None and not self._complete(self._call):
                break
            one = self._held.popleft()
            if isinstance(one, _Call):
                self._later.pop(one.start.index, None)
                out.append(self._open_call(one))
            else:
                out.append(_WRITERS[type(one)](self, one))
        if not self._held:
            self._weight = 0
        return b"".join(out)

    def _open_call(self, call: _Call) -> bytes:
        self._called = True
        start, out = call.start, b""
        if start.signature is not None:
            out = self._open("redacted_thinking", _encode(RedactedOut(CALL_SIGNATURE + start.signature)))
        out += self._open("tool_use", _encode(_UseOut(start.id, start.name, {})))
        self._call = call
        return out + self._speak(call.text()) if call.said else out

    def _tool_delta(self, event: ToolDelta) -> bytes:
        if not event.fragment:
            return b""
        call = self._call
        if call is None or call.start.index != event.index:
            one = self._later.get(event.index)
            if one is not None:
                self._weigh(len(event.fragment))
                one.add(event.fragment)
            elif event.fragment.strip():
                # Its block is closed: without these the call would be another one than the model made.
                raise ValueError("arguments of a call go on behind its end")
            return b""
        call.add(event.fragment)
        out = self._speak(event.fragment)
        if self._held and event.fragment.rstrip().endswith("}"):
            out += self._drain()
        return out

    def _speak(self, fragment: str) -> bytes:
        """Send more of the open call's arguments once it is clear that they are an object's."""
        call = self._call
        if call is None:
            return b""
        if not call.plain:
            fragment = call.text()
            if not fragment.lstrip().startswith("{"):
                return b""
            call.plain = True
        return self._fragment(fragment)

    def _fragment(self, text: str) -> bytes:
        return self._head + b'"input_json_delta","partial_json":' + _encode(text) + b"}}\n\n"

    # --- the rest

    def _started(self, event: Start) -> bytes:
        if not self._begun:
            self._start = event
        return b""

    def _opaque(self, event: OpaqueDelta) -> bytes:
        """A frame of a block of Anthropic's own tools, with its place in this stream."""
        if event.dialect != NAME:
            return b""
        if event.kind in ENVELOPE:
            self._envelope[event.kind] = Raw(one_line(event.raw))
            return b""
        out = b""
        if event.kind == "content_block_start":
            out = self._begin() + self._close()
        frame = _read_raws(one_line(event.raw)) | {"index": Raw(b"%d" % self._index)}
        if event.kind == "content_block_stop":
            self._index += 1
        return out + b"event: " + event.kind.encode() + b"\ndata: " + _encode(frame) + b"\n\n"

    def _stopped(self, event: Stop) -> bytes:
        if event.reason == "error":
            said = f"the model's answer ended in an error ({event.native or 'no reason given'})"
            return self.fail(Problem("server", 502, said), "")
        self._stop = self._stop or event
        return self._begin() + self._drain(everything=True) + self._close()

    def _usage_seen(self, event: UsageSeen) -> bytes:
        self._usage = merge_usage(self._usage, event.usage)
        return b""

    def _fail(self, event: Fail) -> bytes:
        return self.fail(event.problem, "")


def _size(event: Event) -> int:
    """About as many bytes as an event holds."""
    return sum(len(value) for value in msgspec.structs.astuple(event) if isinstance(value, str | Raw))


_BLOCKS = frozenset({TextDelta, RefusalDelta, ThinkDelta, ToolStart, CitationDelta, OpaqueDelta})
_WRITERS: dict[type, Any] = {
    Start: MessagesWriter._started,
    TextDelta: MessagesWriter._said,
    RefusalDelta: MessagesWriter._refusal,
    ThinkDelta: MessagesWriter._think,
    ToolStart: MessagesWriter._tool_start,
    ToolDelta: MessagesWriter._tool_delta,
    CitationDelta: MessagesWriter._cite,
    OpaqueDelta: MessagesWriter._opaque,
    Stop: MessagesWriter._stopped,
    UsageSeen: MessagesWriter._usage_seen,
    Fail: MessagesWriter._fail,
}
