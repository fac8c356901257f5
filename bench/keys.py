"""Many keys: what a call costs with a hundred thousand of them, what they take of memory, and new plans under load."""

import json
import re
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import cpu, load, payloads, servers
from bench.pairs import Figure, interleave
from bench.processes import BenchError, Stage
from bench.servers import Fastgw, Server
from fastgw.policies.keys import digest
from fastgw.state.secrets import ensure_pepper, read_secret

if TYPE_CHECKING:
    from bench.cases import Settings

FEW: Final = 10
MANY: Final = 100_000
CONNECTIONS: Final = 64
SWAP_CONNECTIONS: Final = 16
SWAP_DELAY_MS: Final = 40
"""About 400 requests a second: load enough to see a failure, and a core left to compile on."""

SWAP_S: Final = 60.0
LOOK_S: Final = 0.005
LOG_S: Final = 5.0
MB: Final = 1024 * 1024
LIMITS: Final = {
    "requests": "60000000/min",
    "tokens": "50000000000/min",
    "concurrent": 100_000,
    "budget": "100000000/month",
}
"""Four a key, so high that none refuses."""

PRICE: Final = re.compile(r"output: [0-9.]+")


def written(directory: Path, count: int, data: Path) -> Path:
    """A config like `everything-on.yaml` with so many keys beside, good for nodes with this data directory alone."""
    directory.mkdir()
    data.mkdir(mode=0o700)
    pepper = bytes.fromhex(read_secret(ensure_pepper(data)))
    with (directory / "keys.jsonl").open("w", encoding="ascii") as file:
        for number in range(count):
            hashed = digest(payloads.numbered_key(number).encode(), pepper).hex()
            row = {"name": f"numbered-{number:06d}", "hash": hashed, "models": [payloads.MODEL], "limits": LIMITS}
            file.write(json.dumps(row) + "\n")
    config = directory / "fastgw.yaml"
    config.write_text(f"keys_file: keys.jsonl\n{servers.CONFIG.read_text()}")
    return config


def started(stage: Stage, upstream: Server, count: int, *, workers: int = 1, slowed: int = 0) -> tuple[Fastgw, Path]:
    """A node with so many keys, and its directory with `data` and `config`."""
    directory = stage.path(f"{count} keys")
    directory.mkdir()
    data = directory / "data"
    config = written(directory / "config", count, data)
    return servers.fastgw(stage, upstream, workers=workers, slowed=slowed, config=config, data=data), directory


def spread(settings: "Settings") -> list[Figure]:
    """The same load by ten keys and by a hundred thousand, each in turn; the memory of the worker that has many."""
    names = {FEW: f"{FEW} keys", MANY: f"{MANY:,} keys"}
    with Stage() as stage:
        upstream = servers.answering_nginx(stage)
        body = stage.path("body.json")
        body.write_bytes(payloads.chat(400))
        nodes = {count: started(stage, upstream, count, slowed=settings.slowed)[0] for count in names}
        idle = _memory(nodes[MANY])

        def cost(count: int, seconds: float) -> float:
            found = load.measure(stage, nodes[count], body=body, seconds=seconds, connections=CONNECTIONS, keys=count)
            return found.cpu_us

        for count in names:
            cost(count, 1)
        samples = interleave({names[count]: partial(cost, count, settings.seconds) for count in names}, settings.pairs)
        loaded = _memory(nodes[MANY])
    title = f"chat of 0.4 KB by {FEW} and by {MANY:,} keys of {len(LIMITS)} limits each: CPU a request"
    return [
        Figure("keys", title, "us", samples, (names[MANY], names[FEW]), False, 1.1, 1.0),
        _memory_figure({"idle": idle, "after the load": loaded}),
    ]


def _memory_figure(found: dict[str, cpu.Memory]) -> Figure:
    """The idle worker is what is promised; a loaded one has touched the files that all workers share."""
    samples = {**{name: [one.rss / MB] for name, one in found.items()}, "none": [0.0]}
    notes = {name: f"{one.anonymous / MB:.2f} MB of it its own" for name, one in found.items()}
    title = f"resident memory of one worker with {MANY:,} keys, held: all of an idle one's"
    return Figure("rss-keys", title, "MB", samples, ("idle", "none"), True, 90.0, None, notes)


