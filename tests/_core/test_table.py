"""The shared table's limits, both twins: GCRA against a model, twin against twin, four processes against each other."""

import itertools
from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests._core.table_twins import NOW, SECOND, TWINS, Core, level, lines, loaded, make, start_together


@pytest.fixture(scope="module", params=TWINS)
def core(request, tmp_path_factory) -> Iterator[Core]:
    core = make(loaded(request.param), tmp_path_factory.mktemp("table") / "table-v2.map")
    yield core
    core.table.close()


# -- GCRA --------------------------------------------------------------------------------------------------------------


def test_a_burst_from_rest_then_one_an_interval(core):
    sets = (core.rule(SECOND, 5),)
    taken = [core.table.take(sets, 1, NOW) for _ in range(5)]
    assert taken == [(-1, 0, 0, 4 - n, (n + 1) * SECOND) for n in range(5)]
    assert core.table.take(sets, 1, NOW) == (0, SECOND, 0, 0, 5 * SECOND)
    assert core.table.take(sets, 1, NOW + SECOND - 1) == (0, 1, 0, 0, 4 * SECOND + 1)
    assert core.table.take(sets, 1, NOW + SECOND) == (-1, 0, 0, 0, 5 * SECOND)
    assert core.table.peek(sets, 1, NOW + 60 * SECOND) == (-1, 0, 0, 5, 0)


def test_many_units_at_once(core):
    sets = (core.rule(7, 100),)
    assert core.table.take(sets, 60, NOW) == (-1, 0, 0, 40, 420)
    assert core.table.take(sets, 60, NOW) == (0, 140, 0, 40, 420)
    assert core.table.take(sets, 60, NOW + 139)[:2] == (0, 1)
    assert core.table.take(sets, 60, NOW + 140) == (-1, 0, 0, 0, 700)


@pytest.mark.parametrize("units", [11, 10**6, 2**63, 2**64 - 1])
def test_more_than_a_whole_burst_never_passes(core, units):
    sets = (core.rule(SECOND, 10), core.rule(2**58, 2))
    assert core.table.take(sets, units, NOW) == (0, core.module.NEVER, 0, 10, 0)
    assert core.table.take(sets[1:], units, NOW)[:2] == (0, core.module.NEVER)


def test_no_rules_and_no_units(core):
    empty, sets = core.module.Rules([]), (core.rule(SECOND, 3),)
    assert len(empty) == 0
    assert core.table.take((), 5, NOW) == core.table.take((empty, empty), 5, NOW) == (-1, 0, -1, 0, 0)
    core.table.take(sets, 3, NOW)
    assert core.table.take(sets, 0, NOW) == (-1, 0, 0, 0, 3 * SECOND)


def test_all_or_none(core):
    wide, middle, narrow = core.rule(10, 100), core.rule(20, 50), core.rule(30, 3)
    core.table.take((narrow,), 2, NOW)
    before = [level(core, rules) for rules in (wide, middle, narrow)]
    assert core.table.take((wide, middle, narrow), 2, NOW) == (2, 30, 2, 1, 60)
    assert core.table.take((narrow, wide, middle), 2, NOW) == (0, 30, 0, 1, 60)
    assert [level(core, rules) for rules in (wide, middle, narrow)] == before == [0, 0, 60]


def test_flat_indexes_over_sets_and_the_tightest_rule(core):
    slots = [core.slot() for _ in range(5)]
    key = core.module.Rules([(slots[0], 10, 990), (slots[1], 10, 490)])
    gateway = core.module.Rules([(slots[2], 10, 90), (slots[3], 10, 90), (slots[4], 10, 190)])
    assert (len(key), len(gateway)) == (2, 3)
    sets = (key, core.module.Rules([]), gateway)
    assert core.table.take(sets, 3, NOW) == (-1, 0, 2, 7, 30)
    core.table.take((core.module.Rules([(slots[3], 10, 90)]),), 1, NOW)
    assert core.table.peek(sets, 3, NOW) == (-1, 0, 3, 6, 40)
    assert core.table.take(sets, 7, NOW) == (3, 10, 3, 6, 40)


