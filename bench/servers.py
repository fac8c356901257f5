"""What is measured, and what stands behind it: nginx as the fastest of upstreams, the mock for what takes time."""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench import cpu, payloads, slow
from bench.processes import HOST, Process, Stage, free_port, listening

CONFIG: Final = Path(__file__).with_name("everything-on.yaml")
ROOT: Final = Path(__file__).resolve().parent.parent
WORKER: Final = "fastgw.gateway.worker"
CLIENT_BODY: Final = "256k"
START_S: Final = 60.0
"""A node with a hundred thousand keys compiles them first."""

LITERAL: Final = 3_000  # nginx takes no word of 4 KB or more in its config

_NGINX: Final = """
{user} daemon off; worker_processes 1; worker_rlimit_nofile 16384; pid {pid}; error_log stderr warn;
events {{ worker_connections 12000; multi_accept on; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; client_max_body_size 64m;
  client_body_buffer_size {body}; client_body_temp_path {scratch}/body; proxy_temp_path {scratch}/proxy;
  fastcgi_temp_path {scratch}/f; uwsgi_temp_path {scratch}/u; scgi_temp_path {scratch}/s;
  {inside}
}}
"""
_ANSWERS: Final = """
  server {{ listen {host}:{port} backlog=4096;
    location / {{ default_type application/json; return 200 '{reply}'; }} }}
"""
_ANSWERS_FROM_FILE: Final = """
  sendfile on; tcp_nopush off; open_file_cache max=8;
  server {{ listen {host}:{port} backlog=4096; root {root}; error_page 405 =200 /reply.json;
    location / {{ default_type application/json; rewrite ^ /reply.json break; }} }}
"""
_PASSES: Final = """
  upstream up {{ server {host}:{upstream}; keepalive 4096; keepalive_requests 1000000000; keepalive_timeout 600s; }}
  server {{ listen {host}:{port} backlog=4096;
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; {buffering}
      proxy_read_timeout 600s; }} }}
"""
_HAPROXY: Final = """
global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  http-reuse always
frontend in
  bind {host}:{port} backlog 4096
  default_backend up
backend up
  server one {host}:{upstream}
"""


class Server:
    """A started server: where it listens, which of its processes count, which are reported beside."""

    def __init__(self, name: str, port: int, process: Process) -> None:
        self.name = name
        self.port = port
        self.process = process

    @property
    def url(self) -> str:
        """Base address."""
        return f"http://{HOST}:{self.port}"

    def measured(self) -> list[int]:
        """The processes whose CPU counts as the server's."""
        return self.process.pids()

    def beside(self) -> list[int]:
        """Those that only look after them."""
        return []

    def check(self) -> None:
        """Raises BenchError when it has died."""
        self.process.wait_for(lambda: True)


class Fastgw(Server):
    """A fastgw node: its workers count, its other processes are reported beside."""

    def measured(self) -> list[int]:
        return [pid for pid in self.process.pids() if WORKER in cpu.command(pid)]

    def beside(self) -> list[int]:
        return [pid for pid in self.process.pids() if WORKER not in cpu.command(pid)]


def _ready(server: Server) -> Server:
    server.process.wait_for(lambda: listening(server.port))
    return server


def _nginx(stage: Stage, name: str, cores: frozenset[int], port: int, inside: str) -> Server:
    scratch = stage.path(f"{name}-tmp")
    scratch.mkdir()
    config = stage.path(f"{name}.conf")
    # Started by root, its workers would change to a user who may not enter the run's directory; others may not say so.
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(_NGINX.format(user=user, pid=scratch / "pid", scratch=scratch, body=CLIENT_BODY, inside=inside))
    return _ready(Server(name, port, stage.start(name, ["nginx", "-c", str(config), "-p", str(scratch)], cores)))


