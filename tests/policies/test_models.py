"""Which model is meant, and who may use it."""

import msgspec
import pytest

from fastgw.dialects.openrouter import Preferences, Wishes
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


# --- aliases


def aliased(aliases, *names, wildcards=()):
    plan = plan_of(models=[model(name) for name in names], wildcards=[model(name) for name in wildcards])
    plan = msgspec.structs.replace(plan, aliases=aliases)
    return models.build(plan, env_of(plan)).body


def test_an_alias_is_the_model_it_stands_for():
    call = call_of(key(), "gpt-4")
    aliased({"gpt-4": "fast"}, "fast")(call)
    assert (call.model.name, call.model_name, call.alias, call.asked) == ("fast", "fast", "gpt-4", "gpt-4")
    assert call.shown == "gpt-4"


def test_a_name_of_its_own_is_no_alias():
    call = call_of(key(), "fast")
    aliased({"gpt-4": "fast"}, "fast")(call)
    assert (call.alias, call.asked, call.shown) == ("", "", "fast")


def test_an_alias_may_mean_what_a_wildcard_takes():
    call = call_of(key(), "gpt-4")
    aliased({"gpt-4": "up/gpt"}, wildcards=["up/*"])(call)
    assert (call.model.name, call.model_name, call.upstream_model) == ("up/*", "up/gpt", "gpt")


def test_a_keys_alias_comes_before_that_of_all_and_before_models():
    body = aliased({"gpt-4": "fast"}, "fast", "slow")
    holder = key(aliases={"gpt-4": "slow", "fast": "slow"})
    for asked in ("gpt-4", "fast"):
        call = call_of(holder, asked)
        body(call)
        assert call.model_name == "slow"
    call = call_of(key("other"), "gpt-4")
    body(call)
    assert call.model_name == "fast"


def test_one_step_only():
    error = refusal(aliased({"a": "b", "b": "fast"}, "fast"), call_of(key(), "a"))
    assert error.kind == "model_not_found"
    assert "'a'" in error.message


@pytest.mark.parametrize("may", [{"gpt-4"}, {"fast"}])
def test_access_is_by_the_alias_or_by_what_it_means(may):
    call = call_of(key(models=frozenset(may)), "gpt-4")
    aliased({"gpt-4": "fast"}, "fast", "slow")(call)
    assert call.model_name == "fast"


def test_the_alias_of_a_model_one_may_not_use_is_403():
    body = aliased({"gpt-4": "fast"}, "fast", "slow")
    assert refusal(body, call_of(key(models=frozenset({"slow"})), "gpt-4")).kind == "model_not_allowed"


def test_who_may_use_an_alias_may_not_use_its_model_by_name():
    body = aliased({"gpt-4": "fast"}, "fast")
    assert refusal(body, call_of(key(models=frozenset({"gpt-4"})), "fast")).kind == "model_not_allowed"


# --- further models, and preferences


def wishing(names, provider=None, takes_provider=False):
    plan = plan_of(models=[model(name) for name in ("fast", "slow", "third")])
    plan = msgspec.structs.replace(plan, aliases={"gpt-4": "fast", "s": "slow"})
    env = env_of(plan)
    for route in env.routes.exact.values():
        route.takes_provider = takes_provider
    return models.build(plan, env).body, Wishes(tuple(names), provider, None)


def test_further_models_are_found_and_each_is_there_once():
    body, wishes = wishing(["gpt-4", "s", "fast", "third", "slow"])
    call = call_of(key(), "fast")
    call.wishes = wishes
    body(call)
    assert call.model_name == "fast"
    assert [(one.alias, one.name) for one in wishes.others] == [("s", "slow"), ("", "third")]
    assert wishes.preferences is None


@pytest.mark.parametrize(
    ("names", "kind", "param"),
    [(["slow", "none"], "model_not_found", "models[1]"), (["third"], "model_not_allowed", "models[0]")],
)
def test_every_further_model_must_be_there_and_allowed(names, kind, param):
    body, wishes = wishing(names)
    call = call_of(key(models=frozenset({"fast", "slow"})), "fast")
    call.wishes = wishes
    with pytest.raises(GatewayError) as caught:
        body(call)
    assert (caught.value.kind, caught.value.param) == (kind, param)
    assert repr(names[-1]) in caught.value.message


def test_preferences_are_read_unless_all_providers_read_them_themselves():
    raw = b'{"only":["up"],"allow_fallbacks":false}'
    body, wishes = wishing([], raw)
    call = call_of(key(), "fast")
    call.wishes = wishes
    body(call)
    assert wishes.preferences == Preferences(only=frozenset({"up"}), fallbacks=False)
    body, call.wishes = wishing([], b'{"zdr":true}', takes_provider=True)
    call.model_name = "fast"
    body(call)
    assert call.wishes.preferences is None
