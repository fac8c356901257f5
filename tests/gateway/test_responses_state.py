"""Sealing the ids in replies, byte for byte and at any cut; what a request may go on from."""

import json
from types import SimpleNamespace

import pytest

from fastgw._core import fields
from fastgw.dialects.opaque import EventTap
from fastgw.errors import GatewayError
from fastgw.gateway import responses_state
from fastgw.gateway.responses_state import PREFIX, SealingTap, prepare, seal_whole
from fastgw.gateway.routes import Kept
from fastgw.state.seal import Seal, Sealed
from tests.gateway.support import Way, call_of, key_of, reply_of, route_of

SEAL = Seal(b"pepper")
NATIVE = Way("a", dialects=("openai_responses",))


def token_of(ident, place="a", owner="alice"):
    return SEAL.seal(owner, Sealed(place, ident), PREFIX)


def call(*ways, accounts=None, **more):
    made = call_of(model=route_of(*(ways or (NATIVE,))), key=key_of(), target=NATIVE, **more)
    made.live.seal = SEAL
    made.live.routes = SimpleNamespace(accounts=accounts or {})
    return made


def refused(made, body):
    with pytest.raises(GatewayError) as caught:
        prepare(made, fields.scan(json.dumps(body).encode()))
    return caught.value


# -- requests ----------------------------------------------------------------------------------------------------------


def test_a_request_that_goes_on_from_nothing_stays_as_it_is():
    for text in (b'{"input": "x"}', b'{"input": "x", "previous_response_id": null, "conversation":null}'):
        body, made = fields.scan(text), call()
        assert prepare(made, body) is body
        assert (made.pinned, made.quoted) == ("", None)


def test_a_token_becomes_the_providers_id_and_binds_the_call():
    made, token = call(), token_of("resp_1")
    body = prepare(made, fields.scan(b'{"a" : 1, "previous_response_id":  "%b" ,"b":2.0}' % token.encode()))
    assert body.replace({}) == b'{"a" : 1, "previous_response_id":  "resp_1" ,"b":2.0}'
    assert (made.pinned, made.quoted) == ("a", ("resp_1", token))


def test_also_in_what_goes_to_the_next_model():
    token = token_of("resp_1")
    body = fields.scan(json.dumps({"previous_response_id": token}).encode())
    made = call(wishes=SimpleNamespace(passed=body))
    prepare(made, body)
    assert made.wishes.passed.text(b"previous_response_id") == "resp_1"


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        ("resp_1", "response_not_found"), (token_of("resp_1", owner="bob"), "response_not_found"),
        (token_of("resp_1", place="b"), "unsupported_field"), (7, "invalid_type"), ({}, "invalid_type"),
    ],
)  # fmt: skip
def test_what_it_cannot_go_on_from(token, kind):
    error = refused(call(), {"previous_response_id": token})
    assert (error.kind, error.param) == (kind, "previous_response_id")


def test_providers_that_keep_nothing():
    error = refused(call(Way("a"), Way("b")), {"previous_response_id": token_of("resp_1")})
    assert (error.kind, "keep no responses" in error.message) == ("unsupported_field", True)


def test_conversations_are_for_keys_that_share_an_account():
    account = SimpleNamespace(ways=[Way("shared")])
    assert refused(call(), {"conversation": "conv_1"}).param == "conversation"
    made = call(accounts={"openai/conversations": account})
    assert refused(made, {"conversation": {"id": "conv_1"}}).kind == "unsupported_field"
    made.key = SimpleNamespace(name="alice", pass_through=True)
    prepare(made, fields.scan(b'{"conversation": "conv_1"}'))
    assert made.pinned == "shared"


@pytest.mark.parametrize(("method", "suffix"), [("POST", ""), ("GET", "/cancel"), ("DELETE", "/input_items")])
def test_methods_of_a_response(method, suffix):
    made = call()
    made.exchange.method = method
    with pytest.raises(GatewayError) as caught:
        responses_state.asked(made, Kept("responses", suffix, token_of("resp_1")))
    assert caught.value.kind == "method_not_allowed"


