"""Answers and streams of Anthropic's Messages API: read, written, there and back, and through Anthropic's own SDK."""

import json
from pathlib import Path

import anthropic
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from fastgw.call import Usage
from fastgw.dialects import framing, hub
from fastgw.dialects.anthropic_messages import writer as anthropic_messages_writer
from fastgw.dialects.anthropic_messages.codec import CODEC
from fastgw.errors import GatewayError
from tests.dialects.hub_values import TEXT, calls, events_of, gather, merged, usages
from tests.support.grammar_anthropic_messages import frames, message_problems, stream_problems

FIXTURES = Path(__file__).parents[2] / "fixtures" / "anthropic_messages"
NAMES = ["tools", "search", "stopped"]


def read_stream(raw, size=None):
    """The events of a stream that arrives in pieces of `size` bytes."""
    reader, events, tail = CODEC.reader(), [], b""
    for at in range(0, len(raw), size or len(raw)):
        block, tail = framing.complete(tail + raw[at : at + (size or len(raw))])
        for event in framing.events(block):
            events += reader.feed(framing.name(event), framing.payload(event))
    return events + reader.end()


def write_stream(events):
    writer = CODEC.writer(model="asked", stream_usage=False)
    return b"".join([writer.feed(event) for event in events]) + writer.end()


def told(reply):
    """A reply but for opaque parts and citations, which a stream tells in frames."""
    parts = [part for part in merged(reply).choices[0].parts if type(part) is not hub.Opaque]
    parts = [hub.Text(part.text) if type(part) is hub.Text else part for part in parts]
    choice = reply.choices[0]
    usage = reply.usage
    return parts, choice.stop, choice.native_stop, choice.stop_sequence, usage, reply.id, reply.model


@pytest.mark.parametrize("size", [None, 1, 7, 64])
@pytest.mark.parametrize("name", NAMES)
def test_a_stream_amounts_to_the_whole_reply(name, size):
    seen, done = gather(read_stream((FIXTURES / f"{name}.sse").read_bytes(), size))
    assert done
    assert told(seen) == told(CODEC.read_reply((FIXTURES / f"{name}.reply.json").read_bytes()))


@pytest.mark.parametrize("name", NAMES)
def test_a_reply_comes_back_as_it_was(name):
    body = (FIXTURES / f"{name}.reply.json").read_bytes()
    back = CODEC.write_reply(CODEC.read_reply(body), model="m")
    assert message_problems(json.loads(back)) == []
    assert json.loads(back)["content"] == json.loads(body)["content"]
    assert CODEC.read_reply(back) == CODEC.read_reply(body)


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_comes_back_with_the_same_blocks(name):
    raw = (FIXTURES / f"{name}.sse").read_bytes()
    back = write_stream(read_stream(raw))
    assert stream_problems(back) == []
    again = read_stream(back)
    assert told(gather(again)[0]) == told(gather(read_stream(raw))[0])
    opaque = [event.kind for event in again if type(event) is hub.OpaqueDelta]
    assert len(opaque) == (5 if name == "search" else 0)


def test_usage_counts_what_the_cache_had():
    seen = CODEC.read_reply((FIXTURES / "tools.reply.json").read_bytes())
    assert seen.usage == Usage(20, 30, 7, 4, 12)
    assert seen.service_tier == "standard"


def test_server_tools_are_no_calls():
    seen = CODEC.read_reply((FIXTURES / "search.reply.json").read_bytes())
    assert not [part for part in seen.choices[0].parts if type(part) is hub.ToolCall]
    events = read_stream((FIXTURES / "search.sse").read_bytes())
    assert not [event for event in events if type(event) is hub.ToolStart]
    assert [json.loads(bytes(e.raw))["url"] for e in events if type(e) is hub.CitationDelta] == [
        "https://example.com/a"
    ]


def in_sdk(raw):
    """The message that Anthropic's SDK makes of a stream."""
    reply = httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=raw)
    transport = httpx2.MockTransport(lambda request: reply)
    with anthropic.Anthropic(
        api_key="k", base_url="http://localhost", http_client=httpx2.Client(transport=transport), max_retries=0
    ) as client, client.messages.stream(
        model="m", max_tokens=9, messages=[{"role": "user", "content": "q"}]
    ) as stream:  # fmt: skip
        return stream.get_final_message()


