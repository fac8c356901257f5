"""F34: the disk is full. Calls are answered, nothing crashes, no line is cut, what was lost is counted, and it passes.

The disks are small tmpfs mounts, which need root and the right to mount.
"""

import asyncio
import errno
import json
import os
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fastgw.recorder.recorder import recorded
from fastgw.recorder.verify import verify
from tests.e2e.test_records import KEY, config, exported, fastgw, load
from tests.support.gateway import Mock, Node, node, unique, until
from tests.support.rawclient import call, post

MIB = 1024 * 1024
Mount = Callable[[str, int], Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a disk of so many bytes on a directory below the test's own; all are gone with the test."""
    mounted: list[Path] = []

    def make(name: str, size: int) -> Path:
        place = tmp_path / name
        place.mkdir(parents=True, mode=0o700)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "fastgw-test", str(place)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield make
    for place in reversed(mounted):
        subprocess.run(["umount", "-l", str(place)], check=True)


class Ballast:
    """A file that takes all the room a disk has left, to the last page."""

    def __init__(self, disk: Path) -> None:
        self._path = disk / "ballast"
        self._size = 0

    def fill(self) -> None:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        step = MIB
        try:
            while step >= 4096:
                try:
                    os.posix_fallocate(fd, self._size, step)
                    self._size += step
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    step //= 2
        finally:
            os.close(fd)

    def free(self) -> None:
        self._path.unlink()


@asynccontextmanager
async def under_load(gateway: Node, lost: list[str]) -> AsyncIterator[list[str]]:
    """Calls all the while; the labels of those answered well are there when the block has ended."""
    stop, labels = asyncio.Event(), list[str]()
    running = asyncio.create_task(load(gateway, stop, lost))
    try:
        yield labels
    finally:
        stop.set()
        labels += await running


async def becomes(check: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """`until`, while the load goes on."""
    await asyncio.to_thread(until, check, seconds, what)


def assert_whole(gateway: Node) -> None:
    """Each export is made of whole lines up to its committed size."""
    for name, export in recorded(gateway.data_dir).exports.items():
        text = (gateway.data_dir / "records" / name).read_bytes()[: export.size]
        assert (len(text), text[-1:]) == (export.size, b"\n")
        assert all(json.loads(line)["id"] for line in text.splitlines())


async def one_call(gateway: Node, label: str) -> int | None:
    body = {"model": "mock-small", "messages": [{"role": "user", "content": "hi"}]}
    return (await call(gateway.port, post(body, authorization=f"Bearer {KEY}", x_request_id=label), 10.0)).status


async def test_f34_a_full_disk_sheds_records_and_nothing_else(
    tmp_path: Path, spare: Callable[..., Mock], mount: Mount
) -> None:
    disk, mock, lost = mount("disk", 64 * MIB), spare("--latency", "2"), list[str]()
    ballast = Ballast(disk)
    with node(disk, config(mock), workers=2) as gateway:

        def shed() -> float:
            return gateway.metrics()["fastgw_records_shed_total"]

        async with under_load(gateway, lost) as labels:
            await becomes(lambda: recorded(gateway.data_dir).totals.records > 50, "records at rest")
            for _ in range(2):
                before = shed()
                ballast.fill()
                await becomes(lambda before=before: shed() > before + 50, "records to be shed")  # type: ignore[misc]
                assert_whole(gateway)
                full = await asyncio.to_thread(verify, gateway.data_dir)
                assert (full.differences, full.problems) == ([], [])
                ballast.free()
                label = unique("again")

                async def recorded_again(label: str = label) -> None:
                    while not gateway.records(label):
                        assert await one_call(gateway, label) == 200
                        await asyncio.sleep(0.1)

                await asyncio.wait_for(recorded_again(), 30.0)
        assert lost == []
        assert len(labels) > 300
        assert gateway.metrics()["fastgw_worker_restarts_total"] == 0
        until(lambda: gateway.status()["recorder"]["problem"] is None, 10.0, "the recorder to be well")
        until(lambda: gateway.status()["spool"]["problem"] is None, 10.0, "the spool to be well")
        status = gateway.status()
        assert (status["recorder"]["restarts"], status["spool"]["problem"], status["spool"]["dropped"]) == (0, None, 0)
        gateway.assert_well()
        written = gateway.metrics()["fastgw_records_written_total"]
        until(lambda: exported(gateway).total() == written, 15.0, "the recorder to catch up")
        found = exported(gateway)
        assert [label for label in labels if found[label] > 1] == []
        missing = sum(1 for label in labels if not found[label])
        assert 100 < missing <= shed()
        done = fastgw(gateway, "records", "verify")
        assert done.returncode == 0, done.stdout + done.stderr
    for file in (gateway.data_dir / "records").glob("*.jsonl"):
        assert all(json.loads(line)["id"] for line in file.read_bytes().splitlines())


async def test_f34_full_exports_cost_nothing_while_the_spool_has_room(
    tmp_path: Path, spare: Callable[..., Mock], mount: Mount
) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    disk, mock, lost = mount("data/records", 16 * MIB), spare("--latency", "2"), list[str]()
    ballast = Ballast(disk)
    with node(tmp_path, config(mock), workers=2) as gateway:
        async with under_load(gateway, lost) as labels:
            await becomes(lambda: recorded(gateway.data_dir).totals.records > 50, "records at rest")
            ballast.fill()
            await becomes(lambda: bool(gateway.status()["recorder"]["problem"]), "the recorder to be stuck")
            assert "No space left" in gateway.status()["recorder"]["problem"]
            taken = recorded(gateway.data_dir).totals.records
            await asyncio.sleep(2.0)
            assert recorded(gateway.data_dir).totals.records == taken
            assert_whole(gateway)
            full = await asyncio.to_thread(verify, gateway.data_dir)
            assert (full.differences, full.problems) == ([], [])
            ballast.free()
            await becomes(lambda: recorded(gateway.data_dir).totals.records > taken + 200, "the recorder to go on")
        assert lost == []
        metrics = gateway.metrics()
        assert (metrics["fastgw_records_shed_total"], metrics["fastgw_records_dropped_total"]) == (0, 0)
        until(lambda: exported(gateway).total() >= len(labels), 15.0, "the recorder to catch up")
        assert exported(gateway) == Counter(labels)
        until(lambda: gateway.status()["recorder"]["problem"] is None, 10.0, "the recorder to be well")
        assert gateway.status()["recorder"]["restarts"] == 0
        done = fastgw(gateway, "records", "verify")
        assert done.returncode == 0, done.stdout + done.stderr
        gateway.assert_well()


def refusing(mock: Mock, records: str = "segment: 64KiB") -> str:
    return config(mock).replace("records: {segment: 64KiB}", f"records: {{when_full: refuse, {records}}}")


async def refused(gateway: Node) -> bool:
    """Whether a call is refused as it is when it could not be recorded; otherwise it must be answered well."""
    body = {"model": "mock-small", "messages": [{"role": "user", "content": "hi"}]}
    reply = await call(gateway.port, post(body, authorization=f"Bearer {KEY}"), 10.0)
    if reply.status == 200:
        return False
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert reply.json()["error"]["code"] == "overloaded"
    return True


async def until_refused(gateway: Node, expected: bool) -> None:
    """Calls, eight at a time, until all of three rows are refused or until none of them is, whichever the worker."""
    rows = 0
    while rows < 3:
        found = await asyncio.gather(*(refused(gateway) for _ in range(8)))
        rows = rows + 1 if set(found) == {expected} else 0


async def test_f34_where_it_is_set_no_call_goes_without_its_record(
    tmp_path: Path, spare: Callable[..., Mock], mount: Mount
) -> None:
    disk, mock = mount("disk", 64 * MIB), spare("--latency", "2")
    ballast = Ballast(disk)
    with node(disk, refusing(mock)) as gateway:
        for _ in range(2):
            ballast.fill()
            await asyncio.wait_for(until_refused(gateway, True), 40.0)
            ballast.fill()  # what was given back meanwhile by segments that ended
            await asyncio.wait_for(until_refused(gateway, True), 40.0)
            with mock.untouched():
                assert [await refused(gateway) for _ in range(30)] == [True] * 30
            assert gateway.get("/health/ready")[0] == 200
            ballast.free()
            await asyncio.wait_for(until_refused(gateway, False), 20.0)
        served = mock.stats()["requests"]
        until(lambda: Counter(row["status"] for row in gateway.records())[200] == served, 10.0, "a record of each")
        assert fastgw(gateway, "records", "verify").returncode == 0
        gateway.assert_well()


async def test_f34_at_the_cap_nothing_unread_is_dropped_where_calls_are_refused_instead(
    tmp_path: Path, spare: Callable[..., Mock], mount: Mount
) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    disk, mock = mount("data/records", 16 * MIB), spare("--latency", "2")
    ballast = Ballast(disk)
    with node(tmp_path, refusing(mock, "segment: 64KiB, spool_cap: 1536KiB"), workers=2) as gateway:
        ballast.fill()  # the recorder is stuck, so that the spool fills up to its cap
        await asyncio.wait_for(until_refused(gateway, True), 60.0)
        held = sum(file.stat().st_size for file in (gateway.data_dir / "spool").iterdir())
        assert MIB < held <= 1536 * 1024 + 65536  # two workers may see the same last room
        until(lambda: "at its cap of 1572864 bytes" in (gateway.status()["spool"]["problem"] or ""), 10.0, "the reason")
        ballast.free()
        await asyncio.wait_for(until_refused(gateway, False), 30.0)
        served = mock.stats()["requests"]
        assert gateway.metrics()["fastgw_records_dropped_total"] == 0
        until(lambda: Counter(row["status"] for row in gateway.records())[200] == served, 10.0, "a record of each")
        assert fastgw(gateway, "records", "verify").returncode == 0
        gateway.assert_well()
