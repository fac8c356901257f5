"""Mutations of a corpus from a seed: the same seed and corpus give the same inputs on every machine.

Half of them are of bytes (flip, insert, delete, repeat, splice, dictionary tokens), half are of structure: where a
document, or the data of an event in it, is JSON, a node of it is replaced, removed, repeated or moved.
"""

import json
import random
import re
from collections.abc import Sequence
from typing import Any

MAX_SIZE = 1 << 16
NUMBERS = (0, -1, 1, 127, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**18)
DIGITS = re.compile(rb"[0-9]+")
EVENT = re.compile(rb"^data: ?(.*)$", re.MULTILINE)
RAW = (
    b"null", b"true", b"false", b"0", b"-0", b"-1", b"1e999", b"-1e-999", b"0.5", b"1" * 400, b"NaN", b"[]", b"{}",
    b'""', b'"x"', rb'"\ud800"', rb'"\udc00\ud800"', rb'"\u0000"', b'"' + "\u2028\U0001f600".encode() + b'"',
    b'"' + b"y" * 5000 + b'"', b"[" * 600 + b"]" * 600, b"[" * 300 + b"]" * 300,
    b'{"a":' * 40 + b"1" + b"}" * 40, b'{"a":1,"a":2}', b"[null]",
    b"[[]]", b"[{}]", b'{"type":"text","text":"t"}', b'"\xff"', b"9223372036854775808", b"-9223372036854775809",
)  # fmt: skip
"""JSON that a reader may trip over, and some that is none."""
PLACE = re.compile(rb'"@raw-([0-9]+)@"')

Node = list[Any] | dict[str, Any]


class Mutator:
    """Inputs without end from a `corpus`, which grows by `keep`. `tokens` are words of the format."""

    def __init__(self, corpus: Sequence[bytes], tokens: Sequence[bytes], seed: object) -> None:
        self.corpus = list(corpus) or [b""]
        self._tokens = [*tokens, b"\x00", b"\xff", b"\r\n", b"\n", b" ", b'"', b"\\"]
        self._random = random.Random(str(seed))
        self._steps = (
            self._flip, self._set, self._insert, self._delete, self._repeat, self._splice, self._token, self._number,
            self._cut,
        )  # fmt: skip

    def keep(self, data: bytes) -> None:
        """Mutate this one too from now on."""
        self.corpus.append(data)

    def next(self) -> bytes:
        """One more input."""
        data = self._random.choice(self.corpus)
        for _ in range(self._random.choice((1, 1, 1, 2, 3, 5))):
            changed = self._structured(data) if self._random.random() < 0.5 else None
            data = self._random.choice(self._steps)(data) if changed is None else changed
        return data[:MAX_SIZE]

    # -- bytes ---------------------------------------------------------------------------------------------------------

    def _span(self, data: bytes) -> tuple[int, int]:
        start = self._random.randrange(len(data) + 1)
        return start, min(len(data), start + self._random.choice((1, 1, 2, 4, 16, 200)))

    def _flip(self, data: bytes) -> bytes:
        at, _ = self._span(data)
        return data[:at] + bytes([data[at] ^ 1 << self._random.randrange(8)]) + data[at + 1 :] if data[at:] else data

    def _set(self, data: bytes) -> bytes:
        at, _ = self._span(data)
        return data[:at] + self._random.randbytes(1) + data[at + 1 :]

    def _insert(self, data: bytes) -> bytes:
        at, _ = self._span(data)
        return data[:at] + self._random.randbytes(self._random.choice((1, 2, 8))) + data[at:]

    def _delete(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:start] + data[end:]

    def _repeat(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:start] + data[start:end] * self._random.choice((2, 2, 3, 50, 700)) + data[end:]

    def _splice(self, data: bytes) -> bytes:
        other = self._random.choice(self.corpus)
        return data[: self._span(data)[0]] + other[self._span(other)[0] :]

    def _token(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:start] + self._random.choice(self._tokens) + data[self._random.choice((start, end)) :]

    def _number(self, data: bytes) -> bytes:
        found = list(DIGITS.finditer(data))
        if not found:
            return self._token(data)
        match = self._random.choice(found)
        return data[: match.start()] + str(self._random.choice(NUMBERS)).encode() + data[match.end() :]

    def _cut(self, data: bytes) -> bytes:
        at, _ = self._span(data)
        return data[:at]

    # -- structure -----------------------------------------------------------------------------------------------------

    def _structured(self, data: bytes) -> bytes | None:
        """`data` with one node of its JSON changed; None where there is no JSON to be found."""
        spans = [match.span(1) for match in EVENT.finditer(data)] or [(0, len(data))]
        start, end = self._random.choice(spans)
        try:
            document = json.loads(data[start:end])
        except (ValueError, RecursionError):
            return None
        if not isinstance(document, list | dict):
            return None
        self._change(document)
        try:
            text = json.dumps(document, separators=(",", ":")).encode()
        except (ValueError, RecursionError):
            return None
        return data[:start] + PLACE.sub(lambda place: RAW[int(place[1])], text) + data[end:]

    def _change(self, document: Node) -> None:
        """Replace, remove, repeat or copy one node."""
        nodes = _nodes(document)
        node = self._random.choice(nodes)
        keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = self._random.choice(keys)
        kind = self._random.randrange(6)
        if kind == 0:
            del node[key]
        elif kind == 1 and isinstance(node, list):
            node.extend([node[key]] * self._random.choice((1, 2, 40)))
        elif kind == 2:
            node[key] = json.loads(json.dumps(self._random.choice(nodes)))
        elif kind == 3 and isinstance(node, dict):
            node[self._random.choice(["", "type", "x", "\ud800", *keys])] = node[key]
        else:
            node[key] = f"@raw-{self._random.randrange(len(RAW))}@"


def _nodes(document: Node) -> list[Node]:
    """All containers of a document, itself first; a bounded number."""
    found = [document]
    for node in found:
        if len(found) > 500:
            break
        inner = node.values() if isinstance(node, dict) else node
        found += [one for one in inner if isinstance(one, list | dict)]
    return found
