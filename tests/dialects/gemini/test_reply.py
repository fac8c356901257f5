"""Gemini's replies and streams: what is read of them, what a client is shown, and that both amount to the same."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from fastgw.call import Usage
from fastgw.dialects import framing, hub
from fastgw.dialects.gemini.codec import CODEC
from fastgw.errors import GatewayError
from tests.dialects.hub_values import ARGUMENTS, TEXT, WORD, pieces, usages
from tests.support.grammar_gemini import error_problems, frames, response_problems, stream_problems

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "gemini"
SIGNATURE = "EtgCCtUCAdHtim9/3zkq+Wcvw2kPq0w8mJ5Ab1c="
BOTH = ["text", "tools", "blocked", "grounded", "logprobs", "code"]


def fixture(name):
    return (FIXTURES / name).read_bytes()


def read_stream(raw, size=0):
    """The events of a stream that arrives in pieces of `size` bytes."""
    reader, events, tail = CODEC.reader(), [], b""
    for piece in [raw[at : at + size] for at in range(0, len(raw), size)] if size else [raw]:
        block, tail = framing.complete(tail + piece)
        for event in framing.events(block):
            data = framing.payload(event)
            if data is not None:
                events += reader.feed("", data)
    assert tail == b""
    return events + reader.end()


def gathered(events):
    """(the reply that a stream amounts to, whether it was complete), with all its choices."""
    reply, done, calls, chosen = hub.Reply("", "", []), False, {}, {}
    for event in events:
        kind = type(event)
        if kind is hub.Start:
            reply.id, reply.model, reply.created = event.id, event.model, event.created
        elif kind is hub.UsageSeen:
            reply.usage = hub.merge_usage(reply.usage, event.usage)
        elif kind is hub.Done:
            done = True
        else:
            choice = chosen.setdefault(getattr(event, "choice", 0), hub.Choice([]))
            _gather(choice, event, calls)
    reply.choices = [chosen[index] for index in sorted(chosen)]
    return reply, done


def _gather(choice, event, calls):
    kind, parts = type(event), choice.parts
    last = parts[-1] if parts else None
    if kind is hub.TextDelta:
        if type(last) is not hub.Text or last.signature is not None:
            last = hub.Text("")
            parts.append(last)
        last.text += event.text
        last.signature = event.signature
        choice.logprobs = event.logprobs or choice.logprobs
    elif kind is hub.ThinkDelta:
        if type(last) is not hub.Thinking or last.signature is not None or last.redacted is not None:
            last = hub.Thinking()
            parts.append(last)
        last.text += event.text
        last.signature, last.redacted = event.signature, event.redacted
    elif kind is hub.ToolStart:
        calls[event.choice, event.index] = hub.ToolCall(event.id, event.name, "", event.signature)
        parts.append(calls[event.choice, event.index])
    elif kind is hub.ToolDelta:
        calls[event.choice, event.index].arguments += event.fragment
    elif kind is hub.CitationDelta:
        text = next(part for part in reversed(parts) if type(part) is hub.Text)
        text.citations = Raw(
            json.dumps([*json.loads(bytes(text.citations or b"[]")), json.loads(bytes(event.raw))]).encode()
        )
    elif kind is hub.RefusalDelta:
        parts.append(hub.Refusal(event.text))
    elif kind is hub.OpaqueDelta:
        parts.append(hub.Opaque(event.dialect, event.kind, event.raw))
    elif kind is hub.Stop:
        choice.stop, choice.native_stop = event.reason, event.native


def plain(value):
    """Nouns as plain values, raw JSON read, so that they can be compared."""
    if isinstance(value, Raw):
        return json.loads(bytes(value))
    if isinstance(value, list):
        return [plain(one) for one in value]
    if hasattr(value, "__struct_fields__"):
        return {"_": type(value).__name__} | {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    return value


@pytest.mark.parametrize("name", BOTH)
def test_a_stream_amounts_to_the_whole_reply(name):
    whole = CODEC.read_reply(fixture(f"{name}.reply.json"))
    streamed, done = gathered(read_stream(fixture(f"{name}.sse")))
    assert done
    assert plain(streamed) == plain(whole)


@pytest.mark.parametrize("name", [*BOTH, "partial"])
def test_it_does_not_matter_how_a_stream_is_cut_into_pieces(name):
    raw = fixture(f"{name}.sse")
    expected = [plain(event) for event in read_stream(raw)]
    for size in (1, 2, 3, 7, 64, 1000):
        assert [plain(event) for event in read_stream(raw, size)] == expected


def test_text_thoughts_and_usage():
    reply = CODEC.read_reply(fixture("text.reply.json"))
    assert reply.choices[0].parts == [
        hub.Thinking("**Weighing** the options"),
        hub.Text("Paris\u2028is the capital.", signature="gemini:" + SIGNATURE),
    ]
    assert (reply.choices[0].stop, reply.choices[0].native_stop) == ("stop", "STOP")
    assert reply.usage == Usage(input=31, output=47, cached=16, reasoning=40)


def test_calls_without_ids_are_kept_apart_and_always_get_the_same_ids():
    first, again = (CODEC.read_reply(fixture("tools.reply.json")) for _ in range(2))
    calls = [part for part in first.choices[0].parts if type(part) is hub.ToolCall]
    assert [call.name for call in calls] == ["weather", "weather", "now"]
    assert calls[2].id == "fc-7"
    assert len({call.id for call in calls}) == 3
    assert all(call.id for call in calls)
    assert calls[0].signature == "gemini:" + SIGNATURE
    assert calls[1].signature is None
    assert calls[0].arguments == '{"city":"Paris","day":1}'
    assert first == again
    assert first.choices[0].stop == "tool_calls"


def test_results_of_gemini_s_own_tools_count_as_input():
    assert CODEC.read_reply(fixture("grounded.reply.json")).usage == Usage(input=67, output=2)


def test_a_blocked_prompt_was_filtered():
    choice = CODEC.read_reply(fixture("blocked.reply.json")).choices[0]
    assert (choice.parts, choice.stop, choice.native_stop) == ([], "content_filter", "PROHIBITED_CONTENT")


def test_citations_come_in_anthropic_s_shape():
    text = CODEC.read_reply(fixture("grounded.reply.json")).choices[0].parts[0]
    found = json.loads(bytes(text.citations))
    assert [(one["type"], one["url"], one["cited_text"]) for one in found] == [
        ("web_search_result_location", "https://a.example/1", "Paris"),
        ("web_search_result_location", "https://b.example/2", "Paris"),
    ]


def test_log_probabilities_come_in_openai_s_shape_and_go_back():
    reply = CODEC.read_reply(fixture("logprobs.reply.json"))
    (token,) = json.loads(bytes(reply.choices[0].logprobs))["content"]
    assert (token["token"], token["logprob"], token["bytes"]) == ("Hi", -0.00123, [72, 105])
    assert token["top_logprobs"][1] == {"token": "Hé", "logprob": -7.5, "bytes": [72, 195, 169]}
    shown = json.loads(CODEC.write_reply(reply, model="m"))["candidates"][0]["logprobsResult"]
    assert shown["chosenCandidates"] == [{"token": "Hi", "logProbability": -0.00123}]
    assert shown["topCandidates"][0]["candidates"][1] == {"token": "Hé", "logProbability": -7.5}


def test_arguments_in_pieces_are_put_together():
    reply, done = gathered(read_stream(fixture("partial.sse")))
    assert done
    book, now = reply.choices[0].parts
    text = '{"name":"Ada \\"L\\"","seats":[{"row":9007199254740993},{"a.b":true}],"note":null}'
    assert (book.name, book.arguments, book.signature) == ("book", text, "gemini:" + SIGNATURE)
    assert (now.name, now.arguments) == ("now", "")
    assert reply.choices[0].stop == "tool_calls"
    assert reply.usage == Usage(input=50, output=10)


@pytest.mark.parametrize("path", ["$", "$.a[5]", "$..a", "$.a" * 200, "x"])
def test_paths_that_lead_nowhere_are_refused(path):
    frame = {"functionCall": {"name": "f", "partialArgs": [{"jsonPath": path, "stringValue": "x"}]}}
    with pytest.raises(ValueError):
        CODEC.reader().feed("", json.dumps({"candidates": [{"content": {"parts": [frame]}}]}).encode())


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "error"),
        ("OTHER", "error"),
        ("A_REASON_OF_TOMORROW", "error"),
    ],
)
def test_reasons(reason, stop):
    body = {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": reason}]}
    choice = CODEC.read_reply(json.dumps(body).encode()).choices[0]
    assert (choice.stop, choice.native_stop) == (stop, reason)
    shown = json.loads(CODEC.write_reply(hub.Reply("", "m", [choice]), model="m"))["candidates"][0]["finishReason"]
    assert shown == (reason if "TOMORROW" not in reason else "OTHER")


def test_a_stream_that_stops_short_is_not_done():
    raw = fixture("text.sse")
    short = raw[: raw.rindex(b"data:")]
    assert gathered(read_stream(short))[1] is False
    assert read_stream(b"") == []


def test_unknown_parts_and_fields_are_skipped():
    body = (
        b'{"candidates":[{"content":{"parts":[{"hologram":1},{"text":"x","glow":2}]},"finishReason":"STOP"}],"new":3}'
    )
    assert CODEC.read_reply(body).choices[0].parts == [hub.Text("x")]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"error":{"code":500}}', b"nonsense", b"[" * 5000])
def test_what_is_no_reply_is_refused(body):
    with pytest.raises(ValueError):
        CODEC.read_reply(body)


def test_an_error_in_a_stream():
    events = read_stream(b'data: {"error":{"code":503,"message":"overloaded","status":"UNAVAILABLE"}}\r\n\r\n')
    assert [type(event) for event in events] == [hub.Fail]
    assert (events[0].problem.cause, events[0].problem.status) == ("overloaded", 503)


# --- for a client


SIGNATURES = st.none() | st.sampled_from(["gemini:" + SIGNATURE, "Er+/foreign==", "é not base64"])
SAID = st.one_of(
    st.builds(hub.Text, TEXT),
    st.builds(hub.Thinking, TEXT, SIGNATURES),
    st.builds(lambda redacted: hub.Thinking("", None, redacted), TEXT),
)


@st.composite
def replies(draw):
    parts = draw(st.lists(SAID, max_size=4))
    ids = draw(st.lists(WORD, max_size=3, unique=True))
    parts += [hub.ToolCall(one, draw(WORD), draw(ARGUMENTS), draw(SIGNATURES)) for one in ids]
    stop = "tool_calls" if ids else draw(st.sampled_from(["stop", "length", "content_filter", "error"]))
    return hub.Reply(draw(WORD), "m-1", [hub.Choice(parts, stop)], draw(st.none() | usages()))


def joined(reply):
    """The reply as the dialect tells it: pieces joined up to the next signature, cache writes not told apart."""
    (choice,) = reply.choices
    parts, calls = [], {}
    for part in choice.parts:
        if type(part) is hub.Text:
            _gather(hub.Choice(parts), hub.TextDelta(part.text, signature=part.signature), calls)
        elif type(part) is hub.Thinking:
            _gather(hub.Choice(parts), hub.ThinkDelta(part.text, part.signature, part.redacted), calls)
        else:
            parts.append(part)
    usage = reply.usage
    if usage is not None:
        usage = Usage(usage.input, usage.output, usage.cached, 0, usage.reasoning)
        usage = usage if usage.input or usage.output else None
    return hub.Reply(reply.id, reply.model, [hub.Choice(parts, choice.stop)], usage)


def without_native(reply):
    for choice in reply.choices:
        choice.native_stop = None
    return reply


@settings(max_examples=60, deadline=None)
@given(replies())
def test_a_reply_survives(reply):
    body = CODEC.write_reply(reply, model="asked")
    assert response_problems(json.loads(body)) == []
    assert without_native(CODEC.read_reply(body)) == joined(reply)


def events_of(reply, cut):
    yield hub.Start(reply.id, reply.model)
    number = 0
    for part in reply.choices[0].parts:
        if type(part) is hub.Text:
            yield from (hub.TextDelta(piece) for piece in pieces(part.text, cut))
        elif type(part) is hub.Thinking:
            yield from (hub.ThinkDelta(piece) for piece in pieces(part.text, cut))
            if part.signature is not None or part.redacted is not None:
                yield hub.ThinkDelta("", part.signature, part.redacted)
        else:
            yield hub.ToolStart(number, part.id, part.name, signature=part.signature)
            yield from (hub.ToolDelta(number, piece) for piece in pieces(part.arguments, cut))
            number += 1
    yield hub.Stop(reply.choices[0].stop)
    if reply.usage is not None:
        yield hub.UsageSeen(reply.usage)


def written(events):
    writer = CODEC.writer(model="asked", stream_usage=True)
    return b"".join([writer.feed(event) for event in events] + [writer.end()])


@settings(max_examples=60, deadline=None)
@given(replies(), st.integers(1, 9))
def test_a_stream_for_a_client_amounts_to_the_whole_reply(reply, cut):
    raw = written(events_of(reply, cut))
    assert stream_problems(raw) == []
    streamed, done = gathered(read_stream(raw))
    assert done
    assert without_native(streamed) == joined(reply)


def test_interleaved_calls_go_out_whole_and_in_order():
    raw = written(
        [
            hub.Start("r", "m"),
            hub.ToolStart(0, "a", "f"),
            hub.ToolDelta(0, '{"x":'),
            hub.ToolStart(1, "b", "g"),
            hub.ToolDelta(1, "{}"),
            hub.ToolDelta(0, "\n1e400}"),
            hub.Stop("tool_calls"),
        ]
    )
    assert stream_problems(raw) == []
    assert b'"args":{"x":1e400}' in raw
    calls = [part for frame in frames(raw)[0] for part in frame["candidates"][0]["content"]["parts"]]
    assert [part["functionCall"]["id"] for part in calls if "functionCall" in part] == ["a", "b"]


def test_a_call_that_is_over_does_not_wait_for_the_end():
    writer = CODEC.writer(model="m", stream_usage=True)
    writer.feed(hub.ToolStart(0, "a", "f"))
    writer.feed(hub.ToolDelta(0, '{"x":1}'))
    assert b'"functionCall"' in writer.feed(hub.ToolStart(1, "b", "g"))


def test_arguments_that_are_no_object_are_shown_as_text():
    reply = hub.Reply("r", "m", [hub.Choice([hub.ToolCall("a", "f", '{"x":')], "length")])
    part = json.loads(CODEC.write_reply(reply, model="m"))["candidates"][0]["content"]["parts"][0]
    assert part["functionCall"]["args"] == {"_invalid_json": '{"x":'}


def test_several_answers_and_usage_in_every_frame():
    usage = Usage(10, 5, 4, 0, 2)
    raw = written(
        [
            hub.UsageSeen(usage), hub.TextDelta("a", 0), hub.TextDelta("b", 1), hub.Stop("stop", 1),
            hub.Stop("length", 0, "max_tokens"),
        ]
    )  # fmt: skip
    assert stream_problems(raw) == []
    found = frames(raw)[0]
    assert all(
        frame["usageMetadata"] == {
            "promptTokenCount": 10, "cachedContentTokenCount": 4, "candidatesTokenCount": 3, "thoughtsTokenCount": 2,
            "totalTokenCount": 15,
        }
        for frame in found
    )  # fmt: skip
    assert [one["finishReason"] for one in found[-1]["candidates"]] == ["MAX_TOKENS", "STOP"]


def test_other_dialects_own_frames_are_not_shown():
    assert written([hub.OpaqueDelta("anthropic_messages", "server_tool_use", Raw(b'{"x":1}'))]).count(b"data:") == 1


def test_citations_become_grounding():
    cited = {"type": "web_search_result_location", "url": "https://a.example", "title": "A", "cited_text": "x"}
    raw = written([hub.TextDelta("né"), hub.CitationDelta(Raw(json.dumps(cited).encode())), hub.Stop("stop")])
    assert stream_problems(raw) == []
    grounding = frames(raw)[0][-1]["candidates"][0]["groundingMetadata"]
    assert grounding["groundingChunks"] == [{"web": {"uri": "https://a.example", "title": "A"}}]
    assert grounding["groundingSupports"][0]["segment"] == {"startIndex": 0, "endIndex": 3, "text": "x"}


@pytest.mark.parametrize(
    "error", [GatewayError("upstream_timeout", "too late"), hub.Problem("overloaded", 529, "busy", "overloaded_error")]
)
def test_a_failing_stream_never_looks_finished(error):
    writer = CODEC.writer(model="m", stream_usage=True)
    raw = writer.feed(hub.TextDelta("a")) + writer.fail(error, "call-1") + writer.end()
    assert stream_problems(raw, cut=True) == []
    last = frames(raw)[0][-1]
    assert error_problems(last) == []
    assert last["error"]["message"] == error.message