def _memory(server: Server) -> cpu.Memory:
    (pid,) = server.measured()
    return cpu.memory(pid)


class Asking:
    """Load in a thread of its own until told to stop; how many requests were answered and how many failed."""

    def __init__(self, once: Callable[[], load.Load]) -> None:
        self._once = once
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answered = self.failed = 0
        self.problem = ""

    def __enter__(self) -> "Asking":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set() and not self.problem:
            try:
                found = self._once()
            except BenchError as error:  # a request was refused, or none was answered
                self.failed += 1
                self.problem = str(error)
            else:
                self.answered += found.requests
                self.failed += found.failures


def swaps(settings: "Settings") -> list[Figure]:
    """New plans for two workers under load, a hundred thousand keys in each: no request fails, all follow at once."""
    with Stage(pinned=False) as stage:
        server, directory = started(stage, servers.answering_nginx(stage), MANY, workers=2, slowed=settings.slowed)
        body = stage.path("body.json")
        body.write_bytes(payloads.chat(400))
        once = partial(
            load.run, stage, server, body=body, seconds=2, connections=SWAP_CONNECTIONS, keys=MANY, delay=SWAP_DELAY_MS
        )
        whole, following = [], []
        with Asking(once) as asking:
            for turn in range(1, settings.swaps + 1):
                spent, followed = swap(server, directory, turn)
                whole.append(spent)
                following.append(followed)
    if asking.problem:
        raise BenchError(asking.problem)
    notes = {"to every worker": f"{asking.answered:,} requests beside it, {asking.failed} failed"}
    notes["to every worker"] += f"; slowest {max(following):.2f} s"
    title = (
        f"a new plan with {MANY:,} keys under load, {settings.swaps} times, held: from its being made to all using it"
    )
    samples = {"to every worker": following, "none": [0.0] * settings.swaps, "with compiling": whole}
    failures = {"failed": [float(asking.failed)], "none": [0.0]}
    return [
        Figure("plan-swap", title, "s", samples, ("to every worker", "none"), True, 1.0, None, notes),
        Figure("plan-swap-failures", "requests that failed meanwhile", "", failures, ("failed", "none"), True, 0.0),
    ]


def swap(server: Fastgw, directory: Path, turn: int) -> tuple[float, float]:
    """Change the config and say so; seconds until every worker serves by it, and of these the ones since it was made.

    Raises BenchError when that takes more than a minute.
    """
    config = directory / "config" / "fastgw.yaml"
    text, changes = PRICE.subn(f"output: 0.{60 + turn}", config.read_text())
    if not changes:
        raise BenchError(f"{config} has no price to change")
    draft = config.with_name("draft")
    draft.write_text(text)
    revision, _ = revisions(directory)
    draft.replace(config)
    began = time.time()
    server.process.popen.send_signal(signal.SIGHUP)
    while revisions(directory)[1] <= revision:
        if time.time() > began + SWAP_S:
            raise BenchError(f"no new plan within {SWAP_S:g} s:\n{server.process.last_words()}")
        time.sleep(LOOK_S)
    ended = time.time()
    return ended - began, max(0.0, ended - _published(server, revision + 1))


def revisions(directory: Path) -> tuple[int, int]:
    """The revision that the node has published, and the oldest that a worker serves by; by the node's status."""
    with suppress(FileNotFoundError):
        status = json.loads((directory / "data" / "status.json").read_bytes())
        return status["revision"], min(worker["revision"] for worker in status["workers"])
    return 0, 0


def _published(server: Fastgw, revision: int) -> float:
    """When (s since 1970) the supervisor had this plan ready, by its log, whose lines come a little later.

    Raises BenchError when it never had.
    """
    server.process.wait_for(lambda: _told(server.process.log, revision) is not None, LOG_S)
    found = _told(server.process.log, revision)
    assert found is not None
    return found


def _told(log: Path, revision: int) -> float | None:
    for line in log.read_text(errors="replace").splitlines():
        if '"event":"config_reloaded"' in line and (found := json.loads(line))["revision"] == revision:
            return datetime.fromisoformat(found["ts"]).timestamp()
    return None
