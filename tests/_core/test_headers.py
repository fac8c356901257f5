"""The header scanner: both twins against the same cases and against each other."""

from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw._core import headers_py
from tests._core.header_lines import LINES

try:
    from fastgw._core import headers_c
except ImportError:
    headers_c = None

NATIVE = pytest.mark.skipif(headers_c is None, reason="the native module was not compiled")
TWINS = [pytest.param(headers_py, id="pure"), pytest.param(headers_c, id="native", marks=NATIVE)]
HOST = (b"host", b"example.com:4000")
FACTS = tuple(headers_py.Scan.__dataclass_fields__)

Raw = list[tuple[bytes, bytes]]


@pytest.fixture(params=TWINS)
def headers(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def facts(found: Any) -> dict[str, Any]:
    return {name: getattr(found, name) for name in FACTS}


def refusal(headers: ModuleType, *lines: tuple[bytes, bytes], host: bool = True) -> headers_py.HeaderError:
    with pytest.raises(headers.HeaderError) as caught:
        headers.scan([HOST, *lines] if host else list(lines))
    return caught.value


def bad_request(headers: ModuleType, *lines: tuple[bytes, bytes], host: bool = True) -> str:
    """The message of a 400 ``bad_request``."""
    error = refusal(headers, *lines, host=host)
    assert (error.code, error.status) == ("bad_request", 400)
    assert str(error) == error.message
    return error.message


def test_a_client_library_request(headers: ModuleType) -> None:
    raw = [
        HOST,
        (b"accept", b"application/json, Text/Event-Stream;q=0.9"),
        (b"content-type", b"Application/JSON; charset=utf-8"),
        (b"authorization", b"Bearer fgw-abc"),
        (b"content-length", b"412"),
        (b"x-request-id", b"trace_1.2:3-4"),
        (b"idempotency-key", b"retry 1"),
        (b"expect", b"100-Continue"),
        (b"x-stainless-os", b"Linux"),
    ]
    assert facts(headers.scan(raw)) == {
        "key": b"fgw-abc",
        "host": b"example.com:4000",
        "content_type": b"application/json",
        "content_length": 412,
        "chunked": False,
        "sse": True,
        "label": b"trace_1.2:3-4",
        "idempotency_key": b"retry 1",
        "expect": True,
        "websocket": False,
    }


def test_the_least_request(headers: ModuleType) -> None:
    assert facts(headers.scan([HOST])) == {
        "key": None,
        "host": b"example.com:4000",
        "content_type": None,
        "content_length": -1,
        "chunked": False,
        "sse": False,
        "label": None,
        "idempotency_key": None,
        "expect": False,
        "websocket": False,
    }


def test_facts_can_not_be_changed(headers: ModuleType) -> None:
    found = headers.scan([HOST])
    for name in FACTS:
        with pytest.raises(AttributeError):
            setattr(found, name, getattr(found, name))


def test_names_and_keywords_in_any_case(headers: ModuleType) -> None:
    found = headers.scan(
        [
            (b"HOST", b"a"),
            (b"Authorization", b"bEaReR k"),
            (b"Transfer-Encoding", b"Chunked"),
            (b"Upgrade", b"WebSocket"),
        ]
    )
    assert (found.host, found.key, found.chunked, found.websocket) == (b"a", b"k", True, True)


@pytest.mark.parametrize("name", [b"x-api-key", b"api-key", b"x-goog-api-key"])
@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b"fgw-abc", b"fgw-abc"),
        (b" \tfgw-abc\t ", b"fgw-abc"),
        (b"!~" * 256, b"!~" * 256),
        (b"k" * 513, b""),
        (b"", b""),
        (b"a b", b""),
        (b"k\xe9y", b""),
        (b"a\tb", b""),
    ],
)
def test_key_headers(headers: ModuleType, name: bytes, value: bytes, key: bytes) -> None:
    assert headers.scan([HOST, (name, value)]).key == key


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b"Bearer k", b"k"),
        (b"bearer    k  ", b"k"),
        (b"Bearer", b""),
        (b"Bearer ", b""),
        (b"", b""),
        (b"Bearerk", b""),
        (b"Bearer\tk", b""),
        (b"Bearer  \tk", b""),
        (b"Bearer a b", b""),
        (b"Basic dTpw", b""),
        (b"k", b""),
        (b"Bearer " + b"k" * 512, b"k" * 512),
        (b"Bearer " + b"k" * 513, b""),
        (b"Bearer k\x80", b""),
    ],
)
def test_authorization(headers: ModuleType, value: bytes, key: bytes) -> None:
    assert headers.scan([HOST, (b"authorization", value)]).key == key


