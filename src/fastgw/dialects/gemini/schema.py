"""JSON Schema into the subset that Gemini's `parameters` and `responseSchema` take, and back.

The subset: https://ai.google.dev/api/caching#Schema (a selection of OpenAPI 3.0.3). What becomes of the rest:
- `$ref` to a definition in the same schema is inlined; one that goes round in circles becomes a plain object.
- `const` and `enum` become `enum`, which takes strings only; other values go into the description.
- `null` among the types or the branches becomes `nullable`; several types, and `oneOf`, become `anyOf`, which must
  stand alone, so that what stood beside it moves into its branches; `allOf` is merged.
- a `format` Gemini does not know goes into the description; `additionalProperties: false` is what Gemini does anyway.
- other keywords are left out, and named. A model bound by less can say more, but nothing it may say is lost.

Numbers and strings inside the schema stay as they were written.
"""

import re
from functools import lru_cache

from msgspec import Raw, Struct

from fastgw.dialects.gemini.wire import UNREADABLE, encode, read_list, read_object, read_str
from fastgw.dialects.hub import Invalid, Unsupported

KEPT = frozenset(
    (
        "type", "title", "description", "nullable", "enum", "items", "properties", "required", "anyOf", "minItems",
        "maxItems", "minimum", "maximum", "minLength", "maxLength", "minProperties", "maxProperties", "pattern",
        "default", "example", "propertyOrdering", "format",
    )
)  # fmt: skip
_SILENT = frozenset(("$schema", "$id", "$comment", "$anchor", "$defs", "definitions", "additionalProperties"))
_FORMATS = frozenset(("enum", "date-time", "float", "double", "int32", "int64"))
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_TYPES = frozenset((b'"STRING"', b'"NUMBER"', b'"INTEGER"', b'"BOOLEAN"', b'"ARRAY"', b'"OBJECT"', b'"NULL"'))
_PROTO = re.compile(
    rb'"(?:STRING|NUMBER|INTEGER|BOOLEAN|ARRAY|OBJECT|NULL|TYPE_UNSPECIFIED|nullable|propertyOrdering|example|'
    rb"any_of|min_items|max_items|min_length|max_length|min_properties|max_properties|property_ordering|"
    rb'additional_properties|defs|ref)"'
)
_SNAKES = {
    "any_of": "anyOf",
    "min_items": "minItems",
    "max_items": "maxItems",
    "min_length": "minLength",
    "max_length": "maxLength",
    "min_properties": "minProperties",
    "max_properties": "maxProperties",
    "property_ordering": "propertyOrdering",
    "additional_properties": "additionalProperties",
    "defs": "$defs",
    "ref": "$ref",
}
_STRING, _TRUE, _NULL = Raw(b'"string"'), Raw(b"true"), b"null"
_CACHED_BYTES = 16384
MAX_NODES = 5000

Fields = dict[str, Raw]


class _Walk(Struct):
    """One translation: the whole schema, for references; what was left out; how much has been written."""

    root: Fields
    lost: dict[str, None] = {}
    nodes: int = 0


def subset(schema: Raw, field: str) -> tuple[Raw, tuple[str, ...]]:
    """`schema` in Gemini's subset and the keywords left out. Raises Unsupported, naming `field`."""
    data = bytes(schema)
    try:
        return _cached(data, field) if len(data) <= _CACHED_BYTES else _subset(data, field)
    except UNREADABLE as error:
        raise Unsupported(field, f"the schema cannot be read: {error}") from None


def _subset(data: bytes, field: str) -> tuple[Raw, tuple[str, ...]]:
    root = read_object(data)
    walk = _Walk(root)
    return Raw(encode(_schema(root, walk, (), field))), tuple(walk.lost)


# Agents send the same tools with every turn: their schemas are worked out once.
_cached = lru_cache(maxsize=512)(_subset)


def _object(raw: Raw) -> Fields:
    """A schema's fields; `true` and `false` are schemas too."""
    data = bytes(raw)
    return {} if data in (b"true", b"false") else read_object(data)


def _schema(fields: Fields, walk: _Walk, inside: tuple[str, ...], field: str) -> Fields:
    """One schema."""
    walk.nodes += 1
    if walk.nodes > MAX_NODES:
        raise Unsupported(field, f"the schema has more than {MAX_NODES} parts once its references are resolved")
    while "$ref" in fields:
        name = read_str(fields["$ref"])
        if name in inside:
            walk.lost["$ref"] = None
            return {"type": Raw(b'"object"'), **_text_only(fields)}
        inside = (*inside, name)
        fields = {**_resolve(name, walk, field), **{key: raw for key, raw in fields.items() if key != "$ref"}}
    if "allOf" in fields:
        fields = _merged(fields, walk, field)
        if "$ref" in fields or "allOf" in fields:
            return _schema(fields, walk, inside, field)
    if "const" in fields:
        fields = {**fields, "enum": Raw(b"[" + bytes(fields["const"]) + b"]")}
        del fields["const"]
    branches = _branches(fields)
    if branches is not None:
        return _any_of(fields, branches, walk, inside, field)
    return _plain(fields, walk, inside, field)


