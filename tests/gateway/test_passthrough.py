"""What is passed on without being understood: who may, where to, and how a request for it is written."""

import json
from types import SimpleNamespace

import pytest

from fastgw.dialects.opaque import KEPT, OPENAI
from fastgw.errors import GatewayError, UpstreamError
from fastgw.gateway import passthrough, relay, routes
from fastgw.gateway.passthrough import Asked, with_query
from fastgw.gateway.routes import Kept
from tests.gateway.support import PRICE, Way, call_of, reply_of


@pytest.mark.parametrize(
    ("path", "query", "out"),
    [
        ("/v1/files", b"", "/v1/files"), ("/v1/files", b"limit=2&after=a%26b", "/v1/files?limit=2&after=a%26b"),
        ("/v1/files", b"key=fgw-1", "/v1/files"), ("/v1/files", b"a=1&KEY=x&%6bey=y&api_key=z&b", "/v1/files?a=1&b"),
        ("/files?api-version=1", b"api-version=2&a=1", "/files?api-version=1&a=1"),
        ("/files?api-version=1", b"", "/files?api-version=1"), ("/x", b"&&a=1&", "/x?a=1"),
        ("/x", b"include[]=a&monkey=1", "/x?include[]=a&monkey=1"),
    ],
)  # fmt: skip
def test_a_query_without_what_is_ours_to_say(path, query, out):
    assert with_query(path, query) == out


@pytest.mark.parametrize("query", [b"a b", b"a#b", b"a\r\nx: y", b"a\x00", b"\xff", b"a\x7f"])
def test_a_query_that_would_break_a_head(query):
    with pytest.raises(GatewayError) as caught:
        with_query("/x", query)
    assert caught.value.kind == "bad_request"


def call(method="GET", *, account=True, sharing=True):
    made = call_of(key=SimpleNamespace(name="alice", pass_through=sharing))
    way = SimpleNamespace(keeps=lambda path: f"/v9/{path}", provider="up")
    accounts = {"openai/files": SimpleNamespace(name="(files)", ways=[way])} if account else {}
    made.live.routes = SimpleNamespace(accounts=accounts)
    made.exchange.method, made.exchange.query = method, b"limit=1"
    return made


def test_a_request_about_what_is_kept():
    made = call("DELETE")
    assert passthrough.asked(made, Kept("openai", "files", "files/f1"))(b"x") == Asked(
        "DELETE", "/v9/files/f1?limit=1", b"x"
    )
    assert made.model_name == "(files)"
    path = passthrough.asked(call(), Kept("openai", "files", "files", "/upload"))(b"").path
    assert path == "/upload/v9/files?limit=1"


@pytest.mark.parametrize(
    ("made", "kind", "hint"),
    [
        (call(account=False), "endpoint_not_enabled", "`pass_through` of the provider"),
        (call(sharing=False), "endpoint_not_enabled", "`pass_through: true`"),
        (call("PUT"), "method_not_allowed", "GET, POST and DELETE"),
    ],
)
def test_who_may_not(made, kind, hint):
    with pytest.raises(GatewayError) as caught:
        passthrough.asked(made, Kept("openai", "files", "files"))
    assert (caught.value.kind, hint in caught.value.message) == (kind, True)
    assert made.model is None


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        (b"/v1/files", Kept("openai", "files", "files")),
        (b"/openai/v1/vector_stores/v/files/f", Kept("openai", "vector_stores", "vector_stores/v/files/f")),
        (b"/v1/fine_tuning/jobs", Kept("openai", "fine_tuning", "fine_tuning/jobs")),
        (b"/v1/messages/batches/b/results", Kept("anthropic", "batches", "messages/batches/b/results")),
        (b"/anthropic/v1/messages/batches", Kept("anthropic", "batches", "messages/batches")),
        (b"/anthropic/v1/files/f", Kept("anthropic", "files", "files/f")),
        (b"/v1beta/cachedContents/c", Kept("gemini", "cachedContents", "v1beta/cachedContents/c")),
        (b"/genai/v1beta/files/f:download", Kept("gemini", "files", "v1beta/files/f:download")),
        (b"/upload/v1beta/files", Kept("gemini", "files", "v1beta/files", "/upload")),
        (b"/genai/v1/files", Kept("gemini", "files", "v1/files")),
        (b"/v1/responses/resp_1", Kept("responses", "", "resp_1")),
        (b"/openai/v1/responses/resp_1/cancel", Kept("responses", "/cancel", "resp_1")),
        (b"/v1/responses/resp_1/input_items", Kept("responses", "/input_items", "resp_1")),
    ],
)
def test_paths_about_what_is_kept(path, kept):
    match = routes.kept(path)
    assert match is not None
    assert match.kept == kept
    assert match.endpoint.dialect.family == ("openai" if kept.interface == "responses" else kept.interface)


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/filesystem", b"/v2/files", b"/v1/models", b"/v1/files/../x", b"/v1/files//x", b"/v1/files/%2e", b"/files",
        b"/v1/responses/input_tokens", b"/v1/responses/compact", b"/v1/responses/r/else", b"/v1/messages/files",
        b"/anthropic/v1/batches", b"/v1/files;x", b"/v1/files/\xff",
        b"/openai/v1beta/files", b"/anthropic/v1beta/files",
    ],
)  # fmt: skip
def test_and_other_paths(path):
    assert routes.kept(path) is None