@st.composite
def replies(draw):
    some = st.one_of(
        st.builds(hub.Text, TEXT),
        st.builds(hub.Thinking, TEXT, st.just("sig")),
        st.builds(lambda text: hub.Thinking(redacted=text), TEXT),
    )
    parts = draw(st.lists(some, max_size=3)) + draw(calls(draw(st.integers(0, 3))))
    native = "tool_use" if parts and type(parts[-1]) is hub.ToolCall else draw(st.sampled_from(["end_turn", "refusal"]))
    stop = {"tool_use": "tool_calls", "end_turn": "stop", "refusal": "content_filter"}[native]
    return hub.Reply("msg_1", "m", [hub.Choice(parts, stop, native)], draw(usages()))


@settings(max_examples=60, deadline=None)
@given(reply=replies(), cut=st.integers(1, 9))
def test_generated_streams_come_back_the_same(reply, cut):
    raw = write_stream(events_of(reply, cut))
    assert stream_problems(raw) == []
    seen, done = gather(read_stream(raw))
    assert done
    assert told(seen) == told(reply)
    whole = CODEC.write_reply(reply, model="m")
    assert message_problems(json.loads(whole)) == []
    assert told(CODEC.read_reply(whole)) == told(reply)


@settings(max_examples=20, deadline=None)
@given(parts=st.lists(st.builds(hub.Text, TEXT) | st.builds(hub.Thinking, TEXT, st.just("sig")), max_size=3))
def test_anthropic_s_sdk_reads_what_is_written(parts):
    call = hub.ToolCall("c1", "f", '{"a": [1, "é"]}')
    reply = hub.Reply("msg_1", "m", [hub.Choice([*parts, call], "tool_calls")], Usage(20, 9, 5, 3, 4))
    message = in_sdk(write_stream(events_of(reply)))
    said = [(hub.Text(b.text) if b.type == "text" else hub.Thinking(b.thinking, b.signature))
            for b in message.content[:-1]]  # fmt: skip
    assert said == merged(reply).choices[0].parts[:-1]
    assert (message.content[-1].input, message.stop_reason) == ({"a": [1, "é"]}, "tool_use")
    usage = message.usage
    counts = (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens, usage.output_tokens)
    assert counts == (12, 5, 3, 9)


def test_calls_told_at_once_are_written_one_after_the_other():
    events = [
        hub.Start("i", "m"), hub.ToolStart(0, "a", "f"), hub.ToolStart(1, "b", "g"), hub.ToolDelta(1, '{"y"'),
        hub.ToolDelta(0, '{"x":'), hub.ToolDelta(1, ":2}"), hub.ToolDelta(0, "1}"), hub.ToolStart(2, "c", "h"),
        hub.Stop("tool_calls"), hub.Done(),
    ]  # fmt: skip
    raw = write_stream(events)
    assert stream_problems(raw) == []
    found = [(part.id, part.arguments) for part in gather(read_stream(raw))[0].choices[0].parts]
    assert found == [("a", '{"x":1}'), ("b", '{"y":2}'), ("c", "{}")]


def test_what_comes_amid_a_call_waits_for_its_end():
    writer = CODEC.writer(model="m", stream_usage=False)
    raw = writer.feed(hub.Start()) + writer.feed(hub.ToolStart(0, "a", "f"))
    later = [
        hub.TextDelta("x"), hub.ToolDelta(0, '{"x":{}'), hub.ThinkDelta("t", "s"), hub.ToolStart(1, "b", "g"),
        hub.TextDelta("y"), hub.ToolDelta(1, '{"y"'),
    ]  # fmt: skip
    raw += b"".join(writer.feed(event) for event in later)
    assert b"text_delta" not in raw
    freed = writer.feed(hub.ToolDelta(0, "} "))
    assert [data["index"] for name, data in frames(freed) if name == "content_block_start"] == [1, 2, 3]
    assert b'"y"' not in freed.partition(b'"name":"g"')[0]
    raw += freed + writer.feed(hub.ToolDelta(1, ":2}")) + writer.feed(hub.Stop("tool_calls")) + writer.end()
    assert stream_problems(raw) == []
    message = in_sdk(raw)
    assert [block.type for block in message.content] == ["tool_use", "text", "thinking", "tool_use", "text"]
    assert [block.input for block in message.content if block.type == "tool_use"] == [{"x": {}}, {"y": 2}]
    assert [block.text for block in message.content if block.type == "text"] == ["x", "y"]


