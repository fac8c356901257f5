"""The cases: each starts what it needs, measures it interleaved, and says what came out."""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from bench import cpu, keys, load, payloads, servers, streams
from bench.counting import counting
from bench.pairs import Figure, Samples, interleave
from bench.processes import BenchError, Stage
from bench.servers import Server

CONNECTIONS: Final = 64
WAITING: Final = 2_000
UPSTREAM_MS: Final = 200
EVENTS: Final = 100
EVENTS_A_SECOND: Final = 250
OPEN_STREAMS: Final = 1_000
PING_RATE: Final = 200.0
COALESCED: Final = 1.5
MB: Final = 1024 * 1024
FLOORS: Final = {"chat-0.4k": 5.0, "stream": 2.0}


class Settings(NamedTuple):
    """How long and how often: rounds, seconds a measurement, requests before memory is looked at again, new plans."""

    pairs: int = 5
    seconds: float = 3.0
    requests: int = 200_000
    swaps: int = 20
    peers: tuple[str, ...] = ("nginx", "haproxy")
    slowed: int = 0


QUICK: Final = Settings(pairs=3, seconds=1.0, requests=20_000, swaps=4)


def gateways(stage: Stage, upstream: Server, settings: Settings, *, buffering: bool = True) -> dict[str, Server]:
    """fastgw and its peers before one upstream; all run, one at a time has work."""
    started: dict[str, Server] = {"fastgw": servers.fastgw(stage, upstream, slowed=settings.slowed)}
    if "nginx" in settings.peers:
        started["nginx"] = servers.passing_nginx(stage, upstream, buffering=buffering)
    if "haproxy" in settings.peers:
        started["haproxy"] = servers.haproxy(stage, upstream)
    return started


class Meter:
    """Measures one server by wrk again and again, and keeps what else was seen."""

    def __init__(self, stage: Stage, server: Server, size: int, seconds: float, connections: int) -> None:
        self._body = stage.path("body.json")
        self._body.write_bytes(payloads.chat(size))
        self._measure = partial(load.measure, stage, server, body=self._body, seconds=seconds, connections=connections)
        self.costs: list[load.Cost] = []

    def warm(self) -> None:
        """One measurement that does not count: connections made, caches filled."""
        self._measure(seconds=1)

    def __call__(self) -> float:
        cost = self._measure()
        self.costs.append(cost)
        return cost.cpu_us

    def note(self) -> str:
        """Rate, how busy the server's cores were, and what did not go well."""
        rate = statistics.median(cost.load.requests / cost.load.seconds for cost in self.costs)
        busy = statistics.median(cost.busy for cost in self.costs)
        beside = statistics.median(cost.beside_us for cost in self.costs)
        p50 = statistics.median(cost.load.p50_ms for cost in self.costs)
        failures = sum(cost.load.failures for cost in self.costs)
        text = f"{rate:,.0f}/s, p50 {p50:.2f} ms, {busy:.2f} cores"
        text += f", the node's other processes {beside:.2f} us" if beside else ""
        return text + (f", {failures} SOCKET FAILURES" if failures else "")


def _by_wrk(
    stage: Stage, started: dict[str, Server], settings: Settings, size: int, connections: int
) -> dict[str, Meter]:
    meters = {name: Meter(stage, one, size, settings.seconds, connections) for name, one in started.items()}
    for meter in meters.values():
        meter.warm()
    return meters


def chat(
    settings: Settings, *, name: str, size: int, reply: int = 600, floor: float | None = None, aim: float | None = None
) -> list[Figure]:
    """Pass-through of whole replies; the upstream is an nginx that answers from memory."""
    with Stage() as stage:
        started = gateways(stage, servers.answering_nginx(stage, reply), settings)
        meters = _by_wrk(stage, started, settings, size, CONNECTIONS)
        samples = interleave(meters, settings.pairs)
    title = f"chat of {size / 1000:g} KB, reply of {reply / 1000:g} KB, {CONNECTIONS} connections: CPU a request"
    notes = {one: meter.note() for one, meter in meters.items()}
    return [Figure(name, title, "us", samples, ("fastgw", "nginx"), False, floor, aim, notes)]


def waiting(settings: Settings) -> list[Figure]:
    """A provider that takes its time, and many calls that wait for it at once."""
    with Stage() as stage:
        upstream = servers.mock(stage, "--latency", str(UPSTREAM_MS), "--tokens", "100")
        started = gateways(stage, upstream, settings)
        # What is begun and not ended when time is up was paid for and is not counted: the longer, the less it weighs.
        meters = _by_wrk(stage, started, settings._replace(seconds=settings.seconds * 2), 400, WAITING)
        samples = interleave(meters, settings.pairs)
    title = f"chat of 0.4 KB, upstream of {UPSTREAM_MS} ms, {WAITING:,} in flight: CPU a request"
    notes = {name: meter.note() for name, meter in meters.items()}
    return [Figure("waiting", title, "us", samples, ("fastgw", "nginx"), notes=notes)]


