"""The codec as a whole: round trips over generated values, fixtures, and the official SDK as a judge."""

import json
from pathlib import Path

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from fastgw.dialects import framing, hub
from fastgw.dialects.codec import Codec
from fastgw.dialects.openai_responses.codec import CODEC
from fastgw.dialects.openai_responses.items import NAME, seal
from tests.dialects.hub_values import ARGUMENTS, SCHEMA, TEXT, WORD, calls, events_of, gather, merged, raw, usages
from tests.support.grammar_openai_responses import check, problems

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "openai_responses"
STREAMS = sorted(path.stem for path in FIXTURES.glob("*.sse") if ".error" not in path.name)
SIGNATURES = st.one_of(st.builds(seal, WORD.map("rs_{}".format), WORD), WORD)


def read_stream(data, size=0):
    """All events of a stream that arrives in pieces of `size` bytes (0: at once)."""
    reader, tail, events = CODEC.reader(), b"", []
    for at in range(0, len(data), size or len(data)):
        block, tail = framing.complete(tail + data[at : at + (size or len(data))])
        for event in framing.events(block):
            found = framing.payload(event)
            if found is not None:
                events += reader.feed("", found)
    return events + reader.end()


def write_stream(events, model="asked"):
    writer = CODEC.writer(model=model, stream_usage=True)
    return b"".join([writer.feed(event) for event in events]) + writer.end()


def test_it_is_a_codec():
    codec: Codec = CODEC
    assert codec.name == NAME


# --- requests


def user_parts():
    return st.one_of(
        st.builds(hub.Text, TEXT, st.sampled_from([None, Raw(b'{"type":"ephemeral"}')])),
        st.builds(hub.Image, st.just("image/png"), WORD, detail=st.just("low")),
        st.builds(lambda path: hub.Image(url=f"https://example.org/{path}", detail="auto"), WORD),
        st.builds(lambda data, name: hub.Document(data=data, name=name), WORD, WORD),
        st.builds(lambda name: hub.Document(url=f"https://example.org/{name}", file_id=name), WORD),
    )


@st.composite
def chats(draw):
    turns = []
    if draw(st.booleans()):
        turns.append(hub.Turn("system", [hub.Text(draw(TEXT))]))
    turns.append(hub.Turn("user", draw(st.lists(user_parts(), min_size=1, max_size=3))))
    used = draw(calls(draw(st.integers(0, 3))))
    if used:
        said = draw(st.lists(st.one_of(st.builds(hub.Text, TEXT), st.builds(hub.Refusal, TEXT)), max_size=2))
        thought = draw(st.lists(st.builds(hub.Thinking, TEXT, SIGNATURES.filter(lambda s: len(s) > 20)), max_size=1))
        turns.append(hub.Turn("assistant", [*thought, *said, *used]))
        results = [
            hub.ToolResult(
                call.id, draw(st.lists(user_parts(), min_size=1, max_size=2)), draw(st.booleans()), call.name
            )
            for call in used
        ]
        turns.append(hub.Turn("user", results))
    turns.append(hub.Turn("developer", [hub.Text(draw(TEXT))]))
    tools = draw(st.lists(st.builds(hub.Tool, WORD, TEXT | st.none(), SCHEMA, st.booleans() | st.none()), max_size=2))
    choice = None
    if tools:
        names = st.just([tools[0].name])
        modes = st.sampled_from(["auto", "none", "required"])
        choice = draw(
            st.none()
            | st.builds(hub.ToolChoice, modes, parallel=st.booleans() | st.none())
            | st.builds(hub.ToolChoice, st.sampled_from(["named", "auto", "required"]), names)
        )
    effort = st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh", "max"])
    chat = hub.Chat("m", turns, NAME, tools, tool_choice=choice)
    chat.max_tokens = draw(st.none() | st.integers(16, 10**6))
    chat.temperature = draw(st.none() | st.sampled_from([0.0, 0.5, 2.0]))
    chat.top_p = draw(st.none() | st.sampled_from([0.1, 1.0]))
    chat.format = draw(st.none() | st.builds(hub.Format, st.just("schema"), WORD, SCHEMA, st.booleans(), TEXT))
    chat.reasoning = draw(st.none() | st.builds(hub.Reasoning, effort, show=st.sampled_from([None, True])))
    chat.logprobs = draw(st.sampled_from([None, True]))
    chat.metadata = draw(st.none() | st.just(raw({"a": "b"})))
    chat.stream = chat.stream_usage = draw(st.booleans())
    chat.hints = {"store": Raw(b"false")}
    chat.extra = {"max_tool_calls": Raw(b"3")} if draw(st.booleans()) else {}
    return chat


