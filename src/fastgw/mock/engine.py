"""Finds and prepares answers: routing, key check, and a bounded store of replies ready to be sent.

A prepared reply is complete bytes but for its status line, date, id and time, so that serving a request seen before
costs one look-up, two replacements and a write.
"""

import hashlib
import random
import secrets
import time
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import msgspec

from fastgw.mock.anthropic import Anthropic
from fastgw.mock.base import (
    CREATED_MARK_BYTES,
    HTML,
    ID_MARK_BYTES,
    ID_WIDTH,
    JSON,
    Answer,
    Dialect,
    Refused,
    Request,
)
from fastgw.mock.bedrock import Bedrock
from fastgw.mock.cohere import Cohere
from fastgw.mock.faults import CONTENT_KINDS, Fault, named_fault, roll
from fastgw.mock.gemini import Gemini
from fastgw.mock.openai import OpenAI
from fastgw.mock.options import MockOptions
from fastgw.mock.stats import Stats

_STORE_BYTES: Final = 8 * 1024 * 1024
_STORE_ENTRY: Final = 1024 * 1024
_STORE_KEY: Final = 16 * 1024
_EPOCH: Final = 1_700_000_000
_SPREAD: Final = 10_000_000
_NOT_IDENTITY: Final = frozenset({"model", "stream_options"})
_REASONS: Final = {529: "Overloaded"}
_HTML: Final = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>502 Bad Gateway</body>\r\n</html>\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"

Identity = tuple[bytes, bytes]  # what replaces ID_MARK and CREATED_MARK, of the same widths


@lru_cache(maxsize=64)
def status_line(status: int) -> bytes:
    """The first line of a reply."""
    reason = _REASONS.get(status) or HTTPStatus(status).phrase
    return f"HTTP/1.1 {status} {reason}\r\n".encode()


