"""Embeddings between the shapes of OpenAI, Gemini and Cohere."""

import base64
import contextlib
import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from fastgw._core import fields
from fastgw.call import Usage
from fastgw.dialects import hub, registry
from fastgw.dialects.embeddings import cohere, gemini, nouns, openai

TARGET = "embed-1"
CODECS = (openai.CODEC, gemini.CODEC_ONE, gemini.CODEC_MANY, cohere.CODEC)
CLIENTS = CODECS[:3]


def ask(codec, body, model=None):
    return codec.read_request(json.dumps(body).encode(), model=model)


def write(codec, asked, **target):
    """(the request, what was left out)"""
    to = hub.Target(TARGET, **target)
    return json.loads(codec.write_request(asked, to)), to.dropped


def contents(*texts):
    return {"requests": [{"model": "models/m", "content": {"parts": [{"text": text}]}} for text in texts]}


# --- requests


@pytest.mark.parametrize("given", ["a", ["a"], ["a", "b"]])
def test_openai_to_gemini(given):
    asked = ask(openai.CODEC, {"model": "m", "input": given, "dimensions": 256, "encoding_format": "base64"})
    assert asked.encoding == "base64"
    one = {"model": f"models/{TARGET}", "outputDimensionality": 256}
    wanted = [one | {"content": {"parts": [{"text": text}]}} for text in given]
    assert write(gemini.CODEC_MANY, asked) == ({"requests": wanted}, [])


def test_openai_to_cohere():
    asked = ask(openai.CODEC, {"model": "m", "input": ["a", "b"], "dimensions": 512, "user": "u"})
    sent, dropped = write(cohere.CODEC, asked)
    assert sent == {
        "model": TARGET, "texts": ["a", "b"], "input_type": "search_document", "embedding_types": ["float"],
        "truncate": "NONE", "output_dimension": 512,
    }  # fmt: skip
    assert dropped == ["user"]


@pytest.mark.parametrize(("word", "task"), [("search_query", "RETRIEVAL_QUERY"), ("clustering", "CLUSTERING")])
def test_a_client_of_openais_shape_can_say_what_for(word, task):
    asked = ask(openai.CODEC, {"model": "m", "input": "a", "input_type": word})
    assert write(cohere.CODEC, asked)[0]["input_type"] == word
    assert write(gemini.CODEC_MANY, asked)[0]["requests"][0]["taskType"] == task


@pytest.mark.parametrize(
    ("task", "word", "lost"),
    [
        ("RETRIEVAL_QUERY", "search_query", []),
        ("RETRIEVAL_DOCUMENT", "search_document", []),
        ("CLASSIFICATION", "classification", []),
        ("CLUSTERING", "clustering", []),
        ("QUESTION_ANSWERING", "search_query", []),
        ("FACT_VERIFICATION", "search_query", []),
        ("CODE_RETRIEVAL_QUERY", "search_query", []),
        ("SEMANTIC_SIMILARITY", "search_document", ["taskType"]),
        ("TASK_TYPE_UNSPECIFIED", "search_document", []),
    ],
)
def test_geminis_tasks_to_cohere(task, word, lost):
    asked = ask(gemini.CODEC_ONE, {"content": {"parts": [{"text": "a"}]}, "task_type": task}, "m")
    sent, dropped = write(cohere.CODEC, asked)
    assert (sent["input_type"], dropped) == (word, lost)


def test_gemini_to_openai():
    body = {"content": {"parts": [{"text": "a"}, {"text": "b"}]}, "taskType": "CLUSTERING", "title": "t"}
    asked = ask(gemini.CODEC_ONE, body | {"outputDimensionality": 8}, "models/m")
    assert asked.model == "m"
    assert write(openai.CODEC, asked) == ({"model": TARGET, "input": ["ab"], "dimensions": 8}, ["taskType", "title"])


