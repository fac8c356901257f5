"""Translated answers passed on: how their streams end, and how an upstream's errors are told."""

import json

import pytest

from fastgw.call import Usage
from fastgw.dialects.gemini.array import JsonArray
from fastgw.dialects.hub import Chat, Failed, Problem
from fastgw.dialects.openai import CHAT
from fastgw.dialects.registry import CODECS, GEMINI
from fastgw.errors import UpstreamError
from fastgw.gateway import relay
from fastgw.gateway.translate import EarlyFailure, Translation
from tests.gateway.fake_codec import PROBLEM, Named, frames
from tests.gateway.support import Way, call_of, reply_of


class Sent:
    """An exchange that keeps what was sent."""

    def __init__(self):
        self.started, self.out, self.headers = False, b"", []

    async def start_stream(self, status, headers):
        self.started, self.headers = True, headers

    async def send(self, data):
        self.out += data


class Upstream:
    """A reply that comes in these pieces; an exception is raised, the end of them is a clean one."""

    status, headers, body = 200, (), b""

    def __init__(self, *pieces):
        self.pieces = list(pieces)
        self.poked = False

    def header(self, name):
        return dict(self.headers).get(name)

    def take(self):
        piece = self.pieces.pop(0) if self.pieces else b""
        if piece is None and not self.poked:
            self.pieces.insert(0, None)  # once for nothing having arrived, once for what the poke finds
        self.poked = piece is None and not self.poked
        if isinstance(piece, Exception):
            raise piece
        return piece

    async def arrival(self):
        """A piece that is None stands for a poke."""


RESET = UpstreamError("upstream_unreachable", "It broke off.", reason="reset", sent=True)


async def relayed(*pieces):
    """(call, what was sent, the writer) of a translated stream that came in these pieces."""
    codec = Named()
    call = call_of(translation=Translation(codec, codec, Chat("m", [], "odd")), stream=True, target=Way("a"))
    call.exchange = Sent()
    await relay.stream(call, CHAT, Upstream(*pieces), call.translation.tap("m", call.id), 15.0)
    return call, call.exchange, codec.written


@pytest.mark.parametrize("after", [b"", RESET, b"data: half an ev"])
async def test_a_complete_stream_is_one_whatever_follows(after):
    call, sent, writer = await relayed(frames("start", "text"), frames("last"), after)
    assert (sent.out, call.error, writer.ends) == (b"StX.", "", 1)
    assert (call.usage, call.usage_source) == (Usage(output=5), "upstream")


@pytest.mark.parametrize("after", [b"", RESET, frames("junk")])
async def test_a_cut_stream_is_told_by_its_own_writer(after):
    call, sent, writer = await relayed(frames("start", "text", "in"), after)
    assert sent.out.startswith(b"St!")
    assert (writer.ends, len(writer.fails)) == (0, 1)
    assert call.error in ("upstream_unreachable", "upstream_invalid_response")
    assert call.usage == Usage(input=7, cached=2)


@pytest.mark.parametrize("after", [b"", RESET, frames("junk")])
async def test_a_stream_cut_before_its_content_is_an_error_answer(after):
    with pytest.raises(UpstreamError):
        await relayed(frames("start"), after)


async def test_an_error_in_the_stream_is_told_once():
    call, sent, writer = await relayed(frames("start", "text"), frames("fail"), RESET)
    assert (sent.out, call.error, len(writer.fails)) == (b"St!too much", "upstream_error_event", 1)
    with pytest.raises(EarlyFailure):
        await relayed(frames("start", "fail"))


@pytest.mark.parametrize(
    ("lines", "problem", "wanted"),
    [
        ((), PROBLEM, []),
        ((), Problem("rate_limit", 429, "x", retry_after=2.1), [(b"retry-after", b"3")]),
        (((b"retry-after", b"7"),), Problem("rate_limit", 429, "x", retry_after=7.0), [(b"retry-after", b"7")]),
    ],
)
def test_when_to_try_again_is_told_wherever_it_stood(lines, problem, wanted):
    call = call_of(translation=Translation(Named(), Named(), Chat("m", [], "odd")), stream=True)
    headers, body = relay.problem(call, reply_of(429, b"", lines), problem)
    assert [pair for pair in headers if pair[0] == b"retry-after"] == wanted
    assert (b"content-type", b"application/json") in headers
    assert (call.status, body, call.stream, call.error) == (
        503,
        problem.message.encode(),
        False,
        "upstream_error_event",
    )


def test_a_reply_that_is_an_error_is_answered_as_one():
    codec = Named(Failed(PROBLEM))
    call = call_of(translation=Translation(codec, codec, Chat("m", [], "odd")))
    headers, body = relay.whole(call, CHAT, reply_of(200, b"{}", ((b"request-id", b"req_up"),)))
    assert (call.status, body, call.error, call.usage) == (503, b"too much", "upstream_error_event", None)
    assert (b"x-fastgw-upstream-request-id", b"req_up") in headers


# --- streams that are one array


TEXT = b'data: {"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"},"index":0}]}\r\n\r\n'
STOP = b'data: {"candidates":[{"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":3}}\r\n\r\n'


async def as_array(*pieces, translated=False):
    """(call, what was sent) of Gemini's stream that came in these pieces, for a client that wants no events."""
    call = call_of(stream=True, target=Way("a"), form=JsonArray())
    tap = GEMINI.tap(wants_usage=True, cost=lambda usage: None)
    if translated:
        call.translation = Translation(CODECS["gemini"], CODECS["gemini"], Chat("m", [], "gemini"))
        tap = call.translation.tap("m", call.id)
    call.exchange = Sent()
    upstream = Upstream(*pieces)
    upstream.headers = [(b"content-type", b"text/event-stream")]
    await relay.stream(call, GEMINI, upstream, tap, 15.0)
    return call, call.exchange


@pytest.mark.parametrize("translated", [False, True])
async def test_a_stream_as_one_array(translated):
    call, sent = await as_array(TEXT, None, STOP, translated=translated)
    told = json.loads(sent.out)
    assert told[0]["candidates"][0]["content"]["parts"] == [{"text": "a"}]
    assert told[-1]["candidates"][0]["finishReason"] == "STOP"
    assert b"\n,\r\n" in sent.out  # silence
    assert [value for name, value in sent.headers if name == b"content-type"] == [b"application/json"]
    assert (call.error, call.usage.input) == ("", 3)


@pytest.mark.parametrize("translated", [False, True])
@pytest.mark.parametrize("after", [b"", RESET, b'data: {"candi\r\n\r\n', b'data: {"candi'])
async def test_an_array_that_breaks_off_tells_so_and_can_be_read(translated, after):
    call, sent = await as_array(TEXT, after, translated=translated)
    first, last = json.loads(sent.out)
    assert first["candidates"][0]["content"]["parts"] == [{"text": "a"}]
    assert last["error"]["status"] == "UNAVAILABLE"
    assert call.error in ("upstream_unreachable", "upstream_invalid_response")


@pytest.mark.parametrize("translated", [False, True])
async def test_an_upstreams_error_is_an_element_of_the_array(translated):
    failure = b'data: {"error":{"code":503,"message":"too much","status":"UNAVAILABLE"}}\r\n\r\n'
    call, sent = await as_array(TEXT, failure, translated=translated)
    assert [one.get("error", {}).get("message") for one in json.loads(sent.out)] == [None, "too much"]
    assert call.error == "upstream_error_event"
