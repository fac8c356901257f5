"""Everything else that somebody else's bytes reach: paths, queries, forms, tokens, and what the disk gives back."""

import struct
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from zlib import crc32

from fastgw._core import fields
from fastgw.dialects import form, openrouter
from fastgw.gateway import listing, passthrough, responses_state, routes
from fastgw.plan.parse import parse
from fastgw.state import segment
from fastgw.state.seal import Seal, Sealed
from fastgw.telemetry import record

SEAL = Seal(b"p" * 32)
PREFIX = "resp_"
MODELS = ("a", "b", "gpt-4o", "x/y")
NOWHERE = Path("/nonexistent-for-fuzzing")
SINGLE = frozenset({b"model", b"stream"})


def path(data: bytes) -> object:
    """A request's path and query: what is taken apart is plain, and one meaning of a path excludes the others."""
    raw, _, query = data.partition(b"?")
    match = routes.named(raw) or routes.kept(raw)
    model = routes.model_in(raw)
    routes.family(raw)
    if match is not None:
        assert not routes.malformed(raw)
        told = match.model + (match.kept.path + match.kept.upload if match.kept else "")
        assert ".." not in told.split("/")
        assert not set(told) & set("%?#;\\\r\n ")
    assert model is None or not routes.malformed(b"/" + model.encode())
    routes.form(query) if len(query) & 1 else None
    with_query = passthrough.with_query("/v1/files", query)
    assert with_query.isascii()
    assert not set(with_query) & set("#\r\n ")
    shape = (listing.ANTHROPIC, listing.GEMINI)[len(query) & 1]
    listing.listed(shape, MODELS, query)
    return match and match.endpoint.op, model is None, len(with_query) > 9


def multipart(data: bytes) -> object:
    """A form, below a line with its content-type: read, and edited into a form that says what was asked for."""
    kind, _, body = data.partition(b"\n")
    mark = form.boundary(kind)
    found = form.scan(body, mark, SINGLE)
    said = []
    for read in (found.get, found.text, found.flag):
        for name in (b"model", b"stream", b"file"):
            try:
                said.append(read(name))
            except fields.FieldError as error:
                said.append(error.code)
    made = found.replace({b"model": b'"gpt-4o"'})
    again = form.scan(made, mark, SINGLE)
    assert made is body or again.has(b"model")
    assert len(again._parts) == len(found._parts) + (not found.has(b"model"))
    return said


def wishes(data: bytes) -> object:
    """OpenRouter's fields. Raises GatewayError."""
    return openrouter.read_models(data) if len(data) & 1 else openrouter.read_preferences(data) != 0


def config(data: bytes) -> object:
    """A config file's text, whose references to other files lead nowhere. Raises ConfigErrors."""
    if b"file:" in data:
        data = data.replace(b"file:/", b"file:").replace(b"file:~", b"file:").replace(b"..", b".")
    made, _ = parse(data.decode("utf-8", "replace"), base=NOWHERE, environ={"KEY": "k"})
    return len(made.providers), len(made.models), len(made.keys)


def token(data: bytes) -> object:
    """A sealed id: nothing opens but what was sealed for this owner, in its one spelling."""
    text = data.decode("utf-8", "replace")
    found = SEAL.open("owner", text, PREFIX)
    assert SEAL.open("nobody", text, PREFIX) is None
    made = SEAL.seal("owner", Sealed("openai", data[:200].decode("utf-8", "replace")), PREFIX)
    assert SEAL.open("owner", made, PREFIX) is not None
    if found is None:
        return "none"
    assert SEAL.seal("owner", found, PREFIX) == text
    return "open"


def sealed_reply(data: bytes) -> object:
    """A provider's response whose ids are sealed: as it was, or a document in order."""
    call = SimpleNamespace(
        live=SimpleNamespace(seal=SEAL), key=SimpleNamespace(name="owner"), target=SimpleNamespace(provider="openai"),
        quoted=(data[:3].decode("latin-1"), "resp_token"),
    )  # fmt: skip
    reply = SimpleNamespace(status=200 if len(data) & 1 else 400, body=data)
    responses_state.seal_whole(call, reply)  # type: ignore[arg-type]
    assert len(reply.body) <= 12 * len(data) + 4096
    return reply.body == data


def spool(data: bytes) -> object:
    """Frames of a spool segment: bytes as they are, and as frames whose checksums are right."""
    parts = data.split(b"\x1f")[:20]
    with TemporaryDirectory() as directory:
        file = Path(directory) / segment.segment_name(1, 2, 3)
        file.write_bytes(segment.pack_header(1, 2, 3) + b"".join(_frame(part) for part in parts))
        assert [payload for _, payload in segment.frames(file)] == [_payload(part) for part in parts]
        file.write_bytes(segment.pack_header(1, 2, 3) + data)
        return len(list(segment.frames(file)))


def _frame(part: bytes) -> bytes:
    payload = _payload(part)
    return struct.pack("=Q", len(payload) | crc32(payload) << 32) + payload + bytes(-len(payload) % 8)


def _payload(part: bytes) -> bytes:
    return part[:300] or b"x"


def stored(data: bytes) -> object:
    """A record read back. Raises RecordError."""
    found = record.decode(data)
    assert record.decode(record.encode(found)) == found
    # A frame's checksum vouches for who wrote it: times are not checked again.
    return 0 <= found.ts < 1 << 57 and bool(record.to_json_line(found))
