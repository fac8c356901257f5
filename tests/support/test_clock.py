"""The clock that tests move: the time of day moves, for all or for one process, and nothing else does."""

import subprocess
import sys
import time
from pathlib import Path

from tests.support.clock import Clock

TELL = """
import datetime, sys, time
for line in sys.stdin:
    began = time.monotonic()
    time.sleep(0.01)
    assert 0.009 < time.monotonic() - began < 5
    print(time.time(), int(time.strftime("%s", time.gmtime())), datetime.datetime.now().timestamp(), flush=True)
"""


def start(clock: Clock) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", TELL]
    return subprocess.Popen(command, env=clock.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def tell(process: "subprocess.Popen[str]") -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    first, *others = map(float, process.stdout.readline().split())
    assert all(abs(first - other) < 2 for other in others), others
    return first


def test_the_time_of_day_moves_for_all_or_for_one(tmp_path: Path) -> None:
    with Clock(tmp_path) as clock:
        processes = [start(clock) for _ in range(2)]
        assert all(abs(tell(one) - time.time()) < 5 for one in processes)
        for step in (3600.0, -86_400.0):
            before = clock.now()
            clock.move(step)
            assert abs(clock.now() - before - step) < 5
            assert all(abs(tell(one) - clock.now()) < 5 for one in processes)
        clock.set(2**31 - 2)
        clock.apart(processes[1].pid, -100.0)
        assert [round(tell(one) - clock.now(), -1) for one in processes] == [0, -100]
        for process in processes:
            process.communicate(timeout=30)
            assert process.returncode == 0
