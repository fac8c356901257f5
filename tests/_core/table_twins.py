"""What the tests of the shared table have in common: a twin with a table of its own, and child processes on it."""

import importlib
import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from fastgw._core import NATIVE, table_layout, table_py
from fastgw._core.table_charge import rate_level
from fastgw._core.table_layout import REQUESTS

NOW = 10**15
SECOND = 10**9
TWINS = ["table_py", "table_c"]
NAMES = itertools.count(1)


class Rated(NamedTuple):
    """One rate: as ``Book.take`` wants it, and what its word is read by."""

    limits: table_py.Limits
    slot: int
    cap: int


class Core(NamedTuple):
    """One twin, and a table of its own with fresh slots for every test."""

    module: ModuleType
    table: table_py.Table
    path: str

    @property
    def geometry(self) -> table_layout.Geometry:
        table = self.table
        return table_layout.Geometry(table.slots, table.lanes, table.counters, table.entries)

    def slot(self, kind: int = table_layout.RATE) -> int:
        return self.table.slot(next(NAMES).to_bytes(16, "little"), kind)

    def rule(self, interval: int, burst: int, slot: int | None = None) -> Rated:
        slot = self.slot() if slot is None else slot
        return Rated(self.rates((slot, interval, burst)), slot, interval * burst)

    def rates(self, *rules: tuple[int, int, int]) -> table_py.Limits:
        """Several rates of one owner: slot, interval and burst of each."""
        limits = [(slot, table_layout.RATE, REQUESTS, 0, every, every * (burst - 1)) for slot, every, burst in rules]
        return self.module.Limits([table_layout.Limit(*limit) for limit in limits])

    def take(
        self, rules: tuple[Rated | table_py.Limits, ...], units: int, now: int = NOW, back: int | None = None
    ) -> tuple[int, ...]:
        """What a call is told that takes so many requests: refused, wait, tight, left, reset.

        It ends with what it took, or gives it back at the time ``back``.
        """
        lane = self.table.claim_lane()
        try:
            book = lane.book()
            entry = book.begin(bytes(16), now, 0, b"", b"")
            sets = tuple(rule.limits if isinstance(rule, Rated) else rule for rule in rules)
            told = book.take(entry, sets, units, 0, 0, now, (0, 0, 0))
            if back is not None:
                book.settle(entry, 0, 0, 0, 0, back)
            book.end(entry)
        finally:
            lane.close()
        return told[0], told[1], *told[3:6]

    def read_gcra(self, slot: int) -> int:
        word = self.geometry.slot_word(slot) + table_layout.SLOT_VALUE
        fd = os.open(self.path, os.O_RDONLY)
        data = os.pread(fd, 8, word * 8)
        os.close(fd)
        return int.from_bytes(data, sys.byteorder)

    def write_gcra(self, slot: int, value: int) -> None:
        word = self.geometry.slot_word(slot) + table_layout.SLOT_VALUE
        fd = os.open(self.path, os.O_WRONLY)
        os.pwrite(fd, value.to_bytes(8, sys.byteorder), word * 8)
        os.close(fd)

    def run(self, script: str, *args: object) -> subprocess.Popen[str]:
        """A process with this twin's ``module`` and this file's ``table``."""
        head = (
            "import importlib, os, signal, sys, threading\n"
            "module = importlib.import_module(sys.argv[1])\n"
            "table = module.Table.open(sys.argv[2], create=False)\n"
            "def ready():\n    print('ready', flush=True)\n    sys.stdin.readline()\n"
        )
        command = [sys.executable, "-c", head + script, self.module.__name__, self.path, *map(str, args)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


def loaded(twin: str) -> ModuleType:
    try:
        return importlib.import_module(f"fastgw._core.{twin}")
    except ImportError:
        # Where the native module is what the process runs on, its absence here is a fault and no reason to skip.
        assert not NATIVE["table"]
        pytest.skip("the native module is not built")


def make(module: ModuleType, path: Path, **geometry: int) -> Core:
    figures = {"slots": 8192, "lanes": 4, "counters": 64, "entries": 16} | geometry
    return Core(module, module.Table.open(str(path), create=True, **figures), str(path))


def start_together(children: list[subprocess.Popen[str]]) -> None:
    """Let go all children that said they are ready: starting up takes longer than what they then do."""
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()


def lines(child: subprocess.Popen[str]) -> list[str]:
    out, _ = child.communicate(timeout=50)
    assert child.returncode == 0
    return out.split()


def level(core: Core, rule: Rated, now: int = NOW) -> int:
    """How far the rate's word is ahead of now: 0 at rest."""
    return rate_level(core.read_gcra(rule.slot), now, rule.cap)
