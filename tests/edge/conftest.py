"""One node for all tests of this folder, and what stands before and behind it."""

import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.edge.corpus import KEY
from tests.edge.support import Echo
from tests.support.gateway import Node, reserved_port, start_node, until

CONFIG = """
providers:
  echo: {{kind: openai_compatible, base_url: "http://127.0.0.1:{port}/v1", api_key: "sk-edge-upstream-0123456789"}}
models:
  edge: {{targets: [{{provider: echo, model: edge}}], retry: {{attempts: 1}},
          timeout: {{first_token: 2s, idle: 2s, total: 5s}}}}
keys:
  - {{name: edge, secret: "{key}"}}
bounds: {{body: 1MiB, body_timeout: 300ms, body_rate: 1MiB}}
"""


class Edge:
    """The node, and the port where its only upstream is expected."""

    def __init__(self, node: Node, upstream_port: int) -> None:
        self.node = node
        self.upstream_port = upstream_port


@pytest.fixture(scope="session")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with reserved_port() as port:
        node = start_node(tmp_path_factory.mktemp("edge"), CONFIG.format(port=port, key=KEY.decode()))
        try:
            yield Edge(node, port)
        finally:
            code = node.stop()
    assert code == 0, node.stderr()
    assert not node.log("internal_error"), node.log("internal_error")


@pytest.fixture
async def upstream(edge: Edge) -> AsyncIterator[Echo]:
    async with Echo(edge.upstream_port) as made:
        yield made


NGINX = """
{user} daemon off; worker_processes 1; pid {scratch}/pid; error_log {scratch}/error.log crit;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {scratch}/body; proxy_temp_path {scratch}/proxy;
  fastcgi_temp_path {scratch}/f; uwsgi_temp_path {scratch}/u; scgi_temp_path {scratch}/s;
  client_header_timeout 1s; client_body_timeout 1s; keepalive_timeout 10s; lingering_close off;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 1; }}
  server {{ listen 127.0.0.1:{port}; client_max_body_size 8m;
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_request_buffering off; proxy_buffering off; proxy_read_timeout 3s; }} }}
}}
"""
HAPROXY = """
global
  nbthread 1
defaults
  mode http
  timeout connect 2s
  timeout client 1s
  timeout http-request 1s
  timeout http-keep-alive 10s
  timeout server 3s
  http-reuse always
frontend in
  bind 127.0.0.1:{port}
  default_backend up
backend up
  server one 127.0.0.1:{upstream} pool-max-conn 1
"""


class Front:
    """A proxy before the node that keeps few connections to it."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port


def commands(name: str, scratch: Path, port: int, upstream: int) -> list[str]:
    """The command line of a proxy; its config is written."""
    # Started by root, its workers would change to a user who may not enter the directory; others may not say so.
    user = "user root;" if os.geteuid() == 0 else ""
    config = scratch / "config"
    text = NGINX if name == "nginx" else HAPROXY
    config.write_text(text.format(user=user, scratch=scratch, port=port, upstream=upstream))
    options = {"nginx": ["-p", str(scratch), "-c", str(config)], "haproxy": ["-db", "-f", str(config)]}
    return [name, *options[name]]


def listening(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether it accepts connections. AssertionError when it has ended instead."""
    assert process.poll() is None, process.communicate()
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session", params=["nginx", "haproxy"])
def front(request: pytest.FixtureRequest, edge: Edge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    with reserved_port() as port:
        command = commands(name, tmp_path_factory.mktemp(name), port, edge.node.port)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                until(lambda: listening(process, port), 10.0, f"{name} to listen")
                yield Front(name, port)
            finally:
                process.terminate()
                process.wait(10)
