"""The body after the names in it were looked for: what is taken out, what is put in, and what the call then knows."""

import json
from types import SimpleNamespace

import pytest

from fastgw._core import fields
from fastgw.dialects.openai import CHAT, EMBEDDINGS
from fastgw.dialects.registry import ANTHROPIC, GEMINI, RESPONSES
from fastgw.errors import GatewayError
from fastgw.gateway.names import prepare
from fastgw.gateway.routes import Endpoint, Match
from tests.gateway.support import call_of, key_of


def prepared(body, dialect=CHAT, *, model="", own="", default=""):
    """(call, body) as they are after `prepare`."""
    scanned = fields.scan(body)
    live = SimpleNamespace(plan=SimpleNamespace(default_model=default))
    key = key_of()
    call = call_of(live, key=SimpleNamespace(name=key.name, default_model=own))
    call.model_name = model or scanned.text(b"model") or ""
    return call, prepare(call, Match(Endpoint("chat", dialect), model), scanned)


@pytest.mark.parametrize("dialect", [CHAT, EMBEDDINGS, ANTHROPIC, RESPONSES, GEMINI])
def test_a_body_that_names_its_model_stays_as_it_is(dialect):
    body = b' { "model" : "fast", "x": 1e400 }'
    call, after = prepared(body, dialect, default="other")
    assert after.replace({}) is body
    assert (call.model_name, call.wishes) == ("fast", None)


@pytest.mark.parametrize("body", [b'{"x":1}', b'{"x":1,"model":null}', b'{"x":1,"model":""}', b"{}"])
def test_the_default_is_put_in(body):
    call, after = prepared(body, default="gpt-4")
    assert (call.model_name, after.text(b"model")) == ("gpt-4", "gpt-4")
    call, after = prepared(body, default="gpt-4", own="mine")
    assert (call.model_name, after.text(b"model")) == ("mine", "mine")


def test_without_a_default_nothing_is_made_up():
    call, after = prepared(b'{"x":1}')
    assert (call.model_name, after.replace({})) == ("", b'{"x":1}')


def test_a_model_in_the_path_is_the_model():
    call, after = prepared(b'{"contents":[]}', GEMINI, model="fast", default="other")
    assert (call.model_name, after.has(b"model")) == ("fast", False)


def test_wishes_are_taken_out():
    call, after = prepared(b'{"model":"a","models":["b","c"],"n":1,"provider":{"only":["x"]}}')
    assert after.replace({}) == b'{"model":"a","n":1}'
    assert call.model_name == "a"
    assert (call.wishes.models, call.wishes.provider) == (("b", "c"), b'{"only":["x"]}')
    assert call.wishes.passed.replace({}) == b'{"model":"a","n":1,"provider":{"only":["x"]}}'


def test_the_first_of_several_is_the_model_where_there_is_no_other():
    call, after = prepared(b'{"models":["b","c"],"provider":null}', default="other")
    assert json.loads(after.replace({})) == {"model": "b"}
    assert (call.model_name, call.wishes.models, call.wishes.provider) == ("b", ("b", "c"), b"null")


@pytest.mark.parametrize("more", [b'"models":null', b'"models":[]', b'"provider":null', b'"models":[],"provider":null'])
def test_wishes_that_say_nothing_are_none(more):
    call, after = prepared(b'{"model":"a",' + more + b"}")
    assert (call.wishes, after.replace({})) == (None, b'{"model":"a"}')


def test_in_geminis_dialect_they_are_fields_like_any_other():
    body = b'{"contents":[],"models":3,"provider":4}'
    call, after = prepared(body, GEMINI, model="a")
    assert (call.wishes, after.replace({})) == (None, body)


def test_names_that_are_none_are_refused():
    with pytest.raises(GatewayError) as caught:
        prepared(b'{"model":"a","models":"b"}')
    assert (caught.value.kind, caught.value.param) == ("invalid_type", "models")
