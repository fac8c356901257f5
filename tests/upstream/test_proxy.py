"""Proxy URLs and absolute-form heads; the tunnel itself is tested where it is used, with TLS inside."""

import pytest

from fastgw.upstream import proxy


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://p.test:3128", ("p.test", 3128, b"")),
        ("http://p.test", ("p.test", 80, b"")),
        ("http://[::1]:8080", ("::1", 8080, b"")),
        ("http://a:b@p.test:1", ("p.test", 1, b"Basic YTpi")),
        ("http://a@p.test:1", ("p.test", 1, b"Basic YTo=")),
    ],
)
def test_proxy_urls(url, expected):
    assert proxy.parse(url) == expected
    assert "@" not in proxy.parse(url).name


@pytest.mark.parametrize(
    "url", ["https://p.test", "p.test:80", "http://", "http://p:99999", "http://p:x", "socks5://p"]
)
def test_proxy_urls_refused(url):
    with pytest.raises(ValueError, match="proxy's URL"):
        proxy.parse(url)


def test_a_head_in_absolute_form():
    head = b"GET /a?b=c HTTP/1.1\r\nhost: x\r\n\r\n"
    plain = proxy.absolute(head, b"http://x:8", proxy.Proxy("p", 1, b""))
    assert plain == b"GET http://x:8/a?b=c HTTP/1.1\r\nhost: x\r\n\r\n"
    signed = proxy.absolute(head, b"http://x:8", proxy.Proxy("p", 1, b"Basic eA=="))
    assert signed == plain.replace(b"host", b"proxy-authorization: Basic eA==\r\nhost")


def test_authorities():
    assert proxy.authority("a.test", 1) == "a.test:1"
    assert proxy.authority("::1", 1) == "[::1]:1"
