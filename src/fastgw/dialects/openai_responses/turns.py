"""Reading the items of a Responses request into turns.

What the model said in a row, reasoning and calls with it, is one turn; what tools answered in a row is another.
"""

from collections.abc import Callable

import msgspec
from msgspec import Raw

from fastgw.dialects.hub import (
    Audio,
    Document,
    Image,
    Invalid,
    Opaque,
    Part,
    Refusal,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
)
from fastgw.dialects.openai_responses.items import (
    NAME,
    NULL,
    UNREADABLE,
    Content,
    Item,
    Kind,
    RawOutput,
    call_signature,
    citations,
    raw_part,
    read_item,
    read_kind,
    reasoning_text,
    unwrap,
)

ROLES = frozenset({"user", "assistant", "system", "developer"})
MODELLED = frozenset({"message", "reasoning", "function_call", "function_call_output"})

_read_input = msgspec.json.Decoder(str | list[Item]).decode
_read_raws = msgspec.json.Decoder(list[Raw]).decode
_read_raw_output = msgspec.json.Decoder(RawOutput).decode


def invalid(error: Exception, place: str) -> Invalid:
    """The decoder ends its messages with the path, as in "Expected `str`, got `int` - at `$.model`"."""
    reason, _, path = str(error).partition(" - at `$")
    return Invalid((place + path.rstrip("`")).lstrip(".") or "body", reason)


class _Turns:
    """Gathers items."""

    def __init__(self, said: Raw) -> None:
        self._input = said
        self._raws: list[Raw] | None = None
        self.turns: list[Turn] = []
        self.names: dict[str, str] = {}
        self.orphan: tuple[int, str] | None = None
        self.referring = False
        self.signature: str | None = None
        self._results = False

    def raw(self, index: int) -> Raw:
        """The item `index` as it came."""
        if self._raws is None:
            self._raws = _read_raws(self._input)
        return self._raws[index]

    def said(self, role: Role, parts: list[Part]) -> None:
        """A message, or an item of the model."""
        if role == "assistant" and self.turns and self.turns[-1].role == "assistant":
            self.turns[-1].parts.extend(parts)
        else:
            self.turns.append(Turn(role, parts))
        self._results = False

    def answered(self, result: ToolResult) -> None:
        """A tool's answer."""
        if self._results:
            self.turns[-1].parts.append(result)
        else:
            self.turns.append(Turn("user", [result]))
        self._results = True


def read_turns(instructions: str | None, said: Raw, *, alone: bool) -> list[Turn]:
    """The turns of a request; `alone`: it names no state from which more of them come."""
    gathered = _Turns(said)
    if instructions:
        gathered.said("system", [Text(instructions)])
    try:
        items = None if said == NULL else _read_input(said)
    except UNREADABLE as error:
        _take_slowly(gathered, said, error)
        items = None
    if isinstance(items, str):
        gathered.said("user", [Text(items)])
    elif items is not None:
        for index, item in enumerate(items):
            _take(gathered, item, item.type or _unsaid_kind(item), index)
    if alone and gathered.orphan is not None and not gathered.referring:
        index, call_id = gathered.orphan
        raise Invalid(f"input[{index}].call_id", f"no function_call before it has the id {call_id!r}")
    if alone and (said == NULL or not gathered.turns):
        raise Invalid("input", "is missing")
    return gathered.turns


def _take_slowly(gathered: _Turns, said: Raw, error: Exception) -> None:
    """Item by item: some are of shapes unknown here."""
    if bytes(said)[:1] != b"[":
        raise Invalid("input", "must be a string or a list of items") from error
    for index, raw in enumerate(_read_raws(said)):
        try:
            item = read_item(raw)
            kind = item.type or _unsaid_kind(item)
        except UNREADABLE as odd:
            item, kind = Item(), _kind(raw, odd, f"input[{index}]")
        _take(gathered, item, kind, index)


def _unsaid_kind(item: Item) -> str:
    return "message" if item.role else "item_reference" if item.id else ""


def _take(gathered: _Turns, item: Item, kind: str, index: int) -> None:
    take = _TAKERS.get(kind)
    if take is not None:
        take(gathered, item, index)
    elif not kind:
        raise Invalid(f"input[{index}].type", "is missing")
    else:
        gathered.referring = gathered.referring or kind == "item_reference"
        gathered.said("assistant", [Opaque(NAME, kind, gathered.raw(index))])


def _kind(raw: Raw, error: Exception, place: str) -> str:
    """The kind of an item whose fields have other shapes than those known here."""
    try:
        kind: Kind = read_kind(raw)
    except UNREADABLE:
        raise invalid(error, place) from None
    if kind.type in MODELLED or not kind.type:
        raise invalid(error, place)
    return kind.type


