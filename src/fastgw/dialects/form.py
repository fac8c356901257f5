r"""The fields of a `multipart/form-data` body, read and edited in place: the twin of `_core.fields` for forms.

Files are never looked into: what is found is where each part begins and ends, by the delimiter that RFC 2046 section
5.1.1 describes. As with JSON, what two parsers may read differently is refused: a field of interest given twice, a
folded or unknown-encoded part header, a name that needs unescaping, bytes before the first delimiter or after the last.
Source: RFC 7578.
"""

import re
from collections.abc import Mapping

from msgspec import UNSET, DecodeError
from msgspec.json import decode

from fastgw._core import fields

BOUNDARY = re.compile(
    rb"multipart/form-data[ \t]*;(?:[^\"]*;)?[ \t]*boundary=(?:\"([^\"\\]{1,70})\"|([^ \t;\"]{1,70}))[ \t]*(?:;.*)?",
    re.IGNORECASE | re.DOTALL,
)
PLAIN_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
DISPOSITION = re.compile(rb"form-data(?:[ \t]*;[ \t]*([A-Za-z*]+)=(\"[^\"]*\"|[^ \t;\"]+))+", re.IGNORECASE)
PARAMETER = re.compile(rb";[ \t]*([A-Za-z*]+)=(?:\"([^\"]*)\"|([^ \t;\"]+))")
MAX_PARTS = 1000
MAX_HEADERS = 8 * 1024
MAX_TEXT = 1024 * 1024
TRUE, FALSE = frozenset({b"true", b"1"}), frozenset({b"false", b"0", b""})
ENCODINGS = frozenset({b"7bit", b"8bit", b"binary"})


class _Part:
    __slots__ = ("end", "file", "name", "start")

    def __init__(self, name: bytes, file: bool, start: int, end: int) -> None:
        self.name = name
        self.file = file
        self.start = start
        self.end = end


class Form:
    """The parts of one form, in order; made by `scan`. Has what the request path asks of a JSON body's fields."""

    __slots__ = ("_body", "_close", "_delimiter", "_index", "_parts")

    def __init__(self, body: bytes, delimiter: bytes, parts: list[_Part], close: int) -> None:
        self._body = body
        self._delimiter = delimiter
        self._parts = parts
        self._close = close
        self._index = {part.name: part for part in parts}

    def has(self, name: bytes) -> bool:
        """Whether there is a part of this name."""
        return name in self._index

    def get(self, name: bytes) -> bytes | None:
        """The bytes of a text part; None when it is not there. FieldError `invalid_type` when it is a file."""
        part = self._index.get(name)
        if part is None:
            return None
        if part.file or part.end - part.start > MAX_TEXT:
            raise _wrong(part, "a short text, not a file")
        return self._body[part.start : part.end]

    def text(self, name: bytes) -> str | None:
        """The text of a part; None when it is not there. FieldError `invalid_type` when it is none."""
        value = self.get(name)
        try:
            return None if value is None else value.decode()
        except UnicodeDecodeError:
            raise _wrong(self._index[name], "UTF-8 text") from None

    def flag(self, name: bytes) -> bool:
        """The boolean: `true`, `false`, `1` or `0`; False when absent. FieldError `invalid_type` for anything else."""
        value = (self.get(name) or b"").lower()
        if value not in TRUE | FALSE:
            raise _wrong(self._index[name], "true or false")
        return value in TRUE

    def forbidden(self, names: frozenset[bytes], prefixes: tuple[bytes, ...]) -> bytes | None:
        """The first part whose name is one of `names` or begins with one of `prefixes`; None when none does."""
        return next((part.name for part in self._parts if part.name in names or part.name.startswith(prefixes)), None)

    def replace(self, changes: Mapping[bytes, bytes | None]) -> bytes:
        """The form with other texts, given as JSON strings: a part's bytes are replaced, or a part added at the end.

        Every other byte stays; the very same object comes back when nothing changes. Raises ValueError for a value that
        is not a JSON string without line ends, and for None: nothing is taken out of a form.
        """
        pieces: list[bytes] = []
        at = 0
        new = {name: _plain(value) for name, value in changes.items()}
        for part in self._parts:
            if part.name in new and self._body[part.start : part.end] != new[part.name]:
                pieces += (self._body[at : part.start], new[part.name])
                at = part.end
        added = [self._written(name, value) for name, value in new.items() if name not in self._index]
        if not pieces and not added:
            return self._body
        return b"".join((*pieces, self._body[at : self._close], *added, self._body[self._close :]))

    def _written(self, name: bytes, value: bytes) -> bytes:
        return b'%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b' % (self._delimiter, name, value)


