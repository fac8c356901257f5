"""The house rules, as tests: floors, ceilings, what each floor may know, and that every module imports alone."""

import ast
import graphlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
CORE = SRC / "fastgw" / "_core"

# From the top down. A module may import what is on a lower floor, and its own package; the packages that share a floor
# never import each other. A package's entry covers all its modules unless one of them has an entry of its own.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("cli", "doctor", "provider_check", "__main__"),
    ("node",),
    ("gateway", "recorder", "control", "console", "mock"),
    ("granian_host", "child"),  # what the processes of all of these have in common
    ("plan.compile", "plan.sources", "plan.keystore"),
    ("policies",),
    ("upstream",),
    ("telemetry",),
    ("state",),
    ("dialects", "providers"),
    # The nouns. The hub's structs are among them, since prices are counted on its `Usage`.
    ("errors", "call", "secret", "dialects.hub", "plan", "plan.plan", "plan.config", "plan.file", "plan.prices"),
    ("_core",),
)
# Floors that are one package in all but name: their modules may import each other, without cycles.
TOGETHER = frozenset(
    name for names in FLOORS if {"cli", "child", "plan.compile", "errors"} & set(names) for name in names
)
HEIGHT = {name: -rank for rank, names in enumerate(FLOORS) for name in names}
TIMELESS = ("_core", "dialects", "providers", "upstream.choose", "upstream.health")
TIMEFUL = frozenset({"asyncio", "selectors", "socket", "ssl", "time", "uvloop"})
TIMEFUL_C = re.compile(r"clock_gettime|gettimeofday|libc\.time|posix\.time|sys/socket")
FILE_LINES, FUNCTION_LINES = 500, 60

PY_FILES = sorted(SRC.rglob("*.py"))
C_FILES = sorted([*SRC.rglob("*.pyx"), *SRC.rglob("*.pxd")])


def module_name(path: Path) -> str:
    """`src/fastgw/plan/__init__.py` → `plan`; the package `fastgw` itself is the empty name."""
    parts = path.relative_to(SRC / "fastgw").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = frozenset(module_name(path) for path in PY_FILES) | {f"_core.{path.stem}" for path in CORE.glob("*.pyx")}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def floor_entry(module: str) -> str | None:
    """The longest entry of FLOORS that covers `module`."""
    parts = module.split(".")
    return next((name for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in HEIGHT), None)


def imported(source: ast.Module, modules: frozenset[str] = MODULES) -> Iterator[str]:
    """The modules of fastgw, without that prefix, that `source` imports; relative imports come out as `.`."""
    for node in ast.walk(source):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield "."
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fastgw":
            base = (node.module or "")[len("fastgw.") :]
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                yield inner if inner in modules else base
        elif isinstance(node, ast.Import):
            yield from (a.name[len("fastgw.") :] for a in node.names if a.name.split(".")[0] == "fastgw")


def may_import(module: str, target: str) -> bool:
    """Whether the floors let `module` import `target`."""
    if not target:
        return True  # the top package: a version, no code
    own, other = floor_entry(module), floor_entry(target)
    if own is None or other is None:
        return False
    if HEIGHT[own] == HEIGHT[other]:
        return own == other or own in TOGETHER
    return HEIGHT[other] < HEIGHT[own]


def floor_faults(module: str, source: ast.Module, modules: frozenset[str] = MODULES) -> list[str]:
    return [f"{module} imports {name}" for name in imported(source, modules) if not may_import(module, name)]


def outside(source: ast.Module) -> set[str]:
    """The top-level names of everything `source` imports."""
    names: set[str] = set()
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def functions(source: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(source) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


C_HEAD = re.compile(r"( *)(?:def|cpdef|cdef(?! +(?:class|extern|struct|union|enum|packed)\b))\b[^=#]*?(\w+) *\(")


def c_functions(text: str) -> Iterator[tuple[str, int, str]]:
    """(name, lines, body) of each function of a Cython file, by indentation: Cython has no parser to ask."""
    lines = text.splitlines()
    for start, line in enumerate(lines):
        head = C_HEAD.match(line)
        if head is None:
            continue
        first = start  # the line the head ends on: a head may be spread over lines, and a variable has none
        while first < len(lines) - 1 and "".join(lines[start : first + 1]).count("(") > "".join(
            lines[start : first + 1]
        ).count(")"):
            first += 1
        if not lines[first].split("#")[0].rstrip().endswith(":"):
            continue
        last = first
        for at in range(first + 1, len(lines)):
            if lines[at].strip() and len(lines[at]) - len(lines[at].lstrip()) <= len(head[1]):
                break
            last = at if lines[at].strip() else last
        yield head[2], last - start + 1, "\n".join(lines[first + 1 : last + 1])


def import_lines_inside(source: ast.Module) -> set[int]:
    inner = (node for function in functions(source) for node in ast.walk(function))
    return {node.lineno for node in inner if isinstance(node, ast.Import | ast.ImportFrom)}


def by_path(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=[str(path.relative_to(SRC / "fastgw")) for path in paths])


# --- floors


def test_every_module_has_a_floor():
    assert [module for module in MODULES if module and floor_entry(module) is None] == []


def test_imports_go_downward_only():
    assert [fault for path in PY_FILES for fault in floor_faults(module_name(path), tree(path))] == []


def test_no_import_cycles():
    graph = {module_name(path): set(imported(tree(path))) - {module_name(path)} for path in PY_FILES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


IMAGINED = frozenset(HEIGHT) | {"providers.openai", "dialects.base", "gateway.relay", "policies.limits"}


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("state.spool", "from fastgw.gateway import pipeline"),
        ("state.spool", "import fastgw.gateway.pipeline"),
        ("gateway.pipeline", "from fastgw.recorder.read import tail"),
        ("recorder.read", "from fastgw import gateway"),
        ("dialects.openai_chat", "from fastgw.providers import openai"),
        ("plan.plan", "from fastgw.plan.compile import build"),
        ("plan", "from fastgw.plan import compile"),
        ("dialects.hub", "from fastgw.dialects import base"),
        ("child", "from fastgw.gateway import pipeline"),
        ("_core.table_py", "from fastgw.errors import GatewayError"),
        ("unheard_of", "from fastgw import errors"),
        ("cli", "from . import node"),
        ("policies.limits", "def f():\n    from fastgw.node import serve"),
    ],
)
def test_the_floors_refuse(module: str, line: str):
    assert len(floor_faults(module, ast.parse(line), IMAGINED)) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("cli", "from fastgw import __version__, node"),
        ("gateway.pipeline", "from fastgw.gateway import relay"),
        ("plan.compile", "from fastgw.policies import limits"),
        ("call", "from fastgw.errors import GatewayError"),
        ("dialects.base", "from fastgw.dialects.hub import Usage"),
        ("errors", "import json, os.path"),
    ],
)
def test_the_floors_allow(module: str, line: str):
    assert floor_faults(module, ast.parse(line), IMAGINED) == []


