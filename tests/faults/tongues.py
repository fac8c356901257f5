"""The four ways to ask for an answer: paths, requests, replies, streams, and how each tells of an error.

What the upstreams say here is written by `tests.support.stage_wire`, so without the gateway's own writers.
"""

import json
from dataclasses import dataclass
from typing import Any

from tests.support.rawclient import RawReply, post
from tests.support.scripted import RawRequest, Serve, chunked, head, reply
from tests.support.stage_wire import WRITERS, Said

JSON = [("content-type", "application/json")]
EVENT_STREAM = [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")]
SAID = "some words of an answer that nobody waits for"
ONE_EVENT = "<words>"
_CANONICAL = {429: "RESOURCE_EXHAUSTED", 400: "INVALID_ARGUMENT", 500: "INTERNAL"}


@dataclass(frozen=True)
class Tongue:
    """One client dialect, and a kind of provider that speaks it natively at `base`."""

    name: str
    kind: str
    base: str
    dialect: str
    terminal: bytes
    """What only a stream that came to its end holds."""

    def path(self, model: str, stream: bool) -> str:
        """Where the caller posts."""
        if self.name == "gemini":
            return f"/v1beta/models/{model}:" + ("streamGenerateContent?alt=sse" if stream else "generateContent")
        return {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}[self.name]

    def body(self, model: str, text: str, stream: bool) -> dict[str, Any]:
        """A request of these words."""
        if self.name == "gemini":
            return {"contents": [{"role": "user", "parts": [{"text": text}]}]}
        if self.name == "responses":
            return {"model": model, "input": text, "stream": stream}
        words: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}
        return words | {"max_tokens": 100} if self.name == "messages" else words

    def ask(self, model: str, label: str, key: str, *, stream: bool = False) -> bytes:
        """The bytes of a call whose words are its label."""
        request = self.body(model, label, stream)
        return post(request, self.path(model, stream), authorization=f"Bearer {key}", x_request_id=label)

    def document(self, text: str = SAID) -> bytes:
        """A whole answer's body."""
        return WRITERS[self.dialect][0](Said(text), "m").encode()

    def whole(self, text: str = SAID) -> bytes:
        """A whole answer, framed."""
        return reply(200, JSON, self.document(text))

    def events(self, text: str = SAID) -> list[bytes]:
        """The events of a streamed answer, the first ones without a word of it."""
        return list(WRITERS[self.dialect][1](Said(text), "m"))

    def begun(self, count: int, text: str = SAID) -> bytes:
        """A stream of which so many events with words have come, and no end."""
        events, words = self.events(text), 0
        for place, event in enumerate(events):
            words += self.speaks(event)
            if words == count:
                return head(200, EVENT_STREAM) + chunked(*events[: place + 1], last=False)
        raise AssertionError(f"no {count} events with words in {events}")

    def speaks(self, event: bytes) -> bool:
        """Whether an event holds words of the answer."""
        marks = {
            "chat": b'"delta": {"content": "' if b'"role"' not in event else b"\0",
            "responses": b'"response.output_text.delta"',
            "messages": b'"text_delta"',
            "gemini": b'"text"',
        }
        return marks[self.name] in event

    def stream(self, text: str = SAID) -> bytes:
        """A whole stream, framed."""
        return head(200, EVENT_STREAM) + chunked(*self.events(text))

    def refusal(self, status: int = 503, message: str = "overloaded", more: Any = ()) -> dict[str, Any]:
        """The provider's own error."""
        if self.name == "messages":
            kind = "rate_limit_error" if status == 429 else "overloaded_error"
            return {"type": "error", "error": {"type": kind, "message": message}}
        if self.name == "gemini":
            return {
                "error": {
                    "code": status,
                    "message": message,
                    "status": _CANONICAL.get(status, "UNAVAILABLE"),
                    "details": list(more),
                }
            }
        return {"error": {"message": message, "type": "server_error", "param": None, "code": "server_error"}}

    def error_event(self) -> bytes:
        """The provider's error inside a stream."""
        if self.name == "messages":
            return b"event: error\ndata: " + json.dumps(self.refusal()).encode() + b"\n\n"
        if self.name == "responses":
            told = {"type": "error", "code": "server_error", "message": "overloaded", "param": None}
            return b"event: error\ndata: " + json.dumps(told | {"sequence_number": 0}).encode() + b"\n\n"
        return b"data: " + json.dumps(self.refusal()).encode() + b"\n\n"

    # what the caller gets

    def code_of(self, told: Any) -> str:
        """The code of an error of the gateway's in this dialect; its shape must be right."""
        if self.name == "messages":
            assert told["type"] == "error"
            assert told["error"].keys() == {"type", "message"}
            assert len(told["error"]["message"]) > 15
            return str(told["error"]["type"])
        if self.name == "gemini":
            error = told["error"]
            assert error.keys() == {"code", "message", "status", "details"}
            return str(error["details"][0]["reason"])
        if "error" not in told:  # an event of a responses stream
            assert told["type"] == "error", told
            return str(told["code"])
        assert told["error"].keys() == {"message", "type", "param", "code"}
        assert len(told["error"]["message"]) > 15
        return str(told["error"]["code"])

    def assert_error(self, got: RawReply, status: int, *codes: str) -> None:
        """A refusal or failure of the gateway's own: whole, with this status, and one of these codes."""
        assert (got.ending, got.status) == ("whole", status), got.raw[:500]
        assert got.headers["content-type"].startswith("application/json")
        self._assert_code(self.code_of(got.json()), status, codes)

    def assert_cut(self, got: RawReply, *codes: str) -> None:
        """A stream that has begun and ends with an error of the gateway's own, without this dialect's own end."""
        assert (got.ending, got.status) == ("whole", 200), got.raw[:500]
        assert self.terminal not in got.body, got.body[-500:]
        last = payloads(got.body)[-1]
        if isinstance(last, dict) and last.get("type") == "response.failed":
            last = last["response"]
            assert last["status"] == "failed"
            last = {"type": "error", "code": last["error"]["code"]}
        self._assert_code(self.code_of(last), 502, codes)

    def _assert_code(self, code: str, status: int, codes: tuple[str, ...]) -> None:
        if self.name == "messages":
            types = ("api_error", "overloaded_error", "timeout_error") if status >= 500 else ("invalid_request_error",)
            assert code in types, code
        else:
            assert code in codes, (code, codes)


