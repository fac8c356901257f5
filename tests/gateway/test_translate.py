"""Reading with one dialect and writing with another: what is held back, how a stream ends, how errors are told."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.call import Usage
from fastgw.dialects import framing, openai
from fastgw.dialects.hub import (
    Chat,
    Choice,
    Done,
    Fail,
    Failed,
    Invalid,
    Reply,
    Stop,
    Target,
    Text,
)
from fastgw.dialects.registry import CODECS, OPERATIONS
from fastgw.errors import GatewayError, UpstreamError
from fastgw.gateway import translate
from fastgw.gateway.translate import EarlyFailure, TranslatingTap, Translation, WholeTranslation, read_chat
from tests.gateway.fake_codec import PROBLEM, SAYS, Odd, Reader, Writer, frames


def tap_of(*at_end):
    writer = Writer()
    return TranslatingTap(Reader(*at_end), writer, "req_1"), writer


def feed(tap, *words):
    """What comes out for each of these events, fed alone."""
    return [tap.feed(frames(word)) for word in words]


def test_nothing_goes_out_before_the_first_content():
    tap, _ = tap_of()
    assert feed(tap, "start", "in", "nothing", "text", "text") == [b"", b"", b"", b"St", b"t"]
    assert tap.events == 2


@pytest.mark.parametrize(
    ("word", "out"), [("text", b"St"), ("think", b"Sh"), ("tool", b"Sc"), ("other", b"So"), ("stop", b"SX")]
)
def test_what_is_content(word, out):
    tap, _ = tap_of()
    assert feed(tap, "start", word) == [b"", out]


def test_a_whole_stream():
    tap, writer = tap_of()
    assert feed(tap, "start", "text", "last") == [b"", b"St", b"X."]
    assert tap.finish() == b""
    assert (tap.complete, tap.failed, writer.ends) == (True, False, 1)
    assert tap.usage == Usage(output=5)


def test_the_clients_end_does_not_wait_for_the_connections():
    tap, writer = tap_of()
    assert tap.feed(frames("start", "two", "stop", "done")) == b"SttX."
    assert feed(tap, "text", "stop", "done", "fail") == [b""] * 4
    assert (tap.finish(), tap.complete, tap.failed, writer.ends) == (b"", True, False, 1)


def test_an_answer_without_content_is_one():
    tap, _ = tap_of()
    assert feed(tap, "start", "in", "done") == [b"", b"", b"S."]
    assert tap.complete


def test_an_end_that_only_the_closed_connection_tells():
    tap, _ = tap_of(Stop("length"), Done())
    assert feed(tap, "start", "text") == [b"", b"St"]
    assert (tap.finish(), tap.complete) == (b"X.", True)


def test_the_last_event_may_lack_its_empty_line():
    tap, _ = tap_of()
    assert tap.feed(frames("start", "text") + b"data: last\n") == b"St"
    assert (tap.finish(), tap.complete) == (b"X.", True)


def test_a_cut_stream_has_no_end():
    for count in range(4):
        tap, writer = tap_of()
        feed(tap, *["start", "text", "tool", "stop"][:count])
        assert b"." not in tap.finish()
        assert (tap.complete, tap.failed, writer.ends) == (False, False, 0)


def test_a_cut_stream_without_content_says_nothing_at_all():
    tap, _ = tap_of()
    assert feed(tap, "start", "in") == [b"", b""]
    assert tap.finish() == b""
    assert tap.usage == Usage(input=7, cached=2)


@pytest.mark.parametrize("before", [[], ["start"], ["start", "in", "nothing"]])
def test_an_error_before_any_content_can_still_be_the_answer(before):
    tap, writer = tap_of()
    feed(tap, *before)
    with pytest.raises(EarlyFailure) as caught:
        feed(tap, "fail")
    assert caught.value.problem is PROBLEM
    assert writer.fails == []


def test_an_error_at_the_very_end_of_a_stream_without_content():
    tap, _ = tap_of(Fail(PROBLEM))
    feed(tap, "start")
    with pytest.raises(EarlyFailure):
        tap.finish()


@pytest.mark.parametrize("after", ["text", "think", "tool", "stop", "done"])
def test_nothing_goes_out_behind_an_error_it_came_with(after):
    tap, writer = tap_of()
    feed(tap, "text")
    assert tap.feed(frames("text", "fail", after, "out")) == b"t!too much"
    assert feed(tap, after) == [b""]
    assert (tap.events, tap.failed, tap.usage, writer.ends) == (2, True, Usage(output=5), 0)


@pytest.mark.parametrize("words", [["text", "fail"], ["texfail"]])
def test_an_error_after_content_is_told_in_the_stream(words):
    tap, writer = tap_of()
    out = b"".join(feed(tap, "start", *words))
    assert out == b"St!too much"
    assert writer.fails == [(PROBLEM, "req_1")]
    assert feed(tap, "text", "more", "fail", "last") == [b""] * 4
    assert tap.finish() == b""
    assert (tap.failed, tap.complete, writer.ends, len(writer.fails)) == (True, False, 0, 1)
    assert tap.usage == Usage(output=5, reasoning=1), "what was used counts, failed or not"


def test_usage_comes_in_pieces_and_the_last_word_of_each_counts():
    tap, _ = tap_of()
    feed(tap, "start", "in", "text", "out", "more")
    assert tap.usage == Usage(input=7, cached=2, output=9, reasoning=1)


def test_names_of_events_reach_the_reader():
    reader = Reader()
    tap = TranslatingTap(reader, Writer(), "r")
    tap.feed(b"event: one\ndata: start\n\ndata: text\nevent: two\n\n: comment\n\nevent: three\n\ndata: text\n\n")
    assert reader.names == ["one", "two", ""]


@pytest.mark.parametrize("word", ["junk", "deep"])
def test_what_is_no_stream_of_the_dialect(word):
    tap, _ = tap_of()
    feed(tap, "start", "text")
    with pytest.raises(ValueError, match=r"dialect|deep"):
        feed(tap, word)
    assert not tap.complete


def test_an_endless_event():
    tap, _ = tap_of()
    with pytest.raises(ValueError, match="8 MiB"):
        for _ in range(10):
            tap.feed(b"x" * (1 << 20))


@given(
    st.lists(st.sampled_from([word for word in SAYS if "fail" not in word]), max_size=8),
    st.lists(st.integers(0, 400), max_size=8),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_where_a_stream_is_cut_changes_nothing(words, places, end):
    data = frames("start", "text", *words).replace(b"\n", end)
    results = []
    places = sorted({place % (len(data) + 1) for place in places})
    for pieces in ([data], [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]):
        tap, writer = tap_of()
        out = b"".join([*map(tap.feed, pieces), tap.finish()])
        results.append((out, tap.usage, tap.complete, writer.ends))
        assert writer.ends == tap.complete == (b"." in out)
    # Events behind the end are written or not by where they arrive; everything else is the same.
    if not {"done", "last"} & set(words[:-1]):
        assert results[0] == results[1]


# Translation


def chat(text="hi", **more):
    return read_chat(
        CODECS["openai_chat"],
        json.dumps({"model": "ours", "messages": [{"role": "user", "content": text}], **more}).encode(),
        model="ours",
        stream=False,
    )


def between(client="openai_chat", upstream="gemini", **more):
    return Translation(CODECS[client], CODECS[upstream], chat(**more))


def test_the_request():
    sent = json.loads(between().request(Target("theirs")))
    assert sent["contents"] == [{"role": "user", "parts": [{"text": "hi"}]}]


def test_what_a_provider_cannot_do_is_refused_by_name():
    with pytest.raises(GatewayError) as caught:
        between(logit_bias={"5": 1}).request(Target("theirs"))
    assert (caught.value.row.code, caught.value.status, caught.value.param) == ("unsupported_field", 400, "logit_bias")
    assert "logit_bias" in caught.value.message
    assert "theirs" in caught.value.message


@pytest.mark.parametrize("drop", [{"logit_bias"}, {"*"}])
def test_or_left_out_and_listed_where_the_operator_allows_it(drop):
    translation = between(logit_bias={"5": 1})
    sent = json.loads(translation.request(Target("theirs", drop=frozenset(drop))))
    assert translation.dropped == ["logit_bias"]
    assert "5" not in json.dumps(sent)
    with pytest.raises(GatewayError):
        between(logit_bias={"5": 1}).request(Target("theirs", drop=frozenset({"seed"})))


def test_a_request_that_is_none():
    for body, field in ((b'{"messages": 7}', "messages"), (b'{"messages": [{"role": "king"}]}', "messages")):
        with pytest.raises(GatewayError) as caught:
            read_chat(CODECS["openai_chat"], body, model="m", stream=False)
        assert (caught.value.row.code, caught.value.status) == ("invalid_type", 400)
        assert (caught.value.param or "").startswith(field)


@pytest.mark.parametrize("name", CODECS)
def test_a_request_nested_without_end_is_the_callers_error(name):
    deep = b"[" * 100_000 + b"]" * 100_000
    for field in (b"messages", b"contents", b"input", b"tools"):
        with pytest.raises(GatewayError) as caught:
            read_chat(CODECS[name], b'{"model":"m","%b":%b}' % (field, deep), model="m", stream=False)
        assert caught.value.status == 400


def test_a_whole_reply():
    reply = Reply("id", "theirs", [Choice([Text("hello")], "stop")], Usage(3, 2))
    body, usage = Translation(CODECS["openai_chat"], Odd(reply), chat()).whole(b"", "ours")
    told = json.loads(body)
    assert told["choices"][0]["message"]["content"] == "hello"
    assert (told["usage"]["prompt_tokens"], told["usage"]["completion_tokens"]) == (3, 2)
    assert usage == Usage(3, 2)


@pytest.mark.parametrize("error", [ValueError("what"), RecursionError()])
def test_a_whole_reply_that_is_none(error):
    with pytest.raises(UpstreamError) as caught:
        Translation(CODECS["openai_chat"], Odd(error), chat()).whole(b"", "ours")
    assert (caught.value.row.code, caught.value.status, caught.value.reason) == (
        "upstream_invalid_response",
        502,
        "invalid",
    )


def test_a_whole_reply_that_is_an_error_is_told_as_what_it_is():
    with pytest.raises(EarlyFailure) as caught:
        Translation(CODECS["openai_chat"], Odd(Failed(PROBLEM)), chat()).whole(b"", "ours")
    assert caught.value.problem is PROBLEM


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("body", [b"", b"[", b"<html>", b"[]", b"7", b"[" * 100_000, b"\xff"])
def test_no_reply_of_any_dialect(name, body):
    with pytest.raises((UpstreamError, EarlyFailure)):
        Translation(CODECS["openai_chat"], CODECS[name], chat()).whole(body, "ours")


def test_an_invalid_request_names_its_field():
    with pytest.raises(GatewayError) as caught:
        read_chat(Odd(Invalid("input[0].role", "unknown")), b"{}", model="m", stream=False)
    assert (caught.value.param, caught.value.message) == ("input[0].role", "input[0].role: unknown")


@pytest.mark.parametrize(
    ("cause", "upstream", "client", "status", "word"),
    [
        ("rate", "gemini", "openai_chat", 429, "rate_limit"),
        ("rate", "openai_chat", "gemini", 429, "RESOURCE_EXHAUSTED"),
        ("rate", "openai_chat", "openai_responses", 429, "rate_limit"),
        ("overloaded", "openai_chat", "gemini", 503, "UNAVAILABLE"),
        ("overloaded", "openai_chat", "openai_responses", 503, "server_error"),
    ],
)
def test_errors_are_told_in_the_clients_words(cause, upstream, client, status, word):
    translation = Translation(CODECS[client], CODECS[upstream], chat())
    code = {"rate": 429, "overloaded": 529}[cause]
    problem = translation.read_error(code, {b"retry-after": b"3"}, b'{"error":{"message":"Slow down."}}')
    assert (problem.retry_after, problem.message) == (3.0, "Slow down.")
    got, body = translation.problem(problem, "req_1")
    assert got == status
    assert "Slow down." in body.decode()
    assert word in body.decode()


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"{", b"[]", b'{"error":7}', b"[" * 100_000])
def test_any_body_of_an_error_can_be_told(name, body):
    for client in CODECS.values():
        translation = Translation(client, CODECS[name], chat())
        status, told = translation.problem(translation.read_error(502, {}, body), "req_1")
        assert status >= 500
        assert json.loads(told)["error"]["message"]


def test_a_failure_is_told_by_the_writer_of_the_stream():
    translation = Translation(CODECS["openai_responses"], CODECS["openai_chat"], chat(stream=True))
    tap = translation.tap("ours", "req_1")
    chunk = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "hi"}}]}
    out = tap.feed(b"data: %b\n\n" % json.dumps(chunk).encode())
    out += translation.fail(UpstreamError("upstream_unreachable", "It went.", reason="reset", sent=True), "req_1")
    events = [json.loads(framing.payload(event)) for event in framing.events(out)]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] in ("error", "response.failed")
    assert tap.failed
    assert tap.finish() == b""


def test_a_failure_before_there_is_a_stream():
    told = Translation(CODECS["openai_chat"], CODECS["gemini"], chat()).fail(GatewayError("shutting_down", "Bye."), "r")
    assert json.loads(framing.payload(told))["error"]["message"] == "Bye."


def test_usage_is_streamed_to_those_who_ask():
    usage = {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP", "index": 0}],
             "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}}  # fmt: skip
    for asked in (True, False):
        translation = Translation(
            CODECS["openai_chat"], CODECS["gemini"], Chat("m", [], "openai_chat", stream_usage=asked)
        )
        tap = translation.tap("ours", "req_1")
        out = tap.feed(b"data: %b\r\n\r\n" % json.dumps(usage).encode()) + tap.finish()
        assert (b'"prompt_tokens":3' in out) == asked
        assert out.endswith(b"data: [DONE]\n\n")
        assert tap.usage == Usage(3, 2)


def test_a_translated_stream_tells_its_cost_and_a_time():
    """Gemini tells no time, and the cost is the gateway's own to tell."""
    frame = b'data: {"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}],'
    frame += b'"usageMetadata":{"promptTokenCount":2,"candidatesTokenCount":1,"totalTokenCount":3}}\r\n\r\n'
    price = openai.CHAT.tap(wants_usage=True, cost=lambda usage: usage.input + usage.output)
    writer = CODECS["openai_chat"].writer(model="m", stream_usage=True)
    tap = TranslatingTap(CODECS["gemini"].reader(), writer, "req_1", 1_700_000_000, price.feed)
    out = tap.feed(frame) + tap.finish()
    chunks = [json.loads(line[6:]) for line in out.split(b"\n\n") if line and b"[DONE]" not in line]
    assert {chunk["created"] for chunk in chunks} == {1_700_000_000}
    assert chunks[-1]["usage"]["cost"] == 3e-9
    assert out.endswith(b"data: [DONE]\n\n")


