"""Quirks: what each kind of edit does to a request, in which order, and what is said to be lost."""

import json

import pytest

from fastgw._core import fields
from fastgw.plan.plan import Quirks
from fastgw.providers import PROVIDERS
from fastgw.providers.quirks import NONE, Adjust, merge, traits


def applied(body, fix=None, **parts):
    raw, lost = Adjust(Quirks(**parts), fix).apply(json.dumps(body).encode())
    return json.loads(raw), lost


def test_what_nothing_is_said_of_stays_byte_for_byte():
    body = b'{ "model" : "m",\n "x": 1e400, "y":"\\u00e9" }'
    assert Adjust(Quirks(drop=("z",), rename={"q": "w"}, clamp={"n": (1, 1)})).apply(body) == (body, [])


def test_a_refused_field_is_left_out_and_named():
    assert applied({"a": 1, "b": 2, "c": None}, drop=("b", "c", "d")) == ({"a": 1}, ["b"])


def test_what_is_said_in_another_way_is_not_lost():
    body = {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "a": 1}
    assert applied(body, drop=("model", "stream", "stream_options")) == ({"a": 1}, [])


def test_a_field_gets_its_other_name_and_nothing_is_lost():
    assert applied({"ours": [1], "x": 1}, rename={"ours": "theirs"}) == ({"theirs": [1], "x": 1}, [])
    assert applied({"ours": 1, "theirs": None}, rename={"ours": "theirs"}) == ({"theirs": 1}, [])


def test_who_gives_both_names_means_the_vendors_own():
    assert applied({"ours": 1, "theirs": 2}, rename={"ours": "theirs"}) == ({"theirs": 2}, ["ours"])
    assert applied({"ours": None, "theirs": 2}, rename={"ours": "theirs"}) == ({"theirs": 2}, [])


@pytest.mark.parametrize(
    ("given", "bounds", "sent", "lost"),
    [
        (0.5, (0, 1), 0.5, []), (1.5, (0, 1), 1, ["t"]), (-3, (0, 1), 0, ["t"]), (2, (0.25, 0.75), 0.75, ["t"]),
        (1, (0, 1), 1, []), (10**30, (0, 8192), 8192, ["t"]), ("2", (0, 1), "2", []), (None, (0, 1), None, []),
        (True, (0, 0), True, []), ([2], (0, 1), [2], []),
    ],
)  # fmt: skip
def test_a_number_is_brought_within_its_bounds(given, bounds, sent, lost):
    assert applied({"t": given}, clamp={"t": bounds}) == ({"t": sent}, lost)


def test_a_default_stands_only_where_nothing_was_given():
    default = {"x": '{"type":"disabled"}'}
    assert applied({}, default=default) == ({"x": {"type": "disabled"}}, [])
    assert applied({"x": None}, default=default) == ({"x": {"type": "disabled"}}, [])
    assert applied({"x": 0}, default=default) == ({"x": 0}, [])


def test_what_is_set_stands_in_any_case_and_what_it_replaces_is_named():
    assert applied({"a": 1}, set={"v": '"x"'}) == ({"a": 1, "v": "x"}, [])
    assert applied({"v": "x"}, set={"v": '"x"'}) == ({"v": "x"}, [])
    assert applied({"v": "other"}, set={"v": '"x"'}) == ({"v": "x"}, ["v"])


def test_the_order_is_drop_rename_clamp_default_set():
    parts = {"drop": ("a",), "rename": {"b": "a"}, "clamp": {"a": (0, 5)}, "default": {"b": "7"}, "set": {"c": "1"}}
    assert applied({"a": 1, "b": 9}, **parts) == ({"a": 5, "b": 7, "c": 1}, ["a", "a"])


def test_a_fix_sees_what_the_data_left():
    def fix(body):
        return {b"n": b"%d" % (1 + int(body.get(b"a")))}, ["n"]

    assert applied({"b": 4, "n": 0}, fix, rename={"b": "a"}) == ({"n": 5, "a": 4}, ["n"])


def test_what_is_no_object_is_refused():
    with pytest.raises(fields.FieldError):
        Adjust(Quirks(drop=("a",))).apply(b"[]")


