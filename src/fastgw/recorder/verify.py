"""Whether everything adds up: each export to what the recorder says, and the records to the gateway's own count."""

from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from fastgw._core import table as shared
from fastgw.recorder import exports, read
from fastgw.recorder.offsets import Export, State, Sums, records_dir
from fastgw.recorder.recorder import recorded
from fastgw.state.table import open_table
from fastgw.telemetry.metrics import ProcessHandles, RegistryError, SeriesRegistry

SERIES = "series.json"
TRIES = 5
UNITS = ("records", "input tokens", "output tokens", "nano-dollars")

Figures = tuple[int, int, int, int]


class Row(NamedTuple):
    """A line of the table: what was added up, and the result."""

    name: str
    sums: Figures


class Verdict(NamedTuple):
    """What was found. ``differences`` is empty when everything adds up; ``problems`` could not be read."""

    rows: list[Row]
    differences: list[str]
    problems: list[str]


def verify(data_dir: str | PathLike[str]) -> Verdict:
    """Add up exports and spool, and compare with what the recorder and the gateway counted.

    On a running gateway too: what it counts meanwhile is allowed for.

    Raises:
        StateError: the recorder's file cannot be used.
        TableError: the shared table cannot be used.
        OSError: the recorder's file or the table cannot be read.
    """
    table = open_table(Path(data_dir), create=False)
    try:
        for _ in range(TRIES - 1):
            verdict = _verify(data_dir, table.totals, lambda: dropped_records(data_dir, table))
            if not verdict.differences:  # a call may be between its record and its count: such a moment passes
                return verdict
        return _verify(data_dir, table.totals, lambda: dropped_records(data_dir, table))
    finally:
        table.close()


def dropped_records(data_dir: str | PathLike[str], table: shared.Table) -> int:
    """Records that were deleted unread to keep the spool under its cap."""
    try:
        registry = SeriesRegistry.load((Path(data_dir) / SERIES).read_bytes(), table.counters)
    except (FileNotFoundError, RegistryError):
        return 0
    return registry.sums(table)[ProcessHandles.find(registry.series).records_dropped]


def _verify(data_dir: str | PathLike[str], counted: Callable[[], Figures], dropped: Callable[[], int]) -> Verdict:
    problems: list[str] = []
    before = counted()
    state = recorded(data_dir)
    waiting = Sums()
    for record in read.unread(data_dir, state, report=problems.append):
        waiting.add(record)
    after, lost = counted(), dropped()
    found = Sums()
    differences: list[str] = []
    for name, export in sorted(state.exports.items()):
        try:
            sums = exports.add_up(records_dir(data_dir) / name, export.size)
        except (OSError, ValueError) as error:
            problems.append(f"{name}: {error}")
            continue
        found += sums
        differences += _compare_export(name, export, sums)
    rows = [
        Row("exports", found.figures),
        Row("expired exports", state.expired.figures),
        Row("recorder", state.totals.figures),
        Row("spool, unread", waiting.figures),
        Row("recorder and spool", (state.totals + waiting).figures),
        Row("gateway", after),
    ]
    differences += _compare_totals(state, found)
    differences += _compare_counts((state.totals + waiting).figures, before, after, lost)
    return Verdict(rows, differences, problems)


def _compare_export(name: str, export: Export, found: Sums) -> Iterator[str]:
    if found.figures != export.sums.figures:
        yield f"{name}: its lines are {_spell(found.figures)}, but the recorder wrote {_spell(export.sums.figures)}"


def _compare_totals(state: State, found: Sums) -> Iterator[str]:
    kept = found + state.expired
    if kept.figures != state.totals.figures:
        problem = f"exports, expired ones included, are {_spell(kept.figures)}"
        yield f"{problem}, but the recorder took {_spell(state.totals.figures)}"


def _compare_counts(ours: Figures, before: Figures, after: Figures, dropped: int) -> Iterator[str]:
    """``before`` and ``after``: the gateway's count when reading began and ended."""
    if dropped:  # of what was dropped only the number is known
        if not before[0] - dropped <= ours[0] <= after[0]:
            yield f"records: {ours[0]} found and {dropped} dropped, but the gateway counted {after[0]}"
        return
    for name, mine, first, last in zip(UNITS, ours, before, after, strict=True):
        if not first <= mine <= last:
            yield f"{name}: {mine} found, but the gateway counted {last}: {last - mine:+d}"


def _spell(figures: Figures) -> str:
    records, tokens_in, tokens_out, nano = figures
    return f"{records} records, {tokens_in} and {tokens_out} tokens, {nano} nano-dollars"


def table_lines(rows: list[Row]) -> Iterator[str]:
    """The rows as aligned text, a heading first."""
    yield f"{'':<20}{'records':>14}{'input tokens':>18}{'output tokens':>18}{'nano-dollars':>22}"
    for name, sums in rows:
        yield f"{name:<20}{sums[0]:>14}{sums[1]:>18}{sums[2]:>18}{sums[3]:>22}"
