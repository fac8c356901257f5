"""What an operator may say to the mock provider."""

import msgspec

from fastgw.mock.faults import Chance

MAX_TOKENS = 100_000


class MockOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `fastgw mock`.

    Times are milliseconds. `port` 0 takes a free port. `latency` holds back every reply; `ttft` replaces it for the
    first event of a stream; `tokens_per_second` paces the events of streams (0: all at once); `flush_each` gives each
    event a write of its own. `faults` strike any call with their probability. With a `seed`, ids and times are
    functions of the request body, so that two runs can be compared byte by byte. With a `key`, calls without it get
    401. Raises ValueError for values out of range.
    """

    host: str = "127.0.0.1"
    port: int = 0
    latency: float = 0.0
    ttft: float | None = None
    tokens: int = 16
    tokens_per_second: float = 0.0
    flush_each: bool = False
    faults: tuple[Chance, ...] = ()
    seed: int | None = None
    key: str | None = None
    models: tuple[str, ...] = ("mock-small", "mock-large", "mock-embedding", "echo")
    redirect_to: str = "http://127.0.0.1:9/redirected"
    max_body: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be 0-65535, not {self.port}")
        if self.latency < 0 or (self.ttft is not None and self.ttft < 0):
            raise ValueError("latency and ttft must not be negative")
        if not 0 <= self.tokens <= MAX_TOKENS:
            raise ValueError(f"tokens must be 0-{MAX_TOKENS}, not {self.tokens}")
        if self.tokens_per_second < 0:
            raise ValueError("tokens-per-second must not be negative")
