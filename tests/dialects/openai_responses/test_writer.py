import json

import pytest
from msgspec import Raw

from fastgw.call import Usage
from fastgw.dialects import hub
from fastgw.dialects.openai_responses.codec import CODEC
from fastgw.dialects.openai_responses.items import CALL, NAME, SIGNED, seal
from fastgw.errors import GatewayError
from tests.support.grammar_openai_responses import check, frames

START = hub.Start("msg_1", "claude", 1700000000)


def write(*events, end=True):
    writer = CODEC.writer(model="asked", stream_usage=False)
    return b"".join(map(writer.feed, events)) + (writer.end() if end else b"")


def checked(*events):
    stream = check(write(*events))
    assert stream.problems == []
    return stream


def types(data):
    return [name for name, _ in frames(data)[0]]


def test_text():
    data = write(
        START, hub.TextDelta("Hel"), hub.TextDelta("lo"), hub.Stop("stop"), hub.UsageSeen(Usage(3, 2)), hub.Done()
    )
    assert types(data) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    stream = check(data)
    assert stream.problems == []
    assert stream.terminal["id"] == "resp_msg_1"
    assert stream.terminal["model"] == "claude"
    assert stream.terminal["usage"]["total_tokens"] == 5
    assert b"[DONE]" not in data


def test_nothing_said_is_an_empty_response():
    assert checked().terminal["output"] == []
    assert checked(START, hub.TextDelta(""), hub.ThinkDelta(""), hub.RefusalDelta("")).terminal["output"] == []
    assert checked().terminal["model"] == "asked"


def test_usage_in_halves():
    stream = checked(START, hub.UsageSeen(Usage(10, 1, 4)), hub.UsageSeen(Usage(0, 7, 0, 0, 2)), hub.Stop("stop"))
    assert stream.terminal["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 17,
    }


def test_items_in_their_order():
    stream = checked(
        START,
        hub.ThinkDelta("Hm"),
        hub.ThinkDelta("", signature="sig"),
        hub.TextDelta("Let me"),
        hub.RefusalDelta("No"),
        hub.ToolStart(0, "c0", "f"),
        hub.ToolDelta(0, '{"a":'),
        hub.ToolDelta(0, "1e400}"),
        hub.TextDelta("after"),
        hub.Stop("tool_calls"),
    )
    assert [item["type"] for item in stream.items] == ["reasoning", "message", "function_call", "message"]
    assert stream.items[0]["encrypted_content"] == SIGNED + "sig"
    assert [part["type"] for part in stream.items[1]["content"]] == ["output_text", "refusal"]
    assert stream.items[2]["arguments"] == '{"a":1e400}'


def test_a_call_without_arguments_has_the_empty_object():
    stream = checked(START, hub.ToolStart(0, "c", "now"), hub.ToolStart(1, "d", "now"), hub.Stop("tool_calls"))
    assert [item["arguments"] for item in stream.items] == ["{}", "{}"]


def test_calls_are_told_as_soon_as_the_one_before_is_whole():
    writer = CODEC.writer(model="m", stream_usage=False)
    for event in (START, hub.ToolStart(0, "c", "f"), hub.ToolDelta(0, '{"a":1}')):
        writer.feed(event)
    assert types(writer.feed(hub.ToolStart(1, "d", "f")))[-1] == "response.output_item.added"
    assert types(writer.feed(hub.ToolDelta(1, "{"))) == ["response.function_call_arguments.delta"]
    assert writer.feed(hub.ToolStart(2, "e", "f")) == writer.feed(hub.ToolDelta(2, "{}")) == b""
    assert types(writer.feed(hub.ToolDelta(1, "}")))[-1] == "response.function_call_arguments.delta"


def test_signatures():
    own = seal("rs_9", "gAAA")
    stream = checked(
        START, hub.ThinkDelta("a", signature=own), hub.ToolStart(0, "c", "f", signature="thought"), hub.Stop("stop")
    )
    assert [item.get("encrypted_content") for item in stream.items] == [SIGNED + own, CALL + "thought", None]


