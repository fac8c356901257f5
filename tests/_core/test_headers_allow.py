"""The allow-lists for headers: both twins against the same cases and against each other."""

from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw._core import headers_py
from tests._core.header_lines import LINES, NEVER

try:
    from fastgw._core import headers_c
except ImportError:
    headers_c = None

NATIVE = pytest.mark.skipif(headers_c is None, reason="the native module was not compiled")
TWINS = [pytest.param(headers_py, id="pure"), pytest.param(headers_c, id="native", marks=NATIVE)]
HOST = (b"host", b"example.com:4000")

Raw = list[tuple[bytes, bytes]]


@pytest.fixture(params=TWINS)
def headers(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def test_forward_emits_the_allowed_lines(headers: ModuleType) -> None:
    raw = [
        HOST,
        (b"Accept", b" */* "),
        (b"content-type", b"application/json"),
        (b"user-agent", b""),
        (b"openai-beta", b"a"),
        (b"openai-beta", b"b"),
        (b"x-stainless-os", b"Linux"),
        (b"x-stainless-", b"bare"),
        (b"x-stainless", b"no"),
        (b"x-custom", b"no"),
        (b"openai-organization", b"no"),
    ]
    assert headers.forward(raw, headers.DEFAULT_ALLOW) == (
        b"accept: */*\r\ncontent-type: application/json\r\nuser-agent: \r\nopenai-beta: a\r\nopenai-beta: b\r\n"
        b"x-stainless-os: Linux\r\nx-stainless-: bare\r\n"
    )
    assert headers.forward([], headers.DEFAULT_ALLOW) == b""


@pytest.mark.parametrize("name", NEVER)
def test_some_names_never_travel_on(headers: ModuleType, name: bytes) -> None:
    with pytest.raises(ValueError, match="never travels on"):
        headers.Allow([name.upper()], [])
    for size in range(1, len(name) + 1):
        allow = headers.Allow([], [name[:size].upper()])
        assert not allow.permits(name)
        assert not allow.permits(name.upper())
        assert headers.forward([(name, b"secret")], allow) == b""
        assert headers.respond([(name.title(), b"secret")], allow) == []


def test_a_prefix_that_covers_them_still_allows_others(headers: ModuleType) -> None:
    allow = headers.Allow([], [b"x-"])
    raw = [(b"x-api-key", b"k"), (b"x-forwarded-for", b"1"), (b"x-custom", b"v"), (b"x-api-keys", b"w")]
    assert headers.forward(raw, allow) == b"x-custom: v\r\nx-api-keys: w\r\n"


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\nb", b"\xc3\xa9", b"n" * 129])
def test_an_allow_list_holds_tokens(headers: ModuleType, name: bytes) -> None:
    with pytest.raises(ValueError):
        headers.Allow([name], [])
    with pytest.raises(ValueError):
        headers.Allow([], [name])


def test_names_beyond_the_longest_are_not_allowed(headers: ModuleType) -> None:
    allow = headers.Allow([b"N" * 128], [b"p" * 127])
    assert allow.permits(b"n" * 128)
    assert allow.permits(b"p" * 128)
    for name in (b"n" * 129, b"n" * 127, b"p" * 129, b"p" * 126, b""):
        assert not allow.permits(name)
        assert headers.forward([(name, b"v")], allow) == b""


def test_an_empty_allow_list(headers: ModuleType) -> None:
    assert headers.forward([(b"accept", b"x")], headers.Allow([], [])) == b""


@pytest.mark.parametrize(
    "value", [b"a\r\nx-api-key: k", b"a\nb", b"a\rb", b"a\x00b", b"\x7f", b"\n", b"x" * 40 + b"\n"]
)
def test_a_value_can_not_split_a_head(headers: ModuleType, value: bytes) -> None:
    assert headers.forward([(b"accept", value), (b"user-agent", b"ok")], headers.DEFAULT_ALLOW) == b"user-agent: ok\r\n"
    assert headers.respond([(b"content-type", value)], headers.DEFAULT_REPLY_ALLOW) == []


@pytest.mark.parametrize("name", [b"x-stainless-\r\nevil", b"x-stainless-a: b", b"x-stainless-\x00", b"x-stainless- "])
def test_a_name_can_not_split_a_head(headers: ModuleType, name: bytes) -> None:
    assert headers.forward([(name, b"v")], headers.DEFAULT_ALLOW) == b""


def test_connection_makes_names_hop_by_hop(headers: ModuleType) -> None:
    raw = [
        (b"accept", b"a"),
        (b"connection", b"keep-alive"),
        (b"openai-beta", b"b"),
        (b"Connection", b"close, Accept ,\tx-stainless-OS"),
        (b"x-stainless-os", b"c"),
        (b"user-agent", b"d"),
    ]
    assert headers.forward(raw, headers.DEFAULT_ALLOW) == b"openai-beta: b\r\nuser-agent: d\r\n"
    raw[3] = (b"connection", b" Close ")
    assert headers.forward(raw, headers.DEFAULT_ALLOW).count(b"\r\n") == 4


def test_singletons_travel_once(headers: ModuleType) -> None:
    raw = [(b"content-type", b"a"), (b"Content-Type", b"a"), (b"idempotency-key", b"b"), (b"idempotency-key", b"b")]
    assert headers.forward(raw, headers.DEFAULT_ALLOW) == b"content-type: a\r\nidempotency-key: b\r\n"


def test_respond_filters_and_folds(headers: ModuleType) -> None:
    raw = [
        (b"Content-Type", b" text/event-stream"),
        (b"openai-processing-ms", b"12"),
        (b"Set-Cookie", b"secret"),
        (b"x-request-id", b"theirs"),
        (b"OpenAI-Organization", b"ours"),
        (b"Transfer-Encoding", b"chunked"),
    ]
    kept = [(b"content-type", b"text/event-stream"), (b"openai-processing-ms", b"12")]
    assert headers.respond(raw, headers.DEFAULT_REPLY_ALLOW) == kept
    allow = headers.Allow([b"X-Request-Id", b"OpenAI-Organization"], [])
    assert headers.respond(raw, allow) == [(b"openai-organization", b"ours")]


def test_large_heads(headers: ModuleType) -> None:
    raw = [(b"x-stainless-%d" % n, b"v" * 300) for n in range(1000)]
    assert headers.forward(raw, headers.DEFAULT_ALLOW) == b"".join(b"%b: %b\r\n" % line for line in raw)


@NATIVE
def test_an_allow_list_is_made_once() -> None:
    allow = headers_c.Allow([b"accept"], [])
    with pytest.raises(TypeError, match="made once"):
        allow.__init__([b"accept"], [])
    assert allow.permits(b"accept")
    assert not headers_c.Allow.__new__(headers_c.Allow).permits(b"accept")
    for allow in (None, headers_py.DEFAULT_ALLOW):
        with pytest.raises(TypeError):
            headers_c.forward([], allow)


PREFIXES = st.lists(st.sampled_from([b"x-", b"x-stainless-", b"proxy-", b"c", b"content-", b"X-Fastgw-a"]), max_size=3)
ALLOWED = st.lists(st.sampled_from([b"accept", b"content-type", b"x-request-id", b"idempotency-key", b"My_Name"]))


@NATIVE
@settings(max_examples=500, deadline=None)
@given(st.lists(LINES, max_size=12), ALLOWED, PREFIXES)
def test_twins_filter_alike(raw: Raw, names: list[bytes], prefixes: list[bytes]) -> None:
    native, pure = headers_c.Allow(names, prefixes), headers_py.Allow(names, prefixes)
    head = headers_c.forward(raw, native)
    assert head == headers_py.forward(raw, pure)
    assert headers_c.respond(raw, native) == headers_py.respond(raw, pure)
    assert [native.permits(name) for name, _ in raw] == [pure.permits(name) for name, _ in raw]
    for line in head.split(b"\r\n")[:-1]:
        name, colon, value = line.partition(b": ")
        assert colon
        assert name not in NEVER
        assert headers_py._TOKEN.fullmatch(name)
        assert not headers_py._CONTROL.search(value)
