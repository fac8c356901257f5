"""Which proxy the environment asks for."""

import pytest

from fastgw.plan.egress import from_environment

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("environ", "scheme", "host", "expected"),
    [
        ({}, "https", "api.openai.com", None),
        ({"HTTPS_PROXY": PROXY}, "https", "api.openai.com", PROXY),
        ({"https_proxy": "p:1", "HTTPS_PROXY": PROXY}, "https", "a.com", "http://p:1"),
        ({"HTTPS_PROXY": PROXY}, "http", "a.com", None),
        ({"HTTP_PROXY": PROXY}, "http", "a.com", None),
        ({"http_proxy": PROXY}, "http", "a.com", PROXY),
        ({"ALL_PROXY": PROXY}, "http", "a.com", PROXY),
        ({"HTTPS_PROXY": ""}, "https", "a.com", None),
        ({"ALL_PROXY": PROXY}, "http", "127.0.0.1", None),
        ({"ALL_PROXY": PROXY}, "http", "localhost", None),
        ({"ALL_PROXY": PROXY}, "http", "::1", None),
    ],
)
def test_the_variable_for_the_scheme(environ, scheme, host, expected):
    assert from_environment(environ, scheme, host) == expected


@pytest.mark.parametrize(
    ("exceptions", "host", "direct"),
    [
        ("a.com", "a.com", True),
        ("a.com", "x.a.com", True),
        (".a.com", "x.a.com", True),
        ("*.a.com", "x.a.com", True),
        ("a.com", "ba.com", False),
        ("*", "b.com", True),
        ("b.com, 10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("::1", "::1", True),
        ("A.COM", "a.com.", True),
        (",,", "a.com", False),
    ],
)
def test_exceptions(exceptions, host, direct):
    found = from_environment({"HTTPS_PROXY": PROXY, "NO_PROXY": exceptions}, "https", host)
    assert (found is None) == direct
