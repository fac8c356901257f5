import os
from pathlib import Path

import pytest

from fastgw.node.cores import available_cores


@pytest.mark.parametrize(
    ("text", "expected"),
    [("max 100000", None), ("50000 100000", 1), ("100000 100000", 1), ("garbage", None), ("", None)],
)
def test_cgroup_v2(tmp_path: Path, text: str, expected: int | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert available_cores(tmp_path) == (expected or len(os.sched_getaffinity(0)))


def test_a_part_of_a_core_counts_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "cpu.max").write_text("250000 100000")
    assert available_cores(tmp_path) == 3


def test_cgroup_v1(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cores(tmp_path) == 1
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert available_cores(tmp_path) == len(os.sched_getaffinity(0))


def test_without_a_cgroup(tmp_path: Path) -> None:
    assert available_cores(tmp_path) == len(os.sched_getaffinity(0))
