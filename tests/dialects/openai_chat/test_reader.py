"""Reading streams: recorded shapes of many vendors, every cut, faults."""

import json

import pytest
from msgspec import Raw

from fastgw.dialects import hub
from fastgw.dialects.openai_chat.codec import CODEC
from tests.dialects.openai_chat_support import FIXTURES, expected, frames, gather, read_stream, summary

STREAMS = sorted(FIXTURES.glob("*.sse"))


def by_stream(test):
    return pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)(test)


def chunk(delta=None, finish=None, **more):
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish, **more}
    return json.dumps({"id": "c", "model": "m", "created": 5, "choices": [choice]}).encode()


def fragment(**call):
    return chunk({"tool_calls": [call]})


def run(*data):
    reader, events = CODEC.reader(), []
    for one in data:
        events += reader.feed("", one)
    return events + reader.end()


def test_there_are_fixtures():
    assert len(STREAMS) >= 10


@by_stream
def test_vendors_streams_are_understood(path):
    events = read_stream(path.read_bytes())
    want, logprobs = expected(path)
    assert summary(gather(events)) == want
    assert type(events[-1]) is hub.Done
    assert sum(type(e) is hub.Done for e in events) == 1
    scored = [e.choice for e in events if type(e) is hub.TextDelta and e.logprobs is not None]
    assert [scored.count(index) for index in range(len(logprobs))] == logprobs


@by_stream
def test_where_the_bytes_are_cut_does_not_matter(path):
    raw = path.read_bytes()
    whole = read_stream(raw)
    for size in (1, 2, 7, 64, 1000):
        assert read_stream(raw, size) == whole


@by_stream
def test_a_stream_cut_short_is_never_done(path):
    raw = path.read_bytes()
    data = frames(raw)
    finish = next(i for i, one in enumerate(data) if b'"finish_reason":"' in one)
    for length in range(finish):
        assert hub.Done() not in run(*data[:length])


def test_a_stream_begins_once_with_what_the_first_real_chunk_says():
    first = json.loads(chunk({"role": "assistant", "content": ""}))
    first |= {"service_tier": "flex", "system_fingerprint": "fp", "created": 7.0}
    events = run(json.dumps(first).encode(), chunk({"content": "x"}))
    assert events == [hub.Start("c", "m", 7, "flex", "fp"), hub.TextDelta("x")]


def test_calls_without_index_or_id_are_told_apart():
    call = {"function": {"name": "f", "arguments": '{"a":1}'}}
    events = run(
        chunk({"tool_calls": [{"id": "x", **call}, {"id": "y", **call}]}), fragment(function={"arguments": " "})
    )
    assert [e for e in events if type(e) is hub.ToolStart] == [hub.ToolStart(0, "x", "f"), hub.ToolStart(1, "y", "f")]
    assert events[-1] == hub.ToolDelta(1, " ")
    nameless = [e for e in run(fragment(index=0, **call)) if type(e) is hub.ToolStart]
    assert nameless == [hub.ToolStart(0, "call_c_0_0", "f")]


def test_the_same_id_in_every_fragment_is_one_call():
    one = {"index": 0, "id": "x", "type": "function"}
    events = run(
        fragment(**one, function={"name": "f", "arguments": ""}),
        fragment(**one, function={"name": "f", "arguments": "{}"}),
    )
    assert [type(e) for e in events] == [hub.Start, hub.ToolStart, hub.ToolDelta]


def test_arguments_that_are_an_object_stay_as_written():
    data = fragment(index=0, id="x", function={"name": "f", "arguments": 0})
    data = data.replace(b'"arguments": 0', b'"arguments": {"b": 1e400, "a":9007199254740993}')
    assert run(data)[-1] == hub.ToolDelta(0, '{"b": 1e400, "a":9007199254740993}')


