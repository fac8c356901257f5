"""Vendors are data; here is what all of that data must hold."""

import re
from urllib.parse import urlsplit

import pytest

from fastgw.dialects import openai as dialects
from fastgw.providers import PROVIDERS

DIALECTS = {one.name for one in (dialects.CHAT, dialects.COMPLETIONS, dialects.EMBEDDINGS)}


@pytest.mark.parametrize("kind", PROVIDERS)
def test_every_provider_is_sound(kind):
    one = PROVIDERS[kind]
    assert one.kind == kind
    assert re.fullmatch(r"[a-z_]+", kind)
    assert one.speaks
    assert set(one.speaks) <= DIALECTS
    for path in one.speaks.values():
        assert path.startswith("/")
        assert set(re.findall(r"\{(\w+)\}", path)) <= {"model", "api_version"}
        assert ("{api_version}" in path) == bool(one.api_version)
    if one.base_url:
        assert urlsplit(one.base_url).scheme == "https"
        assert not one.base_url.endswith("/")
    assert re.fullmatch(r"[a-z-]+", one.auth_header)
    assert all(name.isascii() and "\r" not in value and "\n" not in value for name, value in one.headers.items())


def test_what_starts_from_the_environment_needs_no_more_than_its_key():
    for one in PROVIDERS.values():
        if one.key_env:
            assert one.base_url
            assert re.fullmatch(r"[A-Z_]+_API_KEY", one.key_env)
    names = [one.key_env for one in PROVIDERS.values() if one.key_env]
    assert len(set(names)) == len(names)


def test_the_three_of_today():
    assert list(PROVIDERS) == ["openai", "azure", "openai_compatible"]
    assert (PROVIDERS["azure"].auth_header, PROVIDERS["azure"].auth_scheme) == ("api-key", "")
    assert not PROVIDERS["openai_compatible"].key_required
    assert PROVIDERS["openai"].base_url == "https://api.openai.com/v1"
