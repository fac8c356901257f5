"""JSON Schema into Gemini's subset, and back."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from fastgw.dialects import hub
from fastgw.dialects.gemini.schema import subset, to_json_schema
from tests.support.grammar_gemini import schema_problems


def cut(schema):
    """The subset of a schema, checked, and the keywords that were lost."""
    raw, lost = subset(Raw(json.dumps(schema).encode()), "f")
    got = json.loads(bytes(raw))
    assert schema_problems(got) == []
    return got, lost


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": ["string", "null"]}, {"nullable": True, "type": "string"}),
        ({"const": "x"}, {"enum": ["x"], "type": "string"}),
        ({"enum": ["a", None]}, {"nullable": True, "enum": ["a"], "type": "string"}),
        ({"type": "integer", "enum": [1, 2]}, {"type": "integer", "description": "One of: 1, 2."}),
        (
            {"type": "string", "format": "uri", "description": "A."},
            {"type": "string", "description": "A. Format: uri."},
        ),
        ({"type": "string", "format": "date-time"}, {"type": "string", "format": "date-time"}),
        ({"type": "array"}, {"type": "array", "items": {"type": "string"}}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"nullable": True, "type": "string"}),
        (
            {"oneOf": [{"type": "string"}, {"type": "integer"}], "description": "d"},
            {"anyOf": [{"description": "d", "type": "string"}, {"description": "d", "type": "integer"}]},
        ),
        (
            {"type": ["array", "string"], "items": {"type": "string"}, "minLength": 2},
            {"anyOf": [{"items": {"type": "string"}, "type": "array"}, {"minLength": 2, "type": "string"}]},
        ),
        (
            {
                "allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}],
                "properties": {"b": {"type": "null"}},
            },
            {"properties": {"b": {"type": "null"}, "a": {"type": "string"}}, "required": ["a"], "type": "object"},
        ),
        (
            {"$ref": "#/$defs/A", "description": "mine", "$defs": {"A": {"type": "string", "description": "its"}}},
            {"type": "string", "description": "mine"},
        ),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a", "b"]}, None),
        ({"type": "object", "additionalProperties": False, "properties": {"$ref": {"type": "string"}}}, None),
    ],
)
def test_what_becomes_of_it(schema, expected):
    got, lost = cut(schema)
    assert lost == ()
    if expected is not None:
        assert got == expected


def test_what_is_left_out_is_named():
    got, lost = cut({"type": "number", "exclusiveMinimum": 0, "not": {}, "additionalProperties": {"type": "string"}})
    assert got == {"type": "number"}
    assert set(lost) == {"exclusiveMinimum", "not", "additionalProperties"}


def test_circles_end():
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}, "v": {"type": "string"}}}
    got, lost = cut({"$ref": "#/$defs/N", "$defs": {"N": node}})
    assert got["properties"]["next"] == {"type": "object"}
    assert lost == ("$ref",)
    assert cut({"type": "object", "properties": {"a": {"$ref": "#"}}})[1] == ("$ref",)


def test_a_schema_that_grows_without_bound_is_refused():
    levels = {
        f"L{n}": {"type": "object", "properties": {k: {"$ref": f"#/$defs/L{n + 1}"} for k in "abcd"}} for n in range(9)
    }
    with pytest.raises(hub.Unsupported, match="5000 parts"):
        cut({"$ref": "#/$defs/L0", "$defs": {**levels, "L9": {"type": "string"}}})


@pytest.mark.parametrize("reference", ["https://a.example/s.json", "#/$defs/Gone", "#/$defs/A/type", "other"])
def test_references_that_lead_nowhere_are_refused(reference):
    with pytest.raises(hub.Unsupported) as caught:
        cut({"properties": {"a": {"$ref": reference}}, "$defs": {"A": {"type": "string"}}})
    assert caught.value.field == "f"


@pytest.mark.parametrize(
    "raw", [b"[]", b"5", b'{"properties":3}', b'{"anyOf":{}}', b'{"type":"object","properties":[]}']
)
def test_what_is_no_schema_is_refused(raw):
    with pytest.raises(hub.Unsupported):
        subset(Raw(raw), "f")


def test_numbers_stay_as_they_were_written():
    raw, _ = subset(Raw(b'{"type":"number","minimum":1.50,"maximum":1e400,"default":9007199254740993}'), "f")
    assert bytes(raw) == b'{"type":"number","minimum":1.50,"maximum":1e400,"default":9007199254740993}'


LEAF = st.sampled_from(
    [{"type": "string"}, {"type": ["integer", "null"]}, {"const": 5}, {"enum": ["a", "b"]}, {"type": "array"}, True, {}]
)
SCHEMAS = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.builds(
            lambda found: {
                "type": "object",
                "properties": found,
                "required": list(found),
                "additionalProperties": False,
            },
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        ),
        st.builds(lambda one: {"type": "array", "items": one, "title": "t"}, inner),
        st.builds(lambda many: {"anyOf": many, "default": None}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(SCHEMAS)
def test_any_schema_comes_out_in_the_subset(schema):
    cut(schema if isinstance(schema, dict) else {"items": schema, "type": "array"})


def test_back_to_json_schema():
    proto = {
        "type": "OBJECT",
        "properties": {
            "b": {"type": "STRING", "nullable": True, "format": "enum", "enum": ["x"]},
            "a": {"type": "ARRAY", "items": {"type": "NUMBER"}, "minItems": "2", "max_items": 3},
            "c": {"anyOf": [{"type": "STRING"}, {"type": "INTEGER", "enum": ["1"]}], "nullable": True},
            "nullable": {"type": "BOOLEAN", "example": True},
        },
        "propertyOrdering": ["a", "b"],
        "required": ["a"],
    }
    got = json.loads(bytes(to_json_schema(Raw(json.dumps(proto).encode()), "f")))
    assert got == {
        "type": "object",
        "properties": {
            "a": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 3},
            "b": {"type": ["string", "null"], "enum": ["x", None]},
            "c": {"anyOf": [{"type": "string"}, {"type": "integer", "enum": [1]}, {"type": "null"}]},
            "nullable": {"type": "boolean", "examples": [True]},
        },
        "required": ["a"],
    }
    assert list(got["properties"]) == ["a", "b", "c", "nullable"]


def test_plain_json_schema_is_not_touched():
    raw = Raw(b'{ "type" : "object" , "properties" : {} }')
    assert to_json_schema(raw, "f") is raw
