"""Builds the native modules of ``fastgw._core``; without a compiler the pure twins serve, and the build says so.

Environment:
    FASTGW_ASAN=1       build with AddressSanitizer and UndefinedBehaviorSanitizer (``make asan``); failing is an error.
    FASTGW_NO_NATIVE=1  do not try to build; the pure twins serve.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CORE = Path("src/fastgw/_core")
ASAN = os.environ.get("FASTGW_ASAN") == "1"
SANITIZE = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined"]


def extensions() -> list[Extension]:
    """One extension a ``.pyx`` file, so that a broken one costs only itself."""
    if os.environ.get("FASTGW_NO_NATIVE") == "1":
        return []
    from Cython.Build import cythonize

    modules = [
        Extension(
            f"fastgw._core.{path.stem}",
            [str(path)],
            include_dirs=[str(CORE)],
            depends=[str(header) for header in sorted(CORE.glob("*.h"))],
            extra_compile_args=["-O1", "-g", *SANITIZE] if ASAN else ["-O3", "-g0", "-fno-strict-aliasing"],
            extra_link_args=SANITIZE if ASAN else [],
            # Lets setuptools leave a module that did not compile out of what it copies and packs.
            optional=not ASAN,
        )
        for path in sorted(CORE.glob("*.pyx"))
    ]
    return list(cythonize(modules, language_level=3, build_dir="build/asan" if ASAN else "build/cython"))


class OptionalBuild(build_ext):
    """A failed compile is a warning: the pure twin of the module is used instead."""

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:
            self._fall_back(error)

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception as error:
            self._fall_back(error, ext.name)

    def _fall_back(self, error: Exception, name: str = "fastgw._core") -> None:
        if ASAN:
            raise error
        print(f"fastgw: {name} was not compiled ({error}); its slower pure-Python twin will be used.", file=sys.stderr)


setup(ext_modules=extensions(), cmdclass={"build_ext": OptionalBuild})
