"""What the parts of one compilation share."""

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from fastgw._core import table as shared
from fastgw.plan import catalogue
from fastgw.plan.plan import Rule
from fastgw.plan.sources import Loaded

T = TypeVar("T")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}")
NAME_RULE = "a name is 1 to 128 of A-Z a-z 0-9 . _ : @ / - and begins with a letter or digit"


class Context:
    """One compilation; `errors` grows while it goes on, so that the operator sees all of them."""

    def __init__(self, loaded: Loaded, pepper: bytes, table: shared.Table) -> None:
        self.config = loaded.config
        self.loaded = loaded
        self.pepper = pepper
        self.table = table
        self.errors: list[str] = []
        self.drafts: dict[bytes, tuple[list[Rule], list[str]]] = {}
        self.catalogue = self.attempt("catalogue", catalogue.book, loaded.catalogue, default=catalogue.shipped())

    def attempt(self, path: str, convert: Callable[..., T], *values: object, default: T) -> T:
        """`convert(*values)`, its ValueError noted under `path`."""
        try:
            return convert(*values)
        except ValueError as error:
            self.errors.append(f"{path}: {error}")
            return default

    def slots(self, path: str, ids: bytes, kinds: bytes) -> Sequence[int]:
        """The slots of these names (16 bytes each) in the shared table; -1 (and an error) when there is no room."""
        try:
            return self.table.slots_of(ids, kinds)
        except shared.TableError as error:
            self.errors.append(f"{path}: no room for another limit or key: {error}")
            return [-1] * len(kinds)

    def check_name(self, path: str, name: str) -> None:
        if not NAME.fullmatch(name):
            self.errors.append(f"{path}: {NAME_RULE}")
