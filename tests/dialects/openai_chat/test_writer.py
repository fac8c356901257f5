"""Writing streams: the grammar, what OpenAI's own SDK makes of them, and that they amount to the whole reply."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from openai.lib.streaming._deltas import accumulate_delta
from openai.types.chat import ChatCompletionChunk

from fastgw.call import Usage
from fastgw.dialects import hub
from fastgw.dialects.openai_chat.codec import CODEC
from fastgw.errors import GatewayError
from tests.dialects.hub_values import ARGUMENTS, TEXT, WORD, pieces, usages
from tests.dialects.openai_chat_support import FIXTURES, frames, gather, read_stream, write_stream
from tests.support.grammar import chat_stream_problems, check_chat_stream

STREAMS = sorted(FIXTURES.glob("*.sse"))
START = hub.Start("msg_1", "model-x", 1762000000, "default", "fp")
WEB = Raw(
    b'{"type":"web_search_result_location","url":"https://a","title":null,"cited_text":"x","encrypted_index":"e"}'
)
PAGE = Raw(b'{"type":"page_location","document_index":0,"start_page_number":1}')


def message(raw, choice=0):
    """What OpenAI's SDK puts together from a stream's deltas; each chunk must be one by its own types."""
    acc = {}
    for data in frames(raw):
        if data != b"[DONE]":
            ChatCompletionChunk.model_validate_json(data)
            for one in json.loads(data)["choices"]:
                if one["index"] == choice:
                    acc = accumulate_delta(acc, one["delta"])
    return acc


@st.composite
def replies(draw):
    """Replies as a whole message of this dialect can hold them."""
    return hub.Reply(
        draw(WORD),
        draw(WORD),
        draw(st.lists(choices(), min_size=1, max_size=3)),
        draw(st.none() | usages()),
        draw(st.integers(0, 2**40)),
        draw(st.sampled_from([None, "default", "flex"])),
        draw(st.none() | WORD),
    )


@st.composite
def choices(draw):
    thoughts = st.builds(hub.Thinking, TEXT, WORD) | st.builds(hub.Thinking, redacted=WORD)
    parts = draw(st.lists(thoughts, max_size=2))
    parts += draw(st.lists(st.builds(hub.Text, TEXT, signature=st.none() | WORD), max_size=1))
    parts += draw(st.lists(st.builds(hub.Refusal, TEXT), max_size=1))
    ids = draw(st.lists(WORD, max_size=3, unique=True))
    parts += [hub.ToolCall(one, draw(WORD), draw(ARGUMENTS), draw(st.none() | WORD)) for one in ids]
    stop = "tool_calls" if ids else draw(st.sampled_from(["stop", "length", "content_filter"]))
    native = draw(st.sampled_from([stop, "end_turn"]))
    return hub.Choice(parts, stop, native, draw(st.none() | WORD))


def told(reply, size):
    """A stream that tells the reply, its choices interleaved, in pieces of `size`."""
    yield hub.Start(reply.id, reply.model, reply.created, reply.service_tier, reply.fingerprint)
    rows = [list(_told(choice, i, size)) for i, choice in enumerate(reply.choices)]
    while any(rows):
        for row in rows:
            if row:
                yield row.pop(0)
    if reply.usage is not None:
        yield hub.UsageSeen(Usage(input=reply.usage.input, cached=reply.usage.cached))
        yield hub.UsageSeen(reply.usage)
    yield hub.Done()


def _told(choice, index, size):
    number = 0
    for part in choice.parts:
        kind = type(part)
        if kind is hub.Text:
            *most, last = pieces(part.text, size)
            yield from (hub.TextDelta(piece, index) for piece in most)
            yield hub.TextDelta(last, index, signature=part.signature)
        elif kind is hub.Refusal:
            yield from (hub.RefusalDelta(piece, index) for piece in pieces(part.text, size))
        elif kind is hub.Thinking:
            yield from (hub.ThinkDelta(piece, choice=index) for piece in pieces(part.text, size))
            yield hub.ThinkDelta("", part.signature, part.redacted, index)
        else:
            yield hub.ToolStart(number, part.id, part.name, index, part.signature)
            yield from (hub.ToolDelta(number, piece, index) for piece in pieces(part.arguments, size))
            number += 1
    yield hub.Stop(choice.stop, index, choice.native_stop, choice.stop_sequence)


@settings(max_examples=120, deadline=None)
@given(replies(), st.integers(1, 9), st.booleans())
def test_a_stream_amounts_to_the_reply_it_tells(reply, size, asked):
    raw = write_stream(told(reply, size), stream_usage=asked)
    # A model that was never asked for usage and one that told none are both without it.
    if reply.usage is not None or not asked:
        assert chat_stream_problems(raw, usage_asked=asked) == []
    back = gather(read_stream(raw, 17))
    assert back.choices == reply.choices
    assert (back.id, back.model, back.created) == (reply.id, reply.model, reply.created)
    assert (back.service_tier, back.fingerprint) == (reply.service_tier, reply.fingerprint)
    assert back.usage == (reply.usage if asked else None)
    assert CODEC.read_reply(CODEC.write_reply(back, model="m")) == back


@settings(max_examples=60, deadline=None)
@given(replies())
def test_openais_own_sdk_puts_the_same_message_together(reply):
    raw = write_stream(told(reply, 4))
    whole = json.loads(CODEC.write_reply(reply, model="m"))
    for choice in whole["choices"]:
        built = message(raw, choice["index"])
        for call in built.get("tool_calls", ()):
            del call["index"]
        want = {name: value for name, value in choice["message"].items() if value not in (None, "")}
        assert {name: value for name, value in built.items() if value not in (None, "")} == want


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_vendors_streams_come_out_in_openais_grammar(path):
    events = read_stream(path.read_bytes())
    raw = write_stream(events)
    problems = chat_stream_problems(raw, usage_asked=True)
    if any(type(event) is hub.UsageSeen for event in events):
        assert problems == []
    else:
        assert problems == ["usage was asked for and never came"]
    assert gather(read_stream(raw)).choices == gather(events).choices


def test_a_choice_begins_with_its_role_and_no_other_chunk_says_it():
    writer = CODEC.writer(model="asked", stream_usage=False)
    first = json.loads(frames(writer.feed(hub.Start()))[0])
    assert first == {
        "id": "",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "asked",
        "choices": [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": "", "refusal": None},
                "logprobs": None,
                "finish_reason": None,
            }
        ],
    }
    assert b"role" not in writer.feed(hub.TextDelta("x"))
    assert frames(writer.feed(hub.TextDelta("y", 1)))[0].count(b'"role":"assistant"') == 1


def test_only_tiers_that_openai_has_are_named():
    for word, tier in (("standard", "default"), ("flex", "flex"), ("batch", None), (None, None)):
        chunk = json.loads(frames(write_stream([hub.Start(service_tier=word)]))[0])
        assert chunk.get("service_tier") == tier


def test_text_is_any_text_and_stays_within_its_line():
    text = 'a"\\\n\r\u2028\u0085\x00é😀'
    raw = write_stream([START, hub.TextDelta(text), hub.Stop("stop")], stream_usage=False)
    assert check_chat_stream(raw).text() == text
    assert chat_stream_problems(raw) == []


def test_a_call_without_arguments_says_so():
    events = [START, hub.ToolStart(0, "a", "f"), hub.ToolStart(1, "b", "g"), hub.ToolDelta(1, "[]"), hub.Stop("stop")]
    raw = write_stream(events, stream_usage=False)
    assert [call["function"] for call in message(raw)["tool_calls"]] == [
        {"name": "f", "arguments": "{}"},
        {"name": "g", "arguments": "[]"},
    ]
    finish = json.loads(frames(raw)[-2])["choices"][0]
    assert finish["finish_reason"] == "tool_calls"


def test_log_probabilities_stay_with_their_text():
    raw = write_stream([START, hub.TextDelta("x", logprobs=Raw(b'{"content":[1e-7]}')), hub.Stop("stop")])
    assert b'"content":"x"},"logprobs":{"content":[1e-7]},' in raw


def test_citations_are_annotations_of_the_text_before_them():
    events = [
        START,
        hub.TextDelta("ab"),
        hub.CitationDelta(WEB),
        hub.CitationDelta(PAGE),
        hub.TextDelta("cde"),
        hub.CitationDelta(WEB),
        hub.Stop("stop"),
    ]
    built = message(write_stream(events, stream_usage=False))
    spans = [(a["url_citation"]["start_index"], a["url_citation"]["end_index"]) for a in built["annotations"]]
    assert spans == [(0, 2), (2, 5)]
    assert built["annotations"][0]["url_citation"]["url"] == "https://a"
    assert [c["type"] for c in built["citations"]] == ["page_location"]


def test_another_dialects_own_frames_are_not_passed_on():
    own = hub.OpaqueDelta("anthropic_messages", "server_tool_use", Raw(b'{"type":"server_tool_use"}'))
    events = [START, own, hub.TextDelta("x"), hub.Stop("stop")]
    assert write_stream(events) == write_stream([START, *events[2:]])


def test_its_own_frames_are_passed_on_beside_calls():
    call = {"index": 0, "id": "x", "type": "custom", "custom": {"name": "n", "input": "i"}}
    choice = {"index": 0, "delta": {"tool_calls": [call]}, "logprobs": None, "finish_reason": None}
    custom = Raw(json.dumps(choice).encode())
    events = [START, hub.OpaqueDelta("openai_chat", "custom", custom), hub.ToolStart(0, "y", "f"), hub.Stop("stop")]
    chunks = [json.loads(data) for data in frames(write_stream(events))[:-1]]
    calls = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert [(call["index"], call.get("id")) for call in calls] == [(0, "x"), (1, "y"), (1, None)]


@pytest.mark.parametrize(
    "end",
    [
        lambda writer: writer.feed(hub.Fail(hub.Problem("overloaded", 529, "busy", "overloaded_error"))),
        lambda writer: writer.fail(hub.Problem("overloaded", 529, "busy", "overloaded_error"), "call"),
        lambda writer: writer.fail(GatewayError("upstream_timeout", "busy"), "call"),
        lambda writer: writer.feed(hub.Stop("error", native="busy")),
    ],
)
def test_after_an_error_nothing_looks_like_an_end(end):
    writer = CODEC.writer(model="m", stream_usage=True)
    raw = writer.feed(START) + writer.feed(hub.TextDelta("x")) + end(writer)
    stream = check_chat_stream(raw, usage_asked=True)
    assert stream.problems == []
    assert "busy" in stream.error["message"]
    assert stream.error["type"] in ("server_error", "api_error")
    late = [hub.TextDelta("y"), hub.Stop("stop"), hub.UsageSeen(Usage(1, 1))]
    assert (
        b"".join([writer.feed(event) for event in late])
        + writer.end()
        + writer.fail(GatewayError("overloaded", ""), "")
        == b""
    )


def test_a_complete_stream_that_said_nothing_is_whole_all_the_same():
    assert chat_stream_problems(write_stream([hub.Done()], stream_usage=False)) == []
    assert chat_stream_problems(write_stream([START, hub.TextDelta("x", 1), hub.Done()], stream_usage=False)) == []


def test_nothing_is_said_of_a_choice_after_its_finish():
    late = [hub.TextDelta("y"), hub.RefusalDelta("y"), hub.ThinkDelta("y"), hub.Stop("length")]
    events = [START, hub.TextDelta("x"), hub.Stop("stop")]
    assert write_stream([*events, *late]) == write_stream(events)


def slowly(writer, event):
    """What is written for an event without the short way for more of a text."""
    for told in writer._choices.values():
        told.flows = False
    return writer.feed(event)


EVENTS = [
    hub.TextDelta("a"),
    hub.TextDelta("é\n", 1),
    hub.TextDelta(""),
    hub.TextDelta("b", logprobs=Raw(b'{"content":[],"refusal":null}')),
    hub.TextDelta("c", signature="s"),
    hub.ThinkDelta("hm"),
    hub.ThinkDelta("hm", choice=1),
    hub.ThinkDelta(signature="s"),
    hub.ThinkDelta(redacted="r"),
    hub.ToolStart(0, "t", "f"),
    hub.ToolDelta(0, "{}"),
    hub.CitationDelta(WEB),
    hub.CitationDelta(PAGE),
    hub.RefusalDelta("no"),
    hub.Stop("stop"),
    hub.Stop("length", 1),
    hub.Stop("error"),
]


@given(st.lists(st.sampled_from(EVENTS), max_size=15), st.booleans())
def test_more_of_a_text_is_written_as_the_first_of_it(events, usage):
    quick, slow = (CODEC.writer(model="m", stream_usage=usage) for _ in range(2))
    assert [quick.feed(event) for event in [START, *events]] == [slowly(slow, event) for event in [START, *events]]
    assert quick.end() == slow.end()


def test_more_of_a_run_of_thinking_and_of_arguments():
    writer = CODEC.writer(model="m", stream_usage=False)
    told = [START, hub.ThinkDelta('"a'), hub.ThinkDelta('"b'), hub.ToolStart(3, "t", "f"), hub.ToolDelta(3, '{"')]
    deltas = [json.loads(data)["choices"][0]["delta"] for data in frames(b"".join(map(writer.feed, told)))]
    for thought, text in zip(deltas[1:3], ['"a', '"b'], strict=True):
        details = [{"type": "reasoning.text", "text": text, "index": 0}]
        assert thought == {"reasoning_details": details, "reasoning_content": text}
    assert deltas[4] == {"tool_calls": [{"index": 0, "function": {"arguments": '{"'}}]}
