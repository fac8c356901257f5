r"""The top-level fields of a JSON object, read and edited in place, after a strict check of the whole document.

The pure twin of ``fields_c``: its specification, type stub and test oracle.

A body is never turned into a dict and back: a pass-through must not change a byte it was not asked to change. So a scan
keeps where each field's value lies, and ``replace`` splices. The check is strict (RFC 8259, plus bounds), because what
two parsers read differently is an attack: field names are compared decoded (``"mod\u0065l"`` is ``model``), a field
given twice is refused, and so are NaN, a byte order mark, bytes that are not UTF-8 and anything after the object.
Messages hold offsets and field names, never values.

Names are bytes, the decoded name in UTF-8. A lone surrogate escape, which JSON allows and UTF-8 does not, is written
as its three bytes (what Python calls ``surrogatepass``).
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

__all__ = ["MAX_DEPTH", "MAX_FIELDS", "FieldError", "Fields", "quote", "scan"]

MAX_DEPTH: Final = 512
MAX_FIELDS: Final = 4096
SHOWN_MAX: Final = 64

_BLANK: Final = " \t\n\r"
_SPACE = re.compile(r"[ \t\n\r]*")
_WHOLE = re.compile(rb"0|[1-9][0-9]{0,17}")
_COUNT = re.compile(rb"[0-9]{1,18}")
_PLAIN = re.compile(rb"[ !#-\[\]-~]*")


class FieldError(ValueError):
    """A body this gateway refuses: ``code`` of the error catalogue, ``message``, byte ``offset``, ``field`` if one."""

    def __init__(self, code: str, message: str, offset: int = 0, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.offset = offset
        self.field = field


def invalid(problem: str, offset: int) -> FieldError:
    """The refusal of a document that breaks the grammar or a bound at byte ``offset``."""
    return FieldError("invalid_json", f"the body is not a valid JSON object: {problem} at byte {offset}", offset)


def duplicate(name: bytes, offset: int) -> FieldError:
    """The refusal of a field that is there twice: two parsers may take different ones."""
    shown = show(name)
    return FieldError("duplicate_field", f"field {shown!r} is there more than once; send it once", offset, shown)


def wrong_type(name: bytes, expected: str, offset: int) -> FieldError:
    """The refusal of a field whose value is not what we must understand it to be."""
    shown = show(name)
    return FieldError("invalid_type", f"field {shown!r} must be {expected}", offset, shown)


def show(name: bytes) -> str:
    """A field name for people: cut to a bounded length, lone surrogates replaced."""
    text = name.decode("utf-8", "surrogatepass").encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "..."


def quote(name: bytes) -> bytes:
    """``name`` as a JSON string; ValueError when it is not UTF-8."""
    if _PLAIN.fullmatch(name):
        return b'"' + name + b'"'
    return json.dumps(name.decode("utf-8", "surrogatepass")).encode("ascii")


def not_a_value(name: bytes) -> ValueError:
    """The refusal of a replacement that is not one JSON value: splicing it would break the document or add fields."""
    return ValueError(f"the new value of field {show(name)!r} is not a JSON value")


def _no_constant(text: str) -> NoReturn:
    raise json.JSONDecodeError("not a JSON literal", text, 0)


def _shape(pairs: list[tuple[str, Any]]) -> list[Any]:
    """An object as the list of its values: enough to measure depth, and repeated names hide nothing."""
    return [value for _, value in pairs]


# Numbers stay text: a number of 100,000 digits is a legal document, and converting it is quadratic.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_constant, object_pairs_hook=_shape)


def _depth(value: Any) -> int:
    """How many containers are open at the deepest point of a decoded value."""
    deepest = 0
    level = [value]
    while level := [item for item in level if isinstance(item, list)]:
        deepest += 1
        level = [item for container in level for item in container]
    return deepest


class _Reader:
    """A cursor over the decoded text; positions are characters, offsets in errors are bytes."""

    def __init__(self, body: bytes) -> None:
        try:
            self.text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise invalid("not UTF-8", error.start) from None
        self.at = 0

    def offset(self, at: int) -> int:
        return len(self.text[:at].encode())

    def fail(self, problem: str) -> FieldError:
        return invalid(problem, self.offset(self.at))

    def space(self) -> str:
        """Skip blanks; the character there, or an empty string at the end."""
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return self.text[self.at : self.at + 1]

    def value(self, room: int) -> Any:
        """Skip one value that opens at most ``room`` containers; its shape, a string as itself."""
        try:
            value, end = _DECODER.raw_decode(self.text, self.at)
        except json.JSONDecodeError as error:
            raise invalid("broken value", self.offset(max(self.at, error.pos))) from None
        except RecursionError:
            raise self.fail("nested too deeply") from None
        if _depth(value) > room:
            raise self.fail("nested too deeply")
        self.at = end
        return value

    def key(self) -> bytes:
        """Skip a name and its colon, and the blanks around; the decoded name."""
        if self.space() != '"':
            raise self.fail("expected a field name")
        name = self.value(0)
        if self.space() != ":":
            raise self.fail("expected ':'")
        self.at += 1
        self.space()
        return str(name).encode("utf-8", "surrogatepass")

    def end(self) -> None:
        if self.space():
            raise self.fail("something follows the end")


class _Member:
    """A field: decoded name, where its stretch begins (after ``{`` or ``,``) and its value's span, in characters."""

    __slots__ = ("begin", "end", "name", "start")

    def __init__(self, name: bytes, begin: int, start: int, end: int) -> None:
        self.name = name
        self.begin = begin
        self.start = start
        self.end = end


class Fields:
    """The top-level fields of one document, in order; made by ``scan``."""

    __slots__ = ("_body", "_close", "_index", "_members", "_text")

    def __init__(self, body: bytes, text: str, members: list[_Member], close: int) -> None:
        self._body = body
        self._text = text
        self._members = members
        self._close = close
        self._index = {member.name: member for member in members}

    def _span(self, member: _Member) -> bytes:
        return self._text[member.start : member.end].encode()

    def _wrong(self, member: _Member, expected: str) -> FieldError:
        return wrong_type(member.name, expected, len(self._text[: member.start].encode()))

    def get(self, name: bytes) -> bytes | None:
        """The value of a field as it is written; None when it is not there."""
        member = self._index.get(name)
        return None if member is None else self._span(member)

    def has(self, name: bytes) -> bool:
        """Whether the field is there, ``null`` or not."""
        return name in self._index

    def names(self) -> list[bytes]:
        """The decoded names, in order."""
        return [member.name for member in self._members]

    def text(self, name: bytes) -> str | None:
        """The decoded string; None when absent or null.

        FieldError ``invalid_type`` when it is no string, or holds a lone surrogate escape, which no encoding carries.
        """
        member = self._index.get(name)
        if member is None or self._span(member) == b"null":
            return None
        value = json.loads(self._span(member), parse_int=str, object_pairs_hook=_shape)
        if self._text[member.start] != '"' or any("\ud800" <= char <= "\udfff" for char in value):
            raise self._wrong(member, "a string")
        return str(value)

    def flag(self, name: bytes) -> bool:
        """The boolean; False when absent or null. FieldError ``invalid_type`` for anything else."""
        member = self._index.get(name)
        value = b"null" if member is None else self._span(member)
        if member is not None and value not in (b"true", b"false", b"null"):
            raise self._wrong(member, "true or false")
        return value == b"true"

    def number(self, name: bytes) -> int | None:
        """The whole number, 0 to 10**18 - 1; None when absent or null. FieldError ``invalid_type`` for all else."""
        member = self._index.get(name)
        value = b"null" if member is None else self._span(member)
        if member is None or value == b"null":
            return None
        if not _WHOLE.fullmatch(value):
            raise self._wrong(member, "a whole number, 0 or more")
        return int(value)

    def positive(self, names: tuple[bytes, ...]) -> int:
        """The first of these fields that is a whole number from 1 to 10**18 - 1; 0 when none is."""
        for name in names:
            member = self._index.get(name)
            value = b"" if member is None else self._span(member)
            if _COUNT.fullmatch(value) and int(value):
                return int(value)
        return 0

    def forbidden(self, names: frozenset[bytes], prefixes: tuple[bytes, ...]) -> bytes | None:
        """The first field whose name is one of ``names`` or begins with one of ``prefixes``; None when none does."""
        for member in self._members:
            if member.name in names or member.name.startswith(prefixes):
                return member.name
        return None

    def replace(self, changes: Mapping[bytes, bytes | None]) -> bytes:
        """The document with other values: raw JSON replaces or adds a field (new ones at the end), None removes one.

        Every other byte stays as it is; the very same object comes back when nothing changes. Raises ValueError when a
        new value is not one JSON value, or a new name is not UTF-8.
        """
        for name, value in changes.items():
            if value is not None and not is_value(value):
                raise not_a_value(name)
        added = [(name, value) for name, value in changes.items() if value is not None and name not in self._index]
        changed = [m for m in self._members if m.name in changes and changes[m.name] != self._span(m)]
        if not added and not changed:
            return self._body
        return self._spliced(changes, b",".join(quote(name) + b":" + value for name, value in added))

    def _spliced(self, changes: Mapping[bytes, bytes | None], added: bytes) -> bytes:
        """Each kept stretch up to the end of its value, then what followed the value, with ``added`` after the last."""
        opening = self._text[: self._members[0].begin if self._members else self._open()].encode()
        stretches: list[bytes] = []
        tails: list[bytes] = []
        for at, member in enumerate(self._members):
            value = changes.get(member.name, self._span(member))
            stop = self._members[at + 1].begin - 1 if at + 1 < len(self._members) else self._close
            if value is not None:
                stretches.append(self._text[member.begin : member.start].encode() + value)
                tails.append(self._text[member.end : stop].encode())
        if not stretches:
            blank = b"" if self._members else self._text[self._open() : self._close].encode()
            return opening + added + blank + self._text[self._close :].encode()
        last = tails.pop()
        kept = b"".join(stretch + tail + b"," for stretch, tail in zip(stretches[:-1], tails, strict=True))
        closing = b"," + added if added else b""
        return opening + kept + stretches[-1] + closing + last + self._text[self._close :].encode()

    def _open(self) -> int:
        """Where the inside of the object begins."""
        return self._text.index("{") + 1


def is_value(raw: bytes) -> bool:
    """Whether ``raw`` is exactly one valid JSON value, blanks around it allowed."""
    try:
        reader = _Reader(raw)
        reader.space()
        reader.value(MAX_DEPTH - 1)
        reader.end()
    except FieldError:
        return False
    return True


def _members(reader: _Reader) -> list[_Member]:
    """The members of the object that was just opened, up to its closing brace."""
    members: list[_Member] = []
    begin = reader.at
    if reader.space() == "}":
        return members
    while True:
        if len(members) == MAX_FIELDS:
            raise reader.fail("too many fields")
        name = reader.key()
        start = reader.at
        reader.value(MAX_DEPTH - 1)
        members.append(_Member(name, begin, start, reader.at))
        char = reader.space()
        if char == "}":
            return members
        if char != ",":
            raise reader.fail("expected ',' or '}'")
        reader.at += 1
        begin = reader.at


def scan(body: bytes) -> Fields:
    """Check ``body`` and find its top-level fields.

    Raises FieldError: ``invalid_json`` when it is not one JSON object in UTF-8, nested at most 512 deep, with at most
    4,096 fields; ``duplicate_field`` when it is, and one name is there twice. TypeError when it is not bytes.
    """
    if type(body) is not bytes:
        raise TypeError("a body must be bytes")
    reader = _Reader(body)
    if reader.space() != "{":
        raise reader.fail("expected '{'")
    reader.at += 1
    members = _members(reader)
    close = reader.at
    reader.at += 1
    reader.end()
    seen: set[bytes] = set()
    for member in members:
        if member.name in seen:
            raise duplicate(member.name, reader.offset(member.start))
        seen.add(member.name)
    return Fields(body, reader.text, members, close)
