"""The files of the exports: names, order, ends."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.recorder import exports
from fastgw.recorder.exports import Exports
from fastgw.recorder.offsets import Export, State, Sums
from fastgw.telemetry.record import Record, to_json_line
from tests.recorder.support import DAY_US, NOON_US


@pytest.mark.parametrize(
    ("ts", "name"),
    [
        (0, "1970-01-01.jsonl"),
        (DAY_US - 1, "1970-01-01.jsonl"),
        (DAY_US, "1970-01-02.jsonl"),
        (NOON_US, "2024-10-04.jsonl"),
        (1_709_164_800_000_000, "2024-02-29.jsonl"),
        (2**31 * 1_000_000, "2038-01-19.jsonl"),
    ],
)
def test_a_record_belongs_to_the_utc_day_of_its_ts(ts, name):
    assert exports.name_of(ts) == name
    assert exports.overlaps(name, ts, ts + 1)
    assert not exports.overlaps(name, ts + DAY_US, ts + 2 * DAY_US)
    assert not exports.overlaps(name, ts - 2 * DAY_US, ts - DAY_US)


def write(directory, stamps):
    state = State()
    files = Exports(directory, state)
    for n, ts in enumerate(stamps):
        files.add(Record(id=str(n), ts=ts, input_tokens=n, cost_nano=None if n % 2 else n))
        files.write()
    files.sync()
    files.close()
    return state


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 500), min_size=1, max_size=60), st.integers(0, 500), st.integers(0, 500))
def test_lines_come_back_in_the_order_of_ts(tmp_path_factory, offsets, since, until):
    directory = tmp_path_factory.mktemp("records")
    state = write(directory, [NOON_US + offset for offset in offsets])
    (name, export), *others = state.exports.items()
    assert not others
    got = list(exports.in_order(directory / name, export.size, NOON_US + since, NOON_US + until))
    assert [ts - NOON_US for ts, _ in got] == sorted(offset for offset in offsets if since <= offset < until)
    assert all(exports.read_line(line).ts_us == ts and line.endswith(b"\n") for ts, line in got)


@pytest.mark.parametrize("n", [0, 1, 5, 40, 100])
@pytest.mark.parametrize("chunk", [7, 300, 1 << 20])
def test_last_lines(tmp_path, monkeypatch, n, chunk):
    monkeypatch.setattr(exports, "_CHUNK", chunk)
    state = write(tmp_path, [NOON_US] * 40)
    path = tmp_path / "2024-10-04.jsonl"
    size = state.exports[path.name].size
    with path.open("ab") as file:
        file.write(b'{"id":"uncommitted"}\n{"id":')
    lines = exports.last_lines(path, size, n)
    assert lines == path.read_bytes()[:size].splitlines(keepends=True)[max(0, 40 - n) :]


def test_sums_are_those_of_the_committed_lines(tmp_path):
    state = write(tmp_path, [NOON_US] * 10)
    path = tmp_path / "2024-10-04.jsonl"
    with path.open("ab") as file:
        file.write(path.read_bytes())
    export = state.exports[path.name]
    assert exports.add_up(path, export.size) == export.sums == Sums(10, 45, 0, 20)


def test_many_days_keep_few_files_open(tmp_path):
    state = State()
    files = Exports(tmp_path, state)
    for n in range(20):
        files.add(Record(id=str(n), ts=NOON_US + n * DAY_US))
    files.write()
    files.sync()
    assert len(files._open) == exports.MOST_OPEN
    for n in range(20):
        files.add(Record(id=str(n), ts=NOON_US + n * DAY_US))
    files.write()
    files.sync()
    assert {export.sums.records for export in state.exports.values()} == {2}
    assert len(exports.names(tmp_path)) == 20
    assert files.expire(date(2024, 10, 6)) == ["2024-10-04.jsonl", "2024-10-05.jsonl"]
    files.close()


@pytest.mark.parametrize("n", [1, exports.AT_ONCE - 1, exports.AT_ONCE, 3 * exports.AT_ONCE + 1])
def test_what_is_gathered_is_written_in_order_and_added_up(tmp_path, n):
    state = State()
    files = Exports(tmp_path, state)
    made = [
        Record(id=str(i), ts=NOON_US + i % 2 * DAY_US, input_tokens=i, output_tokens=1, cost_nano=2) for i in range(n)
    ]
    for record in made:
        files.add(record)
    files.write()
    files.sync()
    for day, name in enumerate(exports.names(tmp_path)):
        assert (tmp_path / name).read_bytes() == b"".join(to_json_line(record) for record in made[day::2])
        assert state.exports[name].size == (tmp_path / name).stat().st_size
    assert state.totals == Sums(n, sum(range(n)), n, 2 * n)
    files.write()
    assert state.totals.records == n
    files.close()


def test_a_file_that_vanished_does_not_come_back_with_a_hole(tmp_path):
    state = State(exports={"2024-10-04.jsonl": Export(100, Sums(1))})
    files = Exports(tmp_path, state)
    files.add(Record(id="1", ts=NOON_US))
    with pytest.raises(FileNotFoundError):
        files.write()
    assert exports.names(tmp_path) == []
    files.close()
