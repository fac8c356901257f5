"""Wire formats, as the gateway calls them: what a client sends, what a provider answers, whole or as a stream.

Whatever comes in, only the errors that the request path expects may leave, and whatever is written out of it is JSON
in order: valid, no field twice.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any
from zlib import crc32

from fastgw._core import fields
from fastgw.call import Usage
from fastgw.dialects import framing, opaque, openai, registry
from fastgw.dialects.base import Tap
from fastgw.dialects.gemini.array import JsonArray
from fastgw.dialects.hub import Chat, Problem, Target, Turn
from fastgw.errors import GatewayError
from fastgw.gateway.responses_state import SealingTap
from fastgw.gateway.translate import EarlyFailure, between, read_chat
from tests.fuzz.wire import pieces

Run = Callable[[bytes], object]
LATE = GatewayError("upstream_timeout", "too late")
ASKED = {
    "embeddings": ("openai_embeddings", b'{"model":"m","input":["a","b"]}'),
    "count": ("anthropic_count", b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'),
}
MADE_UP = re.compile(rb"_[0-9a-f]{24,}")
"""Ids that a writer draws by lot."""
PASSED = {"anthropic_messages": registry.ANTHROPIC, "gemini": registry.GEMINI, "openai_responses": registry.RESPONSES}


def check_json(document: bytes) -> None:
    """Raises AssertionError for what is not one JSON object in order; what we wrap may be deeper than we let in."""
    try:
        fields.scan(document)
    except fields.FieldError as error:
        if "nested too deeply" not in error.message:
            raise AssertionError(f"{error.message}: {document[:300]!r}") from None


# -- requests ----------------------------------------------------------------------------------------------------------


def request(operation: str, name: str) -> Run:
    """What a client of this codec sends, written for every provider's. Raises FieldError and GatewayError."""
    one = registry.OPERATIONS[operation]
    client = one.clients[name]

    def run(data: bytes) -> object:
        body = fields.scan(data).replace({})
        asked = read_chat(client, body, model="m", stream=bool(len(data) & 1))
        return [_written(client, upstream, asked, one.streams) for upstream in one.providers.values()]

    return run


def _written(client: Any, upstream: Any, asked: Any, streams: bool) -> str:
    """Both with everything given up that the provider cannot do, and with nothing."""
    told = ""
    for drop in (frozenset({"*"}), frozenset()):
        try:
            payload = between(client, upstream, asked, 0, streams=streams).request(Target("m", drop=drop))
        except GatewayError as error:
            told += error.param or "?"
        else:
            check_json(payload)
            told += "ok "
    return told[:24]


# -- whole replies -----------------------------------------------------------------------------------------------------


def reply(operation: str, name: str) -> Run:
    """What a provider of this codec answers, written for every client's."""
    one = registry.OPERATIONS[operation]
    upstream = one.providers[name]
    passing = PASSED.get(name)

    def run(data: bytes) -> object:
        if passing is not None:
            passing.usage(data)
        openai.CHAT.usage(data)
        opaque.RERANK.usage(data)
        return [
            _told(client, upstream, _asked(operation, client.name), data, one.streams)
            for client in _others(one.clients, name)
        ]

    return run


def _others(clients: Mapping[str, Any], name: str) -> list[Any]:
    """Between two of one dialect nothing is translated."""
    return [client for client in clients.values() if client.name != name]


def _asked(operation: str, name: str) -> Any:
    if operation == "chat":
        return Chat("m", [Turn("user", [])], name)
    asking, body = ASKED[operation]
    return read_chat(registry.OPERATIONS[operation].clients[asking], body, model="m", stream=False)


def _told(client: Any, upstream: Any, asked: Any, data: bytes, streams: bool) -> str:
    translation = between(client, upstream, asked, 1_700_000_000, streams=streams, call_id="req_1")
    try:
        body, usage = translation.whole(data, "shown", 7)
    except EarlyFailure as failure:
        return _problem(client, failure.problem)
    except GatewayError as error:
        return error.kind
    assert isinstance(usage, Usage | None)
    check_json(body)
    return "told"


def _problem(client: Any, problem: Problem) -> str:
    status, body = client.write_problem(problem, "req_1")
    assert 400 <= status <= 599, status
    check_json(body)
    return problem.cause


def error(operation: str, name: str) -> Run:
    """A provider's error answer: always understood. Up to a `~`, if there is one, it is the `retry-after` header."""
    one = registry.OPERATIONS[operation]
    upstream = one.providers[name]

    def run(data: bytes) -> object:
        wait, mark, body = data[:200].partition(b"~")
        headers, data = ({b"retry-after": wait}, body + data[200:]) if mark else ({}, data)
        status = (400, 401, 403, 404, 429, 500, 529)[len(data) % 7]
        return [_failed(client, upstream, status, headers, data) for client in _others(one.clients, name)]

    return run


