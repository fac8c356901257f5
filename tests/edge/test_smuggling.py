"""S16: whatever bytes come in, what goes out is as many requests as came, each framed anew."""

import asyncio
import re
from pathlib import Path

import pytest

from tests.edge.conftest import Edge, Front
from tests.edge.corpus import KEY, ONCE, PAYLOADS, PIPELINED, REFUSED, Payload
from tests.edge.exceptions import INNER, SMUGGLING
from tests.edge.support import Echo, ask, canary, deliver, said
from tests.support.rawclient import RawReply, connect

DOC = Path(__file__).resolve().parents[2] / "docs" / "edge.md"
EXEMPT = {name: served for payloads in SMUGGLING.values() for name, served in payloads.items()}
MOST = {REFUSED: 0, ONCE: 1, PIPELINED: 2}


def check_upstream(payload: Payload, upstream: Echo, word: str) -> None:
    """No more requests than were sent, none that was never sent, all framed by the gateway."""
    asked = [said(request) for request in upstream.requests]
    assert len(asked) <= MOST[payload.fate], asked
    assert asked.count(word) <= (payload.fate == PIPELINED), "a request that nobody sent"
    assert set(asked) <= {"outer", word}
    upstream.check_framing()


def check_replies(payload: Payload, replies: list[RawReply], ending: str) -> None:
    """An error where one is due, and after it the end of the connection."""
    statuses = [got.status for got in replies]
    assert ending in ("fin", "reset"), statuses
    if payload.fate == REFUSED:
        assert all(400 <= status < 600 for status in statuses), statuses
    elif payload.fate == ONCE:
        assert statuses[1:] in ([], [200]), statuses
    else:
        assert statuses in ([400], [200, 200], [400, 200, 200], [200, 200, 200]), statuses


def case(payload: Payload) -> object:
    marks = [pytest.mark.xfail(strict=True, reason="listed in docs/edge.md")] if payload.id in EXEMPT else []
    return pytest.param(payload, id=payload.id, marks=marks)


def test_s16_the_corpus_is_sound() -> None:
    ids = [payload.id for payload in PAYLOADS]
    assert len(ids) == len(set(ids)) >= 80
    assert set(ids) >= set(EXEMPT)
    assert all(payload.rule for payload in PAYLOADS)


def test_s16_the_exceptions_are_those_of_the_document() -> None:
    section = DOC.read_text().partition("## What is let through")[2].partition("\n## ")[0]
    assert re.findall(r"^\| \*\*(.+?)\*\* \|", section, re.M) == list(SMUGGLING)
    assert len(SMUGGLING) <= 6


@pytest.mark.parametrize("payload", [case(payload) for payload in PAYLOADS])
async def test_s16_one_request_in_is_at_most_one_upstream(edge: Edge, upstream: Echo, payload: Payload) -> None:
    word = canary()
    honest = payload.fate != REFUSED or payload.id in EXEMPT
    replies, ending = await deliver(edge.node.port, payload.render(word), honest=honest)
    check_upstream(payload, upstream, word)
    check_replies(payload, replies, ending)


@pytest.mark.parametrize("name", EXEMPT)
async def test_s16_what_is_let_through_is_framed_anew(edge: Edge, upstream: Echo, name: str) -> None:
    """The exceptions do no more than the document says: these requests come out, each with one length and no coding."""
    payload, word = next(payload for payload in PAYLOADS if payload.id == name), canary()
    await deliver(edge.node.port, payload.render(word), honest=True)
    assert [said(request) for request in upstream.requests] == [word if one == INNER else one for one in EXEMPT[name]]
    upstream.check_framing()


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.id)
async def test_s16_behind_a_proxy_nobody_gets_anothers_answer(front: Front, upstream: Echo, payload: Payload) -> None:
    """Others share the proxy's few connections to the gateway: before, beside and after a doubtful request."""
    word, others = canary(), [canary() for _ in range(4)]
    async with connect(front.port) as steady:
        assert await ask(steady, others[0], KEY) == others[0]
        attack = asyncio.create_task(deliver(front.port, payload.render(word), honest=True))
        assert await ask(steady, others[1], KEY) == others[1]
    replies, _ = await attack
    async with connect(front.port) as fresh:
        for other in others[2:]:
            assert await ask(fresh, other, KEY) == other
    asked = [said(request) for request in upstream.requests]
    assert [asked.count(other) for other in others] == [1] * 4
    assert set(asked) <= {"outer", word, *others}
    for attacking in ("outer", word):
        answers = sum(f'"content": "{attacking}"'.encode() in got.body for got in replies)
        assert asked.count(attacking) == answers <= 1, "asked by nobody, or an answer lost in a shared connection"
    assert not any(other.encode() in got.raw for got in replies for other in others)
    upstream.check_framing()
