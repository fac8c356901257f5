"""The log: one safe line each, never in the caller's way."""

import os
import subprocess
import sys
import threading
import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.secret import Secret
from fastgw.telemetry.log import MAX_LINE, Log, encode_line
from fastgw.telemetry.record import Attempt, Record

CANARY = "sk-canary-8d2f"


@pytest.fixture
def pipe():
    read, write = os.pipe()
    yield read, write
    for fd in (read, write):
        try:
            os.close(fd)
        except OSError:
            pass


def lines_of(fd):
    os.set_blocking(fd, False)
    data = b""
    try:
        while chunk := os.read(fd, 1 << 20):
            data += chunk
    except BlockingIOError:
        pass
    return [orjson.loads(line) for line in data.splitlines()]


def fields(**more):
    return orjson.loads(encode_line("info", "event", more))


def test_lines_are_json_with_time_level_and_event(pipe):
    log = Log(fd=pipe[1])
    log.info("started", port=4000, provider="openai")
    log.error("failed", cause=ValueError("no"))
    assert log.flush(5)
    first, second = lines_of(pipe[0])
    assert list(first) == ["ts", "level", "event", "port", "provider"]
    assert first["ts"].endswith("Z")
    assert (first["level"], first["event"], first["port"]) == ("info", "started", 4000)
    assert second["cause"] == "ValueError: no"
    log.close()


def test_level_filters_and_changes_at_run_time(pipe):
    log = Log(level="warning", fd=pipe[1])
    log.info("hidden")
    log.warning("shown")
    log.set_level("debug")
    log.debug("shown now")
    assert log.level == "debug"
    log.set_level("error")
    log.warning("hidden again")
    assert log.enabled("error")
    assert not log.enabled("warning")
    assert log.flush(5)
    assert [line["event"] for line in lines_of(pipe[0])] == ["shown", "shown now"]
    with pytest.raises(ValueError, match="debug, info, warning, error"):
        log.set_level("loud")
    log.close()


def test_access_line_tells_names_and_no_secret_or_body(pipe):
    log = Log(fd=pipe[1])
    record = Record(
        id="call-1",
        ts=0,
        key="demo",
        model="fast",
        target="openai/x",
        status=200,
        attempts=(Attempt("a", "b"),),
        total_ms=12.5,
        first_token_ms=3.5,
        overhead_us=90,
        input_tokens=7,
        label="mine",
    )
    log.access(record)
    log.set_level("warning")
    log.access(record)
    assert log.flush(5)
    (line,) = lines_of(pipe[0])
    assert line["event"] == "call"
    assert (line["id"], line["key"], line["model"], line["target"]) == ("call-1", "demo", "fast", "openai/x")
    assert (line["status"], line["total_ms"], line["first_token_ms"], line["overhead_us"]) == (200, 12.5, 3.5, 90)
    assert line["attempts"] == 1
    log.close()


@pytest.mark.parametrize(
    "text",
    [
        "a\nb",
        "a\r\nb",
        "\x1b[31mred\x1b[0m",
        "\x00",
        "\x7f",
        "\x9b31m",
        "\u2028",
        "\u2029",
        "\x85",
        "\u202ertl",
        "\u2066",
    ],
)
def test_no_text_forges_a_line_or_steers_a_terminal(text):
    line = encode_line("info", text, {"field": text, text: 1, "nested": {"list": [text]}})
    shown = line.decode()
    assert shown.endswith("}\n")
    assert shown[:-1].isprintable()
    assert len(shown.splitlines()) == 1
    assert orjson.loads(line)["field"] == text
    assert orjson.loads(line)[text] == 1


@given(st.text(st.characters()), st.dictionaries(st.text(st.characters()), st.text(st.characters()) | st.integers()))
def test_every_text_makes_one_line_of_json(event, more):
    line = encode_line("info", event, more)
    assert line.count(b"\n") == 1
    assert len(line.decode().splitlines()) == 1
    shown = orjson.loads(line)
    assert shown["level"] == "info"
    assert list(shown)[:3] == ["ts", "level", "event"]


