"""How far the recorder has come: one small file in which the offsets in the spool and the sizes of the exports agree.

It is replaced whole, after what it tells of the exports is on the disk: whoever reads the exports up to the sizes in it
and the spool from the offsets in it meets every record exactly once, whenever the recorder died.
"""

import os
from collections.abc import Collection
from os import PathLike
from pathlib import Path
from typing import Protocol, Self

import msgspec
from msgspec import Struct

VERSION = 1
STATE = "offsets.json"


class StateError(ValueError):
    """The recorder's file cannot be used; the message says what to do."""


class Counted(Protocol):
    """What is added up of a record."""

    input_tokens: int
    output_tokens: int
    cost_nano: int | None


class Sums(Struct):
    """What records add up to; costs in nano-dollars, those without a price as 0."""

    records: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano: int = 0

    def add(self, record: Counted) -> None:
        """Count one record."""
        self.records += 1
        self.input_tokens += record.input_tokens
        self.output_tokens += record.output_tokens
        self.cost_nano += record.cost_nano or 0

    @classmethod
    def of(cls, records: Collection[Counted]) -> Self:
        """What many add up to."""
        read = sum([record.input_tokens for record in records])
        written = sum([record.output_tokens for record in records])
        return cls(len(records), read, written, sum([record.cost_nano or 0 for record in records]))

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(*(a + b for a, b in zip(self.figures, other.figures, strict=True)))

    @property
    def figures(self) -> tuple[int, int, int, int]:
        """Records, input tokens, output tokens, nano-dollars."""
        return self.records, self.input_tokens, self.output_tokens, self.cost_nano


class Position(Struct):
    """How far a segment was read. ``done``: nothing more will come from it; ``damaged``: its rest was skipped."""

    offset: int
    done: bool = False
    damaged: bool = False


class Export(Struct):
    """One day's file: its size in bytes, and what its lines add up to."""

    size: int = 0
    sums: Sums = msgspec.field(default_factory=Sums)


class State(Struct):
    """The whole.

    Attributes:
        segments: how far each segment that is still there was read, by name.
        exports: the files there are, by name (``2026-01-31.jsonl``).
        expired: what the files that were deleted for their age added up to.
        totals: what all records ever read add up to.
        damaged: segments whose rest was skipped for a broken frame.
        unreadable: frames that were whole but held no record this version knows.
    """

    version: int = VERSION
    segments: dict[str, Position] = {}
    exports: dict[str, Export] = {}
    expired: Sums = msgspec.field(default_factory=Sums)
    totals: Sums = msgspec.field(default_factory=Sums)
    damaged: int = 0
    unreadable: int = 0


def records_dir(data_dir: str | PathLike[str]) -> Path:
    """Where the exports of a data directory and the recorder's file are."""
    return Path(data_dir) / "records"


def load(directory: Path) -> State | None:
    """What the recorder last committed in its directory; None when it never did.

    Raises:
        StateError: the file is damaged or of another version.
        OSError: it cannot be read.
    """
    path = directory / STATE
    try:
        state = msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StateError(f"{path}: damaged ({error}); put back a copy, or move {directory} away") from error
    if state.version != VERSION:
        raise StateError(f"{path}: version {state.version} is not known here ({VERSION} is); use the release it is of")
    return state


def save(directory: Path, state: State) -> None:
    """Replace the file, and return when the disk has it. Raises OSError and leaves the old one."""
    draft = directory / f".{STATE}.draft"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(msgspec.json.encode(state))
        file.flush()
        os.fsync(fd)
    draft.replace(directory / STATE)
    sync_directory(directory)


def sync_directory(directory: Path) -> None:
    """Return when the disk has the names in a directory."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