def test_citations_rest_on_the_text_before_them():
    cited = Raw(b'{"type":"web_search_result_location","url":"https://e.org","title":null}')
    other = Raw(b'{"type":"page_location","cited_text":"x"}')
    stream = checked(
        START,
        hub.TextDelta("abc"),
        hub.CitationDelta(cited),
        hub.TextDelta("de"),
        hub.CitationDelta(cited),
        hub.CitationDelta(other),
    )
    assert [(one["start_index"], one["end_index"]) for one in stream.items[0]["content"][0]["annotations"]] == [
        (0, 3),
        (3, 5),
    ]


def test_log_probabilities():
    one = {"token": "a", "logprob": -1e-07, "bytes": None, "top_logprobs": []}
    raw = Raw(json.dumps({"content": [one], "refusal": None}).encode())
    stream = checked(START, hub.TextDelta("a", logprobs=raw), hub.TextDelta("a", logprobs=raw), hub.Stop("stop"))
    assert stream.items[0]["content"][0]["logprobs"] == [one, one]


@pytest.mark.parametrize(
    ("reason", "status", "item"),
    [
        ("length", "incomplete", "incomplete"),
        ("content_filter", "incomplete", "completed"),
        ("error", "failed", "completed"),
    ],
)
def test_how_it_ends(reason, status, item):
    stream = checked(START, hub.TextDelta("a"), hub.Stop(reason))
    assert (stream.terminal["status"], stream.items[0]["status"]) == (status, item)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GatewayError("upstream_timeout", "too slow"), "upstream_timeout"),
        (hub.Problem("overloaded", 529, "too slow", "overloaded_error"), "server_error"),
    ],
)
def test_a_failure_ends_the_stream_and_nothing_follows(error, code):
    writer = CODEC.writer(model="m", stream_usage=True)
    data = writer.feed(START) + writer.feed(hub.TextDelta("Half")) + writer.fail(error, "id")
    stream = check(data)
    assert stream.problems == []
    assert (stream.error["code"], stream.error["message"]) == (code, "too slow")
    assert stream.error["error"]["message"] == "too slow"
    assert stream.terminal["error"] == {"code": code, "message": "too slow"}
    assert writer.end() == writer.fail(error, "id") == writer.feed(hub.TextDelta("x")) == b""


def test_a_failure_before_anything_is_a_bare_error():
    assert types(CODEC.writer(model="m", stream_usage=True).fail(GatewayError("internal_error", "x"), "id")) == [
        "error"
    ]
    problem = hub.Problem("server", 500, "x")
    assert types(write(START, hub.Fail(problem)))[-2:] == ["error", "response.failed"]


def test_only_the_first_choice_and_no_parts_of_other_dialects():
    web = Raw(b'{"type":"web_search_call","id":"ws_1","status":"completed"}')
    stream = checked(
        START,
        hub.TextDelta("a"),
        hub.TextDelta("b", choice=1),
        hub.ToolStart(0, "c", "f", choice=1),
        hub.Stop("length", choice=1),
        hub.OpaqueDelta("anthropic_messages", "server_tool_use", Raw(b"{}")),
        hub.OpaqueDelta(NAME, "response.output_item.done", web),
        hub.OpaqueDelta(NAME, "response.web_search_call.searching", Raw(b"{}")),
        hub.Stop("stop"),
    )
    assert [item["type"] for item in stream.items] == ["message", "web_search_call"]
    assert stream.terminal["status"] == "completed"


def test_the_checker_finds_what_is_wrong():
    data = write(START, hub.TextDelta("abc"), hub.Stop("stop"))
    assert check(data).problems == []
    for old, new in (
        (b'"sequence_number":3', b'"sequence_number":4'),
        (b'"delta":"abc"', b'"delta":"ab"'),
        (b"event: response.completed", b"event: response.done"),
        (b'"output_index":0,"content_index":0,"delta"', b'"output_index":1,"content_index":0,"delta"'),
    ):
        assert old in data
        assert check(data.replace(old, new)).problems != []
    assert check(data[: data.index(b"event: response.completed")]).problems == ["the stream does not end"]
    assert check(data + b"data: [DONE]\n\n").problems != []