def test_gemini_to_gemini_in_the_other_form():
    body = {"content": {"parts": [{"text": "a"}]}, "embedContentConfig": {"taskType": "CLUSTERING", "title": "t"}}
    sent, dropped = write(gemini.CODEC_MANY, ask(gemini.CODEC_ONE, body, "m"))
    one = {"model": f"models/{TARGET}", "content": {"parts": [{"text": "a"}]}, "taskType": "CLUSTERING", "title": "t"}
    assert (sent, dropped) == ({"requests": [one]}, [])
    assert write(gemini.CODEC_ONE, ask(gemini.CODEC_ONE, body, "m")) == (one, [])


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]]])
def test_tokens_go_to_openais_shape_only(tokens):
    asked = ask(openai.CODEC, {"model": "m", "input": tokens})
    assert write(openai.CODEC, asked)[0]["input"] == tokens
    for codec in CODECS[1:]:
        with pytest.raises(hub.Unsupported) as caught:
            write(codec, asked)
        assert caught.value.field == "input"


@pytest.mark.parametrize(
    ("codec", "most", "vendor"), [(cohere.CODEC, 96, "Cohere"), (gemini.CODEC_MANY, 100, "Gemini")]
)
def test_batches_are_as_long_as_the_provider_takes(codec, most, vendor):
    write(codec, ask(openai.CODEC, {"model": "m", "input": ["a"] * most}))
    with pytest.raises(hub.Unsupported, match=f"{vendor} takes at most {most} inputs .* these are {most + 1}"):
        write(codec, ask(openai.CODEC, {"model": "m", "input": ["a"] * (most + 1)}))


@pytest.mark.parametrize("field", ["user_id", "input_type", "late_chunking"])
def test_fields_nobody_else_has_are_refused_or_dropped(field):
    asked = ask(openai.CODEC, {"model": "m", "input": "a", field: "x"})
    for codec in (cohere.CODEC, gemini.CODEC_MANY):
        with pytest.raises(hub.Unsupported) as caught:
            write(codec, asked)
        assert caught.value.field == field
        assert write(codec, asked, drop=frozenset({field}))[1] == [field]


@pytest.mark.parametrize(
    ("codec", "body", "field"),
    [
        (openai.CODEC, {"model": "m"}, "input"),
        (openai.CODEC, {"model": "m", "input": []}, "input"),
        (openai.CODEC, {"model": "m", "input": ["a", ""]}, "input"),
        (openai.CODEC, {"model": "m", "input": ["a", 1]}, "input"),
        (openai.CODEC, {"model": "m", "input": {"a": 1}}, "input"),
        (openai.CODEC, {"model": "m", "input": "a", "encoding_format": "int8"}, "encoding_format"),
        (openai.CODEC, {"model": "m", "input": "a", "dimensions": 0}, "dimensions"),
        (openai.CODEC, {"input": "a"}, "model"),
        (openai.CODEC, {"model": "m", "input": "a", "dimensions": "x"}, "body"),
        (gemini.CODEC_ONE, {"model": "m"}, "content.parts"),
        (gemini.CODEC_ONE, {"model": "m", "content": {"parts": [{"inlineData": {}}]}}, "content.parts"),
        (gemini.CODEC_ONE, {"model": "m", "content": {"parts": [{"text": "a"}]}, "taskType": "X"}, "taskType"),
        (gemini.CODEC_ONE, {"content": {"parts": [{"text": "a"}]}}, "model"),
        (gemini.CODEC_MANY, {"requests": []}, "requests"),
        (gemini.CODEC_MANY, {"requests": [{"content": {}}]}, "requests[0].content.parts"),
        (gemini.CODEC_MANY, {}, "body"),
    ],
)
def test_what_is_wrong_is_named(codec, body, field):
    with pytest.raises(hub.Invalid) as caught:
        ask(codec, body, "m" if codec is gemini.CODEC_MANY and "requests" in body and body["requests"] else None)
    assert caught.value.field == field


def test_a_batch_must_ask_alike():
    body = contents("a", "b")
    body["requests"][1]["taskType"] = "CLUSTERING"
    with pytest.raises(hub.Invalid, match="must all ask for the same"):
        ask(gemini.CODEC_MANY, body)


