"""Helpers for tests with real nodes: start one, wait for what is expected of it, look at its processes."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

SERVE = """
import json, sys
from fastgw.node import ServeOptions, serve
import msgspec
given = json.loads(sys.argv[1])
sys.exit(serve(msgspec.convert(given["options"], ServeOptions), given["modules"]))
"""
LIMIT_S = 25.0


def eventually(condition: Callable[[], T], seconds: float = LIMIT_S, what: str = "") -> T:
    """The condition's first true value; fails when there is none in time."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not in {seconds} s: {what or condition}")
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in task.read_text().split()]
    return found


class NodeProcess:
    """A node in a process of its own; its standard error is `log`."""

    def __init__(self, data_dir: Path, *, modules: dict[str, str] | None = None, **options: Any) -> None:
        self.data_dir = data_dir
        options = {"port": 0, "console_port": 0, "workers": 2, "drain": 5.0, "data_dir": str(data_dir), **options}
        self.log = data_dir.parent / f"{data_dir.name}.log"
        environ = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, json.dumps({"options": options, "modules": modules})],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environ,
            )
        self.seen: set[int] = set()

    @property
    def pid(self) -> int:
        return self.process.pid

    def lines(self, event: str) -> list[dict[str, Any]]:
        found = []
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and row.get("event") == event:
                    found.append(row)
        return found

    def ready(self) -> "NodeProcess":
        """Wait until it serves with all its workers, and its console answers."""

        def all_ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            workers = self.status().get("workers", [])
            return bool(workers) and all(one["state"] == "ready" for one in workers)

        eventually(lambda: self.lines("ready"), what="ready")
        eventually(all_ready, what="all workers ready")
        self.pids()
        return self

    def status(self) -> dict[str, Any]:
        try:
            return json.loads((self.data_dir / "status.json").read_text())
        except (OSError, ValueError):
            return {}

    def pids(self) -> list[int]:
        found = children(self.pid)
        self.seen.update(found)
        return found

    def address(self, index: int = 0) -> tuple[str, int]:
        host, _, port = self.lines("ready")[0]["listeners"][index].removeprefix("http://").rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def console_port(self) -> int:
        return int(self.lines("ready")[0]["console"][0].rpartition(":")[2])

    def call(
        self, path: str = "/health/live", body: Any = None, key: str = "", timeout: float = 10.0
    ) -> tuple[int, Any]:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(*self.address(), timeout=timeout)
        with contextlib.closing(connection):
            headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
            connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def console(self, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.console_port, timeout=10)
        with contextlib.closing(connection):
            headers = {"authorization": f"Bearer {(self.data_dir / 'admin.key').read_text().strip()}", **headers}
            connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = LIMIT_S) -> int:
        return self.process.wait(seconds)

    def nothing_left(self, seconds: float = 6.0) -> None:
        """All processes ever seen are gone."""
        eventually(lambda: not any(alive(pid) for pid in self.seen), seconds, what=f"end of {self.seen}")

    def close(self) -> None:
        self.pids()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        for pid in self.seen:
            with contextlib.suppress(ProcessLookupError):
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)


class Upstream:
    """An upstream whose streams wait: the head and one event come at once, the rest after `finish`."""

    EVENT = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":%b,"finish_reason":%b}]}\n\n'  # noqa: E501

    def __init__(self) -> None:
        self.finish = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                end, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(end,), daemon=True).start()

    def _serve(self, end: socket.socket) -> None:
        with end, contextlib.suppress(OSError):
            end.recv(65536)
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n"
            end.sendall(head + b"transfer-encoding: chunked\r\n\r\n")
            self._chunk(end, self.EVENT % (b'{"role":"assistant","content":"one"}', b"null"))
            self.finish.wait(60)
            self._chunk(end, self.EVENT % (b"{}", b'"stop"'))
            self._chunk(end, b"data: [DONE]\n\n")
            end.sendall(b"0\r\n\r\n")

    @staticmethod
    def _chunk(end: socket.socket, data: bytes) -> None:
        end.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def close(self) -> None:
        self.finish.set()
        self._listener.close()


SECRET = "sk-operator-chosen-1"


def config_text(url: str, *, models: tuple[str, ...] = ("fast",)) -> str:
    targets = "\n".join(f"  {name}: {{targets: [{{provider: local, model: m}}]}}" for name in models)
    return (
        f"providers:\n  local: {{kind: openai_compatible, base_url: '{url}'}}\nmodels:\n{targets}\n"
        f"keys:\n  - {{name: demo, secret: {SECRET}}}\n"
    )


@contextlib.contextmanager
def stream(node: NodeProcess) -> Iterator[http.client.HTTPResponse]:
    """A streaming call of which the first event has arrived."""
    connection = http.client.HTTPConnection(*node.address(), timeout=30)
    with contextlib.closing(connection):
        body = {"model": "fast", "stream": True, "messages": [{"role": "user", "content": "x"}]}
        headers = {"authorization": f"Bearer {SECRET}", "content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        with connection.getresponse() as answer:
            assert answer.status == 200, answer.read()
            assert b"one" in answer.readline()
            yield answer