@settings(max_examples=80, deadline=None)
@given(chats())
def test_a_chat_written_and_read_is_the_same(chat: hub.Chat):
    assert CODEC.read_request(CODEC.write_request(chat, hub.Target("m"))) == chat


def test_a_request_read_and_written_says_the_same():
    body = (FIXTURES / "agent.client.json").read_bytes()
    chat = CODEC.read_request(body)
    target = hub.Target("gpt-5.1")
    written = CODEC.write_request(chat, target)
    assert target.dropped == []
    before, after = json.loads(body), json.loads(written)
    assert after.pop("model") == "gpt-5.1"
    for name in ("input", "model"):
        before.pop(name), after.pop(name, None)
    after["include"].sort(), before["include"].sort()
    assert after == before
    for text in (b"9007199254740993", b'"maximum": 1e400', b'{"const": 1.0}', b"Par\\\\u0069s"):
        assert text in written
    assert CODEC.read_request(written, model="smart") == chat


# --- replies


@st.composite
def replies(draw):
    said = st.one_of(
        st.builds(hub.Text, TEXT),
        st.builds(hub.Refusal, TEXT),
        st.builds(hub.Thinking, TEXT, SIGNATURES),
        st.builds(hub.Thinking, st.just(""), redacted=WORD),
    )
    parts = draw(st.lists(said, max_size=4)) + draw(calls(draw(st.integers(0, 3))))
    for part in parts:
        if type(part) is hub.ToolCall:
            part.signature = draw(st.none() | WORD)
    stop = "tool_calls" if type(parts[-1] if parts else None) is hub.ToolCall else "stop"
    reply = hub.Reply(f"resp_{draw(WORD)}", "m", [hub.Choice(parts, stop, "completed")])
    reply.usage, reply.created, reply.service_tier = draw(usages()), draw(st.integers(0, 2**32)), "default"
    return reply


@settings(max_examples=80, deadline=None)
@given(replies())
def test_a_reply_written_and_read_is_the_same(reply: hub.Reply):
    assert CODEC.read_reply(CODEC.write_reply(reply, model="asked")) == reply


@settings(max_examples=80, deadline=None)
@given(replies(), st.integers(1, 7))
def test_a_stream_written_keeps_the_grammar_and_says_what_the_reply_says(reply: hub.Reply, cut: int):
    stream = write_stream(events_of(reply, cut))
    assert problems(stream) == []
    gathered, done = gather(read_stream(stream))
    assert done
    assert gathered == merged(reply)


@settings(max_examples=40, deadline=None)
@given(replies())
def test_the_end_of_a_stream_is_the_whole_reply(reply: hub.Reply):
    terminal = check(write_stream(events_of(reply))).terminal
    assert merged(CODEC.read_reply(json.dumps(terminal).encode())) == merged(reply)


