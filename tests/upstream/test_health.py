"""Breakers over a real shared table, by two workers at once, and how quickly a target answers."""

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw._core import table as shared
from fastgw.plan.plan import Breaker
from fastgw.upstream.health import DECAY_S, MAX_REST_S, PROBE_MS, PROBES, RESTS, WELL, Health, Latency

T = 1_000_000


@pytest.fixture
def table(tmp_path):
    made = shared.Table.open(str(tmp_path / "table"), slots=64, lanes=2, counters=4096, create=True)
    yield made
    made.close()


@pytest.fixture
def pair(table):
    """The same target as two workers see it; `opened` are the openings each has told of."""
    slot = table.slot(b"b" * 16, shared.BREAKER)
    opened = [0, 0]

    def worker(number):
        def tell():
            opened[number] += 1

        return Health(table, slot, Breaker(3, 5000), tell)

    return worker(0), worker(1), opened


def test_it_opens_at_the_threshold_for_all_workers(pair):
    one, other, opened = pair
    for _ in range(2):
        one.failed(T)
        assert (one.ready(T), other.ready(T)) == (WELL, WELL)
    other.failed(T)
    assert (one.ready(T), other.ready(T)) == (RESTS, RESTS)
    assert (one.why, other.why) == ("failures", "failures")
    assert opened == [0, 1]
    assert one.wait_s(T) == other.wait_s(T) == pytest.approx(5.0, abs=0.004)
    assert one.wait_s(T + 4000) == pytest.approx(1.0, abs=0.004)


def test_an_answer_between_failures_begins_anew(pair):
    one, _, _ = pair
    for _ in range(5):
        one.failed(T)
        one.failed(T)
        one.well(T)
    assert one.ready(T) == WELL


def test_one_probe_decides(pair):
    one, other, opened = pair
    for _ in range(3):
        one.failed(T)
    later = T + 5010
    assert other.resting(later) is False
    assert other.ready(later) == PROBES
    assert (one.ready(later), other.ready(later)) == (RESTS, RESTS)
    assert other.resting(later)
    assert one.wait_s(later) == 1.0, "who is asked meanwhile need not wait for the longest of probes"
    other.well(later + 100)
    assert (one.ready(later + 100), other.ready(later + 100)) == (WELL, WELL)
    assert opened == [1, 0]


def test_a_probe_that_fails_opens_it_at_once_and_is_told(pair):
    one, other, opened = pair
    for _ in range(3):
        one.failed(T)
    assert other.ready(T + 5010) == PROBES
    other.failed(T + 5020)
    assert one.ready(T + 10_000) == RESTS
    assert opened == [1, 1]
    assert one.ready(T + 10_030) == PROBES


def test_a_probe_that_is_given_back_is_the_next_callers_at_once(pair):
    one, other, opened = pair
    other.rest(T, 2.0, "rate")
    assert one.ready(T + 2010) == PROBES
    one.give_back(T + 2020)
    assert one.why == "rate"
    assert other.ready(T + 2030) == PROBES
    assert opened == [0, 1], "nothing was opened"


def test_giving_back_what_is_no_probe_any_more_does_nothing(pair):
    one, _, _ = pair
    one.give_back(T)
    assert one.ready(T) == WELL
    one.rest(T, 2.0, "rate")
    one.give_back(T)
    assert one.ready(T + 1990) == RESTS


def test_a_probe_that_is_not_heard_of_is_another_ones_in_the_end(pair):
    one, other, _ = pair
    one.rest(T, 1.0, "auth")
    assert one.ready(T + 1010) == PROBES
    assert other.ready(T + 1010 + PROBE_MS - 10) == RESTS
    assert other.why == "auth"
    assert other.ready(T + 1010 + PROBE_MS + 10) == PROBES


@pytest.mark.parametrize("why", ["rate", "auth"])
def test_a_rest_lasts_as_long_as_was_said_and_every_worker_knows_why(pair, why):
    one, other, _ = pair
    one.rest(T, 7.5, why)
    assert (other.why, other.ready(T + 7499)) == (why, RESTS)
    assert other.wait_s(T) == pytest.approx(7.5, abs=0.008)
    assert other.ready(T + 7510) == PROBES


@given(seconds=st.floats(0, 1e9), now=st.integers(1, 1 << 40), why=st.sampled_from(["rate", "auth"]))
def test_rests_of_any_length(tables, seconds, now, why):
    health = Health(tables, tables.slot(f"{now:016x}".encode(), shared.BREAKER), Breaker(), lambda: None)
    health.rest(now, seconds, why)
    assert (health.ready(now), health.why) == (RESTS, why)
    assert 0 < health.wait_s(now) <= min(max(seconds, 0.001), MAX_REST_S) + 0.008
    assert health.ready(now + 3_600_008) == PROBES
    health.well(now)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    path = tmp_path_factory.mktemp("rests") / "table"
    made = shared.Table.open(str(path), slots=1024, lanes=2, counters=4096, create=True)
    yield made
    made.close()


def test_failures_do_not_count_where_the_operator_says_so_but_rests_do(table):
    health = Health(table, table.slot(b"n" * 16, shared.BREAKER), Breaker(0, 5000), lambda: None)
    for _ in range(50):
        health.failed(T)
    assert health.ready(T) == WELL
    health.rest(T, 1.0, "auth")
    assert health.ready(T) == RESTS


# latency


def test_a_slower_answer_counts_in_full_at_once_and_quicker_ones_by_and_by():
    latency = Latency()
    latency.add(0.1, 100.0)
    latency.add(2.0, 100.5)
    assert latency.cost(100.5) == 2.0
    latency.add(0.1, 100.5 + DECAY_S)
    assert latency.cost(100.5 + DECAY_S) == pytest.approx(2.0 / 2.71828 + 0.1 * (1 - 1 / 2.71828), rel=1e-4)


def test_who_waits_for_it_counts_and_time_heals():
    latency = Latency()
    latency.add(1.0, 50.0)
    latency.busy = 3
    assert latency.cost(50.0) == 4.0
    latency.busy = 0
    assert latency.cost(50.0 + 5 * DECAY_S) == pytest.approx(exp(-5))


def test_a_new_target_is_asked_by_one_and_then_by_nobody_until_it_answers():
    latency = Latency()
    assert latency.cost(9.0) == 0.0
    latency.busy = 1
    assert latency.cost(9.0) >= 60.0


@given(st.lists(st.tuples(st.floats(0.001, 30), st.floats(0, 20)), min_size=1, max_size=30))
def test_latency_is_peak_ewma(samples):
    """Against the rule written out: never below what came last, never above the largest, pulled down by exp(-t/10)."""
    latency, average, at, now = Latency(), 0.0, 0.0, 1000.0
    for seconds, gap in samples:
        now += gap
        latency.add(seconds, now)
        weight = exp(-(now - at) / 10)
        average = max(seconds, average * weight + seconds * (1 - weight)) if seconds < average else seconds
        at = now
        assert latency.cost(now) == pytest.approx(average)
        assert seconds <= latency.cost(now) + 1e-9
    assert latency.cost(now) <= max(seconds for seconds, _ in samples) + 1e-9
