"""Which model is meant, and who may use it."""

import pytest

from fastgw.errors import GatewayError
from fastgw.policies import models
from fastgw.policies.models import allowed
from tests.policies.support import call_of, env_of, key, model, plan_of


def body_of(*names, wildcards=()):
    plan = plan_of(models=[model(name) for name in names], wildcards=[model(name) for name in wildcards])
    return models.build(plan, env_of(plan)).body


def refusal(body, call):
    with pytest.raises(GatewayError) as caught:
        body(call)
    assert caught.value.param == "model"
    return caught.value


@pytest.mark.parametrize(
    ("names", "patterns", "asked", "expected"),
    [
        (None, (), ("x",), True),
        (frozenset(), (), ("x",), False),
        (frozenset({"x"}), (), ("x",), True),
        (frozenset({"x"}), (), ("X",), False),
        (frozenset({"x"}), (), ("xy",), False),
        (frozenset({"x"}), (), ("y", "x"), True),
        (frozenset(), ("openai/",), ("openai/gpt",), True),
        (frozenset(), ("openai/",), ("openai",), False),
        (frozenset(), ("openai/",), ("azure/openai/",), False),
        (frozenset(), ("a", "b"), ("bc",), True),
    ],
)
def test_access(names, patterns, asked, expected):
    assert allowed(key(models=names, patterns=patterns), *asked) is expected


def test_a_model_is_found():
    call = call_of(key(), "fast")
    body_of("fast", "slow")(call)
    assert (call.model.name, call.upstream_model) == ("fast", "")


def test_a_wildcard_gives_the_upstreams_name():
    call = call_of(key(models=frozenset({"up/gpt"})), "up/gpt")
    body_of(wildcards=["up/*"])(call)
    assert (call.model.name, call.upstream_model) == ("up/*", "gpt")


def test_an_unknown_model_is_404():
    error = refusal(body_of("fast"), call_of(key(), "slow"))
    assert (error.kind, error.status) == ("model_not_found", 404)
    assert "'slow'" in error.message


def test_another_callers_model_is_403_and_not_named_to_be_there_for_nobody():
    error = refusal(body_of("fast", "slow"), call_of(key("bob", models=frozenset({"fast"})), "slow"))
    assert (error.kind, error.status) == ("model_not_allowed", 403)
    assert "'bob'" in error.message


def test_a_key_with_a_pattern_reaches_the_wildcard_below_it_only():
    body = body_of(wildcards=["up/*", "two/*"])
    holder = key(models=frozenset(), patterns=("up/",))
    body(call_of(holder, "up/gpt"))
    assert refusal(body, call_of(holder, "two/gpt")).kind == "model_not_allowed"


@pytest.mark.parametrize("name", ["x" * 5000, "a\r\nb", "\u2028\x1b[31m", "\x00"])
def test_a_callers_name_is_cut_and_escaped(name):
    message = refusal(body_of("fast"), call_of(key(), name)).message
    assert len(message) < 300
    assert message.isascii()
    assert message.isprintable()
