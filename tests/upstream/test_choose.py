"""Choosing a target, with the die in the test's hand."""

from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.dialects.openrouter import Preferences
from fastgw.plan.plan import Price
from fastgw.upstream.choose import by_cost, by_load, by_price, by_session, next_of, preferred, weighted


class Way(NamedTuple):
    name: str
    weight: int = 1
    priority: int = 1


ways = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3)), min_size=1, max_size=6).map(
    lambda rows: [Way(str(at), weight, priority) for at, (weight, priority) in enumerate(rows)]
)
rolls = st.floats(0, 1, exclude_max=True)


def shares(targets, tried=()):
    """How often each is taken when the die falls once in the middle of each of the weights' units."""
    total = sum(target.weight for target in targets if target not in tried)
    return Counter(weighted(targets, tried, (step + 0.5) / total).name for step in range(total))


def test_shares_are_the_weights_exactly():
    assert shares([Way("a", 9), Way("b", 1)]) == {"a": 9, "b": 1}
    assert shares([Way("a", 1), Way("b", 0), Way("c", 3)]) == {"a": 1, "c": 3}
    assert shares([Way("a", 700_000), Way("b", 2)])["b"] == 2


def test_what_was_tried_leaves_its_share_to_the_rest():
    a, b, c = Way("a", 5), Way("b", 1), Way("c", 3)
    assert shares([a, b, c], [a]) == {"b": 1, "c": 3}
    assert weighted([a, b, c], [a, b, c], 0.5) is None


@pytest.mark.parametrize("roll", [0.0, 0.3, 0.999])
def test_lower_priority_first(roll):
    targets = [Way("last", 100, 3), Way("first", 1, 1), Way("second", 50, 2)]
    order, tried = [], []
    while (way := weighted(targets, tried, roll)) is not None:
        order.append(way.name)
        tried.append(way)
    assert order == ["first", "second", "last"]


def test_weight_zero_is_taken_when_nothing_else_of_its_priority_is_left():
    zero, one, later = Way("zero", 0), Way("one", 1), Way("later", 9, 2)
    assert {weighted([zero, one, later], [], step / 10).name for step in range(10)} == {"one"}
    assert {weighted([zero, one, later], [one], step / 10).name for step in range(10)} == {"zero"}
    assert {weighted([Way("x", 0), Way("y", 0)], [], step / 10).name for step in range(10)} == {"x"}


def test_one_target_and_none():
    assert weighted([Way("a", 0)], [], 0.5).name == "a"
    assert weighted([Way("a")], [Way("a")], 0.5) is None
    assert weighted([], [], 0.5) is None


def test_the_ends_of_the_die():
    targets = [Way("a", 1), Way("b", 1)]
    assert weighted(targets, [], 0.0).name == "a"
    assert weighted(targets, [], 0.5).name == "b"
    assert weighted(targets, [], 1 - 2**-53).name == "b"


@given(ways, rolls, st.data())
def test_what_is_chosen_is_untried_of_the_lowest_priority_left_and_weighs_something_if_anything_does(
    targets, roll, data
):
    tried = data.draw(st.lists(st.sampled_from(targets), unique=True))
    left = [target for target in targets if target not in tried]
    chosen = weighted(targets, tried, roll)
    if not left:
        assert chosen is None
        return
    group = [target for target in left if target.priority == min(one.priority for one in left)]
    assert chosen in group
    assert chosen.weight or not any(target.weight for target in group)


@given(ways, rolls)
def test_every_target_comes_up_once(targets, roll):
    tried = []
    while (way := weighted(targets, tried, roll)) is not None:
        tried.append(way)
    assert sorted(tried) == sorted(targets)
    assert [way.priority for way in tried] == sorted(way.priority for way in targets)


# --- tiers


class Priced:
    """A target as preferences see it."""

    def __init__(self, provider, price=None, kind="openai", weight=1, priority=1):
        self.provider, self.kind, self.weight, self.priority = provider, kind, weight, priority
        self.price = Price(input=price, output=2 * price) if price is not None else None

    def price_for(self, model):
        return self.price


CHEAP, DEAR, UNKNOWN, OTHER = (
    Priced("Cheap", 100),
    Priced("dear", 900),
    Priced("unknown"),
    Priced("other", 300, kind="groq"),
)
WAYS = (DEAR, UNKNOWN, CHEAP, OTHER)


def names(tiers):
    return [[way.provider for way in tier] for tier in tiers]


def test_a_later_tier_is_taken_when_the_earlier_ones_were_tried():
    tiers = ((CHEAP,), (DEAR, OTHER))
    assert next_of(tiers, [], 0.9) is CHEAP
    assert next_of(tiers, [CHEAP], 0.0) is DEAR
    assert next_of(tiers, [CHEAP], 0.9) is OTHER
    assert next_of(tiers, [CHEAP, OTHER], 0.9) is DEAR
    assert next_of(tiers, [CHEAP, OTHER, DEAR], 0.9) is None
    assert next_of((), [], 0.0) is None


