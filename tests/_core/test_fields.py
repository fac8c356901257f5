"""The JSON field scanner: both twins against the same cases, against each other and against ``json``."""

import json
import time
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastgw._core import fields_py

try:
    from fastgw._core import fields_c
except ImportError:
    fields_c = None

NATIVE = pytest.mark.skipif(fields_c is None, reason="the native module was not compiled")
TWINS = [pytest.param(fields_py, id="pure"), pytest.param(fields_c, id="native", marks=NATIVE)]


@pytest.fixture(params=TWINS)
def fields(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def outcome(module: ModuleType, body: bytes) -> tuple[Any, ...]:
    """What a scan says: names and values, or the refusal (the field only of duplicates: it is what callers see)."""
    try:
        found = module.scan(body)
    except fields_py.FieldError as error:
        return (
            error.code,
            error.field,
            0 <= error.offset <= len(body),
            error.offset if error.code == "duplicate_field" else None,
        )
    return "ok", [(name, found.get(name)) for name in found.names()]


def refuse_constant(text: str) -> None:
    raise ValueError(text)


def accepted_by_json(body: bytes) -> str:
    """The verdict of the standard library plus our rules: UTF-8 without BOM, no NaN, an object, no name twice."""
    try:
        value = json.loads(
            body.decode("utf-8"), parse_int=str, parse_constant=refuse_constant, object_pairs_hook=lambda p: ("{", p)
        )
    except ValueError:
        return "invalid_json"
    if not isinstance(value, tuple):
        return "invalid_json"
    names = [name for name, _ in value[1]]
    return "ok" if len(set(names)) == len(names) else "duplicate_field"


def refusal(fields: ModuleType, body: bytes) -> fields_py.FieldError:
    with pytest.raises(fields.FieldError) as caught:
        fields.scan(body)
    return caught.value


CHAT = (
    b'{ "model": "fast", "stream":true,\n "max_tokens": 64 , "user":null,"temperature":0.5,'
    b' "messages":[{"role":"user","content":"h\\u00e9llo \\"x\\""}],"stop":"\\n" }'
)


def test_values_are_the_bytes_as_written(fields: ModuleType) -> None:
    found = fields.scan(CHAT)
    assert found.names() == [b"model", b"stream", b"max_tokens", b"user", b"temperature", b"messages", b"stop"]
    assert found.get(b"messages") == b'[{"role":"user","content":"h\\u00e9llo \\"x\\""}]'
    assert found.get(b"max_tokens") == b"64"
    assert found.get(b"absent") is None
    assert (found.has(b"user"), found.has(b"absent"), found.has(b"mode")) == (True, False, False)


def test_typed_reads(fields: ModuleType) -> None:
    found = fields.scan(CHAT)
    assert (found.text(b"model"), found.text(b"stop"), found.text(b"user"), found.text(b"absent")) == (
        "fast",
        "\n",
        None,
        None,
    )
    assert (found.flag(b"stream"), found.flag(b"user"), found.flag(b"absent")) == (True, False, False)
    assert (found.number(b"max_tokens"), found.number(b"user"), found.number(b"absent")) == (64, None, None)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (rb'{"a":"\b\f\n\r\t\/\\\""}', '\b\f\n\r\t/\\"'),
        (rb'{"a":"\u0041\u00e9\u20ac\ud83d\ude00"}', "Aé€😀"),
        ('{"a":"é€😀x"}'.encode(), "é€😀x"),
        (b'{"a":""}', ""),
        (rb'{"a":"\\u0041"}', "\\u0041"),
    ],
)
def test_text_is_decoded(fields: ModuleType, body: bytes, text: str) -> None:
    assert fields.scan(body).text(b"a") == text


@pytest.mark.parametrize("value", [b"1", b"true", b"[]", b"{}", rb'"\ud800"', rb'"x\udc00\ud800y"', rb'"\ud800A"'])
def test_text_refuses_other_values_and_lone_surrogates(fields: ModuleType, value: bytes) -> None:
    found = fields.scan(b'{"a": ' + value + b"}")
    with pytest.raises(fields.FieldError, match="'a' must be a string") as caught:
        found.text(b"a")
    assert (caught.value.code, caught.value.field, caught.value.offset) == ("invalid_type", "a", 6)