@pytest.mark.parametrize("stop", [[], [hub.Stop("stop")]])
def test_what_waits_for_a_call_without_end_comes_at_the_end(stop):
    events = [hub.Start(), hub.ToolStart(0, "a", "f"), hub.TextDelta("x"), hub.ToolStart(1, "b", "g"), *stop]
    raw = write_stream(events)
    assert stream_problems(raw) == []
    assert [block.type for block in in_sdk(raw).content] == ["tool_use", "text", "tool_use"]


def test_arguments_behind_a_complete_call_are_not_lost_in_silence():
    writer = CODEC.writer(model="m", stream_usage=False)
    for event in (hub.ToolStart(0, "a", "f"), hub.ToolDelta(0, "{}"), hub.TextDelta("x"), hub.ToolDelta(0, "\n")):
        writer.feed(event)
    with pytest.raises(ValueError, match="behind its end"):
        writer.feed(hub.ToolDelta(0, "{}"))


@pytest.mark.parametrize(
    "more",
    [
        lambda number: hub.ToolStart(number + 1, "b", "g"),
        lambda number: hub.TextDelta("x" * 65536),
        lambda number: hub.ToolDelta(0, "x" * 65536),
    ],
)
def test_what_waits_is_bounded(more):
    writer = CODEC.writer(model="m", stream_usage=False)
    writer.feed(hub.ToolStart(0, "a", "f"))
    with pytest.raises(ValueError, match=r"8 MiB|1024 calls"):
        for number in range(1100):
            writer.feed(more(number))


def test_a_call_is_parsed_but_so_often_while_others_wait(monkeypatch):
    parsed = []
    monkeypatch.setattr(anthropic_messages_writer, "MAX_CHECKED", 10_000)
    monkeypatch.setattr(anthropic_messages_writer, "is_object", lambda text: parsed.append(len(text)) or False)
    events = [hub.Start(), hub.ToolStart(0, "a", "f"), hub.TextDelta("x"), hub.ToolDelta(0, '{"x":"')]
    events += [hub.ToolDelta(0, part) for part in ["no brace"] * 2000 + ["}"] * 2000]
    raw = write_stream([*events, hub.ToolDelta(0, '"}'), hub.Stop("tool_calls")])
    assert stream_problems(raw) == []
    assert 0 < sum(parsed) < 30_000
    assert in_sdk(raw).content[0].input == {"x": "no brace" * 2000 + "}" * 2000}


@pytest.mark.parametrize("arguments", ["[1]", "nonsense", '"x"'])
def test_arguments_that_are_no_object_are_wrapped(arguments):
    reply = hub.Reply("i", "m", [hub.Choice([hub.ToolCall("a", "f", arguments)], "tool_calls")])
    raw = write_stream(events_of(reply, 2))
    assert stream_problems(raw) == []
    wrapped = json.dumps({"_raw_arguments": arguments}, separators=(",", ":"))
    assert gather(read_stream(raw))[0].choices[0].parts[0].arguments == wrapped
    whole = json.loads(CODEC.write_reply(reply, model="m"))
    assert whole["content"][0]["input"] == {"_raw_arguments": arguments}


def test_unsigned_thinking_ends_with_an_empty_signature():
    raw = write_stream([hub.Start(), hub.ThinkDelta("t"), hub.TextDelta("a"), hub.Stop("stop"), hub.Done()])
    assert stream_problems(raw) == []
    assert in_sdk(raw).content[0].signature == ""


def test_signatures_of_calls_and_texts_travel_in_streams():
    events = [
        hub.Start(), hub.TextDelta("a"), hub.TextDelta("b", signature="gemini:t"),
        hub.ToolStart(0, "c", "f", signature="gemini:s"), hub.ToolDelta(0, "{}"), hub.Stop("tool_calls"), hub.Done(),
    ]  # fmt: skip
    seen = read_stream(write_stream(events))
    assert [event.signature for event in seen if type(event) is hub.TextDelta and event.signature] == ["gemini:t"]
    assert [event.signature for event in seen if type(event) is hub.ToolStart] == ["gemini:s"]


