"""Gemini and the other dialects: a request, a reply or a stream that crosses over and back says the same."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from fastgw.dialects import framing, hub
from fastgw.dialects.gemini.codec import CODEC
from fastgw.dialects.registry import CODECS
from tests.dialects.gemini.test_reply import gathered, read_stream
from tests.dialects.hub_values import ARGUMENTS, TEXT, events_of, usages
from tests.support.grammar_gemini import request_problems, response_problems, stream_problems

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "gemini"
OTHERS = sorted(name for name in CODECS if name != "gemini")
NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)


@st.composite
def histories(draw):
    """Text, parallel calls and their results: what every dialect can say."""
    turns = [hub.Turn("system", [hub.Text(draw(TEXT))]), hub.Turn("user", [hub.Text(draw(TEXT))])]
    calls = [hub.ToolCall(f"call_{n}", draw(NAMES), draw(ARGUMENTS)) for n in range(draw(st.integers(1, 3)))]
    turns.append(hub.Turn("assistant", [hub.Text(draw(TEXT)), *calls]))
    turns.append(hub.Turn("user", [hub.ToolResult(one.id, [hub.Text(draw(TEXT))]) for one in calls]))
    turns.append(hub.Turn("user", [hub.Text(draw(TEXT))]))
    names = sorted({one.name for one in calls})
    schema = Raw(b'{"type":"object","properties":{"a":{"type":"string"}}}')
    tools = [hub.Tool(name, "d", schema) for name in names]
    choice, most = hub.ToolChoice("required"), draw(st.integers(100, 900))
    return hub.Chat("m", turns, "test", tools=tools, max_tokens=most, temperature=0.5, tool_choice=choice)


def said(chat):
    """What a chat says, in order, however its turns are cut."""
    out = []
    for turn in chat.turns:
        for part in turn.parts:
            if type(part) is hub.Text:
                out.append((turn.role, part.text))
            elif type(part) is hub.ToolCall:
                out.append((part.id, part.name, part.arguments))
            elif type(part) is hub.ToolResult:
                out.append((part.call_id, "".join(one.text for one in part.parts)))
    tools = [(tool.name, tool.description, json.loads(bytes(tool.schema))) for tool in chat.tools]
    return out, tools, chat.max_tokens, chat.temperature, chat.tool_choice.mode


@pytest.mark.parametrize("other", OTHERS)
@settings(max_examples=25, deadline=None)
@given(chat=histories())
def test_a_request_crosses_over_and_back(other, chat):
    codec = CODECS[other]
    asked = codec.read_request(codec.write_request(chat, hub.Target("m")), model="m")
    sent = CODEC.write_request(asked, hub.Target("m", drop=frozenset("*"), features=frozenset(["json_schema"])))
    assert request_problems(json.loads(sent)) == []
    back = codec.write_request(CODEC.read_request(sent, model="m"), hub.Target("m", drop=frozenset("*")))
    assert said(codec.read_request(back, model="m")) == said(asked) == said(chat)


@st.composite
def answers(draw):
    calls = [hub.ToolCall(f"call_{n}", draw(NAMES), draw(ARGUMENTS)) for n in range(draw(st.integers(0, 3)))]
    stop = "tool_calls" if calls else draw(st.sampled_from(["stop", "length"]))
    usage = draw(usages())
    usage.cache_write = 0
    usage.input = max(usage.input, usage.cached, 1)
    return hub.Reply("r-1", "m-1", [hub.Choice([hub.Text(draw(TEXT)), *calls], stop)], usage)


def told(reply):
    """What a reply tells whoever reads it."""
    (choice,) = reply.choices
    text = "".join(part.text for part in choice.parts if type(part) is hub.Text)
    calls = [(part.id, part.name, part.arguments or "{}") for part in choice.parts if type(part) is hub.ToolCall]
    return text, calls, choice.stop, reply.usage


@pytest.mark.parametrize("other", OTHERS)
@settings(max_examples=25, deadline=None)
@given(reply=answers())
def test_a_reply_crosses_over_and_back(other, reply):
    codec = CODECS[other]
    theirs = codec.read_reply(codec.write_reply(reply, model="m"))
    shown = CODEC.write_reply(theirs, model="m")
    assert response_problems(json.loads(shown)) == []
    back = codec.read_reply(codec.write_reply(CODEC.read_reply(shown), model="m"))
    assert told(back) == told(reply)


def stream(codec, events):
    writer = codec.writer(model="m", stream_usage=True)
    return b"".join([writer.feed(event) for event in events] + [writer.end()])


def read(codec, raw):
    reader, events = codec.reader(), []
    for event in framing.events(raw):
        data = framing.payload(event)
        if data is not None:
            events += reader.feed(framing.name(event), data)
    return events + reader.end()


@pytest.mark.parametrize("other", OTHERS)
@settings(max_examples=25, deadline=None)
@given(reply=answers(), cut=st.integers(1, 7))
def test_a_stream_crosses_over_and_back(other, reply, cut):
    codec = CODECS[other]
    theirs = read(codec, stream(codec, events_of(reply, cut)))
    shown = stream(CODEC, theirs)
    assert stream_problems(shown) == []
    back, done = gathered(read(codec, stream(codec, read_stream(shown))))
    assert done
    assert told(back) == told(reply)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", ["text", "tools", "blocked", "grounded", "logprobs", "code"])
def test_gemini_s_streams_and_replies_amount_to_the_same_elsewhere(other, name):
    codec = CODECS[other]
    whole = codec.read_reply(
        codec.write_reply(CODEC.read_reply((FIXTURES / f"{name}.reply.json").read_bytes()), model="m")
    )
    events = read_stream((FIXTURES / f"{name}.sse").read_bytes())
    streamed, done = gathered(read(codec, stream(codec, events)))
    assert done
    if whole.choices[0].parts:
        assert told(streamed) == told(whole)
    assert streamed.choices[0].stop == whole.choices[0].stop


@pytest.mark.parametrize("other", OTHERS)
def test_gemini_s_own_tools_are_no_calls_elsewhere(other):
    codec = CODECS[other]
    reply = CODEC.read_reply((FIXTURES / "code.reply.json").read_bytes())
    assert told(codec.read_reply(codec.write_reply(reply, model="m")))[1] == []


def test_signatures_survive_a_client_of_openai_s_dialect():
    """The client sends back the message it got, and Gemini gets its signatures back."""
    codec = CODECS["openai_chat"]
    reply = CODEC.read_reply((FIXTURES / "tools.reply.json").read_bytes())
    parts = codec.read_reply(codec.write_reply(reply, model="m")).choices[0].parts
    chat = hub.Chat("m", [hub.Turn("user", [hub.Text("q")]), hub.Turn("assistant", parts)], "openai_chat")
    target = hub.Target("m", features=frozenset(["extra_content"]))
    replayed = codec.read_request(codec.write_request(chat, target), model="m")
    sent = json.loads(CODEC.write_request(replayed, hub.Target("m")))
    signed = [part for part in sent["contents"][-1]["parts"] if "thoughtSignature" in part]
    assert [part["functionCall"]["args"]["city"] for part in signed] == ["Paris"]
