# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The directory of slots, many ids at once. ``directory_py`` is the specification."""

from libc.stdint cimport int64_t, uint64_t

from fastgw._core.table_words cimport fgw_load, fgw_store

from array import array

from fastgw._core import table_layout as _layout
from fastgw._core.directory_py import Area

__all__ = ["Area", "find_all", "make_all"]

cdef Py_ssize_t LINE_WORDS = _layout.LINE_WORDS
cdef Py_ssize_t KIND = _layout.SLOT_KIND
cdef Py_ssize_t USED_WORD = _layout.USED_WORD
cdef uint64_t LOWER = 0xFFFFFFFF

cdef struct Ground:
    uint64_t *used
    uint64_t *directory
    uint64_t *slots
    uint64_t places
    uint64_t count


def find_all(const uint64_t[::1] words, area, const uint64_t[::1] ids):
    """The slots of these ids (two words each), -1 for one that has none."""
    cdef Ground ground = ground_of(words, area)
    cdef Py_ssize_t n, count = ids.shape[0] // 2
    cdef uint64_t place = 0
    found = array("q", bytes(8 * count))
    cdef int64_t[::1] slots = found
    for n in range(count):
        slots[n] = probe(&ground, ids[2 * n], ids[2 * n + 1], &place)
    return found


def make_all(
    const uint64_t[::1] words, area, const uint64_t[::1] ids, const unsigned char[::1] kinds, int64_t[::1] found
):
    """Make the slots that ``found`` has none of and note them there. Needs the lock, and room for all of them."""
    cdef Ground ground = ground_of(words, area)
    cdef Py_ssize_t n
    if ids.shape[0] != 2 * kinds.shape[0] or found.shape[0] != kinds.shape[0]:
        raise ValueError("as many kinds and indexes as ids are needed")
    for n in range(found.shape[0]):
        if found[n] < 0:
            found[n] = make(&ground, ids[2 * n], ids[2 * n + 1], kinds[n])


cdef Ground ground_of(const uint64_t[::1] words, area) except *:
    cdef Py_ssize_t directory, places, first, count
    directory, places, first, count = area
    if directory < 0 or places < 1 or directory + places > first or first + count * LINE_WORDS > words.shape[0]:
        raise ValueError(f"{area} is not in the file")
    cdef uint64_t *base = <uint64_t *> &words[0]
    return Ground(base + USED_WORD, base + directory, base + first, places, count)


cdef int64_t probe(const Ground *ground, uint64_t first, uint64_t second, uint64_t *place) noexcept:
    """Slot of an id, -1 if it has none, and the place in the directory where it is or would be."""
    cdef uint64_t last = ground.places - 1, _step, mark, slot
    cdef uint64_t *at
    place[0] = first & last
    # Half of the directory is free, unless it was damaged: then the bound ends it.
    for _step in range(ground.places):
        mark = fgw_load(ground.directory + place[0])
        if mark == 0:
            break
        slot = (mark & LOWER) - 1
        if mark >> 32 == second >> 32 and slot < ground.count:
            at = ground.slots + slot * LINE_WORDS
            if at[0] == first and at[1] == second:
                return <int64_t> slot
        place[0] = (place[0] + 1) & last
    return -1


cdef int64_t make(const Ground *ground, uint64_t first, uint64_t second, uint64_t kind) noexcept:
    cdef uint64_t place = 0, slot
    cdef uint64_t *at
    cdef int64_t found = probe(ground, first, second, &place)
    if found >= 0:
        return found
    slot = ground.used[0]
    # Room was made before; a file that others damage meanwhile may still say anything.
    if slot >= ground.count:
        return -1
    at = ground.slots + slot * LINE_WORDS
    fgw_store(at + KIND, kind)
    fgw_store(at + 1, second)
    fgw_store(at, first)
    # Who finds the mark finds the slot; who dies before the next store has make_room finish it.
    fgw_store(ground.directory + place, second >> 32 << 32 | slot + 1)
    fgw_store(ground.used, slot + 1)
    return <int64_t> slot
