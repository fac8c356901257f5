"""The operator's own quirks: what compiles, what is refused, and that they go over those of the kind."""

import pytest

from fastgw.plan.plan import Quirks
from tests.plan.support import compiled, refused

MODELS = "models: {fast: {targets: [{provider: up, model: m}]}}\n"


def config(quirks, kind="mistral"):
    url = "http://127.0.0.1:9/v1"
    return f"providers: {{up: {{kind: {kind}, api_key: k, base_url: '{url}', quirks: {quirks}}}}}\n{MODELS}"


def test_they_come_through_as_data(tmp_path):
    text = (
        "{drop: [user], rename: {seed: random_seed}, clamp: {temperature: [0, 1], n: [1, 1]}, "
        "default: {safe_prompt: true, thinking: {type: disabled}}, set: {region: null, day: 2024-01-02}, "
        "features: [top_k, -prefix]}"
    )
    assert compiled(tmp_path, config(text)).upstreams["up"].quirks == Quirks(
        ("user",),
        {"seed": "random_seed"},
        {"temperature": (0, 1), "n": (1, 1)},
        {"safe_prompt": "true", "thinking": '{"type":"disabled"}'},
        {"region": "null", "day": '"2024-01-02"'},
        ("top_k", "-prefix"),
    )


def test_what_is_set_may_be_a_secret_and_is_not_shown(tmp_path):
    own = compiled(tmp_path, config("{set: {account: canary-17}, default: {x: canary-18}}")).upstreams["up"].quirks
    assert own.set == {"account": '"canary-17"'}
    assert "canary" not in repr(own)


def test_who_gives_none_has_none(tmp_path):
    assert compiled(tmp_path, config("{}")).upstreams["up"].quirks == Quirks()


@pytest.mark.parametrize(
    ("quirks", "error"),
    [
        ("{clamp: {n: [2, 1]}}", "quirks.clamp.n: must be two numbers, the least and the most: [0, 1]"),
        ("{clamp: {n: [0, .inf]}}", "quirks.clamp.n: must be two numbers, the least and the most: [0, 1]"),
        ("{drop: ['a,b']}", "quirks.drop: 'a,b' is no field's name; one is 1 to 64 of A-Z a-z 0-9 _ . -"),
        ("{rename: {a: ''}}", "quirks.rename: '' is no field's name; one is 1 to 64 of A-Z a-z 0-9 _ . -"),
        ("{set: {stream: true}}",
         "quirks.set: 'stream' may not be changed: the gateway reads the answer by it; leave it out"),
        ("{set: {x: [.nan]}}", "quirks.set.x: JSON has no such number; give a finite one"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(tmp_path, quirks, error):
    assert refused(tmp_path, config(quirks)) == [f"providers.up.{error}"]


def test_an_unknown_word_and_an_unknown_part_are_refused(tmp_path):
    (error,) = refused(tmp_path, config("{features: [topk]}"))
    assert error.startswith("providers.up.quirks.features: unknown 'topk'; known are ")
    assert "top_k" in error
    (error,) = refused(tmp_path, config("{dropp: [x]}"))
    assert error.startswith("providers.up.quirks.dropp: unknown field")
