"""Every vendor with a fixture: what it is sent, and its answers passed through and translated for other clients."""

import json

import pytest

from fastgw._core import fields
from fastgw.call import Usage
from fastgw.dialects import openai
from fastgw.dialects.hub import Done, Target
from fastgw.dialects.registry import ANTHROPIC, CODECS, GEMINI, UPSTREAMS
from fastgw.gateway.translate import Translation, read_chat
from fastgw.plan.plan import Quirks
from fastgw.providers import PROVIDERS, quirks
from tests.dialects.openai_chat_support import gather
from tests.providers.vendors import FIXTURES, KINDS, Vendor, meaning, read
from tests.support import grammar_anthropic_messages, grammar_gemini, grammar_openai_responses
from tests.support.grammar import chat_stream_problems

DIALECTS = {one.name: one for one in (openai.CHAT, ANTHROPIC, GEMINI)}
PROBLEMS = {
    "openai_chat": lambda raw: chat_stream_problems(raw, usage_asked=True),
    "anthropic_messages": grammar_anthropic_messages.stream_problems,
    "gemini": grammar_gemini.stream_problems,
    "openai_responses": grammar_openai_responses.problems,
}
ALONE = {"bedrock": "bedrock_converse"}
"""Vendors whose dialect nobody else speaks: their fixtures are those of the dialect."""
SIZES = (1, 7, 100, 1_000_000)


def own(vendor):
    """The name of the dialect a vendor is spoken to in."""
    return next(name for name in UPSTREAMS if name in PROVIDERS[vendor.kind].speaks)


def traits(vendor, extra=quirks.NONE):
    kind = PROVIDERS[vendor.kind]
    return quirks.traits(kind.quirks, kind.models, extra, vendor.model, kind.fix_request)


def asked(vendor):
    """A plain request in the hub's terms, from a client of the vendor's own dialect."""
    body = vendor.client if own(vendor) != "openai_chat" else json.dumps(PLAIN).encode()
    chat = read_chat(CODECS[own(vendor)], body, model=vendor.model, stream=True)
    chat.stream_usage = True
    return chat


PLAIN = {
    "model": "m",
    "messages": [{"role": "user", "content": "What is the weather in Oslo?"}],
    "stream": True,
    "stream_options": {"include_usage": True},
}

by_vendor = pytest.mark.parametrize("vendor", [Vendor(kind) for kind in KINDS], ids=KINDS)
by_client = pytest.mark.parametrize("client", CODECS.values(), ids=list(CODECS))


def test_there_are_enough():
    assert len(KINDS) >= 14
    assert {"openai", "anthropic", "gemini", "azure", "mistral", "deepseek", "openrouter"} <= set(KINDS)


def test_who_is_called_tested_has_a_fixture_and_nobody_else():
    alone = {kind for kind, dialect in ALONE.items() if (FIXTURES.parent / dialect).is_dir()}
    assert {kind for kind, one in PROVIDERS.items() if one.tested} == {*KINDS, *alone}


@by_vendor
def test_a_fixture_says_where_it_is_from(vendor):
    assert vendor.about["source"]
    assert all(source.startswith("https://") for source in vendor.about["source"])


@by_vendor
def test_a_request_leaves_as_the_vendor_wants_it(vendor):
    dialect = DIALECTS[own(vendor)]
    kind = PROVIDERS[vendor.kind]
    body = dialect.prepare(fields.scan(vendor.client), vendor.model, rename=False, stream=kind.asks_usage)
    adjust, lost = traits(vendor).adjust, []
    if adjust is not None:
        body, lost = adjust.apply(body)
    assert json.loads(body) == json.loads(vendor.request)
    assert lost == vendor.about["dropped"]


@by_vendor
def test_a_translated_request_loses_nothing_on_its_way(vendor):
    kind, codec = PROVIDERS[vendor.kind], UPSTREAMS[own(vendor)]
    like = traits(vendor, quirks.NONE if kind.asks_usage else Quirks(features=("no_stream_options",)))
    chat = asked(vendor)
    chat.max_tokens = 4096
    target = Target(vendor.model, drop=frozenset("*"), mid_system=like.mid_system, features=like.features)
    body = codec.write_request(chat, target)
    body, lost = (body, []) if like.adjust is None else like.adjust.apply(body)
    sent = json.loads(body)
    assert lost == []
    assert not set(kind.drop_fields) & set(sent)
    assert not set(kind.rename_fields) & set(sent)
    assert target.dropped == []


@by_vendor
def test_a_whole_reply_passes_and_its_usage_is_read(vendor):
    assert DIALECTS[own(vendor)].usage(vendor.reply) == Usage(*vendor.about["reply"]["usage"])
    assert meaning(UPSTREAMS[own(vendor)].read_reply(vendor.reply)) == vendor.about["reply"]


@by_vendor
@pytest.mark.parametrize("size", SIZES)
def test_a_stream_passes_byte_by_byte_and_its_usage_is_read(vendor, size):
    tap = DIALECTS[own(vendor)].tap(wants_usage=True, cost=lambda usage: None)
    pieces = [vendor.stream[at : at + size] for at in range(0, len(vendor.stream), size)]
    out = b"".join([tap.feed(piece) for piece in pieces]) + tap.finish()
    assert out == vendor.stream
    assert tap.usage == Usage(*vendor.about["stream"]["usage"])
    assert (tap.complete, tap.failed) == (True, False)
    assert tap.events > 0


@by_vendor
def test_a_stream_means_what_the_whole_reply_means(vendor):
    events = read(UPSTREAMS[own(vendor)], vendor.stream)
    assert meaning(gather(events)) == vendor.about["stream"]
    assert type(events[-1]) is Done


@by_vendor
@by_client
def test_a_whole_reply_is_translated_for_every_client(vendor, client):
    translation = Translation(client, UPSTREAMS[own(vendor)], asked(vendor), 5)
    body, used = translation.whole(vendor.reply, "asked")
    assert meaning(client.read_reply(body)) == told(client, vendor.about["reply"])
    assert used == Usage(*vendor.about["reply"]["usage"])


@by_vendor
@by_client
@pytest.mark.parametrize("size", [7, 1_000_000])
def test_a_stream_is_translated_for_every_client(vendor, client, size):
    translation = Translation(client, UPSTREAMS[own(vendor)], asked(vendor), 5)
    tap = translation.tap("asked", "req_1")
    pieces = [vendor.stream[at : at + size] for at in range(0, len(vendor.stream), size)]
    out = b"".join([tap.feed(piece) for piece in pieces]) + tap.finish()
    assert PROBLEMS[client.name](out) == []
    assert meaning(gather(read(client, out))) == told(client, vendor.about["stream"])
    assert tap.usage == Usage(*vendor.about["stream"]["usage"])
    assert (tap.complete, tap.failed) == (True, False)


def told(client, want):
    """What a client of this dialect can be told of it: some have no place for a kind of tokens."""
    silent = {"gemini": [3]}.get(client.name, [])
    return {**want, "usage": [0 if index in silent else count for index, count in enumerate(want["usage"])]}


@by_vendor
@by_client
def test_an_error_is_understood_and_told_in_every_clients_words(vendor, client):
    problem = UPSTREAMS[own(vendor)].read_error(vendor.status(), {}, vendor.error)
    assert problem.cause == vendor.about["error"]["cause"]
    assert vendor.about["error"]["message"] in problem.message
    status, body = client.write_problem(problem, "req_1")
    assert 400 <= status <= 599
    assert vendor.about["error"]["message"] in json.dumps(json.loads(body), ensure_ascii=False)
