"""Responses clients of other providers, and other clients of a Responses provider: there and back."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.dialects import framing, hub
from fastgw.dialects.anthropic_messages.codec import CODEC as CLAUDE
from fastgw.dialects.gemini.codec import CODEC as GEMINI
from fastgw.dialects.openai_chat.codec import CODEC as CHAT
from fastgw.dialects.openai_responses.codec import CODEC
from tests.dialects.hub_values import TEXT, calls, events_of, gather, merged, usages
from tests.support.grammar_openai_responses import problems

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "openai_responses"
OTHERS = [CHAT, CLAUDE, GEMINI]
by_name = pytest.mark.parametrize("other", OTHERS, ids=lambda codec: codec.name)


def events(codec, data):
    reader = codec.reader()
    found = []
    for block in framing.events(data):
        payload = framing.payload(block)
        if payload is not None:
            found += reader.feed("", payload)
    return found + reader.end()


def stream(codec, said):
    writer = codec.writer(model="m", stream_usage=True)
    return b"".join([writer.feed(event) for event in said]) + writer.end()


def values(part):
    """A part as far as every dialect can tell it; arguments as the values they are."""
    if type(part) is hub.ToolCall:
        return ("call", part.id, part.name, json.loads(part.arguments or "{}", parse_float=str, parse_int=str))
    return (type(part).__name__, getattr(part, "text", ""))


@st.composite
def plain_replies(draw):
    parts = draw(st.lists(st.builds(hub.Text, TEXT), max_size=1)) + draw(calls(draw(st.integers(0, 3))))
    stop = "tool_calls" if parts and type(parts[-1]) is hub.ToolCall else draw(st.sampled_from(["stop", "length"]))
    reply = hub.Reply("resp_1", "m", [hub.Choice(parts, stop)])
    reply.usage = draw(usages())
    reply.usage.input += 1  # a usage of nothing at all is none to some
    return reply


def same(seen, told):
    assert [values(part) for part in seen.choices[0].parts] == [values(part) for part in told.choices[0].parts]
    assert seen.choices[0].stop == told.choices[0].stop
    for name in ("input", "output", "cached", "reasoning"):
        assert getattr(seen.usage, name) == getattr(told.usage, name)


@by_name
@settings(max_examples=40, deadline=None)
@given(reply=plain_replies())
def test_a_reply_through_another_dialect_is_the_same(other, reply):
    through = other.read_reply(other.write_reply(reply, model="m"))
    same(CODEC.read_reply(CODEC.write_reply(through, model="m")), reply)


@by_name
@settings(max_examples=40, deadline=None)
@given(reply=plain_replies())
def test_a_stream_through_another_dialect_is_the_same(other, reply):
    theirs = events(other, stream(other, events_of(reply)))
    ours = stream(CODEC, theirs)
    assert problems(ours) == []
    same(gather(events(CODEC, ours))[0], merged(reply))


@by_name
@pytest.mark.parametrize("name", ["text", "tools", "length", "refusal", "search"])
def test_a_recorded_stream_reaches_other_clients(other, name):
    seen = gather(events(CODEC, (FIXTURES / f"{name}.sse").read_bytes()))[0]
    got = gather(events(other, stream(other, events(CODEC, (FIXTURES / f"{name}.sse").read_bytes()))))[0]
    if name != "refusal":  # which is plain text to those that have no word for it
        plain = (hub.Text, hub.ToolCall)
        told = [values(part) for part in seen.choices[0].parts if type(part) in plain]
        assert [values(part) for part in got.choices[0].parts if type(part) in plain] == told
    assert got.choices[0].stop == seen.choices[0].stop
    assert (got.usage.input, got.usage.output) == (seen.usage.input, seen.usage.output)


def test_a_conversation_through_chat_completions():
    body = json.loads((FIXTURES / "agent.client.json").read_bytes())
    for name in ("include", "top_logprobs", "prompt_cache_key"):
        del body[name]
    body["input"][5]["output"] = "noon"
    body["input"][7]["content"] = body["input"][7]["content"][:2]
    chat = CODEC.read_request(json.dumps(body).replace("Infinity", "1e400").encode())
    target = hub.Target("up", drop=frozenset({"*"}))
    written = CHAT.write_request(chat, target)
    assert b"9007199254740993" in written
    assert b"1e400" in written
    back = CODEC.read_request(CODEC.write_request(CHAT.read_request(written), hub.Target("m")))
    told = [values(part) for turn in back.turns for part in turn.parts if type(part) in (hub.Text, hub.ToolCall)]
    asked = [values(part) for turn in chat.turns for part in turn.parts if type(part) in (hub.Text, hub.ToolCall)]
    assert told == asked
    assert [(tool.name, tool.strict) for tool in back.tools] == [("get_weather", True), ("now", False)]
    results = [part for turn in back.turns for part in turn.parts if type(part) is hub.ToolResult]
    assert [(one.call_id, [part.text for part in one.parts]) for one in results] == [
        ("call_1", ["18 C"]),
        ("call_2", ["noon"]),
    ]


@by_name
@pytest.mark.parametrize(
    ("field", "value"), [("previous_response_id", "resp_1"), ("store", True), ("conversation", "conv_1")]
)
def test_state_that_nobody_else_keeps_is_refused_by_name(other, field, value):
    chat = CODEC.read_request(json.dumps({"model": "m", "input": "hi", field: value}).encode())
    with pytest.raises(hub.Unsupported) as caught:
        other.write_request(chat, hub.Target("up"))
    assert caught.value.field == field


@by_name
def test_an_item_reference_means_nothing_elsewhere(other):
    body = {"model": "m", "input": [{"role": "user", "content": "hi"}, {"type": "item_reference", "id": "msg_1"}]}
    with pytest.raises(hub.Unsupported):
        other.write_request(CODEC.read_request(json.dumps(body).encode()), hub.Target("up"))


@by_name
def test_saying_the_defaults_is_refused_by_nobody(other):
    body = {
        "model": "m",
        "input": "hi",
        "store": False,
        "truncation": "disabled",
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "k",
        "text": {"format": {"type": "text"}},
    }
    target = hub.Target("up")
    other.write_request(CODEC.read_request(json.dumps(body).encode()), target)
    assert target.dropped == []


@by_name
def test_thinking_goes_home_through_a_client_of_another_dialect(other):
    """What the provider sealed comes back to it, id and all, through a client that only keeps what it was given."""
    reply = CODEC.read_reply((FIXTURES / "tools.reply.json").read_bytes())
    reply.choices[0].parts = [part for part in reply.choices[0].parts if type(part) is not hub.ToolCall]
    seen = other.read_reply(other.write_reply(reply, model="m"))
    chat = hub.Chat("m", [hub.Turn("user", [hub.Text("hi")]), hub.Turn("assistant", seen.choices[0].parts)], other.name)
    item = json.loads(CODEC.write_request(chat, hub.Target("up")))["input"][1]
    assert (item["id"], item["encrypted_content"]) == ("rs_00", "gAAAAABo0-sealed==")