def test_no_field_passes_for_time_or_level():
    shown = fields(ts="1970", level="error", event="other")
    assert shown["level"] == "info"
    assert shown["event"] == "event"
    assert shown["ts"] != "1970"


class Fragile:
    def __repr__(self):
        raise RuntimeError(CANARY)


class Talkative:
    def __repr__(self):
        return CANARY


def test_values_json_does_not_know():
    loop = []
    loop.append(loop)
    shown = fields(
        secret=Secret(CANARY),
        nested={"k": [Secret(CANARY)]},
        raw=b"\xff!",
        many={1},
        fragile=Fragile(),
        other=Talkative(),
    )
    assert shown["secret"] == "Secret(***)"
    assert shown["nested"] == {"k": ["Secret(***)"]}
    assert shown["raw"] == "\ufffd!"
    assert shown["many"] == [1]
    assert shown["other"] == "<Talkative>"
    assert CANARY not in str(shown)
    hard = fields(surrogate="\udc80", big=1 << 70, loop=loop, secret=Secret(CANARY), none=None, other=Talkative(), n=1)
    assert hard["surrogate"] == "\\udc80"
    assert hard["big"] == "<int of 71 bits>"
    assert CANARY not in str(hard)


def test_long_lines_are_cut_and_say_so():
    shown = fields(body="x" * (MAX_LINE + 1))
    assert shown["truncated_bytes"] > MAX_LINE
    assert "body" not in shown
    line = encode_line("info", "\udc80" * MAX_LINE, {})
    assert len(line) < MAX_LINE


def test_a_stuck_sink_never_blocks_and_drops_are_counted(pipe):
    log = Log(fd=pipe[1], capacity=100)
    began = time.monotonic()
    for n in range(5000):
        log.info("line", n=n, pad="x" * 1000)
    assert time.monotonic() - began < 5
    assert 0 < log.dropped < 5000
    assert not log.flush(0.05)
    log.close(0.05)
    got = b""
    while got.count(b"\n") + log.dropped < 5000:
        got += os.read(pipe[0], 65536)
    assert [orjson.loads(line)["n"] for line in got.splitlines()[:60]] == list(range(60))
    assert got.count(b"\n") + log.dropped == 5000


def test_a_dead_sink_costs_lines_only(pipe):
    log = Log(fd=pipe[1])
    os.close(pipe[0])
    log.info("lost")
    assert log.flush(5)
    assert log.dropped == 1
    log.info("lost too")
    assert log.flush(5)
    assert log.dropped == 2
    log.close()


def test_a_non_blocking_sink_gets_whole_lines(pipe):
    os.set_blocking(pipe[1], False)
    log = Log(fd=pipe[1])
    for n in range(500):
        log.info("line", n=n, pad="x" * 1000)
    got = b""
    while got.count(b"\n") < 500:
        got += os.read(pipe[0], 65536)
    assert [orjson.loads(line)["n"] for line in got.splitlines()] == list(range(500))
    assert log.dropped == 0
    log.close()


def test_lines_of_one_thread_stay_in_order(pipe):
    log = Log(fd=pipe[1])

    def talk(name):
        for n in range(100):
            log.info("line", name=name, n=n)

    threads = [threading.Thread(target=talk, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close(5)
    got = lines_of(pipe[0])
    assert len(got) == 400
    for name in range(4):
        assert [line["n"] for line in got if line["name"] == name] == list(range(100))


def test_closed_log_counts_what_comes_late(pipe):
    log = Log(fd=pipe[1])
    log.close()
    log.close()
    log.info("late")
    assert log.dropped == 1


def test_lines_logged_last_are_written_at_exit():
    code = "from fastgw.telemetry.log import Log\nlog = Log()\nfor n in range(50): log.info('bye', n=n)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=20, check=True)
    assert [orjson.loads(line)["n"] for line in done.stderr.splitlines()] == list(range(50))


def test_exit_does_not_wait_for_a_stuck_sink(pipe):
    code = "from fastgw.telemetry.log import Log\nlog = Log()\nfor n in range(2000): log.info('x', pad='x' * 1000)\n"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=pipe[1])
    assert process.wait(15) == 0