def boundary(content_type: bytes) -> bytes:
    """The boundary a `content-type` names. FieldError `bad_request` when it names none that is in order."""
    match = BOUNDARY.fullmatch(content_type.strip())
    found = (match[1] or match[2]) if match else b""
    if content_type.lower().count(b"boundary=") != 1 or not PLAIN_BOUNDARY.fullmatch(found):
        raise fields.FieldError("bad_request", "The content-type must name one boundary (RFC 2046 section 5.1.1).")
    return bytes(found)


def scan(body: bytes, mark: bytes, single: frozenset[bytes]) -> Form:
    """Find the parts of a form delimited by the boundary `mark`.

    Raises FieldError: `bad_request` when it is not a whole and plain form of at most 1,000 parts, `duplicate_field`
    when a name in `single` is there twice.
    """
    delimiter = b"\r\n--" + mark
    if not body.startswith(delimiter[2:]):
        raise _broken("it does not begin with its boundary")
    parts: list[_Part] = []
    seen: set[bytes] = set()
    # The first delimiter may stand at the very beginning, without the line end that is part of all others.
    close, at = -2, len(delimiter) - 2
    while body[at : at + 2] != b"--":
        if len(parts) == MAX_PARTS:
            raise _broken(f"it has more than {MAX_PARTS} parts")
        part = _part(body, at, delimiter)
        if part.name in seen and part.name in single:
            name = _shown(part.name)
            message = f"field {name!r} is there more than once; send it once"
            raise fields.FieldError("duplicate_field", message, at, name)
        seen.add(part.name)
        parts.append(part)
        close, at = part.end, part.end + len(delimiter)
    if body[at + 2 :] not in (b"", b"\r\n") or not parts:
        raise _broken("something follows its end, or it is empty")
    return Form(body, delimiter, parts, close)


def _part(body: bytes, at: int, delimiter: bytes) -> _Part:
    """The part whose delimiter ends at `at`."""
    if body[at : at + 2] != b"\r\n":
        raise _broken("a boundary is not followed by a line end")
    head = body.find(b"\r\n\r\n", at, at + MAX_HEADERS)
    if head < 0:
        raise _broken("the headers of a part are too long or do not end")
    name, file = _head(body[at + 2 : head])
    end = body.find(delimiter, head + 2)
    if end < head + 4:
        raise _broken("a part does not end, or has no body")
    return _Part(name, file, head + 4, end)


def _head(block: bytes) -> tuple[bytes, bool]:
    """Name of a part, and whether it is a file, from its headers."""
    disposition: bytes | None = None
    for line in block.split(b"\r\n"):
        field, colon, value = line.partition(b":")
        field, value = field.lower(), value.strip(b" \t")
        if not colon or line[:1] in b" \t" or b"\n" in line or b"\r" in line:
            raise _broken("a part's header is folded or is none")
        if field == b"content-transfer-encoding" and value.lower() not in ENCODINGS:
            raise _broken("a part is encoded; send it as it is")
        if field == b"content-disposition":
            if disposition is not None:
                raise _broken("a part has two content-dispositions")
            disposition = value
    if disposition is None or not DISPOSITION.fullmatch(disposition):
        raise _broken("a part has no content-disposition of form-data")
    found: dict[bytes, bytes] = {}
    for match in PARAMETER.finditer(disposition):
        parameter = match[1].lower()
        if parameter in found or parameter == b"name*":
            raise _broken("a part's content-disposition is ambiguous")
        found[parameter] = match[2] if match[3] is None else match[3]
    name = found.get(b"name", b"")
    if not name or b"\\" in name:
        raise _broken("a part has no name, or one that needs unescaping")
    return name, b"filename" in found or b"filename*" in found


def _plain(value: bytes | None) -> bytes:
    try:
        text = UNSET if value is None else decode(value)
    except DecodeError:
        text = UNSET
    if not isinstance(text, str) or "\r" in text or "\n" in text:
        raise ValueError("the new value of a form's field must be a JSON string without line ends")
    return text.encode()


def _shown(name: bytes) -> str:
    return name[:64].decode("utf-8", "replace")


def _wrong(part: _Part, expected: str) -> fields.FieldError:
    name = _shown(part.name)
    return fields.FieldError("invalid_type", f"field {name!r} must be {expected}", part.start, name)


def _broken(problem: str) -> fields.FieldError:
    return fields.FieldError("bad_request", f"the body is not a form in good order: {problem}")
