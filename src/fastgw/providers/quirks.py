"""Quirks at work: what the data of a vendor does to a request that is about to go to it.

Nothing here is silent: whatever of the caller's own request is left out or altered is named in the answer's
`x-fastgw-dropped`. A new name for a field is no loss, and neither is a value that was not the caller's.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from fastgw._core import fields
from fastgw.plan.plan import Quirks

Changes = Mapping[bytes, bytes | None]
Fix = Callable[[fields.Fields], tuple[Changes, Sequence[str]]]
"""Changes of top-level fields, as `Fields.replace` takes them, and the names of what is lost by them."""

NONE = Quirks()
NULL = b"null"
SAID = frozenset({b"model", b"stream", b"stream_options"})
"""What is no loss where a vendor has no such field: its path says the same, or usage is told unasked."""


class Adjust:
    """The edits for one model of one vendor. See `plan.Quirks` for their order."""

    __slots__ = ("_clamp", "_default", "_drop", "_fix", "_rename", "_set")

    def __init__(self, quirks: Quirks, fix: Fix | None = None) -> None:
        self._drop = tuple(name.encode() for name in quirks.drop)
        self._rename = tuple((ours.encode(), theirs.encode()) for ours, theirs in quirks.rename.items())
        self._clamp = tuple((name.encode(), low, high) for name, (low, high) in quirks.clamp.items())
        self._default = _raw(quirks.default)
        self._set = _raw(quirks.set)
        self._fix = fix

    def apply(self, body: bytes) -> tuple[bytes, list[str]]:
        """The body as the vendor wants it, and the fields of the caller's that are lost by that.

        Raises FieldError when `body` is no JSON object.
        """
        given = fields.scan(body)
        changes: dict[bytes, bytes | None] = {}
        lost: list[str] = []
        self._leave_out(given, changes, lost)
        for name, low, high in self._clamp:
            bound = _beyond(_now(given, changes, name), low, high)
            if bound is not None:
                changes[name] = bound
                lost.append(name.decode())
        for name, raw in self._default.items():
            if _now(given, changes, name) in (None, NULL):
                changes[name] = raw
        for name, raw in self._set.items():
            if _now(given, changes, name) not in (None, NULL, raw):
                lost.append(name.decode())
            changes[name] = raw
        body = given.replace(changes) if changes else body
        return self._fixed(body, lost)

    def _leave_out(self, given: fields.Fields, changes: dict[bytes, bytes | None], lost: list[str]) -> None:
        for name in self._drop:
            raw = given.get(name)
            if raw is not None:
                changes[name] = None
                if raw != NULL and name not in SAID:
                    lost.append(name.decode())
        for ours, theirs in self._rename:
            raw = _now(given, changes, ours)
            if raw is None:
                continue
            changes[ours] = None
            # Who gives both names means the vendor's own.
            if _now(given, changes, theirs) in (None, NULL):
                changes[theirs] = raw
            elif raw != NULL:
                lost.append(ours.decode())

    def _fixed(self, body: bytes, lost: list[str]) -> tuple[bytes, list[str]]:
        if self._fix is None:
            return body, lost
        given = fields.scan(body)
        changes, noted = self._fix(given)
        lost.extend(noted)
        return given.replace(changes), lost


class Traits(NamedTuple):
    """What a target is like: the words for the dialects' writers, and the edits of what goes to it (None: none)."""

    features: frozenset[str]
    adjust: Adjust | None

    @property
    def mid_system(self) -> bool:
        """Whether system messages may stand amid the others."""
        return "mid_system" in self.features


def merge(*layers: Quirks) -> Quirks:
    """One set of quirks out of several; a later layer's word goes over an earlier one's."""
    features: dict[str, None] = {}
    for layer in layers:
        for word in layer.features:
            if word.startswith("-"):
                features.pop(word[1:], None)
            else:
                features[word] = None
    return Quirks(
        drop=tuple(dict.fromkeys(name for layer in layers for name in layer.drop)),
        rename={ours: theirs for layer in layers for ours, theirs in layer.rename.items()},
        clamp={name: bounds for layer in layers for name, bounds in layer.clamp.items()},
        default={name: raw for layer in layers for name, raw in layer.default.items()},
        set={name: raw for layer in layers for name, raw in layer.set.items()},
        features=tuple(features),
    )


def traits(base: Quirks, models: Mapping[str, Quirks], own: Quirks, model: str, fix: Fix | None = None) -> Traits:
    """What `model` is like: the vendor's word, then that of each pattern its name begins with, then the operator's."""
    matching = [quirks for pattern, quirks in models.items() if re.match(pattern, model)]
    found = merge(base, *matching, own)
    edits = fix is not None or any((found.drop, found.rename, found.clamp, found.default, found.set))
    return Traits(frozenset(found.features), Adjust(found, fix) if edits else None)


def phrases(quirks: Quirks, mark: str = "") -> list[str]:
    """What the quirks do, in words, for people; names and values stand between `mark`s."""

    def named(verb: str, items: Sequence[str]) -> list[str]:
        return [f"{verb} {', '.join(items)}"] if items else []

    def m(text: str) -> str:
        return f"{mark}{text}{mark}"

    return [
        *named("leaves out", [m(name) for name in quirks.drop]),
        *named("renames", [f"{m(ours)} to {m(theirs)}" for ours, theirs in quirks.rename.items()]),
        *named("bounds", [f"{m(name)} from {low:g} to {high:g}" for name, (low, high) in quirks.clamp.items()]),
        *named("gives by default", [f"{m(name)} {m(raw)}" for name, raw in quirks.default.items()]),
        *named("sets", [f"{m(name)} {m(raw)}" for name, raw in quirks.set.items()]),
        *named("takes", [m(word) for word in quirks.features]),
    ]


def _raw(values: Mapping[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): raw.encode() for name, raw in values.items()}


def _now(given: fields.Fields, changes: Changes, name: bytes) -> bytes | None:
    return changes[name] if name in changes else given.get(name)


def _beyond(raw: bytes | None, low: float, high: float) -> bytes | None:
    """The bound that a number is beyond, as raw JSON; None when it is within them, or no number."""
    if raw is None or raw[:1] not in b"-0123456789":
        return None
    value = float(raw)
    if low <= value <= high:
        return None
    bound = low if value < low else high
    return msgspec.json.encode(int(bound) if bound == int(bound) else bound)
