"""Whole replies, read from many vendors and written by OpenAI's reference."""

import json

import pytest
from hypothesis import given, settings
from msgspec import Raw
from openai.types.chat import ChatCompletion

from fastgw.dialects import hub
from fastgw.dialects.openai_chat.codec import CODEC
from tests.dialects.openai_chat.test_writer import PAGE, WEB, replies
from tests.dialects.openai_chat_support import FIXTURES, expected, summary
from tests.support.grammar_openai_chat import reply_problems

REPLIES = sorted(FIXTURES.glob("*.reply.json"))


def write(*parts, stop="stop", **more):
    reply = hub.Reply("i", "m", [hub.Choice(list(parts), stop, **more)])
    body = CODEC.write_reply(reply, model="asked")
    assert reply_problems(body) == []
    return json.loads(body)["choices"][0]


def read(message, finish="stop", **more):
    choice = {"index": 0, "message": message, "finish_reason": finish, **more}
    return CODEC.read_reply(json.dumps({"id": "i", "choices": [choice]}).encode()).choices[0]


@pytest.mark.parametrize("path", REPLIES, ids=lambda path: path.stem)
def test_vendors_replies_are_understood(path):
    reply = CODEC.read_reply(path.read_bytes())
    want, _ = expected(path)
    assert summary(reply) == want
    body = CODEC.write_reply(reply, model="asked")
    assert reply_problems(body) == []
    ChatCompletion.model_validate_json(body)


@settings(max_examples=120, deadline=None)
@given(replies())
def test_what_is_written_reads_back_the_same(reply):
    body = CODEC.write_reply(reply, model="asked")
    assert reply_problems(body) == []
    ChatCompletion.model_validate_json(body)
    assert CODEC.read_reply(body) == reply


def test_the_model_asked_for_stands_in_where_the_reply_names_none():
    assert json.loads(CODEC.write_reply(hub.Reply("", "", []), model="asked"))["model"] == "asked"


def test_no_text_is_null_and_no_arguments_are_an_object():
    choice = write(hub.ToolCall("a", "f", ""))
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == "{}"
    assert choice["finish_reason"] == "tool_calls"
    assert "annotations" not in choice["message"]


def test_the_providers_word_is_kept_where_it_says_more():
    assert write(hub.Text("x"), native_stop="end_turn")["provider_finish_reason"] == "end_turn"
    assert "provider_finish_reason" not in write(hub.Text("x"), native_stop="stop")
    assert write(hub.Text("x"), stop="error", native_stop="MALFORMED_FUNCTION_CALL")["finish_reason"] == "length"
    assert write(hub.Text("x"), stop_sequence="END")["stop_reason"] == "END"


def test_another_dialects_server_tools_are_no_calls():
    foreign = hub.Opaque("anthropic_messages", "server_tool_use", Raw(b'{"type":"server_tool_use","id":"s"}'))
    choice = write(foreign, hub.Text("x"))
    assert choice["message"] == {"role": "assistant", "content": "x", "refusal": None}
    assert choice["finish_reason"] == "stop"


def test_a_custom_call_survives_its_own_dialect():
    call = {"id": "x", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
    choice = read({"content": None, "tool_calls": [call]}, "tool_calls")
    assert [part.kind for part in choice.parts] == ["custom"]
    body = CODEC.write_reply(hub.Reply("i", "m", [choice]), model="m")
    assert json.loads(body)["choices"][0]["message"]["tool_calls"] == [call]


def test_citations_and_annotations_change_into_each_other():
    parts = [hub.Text("say "), hub.Text("this", citations=Raw(b"[" + bytes(WEB) + b"," + bytes(PAGE) + b"]"))]
    message = write(*parts)["message"]
    page = {"start_index": 4, "end_index": 8, "url": "https://a", "title": "https://a"}
    assert message["annotations"] == [{"type": "url_citation", "url_citation": page}]
    assert message["citations"] == [json.loads(bytes(PAGE))]
    back = read(message).parts
    assert [part.text for part in back] == ["say ", "this"]
    web, other = json.loads(bytes(back[1].citations))
    assert (web["url"], web["cited_text"], web["type"]) == ("https://a", "this", "web_search_result_location")
    assert other == json.loads(bytes(PAGE))


@pytest.mark.parametrize(
    "spans", [[(0, 3), (1, 2)], [(0, 2), (1, 3)], [(2, 1)], [(-5, 99)], [(3, 3), (0, 0)], [(7, 9)]]
)
def test_citations_never_change_the_text(spans):
    notes = [{"url_citation": {"start_index": a, "end_index": b, "url": "u", "title": "t"}} for a, b in spans]
    parts = read({"content": "abc", "annotations": [*notes, {"type": "other"}, 3]}).parts
    assert "".join(part.text for part in parts) == "abc"
    assert sum(len(json.loads(bytes(p.citations))) for p in parts if p.citations is not None) == len(spans)


def test_images_travel_as_openrouter_has_them():
    message = write(hub.Image("image/png", "aGk="), hub.Image(url="https://x/y.png"))["message"]
    assert [image["image_url"]["url"] for image in message["images"]] == [
        "data:image/png;base64,aGk=",
        "https://x/y.png",
    ]
    assert read(message).parts == [hub.Image("image/png", "aGk="), hub.Image(url="https://x/y.png")]


def test_sound_travels_as_a_message_of_its_own_dialect():
    audio = {"id": "a", "data": "aGk=", "expires_at": 1, "transcript": "hi"}
    choice = read({"content": None, "audio": audio})
    assert write(*choice.parts)["message"]["audio"] == audio
    assert write(hub.Audio("aGk=", "wav"))["message"]["audio"]["data"] == "aGk="


def test_an_error_in_the_place_of_an_answer_is_told():
    with pytest.raises(hub.Failed) as failed:
        CODEC.read_reply(b'{"error":{"message":"no credits","code":402}}')
    assert (failed.value.problem.cause, failed.value.problem.status) == ("billing", 402)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"choices":null}', b"[" * 5000, b'{"choices":' * 2000]
)
def test_what_is_no_answer_is_refused(body):
    with pytest.raises(ValueError):
        CODEC.read_reply(body)


def test_choices_come_in_the_order_of_their_index():
    one = {"message": {"content": "b"}, "index": 1, "finish_reason": None}
    two = {"message": {"content": "a"}, "index": 0, "finish_reason": "length"}
    reply = CODEC.read_reply(json.dumps({"choices": [one, two], "created": "soon", "usage": 3}).encode())
    assert [choice.parts[0].text for choice in reply.choices] == ["a", "b"]
    assert [choice.stop for choice in reply.choices] == ["length", None]
    assert (reply.created, reply.usage) == (0, None)
