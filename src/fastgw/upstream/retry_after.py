"""How long an upstream wants to be left alone, in every way that vendors say it. Pure: UTC now is an argument."""

import re
from collections.abc import Iterable
from email.utils import parsedate_to_datetime

MOST_S = 86_400.0

_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
# Gemini: google.rpc.RetryInfo among the details of the error.
_RETRY_INFO = re.compile(rb'"retryDelay"\s*:\s*"([0-9]{1,9}(?:\.[0-9]{1,9})?)s"')
# OpenAI's message where the header is missing: "Please try again in 1m30.5s", "... in 250ms".
_TRY_AGAIN = re.compile(
    rb"try again in (?:([0-9]{1,4})h)?(?:([0-9]{1,4})m(?!s))?(?:([0-9]{1,6}(?:\.[0-9]{1,6})?)(m?s))?"
)


def seconds(headers: Iterable[tuple[bytes, bytes]], body: bytes, now: float) -> float | None:
    """Seconds from `now` (UTC, since 1970) until another attempt makes sense; None where nothing says.

    `retry-after-ms` (OpenAI, Azure) goes before `retry-after` in seconds or as a date (RFC 9110 section 10.2.3), and
    both before what the body says. `headers` have names in lower case. At most a day.
    """
    told = {name: value.decode("latin-1").strip() for name, value in headers if name.startswith(b"retry-after")}
    milliseconds = told.get(b"retry-after-ms")
    if milliseconds is not None and _NUMBER.fullmatch(milliseconds):
        return min(float(milliseconds) / 1000, MOST_S)
    after = told.get(b"retry-after")
    if after is not None:
        found = float(after) if _NUMBER.fullmatch(after) else _until(after, now)
        if found is not None:
            return min(found, MOST_S)
    return _said(body)


def _until(date: str, now: float) -> float | None:
    try:
        return max(parsedate_to_datetime(date).timestamp() - now, 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _said(body: bytes) -> float | None:
    if (found := _RETRY_INFO.search(body)) is not None:
        return min(float(found[1]), MOST_S)
    found = _TRY_AGAIN.search(body)
    if found is None or not any(found.groups()):
        return None
    hours, minutes, amount, unit = found.groups()
    small = float(amount or 0) / (1000 if unit == b"ms" else 1)
    return min(int(hours or 0) * 3600 + int(minutes or 0) * 60 + small, MOST_S)
