"""Header scan and forwarding, native against pure: ``pytest bench/micro --benchmark-only``."""

from types import ModuleType

import pytest

from fastgw._core import headers_py

try:
    from fastgw._core import headers_c
except ImportError:
    headers_c = None

TWINS = [
    pytest.param(headers_py, id="pure"),
    pytest.param(headers_c, id="native", marks=pytest.mark.skipif(headers_c is None, reason="not compiled")),
]
CURL = [
    (b"host", b"127.0.0.1:4000"),
    (b"accept", b"*/*"),
    (b"content-type", b"application/json"),
    (b"authorization", b"Bearer fgw-0123456789abcdef0123456789abcdef"),
    (b"content-length", b"412"),
]
SDK = [
    *CURL,
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
    (b"user-agent", b"OpenAI/Python 3.54.0"),
    (b"x-stainless-lang", b"python"),
    (b"x-stainless-package-version", b"3.54.0"),
    (b"x-stainless-os", b"Linux"),
    (b"x-stainless-arch", b"x64"),
    (b"x-stainless-runtime", b"CPython"),
    (b"x-stainless-runtime-version", b"3.11.7"),
    (b"x-stainless-async", b"false"),
    (b"x-stainless-retry-count", b"0"),
    (b"x-stainless-read-timeout", b"600"),
]
REPLY = [
    (b"Content-Type", b"application/json"),
    (b"Date", b"Thu, 01 Jan 2026 00:00:00 GMT"),
    (b"openai-processing-ms", b"412"),
    (b"x-request-id", b"req_0123456789"),
    (b"Server", b"cloudflare"),
    (b"Content-Length", b"600"),
]


@pytest.fixture(params=TWINS)
def headers(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


@pytest.mark.benchmark(group="headers: scan, 5 lines")
def test_scan_few(benchmark, headers):
    assert benchmark(headers.scan, CURL).content_length == 412


@pytest.mark.benchmark(group="headers: scan, 17 lines")
def test_scan_many(benchmark, headers):
    assert benchmark(headers.scan, SDK).content_length == 412


@pytest.mark.benchmark(group="headers: forward, 17 lines")
def test_forward(benchmark, headers):
    assert benchmark(headers.forward, SDK, headers.DEFAULT_ALLOW).startswith(b"accept: */*\r\n")


@pytest.mark.benchmark(group="headers: respond, 6 lines")
def test_respond(benchmark, headers):
    assert len(benchmark(headers.respond, REPLY, headers.DEFAULT_REPLY_ALLOW)) == 2
