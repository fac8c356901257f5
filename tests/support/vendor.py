"""A vendor that keeps things: OpenAI's responses and files, and its operations on images and sound, on a real socket.

It answers as the vendor's reference says and knows its own ids only. `seen` are the requests as they came, so that a
test can say what reached it, byte for byte. `cut_after`: so many bytes of a body, and the connection ends. `hold`:
after the first piece of a chunked body it waits for this.
"""

import hashlib
import http.client
import itertools
import json
import threading
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

KEY = "sk-vendor-credential-1"
SOUND = hashlib.shake_256(b"sound").digest(3 * 1024 * 1024)
FILE = hashlib.shake_256(b"file").digest(300_000)
IMAGE_USAGE = {
    "total_tokens": 110, "input_tokens": 10, "output_tokens": 100,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 0},
}  # fmt: skip
HEARD_USAGE = {
    "type": "tokens", "input_tokens": 14, "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
    "output_tokens": 45, "total_tokens": 59,
}  # fmt: skip


class Seen(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    def form(self) -> dict[str, bytes]:
        """The fields of a multipart body, as the standard library reads them."""
        head = f"content-type: {self.headers['content-type']}\r\n\r\n".encode()
        message = BytesParser(policy=HTTP).parsebytes(head + self.body)
        return {
            str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True)
            for part in message.iter_parts()  # type: ignore[attr-defined]
        }


