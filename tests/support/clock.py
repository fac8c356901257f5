"""A time of day that a test can move, for processes that run already: a preloaded library with an offset from a file.

Only the time of day moves; monotonic clocks go on as they are, as they do on a machine whose clock is set. Wants gcc,
as the native modules do.
"""

import mmap
import struct
import subprocess
import time
from pathlib import Path
from typing import Self

SOURCE = Path(__file__).with_name("clock.c")
PAIR = struct.Struct("=qq")
PAIRS = 16
NS = 10**9


class Clock:
    """`env` is for those who are to live by it; a context, since it holds a mapped file."""

    def __init__(self, directory: Path) -> None:
        library, file = directory / "clock.so", directory / "clock.map"
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, SOURCE], check=True)
        file.write_bytes(bytes(PAIR.size * PAIRS))
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), 0)
        self._own: list[int] = []
        self._offset_ns = 0
        self.env = {"LD_PRELOAD": str(library), "FASTGW_TEST_CLOCK": str(file)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._map.close()

    def now(self) -> float:
        """The time of day, in seconds since 1970, of those who have no offset of their own."""
        return time.time() + self._offset_ns / NS

    def set(self, seconds: float) -> None:
        """Make it this time of day, for all at once."""
        self._offset_ns = round((seconds - time.time()) * NS)
        self._write(0, 0, self._offset_ns)

    def move(self, seconds: float) -> None:
        """Move it on, or back, for all at once."""
        self.set(self.now() + seconds)

    def apart(self, pid: int, seconds: float) -> None:
        """Let one process be so many seconds ahead of the others from now on."""
        if pid not in self._own:
            self._own.append(pid)
        self._write(self._own.index(pid) + 1, pid, self._offset_ns + round(seconds * NS))

    def _write(self, place: int, pid: int, offset_ns: int) -> None:
        # The offset first: a pair counts from the moment its process id is there.
        at = place * PAIR.size
        self._map[at + 8 : at + 16] = offset_ns.to_bytes(8, "little", signed=True)
        self._map[at : at + 8] = pid.to_bytes(8, "little", signed=True)