@pytest.mark.parametrize("value", [b'"true"', b"1", b"[]"])
def test_flag_refuses_other_values(fields: ModuleType, value: bytes) -> None:
    with pytest.raises(fields.FieldError, match="'a' must be true or false") as caught:
        fields.scan(b'{"a":' + value + b"}").flag(b"a")
    assert caught.value.code == "invalid_type"


@pytest.mark.parametrize("value", [b"-1", b"-0", b"1.0", b"1e3", b'"1"', b"true", b"9" * 19, b"1" * 100_000])
def test_number_refuses_other_values(fields: ModuleType, value: bytes) -> None:
    with pytest.raises(fields.FieldError, match="'a' must be a whole number") as caught:
        fields.scan(b'{"a":' + value + b"}").number(b"a")
    assert caught.value.code == "invalid_type"


@pytest.mark.parametrize("value", [0, 7, 10, 10**18 - 1])
def test_number(fields: ModuleType, value: int) -> None:
    assert fields.scan(b'{"a":%d}' % value).number(b"a") == value


ACCEPTED = [
    *(b"{}", b" \t\r\n{ \n} \r\t", b'{"":1}', b'{"a":-0}', b'{"a":-0.0e+00}', b'{"a":1E400}', b'{"a":0.10}'),
    *(b'{"a":[]}', b'{"a":[ ]}', b'{"a":[{},[],""]}', b'{"a":{"b":{"b":1,"b":2}}}', b'{"a":"\x7f"}', b'{"a":"/"}'),
    *(rb'{"a":"\ud800"}', rb'{"a":"\udc00\ud800"}', rb'{"\ud800":1}', b'{"a":"\xf4\x8f\xbf\xbf\xef\xbf\xbf"}'),
    *(b'{"a":"\xed\x9f\xbf\xee\x80\x80\xe0\xa0\x80\xf0\x90\x80\x80\xc2\x80"}', b'{"a":"' + b"x" * 40 + b'"}'),
    *(b'{"a":1,"A":2}', rb'{"a":"\uFFFF\u0000"}', b'{"a":[1,2,{"b":[null,true,false]}],"c":0}'),
]
REFUSED = [
    *(b"", b" ", b"null", b"[]", b'"a"', b"1", b"{", b"}", b"{{}}", b"{}{}", b"{} x", b"{}\x00", b"\x00{}", b"{},"),
    *(b"\xef\xbb\xbf{}", b"{}\xef\xbb\xbf", b"\xff\xfe{\x00}\x00", b"{\x0c}", b"{\xc2\xa0}", b"{/**/}", b"{'a':1}"),
    *(b"{a:1}", b'{"a"}', b'{"a":}', b'{"a" 1}', b'{"a"::1}', b'{"a":1,}', b'{,"a":1}', b'{"a":1,,"b":2}'),
    *(b'{"a":1 "b":2}', b'{"a":1', b'{"a":', b'{"a', b'{"a"', b'{"a":1;}', b"{1:1}", b"{null:1}", b'{"a":1]'),
    *(b'{"a":[1,]}', b'{"a":[,1]}', b'{"a":[1 2]}', b'{"a":[1}', b'{"a":[}', b'{"a":{]}', b'{"a":{"b"}}', b'{"a":[[]}'),
    *(b'{"a":{"b":1,}}', b'{"a":{"b":1 2}}', b'{"a":[1;2]}', b'{"a":[1]]}', b'{"a":{"b":1}'),
    *(b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}', b'{"a":nan}', b'{"a":True}', b'{"a":tru}', b'{"a":nul'),
    *(b'{"a":truex}', b'{"a":nulll}', b'{"a":falsy}', b'{"a":undefined}'),
    *(b'{"a":01}', b'{"a":-}', b'{"a":-01}', b'{"a":+1}', b'{"a":.5}', b'{"a":5.}', b'{"a":1e}', b'{"a":1e+}'),
    *(b'{"a":0x10}', b'{"a":1_0}', b'{"a":1.e1}', b'{"a":--1}', b'{"a":1.2.3}', b'{"a":00}', b'{"a":1e1.5}', b'{"a":-'),
    *(b'{"a":"', b'{"a":"\\', b'{"a":"\\"', b'{"a":"\\u', b'{"a":"\\u00"}', b'{"a":"\\u00g0"}', b'{"a":"\\x41"}'),
    *(
        b'{"a":"\\a"}',
        b'{"a":"\\U0041"}',
        b'{"a":"\n"}',
        b'{"a":"\x00"}',
        b'{"a":"\x1f"}',
        b'{"a\t":1}',
        b'{"a":"\\\n"}',
    ),
    *(b'{"a":"\x80"}', b'{"a":"\xc0\xaf"}', b'{"a":"\xc1\x80"}', b'{"a":"\xe0\x80\xaf"}', b'{"a":"\xed\xa0\x80"}'),
    *(b'{"a":"\xf0\x80\x80\x80"}', b'{"a":"\xf4\x90\x80\x80"}', b'{"a":"\xf5\x80\x80\x80"}', b'{"a":"\xff"}'),
    *(b'{"a":"\xe2\x82"}', b'{"a":"\xe2\x82', b'{"a":"\xf0\x9f\x98"}', b'{"a":"\xc3"}', b'{"a":"\xe2\x28\xa1"}'),
    *(b'{"a":"x\xc3', b'{"\xff":1}', b'{"a":"\\\xc3\xa9"}', b'{"a":"\\u00e\xc3\xa9"}'),
]


@pytest.mark.parametrize("body", ACCEPTED)
def test_accepts(fields: ModuleType, body: bytes) -> None:
    assert outcome(fields, body) == outcome(fields_py, body)
    assert outcome(fields, body)[0] == accepted_by_json(body) == "ok"


@pytest.mark.parametrize("body", REFUSED)
def test_refuses(fields: ModuleType, body: bytes) -> None:
    error = refusal(fields, body)
    assert error.code == accepted_by_json(body) == "invalid_json"
    assert f"at byte {error.offset}" in error.message


@pytest.mark.parametrize("body", [CHAT, *ACCEPTED])
def test_every_truncation_is_refused(fields: ModuleType, body: bytes) -> None:
    whole = body.rstrip(b" \t\r\n")
    for size in range(len(whole)):
        assert refusal(fields, whole[:size]).code == "invalid_json"


@pytest.mark.parametrize("at", range(40))
@pytest.mark.parametrize("bad", [b"\x00", b"\x1f", b"\xff", b"\\x"])
def test_no_stretch_of_a_string_escapes_the_check(fields: ModuleType, at: int, bad: bytes) -> None:
    assert refusal(fields, b'{"a":"' + b"x" * at + bad + b"x" * (40 - at) + b'"}').offset == 6 + at


def test_messages_hold_no_values(fields: ModuleType) -> None:
    for body in (b'{"a":"secret\x01"}', b'{"a":secret}', b'{"a":"secret","a":1}', b'secret{"a":1}'):
        error = refusal(fields, body)
        assert "secret" not in error.message
        assert "secret" not in str(error)
    with pytest.raises(fields.FieldError) as caught:
        fields.scan(b'{"a":"secret"}').number(b"a")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"model":1,"model":1}', "model"),
        (rb'{"model":1,"x":2,"mod\u0065l":3}', "model"),
        (rb'{"\u00e9":1,' + '"é":2}'.encode(), "é"),
        (rb'{"\ud83d\ude00":1,' + '"😀":2}'.encode(), "😀"),
        (b'{"":1,"":2}', ""),
        (rb'{"\ud800":1,"\ud800":2}', "?"),
        (b'{"' + b"n" * 500 + b'":1,"' + b"n" * 500 + b'":1}', "n" * 64 + "..."),
        (b"{" + b"".join(b'"k%d":0,' % n for n in range(100)) + b'"k7":0}', "k7"),
    ],
)
def test_duplicates_are_found_decoded(fields: ModuleType, body: bytes, field: str) -> None:
    error = refusal(fields, body)
    assert (error.code, error.field) == ("duplicate_field", field)
    assert len(error.message) < 200