def chunk(data: bytes) -> bytes:
    """One chunk of RFC 9112 section 7.1."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass(slots=True)
class Prepared:
    """A reply ready to be sent: `wire` is everything after the date line, `frames` its events in chunked framing."""

    model: str
    answer: Answer
    first_line: bytes
    head: bytes
    frames: tuple[bytes, ...]
    wire: bytes
    fault: Fault | None = None


def prepare(answer: Answer, fault: Fault | None = None) -> Prepared:
    """Frame an answer."""
    if answer.events:
        head = answer.headers + b"transfer-encoding: chunked\r\n\r\n"
        frames = tuple(chunk(event) for event in answer.events)
        wire = b"".join((head, *frames, LAST_CHUNK))
    else:
        head = answer.headers + b"content-length: %d\r\n\r\n" % len(answer.body)
        frames, wire = (), head + answer.body
    return Prepared(answer.model, answer, status_line(answer.status), head, frames, wire, fault)


def fill(data: bytes, identity: Identity) -> bytes:
    """Put id and time into prepared bytes."""
    return data.replace(ID_MARK_BYTES, identity[0]).replace(CREATED_MARK_BYTES, identity[1])


class Engine:
    """What all connections of one server share."""

    def __init__(self, options: MockOptions) -> None:
        self.options = options
        self.stats = Stats()
        # The first that owns a path serves it; OpenAI owns what no other does.
        self._dialects: tuple[Dialect, ...] = (
            Anthropic(options),
            Gemini(options),
            Bedrock(options),
            Cohere(options),
            OpenAI(options),
        )
        self._random = random.Random(options.seed)  # noqa: S311 (repeatable chance, no secret)
        self._store: dict[tuple[str, str, bytes], Prepared] = {}
        self._stored = 0
        self._id_prefix = secrets.token_hex(9)[: ID_WIDTH - 12]
        self._count = 0
        self._second = 0
        self._created = self._date = b""

    def find(self, method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes) -> Prepared:
        """The prepared reply to a request, counted; named faults that change the content are already in it."""
        path, _, query = target.partition("?")
        request = Request(method, path, query, headers, body)
        key = self.options.key
        if key is not None and not (dialect := self._dialect(path)).admits(request, key):
            prepared = prepare(dialect.denied(path))
            self.stats.refused += 1
        elif (found := self._store.get((method, target, body))) is not None:
            prepared = found
        else:
            prepared = self._make(request)
            self._keep((method, target, body), prepared)
        self.stats.saw(request, prepared.model)
        return prepared

    def strike(self, prepared: Prepared, path: str) -> Prepared:
        """Let one of the process-wide faults hit a call that no named fault hits."""
        fault = roll(self.options.faults, self._random)
        return prepared if fault is None else self.afflict(prepared, fault, path)

    def afflict(self, prepared: Prepared, fault: Fault, path: str) -> Prepared:
        """The reply with a fault: replaced where the fault changes what is said, otherwise marked with it."""
        answer = prepared.answer
        model = answer.model
        match fault.kind:
            case "error":
                answer = self._dialect(path).error(fault.number, model, path)
            case "html-502":
                answer = Answer(502, HTML, _HTML, model=model)
            case "redirect":
                answer = Answer(302, b"location: %b\r\n" % self.options.redirect_to.encode(), model=model)
            case "badjson":
                answer = _broken(answer)
            case _:
                return Prepared(
                    model, answer, prepared.first_line, prepared.head, prepared.frames, prepared.wire, fault
                )
        answer.model = model
        return prepare(answer, fault)

    def at_once(self, prepared: Prepared) -> bool:
        """Whether a reply without faults is one write without waiting."""
        options = self.options
        if not prepared.frames:
            return options.latency == 0
        if options.tokens_per_second or options.flush_each:
            return False
        return (options.latency if options.ttft is None else options.ttft) == 0

    def identity(self, body: bytes) -> Identity:
        """A fresh id and the time, or, with a seed, both from the body (without model and stream options)."""
        if self.options.seed is not None:
            return _seeded(self.options.seed, body)
        self._count += 1
        return f"{self._id_prefix}{self._count:012x}".encode(), self._created

    def date(self) -> bytes:
        """The Date header line (RFC 9110 section 6.6.1), made once a second."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._created = b"%010d" % now
            self._date = f"date: {formatdate(now, usegmt=True)}\r\n".encode()
        return self._date

    def render(self, prepared: Prepared, body: bytes, keep: bool) -> tuple[bytes, Identity]:
        """(what precedes `prepared.wire` on the connection, identity for the rest)."""
        preface = prepared.first_line + self.date()
        return (preface if keep else preface + b"connection: close\r\n"), self.identity(body)

    def control(self, method: str, path: str) -> Prepared:
        """`GET /__mock/stats` and `POST /__mock/reset`."""
        if (method, path) == ("GET", "/__mock/stats"):
            return prepare(Answer(200, JSON, msgspec.json.encode(self.stats.snapshot())))
        if (method, path) == ("POST", "/__mock/reset"):
            self.stats.reset()
            return prepare(Answer(200, JSON, b"{}"))
        return prepare(self._dialect(path).unknown(method, path))

    def _make(self, request: Request) -> Prepared:
        method, path = request.method, request.path
        dialect = self._dialect(path)
        route = dialect.route(path)
        if route is None:
            return prepare(dialect.unknown(method, path))
        if method != route[0]:
            return prepare(dialect.wrong_method(method, path, route[0]))
        try:
            prepared = prepare(route[1](request))
        except Refused as refused:
            return prepare(refused.answer)
        fault = named_fault(prepared.model)
        return prepared if fault is None or fault.kind in CONTENT_KINDS else self.afflict(prepared, fault, path)

    def _keep(self, key: tuple[str, str, bytes], prepared: Prepared) -> None:
        size = len(key[1]) + len(key[2]) + 2 * len(prepared.wire)
        if len(key[1]) + len(key[2]) > _STORE_KEY or size > _STORE_ENTRY:
            return
        if self._stored + size > _STORE_BYTES:
            self._store.clear()
            self._stored = 0
        self._store[key] = prepared
        self._stored += size

    def _dialect(self, path: str) -> Dialect:
        return next(dialect for dialect in self._dialects if dialect.owns(path))


def _broken(answer: Answer) -> Answer:
    if not answer.events:
        return Answer(200, answer.headers, answer.body[: len(answer.body) // 2], model=answer.model)
    place = min(answer.again, len(answer.events) - 1)
    event = answer.events[place]
    end = next((end for end in (b"\r\n\r\n", b"\n\n") if event.endswith(end)), b"")
    # Up to the last bracket or brace that closes, so that the rest of the frame is as it should be.
    broken = event[: max(event.rfind(b"}"), event.rfind(b"]"))] + end
    events = (*answer.events[:place], broken, *answer.events[place:])
    return Answer(200, answer.headers, events=events, model=answer.model)


def _seeded(seed: int, body: bytes) -> Identity:
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        fields = {"": msgspec.Raw(body)}
    digest = hashlib.blake2b(str(seed).encode(), digest_size=ID_WIDTH)
    for name in sorted(fields.keys() - _NOT_IDENTITY):
        digest.update(name.encode("utf-8", "surrogatepass") + b"\0" + bytes(fields[name]) + b"\0")
    text = digest.hexdigest()
    return text[:ID_WIDTH].encode(), b"%010d" % (_EPOCH + int(text[ID_WIDTH:], 16) % _SPREAD)
