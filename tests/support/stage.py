"""A provider of all dialects that says what is written down here, by the model's name, and keeps what it was asked."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.support.stage_wire import WRITERS, Said

SIGNATURE = "U3RhZ2Ugc2lnbmF0dXJlIDE="
"""Plain base64, as every vendor's is."""
ODD_ARGUMENTS = '{"whole":9007199254740993,"huge":1e400,"exact":1.10,"zero":-0.0,"text":"\\u2028 é"}'
_CALL = Said(calls=(("weather", '{"city":"Paris"}'),), stop="tool", thought="Ask the tool.", signature=SIGNATURE)
SAID = {
    "stage-sequence": Said("One, two", stop="###"),
    "stage-refusal": Said("I had better not", stop="refusal"),
    "stage-words": Said(refusal="I cannot help with that."),
    "stage-numbers": Said(calls=(("take", ODD_ARGUMENTS),), stop="tool"),
    "stage-empty": Said(calls=(("now", ""),), stop="tool"),
    "stage-thinking": Said("Done.", thought="Let me think.", signature=SIGNATURE),
    "stage-signed": _CALL,
}
AFTER = Said("It rains in Paris.")
"""What `stage-signed` says once the tool has answered."""
ANSWERED = b"it rains"
_TOO_LONG = {
    "openai_chat": {"error": {
        "message": "This model's maximum context length is 128000 tokens. However, your messages resulted in 200000 "
        "tokens. Please reduce the length of the messages.",
        "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}},
    "openai_responses": {"error": {
        "message": "Your input exceeds the context window of this model. Please adjust your input and try again.",
        "type": "invalid_request_error", "param": "input", "code": "context_length_exceeded"}},
    "anthropic_messages": {"type": "error", "error": {
        "type": "invalid_request_error", "message": "prompt is too long: 200000 tokens > 128000 maximum"}},
    "gemini": {"error": {
        "code": 400, "status": "INVALID_ARGUMENT",
        "message": "The input token count (200000) exceeds the maximum number of tokens allowed (128000)."}},
}  # fmt: skip
STAGED = (*SAID, "stage-long")
_PATHS = (
    (re.compile(r"/v1/chat/completions$"), "openai_chat"),
    (re.compile(r"/v1/responses$"), "openai_responses"),
    (re.compile(r"/v1/messages$"), "anthropic_messages"),
    (re.compile(r"/v1(?:beta)?/models/(?P<model>[^:/]+):(?P<method>\w+)$"), "gemini"),
)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        path = self.path.partition("?")[0]
        dialect, found = next((name, found) for pattern, name in _PATHS if (found := pattern.search(path)))
        asked = json.loads(body)
        model = found["model"] if dialect == "gemini" else asked["model"]
        stream = found["method"].startswith("stream") if dialect == "gemini" else asked.get("stream", False)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append(
            {
                "dialect": dialect,
                "target": self.path,
                "headers": headers,
                "body": body,
                "asked": asked,
                "stream": stream,
            }
        )
        if model == "stage-long":
            self._reply(400, json.dumps(_TOO_LONG[dialect]).encode())
            return
        said = AFTER if model == "stage-signed" and ANSWERED in body else SAID[model]
        whole, events = WRITERS[dialect]
        if stream:
            self._reply(200, b"".join(events(said, model)), "text/event-stream")
        else:
            self._reply(200, whole(said, model).encode())

    def _reply(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nothing: a test that fails says enough."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[dict[str, Any]] = []


class Stage:
    """`with Stage() as stage:` serves at `stage.url`."""

    def __init__(self) -> None:
        self.url = ""
        self._server: _Server | None = None

    @property
    def seen(self) -> list[dict[str, Any]]:
        """The requests so far: `dialect`, `target`, `headers`, `body` as bytes, `asked` as parsed, `stream`."""
        assert self._server is not None, "not running"
        return self._server.seen

    @property
    def last(self) -> dict[str, Any]:
        """The last of them."""
        return self.seen[-1]

    def __enter__(self) -> Self:
        self._server = _Server()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
