"""The recorder takes each record once, whatever befalls it, and says what it could not take."""

import errno
import itertools
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fastgw.recorder import offsets, recorder
from fastgw.recorder.offsets import STATE, StateError, records_dir
from fastgw.recorder.recorder import InUseError, Recorder, recorded
from fastgw.state import segment
from fastgw.state.spool import janitor, spool_dir
from tests.recorder.support import DAY_US, NOON_US, exported, put, rows, take_all, writer

COUNT = 250
"""Records of a writer; eight segments of a page or so."""

ABANDON = """
import os, sys
from fastgw.state.spool import Writer
from fastgw.telemetry.record import Record, encode
w = Writer(sys.argv[1], 7, 4096)
for n in range(100):
    w.prepare()
    w.append(encode(Record(id=f"dead-{n}", ts=20_000 * 86_400_000_000)))
os._exit(0)
"""


class Killed(BaseException):
    """Stands for the death of the process."""


def test_each_record_is_in_the_file_of_its_day_once(tmp_path):
    lanes = [writer(tmp_path, lane) for lane in range(3)]
    for n in range(COUNT):
        put(lanes[n % 3], n, NOON_US + (n % 2) * DAY_US)
    one = take_all(tmp_path)
    for n in range(COUNT, 2 * COUNT):
        put(lanes[n % 3], n, NOON_US)
    while one.step():
        pass
    assert sorted(exported(tmp_path), key=int) == [str(n) for n in range(2 * COUNT)]
    files = sorted(records_dir(tmp_path).glob("*.jsonl"))
    assert [file.name for file in files] == ["2024-10-04.jsonl", "2024-10-05.jsonl"]
    assert [row["id"] for row in rows(files[1])] == [row["id"] for row in rows(files[1]) if int(row["id"]) % 2]
    assert {file.stat().st_mode & 0o777 for file in [*files, records_dir(tmp_path) / STATE]} == {0o600}
    total = sum(range(2 * COUNT))
    assert recorded(tmp_path).totals.figures == (2 * COUNT, total, 2 * total, 3 * total)
    one.close()
    for lane in lanes:
        lane.close()


def test_the_next_one_goes_on_where_the_last_one_committed(tmp_path):
    lane = writer(tmp_path)
    for turn in range(5):
        for n in range(turn * COUNT, (turn + 1) * COUNT):
            put(lane, n)
        take_all(tmp_path).close()
    assert exported(tmp_path) == [str(n) for n in range(5 * COUNT)]
    lane.close()


