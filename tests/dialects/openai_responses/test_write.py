import json

import pytest
from msgspec import Raw

from fastgw.dialects import hub
from fastgw.dialects.hub import effort_of
from fastgw.dialects.openai_responses.codec import CODEC
from fastgw.dialects.openai_responses.items import NAME, seal


def chat(*parts, origin="anthropic_messages", role="user", **fields):
    return hub.Chat("m", [hub.Turn(role, list(parts) or [hub.Text("hi")])], origin, **fields)


def write(asked, target=None):
    return json.loads(CODEC.write_request(asked, target or hub.Target("up")))


def test_a_request_of_another_dialect_keeps_no_state_and_takes_its_reasoning_along():
    assert write(chat()) == {
        "model": "up",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        "include": ["reasoning.encrypted_content"],
        "store": False,
    }


def test_a_foreign_tool_is_not_made_strict():
    """Strict is what this API takes for granted and what no other does."""
    tool = hub.Tool("f", None, Raw(b'{"type":"object","n":1e400}'))
    body = CODEC.write_request(chat(tools=[tool]), hub.Target("up"))
    assert b'{"type":"function","name":"f","parameters":{"type":"object","n":1e400},"strict":false}' in body
    own = hub.Tool("f", extra={"defer_loading": Raw(b"true")})
    assert write(chat(origin=NAME, tools=[own]))["tools"][0] == {
        "type": "function",
        "name": "f",
        "parameters": None,
        "defer_loading": True,
    }


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("n", chat(n=2)),
        ("stop", chat(stop=["x"])),
        ("seed", chat(seed=0)),
        ("top_k", chat(top_k=4)),
        ("presence_penalty", chat(presence_penalty=0.5)),
        ("frequency_penalty", chat(frequency_penalty=-1.0)),
        ("logit_bias", chat(logit_bias=Raw(b'{"1":2}'))),
        ("messages.content", chat(hub.Audio("AA", "wav"))),
        ("messages.content", chat(hub.Image("image/png", "AA"), role="assistant")),
        ("messages.name", hub.Chat("m", [hub.Turn("user", [hub.Text("x")], "ann")], "openai_chat")),
        ("messages.server_tool_use", chat(hub.Opaque("anthropic_messages", "server_tool_use", Raw(b"{}")))),
        ("tools.web_search", chat(server_tools=[hub.Opaque("gemini", "web_search", Raw(b"{}"))])),
        ("container", chat(extra={"container": Raw(b'"c"')})),
    ],
)
def test_what_the_provider_cannot_do_is_named(field, asked):
    with pytest.raises(hub.Unsupported) as caught:
        write(asked)
    assert caught.value.field == field
    target = hub.Target("up", drop=frozenset({field}))
    assert field not in write(asked, target)
    assert target.dropped == [field]


def test_what_asks_for_nothing_is_not_refused():
    write(chat(n=1, presence_penalty=0.0, logit_bias=Raw(b"{}"), hints={"whatever": Raw(b"1")}))


def test_thinking_of_another_provider_is_left_out_and_noted():
    target = hub.Target("up")
    call = hub.ToolCall("c", "f", "", signature="thought")
    body = write(chat(hub.Thinking("Hm", "sig"), call, role="assistant"), target)
    assert body["input"] == [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]
    assert target.dropped == ["thinking", "signature"]
    open_model = hub.Target("up", features=frozenset({"reasoning_text"}))
    item = write(chat(hub.Thinking("Hm"), role="assistant"), open_model)["input"][0]
    assert item == {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]}


def test_its_own_thinking_comes_back():
    thinking = hub.Thinking("Hm", seal("rs_1", "gAAA="))
    assert write(chat(thinking, role="assistant"))["input"] == [
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "Hm"}],
            "id": "rs_1",
            "encrypted_content": "gAAA=",
        }
    ]


def test_cache_control_becomes_a_breakpoint_where_the_model_knows_them():
    cached = chat(hub.Text("long", Raw(b'{"type":"ephemeral"}')))
    target = hub.Target("up")
    assert "prompt_cache_breakpoint" not in write(cached, target)["input"][0]["content"][0]
    assert target.dropped == ["cache_control"]
    able = hub.Target("up", features=frozenset({"cache_breakpoints"}))
    assert write(cached, able)["input"][0]["content"][0]["prompt_cache_breakpoint"] == {"mode": "explicit"}


def test_citations_without_a_url_are_noted():
    target = hub.Target("up")
    page = Raw(
        b'[{"type":"page_location","cited_text":"x"},{"type":"web_search_result_location","url":"https://e.org"}]'
    )
    (item,) = write(chat(hub.Text("abc", citations=page), role="assistant"), target)["input"]
    assert [one["url"] for one in item["content"][0]["annotations"]] == ["https://e.org"]
    assert target.dropped == ["citations"]


def test_results_of_tools():
    image = hub.Image("image/png", "AA")
    body = write(chat(hub.ToolResult("c", [hub.Text("x"), image], True), hub.ToolResult("d", []), hub.Text("go")))
    assert body["input"][0] == {
        "type": "function_call_output",
        "call_id": "c",
        "output": [
            {"type": "input_text", "text": "x"},
            {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "auto"},
        ],
        "status": "incomplete",
    }
    assert body["input"][1] == {"type": "function_call_output", "call_id": "d", "output": ""}
    assert body["input"][2]["content"] == [{"type": "input_text", "text": "go"}]


def test_only_a_plain_first_system_turn_is_instructions():
    turns = [
        hub.Turn("system", [hub.Text("a")]),
        hub.Turn("user", [hub.Text("b")]),
        hub.Turn("system", [hub.Text("c")]),
    ]
    body = write(hub.Chat("m", turns, "openai_chat"))
    assert body["instructions"] == "a"
    assert [item["role"] for item in body["input"]] == ["user", "system"]


def test_what_chat_completions_call_the_same_goes_along():
    extra = {"verbosity": Raw(b'"low"'), "store": Raw(b"true"), "prompt_cache_key": Raw(b'"k"')}
    body = write(chat(origin="openai_chat", extra=extra))
    assert (body["text"], body["store"], body["prompt_cache_key"]) == ({"verbosity": "low"}, True, "k")


@pytest.mark.parametrize(
    ("budget", "effort"),
    [
        (-1, None),
        (0, "none"),
        (1, "low"),
        (1024, "low"),
        (1025, "medium"),
        (8192, "medium"),
        (24576, "high"),
        (99999, "xhigh"),
    ],
)
def test_a_budget_is_an_effort(budget, effort):
    assert effort_of(budget) == effort
    written = write(chat(reasoning=hub.Reasoning(budget=budget, show=True)))["reasoning"]
    assert written == {"summary": "auto"} | ({"effort": effort} if effort else {})


def test_a_format_needs_a_name():
    body = write(chat(format=hub.Format("schema", schema=Raw(b'{"type":"object"}'))))
    assert body["text"]["format"] == {"type": "json_schema", "name": "response", "schema": {"type": "object"}}
    assert write(chat(format=hub.Format("json")))["text"]["format"] == {"type": "json_object"}
