import json
from pathlib import Path

import pytest

from fastgw.call import Usage
from fastgw.dialects import framing, hub
from fastgw.dialects.openai_responses.codec import CODEC
from fastgw.dialects.openai_responses.items import NAME, unseal

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "openai_responses"


def feed(*frames):
    reader = CODEC.reader()
    events = [event for frame in frames for event in reader.feed("", json.dumps(frame).encode())]
    return events + reader.end()


def fixture(name):
    reader = CODEC.reader()
    blocks = framing.events((FIXTURES / name).read_bytes())
    return [event for block in blocks for event in reader.feed("", framing.payload(block) or b"")]


def of(kind, events):
    return [event for event in events if type(event) is kind]


def test_parts_of_reasoning_are_paragraphs_of_one_run_and_the_seal_ends_it():
    thoughts = of(hub.ThinkDelta, fixture("tools.sse"))
    assert "".join(thought.text for thought in thoughts) == "**Looking up**\n\nTwo cities."
    assert [thought.signature is not None for thought in thoughts] == [False, False, False, True]
    assert unseal(thoughts[-1].signature) == ("rs_00", "gAAAAABo0-sealed==")


def test_parallel_calls_are_numbered_and_keep_their_numbers_text():
    events = fixture("tools.sse")
    assert [(start.index, start.id) for start in of(hub.ToolStart, events)] == [
        (0, "call_Paris1"),
        (1, "call_Rome2"),
        (2, "call_now3"),
    ]
    texts = {}
    for delta in of(hub.ToolDelta, events):
        texts[delta.index] = texts.get(delta.index, "") + delta.fragment
    assert texts == {0: '{"city":"Paris","big":9007199254740993}', 1: '{"city":"Rome","x":1e400}', 2: "{}"}


@pytest.mark.parametrize(
    ("name", "cause", "status", "message"),
    [
        ("quota.error.sse", "billing", 429, "You exceeded your current quota."),
        ("bare.error.sse", "server", 500, "The server had an error."),
        ("failed.error.sse", "rate_limit", 429, "Slow down."),
    ],
)
def test_a_failure_is_told_once_and_is_no_end(name, cause, status, message):
    events = fixture(name)
    (failed,) = of(hub.Fail, events)
    assert (failed.problem.cause, failed.problem.status, failed.problem.message) == (cause, status, message)
    assert of(hub.Done, events) == of(hub.Stop, events) == []
    if name == "failed.error.sse":
        assert of(hub.UsageSeen, events) == [hub.UsageSeen(Usage(9, 2))]


def test_log_probabilities_come_with_their_text():
    first, second = of(hub.TextDelta, fixture("logprobs.sse"))
    assert json.loads(bytes(first.logprobs))["content"][0]["token"] == "Yes"
    assert b"1e-07" in bytes(second.logprobs)


def test_citations_and_hosted_tools():
    events = fixture("search.sse")
    (citation,) = of(hub.CitationDelta, events)
    assert json.loads(bytes(citation.raw))["url"] == "https://example.org/towers"
    assert [(one.dialect, one.kind) for one in of(hub.OpaqueDelta, events)] == [
        (NAME, "response.web_search_call.in_progress"),
        (NAME, "response.web_search_call.searching"),
        (NAME, "response.web_search_call.completed"),
        (NAME, "response.output_item.done"),
    ]
    assert of(hub.ToolStart, events) == []


def test_a_terminal_response_alone_says_everything():
    reply = json.loads((FIXTURES / "tools.reply.json").read_bytes())
    events = feed({"type": "response.completed", "response": reply})
    assert type(events[0]) is hub.Start
    assert [start.name for start in of(hub.ToolStart, events)] == ["get_weather", "get_weather", "now"]
    assert of(hub.Stop, events)[0].reason == "tool_calls"
    assert type(events[-1]) is hub.Done


def test_unknown_frames_are_opaque_whatever_their_shape():
    odd = {"type": "response.shell_call_output_content.delta", "output_index": 0, "delta": {"stdout": "x"}}
    (event,) = feed(odd)
    assert (event.kind, json.loads(bytes(event.raw))) == (odd["type"], odd)
    assert feed({"type": "response.new_thing", "x": 1})[0].kind == "response.new_thing"
    assert feed({"no": "type"}) == []


def test_known_frames_of_a_wrong_shape_say_nothing():
    assert feed({"type": "response.output_text.delta", "delta": 3}) == []
    assert feed({"type": "response.output_text.delta", "output_index": 0, "delta": ""}) == []
    assert feed({"type": "response.function_call_arguments.delta", "output_index": 4, "delta": "x"}) == []
    assert feed({"type": "response.output_item.done", "output_index": 0, "item": None}) == []


def test_what_is_not_json_is_refused():
    with pytest.raises(ValueError):
        CODEC.reader().feed("", b"data")
    assert CODEC.reader().feed("", b"[DONE]") == []


def test_the_name_of_the_event_serves_where_data_has_no_type():
    assert CODEC.reader().feed("response.output_text.delta", b'{"delta":"x"}') == [hub.TextDelta("x")]


def test_broken_usage_is_none_and_breaks_nothing():
    response = {"id": "resp_1", "status": "completed", "output": [], "usage": {"input_tokens": "many"}}
    events = feed({"type": "response.completed", "response": response})
    assert [type(event) for event in events] == [hub.Start, hub.Stop, hub.Done]


def test_a_signature_of_a_call_comes_before_it():
    carrier = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "fastgw:call:thought"}
    call = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": ""}
    events = feed(
        {"type": "response.output_item.done", "output_index": 0, "item": carrier},
        {"type": "response.output_item.added", "output_index": 1, "item": call},
        {"type": "response.output_item.done", "output_index": 1, "item": call | {"arguments": '{"a":1}'}},
    )
    assert events == [hub.ToolStart(0, "c", "f", signature="thought"), hub.ToolDelta(0, '{"a":1}')]
