"""All that is known of one request, from its first header to its record."""

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct


class Usage(Struct):
    """Tokens of one call by kind. `input` includes `cached` and `cache_write`; `output` includes `reasoning`."""

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0


class Call(Struct, eq=False):
    """The state of one request, written by the pipeline and the policies, read by the record.

    Times are seconds of CLOCK_MONOTONIC; `now_ns` is when the request had been read, in nanoseconds, for the shared
    table. `cause` says why the task of this call was cancelled, when it was: the kind of a `GatewayError`.
    `upstream_model` is set where the client's name of the model carries the upstream's (a wildcard). `asked` is the
    name that stands in the request and `alias` the one that `model_name` was meant by, both only where they are
    others. `wishes` is what the request says of who should answer (`dialects.openrouter`), None when it says
    nothing. `content` is the body as it was read and `operation` its dialect's name. `entry` is the call's place
    among those in flight, -1 without one, `attempt_charge` the first charge of the attempt under way, `epoch_s` the
    UTC second its limits are counted in, `taken` the target whose limits were asked beforehand, `reserved` the
    input and output tokens held back for it. `ratelimit` is (limit, remaining, ns until full) of the tightest
    limit of each unit, `told` the same as header lines where one step took all, `soft` the soft budgets that it met
    used up. `sent`: it may have reached an upstream. `spoken` is the dialect in which the target of the attempt under
    way is asked. `chat` is the request in the hub's terms and `translation` what translates the attempt under way, both
    None while client and provider speak the same dialect. `form` writes a stream otherwise than as server-sent events,
    where the client asked for that. `dropped` names the fields of the request that the vendor does not take. `pinned`
    is the one provider that may be asked, where another would not know what the request goes on from, `quoted` the
    (provider's, client's) id of that.
    """

    id: str
    started: float
    now_ns: int
    live: Any
    exchange: Any
    key: Any = None
    label: str | None = None
    model: Any = None
    model_name: str = ""
    upstream_model: str = ""
    asked: str = ""
    alias: str = ""
    wishes: Any = None
    target: Any = None
    stream: bool = False
    attempts: list[Any] = []
    status: int = 0
    error: str = ""
    usage: Usage | None = None
    usage_source: Literal["upstream", "estimated", "none"] = "none"
    cost_nano: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    first_byte_at: float = 0.0
    upstream_seconds: float = 0.0
    content: Any = None
    operation: str = ""
    epoch_s: float = 0.0
    entry: int = -1
    attempt_charge: int = 0
    taken: Any = None
    reserved: tuple[int, int] | None = None
    ratelimit: dict[str, tuple[int, int, int]] = {}
    told: Sequence[tuple[bytes, bytes]] = ()
    soft: tuple[Any, ...] = ()
    sent: bool = False
    refused_by: str = ""
    reply: Any = None
    spoken: str = ""
    chat: Any = None
    translation: Any = None
    form: Any = None
    dropped: Sequence[str] = ()
    pinned: str = ""
    quoted: tuple[str, str] | None = None
    task: asyncio.Task[Any] | None = None
    cause: str = ""
    done: bool = False
    poke_at: float = 0.0
    body_deadline: float = 0.0

    @property
    def id16(self) -> bytes:
        """The id as the shared table keeps it."""
        return bytes.fromhex(self.id[4:] + "000000000000")

    @property
    def shown(self) -> str:
        """The model's name as the client knows it."""
        return self.alias or self.model_name

    def abandon(self, cause: str) -> None:
        """Cancel the task that serves this call, for a reason it will find in `cause`; once only."""
        if self.done or self.cause or self.task is None:
            return
        self.cause = cause
        self.task.cancel()