def test_a_slot_named_twice_is_charged_twice_and_undone_twice(core):
    slot = core.slot()
    twice = core.module.Rules([(slot, 10, 40), (slot, 10, 40)])
    assert core.table.take((twice,), 2, NOW) == (-1, 0, 1, 1, 40)
    assert core.table.take((twice,), 1, NOW) == (1, 10, 1, 0, 50)
    assert core.table.peek((twice,), 0, NOW) == (-1, 0, 0, 1, 40)
    core.table.give_back((twice,), 1, NOW)
    thrice = core.module.Rules([(slot, 10, 40)] * 4)
    assert core.table.take((thrice,), 1, NOW) == (3, 10, 3, 0, 50)
    assert level(core, twice) == 20


@pytest.mark.parametrize("junk", [2**64 - 1, 2**63, NOW + 400 * SECOND])
def test_a_damaged_word_blocks_no_longer_than_the_rule(core, junk):
    slot = core.slot()
    sets = (core.rule(SECOND, 10, slot),)
    core.write_gcra(slot, junk)
    assert core.table.take(sets, 1, NOW) == (0, SECOND, 0, 0, 10 * SECOND)
    core.write_gcra(slot, junk)
    assert core.table.take(sets, 4, NOW)[:2] == (0, 4 * SECOND)
    assert core.table.take(sets, 4, NOW + 4 * SECOND)[0] == -1, "who waited as told is served"


def test_a_reading_of_the_clock_that_comes_late_gives_nothing_back(core):
    """Two workers read the clock, and the one that read first asks last: what it finds is no damage to put right."""
    sets, late = (core.rule(SECOND, 10),), SECOND // 5
    core.table.take(sets, 10, NOW)
    assert core.table.take(sets, 1, NOW - late) == (0, SECOND + late, 0, 0, 10 * SECOND + late)
    core.table.give_back(sets, 1, NOW - late)
    assert core.table.take(sets, 1, NOW)[0] == -1
    assert core.table.take(sets, 1, NOW)[:2] == (0, SECOND)


def test_a_limit_made_wider_lets_on_at_its_own_rate(core):
    slot = core.slot()
    core.table.take((core.rule(30 * SECOND, 2, slot),), 2, NOW)
    wider = (core.rule(SECOND, 2, slot),)
    assert core.table.take(wider, 1, NOW)[:2] == (0, SECOND)
    assert core.table.take(wider, 1, NOW + SECOND)[0] == -1


def test_a_lowered_limit_forgets_the_higher_ones_debt(core):
    slot = core.slot()
    core.table.take((core.rule(SECOND, 1000, slot),), 1000, NOW)
    lowered = (core.rule(SECOND, 3, slot),)
    assert core.table.take(lowered, 1, NOW)[:2] == (0, SECOND)
    core.table.give_back(lowered, 2, NOW)
    assert core.table.take(lowered, 2, NOW) == (-1, 0, 0, 0, 3 * SECOND)


def test_give_back_restores_and_never_gives_more_than_rest(core):
    sets = (core.rule(SECOND, 5), core.rule(SECOND, 8))
    core.table.take(sets, 4, NOW)
    core.table.give_back(sets, 3, NOW)
    assert [level(core, rules) for rules in sets] == [SECOND, SECOND]
    for units in (4, 2**64 - 1):
        core.table.give_back(sets, units, NOW)
        assert [level(core, rules) for rules in sets] == [0, 0]
    assert core.table.take(sets, 6, NOW)[0] == 0
    assert core.table.take(sets, 5, NOW) == (-1, 0, 0, 0, 5 * SECOND)


def test_just_after_the_boot_a_rule_may_be_longer_than_the_clock(core):
    sets = (core.rule(SECOND, 100),)
    assert core.table.take(sets, 60, 7) == (-1, 0, 0, 40, 60 * SECOND)
    core.table.give_back(sets, 90, 8)
    assert core.table.take(sets, 100, 8) == (-1, 0, 0, 0, 100 * SECOND)
    assert core.table.take(sets, 1, 9) == (0, SECOND - 1, 0, 0, 100 * SECOND - 1)


def test_peek_takes_nothing_and_says_what_take_would(core):
    sets = (core.rule(SECOND, 5),)
    assert core.table.peek(sets, 5, NOW) == core.table.peek(sets, 5, NOW) == (-1, 0, 0, 5, 0)
    core.table.take(sets, 2, NOW)
    assert core.table.peek(sets, 4, NOW) == core.table.take(sets, 4, NOW) == (0, SECOND, 0, 3, 2 * SECOND)


