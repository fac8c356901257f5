"""Passing what has no streams."""

import json

from fastgw._core import fields
from fastgw.dialects import registry
from fastgw.dialects.whole import Whole, rename_top
from fastgw.errors import GatewayError

ERROR = GatewayError("bad_request", "no")


def test_the_model_is_renamed_at_the_top():
    assert rename_top(fields.scan(b'{ "model":"a", "x":1.0 }'), "b") == b'{ "model":"b", "x":1.0 }'
    assert rename_top(fields.scan(b'{ "model":"a" }'), "a") == b'{ "model":"a" }'
    assert rename_top(fields.scan(b"{}"), "a") == b"{}"


def test_errors_have_the_familys_shape():
    assert json.loads(registry.ANTHROPIC_COUNT.error(ERROR, "r"))["type"] == "error"
    assert json.loads(registry.GEMINI_EMBED.error(ERROR, "r"))["error"]["status"] == "INVALID_ARGUMENT"
    assert json.loads(registry.RESPONSES_COUNT.error(ERROR, "r"))["error"]["code"] == "bad_request"
    event = registry.GEMINI_EMBED.stream_error(ERROR, "r")
    assert event == b"data: " + registry.GEMINI_EMBED.error(ERROR, "r") + b"\n\n"


def test_there_is_nothing_to_tap():
    tap = registry.GEMINI_EMBED.tap(wants_usage=True, cost=lambda usage: None)
    assert isinstance(tap, Whole)
    assert not registry.GEMINI_EMBED.wants_usage(fields.scan(b"{}"))
    assert (tap.feed(b"abc"), tap.complete) == (b"abc", False)
    assert (tap.finish(), tap.complete, tap.usage) == (b"", True, None)


def test_every_dialect_belongs_to_one_operation():
    for op, one in registry.OPERATIONS.items():
        for name in (*one.clients, *one.providers):
            assert registry.OPERATION_OF[name] == op
        assert all(codec.name == name for name, codec in (*one.clients.items(), *one.providers.items()))
