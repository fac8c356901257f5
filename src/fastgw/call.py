"""All that is known of one request, from its first header to its record."""

import asyncio
from typing import Any, Literal

from msgspec import Struct


class Usage(Struct):
    """Tokens of one call by kind. `input` includes `cached` and `cache_write`; `output` includes `reasoning`."""

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0


class Call:
    """The state of one request, written by the pipeline and the policies, read by the record.

    Times are seconds of the event loop's clock, but for `now_ns` (CLOCK_MONOTONIC, for the shared table).
    `cause` says why the task of this call was cancelled, when it was: the kind of a `GatewayError`.
    """

    __slots__ = (
        "attempts",
        "body_deadline",
        "bytes_in",
        "bytes_out",
        "cause",
        "cost_nano",
        "done",
        "error",
        "exchange",
        "first_byte_at",
        "id",
        "key",
        "label",
        "live",
        "model",
        "model_name",
        "now_ns",
        "op",
        "poke_at",
        "ratelimit",
        "refused_by",
        "reply",
        "sent_at",
        "started",
        "status",
        "stream",
        "target",
        "task",
        "upstream_id",
        "upstream_model",
        "upstream_seconds",
        "usage",
        "usage_source",
        "watcher",
    )

    def __init__(self, call_id: str, started: float, now_ns: int, live: Any, exchange: Any) -> None:
        self.id = call_id
        self.started = started
        self.now_ns = now_ns
        self.live = live
        self.exchange = exchange
        self.op = ""
        self.key: Any = None
        self.label: str | None = None
        self.model: Any = None
        self.model_name = ""
        self.upstream_model = ""
        self.refused_by = ""
        self.target: Any = None
        self.stream = False
        self.attempts: list[Any] = []
        self.status = 0
        self.error = ""
        self.usage: Usage | None = None
        self.usage_source: Literal["upstream", "estimated", "none"] = "none"
        self.cost_nano: int | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        self.first_byte_at = 0.0
        self.sent_at = 0.0
        self.upstream_seconds = 0.0
        self.upstream_id = ""
        self.ratelimit: tuple[int, int, int] | None = None
        self.reply: Any = None
        self.task: asyncio.Task[Any] | None = None
        self.watcher: asyncio.Task[Any] | None = None
        self.cause = ""
        self.done = False
        self.poke_at = 0.0
        self.body_deadline = 0.0

    def abandon(self, cause: str) -> None:
        """Cancel the task that serves this call, for a reason it will find in `cause`; once only."""
        if self.done or self.cause or self.task is None:
            return
        self.cause = cause
        self.task.cancel()
