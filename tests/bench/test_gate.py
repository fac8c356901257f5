import json
from itertools import chain, repeat

import pytest

from bench import gate, instructions
from bench.gate import Bound, Verdict, best_of, judge, nearest, ratio_bound
from bench.processes import BenchError

HERE = "CPython-3.11.7-x86_64"
COUNTS = {"call": 250_000.0, "event": 55_000.0, "reference": 100_000.0}


def test_the_floor_holds_whatever_the_baseline_allows():
    assert ratio_bound(3.0, 5.0).allowed == 3.75
    assert ratio_bound(4.8, 5.0) == Bound(5.0, "the promised floor")
    assert ratio_bound(None, 5.0).allowed == 5.0
    with pytest.raises(BenchError, match="--update"):
        ratio_bound(None, None)


def test_noise_is_measured_again_and_a_slow_down_stays():
    passing = chain([9.0, 4.0], repeat(99.0))
    assert best_of(lambda: next(passing), 5.0, 3) == (4.0, 2)
    slow = iter([9.0, 8.0, 7.0])
    assert best_of(lambda: next(slow), 5.0, 3) == (7.0, 3)
    assert next(slow, None) is None
    assert best_of(lambda: 1.0, 5.0, 3) == (1.0, 1)


def test_another_build_is_held_to_its_nearest_relative():
    known = {"CPython-3.11.7-x86_64": {"call": 1.0}, "CPython-3.12.1-x86_64": {"call": 2.0}}
    assert nearest(known, "CPython-3.12.1-x86_64") == ({"call": 2.0}, True)
    assert nearest(known, "CPython-3.12.9-x86_64") == ({"call": 2.0}, False)
    assert nearest(known, "CPython-3.11.2-aarch64") == ({"call": 1.0}, False)
    with pytest.raises(BenchError, match="no baseline"):
        nearest({}, HERE)


@pytest.fixture
def counted(monkeypatch):
    """Counting that comes to `COUNTS`, each call made dearer by a hundred instructions a microsecond of slow-down."""
    runs = []

    def count(slowed=0):
        runs.append(slowed)
        return {**COUNTS, "call": COUNTS["call"] * (1 + slowed / 100)}

    monkeypatch.setattr(instructions, "available", lambda: True)
    monkeypatch.setattr(instructions, "environment", lambda: HERE)
    monkeypatch.setattr(instructions, "count", count)
    return runs


@pytest.mark.parametrize(("slowed", "code", "runs"), [(0, 0, 1), (4, 0, 1), (6, 1, 2), (50, 1, 2)])
def test_five_in_a_hundred_more_instructions_fail(tmp_path, capsys, counted, slowed, code, runs):
    file = tmp_path / "baseline.json"
    file.write_text(json.dumps({"instructions": {HERE: COUNTS}}))
    assert gate.main(["--only", "instructions", "--slow", str(slowed), "--baseline", str(file)]) == code
    assert len(counted) == runs
    out = capsys.readouterr().out
    assert ("FAIL instructions of one call / reference: measured" in out) == bool(code)
    assert "baseline 2.500, allowed 2.625" in out


def test_without_a_baseline_nothing_passes(tmp_path, capsys, counted):
    assert gate.main(["--only", "instructions", "--baseline", str(tmp_path / "none.json")]) == 1
    assert "--update" in capsys.readouterr().err


@pytest.mark.parametrize(("measured", "code"), [(4.0, 0), (6.1, 1)])
def test_ratios_too_high_in_every_round_fail(tmp_path, monkeypatch, capsys, measured, code):
    file = tmp_path / "baseline.json"
    file.write_text(json.dumps({"ratios": {"chat-0.4k": 3.9, "stream": 1.5}}))
    rounds = []

    def ratio(name, slowed):
        rounds.append((name, slowed))
        return measured if name == "chat-0.4k" else 1.6

    monkeypatch.setattr(gate, "ratio", ratio)
    monkeypatch.setattr(gate, "need", lambda *programs: None)
    assert gate.main(["--only", "ratios", "--slow", "7", "--baseline", str(file)]) == code
    assert rounds == [("chat-0.4k", 7)] * (3 if code else 1) + [("stream", 7)]
    out = capsys.readouterr().out
    assert "ok   stream" in out
    assert f"chat-0.4k: CPU of fastgw / nginx: measured {measured:.3f}, baseline 3.900, allowed 4.875" in out


def test_no_verdict_is_no_pass():
    assert judge([]) == 1
    assert judge([Verdict("x", 1.0, 1.0, Bound(1.0, "why"), 1)]) == 0
    assert judge([Verdict("x", 1.01, 1.0, Bound(1.0, "why"), 1)]) == 1


def test_a_slow_down_on_purpose_is_no_baseline():
    with pytest.raises(SystemExit):
        gate.arguments(["--slow", "5", "--update"])


def test_the_committed_baseline_serves_every_check():
    found = json.loads(gate.BASELINE.read_text())
    assert set(found["ratios"]) == set(gate.RATIOS)
    for part in ("instructions", "times"):
        for figures in found[part].values():
            assert all(figures[name] > 0 for name in (*gate.COUNTED, "reference"))
