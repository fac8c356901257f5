"""Says which of the gateway's hot modules are compiled and which are served by their pure-Python twin.

With ``--require`` the exit code is 1 when a twin serves: tests of native code that silently ran against the twin
would prove nothing.
"""

import sys

from fastgw import _core


def main(arguments: list[str]) -> int:
    for name, reason in _core.REASONS.items():
        print(f"fastgw: {name} is served by its slower pure-Python twin ({reason})", file=sys.stderr)
    return 1 if _core.REASONS and "--require" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