def test_a_broken_document_is_called_broken_before_duplicate(fields: ModuleType) -> None:
    assert refusal(fields, b'{"a":1,"a":2').code == "invalid_json"


def test_names_are_decoded(fields: ModuleType) -> None:
    found = fields.scan(rb'{"mod\u0065l":"x","\ud83d\ude00":1,"\ud800":2}')
    assert found.names() == [b"model", "😀".encode(), b"\xed\xa0\x80"]
    assert found.text(b"model") == "x"
    assert found.replace({b"model": b'"y"'}) == rb'{"mod\u0065l":"y","\ud83d\ude00":1,"\ud800":2}'


@pytest.mark.parametrize("kind", [b"[]", b"{}"])
@pytest.mark.parametrize(("depth", "code"), [(511, "ok"), (512, "invalid_json"), (100_000, "invalid_json")])
def test_depth_is_bounded(fields: ModuleType, kind: bytes, depth: int, code: str) -> None:
    opening = b"[" if kind == b"[]" else b'{"k":'
    inner = kind if depth < 100_000 else b""
    body = b'{"a":' + opening * (depth - 1) + inner + kind[1:] * (depth - 1) + b"}"
    assert outcome(fields, body)[0] == code


def many(count: int) -> bytes:
    return b"{" + b",".join(b'"k%d":%d' % (n, n) for n in range(count)) + b"}"


