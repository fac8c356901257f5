"""What a call may come to use, before anybody knows: what limits on tokens and money hold back until it has ended.

Input is guessed from the size of the body: four bytes a token, and what is sent as base64 counts by the piece, not by
its bytes. Output is what the caller bounds it to, times the answers asked for; without a bound, the model's own figure.
"""

import re

import msgspec
from msgspec import Struct

from fastgw._core import fields

BYTES_PER_TOKEN = 4
BASE64 = re.compile(rb'(?:;base64,|"data" ?: ?")[A-Za-z0-9+/_=-]{256,}')
LOOK_FROM = 4096
"""Bodies smaller than this hold no picture worth looking for."""

PIECE_TOKENS = 1600
"""Of a picture at its largest: about what Anthropic counts for 1.15 megapixels and OpenAI for the most tiles."""

BYTES_PER_MEDIA_TOKEN = 512
"""Beyond that, of what may be a document or a recording."""

MAX_TOKENS = 1 << 40
BOUNDS: dict[str, tuple[bytes, ...]] = {
    "openai_chat": (b"max_completion_tokens", b"max_tokens"),
    "openai_completions": (b"max_tokens",),
    "openai_responses": (b"max_output_tokens",),
    "anthropic_messages": (b"max_tokens",),
}
"""By dialect, the fields that bound the output, the newest name first."""

ANSWERS = (b"n",)
DEFAULT_OUTPUT = {"openai_completions": 16}
"""What the interface itself takes for a bound, where it has one."""


class _Generation(Struct, rename="camel"):
    max_output_tokens: int | None = None
    candidate_count: int | None = None


class _Snake(Struct):
    max_output_tokens: int | None = None
    candidate_count: int | None = None


_generation = msgspec.json.Decoder(_Generation, strict=False).decode
_snake = msgspec.json.Decoder(_Snake, strict=False).decode


def tokens(dialect: str, body: fields.Fields, size: int, output: int) -> tuple[int, int]:
    """Input and output tokens of a call with a body of `size`; `output` where nothing bounds the answer."""
    given = _input(body.replace({})) if size >= LOOK_FROM else size // BYTES_PER_TOKEN
    if dialect == "gemini":
        return given, _gemini_output(body, output)
    bounds = BOUNDS.get(dialect)
    if bounds is None:
        return given, 0
    bound = body.positive(bounds) or DEFAULT_OUTPUT.get(dialect, output)
    return given, min(bound * (body.positive(ANSWERS) or 1), MAX_TOKENS)


def _input(raw: bytes) -> int:
    size, pieces = len(raw), 0
    for found in BASE64.finditer(raw):
        length = found.end() - found.start()
        size -= length
        pieces += PIECE_TOKENS + length // BYTES_PER_MEDIA_TOKEN
    return size // BYTES_PER_TOKEN + pieces


def _gemini_output(body: fields.Fields, output: int) -> int:
    raw = body.get(b"generationConfig") or body.get(b"generation_config")
    if raw is None:
        return output
    try:
        found: _Generation | _Snake = _generation(raw)
        if found.max_output_tokens is None:
            found = _snake(raw)
    except (msgspec.MsgspecError, RecursionError):
        return output
    most, answers = found.max_output_tokens or 0, found.candidate_count or 1
    return min((most if most > 0 else output) * max(answers, 1), MAX_TOKENS)
