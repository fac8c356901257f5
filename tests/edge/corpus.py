"""Requests that two parsers may cut differently, and requests that only look as if they might.

Every payload carries two placeholders of fixed length, so that lengths written down stay true when `Payload.render`
fills them in: the key, and a canary. `INNER` is a whole, good request with a good key and the canary in its body: where
it comes out of a gateway as a request of its own although it was never sent as one, that is request smuggling.

Sources: RFC 9112 (sections in `rule`), and the classes named in public research: CL.TE, TE.CL, TE.TE, TE.0, 0.CL, CL.0,
chunk extensions and terminators ("funky chunks"), `Expect` obfuscation, `Connection` that names framing headers.
"""

from dataclasses import dataclass

KEY = b"fgw-edge-0123456789abcdef"
KEY_PLACE = b"KEYKEYKEYKEYKEYKEYKEYKEYK"
CANARY_PLACE = b"CANARYCANARYCANA"
assert len(KEY) == len(KEY_PLACE)

CHAT = b"/v1/chat/completions"
CRLF = b"\r\n"
REFUSED, ONCE, PIPELINED = "refused", "once", "pipelined"
"""What must become of a payload. REFUSED: it is ambiguous or broken, so an error or silence, nothing upstream, and the
connection closed. ONCE: it is one request, odd but clear; `INNER` is its data, if anything. PIPELINED: two requests."""


@dataclass(frozen=True, slots=True)
class Payload:
    """One case: its bytes, the rule that it breaks or stretches, and what must become of it."""

    id: str
    rule: str
    raw: bytes
    fate: str = REFUSED

    def render(self, canary: str, key: bytes = KEY) -> bytes:
        """The bytes to send, with this canary (as long as its placeholder) in `INNER`."""
        assert len(canary) == len(CANARY_PLACE)
        return self.raw.replace(KEY_PLACE, key).replace(CANARY_PLACE, canary.encode())


def line(method: bytes = b"POST", target: bytes = CHAT, version: bytes = b"HTTP/1.1") -> bytes:
    """A request line."""
    return b"%b %b %b\r\n" % (method, target, version)


def chat(content: bytes) -> bytes:
    """The body of a small chat."""
    return b'{"model":"edge","messages":[{"role":"user","content":"%b"}]}' % content


HOST = b"host: edge.test\r\n"
AUTH = b"authorization: Bearer " + KEY_PLACE + CRLF
TYPE = b"content-type: application/json\r\n"
TE = b"transfer-encoding: chunked\r\n"
OUTER_BODY = chat(b"outer")
INNER_BODY = chat(CANARY_PLACE)


def length(size: int) -> bytes:
    """A content-length line."""
    return b"content-length: %d\r\n" % size


def request(*lines: bytes, body: bytes = b"", start: bytes | None = None, host: bytes = HOST) -> bytes:
    """A request with exactly these lines beside host, key and type."""
    return (line() if start is None else start) + host + AUTH + TYPE + b"".join(lines) + CRLF + body


def sized(*lines: bytes, body: bytes = OUTER_BODY, start: bytes | None = None, host: bytes = HOST) -> bytes:
    """A request with a true content-length."""
    return request(*lines, length(len(body)), body=body, start=start, host=host)


INNER = sized(body=INNER_BODY)