@pytest.mark.parametrize("count", [31, 32, 33, 34, 4096])
def test_many_fields(fields: ModuleType, count: int) -> None:
    found = fields.scan(many(count))
    assert [found.number(b"k%d" % n) for n in range(count)] == list(range(count))
    assert found.get(b"k%d" % count) is None
    assert (
        found.replace({b"k1": b"true", b"new": b"1"})
        == many(count).replace(b'"k1":1,', b'"k1":true,')[:-1] + b',"new":1}'
    )


BOMBS = {
    "a million fields": many(1_000_000),
    "nested lists": b'{"a":' + b"[" * 1_000_000,
    "nested objects": b'{"a":' * 1_000_000,
    "a million of one name": b"{" + b'"a":0,' * 1_000_000 + b'"a":0}',
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_cheaply(fields: ModuleType, name: str) -> None:
    body = BOMBS[name]
    start = time.process_time()
    assert refusal(fields, body).code == "invalid_json"
    if fields is not fields_py:
        assert time.process_time() - start <= 5 * 0.050 * len(body) / 1e6


def test_large_but_legal(fields: ModuleType) -> None:
    text = b"x" * 10_000_000
    number = b"7" * 100_000
    elements = b"[" + b"{}," * 300_000 + b"{}]"
    found = fields.scan(b'{"t":"' + text + b'","n":' + number + b',"e":' + elements + b"}")
    assert found.get(b"n") == number
    assert found.get(b"e") == elements
    assert found.text(b"t") == text.decode()


CHANGES: list[tuple[bytes, dict[bytes, bytes | None], bytes]] = [
    (b'{"a":1, "b":2}', {b"a": b"9"}, b'{"a":9, "b":2}'),
    (b'{ "a" : 1 , "b" : 2 }', {b"b": b"[]"}, b'{ "a" : 1 , "b" : [] }'),
    (b'{ "a" : 1 , "b" : 2 }', {b"a": None}, b'{ "b" : 2 }'),
    (b'{ "a" : 1 , "b" : 2 }', {b"b": None}, b'{ "a" : 1 }'),
    (b'{"a":1,"b":2,"c":3}', {b"b": None}, b'{"a":1,"c":3}'),
    (b'{"a":1,"b":2,"c":3}', {b"a": None, b"b": None}, b'{"c":3}'),
    (b'{"a":1,"b":2,"c":3}', {b"b": None, b"c": None}, b'{"a":1}'),
    (b'{"a":1,"b":2,"c":3}', {b"a": None, b"c": None, b"b": b"0"}, b'{"b":0}'),
    (b' { "a":1 } ', {b"a": None}, b" {} "),
    (b'{ "a":1 }', {b"a": None, b"n": b"0"}, b'{"n":0}'),
    (b"{ }", {b"n": b"0", b"m": b'"x"'}, b'{"n":0,"m":"x" }'),
    (b'{\n "a": 1\n}\n', {b"n": b"0"}, b'{\n "a": 1,"n":0\n}\n'),
    (b'{"a":1 ,"b":2 ,"c":3 }', {b"c": None, b"n": b"0"}, b'{"a":1 ,"b":2,"n":0 }'),
    (b'{"a":1}', {b'q"\\\n': b"0"}, b'{"a":1,"q\\"\\\\\\n":0}'),
    (b'{"a":1}', {"é".encode(): b"0"}, b'{"a":1,"\\u00e9":0}'),
    (b'{"a":1}', {b"a": b" 2 "}, b'{"a": 2 }'),
]


@pytest.mark.parametrize(("body", "changes", "expected"), CHANGES)
def test_replace(fields: ModuleType, body: bytes, changes: dict[bytes, bytes | None], expected: bytes) -> None:
    assert fields.scan(body).replace(changes) == expected


@pytest.mark.parametrize("changes", [{}, {b"model": b'"fast"'}, {b"absent": None}, {b"stream": b"true", b"no": None}])
def test_replace_without_effect_is_the_same_object(fields: ModuleType, changes: dict[bytes, bytes | None]) -> None:
    body = bytes(bytearray(CHAT))
    assert fields.scan(body).replace(changes) is body


@pytest.mark.parametrize("value", [b"", b" ", b"x", b'1,"b":2', b'"x', b"1}", b"NaN", b"\xff", b"1 2", b"[" * 600])
def test_replace_refuses_what_is_not_one_value(fields: ModuleType, value: bytes) -> None:
    with pytest.raises(ValueError, match="'a' is not a JSON value"):
        fields.scan(b'{"a":1}').replace({b"a": value})


def test_replace_refuses_a_name_that_is_not_utf8(fields: ModuleType) -> None:
    with pytest.raises(ValueError):
        fields.scan(b'{"a":1}').replace({b"\xff": b"1"})


def test_forbidden_is_the_first_by_name_or_prefix(fields: ModuleType) -> None:
    names, prefixes = frozenset({b"api_base", b"api_key"}), (b"aws_", b"vertex_")
    assert fields.scan(CHAT).forbidden(names, prefixes) is None
    assert fields.scan(rb'{"a":1,"aws_x":1,"api_key":2}').forbidden(names, prefixes) == b"aws_x"
    assert fields.scan(rb'{"a":1,"api_key":2,"aws_x":1}').forbidden(names, prefixes) == b"api_key"
    assert fields.scan(rb'{"a":1,"api\u005fbase":2}').forbidden(names, prefixes) == b"api_base"
    assert fields.scan(b'{"aws":1,"api_keys":1,"x_aws_":1}').forbidden(names, prefixes) is None
    assert fields.scan(many(50)[:-1] + b',"vertex_a":1}').forbidden(names, prefixes) == b"vertex_a"
    assert fields.scan(CHAT).forbidden(frozenset(), ()) is None


@pytest.mark.parametrize("body", [bytearray(b"{}"), "{}", None, memoryview(b"{}")])
def test_a_body_is_bytes(fields: ModuleType, body: Any) -> None:
    with pytest.raises(TypeError):
        fields.scan(body)


@NATIVE
@pytest.mark.parametrize("name", [None, "model", 1])
def test_names_are_bytes(name: Any) -> None:
    found = fields_c.scan(CHAT)
    for read in (found.get, found.has, found.text, found.flag, found.number):
        with pytest.raises(TypeError):
            read(name)
    for call in (lambda: found.replace({name: b"1"}), lambda: found.forbidden(frozenset({name}), ())):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError):
        found.replace({b"a": 1})
    with pytest.raises(TypeError):
        found.forbidden(frozenset(), (name,))


