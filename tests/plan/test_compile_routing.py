"""Compiling what says who is asked: breakers, fallbacks, several credentials, how targets are chosen."""

import pytest

from fastgw.plan.plan import Breaker
from tests.plan.support import MODELS, PROVIDERS, compiled

TWO_KEYS = (
    "providers: {up: {kind: openai_compatible, base_url: 'http://h/v1', api_keys: [sk-one, sk-two]},"
    " other: {kind: openai_compatible, base_url: 'http://o/v1'}}\n"
)
PAIR = "targets: [{provider: up, model: m, weight: 3}, {provider: other, model: m}]"


def fast(directory, text, more="", providers=TWO_KEYS):
    return compiled(directory, f"{providers}models: {{fast: {{{text}{more}}}, slow: {{{PAIR}}}}}\n").models["fast"]


def test_each_credential_is_a_target_and_has_its_part_of_the_weight(tmp_path):
    model = fast(tmp_path, PAIR)
    assert [(one.id, one.upstream, one.weight) for one in model.targets] == [
        ("up/m", "up", 3), ("up/m", "up#2", 3), ("other/m", "other", 2),
    ]  # fmt: skip
    assert len({one.breaker for one in model.targets} - {-1}) == 3, "a breaker each"


def test_each_credential_is_sent_as_it_is(tmp_path):
    plan = compiled(tmp_path, TWO_KEYS + MODELS)
    assert plan.upstreams["up"].auth_value == "Bearer sk-one"
    assert plan.upstreams["up#2"].auth_value == "Bearer sk-two"
    assert {plan.upstreams[name].name for name in ("up", "up#2")} == {"up"}
    assert "sk-two" not in repr(plan.upstreams)


def test_behind_a_wildcard_credentials_rest_and_models_do_not(tmp_path):
    plan = compiled(tmp_path, TWO_KEYS + MODELS)
    up, other = plan.wildcards["up"], plan.wildcards["other"]
    assert [(one.id, one.upstream) for one in up.targets] == [("up/*", "up"), ("up/*", "up#2")]
    assert len({one.breaker for one in up.targets} - {-1}) == 2
    assert up.breaker.failures == 0
    assert [one.breaker for one in other.targets] == [-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PAIR, Breaker(5, 5000)),
        ("targets: [{provider: other, model: m}]", Breaker(20, 1000)),
        ("targets: [{provider: other, model: m}], fallback: [slow]", Breaker(5, 5000)),
        (PAIR + ", breaker: {failures: 2, open: 250ms}", Breaker(2, 250)),
        (PAIR + ", breaker: {failures: 0}", Breaker(0, 5000)),
    ],
)
def test_breakers(tmp_path, text, expected):
    assert fast(tmp_path, text).breaker == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("[slow]", {"outage": ("slow",), "rate": ("slow",)}),
        ("[slow, other/gpt]", {"outage": ("slow", "other/gpt"), "rate": ("slow", "other/gpt")}),
        ("{context: [slow], policy: [other/gpt]}", {"context": ("slow",), "policy": ("other/gpt",)}),
        ("{context: []}", {}),
        ("[]", {}),
    ],
)
def test_fallbacks(tmp_path, written, expected):
    assert fast(tmp_path, PAIR, f", fallback: {written}").fallback == expected


def test_calls_are_counted_only_where_the_least_busy_is_asked(tmp_path):
    busy = fast(tmp_path, PAIR, ", balance: least_busy")
    loads = [one.load for one in busy.targets]
    assert min(loads) >= 0
    assert loads[0] == loads[1] != loads[2], "credentials of one target are counted together"
    for one in busy.targets:
        (rule,) = one.rules
        assert (rule.kind, rule.slot, rule.limit) == ("concurrent", one.load, 1_000_000)
    assert [(one.load, one.rules) for one in fast(tmp_path, PAIR).targets] == [(-1, ())] * 3


@pytest.mark.parametrize("balance", ["weighted", "priority", "least_busy", "least_latency", "cheapest", "sticky"])
def test_every_strategy_is_kept(tmp_path, balance):
    assert fast(tmp_path, PAIR, f", balance: {balance}").balance == balance


def test_models_have_accounts_of_retries_of_their_own(tmp_path):
    plan = compiled(tmp_path, PROVIDERS + "models: {a: {targets: [{provider: up, model: m}]}, b: {targets: "
                    "[{provider: up, model: m}]}}\n")  # fmt: skip
    slots = [model.retries for model in (*plan.models.values(), *plan.wildcards.values())]
    assert -1 not in slots
    assert len(set(slots)) == len(slots)
    assert len({plan.models[name].targets[0].breaker for name in "ab"}) == 1, "one target, one breaker"
