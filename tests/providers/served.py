"""A real server that answers as the vendors of the fixtures do, each below a path of its own."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.providers.vendors import Vendor


class Vendors(ThreadingHTTPServer):
    """`url(kind)` is the address of each; `seen` holds (kind, path, headers, body) of every request."""

    daemon_threads = True

    def __init__(self, kinds):
        super().__init__(("127.0.0.1", 0), Handler)
        self.vendors = {kind: Vendor(kind) for kind in kinds}
        self.seen = []

    def url(self, kind):
        return f"http://127.0.0.1:{self.server_port}/{kind}"


class Handler(BaseHTTPRequestHandler):
    """Answers with the fixture's stream where one is asked for, with its error where the model is called `broken`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        _, kind, path = self.path.split("/", 2)
        self.server.seen.append((kind, f"/{path}", dict(self.headers), body))
        vendor = self.server.vendors[kind]
        if body.get("stream") or "streamGenerateContent" in path:
            self._answer(200, "text/event-stream", vendor.stream)
        elif "broken" in (body.get("model", ""), *path.replace(":", "/").split("/")):
            self._answer(vendor.status(), "application/json", vendor.error)
        else:
            self._answer(200, "application/json", vendor.reply)

    def _answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@contextmanager
def vendors(kinds):
    """Such a server for the time of a block."""
    server = Vendors(kinds)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
