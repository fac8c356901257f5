"""What the mock has seen, for tests to assert on: counters, and the last requests as they came."""

import time
from collections import Counter, deque
from typing import Any, Final

from fastgw.mock.base import Request

_RECENT: Final = 16
_MAX_NAMES: Final = 1_000
_KEPT_BODY: Final = 1024 * 1024


class Stats:
    """Counters of one mock server.

    `connections` were accepted, of which `open` and `closed`; `active` calls are being answered, `max_concurrent` at
    most so far; `cancelled` calls lost their client before their last byte, the last at `cancelled_at` (monotonic
    seconds); `faults` counts what was done wrong on purpose, `refused` what was turned
    away before it was read or without the key, `pieces` the writes of replies (one an event where streams are paced).
    `recent` holds the last 16 requests, bodies cut at 1 MiB.
    """

    __slots__ = (
        "active", "by_model", "by_path", "by_status", "bytes_in", "cancelled", "cancelled_at", "closed", "connections",
        "faults", "max_concurrent", "open", "pieces", "recent", "refused", "requests",
    )  # fmt: skip

    def __init__(self) -> None:
        self.open = self.active = 0
        self.reset()

    def reset(self) -> None:
        """Start anew; what is open or active stays so."""
        self.requests = self.cancelled = self.refused = self.closed = self.bytes_in = self.pieces = 0
        self.connections = self.open
        self.max_concurrent = self.active
        self.cancelled_at = 0.0
        self.by_model: Counter[str] = Counter()
        self.by_path: Counter[str] = Counter()
        self.by_status: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.recent: deque[Request] = deque(maxlen=_RECENT)

    def saw(self, request: Request, model: str) -> None:
        """Count one request; names beyond the first thousand count as `other`."""
        self.requests += 1
        self.bytes_in += len(request.body)
        if model:
            self.by_model[model if model in self.by_model or len(self.by_model) < _MAX_NAMES else "other"] += 1
        path = request.path
        self.by_path[path if path in self.by_path or len(self.by_path) < _MAX_NAMES else "other"] += 1
        if len(request.body) > _KEPT_BODY:
            request = request._replace(body=request.body[:_KEPT_BODY])
        self.recent.append(request)

    def began(self) -> None:
        """A call is being answered."""
        self.active += 1
        if self.active > self.max_concurrent:
            self.max_concurrent = self.active

    def lost(self) -> None:
        """A client went away before its answer was complete."""
        self.active -= 1
        self.cancelled += 1
        self.cancelled_at = time.monotonic()

    @property
    def last(self) -> Request | None:
        """The last request, if any."""
        return self.recent[-1] if self.recent else None

    def snapshot(self) -> dict[str, Any]:
        """All counters and the last request as plain values, for `GET /__mock/stats`."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "recent"}
        for name in ("by_model", "by_path", "by_status", "faults"):
            plain[name] = {str(key): count for key, count in plain[name].items()}
        last = self.last
        return plain | {
            "now": time.monotonic(),
            "last_method": last.method if last else None,
            "last_path": last.path if last else None,
            "last_query": last.query if last else None,
            "last_headers": [[k.decode("latin-1"), v.decode("latin-1")] for k, v in last.headers] if last else [],
            "last_body": last.body.decode("utf-8", "replace") if last else None,
        }
