"""The file behind the shared table: checks with a remedy, boot, directory, and a kill between any two stores."""

import os
import resource
import struct
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

import pytest

from fastgw._core import table_file, table_layout
from fastgw._core.table_file import TableFile, open_file
from fastgw._core.table_layout import (
    BOOT_KINDS,
    LANE_WORDS,
    LINE_WORDS,
    PAGE_BYTES,
    SLOT_KIND,
    SLOT_TAG,
    SLOT_VALUE,
    WORD,
    Geometry,
    TableError,
)

SMALL = Geometry(slots=16, lanes=3, counters=20, entries=5)
BOOT, NEXT_BOOT = b"the first boot..", b"the second boot."


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "table-v2.map")


def opened(path: str, boot_id: bytes = BOOT, *, create: bool = True) -> TableFile:
    return open_file(path, SMALL, create=create, boot_id=boot_id)


def slot_id(name: object) -> bytes:
    return blake2b(str(name).encode(), digest_size=16).digest()


def overwrite(path: str, offset: int, data: bytes) -> None:
    with Path(path).open("r+b") as file:
        file.seek(offset)
        file.write(data)


class Killed(BaseException):
    """Stands for SIGKILL: nothing runs after it."""


class MortalWords:
    """The words of a file, whose user dies before the store number ``stores``."""

    def __init__(self, words: memoryview, stores: int) -> None:
        self._words, self._left = words, stores

    def __getitem__(self, at):
        return self._words[at]

    def __setitem__(self, at, value) -> None:
        if not self._left:
            raise Killed
        self._left -= 1
        self._words[at] = value


def test_a_new_file_is_private_and_whole_and_its_holes_are_where_nobody_writes(path):
    opened(path).close()
    status = os.stat(path)
    assert status.st_mode & 0o7777 == 0o600
    assert status.st_size == SMALL.size
    assert SMALL.slots_word * WORD <= status.st_blocks * 512 < status.st_size
    assert os.listdir(Path(path).parent) == ["table-v2.map"]


def test_a_wide_umask_does_not_matter(path):
    before = os.umask(0o777)
    try:
        opened(path).close()
    finally:
        os.umask(before)
    assert os.stat(path).st_mode & 0o7777 == 0o600


def test_an_existing_file_keeps_its_geometry(path):
    opened(path).close()
    assert open_file(path, Geometry(999, 9, 99), create=True, boot_id=BOOT).geometry == SMALL


@pytest.mark.parametrize(
    "bad",
    [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1 << 25, 1, 1), (1, 257, 1), (1, 1, 1 << 21), (1, 1, 1, 0), (1, 1, 1, 8193)],
)
def test_impossible_geometry(path, bad):
    with pytest.raises(ValueError, match="must be 1 to"):
        open_file(path, Geometry(*bad), create=True)
    assert not os.path.exists(path)


def test_regions_do_not_overlap_and_keep_their_lines():
    for geometry in (SMALL, Geometry(1, 1, 1, 1), Geometry(7, 65, 9), Geometry(1 << 20, 64, 65_536)):
        assert geometry.lane_word(geometry.lanes - 1) + LANE_WORDS <= geometry.directory_word
        assert geometry.directory_words >= 2 * geometry.slots
        assert geometry.directory_words & geometry.directory_words - 1 == 0
        assert geometry.slots_word + geometry.slots * LINE_WORDS == geometry.slot_word(geometry.slots)
        assert geometry.slot_word(geometry.slots) == geometry.stripe_word(0)
        assert geometry.stripe_word(geometry.lanes) + geometry.counters <= geometry.entry_word(0, 0)
        assert geometry.entry_word(0, geometry.entries) <= geometry.entry_word(1, 0)
        for lane in range(geometry.lanes):
            assert geometry.entry_word(lane, 0) * WORD % PAGE_BYTES == 0
        assert (geometry.slots_word + SLOT_VALUE) % 2 == 0 == geometry.slots_word * WORD % PAGE_BYTES
        assert SLOT_TAG == SLOT_VALUE + 1
        assert geometry.stripe_word(1) - geometry.stripe_word(0) >= geometry.counters
        assert geometry.stripe_word(geometry.lanes) + geometry.counters <= geometry.size // WORD
        assert geometry.stripe_word(1) % LINE_WORDS == geometry.slots_word % LINE_WORDS == 0


