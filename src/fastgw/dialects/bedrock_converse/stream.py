"""Reading a stream of ConverseStream.

The grammar: `messageStart`; for each block `contentBlockStart` (calls only, as a rule), `contentBlockDelta` and
`contentBlockStop`, all with the block's index; `messageStop`; `metadata` with the usage, the stream's end. An exception
may stand in the place of the rest. A stream that closes in good order behind `messageStop` is complete as well: what is
missing is a count.
Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html.
"""

import msgspec
from msgspec import Raw, Struct

from fastgw.dialects.bedrock_converse import errors
from fastgw.dialects.bedrock_converse.reply import joined
from fastgw.dialects.bedrock_converse.wire import NULL, Tier, sequence_of, stop_of, usage_of
from fastgw.dialects.event_stream import FAILED
from fastgw.dialects.hub import (
    Done,
    Event,
    Fail,
    Start,
    Stop,
    TextDelta,
    ThinkDelta,
    ToolDelta,
    ToolStart,
    UsageSeen,
)

_EXCEPTION = "Exception"


class _Use(Struct, rename="camel"):
    tool_use_id: str | None = None
    name: str | None = None
    type: str | None = None


class _Opening(Struct, rename="camel"):
    tool_use: _Use | None = None


class _Begun(Struct, rename="camel"):
    start: _Opening | None = None
    content_block_index: int = 0


class _Fragment(Struct):
    input: str | None = None


class _Thought(Struct, rename="camel"):
    text: str | None = None
    signature: str | None = None
    redacted_content: str | None = None


class _Delta(Struct, rename="camel"):
    text: str | None = None
    tool_use: _Fragment | None = None
    reasoning_content: _Thought | None = None


class _More(Struct, rename="camel"):
    delta: _Delta | None = None
    content_block_index: int = 0


class _Ended(Struct, rename="camel"):
    content_block_index: int = 0


class _Stopped(Struct, rename="camel"):
    stop_reason: str = ""
    additional_model_response_fields: Raw = NULL


class _Metadata(Struct, rename="camel"):
    usage: Raw = NULL
    service_tier: Tier | None = None


_read_begun = msgspec.json.Decoder(_Begun).decode
_read_more = msgspec.json.Decoder(_More).decode
_read_ended = msgspec.json.Decoder(_Ended).decode
_read_stopped = msgspec.json.Decoder(_Stopped).decode
_read_metadata = msgspec.json.Decoder(_Metadata).decode


class ConverseReader:
    """Reads one stream. `_calls`: the hub's number of the call in a block; `_silent`: blocks without arguments yet."""

    __slots__ = ("_calls", "_done", "_redacted", "_signature", "_silent", "_stopped")

    def __init__(self) -> None:
        self._calls: dict[int, int] = {}
        self._silent: set[int] = set()
        self._signature = ""
        self._redacted: list[str] = []
        self._stopped = False
        self._done = False

    def feed(self, name: str, data: bytes) -> list[Event]:
        """See `codec.Reader.feed`. Also raises ValueError for a known event that is not as it should be."""
        if name == "contentBlockDelta":
            return self._more(_read_more(data))
        if name == "contentBlockStart":
            return self._begin(_read_begun(data))
        if name == "contentBlockStop":
            return self._close(_read_ended(data).content_block_index)
        if name == "messageStart":
            return [Start()]
        if name == "messageStop":
            return self._stop(_read_stopped(data))
        if name == "metadata":
            return self._finish(_read_metadata(data))
        if name.endswith(_EXCEPTION) or name == FAILED:
            return [Fail(errors.in_stream(name, data))]
        return []

    def end(self) -> list[Event]:
        """See `codec.Reader.end`."""
        return [Done()] if self._stopped and not self._done else []

    def _begin(self, begun: _Begun) -> list[Event]:
        events = self._sealed()
        use = None if begun.start is None else begun.start.tool_use
        if use is None or use.type is not None:
            return events
        if not use.tool_use_id or not use.name:
            raise ValueError("a call without an id or a name")
        block = begun.content_block_index
        self._calls[block] = number = len(self._calls)
        self._silent.add(block)
        return [*events, ToolStart(number, use.tool_use_id, use.name)]

    def _more(self, more: _More) -> list[Event]:
        delta = more.delta
        if delta is None:
            return []
        if delta.text is not None:
            if not delta.text:
                return []
            said = TextDelta(delta.text)
            return [*self._sealed(), said] if self._signature or self._redacted else [said]
        if delta.reasoning_content is not None:
            return self._think(delta.reasoning_content)
        number = self._calls.get(more.content_block_index)
        if delta.tool_use is None or not delta.tool_use.input or number is None:
            return []
        self._silent.discard(more.content_block_index)
        return [ToolDelta(number, delta.tool_use.input)]

    def _think(self, thought: _Thought) -> list[Event]:
        if thought.redacted_content is not None:
            self._redacted.append(thought.redacted_content)
            return []
        if thought.signature is not None:
            self._signature += thought.signature
            return []
        return [*self._sealed(), ThinkDelta(thought.text)] if thought.text else []

    def _sealed(self) -> list[Event]:
        """The end of a run of reasoning: its signature, or what was redacted."""
        if not self._signature and not self._redacted:
            return []
        signature, self._signature = self._signature, ""
        redacted, self._redacted = self._redacted, []
        events: list[Event] = [ThinkDelta(signature=signature)] if signature else []
        return [*events, ThinkDelta(redacted=joined(redacted))] if redacted else events

    def _close(self, block: int) -> list[Event]:
        events = self._sealed()
        if block in self._silent:
            self._silent.discard(block)
            events.append(ToolDelta(self._calls[block], "{}"))
        return events

    def _stop(self, stopped: _Stopped) -> list[Event]:
        events = self._sealed()
        if self._stopped:
            return events
        self._stopped = True
        native = stopped.stop_reason
        sequence = sequence_of(stopped.additional_model_response_fields)
        return [*events, Stop(stop_of(native, bool(self._calls)), native=native or None, sequence=sequence)]

    def _finish(self, metadata: _Metadata) -> list[Event]:
        usage = usage_of(metadata.usage)
        events: list[Event] = [] if usage is None else [UsageSeen(usage)]
        if not self._stopped:
            return events
        self._done = True
        return [*events, Done()]
