"""What RFC 9110 and RFC 9112 ask of a server, case by case: bytes in, and a check of what came back."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.edge.corpus import KEY
from tests.edge.h1 import Answer, Heard

HEALTH, CHAT, MODELS = b"/health/live", b"/v1/chat/completions", b"/v1/models"
HOST = b"host: edge.test\r\n"
AUTH = b"authorization: Bearer " + KEY + b"\r\n"
TYPE = b"content-type: application/json\r\n"
CLOSE = b"connection: close\r\n"
TE = b"transfer-encoding: chunked\r\n"
EXPECT = b"expect: 100-continue\r\n"
BODY = b'{"model":"edge","messages":[{"role":"user","content":"words"}]}'
STREAM = b'{"model":"edge","stream":true,"messages":[{"role":"user","content":"words"}]}'
CHUNKS = b"5\r\n" + BODY[:5] + b"\r\n%X\r\n" % len(BODY[5:]) + BODY[5:] + b"\r\n0\r\n\r\n"
_DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")


@dataclass(frozen=True, slots=True)
class Case:
    """`pieces` are sent one by one, each when something came back for the one before; `asked`: the methods in them."""

    id: str
    rule: str
    pieces: tuple[bytes, ...]
    check: Callable[[Heard], bool]
    asked: tuple[str, ...] = ("GET", "GET", "GET")


def get(*lines: bytes, path: bytes = HEALTH, method: bytes = b"GET", version: bytes = b"1.1", host: bytes = HOST,
        close: bool = True, tail: bytes = b"") -> bytes:  # fmt: skip
    """A request without a body that asks for the connection's end unless `close` is false."""
    start = b"%b %b HTTP/%b\r\n" % (method, path, version)
    return start + host + AUTH + b"".join(lines) + (CLOSE if close else b"") + b"\r\n" + tail


def post(*lines: bytes, body: bytes = BODY, version: bytes = b"1.1", length: bytes | None = None,
         close: bool = True) -> bytes:  # fmt: skip
    """A chat with this body and length (the true one when not given)."""
    size = b"content-length: %d\r\n" % len(body) if length is None else length
    return get(TYPE, *lines, size, path=CHAT, method=b"POST", version=version, close=close, tail=body)


def chunks(*lines: bytes, body: bytes = CHUNKS, version: bytes = b"1.1", close: bool = True) -> bytes:
    """A chat with this as its chunked body."""
    return post(*(lines or (TE,)), body=body, version=version, length=b"", close=close)


def served(heard: Heard, count: int = 1) -> bool:
    """So many 200s, in good HTTP, and the connection's end."""
    return heard.statuses == [200] * count and not heard.faults and heard.ending == "fin"


def worded(heard: Heard) -> bool:
    """The body was understood: its words came back."""
    return served(heard) and b"words" in heard.answers[0].body


def refused(heard: Heard) -> bool:
    """One error, or none, and the connection's end: the request after it is not served."""
    return heard.ending in ("fin", "reset") and len(heard.final) <= 1 and all(s >= 400 for s in heard.statuses)


def status(*allowed: int) -> Callable[[Heard], bool]:
    """A check of the first answer's status."""
    return lambda heard: bool(heard.final) and heard.final[0].status in allowed and not heard.faults


def dated(heard: Heard) -> bool:
    """Every answer has one date in the preferred form."""
    return bool(heard.final) and all(_DATE.fullmatch(answer.header("date")) for answer in heard.final)


def closing(heard: Heard) -> bool:
    """The answer says that the connection ends, and it does."""
    return served(heard) and heard.answers[0].header("connection").lower() == "close"


def same_head(heard: Heard) -> bool:
    """The first answer is the second one's head."""
    if not served(heard, 2):
        return False
    head, whole = heard.answers
    length = head.header("content-length")
    return head.header("content-type") == whole.header("content-type") and length in ("", str(len(whole.body)))


def in_order(heard: Heard) -> bool:
    """Three answers, the words in the second."""
    return served(heard, 3) and [b"words" in answer.body for answer in heard.answers] == [False, True, False]


def interim(heard: Heard) -> bool:
    """100, then the answer."""
    return heard.statuses == [100, 200] and not heard.faults and b"words" in heard.answers[1].body


def old_kept(heard: Heard) -> bool:
    """Either the connection ended after the first answer, or that answer said it would not."""
    if served(heard):
        return True
    return served(heard, 2) and heard.answers[0].header("connection").lower() == "keep-alive"


def uncoded(heard: Heard) -> bool:
    """No transfer coding for who cannot read it."""
    return worded(heard) and heard.answers[0].framed != "chunked"


def coded(heard: Heard) -> bool:
    """A stream in chunks with its last one."""
    return worded(heard) and heard.answers[0].framed == "chunked"