def _text_only(fields: Fields) -> Fields:
    return {key: fields[key] for key in ("title", "description") if key in fields}


def _resolve(name: str, walk: _Walk, field: str) -> Fields:
    """What a reference inside the schema points to: RFC 6901 below `#`."""
    if name == "#":
        return walk.root
    at = walk.root
    if not name.startswith("#/"):
        raise Unsupported(field, f"the reference {name[:80]} leads out of the schema")
    try:
        for step in name[2:].split("/"):
            at = _object(at[step.replace("~1", "/").replace("~0", "~")])
    except (KeyError, *UNREADABLE):
        raise Unsupported(field, f"the reference {name[:80]} leads nowhere") from None
    return at


def _merged(fields: Fields, walk: _Walk, field: str) -> Fields:
    """`allOf` joined with what stands beside it: properties and requirements add up, else the first counts."""
    result = {key: raw for key, raw in fields.items() if key != "allOf"}
    properties = read_object(result["properties"]) if "properties" in result else {}
    required = read_list(result["required"]) if "required" in result else []
    for raw in read_list(fields["allOf"]):
        branch = _object(raw)
        seen: set[str] = set()
        while "$ref" in branch and (name := read_str(branch["$ref"])) not in seen:
            seen.add(name)
            branch = {**_resolve(name, walk, field), **{key: raw for key, raw in branch.items() if key != "$ref"}}
        branch.pop("$ref", None)
        if "properties" in branch:
            properties.update(read_object(branch.pop("properties")))
        if "required" in branch:
            required += [name for name in read_list(branch.pop("required")) if name not in required]
        for key, value in branch.items():
            result.setdefault(key, value)
    if properties:
        result["properties"] = Raw(encode(properties))
    if required:
        result["required"] = Raw(encode(required))
    return result


def _branches(fields: Fields) -> list[Fields] | None:
    """The branches of a choice: of `anyOf`, of `oneOf`, or of several types; None for a plain schema."""
    for key in ("anyOf", "oneOf"):
        if key in fields:
            return [_object(raw) for raw in read_list(fields[key])]
    kinds = fields.get("type")
    if kinds is None or bytes(kinds)[:1] != b"[":
        return None
    return [{"type": kind} for kind in read_list(kinds)]


_OF_TYPE = {
    "array": frozenset(("items", "prefixItems", "minItems", "maxItems")),
    "object": frozenset(("properties", "required", "minProperties", "maxProperties", "propertyOrdering")),
    "string": frozenset(("minLength", "maxLength", "pattern", "format")),
    "number": frozenset(("minimum", "maximum")),
    "integer": frozenset(("minimum", "maximum")),
}
_TYPED = frozenset().union(*_OF_TYPE.values())


def _any_of(fields: Fields, branches: list[Fields], walk: _Walk, inside: tuple[str, ...], field: str) -> Fields:
    """A choice. `null` among its branches makes it nullable; a choice of one is no choice."""
    rest = {key: raw for key, raw in fields.items() if key not in ("anyOf", "oneOf", "type")}
    if "anyOf" in fields or "oneOf" in fields:
        rest |= {"type": fields["type"]} if "type" in fields and bytes(fields["type"])[:1] == b'"' else {}
    real = [branch for branch in branches if bytes(branch.get("type", b"")) != b'"null"']
    if len(real) < len(branches):
        rest["nullable"] = _TRUE
    done = []
    for branch in real:
        beside = dict(rest)
        if len(branch) == 1 and len(real) > 1 and bytes(branch.get("type", b""))[:1] == b'"':
            mine = _OF_TYPE.get(read_str(branch["type"]), frozenset())
            beside = {key: raw for key, raw in rest.items() if key not in _TYPED or key in mine}
        done.append(_schema({**beside, **branch}, walk, inside, field))
    if len(done) == 1:
        return done[0]
    return {"anyOf": Raw(encode(done))} if done else {"type": Raw(b'"null"')}


def _plain(fields: Fields, walk: _Walk, inside: tuple[str, ...], field: str) -> Fields:
    """A schema without choices and references."""
    result: Fields = {}
    remarks: list[str] = []
    for key, raw in fields.items():
        if key == "properties":
            properties = read_object(raw)
            found = {name: _schema(_object(child), walk, inside, field) for name, child in properties.items()}
            result[key] = Raw(encode(found))
        elif key == "items" and bytes(raw)[:1] != b"[":
            result[key] = Raw(encode(_schema(_object(raw), walk, inside, field) or {"type": _STRING}))
        elif key in ("prefixItems", "items"):
            walk.lost["prefixItems"] = None
        elif key == "enum":
            _enum(raw, result, remarks)
        elif key == "format" and bytes(raw).strip(b'"').decode() not in _FORMATS:
            remarks.append(f"Format: {read_str(raw)}.")
        elif key in KEPT:
            result[key] = raw
        elif key not in _SILENT or (key == "additionalProperties" and bytes(raw) not in (b"false", b"true")):
            walk.lost[key] = None
    _finish(result, fields, remarks)
    return result


