import json

import pytest
from msgspec import Raw

from fastgw.dialects import hub
from fastgw.dialects.openai_responses.codec import CODEC
from fastgw.dialects.openai_responses.items import CALL, NAME, REDACTED, SIGNED, unseal


def read(**fields):
    body = {"model": "m", "input": "hi", **fields}
    return CODEC.read_request(json.dumps({name: value for name, value in body.items() if value is not ...}).encode())


CALL_ITEM = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'}


def test_a_string_is_what_the_user_says():
    chat = read(instructions="Be brief.")
    assert chat.turns == [hub.Turn("system", [hub.Text("Be brief.")]), hub.Turn("user", [hub.Text("hi")])]
    assert (chat.model, chat.origin, chat.stream) == ("m", NAME, False)


def test_the_path_may_name_the_model_and_the_stream():
    chat = CODEC.read_request(b'{"input":"hi"}', model="other", stream=True)
    assert (chat.model, chat.stream, chat.stream_usage) == ("other", True, True)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"model": ...}, "model"),
        ({"model": 3}, "model"),
        ({"input": ...}, "input"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": 3}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"text": "x"}]}]}, "input[0].content[0].type"),
        ({"input": ["hi", {"content": "x"}]}, "input[0]"),
        ({"input": [{"content": "x"}]}, "input[0].type"),
        ({"input": [CALL_ITEM | {"call_id": ""}]}, "input[0].call_id"),
        ({"input": [CALL_ITEM | {"name": None}]}, "input[0].name"),
        ({"input": [CALL_ITEM | {"arguments": {}}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call_output", "call_id": "c1"}]}, "input[0].output"),
        ({"input": [{"type": "function_call_output", "call_id": "c1", "output": "x"}]}, "input[0].call_id"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": 3}]}, "tools[0].name"),
        ({"tools": [{"name": "f"}]}, "tools[0]"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": 3}, "tool_choice"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"max_output_tokens": "many"}, "max_output_tokens"),
    ],
)
def test_what_is_wrong_is_named(fields, path):
    with pytest.raises(hub.Invalid) as caught:
        read(**fields)
    assert caught.value.field == path


def test_what_is_not_json_is_invalid():
    for body in (b"", b"[]", b'{"model":', b"\xff"):
        with pytest.raises(hub.Invalid):
            CODEC.read_request(body)


def test_what_the_model_said_in_a_row_is_one_turn_and_so_is_what_tools_answered():
    chat = read(
        input=[
            {"role": "user", "content": "go"},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Well"}]},
            CALL_ITEM,
            CALL_ITEM | {"call_id": "c2", "name": "g"},
            {"type": "function_call_output", "call_id": "c2", "output": "2"},
            {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "1"}]},
            {"role": "user", "content": "and?"},
        ]
    )
    assert [turn.role for turn in chat.turns] == ["user", "assistant", "user", "user"]
    thinking, text, first, second = chat.turns[1].parts
    assert unseal(thinking.signature) == ("rs_1", "")
    assert (text.text, first.name, second.id) == ("Well", "f", "c2")
    assert chat.turns[2].parts == [
        hub.ToolResult("c2", [hub.Text("2")], name="g"),
        hub.ToolResult("c1", [hub.Text("1")], name="f"),
    ]


def test_what_other_providers_signed_comes_home():
    chat = read(
        input=[
            {"role": "user", "content": "go"},
            {"type": "reasoning", "id": "rs_a", "summary": [], "encrypted_content": SIGNED + "sig"},
            {"type": "reasoning", "id": "rs_b", "summary": [], "encrypted_content": REDACTED + "red"},
            {"type": "reasoning", "id": "rs_c", "summary": [], "encrypted_content": CALL + "thought"},
            CALL_ITEM,
            CALL_ITEM | {"call_id": "c2"},
        ]
    )
    assert chat.turns[1].parts == [
        hub.Thinking("", signature="sig"),
        hub.Thinking("", redacted="red"),
        hub.ToolCall("c1", "f", '{"a":1}', signature="thought"),
        hub.ToolCall("c2", "f", '{"a":1}'),
    ]


def test_state_is_extra_and_lets_turns_be_missing():
    chat = read(
        input=[{"type": "function_call_output", "call_id": "c1", "output": "x"}],
        previous_response_id="resp_1",
        conversation={"id": "conv_1"},
        store=True,
        truncation="auto",
        background=True,
    )
    assert chat.extra.keys() == {"previous_response_id", "conversation", "store", "truncation", "background"}
    assert read(input=..., previous_response_id="resp_1").turns == []


def test_defaults_said_out_loud_ask_for_nothing():
    chat = read(
        store=False,
        truncation="disabled",
        background=False,
        previous_response_id=None,
        prompt_cache_key="k",
        include=["reasoning.encrypted_content"],
        stream_options={"include_obfuscation": False},
        reasoning={"effort": None},
    )
    assert chat.extra == {}
    assert chat.reasoning is None


def test_parts_only_this_dialect_has_are_opaque():
    shot = {"type": "computer_screenshot", "file_id": "file_1"}
    image = {"type": "input_image", "file_id": "file_2"}
    web = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "n": 1e400}}
    odd = {"type": "shell_call_output", "call_id": "s1", "output": [{"stdout": "x", "outcome": {"type": "exit"}}]}
    body = {"model": "m", "input": [{"role": "user", "content": [shot, image]}, web, {"id": "msg_1"}, odd]}
    chat = CODEC.read_request(json.dumps(body).replace("Infinity", "1e400").encode())
    assert [part.kind for part in chat.turns[0].parts] == ["computer_screenshot", "input_image"]
    assert json.loads(bytes(chat.turns[0].parts[1].raw)) == image
    assert [part.kind for part in chat.turns[1].parts] == ["web_search_call", "item_reference", "shell_call_output"]
    assert b"1e400" in bytes(chat.turns[1].parts[0].raw)


