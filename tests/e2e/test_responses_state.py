"""Responses that a provider keeps, through the official SDK: whose they are, and what of a reply is changed."""

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.support.gateway import Mock, Node, node, start_node, unique
from tests.support.vendor import KEY as VENDOR_KEY
from tests.support.vendor import Vendor, ask

ALICE, BOB = "fgw-alice-0123456789abcdef", "fgw-bob-0123456789abcdefgh"


def config(vendor: Vendor, other: Vendor, mock: Mock) -> str:
    return f"""
providers:
  one: {{kind: openai, base_url: "{vendor.url}", api_key: "{VENDOR_KEY}"}}
  two: {{kind: openai, base_url: "{other.url}", api_key: "{VENDOR_KEY}"}}
  chat: {{kind: openai_compatible, base_url: "{mock.url}/v1"}}
models:
  kept: {{targets: [{{provider: one, model: upstream-model, price: {{input: 1, output: 2}}}}]}}
  both: {{targets: [{{provider: one, model: m}}, {{provider: two, model: m, weight: 100000}}]}}
  elsewhere: {{targets: [{{provider: two, model: m}}]}}
  plain: {{targets: [{{provider: chat, model: mock-small}}]}}
keys:
  - {{name: alice, secret: "{ALICE}"}}
  - {{name: bob, secret: "{BOB}"}}
"""


@pytest.fixture(scope="module")
def vendor() -> Iterator[Vendor]:
    with Vendor() as made:
        yield made


@pytest.fixture(scope="module")
def other() -> Iterator[Vendor]:
    with Vendor() as made:
        yield made


@pytest.fixture(scope="module")
def gateway(vendor: Vendor, other: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    directory: Path = tmp_path_factory.mktemp("state")
    mock = Mock(directory)
    with node(directory, config(vendor, other, mock), workers=2, key=ALICE) as made:
        yield made
    mock.stop()


@pytest.fixture
def alice(gateway: Node) -> Iterator[openai.OpenAI]:
    with sdk(gateway, ALICE) as client:
        yield client


@pytest.fixture
def bob(gateway: Node) -> Iterator[openai.OpenAI]:
    with sdk(gateway, BOB) as client:
        yield client


def sdk(gateway: Node, key: str) -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=f"{gateway.url}/v1", max_retries=0, timeout=20)


def said(reply) -> str:
    return reply.metadata["said"]


def test_a_conversation_goes_on_from_its_last_response(alice, vendor):
    first = alice.responses.create(model="kept", input="one")
    (ident,) = vendor.responses.keys() & {json.loads(f'"{i}"') for i in vendor.responses if i in first.output_text}
    assert first.id.startswith("resp_")
    assert first.id != ident
    second = alice.responses.create(model="kept", input="two", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert said(second) == '"one" > "two"'
    assert json.loads(vendor.last("/responses").body) == {
        "model": "upstream-model", "input": "two", "previous_response_id": ident
    }  # fmt: skip


def test_what_was_kept_can_be_had_again_listed_cancelled_and_deleted(alice, vendor):
    first = alice.responses.create(model="kept", input="one")
    again = alice.responses.retrieve(first.id)
    assert again.model_dump() == first.model_dump()
    items = alice.responses.input_items.list(first.id, limit=3, order="asc")
    assert [item.id for item in items.data] == ["msg_in"]
    assert vendor.last("/input_items").query in ("limit=3&order=asc", "order=asc&limit=3")
    assert alice.responses.cancel(first.id).status == "cancelled"
    assert alice.responses.retrieve(first.id).id == first.id
    alice.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError) as caught:
        alice.responses.retrieve(first.id)
    # The provider's own error names the id as its caller knows it.
    assert first.id in str(caught.value)


def test_a_stream_has_one_id_in_all_its_events(alice, vendor):
    before = set(vendor.responses)
    with alice.responses.create(model="kept", input="streamed", stream=True) as stream:
        events = list(stream)
    (ident,) = set(vendor.responses) - before
    ids = {event.response.id for event in events if hasattr(event, "response")}
    assert len(ids) == 1
    (token,) = ids
    assert token not in (ident, "")
    assert sum(hasattr(event, "response") for event in events) == 3
    # Text that looks like an id passes as it is.
    (delta,) = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert f'"response":{{"id":"{ident}"}}' in delta
    assert said(alice.responses.retrieve(token)) == '"streamed"'
    with alice.responses.create(model="kept", input="on", previous_response_id=token, stream=True) as stream:
        last = list(stream)[-1]
    assert last.response.previous_response_id == token
    assert said(last.response) == '"streamed" > "on"'
    with alice.responses.retrieve(token, stream=True) as stream:
        assert {event.response.id for event in stream if hasattr(event, "response")} == {token}


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_but_the_ids_is_changed(gateway, vendor, stream):
    before = set(vendor.responses)
    body = {"model": "kept", "input": "x", "stream": stream}
    _, _, answer = ask(gateway.port, "POST", "/v1/responses", body, key=ALICE)
    (ident,) = set(vendor.responses) - before
    _, _, straight = ask(
        int(vendor.url.split(":")[2].split("/")[0]), "GET", f"/v1/responses/{ident}?stream={str(stream).lower()}", None,
        key=VENDOR_KEY,
    )  # fmt: skip
    told = json.loads(answer.split(b"data: ")[1].split(b"\n")[0])["response"] if stream else json.loads(answer)
    token = told["id"]
    assert ident.encode() not in token.encode()
    for old in (f'"id": "{ident}"', f'"id":"{ident}"'):
        straight = straight.replace(old.encode(), old.replace(ident, token).encode())
    assert answer == straight


