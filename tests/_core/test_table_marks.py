"""Slots that are read or set alone, both twins: flags, breakers, retry accounts."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw._core.table_layout import BREAKER, CLOSED, FLAGS, OPENED, PROBE, PROBING, RETRY
from tests._core.table_twins import TWINS, Core, lines, loaded, make, start_together


@pytest.fixture(scope="module", params=TWINS)
def core(request, tmp_path_factory) -> Iterator[Core]:
    core = make(loaded(request.param), tmp_path_factory.mktemp("table") / "table-v2.map")
    yield core
    core.table.close()


def test_flags(core):
    slot = core.slot(FLAGS)
    assert core.table.flag(slot) == 0
    core.table.set_flag(slot, 2**64 - 2)
    other = core.module.Table.open(core.path, create=False)
    assert other.flag(slot) == 2**64 - 2
    other.close()
    for bad in (-1, 2**64):
        with pytest.raises(OverflowError):
            core.table.set_flag(slot, bad)
    for bad in (-1, core.table.slots):
        with pytest.raises(IndexError):
            core.table.flag(bad)
    with pytest.raises(ValueError, match="counts no use"):
        core.table.used(slot, (0, 0, 0))


def test_a_breaker_opens_probes_and_closes(core):
    slot, table = core.slot(BREAKER), core.table
    assert table.breaker_state(slot, 0) == CLOSED
    assert [table.breaker_report(slot, False, 1000, 3, 500) for _ in range(3)] == [CLOSED, CLOSED, OPENED]
    assert not table.breaker_claim_probe(slot, 1499, 100)
    assert table.breaker_report(slot, True, 1400, 3, 500) == OPENED, "that call began before it opened"
    assert table.breaker_state(slot, 1500) == PROBE
    assert table.breaker_claim_probe(slot, 1500, 100)
    assert table.breaker_state(slot, 1599) == PROBING
    assert not table.breaker_claim_probe(slot, 1599, 100)
    assert table.breaker_claim_probe(slot, 1600, 100), "a claim nobody was heard of again expires"
    assert table.breaker_report(slot, False, 1650, 3, 500) == OPENED
    assert table.breaker_state(slot, 2149) == OPENED
    assert table.breaker_claim_probe(slot, 2150, 100)
    assert table.breaker_report(slot, True, 2160, 3, 500) == CLOSED
    assert [table.breaker_report(slot, False, 2200, 3, 500) for _ in range(2)] == [CLOSED, CLOSED]


def test_a_success_between_failures_begins_the_row_anew(core):
    slot, table = core.slot(BREAKER), core.table
    for ok in (False, True, False):
        assert table.breaker_report(slot, ok, 0, 2, 500) == CLOSED
    assert table.breaker_report(slot, False, 2**62 - 1, 2, 2**62 - 1) == PROBE, "times end with the field"
    for bad in (-1, 2**62):
        with pytest.raises(OverflowError):
            table.breaker_state(slot, bad)


def test_a_retry_account(core):
    slot, table = core.slot(RETRY), core.table
    assert [table.retry_withdraw(slot) for _ in range(4)] == [True, True, True, False]
    for _ in range(4):
        table.retry_deposit(slot)
    assert not table.retry_withdraw(slot)
    table.retry_deposit(slot)
    assert table.retry_withdraw(slot)
    for _ in range(1000):
        table.retry_deposit(slot)
    assert [table.retry_withdraw(slot) for _ in range(11)] == [True] * 10 + [False]


steps = st.lists(
    st.tuples(st.sampled_from(["state", "claim", "good", "bad"]), st.integers(0, 300), st.integers(1, 4)), max_size=40
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Iterator[list[Core]]:
    made = [make(loaded(twin), tmp_path_factory.mktemp(twin) / "table-v2.map") for twin in TWINS]
    yield made
    for core in made:
        core.table.close()


@given(steps=steps)
@settings(deadline=None, max_examples=100)
def test_the_twins_break_alike(pair, steps):
    slots, now = [core.slot(BREAKER) for core in pair], 0
    for name, pause, threshold in steps:
        now += pause
        told = []
        for core, slot in zip(pair, slots, strict=True):
            if name == "state":
                told.append(core.table.breaker_state(slot, now))
            elif name == "claim":
                told.append(core.table.breaker_claim_probe(slot, now, 100))
            else:
                told.append(core.table.breaker_report(slot, name == "good", now, threshold, 200))
        assert told[0] == told[1]


PROBE_RACE = """
slot, times = int(sys.argv[3]), int(sys.argv[4])
ready()
print(sum(table.breaker_claim_probe(slot, 10**6 + n, 10**6) for n in range(times)))
"""


def test_one_of_many_processes_gets_the_probe(core):
    slot = core.slot(BREAKER)
    core.table.breaker_report(slot, False, 0, 1, 10)
    children = [core.run(PROBE_RACE, slot, 500) for _ in range(3)]
    start_together(children)
    won = [int(lines(child)[0]) for child in children]
    assert sorted(won) == [0, 0, 1]