def test_the_same_key_twice_is_one_key(headers: ModuleType) -> None:
    raw = [HOST, (b"authorization", b"Bearer k"), (b"x-api-key", b"k"), (b"api-key", b" k"), (b"x-goog-api-key", b"k")]
    assert headers.scan(raw).key == b"k"


@pytest.mark.parametrize(
    "lines",
    [
        [(b"authorization", b"Bearer k1"), (b"x-api-key", b"k2")],
        [(b"authorization", b"Bearer k1"), (b"authorization", b"Bearer k2")],
        [(b"api-key", b"k1"), (b"x-goog-api-key", b"k")],
        [(b"authorization", b"Basic k1"), (b"x-api-key", b"k1")],
        [(b"x-api-key", b"k1"), (b"authorization", b"")],
    ],
)
def test_two_different_keys_are_refused(headers: ModuleType, lines: Raw) -> None:
    error = refusal(headers, *lines)
    assert (error.code, error.status) == ("ambiguous_key", 400)
    assert "k1" not in error.message


@pytest.mark.parametrize(
    "host",
    [
        *(b"a", b"example.com", b"EXAMPLE.com:80", b"127.0.0.1:4000", b"my_service-1.local", b"a:0", b"a:65535"),
        *(b"[::1]", b"[::1]:4000", b"[2001:db8::ffff:192.0.2.1]", b" a ", b"a" * 253, b"xn--bcher-kva.example."),
    ],
)
def test_hosts(headers: ModuleType, host: bytes) -> None:
    assert headers.scan([(b"host", host)]).host == host.strip()


@pytest.mark.parametrize(
    "host",
    [
        *(
            b"",
            b" ",
            b":80",
            b"a:",
            b"a:x",
            b"a:65536",
            b"a:000080",
            b"a:-1",
            b"a:80:80",
            b"a b",
            b"a/b",
            b"a@b",
            b"u:p@a",
        ),
        *(b"a,b", b"a%41", b"a#", b"a?", b"\xc3\xa9", b"a\\b", b"*", b"a" * 254, b"::1", b"[", b"[]", b"[]:80", b"[:"),
        *(b"[::1", b"[::1]x", b"[::1]:", b"[::1]80", b"[127.0.0.1]", b"[::1%25eth0]", b"[g::]", b"]", b"a[::1]"),
        *(b"[" + b":" * 46 + b"]", b"http://a", b"a\tb", b"[::1]]"),
    ],
)
def test_malformed_hosts(headers: ModuleType, host: bytes) -> None:
    assert "header host must be a host name" in bad_request(headers, (b"host", host), host=False)


def test_host_is_there_once(headers: ModuleType) -> None:
    assert "host is missing" in bad_request(headers, host=False)
    assert "host is missing" in bad_request(headers, (b"accept", b"*/*"), host=False)
    assert "host is there more than once" in bad_request(headers, HOST)


@pytest.mark.parametrize("control", [*range(9), *range(10, 32), 127])
@pytest.mark.parametrize("at", [0, 3, 8, 15, 16])
def test_control_characters_in_values(headers: ModuleType, control: int, at: int) -> None:
    value = bytearray(b"x" * 17)
    value[at] = control
    for name in (b"x-any", b"host", b"x-api-key"):
        message = bad_request(headers, (name, bytes(value)), host=name != b"host")
        assert message.startswith(f"header {name.decode()} has a control character")


def test_tabs_and_high_bytes_in_values(headers: ModuleType) -> None:
    assert headers.scan([HOST, (b"x-any", b"a\tb" + bytes(range(128, 256)) + b"\t")]).host


TOKEN = b"!#$%&'*+-.^`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"


@pytest.mark.parametrize("byte", range(256))
def test_names_are_tokens(headers: ModuleType, byte: int) -> None:
    raw = [HOST, (b"q" + bytes([byte]) + b"z", b"v")]
    if byte in TOKEN:
        assert headers.scan(raw).host
    else:
        assert "a header name is not a token" in bad_request(headers, *raw[1:])


