"""Asking a token service: by which way, and what is made of its answers."""

import pytest

from fastgw.upstream.auth.base import AuthError, Bearer, life_of
from fastgw.upstream.auth.tokens import get, post
from tests.support.endpoint import endpoint, token


def test_a_token_service_is_asked_by_the_proxy_of_the_environment(monkeypatch):
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with endpoint(token("by-proxy")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert post("http://token.invalid/oauth", {"a": "b c"})["access_token"] == "by-proxy"
        (asked,) = proxy.asked
        assert asked.head.startswith(b"POST http://token.invalid/oauth HTTP/1.1\r\n")
        assert asked.form == {"a": "b c"}


def test_the_machines_own_services_never_are(monkeypatch):
    monkeypatch.delenv("NO_PROXY", raising=False)
    with endpoint(token("by-proxy")) as proxy, endpoint(token("itself")) as at:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert get(f"{at.url}/metadata?x=1", {"metadata": "true"})["access_token"] == "itself"
        assert proxy.asked == []
        assert at.asked[0].headers["metadata"] == "true"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_credential_is_not_carried_elsewhere(status):
    with endpoint(token()) as other, endpoint(lambda asked: (status, b""), {"location": other.url}) as at:
        with pytest.raises(AuthError, match=f"answered {status}$"):
            post(at.url, {"client_secret": "s"})
        assert other.asked == []


@pytest.mark.parametrize("value", [None, "", "x y", "x\n", "\u00e9", 5, "x" * 17_000])
def test_tokens_that_fit_in_no_header(value):
    with pytest.raises(AuthError):
        Bearer(value)


@pytest.mark.parametrize("value", [None, "soon", -1, 0, "nan", "inf", 10**9])
def test_lives_that_are_none(value):
    with pytest.raises(AuthError):
        life_of(value)


def test_lives_are_numbers_or_text():
    assert (life_of(3599), life_of("3599"), life_of(0.5)) == (3599.0, 3599.0, 0.5)