def _enum(raw: Raw, result: Fields, remarks: list[str]) -> None:
    """Gemini's `enum` is of strings."""
    values = read_list(raw)
    if any(bytes(value) == _NULL for value in values):
        result["nullable"] = _TRUE
    real = [value for value in values if bytes(value) != _NULL]
    if all(bytes(value)[:1] == b'"' for value in real):
        if real:
            result["enum"] = Raw(encode(real))
    else:
        remarks.append("One of: " + ", ".join(bytes(value).decode() for value in real) + ".")


def _finish(result: Fields, fields: Fields, remarks: list[str]) -> None:
    """What Gemini insists on: a type for what has an enum, items for an array, requirements that exist."""
    if "enum" in result and "type" not in result:
        result["type"] = _STRING
    elif "properties" in result and "type" not in result:
        result["type"] = Raw(b'"object"')
    if bytes(result.get("type", b"")).lower() == b'"array"' and "items" not in result:
        result["items"] = Raw(encode({"type": _STRING}))
    if "required" in result:
        known = read_object(result["properties"]) if "properties" in result else {}
        names = [name for name in read_list(result["required"]) if read_str(name) in known]
        if names:
            result["required"] = Raw(encode(names))
        else:
            del result["required"]
    if remarks:
        told = read_str(fields["description"]) + " " if "description" in fields else ""
        result["description"] = Raw(encode(told + " ".join(remarks)))


def has_properties(schema: Raw) -> bool:
    """Whether an object schema has any property: Gemini refuses `parameters` without."""
    fields = read_object(schema)
    plain = bytes(fields.get("type", b"")).lower() == b'"object"'
    return not plain or bytes(fields.get("properties", b"{}")) != b"{}"


def to_json_schema(schema: Raw, field: str) -> Raw:
    """Gemini's subset as JSON Schema: small type names, null as a type, whole numbers unquoted. Raises Invalid."""
    data = bytes(schema)
    if _PROTO.search(data) is None:
        return schema
    try:
        return _cached_json_schema(data) if len(data) <= _CACHED_BYTES else _whole_json_schema(data)
    except UNREADABLE as error:
        raise Invalid(field, f"the schema cannot be read: {error}") from None


def _whole_json_schema(data: bytes) -> Raw:
    return Raw(encode(_json_schema(read_object(data))))


_cached_json_schema = lru_cache(maxsize=512)(_whole_json_schema)


def _json_schema(proto: Fields) -> Fields:
    fields = {_SNAKES.get(key, key): raw for key, raw in proto.items()}
    nullable = bytes(fields.pop("nullable", b"")) == b"true"
    order = fields.pop("propertyOrdering", None)
    if bytes(fields.get("type", b"")) in _TYPES:
        fields["type"] = Raw(bytes(fields["type"]).lower())
    elif bytes(fields.get("type", b"")) == b'"TYPE_UNSPECIFIED"':
        del fields["type"]
    if bytes(fields.get("format", b"")) == b'"enum"':
        del fields["format"]
    if "example" in fields:
        fields["examples"] = Raw(b"[" + bytes(fields.pop("example")) + b"]")
    for key in _COUNTS:
        if key in fields:
            fields[key] = Raw(bytes(fields[key]).strip(b'"'))
    if "properties" in fields:
        children = {name: _json_schema(read_object(child)) for name, child in read_object(fields["properties"]).items()}
        names = [name for raw in read_list(order) if (name := read_str(raw)) in children] if order else []
        fields["properties"] = Raw(encode({name: children[name] for name in dict.fromkeys([*names, *children])}))
    if "items" in fields:
        fields["items"] = Raw(encode(_json_schema(read_object(fields["items"]))))
    if "anyOf" in fields:
        fields["anyOf"] = Raw(encode([_json_schema(read_object(branch)) for branch in read_list(fields["anyOf"])]))
    if bytes(fields.get("type", b"")) in (b'"integer"', b'"number"') and "enum" in fields:
        fields["enum"] = Raw(encode([Raw(bytes(value).strip(b'"')) for value in read_list(fields["enum"])]))
    return _nullable(fields) if nullable else fields


def _nullable(fields: Fields) -> Fields:
    """The schema, or null."""
    if "enum" in fields:
        fields["enum"] = Raw(encode([*read_list(fields["enum"]), Raw(_NULL)]))
    if "type" in fields:
        fields["type"] = Raw(b"[" + bytes(fields["type"]) + b',"null"]')
    elif "anyOf" in fields:
        fields["anyOf"] = Raw(encode([*read_list(fields["anyOf"]), {"type": "null"}]))
    return fields
