"""Steps of a slot's value where it is no count: breakers and retry accounts. Each is from the old value to the new."""

from fastgw._core.table_layout import (
    BREAKER_FAILURE_BITS,
    BREAKER_TIME_BITS,
    CLOSED,
    OPENED,
    PROBE,
    PROBING,
    RETRY_CAP,
    RETRY_SCALE,
    RETRY_START,
)

_MAX_MS = (1 << BREAKER_TIME_BITS) - 1
_MAX_FAILURES = (1 << BREAKER_FAILURE_BITS) - 1
_FAILURES_SHIFT, _STATE_SHIFT = BREAKER_TIME_BITS, BREAKER_TIME_BITS + BREAKER_FAILURE_BITS


def breaker_state(value: int, now_ms: int) -> int:
    """``CLOSED``; ``OPENED``; ``PROBE`` once its time is over; ``PROBING`` while a probe is claimed."""
    state = value >> _STATE_SHIFT
    if state == CLOSED:
        return CLOSED
    return PROBE if value & _MAX_MS <= now_ms else state


def breaker_claimed(value: int, now_ms: int, claim_ms: int) -> int:
    """The value with the probe claimed, -1 where there is none to claim."""
    if breaker_state(value, now_ms) != PROBE:
        return -1
    return PROBING << _STATE_SHIFT | value & _MAX_FAILURES << _FAILURES_SHIFT | min(now_ms + claim_ms, _MAX_MS)


def breaker_reported(value: int, ok: bool, now_ms: int, threshold: int, open_ms: int) -> int:
    """The value after a call that went well or not.

    A success closes it, but not while it is open: that call began before. A failure counts, and opens it at the
    threshold or when it was a probe's.
    """
    state, failures = value >> _STATE_SHIFT, value >> _FAILURES_SHIFT & _MAX_FAILURES
    if state in (OPENED, PROBE):
        return value
    if ok:
        return 0
    failures = min(failures + 1, _MAX_FAILURES)
    if state == PROBING or failures >= threshold:
        return OPENED << _STATE_SHIFT | failures << _FAILURES_SHIFT | min(now_ms + open_ms, _MAX_MS)
    return failures << _FAILURES_SHIFT


def retry_deposited(value: int) -> int:
    """The account a request later."""
    return min((value or RETRY_START * RETRY_SCALE + 1) + 1, RETRY_CAP * RETRY_SCALE + 1)


def retry_withdrawn(value: int) -> int:
    """The account a retry later, -1 when it has not enough."""
    left = (value or RETRY_START * RETRY_SCALE + 1) - RETRY_SCALE
    return left if left >= 1 else -1