def test_an_id_is_of_the_key_that_made_it(alice, bob, vendor):
    first = alice.responses.create(model="kept", input="secret")
    asked = len(vendor.seen)
    for refused in (
        lambda: bob.responses.retrieve(first.id),
        lambda: bob.responses.delete(first.id),
        lambda: bob.responses.cancel(first.id),
        lambda: bob.responses.input_items.list(first.id),
        lambda: bob.responses.create(model="kept", input="x", previous_response_id=first.id),
        lambda: bob.responses.create(model="kept", input="x", previous_response_id=first.id, stream=True),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            refused()
        assert caught.value.code == "response_not_found"
    assert len(vendor.seen) == asked
    assert alice.responses.retrieve(first.id).id == first.id


def test_what_it_goes_on_from_can_be_counted(alice, bob, vendor):
    first = alice.responses.create(model="kept", input="x")
    counted = alice.responses.input_tokens.count(model="kept", input="y", previous_response_id=first.id)
    assert counted.input_tokens == 22
    asked = len(vendor.seen)
    for token in (first.id, next(iter(vendor.responses))):
        with pytest.raises(openai.NotFoundError):
            bob.responses.input_tokens.count(model="kept", input="y", previous_response_id=token)
    assert len(vendor.seen) == asked


def test_no_other_spelling_of_an_id_is_one(alice, vendor):
    first = alice.responses.create(model="kept", input="x")
    asked = len(vendor.seen)
    damaged = "resp_" + ("B" if first.id[5] == "A" else "A") + first.id[6:]
    for token in (next(iter(vendor.responses)), damaged, first.id[:-1], first.id + "A", "resp_", "x", first.id[5:]):
        with pytest.raises(openai.NotFoundError):
            alice.responses.retrieve(token)
        with pytest.raises(openai.NotFoundError):
            alice.responses.create(model="kept", input="x", previous_response_id=token)
    assert len(vendor.seen) == asked


def test_what_follows_goes_to_the_provider_that_keeps_it(alice, vendor, other):
    first = alice.responses.create(model="kept", input="x")
    before = len(other.seen)
    for _ in range(8):  # weight sends nearly all others elsewhere
        assert alice.responses.create(model="both", input="y", previous_response_id=first.id).id
    assert len(other.seen) == before
    with pytest.raises(openai.BadRequestError) as caught:
        alice.responses.create(model="elsewhere", input="y", previous_response_id=first.id)
    assert caught.value.code == "unsupported_field"
    assert caught.value.param == "previous_response_id"


def test_a_provider_that_keeps_nothing_says_so(alice):
    reply = alice.responses.create(model="plain", input="x", store=False)
    with pytest.raises(openai.BadRequestError) as caught:
        alice.responses.create(model="plain", input="x", previous_response_id=reply.id)
    assert caught.value.code == "unsupported_field"
    assert "keep no responses" in str(caught.value)
    with pytest.raises(openai.BadRequestError) as caught:
        alice.responses.create(model="plain", input="x", store=True)
    assert (caught.value.code, caught.value.param) == ("unsupported_field", "store")
    with pytest.raises(openai.NotFoundError):
        alice.responses.retrieve(reply.id)


def test_a_conversation_of_the_account_is_not_everybodys(alice, vendor):
    asked = len(vendor.seen)
    with pytest.raises(openai.BadRequestError) as caught:
        alice.responses.create(model="kept", input="x", conversation="conv_1")
    assert caught.value.code == "unsupported_field"
    assert len(vendor.seen) == asked


def test_what_is_recorded(alice, gateway):
    label = unique()
    first = alice.responses.create(model="kept", input="x", extra_headers={"x-request-id": label})
    row = gateway.record(label)
    assert (row["model"], row["usage_source"]) == ("kept", "upstream")
    assert (row["input_tokens"], row["output_tokens"], row["cost_nano"]) == (10, 5, 20_000)
    label = unique()
    alice.responses.retrieve(first.id, extra_headers={"x-request-id": label})
    row = gateway.record(label)
    # Reading it again is no second use of its tokens.
    assert (row["model"], row["target"], row["usage_source"]) == ("(responses)", "one/(responses)", "none")
    assert (row["status"], row["input_tokens"], row["key"]) == (200, 0, "alice")


def test_other_methods_and_no_key(gateway):
    for method, path, status in (
        ("POST", "/v1/responses/resp_x", 405), ("GET", "/v1/responses/resp_x/cancel", 405),
        ("DELETE", "/v1/responses/resp_x/input_items", 405), ("GET", "/v1/responses/resp_x/else", 404),
        ("GET", "/openai/v1/responses/resp_x", 404),
    ):  # fmt: skip
        assert ask(gateway.port, method, path, None, key=ALICE)[0] == status, path
    assert ask(gateway.port, "GET", "/v1/responses/resp_x", None, key="fgw-wrong-key-0000")[0] == 401


def test_a_restart_forgets_nothing(tmp_path, vendor, other):
    mock = Mock(tmp_path)
    text = config(vendor, other, mock)
    with node(tmp_path, text) as first, sdk(first, ALICE) as client:
        token = client.responses.create(model="kept", input="before").id
    second = start_node(tmp_path, text, workers=2)
    try:
        with sdk(second, ALICE) as client:
            reply = client.responses.create(model="kept", input="after", previous_response_id=token)
            assert said(reply) == '"before" > "after"'
        with sdk(second, BOB) as client, pytest.raises(openai.NotFoundError):
            client.responses.retrieve(token)
    finally:
        assert second.stop() == 0
        mock.stop()
