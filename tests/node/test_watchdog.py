"""Who is replaced for want of a sign of life, and who is not."""

from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from fastgw.node import watchdog
from fastgw.plan.edge import Edge
from tests.policies.support import plan_of

NS = 10**9


class Bench:
    """A worker in lane 3, and a clock."""

    def __init__(self, monkeypatch, state="ready"):
        self.now, self.killed, self.said = 1000.0, 0, []
        monkeypatch.setattr(watchdog.time, "monotonic", lambda: self.now)
        self.beat = SimpleNamespace(pid=7, beat_ns=1000 * NS)
        self.process = SimpleNamespace(state=state, lane=3, pid=7, heard=1000.0, kill=self.kill)
        self.place = SimpleNamespace(name="worker 0", processes=(self.process,))
        table = SimpleNamespace(lane_info={3: self.beat}.__getitem__)
        log = SimpleNamespace(error=lambda event, **facts: self.said.append(event))
        self.dog = watchdog.Watchdog(table, log)

    def kill(self):
        self.killed += 1

    def look(self, limit=5.0, seconds=1.0):
        self.now += seconds
        self.dog.look([self.place], replace(plan_of(), edge=Edge(watchdog=limit)))
        return self.killed


@pytest.fixture
def bench(monkeypatch):
    return Bench(monkeypatch)


def test_a_silent_worker_is_ended_once(bench):
    assert [bench.look() for _ in range(8)] == [0, 0, 0, 0, 0, 1, 1, 1]
    assert (bench.said, bench.process.state) == (["child_stuck"], "stuck")


def test_a_sign_by_either_way_will_do(bench):
    for number in range(12):
        bench.beat.beat_ns = int(bench.now * NS) if number % 4 == 0 else bench.beat.beat_ns
        assert not bench.look()
    for _ in range(12):
        bench.process.heard = bench.now
        assert not bench.look()


def test_who_was_stopped_together_with_the_node_gets_another_round(bench):
    assert not bench.look(seconds=3600.0)
    assert bench.look() == 1, "and no second one"


def test_a_beat_of_the_lanes_former_owner_is_none(bench):
    bench.beat.pid = 6
    bench.beat.beat_ns = 5000 * NS
    assert [bench.look() for _ in range(6)][-1] == 1


@pytest.mark.parametrize("state", ["starting", "gone", "stuck"])
def test_only_who_serves_is_looked_at(monkeypatch, state):
    assert [Bench(monkeypatch, state).look() for _ in range(9)][-1] == 0


def test_off_is_off(bench):
    assert [bench.look(limit=0.0) for _ in range(30)][-1] == 0
