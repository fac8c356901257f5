"""What the spool takes on disk, and keeping it in bounds: settled segments go, then the oldest above the cap."""

import contextlib
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from fastgw.state.segment import (
    ACTIVE,
    HEADER_BYTES,
    SEALED,
    SPARE,
    Segment,
    SpoolError,
    after_frame,
    describe,
    frames,
    is_locked,
    mark_sealed,
    open_segment,
    segment_names,
)

TAKEN = 1 << 63
"""As an offset to begin at: there is nothing in the segment that is wanted any more."""


class Usage(NamedTuple):
    """What the spool takes on disk."""

    segments: int
    bytes: int


def usage(directory: str | os.PathLike[str]) -> Usage:
    """Segments and bytes on disk now, spares included."""
    sizes = []
    for name in segment_names(Path(directory)):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(os.stat(Path(directory) / name).st_size)
    return Usage(len(sizes), sum(sizes))


class Cleaned(NamedTuple):
    """What a janitor run deleted for the cap: files, and records nobody had taken."""

    segments: int
    records: int


def janitor(
    directory: str | os.PathLike[str],
    cap_bytes: int,
    keep: Collection[str] = (),
    taken: Mapping[str, int] | None = None,
    settled: Collection[str] = (),
    *,
    keep_unread: bool = False,
) -> Cleaned:
    """Delete the segments that are settled, then bring the spool under its cap by deleting the oldest nobody writes.

    Also gives back the unused space of segments left by a dead worker, and its spare and half-made files. Segments
    named in ``keep`` and those locked by a living writer stay, even above the cap.

    Args:
        directory: the spool directory.
        cap_bytes: what the spool may take on disk.
        keep: names of segments to leave alone.
        taken: up to where a reader took each segment for good, ``TAKEN`` for all of it. For the cap those that were
            taken whole go first; only records beyond these offsets are counted as deleted.
        settled: names of segments to delete whatever the cap.
        keep_unread: for the cap only those that were taken whole go.
    """
    taken = taken or {}
    root = Path(directory)
    closed = [segment for name in segment_names(root) if name not in keep and (segment := _tidy(root / name))]
    _remove_drafts(root)
    for segment in closed:
        if segment.name in settled:
            segment.path.unlink(missing_ok=True)
    closed = [segment for segment in closed if segment.name not in settled]
    excess = usage(root).bytes - cap_bytes
    segments = records = 0
    for segment in sorted(closed, key=lambda item: (taken.get(item.name) != TAKEN, item.opened_us, item.name)):
        if excess <= 0 or (keep_unread and taken.get(segment.name) != TAKEN):
            break
        with contextlib.suppress(OSError):
            held = _count(segment.path, taken.get(segment.name, HEADER_BYTES))
            segment.path.unlink()
            segments, records = segments + 1, records + held
            excess -= segment.size
    return Cleaned(segments, records)


def _tidy(path: Path) -> Segment | None:
    """A segment no one writes, trimmed to what it holds; None for one that is live, or held nothing and is gone."""
    try:
        segment = describe(path)
        if segment.live:
            return None
        if segment.state == SPARE:
            path.unlink()
            return None
        return _finish(segment) if segment.state == ACTIVE else segment
    except SpoolError:
        unreadable = _unreadable(path)
        return None if unreadable is None or unreadable.live else unreadable
    except OSError:
        # Gone meanwhile, a link, or a disk that refuses: the next run looks again.
        return None


def _unreadable(path: Path) -> Segment | None:
    """A file under a segment's name that is none: the cap holds for it too, its age taken from the name."""
    lane, generation, sequence = (int(part) for part in path.stem.split("-"))
    with contextlib.suppress(OSError), open_segment(path) as fd:
        live, size = is_locked(fd), os.fstat(fd).st_size
        return Segment(path.name, path, lane, generation, sequence, generation, SEALED, size, live)
    return None


def _finish(segment: Segment) -> Segment | None:
    """Seal the segment of a dead writer and give its unused end back; a damaged one keeps its length.

    None when it held no record and is gone.
    """
    used = HEADER_BYTES
    try:
        for offset, payload in frames(segment.path):
            used = after_frame(offset, payload)
    except SpoolError:
        used = segment.size
    if used == HEADER_BYTES:
        segment.path.unlink()
        return None
    fd = os.open(segment.path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        mark_sealed(fd)
        os.ftruncate(fd, used)
    finally:
        os.close(fd)
    return segment._replace(size=used, state=SEALED)


def _count(path: Path, offset: int) -> int:
    counted = 0
    with contextlib.suppress(SpoolError):
        for _ in frames(path, offset):
            counted += 1
    return counted


def _remove_drafts(directory: Path) -> None:
    for path in directory.glob("*.seg.tmp"):
        with contextlib.suppress(OSError), open_segment(path) as fd:
            old = time.time() - os.fstat(fd).st_mtime > 60
            if old and not is_locked(fd):
                path.unlink()