def test_an_empty_name_is_refused(headers: ModuleType) -> None:
    bad_request(headers, (b"", b"v"))


@pytest.mark.parametrize(
    "value", [b"", b"-1", b"+1", b"1.0", b"0x1", b"1 1", b"1,1", b"1, 1", b"a", b"9" * 19, b"\xb2"]
)
def test_malformed_lengths(headers: ModuleType, value: bytes) -> None:
    assert "header content-length must be" in bad_request(headers, (b"content-length", value))


@pytest.mark.parametrize(("value", "length"), [(b"0", 0), (b" 12\t", 12), (b"007", 7), (b"9" * 18, 10**18 - 1)])
def test_lengths(headers: ModuleType, value: bytes, length: int) -> None:
    assert headers.scan([HOST, (b"content-length", value)]).content_length == length


def test_lengths_that_agree(headers: ModuleType) -> None:
    assert headers.scan([HOST, (b"content-length", b"7"), (b"content-length", b"07")]).content_length == 7
    assert "different numbers" in bad_request(headers, (b"content-length", b"7"), (b"content-length", b"8"))


@pytest.mark.parametrize(
    "value", [b"", b"gzip", b"gzip, chunked", b"chunked, chunked", b"xchunked", b"chunked;q=1", b"c"]
)
def test_other_transfer_codings(headers: ModuleType, value: bytes) -> None:
    assert "must be exactly 'chunked'" in bad_request(headers, (b"transfer-encoding", value))


def test_framing_is_said_once(headers: ModuleType) -> None:
    chunked, length = (b"transfer-encoding", b"chunked"), (b"content-length", b"5")
    assert headers.scan([HOST, chunked]).chunked
    assert "must be exactly 'chunked', once" in bad_request(headers, chunked, chunked)
    for lines in ((chunked, length), (length, chunked)):
        assert "must not come together with content-length" in bad_request(headers, *lines)


@pytest.mark.parametrize("value", [b"gzip", b"br", b"", b"identity, gzip"])
def test_compressed_bodies_are_refused(headers: ModuleType, value: bytes) -> None:
    assert "send the body uncompressed" in bad_request(headers, (b"content-encoding", value))
    assert headers.scan([HOST, (b"content-encoding", b"Identity")]).host


@pytest.mark.parametrize(
    ("value", "media"),
    [
        (b"text/plain", b"text/plain"),
        (b"Text/Plain ; a=B", b"text/plain"),
        (b" multipart/form-data;boundary=X", b"multipart/form-data"),
        (b"", None),
        (b";a", None),
        (b" ; ", None),
    ],
)
def test_media_type(headers: ModuleType, value: bytes, media: bytes | None) -> None:
    assert headers.scan([HOST, (b"content-type", value)]).content_type == media


@pytest.mark.parametrize("name", [b"content-type", b"idempotency-key"])
def test_singletons_that_differ(headers: ModuleType, name: bytes) -> None:
    assert headers.scan([HOST, (name, b"a"), (name, b" a ")]).host
    assert "twice with different values" in bad_request(headers, (name, b"a"), (name, b"A"))


@pytest.mark.parametrize("value", [b"", b" ", b"k" * 256, b"k\xff", b"a\tb"])
def test_idempotency_key_is_printable(headers: ModuleType, value: bytes) -> None:
    assert "1 to 255 printable" in bad_request(headers, (b"idempotency-key", value))
    assert (
        headers.scan([HOST, (b"idempotency-key", b" ~" * 127 + b"x")]).idempotency_key == (b" ~" * 127 + b"x").strip()
    )


@pytest.mark.parametrize("value", [b"", b"a" * 129, b"a b", b"a/b", b"a=1", b"\xff", b"<a>", b"a,b"])
def test_unsafe_labels_are_ignored(headers: ModuleType, value: bytes) -> None:
    assert headers.scan([HOST, (b"x-request-id", value)]).label is None
    assert (
        headers.scan([HOST, (b"x-request-id", value), (b"x-request-id", b"ok"), (b"x-request-id", b"no")]).label
        == b"ok"
    )
    assert headers.scan([HOST, (b"x-request-id", b"a" * 128)]).label == b"a" * 128


