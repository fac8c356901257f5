"""Why a node does not start, and the exit code that says so."""

INVALID_CONFIG = 1
NOTHING_TO_SERVE = 2
PORT_TAKEN = 3
DATA_DIR = 4
TAKE_OVER = 5


class StartError(Exception):
    """The node cannot start. `code` is the exit code, `problems` are lines for people."""

    def __init__(self, code: int, *problems: str) -> None:
        super().__init__(code, *problems)
        self.code = code
        self.problems = problems
