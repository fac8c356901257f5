"""The directory of slots, both twins: many ids at once, kinds, damage, and the disk slots take."""

import itertools
import os
from array import array
from collections.abc import Iterator
from hashlib import blake2b

import pytest

from fastgw._core.directory_py import Area
from fastgw._core.table_layout import ALLOCATED_WORD, DAY, FLAGS, RATE, SLOTS_AT_ONCE, USED_WORD, TableError
from tests._core.table_twins import TWINS, Core, loaded, make


@pytest.fixture(params=TWINS)
def core(request, tmp_path) -> Iterator[Core]:
    core = make(loaded(request.param), tmp_path / "table-v2.map", slots=5000)
    yield core
    core.table.close()


def ids_of(names) -> bytes:
    return b"".join(blake2b(str(name).encode(), digest_size=16).digest() for name in names)


def test_many_at_once_are_those_of_one_at_a_time(core):
    ids, kinds = ids_of(range(1000)), bytes(itertools.islice(itertools.cycle((RATE, DAY, FLAGS)), 1000))
    alone = [core.table.slot(ids[16 * n : 16 * n + 16], kinds[n]) for n in range(0, 1000, 3)]
    found = core.table.slots_of(ids, kinds)
    assert list(found[::3]) == alone
    assert sorted(found) == list(range(1000))
    assert core.table.slots_used() == 1000
    assert core.table.slots_of(ids, kinds) == found
    assert [core.table.find(ids[16 * n : 16 * n + 16]) for n in range(1000)] == list(found)
    assert core.table.slots_of(b"", b"") == array("q")


def test_the_twins_make_the_same_file(tmp_path):
    ids, kinds = ids_of(range(300)) + ids_of(range(50)), bytes([DAY]) * 350
    cores = [make(loaded(twin), tmp_path / twin, slots=400) for twin in TWINS]
    found = [core.table.slots_of(ids, kinds) for core in cores]
    assert found[0] == found[1]
    assert found[0][300:] == found[0][:50]
    size = cores[0].geometry.slot_word(400) * 8
    files = []
    for core in cores:
        with open(core.path, "rb") as file:
            files.append(file.read(size)[4096:])
        core.table.close()
    assert files[0] == files[1]


def test_a_slot_keeps_its_kind(core):
    core.table.slot(b"a" * 16, DAY)
    with pytest.raises(TableError, match="slot 0 is of kind 3, not 1"):
        core.table.slot(b"a" * 16)
    for kinds in (bytes([0]), bytes([10])):
        with pytest.raises(ValueError, match="kind is 1 to 9"):
            core.table.slots_of(b"b" * 16, kinds)
    for ids in (b"b" * 15, b"b" * 32, bytes(16)):
        with pytest.raises(ValueError, match="slot id"):
            core.table.slots_of(ids, bytes([DAY]))
    assert core.table.slots_used() == 1


def test_with_no_room_for_all_none_is_made(core):
    core.table.slots_of(ids_of(range(4990)), bytes([RATE]) * 4990)
    with pytest.raises(TableError, match="5000 slots are all used or would be"):
        core.table.slots_of(ids_of(range(4989, 5001)), bytes([RATE]) * 12)
    assert core.table.slots_used() == 4990
    assert core.table.slots_of(ids_of(range(5000)), bytes([RATE]) * 5000)[4999] == 4999


def test_slots_take_disk_as_they_are_made(core):
    def words(*at: int) -> list[int]:
        with open(core.path, "rb") as file:
            return [int.from_bytes(os.pread(file.fileno(), 8, 8 * word), "little") for word in at]

    before = os.stat(core.path).st_blocks
    core.table.slot(b"a" * 16)
    assert words(USED_WORD, ALLOCATED_WORD) == [1, SLOTS_AT_ONCE]
    assert os.stat(core.path).st_blocks - before >= SLOTS_AT_ONCE * 64 // 512 - 8
    core.table.slots_of(ids_of(range(SLOTS_AT_ONCE)), bytes([RATE]) * SLOTS_AT_ONCE)
    assert words(USED_WORD, ALLOCATED_WORD) == [SLOTS_AT_ONCE + 1, 5000]


@pytest.mark.parametrize("junk", [2**64 - 1, (5000 << 32) | 6000, 0xFFFFFFFF])
def test_a_damaged_directory_ends_no_probe_and_leaves_the_file_alone(core, junk):
    geometry = core.geometry
    data = junk.to_bytes(8, "little") * geometry.directory_words
    with open(core.path, "r+b") as file:
        os.pwrite(file.fileno(), data, geometry.directory_word * 8)
    assert core.table.find(b"a" * 16) == -1


def test_the_native_twin_stays_in_the_file():
    native = loaded("directory_c")
    words = memoryview(bytearray(8 * 64)).cast("Q")
    ids = array("Q", b"a" * 16)
    for area in [Area(60, 8, 68, 1), Area(32, 8, 40, 4), Area(-1, 8, 40, 1), Area(32, 0, 40, 1), Area(40, 8, 40, 1)]:
        with pytest.raises(ValueError, match="not in the file"):
            native.find_all(words, area, ids)
    with pytest.raises(ValueError, match="as many"):
        native.make_all(words, Area(32, 8, 40, 3), ids, b"\1\1", array("q", [-1]))
    words[USED_WORD] = 3
    found = array("q", [-1])
    native.make_all(words, Area(32, 8, 40, 3), ids, b"\1", found)
    assert found[0] == -1
