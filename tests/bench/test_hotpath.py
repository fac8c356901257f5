import os
import subprocess
import sys

import pytest

from bench import servers, slow
from bench.hotpath import HotPath
from fastgw.recorder import read


@pytest.fixture
async def path(tmp_path):
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    made = HotPath(directory)
    yield made
    await made.close()


async def test_calls_and_streams_leave_their_records(path, tmp_path):
    await path.calls(7, stream=False)
    await path.calls(3, stream=True)
    lines = list(read.export(str(tmp_path / "data"), 0, 1 << 62, lambda problem: pytest.fail(problem)))
    assert len(lines) == 10
    assert sum(b'"stream":true' in line for line in lines) == 3
    assert all(b'"output_tokens":50' in line and b'"status":200' in line for line in lines)


async def test_a_call_that_goes_wrong_is_no_measurement(path, monkeypatch):
    monkeypatch.setattr("bench.hotpath.payloads.CALLER_KEY", "sk-somebody-else-0123456789")
    with pytest.raises(RuntimeError, match="status 401"):
        await path.calls(1, stream=False)


async def test_the_slow_down_is_in_the_path_of_a_call(tmp_path, monkeypatch):
    burnt = []
    monkeypatch.setattr(slow, "burn", burnt.append)
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    path = HotPath(directory, slowed=9)
    await path.calls(4, stream=False)
    await path.close()
    assert burnt == [9] * 4


@pytest.mark.parametrize(
    ("program", "microseconds", "name"),
    [
        ("fastgw.gateway.worker", "5", "slow"),
        ("fastgw.gateway.worker", "", "_scan"),
        ("fastgw.console", "5", "_scan"),
    ],
)
def test_only_a_worker_that_is_to_be_slow_is_slowed(program, microseconds, name):
    environ = {
        **os.environ,
        "PYTHONPATH": f"{servers.ROOT}:{servers.ROOT / 'bench' / 'slow_start'}",
        slow.VARIABLE: microseconds,
    }
    code = "from fastgw.gateway.pipeline import Pipeline; print(Pipeline._scan.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code, program], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == name