@NATIVE
def test_an_unread_native_object_is_empty() -> None:
    assert type(fields_c.scan(b"{}"))().names() == []


NAMES = st.text(max_size=6) | st.sampled_from(["model", "stream", "a", "b"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(NAMES, JSON, max_size=40)
BLANKS = st.text(" \t\n\r", max_size=3)


def escaped(name: str) -> str:
    """The same JSON string with every UTF-16 unit as an escape."""
    units = name.encode("utf-16-be", "surrogatepass").hex()
    return '"' + "".join("\\u" + units[at : at + 4] for at in range(0, len(units), 4)) + '"'


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Valid documents in many spellings: random blanks, plain UTF-8 or escapes, in names too."""
    ascii_only, indent = draw(st.booleans()), draw(st.none() | BLANKS)
    comma, colon = draw(BLANKS) + "," + draw(BLANKS), draw(BLANKS) + ":" + draw(BLANKS)
    members = []
    for name, value in draw(OBJECTS).items():
        spelled = escaped(name) if draw(st.booleans()) else json.dumps(name, ensure_ascii=ascii_only)
        members.append(spelled + colon + json.dumps(value, ensure_ascii=ascii_only, indent=indent))
    text = "{" + draw(BLANKS) + comma.join(members) + draw(BLANKS) + "}"
    return (draw(BLANKS) + text + draw(BLANKS)).encode("utf-8", "replace")


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A valid document after a few edits with bytes that matter to the grammar."""
    body = bytearray(draw(documents()))
    scraps = st.sampled_from([*(bytes([byte]) for byte in b'{}[]",:\\0-.eE+tfn \n\x00\x1f\x80\xc3\xed\xff/u')])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 2))] = draw(scraps | st.sampled_from([b"\\u", b"\\ud83d", b'"a":1,', b""]))
    return bytes(body)


