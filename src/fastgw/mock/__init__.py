"""The mock provider: speaks the dialects of real ones, with every fault on demand. For demos, tests and load.

`run` serves until a signal; `start` gives a server inside the running loop. Faults are asked for by model name
(`mock-error-429`, `mock-cut-100`, ...; see `faults`) or strike at random (`MockOptions.faults`).
"""

from fastgw.mock.base import Answer, Dialect, Request
from fastgw.mock.faults import Chance, Fault, parse_chances
from fastgw.mock.options import MockOptions
from fastgw.mock.server import Server, run, start
from fastgw.mock.stats import Stats

__all__ = [
    "Answer",
    "Chance",
    "Dialect",
    "Fault",
    "MockOptions",
    "Request",
    "Server",
    "Stats",
    "parse_chances",
    "run",
    "start",
]
