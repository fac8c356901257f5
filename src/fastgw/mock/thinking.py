"""Thinking that the mock shows: its text, its signature, and how budgets and levels of effort go together."""

import base64
import hashlib
from typing import Final

from fastgw.mock.text import lorem

# A budget stands for the first level that holds it: https://ai.google.dev/gemini-api/docs/openai#thinking
_BUDGETS: Final = ((0, "none"), (1024, "low"), (8192, "medium"), (24576, "high"))
_START: Final = 19  # another place in the prose than any answer's


def effort_of(budget: int) -> str:
    """The level that a budget of thinking tokens stands for; a negative budget leaves it to the model."""
    if budget < 0:
        return "medium"
    return next((effort for most, effort in _BUDGETS if budget <= most), "xhigh")


def thoughts(tokens: int) -> tuple[str, ...]:
    """The text of so many thinking tokens."""
    return lorem(tokens, start=_START)


def signature_of(text: str) -> str:
    """The signature of a thought or call, in base64; the same text has the same."""
    return base64.b64encode(hashlib.sha256(f"mock-signature {text}".encode()).digest()).decode()
