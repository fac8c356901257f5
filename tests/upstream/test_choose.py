"""Choosing a target, with the die in the test's hand."""

from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.upstream.choose import weighted


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