@pytest.mark.parametrize(
    ("wish", "tiers"),
    [
        (Preferences(), [["dear", "unknown", "Cheap", "other"]]),
        (Preferences(only=frozenset({"cheap", "nobody"})), [["Cheap"]]),
        (Preferences(only=frozenset({"groq"})), [["other"]]),
        (Preferences(only=frozenset()), []),
        (Preferences(ignore=frozenset({"openai"})), [["other"]]),
        (Preferences(order=("groq", "nobody", "cheap")), [["other"], ["Cheap"], ["dear", "unknown"]]),
        (Preferences(order=("groq", "cheap"), fallbacks=False), [["other"], ["Cheap"]]),
        (Preferences(order=("nobody",), fallbacks=False), []),
        (Preferences(order=("openai", "cheap")), [["dear", "unknown", "Cheap"], ["other"]]),
        (Preferences(by_price=True), [["Cheap"], ["other"], ["dear"], ["unknown"]]),
        (Preferences(by_price=True, order=("dear",)), [["dear"], ["Cheap"], ["other"], ["unknown"]]),
        (Preferences(prompt=300), [["Cheap", "other"]]),
        (Preferences(prompt=900, completion=599), [["Cheap"]]),
        (Preferences(completion=1), []),
    ],
)
def test_what_a_caller_prefers(wish, tiers):
    assert names(preferred(WAYS, wish, "")) == tiers


def test_a_wildcards_price_is_that_of_the_model_asked_for():
    asked = []
    way = Priced("up", 5)
    way.price_for = lambda model: asked.append(model)
    assert preferred((way,), Preferences(prompt=1), "gpt") == ()
    assert asked == ["gpt"]


# strategies


def order(tiers):
    return [[way.name for way in tier] for tier in tiers]


def test_by_load_within_a_priority_the_least_for_its_weight():
    busy = {"a": 4, "b": 4, "c": 0, "d": 0}
    targets = [Way("a", 4), Way("b", 1), Way("c", 1, 2), Way("d", 3, 2)]
    assert order(by_load(targets, lambda way: busy[way.name])) == [["a"], ["b"], ["c", "d"]]


def test_by_load_a_target_without_weight_is_the_last():
    assert order(by_load([Way("zero", 0), Way("one", 1)], lambda way: 1)) == [["one"], ["zero"]]


class Bought(NamedTuple):
    name: str
    price: Price | None
    priority: int = 1
    weight: int = 1
    provider: str = "p"
    kind: str = "openai"

    def price_for(self, model):
        return self.price


def test_by_price_the_cheapest_first_and_the_unknown_last():
    targets = [Bought("dear", Price(5, 5)), Bought("unknown", None), Bought("cheap", Price(1, 2)),
               Bought("same", Price(2, 1)), Bought("later", Price(0, 0), 2)]  # fmt: skip
    assert order(by_price(targets)) == [["cheap", "same"], ["dear"], ["unknown"], ["later"]]


@given(st.lists(st.floats(0, 9), min_size=1, max_size=8), rolls, rolls)
def test_by_cost_the_better_of_two_that_are_drawn(costs, one, other):
    targets = [Way(str(at)) for at in range(len(costs))]
    asked = order(by_cost(targets, lambda way: costs[int(way.name)], (one, other)))
    assert sorted(name for tier in asked for name in tier) == sorted(way.name for way in targets), "all, each once"
    ranked = sorted(range(len(costs)), key=costs.__getitem__)
    rest = [int(name) for (name,) in asked[1:]]
    assert rest == [place for place in ranked if place != int(asked[0][0])], "the others by cost"
    if len(costs) > 1:
        worst = max(costs)
        assert costs[int(asked[0][0])] < worst or costs.count(worst) > 1, "never the single worst"


def test_by_cost_draws_every_pair_equally_often():
    targets = [Way(name) for name in "abcd"]
    steps = [(step + 0.5) / 12 for step in range(12)]
    firsts = Counter(
        by_cost(targets, lambda way: ord(way.name), (one, other))[0][0].name for one in steps for other in steps
    )
    # The best is in half of all pairs, the second in a third of them without it, and so on.
    assert firsts == {"a": 72, "b": 48, "c": 24}


def test_by_cost_priorities_hold():
    targets = [Way("slow", priority=1), Way("quick", priority=2)]
    assert order(by_cost(targets, lambda way: 9 if way.name == "slow" else 0, (0.9, 0.9))) == [["slow"], ["quick"]]


sessions = st.binary(min_size=1, max_size=20)


def ranking(targets, session):
    return [tier[0].name for tier in by_session(targets, session, lambda way: way.name)]


@given(sessions, st.integers(2, 8), st.randoms())
def test_a_session_has_its_order_whatever_the_order_of_the_targets(session, count, random):
    targets = [Way(str(at)) for at in range(count)]
    shuffled = targets[:]
    random.shuffle(shuffled)
    assert ranking(targets, session) == ranking(shuffled, session)


@given(sessions, st.integers(2, 8), st.data())
def test_a_target_that_leaves_moves_only_its_own_sessions(session, count, data):
    targets = [Way(str(at)) for at in range(count)]
    gone = data.draw(st.sampled_from(targets))
    before = ranking(targets, session)
    after = ranking([way for way in targets if way is not gone], session)
    assert after == [name for name in before if name != gone.name]


def test_sessions_are_shared_out_by_weight():
    targets = [Way("a", 1), Way("b", 3)]
    firsts = Counter(ranking(targets, b"session %d" % n)[0] for n in range(4000))
    assert 0.72 < firsts["b"] / 4000 < 0.78
    assert Counter(ranking([Way("zero", 0), Way("one", 1)], b"%d" % n)[0] for n in range(500))["one"] > 490


def test_sessions_keep_to_priorities():
    targets = [Way("a", 9, 2), Way("b", 1, 1), Way("c", 1, 1)]
    for n in range(50):
        assert ranking(targets, b"%d" % n)[2] == "a"