def stream(settings: Settings) -> list[Figure]:
    """Streams paced so that each event comes by itself; fastgw taps the usage of each."""
    pace = ("--tokens", str(EVENTS), "--tokens-per-second", str(EVENTS_A_SECOND), "--flush-each")
    with Stage() as stage:
        started = gateways(stage, servers.mock(stage, *pace), settings, buffering=False)
        samples, notes = _stream_costs(started, settings)
    title = f"streams of {EVENTS} events, {EVENTS_A_SECOND}/s each, {CONNECTIONS} at once: CPU a relayed event"
    return [Figure("stream", title, "us", samples, ("fastgw", "nginx"), False, FLOORS["stream"], 1.2, notes)]


def _stream_costs(started: dict[str, Server], settings: Settings) -> tuple[Samples, dict[str, str]]:
    """CPU an event of each server, and what is to be said of how it sent them."""
    rounds = max(1, round(settings.seconds * EVENTS_A_SECOND / EVENTS))
    seen: dict[str, list[streams.Streamed]] = {}
    for server in started.values():
        streams.read(server.port, connections=CONNECTIONS, streams=1)

    def cost(name: str, server: Server) -> float:
        pids = server.measured()
        before = cpu.seconds(pids)
        found = streams.read(server.port, connections=CONNECTIONS, streams=rounds)
        seen.setdefault(name, []).append(found)
        return (cpu.seconds(pids) - before) / found.events * 1e6

    samples = interleave({name: partial(cost, name, one) for name, one in started.items()}, settings.pairs)
    return samples, {name: _coalescing(found) for name, found in seen.items()}


def _coalescing(found: list[streams.Streamed]) -> str:
    together = sum(one.events for one in found) / sum(one.reads for one in found)
    rate = statistics.median(one.events / one.seconds for one in found)
    text = f"{rate:,.0f} events/s, {together:.2f} events a read at the caller"
    # Then its writes carried several events each, and its figure is not for one.
    return text + ("; IT JOINED EVENTS" if together > COALESCED else "")


def translated(settings: Settings) -> list[Figure]:
    """The same chat passed through to a provider that speaks its dialect, and translated to one of Anthropic's."""
    with Stage() as stage:
        started: dict[str, Server] = {
            "passed": servers.fastgw(stage, servers.answering_nginx(stage), slowed=settings.slowed),
            "translated": servers.fastgw(stage, servers.answering_nginx(stage, anthropic=True), kind="anthropic"),
        }
        meters = _by_wrk(stage, started, settings, 400, CONNECTIONS)
        samples = interleave(meters, settings.pairs)
    title = "chat of 0.4 KB to Anthropic and back, held: its CPU over a pass-through's"
    notes = {one: meter.note() for one, meter in meters.items()}
    return [Figure("translated", title, "us", samples, ("translated", "passed"), True, 60.0, 20.0, notes)]


def stream_translated(settings: Settings) -> list[Figure]:
    """The same stream, tapped and translated."""
    pace = ("--tokens", str(EVENTS), "--tokens-per-second", str(EVENTS_A_SECOND), "--flush-each")
    with Stage() as stage:
        upstream = servers.mock(stage, *pace)
        started: dict[str, Server] = {
            "tapped": servers.fastgw(stage, upstream, slowed=settings.slowed),
            "translated": servers.fastgw(stage, upstream, kind="anthropic"),
        }
        samples, notes = _stream_costs(started, settings)
    title = f"streams of {EVENTS} events from Anthropic, {CONNECTIONS} at once, held: CPU an event over a tapped one's"
    return [Figure("stream-translated", title, "us", samples, ("translated", "tapped"), True, 10.0, None, notes)]


def latency(settings: Settings) -> list[Figure]:
    """What a gateway adds to a call that has it to itself: whole answers, and first events of streams."""
    count = max(50, round(settings.seconds * PING_RATE))
    figures = []
    with Stage() as stage:
        upstream = servers.mock(stage)
        started = {"direct": upstream, **gateways(stage, upstream, settings, buffering=False)}
        for name, is_stream in (("latency", False), ("first-event", True)):
            figures += _latency(name, started, settings.pairs, count, is_stream)
    return figures


