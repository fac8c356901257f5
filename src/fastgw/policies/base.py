"""What a policy is given and what it gives."""

from collections.abc import Callable
from typing import NamedTuple

from fastgw._core import headers, table
from fastgw.call import Call
from fastgw.upstream.route import Routes


class Env(NamedTuple):
    """What policies may use: the plan's models bound to pools, the table shared by the node's workers, UTC now.

    `book` is this worker's calls in flight.
    """

    routes: Routes
    table: table.Table
    book: table.Book
    clock: Callable[[], float]


class Policy(NamedTuple):
    """One rule, ready to run: `head(call, scan)` before the body is read, `body(call)` once the model is known."""

    head: Callable[[Call, headers.Scan], None] | None = None
    body: Callable[[Call], None] | None = None
