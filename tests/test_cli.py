"""The command line: what it prints, where, and how it exits."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastgw import __version__, cli
from fastgw.state.spool import Writer, spool_dir
from fastgw.state.table import open_table
from fastgw.telemetry import record
from tests.plan.support import MODELS, PROVIDERS

CANARY = "sk-canary-0d44e"
GOOD = PROVIDERS + MODELS


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Each test in a directory of its own, with no provider in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "FASTGW_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(*arguments, **more):
    return CliRunner().invoke(cli.main, [str(one) for one in arguments], **more)


def fastgw(*arguments, **more):
    """The real program, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "fastgw", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def spooled(data_dir, *moments):
    """A spool with a call at each of these microseconds."""
    writer = Writer(spool_dir(data_dir), 0, 65536)
    writer.prepare()
    for number, moment in enumerate(moments):
        assert writer.append(record.encode(record.Record(id=f"req_{number}", ts=moment, status=200)))
    writer.close()


def micros(*moment):
    return int(datetime(*moment, tzinfo=UTC).timestamp() * 1_000_000)


# --- usage


@pytest.mark.parametrize(
    "command", [[], *[[name] for name in cli.main.commands], ["keys", "create"], ["records", "export"]]
)
def test_every_command_explains_itself(command):
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_the_version():
    assert run("--version").stdout.split() == ["fastgw,", "version", __version__]


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"], ["check"], ["check", "--nope"], ["serve", "--port", "70000"], ["serve", "--workers", "-1"],
        ["mock", "--fault", "nonsense"], ["records", "export", "--since", "yesterday"], ["records", "tail", "-n", "-1"],
        ["keys", "create"], ["log-level", "loud"],
    ],
)  # fmt: skip
def test_wrong_usage_is_two_and_says_why(arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Error:" in result.stderr
    assert result.stdout == ""


# --- check


def test_check_a_good_config(here):
    (here / "fastgw.yaml").write_text(GOOD)
    result = run("check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "fastgw.yaml: fine: 1 providers, 1 models, 0 keys\n"
    assert os.listdir(here) == ["fastgw.yaml"]


def test_check_shows_every_error_with_its_place(here):
    (here / "bad.yaml").write_text("providers: {a: {kind: openai, api_key: '${NOPE}'}}\nmodles: {}\nlog: {level: 5}\n")
    result = run("check", "-c", "bad.yaml")
    assert (result.exit_code, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["providers.a.api_key", "modles", "log.level"]
    assert all(line.startswith("bad.yaml: ") for line in lines)


def test_check_counts_the_stored_keys_and_leaves_them_alone(here):
    assert run("keys", "create", "alice").exit_code == 0
    (here / "fastgw.yaml").write_text(GOOD)
    before = {path: path.read_bytes() for path in (here / "fastgw-data").iterdir()}
    assert run("check").stdout.endswith("1 keys\n")
    assert {path: path.read_bytes() for path in (here / "fastgw-data").iterdir()} == before


def test_check_of_no_such_file(here):
    result = run("check", "-c", "none.yaml")
    assert result.exit_code == 1
    assert "cannot read none.yaml" in result.stderr


def test_check_as_a_program(here):
    (here / "fastgw.yaml").write_text(GOOD + f"keys: [{{name: a, secret: '{CANARY} x'}}]\n")
    process = fastgw("check", cwd=here)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("fastgw.yaml: keys[0].secret: ")
    assert CANARY not in err
    assert "Traceback" not in err


# --- serve


def test_nothing_to_serve_is_two_and_says_what_to_do(here):
    process = fastgw("serve", "--port", "0", "--console-port", "0", cwd=here)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "--demo" in err
    assert "Traceback" not in err


def test_a_config_that_does_not_compile_is_one(here):
    (here / "fastgw.yaml").write_text("nope: 1")
    process = fastgw("serve", "--port", "0", "--console-port", "0", cwd=here)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "nope: unknown field" in err


# --- keys


def test_a_keys_life(here):
    made = run(
        "keys",
        "create",
        "alice",
        "--model",
        "fast",
        "--model",
        "openai/*",
        "--requests",
        "60/min",
        "--expires",
        "2030-01-31",
    )
    assert made.exit_code == 0
    secret = made.stdout.strip()
    assert secret.startswith("fgw-")
    assert secret not in made.stderr
    run("keys", "create", "bob")
    listed = run("keys", "list").stdout.splitlines()
    assert [line.split("\t")[:5] for line in listed] == [
        ["alice", secret[:8] + "...", "expires 2030-01-31", "fast,openai/*", "60/min"],
        ["bob", listed[1].split("\t")[1], "active", "*", "-"],
    ]
    assert run("keys", "revoke", "alice").stdout == "The key 'alice' is blocked.\n"
    assert run("keys", "list").stdout.split("\t")[2] == "blocked"
    assert all(secret not in path.read_text() for path in (here / "fastgw-data").iterdir())


def test_the_data_directory_is_made_private():
    run("keys", "create", "alice")
    assert stat.S_IMODE(Path("fastgw-data").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "arguments",
    [["two words"], ["alice", "--requests", "often"], ["alice", "--expires", "soon"], ["alice", "--burst", "3"]],
)
def test_a_key_that_will_not_do_is_not_made(arguments):
    result = run("keys", "create", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert run("keys", "list").stdout == ""


def test_a_name_that_is_taken_and_one_that_is_not_there():
    run("keys", "create", "alice")
    assert "already" in run("keys", "create", "alice").stderr
    gone = run("keys", "revoke", "bob")
    assert (gone.exit_code, "'bob'" in gone.stderr) == (1, True)


def test_keys_where_there_is_no_data_directory():
    assert (run("keys", "list").exit_code, run("keys", "list").stdout) == (0, "")
    result = run("keys", "revoke", "alice")
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr


def test_the_data_directory_may_come_from_the_environment(here):
    run("keys", "create", "alice", env={"FASTGW_DATA_DIR": "elsewhere"})
    assert (here / "elsewhere" / "keys.jsonl").is_file()
    assert run("keys", "list", "--data-dir", "elsewhere").stdout.startswith("alice\t")


# --- records


def test_records_of_a_span(here):
    spooled("data", micros(2026, 1, 1), micros(2026, 1, 2), micros(2026, 1, 3))

    def ids(*arguments):
        result = run("records", *arguments, "--data-dir", "data")
        assert (result.exit_code, result.stderr) == (0, "")
        return [json.loads(line)["id"] for line in result.stdout.splitlines()]

    assert ids("export") == ["req_0", "req_1", "req_2"]
    assert ids("export", "--since", "2026-01-02") == ["req_1", "req_2"]
    assert ids("export", "--until", "2026-01-02T00:00:00Z") == ["req_0"]
    assert ids("export", "--since", "2026-01-01T23:00:00-01:00", "--until", "2026-01-03T00:00:00") == ["req_1"]
    assert ids("tail", "-n", "2") == ["req_1", "req_2"]
    assert ids("tail", "-n", "0") == []


def test_records_where_there_are_none():
    for command in ("export", "tail"):
        result = run("records", command, "--data-dir", "none")
        assert (result.exit_code, result.stdout) == (0, "")


def test_verify_says_what_does_not_add_up(here):
    Path("data").mkdir()
    with contextlib.closing(open_table("data", create=True)):
        result = run("records", "verify", "--data-dir", "data")
        assert (result.exit_code, result.stderr) == (0, "")
        assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == [
            "exports", "expired", "recorder", "spool,", "recorder", "gateway",
        ]  # fmt: skip
        spooled("data", 1, 2)
        result = run("records", "verify", "--data-dir", "data")
        assert result.exit_code == 1
        assert "differs: records: 2 found, but the gateway counted 0" in result.stdout
    result = run("records", "verify", "--data-dir", "none")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "cannot be opened" in result.stderr


def test_a_reader_that_leaves_early_is_no_error(here):
    spooled("data", *range(500))
    process = fastgw("records", "export", "--data-dir", "data", cwd=here)
    assert process.stdout.readline().startswith('{"id":"req_0"')
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


def test_tail_follows_until_it_is_interrupted(here):
    spooled("data", 1, 2)
    process = fastgw("records", "tail", "-f", "-n", "1", "--data-dir", "data", cwd=here)
    try:
        assert '"req_1"' in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode in (0, 130, -signal.SIGINT)
        assert "Traceback" not in err
    finally:
        process.kill()
        process.wait()


# --- log level, mock, doctor


def test_a_log_level_without_a_node(here):
    result = run("log-level", "debug")
    assert (result.exit_code, "admin.key" in result.stderr) == (1, True)
    run("keys", "create", "x")
    key = here / "fastgw-data" / "admin.key"
    key.write_text(CANARY)
    key.chmod(0o600)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        console = f"http://127.0.0.1:{free.getsockname()[1]}"
    result = run("log-level", "debug", "--console", console)
    assert result.exit_code == 1
    assert console in result.stderr
    assert CANARY not in result.output


def test_the_mock_answers_and_ends_when_told(here):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = fastgw("mock", "--port", port, "--tokens", "3", cwd=here)
    try:
        body = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/chat/completions", data=body, headers={"content-type": "application/json"}
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(asked, timeout=5) as answer:
                    assert json.load(answer)["usage"]["completion_tokens"] == 3
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()


def test_the_doctors_word_is_the_exit_code(here):
    (here / "fastgw.yaml").write_text("nope: 1")
    result = run("doctor", "--port", "0")
    assert result.exit_code == 1
    assert "[bad] fastgw.yaml: nope: unknown field" in result.stdout
    assert "mend:" in result.stdout


def test_providers_are_listed_and_shown():
    listed = CliRunner().invoke(cli.main, ["providers", "list"])
    assert listed.exit_code == 0
    assert "groq\topenai_chat" in listed.output
    shown = CliRunner().invoke(cli.main, ["providers", "show", "openai"])
    assert shown.exit_code == 0
    assert "gpt-4o-mini\tchat\tcontext 128000" in shown.output
    assert CliRunner().invoke(cli.main, ["providers", "show", "nobody"]).exit_code == 1