def test_later_layers_go_over_earlier_ones_and_can_take_words_away():
    low = Quirks(drop=("a",), rename={"x": "y"}, clamp={"n": (0, 1)}, set={"s": "1"}, features=("top_k", "prefix"))
    high = Quirks(
        drop=("a", "b"), rename={"x": "z"}, clamp={"n": (0, 2)}, set={"s": "2"}, features=("-prefix", "audio")
    )
    assert merge(low, high) == Quirks(("a", "b"), {"x": "z"}, {"n": (0, 2)}, {}, {"s": "2"}, ("top_k", "audio"))
    assert merge() == NONE == merge(NONE, NONE)


def test_a_model_has_the_quirks_of_every_pattern_its_name_begins_with():
    models = {"a": Quirks(features=("top_k",)), r"a-[2-9]": Quirks(drop=("x",)), "b": Quirks(drop=("y",))}
    plain, newer, other = (traits(NONE, models, NONE, name) for name in ("a-1", "a-2-mini", "not-a"))
    assert (plain.features, plain.adjust) == (frozenset({"top_k"}), None)
    assert newer.features == frozenset({"top_k"})
    assert newer.adjust.apply(b'{"x":1,"y":2}') == (b'{"y":2}', ["x"])
    assert (other.features, other.adjust) == (frozenset(), None)


def test_a_vendor_without_quirks_pays_nothing():
    assert traits(NONE, {}, NONE, "m").adjust is None
    assert traits(PROVIDERS["vercel"].quirks, PROVIDERS["vercel"].models, NONE, "m").adjust is None


@pytest.mark.parametrize(
    ("kind", "model", "words"),
    [
        ("gemini", "gemini-2.0-flash", set()),
        ("gemini", "gemini-2.5-pro", {"json_schema", "fetch_urls"}),
        ("gemini", "gemini-3-pro-preview", {"json_schema", "fetch_urls", "thinking_level", "thought_signatures",
                                            "tool_images"}),
        ("anthropic", "claude-sonnet-4-5-20250929", set()),
        ("anthropic", "claude-opus-4-6", {"adaptive_thinking"}),
        ("anthropic", "claude-opus-4-7", {"adaptive_thinking", "effort_xhigh", "no_temperature"}),
        ("anthropic", "claude-opus-4-8", {"adaptive_thinking", "effort_xhigh", "no_temperature", "mid_system"}),
        ("anthropic", "claude-opus-5", {"adaptive_thinking", "effort_xhigh", "no_temperature", "mid_system"}),
    ],
)  # fmt: skip
def test_newer_models_differ(kind, model, words):
    one = PROVIDERS[kind]
    found = traits(one.quirks, one.models, NONE, model, one.fix_request)
    assert set(found.features) == words
    assert found.mid_system == ("mid_system" in words)


@pytest.mark.parametrize(
    ("model", "limit", "temperature"),
    [
        ("gpt-4o", "max_tokens", True), ("o3", "max_completion_tokens", False),
        ("o4-mini-2025-04-16", "max_completion_tokens", False), ("gpt-5-mini", "max_completion_tokens", False),
        ("gpt-5.2", "max_completion_tokens", True), ("gpt-5-chat-latest", "max_tokens", True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["openai", "azure", "azure_foundry"])
def test_models_that_reason_are_asked_as_they_must_be(kind, model, limit, temperature):
    one = PROVIDERS[kind]
    adjust = traits(one.quirks, one.models, NONE, model).adjust
    body = b'{"max_tokens":9,"temperature":0.5}'
    sent, lost = (body, []) if adjust is None else adjust.apply(body)
    assert json.loads(sent) == {limit: 9} | ({"temperature": 0.5} if temperature else {})
    assert lost == ([] if temperature else ["temperature"])


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        ("grok-3", {"stop"}), ("grok-4", set()), ("grok-4.3", {"reasoning_effort"}), ("grok-4.5", {"reasoning_effort"}),
        ("grok-4-fast-non-reasoning", {"stop"}), ("grok-3-mini", {"reasoning_effort"}),
    ],
)  # fmt: skip
def test_what_groks_take(model, kept):
    one = PROVIDERS["xai"]
    adjust = traits(one.quirks, one.models, NONE, model).adjust
    body = {"stop": ["x"], "reasoning_effort": "low"}
    sent = body if adjust is None else json.loads(adjust.apply(json.dumps(body).encode())[0])
    assert kept <= set(sent)
    assert ("stop" in sent) == ("stop" in kept)
