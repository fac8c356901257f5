"""Requests of Converse: what is said in which field, held against AWS's own model of the service."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from fastgw.dialects import hub
from fastgw.dialects.anthropic_messages.codec import CODEC as ANTHROPIC
from fastgw.dialects.bedrock_converse.codec import CODEC
from fastgw.dialects.bedrock_converse.wire import vendor_of
from tests.dialects.hub_values import SCHEMA, TEXT, WORD, calls
from tests.support.grammar_bedrock_converse import request_problems

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "us.amazon.nova-2-lite-v1:0"
LLAMA = "meta.llama3-3-70b-instruct-v1:0"
CACHE = Raw(b'{"type":"ephemeral"}')
HOUR = Raw(b'{"type":"ephemeral","ttl":"1h"}')
SCHEMA_RAW = Raw(b'{"type":"object", "properties":{"n":{"maximum":9007199254740993}}}')
TOOL = hub.Tool("f", "d", SCHEMA_RAW)
CALL = hub.ToolCall("c1", "f", "{}")
RESULT = hub.Turn("user", [hub.ToolResult("c1", [hub.Text("r")])])
ARGUMENTS = '{"b": 12345678901234567890123, "a": 1.10, "c": 1e400, "d": -0.0, "\\u00e9": "\\u2028\\/"}'
POINT = {"cachePoint": {"type": "default"}}


def chat(*turns, **more):
    said = list(turns) or [user("hi")]
    return hub.Chat("m", said, more.pop("origin", "openai_chat"), **more)


def user(*parts):
    return hub.Turn("user", [hub.Text(part) if isinstance(part, str) else part for part in parts])


def assistant(*parts):
    return hub.Turn("assistant", [hub.Text(part) if isinstance(part, str) else part for part in parts])


def sent(asked, model=CLAUDE, **more):
    body = json.loads(CODEC.write_request(asked, hub.Target(model, **more)))
    assert request_problems(body) == []
    return body


def content(*parts, model=CLAUDE, **more):
    return sent(chat(user(*parts)), model, **more)["messages"][0]["content"]


def refused(asked, model=CLAUDE):
    """The field that the model cannot serve; with leave to drop, the request that goes out and what was left out."""
    with pytest.raises(hub.Unsupported) as caught:
        CODEC.write_request(asked, hub.Target(model))
    target = hub.Target(model, drop=frozenset({"*"}), dropped=[])
    body = json.loads(CODEC.write_request(asked, target))
    assert request_problems(body) == []
    assert caught.value.field in target.dropped
    return caught.value.field, body


@pytest.mark.parametrize(
    ("model", "vendor"),
    [
        ("anthropic.claude-3-haiku-20240307-v1:0", "anthropic"),
        ("global.anthropic.claude-opus-4-6-v1", "anthropic"),
        ("arn:aws:bedrock:us-east-1::foundation-model/meta.llama3-8b-instruct-v1:0", "meta"),
        ("arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.amazon.nova-pro-v1:0", "amazon"),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3", "anthropic"),
        ("openai.gpt-oss-120b-1:0", "openai"),
    ],
)
def test_whose_model_it_is(model, vendor):
    assert vendor_of(model) == vendor


def test_the_plainest_request():
    assert sent(chat()) == {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}


def test_turns():
    body = sent(
        chat(
            hub.Turn("system", [hub.Text("a")]), user("1"), user("2"), assistant("x", "y"), user(""), assistant("z"),
            hub.Turn("developer", [hub.Text("b", HOUR)]), user("3"), assistant("so "),
        )
    )  # fmt: skip
    assert body["system"] == [{"text": "a"}, {"text": "b"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]
    assert body["messages"] == [
        {"role": "user", "content": [{"text": "1"}, {"text": "2"}]},
        {"role": "assistant", "content": [{"text": "x"}, {"text": "y"}, {"text": "z"}]},
        {"role": "user", "content": [{"text": "3"}]},
        {"role": "assistant", "content": [{"text": "so"}]},
    ]


def test_a_system_message_alone_is_the_users():
    body = sent(chat(hub.Turn("system", [hub.Text("a")])))
    assert body == {"messages": [{"role": "user", "content": [{"text": "a"}]}]}
    with pytest.raises(hub.Invalid):
        CODEC.write_request(chat(user("")), hub.Target(CLAUDE))


def test_calls_and_results():
    picture = hub.Image("image/png", "iVBORw0KGgo=")
    body = sent(
        chat(
            user("go"), assistant(hub.ToolCall("c1", "f", ARGUMENTS), hub.ToolCall("c2", "f", "")),
            user("see", hub.ToolResult("c2", [hub.Text(""), picture], is_error=True, cache=CACHE)), RESULT,
            tools=[TOOL],
        )
    )  # fmt: skip
    assert [block["toolUse"]["toolUseId"] for block in body["messages"][1]["content"]] == ["c1", "c2"]
    assert body["messages"][2]["content"] == [
        {"toolResult": {
            "toolUseId": "c2", "status": "error",
            "content": [{"image": {"format": "png", "source": {"bytes": "iVBORw0KGgo="}}}],
        }},
        POINT,
        {"toolResult": {"toolUseId": "c1", "content": [{"text": "r"}]}},
        {"text": "see"},
    ]  # fmt: skip


def test_arguments_and_schemas_stay_as_they_were_written():
    asked = chat(user("go"), assistant(hub.ToolCall("c1", "f", ARGUMENTS)), RESULT, tools=[TOOL])
    body = CODEC.write_request(asked, hub.Target(CLAUDE))
    assert b'"input":' + ARGUMENTS.encode() in body
    assert b'"json":' + bytes(SCHEMA_RAW) in body


@pytest.mark.parametrize("arguments", ["[]", "7", "{", "\ud800"])
def test_arguments_that_are_no_object(arguments):
    with pytest.raises(hub.Unsupported, match="c1"):
        CODEC.write_request(chat(user("x"), assistant(hub.ToolCall("c1", "f", arguments))), hub.Target(CLAUDE))


def test_ids_are_made_fit_and_stay_pairs():
    for odd in ("call.1:2", "x" * 65, "é", "functions.f:0"):
        body = sent(
            chat(user("x"), assistant(hub.ToolCall(odd, "f", "{}")), user(hub.ToolResult(odd, [])), tools=[TOOL])
        )
        made = body["messages"][1]["content"][0]["toolUse"]["toolUseId"]
        assert made != odd
        assert body["messages"][2]["content"][0]["toolResult"]["toolUseId"] == made


# --- tools


def test_tools():
    tools = [hub.Tool("f", "", None, strict=True, cache=CACHE), hub.Tool("g", "does g", SCHEMA_RAW, strict=False)]
    assert sent(chat(tools=tools))["toolConfig"] == {
        "tools": [
            {"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object", "properties": {}}}, "strict": True}},
            POINT,
            {
                "toolSpec": {
                    "name": "g",
                    "inputSchema": {"json": json.loads(bytes(SCHEMA_RAW))},
                    "description": "does g",
                }
            },
        ]
    }
    assert POINT not in sent(chat(tools=tools), NOVA)["toolConfig"]["tools"], "Nova has no cache for tools"


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "f.g"])
def test_a_tools_name(name):
    with pytest.raises(hub.Unsupported, match="64"):
        CODEC.write_request(chat(tools=[hub.Tool(name)]), hub.Target(CLAUDE))


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        (hub.ToolChoice("auto"), None), (hub.ToolChoice("required"), {"any": {}}),
        (hub.ToolChoice("named", ["g"]), {"tool": {"name": "g"}}), (hub.ToolChoice("auto", parallel=True), None),
    ],
)  # fmt: skip
def test_tool_choice(choice, written):
    config = sent(chat(tools=[TOOL, hub.Tool("g")], tool_choice=choice))["toolConfig"]
    assert config.get("toolChoice") == written
    assert len(config["tools"]) == 2


def test_an_allow_list_is_kept_by_sending_no_others():
    tools = [hub.Tool(name) for name in "fgh"]
    config = sent(chat(tools=tools, tool_choice=hub.ToolChoice("named", ["f", "h"])))["toolConfig"]
    assert [tool["toolSpec"]["name"] for tool in config["tools"]] == ["f", "h"]
    assert config["toolChoice"] == {"any": {}}


@pytest.mark.parametrize(
    ("choice", "own"),
    [
        (hub.ToolChoice("auto", parallel=False), {"type": "auto"}),
        (hub.ToolChoice("required", parallel=False), {"type": "any"}),
        (hub.ToolChoice("named", ["f"], parallel=False), {"type": "tool", "name": "f"}),
    ],
)
def test_one_call_at_a_time_is_told_to_claude_alone(choice, own):
    body = sent(chat(tools=[TOOL], tool_choice=choice))
    assert body["additionalModelRequestFields"] == {"tool_choice": own | {"disable_parallel_tool_use": True}}
    assert "toolChoice" not in body["toolConfig"]
    assert refused(chat(tools=[TOOL], tool_choice=choice), LLAMA)[0] == "parallel_tool_calls"


def test_no_calls_at_all():
    none = hub.ToolChoice("none")
    assert "toolConfig" not in sent(chat(tools=[TOOL], tool_choice=none))
    amid = chat(user("x"), assistant(CALL), RESULT, tools=[TOOL], tool_choice=none)
    assert sent(amid)["additionalModelRequestFields"] == {"tool_choice": {"type": "none"}}
    field, body = refused(amid, LLAMA)
    assert field == "tool_choice"
    assert "toolChoice" not in body["toolConfig"]


def test_calls_whose_tools_the_client_left_out_are_declared():
    body = sent(chat(user("x"), assistant(CALL), RESULT))
    (tool,) = body["toolConfig"]["tools"]
    assert tool["toolSpec"]["name"] == "f"


def test_no_tools_to_choose_from():
    required = hub.ToolChoice("required")
    assert refused(chat(tool_choice=required))[0] == "tool_choice"
    field, body = refused(chat(user("x"), assistant(CALL), RESULT, tool_choice=required))
    assert (field, list(body["toolConfig"])) == ("tool_choice", ["tools"]), "nobody is made to call what was left out"
    own = hub.Opaque("anthropic_messages", "web_search_20250305", Raw(b"{}"))
    assert refused(chat(server_tools=[own]))[0] == "tools.web_search_20250305"


def test_an_answer_in_json():
    asked = hub.Format("schema", "n", SCHEMA_RAW, True, "what it is")
    schema = {"schema": bytes(SCHEMA_RAW).decode(), "name": "n", "description": "what it is"}
    written = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}
    assert sent(chat(format=asked))["outputConfig"] == written
    assert "outputConfig" not in sent(chat(format=hub.Format()))
    assert refused(chat(format=hub.Format("json")))[0] == "response_format"


# --- parts


@pytest.mark.parametrize(
    ("image", "written"),
    [
        (hub.Image("image/jpg", "AAAA"), {"format": "jpeg", "source": {"bytes": "AAAA"}}),
        (hub.Image("", "R0lGODlh"), {"format": "gif", "source": {"bytes": "R0lGODlh"}}),
        (hub.Image(url="data:image/webp;base64,UklGRg=="), {"format": "webp", "source": {"bytes": "UklGRg=="}}),
        (hub.Image(url="s3://bucket/a/b.png"), {"format": "png", "source": {"s3Location": {"uri": "s3://bucket/a/b.png"}}}),
    ],
)  # fmt: skip
def test_images(image, written):
    assert content("see", image) == [{"text": "see"}, {"image": written}]


@pytest.mark.parametrize(
    "image", [hub.Image(url="https://x/a.png"), hub.Image("image/tiff", "AAAA"), hub.Image("", "AAAA")]
)
def test_images_it_does_not_take(image):
    field, body = refused(chat(user("see", image)))
    assert (field, body["messages"][0]["content"]) == ("image_url", [{"text": "see"}])


def test_documents_have_names_of_their_own():
    names = ("Q3 report_final.v2  (draft).pdf", "Q3 report_final.v2  (draft).pdf", None, None, "../é\n\n[x]", "x" * 500)
    documents = [hub.Document("application/pdf", "JVBERi0=", name=name) for name in names]
    written = [block["document"]["name"] for block in content("read", *documents)[1:]]
    assert written[:5] == [
        "Q3 report-final-v2 (draft)-pdf", "Q3 report-final-v2 (draft)-pdf 2", "document", "document 2", "---- [x]",
    ]  # fmt: skip
    assert len(written[5]) < 200


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (hub.Document("text/plain", "aGk="), "txt"), (hub.Document("text/markdown; charset=utf-8", "aGk="), "md"),
        (hub.Document("text/csv", "aGk="), "csv"), (hub.Document(url="data:text/html;base64,aGk="), "html"),
        (hub.Document("application/vnd.ms-excel", "aGk="), "xls"),
    ],
)  # fmt: skip
def test_documents(document, kind):
    assert content("read", document)[1] == {
        "document": {"format": kind, "source": {"bytes": "aGk="}, "name": "document"}
    }


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (hub.Document(file_id="file-1"), "file.file_id"), (hub.Document(url="https://x/a.pdf"), "file"),
        (hub.Document("application/zip", "aGk="), "file"),
    ],
)  # fmt: skip
def test_documents_it_does_not_take(document, field):
    assert refused(chat(user("read", document)))[0] == field


def test_sound_is_for_those_who_hear():
    asked = chat(user("hear", hub.Audio("UklGRg==", "wav")))
    assert refused(asked)[0] == "input_audio"
    audio = {"format": "wav", "source": {"bytes": "UklGRg=="}}
    assert sent(asked, "mistral.voxtral-small-24b-2507")["messages"][0]["content"][1] == {"audio": audio}
    assert refused(chat(user("hear", hub.Audio("AAAA", "midi"))), "mistral.voxtral-small-24b-2507")[0] == "input_audio"


def test_what_another_dialect_alone_knows():
    asked = chat(user("x", hub.Opaque("gemini", "executableCode", Raw(b"{}"))), extra={"cachedContent": Raw(b"1")})
    assert refused(chat(asked.turns[0]))[0] == "executableCode"
    assert refused(chat(extra=asked.extra))[0] == "cachedContent"


def test_thinking_of_its_own_comes_back():
    turn = assistant(hub.Thinking("hm", "sig"), hub.Thinking(redacted="cmVk"), CALL)
    body = sent(chat(user("x"), turn, RESULT, tools=[TOOL]))
    assert body["messages"][1]["content"][:2] == [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}},
        {"reasoningContent": {"redactedContent": "cmVk"}},
    ]


@pytest.mark.parametrize(
    "thought", [hub.Thinking("hm"), hub.Thinking("hm", "gemini:c2ln"), hub.Thinking(redacted="not base64!")]
)
def test_thinking_of_others_is_left_out_and_noted(thought):
    target = hub.Target(CLAUDE, dropped=[])
    body = json.loads(CODEC.write_request(chat(user("x"), assistant(thought, "y"), user("z")), target))
    assert body["messages"][1]["content"] == [{"text": "y"}]
    assert target.dropped == ["reasoning_content"]


def test_cache_marks():
    asked = chat(hub.Turn("system", [hub.Text("s", CACHE)]), user(hub.Text("x", HOUR), hub.Text("", CACHE)))
    body = sent(asked)
    assert body["system"] == [{"text": "s"}, POINT]
    assert body["messages"][0]["content"] == [{"text": "x"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]
    assert POINT in sent(asked, NOVA)["system"]
    target = hub.Target(LLAMA, dropped=[])
    assert b"cachePoint" not in CODEC.write_request(asked, target)
    assert target.dropped == ["cache_control"]


# --- numbers and words


def test_numbers():
    body = sent(chat(max_tokens=9, temperature=0.5, top_p=0.9, top_k=7, stop=["END"]))
    assert body["inferenceConfig"] == {"maxTokens": 9, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]}
    assert body["additionalModelRequestFields"] == {"top_k": 7}
    assert body["additionalModelResponseFieldPaths"] == ["/stop_sequence"]
    nova = sent(chat(top_k=7, stop=["END"]), NOVA)
    assert nova["additionalModelRequestFields"] == {"inferenceConfig": {"topK": 7}}
    assert "additionalModelResponseFieldPaths" not in nova
    assert refused(chat(top_k=7), LLAMA)[0] == "top_k"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"temperature": 1.5}, "temperature"), ({"n": 2}, "n"), ({"seed": 1}, "seed"), ({"logprobs": True}, "logprobs"),
        ({"presence_penalty": 0.5}, "presence_penalty"), ({"frequency_penalty": 1.0}, "frequency_penalty"),
        ({"top_logprobs": 2}, "top_logprobs"), ({"logit_bias": Raw(b'{"1":2}')}, "logit_bias"),
        ({"stop": ["\n"]}, "stop"), ({"service_tier": "scale"}, "service_tier"),
    ],
)  # fmt: skip
def test_what_it_has_not(fields, field):
    assert refused(chat(**fields))[0] == field


def test_what_changes_nothing_is_no_reason_to_refuse():
    target = hub.Target(CLAUDE, dropped=[])
    asked = chat(
        hub.Turn("user", [hub.Text("x", signature="s")], name="bob"), n=1, presence_penalty=0, logprobs=False,
        logit_bias=Raw(b"{}"), user="u", metadata=Raw(b'{"a":"b"}'), service_tier="auto",
    )  # fmt: skip
    assert json.loads(CODEC.write_request(asked, target)) == {
        "messages": [{"role": "user", "content": [{"text": "x"}]}]
    }
    assert target.dropped == ["messages.name", "signature", "user", "metadata"]


@pytest.mark.parametrize(("given", "tier"), [("flex", "flex"), ("standard_only", "default"), ("priority", "priority")])
def test_service_tier(given, tier):
    assert sent(chat(service_tier=given))["serviceTier"] == {"type": tier}


# --- reasoning


def thinking(asked, **more):
    body = sent(chat(reasoning=asked, **more))
    return body.get("additionalModelRequestFields", {}).get("thinking"), body.get("inferenceConfig", {}).get(
        "maxTokens"
    )


def test_a_budget_for_claude():
    assert thinking(hub.Reasoning("medium")) == ({"type": "enabled", "budget_tokens": 8192}, 8192 + 4096)
    assert thinking(hub.Reasoning(budget=2000), max_tokens=9000) == ({"type": "enabled", "budget_tokens": 2000}, 9000)
    assert thinking(hub.Reasoning("high"), max_tokens=3000) == ({"type": "enabled", "budget_tokens": 1976}, 3000)
    assert thinking(hub.Reasoning("none")) == (None, None)
    assert thinking(hub.Reasoning(show=False)) == (None, None)
    assert refused(chat(reasoning=hub.Reasoning("low"), max_tokens=1000))[0] == "reasoning_effort"
    assert thinking(hub.Reasoning("low", show=True))[0] == {
        "type": "enabled", "budget_tokens": 1024, "display": "summarized",
    }  # fmt: skip


def test_a_level_for_newer_claudes():
    target = {"features": frozenset({"adaptive_thinking"})}
    for asked, effort in ((hub.Reasoning("low"), "low"), (hub.Reasoning("xhigh"), "high"), (hub.Reasoning(), None)):
        body = sent(chat(reasoning=asked), **target)
        assert body["additionalModelRequestFields"] == {"thinking": {"type": "adaptive"}}
        assert body.get("outputConfig", {}).get("effort") == effort
    body = sent(chat(reasoning=hub.Reasoning("xhigh")), features=target["features"] | {"effort_xhigh"})
    assert body["outputConfig"] == {"effort": "xhigh"}
    assert sent(chat(reasoning=hub.Reasoning("none")), **target)["additionalModelRequestFields"] == {
        "thinking": {"type": "disabled"}
    }


def test_a_level_and_a_schema_stand_side_by_side():
    asked = chat(reasoning=hub.Reasoning("low"), format=hub.Format("schema", schema=SCHEMA_RAW))
    config = sent(asked, features=frozenset({"adaptive_thinking"}))["outputConfig"]
    assert set(config) == {"textFormat", "effort"}


def test_an_own_clients_words_for_thinking():
    body = b'{"model":"m","max_tokens":9000,"temperature":1,"messages":[{"role":"user","content":"x"}],%b}'
    for said, more, effort in (
        (b'"thinking":{"type":"enabled","budget_tokens":2048}', {"type": "enabled", "budget_tokens": 2048}, None),
        (b'"thinking":{"type":"adaptive"},"output_config":{"effort":"max"}', {"type": "adaptive"}, "max"),
        (b'"thinking":{"type":"disabled"}', {"type": "disabled"}, None),
        (b'"output_config":{"effort":"low"}', None, "low"),
    ):
        written = sent(ANTHROPIC.read_request(body % said))
        assert written.get("additionalModelRequestFields", {}).get("thinking") == more
        assert written.get("outputConfig", {}).get("effort") == effort


def test_thinking_gives_way():
    forced = chat(tools=[TOOL], tool_choice=hub.ToolChoice("required"), reasoning=hub.Reasoning("low"))
    assert refused(forced)[0] == "reasoning_effort"
    target = hub.Target(CLAUDE, dropped=[])
    lost = chat(user("x"), assistant(CALL), RESULT, tools=[TOOL], reasoning=hub.Reasoning("low"))
    assert b"thinking" not in CODEC.write_request(lost, target)
    assert target.dropped == ["reasoning_effort"]
    assert refused(chat(temperature=0.5, reasoning=hub.Reasoning("low")))[0] == "temperature"
    assert refused(chat(top_k=5, reasoning=hub.Reasoning("low")))[0] == "top_k"
    fixed = hub.Target(CLAUDE, features=frozenset({"no_temperature"}))
    for field in ({"temperature": 0.0}, {"top_p": 0.5}, {"top_k": 1}):
        with pytest.raises(hub.Unsupported):
            CODEC.write_request(chat(**field), fixed)
    assert b"temperature" not in CODEC.write_request(chat(temperature=1.0, top_p=1.0), fixed)


def test_thinking_in_other_vendors_words():
    def more(model, **fields):
        return sent(chat(reasoning=hub.Reasoning(**fields)), model).get("additionalModelRequestFields")

    assert more("openai.gpt-oss-120b-1:0", effort="xhigh") == {"reasoning_effort": "high"}
    assert more(NOVA, budget=1000) == {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}
    assert more(NOVA, effort="high") == {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}
    assert more(NOVA, effort="none") is more(LLAMA, effort="none") is more(LLAMA, show=True) is None
    bounded = sent(chat(reasoning=hub.Reasoning("high"), max_tokens=100), NOVA)["additionalModelRequestFields"]
    assert bounded == {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}}
    assert refused(chat(reasoning=hub.Reasoning("low")), LLAMA)[0] == "reasoning_effort"


# --- whatever comes


@st.composite
def conversations(draw):
    made = draw(calls(draw(st.integers(0, 3))))
    texts = st.lists(st.one_of(TEXT, st.just(" ")), max_size=2)
    turns = [user("x"), user(*draw(texts))]
    if made:
        turns += [
            assistant(*draw(texts), *made),
            user(*draw(texts), *(hub.ToolResult(c.id, [hub.Text("r")]) for c in made)),
        ]
    turns.insert(draw(st.integers(0, len(turns))), hub.Turn("system", [hub.Text(draw(TEXT), cache=CACHE)]))
    tools = [hub.Tool(call.name, draw(st.none() | TEXT), draw(st.none() | SCHEMA)) for call in made]
    return chat(*turns, tools=tools, max_tokens=draw(st.none() | st.integers(1, 10**5)), user=draw(st.none() | WORD))


@settings(max_examples=60)
@given(conversations(), st.sampled_from([CLAUDE, NOVA, LLAMA]))
def test_what_is_written_is_always_a_request(asked, model):
    written = sent(asked, model)
    given = [part.id for turn in asked.turns for part in turn.parts if type(part) is hub.ToolCall]
    found = [b["toolUse"]["toolUseId"] for m in written["messages"] for b in m["content"] if "toolUse" in b]
    assert found == given
