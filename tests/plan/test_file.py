"""The plan file: what was written is read, and nothing else is."""

import os
import stat

import pytest

from fastgw.plan import file as plan_file
from fastgw.plan.file import MAGIC, PlanFileError, read, write
from tests.plan.support import MODELS, PROVIDERS, compiled


@pytest.fixture
def plan(tmp_path):
    key = "name: a, secret: sk-12345678, models: [fast, 'up/*'], limits: {requests: 60/min}, expires: 2030-01-01"
    keys = f"keys: [{{{key}}}]\n"
    price = MODELS.replace("model: m", "model: m, price: {input: 0.15, output: 0.6}")
    return compiled(tmp_path, PROVIDERS + price + keys)


def test_round_trip(tmp_path, plan):
    write(tmp_path / "plan", plan)
    assert read(tmp_path / "plan") == plan
    assert next(iter(read(str(tmp_path / "plan")).keys)).models == frozenset({"fast"})


def test_the_file_is_private_whatever_the_umask_and_whoever_was_there(tmp_path, plan):
    path = tmp_path / "plan"
    path.write_text("old")
    path.chmod(0o644)
    before = os.umask(0)
    try:
        write(path, plan)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(name for name in os.listdir(tmp_path) if name.startswith("plan")) == ["plan"]


def test_every_changed_byte_is_noticed(tmp_path, plan):
    path = tmp_path / "plan"
    write(path, plan)
    whole = path.read_bytes()
    for at in {*range(0, len(whole), 37), 0, len(MAGIC), len(MAGIC) + 32, len(whole) - 1}:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(PlanFileError):
            read(path)


def test_every_cut_is_noticed(tmp_path, plan):
    path = tmp_path / "plan"
    write(path, plan)
    whole = path.read_bytes()
    for end in {*range(0, len(whole), 29), len(MAGIC), len(MAGIC) + 32, len(whole) - 1}:
        path.write_bytes(whole[:end])
        with pytest.raises(PlanFileError):
            read(path)


def test_another_version_and_no_file_are_told_apart(tmp_path):
    with pytest.raises(PlanFileError, match="No such file"):
        read(tmp_path / "none")
    (tmp_path / "other").write_bytes(MAGIC.replace(b"1", b"2") + bytes(99))
    with pytest.raises(PlanFileError, match="version"):
        read(tmp_path / "other")


def test_a_true_checksum_over_what_is_no_plan(tmp_path):
    body = b"\x93\x01\x02\x03"
    digest = plan_file.hashlib.blake2b(body, digest_size=plan_file.DIGEST_BYTES).digest()
    (tmp_path / "odd").write_bytes(MAGIC + digest + body)
    with pytest.raises(PlanFileError, match="odd"):
        read(tmp_path / "odd")


def test_a_draft_left_by_a_crash_is_in_nobodys_way(tmp_path, plan):
    (tmp_path / "plan.draft").write_bytes(b"half")
    write(tmp_path / "plan", plan)
    assert read(tmp_path / "plan") == plan


def test_a_failed_write_leaves_the_old_plan_and_no_draft(tmp_path, plan):
    (tmp_path / "plan").mkdir()
    with pytest.raises(OSError):
        write(tmp_path / "plan", plan)
    assert not (tmp_path / "plan.draft").exists()


def test_no_errors_text_holds_what_is_in_the_plan(tmp_path, plan):
    path = tmp_path / "plan"
    write(path, plan)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(PlanFileError) as caught:
        read(path)
    assert "sk-12345678" not in str(caught.value)
    assert plan.pepper not in str(caught.value).encode("latin-1", "replace")
