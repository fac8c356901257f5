import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from fastgw.node import watch
from fastgw.node.watch import Watcher, directories, signature


class Watched:
    """A running watcher and how often it called."""

    def __init__(self, files: list[Path]) -> None:
        self.calls = 0
        self.warnings: list[str] = []
        self.watcher = Watcher([str(file) for file in files], self._changed, self.warnings.append)
        self.task = asyncio.create_task(self.watcher.run())

    def _changed(self) -> None:
        self.calls += 1

    async def reach(self, calls: int, seconds: float = 15.0) -> None:
        end = time.monotonic() + seconds
        while self.calls < calls:
            assert not self.task.done(), self.task
            assert time.monotonic() < end, "not noticed"
            await asyncio.sleep(0.01)
        assert self.calls == calls


@pytest.fixture
async def begin() -> AsyncIterator[Callable[..., Watched]]:
    running: list[Watched] = []

    def start(*files: Path) -> Watched:
        running.append(Watched(list(files)))
        return running[-1]

    yield start
    for one in running:
        one.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await one.task


def replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)


async def test_every_way_to_change_a_file(tmp_path: Path, begin: Callable[..., Watched]) -> None:
    path = tmp_path / "f"
    path.write_text("1")
    one = begin(path)
    replace(path, "2")
    await one.reach(1)
    path.write_text("3")
    await one.reach(2)
    path.unlink()
    await one.reach(3)
    path.write_text("4")
    await one.reach(4)
    (tmp_path / "neighbour").write_text("x")
    replace(path, "5")
    await one.reach(5)


async def test_a_slowly_written_file_is_one_change(tmp_path: Path, begin: Callable[..., Watched]) -> None:
    path = tmp_path / "f"
    path.write_text("")
    one = begin(path)
    with open(path, "w") as file:
        for _ in range(30):
            file.write("x" * 100)
            file.flush()
            await asyncio.sleep(0.02)
    await one.reach(1)


async def test_a_link_to_the_directory_is_turned(tmp_path: Path, begin: Callable[..., Watched]) -> None:
    for name in ("..1", "..2", "..3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "f").symlink_to("..data/f")
    assert directories([str(tmp_path / "f")]) >= {str(tmp_path), str(tmp_path / "..1")}
    one = begin(tmp_path / "f")
    for count, name in enumerate(("..2", "..3"), 1):
        (tmp_path / "new").symlink_to(name)
        (tmp_path / "new").rename(tmp_path / "..data")
        await one.reach(count)


async def test_another_set_of_files(tmp_path: Path, begin: Callable[..., Watched]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = tmp_path / "a" / "f", tmp_path / "b" / "f"
    first.write_text("1")
    second.write_text("1")
    one = begin(first)
    one.watcher.follow([str(first), str(second)])
    second.write_text("22")
    await one.reach(1)
    first.write_text("22")
    await one.reach(2)


async def test_a_directory_that_comes_later(tmp_path: Path, begin: Callable[..., Watched]) -> None:
    path = tmp_path / "later" / "f"
    one = begin(path)
    path.parent.mkdir()
    path.write_text("1")
    await one.reach(1)
    assert not one.task.done()


async def test_without_notifications_files_are_polled(
    tmp_path: Path, begin: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(watch, "awatch", refuse)
    monkeypatch.setattr(watch, "POLL_S", 0.05)
    path = tmp_path / "f"
    one = begin(path)
    path.write_text("1")
    await one.reach(1)
    replace(path, "2")
    await one.reach(2)
    assert len(one.warnings) == 1


def test_signature_sees_a_rewrite_of_the_same_length(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("1")
    before = signature([str(path), str(tmp_path / "none")])
    assert before[1] is None
    os.utime(path, ns=(1, 1))
    assert signature([str(path), str(tmp_path / "none")]) != before


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert directories([str(tmp_path / "a")]) == {str(tmp_path)}
    assert signature([str(tmp_path / "a")]) == (None,)