def chunk(data: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST = b"0\r\n\r\n"
CHUNKS = chunk(OUTER_BODY) + LAST


def both(te: bytes, body: bytes = CHUNKS + INNER) -> bytes:
    """CL.TE: the length covers everything, the chunks end before `INNER`."""
    return request(length(len(body)), te, body=body)


def sole(te: bytes) -> bytes:
    """A coding alone, chunks as the body, `INNER` after them."""
    return request(te, body=CHUNKS + INNER)


def chunked(body: bytes) -> bytes:
    """A chunked request with this as it stands, then `INNER`."""
    return request(TE, body=body + INNER)


def first(size_line: bytes, end: bytes = CRLF) -> bytes:
    """A chunked request whose first chunk has this size line (without CRLF) and this end of its data."""
    return chunked(size_line + CRLF + OUTER_BODY + end + LAST)


SIZE = b"%x" % len(OUTER_BODY)
N = len(OUTER_BODY)

LENGTH_AND_CODING = [
    Payload("cl.te", "RFC 9112 6.1: both framings", both(TE)),
    Payload("cl.te, empty chunks", "RFC 9112 6.1: both framings", both(TE, LAST + INNER)),
    Payload("te first, then cl", "RFC 9112 6.1: both framings",
            request(TE, length(len(CHUNKS + INNER)), body=CHUNKS + INNER)),
    Payload("te.cl", "RFC 9112 6.1: both framings", request(length(4), TE, body=chunk(OUTER_BODY + INNER) + LAST)),
    Payload("te.cl, valid body", "RFC 9112 6.1: both framings", request(length(5), TE, body=CHUNKS)),
    Payload("cl 0 and te", "RFC 9112 6.1: both framings", request(length(0), TE, body=CHUNKS)),
    Payload("cl and te agree", "RFC 9112 6.1: both framings", request(length(len(CHUNKS)), TE, body=CHUNKS)),
    Payload("get with both", "RFC 9112 6.1: both framings",
            request(length(len(LAST + INNER)), TE, body=LAST + INNER, start=line(b"GET", b"/v1/models"))),
]  # fmt: skip

CODINGS: dict[str, bytes] = {
    "xchunked": b"transfer-encoding: xchunked\r\n",
    "chunk": b"transfer-encoding: chunk\r\n",
    "identity": b"transfer-encoding: identity\r\n",
    "chunked, identity": b"transfer-encoding: chunked, identity\r\n",
    "identity, chunked": b"transfer-encoding: identity, chunked\r\n",
    "gzip, chunked": b"transfer-encoding: gzip, chunked\r\n",
    "chunked, chunked": b"transfer-encoding: chunked, chunked\r\n",
    "comma first": b"transfer-encoding: , chunked\r\n",
    "comma last": b"transfer-encoding: chunked,\r\n",
    "parameter": b"transfer-encoding: chunked;q=1\r\n",
    "quoted": b'transfer-encoding: "chunked"\r\n',
    "apostrophes": b"transfer-encoding: 'chunked'\r\n",
    "empty": b"transfer-encoding: \r\n",
    "unknown": b"transfer-encoding: cow\r\n",
    "vertical tab": b"transfer-encoding: \x0bchunked\r\n",
    "form feed": b"transfer-encoding: chunked\x0c\r\n",
    "nul": b"transfer-encoding: chunked\x00\r\n",
    "no-break space": b"transfer-encoding: \xa0chunked\r\n",
    "delete": b"transfer-encoding: chunked\x7f\r\n",
    "twice, second unknown": b"transfer-encoding: chunked\r\ntransfer-encoding: cow\r\n",
    "twice, first unknown": b"transfer-encoding: cow\r\ntransfer-encoding: chunked\r\n",
    "twice, second identity": b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
    "twice": b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
    "space before the colon": b"transfer-encoding : chunked\r\n",
    "tab before the colon": b"transfer-encoding\t: chunked\r\n",
    "vertical tab before the colon": b"transfer-encoding\x0b: chunked\r\n",
    "space before the name": b" transfer-encoding: chunked\r\n",
    "folded value": b"transfer-encoding:\r\n chunked\r\n",
    "folded name": b"transfer-encoding\r\n : chunked\r\n",
    "folded into another": b"x-a: b\r\n transfer-encoding: chunked\r\n",
    "behind a bare CR": b"x-a: b\rtransfer-encoding: chunked\r\n",
    "behind CR CR": b"x-a: b\r\r\ntransfer-encoding: chunked\r\n",
    "underscore": b"transfer_encoding: chunked\r\n",
    "dots over the i": "transfer-encod\u0131ng: chunked\r\n".encode(),
}
TRANSFER = [
    *(Payload(f"cl.te, {name}", "RFC 9112 6.1, 5.1, 5.2: a coding to be misread", both(te))
      for name, te in CODINGS.items()),
    *(Payload(f"te alone, {name}", "RFC 9112 6.3 (4): a coding that does not say chunked", sole(CODINGS[name]))
      for name in ("xchunked", "identity", "chunked, identity", "gzip, chunked", "chunked, chunked", "comma first",
                   "comma last", "twice", "twice, second identity", "twice, first unknown", "folded value")),
    Payload("cl.te, behind a bare LF", "RFC 9112 2.2: bare LF ends a line for some",
            both(b"x-a: b\ntransfer-encoding: chunked\r\n")),
    Payload("te alone, tab before the value", "RFC 9110 5.6.3: a tab is OWS",
            request(b"transfer-encoding:\tchunked\r\n", body=CHUNKS), ONCE),
    Payload("te alone, upper case", "RFC 9112 7: codings are case-insensitive",
            request(b"TRANSFER-ENCODING: CHUNKED\r\n", body=CHUNKS), ONCE),
    Payload("te 1.0", "RFC 9112 6.1: a coding in HTTP/1.0 is faulty framing",
            request(TE, body=CHUNKS + INNER, start=line(version=b"HTTP/1.0"))),
    Payload("te and cl 1.0", "RFC 9112 6.1: a coding in HTTP/1.0 is faulty framing",
            request(length(len(CHUNKS + INNER)), TE, body=CHUNKS + INNER, start=line(version=b"HTTP/1.0"))),
    Payload("te.0 options", "TE.0: the body of a request that needs none is still its body",
            request(TE, body=chunk(INNER) + LAST, start=line(b"OPTIONS", CHAT)), ONCE),
    Payload("te.0 get", "TE.0: the body of a request that needs none is still its body",
            request(TE, body=chunk(INNER) + LAST, start=line(b"GET", b"/health/live")), ONCE),
    Payload("te.0 head", "TE.0: the body of a request that needs none is still its body",
            request(TE, body=chunk(INNER) + LAST, start=line(b"HEAD", b"/health/live")), ONCE),
]  # fmt: skip


def measured(value: bytes, body: bytes = OUTER_BODY + INNER) -> bytes:
    """A request with this content-length value as it stands."""
    return request(b"content-length: " + value + CRLF, body=body)


LENGTHS: dict[str, bytes] = {
    "plus": b"+%d" % N,
    "minus": b"-%d" % N,
    "hexadecimal": b"0x%x" % N,
    "underscore in it": b"%d_%d" % (N // 10, N % 10),
    "a point": b"%d.0" % N,
    "an exponent": b"%de0" % N,
    "two numbers": b"%d %d" % (N, N),
    "a list that differs": b"%d, %d" % (N, N + len(INNER)),
    "a list that agrees": b"%d, %d" % (N, N),
    "a comma last": b"%d," % N,
    "quoted": b'"%d"' % N,
    "empty": b"",
    "a word": b"abc",
    "digits, then a letter": b"%dx" % N,
    "full-width digits": "\uff15\uff16".encode(),
    "a nul last": b"%d\x00" % N,
    "a vertical tab first": b"\x0b%d" % N,
    "beyond 64 bits": b"%d" % (2**64 + N),
    "twenty digits": b"99999999999999999999",
    "beyond 63 bits": b"%d" % (2**63 + N),
    "a folded line": b"\r\n %d" % N,
    "a bare CR": b"%d\rx-a: b" % N,
}
LENGTH = [
    *(Payload(f"cl with {name}", "RFC 9112 6.3 (5): an invalid length", measured(value))
      for name, value in LENGTHS.items()),
    Payload("two cl, differing", "RFC 9112 6.3 (5): lengths that differ",
            request(length(N), length(N + len(INNER)), body=OUTER_BODY + INNER)),
    Payload("two cl, zero first", "RFC 9112 6.3 (5): lengths that differ",
            request(length(0), length(N), body=OUTER_BODY + INNER)),
    Payload("two cl, second malformed", "RFC 9112 6.3 (5): an invalid length",
            request(length(N), b"content-length: x\r\n", body=OUTER_BODY + INNER)),
    Payload("two cl, agreeing", "RFC 9112 6.3 (5): equal lengths may be taken as one",
            request(length(N), length(N), body=OUTER_BODY), ONCE),
    Payload("cl with leading zeros", "RFC 9110 8.6: 1*DIGIT allows them",
            request(b"content-length: 000%d\r\n" % N, body=OUTER_BODY), ONCE),
    Payload("0.cl, space before the colon", "RFC 9112 5.1: no whitespace before the colon",
            request(b"content-length : %d\r\n" % len(INNER), body=INNER)),
    Payload("0.cl, tab before the colon", "RFC 9112 5.1: no whitespace before the colon",
            request(b"content-length\t: %d\r\n" % len(INNER), body=INNER)),
    Payload("0.cl, space before the name", "RFC 9112 2.2: no whitespace before the first field",
            line() + b" content-length: %d\r\n" % len(INNER) + HOST + AUTH + TYPE + CRLF + INNER),
    Payload("0.cl, folded into another", "RFC 9112 5.2: obs-fold is refused",
            request(b"x-a: b\r\n content-length: %d\r\n" % len(INNER), body=INNER)),
    Payload("0.cl, underscore", "content_length reads as content-length to CGI-like servers",
            request(b"content_length: %d\r\n" % len(INNER), body=INNER)),
    Payload("0.cl, nul before the name", "RFC 9110 5.1: a name is a token",
            request(b"\x00content-length: %d\r\n" % len(INNER), body=INNER)),
    Payload("0.cl, behind a bare LF", "RFC 9112 2.2: bare LF ends a line for some",
            request(b"x-a: b\ncontent-length: %d\r\n" % len(INNER), body=INNER)),
    Payload("cl too short", "RFC 9112 9.3.2: what follows is the next request, and this is none",
            request(length(N - 10), body=OUTER_BODY + INNER)),
    Payload("cl too long", "RFC 9112 8: a request that is not whole is not served", request(length(N + 9000),
                                                                                        body=OUTER_BODY + INNER)),
    Payload("cl beyond the cap", "RFC 9110 15.5.14: too large", request(length(3_000_000), body=OUTER_BODY + INNER)),
]  # fmt: skip


def hidden(method: bytes, target: bytes, *lines: bytes) -> bytes:
    """CL.0: a request to something that has no use for a body, with `INNER` as its body."""
    return sized(*lines, body=INNER, start=line(method, target))


UNREAD = [
    *(Payload(f"cl.0 {name}", "CL.0: the body of a request that needs none is still its body", raw, ONCE)
      for name, raw in {
          "health": hidden(b"GET", b"/health/live"), "health by post": hidden(b"POST", b"/health/live"),
          "head": hidden(b"HEAD", b"/health/live"), "models": hidden(b"GET", b"/v1/models"),
          "method that is not allowed": hidden(b"PUT", CHAT), "options": hidden(b"OPTIONS", CHAT),
          "trace": hidden(b"TRACE", CHAT), "method in lower case": hidden(b"post", CHAT),
          "method nobody knows": hidden(b"BREW", CHAT), "no such path": hidden(b"POST", b"/v1/nothing"),
          "path with a traversal": hidden(b"POST", b"/v1/../v1/chat/completions"),
          "asterisk": hidden(b"OPTIONS", b"*"), "delete": hidden(b"DELETE", b"/v1/models/edge"),
      }.items()),
    Payload("cl.0 without a key", "CL.0: a body that was refused unread is no request",
            hidden(b"POST", CHAT).replace(AUTH, b"", 1), ONCE),
    Payload("cl.0 wrong type", "CL.0: a body that was refused unread is no request",
            hidden(b"POST", CHAT).replace(TYPE, b"content-type: text/plain\r\n", 1), ONCE),
    Payload("cl.0 two keys", "CL.0: a body that was refused unread is no request",
            hidden(b"POST", CHAT, b"x-api-key: some-other-key-0123456789\r\n"), ONCE),
    Payload("cl.0 gzip", "CL.0: a body that was refused unread is no request",
            hidden(b"POST", CHAT, b"content-encoding: gzip\r\n"), ONCE),
    *(Payload(f"expect, {name}", "RFC 9110 10.1.1: an expectation changes no framing",
              hidden(method, target, b"expect: %b\r\n" % value), ONCE)
      for name, method, target, value in (
          ("100-continue on a get", b"GET", b"/v1/models", b"100-continue"),
          ("100-continue on a post", b"POST", CHAT, b"100-continue"),
          ("a list", b"POST", CHAT, b"100-continue, 100-continue"),
          ("unknown", b"POST", CHAT, b"y 100-continue"), ("empty", b"GET", b"/health/live", b""))),
    Payload("expect, with chunks", "RFC 9110 10.1.1: an expectation changes no framing",
            request(b"expect: 100-continue\r\n", TE, body=CHUNKS), ONCE),
    Payload("connection names content-length", "RFC 9110 7.6.1: framing is not hop-by-hop by being named",
            sized(b"connection: content-length\r\n"), ONCE),
    Payload("connection names content-length, hidden", "RFC 9110 7.6.1: framing is not hop-by-hop by being named",
            hidden(b"GET", b"/v1/models", b"connection: keep-alive, content-length\r\n"), ONCE),
    Payload("connection names transfer-encoding", "RFC 9110 7.6.1: framing is not hop-by-hop by being named",
            request(b"connection: transfer-encoding\r\n", TE, body=CHUNKS), ONCE),
    Payload("connection names host", "RFC 9110 7.6.1: framing is not hop-by-hop by being named",
            sized(b"connection: host, authorization\r\n"), ONCE),
    Payload("h2c", "RFC 9113 3.1: an upgrade that is not taken changes nothing",
            hidden(b"POST", CHAT, b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\n",
                   b"http2-settings: AAMAAABk\r\n"), ONCE),
    Payload("h2c on a get, inner behind", "RFC 9110 7.8: an upgrade that is not taken changes nothing",
            hidden(b"GET", b"/health/live", b"connection: upgrade\r\nupgrade: h2c\r\n"), ONCE),
    Payload("websocket, inner in its body", "RFC 6455 4.1: a handshake has no body, this is a plain request with one",
            hidden(b"GET", b"/v1/models", b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
                   b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), ONCE),
]  # fmt: skip

CHUNK_SIZES: dict[str, bytes] = {
    "plus": b"+" + SIZE,
    "minus": b"-" + SIZE,
    "0x": b"0x" + SIZE,
    "0X": b"0X" + SIZE,
    "a space first": b" " + SIZE,
    "a tab first": b"\t" + SIZE,
    "no digits": b"",
    "a letter": b"g" + SIZE,
    "a letter last": SIZE + b"h",
    "an underscore": SIZE[:1] + b"_" + SIZE[1:],
    "a comma": SIZE + b",0",
    "a nul": SIZE + b"\x00",
    "a point": SIZE + b".0",
    "65 bits": b"1" + SIZE.rjust(16, b"0"),
    "64 bits": b"ffffffffffffffff",
    "63 bits": b"7fffffffffffffff",
    "a space within": SIZE[:1] + b" " + SIZE[1:],
    "an extension of nul": SIZE + b";\x00",
    "an extension with LF": SIZE + b";a=b\nc",
    "an extension with CR": SIZE + b";a=b\rc",
    "an LF before its end": SIZE + b"\n",
    "a CR before its end": SIZE + b"\r",
    "two CR": SIZE + b";\r\r",
    "a quoted LF": SIZE + b';a="\n"',
}
CHUNKED = [
    *(Payload(f"chunk size with {name}", "RFC 9112 7.1: chunk-size is 1*HEXDIG", first(size_line))
      for name, size_line in CHUNK_SIZES.items()),
    Payload("chunk size with a space last", "RFC 9112 7.1.1: BWS stands before an extension only", first(SIZE + b" ")),
    Payload("chunk size with a tab last", "RFC 9112 7.1.1: BWS stands before an extension only", first(SIZE + b"\t")),
    Payload("chunk size ends with LF", "RFC 9112 7.1: chunk-size ends with CRLF",
            chunked(SIZE + b"\n" + OUTER_BODY + CRLF + LAST)),
    Payload("chunk size ends with CR", "RFC 9112 7.1: chunk-size ends with CRLF",
            chunked(SIZE + b"\r" + OUTER_BODY + CRLF + LAST)),
    Payload("chunk data longer", "RFC 9112 7.1: CRLF follows chunk-data",
            chunked(b"%x\r\n" % (N - 2) + OUTER_BODY + CRLF + LAST)),
    Payload("chunk data shorter", "RFC 9112 7.1: CRLF follows chunk-data",
            chunked(b"%x\r\n" % (N + 3) + OUTER_BODY + CRLF + LAST)),
    Payload("chunk data without an end", "RFC 9112 7.1: CRLF follows chunk-data", first(SIZE, b"")),
    Payload("chunk data ends with LF", "RFC 9112 7.1: CRLF follows chunk-data", first(SIZE, b"\n")),
    Payload("chunk data ends with CR", "RFC 9112 7.1: CRLF follows chunk-data", first(SIZE, b"\r")),
    Payload("chunk data ends with LF CR", "RFC 9112 7.1: CRLF follows chunk-data", first(SIZE, b"\n\r")),
    Payload("chunk data ends with any two bytes", "RFC 9112 7.1: CRLF follows chunk-data", first(SIZE, b"xx")),
    Payload("last chunk ends with LF", "RFC 9112 7.1: last-chunk ends with CRLF",
            chunked(chunk(OUTER_BODY) + b"0\n\r\n")),
    Payload("last chunk without its empty line", "RFC 9112 7.1: CRLF ends the body",
            chunked(chunk(OUTER_BODY) + b"0\r\n")),
    Payload("empty line with LF", "RFC 9112 7.1: CRLF ends the body", chunked(chunk(OUTER_BODY) + b"0\r\n\n")),
    Payload("empty line with CR", "RFC 9112 7.1: CRLF ends the body", chunked(chunk(OUTER_BODY) + b"0\r\n\r")),
    Payload("last chunk with a sign", 'RFC 9112 7.1: last-chunk is 1*"0"', chunked(chunk(OUTER_BODY) + b"-0\r\n\r\n")),
    Payload("last chunk missing", "RFC 9112 8: a request that is not whole is not served", chunked(chunk(OUTER_BODY))),
    Payload("trailer without a colon", "RFC 9112 7.1.2: trailers are field lines",
            chunked(chunk(OUTER_BODY) + b"0\r\nnocolon\r\n\r\n")),
    Payload("trailer folded", "RFC 9112 5.2: obs-fold is refused",
            chunked(chunk(OUTER_BODY) + b"0\r\nx-a: b\r\n c\r\n\r\n")),
    Payload("trailer with a space before the colon", "RFC 9112 5.1: no whitespace before the colon",
            chunked(chunk(OUTER_BODY) + b"0\r\nx-a : b\r\n\r\n")),
    Payload("trailer with a nul", "RFC 9110 5.5: no NUL in a value",
            chunked(chunk(OUTER_BODY) + b"0\r\nx-a: \x00\r\n\r\n")),
    Payload("trailer with a bare CR", "RFC 9112 2.2: no bare CR",
            chunked(chunk(OUTER_BODY) + b"0\r\nx-a: b\rc: d\r\n\r\n")),
    Payload("trailers ended by LF", "RFC 9112 7.1: CRLF ends the body",
            chunked(chunk(OUTER_BODY) + b"0\r\nx-a: b\n\n")),
    Payload("trailers without end", "a bound on trailers",
            chunked(chunk(OUTER_BODY) + b"0\r\n" + b"x-a: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n" * 4000)),
    Payload("extension without end", "a bound on chunk extensions", first(SIZE + b";" + b"a" * 200_000)),
    Payload("chunk size with leading zeros", "RFC 9112 7.1: 1*HEXDIG allows them",
            request(TE, body=b"0000" + CHUNKS), ONCE),
    Payload("chunk size in capitals", "RFC 5234: HEXDIG has no case", request(TE, body=CHUNKS.upper()[:2] + CHUNKS[2:]),
            ONCE),
    Payload("last chunk of many zeros", 'RFC 9112 7.1: last-chunk is 1*"0"',
            request(TE, body=chunk(OUTER_BODY) + b"00000\r\n\r\n"), ONCE),
    Payload("extension", "RFC 9112 7.1.1: unknown extensions are ignored",
            request(TE, body=SIZE + b';a=b;c="d e"\r\n' + OUTER_BODY + CRLF + LAST), ONCE),
    Payload("extension after a space", "RFC 9112 7.1.1: BWS before an extension",
            request(TE, body=SIZE + b" ;a=b\r\n" + OUTER_BODY + CRLF + LAST), ONCE),
    Payload("trailer that frames, length", "RFC 9110 6.5.1: framing fields in trailers are ignored",
            request(TE, body=chunk(OUTER_BODY) + b"0\r\ncontent-length: 5\r\n\r\n"), ONCE),
    Payload("trailer that frames, coding", "RFC 9110 6.5.1: framing fields in trailers are ignored",
            request(TE, body=chunk(OUTER_BODY) + b"0\r\ntransfer-encoding: chunked\r\n\r\n"), ONCE),
    Payload("trailer with another key", "RFC 9110 6.5.1: trailers do not authenticate",
            request(TE, body=chunk(OUTER_BODY) + b"0\r\nauthorization: Bearer other-key-0123456789\r\n\r\n"), ONCE),
]  # fmt: skip

LF_ONLY = line() + HOST + AUTH + TYPE + length(N) + CRLF
HEADS = [
    *(Payload(f"request line, {name}", "RFC 9112 3: method SP target SP version CRLF",
              sized(body=OUTER_BODY, start=start) + INNER)
      for name, start in {
          "two spaces": b"POST  /v1/chat/completions HTTP/1.1\r\n",
          "two spaces before the version": b"POST /v1/chat/completions  HTTP/1.1\r\n",
          "tabs": b"POST\t/v1/chat/completions\tHTTP/1.1\r\n",
          "a vertical tab": b"POST\x0b/v1/chat/completions HTTP/1.1\r\n",
          "a space first": b" POST /v1/chat/completions HTTP/1.1\r\n",
          "a space last": b"POST /v1/chat/completions HTTP/1.1 \r\n",
          "a space in the target": b"POST /v1/chat/completions /x HTTP/1.1\r\n",
          "HTTP/1.2": line(version=b"HTTP/1.2"), "HTTP/2.0": line(version=b"HTTP/2.0"),
          "HTTP/0.9": line(version=b"HTTP/0.9"), "HTTP/11": line(version=b"HTTP/11"),
          "HTTP/1.10": line(version=b"HTTP/1.10"), "version in lower case": line(version=b"http/1.1"),
          "no version": b"POST /v1/chat/completions\r\n", "two versions": line(version=b"HTTP/1.1 HTTP/1.0"),
          "bare CR": b"POST /v1/chat/completions HTTP/1.1\r", "CR CR LF": b"POST /v1/chat/completions HTTP/1.1\r\r\n",
          "a nul": line(target=CHAT + b"\x00"), "a control in the target": line(target=CHAT + b"\x01"),
          "a header within": b"POST /v1/chat/completions HTTP/1.1 x-a: b\r\n",
          "a method with a colon": line(b"POST:"), "authority as target": line(target=b"evil.test:80"),
          "no target": b"POST HTTP/1.1\r\n",
      }.items()),
    *(Payload(f"header line, {name}", "RFC 9112 5.1: token ':' OWS value OWS", sized(text) + INNER)
      for name, text in {
          "space in the name": b"x a: b\r\n", "nul in the name": b"x\x00a: b\r\n", "no name": b": b\r\n",
          "no colon": b"nocolon\r\n", "high byte in the name": b"x-\xe9: b\r\n", "nul in the value": b"x-a: \x00\r\n",
          "bare CR in the value": b"x-a: b\rc\r\n", "CR LF LF": b"x-a: b\r\n\n", "folded": b"x-a: b\r\n\tc\r\n",
          "a request line": b"POST /v1/chat/completions HTTP/1.1\r\n", "brackets in the name": b"x[a]: b\r\n",
          "control in the value": b"x-a: \x1b\r\n", "whitespace line": b" \r\n",
      }.items()),
    Payload("two hosts", "RFC 9112 3.2: one Host", sized(b"host: evil.test\r\n") + INNER),
    Payload("no host", "RFC 9112 3.2: one Host", sized(host=b"") + INNER),
    Payload("host with a space", "RFC 9112 3.2: a valid Host", sized(host=b"host: edge.test x\r\n") + INNER),
    Payload("host with a path", "RFC 9112 3.2: a valid Host", sized(host=b"host: edge.test/x\r\n") + INNER),
    Payload("absolute-form with a user", "RFC 9110 4.2.4: a user part is an error",
            sized(start=line(target=b"http://edge.test@evil.test" + CHAT)) + INNER, PIPELINED),
    Payload("LF in place of CRLF", "RFC 9112 2.2: a sender must not",
            LF_ONLY.replace(CRLF, b"\n") + OUTER_BODY + INNER),
    Payload("LF after the request line", "RFC 9112 2.2: a sender must not",
            sized(start=line().replace(CRLF, b"\n")) + INNER),
    Payload("LF after a header", "RFC 9112 2.2: a sender must not", sized(b"x-a: b\n") + INNER),
    Payload("LF ends the head", "RFC 9112 2.2: a sender must not", LF_ONLY[:-2] + b"\n" + OUTER_BODY + INNER),
    Payload("LF CR", "RFC 9112 2.2: a sender must not", LF_ONLY[:-2] + b"\n\r" + OUTER_BODY + INNER),
    Payload("101 headers", "RFC 6585 5", sized(*(b"x-%d: a\r\n" % i for i in range(101))) + INNER),
    Payload("half a megabyte of head", "RFC 6585 5", sized(b"x-a: " + b"a" * 500_000 + CRLF) + INNER),
    Payload("endless header", "RFC 6585 5", line() + HOST + AUTH + b"x-a: " + b"a" * 900_000),
    Payload("http/2 preface", "RFC 9113 3.4: not spoken here", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + INNER),
    Payload("TLS on a plain port", "RFC 9112 3: no request line",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + INNER),
    Payload("proxy protocol", "RFC 9112 3: no request line", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + INNER),
    Payload("an empty line first", "RFC 9112 2.2: at least one is ignored", CRLF + sized(), ONCE),
    Payload("many empty lines first", "RFC 9112 2.2: at least one is ignored", CRLF * 20 + sized(), ONCE),
    Payload("absolute-form", "RFC 9112 3.2.2: must be accepted",
            sized(start=line(target=b"http://evil.test" + CHAT)), ONCE),
    Payload("header names in capitals", "RFC 9110 5.1: names have no case",
            sized().replace(HOST, HOST.upper()).replace(b"content-length", b"CONTENT-LENGTH"), ONCE),
    Payload("two good requests", "RFC 9112 9.3.2: pipelining", sized() + INNER, PIPELINED),
    Payload("a get and a post", "RFC 9112 9.3.2: pipelining",
            request(start=line(b"GET", b"/v1/models")) + INNER, PIPELINED),
    Payload("a chunked one and another", "RFC 9112 9.3.2: pipelining", request(TE, body=CHUNKS) + INNER, PIPELINED),
    Payload("an empty line between", "RFC 9112 2.2: at least one is ignored", sized() + CRLF + INNER, PIPELINED),
    Payload("close, and another", "RFC 9112 9.6: nothing after close", sized(b"connection: close\r\n") + INNER, ONCE),
    Payload("1.0, and another", "RFC 9112 9.3: HTTP/1.0 closes",
            sized(start=line(version=b"HTTP/1.0")) + INNER, ONCE),
]  # fmt: skip

PAYLOADS: tuple[Payload, ...] = (*LENGTH_AND_CODING, *TRANSFER, *LENGTH, *UNREAD, *CHUNKED, *HEADS)
