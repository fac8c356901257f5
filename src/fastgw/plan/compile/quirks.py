"""The operator's word on how a provider differs from its dialect."""

import math
import re
from typing import Any

import msgspec

from fastgw.plan import config as written
from fastgw.plan.compile.context import Context
from fastgw.plan.plan import Quirks
from fastgw.providers.features import FEATURES

FIELD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
OURS = frozenset({"stream"})
"""What a quirk must not touch: by it the answer is read."""
KNOWN = frozenset(word for words in FEATURES.values() for word in words)


def quirks(context: Context, path: str, one: written.Quirks) -> Quirks:
    """The quirks as data; what is wrong with them is noted under `path`."""
    for part in ("drop", "rename", "clamp", "default", "set"):
        for name in getattr(one, part):
            _check_field(context, f"{path}.{part}", name)
    for theirs in one.rename.values():
        _check_field(context, f"{path}.rename", theirs)
    for name, bounds in one.clamp.items():
        if not all(map(math.isfinite, bounds)) or bounds[0] > bounds[1]:
            context.errors.append(f"{path}.clamp.{name}: must be two numbers, the least and the most: [0, 1]")
    for word in one.features:
        if word.removeprefix("-") not in KNOWN:
            context.errors.append(f"{path}.features: unknown {word!r}; known are {', '.join(sorted(KNOWN))}")
    return Quirks(
        tuple(one.drop),
        one.rename,
        one.clamp,
        _raw(context, f"{path}.default", one.default),
        _raw(context, f"{path}.set", one.set),
        tuple(one.features),
    )


def _check_field(context: Context, path: str, name: str) -> None:
    if not FIELD.fullmatch(name):
        context.errors.append(f"{path}: {name!r} is no field's name; one is 1 to 64 of A-Z a-z 0-9 _ . -")
    if name in OURS:
        context.errors.append(f"{path}: {name!r} may not be changed: the gateway reads the answer by it; leave it out")


def _raw(context: Context, path: str, values: dict[str, Any]) -> dict[str, str]:
    return {name: context.attempt(f"{path}.{name}", _encoded, value, default="null") for name, value in values.items()}


def _encoded(value: Any) -> str:
    """The value in JSON. Raises ValueError for what JSON cannot hold."""
    if not _finite(value):
        raise ValueError("JSON has no such number; give a finite one")
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, msgspec.MsgspecError) as error:
        raise ValueError(f"cannot be written as JSON ({error})") from None


def _finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
