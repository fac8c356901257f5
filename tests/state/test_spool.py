"""The spool: whole frames or none, whoever dies; bounded; readable while it is written."""

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgw.state import segment, spool
from fastgw.state.spool import Writer, janitor, read, usage

PAGE = 4096


def payloads(reader):
    return [payload for _, _, payload in reader]


def fill(writer, n, size=100, start=0):
    """Append n records, preparing in between as the timer would."""
    for i in range(start, start + n):
        assert writer.append(b"%06d" % i + b"x" * (size - 6))
        writer.prepare()


@pytest.fixture
def writer(tmp_path):
    writer = Writer(tmp_path / "spool", 3, PAGE)
    yield writer
    writer.close()


def run_writer(tmp_path, code):
    """A process with a writer on lane 1; the caller ends it."""
    setup = (
        "import os, signal, sys, time, zlib\nfrom fastgw.state.spool import Writer\n"
        f"w = Writer({str(tmp_path)!r}, 1, 65536)\n"
    )
    return subprocess.Popen([sys.executable, "-c", setup + code], stdout=subprocess.PIPE, text=True)


def test_what_was_appended_is_read_back(writer, tmp_path):
    sent = [bytes([n % 256]) * n for n in range(1, 60)]
    assert all(writer.append(payload) for payload in sent)
    got = list(read(tmp_path / "spool"))
    assert [payload for _, _, payload in got] == sent
    assert {name for name, _, _ in got} == {writer.segment}
    assert all(offset % 8 == 0 for _, offset, _ in got)
    assert writer.appended == 59


def test_files_are_private(writer, tmp_path):
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700
    for name in writer.live:
        assert stat.S_IMODE((tmp_path / "spool" / name).stat().st_mode) == 0o600
    assert len(writer.live) == 2


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=900), max_size=60))
def test_any_payloads_over_any_number_of_segments(tmp_path_factory, sent):
    directory = tmp_path_factory.mktemp("spool")
    writer = Writer(directory, 0, PAGE)
    for payload in sent:
        assert writer.append(payload)
        writer.prepare()
    assert payloads(read(directory)) == sent
    writer.close()
    assert payloads(read(directory)) == sent
    assert writer.sealed == usage(directory).segments


def test_a_full_segment_goes_on_in_the_spare(writer, tmp_path):
    fill(writer, 200)
    assert writer.sealed >= 4
    assert writer.shed == 0
    assert payloads(read(tmp_path / "spool")) == [b"%06d" % i + b"x" * 94 for i in range(200)]


def test_without_a_spare_records_are_shed_and_counted(writer, tmp_path):
    results = [writer.append(b"x" * 100) for _ in range(100)]
    kept = results.count(True)
    assert 60 < kept < 80
    assert results == [True] * kept + [False] * (100 - kept)
    assert (writer.appended, writer.shed) == (kept, 100 - kept)
    assert len(payloads(read(tmp_path / "spool"))) == kept
    assert writer.prepare()
    assert writer.append(b"again")
    assert payloads(read(tmp_path / "spool"))[-1] == b"again"


def test_what_never_fits_is_shed_and_costs_no_segment(tmp_path):
    small, large = Writer(tmp_path / "a", 0, PAGE), Writer(tmp_path / "b", 0, 1 << 20)
    assert not small.append(b"x" * (PAGE - 64 - 8 + 1))
    assert small.append(b"x" * (PAGE - 64 - 8))
    assert not large.append(b"x" * (segment.MAX_PAYLOAD + 1))
    assert large.append(b"x" * segment.MAX_PAYLOAD)
    assert (small.shed, large.shed, large.sealed) == (1, 1, 0)
    assert [len(p) for p in payloads(read(tmp_path / "b"))] == [segment.MAX_PAYLOAD]
    with pytest.raises(ValueError, match="empty"):
        small.append(b"")
    small.close()
    large.close()


def test_segment_size_is_checked(tmp_path):
    for size in (0, 100, PAGE + 8):
        with pytest.raises(ValueError, match="multiple"):
            Writer(tmp_path, 0, size)


def test_close_keeps_the_records_and_gives_space_back(tmp_path):
    writer = Writer(tmp_path, 0)
    writer.append(b"one")
    assert usage(tmp_path) == (2, 2 * spool.SEGMENT_BYTES)
    writer.close()
    assert usage(tmp_path) == (1, 64 + 16)
    assert payloads(read(tmp_path)) == [b"one"]
    assert writer.append(b"late") is False
    assert writer.shed == 1
    assert writer.prepare() is False


