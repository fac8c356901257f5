"""Counting tokens in the shapes of Anthropic, Gemini and OpenAI's Responses, and between them."""

import json

import pytest

from fastgw._core import fields
from fastgw.call import Usage
from fastgw.dialects import hub, registry
from fastgw.dialects.counting import anthropic, gemini, openai
from fastgw.dialects.counting.nouns import Counted

CODECS = (anthropic.CODEC, gemini.CODEC, openai.CODEC)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
ANTHROPIC = {
    "model": "m", "system": "be brief", "messages": [{"role": "user", "content": "hi"}],
    "tools": [{"name": "weather", "description": "d", "input_schema": SCHEMA}], "tool_choice": {"type": "any"},
}  # fmt: skip
GEMINI = {
    "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
    "systemInstruction": {"parts": [{"text": "be brief"}]},
    "tools": [{"functionDeclarations": [{"name": "weather", "description": "d", "parametersJsonSchema": SCHEMA}]}],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
}
RESPONSES = {
    "model": "m", "instructions": "be brief", "input": "hi", "tool_choice": "required",
    "tools": [{"type": "function", "name": "weather", "description": "d", "parameters": SCHEMA, "strict": None}],
}  # fmt: skip
BODIES = {anthropic.NAME: ANTHROPIC, gemini.NAME: {"generateContentRequest": GEMINI}, openai.NAME: RESPONSES}


def ask(codec, body, model="m"):
    return codec.read_request(json.dumps(body).encode(), model=model)


@pytest.mark.parametrize("client", CODECS, ids=lambda codec: codec.name)
@pytest.mark.parametrize("provider", CODECS, ids=lambda codec: codec.name)
def test_the_whole_prompt_is_counted(client, provider):
    sent = json.loads(provider.write_request(ask(client, BODIES[client.name]), hub.Target("up")))
    if provider is gemini.CODEC:
        inner = sent.pop("generateContentRequest")
        assert (sent, inner["model"]) == ({}, "models/up")
        assert inner["contents"] == GEMINI["contents"]
        assert inner["systemInstruction"] == GEMINI["systemInstruction"]
        assert inner["tools"][0]["functionDeclarations"][0]["name"] == "weather"
        assert inner["toolConfig"] == GEMINI["toolConfig"]
        return
    assert sent["model"] == "up"
    assert sent["tools"][0]["name"] == "weather"
    if provider is anthropic.CODEC:
        assert (sent["system"], sent["messages"]) == ("be brief", ANTHROPIC["messages"])
        assert set(sent) == {"model", "system", "messages", "tools", "tool_choice"}
    else:
        assert sent["instructions"] == "be brief"
        assert set(sent) <= openai.TAKEN


@pytest.mark.parametrize("provider", CODECS, ids=lambda codec: codec.name)
def test_what_bears_on_the_answer_alone_is_left_out_without_a_word(provider):
    config = {"temperature": 0.5, "maxOutputTokens": 5, "stopSequences": ["x"], "topK": 3, "seed": 1}
    target = hub.Target("up")
    body = {"generateContentRequest": {**GEMINI, "generationConfig": config}}
    sent = json.loads(provider.write_request(ask(gemini.CODEC, body), target))
    assert target.dropped == []
    assert {"temperature", "max_tokens", "max_output_tokens", "stop_sequences", "stream", "store"}.isdisjoint(sent)
    assert "generationConfig" not in sent.get("generateContentRequest", {})


def test_thinking_is_part_of_the_prompt():
    body = ANTHROPIC | {"thinking": {"type": "enabled", "budget_tokens": 2048}, "tool_choice": {"type": "auto"}}
    sent = json.loads(gemini.CODEC.write_request(ask(anthropic.CODEC, body), hub.Target("up")))
    assert sent["generateContentRequest"]["generationConfig"]["thinkingConfig"]["thinkingBudget"] == 2048
    back = ask(gemini.CODEC, sent)
    again = json.loads(anthropic.CODEC.write_request(back, hub.Target("up")))
    assert again["thinking"]["budget_tokens"] == 2048
    assert "max_tokens" not in again
    assert back.max_tokens is None


def test_gemini_takes_both_shapes_and_spellings():
    contents = {"contents": GEMINI["contents"]}
    bare = ask(gemini.CODEC, contents)
    whole = ask(gemini.CODEC, {"generate_content_request": {"model": "models/m", **contents}}, None)
    assert bare == whole


def test_counts_are_read_and_written():
    assert anthropic.CODEC.read_reply(b'{"input_tokens":31}') == Counted(31)
    assert gemini.CODEC.read_reply(b'{"totalTokens":31,"promptTokensDetails":[]}').tokens == 31
    assert openai.CODEC.read_reply(b'{"object":"response.input_tokens","input_tokens":31}').tokens == 31
    written = [json.loads(one.write_reply(Counted(31), None, model="m", estimate=0)) for one in CODECS]
    assert written == [
        {"input_tokens": 31}, {"totalTokens": 31}, {"object": "response.input_tokens", "input_tokens": 31}
    ]  # fmt: skip


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"input_tokens":-1,"totalTokens":-1}', b'{"input_tokens":"a"}'])
def test_what_is_no_count_is_refused(codec, body):
    with pytest.raises(ValueError):
        codec.read_reply(body)


@pytest.mark.parametrize(
    ("codec", "body"),
    [(anthropic.CODEC, b'{"model":"m"}'), (gemini.CODEC, b"["), (openai.CODEC, b'{"model":"m","input":1}')],
)
def test_what_is_wrong_is_refused(codec, body):
    with pytest.raises(hub.Invalid):
        codec.read_request(body, model="m")


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_an_error_crosses_over(codec):
    problem = gemini.CODEC.read_error(429, {}, b'{"error":{"code":429,"message":"slow","status":"RESOURCE_EXHAUSTED"}}')
    status, body = codec.write_problem(problem, "req_1")
    assert (status, json.loads(body)["error"]["message"]) == (429, "slow")


def prepared(dialect, body):
    return json.loads(dialect.prepare(fields.scan(json.dumps(body).encode()), "up", rename=True, stream=False))


def test_every_name_of_the_model_is_renamed():
    assert prepared(registry.ANTHROPIC_COUNT, ANTHROPIC) == ANTHROPIC | {"model": "up"}
    assert prepared(registry.RESPONSES_COUNT, {"input": "a"}) == {"input": "a"}
    for name in ("generateContentRequest", "generate_content_request"):
        body = {name: {"model": "models/m", "contents": []}}
        assert prepared(registry.GEMINI_COUNT, body) == {name: {"model": "models/up", "contents": []}}
    assert prepared(registry.GEMINI_COUNT, {"generateContentRequest": 1}) == {"generateContentRequest": 1}


@pytest.mark.parametrize("dialect", [registry.ANTHROPIC_COUNT, registry.GEMINI_COUNT, registry.RESPONSES_COUNT])
def test_counting_uses_nothing(dialect):
    assert dialect.usage(b'{"input_tokens":5,"totalTokens":5}') == Usage()
    assert dialect.usage(b"<html>") == Usage()
    assert dialect.estimate_input(400) == 0
    assert not dialect.streams
