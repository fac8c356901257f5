"""Whether a stream has begun, has failed, or says nothing yet: every dialect's first events."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.dialects import framing
from fastgw.dialects.opening import JUDGES, judge
from tests.faults.tongues import CHAT, GEMINI, MESSAGES, RESPONSES

TONGUES = {tongue.dialect: tongue for tongue in (CHAT, GEMINI, MESSAGES, RESPONSES)}


def verdicts(dialect, events):
    payloads = [framing.payload(event) for event in events]
    return [judge(dialect, payload) for payload in payloads if payload is not None]


def chunk(delta=None, **more):
    return json.dumps({"choices": [{"index": 0, "delta": delta or {}, "finish_reason": None}]} | more).encode()


@pytest.mark.parametrize(
    ("payload", "verdict"),
    [
        (chunk({"role": "assistant", "content": ""}), "waiting"),
        (chunk({"role": "assistant", "content": None, "tool_calls": []}), "waiting"),
        (chunk({"content": "x"}), "begun"), (chunk({"reasoning_content": "hm"}), "begun"),
        (chunk({"tool_calls": [{"index": 0}]}), "begun"), (chunk({"refusal": "no"}), "begun"),
        (b'{"choices":[{"delta":{},"finish_reason":"stop"}]}', "begun"),
        # Azure's first chunk has filter results and no choices.
        (b'{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}', "waiting"),
        (b'{"choices":[],"usage":{"prompt_tokens":1}}', "waiting"),
        (b'{"error":{"message":"x"}}', "failed"), (b'{"error":"x","choices":[]}', "failed"),
        (b'{"error":null,"choices":[]}', "waiting"), (b'{"error":{},"choices":[]}', "waiting"),
        (b"[DONE]", "begun"), (b" [DONE] ", "begun"), (b"not json", "begun"), (b"[1]", "begun"), (b"", "begun"),
        (b'{"choices":[{"text":"x"}]}', "begun"), (b'{"choices":[{"text":""}]}', "waiting"),
        (b'{"choices":"odd"}', "begun"), (b"\xff", "begun"), (b"[" * 5000, "begun"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dialect", ["openai_chat", "openai_completions"])
def test_openais(dialect, payload, verdict):
    assert judge(dialect, payload) == verdict


@pytest.mark.parametrize(
    ("dialect", "payload", "verdict"),
    [
        ("anthropic_messages", b'{"type":"message_start","message":{}}', "waiting"),
        ("anthropic_messages", b'{"type":"ping"}', "waiting"),
        ("anthropic_messages", b'{"type":"content_block_start","index":0}', "begun"),
        ("anthropic_messages", b'{"type":"error","error":{"type":"overloaded_error"}}', "failed"),
        ("openai_responses", b'{"type":"response.created"}', "waiting"),
        ("openai_responses", b'{"type":"response.queued"}', "waiting"),
        ("openai_responses", b'{"type":"response.in_progress"}', "waiting"),
        ("openai_responses", b'{"type":"response.output_item.added"}', "begun"),
        ("openai_responses", b'{"type":"response.failed"}', "failed"),
        ("openai_responses", b'{"type":"error"}', "failed"),
        ("gemini", b'{"candidates":[]}', "begun"),
        ("gemini", b'{"error":{"code":503}}', "failed"),
        ("gemini", b'{"error":null}', "begun"),
    ],
)
def test_others(dialect, payload, verdict):
    assert judge(dialect, payload) == verdict


@pytest.mark.parametrize("dialect", TONGUES)
def test_a_stream_that_is_well_begins_and_never_fails(dialect):
    found = verdicts(dialect, TONGUES[dialect].events())
    assert "failed" not in found
    assert "begun" in found
    assert set(found[: found.index("begun")]) <= {"waiting"}
    assert TONGUES[dialect].speaks(TONGUES[dialect].events()[found.index("begun")]) or dialect in (
        "anthropic_messages", "openai_responses",
    )  # fmt: skip


@pytest.mark.parametrize("dialect", TONGUES)
def test_an_error_event_is_a_failure(dialect):
    assert verdicts(dialect, [TONGUES[dialect].error_event()]) == ["failed"]


@given(st.sampled_from(sorted(JUDGES)), st.binary(max_size=200))
def test_whatever_comes_there_is_a_verdict(dialect, payload):
    assert judge(dialect, payload) in ("waiting", "begun", "failed")
