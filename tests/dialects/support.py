"""Streams of OpenAI's dialect, in pieces."""

import json

from fastgw.dialects.openai import CHAT

USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 4,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
DONE = b"data: [DONE]\n\n"


def event(**chunk):
    return b"data: " + json.dumps(chunk, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def delta(text, **more):
    return event(id="c", choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more)


def finish(**more):
    return event(id="c", choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], **more)


def usage_chunk(**more):
    return event(id="c", choices=[], usage=USAGE, **more)


def run(pieces, *, wants=False, cost=None):
    """The tap after all pieces and a clean end, and all that came out."""
    tap = CHAT.tap(wants_usage=wants, cost=lambda usage: cost)
    out = [tap.feed(piece) for piece in pieces]
    out.append(tap.finish())
    return tap, b"".join(out)
