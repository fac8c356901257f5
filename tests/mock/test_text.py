"""Tokens, invented values and vectors."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.mock.text import cached_part, count_tokens, example, lorem, split_tokens, vector


@given(st.text())
def test_split_tokens_loses_nothing(text: str) -> None:
    assert "".join(split_tokens(text)) == text


@given(st.integers(0, 300), st.integers(0, 300))
def test_lorem_has_so_many_tokens(count: int, first: int) -> None:
    pieces = lorem(count, first)
    assert len(pieces) == count
    assert split_tokens("".join(pieces)) == pieces


def test_counts() -> None:
    assert [count_tokens(text) for text in ("", "a", "abcd", "abcde")] == [0, 1, 1, 2]
    assert [cached_part(n) for n in (0, 1023, 1024, 3000)] == [0, 0, 512, 1408]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "mock"),
        ({"enum": [3, 4]}, 3),
        ({"const": None}, None),
        ({"type": ["null", "string"]}, None),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, True),
        ({"type": "array", "items": {"type": "number"}}, [1.5]),
        ({"type": "array"}, []),
        ({"properties": {"a": {"type": "object", "properties": {"b": {"type": "string"}}}}}, {"a": {"b": "mock"}}),
        ({"type": "object", "properties": 5}, {}),
        ("nonsense", None),
    ],
)
def test_example(schema: Any, value: Any) -> None:
    assert example(schema) == value


def test_example_of_a_schema_within_itself_ends() -> None:
    schema: dict[str, Any] = {"type": "object"}
    schema["properties"] = {"inner": schema}
    assert "inner" in example(schema)


@given(st.text(), st.integers(1, 64))
def test_vectors_are_unit_and_shorten_by_prefix(text: str, size: int) -> None:
    short, long = vector(text, size), vector(text, 64)
    assert len(short) == size
    assert math.isclose(math.hypot(*short), 1, rel_tol=1e-5) or not any(short)
    scale = math.hypot(*long[:size])
    assert all(math.isclose(a, b / scale, rel_tol=1e-4, abs_tol=1e-6) for a, b in zip(short, long, strict=False))
