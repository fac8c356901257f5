"""Reading records back: the last ones, those to come, and all in order of time."""

import itertools
import queue
import threading

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.recorder.offsets import records_dir
from fastgw.recorder.read import export, tail
from fastgw.recorder.recorder import recorded
from fastgw.state.segment import segment_names
from fastgw.state.spool import Writer, janitor, spool_dir, usage
from fastgw.telemetry.record import Record, encode
from tests.recorder.support import take_all

PAGE = 4096


def ids(lines):
    return [orjson.loads(line)["id"] for line in lines]


def put(writer, n, ts=None, ms=0.0):
    writer.prepare()
    assert writer.append(encode(Record(id=str(n), ts=n if ts is None else ts, total_ms=ms)))


@pytest.fixture
def lanes(tmp_path):
    lanes = [Writer(spool_dir(tmp_path), lane, PAGE) for lane in range(3)]
    yield lanes
    for writer in lanes:
        writer.close()


def test_export_merges_all_lanes_in_the_order_of_time(tmp_path, lanes):
    for n in range(600):
        put(lanes[n % 3], n)
    assert usage(spool_dir(tmp_path)).segments > 9
    assert ids(export(tmp_path)) == [str(n) for n in range(600)]
    assert all(line.endswith(b"\n") for line in export(tmp_path))


def test_export_of_a_span_has_its_start_and_not_its_end(tmp_path, lanes):
    for n in range(300):
        put(lanes[n % 3], n)
    assert ids(export(tmp_path, since=100, until=200)) == [str(n) for n in range(100, 200)]
    assert ids(export(tmp_path, since=300)) == []
    assert ids(export(tmp_path, until=1)) == ["0"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1000)), max_size=150))
def test_export_is_sorted_whatever_the_order_of_writing(tmp_path_factory, calls):
    data = tmp_path_factory.mktemp("data")
    writers = [Writer(spool_dir(data), lane, PAGE) for lane in range(3)]
    for n, (lane, ts) in enumerate(calls):
        put(writers[lane], n, ts)
    stamps = {str(n): ts for n, (_, ts) in enumerate(calls)}
    got = ids(export(data))
    assert sorted(got, key=int) == sorted(stamps, key=int)
    assert [stamps[id_] for id_ in got] == sorted(stamps.values())
    inside = ids(export(data, since=200, until=700))
    assert sorted(inside) == sorted(id_ for id_, ts in stamps.items() if 200 <= ts < 700)
    for writer in writers:
        writer.close()


def test_no_spool_is_no_records(tmp_path):
    assert list(export(tmp_path)) == []
    assert list(tail(tmp_path, 5)) == []


def test_export_goes_on_when_the_janitor_takes_segments_away(tmp_path, lanes):
    for n in range(300):
        put(lanes[0], n)
    lines = export(tmp_path)
    assert ids(itertools.islice(lines, 1)) == ["0"]
    assert janitor(spool_dir(tmp_path), 0).segments > 3
    rest = ids(lines)
    assert rest == sorted(rest, key=int)
    assert len(rest) < 299


@pytest.mark.parametrize("n", [0, 1, 7, 100, 1000])
def test_tail_gives_the_last_written_oldest_first(tmp_path, lanes, n):
    for i in range(300):
        put(lanes[i % 3], i)
    assert ids(tail(tmp_path, n)) == [str(i) for i in range(300)][300 - min(n, 300) :]


def test_tail_goes_by_the_time_of_writing(tmp_path, lanes):
    put(lanes[0], 1, ts=1_000_000, ms=5000.0)
    put(lanes[1], 2, ts=3_000_000, ms=1.0)
    assert ids(tail(tmp_path, 2)) == ["2", "1"]
    assert ids(export(tmp_path)) == ["1", "2"]


@pytest.mark.parametrize("n", [0, 3, 1000])
def test_tail_follow_tells_each_new_record_once(tmp_path, lanes, n):
    for i in range(200):
        put(lanes[i % 2], i)
    got = queue.Queue()
    lines = tail(tmp_path, n, follow=True)

    def listen():
        for line in lines:
            got.put(orjson.loads(line)["id"])

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    old = [got.get(timeout=10) for _ in range(min(n, 200))]
    if not n:
        # Nothing to wait for says that following has begun: send until something is told.
        for i in itertools.count(200):
            put(lanes[2], i)
            try:
                first = got.get(timeout=0.5)
                break
            except queue.Empty:
                continue
        assert int(first) >= 200
        last = i
    else:
        last = 199
    for i in range(last + 1, last + 200):
        put(lanes[i % 3], i)
    new = [got.get(timeout=10) for _ in range(199)]
    assert sorted(new, key=int) == [str(i) for i in range(last + 1, last + 200)]
    assert old == [str(i) for i in range(200 - len(old), 200)]
    assert got.empty()


def test_what_cannot_be_read_is_reported_and_the_rest_told(tmp_path, lanes):
    put(lanes[0], 1)
    assert lanes[0].append(b"\xc1 no record")
    assert lanes[0].append(encode(Record(id="v", ts=5)).replace(b"\x00\x1b\x01", b"\x00\x1b\x63", 1))
    put(lanes[0], 2)
    put(lanes[1], 3)
    lanes[1].close()
    path = spool_dir(tmp_path) / next(name for name in segment_names(spool_dir(tmp_path)) if name.startswith("001"))
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    damaged = path.read_bytes()
    path.write_bytes(damaged[:72] + bytes([damaged[72] ^ 255]) + damaged[73:])
    for reader in (export, tail):
        told = []
        assert ids(reader(tmp_path, report=told.append)) == ["1", "2"]
        assert len(told) == 3
        assert any("not a record" in text for text in told)
        assert any("version 99" in text for text in told)
        assert any("checksum" in text and path.name in text for text in told)


def test_exports_and_spool_are_read_together_each_record_once(tmp_path, lanes):
    for n in range(200):
        put(lanes[n % 3], n, 1000 - n)
    take_all(tmp_path).close()
    for n in range(200, 400):
        put(lanes[n % 3], n, 1000 - n)
    assert ids(export(tmp_path)) == [str(n) for n in reversed(range(400))]
    assert ids(export(tmp_path, 650, 850)) == [str(n) for n in reversed(range(151, 351))]
    assert sorted(ids(tail(tmp_path, 1000)), key=int) == [str(n) for n in range(400)]
    assert sorted(map(int, ids(tail(tmp_path, 300)))) == list(range(300))
    assert ids(tail(tmp_path, 0)) == []
    janitor(spool_dir(tmp_path), 1 << 30, settled=[name for name, at in recorded(tmp_path).segments.items() if at.done])
    assert ids(export(tmp_path)) == [str(n) for n in reversed(range(400))]


def test_follow_goes_on_behind_what_was_recorded(tmp_path, lanes):
    for n in range(200):
        put(lanes[n % 2], n)
    take_all(tmp_path).close()
    put(lanes[0], 200)
    lines = tail(tmp_path, 3, follow=True)
    assert ids(itertools.islice(lines, 3)) == ["198", "199", "200"]
    put(lanes[1], 201)
    assert ids(itertools.islice(lines, 1)) == ["201"]
    put(lanes[0], 202)
    assert ids(itertools.islice(lines, 1)) == ["202"]


def test_a_commit_that_cannot_be_read_is_told_and_the_spool_read(tmp_path, lanes):
    put(lanes[0], 1)
    take_all(tmp_path).close()
    (records_dir(tmp_path) / "offsets.json").write_bytes(b"{")
    told = []
    assert ids(export(tmp_path, report=told.append)) == ["1"]
    assert ["damaged" in text for text in told] == [True]
