"""Lanes and counters of the shared table, both twins: kills, forks, threads, folding, histograms."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests._core.table_twins import NOW, SECOND, TWINS, Core, level, lines, loaded, make, start_together


@pytest.fixture(params=TWINS)
def fresh(request, tmp_path) -> Iterator[Core]:
    """For what claims lanes: a table nobody else has claimed on."""
    core = make(loaded(request.param), tmp_path / "table-v2.map", slots=64)
    yield core
    core.table.close()


HOLD = """
lane = table.claim_lane(5)
lane.add(3, 7)
lane.beat(9)
print(lane.index, lane.generation, flush=True)
signal.pause()
"""


def test_a_killed_worker_frees_its_lane_and_keeps_its_counts(fresh):
    children = [fresh.run(HOLD) for _ in range(2)]
    said = sorted(child.stdout.readline().split() for child in children)
    assert said == [["0", "1"], ["1", "1"]]
    pids = {child.pid for child in children}
    assert {fresh.table.lane_info(n).pid for n in range(2)} == pids
    assert fresh.table.lane_info(1)[1:] == (5, 9, 1, True)
    assert fresh.table.lane_info(2) == (0, 0, 0, 0, False)
    assert fresh.table.counter_sum(3) == 14
    for child in children:
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=30)
    assert fresh.table.lane_info(0)[2:] == (9, 1, False)
    assert fresh.table.lane_info(0).pid in pids
    lanes = [fresh.table.claim_lane() for _ in range(2)]
    assert [(lane.index, lane.generation) for lane in lanes] == [(0, 2), (1, 2)]
    assert fresh.table.counter_sum(3) == 14
    for lane in lanes:
        lane.close()


def test_a_killed_worker_leaves_no_half_step(fresh):
    """Kills amid takes, adds and inserts: what others then find is whole."""
    script = """
lane = table.claim_lane()
rules = tuple(module.Limits([module.Limit(n, module.RATE, 0, 0, 10, 40)]) for n in (0, 1))
book = lane.book()
print("on", flush=True)
for n in range(10**9):
    lane.add(0, 1)
    lane.add(1, 1)
    entry = book.begin(bytes(16), 10**15, 0, b"", b"")
    book.take(entry, rules, 1, 0, 0, 10**15 + n * 10, (0, 0, 0))
    book.end(entry)
    table.slot((n % 40 + 1).to_bytes(16, "little"))
"""
    for _ in range(5):
        child = fresh.run(script)
        assert child.stdout.readline() == "on\n"
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=30)
        fresh.table.reap(0, lambda _: None, lambda _: None)
        lane = fresh.table.claim_lane()
        assert lane.index == 0
        first, second = fresh.table.counters_sum(0, 2)
        assert 0 <= first - second <= 5
        lane.close()
    ids = [n.to_bytes(16, "little") for n in range(1, 41)]
    assert len({fresh.table.slot(i) for i in ids}) == 40
    assert fresh.take((fresh.rule(10, 5, 0), fresh.rule(10, 5, 1)), 1, 2 * 10**15)[0] == -1


COUNT = """
lane = table.claim_lane()
ready()
for n in range(int(sys.argv[3])):
    lane.add(1, 1)
    lane.add(2, -2)
    lane.observe(10, n)
print(lane.index)
sys.stdin.readline()
"""


def test_two_processes_lose_no_count_and_sums_never_fall(fresh):
    times = 300_000 if fresh.module.__name__.endswith("_c") else 5_000
    children = [fresh.run(COUNT, times) for _ in range(2)]
    start_together(children)
    seen = [0]
    while seen[-1] < 2 * times and all(child.poll() is None for child in children):
        seen.append(fresh.table.counter_sum(1))
    assert seen == sorted(seen)
    assert sorted(child.stdout.readline() for child in children) == ["0\n", "1\n"]
    assert all(lines(child) == [] for child in children)
    assert fresh.table.counters_sum(1, 2) == [2 * times, -4 * times]
    count_sum = fresh.table.counters_sum(10 + fresh.module.HISTOGRAM_WORDS - 2, 2)
    assert count_sum == [2 * times, times * (times - 1)]


FORK = """
lane = table.claim_lane()
pid = os.fork()
if pid == 0:
    try:
        lane.add(0, 1)
    except module.TableError:
        found = table.lane_info(0)
        # In one piece: parent and child write to the same pipe.
        os.write(1, f"closed {found.held} {found.pid == os.getppid()}\\n".encode())
    signal.pause()
os.write(1, f"{pid}\\n".encode())
signal.pause()
"""


def test_a_forked_child_does_not_hold_its_parents_lane(fresh):
    worker = fresh.run(FORK)
    said = sorted(worker.stdout.readline() for _ in range(2))
    assert said[1] == "closed True True\n"
    worker.send_signal(signal.SIGKILL)
    worker.wait(30)
    try:
        assert not fresh.table.lane_info(0).held
        assert fresh.table.claim_lane().index == 0
    finally:
        os.kill(int(said[0]), signal.SIGKILL)
        worker.communicate(timeout=30)


THREADS = """
lane = table.claim_lane()
book = lane.book()
rules = (module.Limits([module.Limit(1, module.RATE, 0, 0, 10, 10**12)]),)
def work():
    entry = book.begin(bytes(16), 10**15, 0, b"", b"")
    for _ in range(3000):
        lane.add(0, 1)
        book.take(entry, rules, 1, 0, 0, 10**15, (0, 0, 0))
        book.settle(entry, 0, 1, 0, 0, 10**15)
    book.end(entry)