# --- operations without streams

EMBED = b'{"model":"m","input":"a text","encoding_format":"base64"}'


def embedding(provider="gemini_batch_embed", body=EMBED):
    """A translation from OpenAI's embeddings."""
    one = OPERATIONS["embeddings"]
    client = one.clients["openai_embeddings"]
    asked = read_chat(client, body, model="m", stream=False)
    return translate.between(client, one.providers[provider], asked, 0, streams=one.streams)


def test_what_translates_is_what_the_operation_needs():
    codecs = CODECS["openai_chat"], CODECS["gemini"]
    assert type(translate.between(*codecs, chat(), 0, streams=OPERATIONS["chat"].streams)) is Translation
    assert type(embedding()) is WholeTranslation


def test_a_reply_is_written_as_it_was_asked_for():
    body, usage = embedding().whole(b'{"embeddings":[{"values":[1.0]}]}', "ours", 7)
    told = json.loads(body)
    assert (told["data"][0]["embedding"], told["model"], usage) == ("AACAPw==", "ours", None)
    assert told["usage"] == {"prompt_tokens": 7, "total_tokens": 7, "estimated": True}
    body, usage = embedding().whole(b'{"embedding":{"values":[1]},"usageMetadata":{"promptTokenCount":3}}', "ours", 7)
    assert (json.loads(body)["usage"]["prompt_tokens"], usage) == (3, Usage(input=3))


@pytest.mark.parametrize(
    "reply", [b"", b"{}", b'{"embeddings":[]}', b'{"embeddings":[{"values":["a"]}]}', b'{"embedding":' + b"[" * 9999]
)
def test_a_reply_that_is_no_answer_is_the_providers_fault(reply):
    with pytest.raises(UpstreamError) as caught:
        embedding().whole(reply, "ours")
    assert (caught.value.kind, caught.value.reason) == ("upstream_invalid_response", "invalid")


def test_what_a_provider_cannot_embed_is_named():
    for provider in ("gemini_batch_embed", "cohere_embed"):
        with pytest.raises(GatewayError, match="arrays of tokens") as caught:
            embedding(provider, b'{"model":"m","input":[1,2]}').request(Target("up"))
        assert (caught.value.kind, caught.value.param) == ("unsupported_field", "input")


def test_what_was_left_out_is_known():
    translation = embedding("cohere_embed", b'{"model":"m","input":"a","user":"u"}')
    translation.request(Target("up"))
    assert translation.dropped == ["user"]
