"""The recorder's process: ready, at work, told what to keep, ended in order; a second one gives way."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from fastgw.child import Job
from fastgw.recorder.offsets import records_dir
from tests.recorder.support import exported, put, writer
from tests.support.gateway import until

LIMIT_S = 20.0


class Child:
    """A recorder's process and the supervisor's end of its channel."""

    def __init__(self, data: Any, process: "subprocess.Popen[bytes]", channel: socket.socket) -> None:
        self.data = data
        self.process = process
        self._channel = channel
        self._lines = channel.makefile("rb")

    def hear(self, event: str) -> dict[str, Any]:
        """The next message of this kind."""
        for line in self._lines:
            message = json.loads(line)
            if message["event"] == event:
                return message
        raise AssertionError(f"it ended without a {event}")

    def tell(self, **message: Any) -> None:
        self._channel.sendall(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT_S)
        self._lines.close()
        self._channel.close()
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def child(data: Any) -> Iterator[Child]:
    ours, theirs = socket.socketpair()
    ours.settimeout(LIMIT_S)
    job = Job(
        parent=os.getpid(), control=theirs.fileno(), listeners=(), data_dir=str(data), plan="none", revision=1
    )  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "fastgw.recorder.worker", msgspec.json.encode(job).decode()],
        pass_fds=(theirs.fileno(),),
        stderr=subprocess.PIPE,
    )
    theirs.close()
    one = Child(data, process, ours)
    try:
        yield one
    finally:
        one.close()


def test_it_takes_what_comes_and_all_that_is_left_when_told_to_end(tmp_path):
    lane = writer(tmp_path)
    with child(tmp_path) as one:
        assert one.hear("ready")["pid"] == one.process.pid
        for n in range(100):
            put(lane, n)
        until(lambda: len(exported(tmp_path)) == 100, LIMIT_S)
        until(lambda: one.hear("beat")["records"] == 100, LIMIT_S)
        beat = one.hear("beat")
        assert beat["behind_s"] < 5
        assert (beat["damaged"], beat["problem"]) == (0, None)
        for n in range(100, 2600):
            put(lane, n)
        lane.close()
        one.tell(cmd="drain", seconds=5)
        assert one.process.wait(LIMIT_S) == 0
    assert exported(tmp_path) == [str(n) for n in range(2600)]


def test_sigterm_and_a_lost_parent_end_it_in_order(tmp_path):
    for ending in ("signal", "channel"):
        with child(tmp_path) as one:
            one.hear("ready")
            if ending == "signal":
                one.process.send_signal(signal.SIGTERM)
            else:
                one._channel.shutdown(socket.SHUT_RDWR)
            assert one.process.wait(LIMIT_S) == 0


def test_old_exports_go_as_soon_as_it_is_told_what_to_keep(tmp_path):
    lane = writer(tmp_path)
    put(lane, 1)
    put(lane, 2, time.time_ns() // 1000)
    with child(tmp_path) as one:
        one.hear("ready")
        until(lambda: sorted(exported(tmp_path)) == ["1", "2"], LIMIT_S)
        one.tell(cmd="keep", days=30)
        until(lambda: exported(tmp_path) == ["2"], LIMIT_S)
    lane.close()


def test_a_second_one_says_why_and_ends(tmp_path):
    with child(tmp_path) as one:
        one.hear("ready")
        with child(tmp_path) as two:
            assert two.process.wait(LIMIT_S) == 1
            assert two.process.stderr is not None
            assert b"another recorder is at work" in two.process.stderr.read()
        assert one.hear("beat")["problem"] is None


def test_a_disk_problem_is_told_and_passes(tmp_path):
    lane = writer(tmp_path)
    with child(tmp_path) as one:
        one.hear("ready")
        # A directory in the place of the draft: the commit cannot be written.
        draft = records_dir(tmp_path) / ".offsets.json.draft"
        draft.mkdir()
        put(lane, 1)
        until(lambda: one.hear("beat")["problem"], LIMIT_S)
        draft.rmdir()
        until(lambda: one.hear("beat")["problem"] is None, LIMIT_S)
        put(lane, 2)
        until(lambda: exported(tmp_path) == ["1", "2"], LIMIT_S)
    lane.close()
