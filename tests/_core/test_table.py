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
    taken = [core.take(sets, 1, NOW) for _ in range(5)]
    assert taken == [(-1, 0, 0, 4 - n, (n + 1) * SECOND) for n in range(5)]
    assert core.take(sets, 1, NOW) == (0, SECOND, 0, 0, 5 * SECOND)
    assert core.take(sets, 1, NOW + SECOND - 1) == (0, 1, 0, 0, 4 * SECOND + 1)
    assert core.take(sets, 1, NOW + SECOND) == (-1, 0, 0, 0, 5 * SECOND)
    assert level(core, sets[0], NOW + 60 * SECOND) == 0


def test_many_units_at_once(core):
    sets = (core.rule(7, 100),)
    assert core.take(sets, 60, NOW) == (-1, 0, 0, 40, 420)
    assert core.take(sets, 60, NOW) == (0, 140, 0, 40, 420)
    assert core.take(sets, 60, NOW + 139)[:2] == (0, 1)
    assert core.take(sets, 60, NOW + 140) == (-1, 0, 0, 0, 700)


@pytest.mark.parametrize("units", [11, 10**6, 2**62])
def test_more_than_a_whole_burst_never_passes(core, units):
    sets = (core.rule(SECOND, 10), core.rule(2**58, 2))
    assert core.take(sets, units, NOW) == (0, core.module.NEVER, 0, 10, 0)
    assert core.take(sets[1:], units, NOW)[:2] == (0, core.module.NEVER)


def test_no_rules_and_no_units(core):
    empty, sets = core.rates(), (core.rule(SECOND, 3),)
    assert len(empty) == 0
    assert core.take((), 5, NOW) == core.take((empty, empty), 5, NOW) == (-1, 0, -1, 0, 0)
    core.take(sets, 3, NOW)
    assert core.take(sets, 0, NOW) == (-1, 0, 0, 0, 3 * SECOND)


def test_all_or_none(core):
    wide, middle, narrow = core.rule(10, 100), core.rule(20, 50), core.rule(30, 3)
    core.take((narrow,), 2, NOW)
    before = [level(core, rules) for rules in (wide, middle, narrow)]
    assert core.take((wide, middle, narrow), 2, NOW) == (2, 30, 2, 1, 60)
    assert core.take((narrow, wide, middle), 2, NOW) == (0, 30, 0, 1, 60)
    assert [level(core, rules) for rules in (wide, middle, narrow)] == before == [0, 0, 60]


def test_flat_indexes_over_sets_and_the_tightest_rule(core):
    slots = [core.slot() for _ in range(5)]
    key = core.rates((slots[0], 10, 100), (slots[1], 10, 50))
    gateway = core.rates((slots[2], 10, 10), (slots[3], 10, 10), (slots[4], 10, 20))
    assert (len(key), len(gateway)) == (2, 3)
    sets = (key, core.rates(), gateway)
    assert core.take(sets, 3, NOW) == (-1, 0, 2, 7, 30)
    core.take((core.rule(10, 10, slots[3]),), 1, NOW)
    assert core.take(sets, 3, NOW, back=NOW) == (-1, 0, 3, 3, 70)
    assert core.take(sets, 7, NOW) == (3, 10, 3, 6, 40)


def test_a_slot_named_twice_is_charged_twice_and_undone_twice(core):
    slot = core.slot()
    rule, twice = core.rule(10, 5, slot), core.rates((slot, 10, 5), (slot, 10, 5))
    assert core.take((twice,), 2, NOW) == (-1, 0, 1, 1, 40)
    assert core.take((twice,), 1, NOW) == (1, 10, 1, 0, 50)
    assert level(core, rule) == 40
    assert core.take((rule,), 1, NOW, back=NOW) == (-1, 0, 0, 0, 50)
    assert level(core, rule) == 40
    fourfold = core.rates(*[(slot, 10, 5)] * 4)
    assert core.take((fourfold,), 1, NOW) == (1, 10, 1, 0, 50)
    assert level(core, rule) == 40


@pytest.mark.parametrize("junk", [2**64 - 1, 2**63, NOW + 400 * SECOND])
def test_a_damaged_word_blocks_no_longer_than_the_rule(core, junk):
    slot = core.slot()
    sets = (core.rule(SECOND, 10, slot),)
    core.write_gcra(slot, junk)
    assert core.take(sets, 1, NOW) == (0, SECOND, 0, 0, 10 * SECOND)
    core.write_gcra(slot, junk)
    assert core.take(sets, 4, NOW)[:2] == (0, 4 * SECOND)
    assert core.take(sets, 4, NOW + 4 * SECOND)[0] == -1, "who waited as told is served"