def test_absent_without_create(path):
    with pytest.raises(TableError, match="cannot be opened"):
        opened(path, create=False)
    assert not os.path.exists(path)


def test_absent_directory(tmp_path):
    with pytest.raises(TableError, match="cannot be made"):
        opened(str(tmp_path / "none" / "table-v2.map"))


def test_the_loser_of_a_creation_race_takes_the_winners_file(path, monkeypatch):
    opened(path).words[-1] = 77
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    assert opened(path).words[-1] == 77
    assert os.listdir(Path(path).parent) == ["table-v2.map"]


def test_a_creation_that_was_killed_is_begun_anew(path):
    Path(f"{path}.{os.getpid()}.new").write_bytes(b"half")
    assert opened(path).counters_sum(0, 1) == [0]
    assert os.listdir(Path(path).parent) == ["table-v2.map"]


def test_no_room_for_the_file(path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL.size - 1, hard))
    try:
        with pytest.raises(TableError, match=f"it needs {SMALL.size} bytes"):
            opened(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(Path(path).parent) == []


def test_too_wide_a_mode(path):
    opened(path).close()
    os.chmod(path, 0o640)
    with pytest.raises(TableError, match="mode is 0640, not 0600; run chmod 600"):
        opened(path)


def test_another_owner(path, monkeypatch):
    opened(path).close()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(TableError, match="belongs to user"):
        opened(path)


def test_a_symbolic_link_is_not_followed(path, tmp_path):
    opened(str(tmp_path / "real")).close()
    os.symlink(tmp_path / "real", path)
    with pytest.raises(TableError, match="cannot be opened"):
        opened(path)


def test_not_a_regular_file(path):
    os.mkfifo(path, 0o600)
    with pytest.raises(TableError, match="not a regular file"):
        opened(path)


@pytest.mark.parametrize(
    ("offset", "data", "says"),
    [
        (0, b"notatabl", "not a fastgw table"),
        (WORD, struct.pack("=Q", 3), "layout version is 3, this release reads 2"),
        (2 * WORD, struct.pack("=Q", 17), "header is damaged"),
        (6 * WORD, struct.pack("=Q", 17), "header is damaged"),
        (7 * WORD, b"\0" * WORD, "header is damaged"),
    ],
)
def test_a_damaged_header(path, offset, data, says):
    opened(path).close()
    overwrite(path, offset, data)
    with pytest.raises(TableError, match=says) as caught:
        opened(path)
    assert path in str(caught.value)
    assert "move it away" in str(caught.value)


@pytest.mark.parametrize("size", [0, 20, 4096, SMALL.size - 1, SMALL.size + 1])
def test_a_file_of_the_wrong_size(path, size):
    opened(path).close()
    os.truncate(path, size)
    with pytest.raises(TableError, match=r"bytes instead of|not a fastgw table"):
        opened(path)


def test_a_header_that_checks_but_cannot_be(path):
    opened(path).close()
    geometry = Geometry(1 << 30, 1, 1, 1)
    overwrite(path, 0, table_file._header(geometry))
    with pytest.raises(TableError, match="slots must be 1 to"):
        opened(path)


def test_refused_files_leave_no_descriptor(path):
    opened(path).close()
    os.chmod(path, 0o666)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(TableError):
            opened(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_new_boot_keeps_windows_and_flags_only(path):
    file = opened(path)
    kinds = range(table_layout.RATE, table_layout.RETRY + 1)
    indexes = {kind: file.slot(slot_id(kind), kind) for kind in kinds}
    for index in indexes.values():
        at = SMALL.slot_word(index)
        for word in (at + SLOT_VALUE, at + SLOT_TAG, at + SLOT_KIND + 1):
            file.words[word] = word
    file.words[SMALL.stripe_word(0)] = 41
    before = file.words.tolist()
    assert opened(path).words.tolist() == before
    after = opened(path, NEXT_BOOT).words.tolist()
    assert {table_layout.RATE, table_layout.CONCURRENT, table_layout.BREAKER, table_layout.RETRY} == BOOT_KINDS
    for kind in BOOT_KINDS:
        at = SMALL.slot_word(indexes[kind])
        before[at + SLOT_VALUE] = before[at + SLOT_TAG] = 0
    before[8:10] = struct.unpack("=QQ", NEXT_BOOT)
    assert after == before


def test_the_kernels_boot_id(monkeypatch, tmp_path):
    assert len(table_file.read_boot_id()) == 16
    assert table_file.read_boot_id() == table_file.read_boot_id()
    monkeypatch.setattr(table_file, "_BOOT_ID", tmp_path / "none")
    assert table_file.read_boot_id() == b"fastgw-no-bootid"
    with pytest.raises(ValueError, match="16 bytes"):
        opened(str(tmp_path / "t"), b"short")


def test_the_directory_finds_what_it_gave_and_says_when_full(path):
    file = opened(path)
    indexes = {name: file.slot(slot_id(name)) for name in range(SMALL.slots)}
    assert sorted(indexes.values()) == list(range(SMALL.slots))
    again = opened(path)
    assert {name: again.find(slot_id(name)) for name in indexes} == indexes
    assert {name: again.slot(slot_id(name)) for name in indexes} == indexes
    assert again.find(slot_id("x")) == -1
    with pytest.raises(TableError, match="16 slots are all used"):
        again.slot(slot_id("x"))


def test_ids_are_compared_in_full(path):
    file = opened(path)
    one, other = b"12345678abcdefgh", b"12345678abcdefgi"
    assert file.slot(one) != file.slot(other)
    assert file.find(b"12345678abcdefgj") == -1


@pytest.mark.parametrize("bad", [b"", b"short", b"x" * 17, bytes(8) + b"abcdefgh"])
def test_bad_ids(path, bad):
    file = opened(path)
    with pytest.raises(ValueError, match="slot id"):
        file.slot(bad)
    with pytest.raises(ValueError, match="slot id"):
        file.find(bad)


@pytest.mark.parametrize("stores", range(6))
def test_a_kill_within_an_insert_loses_no_place(path, stores):
    file = opened(path)
    file.words = MortalWords(file.words, stores)
    with pytest.raises(Killed):
        file.slot(slot_id("a"))
    indexes = [opened(path).slot(slot_id(name)) for name in ("a", *range(SMALL.slots - 1))]
    assert sorted(indexes) == list(range(SMALL.slots))


def test_a_kill_at_any_store_of_a_fold_neither_loses_nor_doubles(path):
    for stores in range(1000):
        file = opened(path)
        stripe = SMALL.stripe_word(0)
        for counter in range(SMALL.counters):
            file.words[stripe + counter] += counter * 10
        lane, _, lock = file.claim_lane(1)
        assert lane == 0
        lock.close()
        for counter in range(SMALL.counters):
            file.words[stripe + counter] += counter + (1 << 63)
        before = opened(path).counters_sum(0, SMALL.counters)
        file.words = MortalWords(file.words, stores)
        try:
            file.claim_lane(2)[2].close()
        except Killed:
            survivor = opened(path)
            assert survivor.counters_sum(0, SMALL.counters) == before, stores
            survivor.claim_lane(3)[2].close()
            assert survivor.counters_sum(0, SMALL.counters) == before, stores
        else:
            break
    assert stores > 3 * SMALL.counters
    assert opened(path).counters_sum(0, SMALL.counters) == before
    assert not any(file.words[stripe : stripe + SMALL.counters])


def test_a_damaged_journal_touches_nothing(path):
    file = opened(path)
    file.claim_lane(1)
    file.words[SMALL.stripe_word(0) + 2] = 9
    file.words[16], file.words[17], file.words[18] = 1 << 40, 1 << 50, 3
    assert file.counters_sum(0, 4) == [0, 0, 9, 0]


CHILD = """
import os, sys
from fastgw._core.table_file import Geometry, open_file
file = open_file(sys.argv[1], Geometry(16, 3, 20), create=False)
times = int(sys.argv[2])
pid = os.fork()
for _ in range(times):
    with file.lock:
        value = file.words[-1]
        sum(range(50))
        file.words[-1] = value + 1
if pid:
    sys.exit(os.waitpid(pid, 0)[1])
os._exit(0)
"""


def test_the_lock_parts_processes_also_after_a_fork(path):
    file = opened(path, table_file.read_boot_id())
    children = [subprocess.Popen([sys.executable, "-c", CHILD, path, "2000"]) for _ in range(2)]
    assert [child.wait(30) for child in children] == [0, 0]
    assert file.words[-1] == 2 * 2 * 2000


def test_a_closed_file_says_so(path):
    file = opened(path)
    file.close()
    file.close()
    with pytest.raises(TableError, match="closed"):
        file.slot(slot_id("a"))
