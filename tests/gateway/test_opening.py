"""Holding a stream back until it has begun: cut at every byte, and what was read is there again."""

import pytest

from fastgw.errors import UpstreamError
from fastgw.gateway import opening
from fastgw.gateway.opening import failure_in
from fastgw.plan.plan import Options, Timeouts
from fastgw.upstream.reply import Reply
from tests.faults.tongues import TONGUES
from tests.gateway.support import call_of, live_of

KINDS = [tongue.name for tongue in TONGUES]


class Fed(Reply):
    """A reply of these pieces; None is a poke, an error is raised."""

    __slots__ = ("pieces",)

    def __init__(self, pieces, content_type=b"text/event-stream"):
        super().__init__(Timeouts(), False, False, 0.0)
        self.status, self.pieces = 200, list(pieces)
        self.headers = [(b"content-type", content_type)]

    async def read(self):
        if self._chunks:
            return self.take()
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Exception):
            raise piece
        return piece


async def rest_of(reply):
    parts = []
    while data := await reply.read():
        parts.append(data)
    return b"".join(parts)


async def look(pieces, dialect, **more):
    call = call_of(live_of(Options(heartbeat=5.0)), spoken=dialect, stream=True)
    reply = Fed(pieces, **more)
    failed = await failure_in(call, reply)
    assert call.poke_at == 0.0
    return failed, reply


@pytest.mark.parametrize("tongue", TONGUES, ids=KINDS)
@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
async def test_cut_at_every_byte_nothing_is_lost(tongue, ends):
    first = tongue.events()[0] if tongue.name != "gemini" else b""
    well = b"".join(tongue.events()).replace(b"\n", ends)
    broken = (first + tongue.error_event()).replace(b"\n", ends)
    for whole, fails in ((well, False), (broken, True)):
        for cut in range(1, min(len(whole), 700)):
            failed, reply = await look([whole[:cut], whole[cut:]], tongue.dialect)
            # A lone CR at the very end may be half of a CRLF: whether the event is over is not known.
            assert (failed is not None) == (fails and ends != b"\r"), cut
            assert await rest_of(reply) == whole


@pytest.mark.parametrize("tongue", TONGUES, ids=KINDS)
async def test_byte_by_byte(tongue):
    whole = b": ping\n\n" + tongue.error_event()
    failed, reply = await look([whole[at : at + 1] for at in range(len(whole))], tongue.dialect)
    assert failed is not None
    assert tongue.error_event().endswith(b"data: " + failed + b"\n\n")
    assert await rest_of(reply) == whole


@pytest.mark.parametrize("tongue", TONGUES, ids=KINDS)
async def test_a_stream_that_is_well_is_let_go_with_its_first_content(tongue):
    events = tongue.events()
    failed, reply = await look(events, tongue.dialect)
    assert failed is None
    assert len(reply.pieces) > 0, "more was read than was needed"
    assert await rest_of(reply) == b"".join(events)


@pytest.mark.parametrize("tongue", TONGUES, ids=KINDS)
async def test_an_error_after_the_first_content_is_the_clients(tongue):
    events = [*tongue.events()[:-1], tongue.error_event()]
    failed, reply = await look(events, tongue.dialect)
    assert failed is None
    assert await rest_of(reply) == b"".join(events)


async def test_silence_is_not_held_back_for_longer_than_a_heartbeat():
    role = TONGUES[0].events()[0]
    failed, reply = await look([role, None, TONGUES[0].error_event()], "openai_chat")
    assert failed is None
    assert await rest_of(reply) == role + TONGUES[0].error_event()


async def test_bounds(monkeypatch):
    monkeypatch.setattr(opening, "MOST_EVENTS", 4)
    role, error = TONGUES[0].events()[0], TONGUES[0].error_event()
    assert (await look([role] * 5 + [error], "openai_chat"))[0] is None
    assert (await look([role] * 3 + [error], "openai_chat"))[0] is not None
    monkeypatch.setattr(opening, "MOST_BYTES", 100)
    assert (await look([b": " + b"x" * 100 + b"\n\n", error], "openai_chat"))[0] is None


async def test_what_is_no_stream_of_a_dialect_that_is_known_is_not_read():
    error = TONGUES[0].error_event()
    for dialect, content_type in (("openai_chat", b"application/json"), ("bedrock_converse", b"text/event-stream")):
        failed, reply = await look([error], dialect, content_type=content_type)
        assert (failed, reply.pieces) == (None, [error])


async def test_a_stream_that_breaks_off_before_it_began_has_failed():
    gone = UpstreamError("upstream_unreachable", "x", reason="reset", sent=True)
    call = call_of(live_of(Options(heartbeat=5.0)), spoken="openai_chat", stream=True)
    with pytest.raises(UpstreamError):
        await failure_in(call, Fed([TONGUES[0].events()[0], gone]))
    failed, reply = await look([b"data: {"], "openai_chat")
    assert failed is None
    assert await rest_of(reply) == b"data: {"
