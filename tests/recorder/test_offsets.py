"""The recorder's file: what is saved comes back, and what cannot be read is refused by name."""

import os

import pytest

from fastgw.recorder.offsets import STATE, Export, Position, State, StateError, Sums, load, save


def test_what_is_saved_comes_back(tmp_path):
    state = State(
        segments={"a.seg": Position(64), "b.seg": Position(640, done=True, damaged=True)},
        exports={"2024-10-04.jsonl": Export(10, Sums(1, 2, 3, 4))},
        expired=Sums(5, 6, 7, 1 << 62),
        totals=Sums(6, 8, 10, 1 << 62),
        damaged=1,
        unreadable=2,
    )
    assert load(tmp_path) is None
    save(tmp_path, state)
    assert load(tmp_path) == state
    assert (tmp_path / STATE).stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == [STATE]


def test_states_share_nothing():
    one, two = State(), State()
    one.totals.records = one.exports.setdefault("x", Export()).sums.records = 7
    one.segments["x"] = Position(64)
    assert two == State()
    assert Sums(1, 2, 3, 4) + Sums(10, 20, 30, 40) == Sums(11, 22, 33, 44)


@pytest.mark.parametrize(
    ("text", "said"), [(b"", "damaged"), (b"[]", "damaged"), (b"\xff", "damaged"), (b'{"version":9}', "version 9")]
)
def test_others_are_refused(tmp_path, text, said):
    (tmp_path / STATE).write_bytes(text)
    with pytest.raises(StateError, match=said):
        load(tmp_path)


def test_a_disk_that_refuses_leaves_the_old_one(tmp_path, monkeypatch):
    save(tmp_path, State(damaged=1))
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, State(damaged=2))
    assert load(tmp_path) == State(damaged=1)
