"""countTokens and embeddings in Gemini's shapes."""

import json

import pytest
from msgspec import Raw

from fastgw.dialects import hub
from fastgw.dialects.gemini import count

TARGET = hub.Target("gemini-embedding-001")


def test_counting_takes_both_shapes():
    bare = count.read_count_request(b'{"contents":[{"parts":[{"text":"a"}]}]}', model="m")
    inner = b'{"generate_content_request":{"model":"models/m","contents":[{"parts":[{"text":"a"}]}]}}'
    whole = count.read_count_request(inner)
    assert bare == whole
    sent = json.loads(count.write_count_request(bare, TARGET))["generateContentRequest"]
    assert sent == {"model": "models/gemini-embedding-001", "contents": [{"parts": [{"text": "a"}], "role": "user"}]}


def test_counts():
    assert count.read_count_reply(b'{"totalTokens":31,"promptTokensDetails":[]}') == 31
    assert json.loads(count.write_count_reply(31)) == {"totalTokens": 31}
    with pytest.raises(ValueError):
        count.read_count_reply(b"{}")


def test_one_embedding():
    body = b'{"content":{"parts":[{"text":"a"},{"text":"b"}]},"task_type":"RETRIEVAL_QUERY","outputDimensionality":256}'
    got = count.read_embed_request(body, model="models/e")
    assert got == count.Embed("e", ["ab"], 256, "RETRIEVAL_QUERY")
    sent = json.loads(count.write_embed_request(got, TARGET))
    assert sent == {
        "model": "models/gemini-embedding-001", "content": {"parts": [{"text": "ab"}]}, "taskType": "RETRIEVAL_QUERY",
        "outputDimensionality": 256,
    }  # fmt: skip


def test_many_embeddings():
    one = {
        "model": "models/e",
        "content": {"parts": [{"text": "a"}]},
        "embedContentConfig": {"outputDimensionality": 8},
    }
    got = count.read_embed_request(json.dumps({"requests": [one, one]}).encode())
    assert got == count.Embed("e", ["a", "a"], 8, batch=True)
    sent = json.loads(count.write_embed_request(got, TARGET))
    assert [request["content"]["parts"] for request in sent["requests"]] == [[{"text": "a"}], [{"text": "a"}]]


def test_vectors_stay_as_they_were_written():
    single = count.read_embed_reply(b'{"embedding":{"values":[1.50,-0.1e-7]}}')
    assert [bytes(one) for one in single] == [b"[1.50,-0.1e-7]"]
    many = count.read_embed_reply(b'{"embeddings":[{"values":[1]},{"values":[2]}]}')
    assert count.write_embed_reply(many, batch=True) == b'{"embeddings":[{"values":[1]},{"values":[2]}]}'
    assert count.write_embed_reply([Raw(b"[1.0]")], batch=False) == b'{"embedding":{"values":[1.0]}}'


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "content.parts"),
        (b'{"requests":[]}', "requests"),
        (b'{"content":{"parts":[{"inlineData":{}}]}}', "content.parts"),
        (
            b'{"requests":[{"content":{"parts":[{"text":"a"}]}},{"content":{"parts":[{"text":"a"}]},"taskType":"X"}]}',
            "requests",
        ),
        (b"[", "body"),
    ],
)
def test_what_is_wrong_is_named(body, field):
    with pytest.raises(hub.Invalid) as caught:
        count.read_embed_request(body, model="m")
    assert caught.value.field == field
