"""From what the operator has said to plan files: compile, compare with what is served, number, write, tidy up."""

import os
import re
from pathlib import Path

import msgspec

from fastgw._core import table as shared
from fastgw.node.errors import DATA_DIR, INVALID_CONFIG, NOTHING_TO_SERVE, StartError
from fastgw.plan import file as plan_file
from fastgw.plan.compile import ConfigErrors, Sources, build
from fastgw.plan.plan import Plan
from fastgw.state.secrets import SecretFileError
from fastgw.telemetry.metrics import RegistryError, SeriesRegistry

SERIES = "series.json"
KEEP = 2
_NAME = re.compile(r"plan-(\d{1,18})\.bin")


class Publisher:
    """Publishes plans into `<data>/plans/`, one file a revision; the numbers go on after a restart.

    Blocking, and for one thread at a time.
    """

    def __init__(self, sources: Sources, data_dir: Path, table: shared.Table) -> None:
        self._sources = sources
        self._table = table
        self._plans = data_dir / "plans"
        self._series = data_dir / SERIES
        self._registry: SeriesRegistry | None = None
        self.plan: Plan | None = None
        self.path = self._plans / "none"
        self.revision = 0

    @property
    def series_file(self) -> Path:
        """Where the places of all metric series are kept."""
        return self._series

    @property
    def registry(self) -> SeriesRegistry:
        """The places of all metric series."""
        if self._registry is None:
            self._registry = load_registry(self._series, self._table)
        return self._registry

    def series(self) -> dict[str, int]:
        """The places of all metric series, as the plan in force has them."""
        return self.registry.series if self.plan is None else self.plan.series

    def forget(self) -> None:
        """Somebody else may have published meanwhile: what is in the files counts, not what is known here."""
        self._registry = None

    def recall(self) -> None:
        """Learn from the files of an earlier run which revision was the last, and what it said."""
        self._plans.mkdir(mode=0o700, exist_ok=True)
        for revision, path in reversed(self._files()):
            self.revision = max(self.revision, revision)
            try:
                self.plan, self.path = plan_file.read(path), path
            except plan_file.PlanFileError:  # of another version, or damaged: its number is used up all the same
                continue
            return

    def begin(self, *, last_good: bool) -> list[str] | None:
        """Publish for the first time.

        A node that ran and is started again with a config that is wrong serves as it did, with ``last_good``: what is
        wrong is then returned.

        Raises:
            StartError: (1) the config is wrong, (2) there is nothing to serve, (4) the data directory cannot be used.
        """
        try:
            self.recall()
            self.publish()
        except ConfigErrors as errors:
            nothing = any(line.startswith("(nothing to serve)") for line in errors.errors)
            if last_good and self.plan is not None and not nothing:
                return errors.errors
            raise StartError(NOTHING_TO_SERVE if nothing else INVALID_CONFIG, *errors.errors) from errors
        except (SecretFileError, shared.TableError) as error:
            raise StartError(DATA_DIR, str(error)) from error
        except OSError as error:
            where = self._plans.parent
            raise StartError(DATA_DIR, f"data directory {where}: {error.strerror or error}") from error
        if self.plan is not None and not self.plan.models and not self.plan.wildcards:
            raise StartError(NOTHING_TO_SERVE, "(nothing to serve): the config names no models")
        return None

    def publish(self) -> bool:
        """Compile, and write a new revision unless it would say what the last one says; True when it is new.

        Raises:
            ConfigErrors: what was said is wrong; nothing has changed.
            OSError: the disk does not take it; nothing has changed.
        """
        plan = build(self._sources, revision=self.revision + 1, table=self._table, registry=self.registry)
        if not plan.models and not plan.wildcards:  # also what a file says that is just being written anew
            raise ConfigErrors(["(nothing to serve): the config names no models"])
        if self.plan is not None and msgspec.structs.replace(plan, revision=self.plan.revision) == self.plan:
            return False
        path = self._plans / f"plan-{plan.revision}.bin"
        # First the registry: a place that a plan uses must never be given away again.
        write_private(self._series, self.registry.dump())
        plan_file.write(path, plan)
        self.plan, self.path, self.revision = plan, path, plan.revision
        self._tidy()
        return True

    def _tidy(self) -> None:
        for _, path in self._files()[:-KEEP]:
            path.unlink(missing_ok=True)

    def _files(self) -> list[tuple[int, Path]]:
        """Plan files by revision, the oldest first."""
        found = [(match, path) for path in self._plans.iterdir() if (match := _NAME.fullmatch(path.name))]
        return sorted((int(match[1]), path) for match, path in found)


def load_registry(path: Path, table: shared.Table) -> SeriesRegistry:
    """The registry kept at `path`; one that was lost begins anew, with the table's present counts as its zero."""
    try:
        return SeriesRegistry.load(path.read_bytes(), table.counters)
    except (FileNotFoundError, RegistryError):
        registry = SeriesRegistry(table.counters)
        registry.rebase(table)
        return registry


def write_private(path: Path, data: bytes) -> None:
    """Replace a file at once, readable by us alone. Raises OSError and leaves the old one."""
    draft = path.with_name(f".{path.name}.draft")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
    draft.replace(path)
