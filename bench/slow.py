"""A known slow-down, put into the request path on purpose: the proof that the gates can fail.

`burn(n)` is about n microseconds of interpreter work on a machine of today: a number of steps, not a time, so that it
costs the same number of instructions wherever it runs.
"""

import os
from collections.abc import Callable
from typing import Any

STEPS_A_MICROSECOND = 80
VARIABLE = "FASTGW_BENCH_SLOW"


def burn(microseconds: int) -> None:
    """Do nothing, for so long."""
    for _ in range(microseconds * STEPS_A_MICROSECOND):
        pass


def wanted() -> int:
    """Microseconds a call that the environment asks for."""
    return int(os.environ.get(VARIABLE) or 0)


def slowed(function: Callable[..., Any], microseconds: int) -> Callable[..., Any]:
    """`function` with the slow-down before it."""

    def slow(*args: Any, **kwargs: Any) -> Any:
        burn(microseconds)
        return function(*args, **kwargs)

    return slow