def test_a_new_writer_of_the_lane_begins_its_own_segment(tmp_path):
    names = []
    for n in range(3):
        writer = Writer(tmp_path, 7, PAGE)
        writer.append(b"%d" % n)
        names.append(writer.segment)
        writer.close()
    assert names == sorted(set(names))
    assert payloads(read(tmp_path)) == [b"0", b"1", b"2"]


def test_a_clock_that_went_back_does_not_disorder_names(tmp_path, monkeypatch):
    ahead = Writer(tmp_path, 1, PAGE)
    ahead.append(b"first")
    ahead.close()
    monkeypatch.setattr(spool.time, "time_ns", lambda: 1_000)
    behind = Writer(tmp_path, 1, PAGE)
    behind.append(b"second")
    assert payloads(read(tmp_path)) == [b"first", b"second"]
    behind.close()


def test_f40_kill_9_loses_nothing_that_was_appended(tmp_path):
    code = (
        "n = 0\nwhile True:\n"
        "    body = str(n).encode() * 20\n    assert w.append(body)\n    n += 1\n"
        "    if n % 50 == 0: w.prepare(); print(n, flush=True)\n"
    )
    with run_writer(tmp_path, code) as process:
        told = next(n for n in map(int, process.stdout) if n >= 20_000)
        process.send_signal(signal.SIGKILL)
        told = max([told, *map(int, process.stdout.read().split())])
    reader = read(tmp_path)
    got = payloads(reader)
    assert reader.corrupt == 0
    assert told <= len(got)
    assert got == [str(n).encode() * 20 for n in range(len(got))]
    assert janitor(tmp_path, 1 << 40) == (0, 0)
    assert payloads(read(tmp_path)) == got
    assert usage(tmp_path).bytes < sum(len(p) + 16 for p in got) + 65536


DIES_STORING_THE_LENGTH = """
class Dying:
    def __setitem__(self, at, word): os.kill(os.getpid(), signal.SIGKILL)
w._words = Dying()
"""
DIES_WITHIN_THE_COPY = """
class Dying:
    def __init__(self, real): self.real = real
    def __setitem__(self, at, payload):
        self.real[at.start:at.start + 3] = payload[:3]
        os.kill(os.getpid(), signal.SIGKILL)
w._bytes = Dying(w._bytes)
"""


@pytest.mark.parametrize("dies", [DIES_STORING_THE_LENGTH, DIES_WITHIN_THE_COPY])
def test_f40_kill_9_within_an_append_shows_no_part_of_it(tmp_path, dies):
    with run_writer(tmp_path, f"w.append(b'whole')\n{dies}\nw.append(b'partial')\n") as process:
        assert process.wait() == -signal.SIGKILL
    reader = read(tmp_path)
    assert payloads(reader) == [b"whole"]
    assert reader.corrupt == 0


def test_janitor_deletes_the_oldest_first_and_counts_their_records(tmp_path):
    writer = Writer(tmp_path, 0, PAGE)
    fill(writer, 200)
    before = payloads(read(tmp_path))
    held = usage(tmp_path)
    cleaned = janitor(tmp_path, held.bytes - 2 * PAGE + 500)
    after = payloads(read(tmp_path))
    assert cleaned.segments == 2
    assert cleaned.records == 200 - len(after)
    assert after == before[cleaned.records :]
    assert usage(tmp_path).bytes <= held.bytes - 2 * PAGE + 500
    writer.close()


def test_janitor_leaves_live_and_kept_segments(tmp_path):
    writer = Writer(tmp_path, 0, PAGE)
    fill(writer, 100)
    sealed = [name for name in segment.segment_names(tmp_path) if name not in writer.live]
    cleaned = janitor(tmp_path, 0, keep=sealed[:1])
    assert cleaned.segments == len(sealed) - 1
    assert segment.segment_names(tmp_path) == [sealed[0], *writer.live]
    assert writer.append(b"goes on")
    writer.close()


def test_janitor_order_is_time_over_all_lanes(tmp_path):
    for lane in (5, 2, 9):
        writer = Writer(tmp_path, lane, PAGE)
        writer.append(b"%d" % lane)
        writer.close()
    assert janitor(tmp_path, usage(tmp_path).bytes - 1) == (1, 1)
    assert payloads(read(tmp_path)) == [b"2", b"9"]


def test_janitor_clears_what_dead_workers_left(tmp_path):
    with run_writer(tmp_path, "w.append(b'kept')\nos.kill(os.getpid(), signal.SIGKILL)\n") as process:
        process.wait()
    draft = tmp_path / "001-0000000000000001-00000001.seg.tmp"
    draft.write_bytes(b"")
    os.utime(draft, (1, 1))
    (tmp_path / "notes.txt").write_text("someone else's")
    assert usage(tmp_path).segments == 2
    assert janitor(tmp_path, 1 << 40) == (0, 0)
    assert usage(tmp_path) == (1, 64 + 16)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".seg", ".txt"]
    assert payloads(read(tmp_path)) == [b"kept"]


