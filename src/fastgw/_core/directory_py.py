"""The directory of slots, many ids at once: specification of ``directory_c``. The layout is in ``table_layout``.

Open addressing with linear probing from the lower bits of an id's first word; the whole id is compared. A place holds
the upper half of the id's second word and the slot's index + 1, 0 when it is free.
"""

from array import array
from typing import NamedTuple

from fastgw._core.table_layout import LINE_WORDS, MASK, SLOT_KIND, USED_WORD

_LOWER = (1 << 32) - 1
_UPPER = MASK ^ _LOWER


class Area(NamedTuple):
    """Where directory and slots lie (first words) and how many places (a power of two) and slots there are."""

    directory: int
    places: int
    first: int
    slots: int


def find_all(words: memoryview, area: Area, ids: "array[int]") -> "array[int]":
    """The slots of these ids (two words each), -1 for one that has none."""
    return array("q", [_probe(words, area, ids[at], ids[at + 1])[0] for at in range(0, len(ids), 2)])


def make_all(words: memoryview, area: Area, ids: "array[int]", kinds: bytes, found: "array[int]") -> None:
    """Make the slots that ``found`` has none of and note them there. Needs the lock, and room for all of them."""
    for n, kind in enumerate(kinds):
        if found[n] < 0:
            found[n] = _make(words, area, ids[2 * n], ids[2 * n + 1], kind)


def _probe(words: memoryview, area: Area, first: int, second: int) -> tuple[int, int]:
    """Slot of an id, -1 if it has none, and the place in the directory where it is or would be."""
    last = area.places - 1
    place = first & last
    # Half of the directory is free, unless it was damaged: then the bound ends it.
    for _ in range(area.places):
        mark = words[area.directory + place]
        if mark == 0:
            break
        slot = (mark & _LOWER) - 1
        if mark & _UPPER == second & _UPPER and 0 <= slot < area.slots:
            at = area.first + slot * LINE_WORDS
            if words[at] == first and words[at + 1] == second:
                return slot, place
        place = place + 1 & last
    return -1, place


def _make(words: memoryview, area: Area, first: int, second: int, kind: int) -> int:
    slot, place = _probe(words, area, first, second)
    if slot < 0:
        slot = words[USED_WORD]
        at = area.first + slot * LINE_WORDS
        words[at + SLOT_KIND] = kind
        words[at + 1] = second
        words[at] = first
        # Who finds the mark finds the slot; who dies before the next store has make_room finish it.
        words[area.directory + place] = second & _UPPER | slot + 1
        words[USED_WORD] = slot + 1
    return slot
