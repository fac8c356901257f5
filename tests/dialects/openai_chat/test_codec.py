"""Requests of OpenAI's chat completions, read and written."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from fastgw.dialects import hub
from fastgw.dialects.hub import effort_of
from fastgw.dialects.openai_chat.codec import CODEC
from tests.dialects.hub_values import ARGUMENTS, SCHEMA, TEXT, WORD
from tests.support.grammar_openai_chat import request_problems

EVERYTHING = frozenset(
    {
        "cache_control",
        "reasoning_content",
        "reasoning_details",
        "extra_content",
        "reasoning",
        "tool_images",
        "file_urls",
        "top_k",
        "many_stops",
    }
)
MARK = Raw(b'{"type":"ephemeral"}')
PIXEL = "iVBORw0KGgoAAAA"


def read(*messages, **more):
    return CODEC.read_request(json.dumps({"model": "m", "messages": list(messages), **more}).encode())


def user(content="hi", **more):
    return {"role": "user", "content": content, **more}


def call(name, identity, arguments="{}", **more):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def write(chat, *features, drop=(), checked=True):
    target = hub.Target("t", features=frozenset(features), drop=frozenset(drop))
    body = CODEC.write_request(chat, target)
    if checked:
        assert request_problems(body) == []
    return json.loads(body), target.dropped


def chat(*turns, **more):
    return hub.Chat("m", list(turns), "anthropic_messages", **more)


def said(*parts, role="user", **more):
    return hub.Turn(role, list(parts), **more)


# --- generated


@st.composite
def chats(draw):
    """Requests as this dialect can say them, to a server that takes everything."""
    turns, ids = [], iter(range(100))
    mark = st.none() | st.just(MARK)
    text = st.builds(hub.Text, TEXT, mark)
    picture = st.builds(
        hub.Image, st.just("image/png"), st.just(PIXEL), st.none(), st.sampled_from([None, "low"]), mark
    )
    link = st.builds(hub.Image, url=st.just("https://x/y"), cache=mark)
    pdf = st.builds(hub.Document, data=st.just("JVBE"), name=st.just("a.pdf"), cache=mark)
    held = st.builds(hub.Document, file_id=WORD)
    sound = st.builds(hub.Audio, st.just("UklG"), st.sampled_from(["wav", "mp3"]))
    for _ in range(draw(st.integers(1, 4))):
        role = draw(st.sampled_from(["system", "developer", "user", "assistant", "calls"]))
        if role == "user":
            parts = draw(st.lists(text | picture | link | pdf | held | sound, min_size=1, max_size=3))
            turns.append(hub.Turn(role, parts, draw(st.none() | WORD)))
        elif role in ("system", "developer"):
            turns.append(hub.Turn(role, draw(st.lists(text, min_size=1, max_size=2))))
        else:
            thoughts = st.builds(hub.Thinking, TEXT, WORD) | st.builds(hub.Thinking, redacted=WORD)
            parts = draw(st.lists(thoughts, max_size=2)) + draw(st.lists(text, min_size=1, max_size=2))
            parts[-1].signature = draw(st.none() | WORD)
            made = []
            if role == "calls":
                made = [
                    hub.ToolCall(f"c{next(ids)}", draw(WORD), draw(ARGUMENTS), draw(st.none() | WORD))
                    for _ in range(draw(st.integers(1, 3)))
                ]
            turns.append(hub.Turn("assistant", parts + made))
            if made:
                inner = st.lists(text | picture, min_size=1, max_size=2)
                turns.append(hub.Turn("user", [hub.ToolResult(c.id, draw(inner), name=c.name) for c in made]))
    some = st.none() | st.integers(0, 9)
    share = st.none() | st.floats(0, 1)
    tools = draw(
        st.lists(st.builds(hub.Tool, WORD, st.none() | TEXT, st.none() | SCHEMA, st.none() | st.booleans(), mark))
    )
    formats = st.builds(hub.Format, st.just("schema"), WORD, SCHEMA, st.none() | st.booleans(), st.none() | TEXT)
    choices = st.builds(
        hub.ToolChoice, st.sampled_from(["auto", "none", "required"]), st.just([]), st.none() | st.booleans()
    )
    named = st.builds(hub.ToolChoice, st.just("named"), st.lists(WORD, min_size=1, max_size=1), st.none())
    allowed = st.builds(hub.ToolChoice, st.sampled_from(["auto", "required"]), st.lists(WORD, min_size=1), st.none())
    thinking = st.builds(hub.Reasoning, st.sampled_from(["none", "low", "xhigh"]), st.none(), st.none() | st.booleans())
    return hub.Chat(
        "m",
        turns,
        "openai_chat",
        tools,
        [],
        draw(st.none() | choices | named | allowed),
        draw(some),
        draw(share),
        draw(share),
        draw(some),
        draw(st.lists(TEXT, max_size=6)),
        draw(some),
        draw(some),
        draw(share),
        draw(share),
        draw(st.none() | st.just(Raw(b'{"50256":-100}'))),
        draw(st.none() | st.booleans()),
        draw(some),
        draw(st.none() | formats | st.just(hub.Format("json")) | st.just(hub.Format("text"))),
        draw(st.none() | thinking | st.just(hub.Reasoning(budget=2000))),
        draw(st.none() | st.just("flex")),
        draw(st.none() | WORD),
        draw(st.none() | st.just(Raw(b'{"a":"b"}'))),
        draw(st.booleans()),
        extra=draw(st.sampled_from([{}, {"verbosity": Raw(b'"low"'), "made_up": Raw(b'{"z":1e400,"a":[]}')}])),
        hints=draw(st.sampled_from([{}, {"store": Raw(b"true"), "prompt_cache_key": Raw(b'"k"')}])),
    )


@settings(max_examples=200, deadline=None)
@given(chats())
def test_what_is_written_reads_back_the_same(given_chat):
    target = hub.Target("m", features=EVERYTHING)
    back = CODEC.read_request(CODEC.write_request(given_chat, target))
    assert target.dropped == []
    given_chat.stream_usage = given_chat.stream
    assert back == given_chat


@settings(max_examples=100, deadline=None)
@given(chats())
def test_what_plain_openai_gets_is_by_its_reference(given_chat):
    given_chat.extra.pop("made_up", None)
    target = hub.Target("m", drop=frozenset({"top_k", "stop"}))
    body = CODEC.write_request(given_chat, target)
    assert request_problems(body) == []


# --- reading


def test_results_of_one_turn_stand_together_and_know_their_names():
    made = {"role": "assistant", "content": None, "tool_calls": [call("f", "a"), call("g", "b", "")]}
    got = read(
        user(),
        made,
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "1"}]},
        user("next"),
    )
    assert got.turns[1].parts == [hub.ToolCall("a", "f", "{}"), hub.ToolCall("b", "g", "")]
    assert got.turns[2] == said(
        hub.ToolResult("b", [hub.Text("2")], name="g"), hub.ToolResult("a", [hub.Text("1")], name="f")
    )
    assert got.turns[3] == said(hub.Text("next"))


def test_empty_null_and_missing_content():
    got = read(
        user(""),
        {"role": "assistant", "content": None, "tool_calls": [call("f", "a")]},
        {"role": "tool", "tool_call_id": "a", "content": ""},
        {"role": "assistant", "content": ""},
    )
    assert [turn.parts for turn in got.turns[::3]] == [[hub.Text("")], [hub.Text("")]]
    messages = write(got)[0]["messages"]
    assert [message["content"] for message in messages] == ["", None, "", ""]


def test_legacy_functions_are_tools():
    got = read(
        user(),
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}},
        {"role": "function", "name": "f", "content": "1"},
        functions=[{"name": "f", "parameters": {}}],
        function_call={"name": "f"},
    )
    assert got.tools == [hub.Tool("f", schema=Raw(b"{}"))]
    assert got.tool_choice == hub.ToolChoice("named", ["f"])
    assert got.turns[1].parts == [hub.ToolCall("call_1", "f", '{"a":1}')]
    assert got.turns[2].parts == [hub.ToolResult("call_1", [hub.Text("1")], name="f")]
    assert write(got)[0]["messages"][2]["tool_call_id"] == "call_1"


def test_thinking_comes_back_under_all_its_names():
    details = [{"type": "reasoning.text", "text": "t", "signature": "s"}, {"type": "reasoning.encrypted", "data": "d"}]
    got = read(
        {"role": "assistant", "content": "x", "reasoning_content": "t", "reasoning_details": details},
        {"role": "assistant", "content": "x", "reasoning": "r"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "m"}]}]},
    )
    assert got.turns[0].parts == [hub.Thinking("t", "s"), hub.Thinking(redacted="d"), hub.Text("x")]
    assert got.turns[1].parts[0] == hub.Thinking("r")
    assert got.turns[2].parts == [hub.Thinking("m")]


def test_files_pictures_and_sound():
    got = read(
        user(
            [
                {"type": "image_url", "image_url": {"url": f"data:;base64,{PIXEL}"}},
                {"type": "image_url", "image_url": "https://x/y"},
                {"type": "file", "file": {"file_data": "data:text/plain;base64,aGk=", "filename": "a.txt"}},
                {"type": "file", "file": {"file_data": "JVBE"}},
                {"type": "video_url", "video_url": {"url": "u"}},
            ]
        )
    )
    parts = got.turns[0].parts
    assert parts[:2] == [hub.Image("image/png", PIXEL), hub.Image(url="https://x/y")]
    assert parts[2:4] == [hub.Document("text/plain", "aGk=", name="a.txt"), hub.Document(data="JVBE")]
    assert (parts[4].dialect, parts[4].kind) == ("openai_chat", "video_url")
    with pytest.raises(hub.Unsupported, match="video_url"):
        write(chat(said(hub.Opaque("gemini", "video_url", parts[4].raw))))


def test_unknown_fields_ride_along_and_nulls_do_not():
    got = read(
        user(),
        verbosity="low",
        store=None,
        seed=None,
        modalities=["text"],
        prompt_cache_key="k",
        stream=True,
        stream_options={"include_usage": False, "include_obfuscation": False},
    )
    assert got.extra == {"verbosity": Raw(b'"low"')}
    assert got.hints.keys() == {"prompt_cache_key", "stream_options"}
    assert not got.stream_usage
    assert write(got)[0]["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    got.origin = "elsewhere"
    with pytest.raises(hub.Unsupported, match="verbosity"):
        write(got)
    body, dropped = write(got, drop=["verbosity"])
    assert dropped == ["verbosity"]
    assert "verbosity" not in body
    assert "prompt_cache_key" not in body


def test_the_path_may_name_model_and_stream():
    got = CODEC.read_request(b'{"messages":[{"role":"user","content":"x"}]}', model="deployment", stream=True)
    assert (got.model, got.stream) == ("deployment", True)


def test_budgets_and_cache_marks():
    got = read(
        user([{"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}]),
        user("y", cache_control={"type": "ephemeral"}),
        reasoning={"max_tokens": 2000, "exclude": True},
    )
    assert got.reasoning == hub.Reasoning(budget=2000, show=False)
    assert [turn.parts[0].cache for turn in got.turns] == [MARK, Raw(b'{"type": "ephemeral"}')]
    body, dropped = write(got)
    assert (body["reasoning_effort"], dropped) == ("medium", ["cache_control"])
    marked, _ = write(got, "prompt_cache_breakpoint", checked=False)
    assert marked["messages"][1]["content"][0]["prompt_cache_breakpoint"] == {"mode": "explicit"}
    efforts = [None, "none", "low", "low", "medium", "high", "xhigh"]
    assert [effort_of(n) for n in (-1, 0, 1, 1024, 8192, 24576, 10**6)] == efforts


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b'{"messages":[{"role":"user"}]}', "model"),
        (b'{"model":"m"}', "messages"),
        (b'{"model":"m","messages":[]}', "messages"),
        (b'{"model":"m","messages":[{"role":"user","content":3}]}', "messages[0].content"),
        (b'{"model":"m","messages":[{"role":"king","content":""}]}', "messages[0].role"),
        (b'{"model":"m","messages":[{"role":"user","content":[{"type":"text"}]}]}', "messages[0].content[0].text"),
        (
            b'{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":1}]}]}',
            "messages[0].content[0].text",
        ),
        (b'{"model":"m","messages":[{"role":"user","content":[3]}]}', "messages[0].content[0]"),
        (
            b'{"model":"m","messages":[{"role":"user","content":[{"type":"image_url",'
            b'"image_url":{"url":"data:image/png,x"}}]}]}',
            "messages[0].content[0].image_url.url",
        ),
        (b'{"model":"m","messages":[{"role":"tool","tool_call_id":"x","content":""}]}', "messages[0].tool_call_id"),
        (
            b'{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"a","type":"function"}]}]}',
            "messages[0].tool_calls[0].function",
        ),
        (b'{"model":"m","messages":[{"role":"user"}],"temperature":"hot"}', "temperature"),
        (b'{"model":"m","messages":[{"role":"user"}],"tool_choice":"maybe"}', "tool_choice"),
        (b'{"model":"m","messages":[{"role":"user"}],"reasoning_effort":"huge"}', "reasoning_effort"),
        (
            b'{"model":"m","messages":[{"role":"user"}],"response_format":{"type":"json_schema"}}',
            "response_format.json_schema",
        ),
        (b'{"model":"m","messages":[{"role":"user"}],"tools":[{"type":"function"}]}', "tools[0].function"),
        (b'{"model":"m","metadata":' + b"[" * 5000, "body"),
    ],
)
def test_what_is_wrong_is_named(body, field):
    with pytest.raises(hub.Invalid) as invalid:
        CODEC.read_request(body)
    assert invalid.value.field == field


# --- writing


def test_results_come_first_and_their_pictures_with_the_user():
    image = hub.Image("image/png", PIXEL)
    turns = [
        said(hub.ToolCall("a", "f", "")),
        said(hub.Text("well?"), hub.ToolResult("a", [hub.Text("see"), image], True)),
    ]
    turns[0].role = "assistant"
    body, dropped = write(chat(*turns))
    made, result, rest = body["messages"]
    assert made["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert result == {"role": "tool", "tool_call_id": "a", "content": "see"}
    assert [part["type"] for part in rest["content"]] == ["text", "image_url", "text"]
    assert "a" in rest["content"][0]["text"]
    assert dropped == ["messages.content.is_error"]
    together, _ = write(chat(*turns), "tool_images", checked=False)
    assert [part["type"] for part in together["messages"][1]["content"]] == ["text", "image_url"]
    turns[1].parts = [hub.ToolResult("a", [], is_error=True)]
    assert write(chat(*turns))[0]["messages"][1]["content"] == "error"


def test_hints_are_left_out_and_noted_never_refused():
    answer = said(
        hub.Thinking("t", "s"),
        hub.Text("x", MARK, Raw(b"[]"), "sig"),
        hub.ToolCall("a", "f", "{}", "sig"),
        role="assistant",
    )
    turns = [answer, said(hub.ToolResult("a", [hub.Text("1")], cache=MARK))]
    _body, dropped = write(chat(*turns, tools=[hub.Tool("f", cache=MARK)]))
    assert set(dropped) == {
        "messages.content.thinking",
        "messages.content.citations",
        "messages.tool_calls.signature",
        "messages.content.signature",
        "cache_control",
    }
    full, dropped = write(chat(*turns), *EVERYTHING, checked=False)
    assert dropped == ["messages.content.citations"]
    assert full["messages"][0]["reasoning_details"] == [
        {"type": "reasoning.text", "text": "t", "signature": "s", "index": 0}
    ]
    assert full["messages"][1]["content"][0]["cache_control"] == {"type": "ephemeral"}


@pytest.mark.parametrize(
    ("given_chat", "field"),
    [
        (chat(said(hub.Text("x")), top_k=3), "top_k"),
        (chat(said(hub.Text("x")), stop=list("abcde")), "stop"),
        (chat(said(hub.Text("x")), extra={"safetySettings": Raw(b"[]")}), "safetySettings"),
        (chat(said(hub.Text("x")), server_tools=[hub.Opaque("gemini", "googleSearch", Raw(b"{}"))]), "tools"),
        (chat(said(hub.Document(url="https://x"))), "messages.content.file"),
        (chat(said(hub.Audio("x", "flac"))), "messages.content.input_audio.format"),
        (chat(said(hub.Image(url="u"), role="assistant")), "messages.content.image"),
        (
            chat(said(hub.Opaque("anthropic_messages", "server_tool_use", Raw(b"{}")), role="assistant")),
            "messages.content.server_tool_use",
        ),
    ],
)
def test_what_openai_cannot_do_is_refused_by_name_or_dropped_by_leave(given_chat, field):
    with pytest.raises(hub.Unsupported) as refused:
        write(given_chat)
    assert refused.value.field == field
    _, dropped = write(given_chat, drop=[field])
    assert dropped == [field]


def test_servers_that_differ_get_their_own_words():
    turns = [said(hub.Text("s"), role="developer"), said(hub.Text("x")), said(hub.Text("Sure"), role="assistant")]
    body, _ = write(chat(*turns, max_tokens=5), "max_tokens", "system_only", "prefix", checked=False)
    assert body["max_tokens"] == 5
    assert "max_completion_tokens" not in body
    assert body["messages"][0]["role"] == "system"
    assert body["messages"][2] == {"role": "assistant", "content": "Sure", "prefix": True}
    assert write(chat(*turns, max_tokens=5))[0]["max_completion_tokens"] == 5


def test_a_stream_always_asks_for_usage():
    assert write(chat(said(hub.Text("x")), stream=True))[0]["stream_options"] == {"include_usage": True}
    assert "stream_options" not in write(chat(said(hub.Text("x"))))[0]


def test_numbers_keys_and_escapes_survive():
    schema = b'{"z":1e400,"a":9007199254740993,"e":"\\u00e9"}'
    arguments = '{ "b":1E400,"a":9007199254740993,"e":"\\u00e9\\/" }'
    given_chat = chat(
        said(hub.ToolCall("a", "f", arguments), role="assistant"),
        said(hub.ToolResult("a", [])),
        tools=[hub.Tool("f", schema=Raw(schema))],
    )
    body = CODEC.write_request(given_chat, hub.Target("m"))
    assert schema in body
    assert json.loads(body)["messages"][0]["tool_calls"][0]["function"]["arguments"] == arguments


def test_custom_tools_stay_with_openai():
    tool = {"type": "custom", "custom": {"name": "sql"}}
    made = {"id": "x", "type": "custom", "custom": {"name": "sql", "input": "SELECT"}}
    got = read(
        user(),
        {"role": "assistant", "content": None, "tool_calls": [made]},
        {"role": "tool", "tool_call_id": "x", "content": "1"},
        tools=[tool],
        tool_choice={"type": "custom", "custom": {"name": "sql"}},
        response_format={"type": "grammar"},
    )
    body, _ = write(got, checked=False)
    assert body["tools"] == [tool]
    assert body["messages"][1]["tool_calls"] == [made]
    assert (body["tool_choice"]["type"], body["response_format"]) == ("custom", {"type": "grammar"})
