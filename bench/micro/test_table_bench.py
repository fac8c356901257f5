"""Counted state, native against pure: ``pytest bench/micro --benchmark-only``."""

import time
from pathlib import Path
from types import ModuleType

import pytest

from fastgw._core import table_py
from fastgw.state.table import compile_rate, slot_id

try:
    from fastgw._core import table_c
except ImportError:
    table_c = None

TWINS = [
    pytest.param(table_py, id="pure"),
    pytest.param(table_c, id="native", marks=pytest.mark.skipif(table_c is None, reason="not compiled")),
]
LEVELS = ("key", "model", "gateway")