def test_usage_known_early_stands_in_the_first_event():
    events = [hub.Start(), hub.UsageSeen(Usage(9, 0, 2)), hub.TextDelta("a"), hub.UsageSeen(Usage(0, 5)), hub.Done()]
    seen = dict(frames(write_stream(events)))
    assert seen["message_start"]["message"]["usage"]["input_tokens"] == 7
    usage = seen["message_delta"]["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (7, 2, 5)


def test_raw_json_with_line_ends_does_not_break_a_frame():
    cited = hub.CitationDelta(Raw(b'{\n"type": "x"\r\n}'))
    raw = write_stream([hub.Start(), hub.TextDelta("a"), cited, hub.TextDelta("b"), hub.Stop("stop"), hub.Done()])
    assert stream_problems(raw) == []
    assert [data["index"] for name, data in frames(raw) if name == "content_block_start"] == [0, 1]


def test_an_error_amid_a_stream_is_told_and_ends_it():
    frame = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
    (event,) = CODEC.reader().feed("error", frame)
    assert (event.problem.cause, event.problem.status, event.problem.message) == ("overloaded", 529, "Overloaded")
    writer = CODEC.writer(model="m", stream_usage=False)
    writer.feed(hub.Start())
    out = writer.fail(event.problem, "call_9")
    ((name, data),) = frames(out)
    assert (name, data["error"], data["request_id"]) == (
        "error", {"type": "overloaded_error", "message": "Overloaded"}, "call_9",
    )  # fmt: skip
    assert writer.feed(hub.TextDelta("x")) == writer.end() == b""
    out = CODEC.writer(model="m", stream_usage=False).fail(GatewayError("upstream_timeout", "late"), "c")
    assert next(iter(frames(out)))[1]["error"] == {"type": "timeout_error", "message": "late"}


def test_a_model_s_error_is_no_clean_end():
    writer = CODEC.writer(model="m", stream_usage=False)
    out = writer.feed(hub.TextDelta("a")) + writer.feed(hub.Stop("error", native="OTHER")) + writer.end()
    assert [name for name, _ in frames(out)][-1] == "error"


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"type":"message"}', b"[" * 100_000])
def test_what_is_no_reply(body):
    with pytest.raises(ValueError, match=r"."):
        CODEC.read_reply(body)


def test_an_error_in_the_place_of_a_reply():
    with pytest.raises(hub.Failed) as caught:
        CODEC.read_reply(b'{"type":"error","error":{"type":"api_error","message":"x"}}')
    assert caught.value.problem.cause == "server"


def test_unknown_frames_say_nothing():
    reader = CODEC.reader()
    assert reader.feed("ping", b'{"type":"ping"}') == []
    assert reader.feed("new", b'{"type":"new_thing","delta":null}') == []
    assert reader.feed("new", b'{"type":"new_thing","delta":"x","message":7}') == []
    with pytest.raises(ValueError, match="JSON"):
        reader.feed("x", b"nonsense")


def test_blocks_and_deltas_of_new_kinds_may_have_fields_of_any_type():
    reader = CODEC.reader()
    frames_ = [
        b'{"type":"content_block_start","index":0,"content_block":{"type":"new","text":{"a":1},"data":[1],"name":2}}',
        b'{"type":"content_block_delta","index":0,"delta":{"type":"new_delta","text":{"a":1}}}',
        b'{"type":"content_block_stop","index":0}',
    ]
    events = [event for frame in frames_ for event in reader.feed("", frame)]
    assert [bytes(event.raw) for event in events if type(event) is hub.OpaqueDelta] == frames_
    reader.feed("", b'{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}')
    assert reader.feed("", b'{"type":"content_block_delta","index":1,"delta":{"type":"new_delta","text":[1]}}') == []
    (event,) = reader.feed("", b'{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"a"}}')
    assert event == hub.TextDelta("a")


@pytest.mark.parametrize(
    "frame",
    [
        b'{"type":"content_block_start","content_block":{"type":"text","text":7}}',
        b'{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":{}}}',
        b'{"type":"message_start","message":[]}',
        b'{"type":"message_delta","delta":{"stop_reason":7}}',
        b"[]",
    ],
)
def test_known_kinds_with_fields_of_the_wrong_type_are_refused(frame):
    with pytest.raises(ValueError, match=r"wrong type|Expected"):
        CODEC.reader().feed("", frame)
