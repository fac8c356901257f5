"""A pytest plugin that lets tests run only on the AddressSanitizer builds of the native modules (see ``make asan``).

FASTGW_ASAN_TREE names the ``--build-lib`` of an ``FASTGW_ASAN=1`` build, which must come first on PYTHONPATH. The proof
is made in every process that runs tests: a native module that comes from elsewhere, or was built without the sanitizer,
or is served by its twin, ends the run.
"""

import os
import sys
from pathlib import Path

import pytest

from fastgw import _core


def pytest_configure() -> None:
    """Raises pytest.UsageError, which ends the run, when anything but the sanitized modules would be tested."""
    if found := faults(Path(os.environ["FASTGW_ASAN_TREE"]).resolve()):
        raise pytest.UsageError("\n".join(f"asan: {fault}" for fault in found))


def pytest_report_header() -> str:
    return "asan: native modules with AddressSanitizer: " + ", ".join(_core.NATIVE)


def faults(tree: Path) -> list[str]:
    """Why the loaded native modules are not the sanitized ones of ``tree``; empty when all of them are."""
    found = [f"{name}: its twin serves ({reason})" for name, reason in _core.REASONS.items()]
    loaded = {name: Path(str(module.__file__)) for name, module in sys.modules.items() if is_native(name)}
    found += [f"{path.stem}.pyx was not built" for path in tree.glob("fastgw/_core/*.pyx") if not built(path)]
    for name, path in loaded.items():
        if not path.resolve().is_relative_to(tree):
            found.append(f"{name}: loaded from {path}, not from {tree}")
        elif b"__asan_init" not in path.read_bytes():
            found.append(f"{name}: {path} was built without AddressSanitizer")
    return found or ([] if loaded else ["no native module was loaded"])


def is_native(name: str) -> bool:
    return name.startswith("fastgw._core.") and name.endswith("_c")


def built(source: Path) -> bool:
    return any(source.parent.glob(f"{source.stem}.*.so"))
