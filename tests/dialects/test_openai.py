"""What goes upstream, and what is read of a whole reply."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw._core import fields
from fastgw.call import Usage
from fastgw.dialects import framing
from fastgw.dialects.openai import CHAT, COMPLETIONS, EMBEDDINGS
from fastgw.errors import GatewayError
from tests.dialects.support import USAGE

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
bodies = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name not in ("model", "stream_options")), json_values, max_size=5
)


def prepared(body, *, rename=False, stream=False, model="up/model"):
    return CHAT.prepare(fields.scan(body), model, rename=rename, stream=stream)


@given(bodies, st.sampled_from([None, 1]), st.booleans())
def test_only_the_stated_edits_are_made(body, indent, ascii_only):
    raw = json.dumps({**body, "model": "fast", "z": [1.0, 2**70]}, indent=indent, ensure_ascii=ascii_only).encode(
        "utf-8", "surrogatepass"
    )
    try:
        fields.scan(raw)
    except fields.FieldError:
        return  # lone surrogates
    assert prepared(raw) == raw
    assert prepared(raw, rename=True) == raw.replace(b'"model": "fast"', b'"model": "up/model"')
    out = prepared(raw, rename=True, stream=True)
    added = b'"stream_options":{"include_usage":true}'
    assert added in out
    assert json.loads(out) == {**json.loads(raw), "model": "up/model", "stream_options": {"include_usage": True}}
    shorter = out.replace(added, b"", 1).replace(b'"model": "up/model"', b'"model": "fast"')
    assert shorter.rstrip(b"}\n ,") == raw.rstrip(b"}\n ,")


@pytest.mark.parametrize("name", ['a"b\\c', "é\u2028", "x" * 256, "a/b:c@d"])
def test_a_renamed_model_is_written_as_json(name):
    assert json.loads(prepared(b'{"model":"m","a":1}', rename=True, model=name)) == {"model": name, "a": 1}


@pytest.mark.parametrize(
    "options", ['{"include_usage":true}', '{"include_usage": true, "x": [1]}', ' {\n"include_usage" :true}']
)
def test_usage_asked_for_by_the_caller_is_left_as_it_is(options):
    raw = f'{{"model":"m","stream_options":{options},"stream":true}}'.encode()
    assert prepared(raw, stream=True) == raw
    assert CHAT.wants_usage(fields.scan(raw))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("null", {"include_usage": True}),
        ("{}", {"include_usage": True}),
        ('{"include_usage":false}', {"include_usage": True}),
        ('{"include_usage":null,"a":1.50}', {"include_usage": True, "a": 1.5}),
        ('{"include_obfuscation":false}', {"include_usage": True, "include_obfuscation": False}),
    ],
)
def test_usage_is_asked_for_where_the_caller_did_not(options, expected):
    raw = f'{{"model":"m","stream_options":{options},"stream":true}}'.encode()
    assert json.loads(prepared(raw, stream=True))["stream_options"] == expected
    assert prepared(raw, stream=False) == raw
    assert not CHAT.wants_usage(fields.scan(raw))


@pytest.mark.parametrize("options", ["[]", "1", '"x"', "true"])
def test_stream_options_of_the_wrong_type(options):
    raw = f'{{"model":"m","stream_options":{options}}}'.encode()
    for ask in (lambda: prepared(raw, stream=True), lambda: CHAT.wants_usage(fields.scan(raw))):
        with pytest.raises(GatewayError) as caught:
            ask()
        assert (caught.value.kind, caught.value.param) == ("invalid_type", "stream_options")


def test_the_usage_of_a_whole_reply():
    assert CHAT.usage(json.dumps({"usage": USAGE, "x": 1}).encode()) == Usage(10, 4, 3, 0, 2)
    assert EMBEDDINGS.usage(b'{"usage":{"prompt_tokens":8,"total_tokens":8}}') == Usage(input=8)
    nulls = b'{"usage":{"prompt_tokens":null,"completion_tokens":5,"prompt_tokens_details":null}}'
    assert COMPLETIONS.usage(nulls) == Usage(output=5)
    details = b'{"usage":{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":null,"cache_write_tokens":4}}}'
    assert CHAT.usage(details) == Usage(input=9, cache_write=4)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x", b"[]", b"null", b"{}", b'{"usage":null}', b'{"usage":[]}', b'{"usage":{"prompt_tokens":-1}}',
        b'{"usage":{"prompt_tokens":99999999999999999999}}', b'{"usage":{"prompt_tokens":1.5}}', b'\xff{"usage":{}}',
        b'{"a":' + b"[" * 100_000, b'{"usage":{"prompt_tokens":1}',
    ],
)  # fmt: skip
def test_a_reply_without_a_usage(body):
    assert CHAT.usage(body) is None


def test_what_each_operation_requires_and_streams():
    assert [(one.name, one.required, one.streams) for one in (CHAT, COMPLETIONS, EMBEDDINGS)] == [
        ("openai_chat", (b"model", b"messages"), True),
        ("openai_completions", (b"model", b"prompt"), True),
        ("openai_embeddings", (b"model", b"input"), False),
    ]


def test_the_estimate_grows_with_the_body():
    assert (CHAT.estimate_input(0), CHAT.estimate_input(400)) == (0, 100)


def test_errors_whole_and_in_a_stream():
    error = GatewayError("upstream_timeout", "late")
    body = CHAT.error(error, "req_1")
    assert json.loads(body)["error"]["code"] == "upstream_timeout"
    assert CHAT.stream_error(error, "req_1") == framing.data(body)
