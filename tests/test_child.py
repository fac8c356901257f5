"""The control channel, and how a child dies with its parent."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from fastgw import child
from fastgw.child import Channel, Job, Listener, read_job
from tests.node.support import alive, eventually


async def pair() -> tuple[Channel, Channel]:
    ours, theirs = socket.socketpair()
    return await Channel.open(ours), await Channel.open(theirs)


async def test_messages_both_ways() -> None:
    one, other = await pair()
    assert one.send({"cmd": "plan", "path": "/a\nb", "revision": 2})
    assert other.send({"event": "ready"})
    assert await other.receive() == {"cmd": "plan", "path": "/a\nb", "revision": 2}
    assert await one.receive() == {"event": "ready"}
    one.close()
    assert await other.receive() is None
    other.close()
    assert not other.send({"event": "late"})
    assert other.dropped == 1


async def test_what_is_no_message_is_skipped() -> None:
    raw, end = socket.socketpair()
    channel = await Channel.open(end)
    lines = [b"not json", b"[1]", b"x" * (3 * child.LINE_LIMIT), b'{"event":"good"}', b'{"event":"cut']
    sent = asyncio.to_thread(raw.sendall, b"\n".join(lines))
    task = asyncio.create_task(channel.receive())
    await sent
    assert await task == {"event": "good"}
    raw.close()
    assert await channel.receive() is None
    channel.close()


async def test_a_reader_that_does_not_read_bounds_what_waits() -> None:
    raw, end = socket.socketpair()
    channel = await Channel.open(end)
    sent = 0
    while channel.send({"cmd": "x" * 10_000}):
        sent += 1
        assert sent < 1000
    assert channel.dropped == 1
    raw.close()
    channel.close()


def test_a_job_is_what_it_was() -> None:
    job = Job(1, 2, (Listener(3), Listener(4, unix=True)), "d", "p", 5, hosts=("h",))
    assert read_job(msgspec.json.encode(job).decode()) == job
    with pytest.raises(msgspec.ValidationError):
        read_job('{"parent":1}')


PARENT = """
import os, socket, subprocess, sys, time
import msgspec
from fastgw.child import Job
ours, theirs = socket.socketpair()
job = Job(os.getpid(), theirs.fileno(), (), "", sys.argv[1], 1)
child = subprocess.Popen([sys.executable, "-m", "tests.node.fake_child", msgspec.json.encode(job).decode()],
                         pass_fds=(theirs.fileno(),), process_group=0)
theirs.close()
ours.recv(1)
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("behaviour", ["good", "stubborn", "busy"])
def test_no_child_outlives_its_parent(behaviour: str) -> None:
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, behaviour], stdout=subprocess.PIPE, cwd=root, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
        started = time.monotonic()
    try:
        eventually(lambda: not alive(pid), 15)
        if behaviour == "stubborn":  # deaf to the signal: the life-line's limit it is
            assert time.monotonic() - started < child.ORPHAN_LIMIT_S * 3
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_a_child_of_nobody_does_not_start() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        job = Job(1 if os.getpid() != 1 else 2, theirs.fileno(), (), "", "good", 1)
        found = subprocess.run(
            [sys.executable, "-m", "tests.node.fake_child", msgspec.json.encode(job).decode()],
            pass_fds=(theirs.fileno(),),
            cwd=Path(__file__).resolve().parent.parent,
            check=False,
            timeout=30,
        )
        assert found.returncode == 1


def test_descriptor_limit() -> None:
    code = (
        "import resource; from fastgw import child; h = resource.getrlimit(7)[1]; resource.setrlimit(7, (64, h));"
        "assert child.raise_descriptor_limit() == h == resource.getrlimit(7)[0]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
