"""Readers have a short way for the frames that streams are made of: what it reads is what the long way reads."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.dialects import hub
from fastgw.dialects.registry import CODECS

TEXT = "response.output_text.delta"


def chat(delta, **more):
    return {"id": "c", "model": "m", "created": 5, "choices": [{"index": 0, "delta": delta, **more}]}


CHAT = [
    chat({"role": "assistant", "content": ""}),
    chat({"content": "a"}),
    chat({"content": "b", "refusal": None, "tool_calls": None}, finish_reason=None, logprobs=None),
    chat({"content": "é\n\"\\"}, index=1),
    chat({"content": "c"}, index=None),
    chat({"content": "d", "reasoning_content": "hm"}),
    chat({"content": "e", "reasoning_content": ""}),
    chat({"content": "f", "refusal": "no"}),
    chat({"content": "g", "citations": ["u"]}),
    chat({"content": "h", "extra_content": {"google": {"thought_signature": "s"}}}),
    chat({"content": "i"}, logprobs={"content": [], "refusal": None}),
    chat({"content": "j"}, finish_reason="stop"),
    chat({"content": "k", "tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{"}}]}),
    chat({"content": [{"type": "text", "text": "l"}]}),
    chat({}),
    chat({}, finish_reason="length", index=1),
    {**chat({"content": "m"}), "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
    {**chat({"content": "n"}), "usage": None, "error": None, "x_groq": None},
    {**chat({"content": "o"}), "error": {"message": "broken"}},
    {**chat({"content": "p"}), "x_groq": {"usage": {"prompt_tokens": 1}}},
    {"id": "c", "choices": [*chat({"content": "q"})["choices"], {"index": 1, "delta": {"content": "r"}}]},
    {"id": "c", "choices": []},
    "[DONE]",
    "{",
]  # fmt: skip


def gemini(*parts, **more):
    return {"candidates": [{"content": {"parts": list(parts), "role": "model"}, **more}]}


GEMINI = [
    gemini({"text": "a"}, index=0),
    {**gemini({"text": "b"}), "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}, "responseId": "r"},
    {**gemini({"text": "c"}), "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4}},
    {**gemini({"text": "d"}), "usageMetadata": {"promptTokenCount": "3", "candidatesTokenCount": 5}},
    {**gemini({"text": "e"}), "usageMetadata": {"promptTokenCount": -3}},
    gemini({"text": "f", "thought": False}),
    gemini({"text": "g", "thought": True}),
    gemini({"text": "h", "thoughtSignature": "c2ln"}),
    gemini({"text": ""}),
    gemini({"text": "i"}, {"text": "j"}),
    gemini({"text": "k"}, index=1),
    gemini({"text": "l"}, index=None),
    gemini({"text": "m"}, finishReason="STOP"),
    gemini({"text": "n"}, logprobsResult={"chosenCandidates": [{"token": "n", "logProbability": -1}]}),
    gemini({"text": "o"}, citationMetadata={"citationSources": [{"uri": "u", "startIndex": 0, "endIndex": 1}]}),
    gemini({"functionCall": {"name": "f", "args": {}}}),
    {**gemini({"text": "p"}), "promptFeedback": {"blockReason": "SAFETY"}},
    {"error": {"code": 500, "message": "broken"}},
    {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}},
    "{",
]


def claude(**delta):
    return {"type": "content_block_delta", "index": 0, "delta": delta}


def begun(**block):
    return {"type": "content_block_start", "index": 0, "content_block": block}


CLAUDE = [
    {"type": "message_start", "message": {"id": "m", "model": "c", "usage": {"input_tokens": 3}}},
    begun(type="text", text=""),
    begun(type="thinking", thinking=""),
    begun(type="tool_use", id="t", name="f", input={}),
    begun(type="server_tool_use", id="t", name="f", input={}),
    claude(type="text_delta", text="a"),
    claude(type="text_delta", text=""),
    claude(type="text_delta"),
    claude(type="text_delta", text=5),
    claude(type="thinking_delta", thinking="hm"),
    claude(type="signature_delta", signature="s"),
    claude(type="input_json_delta", partial_json='{"a":'),
    claude(type="input_json_delta", partial_json=""),
    claude(type="citations_delta", citation={"type": "page_location"}),
    claude(type="later_delta", text="a"),
    claude(text="a"),
    {"index": 0, "delta": {"type": "text_delta", "text": "a"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "ping"},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
    {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
    "{",
]


def piece(**more):
    return {"type": TEXT, "item_id": "i", "output_index": 0, "content_index": 0, "delta": "a", **more}


RESPONSES = [
    piece(),
    piece(logprobs=[]),
    piece(logprobs=None),
    piece(logprobs=[{"token": "a", "logprob": -1}]),
    piece(logprobs="odd"),
    piece(output_index=1),
    piece(output_index=None),
    piece(delta=""),
    piece(delta=None),
    {"delta": "a"},
    {"type": "response.refusal.delta", "delta": "no"},
    {"type": "error", "message": "broken"},
    "{",
]


def encoded(frame):
    return frame.encode() if isinstance(frame, str) else json.dumps(frame).encode()


def short(reader, name, data):
    return reader.feed(name, data)


def untried(reader, name, data):
    reader._tries = 0
    reader._plain = False
    return reader.feed(name, data)


def direct(reader, name, data):
    return reader._frame(name, data)


def said(codec, way, frames, name=""):
    """What is read of each frame, up to the first that is none."""
    reader, found = CODECS[codec].reader(), []
    for frame in frames:
        try:
            found.append(way(reader, name, encoded(frame)))
        except ValueError:
            return [*found, "none"]
    return [*found, reader.end()]


def some(frames):
    """Streams of these frames that have something to say more than once."""
    return st.lists(st.sampled_from(frames), max_size=12)


@given(some(CHAT))
def test_chat(frames):
    assert said("openai_chat", short, frames) == said("openai_chat", untried, frames)


@given(some(GEMINI))
def test_gemini(frames):
    assert said("gemini", short, frames) == said("gemini", untried, frames)


@given(some(CLAUDE), st.sampled_from(["", "content_block_delta", "error"]))
def test_messages(frames, name):
    assert said("anthropic_messages", short, frames, name) == said("anthropic_messages", direct, frames, name)


@given(some(RESPONSES))
def test_responses(frames):
    assert said("openai_responses", short, frames, TEXT) == said("openai_responses", direct, frames, TEXT)


@pytest.mark.parametrize(("codec", "frame"), [("openai_chat", CHAT[1]), ("gemini", GEMINI[2])])
def test_the_short_way_is_taken(codec, frame, monkeypatch):
    reader = CODECS[codec].reader()
    before = reader.feed("", encoded(frame))
    monkeypatch.delattr(type(reader), "_chunk" if codec == "openai_chat" else "_frame")
    assert reader.feed("", encoded(frame)) == [before[-1]]
    assert type(before[-1]) is hub.TextDelta


@pytest.mark.parametrize(
    ("codec", "plain", "other"), [("openai_chat", CHAT[1], CHAT[6]), ("gemini", GEMINI[0], GEMINI[7])]
)
def test_a_stream_that_is_never_plain_for_long_is_no_longer_tried(codec, plain, other):
    reader = CODECS[codec].reader()
    for _ in range(40):
        assert len(reader.feed("", encoded(plain))) <= 2
        assert len(reader.feed("", encoded(other))) == 1
    assert (reader._plain, reader._tries) == (False, 0)
