"""The tap of a stream: what passes is untouched but for usage, and what it saw is right wherever it was cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgw.call import Usage
from fastgw.dialects import framing
from fastgw.dialects.openai import CHAT
from tests.dialects.support import DONE, USAGE, delta, event, finish, run, usage_chunk

SEEN = Usage(input=10, output=4, cached=3, cache_write=0, reasoning=2)
TRICKY = [
    'he said "usage": {"prompt_tokens": 9} and data: [DONE]\n\n',
    '{"error": {"message": "no"}}',
    '"finish_reason":"stop"',
    '\\"usage\\":{',
    "[DONE]",
    "\u2028\u2029\u0085\x7f",
    "x" * 1000,
]
contents = st.sampled_from(TRICKY) | st.text(max_size=30)
chunks = st.one_of(
    contents.map(delta),
    st.just(finish()),
    st.just(finish(usage=USAGE)),
    st.just(usage_chunk()),
    st.just(event(choices=[], prompt_filter_results=[{"index": 0}])),
    st.just(event(choices=[], x_groq={"usage": USAGE})),
    st.just(event(id="c", choices=[], usage=None)),
    st.just(event(error=None, choices=[])),
    st.just(b": OPENROUTER PROCESSING\n\n"),
    st.just(b'event: x\ndata: {"a":\ndata: 1}\n\n'),
    st.just(b'data:{"choices":[],"usage":{"prompt_tokens":1}}\n\n'),
    st.just(b"data: \xff\xfe\n\n"),
    st.just(b'data: not json "usage":{\n\n'),
    st.just(b"\n\n"),
    st.just(b"\n"),
    st.just(DONE),
)


def recut(stream, places):
    places = sorted({place % (len(stream) + 1) for place in places})
    return [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]


@given(
    st.lists(chunks, max_size=8),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.sampled_from([b"", framing.BOM]),
    st.lists(st.integers(0, 3000), max_size=10),
    st.booleans(),
    st.sampled_from([None, 1500]),
)
def test_where_a_stream_is_cut_changes_nothing(parts, end, bom, places, wants, cost):
    stream = bom + b"".join(parts).replace(b"\n", end)
    whole, expected = run([stream], wants=wants, cost=cost)
    tap, out = run(recut(stream, places), wants=wants, cost=cost)
    assert out == expected
    assert (tap.usage, tap.complete, tap.failed) == (whole.usage, whole.complete, whole.failed)


@given(st.lists(contents.map(delta), max_size=6), st.lists(st.integers(0, 3000), max_size=10))
def test_what_needs_no_edit_passes_byte_by_byte(parts, places):
    stream = b"".join([*parts, finish(), DONE])
    tap, out = run(recut(stream, places), wants=False)
    assert out == stream
    assert (tap.usage, tap.complete, tap.failed) == (None, True, False)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_single_split_of_one_stream(end):
    stream = b"".join([delta(TRICKY[0]), delta(TRICKY[5]), finish(), usage_chunk(), DONE]).replace(b"\n", end)
    whole = run([stream], wants=True, cost=1500)
    for at in range(len(stream)):
        tap, out = run([stream[:at], stream[at:]], wants=True, cost=1500)
        assert out == whole[1]
        assert (tap.usage, tap.complete) == (SEEN, True)


@pytest.mark.parametrize("text", TRICKY)
@pytest.mark.parametrize("wants", [True, False])
def test_text_that_looks_like_the_wire_confuses_nobody(text, wants):
    cut = delta(text)
    tap, out = run([cut], wants=wants, cost=1)
    assert out == cut
    assert (tap.usage, tap.complete, tap.failed) == (None, False, False)


def test_the_usage_chunk_is_dropped_when_it_was_not_asked_for():
    tap, out = run([delta("a"), finish(), usage_chunk(), DONE])
    assert out == delta("a") + finish() + DONE
    assert (tap.usage, tap.complete) == (SEEN, True)


def test_the_usage_chunk_is_kept_as_it_was_when_there_is_no_price():
    stream = delta("a") + usage_chunk(x=1) + DONE
    assert run([stream], wants=True, cost=None)[1] == stream


@pytest.mark.parametrize(
    ("nano", "number"),
    [(0, "0"), (1, "0.000000001"), (1500, "0.0000015"), (10**9, "1"), (1_234_567_891, "1.234567891")],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_usage_chunk_that_was_asked_for_tells_the_cost(nano, number, end):
    chunk = usage_chunk(service_tier="x", big=2**60, text="é").replace(b"\n", end)
    _, out = run([chunk, DONE], wants=True, cost=nano)
    assert b'"cost":' + number.encode() + b"}" in out
    assert out.removesuffix(DONE).endswith(end + end)
    kept = json.loads(framing.payload(out.removesuffix(DONE)))
    del kept["usage"]["cost"]
    assert kept == json.loads(framing.payload(chunk))


def test_the_rest_of_a_priced_event_stays():
    chunk = b"id: 7\r\n" + usage_chunk().replace(b"\n", b"\r\n")
    _, out = run([chunk], wants=True, cost=5)
    assert out.startswith(b"id: 7\r\ndata: {")
    assert out.endswith(b"}\r\n\r\n")


def test_a_priced_event_of_several_data_lines_becomes_one():
    chunk = b'data: {"choices":[],\ndata: "usage":{"prompt_tokens":1}}\n\n'
    tap, out = run([chunk], wants=True, cost=5)
    assert json.loads(framing.payload(out))["usage"] == {"prompt_tokens": 1, "cost": 5e-9}
    assert tap.usage == Usage(input=1)


def test_usage_inside_the_finish_chunk_stays_there_and_is_priced_when_asked_for():
    stream = delta("a") + finish(usage=USAGE) + DONE
    tap, out = run([stream])
    assert (out, tap.usage) == (stream, SEEN)
    _, out = run([stream], wants=True, cost=7)
    assert b'"cost":0.000000007' in out
    assert out.startswith(delta("a"))
    assert out.endswith(DONE)


def test_groqs_usage():
    chunk = finish(x_groq={"id": "r", "usage": USAGE})
    tap, out = run([delta("a"), chunk, DONE])
    assert (tap.usage, out) == (SEEN, delta("a") + chunk + DONE)


def test_azures_first_chunk_is_not_usage():
    first = event(choices=[], prompt_filter_results=[{"prompt_index": 0}])
    tap, out = run([first + delta("a") + finish() + DONE])
    assert (tap.usage, out) == (None, first + delta("a") + finish() + DONE)


def test_usage_null_everywhere_is_no_usage():
    tap, out = run([delta("a", usage=None), finish(usage=None), DONE])
    assert (tap.usage, tap.complete, out) == (None, True, delta("a", usage=None) + finish(usage=None) + DONE)


def test_the_last_usage_counts():
    later = event(choices=[], usage={"prompt_tokens": 99, "completion_tokens": 1})
    assert run([finish(usage=USAGE), later, DONE])[0].usage == Usage(input=99, output=1)


@pytest.mark.parametrize(
    ("pieces", "complete", "failed"),
    [
        ([delta("a"), finish(), DONE], True, False),
        ([delta("a"), finish()], True, False),
        ([delta("a"), DONE], True, False),
        ([delta("a")], False, False),
        ([], False, False),
        ([b": ping\n\n"], False, False),
        ([delta("a"), b"data: [DONE]"], True, False),
        ([delta("a"), b"data:[DONE]\r\n\r"], True, False),
        ([delta("a"), event(error={"message": "x"})], False, True),
        ([delta("a"), finish(), event(error={"message": "x"})], False, True),
        ([delta("a"), event(error=None), finish()], True, False),
        ([event(error="overloaded")], False, True),
        ([b'data: {"choices":[{"finish_reason": "stop"}]}\n\n'], True, False),
    ],
)
def test_whether_a_stream_came_to_its_end(pieces, complete, failed):
    tap, out = run(pieces)
    assert (tap.complete, tap.failed) == (complete, failed)
    # Half an event is not passed on: the caller's parser would fail on it instead of reading the error that follows.
    assert out.startswith(b"".join(piece for piece in pieces if piece != b"data: [DON"))
    assert not out.endswith(b"[DON\n\n")


@pytest.mark.parametrize(
    "half", [b"data: [DON", b'data: {"choices":[{"index":0,"del', b"da", b'data: {"usage":{"prompt_tokens":1}']
)
def test_half_an_event_at_the_end_does_not_reach_the_client(half):
    tap, out = run([delta("a") + half])
    assert (out, tap.complete, tap.failed, tap.usage) == (delta("a"), False, False, None)


@pytest.mark.parametrize(
    "usage",
    [
        '{"prompt_tokens":-1}', '{"prompt_tokens":1e400}', '{"prompt_tokens":2147483648}', '{"prompt_tokens":"x"}',
        '{"completion_tokens":99999999999999999999}', "[]", "5", '{"prompt_tokens_details":[]}', "{" * 100_000,
    ],
)  # fmt: skip
def test_a_usage_that_makes_no_sense_is_none_and_passes(usage):
    chunk = b'data: {"choices":[],"usage":' + usage.encode() + b"}\n\n"
    tap, out = run([chunk, DONE], wants=True, cost=1)
    assert (tap.usage, out, tap.complete) == (None, chunk + DONE, True)


def test_broken_utf8_beside_a_usage_is_no_fault_of_ours():
    chunk = b'data: {"\xff":1,"choices":[],"usage":{"prompt_tokens":1,"\xfe":2}}\n\n'
    _, out = run([chunk, DONE], wants=True, cost=1)
    assert out.endswith(DONE)


def test_a_line_of_a_megabyte_in_small_pieces():
    chunk = delta("y" * 1_000_000)
    stream = chunk + finish() + DONE
    tap, out = run([stream[i : i + 16_384] for i in range(0, len(stream), 16_384)])
    assert out == stream
    assert tap.complete


def test_an_event_without_end_is_refused_in_time():
    tap = CHAT.tap(wants_usage=False, cost=lambda usage: None)
    piece, fed = b"data: x\n" * 32_768, 0
    with pytest.raises(ValueError, match="8 MiB"):
        while fed < 2 * framing.MAX_EVENT:
            assert tap.feed(piece) == b""
            fed += len(piece)
    assert fed <= framing.MAX_EVENT


def test_nothing_is_held_back_but_the_unfinished_event():
    tap = CHAT.tap(wants_usage=False, cost=lambda usage: None)
    assert tap.feed(delta("a") + b"data: {") == delta("a")
    assert tap.feed(b"}") == b""
    assert tap.feed(b"\n\n" + delta("b")) == b"data: {}\n\n" + delta("b")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_events_with_content_are_counted_for_the_estimate(end):
    pieces = [delta("a"), delta("b"), delta("c"), usage_chunk(), DONE]
    tap, _ = run([piece.replace(b"\n", end) for piece in pieces])
    assert tap.events == 3
