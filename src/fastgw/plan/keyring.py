"""The keys of a plan: few of them in memory, many in a mapped file of which a call touches two pages.

A key is looked up by the keyed hash of its secret. Layout of the keys' part of a plan file (little endian): an
open-addressed index of 2^n places of 16 bytes (the first 8 bytes of the digest, then 40 bits of offset and 24 of
length, both of the row), then the rows in msgpack. Offsets count from the index's first byte; an empty place is zero.
"""

import hashlib
import mmap
import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from fastgw.plan.plan import Key, Keys

H = TypeVar("H")
T = TypeVar("T")
PLACE = struct.Struct("<QQ")
LENGTH_BITS = 24
MAX_ROW = (1 << LENGTH_BITS) - 1
REMEMBERED = 8192
"""How many keys a worker keeps decoded: about 10 MB of them at most."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Key).decode


class Remembered(OrderedDict[H, T], Generic[H, T]):
    """A dict that forgets what came first when it holds more than `most`.

    Not a plain dict: that one's first item is looked for behind all that were taken from its front before.
    """

    def __init__(self, most: int = REMEMBERED) -> None:
        super().__init__()
        self._most = most

    def remember(self, key: H, value: T) -> T:
        """Keep `value` and give it back."""
        if len(self) >= self._most:
            self.popitem(last=False)
        self[key] = value
        return value


class PartHead(Struct, frozen=True):
    """What is known of a keys' part: its bytes, index places (a power of two, or 0), keys and BLAKE2b-256."""

    size: int
    places: int
    count: int
    digest: bytes


class Part(NamedTuple):
    """A keys' part, and what is known of it."""

    head: PartHead
    data: bytes


class HeldKeys(Keys):
    """Keys in memory."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys = {key.digest: key for key in keys}
        self._part: Part | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keys) and same(self, other)

    __hash__ = None  # type: ignore[assignment]

    def find(self, digest: bytes) -> Key | None:
        """See `Keys.find`."""
        return self._keys.get(digest)

    def part(self) -> Part:
        """As they lie in a file; made once. Raises ValueError for a key of 16 MiB and more."""
        if self._part is None:
            self._part = pack(self)
        return self._part


class MappedKeys(Keys):
    """Keys in a part of a file that `pack` made. The mapping ends with this object.

    Args:
        fd: a descriptor of the file; it may be closed afterwards.
        start: where the part begins, in bytes.
        head: what the file says of the part.
    """

    def __init__(self, fd: int, start: int, head: PartHead) -> None:
        self._map = mmap.mmap(fd, 0, prot=mmap.PROT_READ) if head.count else None
        self._start = start
        self._mask = head.places - 1
        self.head = head
        self._known: Remembered[bytes, Key] = Remembered()

    def __len__(self) -> int:
        return self.head.count

    def __iter__(self) -> Iterator[Key]:
        for place in range(self._mask + 1 if self._map is not None else 0):
            _, where = self._at(place)
            if where:
                yield self._row(where)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keys) and same(self, other)

    __hash__ = None  # type: ignore[assignment]

    def find(self, digest: bytes) -> Key | None:
        """See `Keys.find`."""
        found = self._known.get(digest)
        return found if found is not None or self._map is None else self._look(digest)

    def _look(self, digest: bytes) -> Key | None:
        wanted = int.from_bytes(digest[:8], "little")
        place = wanted & self._mask
        while True:
            first, where = self._at(place)
            if not where:
                return None
            if first == wanted and (key := self._row(where)).digest == digest:
                return self._known.remember(digest, key)
            place = (place + 1) & self._mask

    def _at(self, place: int) -> tuple[int, int]:
        found: tuple[int, int] = PLACE.unpack_from(self._map, self._start + place * PLACE.size)  # type: ignore[arg-type]
        return found

    def _row(self, where: int) -> Key:
        assert self._map is not None
        at = self._start + (where >> LENGTH_BITS)
        return _decode(self._map[at : at + (where & MAX_ROW)])


def same(one: Keys, other: Keys) -> bool:
    """Whether two sets of keys are equal, as their parts are."""
    return _digest(one) == _digest(other)


def _digest(keys: Keys) -> bytes:
    if isinstance(keys, MappedKeys):
        return keys.head.digest
    return keys.part().head.digest if isinstance(keys, HeldKeys) else pack(keys).head.digest


def pack(keys: Iterable[Key]) -> Part:
    """The keys' part of a plan file. Raises ValueError for a key of 16 MiB and more."""
    rows = [(key.digest, _encode(key)) for key in keys]
    if not rows:
        return _part(b"", 0, 0)
    places = 1 << (2 * len(rows) - 1).bit_length()
    firsts, wheres = [0] * places, [0] * places
    at, mask = places * PLACE.size, places - 1
    for digest, row in rows:
        if len(row) > MAX_ROW:
            raise ValueError("a key's row is larger than 16 MiB")
        first = int.from_bytes(digest[:8], "little")
        place = first & mask
        while wheres[place]:
            place = (place + 1) & mask
        firsts[place], wheres[place] = first, at << LENGTH_BITS | len(row)
        at += len(row)
    index = struct.pack(f"<{2 * places}Q", *(word for pair in zip(firsts, wheres, strict=True) for word in pair))
    return _part(b"".join([index, *(row for _, row in rows)]), places, len(rows))


def _part(data: bytes, places: int, count: int) -> Part:
    return Part(PartHead(len(data), places, count, hashlib.blake2b(data, digest_size=32).digest()), data)
