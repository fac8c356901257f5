"""OpenRouter's `models` and `provider`, read from JSON: what is served, and what is refused by its path."""

import json

import pytest

from fastgw.dialects.openrouter import MAX_MODELS, MAX_NAMES, Preferences, read_models, read_preferences
from fastgw.errors import GatewayError


def raw(value) -> bytes:
    return json.dumps(value).encode()


def refusal(read, value):
    with pytest.raises(GatewayError) as caught:
        read(value if isinstance(value, bytes) else raw(value))
    return caught.value


@pytest.mark.parametrize(
    ("value", "names"),
    [(None, ()), ([], ()), (["a"], ("a",)), (["b", "a", "b"], ("b", "a")), (["x/y:z"], ("x/y:z",))],
)
def test_models(value, names):
    assert read_models(raw(value)) == names


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("a", "models"), ({}, "models"), (1, "models"), (["m"] * (MAX_MODELS + 1), "models"),
        ([1], "models[0]"), (["a", ""], "models[1]"), (["a", None], "models[1]"), (["x" * 257], "models[0]"),
        (b'["\\ud800"]', "models"),
    ],
)  # fmt: skip
def test_models_that_are_none(value, path):
    error = refusal(read_models, value)
    assert (error.kind, error.param) == ("invalid_type", path)
    assert path in error.message


@pytest.mark.parametrize(
    ("value", "wish"),
    [
        (None, Preferences()),
        ({}, Preferences()),
        ({"order": ["OpenAI", "azure", "openai"]}, Preferences(order=("openai", "azure"))),
        ({"only": ["A"], "ignore": ["b"]}, Preferences(only=frozenset({"a"}), ignore=frozenset({"b"}))),
        ({"only": []}, Preferences(only=frozenset())),
        ({"sort": "price", "allow_fallbacks": False}, Preferences(by_price=True, fallbacks=False)),
        ({"max_price": {"prompt": 1, "completion": "2.5"}}, Preferences(prompt=10**6, completion=2_500_000)),
        ({"max_price": {"prompt": 0.15}}, Preferences(prompt=150_000)),
        ({"order": None, "only": None, "sort": None, "max_price": None, "allow_fallbacks": None}, Preferences()),
    ],
)
def test_preferences(value, wish):
    assert read_preferences(raw(value)) == wish


@pytest.mark.parametrize(
    ("value", "kind", "path"),
    [
        ([], "invalid_type", "provider"),
        ("openai", "invalid_type", "provider"),
        ({"order": "openai"}, "invalid_type", "provider.order"),
        ({"order": ["a", 1]}, "invalid_type", "provider.order[1]"),
        ({"ignore": ["n"] * (MAX_NAMES + 1)}, "invalid_type", "provider.ignore"),
        ({"only": [""]}, "invalid_type", "provider.only[0]"),
        ({"sort": "throughput"}, "unsupported_field", "provider.sort"),
        ({"sort": "latency"}, "unsupported_field", "provider.sort"),
        ({"sort": "beauty"}, "invalid_type", "provider.sort"),
        ({"sort": {"by": "price"}}, "invalid_type", "provider.sort"),
        ({"max_price": 3}, "invalid_type", "provider.max_price"),
        ({"max_price": {"image": 3}}, "unsupported_field", "provider.max_price.image"),
        ({"max_price": {"prompt": True}}, "invalid_type", "provider.max_price.prompt"),
        ({"max_price": {"prompt": [1]}}, "invalid_type", "provider.max_price.prompt"),
        ({"max_price": {"prompt": -1}}, "invalid_type", "provider.max_price.prompt"),
        ({"max_price": {"completion": "cheap"}}, "invalid_type", "provider.max_price.completion"),
        (b'{"max_price":{"prompt":1e999}}', "invalid_type", "provider"),
        ({"allow_fallbacks": "no"}, "invalid_type", "provider.allow_fallbacks"),
        ({"zdr": True}, "unsupported_field", "provider.zdr"),
        ({"zdr": None}, "unsupported_field", "provider.zdr"),
        ({"x" * 500: 1}, "unsupported_field", "provider." + "x" * 64),
    ],
)
def test_what_is_not_served_is_refused_by_its_path(value, kind, path):
    error = refusal(read_preferences, value)
    assert (error.kind, error.param) == (kind, path)
    assert len(error.message) < 300
