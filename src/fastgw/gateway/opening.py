"""Holding back a stream until its first content: one that opens with an error can be asked of another target."""

from time import monotonic

from fastgw.call import Call
from fastgw.dialects import framing
from fastgw.dialects.opening import JUDGES, judge
from fastgw.upstream.reply import Reply

MOST_BYTES = 256 * 1024
MOST_EVENTS = 64


async def failure_in(call: Call, reply: Reply) -> bytes | None:
    """The event by which a stream that has begun with nothing else says that it failed; None for all others.

    What was read is put back, so that the relay sees the stream from its first byte. Nothing is held back for longer
    than a heartbeat: a model that thinks must not look dead. Raises UpstreamError as `Reply.read` does.
    """
    if call.spoken not in JUDGES or not _is_stream(reply):
        return None
    held = b""
    frames = framing.ServerSentEvents()
    seen = 0
    call.poke_at = monotonic() + call.live.options.heartbeat
    failed: bytes | None = None
    while data := await reply.read():
        held += data
        found = [payload for _, payload in frames.feed(data)]
        seen += len(found)
        verdict, failed = _look(call.spoken, found)
        if verdict != "waiting" or seen > MOST_EVENTS or len(held) > MOST_BYTES:
            break
    call.poke_at = 0.0
    reply.unread(held)
    return failed


def _look(dialect: str, payloads: list[bytes]) -> tuple[str, bytes | None]:
    for payload in payloads:
        verdict = judge(dialect, payload)
        if verdict != "waiting":
            return verdict, payload if verdict == "failed" else None
    return "waiting", None


def _is_stream(reply: Reply) -> bool:
    content_type = reply.header(b"content-type")
    return content_type is None or content_type.lower().startswith(b"text/event-stream")