def with_header(code: int, name: str) -> Callable[[Heard], bool]:
    """An answer of this status, if there is one, has this header."""

    def check(heard: Heard) -> bool:
        found: list[Answer] = [answer for answer in heard.final if answer.status == code]
        return bool(heard.final) and all(answer.header(name) for answer in found)

    return check


R110, R112 = "RFC 9110 ", "RFC 9112 "
CASES: tuple[Case, ...] = (
    Case("a plain request", R112 + "2.1", (get(),), served),
    Case("no Host", R112 + "3.2: MUST be 400", (get(host=b"", path=MODELS),), status(400)),
    Case("two Hosts", R112 + "3.2: MUST be 400", (get(HOST, path=MODELS),), status(400)),
    Case("two different Hosts", R112 + "3.2: MUST be 400", (get(b"host: evil.test\r\n", path=MODELS),), status(400)),
    Case("invalid Host", R112 + "3.2: MUST be 400", (get(host=b"host: edge test/x\r\n", path=MODELS),), status(400)),
    Case("no Host, asking for its health", R112 + "3.2: MUST be 400", (get(host=b""),), status(400)),
    Case("HTTP/1.0 ends the connection", R112 + "9.3", (get(version=b"1.0", close=False) + get(),), served),
    Case("HTTP/1.0 keep-alive", R112 + "9.3",
         (get(b"connection: keep-alive\r\n", version=b"1.0", close=False) + get(version=b"1.0"),), old_kept),
    Case("HTTP/1.1 keeps the connection", R112 + "9.3", (get(close=False), get()), lambda heard: served(heard, 2)),
    Case("close is honoured", R112 + "9.6", (get() + get(),), closing),
    Case("Close in capitals", R110 + "7.6.1", (get(b"connection: CLOSE\r\n", close=False) + get(),), closing),
    Case("close in a list", R110 + "7.6.1", (get(b"connection: x-a, close\r\n", close=False) + get(),), closing),
    Case("close of two lines", R110 + "5.3", (get(b"connection: x-a\r\n") + get(),), closing),
    Case("HEAD is GET without its body", R110 + "9.3.2", (get(method=b"HEAD", close=False) + get(),), same_head,
         ("HEAD", "GET")),
    Case("HEAD of what is not there", R110 + "9.3.2", (get(method=b"HEAD", path=b"/v1/nothing"),),
         lambda heard: len(heard.final) == 1 and not heard.faults, ("HEAD",)),
    Case("100 (Continue)", R110 + "10.1.1", (post(EXPECT)[: -len(BODY)], BODY), interim, ("POST",)),
    Case("100-continue, body already there", R110 + "10.1.1", (post(EXPECT),),
         lambda heard: [answer.status for answer in heard.final] == [200], ("POST",)),
    Case("no 100 for HTTP/1.0", R110 + "10.1.1: MUST ignore", (post(EXPECT, version=b"1.0"),), worded, ("POST",)),
    Case("pipelined answers come in order", R112 + "9.3.2", (get(close=False) + post(close=False) + get(),), in_order),
    Case("absolute-form", R112 + "3.2.2: MUST accept", (get(path=b"http://edge.test" + HEALTH),), served),
    Case("absolute-form in capitals", R110 + "4.2.3: scheme and host have no case",
         (get(path=b"HTTP://EDGE.TEST" + HEALTH),), served),
    Case("a query with escapes", R110 + "4.2.2", (get(path=HEALTH + b"?a=%20&b=%2F"),), served),
    Case("8000 bytes of request line", R112 + "3: RECOMMENDED", (get(path=HEALTH + b"?a=" + b"a" * 8000),), served),
    Case("a fragment", R112 + "3.2: no request-target has one", (get(path=HEALTH + b"#x"),), status(400)),
    Case("an empty line first", R112 + "2.2: SHOULD ignore", (b"\r\n" + get(),), served),
    Case("HTTP/1.2", R110 + "2.5: SHOULD be read as 1.1", (get(version=b"1.2"),), served),
    Case("HTTP/3.0", R110 + "15.6.6: SHOULD be 505", (get(version=b"3.0"),), status(505)),
    Case("no version", R112 + "3: 400", (b"GET /health/live\r\n\r\n",), status(400)),
    Case("two spaces", R112 + "3: 400", (get(method=b"GET "),), status(400)),
    Case("a chunked body", R112 + "7.1: MUST decode", (chunks(),), worded),
    Case("a coding in capitals", R112 + "7", (chunks(b"Transfer-Encoding: CHUNKED\r\n"),), worded),
    Case("chunk extensions", R112 + "7.1.1: MUST ignore",
         (chunks(body=CHUNKS.replace(b"\r", b';a="b"\r', 1)),), worded),
    Case("trailers", R112 + "7.1.2", (chunks(body=CHUNKS[:-2] + b"x-a: b\r\ncontent-length: 1\r\n\r\n"),), worded),
    Case("a bad chunk size", R112 + "7.1", (chunks(body=b"x" + CHUNKS) + get(),), refused),
    Case("a length beside chunked", R112 + "6.3: MUST close",
         (chunks(TE, b"content-length: 5\r\n", close=False) + get(),),
         lambda heard: len(heard.final) == 1 and heard.ending == "fin"),
    Case("a coding that is not understood", R112 + "6.1: 501",
         (chunks(b"transfer-encoding: gzip, chunked\r\n", close=False) + get(),), refused),
    Case("a coding that does not end in chunked", R112 + "6.3: MUST be 400 and close",
         (chunks(b"transfer-encoding: chunked, gzip\r\n", close=False) + get(),), refused),
    Case("a coding in HTTP/1.0", R112 + "6.1: faulty framing",
         (chunks(TE, b"connection: keep-alive\r\n", version=b"1.0", close=False) + get(),),
         lambda heard: len(heard.final) <= 1 and heard.ending != "timeout"),
    Case("an invalid length", R112 + "6.3: MUST be 400 and close",
         (post(length=b"content-length: 6x\r\n", close=False) + get(),), refused),
    Case("lengths that differ", R112 + "6.3: MUST be 400 and close",
         (post(b"content-length: 5\r\n", close=False) + get(),), refused),
    Case("a body that breaks off", R112 + "8: MUST NOT be taken for whole",
         (post(length=b"content-length: 900\r\n"),), lambda heard: all(s >= 400 for s in heard.statuses)),
    Case("names have no case", R110 + "5.1", (post().replace(b"content-length", b"cOnTeNt-LeNgTh"),), worded),
    Case("blanks around a value", R110 + "5.5", (post(length=b"content-length: \t %d \t \r\n" % len(BODY)),), worded),
    Case("an empty value", R110 + "5.5", (get(b"x-a:\r\n", b"x-b: \r\n"),), served),
    Case("high bytes in a value", R110 + "5.5: opaque", (get(b"x-a: \xe9\xff\r\n"),), served),
    Case("a NUL in a value", R110 + "5.5: MUST reject or replace", (get(b"x-a: \x00\r\n"),), status(400)),
    Case("a bare CR", R112 + "2.2: MUST be invalid or replaced", (get(b"x-a: b\rc\r\n"),), status(400)),
    Case("a bare LF", R112 + "2.2: MAY end a line", (get().replace(b"\r\n", b"\n"),),
         lambda heard: served(heard) or refused(heard)),
    Case("a blank before the colon", R112 + "5.1: MUST be 400", (get(b"x-a : b\r\n"),), status(400)),
    Case("a folded line", R112 + "5.2: MUST be 400 or replaced", (get(b"x-a: b\r\n c\r\n"),), status(400)),
    Case("a blank before the first header", R112 + "2.2", (get(host=b" " + HOST),), status(400)),
    Case("too many headers", "RFC 6585 5: 431", (get(*(b"x-%d: a\r\n" % n for n in range(120))),), status(431)),
    Case("a target too long", R110 + "15.5.15: 414", (get(path=HEALTH + b"?" + b"a" * 70_000),), status(414)),
    Case("a body too large", R110 + "15.5.14: 413", (post(length=b"content-length: 90000000\r\n"),), status(413)),
    Case("a method nobody knows", R110 + "9.1: SHOULD be 501 or 405", (get(method=b"BREW", path=CHAT),),
         status(501, 405)),
    Case("methods have case", R110 + "9.1", (get(method=b"get", path=MODELS),), status(400, 405, 501)),
    Case("405 names what is allowed", R110 + "15.5.6: MUST send Allow", (get(method=b"PUT", path=CHAT),),
         with_header(405, "allow")),
    Case("401 names a scheme", R110 + "15.5.2: MUST send WWW-Authenticate",
         (get(path=MODELS).replace(AUTH, b""),), with_header(401, "www-authenticate")),
    Case("CONNECT makes no tunnel", R110 + "9.3.6", (get(method=b"CONNECT", path=b"edge.test:443"),),
         lambda heard: bool(heard.final) and heard.final[0].status >= 400, ("CONNECT",)),
    Case("a body on GET", R112 + "6.3", (get(b"content-length: 5\r\n", close=False, tail=b"GET /") + get(),),
         lambda heard: served(heard, 2)),
    Case("an upgrade is not taken", R110 + "7.8: MAY ignore", (get(b"connection: upgrade\r\nupgrade: foo/2\r\n"),),
         served),
    Case("a date", R110 + "6.6.1: MUST", (get(close=False) + get(path=b"/v1/nothing"),), dated),
    Case("a date on a 400", R110 + "6.6.1: MUST", (get(b"x-a : b\r\n"),), dated),
    Case("a stream in chunks", R112 + "7.1", (post(body=STREAM),), coded),
    Case("no chunks for HTTP/1.0", R112 + "6.1: MUST NOT", (post(body=STREAM, version=b"1.0"),), uncoded),
)  # fmt: skip
