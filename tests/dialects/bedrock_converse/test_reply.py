"""Answers of Converse, whole and streamed: golden shapes, every split, and what is none."""

import json
from base64 import b64encode
from pathlib import Path

import pytest
from botocore.eventstream import EventStreamBuffer
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st

from fastgw.call import Usage
from fastgw.dialects import hub
from fastgw.dialects.bedrock_converse.codec import CODEC
from fastgw.dialects.codec import Framed
from fastgw.dialects.event_stream import event, exception
from tests.dialects.hub_values import gather
from tests.support.grammar_bedrock_converse import service

FIXTURES = Path(__file__).parents[2] / "fixtures" / "bedrock_converse"
NAMES = ("text", "tools", "thinking")
ARGUMENTS = '{"sign":"WZPZ","limit":9007199254740993,"ratio":1.10,"note":"caf\\u00e9 \\/ 1e400"}'


def whole(name):
    return CODEC.read_reply((FIXTURES / f"{name}.reply.json").read_bytes())


def frames(name):
    """The bytes of a recorded stream, framed as they travel."""
    lines = (FIXTURES / f"{name}.frames").read_bytes().splitlines()
    return [event(kind.decode(), payload) for kind, _, payload in (line.partition(b" ") for line in lines)]


def run(pieces):
    cutter, reader, events = CODEC.frames(), CODEC.reader(), []
    for piece in pieces:
        for name, payload in cutter.feed(piece):
            events += reader.feed(name, payload)
    for name, payload in cutter.end():
        events += reader.feed(name, payload)
    return events + reader.end()


def fed(*payloads):
    """The events of these frames: (name, payload as a value)."""
    reader = CODEC.reader()
    return [one for name, payload in payloads for one in reader.feed(name, json.dumps(payload).encode())]


def delta(block=0, **said):
    return "contentBlockDelta", {"contentBlockIndex": block, "delta": said}


def test_it_says_how_its_streams_are_cut():
    assert isinstance(CODEC, Framed)


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_amounts_to_the_whole_reply(name):
    reply, done = gather(run(frames(name)))
    expected = whole(name)
    expected.service_tier = None  # told when a stream is over: too late
    parts = expected.choices[0].parts
    for i in reversed(range(1, len(parts))):
        if type(parts[i]) is type(parts[i - 1]) is hub.Text:
            parts[i - 1].text += parts.pop(i).text
    assert reply == expected
    assert done


@pytest.mark.parametrize("name", NAMES)
def test_every_split_gives_the_same_events(name):
    stream = b"".join(frames(name))
    expected = run([stream])
    assert expected[-1] == hub.Done()
    for at in range(0, len(stream), 3):
        assert run([stream[:at], stream[at:]]) == expected
    assert run([stream[at : at + 1] for at in range(len(stream))]) == expected


def test_calls():
    choice = whole("tools").choices[0]
    assert (choice.stop, choice.native_stop) == ("tool_calls", "tool_use")
    assert choice.parts == [
        hub.Text("I'll look both up."),
        hub.ToolCall("tooluse_kZJMlvQmRJ6eAyJE5GIl7Q", "top_song", ARGUMENTS),
        hub.ToolCall("tooluse_bCHXn6Q2SZqaMuPuZv2WoA", "now", "{}"),
    ]


def test_thinking_usage_and_stop_sequence():
    reply = whole("thinking")
    (choice,) = reply.choices
    assert choice.parts == [
        hub.Thinking("The user wants a short answer.", "EqQBCgIYAhIkMzY5ZjY0YzUtYzY4Zi00"),
        hub.Thinking(redacted="cmVkYWN0ZWQtcmVhc29uaW5n"),
        hub.Text("Forty-two."),
        hub.Text(" As the guide says."),
    ]
    assert (choice.stop, choice.native_stop, choice.stop_sequence) == ("stop", "stop_sequence", "###")
    assert reply.usage == Usage(12 + 2048 + 1500, 77, 2048, 1500)
    assert reply.service_tier == "priority"


@pytest.mark.parametrize(
    ("native", "stop"),
    [
        ("end_turn", "stop"), ("max_tokens", "length"), ("model_context_window_exceeded", "length"),
        ("guardrail_intervened", "content_filter"), ("content_filtered", "content_filter"),
        ("malformed_tool_use", "error"), ("malformed_model_output", "error"), ("of_next_year", "stop"),
    ],
)  # fmt: skip
def test_why_an_answer_ended(native, stop):
    body = {"output": {"message": {"content": [{"text": "x"}]}}, "stopReason": native}
    choice = CODEC.read_reply(json.dumps(body).encode()).choices[0]
    assert (choice.stop, choice.native_stop) == (stop, native)
    assert fed(("messageStop", {"stopReason": native})) == [hub.Stop(stop, native=native)]


