"""What the mock says and how it counts: tokens, invented values for a JSON Schema, embedding vectors.

All of it is a function of the request alone.
"""

import array
import hashlib
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

_PROSE: Final = (
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et dolore "
    "magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo "
    "consequat. Duis aute irure dolor in reprehenderit in voluptate velit esse cillum dolore eu fugiat nulla pariatur."
)
_LOREM: Final = _PROSE.split()
_PIECE = re.compile(r"\s*\S+|\s+\Z")
_CHARS_PER_TOKEN: Final = 4
_TOKENS_PER_MESSAGE: Final = 4
_DEPTH: Final = 16


@lru_cache(maxsize=64)
def lorem(count: int, start: int = 0) -> tuple[str, ...]:
    """`count` tokens of filler text, beginning at word `start`; joined they read as prose."""
    words = len(_LOREM)
    pieces = [" " + _LOREM[(start + i) % words] for i in range(count)]
    if pieces:
        pieces[0] = pieces[0][1:]
    return tuple(pieces)


def split_tokens(text: str) -> tuple[str, ...]:
    """Cut a text into token-like pieces; joined they are the text itself."""
    return tuple(_PIECE.findall(text))


def count_tokens(text: str) -> int:
    """Tokens of a text by the mock's rule: a token is four characters, begun ones count."""
    return -(-len(text) // _CHARS_PER_TOKEN)


def count_prompt(texts: Sequence[str]) -> int:
    """Prompt tokens of a chat: three for the reply's lead-in, four and its text for each message."""
    return 3 + sum(_TOKENS_PER_MESSAGE + count_tokens(text) for text in texts)


def cached_part(prompt: int, model: str = "") -> int:
    """How much of a prompt counts as cached: nothing below 1,024 tokens, then half, in steps of 128.

    A model with `cached` in its name has half of every prompt in its cache.
    """
    if "cached" in model:
        return prompt // 2
    return 0 if prompt < 1024 else prompt // 2 // 128 * 128


def example(schema: Any, depth: int = 0) -> Any:
    """A value that fits a JSON Schema (of the subset that tools use); the same schema gives the same value."""
    if not isinstance(schema, dict) or depth > _DEPTH:
        return None
    if schema.get("enum"):
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return example(schema[key][0], depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next(iter(kind), "null")
    if kind == "object":
        properties = schema.get("properties")
        known = properties if isinstance(properties, dict) else {}
        return {name: example(inner, depth + 1) for name, inner in known.items()}
    if kind == "array":
        return [example(schema["items"], depth + 1)] if isinstance(schema.get("items"), dict) else []
    # An integer no float can hold: a gateway that parses arguments into floats is found out.
    return {"integer": 9007199254740993, "number": 1.5, "boolean": True, "null": None}.get(kind, "mock")


def vector(text: str, dimensions: int) -> "array.array[float]":
    """The unit vector (32-bit floats) of a text; fewer dimensions are a prefix of more, rescaled."""
    raw = array.array("h", hashlib.shake_128(text.encode("utf-8", "surrogatepass")).digest(2 * dimensions))
    norm = math.sqrt(sum(x * x for x in raw)) or 1.0
    return array.array("f", [x / norm for x in raw])