sys.setswitchinterval(1e-5)
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(table.counter_sum(0))
"""


def test_threads_lose_nothing(fresh):
    assert lines(fresh.run(THREADS)) == ["12000"]
    assert level(fresh, fresh.rule(10, 10**11 + 1, 1)) == 120_000


# -- lanes and counters ------------------------------------------------------------------------------------------------


def test_lanes_run_out_and_come_back(fresh):
    lanes = [fresh.table.claim_lane(n) for n in range(4)]
    assert [lane.index for lane in lanes] == [0, 1, 2, 3]
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(fresh.module.TableError, match="4 lanes are held"):
        fresh.table.claim_lane()
    assert len(os.listdir("/proc/self/fd")) == before
    lanes[2].close()
    lanes[2].close()
    assert fresh.table.lane_info(2) == (0, 2, 2, 1, False)
    again = fresh.table.claim_lane()
    assert (again.index, again.generation) == (2, 2)
    del lanes[1]
    assert fresh.table.claim_lane().index == 1


def test_folding_keeps_sums_and_empties_the_stripe(fresh):
    for n in range(1, 4):
        lane = fresh.table.claim_lane()
        assert (lane.index, lane.generation) == (0, n)
        before = fresh.table.counters_sum(0, 64)
        lane.add(0, 5)
        lane.add(63, -1)
        assert fresh.table.counters_sum(0, 64) == [before[0] + 5, *before[1:63], before[63] - 1]
        lane.close()
    assert (fresh.table.counter_sum(0), fresh.table.counter_sum(63)) == (15, -3)


def test_a_table_opened_again_has_its_counts_and_slots(fresh):
    lane, slot = fresh.table.claim_lane(), fresh.slot()
    lane.add(9, 4)
    rule = fresh.rule(SECOND, 5, slot)
    fresh.take((rule,), 2, NOW)
    lane.close()
    again = fresh.module.Table.open(fresh.path, create=False)
    assert (again.slots, again.lanes, again.counters) == (64, 4, 64)
    assert again.counter_sum(9) == 4
    assert level(fresh, rule) == 2 * SECOND
    other = fresh.module.Table.open(fresh.path, create=False, boot_id=b"another boot id.")
    assert level(fresh, rule) == 0
    assert other.counter_sum(9) == 4
    again.close()
    other.close()


BOUNDARIES = [0, 1, 2, 3, 4, 5, 1000, 1024, 1025, 2**27 - 1, 2**27, 2**27 + 1, 2**40, 2**64 - 1]


@pytest.mark.parametrize("value", BOUNDARIES)
def test_observe_finds_the_bucket(fresh, value):
    bounds, words = fresh.module.HISTOGRAM_BOUNDS_US, fresh.module.HISTOGRAM_WORDS
    lane = fresh.table.claim_lane()
    lane.observe(64 - words, value)
    seen = fresh.table.counters_sum(64 - words, words)
    expected = next((n for n, bound in enumerate(bounds) if value <= bound), len(bounds))
    assert [n for n, count in enumerate(seen[:-2]) if count] == [expected]
    assert seen[-2:] == [1, value if value < 2**63 else value - 2**64]
    assert bounds[0] == 1
    assert 130_000_000 < bounds[-1] < 135_000_000
    lane.close()


def test_bounds_of_counters(fresh):
    lane = fresh.table.claim_lane()
    words = fresh.module.HISTOGRAM_WORDS
    for call in (lambda: lane.add(64, 1), lambda: lane.add(-1, 1), lambda: lane.observe(65 - words, 1)):
        with pytest.raises(IndexError):
            call()
    for call in (lambda: lane.add(0, 2**63), lambda: lane.observe(0, -1), lambda: lane.observe(0, 2**64)):
        with pytest.raises(OverflowError):
            call()
    for start, n in [(64, 1), (-1, 1), (0, 65), (3, -1)]:
        with pytest.raises(IndexError):
            fresh.table.counters_sum(start, n)
    for bad in (-1, 4):
        with pytest.raises(IndexError):
            fresh.table.lane_info(bad)
    assert fresh.table.counters_sum(0, 64) == [0] * 64
    assert fresh.table.counters_sum(64, 0) == []
    lane.close()


def test_after_close_everything_says_so(fresh):
    lane = fresh.table.claim_lane()
    fresh.table.close()
    lane.add(0, 1)
    lane.beat(5)
    lane.close()
    for call in (
        lambda: lane.add(0, 1),
        lambda: lane.beat(5),
        lambda: lane.observe(0, 1),
        lambda: fresh.table.flag(0),
        lambda: fresh.table.slot(b"x" * 16),
        lambda: fresh.table.find(b"x" * 16),
        lambda: fresh.table.claim_lane(),
        lambda: fresh.table.counter_sum(0),
        lambda: fresh.table.lane_info(0),
    ):
        with pytest.raises(fresh.module.TableError, match="closed"):
            call()
