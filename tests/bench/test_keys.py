import json
import shutil
from collections import Counter

import pytest

from bench import keys, load, payloads, servers
from bench.cases import CASES, QUICK
from bench.processes import BenchError, Stage
from fastgw.recorder.read import export

tools = pytest.mark.skipif(
    not all(map(shutil.which, ("nginx", "wrk", "taskset", "setpriv"))), reason="nginx or wrk is not installed"
)
COUNT = 7


def test_the_cases_are_there():
    assert {"keys", "plan-swap"} <= set(CASES)
    assert QUICK.swaps < 20


def test_a_config_has_its_keys_beside_it(tmp_path):
    config = keys.written(tmp_path / "config", COUNT, tmp_path / "data")
    rows = [json.loads(line) for line in (config.parent / "keys.jsonl").read_text().splitlines()]
    assert len({row["hash"] for row in rows}) == len({row["name"] for row in rows}) == COUNT
    assert all(len(row["limits"]) == 4 for row in rows)
    assert config.read_text().startswith("keys_file: keys.jsonl\n")


@pytest.fixture(scope="module")
def node():
    with Stage() as stage:
        server, directory = keys.started(stage, servers.answering_nginx(stage), COUNT, workers=2)
        yield stage, server, directory


@tools
@pytest.mark.slow
def test_every_key_is_asked_by_as_often_as_the_others(node):
    stage, server, directory = node
    body = stage.path("body.json")
    body.write_bytes(payloads.chat(400))
    found = load.run(stage, server, body=body, seconds=1, connections=2, keys=COUNT, delay=5)
    assert 20 < found.requests < 400, "each waits between its requests"
    assert found.failures == 0
    rows = (json.loads(line) for line in export(str(directory / "data"), 0, 1 << 62))
    asked = Counter(row["key"] for row in rows)
    assert set(asked) == {f"numbered-{number:06d}" for number in range(COUNT)}
    assert max(asked.values()) - min(asked.values()) <= 2


@tools
@pytest.mark.slow
def test_a_swap_ends_when_every_worker_has_the_plan(node):
    _, server, directory = node
    for turn in (1, 2):
        before, _ = keys.revisions(directory)
        spent, followed = keys.swap(server, directory, turn)
        assert 0 <= followed <= spent < 20
        assert keys.revisions(directory) == (before + 1, before + 1)


def test_load_that_fails_is_told():
    def fails() -> load.Load:
        raise BenchError("refused")

    with keys.Asking(fails) as asking:
        asking._thread.join(5)
    assert (asking.problem, asking.failed, asking.answered) == ("refused", 1, 0)