@NATIVE
@settings(max_examples=400, deadline=None)
@given(documents() | mutations() | st.binary(max_size=40))
def test_twins_and_json_agree(body: bytes) -> None:
    assert outcome(fields_c, body) == outcome(fields_py, body)
    assert outcome(fields_c, body)[0] == accepted_by_json(body)


@NATIVE
@settings(max_examples=200, deadline=None)
@example({}, {"\x7f": []}, b"{}")
@given(OBJECTS, st.dictionaries(NAMES, st.none() | JSON, max_size=5), documents())
def test_replace_is_a_dict_update(original: dict[str, Any], changes: dict[str, Any], other: bytes) -> None:
    for body in (json.dumps(original).encode(), other):
        expected = {name.encode("utf-8", "surrogatepass"): value for name, value in json.loads(body).items()}
        raw: dict[bytes, bytes | None] = {}
        for name, value in changes.items():
            key = name.encode("utf-8", "surrogatepass")
            raw[key] = None if value is None else json.dumps(value).encode()
            expected.pop(key, None) if value is None else expected.update({key: value})
        spliced = fields_c.scan(body).replace(raw)
        assert spliced == fields_py.scan(body).replace(raw)
        assert {name.encode("utf-8", "surrogatepass"): value for name, value in json.loads(spliced).items()} == expected


@NATIVE
@settings(max_examples=200, deadline=None)
@given(documents())
def test_typed_reads_agree(body: bytes) -> None:
    for name in fields_py.scan(body).names():
        for read in ("text", "flag", "number"):
            results = []
            for module in (fields_py, fields_c):
                try:
                    results.append(getattr(module.scan(body), read)(name))
                except fields_py.FieldError as error:
                    results.append((error.code, error.message, error.offset, error.field))
            assert results[0] == results[1]


@NATIVE
def test_the_native_module_has_every_public_name() -> None:
    assert not [name for name in fields_py.__all__ if not hasattr(fields_c, name)]
    assert (fields_c.MAX_DEPTH, fields_c.MAX_FIELDS) == (fields_py.MAX_DEPTH, fields_py.MAX_FIELDS)


@pytest.mark.parametrize("name", ["", "model", 'q"\\\n\x7f', "é😀"])
def test_quote(fields: ModuleType, name: str) -> None:
    assert json.loads(fields.quote(name.encode())) == name


def test_quote_refuses_what_is_not_utf8(fields: ModuleType) -> None:
    with pytest.raises(ValueError):
        fields.quote(b"\xff")