def _failed(client: Any, upstream: Any, status: int, headers: dict[bytes, bytes], data: bytes) -> str:
    problem = between(client, upstream, None, 0, streams=False).read_error(status, headers, data)
    assert problem.retry_after is None or 0 <= problem.retry_after < 1e9, problem.retry_after
    return _problem(client, problem)


# -- streams -----------------------------------------------------------------------------------------------------------


def stream(name: str) -> Run:
    """A provider's stream, however it is cut: the same frames for every client, each with JSON in it."""
    upstream = registry.UPSTREAMS[name]

    def run(data: bytes) -> object:
        return [_translated(client, upstream, data) for client in _others(registry.CODECS, name)]

    return run


def _translated(client: Any, upstream: Any, data: bytes) -> object:
    chat = Chat("m", [], client.name, stream=True, stream_usage=bool(len(data) & 1))
    said = [
        _taken(between(client, upstream, chat, 1, streams=True, call_id="req_1"), parts)
        for parts in ([data], pieces(data))
    ]
    (first, ended, _), (second, other, late) = said
    # What stands before a fault may be told or not: it is cut off anyhow. So is what comes after the stream's own end.
    assert ended == other or late, said
    if ended == "end" and not late:
        assert first == second, said
    return ended, len(first) > 0


def _taken(translation: Any, parts: list[bytes]) -> tuple[bytes, str, bool]:
    """What the client is sent, how the stream ended, and whether more came after its own end."""
    tap = translation.tap("shown", "req_1")
    out, ended, late = b"", "end", False
    try:
        for part in parts:
            late = late or (tap.complete and bool(part.strip()))
            out += tap.feed(part)
        out += tap.finish()
    except EarlyFailure as failure:
        return b"", failure.problem.cause, late
    except ValueError:
        ended = "fault"
        out += tap.fail(LATE)
    check_frames(out)
    return MADE_UP.sub(b"_", out), ended, late


def check_frames(out: bytes) -> None:
    """Raises AssertionError for events that are not whole, or whose data is no JSON."""
    block, rest = framing.complete(out)
    assert rest == b"", rest[:200]
    for event in framing.events(block):
        payload = framing.payload(event)
        if payload is not None and payload != b"[DONE]":
            check_json(payload)


def tap(make: Callable[[bool], Tap], *, edits: bool = False, guesses: bool = False) -> Run:
    """A stream that passes: the bytes as they came (but where a dialect `edits`), and the same however they are cut.

    `guesses`: whether it is complete may be told from the looks of events that are not JSON.
    """

    def run(data: bytes) -> object:
        said = [_passed(make(bool(len(data) & 1)), parts) for parts in ([data], pieces(data))]
        if guesses:
            said = [(out, None, *rest) for out, _, *rest in said]
        assert said[0] == said[1], said
        if not edits:
            assert said[0][0] == data
        return said[0][1:]

    return run


def _passed(one: Tap, parts: list[bytes]) -> tuple[Any, ...]:
    out = b"".join([one.feed(part) for part in parts]) + one.finish()
    return out, one.complete, one.failed, repr(one.usage)


def sealing(wants_usage: bool) -> Tap:
    """OpenAI's Responses with the ids in them replaced."""
    return SealingTap(
        registry.RESPONSES.tap(wants_usage=wants_usage, cost=_free), lambda ident: f"resp_{crc32(ident.encode())}"
    )


def _free(usage: Usage) -> int:
    return 12_345


TAPS = {
    "openai_chat": tap(lambda wants: openai.CHAT.tap(wants_usage=wants, cost=_free), edits=True, guesses=True),
    "sealing": tap(sealing, edits=True),
    "opaque": tap(lambda wants: opaque.RERANK.tap(wants_usage=wants, cost=_free)),
    **{name: tap(lambda wants, one=one: one.tap(wants_usage=wants, cost=_free)) for name, one in PASSED.items()},
}


def array(data: bytes) -> object:
    """Gemini's array made of a stream's events: JSON whatever the events say. Raises ValueError."""
    one = JsonArray()
    out = b"".join([one.feed(part) for part in framing.events(framing.complete(data)[0])]) + one.end()
    # Bytes that are no UTF-8 pass as they are.
    check_json(b'{"array":' + out.decode("utf-8", "replace").encode() + b"}")
    return len(out) > 2
