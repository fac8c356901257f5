"""Notices that a file of the config has changed, whatever way it was changed.

Directories are watched, not files: editors and ConfigMaps replace a file or a link to its directory. What counts is
the files' identity, size and times, followed through links; it is also looked at every two seconds, for file systems
that do not notify.
"""

import asyncio
import os
from collections.abc import Callable, Iterable

from watchfiles import awatch

POLL_S = 2.0
SETTLE_S = 0.1
_DEBOUNCE_MS = 200
_STEP_MS = 50

Signature = tuple[tuple[int, int, int, int, int] | None, ...]


def signature(files: Iterable[str]) -> Signature:
    """What a change of any of the files changes: device, inode, size, times; None for one that is not there."""
    return tuple(_signature(file) for file in files)


def directories(files: Iterable[str]) -> frozenset[str]:
    """The existing directories in which a change of the files may happen: theirs, and those of the links on the way."""
    return frozenset(place for file in files for place in _places(os.path.abspath(file)) if os.path.isdir(place))


class Watcher:
    """Calls `changed` when a watched file changed, after it has been quiet for a moment.

    Args:
        files: the files as of now.
        changed: called on the loop; expected to be quick (set an event).
        warn: told when the system cannot notify; the files are then only polled.
    """

    def __init__(self, files: list[str], changed: Callable[[], None], warn: Callable[[str], None]) -> None:
        self._files = files
        self._changed = changed
        self._warn = warn
        self._seen = signature(files)
        self._again = asyncio.Event()

    def follow(self, files: list[str]) -> None:
        """Watch these files from now on. A file that is new to the set counts as seen."""
        if files == self._files:
            return
        known = dict(zip(self._files, self._seen, strict=True))
        fresh = signature(files)
        self._seen = tuple(known.get(file, one) for file, one in zip(files, fresh, strict=True))
        self._files = files
        self._again.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        warned = False
        while True:
            self._again.clear()
            try:
                await self._watch(directories(self._files))
            # No inotify left, a directory that went away between two calls; the second is what the native part raises.
            except (OSError, RuntimeError) as error:
                if not warned:
                    self._warn(f"{error}; files are looked at every {POLL_S:g} s instead")
                warned = True
                await asyncio.sleep(POLL_S)
                await self._look()

    async def _watch(self, places: frozenset[str]) -> None:
        """Until the places to watch are no longer these."""
        changes = awatch(
            *places,
            watch_filter=None,
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            stop_event=self._again,
            rust_timeout=int(POLL_S * 1000),
            yield_on_timeout=True,
            recursive=False,
        )
        async for _ in changes:
            await self._look()
            if directories(self._files) != places:
                return

    async def _look(self) -> None:
        now = signature(self._files)
        if now == self._seen:
            return
        while True:  # a file that is being written: wait for the end of it
            await asyncio.sleep(SETTLE_S)
            later = signature(self._files)
            if later == now:
                break
            now = later
        self._seen = now
        self._changed()


def _signature(file: str) -> tuple[int, int, int, int, int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _places(path: str) -> set[str]:
    """Directories that hold `path` or a link through which it is reached."""
    places = {os.path.dirname(path)}
    for _ in range(40):  # the kernel's own limit of links in a path
        hop = _first_link(path)
        if hop is None:
            break
        link, rest = hop
        places.add(os.path.dirname(link))
        target = os.path.join(os.path.dirname(link), os.readlink(link))
        path = os.path.normpath(os.path.join(target, rest)) if rest else os.path.normpath(target)
        places.add(os.path.dirname(path))
    return places


def _first_link(path: str) -> tuple[str, str] | None:
    """The first part of `path` that is a link, and what follows it."""
    parts = path.split(os.sep)
    for count in range(2, len(parts) + 1):
        prefix = os.sep.join(parts[:count])
        if os.path.islink(prefix):
            return prefix, os.sep.join(parts[count:])
    return None
