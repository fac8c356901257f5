"""The spool's upkeep: only what the recorder has committed goes, unless the cap asks for more."""

import pytest

from fastgw.node.housekeeping import Housekeeper
from fastgw.recorder.offsets import STATE, records_dir
from fastgw.state.segment import frames, segment_names
from fastgw.state.spool import spool_dir, usage
from tests.recorder.support import put, take_all, writer

GIB = 1 << 30


@pytest.fixture
def lane(tmp_path):
    lane = writer(tmp_path)
    for n in range(300):
        put(lane, n)
    yield lane
    lane.close()


def test_segments_go_once_they_are_committed_and_the_margin_is_over(tmp_path, lane):
    quick, slow = Housekeeper(tmp_path, 0.0), Housekeeper(tmp_path, 3600.0)
    names = segment_names(spool_dir(tmp_path))
    assert quick.clean(GIB) == (0, 0)
    assert segment_names(spool_dir(tmp_path)) == names
    one = take_all(tmp_path)
    assert slow.clean(GIB) == (0, 0)
    assert segment_names(spool_dir(tmp_path)) == names
    assert quick.clean(GIB) == (0, 0)
    assert segment_names(spool_dir(tmp_path)) == sorted(lane.live)
    put(lane, 300)
    one.step()
    one.close()
    assert one.state.totals.records == 301


def test_for_the_cap_what_was_taken_goes_first_and_only_the_rest_counts(tmp_path, lane):
    keeper = Housekeeper(tmp_path, 3600.0)
    one = take_all(tmp_path)
    one.close()
    taken = [name for name, position in one.state.segments.items() if position.done]
    for n in range(300, 600):
        put(lane, n)
    before = usage(spool_dir(tmp_path)).bytes
    assert keeper.clean(before - 4096).records == 0
    left = segment_names(spool_dir(tmp_path))
    assert 0 < len(taken) - len([name for name in taken if name in left]) <= 2
    half, *_ = [name for name in left if name not in taken and name not in lane.live]
    cleaned = keeper.clean(0)
    assert segment_names(spool_dir(tmp_path)) == sorted(lane.live)
    # The segment that was being written at the commit is dropped with what came after that.
    assert half in one.state.segments
    assert cleaned.records == 600 - 300 - sum(1 for name in lane.live for _ in frames(spool_dir(tmp_path) / name))


def test_where_calls_are_refused_what_is_unread_stays_and_what_was_taken_goes_early(tmp_path, lane):
    keeper, directory = Housekeeper(tmp_path, 3600.0), spool_dir(tmp_path)
    names = segment_names(directory)
    assert keeper.clean(0, refuse=True) == (0, 0)
    assert segment_names(directory) == names
    take_all(tmp_path).close()
    size = usage(directory).bytes
    assert keeper.clean(2 * size, refuse=True) == (0, 0)
    assert keeper.clean(2 * size - 4096, refuse=True).records == 0
    assert 0 < usage(directory).bytes <= size - 2048
    assert len(segment_names(directory)) == len(names) - 1
    assert keeper.clean(0, refuse=True).records == 0
    assert segment_names(directory) == sorted(lane.live)


def test_a_damaged_segment_stays_for_people_until_the_cap(tmp_path, lane):
    lane.close()
    first = spool_dir(tmp_path) / segment_names(spool_dir(tmp_path))[0]
    data = bytearray(first.read_bytes())
    data[80] ^= 255
    first.write_bytes(data)
    take_all(tmp_path).close()
    keeper = Housekeeper(tmp_path, 0.0)
    keeper.clean(GIB)
    assert segment_names(spool_dir(tmp_path)) == [first.name]
    keeper.clean(0)
    assert segment_names(spool_dir(tmp_path)) == []


def test_without_a_readable_commit_nothing_is_settled(tmp_path, lane):
    take_all(tmp_path).close()
    (records_dir(tmp_path) / STATE).write_bytes(b"{")
    names = segment_names(spool_dir(tmp_path))
    assert Housekeeper(tmp_path, 0.0).clean(GIB) == (0, 0)
    assert segment_names(spool_dir(tmp_path)) == names
