"""What a way knows of its models: the kind's quirks, the operator's over them, and those behind a wildcard."""

import asyncio

import pytest

from fastgw.plan.plan import Model, Options, Origin, Plan, Quirks, Target, Upstream
from fastgw.telemetry.metrics import SeriesRegistry
from fastgw.upstream.client import Client
from fastgw.upstream.route import MAX_TRAITS, Routes

REGISTRY = SeriesRegistry(4096)


@pytest.fixture
async def way():
    """A function that makes a way to a model of a kind ("" for a wildcard)."""
    clients = []

    def make(kind, model="", **more):
        client = Client(asyncio.get_running_loop())
        clients.append(client)
        paths = {"openai_chat": "/v1/chat/completions"}
        upstream = Upstream("up", kind, Origin("http", "h", 80), paths, **more)
        one = Model("fast", (Target("up/m", "up", model),))
        plan = Plan(1, b"", {"up": upstream}, {"fast": one}, {}, (), (), Options(), REGISTRY.series)
        return Routes(plan, client).exact["fast"].ways[0]

    yield make
    for client in clients:
        await client.close()


async def test_the_quirks_of_a_kind_hold_and_are_found_once(way):
    one = way("groq", "llama")
    found = one.traits("llama")
    assert found.adjust.apply(b'{"logprobs":true}') == (b"{}", ["logprobs"])
    assert one.traits("llama") is found


async def test_the_operators_go_over_them(way):
    own = Quirks(clamp={"n": (1, 4)}, default={"safe": "true"}, features=("top_k",))
    found = way("groq", "llama", quirks=own).traits("llama")
    assert found.adjust.apply(b'{"n":9}') == (b'{"n":4,"safe":true}', ["n"])
    assert found.features == {"top_k"}


async def test_a_kind_without_quirks_has_none(way):
    found = way("openai_compatible", "m").traits("m")
    assert (found.features, found.adjust, found.mid_system) == (frozenset(), None, False)


async def test_who_refuses_stream_options_says_so_to_the_writers(way):
    assert way("openai_compatible", "m", asks_usage=False).traits("m").features == {"no_stream_options"}


async def test_models_behind_a_wildcard_are_told_apart(way):
    one = way("openai")
    assert one.traits("gpt-4o").adjust is None
    assert one.traits("o3").adjust.apply(b'{"max_tokens":1}') == (b'{"max_completion_tokens":1}', [])


async def test_names_of_models_do_not_pile_up(way):
    one = way("openai")
    for number in range(MAX_TRAITS + 10):
        one.traits(f"o3-{number}")
    assert len(one._traits) <= MAX_TRAITS
    assert one.traits("o3-1").adjust is not None


async def test_a_kind_that_is_not_known_has_only_the_operators(way):
    assert way("gone", "m", quirks=Quirks(drop=("x",))).traits("m").adjust.apply(b'{"x":1}') == (b"{}", ["x"])