@settings(max_examples=40, deadline=None)
@given(st.lists(ARGUMENTS, min_size=2, max_size=4), st.randoms())
def test_calls_that_come_interleaved_are_told_one_after_the_other(arguments, random):
    """Fragments in any order between calls; within a call in order."""
    events = [hub.Start("resp_1", "m")]
    todo = [[hub.ToolStart(index, f"c{index}", "f")] for index in range(len(arguments))]
    for index, text in enumerate(arguments):
        todo[index] += [hub.ToolDelta(index, text[at : at + 4]) for at in range(0, len(text), 4)]
    while any(todo):
        events.append(random.choice([one for one in todo if one]).pop(0))
    stream = write_stream([*events, hub.Stop("tool_calls"), hub.Done()])
    assert problems(stream) == []
    told = {part.id: part.arguments for part in gather(read_stream(stream))[0].choices[0].parts}
    assert told == {f"c{index}": text for index, text in enumerate(arguments)}


# --- recorded shapes


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("size", [0, 1, 7, 1000])
def test_a_recorded_stream_says_what_its_reply_says(name: str, size: int):
    gathered, done = gather(read_stream((FIXTURES / f"{name}.sse").read_bytes(), size))
    whole = merged(CODEC.read_reply((FIXTURES / f"{name}.reply.json").read_bytes()))
    if name != "open_models":
        assert problems((FIXTURES / f"{name}.sse").read_bytes()) == []
    assert done
    gathered.service_tier = whole.service_tier  # "auto" when it starts, what it came to when it ends
    assert gathered == whole


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_written_again_says_the_same(name: str):
    events = read_stream((FIXTURES / f"{name}.sse").read_bytes())
    stream = write_stream(events)
    assert problems(stream) == []
    assert gather(read_stream(stream))[0] == gather(events)[0]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_anywhere_is_never_done(name: str):
    data = (FIXTURES / f"{name}.sse").read_bytes()
    cut = data[: data.index(b"event: response.completed" if b"response.completed" in data else b"event: response.inc")]
    assert not gather(read_stream(cut))[1]


# --- the official SDK


def sdk(body: bytes, kind: str, status: int = 200) -> openai.OpenAI:
    answer = httpx2.MockTransport(
        lambda request: httpx2.Response(status, headers={"content-type": kind}, content=body, request=request)
    )
    return openai.OpenAI(
        api_key="k", base_url="http://gateway.test/v1", http_client=httpx2.Client(transport=answer), max_retries=0
    )


@settings(max_examples=15, deadline=None)
@given(replies())
def test_the_sdk_gathers_the_stream_as_it_reads_the_reply(reply: hub.Reply):
    client = sdk(write_stream(events_of(reply)), "text/event-stream")
    with client.responses.stream(model="m", input="hi") as stream:
        types = [event.type for event in stream]
        final = stream.get_final_response()
    assert types[0] == "response.created"
    assert types[-1] == "response.completed"
    whole = sdk(CODEC.write_reply(reply, model="m"), "application/json").responses.create(model="m", input="hi")
    assert final.output_text == whole.output_text
    assert final.usage == whole.usage
    assert [item.type for item in final.output] == [item.type for item in whole.output]
    assert type(whole).model_validate(json.loads(CODEC.write_reply(reply, model="m"))).id == reply.id


def test_the_sdk_raises_what_a_stream_fails_with():
    writer = CODEC.writer(model="m", stream_usage=True)
    body = writer.feed(hub.Start("resp_1", "m")) + writer.feed(hub.TextDelta("Half"))
    body += writer.fail(hub.Problem("overloaded", 529, "Overloaded", "overloaded_error"), "id")
    with pytest.raises(openai.APIError, match="Overloaded"):
        list(sdk(body, "text/event-stream").responses.create(model="m", input="hi", stream=True))
    assert problems(body) == []


def test_the_sdk_raises_by_status():
    status, body = CODEC.write_problem(hub.Problem("rate_limit", 429, "Slow down"), "id")
    with pytest.raises(openai.RateLimitError) as caught:
        sdk(body, "application/json", status).responses.create(model="m", input="hi")
    assert caught.value.code == "rate_limit_exceeded"
