"""S10: secrets planted everywhere, every path driven, debug logging on: none of them shows up anywhere."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.gateway import INHERITED, Node, node, unique
from tests.support.rawclient import call, post
from tests.support.scripted import (
    Expect,
    Reset,
    ScriptedUpstream,
    Send,
    chat_completion,
    chat_events,
    chunked,
    head,
    reply,
    sse,
)

CALLER = "fgw-planted-caller-9fK2mQ7x"
STORED = "fgw-planted-expired-3hT8wZ1c"
WRONG = "fgw-planted-unknown-5rV6nB4d"
PROVIDER = "sk-planted-provider-8yL3pJ9s"
HEADER = "planted-header-value-2gD7kX5a"
FROM_FILE = "sk-planted-file-6uC1eR0b"
PROMPT = "planted-prompt-words-4qW9vN2m"
ANSWER = "planted-answer-words-7tH5xS8j"
PLANTED = (CALLER, STORED, WRONG, PROVIDER, HEADER, FROM_FILE, PROMPT, ANSWER)


def config(port: int) -> str:
    base = f'base_url: "http://127.0.0.1:{port}/v1"'
    return f"""
providers:
  up: {{kind: openai_compatible, {base}, api_key: "${{PLANTED_PROVIDER_KEY}}", headers: {{x-org-token: {HEADER}}}}}
  file: {{kind: azure, base_url: "http://127.0.0.1:{port}", api_key: "${{file:./provider.key}}"}}
  closed: {{kind: openai_compatible, base_url: "http://127.0.0.1:1/v1", api_key: "${{PLANTED_PROVIDER_KEY}}"}}
models:
  up: {{targets: [{{provider: up, model: m, price: {{input: 1, output: 1}}}}], timeout: {{first_token: 300ms}}}}
  file: {{targets: [{{provider: file, model: m}}]}}
  closed: {{targets: [{{provider: closed, model: m}}]}}
keys:
  - {{name: caller, secret: {CALLER}}}
  - {{name: old, secret: {STORED}, expires: "2020-01-01"}}
