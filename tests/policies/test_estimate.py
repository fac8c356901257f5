"""What is held back for a call: from its size, its pictures and what bounds its answer."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw._core import fields
from fastgw.policies.estimate import MAX_TOKENS, PIECE_TOKENS, tokens


def guess(dialect, body, output=1024):
    raw = json.dumps(body).encode()
    return tokens(dialect, fields.scan(raw), len(raw), output)


@pytest.mark.parametrize(
    ("dialect", "body", "expected"),
    [
        ("openai_chat", {}, 1024),
        ("openai_chat", {"max_tokens": 10}, 10),
        ("openai_chat", {"max_tokens": 10, "max_completion_tokens": 20}, 20),
        ("openai_chat", {"max_tokens": 10, "n": 3}, 30),
        ("openai_chat", {"n": 2}, 2048),
        ("openai_chat", {"max_tokens": None, "n": None}, 1024),
        ("openai_chat", {"max_tokens": "many"}, 1024),
        ("openai_chat", {"max_tokens": -5}, 1024),
        ("openai_chat", {"max_tokens": 10**15, "n": 10**15}, MAX_TOKENS),
        ("openai_completions", {}, 16),
        ("openai_completions", {"max_tokens": 7, "n": 2}, 14),
        ("openai_responses", {"max_output_tokens": 9}, 9),
        ("anthropic_messages", {"max_tokens": 300}, 300),
        ("gemini", {}, 1024),
        ("gemini", {"generationConfig": {"maxOutputTokens": 8, "candidateCount": 2}}, 16),
        ("gemini", {"generation_config": {"max_output_tokens": 8}}, 8),
        ("gemini", {"generationConfig": {"temperature": 1}}, 1024),
        ("gemini", {"generationConfig": {"maxOutputTokens": "x"}}, 1024),
        ("gemini", {"generationConfig": [1]}, 1024),
        ("openai_embeddings", {"input": "x"}, 0),
    ],
)
def test_the_output_is_what_bounds_it(dialect, body, expected):
    assert guess(dialect, body)[1] == expected


def test_the_input_is_a_quarter_of_the_bytes():
    body = {"messages": [{"role": "user", "content": "x" * 40_000}]}
    assert guess("openai_chat", body)[0] == len(json.dumps(body)) // 4


@pytest.mark.parametrize(
    "part",
    [
        lambda data: {"type": "image_url", "image_url": {"url": "data:image/png;base64," + data}},
        lambda data: {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
    ],
)
def test_a_picture_counts_by_the_piece_not_by_its_bytes(part):
    data = base64.b64encode(bytes(range(256)) * 1000).decode()
    one = guess("openai_chat", {"messages": [{"role": "user", "content": [part(data)]}]})[0]
    two = guess("openai_chat", {"messages": [{"role": "user", "content": [part(data), part(data)]}]})[0]
    assert PIECE_TOKENS < one < 2 * PIECE_TOKENS + 1000
    assert PIECE_TOKENS < two - one < 2 * PIECE_TOKENS


@given(
    st.dictionaries(
        st.sampled_from(["max_tokens", "n", "generationConfig", "x"]), st.none() | st.integers() | st.text()
    )
)
def test_no_request_makes_it_fail_or_go_below_nothing(body):
    for dialect in ("openai_chat", "gemini", "anthropic_messages", "openai_embeddings"):
        assert all(0 <= count <= MAX_TOKENS for count in guess(dialect, body))