def test_an_item_reference_may_hold_the_call():
    chat = read(
        input=[
            {"type": "item_reference", "id": "fc_1"},
            {"type": "function_call_output", "call_id": "c1", "output": "x"},
        ]
    )
    assert type(chat.turns[1].parts[0]) is hub.ToolResult


def test_media():
    parts = (
        read(
            input=[
                {
                    "role": "user",
                    "content": [
                        {"type": "input_image", "image_url": "data:image/webp;base64,AAAA", "detail": "high"},
                        {"type": "input_image", "image_url": "https://e.org/a.png"},
                        {"type": "input_file", "file_data": "data:application/pdf;base64,BBBB", "filename": "b.pdf"},
                        {"type": "input_file", "file_url": "https://e.org/c.pdf"},
                        {"type": "input_file", "file_id": "file_1"},
                        {"type": "input_audio", "input_audio": {"data": "CCCC", "format": "wav"}},
                        {
                            "type": "input_text",
                            "text": "x",
                            "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"},
                        },
                    ],
                }
            ]
        )
        .turns[0]
        .parts
    )
    assert parts == [
        hub.Image("image/webp", "AAAA", detail="high"),
        hub.Image(url="https://e.org/a.png"),
        hub.Document("application/pdf", "BBBB", name="b.pdf"),
        hub.Document(url="https://e.org/c.pdf"),
        hub.Document(file_id="file_1"),
        hub.Audio("CCCC", "wav"),
        hub.Text("x", Raw(b'{"type":"ephemeral","ttl":"1h"}')),
    ]


@pytest.mark.parametrize(
    ("asked", "choice"),
    [
        ({"tool_choice": "required"}, hub.ToolChoice("required")),
        ({"tool_choice": {"type": "function", "name": "f"}}, hub.ToolChoice("named", ["f"])),
        ({"parallel_tool_calls": False}, hub.ToolChoice("auto", parallel=False)),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "required",
                    "tools": [{"type": "function", "name": "f"}],
                }
            },
            hub.ToolChoice("required", ["f"]),
        ),
        ({}, None),
    ],
)
def test_tool_choice(asked, choice):
    chat = read(**asked)
    assert chat.tool_choice == choice
    assert chat.extra == {}


def test_a_choice_of_hosted_tools_is_extra():
    chat = read(tool_choice={"type": "web_search_preview"}, tools=[{"type": "web_search_preview", "name": {"odd": 1}}])
    assert chat.extra.keys() == {"tool_choice"}
    assert chat.tool_choice is None
    assert [tool.kind for tool in chat.server_tools] == ["web_search_preview"]


def test_tools():
    chat = read(
        tools=[
            {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True, "description": "d"},
            {"type": "function", "name": "g", "parameters": None, "defer_loading": True},
            {"type": "function", "name": "h", "allowed_callers": ["programmatic"]},
            {"type": "custom", "name": "i", "format": {"type": "text"}},
        ]
    )
    assert chat.tools == [
        hub.Tool("f", "d", Raw(b'{"type": "object"}'), True),
        hub.Tool("g", extra={"defer_loading": Raw(b"true")}),
    ]
    assert [tool.kind for tool in chat.server_tools] == ["function", "custom"]


def test_the_usual_verbosity_asks_for_nothing():
    chat = read(text={"verbosity": "medium"})
    assert (chat.extra, chat.hints) == ({}, {"text.verbosity": Raw(b'"medium"')})


def test_what_reasoning_and_text_have_beside_the_hub_is_extra_by_its_path():
    chat = read(reasoning={"effort": "high", "summary": "detailed", "mode": "pro"}, text={"verbosity": "low"})
    assert chat.reasoning == hub.Reasoning("high", show=True)
    assert chat.extra == {"reasoning.mode": Raw(b'"pro"'), "text.verbosity": Raw(b'"low"')}
    assert chat.hints == {"reasoning.summary": Raw(b'"detailed"')}
