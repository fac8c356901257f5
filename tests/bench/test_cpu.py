import os
import signal
import subprocess
import sys

from bench import cpu

LINE = (
    "4242 (a (b) c) S 1 4242 4242 0 -1 4194560 999 0 0 0 250 150 0 0 20 0 3 0 12345 1000000 500 "
    "18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0"
)
STATUS = "Name:\tpython\nVmRSS:\t   2048 kB\nRssAnon:\t   1024 kB\nRssFile:\t 1024 kB\n"


def test_a_name_with_spaces_and_parentheses_moves_no_field():
    found = cpu.parse_stat(LINE)
    assert found.name == "a (b) c"
    assert found.state == "S"
    assert found.parent == 1
    assert found.started == 12345
    assert found.user == 250 * cpu.TICK
    assert found.system == 150 * cpu.TICK


def test_memory_is_in_bytes():
    assert cpu.parse_memory(STATUS) == cpu.Memory(2 * 1024 * 1024, 1024 * 1024)


def test_cpu_of_a_whole_tree_is_seen():
    burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\nprint(1, flush=True)\n"
    code = f"import subprocess, sys, time\np = subprocess.Popen([sys.executable, '-c', {burn + 'time.sleep(60)'!r}])\n"
    with subprocess.Popen([sys.executable, "-c", code + "p.wait()"], stdout=subprocess.PIPE, process_group=0) as parent:
        try:
            assert parent.stdout.readline() == b"1\n"
            pids = cpu.tree(parent.pid)
            assert len(pids) == 2
            assert pids[0] == parent.pid
            assert cpu.seconds(pids[1:]) >= 0.3 - 2 * cpu.TICK
            assert cpu.seconds(pids) >= cpu.seconds(pids[1:])
            assert "-c" in cpu.command(pids[1])
            assert cpu.memory(pids[1]).rss > 1024 * 1024
        finally:
            os.killpg(parent.pid, signal.SIGKILL)


def test_what_has_ended_counts_nothing():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert cpu.stat(gone.pid) is None
    assert cpu.seconds([gone.pid]) == 0
    assert cpu.command(gone.pid) == ""