def payloads(body: bytes) -> list[Any]:
    """The data of every event, decoded; `[DONE]` as text. Every event must be whole."""
    assert body.endswith((b"\n\n", b"\r\n\r\n")), body[-200:]
    lines = [line for line in body.replace(b"\r\n", b"\n").split(b"\n") if line.startswith(b"data: ")]
    return ["[DONE]" if line == b"data: [DONE]" else json.loads(line[6:]) for line in lines]


CHAT = Tongue("chat", "openai_compatible", "/v1", "openai_chat", b"[DONE]")
MESSAGES = Tongue("messages", "anthropic", "", "anthropic_messages", b"message_stop")
RESPONSES = Tongue("responses", "openai", "/v1", "openai_responses", b"response.completed")
GEMINI = Tongue("gemini", "gemini", "", "gemini", b'"finishReason"')
TONGUES = (CHAT, MESSAGES, RESPONSES, GEMINI)
BOTH = [(tongue, stream) for tongue in TONGUES for stream in (False, True)]


def tongue_of(request: RawRequest) -> Tongue:
    """The dialect in which an upstream was asked."""
    for tongue, mark in ((CHAT, "/chat/"), (MESSAGES, "/messages"), (RESPONSES, "/responses")):
        if mark in request.target:
            return tongue
    return GEMINI


def streamed(request: RawRequest) -> bool:
    """Whether it was asked for a stream."""
    return "streamGenerate" in request.target or b'"stream": true' in request.body or b'"stream":true' in request.body


def echo(request: RawRequest) -> bytes:
    """The answer of an upstream that is well: the words it was asked, in the dialect it was asked in."""
    tongue, words = tongue_of(request), _words(request.json())
    if not streamed(request):
        return tongue.whole(words)
    # In one event, so that it can be looked for in the bytes; longer words would be cut into several.
    events = (event.replace(ONE_EVENT.encode(), words.encode()) for event in tongue.events(ONE_EVENT))
    return head(200, EVENT_STREAM) + chunked(*events)


def _words(body: dict[str, Any]) -> str:
    if "contents" in body:
        return str(body["contents"][0]["parts"][0]["text"])
    words = body["messages"][0]["content"] if "messages" in body else body["input"]
    return str(words if isinstance(words, str) else words[0]["text"])


WELL = (Serve(echo),)
"""The script of an upstream that is well."""
