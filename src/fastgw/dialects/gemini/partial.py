"""Arguments that Vertex streams in pieces (`streamFunctionCallArguments`): values at JSON paths, put together again.

Source: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling. Each piece says where it
belongs (`$.foo.bar[0]`, RFC 9535) and is a whole value or more of a string. Numbers stay as they were written.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from msgspec import Raw

from fastgw.dialects.gemini.wire import MAX_ARGUMENTS, PartialArg, encode

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\['((?:[^'\\]|\\.)*)'\]|\[\"((?:[^\"\\]|\\.)*)\"\]")
_ESCAPE = re.compile(r"\\(.)")
MAX_DEPTH = 100
_NULL = Raw(b"null")

Container = dict[str, object] | list[object]


class PartialArguments:
    """The arguments of one call, as far as they have come."""

    __slots__ = ("_root", "_size")

    def __init__(self) -> None:
        self._root: dict[str, object] = {}
        self._size = 0

    def feed(self, pieces: list[PartialArg]) -> None:
        """More pieces. Raises ValueError for a path that makes no sense, and for more than 8 MiB."""
        for piece in pieces:
            self._size += len(piece.json_path) + len(piece.string_value or "") + len(bytes(piece.number_value))
            if self._size > MAX_ARGUMENTS:
                raise ValueError("the arguments of a call are larger than 8 MiB")
            steps = list(_steps(piece.json_path))
            if not steps or len(steps) > MAX_DEPTH:
                raise ValueError(f"not a path to an argument: {piece.json_path[:80]!r}")
            _put(self._root, steps, piece)

    def text(self) -> str:
        """The arguments as JSON text."""
        return encode(_joined(self._root)).decode()


def _steps(path: str) -> Iterator[str | int]:
    at = 1 if path.startswith("$") else 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            raise ValueError(f"not a path to an argument: {path[:80]!r}")
        name, index, *quoted = match.groups()
        if index is not None:
            yield int(index[:9])
        else:
            yield name if name is not None else _ESCAPE.sub(r"\1", quoted[0] if quoted[0] is not None else quoted[1])
        at = match.end()


def _put(at: Container, steps: list[str | int], piece: PartialArg) -> None:
    """`piece` at the end of `steps`; containers on the way are made."""
    for step, following in pairwise(steps):
        inner = _get(at, step)
        if not isinstance(inner, dict if isinstance(following, str) else list) or isinstance(inner, _Pieces):
            inner = {} if isinstance(following, str) else []
            _set(at, step, inner)
        at = inner  # type: ignore[assignment]
    last = steps[-1]
    if piece.string_value is not None:
        old = _get(at, last)
        if isinstance(old, _Pieces):
            old.append(piece.string_value)
        else:
            _set(at, last, _Pieces([piece.string_value]))
    elif piece.number_value:
        _set(at, last, piece.number_value)
    elif piece.bool_value is not None:
        _set(at, last, piece.bool_value)
    elif piece.null_value:
        _set(at, last, _NULL)


class _Pieces(list[str]):
    """A string in pieces: joined once, at the end."""


def _get(at: Container, step: str | int) -> object:
    if isinstance(at, dict):
        return at.get(str(step))
    return at[step] if isinstance(step, int) and step < len(at) else None


def _set(at: Container, step: str | int, value: object) -> None:
    if isinstance(at, dict):
        at[str(step)] = value
    elif isinstance(step, int) and step < len(at):
        at[step] = value
    elif step == len(at):
        at.append(value)
    else:
        raise ValueError(f"an array of {len(at)} has no place {step}")


def _joined(value: object) -> object:
    if isinstance(value, _Pieces):
        return "".join(value)
    if isinstance(value, dict):
        return {name: _joined(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_joined(inner) for inner in value]
    return value
