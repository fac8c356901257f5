"""A token service or an upstream on a real socket, in a thread: says what a test tells it, keeps what it was asked."""

import json
import threading
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit


class Asked(NamedTuple):
    """One request: `form` is its body as a form, `query` that of its target; `head` is as it came but for its order."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    form: dict[str, str]
    body: bytes
    head: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


Answer = tuple[int, Any]
"""Status, and what is sent as JSON (bytes: as they are; those that begin like an event stream are called one)."""


class Endpoint:
    """`answer` is called for every request, in a thread of its own."""

    def __init__(self, url: str, asked: list[Asked], answers: list[Callable[[Asked], Answer]]) -> None:
        self.url = url
        self.asked = asked
        self._answers = answers

    def say(self, answer: Callable[[Asked], Answer]) -> None:
        """From now on this answers."""
        self._answers[:] = [answer]


@contextmanager
def endpoint(answer: Callable[[Asked], Answer], headers: dict[str, str] | None = None):
    """An endpoint for the time of a block."""
    asked: list[Asked] = []
    answers = [answer]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._do()

        do_POST = do_PUT = do_GET

        def _do(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            parts = urlsplit(self.path)
            one = Asked(
                self.command,
                parts.path,
                _flat(parts.query),
                {name.lower(): value for name, value in self.headers.items()},
                _flat(body.decode("latin-1")),
                body,
                f"{self.requestline}\r\n{self.headers.as_string()}".replace("\r\n", "\n")
                .replace("\n", "\r\n")
                .encode(),
            )
            asked.append(one)
            status, value = answers[0](one)
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            events = data.startswith((b"id:", b"data:", b"event:"))
            self.send_header("content-type", "text/event-stream" if events else "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield Endpoint(f"http://127.0.0.1:{server.server_port}", asked, answers)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _flat(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text).items()}


def token(name: str = "token-1", seconds: Any = 3600) -> Callable[[Asked], Answer]:
    """Always this token."""
    return lambda asked: (200, {"access_token": name, "expires_in": seconds, "token_type": "Bearer"})


def tokens(seconds: float) -> Callable[[Asked], Answer]:
    """A new token each time: token-1, token-2, ..."""
    count = iter(range(1, 10**6))
    return lambda asked: (200, {"access_token": f"token-{next(count)}", "expires_in": seconds})


def refuse(status: int = 401, **body: Any) -> Callable[[Asked], Answer]:
    """An error of the token service."""
    return lambda asked: (status, body or {"error": "invalid_client", "error_description": "no"})