def test_a_reading_of_the_clock_that_comes_late_gives_nothing_back(core):
    """Two workers read the clock, and the one that read first asks last: what it finds is no damage to put right."""
    sets, late = (core.rule(SECOND, 10),), SECOND // 5
    core.take(sets, 9, NOW)
    assert core.take(sets, 1, NOW, back=NOW - late)[0] == -1
    assert core.take(sets, 1, NOW)[0] == -1, "the one that was given back, and no other"
    assert core.take(sets, 1, NOW - late) == (0, SECOND + late, 0, 0, 10 * SECOND + late)
    assert core.take(sets, 1, NOW)[:2] == (0, SECOND)


def test_a_limit_made_wider_lets_on_at_its_own_rate(core):
    slot = core.slot()
    core.take((core.rule(30 * SECOND, 2, slot),), 2, NOW)
    wider = (core.rule(SECOND, 2, slot),)
    assert core.take(wider, 1, NOW)[:2] == (0, SECOND)
    assert core.take(wider, 1, NOW + SECOND)[0] == -1


def test_a_lowered_limit_forgets_the_higher_ones_debt(core):
    slot = core.slot()
    core.take((core.rule(SECOND, 1000, slot),), 1000, NOW)
    lowered = (core.rule(SECOND, 3, slot),)
    assert core.take(lowered, 1, NOW)[:2] == (0, SECOND)
    assert core.take(lowered, 2, NOW + 2 * SECOND) == (-1, 0, 0, 0, 3 * SECOND)


def test_what_is_given_back_restores_and_never_gives_more_than_rest(core):
    sets = (core.rule(SECOND, 5), core.rule(SECOND, 8))
    core.take(sets, 1, NOW)
    core.take(sets, 3, NOW, back=NOW)
    assert [level(core, rule) for rule in sets] == [SECOND, SECOND]
    core.take(sets, 4, NOW, back=NOW + 3 * SECOND)
    assert [level(core, rule, NOW + 3 * SECOND) for rule in sets] == [0, 0]
    assert core.take(sets, 6, NOW + 3 * SECOND)[0] == 0
    assert core.take(sets, 5, NOW + 3 * SECOND) == (-1, 0, 0, 0, 5 * SECOND)


def test_just_after_the_boot_a_rule_may_be_longer_than_the_clock(core):
    sets = (core.rule(SECOND, 100),)
    assert core.take(sets, 60, 7, back=8) == (-1, 0, 0, 40, 60 * SECOND)
    assert core.take(sets, 100, 8) == (-1, 0, 0, 0, 100 * SECOND)
    assert core.take(sets, 1, 9) == (0, SECOND - 1, 0, 0, 100 * SECOND - 1)


steps = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 12)), max_size=40)


@given(interval=st.integers(1, 60), burst=st.integers(1, 10), steps=steps)
@settings(deadline=None, max_examples=150)
def test_it_is_the_token_bucket_and_keeps_every_window(core, interval, burst, steps):
    sets, now = (core.rule(interval, burst),), NOW
    tokens, accepted = Fraction(burst), []
    for pause, units in steps:
        now += pause
        tokens = min(Fraction(burst), tokens + Fraction(pause, interval))
        refused, wait, _, remaining, reset = core.take(sets, units, now)
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
        st.sampled_from([None, 0, 100]),
        st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=3),
        st.one_of(st.integers(0, 30), st.integers(0, 2**62)),
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
    for back, picked, units, pause in moves:
        now += pause
        told = []
        for core, places in zip(pair, slots, strict=True):
            sets = tuple(core.rates(*((places[n], *rules[n]) for n in some)) for some in picked)
            told.append(core.take(sets, units, now, back if back is None else now + back))
            told[-1] += tuple(core.read_gcra(place) for place in places)
        assert told[0] == told[1]


# -- processes ---------------------------------------------------------------------------------------------------------

TAKE = """
wide, narrow, times = int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
rates = (wide, 0, 0, 0, 10, 10**12), (narrow, 0, 0, 0, 10, 10 * (int(sys.argv[6]) - 1))
sets = tuple(module.Limits([module.Limit(slot, module.RATE, *rest)]) for slot, _, *rest in rates)
lane = table.claim_lane()
book = lane.book()
entry = book.begin(bytes(16), 10**15, 0, b"", b"")
ready()
passed = 0
for _ in range(times):
    if book.take(entry, sets, 1, 0, 0, 10**15, (0, 0, 0))[0] < 0:
        passed += 1
        book.settle(entry, 0, 1, 0, 0, 10**15)
print(passed)
"""


def test_four_processes_pass_exactly_the_bound(core):
    wide, narrow = core.slot(), core.slot()
    times, bound = (300_000, 700_000) if core.module.__name__.endswith("_c") else (250, 600)
    children = [core.run(TAKE, wide, narrow, times, bound) for _ in range(4)]
    start_together(children)
    assert sum(int(lines(child)[0]) for child in children) == bound
    # Every refusal was rolled back at the rule before it, to the unit.
    assert level(core, core.rule(10, 10**11 + 1, wide)) == bound * 10
    assert level(core, core.rule(10, bound, narrow)) == bound * 10
