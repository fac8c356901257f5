"""OpenAI's chat through every other dialect and back: what a client would lose by being translated."""

import json

import pytest

from fastgw.call import Usage
from fastgw.dialects import framing, hub
from fastgw.dialects.openai_chat.codec import CODEC
from fastgw.dialects.registry import CODECS
from tests.dialects.openai_chat_support import gather, read_stream
from tests.support.grammar import chat_stream_problems
from tests.support.grammar_openai_chat import reply_problems, request_problems

ARGUMENTS = '{"b": 1e400, "a":9007199254740993, "é":"\\u00e9\\/"}'
CALLS = [
    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": ARGUMENTS}},
    {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}},
]
REQUEST = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ok", "tool_calls": CALLS},
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": "two"},
        {"role": "user", "content": "go\u2028on"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
    "tool_choice": "required",
    "max_completion_tokens": 50,
    "temperature": 0.5,
}
OTHERS = [codec for name, codec in sorted(CODECS.items()) if name != CODEC.name]
USAGE = Usage(10, 5, 3, 0, 2)
TOLD = [
    hub.Start("id1", "m"),
    hub.TextDelta("he"),
    hub.TextDelta("y 😀"),
    hub.ToolStart(0, "c1", "f"),
    *[hub.ToolDelta(0, piece) for piece in (ARGUMENTS[:5], ARGUMENTS[5:])],
    hub.ToolStart(1, "c2", "g"),
    hub.ToolDelta(1, "{}"),
    hub.UsageSeen(USAGE),
    hub.Stop("tool_calls"),
    hub.Done(),
]
PARTS = [hub.Text("hey 😀"), hub.ToolCall("c1", "f", ARGUMENTS), hub.ToolCall("c2", "g", "{}")]


def by_dialect(test):
    return pytest.mark.parametrize("other", OTHERS, ids=lambda codec: codec.name)(test)


def test_there_are_other_dialects():
    assert len(OTHERS) >= 2


@by_dialect
def test_a_request_comes_back_the_same(other):
    chat = CODEC.read_request(json.dumps(REQUEST).encode())
    there = other.read_request(other.write_request(chat, hub.Target("m")), model="m", stream=False)
    body = CODEC.write_request(there, hub.Target("m", drop=frozenset("*")))
    assert request_problems(body) == []
    back = json.loads(body)
    for name in ("model", "tool_choice", "max_completion_tokens", "temperature"):
        assert back[name] == REQUEST[name]
    assert back["messages"] == REQUEST["messages"]
    assert back["tools"][0]["function"]["name"] == "f"


@by_dialect
def test_a_reply_comes_back_the_same(other):
    reply = hub.Reply("id1", "m", [hub.Choice(PARTS, "tool_calls")], USAGE)
    body = CODEC.write_reply(other.read_reply(other.write_reply(reply, model="m")), model="m")
    assert reply_problems(body) == []
    back = CODEC.read_reply(body)
    assert (back.choices[0].parts, back.choices[0].stop, back.usage) == (PARTS, "tool_calls", USAGE)


@by_dialect
def test_a_stream_comes_back_the_same(other):
    theirs = other.writer(model="m", stream_usage=True)
    raw = b"".join([theirs.feed(event) for event in TOLD]) + theirs.end()
    reader, ours, out = other.reader(), CODEC.writer(model="m", stream_usage=True), b""
    for event in framing.events(raw):
        name = next((line[6:].strip().decode() for line in event.split(b"\n") if line.startswith(b"event:")), "")
        out += b"".join([ours.feed(one) for one in reader.feed(name, framing.payload(event))])
    out += b"".join([ours.feed(one) for one in reader.end()]) + ours.end()
    assert chat_stream_problems(out, usage_asked=True) == []
    back = gather(read_stream(out))
    assert (back.choices[0].parts, back.choices[0].stop, back.usage) == (PARTS, "tool_calls", USAGE)


@by_dialect
@pytest.mark.parametrize("cause", [cause for cause in hub.CAUSES if cause != "auth"])
def test_an_error_keeps_what_it_says(other, cause):
    status, body = other.write_problem(hub.Problem(cause, 400, "what happened"), "call")
    problem = other.read_error(status, {}, body)
    out, data = CODEC.write_problem(problem, "call")
    assert 400 <= out < 600
    said = json.loads(data)["error"]["message"]
    assert said == "what happened"
