"""What the tests of calls in flight have in common: rules by kind, windows, and a killed worker."""

import itertools
from collections.abc import Iterator

from fastgw._core import table_layout as layout
from tests._core.table_twins import NOW, Core

WINDOWS = (490_000, 20_416, 24_311)
CALLS = itertools.count(1)


class Killed(BaseException):
    """Stands for SIGKILL: nothing runs after it."""


class MortalWords:
    """The words of a file, whose user dies before the store number ``stores``; a copy of a slice is one store."""

    def __init__(self, words: memoryview, stores: int) -> None:
        self._words, self._left = words, stores

    def __getitem__(self, at):
        return self._words[at]

    def __setitem__(self, at, value) -> None:
        if not self._left:
            raise Killed
        self._left -= 1
        self._words[at] = value


def call_id() -> bytes:
    return next(CALLS).to_bytes(16, "big")


def begin(book, name: bytes | None = None) -> int:
    return book.begin(name or call_id(), NOW, 1_800_000_000, b"key-1", b"model-1")


def limits(core: Core, *rows: layout.Limit):
    return core.module.Limits(rows)


def window(core: Core, kind: int, unit: int, limit: int, *, soft: bool = False) -> layout.Limit:
    return layout.Limit(core.slot(kind), kind, unit, limit, soft=soft)


def concurrent(core: Core, limit: int) -> layout.Limit:
    return layout.Limit(core.slot(layout.CONCURRENT), layout.CONCURRENT, limit=limit)


def rate(core: Core, unit: int, interval: int, burst: int, *, soft: bool = False) -> layout.Limit:
    return layout.Limit(core.slot(), layout.RATE, unit, 0, interval, interval * (burst - 1), soft)


def used(core: Core, *rows: layout.Limit, windows=WINDOWS) -> list[int]:
    return [core.table.used(row.slot, windows) for row in rows]


def in_flight(words: memoryview, geometry: layout.Geometry, lane: int) -> Iterator[int]:
    for entry in range(geometry.entries):
        if words[geometry.entry_word(lane, entry)] != layout.FREE:
            yield entry
