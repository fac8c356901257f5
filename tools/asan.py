"""Runs pytest in a process whose native modules are the AddressSanitizer builds, and refuses to run otherwise.

Usage: ``python tools/asan.py TREE [pytest arguments]``; TREE is the ``--build-lib`` of an ``FASTGW_ASAN=1`` build and
must be first on PYTHONPATH, and libasan must be preloaded (``make asan`` does all of it). The proof is made in the
process that runs the tests: a native module that comes from elsewhere, or without the sanitizer, ends it here.
"""

import sys
from pathlib import Path

import pytest

from fastgw import _core


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


def main(arguments: list[str]) -> int:
    if found := faults(Path(arguments[0]).resolve()):
        print("\n".join(f"asan: {fault}" for fault in found), file=sys.stderr)
        return 1
    print("asan: native modules loaded with AddressSanitizer:", ", ".join(_core.NATIVE))
    return int(pytest.main(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