@by_path([path for path in PY_FILES if module_name(path).startswith(TIMELESS)])
def test_what_decides_knows_no_clock_and_no_socket(path: Path):
    assert outside(tree(path)) & TIMEFUL == set()


@by_path(C_FILES)
def test_what_is_native_knows_no_clock_and_no_socket(path: Path):
    text = path.read_text()
    assert TIMEFUL_C.findall(text) == []
    assert set(re.findall(r"^\s*(?:c?import|from)\s+(\w+)", text, re.M)) & TIMEFUL == set()


# Forks per module from a process that has not seen fastgw: a fresh start for each at the price of a fork.
IMPORT_ALONE = """
import asyncio, importlib, os, sys, traceback, warnings
import msgspec, orjson
warnings.simplefilter("error")
bad = 0
for name in sys.argv[1:]:
    if (pid := os.fork()) == 0:
        try:
            importlib.import_module(name)
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            print(f"{name}: {error!r} at {place.filename}:{place.lineno}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    bad += os.waitpid(pid, 0)[1] != 0
sys.exit(bad != 0)
"""


def test_every_module_imports_alone():
    names = [f"fastgw.{name}".rstrip(".") for name in sorted(map(module_name, PY_FILES)) if name != "__main__"]
    path = os.pathsep.join([str(SRC), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALONE, *names], env={**os.environ, "PYTHONPATH": path}, capture_output=True
    )
    assert done.stderr.decode().splitlines() == []
    assert done.returncode == 0


# --- ceilings


def test_no_file_is_too_long():
    sizes = {str(path.relative_to(SRC)): len(path.read_text().splitlines()) for path in [*PY_FILES, *C_FILES]}
    assert {name: size for name, size in sizes.items() if size > FILE_LINES} == {}


def test_no_function_is_too_long():
    found = [(f"{path.relative_to(SRC)}:{f.name}", length(f)) for path in PY_FILES for f in functions(tree(path))]
    found += [
        (f"{path.relative_to(SRC)}:{n}", size) for path in C_FILES for n, size, _ in c_functions(path.read_text())
    ]
    assert [(name, size) for name, size in found if size > FUNCTION_LINES] == []


def test_no_import_inside_a_function():
    found = [f"{path.relative_to(SRC)}:{n}" for path in PY_FILES for n in sorted(import_lines_inside(tree(path)))]
    for path in C_FILES:
        for name, _, body in c_functions(path.read_text()):
            if re.search(r"^\s*(?:c?import\s+\w+|from\s+[\w.]+\s+c?import\b)", body, re.M):
                found.append(f"{path.relative_to(SRC)}:{name}")
    assert found == []


def test_no_global_statement():
    found = [
        str(path.relative_to(SRC)) for path in PY_FILES if any(isinstance(n, ast.Global) for n in ast.walk(tree(path)))
    ]
    found += [str(path.relative_to(SRC)) for path in C_FILES if re.search(r"^\s+global\s+\w", path.read_text(), re.M)]
    assert found == []


def test_nothing_is_left_for_later():
    marks = re.compile(r"\b(?:TODO|FIXME|XXX)\b")
    lines = (
        (path, n, line) for path in [*PY_FILES, *C_FILES] for n, line in enumerate(path.read_text().splitlines(), 1)
    )
    assert [f"{path.relative_to(SRC)}:{n}" for path, n, line in lines if marks.search(line)] == []


def test_the_ceilings_can_be_hit():
    source = ast.parse("def f():\n    import os\n" + "    x = 1\n" * 59)
    assert [length(function) for function in functions(source)] == [61]
    assert import_lines_inside(source) == {2}
    cython = (
        "cdef int total = call(\n    1)\n"
        "cdef class Box:\n"
        "    cdef inline int f(self,\n                      int a) except -1 nogil:  # why\n\n        return a\n\n"
        "cdef extern from *:\n    int g(int a) nogil\n\n"
        "def last(a):\n    from os cimport path\n"
    )
    found = list(c_functions(cython))
    assert [(name, size) for name, size, _ in found] == [("f", 4), ("last", 2)]
    assert "cimport" in found[1][2]


# --- twins


@by_path(sorted(CORE.glob("*.pyx")))
def test_every_native_module_has_a_twin_and_a_test(path: Path):
    name = path.stem.removesuffix("_c")
    assert path.stem == f"{name}_c"
    assert (CORE / f"{name}_py.py").is_file()
    assert (ROOT / "tests" / "_core" / f"test_{name}.py").is_file()
