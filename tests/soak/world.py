"""What a soak runs against: a node with two workers, and upstreams that do everything wrong, by one seed.

Of each dialect there are the models `NAME` (an upstream that is well, behind a proxy that is not), `NAME-two` (another
one stands in), `NAME-odd` (an upstream that says strange things), `NAME-mock` (the mock behind the proxy, which refuses
now and then) and `NAME-cross` (translated: the upstream speaks another dialect).
"""

import random
from collections import Counter
from collections.abc import Callable

from tests.faults.tongues import EVENT_STREAM, JSON, TONGUES, Tongue, echo, streamed, tongue_of
from tests.support.faultproxy import Faults
from tests.support.scripted import (
    Cut,
    Expect,
    Fin,
    Hold,
    RawRequest,
    Reset,
    Send,
    Sleep,
    Steps,
    Then,
    chunked,
    head,
    reply,
)

KEY = "fgw-soak-0123456789abcdef"
ONE_KEY = "fgw-soak-one-0123456789abcdef"
REFUSALS = (429, 500, 503, 529)
KINDS = ("", "", "-two", "-odd", "-mock", "-cross")
MOCK_FAULTS = "error:429:0.02,error:503:0.02,error:529:0.02,stall:40:0.02,cut:300:0.02,latency:120:0.1"
TIMES = "timeout: {connect: 400ms, first_token: 700ms, idle: 700ms, total: 4s}, breaker: {failures: 5, open: 1s}"
LONGEST_S = 4.0
"""A call's whole time by the config; whoever waits much longer has been forgotten."""

Odd = Callable[[random.Random, RawRequest, Tongue], Steps]


def config(plain: int, odd: int, mock: int, price: int = 2) -> str:
    """The node's config; ``price`` is what a reload changes."""
    lines, names = ["providers:"], [tongue.name for tongue in TONGUES]
    for tongue in TONGUES:
        for place, port in (("plain", plain), ("odd", odd), ("mock", mock)):
            url = f'base_url: "http://127.0.0.1:{port}{tongue.base}", api_key: "sk-soak-1"'
            lines.append(f"  {tongue.name}_{place}: {{kind: {tongue.kind}, {url}}}")
    lines.append("models:")
    cost = f"price: {{input: {price}, output: 10}}"
    retry = "balance: priority, retry: {attempts: 2, on: [connect, timeout, 5xx, 429]}"
    for name, other in zip(names, names[1:] + names[:1], strict=True):
        first = f"{{provider: {name}_plain, model: m, {cost}}}"
        spare = f"{{provider: {name}_odd, model: m, {cost}, priority: 2}}"
        lines += [
            f"  {name}: {{targets: [{first}], {TIMES}}}",
            f"  {name}-two: {{targets: [{first}, {spare}], {retry}, {TIMES}}}",
            f"  {name}-odd: {{targets: [{{provider: {name}_odd, model: m, {cost}}}], {TIMES}}}",
            f"  {name}-mock: {{targets: [{{provider: {name}_mock, model: echo, {cost}}}], {TIMES}}}",
            f"  {name}-cross: {{targets: [{{provider: {other}_odd, model: m, {cost}}}], {TIMES}}}",
        ]
    return "\n".join([
        *lines,
        "keys:",
        f'  - {{name: main, secret: "{KEY}", limits: {{concurrent: 1000, requests: 100000000/day}}}}',
        f'  - {{name: one, secret: "{ONE_KEY}", limits: {{concurrent: 1}}}}',
        "bounds: {heartbeat: 300ms, send_timeout: 2s}",
        "records: {segment: 1MiB}",
        "",
    ])  # fmt: skip


def _part(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _refusal(rng: random.Random, tongue: Tongue) -> Steps:
    return [Send(reply(rng.choice(REFUSALS), JSON, tongue.refusal(503, "no")))]


ODD: dict[str, Odd] = {
    "reset": lambda rng, r, t: [Send(_part(rng, echo(r))), Reset()],
    "end": lambda rng, r, t: [Send(_part(rng, echo(r))), Fin()],
    "cut": lambda rng, r, t: [Send(_part(rng, echo(r))), Cut()],
    "silence": lambda rng, r, t: [Send(_part(rng, echo(r))), Hold()],
    "late": lambda rng, r, t: [Sleep(rng.random()), Send(echo(r))],
    "dripping": lambda rng, r, t: [Send(echo(r), rng.randrange(20, 400), 0.005)],
    "refusal": lambda rng, r, t: _refusal(rng, t),
    "error first": lambda rng, r, t: _told(rng, r, t, head(200, EVENT_STREAM)),
    "error inside": lambda rng, r, t: _told(rng, r, t, t.begun(1)),
    "garbage": lambda rng, r, t: [Send(rng.randbytes(rng.randrange(1, 4000))), Fin()],
    "surplus": lambda rng, r, t: [Send(echo(r) + b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\ncanary-0-0"), Hold()],
}


def _told(rng: random.Random, request: RawRequest, tongue: Tongue, begun: bytes) -> Steps:
    """A stream in which the provider tells of an error; who asked for no stream is just refused."""
    return [Send(begun + chunked(tongue.error_event()))] if streamed(request) else _refusal(rng, tongue)


class Weather:
    """Everything random on the upstreams' side, by one seed; `met` counts what struck."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.met: Counter[str] = Counter()
        self.burst = False
        """While it is set the odd upstream refuses every call."""

    def proxy(self, _: int) -> Faults:
        """What one connection through the proxy suffers; most pass unharmed."""
        rng = self._rng
        if rng.random() < 0.6:
            return Faults()
        at = rng.randrange(3000)
        kinds = {
            "proxy latency": Faults(latency=rng.random() * 0.2),
            "proxy slices": Faults(slice=rng.randrange(1, 200), rate=100_000),
            "proxy reset": Faults(reset_at=at),
            "proxy fin": Faults(fin_at=at),
            "proxy blackhole": Faults(blackhole_at=at),
            "proxy half open": Faults(half_open_at=at),
            "proxy drop": Faults(drop_at=rng.randrange(1, 2000)),
            "proxy silent": Faults(silent=True),
        }
        name = rng.choice(list(kinds))
        self.met[name] += 1
        return kinds[name]

    def odd(self, _: int) -> Steps:
        """A connection serves well for a while, and then it does not."""
        well = [step for _ in range(self._rng.randrange(5)) for step in (Expect(), Then(self._well))]
        return [*well, Expect(), Then(self._strange)]

    def _well(self, request: RawRequest) -> Steps:
        if self.burst:
            self.met["burst"] += 1
            return _refusal(self._rng, tongue_of(request))
        return [Send(echo(request))]

    def _strange(self, request: RawRequest) -> Steps:
        name = self._rng.choice(list(ODD))
        self.met[name] += 1
        return ODD[name](self._rng, request, tongue_of(request))
