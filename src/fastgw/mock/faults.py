"""Faults of the mock: asked for by the model's name, or striking at random.

A gateway strips headers, so a test steers the mock by the model: `mock-<kind>` or `mock-<kind>-<number>`. Any other
name is served normally.
"""

import random
from typing import Final, NamedTuple

ERROR_STATUSES: Final = frozenset({400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529})

# kind -> whether it takes a number; the number is a status, milliseconds, bytes, events or megabytes.
KINDS: Final = {
    "error": True,  # this status, in the dialect's error shape
    "slow": True,  # answer after this many milliseconds
    "latency": True,  # the same, the usual word in --fault
    "timeout": False,  # never answer
    "cut": True,  # reset the connection after this many bytes of the reply, head included
    "fin": True,  # close cleanly after this many bytes (whole) or events (stream), framing left open
    "end": True,  # a stream ends after this many events with valid framing but without its last words
    "stream-error": True,  # a stream tells of an error after this many events, then closes
    "stall": True,  # silence after this many bytes of body (whole) or events (stream)
    "badjson": False,  # 200 with a body, or one event, that is not JSON
    "html-502": False,  # 502 with an HTML page
    "redirect": False,  # 302 to another host
    "huge": True,  # this many megabytes before the reply's own bytes; 0 never ends
    "nousage": False,  # no usage, even where it was asked for
    "usage-in-finish": False,  # usage only where a stream finishes: none after it (OpenAI), none before it (others)
}
# These change what is written, so the dialect makes them; all others change how it is sent.
CONTENT_KINDS: Final = frozenset({"nousage", "usage-in-finish"})
_DIGITS: Final = 9


class Fault(NamedTuple):
    """What goes wrong: one of `KINDS` and its number."""

    kind: str
    number: int = 0


class Chance(NamedTuple):
    """A fault and the probability (0-1) that it strikes a call."""

    fault: Fault
    probability: float


def named_fault(model: str) -> Fault | None:
    """The fault that a model's name asks for, or None."""
    name = model.rpartition("/")[2]
    if not name.startswith("mock-"):
        return None
    wanted = name[5:]
    if KINDS.get(wanted) is False:
        return Fault(wanted)
    kind, _, number = wanted.rpartition("-")
    if not KINDS.get(kind) or not number.isdecimal() or len(number) > _DIGITS:
        return None
    fault = Fault(kind, int(number))
    return None if kind == "error" and fault.number not in ERROR_STATUSES else fault


def parse_chances(spec: str) -> tuple[Chance, ...]:
    """Read `KIND[:NUMBER]:PROBABILITY`, several with commas: `error:503:0.1,latency:200:0.5`.

    Raises ValueError naming the wrong part.
    """
    return tuple(_parse_chance(part.strip()) for part in spec.split(",") if part.strip())


def _parse_chance(part: str) -> Chance:
    kind, *numbers = part.split(":")
    if kind not in KINDS or kind in CONTENT_KINDS:
        known = ", ".join(sorted(KINDS.keys() - CONTENT_KINDS))
        raise ValueError(f"fault {part!r}: unknown kind {kind!r}, known are {known}")
    if len(numbers) != 1 + KINDS[kind]:
        raise ValueError(f"fault {part!r}: must be {kind}:{'NUMBER:' if KINDS[kind] else ''}PROBABILITY")
    try:
        number = int(numbers[0]) if KINDS[kind] else 0
        probability = float(numbers[-1])
    except ValueError:
        raise ValueError(f"fault {part!r}: {':'.join(numbers)!r} is not numeric") from None
    if number < 0 or not 0 <= probability <= 1:
        raise ValueError(f"fault {part!r}: the number must be positive and the probability 0-1")
    if kind == "error" and number not in ERROR_STATUSES:
        raise ValueError(f"fault {part!r}: status must be one of {sorted(ERROR_STATUSES)}")
    return Chance(Fault(kind, number), probability)


def roll(chances: tuple[Chance, ...], rng: random.Random) -> Fault | None:
    """The first chance that strikes, if any."""
    for chance in chances:
        if rng.random() < chance.probability:
            return chance.fault
    return None
