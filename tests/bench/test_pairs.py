import json

import pytest

from bench import report
from bench.pairs import Figure, Spread, interleave, ratios


def test_measures_take_turns():
    order = []

    def measure(name, value):
        def take():
            order.append(name)
            return value

        return take

    samples = interleave({"a": measure("a", 6.0), "b": measure("b", 2.0)}, 3)
    assert order == ["a", "b"] * 3
    assert samples == {"a": [6.0] * 3, "b": [2.0] * 3}
    assert ratios(samples, "a", "b") == [3.0] * 3


def test_a_machine_that_drifts_does_not_move_the_ratio():
    samples = {"a": [30.0, 60.0, 300.0], "b": [10.0, 20.0, 100.0]}
    assert Spread.of(ratios(samples, "a", "b")) == (3.0, 3.0, 3.0)


def test_rounds_that_do_not_match_are_refused():
    with pytest.raises(ValueError):
        ratios({"a": [1.0, 2.0], "b": [1.0]}, "a", "b")
    with pytest.raises(ValueError, match="no samples"):
        Spread.of([])


SAMPLES = {"fastgw": [80.0, 90.0, 100.0], "nginx": [20.0, 20.0, 25.0]}


def test_a_figure_says_on_which_side_of_its_floor_it_is():
    good = Figure("x", "a title", "us", SAMPLES, ("fastgw", "nginx"), floor=5.0, aim=3.5)
    assert "fastgw / nginx = 4.00 (4.00 - 4.50); promised at most 5: holds; aim 3.5" in report.text(good)
    assert "DOES NOT HOLD" in report.text(good._replace(floor=3.9))
    assert "reached" in report.text(good._replace(aim=4.0))


def test_a_difference_is_in_the_unit_of_the_samples():
    figure = Figure("x", "a title", "ms", {"a": [1.5], "b": [0.5]}, ("a", "b"), True, 1.0, 0.2)
    assert figure.verdicts() == [1.0]
    assert "a - b = 1.00 ms; promised at most 1 ms: holds" in report.text(figure)


def test_results_are_written_whole(tmp_path):
    figure = Figure("x", "a title", "us", SAMPLES, ("fastgw", "nginx"), floor=5.0, notes={"fastgw": "busy"})
    report.write(tmp_path / "results" / "latest.json", {"at": "now"}, [figure])
    found = json.loads((tmp_path / "results" / "latest.json").read_text())
    assert found["meta"] == {"at": "now"}
    assert found["figures"][0]["servers"]["fastgw"]["samples"] == [80.0, 90.0, 100.0]
    assert found["figures"][0]["servers"]["fastgw"]["median"] == 90.0
    assert found["figures"][0]["ratio"] == {
        "of": ["fastgw", "nginx"], "median": 4.0, "low": 4.0, "high": 4.5, "floor": 5.0, "aim": None
    }  # fmt: skip
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["latest.json"]
