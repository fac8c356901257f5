"""Requests in Gemini's dialect: read from a client, written for the provider, and back."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from fastgw.dialects import hub
from fastgw.dialects.gemini.codec import CODEC
from tests.dialects.hub_values import ARGUMENTS, TEXT, WORD
from tests.support.grammar_gemini import request_problems

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "gemini"
SIGNATURE = "gemini:EtgCCtUCAdHtim9/3zkq+Wcvw2kPq0w8mJ5Ab1c="
ALL = frozenset(("json_schema", "tool_images", "fetch_urls"))


def target(*features, **more):
    return hub.Target("gemini-2.5-flash", features=frozenset(features), **more)


def chat(*turns, **more):
    return hub.Chat("m", list(turns) or [hub.Turn("user", [hub.Text("hi")])], more.pop("origin", "openai_chat"), **more)


def write(request, *features, **more):
    """What is sent, checked against the grammar, and the target."""
    to = target(*features, **more)
    body = json.loads(CODEC.write_request(request, to))
    assert request_problems(body) == []
    return body, to


def read(*contents, **more):
    return CODEC.read_request(json.dumps({"contents": list(contents), **more}).encode(), model="models/g")


def user(*parts):
    return {"role": "user", "parts": list(parts)}


def model(*parts):
    return {"role": "model", "parts": list(parts)}


def test_a_clients_request_in_both_spellings():
    got = CODEC.read_request(
        (FIXTURES / "request.client.json").read_bytes(), model="models/gemini-2.5-flash", stream=True
    )
    assert (got.model, got.stream, got.origin) == ("gemini-2.5-flash", True, "gemini")
    assert [turn.role for turn in got.turns] == ["system", "user", "assistant", "user"]
    assert got.turns[1].parts == [
        hub.Text("What is this, and the weather?"),
        hub.Image("image/png", "iVBORw0KGgo+/w=="),
        hub.Document("application/pdf", url="https://generativelanguage.googleapis.com/v1beta/files/x1"),
        hub.Audio("UklGRg==", "wav"),
    ]
    thought, first, second = got.turns[2].parts
    assert thought == hub.Thinking("hm", SIGNATURE)
    assert (first.name, first.signature, second.signature) == ("weather", SIGNATURE, None)
    assert json.loads(first.arguments) == {"city": "Paris", "inline_data": 1.5}
    assert got.turns[3].parts == [
        hub.ToolResult(first.id, [hub.Text("sunny")], False, "weather"),
        hub.ToolResult(second.id, [hub.Text("no data")], True, "weather"),
        hub.Text("Well?"),
    ]
    assert first.id != second.id
    assert json.loads(bytes(got.tools[0].schema))["properties"]["max_output_tokens"] == {"const": 1}
    assert [(tool.kind, bytes(tool.raw)) for tool in got.server_tools] == [("googleSearch", b"{}")]
    assert got.tool_choice == hub.ToolChoice("required", ["weather", "now"])
    assert (got.temperature, got.top_k, got.max_tokens, got.stop, got.n, got.seed) == (0.5, 40, 200, ["END"], 1, 7)
    assert got.reasoning == hub.Reasoning(None, 1024, True)
    assert json.loads(bytes(got.format.schema)) == {
        "type": "object",
        "properties": {"a": {"type": "integer", "format": "int32"}, "b": {"type": ["string", "null"]}},
    }
    assert list(json.loads(bytes(got.format.schema))["properties"]) == ["a", "b"]
    assert set(got.extra) == {"safetySettings", "generationConfig.speechConfig"}


@pytest.mark.parametrize("nothing", [[], None])
def test_an_empty_list_is_no_field_at_all(nothing):
    got = read(user({"text": "hi"}), safetySettings=nothing, generationConfig={"responseModalities": nothing})
    assert not got.extra
    assert not got.hints


def test_a_clients_request_goes_back_to_where_it_came_from():
    got = CODEC.read_request((FIXTURES / "request.client.json").read_bytes(), model="m")
    body, _ = write(got, "json_schema")
    assert body["safetySettings"] == [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    assert body["generationConfig"]["speechConfig"] == {"languageCode": "de-DE"}
    assert "id" not in body["contents"][1]["parts"][1]["functionCall"]
    again = CODEC.read_request(CODEC.write_request(got, target("json_schema")), model="m")
    assert again.turns[:3] == got.turns[:3]
    assert [part for turn in again.turns[3:] for part in turn.parts] == got.turns[3].parts


def test_ids_are_the_same_whenever_the_history_is_the_same():
    call = {"functionCall": {"name": "f", "args": {}}}
    answer = {"functionResponse": {"name": "f", "response": {"output": "1"}}}
    short = read(user({"text": "a"}), model(call, call), user(answer, answer))
    long = read(user({"text": "a"}), model(call, call), user(answer, answer), model(call), user(answer))
    assert long.turns[:3] == short.turns
    ids = [part.id for turn in long.turns for part in turn.parts if type(part) is hub.ToolCall]
    assert len(set(ids)) == 3


def test_results_with_ids_find_their_calls_in_any_order():
    calls = [{"functionCall": {"id": one, "name": "f", "args": {}}} for one in ("a", "b")]
    answers = [{"functionResponse": {"id": one, "name": "f", "response": {"n": one}}} for one in ("b", "a")]
    got = read(user({"text": "x"}), model(*calls), user(*answers))
    assert [part.call_id for part in got.turns[2].parts] == ["b", "a"]


def test_history_kept_frame_by_frame_is_one_turn():
    got = read(
        user({"text": "a"}),
        model({"text": "th", "thought": True}),
        model({"text": "ought", "thought": True}),
        model({"text": "", "thought": True, "thoughtSignature": "AAAA"}),
        model({"text": "Hel"}),
        model({"text": "lo"}),
        model({"functionCall": {"name": "f", "args": {}}}),
        model({"text": ""}),
    )
    assert got.turns[1].parts[:2] == [hub.Thinking("thought", "gemini:AAAA"), hub.Text("Hello")]
    assert len(got.turns[1].parts) == 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "body"),
        (b"[]", "body"),
        (b'{"contents":[]}', "contents"),
        (b'{"contents":[{"role":"robot","parts":[]}]}', "contents[0].role"),
        (b'{"contents":[{"parts":[{"text":5}]}]}', "contents[0].parts[0].text"),
        (b'{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png"}}]}]}', "contents[0].parts[0].inlineData.data"),
        (b'{"contents":[{"role":"model","parts":[{"functionCall":{}}]}]}', "contents[0].parts[0].functionCall.name"),
        (
            b'{"contents":[{"parts":[{"functionResponse":{"name":"f","response":{}}}]}]}',
            "contents[0].parts[0].functionResponse",
        ),
        (b'{"contents":[{"parts":[{"text":"a"}]}],"generationConfig":{"topK":"x"}}', "generationConfig.topK"),
        (
            b'{"contents":[{"parts":[{"text":"a"}]}],"generationConfig":{"top_k":1,"topK":1}}',
            "generationConfig.topK",
        ),
        (
            b'{"contents":[{"parts":[{"text":"a"}]}],"toolConfig":{"functionCallingConfig":{"mode":"SOME"}}}',
            "toolConfig.functionCallingConfig.mode",
        ),
        (b'{"contents":' + b"[" * 100000, "contents[0]"),
    ],
)
def test_what_is_wrong_is_named(body, field):
    with pytest.raises(hub.Invalid) as caught:
        CODEC.read_request(body, model="m")
    assert caught.value.field == field


def test_the_model_must_be_said_somewhere():
    with pytest.raises(hub.Invalid, match="model"):
        CODEC.read_request(b'{"contents":[{"parts":[{"text":"a"}]}]}')


# --- for the provider


def test_parallel_calls_are_answered_together_and_in_their_order():
    body, _ = write(
        chat(
            hub.Turn("user", [hub.Text("hi")]),
            hub.Turn(
                "assistant", [hub.ToolCall("a", "f", '{"n":1e400,"b":9007199254740993}'), hub.ToolCall("b", "g", "")]
            ),
            hub.Turn("user", [hub.ToolResult("b", [hub.Text('{"x": 1.0}')])]),
            hub.Turn("user", [hub.ToolResult("a", [hub.Text("plain")], True), hub.Text("and now?")]),
        )
    )
    assert [next(iter(part)) for content in body["contents"] for part in content["parts"]] == [
        "text", "functionCall", "functionCall", "functionResponse", "functionResponse", "text",
    ]  # fmt: skip
    first, second = body["contents"][2]["parts"]
    assert first["functionResponse"] == {"id": "a", "name": "f", "response": {"error": "plain"}}
    assert second["functionResponse"] == {"id": "b", "name": "g", "response": {"x": 1.0}}


def test_numbers_and_escapes_in_arguments_are_not_touched():
    text = '{"z":1e400,"a":9007199254740993,"s":"\\u00e9\\/","f":1.0}'
    request = chat(hub.Turn("user", [hub.Text("x")]), hub.Turn("assistant", [hub.ToolCall("a", "f", text)]))
    assert text.encode() in CODEC.write_request(request, target())


@pytest.mark.parametrize("arguments", ["[1]", "{", "nonsense", '{"a":1}x'])
def test_arguments_that_are_no_object_are_refused(arguments):
    request = chat(hub.Turn("assistant", [hub.ToolCall("a", "f", arguments)]))
    with pytest.raises(hub.Invalid, match="arguments"):
        CODEC.write_request(request, target())


def test_a_result_of_no_call_is_refused():
    with pytest.raises(hub.Invalid, match="tool_call_id"):
        CODEC.write_request(chat(hub.Turn("user", [hub.ToolResult("a", [])])), target())


def test_signatures_go_back_to_their_maker_only():
    parts = [
        hub.Thinking("t", SIGNATURE), hub.Thinking("other", "Er+foreign"), hub.Thinking("", None, "redacted"),
        hub.Text("x", signature=SIGNATURE), hub.ToolCall("a", "f", "{}", SIGNATURE),
    ]  # fmt: skip
    body, to = write(chat(hub.Turn("user", [hub.Text("q")]), hub.Turn("assistant", parts)))
    bare = SIGNATURE.removeprefix("gemini:")
    assert body["contents"][1]["parts"] == [
        {"text": "t", "thought": True, "thoughtSignature": bare},
        {"text": "other", "thought": True},
        {"text": "x", "thoughtSignature": bare},
        {"thoughtSignature": bare, "functionCall": {"id": "a", "name": "f", "args": {}}},
    ]
    assert to.dropped == ["thinking.signature", "redacted_thinking"]


def test_a_lost_signature_is_stood_in_for_where_the_model_insists():
    request = chat(hub.Turn("assistant", [hub.ToolCall("a", "f", "{}"), hub.ToolCall("b", "f", "{}")]))
    body, _ = write(request, "thought_signatures")
    signatures = [part.get("thoughtSignature") for part in body["contents"][0]["parts"]]
    assert signatures == ["skip_thought_signature_validator", None]
    assert "thoughtSignature" not in json.dumps(write(request)[0])


def test_system_messages():
    turns = [
        hub.Turn("system", [hub.Text("one")]),
        hub.Turn("user", [hub.Text("hi")]),
        hub.Turn("developer", [hub.Text("two")]),
    ]
    hoisted = write(chat(*turns))[0]
    assert [part["text"] for part in hoisted["systemInstruction"]["parts"]] == ["one", "two"]
    kept = write(chat(*turns), mid_system=True)[0]
    assert [part["text"] for part in kept["systemInstruction"]["parts"]] == ["one"]
    assert kept["contents"][-1] == {"parts": [{"text": "two"}], "role": "user"}
    alone = write(chat(turns[0]))[0]
    assert alone["contents"] == [{"parts": [{"text": "one"}], "role": "user"}]


def test_media():
    parts = [
        hub.Image("", "iVBORw0KGgoA"),
        hub.Image(url="data:image/webp;base64,UklGRg=="),
        hub.Document(data="JVBERi0=", name="a.pdf"),
        hub.Audio("AAAA", "mp3"),
        hub.Image(url="gs://bucket/a.png"),
    ]
    body, _ = write(chat(hub.Turn("user", parts)))
    kinds = [part.get("inlineData", part.get("fileData"))["mimeType"] for part in body["contents"][0]["parts"]]
    assert kinds == ["image/png", "image/webp", "application/pdf", "audio/mp3", "image/png"]


def test_urls_are_only_for_providers_that_fetch():
    request = chat(hub.Turn("user", [hub.Text("x"), hub.Image(url="https://a.example/b.png")]))
    with pytest.raises(hub.Unsupported, match=r"image\.url"):
        CODEC.write_request(request, target())
    body, _ = write(request, "fetch_urls")
    assert body["contents"][0]["parts"][1]["fileData"]["fileUri"] == "https://a.example/b.png"
    _, to = write(request, drop=frozenset(["image.url"]))
    assert to.dropped == ["image.url"]


def test_images_in_results():
    result = hub.ToolResult("a", [hub.Text("see"), hub.Image("image/png", "AAAA")])
    request = chat(hub.Turn("assistant", [hub.ToolCall("a", "f", "{}")]), hub.Turn("user", [result]))
    beside = write(request)[0]["contents"][1]["parts"]
    assert [next(iter(part)) for part in beside] == ["functionResponse", "inlineData"]
    (inside,) = write(request, "tool_images")[0]["contents"][1]["parts"]
    assert inside["functionResponse"]["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"logit_bias": Raw(b'{"5":1}')}, "logit_bias"),
        ({"seed": 2**40}, "seed"),
        ({"stop": list("abcdef")}, "stop"),
        ({"service_tier": "scale"}, "service_tier"),
        ({"tool_choice": hub.ToolChoice(parallel=False)}, "parallel_tool_calls"),
        ({"extra": {"prediction": Raw(b"{}")}}, "prediction"),
        ({"server_tools": [hub.Opaque("openai_responses", "web_search", Raw(b"{}"))]}, "tools.web_search"),
    ],
)
def test_what_cannot_be_done_is_given_up_by_name(more, field):
    with pytest.raises(hub.Unsupported) as caught:
        CODEC.write_request(chat(**more), target())
    assert caught.value.field == field
    _, to = write(chat(**more), drop=frozenset([field]))
    assert to.dropped == [field]


def test_what_bears_on_no_answer_is_left_out_and_listed():
    request = chat(
        hub.Turn("user", [hub.Text("x", cache=Raw(b"{}"))], name="ann"),
        user="u",
        metadata=Raw(b"{}"),
        hints={"h": Raw(b"1")},
    )
    assert sorted(write(request)[1].dropped) == ["cache_control", "messages.name", "metadata", "user"]


@pytest.mark.parametrize("name", ["1st", "a b", "", "a" * 129, "é"])
def test_names_gemini_refuses_are_refused_by_name(name):
    with pytest.raises(hub.Unsupported, match=r"tools\.function\.name"):
        CODEC.write_request(chat(tools=[hub.Tool(name)]), target())


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (hub.ToolChoice("auto"), {"mode": "AUTO"}),
        (hub.ToolChoice("none"), {"mode": "NONE"}),
        (hub.ToolChoice("required"), {"mode": "ANY"}),
        (hub.ToolChoice("named", ["f"]), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        (hub.ToolChoice("auto", ["f", "g"]), {"mode": "VALIDATED", "allowedFunctionNames": ["f", "g"]}),
    ],
)
def test_tool_choice(choice, config):
    body, _ = write(chat(tools=[hub.Tool("f"), hub.Tool("g")], tool_choice=choice))
    assert body["toolConfig"] == {"functionCallingConfig": config}
    assert CODEC.read_request(json.dumps(body).encode(), model="m").tool_choice == choice


@pytest.mark.parametrize(
    ("reasoning", "budget", "level"),
    [
        (hub.Reasoning("minimal"), {"thinkingBudget": 1024}, {"thinkingLevel": "MINIMAL"}),
        (hub.Reasoning("medium", show=True), {"thinkingBudget": 8192, "includeThoughts": True}, None),
        (hub.Reasoning(budget=5000), {"thinkingBudget": 5000}, {"thinkingLevel": "MEDIUM"}),
        (hub.Reasoning("max"), {"thinkingBudget": 24576}, {"thinkingLevel": "HIGH"}),
        (hub.Reasoning("none"), {"thinkingBudget": 0}, None),
    ],
)
def test_thinking(reasoning, budget, level):
    assert write(chat(reasoning=reasoning))[0]["generationConfig"]["thinkingConfig"] == budget
    if level is not None:
        assert write(chat(reasoning=reasoning), "thinking_level")[0]["generationConfig"]["thinkingConfig"] == level


def test_a_model_with_levels_cannot_be_kept_from_thinking():
    with pytest.raises(hub.Unsupported, match="reasoning_effort"):
        CODEC.write_request(chat(reasoning=hub.Reasoning("none")), target("thinking_level"))


def test_structured_output():
    schema = Raw(b'{"type":"object","properties":{"a":{"const":"x"}},"additionalProperties":false}')
    request = chat(format=hub.Format("schema", "n", schema, True))
    assert write(request)[0]["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseSchema": {"type": "object", "properties": {"a": {"enum": ["x"], "type": "string"}}},
    }
    assert write(request, "json_schema")[0]["generationConfig"]["responseJsonSchema"] == json.loads(bytes(schema))
    assert write(chat(format=hub.Format("json")))[0]["generationConfig"] == {"responseMimeType": "application/json"}


# --- there and back


SIGNATURES = st.none() | st.just(SIGNATURE)
RESULTS = st.one_of(TEXT, ARGUMENTS, st.sampled_from(['{"output":"x"}', '{"error":{}}', "{}", '{"a":1} ']))


@st.composite
def chats(draw):
    turns = [hub.Turn("system", [hub.Text(draw(TEXT))])] if draw(st.booleans()) else []
    names = draw(st.lists(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), max_size=3, unique=True))
    number = 0
    for _ in range(draw(st.integers(1, 3))):
        media = [hub.Image("image/png", "AAAA"), hub.Document(data="AAAA"), hub.Audio("AAAA", "wav")]
        turns.append(hub.Turn("user", [hub.Text(draw(TEXT)), *draw(st.lists(st.sampled_from(media), max_size=2))]))
        said = [hub.Thinking(draw(TEXT), SIGNATURE)] if draw(st.booleans()) else []
        said.append(hub.Text(draw(TEXT), signature=draw(SIGNATURES)))
        calls = []
        for name in draw(st.lists(st.sampled_from(names), max_size=3)) if names else []:
            calls.append(hub.ToolCall(f"id{number}", name, draw(ARGUMENTS), draw(SIGNATURES)))
            number += 1
        turns.append(hub.Turn("assistant", said + calls))
        if calls:
            image = [hub.Image("image/png", "AAAA")] if draw(st.booleans()) else []
            answered = [
                hub.ToolResult(one.id, [hub.Text(draw(RESULTS)), *image], draw(st.booleans()), one.name)
                for one in calls
            ]
            turns.append(hub.Turn("user", answered))
    return hub.Chat(
        "m",
        turns,
        "gemini",
        tools=[
            hub.Tool(name, draw(st.none() | TEXT), Raw(b'{"type":"object","properties":{"a":{}}}')) for name in names
        ],
        tool_choice=hub.ToolChoice(draw(st.sampled_from(["auto", "none", "required"]))) if names else None,
        max_tokens=draw(st.none() | st.integers(1, 10**6)),
        temperature=draw(st.none() | st.sampled_from([0.0, 0.7, 2.0])),
        top_p=draw(st.none() | st.just(0.5)),
        top_k=draw(st.none() | st.integers(1, 100)),
        stop=draw(st.lists(WORD, max_size=5)),
        seed=draw(st.none() | st.integers(-(2**31), 2**31 - 1)),
        n=draw(st.none() | st.integers(1, 8)),
        logprobs=draw(st.none() | st.booleans()),
        format=draw(st.none() | st.just(hub.Format("json")) | st.just(hub.Format("text"))),
        reasoning=draw(
            st.none() | st.builds(hub.Reasoning, st.none(), st.integers(0, 9000), st.none() | st.booleans())
        ),
    )


def comparable(request):
    """A chat with its raw parts as bytes."""
    for tool in request.tools:
        tool.schema = bytes(tool.schema)
    return request


@settings(max_examples=80, deadline=None)
@given(chats())
def test_a_chat_survives(request):
    body = CODEC.write_request(request, target(*ALL))
    assert request_problems(json.loads(body)) == []
    assert comparable(CODEC.read_request(body, model="m")) == comparable(request)
