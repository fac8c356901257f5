import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from bench import cpu, load, payloads, servers
from bench.processes import BenchError, Cores, Stage, free_port, need

SUMMARY = (
    "Running 1s test @ http://127.0.0.1:4000\n  1 threads and 64 connections\n"
    '{"requests":1000,"duration_us":2000000,"bytes":600000,"connect":1,"read":2,"write":0,"timeout":3,"status":10,'
    '"p50_us":1500,"p90_us":2000,"p99_us":9000,"max_us":12000}\n'
)
tools = pytest.mark.skipif(
    not all(map(shutil.which, ("nginx", "haproxy", "wrk", "taskset"))), reason="nginx, haproxy or wrk is not installed"
)


def test_refused_requests_are_not_served_ones():
    assert load.parse(SUMMARY) == load.Load(990, 10, 6, 2.0, 1.5, 9.0)


def test_no_summary_is_an_error():
    with pytest.raises(BenchError, match="no summary"):
        load.parse("unable to connect to 127.0.0.1:4000 Connection refused\n")


@pytest.mark.parametrize("size", [400, 10_000, 100_000])
def test_a_request_has_the_size_it_is_named_for(size):
    assert len(payloads.chat(size)) == size
    assert len(payloads.reply(size + 200)) == size + 200


def test_too_small_is_said():
    with pytest.raises(ValueError, match="bytes or more"):
        payloads.chat(50)
    with pytest.raises(ValueError, match="bytes or more"):
        payloads.reply(50)


def test_the_measured_server_has_a_core_to_itself():
    cores = Cores([0, 1, 5])
    assert cores.server == {5}
    assert cores.load == {0, 1}
    assert not cores.shared
    assert Cores([3]).shared


def test_what_is_missing_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None if name in ("nginx", "wrk") else f"/bin/{name}")
    with pytest.raises(BenchError, match=r"apt-get install -y --no-install-recommends nginx-light wrk$"):
        need("nginx", "haproxy", "wrk")


def test_nothing_stays_when_a_measurement_fails():
    grandchild = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)']); "
    )
    command = [sys.executable, "-c", grandchild + "print('up', flush=True); time.sleep(99)"]
    with pytest.raises(ZeroDivisionError), Stage() as stage:
        process = stage.start("sleeper", command, stage.cores.all)
        process.wait_for(lambda: "up" in process.log.read_text() and len(cpu.tree(process.popen.pid)) == 2)
        pids = process.pids()
        assert len(pids) == 2
        raise ZeroDivisionError
    assert [pid for pid in pids if "time.sleep" in cpu.command(pid)] == []
    assert not stage.directory.exists()


def test_nothing_stays_when_one_cannot_be_stopped(monkeypatch):
    command = [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(99)"]
    with pytest.raises(ZeroDivisionError), Stage() as stage:
        for name in ("first", "second"):
            process = stage.start(name, command, stage.cores.all)
            process.wait_for(lambda log=process.log: "up" in log.read_text())
        first = stage._processes[0].popen.pid

        def fail(stop=process.stop):
            stop()
            raise ZeroDivisionError

        monkeypatch.setattr(process, "stop", fail)
    assert "time.sleep" not in cpu.command(first)
    assert not stage.directory.exists()


def test_a_signal_to_end_is_not_lost_in_a_callback():
    with pytest.raises(KeyboardInterrupt), Stage() as stage:
        process = stage.start("sleeper", ["sleep", "99"], stage.cores.all)
        process.wait_for(lambda: True)
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            pass  # as an event loop would
    assert cpu.command(process.popen.pid) == ""


def test_processes_end_with_a_harness_that_is_killed():
    code = (
        "from bench.processes import Stage\nimport time\nstage = Stage().__enter__()\n"
        "one = stage.start('sleeper', ['sleep', '99'], stage.cores.all)\none.wait_for(lambda: True)\n"
        "print(one.popen.pid, stage.directory, flush=True)\ntime.sleep(99)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=servers.ROOT, stdout=subprocess.PIPE, text=True) as harness:
        pid, directory = harness.stdout.readline().split()
        until = time.monotonic() + 5
        while cpu.command(int(pid)) != "sleep 99" and time.monotonic() < until:
            time.sleep(0.01)
        harness.kill()
    until = time.monotonic() + 5
    while "sleep 99" in cpu.command(int(pid)) and time.monotonic() < until:
        time.sleep(0.01)
    assert "sleep 99" not in cpu.command(int(pid))
    shutil.rmtree(directory)


def test_a_server_that_dies_says_its_last_words():
    with Stage() as stage:
        process = stage.start("dying", [sys.executable, "-c", "raise SystemExit('no such upstream')"], stage.cores.all)
        with pytest.raises(BenchError, match=r"ended with 1 at once:\nno such upstream"):
            process.wait_for(lambda: False)


@tools
@pytest.mark.parametrize("size", [600, 20_000])
def test_the_same_answer_through_each_gateway(size):
    with Stage() as stage:
        upstream = servers.answering_nginx(stage, size)
        body = stage.path("body.json")
        body.write_bytes(payloads.chat(100_000))
        for server in (upstream, servers.passing_nginx(stage, upstream), servers.haproxy(stage, upstream)):
            request = urllib.request.Request(server.url + payloads.PATH, data=body.read_bytes())
            with urllib.request.urlopen(request, timeout=9) as answer:
                assert answer.read() == payloads.reply(size), server.name


@tools
def test_cost_is_of_the_workers_alone():
    with Stage() as stage:
        upstream = servers.answering_nginx(stage)
        server = servers.fastgw(stage, upstream)
        body = stage.path("body.json")
        body.write_bytes(payloads.chat(400))
        cost = load.measure(stage, server, body=body, seconds=1, connections=4)
        assert len(server.measured()) == 1
        assert len(server.beside()) == 3
        assert cost.load.requests > 0
        assert 0 < cost.cpu_us < 1e6
        assert 0 < cost.busy < 1.5


@tools
def test_a_refusing_server_is_not_measured(monkeypatch):
    with Stage() as stage:
        server = servers.fastgw(stage, servers.answering_nginx(stage))
        body = stage.path("body.json")
        body.write_bytes(payloads.chat(400, model="unknown"))
        with pytest.raises(BenchError, match="refused"):
            load.run(stage, server, body=body, seconds=1, connections=4)


def test_free_ports_differ_while_one_is_taken():
    assert 1024 <= free_port() <= 65535