# --- replies

OPENAI = b'{"object":"list","data":[{"index":1,"embedding":[2]},{"index":0,"embedding":[1.50,-0.1e-7]}],"model":"big"'


def test_replies_are_read():
    told = openai.CODEC.read_reply(OPENAI + b',"usage":{"prompt_tokens":7,"total_tokens":7}}')
    assert told == nouns.Vectors([Raw(b"[1.50,-0.1e-7]"), Raw(b"[2]")], Usage(input=7), "big")
    assert openai.CODEC.read_reply(OPENAI + b',"usage":{"total_tokens":6}}').usage == Usage(input=6)
    assert openai.CODEC.read_reply(OPENAI + b',"usage":null}').usage is None
    assert openai.CODEC.read_reply(OPENAI + b',"usage":{"prompt_tokens":-7}}').usage is None
    one = gemini.CODEC_ONE.read_reply(b'{"embedding":{"values":[1.50]},"usageMetadata":{"promptTokenCount":3}}')
    assert one == nouns.Vectors([Raw(b"[1.50]")], Usage(input=3))
    vertex = (
        b'{"embeddings":[{"values":[1],"statistics":{"tokenCount":2.0}},{"values":[2],"statistics":{"tokenCount":3}}]}'
    )
    assert gemini.CODEC_MANY.read_reply(vertex) == nouns.Vectors([Raw(b"[1]"), Raw(b"[2]")], Usage(input=5))
    body = b'{"id":"i","embeddings":{"float":[[1.50]]},"meta":{"billed_units":{"input_tokens":4}}}'
    assert cohere.CODEC.read_reply(body) == nouns.Vectors([Raw(b"[1.50]")], Usage(input=4), id="i")
    assert cohere.CODEC.read_reply(b'{"embeddings":{"float":[]}}').usage is None


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data":1}', b"<html>", b"[" * 100_000])
def test_what_is_no_reply_is_refused(codec, body):
    with pytest.raises((ValueError, RecursionError)):
        codec.read_reply(body)


def reply(codec, told, asked, estimate=0):
    return codec.write_reply(told, asked, model="ours", estimate=estimate)


def test_vectors_stay_as_they_were_written():
    told = nouns.Vectors([Raw(b"[1.50,-0.1e-7]")], Usage(input=3))
    asked = nouns.Embed("m", ["a"])
    assert reply(gemini.CODEC_ONE, told, asked) == (
        b'{"embedding":{"values":[1.50,-0.1e-7]},"usageMetadata":{"promptTokenCount":3}}'
    )
    assert reply(gemini.CODEC_MANY, told, asked) == (
        b'{"embeddings":[{"values":[1.50,-0.1e-7]}],"usageMetadata":{"promptTokenCount":3}}'
    )
    assert reply(openai.CODEC, told, asked) == (
        b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1.50,-0.1e-7]}],"model":"ours",'
        b'"usage":{"prompt_tokens":3,"total_tokens":3}}'
    )


def test_a_usage_nobody_told_is_marked_or_left_out():
    told, asked = nouns.Vectors([Raw(b"[1]")]), nouns.Embed("m", ["a"])
    usage = json.loads(reply(openai.CODEC, told, asked, 9))["usage"]
    assert usage == {"prompt_tokens": 9, "total_tokens": 9, "estimated": True}
    assert json.loads(reply(gemini.CODEC_ONE, told, asked, 9)) == {"embedding": {"values": [1]}}


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
def test_base64_holds_the_same_numbers(values):
    told = nouns.Vectors([Raw(json.dumps(values).encode())])
    asked = nouns.Embed("m", ["a"], encoding="base64")
    written = json.loads(reply(openai.CODEC, told, asked))["data"][0]["embedding"]
    assert struct.unpack(f"<{len(values)}f", base64.b64decode(written)) == tuple(values)
    back = nouns.numbers(Raw(json.dumps(written).encode()))
    assert json.loads(bytes(back)) == values
    assert nouns.base64(Raw(json.dumps(written).encode())) == Raw(json.dumps(written).encode())