log: {{level: debug}}
"""


def ask(model: str = "up", key: str = CALLER, path: str = "/v1/chat/completions", **fields: Any) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], **fields}
    return post(body, path, authorization=f"Bearer {key}", x_request_id=unique())


def echo(status: int) -> bytes:
    """A provider that quotes our credential back, as some do."""
    body = {"error": {"message": f"Incorrect API key provided: {PROVIDER}", "type": "x", "param": None, "code": None}}
    return reply(status, [("x-echo", PROVIDER), ("content-type", "application/json")], json.dumps(body).encode())


BAD_STREAM = sse(chat_events(ANSWER, finish=False, done=False), last=False)
SCRIPTS: list[list[Any]] = [
    [Expect(), Send(reply(body=chat_completion(ANSWER))), Reset()],
    [Expect(), Send(sse(chat_events(ANSWER, usage=(1, 1)))), Reset()],
    *([Expect(), Send(echo(status)), Reset()] for status in (400, 401, 403, 429, 500, 503)),
    [Expect(), Send(BAD_STREAM), Reset()],
    [Expect(), Send(f"HTTP/1.1 {PROVIDER} nonsense\r\n\r\n".encode()), Reset()],
    [Expect(), Send(head(200, [("content-length", "5"), ("x-a", PROVIDER)]) + b"12345678"), Reset()],
    [Expect(), Send(head(200, [("transfer-encoding", "chunked")]) + chunked(b"{", last=False) + b"sk-nonsense\r\n")],
]


async def drive(gateway: Node) -> list[bytes]:
    """Every kind of call, good and bad; what callers got."""
    got = [(await call(gateway.port, ask(stream=number in (1, 8)))).raw for number in range(len(SCRIPTS))]
    requests = [
        ask("file"), ask("closed"), ask(key=WRONG), ask(key=STORED), ask("nope"), ask(api_key=CALLER),
        ask(stream=WRONG),
        ask(path=f"/v1/chat/completions?key={CALLER}", key=WRONG), ask(path=f"/v1/{CALLER}"), ask(path=f"/{WRONG}//x"),
        ask(path=f"/v1beta/models/m:generateContent?key={CALLER}"),
        post(b'{"model": "up", "messages": [' + CALLER.encode(), authorization=f"Bearer {CALLER}"),
        post({"model": "up"}, authorization=f"Bearer {CALLER}", x_api_key=WRONG),
        post({"model": "up"}, authorization=f"Basic {WRONG}", x_request_id=f"{CALLER}!"),
    ]  # fmt: skip
    return got + [(await call(gateway.port, request)).raw for request in requests]


def everything_said(gateway: Node) -> dict[str, bytes]:
    """All that leaves the node, by where it was found."""
    said = {f"console {path}": gateway.console("GET", path)[2] for path in ("/", "/metrics", "/status.json", "/nope")}
    said["stderr"] = gateway.stderr().encode()
    said["stdout"] = "\n".join(gateway.process.out).encode()
    pids = [gateway.process.popen.pid, *gateway.workers]
    said |= {f"command line of {pid}": Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}
    for path in sorted(gateway.data_dir.rglob("*")):
        # Plans hold what workers need to call providers, in files for the owner alone; see below.
        if path.is_file() and path.parent.name != "plans":
            said[f"file {path.name}"] = path.read_bytes()
    return said


def command(gateway: Node, *arguments: str) -> bytes:
    env = {name: os.environ[name] for name in INHERITED if name in os.environ} | {"PLANTED_PROVIDER_KEY": PROVIDER}
    run = [sys.executable, "-m", "fastgw", *arguments]
    done = subprocess.run(run, capture_output=True, timeout=30, check=False, cwd=gateway.data_dir.parent, env=env)
    return done.stdout + done.stderr


async def test_s10_planted_secrets_show_up_nowhere(tmp_path: Path) -> None:
    (tmp_path / "provider.key").write_text(FROM_FILE + "\n")
    async with ScriptedUpstream(SCRIPTS) as upstream:
        env = {"PLANTED_PROVIDER_KEY": PROVIDER}
        with node(tmp_path, config(upstream.port), env=env) as gateway:
            answers = await drive(gateway)
            seen = b"".join(request.head for request in upstream.requests)
            assert PROVIDER.encode() in seen
            assert HEADER.encode() in seen
            gateway.write_config(config(upstream.port).replace("up: {targets", "up: {nonsense: 1, targets"))
            async with asyncio.timeout(10):
                while not gateway.log("config_refused") or len(gateway.records()) < len(answers):
                    await asyncio.sleep(0.05)
            said = everything_said(gateway)
            assert len(said["stderr"]) > 2000
            data = ("--data-dir", str(gateway.data_dir))
            file = str(gateway.config)
            said |= {
                "check": command(gateway, "check", "-c", file, *data),
                "doctor": command(gateway, "doctor", "-c", file, *data),
                "export": command(gateway, "records", "export", *data),
                "keys": command(gateway, "keys", "list", *data),
            }
            assert b"nonsense" in said["check"]
            assert said["export"].count(b"\n") == len(answers)
            plans = list((gateway.data_dir / "plans").iterdir())
            assert all(path.stat().st_mode & 0o777 == 0o600 for path in plans)
            admin = (gateway.data_dir / "admin.key").read_text().strip()
            pepper = (gateway.data_dir / "pepper").read_text().strip()
    for secret in (*PLANTED, admin, pepper):
        for place, text in said.items():
            if place not in ("file admin.key", "file pepper"):
                assert secret.encode() not in text, f"{secret} in {place}"
    for secret in PLANTED[:-2]:
        assert not [answer for answer in answers if secret.encode() in answer], f"{secret} in an answer"
    for plan in (path.read_bytes() for path in plans if path.exists()):
        assert not [secret for secret in (CALLER, STORED, WRONG) if secret.encode() in plan]
