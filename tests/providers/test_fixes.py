"""The few changes of a request that are code."""

import inspect
import json

import pytest

from fastgw._core import fields
from fastgw.providers import PROVIDERS, fixes


def fixed(fix, body):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = fields.scan(raw)
    changes, lost = fix(given)
    return given.replace(changes), lost


def test_the_role_developer_goes_by_its_first_name():
    body = {"messages": [{"role": "developer", "content": "a"}, {"role": "user", "content": "developer"}]}
    raw, lost = fixed(fixes.system_only, body)
    assert [one["role"] for one in json.loads(raw)["messages"]] == ["system", "user"]
    assert json.loads(raw)["messages"][1] == body["messages"][1]
    assert lost == []


def test_names_go_but_for_those_of_tools():
    body = {
        "messages": [{"role": "user", "name": "ann", "content": "x"}, {"role": "tool", "name": "f", "content": "y"}]
    }
    raw, lost = fixed(fixes.no_names, body)
    assert json.loads(raw)["messages"] == [{"role": "user", "content": "x"}, body["messages"][1]]
    assert lost == ["messages.name"]


@pytest.mark.parametrize("fix", [fixes.system_only, fixes.no_names])
@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":[{"role":"user","content":"\\u00e9 1e400"}]}', b"{}", b'{"messages":"\\"name\\" developer"}',
        b'{"messages":[1,"developer",{"name":2}]}', b'{"messages":null}',
        b'{"messages":[{"role":"user","content":[{"name":"x","developer":1e400}]}]}',
    ],
)  # fmt: skip
def test_what_does_not_concern_them_passes_untouched(fix, body):
    assert fixed(fix, body) == (body, [])


def test_values_beside_a_fix_keep_their_spelling():
    body = b'{"messages":[{"role":"developer","content":"\\u00e9","n":1e400,"m":9007199254740993}]}'
    raw, _ = fixed(fixes.system_only, body)
    assert b'"content":"\\u00e9","n":1e400,"m":9007199254740993' in raw


def test_a_fix_is_short():
    used = {one.fix_request for one in PROVIDERS.values() if one.fix_request}
    assert used
    assert all(len(inspect.getsource(fix).splitlines()) <= 20 for fix in used)
