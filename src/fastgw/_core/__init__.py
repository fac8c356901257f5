"""The native hot modules and the one place that chooses between each and its pure-Python twin.

Import a module from here and never a ``_c`` or ``_py`` file by name: ``from fastgw._core import headers``.

A twin ``<name>_py`` is the specification, the type stub and the test oracle of the native ``<name>_c``: type
checkers see the twin only. It serves when the native module was not compiled or cannot be loaded, or when the
environment says ``FASTGW_PURE=1``. What was chosen is in ``NATIVE``, and why a twin serves is in ``REASONS``.
"""

import os
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

__all__ = ["NATIVE", "REASONS", "fields", "headers", "replies", "sse", "table"]

NATIVE: dict[str, bool] = {}
"""Module name -> whether the compiled module serves (False: its pure twin)."""

REASONS: dict[str, str] = {}
"""Module name -> why its twin serves; only modules served by a twin are listed."""


def _choose(name: str) -> ModuleType:
    """The native module ``name`` if it can be had, else its twin; notes the choice in ``NATIVE`` and ``REASONS``."""
    reason = "FASTGW_PURE=1" if os.environ.get("FASTGW_PURE") == "1" else ""
    if not reason:
        try:
            module = import_module(f"{__name__}.{name}_c")
        except ImportError as error:
            reason = str(error)
    NATIVE[name] = not reason
    if not reason:
        return module
    REASONS[name] = reason
    return import_module(f"{__name__}.{name}_py")


if TYPE_CHECKING:
    from fastgw._core import fields_py as fields
    from fastgw._core import headers_py as headers
    from fastgw._core import replies_py as replies
    from fastgw._core import sse_py as sse
    from fastgw._core import table_py as table
else:
    fields = _choose("fields")
    headers = _choose("headers")
    replies = _choose("replies")
    sse = _choose("sse")
    table = _choose("table")