def test_a_picture_and_unknown_blocks():
    image = {"image": {"format": "png", "source": {"bytes": "iVBORw0KGgo="}}}
    body = {"output": {"message": {"content": [{"hologram": 1}, image, {"text": None}, {}]}}}
    assert CODEC.read_reply(json.dumps(body).encode()).choices[0].parts == [hub.Image("image/png", "iVBORw0KGgo=")]


def test_the_provider_s_own_tools_are_its_own():
    use = {"toolUseId": "t", "name": "code", "input": {}, "type": "server_tool_use"}
    body = {"output": {"message": {"content": [{"toolUse": use}]}}, "stopReason": "end_turn"}
    choice = CODEC.read_reply(json.dumps(body).encode()).choices[0]
    assert (choice.parts, choice.stop) == ([], "stop")
    begun = ("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": use}})
    assert fed(begun, delta(toolUse={"input": "{}"}), ("contentBlockStop", {"contentBlockIndex": 0})) == []


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b'{"output":{}}', b'{"output":{"message":{}}}', b"[" * 100_000,
        b'{"output":{"message":{"content":[7]}}}', b'{"output":{"message":{"content":[{"text":7}]}}}',
        b'{"output":{"message":{"content":[{"toolUse":{"name":"f","input":{}}}]}}}',
        b'{"output":{"message":{"content":[{"toolUse":{"toolUseId":"i","input":{}}}]}}}',
    ],
)  # fmt: skip
def test_what_is_no_reply(body):
    with pytest.raises(ValueError):
        CODEC.read_reply(body)


@pytest.mark.parametrize(
    "usage", [None, 7, {"inputTokens": -1}, {"inputTokens": "3"}, {"inputTokens": 2**40}, {"outputTokens": 1.5}]
)
def test_counts_that_are_none(usage):
    body = {"output": {"message": {"content": []}}, "usage": usage}
    assert CODEC.read_reply(json.dumps(body).encode()).usage is None
    reader = CODEC.reader()
    reader.feed("messageStop", b'{"stopReason":"end_turn"}')
    assert reader.feed("metadata", json.dumps({"usage": usage}).encode()) == [hub.Done()]


# --- streams


def test_parallel_calls_keep_their_numbers_whatever_blocks_are_between():
    def begun(block, name):
        use = {"toolUseId": f"id_{name}", "name": name}
        return "contentBlockStart", {"contentBlockIndex": block, "start": {"toolUse": use}}

    said = fed(
        begun(1, "f"), delta(1, toolUse={"input": "{"}), begun(4, "g"), delta(4, toolUse={"input": "{}"}),
        delta(1, toolUse={"input": "}"}), ("contentBlockStop", {"contentBlockIndex": 4}),
        ("contentBlockStop", {"contentBlockIndex": 1}),
    )  # fmt: skip
    assert said == [
        hub.ToolStart(0, "id_f", "f"), hub.ToolDelta(0, "{"), hub.ToolStart(1, "id_g", "g"), hub.ToolDelta(1, "{}"),
        hub.ToolDelta(0, "}"),
    ]  # fmt: skip


def test_a_signature_is_told_even_without_the_end_of_its_block():
    thought = delta(reasoningContent={"text": "hm"}), delta(reasoningContent={"signature": "s"})
    for after, told in (
        (delta(1, text="x"), hub.TextDelta("x")),
        (delta(1, reasoningContent={"text": "more"}), hub.ThinkDelta("more")),
        (("messageStop", {"stopReason": "end_turn"}), hub.Stop("stop", native="end_turn")),
    ):
        assert fed(*thought, after) == [hub.ThinkDelta("hm"), hub.ThinkDelta(signature="s"), told]


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=5))
def test_redacted_reasoning_in_pieces_is_one(pieces):
    from_pieces = [base64_of(piece) for piece in pieces]
    deltas = [delta(reasoningContent={"redactedContent": piece}) for piece in from_pieces]
    (told,) = fed(*deltas, ("contentBlockStop", {"contentBlockIndex": 0}))
    assert told == hub.ThinkDelta(redacted=base64_of(b"".join(pieces)))


def base64_of(data):
    return b64encode(data).decode()


