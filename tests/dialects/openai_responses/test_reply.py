import json

import pytest
from msgspec import Raw

from fastgw.call import Usage
from fastgw.dialects import hub
from fastgw.dialects.openai_responses.codec import CODEC
from fastgw.dialects.openai_responses.items import CALL, NAME, REDACTED, SIGNED


def response(*output, **fields):
    body = {"id": "resp_1", "object": "response", "model": "m", "status": "completed", "output": list(output), **fields}
    return json.dumps(body).encode()


def message(*content):
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": list(content)}


def write(*parts, **fields):
    reply = hub.Reply("msg_abc", "claude", [hub.Choice(list(parts), fields.pop("stop", "stop"), **fields)])
    return json.loads(CODEC.write_reply(reply, model="asked"))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"<html>", b'{"id":"x"}'])
def test_what_is_no_response_is_refused(body):
    with pytest.raises(ValueError):
        CODEC.read_reply(body)


@pytest.mark.parametrize(
    "body",
    [
        response(status="failed", error={"code": "rate_limit_exceeded", "message": "Slow"}),
        b'{"error":{"code":"rate_limit_exceeded","message":"Slow"}}',
    ],
)
def test_a_failed_response_is_an_error(body):
    with pytest.raises(hub.Failed) as caught:
        CODEC.read_reply(body)
    problem = caught.value.problem
    assert (problem.cause, problem.status, problem.message) == ("rate_limit", 429, "Slow")


@pytest.mark.parametrize(
    ("fields", "stop", "native"),
    [
        ({}, "stop", "completed"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            "length",
            "max_output_tokens",
        ),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            "content_filter",
            "content_filter",
        ),
        ({"status": "incomplete", "incomplete_details": None}, "stop", "incomplete"),
        ({"status": "cancelled"}, "error", "cancelled"),
        ({"status": "in_progress"}, None, "in_progress"),
    ],
)
def test_why_it_ended(fields, stop, native):
    choice = CODEC.read_reply(response(message({"type": "output_text", "text": "x"}), **fields)).choices[0]
    assert (choice.stop, choice.native_stop) == (stop, native)


def test_a_call_is_why_it_ended():
    call = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": '{"a": 1e400}'}
    choice = CODEC.read_reply(response(call)).choices[0]
    assert choice.stop == "tool_calls"
    assert choice.parts == [hub.ToolCall("c", "f", '{"a": 1e400}')]


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (None, None),
        ({"input_tokens": -1}, None),
        ({"input_tokens": 5, "output_tokens": None, "input_tokens_details": None}, Usage(5)),
        (
            {
                "input_tokens": 10,
                "output_tokens": 7,
                "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
                "output_tokens_details": {"reasoning_tokens": 4},
            },
            Usage(10, 7, 3, 2, 4),
        ),
    ],
)
def test_usage(told, usage):
    assert CODEC.read_reply(response(usage=told)).usage == usage


def test_what_hosted_tools_did_is_opaque_and_only_for_this_dialect():
    web = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    odd = {"type": "shell_call_output", "output": {"odd": 1}}
    parts = CODEC.read_reply(response(web, odd)).choices[0].parts
    assert [(part.dialect, part.kind) for part in parts] == [(NAME, "web_search_call"), (NAME, "shell_call_output")]
    foreign = hub.Opaque("anthropic_messages", "server_tool_use", Raw(b'{"type":"server_tool_use"}'))
    assert [item["type"] for item in write(*parts, foreign)["output"]] == ["web_search_call", "shell_call_output"]


def test_citations_both_ways():
    found = {"type": "url_citation", "start_index": 0, "end_index": 3, "title": "T", "url": "https://e.org"}
    file = {"type": "file_citation", "file_id": "file_1", "filename": "a", "index": 3}
    text = CODEC.read_reply(response(message({"type": "output_text", "text": "abcd", "annotations": [found, file]})))
    part = text.choices[0].parts[0]
    first, second = json.loads(bytes(part.citations))
    assert (first["type"], first["url"], first["title"]) == ("web_search_result_location", "https://e.org", "T")
    assert second == file
    part.citations = Raw(json.dumps([first, second, {"type": "char_location", "cited_text": "x"}]).encode())
    assert write(part)["output"][0]["content"][0]["annotations"] == [{**found, "end_index": 4}, file]


def test_logprobs_both_ways():
    one = {"token": "a", "bytes": [97], "logprob": -1e-07, "top_logprobs": []}
    body = message(*({"type": "output_text", "text": "a", "logprobs": [one]} for _ in range(2)))
    choice = CODEC.read_reply(response(body)).choices[0]
    assert json.loads(bytes(choice.logprobs)) == {"content": [one, one], "refusal": None}
    assert write(hub.Text("aa"), logprobs=choice.logprobs)["output"][0]["content"][0]["logprobs"] == [one, one]


def test_thinking_of_other_providers_is_carried_sealed():
    call = hub.ToolCall("c", "f", "", signature="thought")
    output = write(hub.Thinking("Hm", "sig"), hub.Thinking("", redacted="red"), hub.Thinking("Bare"), call)["output"]
    assert [item.get("encrypted_content") for item in output] == [
        SIGNED + "sig",
        REDACTED + "red",
        None,
        CALL + "thought",
        None,
    ]
    assert output[-1]["arguments"] == "{}"
    assert len({item["id"] for item in output}) == len(output)


@pytest.mark.parametrize(
    ("stop", "status", "reason"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
        ("error", "failed", None),
    ],
)
def test_status(stop, status, reason):
    body = write(hub.Text("x"), stop=stop)
    assert body["status"] == status
    assert body["incomplete_details"] == (reason and {"reason": reason})
    assert (body["error"] is not None) == (stop == "error")


def test_ids_and_names():
    body = write(hub.Text("x"))
    assert (body["id"], body["model"], body["object"]) == ("resp_msg_abc", "claude", "response")
    nameless = json.loads(CODEC.write_reply(hub.Reply("", "", []), model="asked"))
    assert nameless["model"] == "asked"
    assert len(nameless["id"]) > 20


def test_an_image_of_the_model():
    item = write(hub.Image("image/png", "AAAA"))["output"][0]
    assert (item["type"], item["result"], item["status"]) == ("image_generation_call", "AAAA", "completed")