def test_a_provider_that_is_gone_keeps_nothing():
    made = call()
    made.exchange.method = "GET"
    with pytest.raises(GatewayError) as caught:
        responses_state.asked(made, Kept("responses", "", token_of("resp_1", place="gone")))
    assert caught.value.kind == "response_not_found"


# -- replies -----------------------------------------------------------------------------------------------------------

BODY = (
    b'{ "id" : "resp_1", "object":"response","previous_response_id":"resp_0",\n'
    b' "output":[{"id":"msg_1","text":"\\"id\\":\\"resp_1\\""}], "n": 1.50, "metadata":{"id":"resp_1"}}'
)
SEALED = BODY.replace(b'"id" : "resp_1"', b'"id" : "%b"' % token_of("resp_1").encode()).replace(
    b'"resp_0"', b'"%b"' % token_of("resp_0").encode()
)


def test_a_whole_reply():
    reply = reply_of(body=BODY)
    seal_whole(call(), reply)
    assert reply.body == SEALED
    again = reply_of(body=BODY)
    seal_whole(call(), again)
    assert again.body == reply.body


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"not json", b'{"object":"list","id":"resp_1"}', b'{"id":"msg_1","type":"message"}',
        b'{"id":null,"object":"response"}', b'{"object":"response","previous_response_id":null}',
        b'{"id":7,"object":"response"}',
    ],
)  # fmt: skip
def test_what_is_no_response_stays_as_it_is(body):
    reply = reply_of(body=body)
    seal_whole(call(), reply)
    assert reply.body == body


def test_an_error_names_the_id_its_caller_knows():
    body = b'{"error":{"message":"Response with id \'resp_1\' not found."}}'
    reply = reply_of(404, body)
    seal_whole(call(), reply)
    assert reply.body == body
    token = token_of("resp_1")
    seal_whole(call(quoted=("resp_1", token)), reply)
    assert reply.body == body.replace(b"resp_1", token.encode())


def stream_of(end=b"\n"):
    one_line = BODY.replace(b"\n", b"")
    sealed = SEALED.replace(b"\n", b"")
    text = b'{"type":"response.output_text.delta","delta":"\\"response\\":{\\"id\\":\\"resp_1\\"}"}'
    frame = b"event: %b\ndata: %b\n\n".replace(b"\n", end)
    plain = frame % (b"response.output_text.delta", text)
    odd = frame % (b"x", b'{"response":"resp_1"}') + frame % (b"x", b'{"response":{') + b": ping" + end + end
    wrapped = b'{"type":"response.created", "response" : %b , "sequence_number":0}'
    before, after = (frame % (b"response.created", wrapped % one) for one in (one_line, sealed))
    return before + plain + odd + before, after + plain + odd + after


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [1, 3, 50, 100_000])
def test_a_stream_at_any_cut(end, size):
    before, after = stream_of(end)
    tap = SealingTap(EventTap(), responses_state.swap_of(call()))
    out = b"".join(tap.feed(before[at : at + size]) for at in range(0, len(before), size))
    assert out + tap.finish() == after
    assert tap.complete
    assert tap.events == 5


def test_an_event_of_many_lines():
    lines = b"".join(b"data: %b\n" % line for line in (b'{"response":' + BODY + b"}").split(b"\n"))
    tap = SealingTap(EventTap(), responses_state.swap_of(call()))
    out = tap.feed(b"event: response.created\n" + lines + b"\n")
    sealed = b"".join(b"data: %b\n" % line for line in (b'{"response":' + SEALED + b"}").split(b"\n"))
    assert out == b"event: response.created\n" + sealed + b"\n"


def test_a_last_event_without_its_empty_line():
    before, after = stream_of()
    tap = SealingTap(EventTap(), responses_state.swap_of(call()))
    out = tap.feed(before[:-1])
    assert out + tap.finish() == after[:-1]