class Vendor:
    """The server, for the time of a `with`."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.responses: dict[str, dict[str, Any]] = {}
        self.files: dict[str, dict[str, Any]] = {}
        self.cut_after: int | None = None
        self.hold: threading.Event | None = None
        self._ids = itertools.count(1)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def ident(self, prefix: str) -> str:
        """A fresh id."""
        return f"{prefix}_{next(self._ids):048x}"

    def last(self, suffix: str) -> Seen:
        """The last request of a path that ends so."""
        return next(one for one in reversed(self.seen) if one.path.endswith(suffix))


def ask(
    port: int, method: str, path: str, body: Any = None, *, key: str, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request: status, headers in lower case, body. What is no bytes goes as JSON; `_` in names stands for `-`."""
    lines = {name.replace("_", "-"): value for name, value in headers.items()} | {"authorization": f"Bearer {key}"}
    if body is not None and not isinstance(body, bytes):
        body, lines["content-type"] = json.dumps(body).encode(), "application/json"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, lines)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def _handler(vendor: Vendor) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        pass

    Handler.vendor = vendor
    return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    vendor: Vendor

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def _any(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, parts.path, parts.query, headers, body)
        self.vendor.seen.append(seen)
        if KEY not in (headers.get("authorization", "")[7:], headers.get("x-api-key"), headers.get("x-goog-api-key")):
            self._fail(401, "Incorrect API key provided", "invalid_api_key")
            return
        if "/v1beta/" in parts.path or "x-goog-api-key" in headers:
            self._gemini(seen, parts.path.removeprefix("/upload").split("/")[2:])
            return
        pieces = parts.path.removeprefix("/v1/").split("/")
        getattr(self, "_" + pieces[0], self._missing)(seen, pieces[1:])

    do_GET = do_POST = do_DELETE = _any

    # what it offers

    def _responses(self, seen: Seen, rest: list[str]) -> None:
        if rest in ([], ["input_tokens"]):
            (self._count if rest else self._create)(json.loads(seen.body))
            return
        found = self.vendor.responses.get(rest[0])
        if found is None:
            self._fail(404, f"Response with id '{rest[0]}' not found.", None)
        elif seen.method == "DELETE":
            del self.vendor.responses[rest[0]]
            self._json({"id": rest[0], "object": "response.deleted", "deleted": True})
        elif rest[1:] == ["cancel"]:
            found["status"] = "cancelled"
            self._json(found)
        elif rest[1:] == ["input_items"]:
            item = {"id": "msg_in", "type": "message", "role": "user", "content": found["metadata"]["said"]}
            self._json({"object": "list", "data": [item], "first_id": "msg_in", "last_id": "msg_in", "has_more": False})
        elif "true" in parse_qs(seen.query).get("stream", []):
            self._events(_events(found))
        else:
            self._json(found)

    def _count(self, body: dict[str, Any]) -> None:
        previous = body.get("previous_response_id")
        if previous is not None and previous not in self.vendor.responses:
            self._fail(400, f"Previous response with id '{previous}' not found.", "previous_response_not_found")
            return
        self._json({"object": "response.input_tokens", "input_tokens": 11 if previous is None else 22})

    def _create(self, body: dict[str, Any]) -> None:
        previous = body.get("previous_response_id")
        if previous is not None and previous not in self.vendor.responses:
            message = f"Previous response with id '{previous}' not found."
            self._fail(400, message, "previous_response_not_found", "previous_response_id")
            return
        said = json.dumps(body["input"])
        if previous is not None:
            said = self.vendor.responses[previous]["metadata"]["said"] + " > " + said
        ident = self.vendor.ident("resp")
        # A text that looks like the ids that are to be edited, and must not be.
        text = f'{said} "id":"{ident}" "response":{{"id":"{ident}"}}'
        found = {
            "id": ident, "object": "response", "created_at": 1700000000, "status": "completed", "error": None,
            "incomplete_details": None, "instructions": None, "max_output_tokens": None, "model": body["model"],
            "output": [{
                "type": "message", "id": f"msg_{ident[5:]}", "status": "completed", "role": "assistant",
                "content": [{"type": "output_text", "text": text, "annotations": []}],
            }],
            "parallel_tool_calls": True, "previous_response_id": previous, "store": body.get("store", True),
            "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
            "truncation": "disabled", "metadata": {"said": said},
            "usage": {
                "input_tokens": 10, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 5,
                "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 15,
            },
        }  # fmt: skip
        if body.get("store", True):
            self.vendor.responses[ident] = found
        if body.get("stream"):
            self._events(_events(found))
        else:
            self._json(found)

    def _images(self, seen: Seen, rest: list[str]) -> None:
        form = "multipart" in seen.headers["content-type"]
        asked = {k: v.decode("latin-1") for k, v in seen.form().items()} if form else json.loads(seen.body)
        if str(asked.get("stream")).lower() == "true":
            kind = "image_generation"
            done = {"type": f"{kind}.completed", "b64_json": "QQ==", "created_at": 1, "usage": IMAGE_USAGE}
            partial = {"type": f"{kind}.partial_image", "b64_json": "QQ==", "partial_image_index": 0}
            self._events([partial | {"created_at": 1}, done])
        else:
            data = [{"b64_json": "QUJD" * 1000}]
            self._json({"created": 1700000000, "data": data, "usage": IMAGE_USAGE, "model_seen": asked["model"]})

    def _audio(self, seen: Seen, rest: list[str]) -> None:
        if rest == ["speech"]:
            self._bytes(SOUND, "audio/mpeg", chunked=True)
            return
        asked = seen.form()
        assert asked["file"]
        if asked.get("stream") == b"true":
            done = {"type": "transcript.text.done", "text": "hello", "usage": HEARD_USAGE}
            self._events([{"type": "transcript.text.delta", "delta": "hello"}, done])
        elif asked.get("response_format") == b"text":
            self._bytes(b"hello\n", "text/plain")
        else:
            self._json({"text": "hello", "usage": HEARD_USAGE})

    def _moderations(self, seen: Seen, rest: list[str]) -> None:
        model = json.loads(seen.body)["model"]
        self._json({"id": "modr-1", "model": model, "results": [{"flagged": False, "categories": {}}]})

    def _rerank(self, seen: Seen, rest: list[str]) -> None:
        self._json({"results": [{"index": 0, "relevance_score": 0.5}], "usage": {"total_tokens": 7}})

    def _complete(self, seen: Seen, rest: list[str]) -> None:
        self._json({"type": "completion", "id": "c", "completion": " hi", "stop_reason": "stop_sequence"})

    def _gemini(self, seen: Seen, rest: list[str]) -> None:
        one = {"name": "files/f1", "mimeType": "text/plain", "sizeBytes": "3", "state": "ACTIVE"}
        if rest[0] == "models":
            self._json({"predictions": [{"bytesBase64Encoded": "QQ==", "mimeType": "image/png"}], "method": rest[1]})
        elif rest == ["files"]:
            self._json({"file": one} if seen.method == "POST" else {"files": [one]})
        elif seen.method == "DELETE":
            self._json({})
        else:
            self._json(one)

    def _messages(self, seen: Seen, rest: list[str]) -> None:
        batch = {
            "id": "msgbatch_1", "type": "message_batch", "processing_status": "in_progress",
            "request_counts": {"processing": 1, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
            "created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-02T00:00:00Z", "ended_at": None,
            "archived_at": None, "cancel_initiated_at": None, "results_url": None,
        }  # fmt: skip
        if seen.method == "GET" and rest == ["batches"]:
            self._json({"data": [batch], "has_more": False, "first_id": batch["id"], "last_id": batch["id"]})
        else:
            self._json(batch)

    def _files(self, seen: Seen, rest: list[str]) -> None:
        files = self.vendor.files
        if not rest:
            if seen.method == "POST":
                form = seen.form()
                ident = self.vendor.ident("file")
                files[ident] = {
                    "id": ident, "object": "file", "bytes": len(form["file"]), "created_at": 1, "filename": "f",
                    "purpose": form["purpose"].decode(), "status": "processed",
                }  # fmt: skip
                self._json(files[ident])
            else:
                self._json({"object": "list", "data": list(files.values()), "has_more": False})
        elif rest[0] not in files:
            self._fail(404, f"No such File object: {rest[0]}", None)
        elif rest[1:] == ["content"]:
            self._bytes(FILE, "application/octet-stream", ("content-disposition", 'attachment; filename="f"'))
        elif seen.method == "DELETE":
            del files[rest[0]]
            self._json({"id": rest[0], "object": "file", "deleted": True})
        else:
            self._json(files[rest[0]])

    def _missing(self, seen: Seen, rest: list[str]) -> None:
        self._fail(404, f"Invalid URL ({seen.method} {seen.path})", None)

    # how it answers

    def _json(self, value: Any, status: int = 200) -> None:
        self._bytes(json.dumps(value, indent=1).encode(), "application/json", status=status)

    def _fail(self, status: int, message: str, code: str | None, param: str | None = None) -> None:
        error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
        self._json({"error": error}, status)

    def _bytes(self, body: bytes, kind: str, *more: tuple[str, str], status: int = 200, chunked: bool = False) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        for name, value in more:
            self.send_header(name, value)
        if chunked:
            self.send_header("transfer-encoding", "chunked")
        else:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.vendor.cut_after is not None:
            self.wfile.write(body[: self.vendor.cut_after])
            self.close_connection = True
        elif chunked:
            for start in range(0, len(body), 60_000):
                piece = body[start : start + 60_000]
                try:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                except ConnectionError:
                    self.close_connection = True
                    return
                if self.vendor.hold is not None:
                    self.vendor.hold.wait(10)
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(body)

    def _events(self, events: list[dict[str, Any]]) -> None:
        frames = [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in events]
        self._bytes(b"".join(frames), "text/event-stream", chunked=True)


def _events(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The stream of a response."""
    item = found["output"][0]
    begun = found | {"status": "in_progress", "output": [], "usage": None}
    at = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    text = item["content"][0]["text"]
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0,
         "item": item | {"status": "in_progress", "content": []}},
        {"type": "response.content_part.added", **at, "part": {"type": "output_text", "text": "", "annotations": []}},
        {"type": "response.output_text.delta", **at, "delta": text, "logprobs": []},
        {"type": "response.output_text.done", **at, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": item["content"][0]},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": found},
    ]  # fmt: skip
    return [one | {"sequence_number": number} for number, one in enumerate(events)]
