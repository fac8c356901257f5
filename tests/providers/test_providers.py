"""Vendors are data; here is what all of that data must hold."""

import re
from urllib.parse import urlsplit

import pytest

from fastgw.dialects import openai as dialects
from fastgw.providers import PROVIDERS

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@pytest.mark.parametrize("kind", PROVIDERS)
def test_every_provider_is_sound(kind):
    one = PROVIDERS[kind]
    assert one.kind == kind
    assert re.fullmatch(r"[a-z][a-z0-9_]*", kind)
    assert one.speaks
    for dialect, path in (*one.speaks.items(), *one.stream_speaks.items()):
        assert re.fullmatch(r"[a-z_]+", dialect)
        assert re.fullmatch(r"/[!-~]*", path)
        assert set(re.findall(r"\{(\w+)\}", path)) <= {"model", "api_version", "project", "location", "region"}
        assert "{api_version}" not in path or one.api_version
    assert set(one.stream_speaks) <= set(one.speaks)
    assert re.fullmatch(r"[a-z-]+", one.auth_header)
    assert re.fullmatch(r"[A-Za-z-]*", one.auth_scheme)
    assert all(re.fullmatch(r"[a-z0-9-]+: [!-~ ]+", f"{name}: {value}") for name, value in one.headers.items())


@pytest.mark.parametrize("kind", [kind for kind, one in PROVIDERS.items() if one.base_url])
def test_no_credential_leaves_the_machine_in_the_clear(kind):
    one = PROVIDERS[kind]
    parts = urlsplit(one.base_url)
    assert parts.scheme == "https" or (parts.hostname in LOOPBACK and not one.key_required)
    assert not one.base_url.endswith("/")
    assert (parts.username, parts.query, parts.fragment) == (None, "", "")


def test_what_starts_from_the_environment_needs_no_more_than_its_key():
    for one in PROVIDERS.values():
        if one.key_env:
            assert one.base_url
            assert re.fullmatch(r"[A-Z][A-Z0-9_]*_(API_KEY|TOKEN|KEY)(_BEDROCK)?", one.key_env)
    names = [one.key_env for one in PROVIDERS.values() if one.key_env]
    assert len(set(names)) == len(names)


def test_the_three_that_everything_else_is_measured_by():
    assert PROVIDERS["openai"].base_url == "https://api.openai.com/v1"
    assert (PROVIDERS["azure"].auth_header, PROVIDERS["azure"].auth_scheme) == ("api-key", "")
    assert not PROVIDERS["openai_compatible"].key_required
    chat = {dialects.CHAT.name, dialects.COMPLETIONS.name, dialects.EMBEDDINGS.name}
    assert all(chat <= set(PROVIDERS[kind].speaks) for kind in ("openai", "azure", "openai_compatible"))
