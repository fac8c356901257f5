import multiprocessing
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fastgw.state import secrets
from fastgw.state.secrets import SecretFileError, ensure_admin_key, ensure_demo_key, ensure_pepper, read_secret

KEY = re.compile(r"fgw-[0-9A-Za-z]{32}")


@pytest.mark.parametrize(
    ("ensure", "form"), [(ensure_admin_key, KEY), (ensure_demo_key, KEY), (ensure_pepper, re.compile(r"[0-9a-f]{64}"))]
)
def test_made_once(tmp_path: Path, ensure: Callable[[Path], Path], form: re.Pattern[str]) -> None:
    old = os.umask(0)
    try:
        path = ensure(tmp_path)
    finally:
        os.umask(old)
    text = read_secret(path)
    assert form.fullmatch(text)
    assert path.stat().st_mode & 0o777 == 0o600
    assert ensure(tmp_path) == path
    assert read_secret(path) == text
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_no_two_keys_are_alike() -> None:
    assert len({secrets.new_key() for _ in range(1000)}) == 1000


def _ensure(path: str) -> str:
    return read_secret(ensure_admin_key(path))


def test_who_comes_first_decides(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert len(set(pool.map(_ensure, [str(tmp_path)] * 20))) == 1


def test_files_that_are_not_ours_alone(tmp_path: Path) -> None:
    path = ensure_admin_key(tmp_path)
    path.chmod(0o640)
    with pytest.raises(SecretFileError, match="chmod 600"):
        ensure_admin_key(tmp_path)
    path.chmod(0o600)
    path.write_text("\n")
    with pytest.raises(SecretFileError, match="empty"):
        read_secret(path)
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(SecretFileError):
        ensure_admin_key(tmp_path)
    with pytest.raises(SecretFileError):
        read_secret(tmp_path)
    with pytest.raises(SecretFileError):
        read_secret(tmp_path / "none")
