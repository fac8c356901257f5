"""The pass-through made of a codec: bytes go on as they came, and what they say is known wherever they were cut."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw._core import fields
from fastgw.call import Usage
from fastgw.dialects import framing, registry
from fastgw.dialects.hub import Done, Fail, Problem, RefusalDelta, Start, Stop, TextDelta, ToolStart, UsageSeen
from fastgw.dialects.passing import PassingDialect, PassingTap
from fastgw.errors import GatewayError

FIXTURES = Path(__file__).parent.parent / "fixtures"
DIALECTS = {one.name: one for one in vars(registry).values() if isinstance(one, PassingDialect)}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_sequence": None}
COUNTED = {"input_tokens": 9, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 4}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "f"}
MESSAGES = [
    {"type": "message_start",
     "message": {**MESSAGE, "content": [], "stop_reason": None, "usage": {**COUNTED, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "\u2028é"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {**CALL, "input": {}}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a":1}'}},
    {"type": "content_block_stop", "index": 1},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
     "usage": {"output_tokens": 12}},
    {"type": "message_stop"},
]  # fmt: skip
OWN = {
    ("anthropic_messages", "own"): (
        "".join(f"event: {one['type']}\ndata: {json.dumps(one, ensure_ascii=False)}\n\n" for one in MESSAGES).encode(),
        json.dumps(
            {**MESSAGE, "content": [{"type": "text", "text": "\u2028é"}, {**CALL, "input": {"a": 1}}],
             "stop_reason": "tool_use", "usage": {**COUNTED, "output_tokens": 12}}
        ).encode(),
    )
}  # fmt: skip
STREAMS = list(OWN) + [
    (name, path.stem)
    for name in DIALECTS
    for path in sorted((FIXTURES / name).glob("*.sse"))
    if path.with_suffix(".reply.json").exists()
]
ERRORS = [(name, path.name) for name in DIALECTS for path in sorted((FIXTURES / name).glob("*.error.sse"))]
ENDS = pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])


def stream_of(name, stem):
    return OWN[name, stem][0] if (name, stem) in OWN else (FIXTURES / name / f"{stem}.sse").read_bytes()


def shortest(name):
    return min((stream_of(*one) for one in STREAMS if one[0] == name), key=len)


def run(dialect, pieces):
    """The tap after all pieces and a clean end, and all that came out."""
    tap = dialect.tap(wants_usage=True, cost=lambda usage: None)
    out = [tap.feed(piece) for piece in pieces]
    out.append(tap.finish())
    return tap, b"".join(out)


def facts(tap):
    return tap.usage, tap.complete, tap.failed, tap.events


def lines(data, end):
    return data.replace(b"\r\n", b"\n").replace(b"\n", end)


def test_every_passing_dialect_is_tried():
    assert set(DIALECTS) == {"anthropic_messages", "gemini", "openai_responses"}
    assert {name for name, _ in STREAMS} == set(DIALECTS)


@pytest.mark.parametrize(("name", "stem"), STREAMS)
@ENDS
def test_a_stream_passes_as_it_came(name, stem, end):
    dialect, data = DIALECTS[name], lines(stream_of(name, stem), end)
    tap, out = run(dialect, [data])
    assert out == data
    assert (tap.complete, tap.failed) == (True, False)
    assert tap.events > 0
    reply = OWN[name, stem][1] if (name, stem) in OWN else (FIXTURES / name / f"{stem}.reply.json").read_bytes()
    whole = dialect.usage(reply)
    assert whole is not None
    assert tap.usage == whole


@pytest.mark.parametrize("name", DIALECTS)
@ENDS
def test_every_split(name, end):
    dialect = DIALECTS[name]
    data = lines(shortest(name), end)
    expected = facts(run(dialect, [data])[0])
    for at in range(len(data)):
        tap, out = run(dialect, [data[:at], data[at:]])
        assert out == data
        assert facts(tap) == expected, at
    tap, out = run(dialect, [data[at : at + 1] for at in range(len(data))])
    assert (out, facts(tap)) == (data, expected)


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 1 << 20), max_size=12))
def test_any_splits(which, places):
    dialect, data = DIALECTS[which[0]], stream_of(*which)
    places = sorted({place % (len(data) + 1) for place in places})
    tap, out = run(dialect, [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)])
    assert out == data
    assert facts(tap) == facts(run(dialect, [data])[0])


@pytest.mark.parametrize("name", DIALECTS)
def test_a_cut_stream_is_never_complete(name):
    data = shortest(name)
    events = framing.events(data)
    for count in range(len(events) - 1):
        tap, out = run(DIALECTS[name], [b"".join(events[:count])])
        assert out == b"".join(events[:count])
        assert not tap.complete, events[count - 1]


@pytest.mark.parametrize("name", DIALECTS)
def test_the_last_event_may_lack_its_empty_line(name):
    data = shortest(name).rstrip(b"\r\n")
    tap, out = run(DIALECTS[name], [data])
    assert (out, tap.complete) == (data, True)


@pytest.mark.parametrize(("name", "file"), ERRORS)
def test_an_error_in_the_stream(name, file):
    data = (FIXTURES / name / file).read_bytes()
    tap, out = run(DIALECTS[name], [data])
    assert (out, tap.failed, tap.complete) == (data, True, False)


@pytest.mark.parametrize(
    "noise", [b": a comment\n\n", b"data: not json\n\n", b"data: " + b"[" * 100_000 + b"\n\n", b"\n\n", b"event: x\n\n"]
)
@pytest.mark.parametrize("name", DIALECTS)
def test_what_cannot_be_read_passes_too(name, noise):
    data = shortest(name).replace(b"\r\n", b"\n")
    tap, out = run(DIALECTS[name], [noise + data])
    assert out == noise + data
    assert facts(tap) == facts(run(DIALECTS[name], [data])[0])


def test_an_endless_event():
    tap = registry.GEMINI.tap(wants_usage=True, cost=lambda usage: None)
    with pytest.raises(ValueError, match="8 MiB"):
        for _ in range(10):
            tap.feed(b"x" * (1 << 20))


SAYS = {
    b"start": [Start("i", "m")],
    b"text": [TextDelta("a"), TextDelta("b")],
    b"refuse": [RefusalDelta("no")],
    b"tool": [ToolStart(0, "i", "n")],
    b"in": [UsageSeen(Usage(input=7, cached=2))],
    b"out": [UsageSeen(Usage(output=5))],
    b"more": [UsageSeen(Usage(output=9, reasoning=4))],
    b"stop": [Stop("stop")],
    b"fail": [Fail(Problem("server", 500, "x"))],
    b"done": [Done()],
}


class Scripted:
    """A reader that says what the data names."""

    def feed(self, name, data):
        if data == b"deep":
            raise RecursionError
        return SAYS[data]

    def end(self):
        return [UsageSeen(Usage(output=10))]


def test_usage_comes_in_pieces_and_the_last_word_of_each_counts():
    tap = PassingTap(Scripted())
    for word in (b"start", b"in", b"deep", b"text", b"out", b"more"):
        tap.feed(b"data: %b\n\n" % word)
    assert tap.usage == Usage(input=7, cached=2, output=9, reasoning=4)
    assert tap.events == 2
    assert tap.finish() == b""
    assert tap.usage == Usage(input=7, cached=2, output=10, reasoning=4)


def test_what_counts_as_content():
    tap = PassingTap(Scripted())
    for word, count in ((b"start", 0), (b"in", 0), (b"refuse", 1), (b"tool", 2), (b"stop", 3), (b"done", 3)):
        tap.feed(b"data: %b\n\n" % word)
        assert tap.events == count
    assert (tap.complete, tap.failed) == (True, False)
    tap.feed(b"data: fail\n\n")
    assert tap.failed


@pytest.mark.parametrize("name", DIALECTS)
def test_a_request_is_edited_only_where_the_model_is_another(name):
    raw = b'{ "model" : "ours", "n": 12345678901234567890, "x": 1e400, "\\u0061":[] }'
    body = fields.scan(raw)
    assert DIALECTS[name].prepare(body, "theirs", rename=False, stream=True) == raw
    assert DIALECTS[name].prepare(body, 't"s', rename=True, stream=False) == raw.replace(b'"ours"', b'"t\\"s"')
    bare = fields.scan(b'{"contents": []}')
    assert DIALECTS[name].prepare(bare, "theirs", rename=True, stream=False) == b'{"contents": []}'


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"<html>", b'{"usage":7}', b"[" * 100_000, b"\xff"])
def test_a_reply_without_usage(name, body):
    assert DIALECTS[name].usage(body) is None


@pytest.mark.parametrize("name", DIALECTS)
def test_errors_are_in_the_dialects_shape(name):
    dialect = DIALECTS[name]
    error = GatewayError("rate_limit_exceeded", "Too fast.", retry_after=2)
    assert json.loads(dialect.error(error, "req_1"))["error"]["message"] == "Too fast."
    event = dialect.stream_error(error, "req_1")
    assert framing.complete(event) == (event, b"")
    tap, _ = run(dialect, [event])
    assert (tap.failed, tap.complete) == (True, False)
    assert b"Too fast." in event


def test_the_rest_of_a_dialect():
    dialect = registry.RESPONSES
    assert (dialect.name, dialect.streams, dialect.required) == ("openai_responses", True, (b"model",))
    assert dialect.wants_usage(fields.scan(b"{}"))
    assert dialect.estimate_input(400) == 100
    assert msgspec.json.decode(dialect.error(GatewayError("invalid_json", "x"), "r"))["error"]["code"] == "invalid_json"
