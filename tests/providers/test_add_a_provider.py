"""docs/add-a-provider.md: its row of data, taken from the page, serves real calls; its config compiles."""

import http.client
import json
import os
import re
from pathlib import Path

import pytest

from fastgw.providers import PROVIDERS, compatible
from fastgw.providers.base import Provider
from tests.plan.support import compiled
from tests.providers.served import vendors
from tests.support.gateway import start_node

PAGE = (Path(__file__).parents[2] / "docs" / "add-a-provider.md").read_text()
(ROW,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(CONFIG,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
SITE = f"""
from fastgw import providers
from fastgw.providers.compatible import CHAT, EMBEDDINGS, Quirks, _row

(acme,) = (
{ROW}
)
providers.PROVIDERS[acme.kind] = acme
"""
KEY = "fgw-acme-0123456789abcdef"


def row():
    (one,) = eval(f"({ROW})", vars(compatible))
    return one


def test_it_is_a_row_of_data():
    assert len([line for line in ROW.splitlines() if not line.strip().startswith("#")]) <= 15
    assert isinstance(row(), Provider)
    assert row().kind not in PROVIDERS


def test_the_config_of_the_page_compiles(tmp_path):
    plan = compiled(tmp_path, CONFIG, environ={"ACME_API_KEY": "k"})
    assert plan.upstreams["acme"].quirks.rename == {"max_completion_tokens": "max_tokens"}
    assert plan.models["fast"].targets[0].model == "acme-large"


def test_every_field_that_the_page_names_is_one():
    named = set(re.findall(r"`(\w+_fields|speaks|stream_speaks|clamp|features|models|fix_request)`", PAGE))
    assert named <= set(Provider.__struct_fields__)
    assert len(named) == 10


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    directory = tmp_path_factory.mktemp("acme")
    site = directory / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    with vendors(["openai_compatible"]) as server:
        text = (
            f"providers: {{acme: {{kind: acme, api_key: sk-acme, base_url: '{server.url('openai_compatible')}'}}}}\n"
            "models:\n"
            "  plain: {targets: [{provider: acme, model: acme-large}]}\n"
            "  thinking: {targets: [{provider: acme, model: acme-think-1}]}\n"
            f"keys: [{{name: main, secret: {KEY}}}]\n"
        )
        node = start_node(directory, text, key=KEY, env={"PYTHONPATH": path})
        try:
            yield node, server
        finally:
            code = node.stop()
    assert code == 0, node.stderr()


def ask(node, model, **fields):
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=10)
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"authorization": f"Bearer {KEY}",
                           "content-type": "application/json"})  # fmt: skip
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_a_call_is_served_through_the_row_of_the_page(world):
    node, server = world
    status, headers, body = ask(node, "plain", max_completion_tokens=9, user="ann", temperature=1.5)
    assert status == 200, body
    assert body == server.vendors["openai_compatible"].reply
    _, path, sent_headers, sent = server.seen[-1]
    assert path == "/chat/completions"
    assert sent_headers["authorization"] == "Bearer sk-acme"
    hello = [{"role": "user", "content": "hi"}]
    assert sent == {"model": "acme-large", "messages": hello, "max_tokens": 9, "temperature": 1}
    assert headers["x-fastgw-dropped"] == "user,temperature"


def test_its_newer_models_differ(world):
    node, server = world
    status, headers, _ = ask(node, "thinking", temperature=0.5)
    assert status == 200
    assert "temperature" not in server.seen[-1][3]
    assert headers["x-fastgw-dropped"] == "temperature"


def test_what_is_not_lost_is_not_named(world):
    node, _ = world
    status, headers, _ = ask(node, "plain", max_completion_tokens=9, temperature=0.5)
    assert status == 200
    assert "x-fastgw-dropped" not in headers
