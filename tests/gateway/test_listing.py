"""Lists of models in three shapes: who gets which, what is in them, and their pages."""

import json
from types import SimpleNamespace

import pytest

from fastgw.errors import GatewayError
from fastgw.gateway.listing import ANTHROPIC, GEMINI, OPENAI, described, listed, shape_of

NAMES = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("path", "header", "shape"),
    [
        (b"/v1/models", b"authorization", OPENAI),
        (b"/openai/v1/models", b"authorization", OPENAI),
        (b"/v1/models", b"anthropic-version", ANTHROPIC),
        (b"/v1/models/m", b"Anthropic-Version", ANTHROPIC),
        (b"/anthropic/v1/models", b"x-api-key", ANTHROPIC),
        (b"/v1/models", b"x-goog-api-key", GEMINI),
        (b"/v1/models", b"x-goog-api-client", GEMINI),
        (b"/v1beta/models", b"authorization", GEMINI),
        (b"/genai/v1/models/m", b"authorization", GEMINI),
    ],
)
def test_shapes(path, header, shape):
    assert shape_of(SimpleNamespace(path=path, headers=[(b"host", b"h"), (header, b"x")])) is shape


def anthropic(query=b""):
    return json.loads(listed(ANTHROPIC, NAMES, query))


def gemini(query=b""):
    return json.loads(listed(GEMINI, NAMES, query))


def test_openais():
    answer = json.loads(listed(OPENAI, ["a"], b"limit=x"))
    assert answer == {"object": "list", "data": [{"id": "a", "object": "model", "created": 0, "owned_by": "fastgw"}]}
    assert json.loads(described(OPENAI, "a")) == answer["data"][0]


def test_anthropics():
    answer = anthropic()
    assert [one["id"] for one in answer["data"]] == NAMES
    assert (answer["has_more"], answer["first_id"], answer["last_id"]) == (False, "a", "e")
    assert answer["data"][0] == json.loads(described(ANTHROPIC, "a"))
    assert answer["data"][0]["created_at"] == "1970-01-01T00:00:00Z"
    assert json.loads(listed(ANTHROPIC, [], b"")) == {
        "data": [], "has_more": False, "first_id": None, "last_id": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "names", "more"),
    [
        (b"limit=2", "ab", True), (b"limit=5", "abcde", False), (b"limit=2&after_id=b", "cd", True),
        (b"limit=2&after_id=d", "e", False), (b"after_id=e", "", False), (b"limit=2&before_id=d", "bc", True),
        (b"limit=2&before_id=c", "ab", False), (b"before_id=a", "", False),
    ],
)  # fmt: skip
def test_anthropics_pages(query, names, more):
    answer = anthropic(query)
    assert ("".join(one["id"] for one in answer["data"]), answer["has_more"]) == (names, more)


def test_geminis_pages():
    assert [one["name"] for one in gemini()["models"]] == [f"models/{name}" for name in NAMES]
    assert "nextPageToken" not in gemini()
    first = gemini(b"pageSize=3")
    assert ([one["displayName"] for one in first["models"]], first["nextPageToken"]) == (["a", "b", "c"], "c")
    rest = gemini(b"pageSize=3&pageToken=c&queryBase=true")
    assert ([one["displayName"] for one in rest["models"]], "nextPageToken" in rest) == (["d", "e"], False)
    assert json.loads(described(GEMINI, "x/y"))["name"] == "models/x/y"


@pytest.mark.parametrize(
    ("shape", "query", "field"),
    [
        (ANTHROPIC, b"limit=0", "limit"), (ANTHROPIC, b"limit=1001", "limit"), (ANTHROPIC, b"limit=-1", "limit"),
        (ANTHROPIC, b"limit=x", "limit"), (ANTHROPIC, b"after_id=z", "after_id"), (GEMINI, b"pageToken=z", "pageToken"),
        (ANTHROPIC, b"before_id=z", "before_id"), (GEMINI, b"pageSize=99999", "pageSize"),
        (ANTHROPIC, b"after_id=%ff", "after_id"), (ANTHROPIC, b"limit=\xb2", "limit"),
    ],
)  # fmt: skip
def test_pages_that_cannot_be_given(shape, query, field):
    with pytest.raises(GatewayError) as caught:
        listed(shape, NAMES, query)
    assert (caught.value.kind, caught.value.param) == ("bad_request", field)
