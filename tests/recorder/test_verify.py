"""Sums that agree pass; each kind of difference is named."""

import pytest

from fastgw.recorder.offsets import STATE, StateError, records_dir
from fastgw.recorder.verify import Row, table_lines, verify
from fastgw.state.table import open_table
from tests.recorder.support import NOON_US, put, take_all, writer


@pytest.fixture
def node(tmp_path):
    """A lane's writer and a function that writes records and counts them, as a worker does."""
    table = open_table(tmp_path, create=True)
    lane = table.claim_lane()
    book = lane.book()
    spool = writer(tmp_path)

    def work(first, last, count=True):
        for n in range(first, last):
            put(spool, n, NOON_US)
            if count:
                book.commit_totals(*spool.place, n, 2 * n, 3 * n)

    yield work
    spool.close()
    lane.close()
    table.close()


def test_exports_and_spool_add_up_to_the_count(tmp_path, node):
    assert verify(tmp_path).differences == []
    node(0, 100)
    assert verify(tmp_path).differences == []
    one = take_all(tmp_path)
    one.close()
    node(100, 130)
    verdict = verify(tmp_path)
    assert (verdict.differences, verdict.problems) == ([], [])
    sums = dict(verdict.rows)
    assert sums["exports"] == (100, 4950, 9900, 14850)
    assert sums["spool, unread"][0] == 30
    assert sums["recorder and spool"] == sums["gateway"] == (130, 8385, 16770, 25155)


def test_a_record_that_was_not_counted_is_found(tmp_path, node):
    node(0, 10)
    node(10, 11, count=False)
    assert verify(tmp_path).differences == [
        "records: 11 found, but the gateway counted 10: -1",
        "input tokens: 55 found, but the gateway counted 45: -10",
        "output tokens: 110 found, but the gateway counted 90: -20",
        "nano-dollars: 165 found, but the gateway counted 135: -30",
    ]


def test_a_changed_export_is_found(tmp_path, node):
    node(0, 10)
    take_all(tmp_path).close()
    path = records_dir(tmp_path) / "2024-10-04.jsonl"
    text = path.read_bytes()
    path.write_bytes(text.replace(b'"input_tokens":5', b'"input_tokens":6', 1))
    first, second = verify(tmp_path).differences
    assert first.startswith("2024-10-04.jsonl: its lines are 10 records, 46 and 90 tokens")
    assert "exports, expired ones included, are 10 records, 46" in second
    path.write_bytes(b"!" + text[1:])
    assert path.name in verify(tmp_path).problems[0]
    path.unlink()
    verdict = verify(tmp_path)
    assert "No such file" in verdict.problems[0]
    assert verdict.differences


def test_a_broken_commit_is_told(tmp_path, node):
    node(0, 10)
    take_all(tmp_path).close()
    (records_dir(tmp_path) / STATE).write_bytes(b"{")
    with pytest.raises(StateError, match="damaged"):
        verify(tmp_path)


def test_the_table_has_a_line_a_row():
    lines = list(table_lines([Row("exports", (1, 2, 3, 4)), Row("gateway", (10**9, 10**15, 10**15, 10**18))]))
    assert [line.split()[-1] for line in lines] == ["nano-dollars", "4", str(10**18)]
    assert len({len(line) for line in lines}) == 1
