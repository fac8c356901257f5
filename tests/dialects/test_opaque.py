"""Operations that are passed on: the model's name in JSON and in forms, and the usage that replies tell."""

import json

import pytest

from fastgw._core import fields
from fastgw.call import Usage
from fastgw.dialects import form, opaque
from fastgw.errors import GatewayError
from fastgw.providers.surfaces import FAMILIES, SURFACES

IMAGES = opaque.OPENAI["images/generations"]
FORM = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nold\r\n--B--\r\n'


def test_the_model_is_renamed_only_where_it_must_be():
    body = fields.scan(b'{"model": "a",\n"n":1.0}')
    assert IMAGES.prepare(body, "a", rename=False, stream=True) == b'{"model": "a",\n"n":1.0}'
    assert IMAGES.prepare(body, "b/c", rename=True, stream=True) == b'{"model": "b/c",\n"n":1.0}'
    # The path named it, or the operation has one of its own.
    assert json.loads(IMAGES.prepare(fields.scan(b"{}"), "a", rename=False, stream=False)) == {"model": "a"}
    assert opaque.GEMINI["predict"].prepare(fields.scan(b"{}"), "a", rename=True, stream=False) == b"{}"


def test_and_in_a_form():
    body = form.scan(FORM, b"B", frozenset())
    assert IMAGES.prepare(body, "old", rename=False, stream=False) is FORM
    assert IMAGES.prepare(body, "new", rename=True, stream=False) == FORM.replace(b"old", b"new")


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"input_tokens": 10, "output_tokens": 100, "total_tokens": 110}, Usage(input=10, output=100)),
        ({"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}}, Usage(input=9, cached=4)),
        ({"type": "tokens", "input_tokens": 1, "output_tokens": 2}, Usage(input=1, output=2)),
        ({"prompt_tokens": 7, "total_tokens": 7}, Usage(input=7)),
        ({"total_tokens": 7}, Usage(input=7)),
        ({"type": "duration", "seconds": 12}, None),
        ({}, None), (None, None), ({"input_tokens": -1}, None), ({"input_tokens": "1"}, None), (3, None),
        ({"input_tokens": 2**31}, None),
    ],
)  # fmt: skip
def test_the_usage_of_a_whole_reply(usage, read):
    body = json.dumps({"data": [{"b64_json": "x"}], "usage": usage}).encode()
    assert IMAGES.usage(body) == read
    assert opaque.KEPT["openai"].usage(body) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'"x"', b"[" * 5000])
def test_a_reply_that_tells_none(body):
    assert IMAGES.usage(body) is None


EVENTS = (
    b'event: transcript.text.delta\ndata: {"type":"transcript.text.delta","delta":"\\"usage\\" x"}\n\n'
    b": a comment\n\n"
    b"event: transcript.text.done\n"
    b'data: {"type":"transcript.text.done","usage":{"input_tokens":3,"output_tokens":4}}\n\n'
)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_events_pass_untouched_at_any_cut(size):
    tap = IMAGES.tap(wants_usage=True, cost=lambda usage: None)
    out = b"".join(tap.feed(EVENTS[at : at + size]) for at in range(0, len(EVENTS), size))
    assert not tap.complete
    assert out + tap.finish() == EVENTS
    assert (tap.usage, tap.events, tap.complete, tap.failed) == (Usage(input=3, output=4), 2, True, False)


@pytest.mark.parametrize(
    "event",
    [
        b'event: error\ndata: {"message":"x"}\n\n', b'data: {"type":"error","message":"x"}\n\n',
        b"event: error\ndata: x\n\n", b'data: {"error":{"message":"x"}}\n\n',
    ],
)  # fmt: skip
def test_an_error_inside(event):
    tap = IMAGES.tap(wants_usage=True, cost=lambda usage: None)
    assert tap.feed(event) == event
    tap.finish()
    assert (tap.failed, tap.complete) == (True, False)


def test_an_endless_event_is_none():
    tap = IMAGES.tap(wants_usage=True, cost=lambda usage: None)
    tap.feed(b"x" * 8 * 1024 * 1024)
    with pytest.raises(ValueError, match="8 MiB"):
        tap.feed(b"x")


@pytest.mark.parametrize("family", ["openai", "anthropic", "gemini"])
def test_errors_are_told_in_the_shape_of_the_interface(family):
    error = GatewayError("bad_request", "no")
    told = opaque.KEPT[family].error(error, "req_1")
    assert "error" in json.loads(told)
    event = opaque.KEPT[family].stream_error(error, "req_1")
    assert event.endswith(b"data: " + told + b"\n\n")


def test_vendors_offer_only_what_there_is():
    known = {*opaque.OPENAI, *opaque.GEMINI, *opaque.ANTHROPIC, opaque.RERANK.name}
    for kind, surface in SURFACES.items():
        assert set(surface.passes) <= known, kind
        assert not surface.keeps or surface.family in FAMILIES, kind
        assert surface.keeps.count("{path}") == bool(surface.keeps), kind
        assert all(path.startswith("/") for path in surface.passes.values()), kind
    offered = {name for surface in SURFACES.values() for name in surface.passes}
    assert offered == known
