"""Every input known to be of interest, and 200 new ones for each target, the same at each run; longer: `make fuzz`."""

import json
from pathlib import Path

import pytest

from fastgw import _core
from tests.fuzz import run, targets, wire
from tests.fuzz.mutate import RAW, Mutator
from tests.fuzz.targets import CORPUS, FOUND, TARGETS, Target, files

MUTATIONS = 200
LARGE = 8192
"""Seeds beyond this are for the long runs: here they would take most of the time."""


def tried(name: str, data: bytes) -> str:
    try:
        with run.bounded():
            return run.outcome(TARGETS[name], data)
    except Exception as error:
        error.add_note(f"{name}: {data[:2000]!r}")
        raise


@pytest.mark.parametrize("name", TARGETS)
def test_known_inputs(name: str):
    found = files(name)
    assert found, "a target needs at least one input to begin with"
    for path in found:
        tried(name, path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_new_inputs(name: str):
    seeds = [data for data in (path.read_bytes() for path in files(name)) if len(data) <= LARGE]
    mutator = Mutator(seeds, TARGETS[name].tokens, name)
    for _ in range(MUTATIONS):
        tried(name, mutator.next()[:LARGE])


def test_no_file_is_of_no_target():
    assert {path.name for folder in (CORPUS, FOUND) if folder.exists() for path in folder.iterdir()} <= set(TARGETS)


# -- the fuzzer itself -------------------------------------------------------------------------------------------------


def broken(data: bytes) -> int:
    if data.startswith(b"ab") and b"\xff" in data:
        raise KeyError("planted")
    if b"!" in data:
        raise ValueError("allowed")
    return len(data)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setitem(TARGETS, "planted", Target(broken, (ValueError,), (b"ab", b"!"), native=True))
    monkeypatch.setattr(run, "FOUND", tmp_path / "found")
    monkeypatch.setattr(run, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr(targets, "CORPUS", tmp_path / "corpus")
    return tmp_path


def test_what_fails_is_found_and_kept(planted: Path, capsys: pytest.CaptureFixture[str]):
    assert run.fuzz("planted", 20.0, 1, most=1) == 1
    (kept,) = (planted / "found" / "planted").iterdir()
    with pytest.raises(KeyError):
        broken(kept.read_bytes())
    assert "planted: " in capsys.readouterr().out
    assert list((planted / "scratch").iterdir()) == []


def test_what_takes_too_long_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run, "SLOW_S", 0.05)
    with pytest.raises(run.SlowError), run.bounded():
        while True:
            pass


def test_a_run_under_the_sanitizer_knows_its_modules(tmp_path: Path):
    assert (run.unfit("") == "") is not bool(_core.REASONS)
    assert run.unfit(str(tmp_path)) != ""


def test_a_seed_gives_the_same_inputs():
    made = [
        [mutator.next() for _ in range(300)] for mutator in (Mutator([b'{"a":[1,2]}'], (b"x",), 1) for _ in range(2))
    ]
    assert made[0] == made[1]
    assert len(set(made[0])) > 200
    other = Mutator([b'{"a":[1,2]}'], (b"x",), 2)
    assert made[0] != [other.next() for _ in range(300)]


def test_structure_is_changed_where_there_is_any():
    document = b'{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"t"}]}],"stream":true}'
    mutator = Mutator([document], (), 1)
    kinds = {type(mutator._structured(document)) for _ in range(50)}
    assert kinds == {bytes}
    made = {mutator._structured(b"data: " + document + b"\n\n") for _ in range(300)}
    assert all(one.startswith(b"data: {") and one.endswith(b"}\n\n") for one in made if one)
    assert any(raw in one for one in made if one for raw in RAW[10:])
    assert mutator._structured(b"no json") is None
    assert mutator._structured(b"[" * 100_000) is None


def test_the_pieces_are_the_whole():
    data = json.dumps(list(range(100))).encode()
    assert b"".join(wire.pieces(data)) == data
    assert wire.pieces(data) == wire.pieces(data)
    assert len(wire.pieces(data)) > 1


@pytest.mark.parametrize(
    ("raw", "head_only", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", False, True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok!", False, False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", True, True),
        (b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 204 N\r\n\r\n", False, True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", False, True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n", False, True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP", False, False),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", False, False),
    ],
)
def test_the_reference_knows_the_end_of_a_reply(raw: bytes, head_only: bool, whole: bool):
    assert wire.ends_exactly(raw, head_only) is whole
