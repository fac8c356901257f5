"""Requests of Anthropic's Messages API: read, written, there and back."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from fastgw.dialects import hub
from fastgw.dialects.anthropic_messages.codec import CODEC
from fastgw.dialects.anthropic_messages.read import read_count_request
from fastgw.dialects.registry import CODECS
from tests.dialects.hub_values import SCHEMA, TEXT, WORD, calls
from tests.support.grammar_anthropic_messages import request_problems

FIXTURES = Path(__file__).parents[2] / "fixtures" / "anthropic_messages"
AGENT = (FIXTURES / "agent.client.json").read_bytes()
CACHE = Raw(b'{"type":"ephemeral"}')
CALL = hub.ToolCall("c1", "f", "{}")
RESULT = hub.Turn("user", [hub.ToolResult("c1", [hub.Text("r")])])
TOOL = hub.Tool("f", "d", Raw(b'{"type":"object"}'))


def chat(*turns, **more):
    said = list(turns) or [hub.Turn("user", [hub.Text("hi")])]
    return hub.Chat("m", said, more.pop("origin", "openai_chat"), **more)


def user(text):
    return hub.Turn("user", [hub.Text(text)])


def sent(asked, target=None):
    body = json.loads(CODEC.write_request(asked, target or hub.Target("up")))
    assert request_problems(body) == []
    return body


def read(**fields):
    base = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}
    return CODEC.read_request(json.dumps(base | fields).encode())


def test_a_client_s_request_comes_back_as_it_was():
    body = sent(CODEC.read_request(AGENT), hub.Target("claude-sonnet-4-5"))
    assert body == json.loads(AGENT)
    assert b"9007199254740993" in CODEC.write_request(CODEC.read_request(AGENT), hub.Target("m"))


def test_what_a_request_says():
    seen = CODEC.read_request(AGENT)
    assert (seen.max_tokens, seen.stream, seen.user, seen.stop) == (9000, True, "u1", ["###"])
    assert seen.reasoning == hub.Reasoning("high", 2048, True, "enabled")
    assert [tool.kind for tool in seen.server_tools] == ["web_search_20250305"]
    assert seen.tool_choice == hub.ToolChoice("auto", [], False)
    assert [turn.role for turn in seen.turns] == ["system", "user", "assistant", "user"]
    assert json.loads(bytes(seen.turns[0].parts[0].cache)) == {"type": "ephemeral"}
    image, document, _ = seen.turns[1].parts
    assert (image.media_type, image.data) == ("image/png", "iVBORw0KGgo=")
    assert (document.data, document.name) == ("JVBERi0=", "t.pdf")
    assert [type(part) for part in seen.turns[2].parts] == [
        hub.Thinking, hub.Thinking, hub.Text, hub.ToolCall, hub.ToolCall,
    ]  # fmt: skip
    assert seen.turns[3].parts[1].is_error


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"model": None}, "model"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0].source"),
        ({"temperature": "hot"}, "temperature"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"thinking": {"type": "perhaps"}}, "thinking.type"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
    ],
)
def test_what_is_wrong_is_named(fields, field):
    with pytest.raises(hub.Invalid) as caught:
        read(**fields)
    assert caught.value.field == field


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_request(body):
    with pytest.raises(hub.Invalid):
        CODEC.read_request(body)


def test_counting_needs_no_max_tokens():
    seen = read_count_request(b'{"model":"m","messages":[{"role":"user","content":"hi"}]}')
    assert (seen.max_tokens, seen.turns) == (None, [user("hi")])


@pytest.mark.parametrize(
    ("management", "asks"),
    [
        ({"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}, False),
        ({"edits": []}, False),
        ({"edits": [{"type": "clear_thinking_20251015"}]}, True),
        ({"edits": [{"type": "clear_thinking_20251015", "keep": {"type": "thinking_turns", "value": 1}}]}, True),
        ({"edits": [{"type": "clear_tool_uses_20250919", "keep": "all"}]}, True),
        ({"edits": [], "more": 1}, True),
        ({"edits": None}, True),
        (7, True),
    ],
    ids=str,
)
def test_management_of_the_context_that_changes_nothing_asks_for_nothing(management, asks):
    got = read(context_management=management)
    assert (set(got.extra), set(got.hints))[asks] == set()
    assert json.loads(CODEC.write_request(got, hub.Target("m")))["context_management"] == management


def test_raw_fields_are_read_for_what_they_are():
    seen = read(
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
            {"role": "assistant", "content": [{"type": "text", "text": "b", "citations": [{"type": "x"}]}]},
        ],
        tools=[{"name": "f", "input_schema": {"type": "object"}, "strict": True}],
    )
    assert json.loads(bytes(seen.turns[0].parts[0].cache)) == {"type": "ephemeral"}
    assert json.loads(bytes(seen.turns[1].parts[0].citations)) == [{"type": "x"}]
    assert json.loads(bytes(seen.tools[0].schema)) == {"type": "object"}
    assert seen.tools[0].strict


def test_a_document_with_citations_is_anthropic_s_own():
    source = {"type": "text", "media_type": "text/plain", "data": "x"}
    block = {"type": "document", "source": source, "citations": {"enabled": True}}
    seen = read(messages=[{"role": "user", "content": [block]}])
    assert type(seen.turns[0].parts[0]) is hub.Opaque
    assert sent(seen)["messages"][0]["content"] == [block]
    with pytest.raises(hub.Unsupported):
        CODECS["openai_chat"].write_request(seen, hub.Target("m"))


def test_system_messages_are_hoisted_or_stay():
    asked = chat(hub.Turn("system", [hub.Text("a")]), user("1"), hub.Turn("developer", [hub.Text("b")]), user("2"))
    body = sent(asked)
    assert [one["text"] for one in body["system"]] == ["a", "b"]
    assert [one["role"] for one in body["messages"]] == ["user"]
    body = sent(asked, hub.Target("up", mid_system=True))
    assert body["system"] == "a"
    assert [one["role"] for one in body["messages"]] == ["user", "system", "user"]


def system(text):
    return hub.Turn("system", [hub.Text(text)])


def test_a_system_message_does_not_part_the_results_of_a_turn():
    two = hub.Turn("assistant", [CALL, hub.ToolCall("c2", "f", "{}")])
    last = hub.Turn("user", [hub.ToolResult("c2", [hub.Text("r2")])])
    body = sent(chat(user("q"), two, RESULT, system("S"), last, user("more")), hub.Target("up", mid_system=True))
    assert [one["role"] for one in body["messages"]] == ["user", "assistant", "user", "system", "user"]
    assert [one["tool_use_id"] for one in body["messages"][2]["content"]] == ["c1", "c2"]
    assert body["messages"][3]["content"] == "S"


@pytest.mark.parametrize(
    ("turns", "roles", "hoisted"),
    [
        ([hub.Turn("assistant", [hub.Text("x")]), system("S"), user("q2")], "user assistant user system", None),
        ([hub.Turn("assistant", [CALL]), system("S"), RESULT], "user assistant user system", None),
        ([system("S"), hub.Turn("assistant", [hub.Text("x")])], "user system assistant", None),
        ([hub.Turn("assistant", [hub.Text("x")]), system("S")], "user assistant", "S"),
        ([hub.Turn("assistant", [CALL]), system("S"), system("T"), RESULT], "user assistant user system", None),
    ],
)
def test_a_system_message_stands_behind_the_user_s_or_above_all(turns, roles, hoisted):
    body = sent(chat(user("q"), *turns), hub.Target("up", mid_system=True))
    assert " ".join(one["role"] for one in body["messages"]) == roles
    assert body.get("system") == hoisted


def test_thinking_between_tools_goes_through():
    seen = read(thinking={"type": "between_tools"})
    assert seen.reasoning.native == "between_tools"
    assert sent(seen)["thinking"] == {"type": "between_tools"}


def test_what_is_no_unicode_is_named():
    block = b'{"type":"tool_use","id":"a","name":"f","input":{"x":"\xff"}}'
    body = b'{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":[' + block + b"]}]}"
    with pytest.raises(hub.Invalid) as invalid:
        CODEC.read_request(body)
    assert invalid.value.field == "messages[0].content[0].input"
    turn = hub.Turn("assistant", [hub.ToolCall("c1", "f", '{"a":"\ud800"}')])
    with pytest.raises(hub.Unsupported) as unsupported:
        CODEC.write_request(chat(user("q"), turn), hub.Target("up"))
    assert unsupported.value.field == "messages.tool_calls.function.arguments"
    with pytest.raises(hub.Unsupported) as unsupported:
        CODEC.write_request(chat(user("\ud800")), hub.Target("up"))
    assert unsupported.value.field == "messages"


def test_a_system_message_alone_is_the_user_s():
    assert sent(chat(hub.Turn("system", [hub.Text("a")])))["messages"] == [{"role": "user", "content": "a"}]
    with pytest.raises(hub.Invalid):
        CODEC.write_request(chat(user("")), hub.Target("up"))


def test_results_come_first_and_roles_are_merged():
    mixed = hub.Turn("user", [hub.Text("see"), hub.ToolResult("c 2", [hub.Text("two")])])
    spaced = hub.ToolCall("c 2", "f", '{"a": 1e400}')
    body = sent(chat(user("q"), hub.Turn("assistant", [CALL]), hub.Turn("assistant", [spaced]), RESULT, mixed))
    assert [one["role"] for one in body["messages"]] == ["user", "assistant", "user"]
    assert [one["type"] for one in body["messages"][2]["content"]] == ["tool_result", "tool_result", "text"]


def test_a_prefill_does_not_end_in_white_space():
    body = sent(chat(user("q"), hub.Turn("assistant", [hub.Text("Sure: \n")])))
    assert body["messages"][-1] == {"role": "assistant", "content": "Sure:"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"n": 2}, "n"),
        ({"seed": 1}, "seed"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": Raw(b'{"1":2}')}, "logit_bias"),
        ({"logprobs": True}, "logprobs"),
        ({"temperature": 1.5}, "temperature"),
        ({"stop": ["\n"]}, "stop"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"format": hub.Format("json")}, "response_format"),
        ({"extra": {"store": Raw(b"true")}}, "store"),
        ({"tool_choice": hub.ToolChoice("required")}, "tool_choice"),
        ({"server_tools": [hub.Opaque("gemini", "googleSearch", Raw(b"{}"))]}, "tools.googleSearch"),
        ({"reasoning": hub.Reasoning("high"), "max_tokens": 1024}, "reasoning_effort"),
    ],
)
def test_what_claude_cannot_do_is_given_up_by_name(fields, field):
    with pytest.raises(hub.Unsupported) as caught:
        CODEC.write_request(chat(**fields), hub.Target("up"))
    assert caught.value.field == field
    target = hub.Target("up", drop=frozenset([field]))
    body = sent(chat(**fields), target)
    assert target.dropped == [field]
    assert body.get("temperature", 1.0) == 1.0


@pytest.mark.parametrize(
    "fields",
    [{"n": 1}, {"presence_penalty": 0.0}, {"logprobs": False}, {"logit_bias": Raw(b"{}")}, {"hints": {"k": CACHE}}],
)
def test_defaults_are_refused_by_nobody(fields):
    target = hub.Target("up", max_output=77)
    assert sent(chat(**fields), target)["max_tokens"] == 77
    assert target.dropped == []


@pytest.mark.parametrize(
    ("choice", "expected", "names"),
    [
        (hub.ToolChoice("auto"), {"type": "auto"}, ["f", "g"]),
        (hub.ToolChoice("none"), {"type": "none"}, ["f", "g"]),
        (hub.ToolChoice("required", parallel=False), {"type": "any", "disable_parallel_tool_use": True}, ["f", "g"]),
        (hub.ToolChoice("named", ["g"]), {"type": "tool", "name": "g"}, ["f", "g"]),
        (hub.ToolChoice("required", ["g"]), {"type": "any"}, ["g"]),
        (hub.ToolChoice("auto", ["f"]), {"type": "auto"}, ["f"]),
    ],
)
def test_tool_choices(choice, expected, names):
    body = sent(chat(tools=[TOOL, hub.Tool("g")], tool_choice=choice))
    assert body["tool_choice"] == expected
    assert [tool["name"] for tool in body["tools"]] == names
    assert all(tool["input_schema"]["type"] == "object" for tool in body["tools"])


def test_a_tool_s_name_must_be_one():
    with pytest.raises(hub.Unsupported):
        CODEC.write_request(chat(tools=[hub.Tool("a.b")]), hub.Target("up"))


def test_structured_output():
    body = sent(chat(format=hub.Format("schema", "n", Raw(b'{"type":"object","z":1,"a":2}'), True)))
    assert list(body["output_config"]["format"]["schema"]) == ["type", "z", "a"]
    assert body["output_config"]["format"]["type"] == "json_schema"
    seen = read(output_config=body["output_config"])
    assert (seen.format.kind, bytes(seen.format.schema)) == ("schema", b'{"type": "object", "z": 1, "a": 2}')
    assert read(output_format=body["output_config"]["format"]).format == seen.format


@pytest.mark.parametrize(
    ("reasoning", "most", "budget"),
    [
        (hub.Reasoning("low"), None, 1024),
        (hub.Reasoning("high"), None, 24576),
        (hub.Reasoning("high"), 4000, 2976),
        (hub.Reasoning("max"), 1500, 1024),
        (hub.Reasoning(budget=5), None, 1024),
        (hub.Reasoning("none"), None, None),
        (hub.Reasoning(budget=0), None, None),
    ],
)
def test_an_effort_becomes_a_budget(reasoning, most, budget):
    body = sent(chat(reasoning=reasoning, max_tokens=most))
    assert body.get("thinking") == (budget and {"type": "enabled", "budget_tokens": budget})


def test_adaptive_thinking_takes_the_effort():
    target = hub.Target("up", features=frozenset(["adaptive_thinking"]))
    body = sent(chat(reasoning=hub.Reasoning("minimal", show=True)), target)
    assert (body["thinking"], body["output_config"]) == (
        {"type": "adaptive", "display": "summarized"},
        {"effort": "low"},
    )
    assert sent(chat(reasoning=hub.Reasoning("none")), target)["thinking"] == {"type": "disabled"}


def test_thinking_gives_way_to_forced_tools_and_lost_thinking():
    asked = chat(tools=[TOOL], tool_choice=hub.ToolChoice("required"), reasoning=hub.Reasoning("low"))
    with pytest.raises(hub.Unsupported):
        CODEC.write_request(asked, hub.Target("up"))
    assert "thinking" not in sent(asked, hub.Target("up", drop=frozenset(["reasoning_effort"])))
    target = hub.Target("up")
    asked = chat(user("q"), hub.Turn("assistant", [CALL]), RESULT, tools=[TOOL], reasoning=hub.Reasoning("low"))
    assert "thinking" not in sent(asked, target)
    assert target.dropped == ["reasoning_effort"]
    asked.turns[1].parts.insert(0, hub.Thinking("t", "sig"))
    assert sent(asked)["thinking"]["budget_tokens"] == 1024


def test_temperature_and_thinking_do_not_go_together():
    with pytest.raises(hub.Unsupported):
        CODEC.write_request(chat(reasoning=hub.Reasoning("low"), temperature=0.5), hub.Target("up"))
    assert "temperature" not in sent(chat(reasoning=hub.Reasoning("low"), temperature=1.0))


@pytest.mark.parametrize("signature", ["gemini:abc", "b3BlbmFpX3Jlc3BvbnNlcwABrest", None])
def test_another_vendor_s_thinking_does_not_reach_claude(signature):
    target = hub.Target("up")
    turn = hub.Turn("assistant", [hub.Thinking("t", signature), hub.Text("a")])
    body = sent(chat(user("q"), turn, user("r")), target)
    assert body["messages"][1]["content"] == "a"
    assert target.dropped == ["reasoning_content"]


def test_signatures_of_calls_and_texts_survive_a_claude_client():
    parts = [hub.Text("a", signature="gemini:t"), hub.ToolCall("c1", "f", '{"a": 1}', "gemini:s")]
    reply = hub.Reply("i", "m", [hub.Choice(parts, "tool_calls")])
    shown = json.loads(CODEC.write_reply(reply, model="m"))
    seen = read(messages=[{"role": "user", "content": "q"}, {"role": "assistant", "content": shown["content"]}])
    assert seen.turns[1].parts == parts
    target = hub.Target("up")
    seen.turns.append(RESULT)
    assert "gemini" not in json.dumps(sent(seen, target))
    assert target.dropped == ["signature"]


def test_arguments_that_are_no_object_are_refused():
    turn = hub.Turn("assistant", [hub.ToolCall("c1", "f", "[1]")])
    with pytest.raises(hub.Unsupported):
        CODEC.write_request(chat(user("q"), turn, RESULT), hub.Target("up"))


@st.composite
def histories(draw):
    turns = [hub.Turn("system", [hub.Text(draw(TEXT))])] if draw(st.booleans()) else []
    turns.append(hub.Turn("user", [hub.Text(draw(TEXT), draw(st.sampled_from([None, CACHE])))]))
    if draw(st.booleans()):
        made = draw(calls(draw(st.integers(1, 3))))
        turns.append(hub.Turn("assistant", [hub.Thinking(draw(TEXT), "s"), hub.Text(draw(TEXT)), *made]))
        turns.append(hub.Turn("user", [hub.ToolResult(one.id, [hub.Text(draw(TEXT))]) for one in made]))
    tools = [hub.Tool(name, draw(TEXT), draw(SCHEMA)) for name in draw(st.lists(WORD, max_size=2, unique=True))]
    return hub.Chat(
        "m", turns, CODEC.name, tools=tools, max_tokens=draw(st.integers(1, 99)), stream=draw(st.booleans()),
        temperature=draw(st.none() | st.floats(0, 1)), top_k=draw(st.none() | st.integers(1, 9)), stream_usage=True,
        reasoning=draw(st.sampled_from([None, hub.Reasoning("high", native="effort"),
                                        hub.Reasoning("none", native="disabled"),
                                        hub.Reasoning(None, 2048, True, "enabled")])),
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(asked=histories())
def test_a_chat_comes_back_the_same(asked):
    assert CODEC.read_request(CODEC.write_request(asked, hub.Target("m"))) == asked
