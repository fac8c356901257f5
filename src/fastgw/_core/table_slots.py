"""The slots of the shared table's file: found by id in a directory, made under the file's lock, never moved or freed.

Slots lie in the order they were made, so that those of one owner share pages and unused ones take no disk.
"""

import mmap
import os
from array import array
from typing import Protocol

from fastgw._core.directory_py import Area
from fastgw._core.table_layout import (
    ALLOCATED_WORD,
    BOOT_KINDS,
    LINE_WORDS,
    RATE,
    RETRY,
    SLOT_KIND,
    SLOT_TAG,
    SLOT_VALUE,
    SLOTS_AT_ONCE,
    USED_WORD,
    WORD,
    Geometry,
    TableError,
    round_up,
)
from fastgw._core.table_lock import FileLock

AFRESH = "move it away and start again; limits and counts then begin at zero"


class Directory(Protocol):
    """The module of either twin."""

    def find_all(self, words: memoryview, area: Area, ids: "array[int]") -> "array[int]": ...

    def make_all(self, words: memoryview, area: Area, ids: "array[int]", kinds: bytes, found: "array[int]") -> None: ...


class SlotFile:
    """A mapped file with its slots: ``words`` over all of it, its ``geometry`` and its ``lock``."""

    def __init__(self, path: str, fd: int, geometry: Geometry, directory: Directory) -> None:
        self.path = path
        self._directory = directory
        self._area = Area(geometry.directory_word, geometry.directory_words, geometry.slots_word, geometry.slots)
        self.geometry = geometry
        self.lock = FileLock(fd)
        # The mapping ends with its last view: a lane may outlive the table object without touching unmapped memory.
        self.words = memoryview(mmap.mmap(fd, geometry.size)).cast("B").cast("Q")

    def close(self) -> None:
        """Give up the lock's descriptor."""
        self.lock.close()

    def allocate(self, word: int, words: int) -> None:
        """Give a part of the file its disk. Raises ``TableError`` when there is none."""
        try:
            os.posix_fallocate(self.lock.fd, word * WORD, words * WORD)
        except OSError as error:
            raise TableError(f"{self.path}: cannot grow ({error.strerror}); it needs {words * WORD} bytes") from error

    # -- directory -------------------------------------------------------------------------------------------------

    def find(self, id16: bytes) -> int:
        """Index of a slot, -1 if it has none. Raises ``ValueError`` for an id that is not one."""
        return self._directory.find_all(self.words, self._area, check_ids(id16, bytes((RATE,))))[0]

    def slot(self, id16: bytes, kind: int = RATE) -> int:
        """Index of a slot, made with this kind if absent. Raises ``TableError`` when no slot is left."""
        return self.slots(id16, bytes((kind,)))[0]

    def slots(self, ids: bytes, kinds: bytes) -> "array[int]":
        """Indexes of the slots of many ids, made if absent, under one lock. With no room for all, none is made."""
        pairs = check_ids(ids, kinds)
        found = self._directory.find_all(self.words, self._area, pairs)
        missing = found.count(-1)
        if missing:
            with self.lock:
                self._make_room(missing)
                self._directory.make_all(self.words, self._area, pairs, kinds, found)
        for slot, kind in zip(found, kinds, strict=True):
            self._check_kind(slot, kind)
        return found

    def slots_used(self) -> int:
        """How many slots are made."""
        return self.words[USED_WORD]

    def _make_room(self, more: int) -> None:
        """Before ``more`` slots are made, under the lock: finish what a kill left half made, allocate their disk."""
        words, geometry = self.words, self.geometry
        used = words[USED_WORD]
        if used < geometry.slots:
            at = geometry.slot_word(used)
            if words[at] and self._directory.find_all(words, self._area, array("Q", words[at : at + 2]))[0] == used:
                used = words[USED_WORD] = used + 1
        if used + more > geometry.slots:
            raise TableError(f"{self.path}: its {geometry.slots} slots are all used or would be; {AFRESH}")
        have, need = words[ALLOCATED_WORD], min(round_up(used + more, SLOTS_AT_ONCE), geometry.slots)
        if need > have:
            self.allocate(geometry.slot_word(have), (need - have) * LINE_WORDS)
            words[ALLOCATED_WORD] = need

    def _check_kind(self, slot: int, kind: int) -> None:
        """Raise ``TableError`` if a slot was made with another kind."""
        made = self.words[self.geometry.slot_word(slot) + SLOT_KIND]
        if made != kind:
            raise TableError(f"{self.path}: slot {slot} is of kind {made}, not {kind}; {AFRESH}")

    def forget_clocks(self) -> None:
        """Zero what means nothing after a boot; windows and flags stay."""
        words, geometry = self.words, self.geometry
        used = min(words[USED_WORD], geometry.slots)
        kinds = words[geometry.slots_word + SLOT_KIND : geometry.slot_word(used) : LINE_WORDS].tolist() if used else []
        for slot, kind in enumerate(kinds):
            if kind in BOOT_KINDS:
                at = geometry.slot_word(slot)
                words[at + SLOT_VALUE] = words[at + SLOT_TAG] = 0


def check_ids(ids: bytes, kinds: bytes) -> "array[int]":
    """The two words of every id. Raises ``ValueError`` for what names no slot."""
    if len(ids) != 16 * len(kinds):
        raise ValueError(f"a slot id has 16 bytes, so {len(kinds)} have not {len(ids)}")
    if kinds and not RATE <= min(kinds) <= max(kinds) <= RETRY:
        raise ValueError(f"a slot's kind is {RATE} to {RETRY}")
    pairs = array("Q", ids)
    if not all(pairs[::2]):
        raise ValueError("a slot id does not begin with 8 zero bytes: they mark a free place")
    return pairs