def test_the_cap_holds_for_files_that_cannot_be_read(tmp_path):
    (tmp_path / "001-0000000000000001-00000001.seg").write_bytes(b"z" * 10_000)
    assert janitor(tmp_path, 5_000) == (1, 0)
    assert usage(tmp_path) == (0, 0)
    assert janitor(tmp_path / "missing", 0) == (0, 0)


def test_disk_full_is_told_sheds_and_recovers(tmp_path):
    writer = Writer(tmp_path, 0, 1 << 20)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    for _ in range(19):
        assert writer.append(b"x" * 60_000)
        if writer.sealed:
            break
    assert writer.problem is None
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, old[1]))
    try:
        assert writer.prepare() is False
        assert "File too large" in writer.problem
        assert str(tmp_path) in writer.problem
        while writer.append(b"x" * 60_000):
            pass
        assert writer.shed == 1
        late = Writer(tmp_path, 1, 1 << 20)
        assert late.problem
        assert not late.append(b"y")
        assert late.shed == 1
        assert late.segment is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    for each in (writer, late):
        assert each.prepare()
        assert each.problem is None
        assert each.append(b"again")
    assert not list(tmp_path.glob("*.tmp"))
    assert payloads(read(tmp_path)).count(b"again") == 2
    writer.close()
    late.close()


