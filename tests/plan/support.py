"""Making plans from config text, in a directory of the test's own."""

from pathlib import Path

from fastgw._core import table as shared
from fastgw.plan.compile import build
from fastgw.plan.decode import ConfigErrors
from fastgw.plan.plan import Plan
from fastgw.plan.sources import Sources
from fastgw.telemetry.metrics import SeriesRegistry

PROVIDERS = "providers: {up: {kind: openai_compatible, base_url: 'http://127.0.0.1:9/v1'}}\n"
MODELS = "models: {fast: {targets: [{provider: up, model: m}]}}\n"


def compiled(directory: Path, text: str | None = None, *, slots: int = 1024, **more) -> Plan:
    """The plan of a config text (None: no file). Raises ConfigErrors."""
    config = None
    if text is not None:
        config = str(directory / "fastgw.yaml")
        (directory / "fastgw.yaml").write_text(text)
    sources = Sources(data_dir=str(directory), environ=more.pop("environ", {}), config=config, **more)
    table = shared.Table.open(str(directory / "table"), slots=slots, lanes=2, counters=8192, create=True)
    try:
        return build(sources, revision=7, table=table, registry=SeriesRegistry(table.counters))
    finally:
        table.close()


def refused(directory: Path, text: str | None = None, **more) -> list[str]:
    """The errors of a config that does not compile."""
    try:
        compiled(directory, text, **more)
    except ConfigErrors as errors:
        return errors.errors
    raise AssertionError("it compiled")