def _latency(name: str, started: dict[str, Server], pairs: int, count: int, is_stream: bool) -> list[Figure]:
    taken: dict[str, list[list[float]]] = {one: [] for one in started}

    def median(one: str, port: int) -> float:
        times = streams.ping(port, count=count, rate=PING_RATE, stream=is_stream)
        taken[one].append(times)
        return statistics.median(times) * 1e3

    for server in started.values():
        streams.ping(server.port, count=20, rate=PING_RATE, stream=is_stream)
    samples = interleave({one: partial(median, one, server.port) for one, server in started.items()}, pairs)
    what = "to the first event of a stream" if is_stream else "of a whole answer"
    title = f"time {what}, one connection, {PING_RATE:g}/s, upstream of 0 ms: {{}}"
    late = {one: [statistics.quantiles(times, n=100)[98] * 1e3 for times in found] for one, found in taken.items()}
    compare = ("fastgw", "direct")
    return [
        Figure(name, title.format("p50, held: what fastgw adds"), "ms", samples, compare, True, 1.0, 0.2),
        Figure(f"{name}-p99", title.format("p99"), "ms", late, compare, True),
    ]


def workers(settings: Settings) -> list[Figure]:
    """One worker against two, on all cores together with the load: CPU a request is the figure, the rate is not."""
    with Stage(pinned=False) as stage:
        upstream = servers.answering_nginx(stage)
        started: dict[str, Server] = {
            f"{count} worker{'s' if count > 1 else ''}": servers.fastgw(
                stage, upstream, workers=count, slowed=settings.slowed
            )
            for count in (1, 2)
        }
        meters = _by_wrk(stage, started, settings, 400, CONNECTIONS)
        samples = interleave(meters, settings.pairs)
    title = "chat of 0.4 KB, one worker and two, nothing pinned: CPU a request"
    notes = {name: meter.note() for name, meter in meters.items()}
    return [Figure("workers", title, "us", samples, ("2 workers", "1 worker"), False, 1.15, 1.0, notes)]


def memory(settings: Settings) -> list[Figure]:
    """The resident memory of one worker: idle, after many requests, and what an open stream takes."""
    pace = ("--tokens", "60", "--tokens-per-second", "1", "--flush-each")
    with Stage() as stage:
        server = servers.fastgw(stage, servers.answering_nginx(stage), slowed=settings.slowed)
        idle = _memory(server)
        meter = Meter(stage, server, 400, 1.0, CONNECTIONS)
        sent = 0
        while sent < settings.requests:
            meter()
            sent += meter.costs[-1].load.requests
        loaded = _memory(server)
        after = f"after {sent:,} requests"
    with Stage() as stage:
        server = servers.fastgw(stage, servers.mock(stage, *pace))
        streams.hold(server.port, 8, lambda: 0)
        before = _memory(server).rss
        opened = streams.hold(server.port, OPEN_STREAMS, lambda: _memory(server).rss)
    samples = {"idle": [idle.rss / MB], after: [loaded.rss / MB]}
    # The rest is mapped files: code, the shared table, the spool segments that records are written into.
    notes = {name: f"{one.anonymous / MB:.2f} MB of it its own" for name, one in (("idle", idle), (after, loaded))}
    each = {"an open stream": [(opened - before) / OPEN_STREAMS / 1024], "none": [0.0]}
    return [
        Figure(
            "rss",
            "resident memory of one worker, held: its growth",
            "MB",
            samples,
            (after, "idle"),
            True,
            5.0,
            None,
            notes,
        ),
        Figure(
            "rss-stream",
            f"the same, {OPEN_STREAMS:,} streams open",
            "KiB",
            each,
            ("an open stream", "none"),
            True,
            64.0,
        ),
    ]


def _memory(server: Server) -> cpu.Memory:
    found = server.measured()
    if len(found) != 1:
        raise BenchError(f"{server.name} has {len(found)} workers, not one:\n{server.process.last_words()}")
    return cpu.memory(found[0])


CASES: Final[dict[str, Callable[[Settings], list[Figure]]]] = {
    "chat-0.4k": partial(chat, name="chat-0.4k", size=400, floor=FLOORS["chat-0.4k"], aim=3.5),
    "chat-10k": partial(chat, name="chat-10k", size=10_000),
    "chat-100k": partial(chat, name="chat-100k", size=100_000),
    "reply-100k": partial(chat, name="reply-100k", size=400, reply=100_000),
    "counting": lambda settings: counting(settings.pairs),
    "waiting": waiting,
    "stream": stream,
    "translated": translated,
    "stream-translated": stream_translated,
    "latency": latency,
    "workers": workers,
    "memory": memory,
    "keys": keys.spread,
    "plan-swap": keys.swaps,
}