@pytest.mark.parametrize("vector", [b'"!"', b'"AAA="', b'"AAAAAAA="'])
def test_what_is_no_base64_is_refused(vector):
    with pytest.raises(ValueError):
        nouns.numbers(Raw(vector))


@pytest.mark.parametrize("vector", [b'["a"]', b"{}", b"1"])
def test_what_is_no_vector_is_refused(vector):
    with pytest.raises(ValueError):
        nouns.base64(Raw(vector))


def test_a_number_beyond_a_float_is_infinite():
    (value,) = struct.unpack("<f", base64.b64decode(json.loads(bytes(nouns.base64(Raw(b"[1e39]"))))))
    assert math.isinf(value)


@pytest.mark.parametrize("codec", CLIENTS)
def test_a_vector_too_few_or_too_many_is_no_answer(codec):
    for vectors in ([], [Raw(b"[1]")] * 2):
        with pytest.raises(ValueError, match="vectors for 1 inputs"):
            reply(codec, nouns.Vectors(vectors), nouns.Embed("m", ["a"]))


@pytest.mark.parametrize("codec", CLIENTS)
def test_an_error_crosses_over(codec):
    problem = cohere.CODEC.read_error(429, {b"retry-after": b"2"}, b'{"id":"x","message":"too many"}')
    assert (problem.cause, problem.message, problem.retry_after) == ("rate_limit", "too many", 2.0)
    status, body = codec.write_problem(problem, "req_1")
    assert status == 429
    assert json.loads(body)["error"]["message"] == "too many"


# --- passing


def prepared(dialect, body, model="up"):
    return json.loads(dialect.prepare(fields.scan(json.dumps(body).encode()), model, rename=True, stream=False))


def test_every_name_of_the_model_is_renamed():
    body = contents("a", "b")
    body["requests"][1]["model"] = "models/other"
    sent = prepared(registry.GEMINI_BATCH_EMBED, body)
    assert [one["model"] for one in sent["requests"]] == ["models/up", "models/up"]
    assert [one["content"] for one in sent["requests"]] == [one["content"] for one in body["requests"]]
    one = {"model": "models/m", "content": {"parts": [{"text": "a"}]}}
    assert prepared(registry.GEMINI_EMBED, one) == one | {"model": "models/up"}
    assert prepared(registry.GEMINI_EMBED, {"content": {}}) == {"content": {}}
    assert prepared(registry.GEMINI_BATCH_EMBED, {"requests": 1}) == {"requests": 1}


def test_what_names_it_rightly_passes_untouched():
    raw = b'{ "requests" : [ {"model":"models/up","x":1.0} ] }'
    assert registry.GEMINI_BATCH_EMBED.prepare(fields.scan(raw), "up", rename=True, stream=False) == raw


def test_usage_of_what_passes():
    body = b'{"embedding":{"values":[1]},"usageMetadata":{"promptTokenCount":3}}'
    assert registry.GEMINI_EMBED.usage(body) == Usage(input=3)
    assert registry.GEMINI_EMBED.usage(b'{"embedding":{"values":[1]}}') is None
    assert registry.GEMINI_EMBED.usage(b"<html>") is None
    assert registry.GEMINI_EMBED.estimate_input(400) == 100


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["model", "input", "dimensions", "encoding_format", "input_type", "user", "content", "parts", "text",
                 "requests", "taskType", "task_type", "title", "embedContentConfig", "outputDimensionality", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_whatever_a_client_sends_is_understood_or_named(body):
    for client in CLIENTS:
        try:
            asked = ask(client, body, "m")
        except hub.Invalid:
            continue
        for provider in CODECS:
            with contextlib.suppress(hub.Unsupported):
                write(provider, asked, drop=frozenset({"*"}))


@given(JSON)
def test_whatever_a_provider_sends_is_read_or_refused(body):
    for provider in CODECS:
        try:
            told = provider.read_reply(json.dumps(body).encode())
        except ValueError:
            continue
        assert told.usage is None or 0 <= told.usage.input < 2**31
