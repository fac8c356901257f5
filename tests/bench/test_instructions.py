import pytest

from bench import instructions
from bench.hotpath import EVENTS
from bench.instructions import CountError, parse_parts, per_item


def part(total: int) -> str:
    head = "version: 1\ndesc: Trigger: --dump-before=getloadavg\nevents: Ir\n"
    return f"{head}summary: {total}\n\nfn=(1)\n1 7\ntotals: {total}\n"


def test_what_came_before_the_first_mark_does_not_count():
    assert parse_parts([part(999), part(400), part(50), part(20)]) == (400.0, 50.0, 20.0)


@pytest.mark.parametrize("texts", [[], [part(1)] * 3, [part(1), "", part(1), part(1)]])
def test_missing_parts_are_an_error(texts):
    with pytest.raises(CountError, match="parts"):
        parse_parts(texts)


def test_totals_become_costs_of_one():
    assert per_item(400_000, 40 * EVENTS * 7, 100 * 9, calls=400) == {"call": 1000, "event": 7, "reference": 9}


def test_a_hot_path_that_does_not_run_says_why(monkeypatch):
    monkeypatch.setattr(instructions, "_hotpath", lambda calls, slowed: ["false"])
    with pytest.raises(CountError, match="ended with 1"):
        instructions.time_it()


def test_time_is_taken_of_the_real_path(monkeypatch):
    monkeypatch.setattr(instructions, "FALLBACK_CALLS", 40)
    monkeypatch.setattr(instructions, "FALLBACK_RUNS", 1)
    found = instructions.time_it()
    assert set(found) == {"call", "event", "reference"}
    assert all(value > 0 for value in found.values())