def test_redacted_reasoning_that_is_no_base64():
    pieces = [delta(reasoningContent={"redactedContent": piece}) for piece in ("!", "?")]
    with pytest.raises(ValueError, match="base64"):
        fed(*pieces, ("contentBlockStop", {"contentBlockIndex": 0}))


@pytest.mark.parametrize("count", range(8))
def test_a_stream_without_its_last_words_is_not_complete(count):
    stream = frames("text")[:count]
    assert (hub.Done() in run(stream)) == (count >= 7), "messageStop is enough where the connection ends well"


def test_metadata_alone_is_no_end():
    assert hub.Done() not in run([frames("text")[0], frames("text")[-1]])


def test_one_end_and_one_stop():
    events = run([*frames("text"), frames("text")[-2]])
    assert [events.count(hub.Done()), sum(type(one) is hub.Stop for one in events)] == [1, 1]


@pytest.mark.parametrize(
    ("name", "cause", "status"),
    [
        ("throttlingException", "rate_limit", 429), ("modelStreamErrorException", "server", 500),
        ("internalServerException", "server", 500), ("serviceUnavailableException", "overloaded", 503),
        ("validationException", "bad_request", 400), ("somethingNewException", "server", 500),
    ],
)  # fmt: skip
def test_an_exception_inside_a_stream(name, cause, status):
    *_, last = run([*frames("text")[:3], exception(name, b'{"message":"No."}')])
    assert last == hub.Fail(hub.Problem(cause, status, "No.", name))


def test_an_exception_says_what_the_model_said():
    payload = b'{"message":"It failed.","originalStatusCode":500,"originalMessage":"out of memory"}'
    (fail,) = CODEC.reader().feed("modelStreamErrorException", payload)
    assert fail.problem.message == "It failed. (out of memory)"


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("contentBlockDelta", b"{"), ("contentBlockDelta", b'{"delta":{"text":7}}'), ("messageStop", b"[]"),
        ("contentBlockStart", b'{"start":{"toolUse":{"name":"f"}}}'),
        ("contentBlockStart", b'{"start":{"toolUse":{"toolUseId":"i"}}}'), ("metadata", b"\xff"),
    ],
)  # fmt: skip
def test_a_known_event_that_is_broken(name, payload):
    with pytest.raises(ValueError):
        CODEC.reader().feed(name, payload)


EVENTS = ("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata",
          "throttlingException", ":error", "news")  # fmt: skip
FIELDS = st.sampled_from(
    ["delta", "start", "toolUse", "toolUseId", "name", "input", "text", "reasoningContent", "signature", "usage",
     "redactedContent", "contentBlockIndex", "stopReason", "inputTokens", "message", "additionalModelResponseFields",
     "output", "content", "citationsContent", "reasoningText", "image", "source", "bytes", "serviceTier", "type"]
)  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.tuples(st.sampled_from(EVENTS), ANYTHING), max_size=6))
def test_whatever_a_stream_says_is_read_or_refused(said):
    reader = CODEC.reader()
    for name, value in said:
        try:
            events = reader.feed(name, json.dumps(value).encode())
        except ValueError:
            continue
        assert all(isinstance(one, hub.Event) for one in events)
    assert all(isinstance(one, hub.Event) for one in reader.end())


@given(ANYTHING)
def test_whatever_a_reply_says_is_read_or_refused(value):
    for body in (value, {"output": {"message": {"content": [value]}}}, {"output": {"message": value}}):
        try:
            reply = CODEC.read_reply(json.dumps(body).encode())
        except ValueError:
            continue
        assert isinstance(reply, hub.Reply)


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_shapes_are_awss(name):
    """What AWS's own parser, which knows the service's model, makes of them."""
    shape = service().operation_model("Converse").output_shape
    body = (FIXTURES / f"{name}.reply.json").read_bytes()
    seen = create_parser("rest-json").parse({"status_code": 200, "headers": {}, "body": body}, shape)
    assert len(seen["output"]["message"]["content"]) == len(json.loads(body)["output"]["message"]["content"])
    assert not any("SDK_UNKNOWN_MEMBER" in block for block in seen["output"]["message"]["content"])
    buffer = EventStreamBuffer()
    buffer.add_data(b"".join(frames(name)))
    events = [one.to_response_dict() for one in buffer]
    known = service().operation_model("ConverseStream").output_shape.members["stream"].members
    names = [one["headers"][":event-type"] for one in events]
    assert [one for one in names if one not in known] == (["somethingNew"] if name == "thinking" else [])
