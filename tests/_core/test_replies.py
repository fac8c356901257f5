"""Whole replies read at once: both twins against the same cases, each other, and the general parser."""

from types import ModuleType
from typing import Any

import pytest
from httptools import HttpParserError, HttpResponseParser
from hypothesis import given
from hypothesis import strategies as st

from fastgw._core import replies_py

try:
    from fastgw._core import replies_c
except ImportError:
    replies_c = None

NATIVE = pytest.mark.skipif(replies_c is None, reason="the native module was not compiled")
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
FOUND = (200, [(b"content-type", b"text/plain"), (b"content-length", b"5")], b"hello")


@pytest.fixture(params=[pytest.param(replies_py, id="pure"), pytest.param(replies_c, id="native", marks=NATIVE)])
def replies(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def whole(replies: ModuleType, data: bytes, max_head: int = 4096, max_body: int = 4096) -> Any:
    return replies.whole(data, max_head, max_body)


def headed(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK", body: bytes = b"hello", length: bytes = b"5") -> bytes:
    return b"\r\n".join([start, *lines, b"Content-Length: " + length, b"", b""]) + body


def test_a_plain_reply(replies):
    assert whole(replies, PLAIN) == FOUND


@pytest.mark.parametrize(
    ("line", "pair"),
    [
        (b"X-A:b", (b"x-a", b"b")),
        (b"X-A: \t b c", (b"x-a", b"b c")),
        (b"x-empty:", (b"x-empty", b"")),
        (b"x-empty:  ", (b"x-empty", b"")),
        (b"X-Latin: caf\xe9", (b"x-latin", b"caf\xe9")),
        (b"Connection: Keep-Alive", (b"connection", b"Keep-Alive")),
        (b"!#$%&'*+-.^_`|~09aZ: x", (b"!#$%&'*+-.^_`|~09az", b"x")),
    ],
)
def test_headers_as_they_may_be(replies, line, pair):
    assert whole(replies, headed(line)) == (200, [pair, (b"content-length", b"5")], b"hello")


@pytest.mark.parametrize("start", [b"HTTP/1.1 201 Created", b"HTTP/1.1 429 ", b"HTTP/1.1 500", b"HTTP/1.1 599 \tx"])
def test_statuses(replies, start):
    assert whole(replies, headed(start=start))[0] == int(start[9:12])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        PLAIN[:-1],
        PLAIN + b"x",
        PLAIN + b"\r\n",
        PLAIN.replace(b"\r\n", b"\n"),
        PLAIN.replace(b"Content-Length", b"X-Length"),
        *(headed(start=one) for one in (b"HTTP/1.0 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/1.1 600 x")),
        *(
            headed(start=one)
            for one in (b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 200 \x00", b"http/1.1 200 OK")
        ),
        *(headed(start=b"HTTP/1.1 %d x" % one, body=b"", length=b"0") for one in (204, 304)),
        *(headed(one) for one in (b"Transfer-Encoding: chunked", b"Upgrade: h2c", b"Trailer: x", b"Connection: close")),
        *(headed(one) for one in (b"Content-Length: 5", b"Proxy-Connection: keep-alive", b"Connection: keep-alive, x")),
        *(headed(one) for one in (b"X: a ", b"X: a\t", b" folded: x", b"no colon", b"X : a", b": a", b"X: a\x00b")),
        *(headed(one) for one in (b"X: \x7f", b"X: a\rb", b"\xe9: a", b"x" * 129 + b": a")),
        *(headed(length=one) for one in (b"+5", b"05x", b"", b"5 5", b"0" * 16 + b"5", b"-5", b"5,5")),
    ],
)
def test_what_is_left_to_the_general_parser(replies, data):
    assert whole(replies, data) is None


def test_bounds(replies):
    head = len(PLAIN) - 5
    assert whole(replies, PLAIN, max_head=head) == FOUND
    assert whole(replies, PLAIN, max_head=head - 1) is None
    assert whole(replies, PLAIN, max_body=5) == FOUND
    assert whole(replies, PLAIN, max_body=4) is None
    assert len(whole(replies, headed(*[b"x: y"] * 99))[1]) == 100
    assert whole(replies, headed(*[b"x: y"] * 100)) is None
    assert whole(replies, headed(b"x" * 128 + b": a"))[1][0][0] == b"x" * 128


class Parsed:
    """What the general parser makes of the same bytes."""

    def __init__(self, data: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.messages = 0
        self.parser = HttpResponseParser(self)
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.messages += 1


PIECES = st.sampled_from(
    [
        *(b"HTTP/1.1 200 OK", b"HTTP/1.1 404 Not Found", b"\r\n", b"\r\n\r\n", b"\n", b"Content-Length: 5"),
        *(b"content-length:0", b"X-A: b", b"Connection: keep-alive", b"Connection: close", b"hello", b"5\r\nhello"),
        *(b"Transfer-Encoding: chunked", b" ", b":", b"\x00", b"caf\xe9"),
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=8).map(b"".join) | st.binary(max_size=60).map(lambda tail: PLAIN[:40] + tail))
def test_what_is_found_is_what_the_general_parser_finds(data):
    found = replies_py.whole(data, 4096, 4096)
    if replies_c is not None:
        assert replies_c.whole(data, 4096, 4096) == found
    if found is None:
        return
    try:
        parsed = Parsed(data)
    except HttpParserError as error:
        raise AssertionError(f"refused by the parser: {data!r}") from error
    assert (parsed.parser.get_status_code(), parsed.headers, parsed.body) == found
    assert parsed.messages == 1
    assert parsed.parser.should_keep_alive()


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=8), st.binary(max_size=8)), max_size=4), st.binary(max_size=20)
)
def test_both_twins_agree_on_any_lines(lines, body):
    data = headed(*(name + b":" + value for name, value in lines), body=body, length=b"%d" % len(body))
    found = replies_py.whole(data, 4096, 4096)
    if replies_c is not None:
        assert replies_c.whole(data, 4096, 4096) == found
    if found is not None:
        assert Parsed(data).headers == found[1]
