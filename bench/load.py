"""Closed-loop load by wrk: so many connections, each sends its next request when the last one is answered."""

import json
import os
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from bench import cpu, payloads
from bench.processes import BenchError, Stage
from bench.servers import Server

SCRIPT: Final = Path(__file__).with_name("wrk.lua")
SLACK_S: Final = 20


class Load(NamedTuple):
    """What wrk saw: answers with status 2xx, others, failures of sockets, seconds, and latency in milliseconds."""

    requests: int
    refused: int
    failures: int
    seconds: float
    p50_ms: float
    p99_ms: float


class Cost(NamedTuple):
    """What a server spent on one load. Microseconds of CPU a request; `beside_us`: its supervisor and console."""

    cpu_us: float
    beside_us: float
    busy: float
    load: Load


def parse(output: str) -> Load:
    """The line that `wrk.lua` prints last. Raises BenchError when it is not there."""
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            found = json.loads(line)
            failures = sum(found[name] for name in ("connect", "read", "write", "timeout"))
            requests = found["requests"] - found["status"]
            seconds = found["duration_us"] / 1e6
            return Load(requests, found["status"], failures, seconds, found["p50_us"] / 1e3, found["p99_us"] / 1e3)
    raise BenchError(f"wrk printed no summary:\n{output[-1000:]}")


def run(
    stage: Stage, server: Server, *, body: Path, seconds: float, connections: int, keys: int = 0, delay: int = 0
) -> Load:
    """Load `server` for `seconds` (at least 1, wrk knows no fractions); with `keys`, by so many keys in turn.

    `delay`: milliseconds that each connection waits between its requests. Raises BenchError when it is not answered.
    """
    whole = max(1, round(seconds))
    command = [
        *("taskset", "-c", ",".join(map(str, sorted(stage.cores.load)))),
        *("wrk", "-t1", f"-c{connections}", f"-d{whole}s", "--timeout", "10s", "-s", str(SCRIPT)),
        server.url + payloads.PATH,
    ]
    environ = {**os.environ, "BENCH_BODY": str(body), "BENCH_KEY": payloads.caller_key()}
    if keys:
        environ["BENCH_KEYS"] = str(keys)
    if delay:
        environ["BENCH_DELAY"] = str(delay)
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=whole + SLACK_S)
    except subprocess.TimeoutExpired:
        raise BenchError(f"wrk was not done {SLACK_S} s after its time; {server.name} hangs?") from None
    if done.returncode:
        raise BenchError(f"wrk ended with {done.returncode}: {done.stderr[-500:]}")
    load = parse(done.stdout)
    if load.refused or load.requests == 0:
        raise BenchError(
            f"{server.name} answered {load.requests} requests and refused {load.refused}:\n"
            f"{server.process.last_words()}"
        )
    return load


def measure(stage: Stage, server: Server, *, body: Path, seconds: float, connections: int = 64, keys: int = 0) -> Cost:
    """Load `server` and say what a request cost it. Raises BenchError when it died or refused."""
    pids, beside = server.measured(), server.beside()
    before, before_beside = cpu.seconds(pids), cpu.seconds(beside)
    load = run(stage, server, body=body, seconds=seconds, connections=connections, keys=keys)
    spent, spent_beside = cpu.seconds(pids) - before, cpu.seconds(beside) - before_beside
    if server.measured() != pids:
        raise BenchError(
            f"{server.name} was processes {pids} before the load and {server.measured()} after it:\n"
            f"{server.process.last_words()}"
        )
    return Cost(spent / load.requests * 1e6, spent_beside / load.requests * 1e6, spent / load.seconds, load)
