from collections.abc import Iterator
from pathlib import Path

import pytest

from fastgw._core import table as shared
from fastgw.node.publish import Publisher, load_registry, write_private
from fastgw.plan import file as plan_file
from fastgw.plan.compile import ConfigErrors, Sources
from fastgw.state.table import open_table
from tests.node.support import config_text


@pytest.fixture
def table(tmp_path: Path) -> Iterator[shared.Table]:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    table = open_table(data, create=True)
    yield table
    table.close()


def publisher(tmp_path: Path, table: shared.Table) -> Publisher:
    sources = Sources(data_dir=str(tmp_path / "data"), environ={}, config=str(tmp_path / "c.yaml"))
    one = Publisher(sources, tmp_path / "data", table)
    one.recall()
    return one


def write(tmp_path: Path, *models: str) -> None:
    (tmp_path / "c.yaml").write_text(config_text("http://127.0.0.1:1/v1", models=models))


def test_revisions(tmp_path: Path, table: shared.Table) -> None:
    one = publisher(tmp_path, table)
    for count, models in enumerate((("a",), ("a", "b"), ("c",)), 1):
        write(tmp_path, *models)
        assert one.publish()
        assert not one.publish()
        assert one.revision == count
        assert set(plan_file.read(one.path).models) == set(models)
        assert plan_file.read(one.path).revision == count
    assert sorted(path.name for path in one.path.parent.iterdir()) == ["plan-2.bin", "plan-3.bin"]


def test_goes_on_after_a_restart(tmp_path: Path, table: shared.Table) -> None:
    write(tmp_path, "a")
    first = publisher(tmp_path, table)
    first.publish()
    places = dict(first.registry.series)
    again = publisher(tmp_path, table)
    assert not again.publish()
    assert (again.revision, again.path) == (1, first.path)
    write(tmp_path, "b", "a")
    assert again.publish()
    assert again.revision == 2
    assert places.items() <= again.registry.series.items()


def test_a_damaged_plan_file_uses_up_its_number(tmp_path: Path, table: shared.Table) -> None:
    write(tmp_path, "a")
    first = publisher(tmp_path, table)
    first.publish()
    (first.path.parent / "plan-7.bin").write_bytes(b"junk")
    again = publisher(tmp_path, table)
    assert again.revision == 7
    write(tmp_path, "b")
    assert again.publish()
    assert again.revision == 8


def test_a_wrong_config_changes_nothing(tmp_path: Path, table: shared.Table) -> None:
    write(tmp_path, "a")
    one = publisher(tmp_path, table)
    one.publish()
    before = one.plan
    (tmp_path / "c.yaml").write_text("nonsense: true\n")
    with pytest.raises(ConfigErrors):
        one.publish()
    assert (one.plan, one.revision) == (before, 1)
    write(tmp_path, "a")
    assert not one.publish()


def test_a_lost_registry_counts_from_zero(tmp_path: Path, table: shared.Table) -> None:
    path = tmp_path / "series.json"
    registry = load_registry(path, table)
    place = registry.series["fastgw_worker_restarts_total"]
    lane = table.claim_lane()
    lane.add(place, 3)
    assert registry.sums(table)[place] == 3
    for text in (None, b"{}", b"\xff"):
        if text is not None:
            path.write_bytes(text)
        assert load_registry(path, table).sums(table)[place] == 0
    lane.close()


def test_write_private(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["f"]