def _die_at(monkeypatch: pytest.MonkeyPatch, moment: int) -> itertools.count:
    """The ``moment``th change of the disk dies half done; the counter tells how many there were."""
    calls = itertools.count()

    def mortal(name, real, halfway):
        def act(*args, **options):
            if next(calls) == moment:
                halfway(*args)
                raise Killed
            return real(*args, **options)

        monkeypatch.setattr(name, act)

    def nothing(*_):
        pass

    pwrite = os.pwrite
    mortal("os.pwrite", pwrite, lambda fd, data, at: pwrite(fd, data[: len(data) // 2], at))
    mortal("os.fdatasync", os.fdatasync, nothing)
    mortal("os.fsync", os.fsync, nothing)
    mortal("pathlib.Path.replace", Path.replace, nothing)
    mortal("os.truncate", os.truncate, nothing)
    mortal("pathlib.Path.unlink", Path.unlink, nothing)
    return calls


def test_a_death_at_any_point_loses_and_doubles_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "BATCH", 40)
    deaths = 0
    for moment in itertools.count():
        data = tmp_path / str(moment)
        lanes = [writer(data, lane) for lane in range(2)]
        for n in range(120):
            put(lanes[n % 2], n, NOON_US + (n % 3) * DAY_US)
        for lane in lanes:
            lane.close()
        with monkeypatch.context() as patch:
            _die_at(patch, moment)
            one = None
            try:
                one = Recorder(data, lambda problem: pytest.fail(problem))
                while one.step():
                    pass
                one.expire(100_000, NOON_US / 1e6)
                died = False
            except Killed:
                died = True
        if one is not None:
            one.close()
        deaths += died
        take_all(data).close()
        assert sorted(exported(data), key=int) == [str(n) for n in range(120)], f"died at {moment}"
        assert recorded(data).totals.records == 120
        if not died:
            break
    assert deaths > 20


def test_a_death_while_it_recovers_or_expires_is_no_different(tmp_path, monkeypatch):
    for moment in itertools.count():
        data = tmp_path / str(moment)
        lane = writer(data)
        for n in range(60):
            put(lane, n, NOON_US + (n % 3) * DAY_US)
        take_all(data).close()
        with (records_dir(data) / "2024-10-04.jsonl").open("ab") as file:
            file.write(b'{"id":"never commit')
        (records_dir(data) / "2024-10-09.jsonl").write_bytes(b'{"id":"nor this"}\n')
        with monkeypatch.context() as patch:
            _die_at(patch, moment)
            one = None
            try:
                one = Recorder(data, lambda problem: pytest.fail(problem))
                one.expire(1, (NOON_US + 2 * DAY_US) / 1e6)
                died = False
            except Killed:
                died = True
        if one is not None:
            one.close()
        two = take_all(data)
        two.expire(1, (NOON_US + 2 * DAY_US) / 1e6)
        two.close()
        lane.close()
        assert sorted(exported(data), key=int) == [str(n) for n in range(60) if n % 3]
        state = recorded(data)
        assert (state.totals.records, state.expired.records) == (60, 20)
        if not died:
            break
    assert moment > 3


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_full_disk_costs_nothing_but_time(tmp_path, monkeypatch, number):
    lane = writer(tmp_path)
    for n in range(100):
        put(lane, n)
    one = take_all(tmp_path)
    for n in range(100, 200):
        put(lane, n)
    pwrite = os.pwrite

    def full(fd, data, at):
        if len(data) < 200:
            raise OSError(number, os.strerror(number))
        return pwrite(fd, data[: len(data) // 2], at)

    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            with pytest.raises(OSError, match=os.strerror(number)):
                one.step()
        one.reload()
        assert exported(tmp_path) == [str(n) for n in range(100)]
    assert not one.step()
    assert exported(tmp_path) == [str(n) for n in range(200)]
    one.close()
    lane.close()


@pytest.mark.parametrize(("most", "bytes_most", "commits"), [(7, 1 << 20, 15), (1000, 2_000, 1), (1000, 1, 3)])
def test_a_commit_holds_so_many_records_or_so_many_bytes(tmp_path, monkeypatch, most, bytes_most, commits):
    monkeypatch.setattr(recorder, "BATCH", most)
    monkeypatch.setattr(recorder, "BATCH_BYTES", bytes_most)
    lane = writer(tmp_path)
    for n in range(100):
        put(lane, n)
    sizes, one = [], Recorder(tmp_path, pytest.fail)
    while True:
        more, before = one.step(), sum(sizes)
        sizes.append(one.state.totals.records - before)
        if not more:
            break
    assert sum(sizes) == 100
    assert max(sizes) <= most
    assert len(sizes) >= commits
    assert exported(tmp_path) == [str(n) for n in range(100)]
    one.close()
    lane.close()


def test_only_one_recorder_at_a_time(tmp_path):
    one = Recorder(tmp_path, pytest.fail)
    with pytest.raises(InUseError, match="another recorder is at work"):
        Recorder(tmp_path, pytest.fail)
    one.close()
    Recorder(tmp_path, pytest.fail).close()


def test_files_it_cannot_go_on_with_are_refused_and_left_alone(tmp_path):
    lane = writer(tmp_path)
    for n in range(10):
        put(lane, n)
    take_all(tmp_path).close()
    lane.close()
    directory = records_dir(tmp_path)
    whole, lines = (directory / STATE).read_bytes(), (directory / "2024-10-04.jsonl").read_bytes()
    for text, said in (
        (None, "is missing beside exports"), (whole[:-3], "damaged"), (b"", "damaged"),
        (whole.replace(b'"version":1', b'"version":2'), "version 2 is not known"),
    ):  # fmt: skip
        (directory / STATE).unlink() if text is None else (directory / STATE).write_bytes(text)
        with pytest.raises(StateError, match=said):
            Recorder(tmp_path, pytest.fail)
        assert (directory / "2024-10-04.jsonl").read_bytes() == lines
    (directory / STATE).write_bytes(whole)
    (directory / "2024-10-04.jsonl").write_bytes(lines[:-1])
    with pytest.raises(StateError, match=r"has \d+ bytes, but \d+ were recorded"):
        Recorder(tmp_path, pytest.fail)
    (directory / "2024-10-04.jsonl").write_bytes(lines)
    take_all(tmp_path).close()
    assert len(exported(tmp_path)) == 10


def test_an_export_somebody_took_away_counts_as_expired(tmp_path):
    lane = writer(tmp_path)
    for n in range(20):
        put(lane, n, NOON_US + (n % 2) * DAY_US)
    one = take_all(tmp_path)
    one.close()
    (records_dir(tmp_path) / "2024-10-04.jsonl").unlink()
    problems: list[str] = []
    one = take_all(tmp_path, problems)
    put(lane, 20)
    one.step()
    assert ["is gone" in text for text in problems] == [True]
    assert exported(tmp_path) == ["20", *(str(n) for n in range(1, 20, 2))]
    assert (one.state.expired.records, one.state.totals.records) == (10, 21)
    one.close()
    lane.close()


def test_a_dead_workers_segment_ends_where_it_died(tmp_path):
    subprocess.run([sys.executable, "-c", ABANDON, str(spool_dir(tmp_path))], check=True)
    one = take_all(tmp_path)
    assert exported(tmp_path) == [f"dead-{n}" for n in range(100)]
    # The spare it had ready stays unread and is the janitor's.
    unread = [name for name in segment.segment_names(spool_dir(tmp_path)) if name not in one.state.segments]
    assert len(unread) <= 1
    assert all(position.done and not position.damaged for position in one.state.segments.values())
    janitor(spool_dir(tmp_path), 1 << 30, settled=list(one.state.segments))
    assert segment.segment_names(spool_dir(tmp_path)) == []
    one.step()
    assert one.state.segments == {}
    one.close()


def test_a_broken_frame_costs_the_rest_of_its_segment_and_is_told(tmp_path):
    lane = writer(tmp_path)
    for n in range(COUNT):
        put(lane, n)
    lane.close()
    paths = [spool_dir(tmp_path) / name for name in segment.segment_names(spool_dir(tmp_path))]
    frames = list(segment.frames(paths[1]))
    at, payload = frames[5]
    data = bytearray(paths[1].read_bytes())
    data[at + 8 + len(payload) // 2] ^= 255
    paths[1].write_bytes(data)
    paths[2].write_bytes(b"x" * 100)
    lost = len(frames) - 5
    problems: list[str] = []
    one = take_all(tmp_path, problems)
    assert one.state.damaged == 2
    assert len(problems) == 2
    assert "checksum" in problems[0]
    assert "not a spool segment" in problems[1]
    got = [int(n) for n in exported(tmp_path)]
    assert got == sorted(set(got))
    assert got[0] == 0
    assert got[-1] == COUNT - 1
    assert COUNT - len(got) > lost
    one.step()
    assert len(problems) == 2
    one.close()


def test_a_frame_that_is_no_record_is_counted_and_passed_over(tmp_path):
    lane = writer(tmp_path)
    put(lane, 1)
    assert lane.append(b"\xc1 no record")
    put(lane, 3, ts=1 << 62)
    put(lane, 4, ts=-(1 << 62))
    put(lane, 2)
    problems: list[str] = []
    one = take_all(tmp_path, problems)
    assert exported(tmp_path) == ["1", "2"]
    assert (one.state.unreadable, one.state.totals.records) == (3, 2)
    assert ["not a record" in text for text in problems] == [True, False, False]
    one.close()
    lane.close()


def test_old_exports_are_deleted_by_the_day(tmp_path):
    lane = writer(tmp_path)
    for n in range(50):
        put(lane, n, NOON_US + (n % 5) * DAY_US)
    one = take_all(tmp_path)
    now = datetime(2024, 10, 8, 0, 0, 1, tzinfo=UTC).timestamp()
    assert one.expire(30, now) == []
    assert sorted(one.expire(2, now)) == ["2024-10-04.jsonl", "2024-10-05.jsonl"]
    assert sorted(path.name for path in records_dir(tmp_path).glob("*.jsonl"))[0] == "2024-10-06.jsonl"
    put(lane, 50)
    one.step()
    assert exported(tmp_path)[0] == "50"
    assert (one.state.expired.records, one.state.totals.records) == (20, 51)
    assert offsets.load(records_dir(tmp_path)) == one.state
    one.close()
    lane.close()
