"""A plan in force: keys are revoked for all workers at once, and a restart with a broken config serves as before."""

import subprocess
import sys
import time
from pathlib import Path

from tests.support.gateway import Mock, Node, node, until
from tests.support.rawclient import RawReply, call, post


def config(mock: Mock) -> str:
    return f"""
providers: {{mock: {{kind: openai_compatible, base_url: "{mock.url}/v1"}}}}
models: {{mock-small: {{targets: [{{provider: mock, model: mock-small}}]}}}}
keys: [{{name: one, secret: fgw-at-work-0123456789}}]
"""


def keys(gateway: Node, *arguments: str) -> str:
    command = [sys.executable, "-m", "fastgw", "keys", *arguments, "--data-dir", str(gateway.data_dir)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


async def ask(gateway: Node, secret: str) -> RawReply:
    body = {"model": "mock-small", "messages": [{"role": "user", "content": "hi"}]}
    return await call(gateway.port, post(body, authorization=f"Bearer {secret}"))


async def test_a_revoked_key_is_dead_on_every_worker_before_the_next_plan(tmp_path: Path, mock: Mock) -> None:
    with node(tmp_path, config(mock), workers=2) as gateway:
        secret = keys(gateway, "create", "short-lived").split()[-1]
        until(lambda: gateway.status()["revision"] == 2, 10.0)
        before = [await ask(gateway, secret) for _ in range(8)]
        assert {reply.status for reply in before} <= {200, 502}
        revision = gateway.status()["revision"]
        keys(gateway, "revoke", "short-lived")
        revoked = time.monotonic()
        after = [await ask(gateway, secret) for _ in range(8)]
        assert time.monotonic() - revoked < 0.5
        assert {(reply.status, reply.json()["error"]["code"]) for reply in after} == {(401, "key_blocked")}
        assert after[0].headers.get("x-fastgw-revision") in (str(revision), str(revision + 1))


async def test_a_restart_with_a_broken_config_serves_by_the_last_good_plan(tmp_path: Path, mock: Mock) -> None:
    with node(tmp_path, config(mock)):
        pass
    with node(tmp_path, "providers: [broken") as gateway:
        assert (await ask(gateway, "fgw-at-work-0123456789")).status in (200, 502)
        (line,) = gateway.log("config_refused")
        assert (line["revision_in_force"], line["serving"]) == (1, "the last good plan")
        gateway.write_config(config(mock).replace("name: one", "name: two"))
        gateway.wait_revision(2)
