"""After a reboot: budgets and totals stand, rates and calls at once begin anew, and no clock of before counts.

The machine is not booted: the node sees another boot id and monotonic clocks that began a moment ago. Wants root.
"""

import asyncio
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_budget_races import COST, read_whole, settled, spent, used
from tests.e2e.test_budgets import INPUT, OUTPUT, TOKENS, Upstream, ask, config, dollars, upstream
from tests.support import reboot
from tests.support.gateway import Node, node, until
from tests.support.rawclient import connect

LIMITS = {
    "by-requests": "requests: [2/min, 5/day], burst: 2",
    "by-tokens": f"tokens: [{2 * TOKENS}/min, {5 * TOKENS}/day]",
    "by-money": f"concurrent: 3, budget: [{dollars(20)}/day, {dollars(30)}/total]",
}
ALL = tuple(LIMITS)


def after_a_reboot(directory: Path) -> str:
    """A program that runs Python with its arguments as after a reboot; skips the test where that may not be."""
    boot_id = directory / f"boot-{uuid.uuid4()}"
    boot_id.write_text(f"{uuid.uuid4()}\n")
    words = [sys.executable, str(Path(reboot.__file__)), str(boot_id), sys.executable]
    program = boot_id.with_suffix(".sh")
    program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    program.chmod(0o755)
    tried = subprocess.run([program, "-c", "import time; print(time.monotonic())"], capture_output=True, text=True)
    if tried.returncode == reboot.NOT_ALLOWED:
        pytest.skip(f"mount and time namespaces are not to be had here: {tried.stderr.strip()}")
    assert float(tried.stdout) < 60
    return str(program)


@contextlib.contextmanager
def booted(directory: Path, text: str, program: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Iterator[Node]:
    """A node that is started by another program than this Python."""
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", program)
        started = node(directory, text, **options)
        gateway = started.__enter__()
    with contextlib.ExitStack() as stack:
        stack.push(started)
        yield gateway


async def statuses(gateway: Node, key: str, calls: int) -> list[int]:
    async with connect(gateway.port) as connection:
        return [await read_whole(connection, ask(key)) for _ in range(calls)]


def power_cut(gateway: Node) -> None:
    """Everything at once, with no time to do anything about it."""
    victims = [gateway.process.popen.pid, *gateway.workers, gateway.status()["recorder"]["pid"]]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    gateway.process.wait()


def counted(gateway: Node) -> list[int]:
    """What the windows of all keys have counted."""
    figures = [used(gateway, "by-requests", "requests"), used(gateway, "by-tokens", "tokens")]
    return [*figures, used(gateway, "by-money", "nano"), used(gateway, "by-money", "nano", "total")]


async def use(gateway: Node) -> None:
    """Two calls of each key; what a minute holds is used up, what a day holds is not."""
    for key in ALL[:2]:
        assert await statuses(gateway, key, 3) == [200, 200, 429]
    assert await statuses(gateway, ALL[2], 2) == [200, 200]
    await settled(gateway, 8)
    assert counted(gateway) == [2, 2 * TOKENS, 2 * COST, 2 * COST]


async def assert_begun_anew(gateway: Node) -> None:
    """The rates are at rest again, each a burst and no more; the day goes on where it was."""
    for key in ALL[:2]:
        assert await statuses(gateway, key, 3) == [200, 200, 429], key
    # The windows had two of five; now four.
    assert counted(gateway)[:2] == [4, 4 * TOKENS]


async def test_a_restart_without_a_reboot_forgives_nothing(tmp_path: Path) -> None:
    """The measure for the others: here the rates are as they were left, too."""
    async with upstream() as provider:
        text = config(provider.port, LIMITS)
        with node(tmp_path, text, workers=2) as gateway:
            began = time.monotonic()
            await use(gateway)
        with node(tmp_path, text, workers=2) as gateway:
            assert counted(gateway) == [2, 2 * TOKENS, 2 * COST, 2 * COST]
            passed = [(await statuses(gateway, key, 3)).count(200) for key in ALL[:2]]
            assert all(calls <= (time.monotonic() - began) / 30 for calls in passed), passed


async def test_windows_outlive_a_reboot_and_rates_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = after_a_reboot(tmp_path)
    async with upstream() as provider:
        text = config(provider.port, LIMITS)
        with node(tmp_path, text, workers=2) as gateway:
            await use(gateway)
            served = total(gateway)
        with booted(tmp_path, text, program, monkeypatch, workers=2) as gateway:
            assert counted(gateway) == [2, 2 * TOKENS, 2 * COST, 2 * COST]
            assert total(gateway) == served == 8
            await assert_begun_anew(gateway)
            assert await statuses(gateway, ALL[2], 19) == [200] * 18 + [429], "20 a day, two of them before"
            gateway.assert_well()
        # And back to the machine as it is: yet another boot, of a clock that is far ahead.
        with node(tmp_path, text, workers=2) as gateway:
            assert counted(gateway) == [4, 4 * TOKENS, 20 * COST, 20 * COST]
            assert await statuses(gateway, ALL[0], 2) == [200, 429], "five a day"
            gateway.assert_well()


def total(gateway: Node) -> float:
    """Calls that were ever counted, by the metrics."""
    found = gateway.metrics()
    return sum(value for name, value in found.items() if name.startswith("fastgw_records_written_total"))


async def in_flight(gateway: Node, provider: Upstream, calls: int) -> list["asyncio.Task[list[int]]"]:
    """So many calls that their provider holds."""
    provider.hold = 60.0
    tasks = [asyncio.create_task(statuses(gateway, ALL[2], 1)) for _ in range(calls)]
    await asyncio.to_thread(until, lambda: provider.now == calls)
    return tasks


async def test_f40_calls_that_a_reboot_cut_off_are_seen_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In flight when the power went: each has its record, is charged once, and holds no place any more."""
    program = after_a_reboot(tmp_path)
    async with upstream() as provider:
        text = config(provider.port, LIMITS)
        with node(tmp_path, text, workers=2) as gateway:
            await use(gateway)
            cut = await in_flight(gateway, provider, 3)
            power_cut(gateway)
            await asyncio.gather(*cut, return_exceptions=True)
        provider.hold = 0.0
        with booted(tmp_path, text, program, monkeypatch, workers=2) as gateway:
            rows = await settled(gateway, 8 + 3)
            died = [row for row in rows if row["error"] == "worker_died"]
            assert [row["cost_nano"] for row in died] == [INPUT * 1500 + OUTPUT * 7000] * 3
            # No figure of a clock that no longer runs: not in the future, no time below nothing, no day-long call.
            assert all(0 <= row["total_ms"] < 120_000 for row in died), died
            assert counted(gateway)[2:] == [5 * COST, 5 * COST]
            assert spent([row for row in rows if row["key"] == ALL[2]]) == 5 * COST
            await assert_begun_anew(gateway)
            # Three at once may be, and may be again.
            provider.hold = 0.2
            both = await asyncio.gather(*(statuses(gateway, ALL[2], 1) for _ in range(3)))
            assert [status for (status,) in both] == [200] * 3
            gateway.assert_well()
