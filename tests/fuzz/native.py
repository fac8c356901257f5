"""The native parsers and their twins: both must say the same of every input, and what they make must be in order."""

import importlib
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

from fastgw import _core
from fastgw._core import fields_py, headers_py, sse_py

NAMES = (b"model", b"stream", b"messages", b"n", "naïve".encode(), b"", b"a\nb", b"\xed\xa0\x80")
FORBIDDEN = frozenset({b"api_base", b"api_key"})
CHANGES: tuple[dict[bytes, bytes | None], ...] = (
    {}, {b"model": b'"m"'}, {b"model": None}, {b"new": b"[1]", b"stream": None}, {b"stream": b"true", b"": b"0"},
)  # fmt: skip
FACTS = tuple(headers_py.Scan.__dataclass_fields__)
ALLOWS = (
    ((b"accept", b"content-type", b"x-a"), (b"x-stainless-",)), ((), (b"x-",)), ((b"x-request-id",), (b"c", b"p")),
)  # fmt: skip


def twins(name: str) -> list[ModuleType]:
    """The pure module, and the native one where it serves."""
    found = [importlib.import_module(f"fastgw._core.{name}_py")]
    return found + ([importlib.import_module(f"fastgw._core.{name}_c")] if _core.NATIVE[name] else [])


def outcome(run: Callable[[], Any], errors: tuple[type[Exception], ...]) -> Any:
    """What a call says: its result, or its error with all that can be read from it."""
    try:
        return run()
    except errors as error:
        return refusal(error)


def refusal(error: Exception) -> tuple[Any, ...]:
    """All that can be read from an error; where a document is broken the twins may see at different bytes."""
    code = getattr(error, "code", None)
    said = str(error).partition(":")[0] if code == "invalid_json" else str(error)
    offset = None if code == "invalid_json" else getattr(error, "offset", None)
    return type(error), said, code, getattr(error, "status", None), offset, getattr(error, "field", None)


def agreed(found: list[Any]) -> Any:
    """What all twins said. Raises AssertionError when it is not the same."""
    assert all(one == found[0] for one in found), f"the twins differ: {found!r}"
    return found[0]


# -- headers -----------------------------------------------------------------------------------------------------------


def lines(data: bytes) -> list[tuple[bytes, bytes]]:
    r"""One header a line; `\n` and `\r` written out stand for the bytes themselves."""
    pairs = (line.partition(b":") for line in data.split(b"\n"))
    return [
        (name.replace(b"\\n", b"\n"), value.replace(b"\\n", b"\n").replace(b"\\r", b"\r")) for name, _, value in pairs
    ]


def headers(data: bytes) -> object:
    """All that is done with a head: checked, what travels on, what comes back."""
    raw = lines(data)
    said = agreed(
        [outcome(lambda twin=twin: _scanned(twin, raw), (headers_py.HeaderError,)) for twin in twins("headers")]
    )
    for names, prefixes in ALLOWS:
        sent = agreed([twin.forward(raw, twin.Allow(names, prefixes)) for twin in twins("headers")])
        back = agreed([twin.respond(raw, twin.Allow(names, prefixes)) for twin in twins("headers")])
        _check_sent(sent, back)
    return said if said[0] is not headers_py.HeaderError else said[1]


def _scanned(twin: ModuleType, raw: list[tuple[bytes, bytes]]) -> tuple[Any, ...]:
    found = twin.scan(raw, 20, 4096)
    return tuple(getattr(found, name) for name in FACTS)


def _check_sent(sent: bytes, back: list[tuple[bytes, bytes]]) -> None:
    """One line is one header, and none of them is one that stays here."""
    written = sent.split(b"\r\n")
    assert written.pop() == b""
    assert not any(byte in line for line in written for byte in (b"\r", b"\n", b"\x00"))
    for name in [line.partition(b":")[0] for line in written] + [name for name, _ in back]:
        assert name == name.lower()
        assert not headers_py.never(name), name


# -- fields ------------------------------------------------------------------------------------------------------------


def fields(data: bytes) -> object:
    """A body checked, read and edited; what is made of it is a document again that says what was asked for."""
    said = agreed([outcome(lambda twin=twin: _read(twin, data), (fields_py.FieldError,)) for twin in twins("fields")])
    if said[0] is fields_py.FieldError:
        return said[1:3]
    assert isinstance(json.loads(data, parse_int=str, parse_float=str), dict)
    return said[1:]


def _read(twin: ModuleType, data: bytes) -> tuple[Any, ...]:
    found = twin.scan(data)
    asked = [
        outcome(lambda read=read, name=name: getattr(found, read)(name), (fields_py.FieldError,))
        for read in ("get", "has", "text", "flag", "number")
        for name in NAMES
    ]
    said = (found.names(), asked, found.forbidden(FORBIDDEN, (b"aws_", b"m")))
    return (said, *(_edited(twin, data, found, changes) for changes in CHANGES))


def _edited(twin: ModuleType, data: bytes, found: Any, changes: dict[bytes, bytes | None]) -> bytes:
    made: bytes = found.replace(changes)
    if len(found.names()) + len(changes) < fields_py.MAX_FIELDS:
        again = twin.scan(made)
        assert all(again.get(name) == value for name, value in changes.items())
        kept = [name for name in found.names() if name not in changes]
        assert [name for name in again.names() if name not in changes] == kept
        assert all(again.get(name) == found.get(name) for name in kept)
    assert made is data or made != data
    return made


def splice(data: bytes) -> object:
    """A new value put into a document: refused, or one value and nothing else."""
    body = b'{"a":1,"model":"m","z":[2]}'
    said = agreed(
        [
            outcome(lambda twin=twin: twin.scan(body).replace({b"model": data}), (ValueError,))
            for twin in twins("fields")
        ]
    )
    if isinstance(said, bytes):
        again = fields_py.scan(said)
        assert (again.names(), again.get(b"a"), again.get(b"z")) == ([b"a", b"model", b"z"], b"1", b"[2]")
        return "spliced"
    return said[1]


# -- event streams -----------------------------------------------------------------------------------------------------


def look(data: bytes) -> object:
    """The flags of a block; a block is never said to be whole that is not."""
    said = agreed([twin.look(data) for twin in twins("sse")])
    assert bool(said & sse_py.WHOLE) == (data.endswith(b"\n\n") and not data.endswith(b"\n\n\n"))
    return min(said, 1 << 12)