def test_full_means_no_next_segment_and_a_quarter_left_for_running_calls(tmp_path, monkeypatch):
    writer = Writer(tmp_path, 0, 16 * PAGE)
    record = b"x" * (PAGE - 8)

    def refuse(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(spool.os, "posix_fallocate", refuse)
        for _ in range(16):  # into the spare, which leaves none
            assert writer.append(record)
        for left in range(14, 3, -1):
            assert not writer.prepare()
            assert not writer.full, left
            assert writer.append(record)
        assert not writer.prepare()
        assert writer.full
        assert "No space left" in writer.problem
        assert [writer.append(record) for _ in range(4)] == [True] * 3 + [False]
        assert (writer.full, writer.shed) == (True, 1)
        writer.sync()
        assert writer.full
    assert writer.prepare()
    assert not writer.full
    assert writer.append(record)
    writer.close()


def test_a_record_that_found_no_room_says_full_before_anybody_looked(writer):
    while writer.append(b"x" * 500):
        pass
    assert writer.full
    writer.prepare()
    assert not writer.full
    assert not writer.append(b"x" * PAGE)
    assert not writer.full, "too large is no want of room"


def test_full_is_said_before_anything_is_shed_however_fast_records_come(tmp_path):
    writer = Writer(tmp_path, 0, 16 * PAGE)
    written = 0
    while not writer.full:
        assert writer.append(b"x" * 200)
        written += 1
    assert written == pytest.approx((16 + 12) * PAGE / 208, abs=3)
    assert [writer.append(b"x" * 200) for _ in range(70)] == [True] * 70
    writer.close()


def test_full_that_was_said_too_late_is_taken_back(writer):
    writer.full = True  # as by an append beside the making of a segment
    writer.sync()
    assert not writer.full


def test_a_cap_is_kept_and_told(tmp_path):
    writer = Writer(tmp_path, 0, PAGE)
    writer.cap_bytes = 5 * PAGE
    while writer.append(b"x" * 500):
        writer.prepare()
    assert writer.full
    assert usage(tmp_path).bytes <= 5 * PAGE
    assert writer.problem == f"cannot prepare a spool segment in {tmp_path}: it is at its cap of {5 * PAGE} bytes"
    (tmp_path / segment.segment_names(tmp_path)[0]).unlink()
    (tmp_path / segment.segment_names(tmp_path)[0]).unlink()
    assert writer.prepare()
    assert (writer.full, writer.problem) == (False, None)
    assert writer.append(b"again")
    writer.close()


def test_the_janitor_can_be_told_to_leave_what_is_unread(tmp_path):
    writer = Writer(tmp_path, 0, PAGE)
    fill(writer, 200)
    names = [name for name in segment.segment_names(tmp_path) if name not in writer.live]
    taken = {names[0]: spool.TAKEN, names[1]: spool.TAKEN, names[2]: PAGE // 2}
    assert janitor(tmp_path, 0, taken=taken, keep_unread=True) == (2, 0)
    assert segment.segment_names(tmp_path) == sorted([*names[2:], *writer.live])
    writer.close()


def test_a_directory_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    writer = Writer(tmp_path / "file" / "spool", 0, PAGE)
    assert "cannot prepare" in writer.problem
    assert not writer.append(b"x")
    writer.sync()
    writer.close()


def test_sync_reaches_the_disk_and_tells_when_it_cannot(writer, monkeypatch):
    synced = []
    monkeypatch.setattr(spool.os, "fdatasync", synced.append)
    writer.append(b"x")
    writer.sync()
    assert len(synced) == 1

    def failing(fd):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(spool.os, "fdatasync", failing)
    writer.sync()
    assert "cannot sync" in writer.problem
    assert writer.append(b"y")
    monkeypatch.setattr(spool.os, "fdatasync", synced.append)
    writer.sync()
    assert writer.problem is None


@pytest.mark.parametrize("end", ["w.close()", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_worker_that_wrote_nothing_leaves_nothing(tmp_path, end):
    with run_writer(tmp_path, end) as process:
        process.wait()
    assert janitor(tmp_path, 1 << 40) == (0, 0)
    assert list(tmp_path.iterdir()) == []


def test_append_makes_no_system_call(tmp_path):
    """An audit hook sees every open, truncate, mmap and rename of the process."""
    code = (
        "seen = []\nsys.addaudithook(lambda event, args: seen.append(event))\n"
        "for _ in range(400): assert w.append(b'x' * 100)\nprint(sorted(set(seen)))\n"
    )
    with run_writer(tmp_path, code) as process:
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out.strip() == "[]"


def test_appending_goes_on_while_another_thread_prepares_and_syncs(tmp_path):
    writer = Writer(tmp_path, 0, 1 << 16)
    stop = threading.Event()

    def tend():
        while not stop.is_set():
            writer.prepare()
            writer.sync()

    thread = threading.Thread(target=tend)
    thread.start()
    kept = []
    try:
        kept += [b"%d" % n for n in range(20_000) if writer.append(b"%d" % n)]
    finally:
        stop.set()
        thread.join()
    assert len(kept) + writer.shed == 20_000
    assert writer.sealed >= 1
    assert payloads(read(tmp_path)) == kept
    writer.close()
    assert payloads(read(tmp_path)) == kept


def test_follow_tells_what_comes_from_all_lanes_and_over_segments(tmp_path):
    got = []
    reader = read(tmp_path, follow=True)
    thread = threading.Thread(target=lambda: got.extend(reader))
    thread.start()
    writers = [Writer(tmp_path, lane, PAGE) for lane in (1, 2)]
    try:
        for n in range(150):
            for writer in writers:
                assert writer.append(b"%d " % writer.lane + b"%03d" % n * 20)
                writer.prepare()
            if n % 50 == 0:
                time.sleep(0.15)
        wait_for(lambda: len(got) == 300)
        writers[0].close()
        writers[0] = Writer(tmp_path, 1, PAGE)
        writers[0].append(b"1 999")
        wait_for(lambda: len(got) == 301)
    finally:
        reader.stop()
        thread.join(5)
        for writer in writers:
            writer.close()
    assert not thread.is_alive()
    for lane in (b"1 ", b"2 "):
        mine = [payload for _, _, payload in got if payload.startswith(lane)]
        assert mine[:150] == [lane + b"%03d" % n * 20 for n in range(150)]
    assert len({(name, offset) for name, offset, _ in got}) == 301


def wait_for(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_reading_can_begin_where_it_ended(writer, tmp_path):
    fill(writer, 10)
    name, offset, payload = list(read(tmp_path / "spool"))[-1]
    start = {name: segment.after_frame(offset, payload)}
    assert list(read(tmp_path / "spool", start=start)) == []
    fill(writer, 60, start=10)
    assert [int(p[:6]) for p in payloads(read(tmp_path / "spool", start=start))] == list(range(10, 70))
    assert len(payloads(read(tmp_path / "spool", start={name: 1 << 63}))) < 70


def test_since_leaves_out_segments_closed_before(tmp_path):
    writer = Writer(tmp_path, 0, PAGE)
    fill(writer, 100)
    middle = time.time_ns() // 1000
    time.sleep(0.002)
    fill(writer, 100, start=100)
    got = [int(p[:6]) for p in payloads(read(tmp_path, since=middle))]
    assert got[-1] == 199
    assert 0 < got[0] <= 100
    assert got == list(range(got[0], 200))
    assert 0 < len(payloads(read(tmp_path, since=1 << 62))) < 60
    writer.close()
