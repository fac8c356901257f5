"""The form of a segment: what is written, and that damage is told and never read as a record."""

import sys
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.state import segment
from fastgw.state.spool import Writer, janitor, read

PAGE = 4096


def payloads(reader):
    return [payload for _, _, payload in reader]


def test_many_large_frames_cross_the_reading_chunks(tmp_path):
    writer = Writer(tmp_path, 0, 1 << 20)
    sent = [bytes([n]) * (50_000 + n) for n in range(20)]
    assert all(writer.append(payload) for payload in sent)
    assert payloads(read(tmp_path)) == sent
    writer.close()


def test_a_bad_frame_ends_its_segment_is_told_and_counted(tmp_path):
    for n in range(2):
        writer = Writer(tmp_path, n, PAGE)
        for part in (b"first", b"second", b"third"):
            writer.append(part + b"%d" % n)
        writer.close()
    name, offset, _ = list(read(tmp_path))[1]
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    data[offset + 8] ^= 1
    path.write_bytes(data)
    reader = read(tmp_path)
    assert payloads(reader) == [b"first0", b"first1", b"second1", b"third1"]
    assert reader.corrupt == 1
    assert name in reader.problems[0]
    assert str(offset) in reader.problems[0]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda data: b"short", "too short"),
        (lambda data: b"ALIENXXX" + data[8:], "not a spool segment"),
        (lambda data: data[:8] + b"\x09" + data[9:], "version 9"),
        (lambda data: data[:16] + b"\xff" + data[17:], "damaged segment header"),
        (lambda data: data[:64] + b"\xff\xff\xff\x7f" + data[68:], "impossible length"),
        (lambda data: data[:64] + b"\0\0\0\0\1\0\0\0", "impossible length"),
        (lambda data: data[:75], "impossible length"),
    ],
)
def test_damaged_files_are_told_and_skipped(tmp_path, spoil, why):
    writer = Writer(tmp_path, 0, PAGE)
    writer.append(b"payload")
    path = tmp_path / writer.segment
    writer.close()
    path.write_bytes(spoil(path.read_bytes()))
    reader = read(tmp_path)
    assert list(reader) == []
    assert reader.corrupt == 1
    assert why in reader.problems[0]


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 400), value=st.integers(0, 255))
def test_no_damaged_byte_yields_a_payload_never_written(tmp_path_factory, at, value):
    directory = tmp_path_factory.mktemp("spool")
    writer = Writer(directory, 0, PAGE)
    sent = [b"%d" % n * 9 for n in range(12)]
    for payload in sent:
        writer.append(payload)
    path = directory / writer.segment
    writer.close()
    data = bytearray(path.read_bytes())
    data[at % len(data)] = value
    path.write_bytes(data)
    got = payloads(read(directory))
    assert got == sent[: len(got)]


def test_links_are_not_followed(tmp_path):
    writer = Writer(tmp_path / "real", 1, PAGE)
    writer.append(b"private")
    target = tmp_path / "real" / writer.segment
    writer.close()
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / target.name).symlink_to(target)
    reader = read(tmp_path / "s")
    assert list(reader) == []
    assert reader.corrupt == 1
    assert janitor(tmp_path / "s", 0) == (0, 0)
    assert payloads(read(tmp_path / "real")) == [b"private"]


def test_the_frame_is_as_documented(tmp_path):
    writer = Writer(tmp_path, 3, PAGE)
    writer.append(b"payload")
    raw = (tmp_path / writer.segment).read_bytes()
    assert raw[:8] == b"FGWSPOOL"
    assert int.from_bytes(raw[64:68], sys.byteorder) == 7
    assert int.from_bytes(raw[68:72], sys.byteorder) == zlib.crc32(b"payload")
    assert raw[72:80] == b"payload\0"
    described = segment.describe(tmp_path / writer.segment)
    assert (described.lane, described.sequence, described.state, described.live) == (3, 1, segment.ACTIVE, True)
    assert abs(described.opened_us / 1e6 - time.time()) < 60
    writer.close()


def test_batches_are_the_frames_and_those_before_a_bad_one_come_first(tmp_path):
    writer = Writer(tmp_path, 0, 1 << 20)
    sent = [b"%04d" % n * (200 + n % 9) for n in range(900)]
    assert all(writer.append(payload) for payload in sent)
    path = tmp_path / writer.segment
    lists = list(segment.batches(path))
    assert all(lists)
    assert 2 < len(lists) < 10
    assert [payload for batch in lists for _, payload in batch] == sent
    assert [frame for batch in lists for frame in batch] == list(segment.frames(path))
    at, _ = lists[1][7]
    assert [payload for batch in segment.batches(path, at) for _, payload in batch] == sent[len(lists[0]) + 7 :]
    writer.close()
    data = bytearray(path.read_bytes())
    data[at + 8] ^= 1
    path.write_bytes(data)
    got = []
    with pytest.raises(segment.SpoolError, match=f"frame at {at} does not match"):
        got.extend(segment.batches(path))
    assert [payload for batch in got for _, payload in batch] == sent[: len(lists[0]) + 7]
