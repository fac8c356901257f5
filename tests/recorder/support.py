"""Writers, records and what the exports say, for the tests of the recorder."""

from pathlib import Path
from typing import Any

import orjson

from fastgw.recorder.offsets import records_dir
from fastgw.recorder.recorder import Recorder
from fastgw.state.spool import Writer, spool_dir
from fastgw.telemetry.record import Record, encode

PAGE = 4096
DAY_US = 86_400_000_000
NOON_US = 20_000 * DAY_US + DAY_US // 2
"""2024-10-04T12:00:00Z."""


def writer(data: Path, lane: int = 0) -> Writer:
    return Writer(spool_dir(data), lane, PAGE)


def put(into: Writer, n: int, ts: int = NOON_US) -> None:
    into.prepare()
    made = Record(id=str(n), ts=ts, input_tokens=n, output_tokens=2 * n, cost_nano=3 * n)
    assert into.append(encode(made))


def take_all(data: Path, problems: list[str] | None = None) -> Recorder:
    """A recorder that has taken all there is; the caller closes it."""
    recorder = Recorder(data, (problems if problems is not None else []).append)
    while recorder.step():
        pass
    return recorder


def exported(data: Path) -> list[str]:
    """The ids in all exports, the oldest day first."""
    files = sorted(records_dir(data).glob("*.jsonl"))
    return [row["id"] for file in files for row in rows(file)]


def rows(file: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in file.read_bytes().splitlines()]
