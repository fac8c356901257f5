import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastgw.node.datadir import DataDir
from fastgw.node.errors import StartError


def refusal(path: Path) -> str:
    with pytest.raises(StartError) as caught:
        DataDir.hold(path)
    assert caught.value.code == 4
    return caught.value.problems[0]


def test_made_private_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        held = DataDir.hold(tmp_path / "a" / "b")
    finally:
        os.umask(old)
    assert held.path.stat().st_mode & 0o777 == 0o700
    assert (held.path / "lock").stat().st_mode & 0o777 == 0o600
    held.release()
    held.release()


def test_one_at_a_time(tmp_path: Path) -> None:
    held = DataDir.hold(tmp_path / "d")
    assert f"pid {os.getpid()}" in refusal(tmp_path / "d")
    held.release()
    DataDir.hold(tmp_path / "d").release()


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = "import sys, os; from fastgw.node.datadir import DataDir; d = DataDir.hold(sys.argv[1]); os.abort()"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "d")], check=False).returncode == -6
    DataDir.hold(tmp_path / "d").release()


def test_unsafe_places(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o750)
    assert "chmod 700" in refusal(tmp_path / "open")
    (tmp_path / "file").write_text("")
    assert "file" in refusal(tmp_path / "file")
    assert "file" in refusal(tmp_path / "file" / "below")
    (tmp_path / "linked").mkdir(mode=0o700)
    (tmp_path / "linked" / "lock").symlink_to(tmp_path / "file")
    assert "linked" in refusal(tmp_path / "linked")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_of_another_user(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    os.chown(tmp_path / "d", 12345, 12345)
    assert "belongs to user 12345" in refusal(tmp_path / "d")