def answering_nginx(stage: Stage, size: int = 600, *, anthropic: bool = False) -> Server:
    """An upstream that answers every request with the same bytes, from memory: nothing is faster."""
    port, reply = free_port(), payloads.message(size) if anthropic else payloads.reply(size)
    if size <= LITERAL and b"'" not in reply and b"$" not in reply:
        inside = _ANSWERS.format(host=HOST, port=port, reply=reply.decode())
    else:
        # No static file is served to a POST: nginx says 405, and that error's page is the file.
        root = stage.path("www")
        root.mkdir()
        (root / "reply.json").write_bytes(reply)
        inside = _ANSWERS_FROM_FILE.format(host=HOST, port=port, root=root)
    return _nginx(stage, "anthropic upstream" if anthropic else "nginx upstream", stage.cores.load, port, inside)


def passing_nginx(stage: Stage, upstream: Server, *, buffering: bool = True) -> Server:
    """nginx as the gateway: one worker, connections to the upstream kept; streams need `buffering` off."""
    port = free_port()
    text = "" if buffering else "proxy_buffering off;"
    inside = _PASSES.format(host=HOST, port=port, upstream=upstream.port, buffering=text)
    return _nginx(stage, "nginx", stage.cores.server, port, inside)


def haproxy(stage: Stage, upstream: Server) -> Server:
    """HAProxy as the gateway: one thread, connections to the upstream kept."""
    port = free_port()
    config = stage.path("haproxy.cfg")
    config.write_text(_HAPROXY.format(host=HOST, port=port, upstream=upstream.port))
    command = ["haproxy", "-db", "-f", str(config)]
    return _ready(Server("haproxy", port, stage.start("haproxy", command, stage.cores.server)))


def fastgw(
    stage: Stage,
    upstream: Server,
    *,
    workers: int = 1,
    slowed: int = 0,
    kind: str = "openai_compatible",
    config: Path = CONFIG,
    data: Path | None = None,
) -> Fastgw:
    """fastgw by `everything-on.yaml`, or another `config`, before a provider of this kind.

    `slowed` puts so many microseconds of nothing into every call. `data` is its data directory, a new one if not given.
    """
    port, console = free_port(), free_port()
    name = "fastgw" if kind == "openai_compatible" else f"fastgw to {kind}"
    data = data or stage.path(f"{name} data")
    environ = {
        "BENCH_UPSTREAM": upstream.url if kind == "anthropic" else f"{upstream.url}/v1",
        "BENCH_KIND": kind,
        "BENCH_UPSTREAM_KEY": "sk-bench-upstream-0123456789",
        "BENCH_KEY": payloads.caller_key(),
    }
    if slowed:
        environ |= {"PYTHONPATH": f"{ROOT}:{ROOT / 'bench' / 'slow_start'}", slow.VARIABLE: str(slowed)}
    command = [
        *(sys.executable, "-m", "fastgw", "serve", "-c", str(config), "--host", HOST, "--drain", "2"),
        *("--port", str(port), "--console-port", str(console)),
        *("--workers", str(workers), "--data-dir", str(data)),
    ]
    server = Fastgw(name, port, stage.start(name, command, stage.cores.server, environ))
    # The node listens before its workers serve; each must be there, or the first load meets an idle core.
    server.process.wait_for(_workers_ready(server, workers), START_S)
    return server


def _workers_ready(server: Fastgw, workers: int) -> Callable[[], bool]:
    def ready() -> bool:
        text = server.process.log.read_text(errors="replace")
        return text.count('"child":"worker ') >= workers and answers(server.port)

    return ready


def answers(port: int, path: str = "/health/ready") -> bool:
    """Whether a GET there is answered with 200 within a second."""
    try:
        with socket.create_connection((HOST, port), 1.0) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n".encode())
            return sock.recv(4096).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def mock(stage: Stage, *options: str) -> Server:
    """The mock provider, for what takes time; `options` as `fastgw mock` takes them."""
    port = free_port()
    command = [sys.executable, "-m", "fastgw", "mock", "--host", HOST, "--port", str(port), *options]
    return _ready(Server("mock", port, stage.start("mock", command, stage.cores.load)))
