"""The last resort: changes of a request that no data can say. Each is of 20 lines at most, and a test shows why."""

import msgspec
from msgspec import Raw

from fastgw._core import fields
from fastgw.providers.quirks import Changes

_read_messages = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_encode = msgspec.json.encode


def system_only(body: fields.Fields) -> tuple[Changes, list[str]]:
    """`developer` goes as `system`: servers that check roles refuse the newer name."""
    raw = body.get(b"messages")
    if raw is None or b"developer" not in raw:
        return {}, []
    messages = _messages(raw)
    news = [one for one in messages if bytes(one.get("role", b"")) == b'"developer"']
    for one in news:
        one["role"] = Raw(b'"system"')
    return ({b"messages": _encode(messages)} if news else {}), []


def no_names(body: fields.Fields) -> tuple[Changes, list[str]]:
    """Messages go without `name`, but for those of tools."""
    raw = body.get(b"messages")
    if raw is None or b'"name"' not in raw:
        return {}, []
    messages = _messages(raw)
    named = [one for one in messages if "name" in one and bytes(one.get("role", b"")) != b'"tool"']
    for one in named:
        del one["name"]
    return ({b"messages": _encode(messages)}, ["messages.name"]) if named else ({}, [])


def _messages(raw: bytes) -> list[dict[str, Raw]]:
    """The messages; none where they are not what the dialect says, which is for the vendor to refuse."""
    try:
        return _read_messages(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
