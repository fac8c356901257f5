"""The process tree: one supervisor, its workers and its console. `serve` is the whole of it."""

import asyncio
import signal
import sys

from fastgw.node.errors import StartError
from fastgw.node.options import ServeOptions
from fastgw.node.supervisor import Node
from fastgw.telemetry.log import Log

__all__ = ["ServeOptions", "serve"]


def serve(options: ServeOptions, modules: dict[str, str] | None = None) -> int:
    """Run a node until it is told to end.

    Args:
        options: how to start it.
        modules: which Python module each kind of child (`worker`, `console`, `mock`) runs, where not the usual one.

    Returns:
        The exit code: 0 ended in good order, 1 config invalid, 2 nothing to serve, 3 port taken, 4 data directory in
        use or unsafe, 5 a take-over failed. What is wrong stands on standard error, a problem a line.
    """
    log = Log()
    try:
        asyncio.run(_run(options, log, modules))
    except StartError as error:
        for problem in error.problems:
            print(f"fastgw: {problem}", file=sys.stderr)
        return error.code
    finally:
        log.close()
    return 0


async def _run(options: ServeOptions, log: Log, modules: dict[str, str] | None) -> None:
    node = Node(options, log, modules)
    _install_signals(node)
    await node.run()


def _install_signals(node: Node) -> None:
    """SIGTERM and SIGINT end the node (a second one at once), SIGHUP reloads."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.terminate)
    loop.add_signal_handler(signal.SIGHUP, node.reload)
