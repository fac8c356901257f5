"""The micro benchmark of translated events: what it feeds is what it says, and comes out translated."""

import pytest

from bench.micro import translated_event as bench


@pytest.mark.parametrize(("client", "provider"), bench.pairs([]))
def test_every_event_comes_out_of_every_tap(client, provider, monkeypatch):
    monkeypatch.setattr(bench, "EVENTS", 10)
    monkeypatch.setattr(bench, "WARM_UP", 5)
    feed, events = bench.warmed(client, provider)
    out = [feed(event) for event in events]
    assert len(out) == 10
    assert all(out)
    if client == provider:
        assert out == events


def test_a_tap_that_says_nothing_is_no_measurement(monkeypatch):
    monkeypatch.setattr(bench, "feeder", lambda client, provider: lambda data: b"")
    with pytest.raises(RuntimeError, match="0 came out"):
        bench.warmed("gemini", "openai_chat")


def test_only_some_pairs_those_that_pass_first():
    assert bench.pairs(["gemini:openai_chat", "gemini:gemini"]) == [("gemini", "gemini"), ("gemini", "openai_chat")]


def test_what_is_shown_is_held_against_a_tapped_event():
    shown = bench.table({"openai_chat:openai_chat": 4000.0, "openai_chat:gemini": 16000.0})
    assert "16,000 (+12,000)" in shown
    assert "4,000 (" not in shown