@pytest.mark.parametrize("bad", [(-1, 1, 0), (1 << 24, 1, 0), (0, 0, 0), (0, 1, -1), (0, 1, 2**62 - 1)])
def test_impossible_rules(core, bad):
    with pytest.raises(ValueError, match=r"is not 0 to|are not in range"):
        core.module.Rules([(0, 1, 0), bad])


def test_arguments_out_of_range_take_nothing(core):
    sets = (core.rule(SECOND, 5),)
    beyond = core.module.Rules([(core.table.slots, 1, 0)])
    for call in (core.table.take, core.table.peek, core.table.give_back):
        with pytest.raises(IndexError, match="beyond"):
            call((*sets, beyond), 1, NOW)
        for units, now in [(-1, NOW), (2**64, NOW), (1, -1), (1, 2**62)]:
            with pytest.raises(OverflowError):
                call(sets, units, now)
    assert level(core, sets[0]) == 0


steps = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 12)), max_size=40)


@given(interval=st.integers(1, 60), burst=st.integers(1, 10), steps=steps)
@settings(deadline=None, max_examples=150)
def test_it_is_the_token_bucket_and_keeps_every_window(core, interval, burst, steps):
    sets, now = (core.rule(interval, burst),), NOW
    tokens, accepted = Fraction(burst), []
    for pause, units in steps:
        now += pause
        tokens = min(Fraction(burst), tokens + Fraction(pause, interval))
        refused, wait, _, remaining, reset = core.table.take(sets, units, now)
        assert (refused < 0) == (units <= tokens)
        if refused < 0:
            tokens -= units
            accepted.append((now, units))
        elif units <= burst:
            assert wait == (units - tokens) * interval
        assert (remaining, reset) == (tokens.__floor__(), (burst - tokens) * interval)
    for first, last in itertools.combinations_with_replacement(range(len(accepted)), 2):
        window = accepted[last][0] - accepted[first][0]
        assert sum(units for _, units in accepted[first : last + 1]) <= burst + Fraction(window, interval)


moves = st.lists(
    st.tuples(
        st.sampled_from(["take", "peek", "give_back"]),
        st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=3),
        st.one_of(st.integers(0, 30), st.integers(0, 2**64 - 1)),
        st.one_of(st.integers(0, 5_000), st.integers(0, 2**40)),
    ),
    max_size=30,
)
figures = st.tuples(st.integers(1, 2**40), st.integers(1, 40))


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Iterator[tuple[Core, Core]]:
    made = [make(loaded(twin), tmp_path_factory.mktemp(twin) / "table-v2.map", slots=1 << 15) for twin in TWINS]
    yield made[0], made[1]
    for core in made:
        core.table.close()


@given(rules=st.lists(figures, min_size=5, max_size=5), moves=moves)
@settings(deadline=None, max_examples=200)
def test_the_native_twin_is_its_specification(pair, rules, moves):
    slots = [[core.slot() for _ in rules] for core in pair]
    now = NOW
    for name, picked, units, pause in moves:
        now += pause
        told = []
        for core, places in zip(pair, slots, strict=True):
            sets = tuple(
                core.module.Rules([(places[n], rules[n][0], rules[n][0] * (rules[n][1] - 1)) for n in some])
                for some in picked
            )
            told.append(getattr(core.table, name)(sets, units, now))
        assert told[0] == told[1]


# -- processes ---------------------------------------------------------------------------------------------------------

TAKE = """
wide, narrow, times = int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
sets = (module.Rules([(wide, 10, 10**12)]), module.Rules([(narrow, 10, 10 * (int(sys.argv[6]) - 1))]))
ready()
print(sum(table.take(sets, 1, 10**15)[0] < 0 for _ in range(times)))
"""


def test_four_processes_pass_exactly_the_bound(core):
    wide, narrow = core.slot(), core.slot()
    times, bound = (300_000, 700_000) if core.module.__name__.endswith("_c") else (250, 600)
    children = [core.run(TAKE, wide, narrow, times, bound) for _ in range(4)]
    start_together(children)
    assert sum(int(lines(child)[0]) for child in children) == bound
    # Every refusal was rolled back at the rule before it, to the unit.
    assert level(core, core.module.Rules([(wide, 10, 10**12)])) == bound * 10
    assert level(core, core.rule(10, bound, narrow)) == bound * 10
