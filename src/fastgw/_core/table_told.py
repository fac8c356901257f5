"""What an answer tells of the limits that were charged: the tightest on requests and on tokens, as OpenAI's headers.

Source: https://platform.openai.com/docs/guides/rate-limits (rate limits in headers).
"""

from collections.abc import Sequence

from fastgw._core.table_charge import Taken
from fastgw._core.table_layout import HOUR, MONTH, RATE, REQUESTS, TOKENS, Limit

Told = list[tuple[bytes, bytes]]
"""Header lines."""

Ends = tuple[int, int, int]
"""When the hour, the day and the month end that now is in, in seconds since 1970."""

NAMES = {
    unit: tuple(b"x-ratelimit-%b-%b" % (what, name) for what in (b"limit", b"remaining", b"reset"))
    for unit, name in ((REQUESTS, b"requests"), (TOKENS, b"tokens"))
}
_NS = 1_000_000_000


def lines(unit: int, limit: int, left: int, reset_ns: int) -> Told:
    """The three lines of one unit."""
    limit_name, left_name, reset_name = NAMES[unit]
    return [(limit_name, b"%d" % limit), (left_name, b"%d" % left), (reset_name, period(reset_ns))]


def told(limits: Sequence[Limit], taken: Taken, ends: Ends, epoch_s: float) -> Told:
    """The lines of what ``Book.take`` says, of these limits."""
    found: Told = []
    for unit, (place, left, reset_ns) in ((REQUESTS, taken[3:6]), (TOKENS, taken[6:9])):
        if place >= 0:
            kind = limits[place].kind
            if HOUR <= kind <= MONTH:
                reset_ns = max(int((ends[kind - HOUR] - epoch_s) * _NS), 0)
            found += lines(unit, limits[place].limit, left, reset_ns if kind == RATE or kind <= MONTH else 0)
    return found


def period(nanoseconds: int) -> bytes:
    """A duration as OpenAI writes it, rounded up: ``120ms``, ``1s``, ``6m0s``."""
    milliseconds = -(-nanoseconds // 1_000_000)
    if milliseconds < 1000:
        return b"%dms" % milliseconds
    seconds = -(-milliseconds // 1000)
    if seconds < 60:
        return b"%ds" % seconds
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return b"%dm%ds" % (minutes, seconds)
    return b"%dh%dm%ds" % (*divmod(minutes, 60), seconds)