def _take_message(gathered: _Turns, item: Item, index: int) -> None:
    role = item.role
    if role not in ROLES:
        raise Invalid(f"input[{index}].role", "must be user, assistant, system or developer")
    if item.content is None:
        raise Invalid(f"input[{index}].content", "is missing")
    if isinstance(item.content, str):
        parts: list[Part] = [Text(item.content)]
    else:
        parts = [
            _part(part, place) or Opaque(NAME, part.type, raw_part(gathered.raw(index), place))
            if part.type
            else _untyped(index, place)
            for place, part in enumerate(item.content)
        ]
    gathered.said(role, parts)  # type: ignore[arg-type]


def _untyped(index: int, place: int) -> Part:
    raise Invalid(f"input[{index}].content[{place}].type", "is missing")


def _take_reasoning(gathered: _Turns, item: Item, index: int) -> None:
    signature = call_signature(item)
    if signature is not None:
        gathered.signature = signature
        return
    thinking: Thinking = unwrap(reasoning_text(item), item.id, item.encrypted_content)
    gathered.said("assistant", [thinking])


def _take_call(gathered: _Turns, item: Item, index: int) -> None:
    if not item.call_id:
        raise Invalid(f"input[{index}].call_id", "is missing")
    if not item.name:
        raise Invalid(f"input[{index}].name", "is missing")
    if item.namespace:
        gathered.said("assistant", [Opaque(NAME, "function_call", gathered.raw(index))])
    else:
        call = ToolCall(item.call_id, item.name, item.arguments or "", signature=gathered.signature)
        gathered.said("assistant", [call])
    gathered.names[item.call_id] = item.name
    gathered.signature = None


def _take_result(gathered: _Turns, item: Item, index: int) -> None:
    if not item.call_id:
        raise Invalid(f"input[{index}].call_id", "is missing")
    if item.output is None:
        raise Invalid(f"input[{index}].output", "is missing")
    name = gathered.names.get(item.call_id)
    if name is None:
        gathered.orphan = gathered.orphan or (index, item.call_id)
    if isinstance(item.output, str):
        parts: list[Part] = [Text(item.output)]
    else:
        parts = [
            _part(part, at) or Opaque(NAME, part.type, _read_raw_output(gathered.raw(index)).output[at])
            for at, part in enumerate(item.output)
        ]
    gathered.answered(ToolResult(item.call_id, parts, item.status == "incomplete", name or item.name))


_TAKERS: dict[str, Callable[[_Turns, Item, int], None]] = {
    "message": _take_message,
    "reasoning": _take_reasoning,
    "function_call": _take_call,
    "function_call_output": _take_result,
}


# --- content parts


def _part(part: Content, index: int) -> Part | None:
    """The part in the hub's terms; None for what only this dialect has."""
    kind = part.type
    if kind in ("input_text", "output_text"):
        return Text(part.text or "", cache=_cache(part), citations=citations(part.annotations))
    if kind == "refusal":
        return Refusal(part.refusal or "")
    if kind == "input_image" and part.image_url:
        return _image(part, part.image_url)
    if kind == "input_file" and part.detail in (None, "auto"):
        return _document(part)
    if kind == "input_audio" and part.input_audio is not None:
        return Audio(part.input_audio.data, part.input_audio.format)
    return None


def _cache(part: Content) -> Raw | None:
    """A breakpoint as Anthropic's `cache_control`; the long lifetime as its long one."""
    if part.prompt_cache_breakpoint == NULL:
        return None
    long = b'"12h"' in bytes(part.prompt_cache_breakpoint)
    return Raw(b'{"type":"ephemeral","ttl":"1h"}' if long else b'{"type":"ephemeral"}')


def _data_url(url: str) -> tuple[str, str] | None:
    """(media type, base64 data) of a base64 data URL (RFC 2397); None for any other URL."""
    if not url.startswith("data:"):
        return None
    head, _, data = url[5:].partition(",")
    media_type, *marks = head.split(";")
    return (media_type, data) if "base64" in marks else None


def _image(part: Content, url: str) -> Image:
    data = _data_url(url)
    if data is None:
        return Image(url=url, detail=part.detail, cache=_cache(part))
    return Image(data[0], data[1], detail=part.detail, cache=_cache(part))


def _document(part: Content) -> Document:
    data = _data_url(part.file_data or "")
    return Document(
        data[0] if data and data[0] else "application/pdf",
        data[1] if data else part.file_data,
        part.file_url,
        part.file_id,
        part.filename,
        _cache(part),
    )