def test_a_custom_tool_call_is_nobody_elses():
    events = run(
        fragment(index=0, id="x", type="custom", custom={"name": "sql", "input": ""}),
        fragment(index=0, custom={"input": "SELECT"}),
        fragment(index=1, id="y", function={"name": "f", "arguments": "{}"}),
        chunk(finish="tool_calls"),
    )
    assert [type(e) for e in events[1:5]] == [hub.OpaqueDelta, hub.OpaqueDelta, hub.ToolStart, hub.ToolDelta]
    assert events[3].index == 0
    assert json.loads(bytes(events[1].raw))["delta"]["tool_calls"][0]["custom"] == {"name": "sql", "input": ""}


def test_finish_reasons_said_twice_count_once():
    events = run(chunk({"content": "x"}, "stop"), chunk({}, "stop"), chunk({"content": ""}, "stop"))
    assert [e for e in events if type(e) is hub.Stop] == [hub.Stop("stop", native="stop")]
    assert events[-1] == hub.Done()


def test_a_finish_reason_says_which_sequence_matched():
    assert run(chunk({}, "stop", stop_reason="END"))[1] == hub.Stop("stop", 0, "stop", "END")
    assert run(chunk({}, "stop", stop_reason=128001))[1] == hub.Stop("stop", 0, "stop", None)


def test_thinking_and_text_of_one_chunk_come_in_that_order():
    events = run(chunk({"content": "b", "reasoning": "a"}))
    assert events[1:] == [hub.ThinkDelta("a"), hub.TextDelta("b")]


def test_log_probabilities_without_text_are_kept():
    events = run(chunk({"refusal": "no"}, logprobs={"refusal": []}))
    assert events[1:] == [hub.RefusalDelta("no"), hub.TextDelta("", logprobs=Raw(b'{"refusal": []}'))]


def test_a_citation_becomes_anthropics():
    note = {
        "type": "url_citation",
        "url_citation": {"start_index": 0, "end_index": 1, "url": "https://a", "title": "A"},
    }
    event = run(chunk({"annotations": [note]}))[1]
    assert json.loads(bytes(event.raw)) == {
        "type": "web_search_result_location", "url": "https://a", "title": "A", "cited_text": "", "encrypted_index": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "cause", "status", "code"),
    [
        (b'{"error":{"message":"slow","code":"rate_limit_exceeded"}}', "rate_limit", 429, b'"rate_limit_exceeded"'),
        (b'{"error":{"message":"boom","code":502,"metadata":{}},"choices":[]}', "server", 502, b"502"),
        (b'{"error":{"message":"boom","type":"server_error","param":null,"code":null}}', "server", 500, b"null"),
        (b'{"error":"tokens expired"}', "server", 500, None),
        (b'{"id":"c","choices":[],"x_groq":{"id":"r","error":"tool failed"}}', "server", 500, None),
    ],
)
def test_an_error_in_the_stream_is_told_and_ends_it(data, cause, status, code):
    reader = CODEC.reader()
    reader.feed("", chunk({"content": "x"}))
    (event,) = reader.feed("", data)
    problem = event.problem
    assert (problem.cause, problem.status) == (cause, status)
    assert (bytes(problem.code) if problem.code is not None else None) == code
    assert reader.feed("", b"[DONE]") == []
    assert reader.end() == []


def test_a_named_error_event_is_an_error_whatever_it_holds():
    (event,) = CODEC.reader().feed("error", b"upstream fell over")
    assert event.problem.message == "upstream fell over"


@pytest.mark.parametrize("data", [b"nonsense", b"[1]", b'{"choices":3}', b"\xff", b"[" * 5000])
def test_what_is_no_chunk_is_refused(data):
    with pytest.raises(ValueError):
        CODEC.reader().feed("", data)


def test_choices_and_calls_are_bounded():
    reader = CODEC.reader()
    with pytest.raises(ValueError, match="choices"):
        for index in range(1000):
            reader.feed("", chunk({"content": "x"}).replace(b'"index": 0', b'"index": %d' % index))
    reader = CODEC.reader()
    with pytest.raises(ValueError, match="tool calls"):
        for index in range(5000):
            reader.feed("", fragment(index=0, id=f"i{index}", function={"name": "f"}))