def test_other_expectations_and_upgrades(headers: ModuleType) -> None:
    found = headers.scan([HOST, (b"expect", b"100"), (b"upgrade", b"h2c"), (b"accept", b"text/event-strea")])
    assert (found.expect, found.websocket, found.sse) == (False, False, False)
    assert headers.scan([HOST, (b"accept", b"*/*"), (b"accept", b"x, text/EVENT-stream")]).sse


@pytest.mark.parametrize(
    "name",
    [
        *(b"x_api_key", b"x-api_key", b"api_key", b"x_goog_api_key", b"content_length", b"transfer_encoding"),
        *(b"Content_Type", b"content_encoding", b"idempotency_key", b"x_forwarded_for", b"x-forwarded_host"),
        *(b"x_real_ip", b"x_request_id", b"proxy_authorization", b"proxy_x", b"x_tenant_id", b"x_fastgw_cost"),
    ],
)
def test_underscore_twins_are_refused(headers: ModuleType, name: bytes) -> None:
    message = bad_request(headers, (name, b"secret"))
    assert message.startswith(f"header {name.decode().lower()} is the underscore spelling")


@pytest.mark.parametrize("name", [b"my_header", b"_", b"x_stainless", b"x-forwarded-for", b"x-tenant-id", b"x-real-ip"])
def test_other_names_are_let_by(headers: ModuleType, name: bytes) -> None:
    assert headers.scan([HOST, (name, b"v")]).host


def test_count_and_size_are_bounded(headers: ModuleType) -> None:
    fill = [(b"x-%d" % n, b"v") for n in range(99)]
    assert headers.scan([HOST, *fill]).host
    for error in (refusal(headers, *fill, (b"x", b"v")), refusal(headers, (b"x", b"v" * 32768))):
        assert (error.code, error.status) == ("request_too_large", 431)
    size = sum(len(name) + len(value) for name, value in [HOST, (b"x", b"v" * 100)])
    assert headers.scan([HOST, (b"x", b"v" * 100)], 2, size).host
    for limits in ((1, size), (2, size - 1)):
        with pytest.raises(headers.HeaderError):
            headers.scan([HOST, (b"x", b"v" * 100)], *limits)


def test_messages_hold_no_values_and_bounded_names(headers: ModuleType) -> None:
    for name in (b"host", b"content-length", b"transfer-encoding", b"content-encoding", b"x\r", b"x_api_key"):
        assert "secret" not in bad_request(headers, (name, b"secret /"), host=name != b"host")
    assert "secret" not in bad_request(headers, (b"idempotency-key", b"secret" * 99))
    assert len(bad_request(headers, (b"n" * 10_000, b"\x00"))) < 200


@pytest.mark.parametrize(
    "raw",
    [
        (HOST,),
        None,
        [None],
        [[b"host", b"a"]],
        [(b"host",)],
        [(b"host", b"a", b"b")],
        [("host", "a")],
        [(b"host", None)],
    ],
)
def test_only_pairs_of_bytes(headers: ModuleType, raw: Any) -> None:
    for call in (
        lambda: headers.scan(raw),
        lambda: headers.forward(raw, headers.DEFAULT_ALLOW),
        lambda: headers.respond(raw, headers.DEFAULT_REPLY_ALLOW),
    ):
        with pytest.raises(TypeError):
            call()


def scanned(module: ModuleType, raw: Raw) -> Any:
    try:
        return facts(module.scan(raw, 6, 400))
    except headers_py.HeaderError as error:
        return error.code, error.status, error.message


@NATIVE
@settings(max_examples=500, deadline=None)
@given(st.lists(LINES, max_size=7), st.booleans())
def test_twins_scan_alike(raw: Raw, host: bool) -> None:
    raw = [HOST, *raw] if host else raw
    assert scanned(headers_c, raw) == scanned(headers_py, raw)


@NATIVE
@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=12) | st.text("[]:.a1fG%-_ 0", max_size=12).map(str.encode))
def test_twins_judge_hosts_alike(host: bytes) -> None:
    assert scanned(headers_c, [(b"host", host)]) == scanned(headers_py, [(b"host", host)])


@NATIVE
def test_the_native_module_has_every_public_name() -> None:
    assert not [name for name in headers_py.__all__ if not hasattr(headers_c, name)]