class Sink:
    """Takes what is sent."""

    def __init__(self):
        self.started, self.head, self.sent = False, None, []

    async def start_stream(self, status, headers):
        self.started, self.head = True, (status, headers)

    async def send(self, chunk):
        self.sent.append(chunk)


async def passed(reply, name="images/generations"):
    """What became of a reply: the call, the whole answer if it was one, and what was sent."""
    made = call_of(target=Way("a", price=PRICE), exchange=Sink())
    dialect = OPENAI[name]
    tap = dialect.tap(wants_usage=True, cost=lambda usage: None)
    return made, await passthrough.answer(made, dialect, reply, tap, None), made.exchange


def streamed(*pieces, kind=b"audio/mpeg", status=200, lines=()):
    reply = reply_of(status, stream=True)
    reply.headers = [(b"content-type", kind), *lines]
    reply._chunks = list(pieces)
    return reply


async def test_json_is_whole_and_metered():
    body = json.dumps({"usage": {"input_tokens": 10, "output_tokens": 2}}).encode()
    made, (head, answer), sink = await passed(streamed(body, kind=b"application/json; charset=utf-8"))
    assert (answer, sink.started, made.stream) == (body, False, False)
    assert (b"content-type", b"application/json; charset=utf-8") in head
    assert (made.usage.input, made.usage_source) == (10, "upstream")
    assert made.cost_nano == 10 * 150 + 2 * 600


async def test_json_without_usage_costs_nothing_that_is_known():
    made, _, _ = await passed(streamed(b'{"data":[]}', kind=b"application/json"))
    assert (made.usage, made.usage_source, made.cost_nano) == (None, "none", None)


async def test_bytes_go_on_as_they_come():
    lines = [(b"content-length", b"6"), (b"content-disposition", b"attachment"), (b"set-cookie", b"x")]
    made, whole, sink = await passed(streamed(b"abc", b"def", lines=lines))
    assert (whole, b"".join(sink.sent), made.bytes_out) == (None, b"abcdef", 6)
    status, head = sink.head
    assert status == 200
    assert {(b"content-length", b"6"), (b"content-disposition", b"attachment")} <= set(head)
    assert not any(name == b"set-cookie" for name, _ in head)


async def test_json_too_large_to_be_held_goes_on_as_it_comes():
    lines = [(b"content-length", b"%d" % (passthrough.MAX_WHOLE + 1))]
    _, whole, sink = await passed(streamed(b"{", kind=b"application/json", lines=lines))
    assert (whole, sink.sent) == (None, [b"{"])


async def test_an_empty_answer_is_whole():
    made, (head, body), sink = await passed(streamed(status=204, lines=[(b"content-length", b"0")]))
    assert (body, made.status, sink.started) == (b"", 204, False)
    assert not any(name == b"content-length" for name, _ in head)


async def test_an_error_is_whole():
    made, (_, body), _ = await passed(reply_of(400, b'{"error":{}}'))
    assert (body, made.status, made.usage) == (b'{"error":{}}', 400, None)


@pytest.mark.parametrize("pieces", [(), (b"abc",)])
async def test_a_cut_is_an_error(pieces):
    reply = streamed(*pieces)
    reply.complete = False
    reply._error = UpstreamError("upstream_invalid_response", "x", reason="reset", sent=True)
    made = call_of(target=Way("a"), exchange=Sink())
    dialect = OPENAI["audio/speech"]
    with pytest.raises(UpstreamError):
        await passthrough.answer(made, dialect, reply, dialect.tap(wants_usage=True, cost=lambda usage: None), None)
    assert made.exchange.started == bool(pieces)
    assert made.error == ("upstream_invalid_response" if pieces else "")


def test_no_event_of_ours_gets_into_bytes():
    error = GatewayError("shutting_down", "x")
    assert relay.stream_error(call_of(stream=False), KEPT["openai"], error) == b""
    assert relay.stream_error(call_of(stream=True), KEPT["openai"], error).startswith(b"event: error\ndata: {")
