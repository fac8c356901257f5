"""A plan bound to a worker: its policies in order, and the models each key may see."""

import asyncio
import json

import msgspec
import pytest

from fastgw._core import table as shared
from fastgw.gateway.listing import ANTHROPIC, GEMINI
from fastgw.gateway.live import Live
from fastgw.upstream.client import Client
from tests.plan.support import PROVIDERS, compiled

TEXT = (
    PROVIDERS
    + """
models:
  fast: {targets: [{provider: up, model: m}]}
  slow: {targets: [{provider: up, model: m}], limits: {requests: 5/s}}
keys:
  - {name: all, secret: abcdefgh}
  - {name: one, secret: abcdefgi, models: [fast]}
  - {name: none, secret: abcdefgj, models: []}
  - {name: some, secret: abcdefgk, models: ["s*"]}
expose_facts: false
"""
)


@pytest.fixture
async def bind(tmp_path):
    client = Client(asyncio.get_running_loop())
    table = shared.Table.open(str(tmp_path / "live-table"), slots=64, lanes=1, counters=4096, create=True)
    lane = table.claim_lane()
    yield lambda text=TEXT, **more: Live(compiled(tmp_path, text, **more), client, table, lane.book())
    await client.close()
    lane.close()
    table.close()


def ids(live, key):
    body = json.loads(live.models_json(key))
    assert body["object"] == "list"
    assert all(set(one) == {"id", "object", "created", "owned_by"} and one["object"] == "model" for one in body["data"])
    return [one["id"] for one in body["data"]]


async def test_a_key_sees_the_models_it_may_use(bind):
    live = bind()
    keys = {key.name: key for key in live.plan.keys}
    assert {name: ids(live, key) for name, key in keys.items()} == {
        "all": ["fast", "slow"],
        "one": ["fast"],
        "none": [],
        "some": ["slow"],
    }
    assert json.loads(live.model_json(keys["one"], "fast"))["id"] == "fast"
    assert live.model_json(keys["one"], "slow") is None
    assert live.model_json(keys["none"], "fast") is None
    assert live.model_json(keys["all"], "nope") is None


async def test_wildcards_are_listed_as_such_and_known_by_every_name_below(bind):
    live = bind(None, environ={"OPENAI_API_KEY": "sk-x"})
    (key,) = live.plan.keys
    assert ids(live, key) == ["openai/*", "*"]
    assert json.loads(live.model_json(key, "openai/gpt-4o"))["id"] == "openai/gpt-4o"
    assert json.loads(live.model_json(key, "gpt-4o"))["id"] == "gpt-4o"


async def test_policies_are_bound_in_their_order(bind):
    live = bind()
    assert (len(live.head), len(live.body)) == (1, 2)
    assert live.body[-1] == live.limiter.enter, "limits are taken last, when nothing else can refuse"


async def test_what_is_read_on_every_call_is_at_hand(bind):
    live = bind()
    assert live.revision_header == (b"x-fastgw-revision", b"7")
    assert (live.expose_facts, live.revision, live.options) == (False, 7, live.plan.options)


async def test_a_second_plan_keeps_the_pools_of_the_first(bind):
    first, second = bind(), bind(TEXT.replace("fast", "quick"))
    assert first.routes.exact["fast"].ways[0].pool is second.routes.exact["quick"].ways[0].pool


ALIASED = (
    TEXT.replace("secret: abcdefgh}", "secret: abcdefgh, aliases: {fast: slow, mine: up/x, lost: fast}}").replace(
        "models: [fast]", "models: [gpt-4]"
    )
    + "aliases: {gpt-4: fast, other: slow}\n"
)


async def test_aliases_are_listed_with_the_models(bind):
    live = bind(ALIASED)
    keys = {key.name: key for key in live.plan.keys}
    assert {name: ids(live, key) for name, key in keys.items()} == {
        "all": ["fast", "slow", "gpt-4", "other", "mine", "lost"],
        "one": ["gpt-4"],
        "none": [],
        "some": ["slow", "other"],
    }
    assert json.loads(live.model_json(keys["one"], "gpt-4"))["id"] == "gpt-4"
    assert live.model_json(keys["one"], "fast") is None
    assert live.model_json(keys["none"], "gpt-4") is None
    assert live.model_json(keys["some"], "mine") is None


async def test_a_wildcard_beside_models_is_not_listed_but_served(bind):
    live = bind()
    keys = {key.name: key for key in live.plan.keys}
    assert json.loads(live.model_json(keys["all"], "up/any"))["id"] == "up/any"
    assert live.model_json(keys["one"], "up/any") is None


async def test_a_stored_alias_of_a_model_that_is_gone_is_not_shown(bind):
    live = bind()
    key = msgspec.structs.replace(next(iter(live.plan.keys)), models=None, aliases={"a": "gone"})
    assert ids(live, key) == ["fast", "slow"]
    assert live.model_json(key, "a") is None


async def test_the_shape_is_the_callers(bind):
    live = bind()
    (key, *_) = live.plan.keys
    assert json.loads(live.models_json(key, ANTHROPIC))["first_id"]
    assert json.loads(live.models_json(key, GEMINI, b"pageSize=1"))["models"]
