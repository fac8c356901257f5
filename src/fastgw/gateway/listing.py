"""Lists of models in the shape that the caller's SDK reads: OpenAI's, Anthropic's or Gemini's.

Sources: https://platform.openai.com/docs/api-reference/models, https://docs.anthropic.com/en/api/models-list,
https://ai.google.dev/api/models. One path, `/v1/models`, is that of all three SDKs: their headers tell them apart.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import parse_qs

import msgspec

from fastgw.errors import GatewayError
from fastgw.gateway.exchange import Exchange

EPOCH = "1970-01-01T00:00:00Z"
"""What Anthropic tells of a model whose date of release it does not know."""
METHODS = ["generateContent", "streamGenerateContent"]
GEMINI_HEADERS = frozenset({b"x-goog-api-key", b"x-goog-api-client"})
MAX_PAGE = 1000


class Shape(NamedTuple):
    """One vendor's way to tell of models: `one` by name, `all` as the whole answer to a query string."""

    one: Callable[[str], dict[str, object]]
    all: Callable[[Sequence[str], bytes], dict[str, object]]


def shape_of(exchange: Exchange) -> Shape:
    """In whose shape this request wants its answer."""
    path = exchange.path
    if path.startswith(b"/anthropic/"):
        return ANTHROPIC
    if path.startswith((b"/v1beta/", b"/genai/")):
        return GEMINI
    sent = {name.lower() for name, _ in exchange.headers}
    if b"anthropic-version" in sent:
        return ANTHROPIC
    return OPENAI if sent.isdisjoint(GEMINI_HEADERS) else GEMINI


def listed(shape: Shape, names: Sequence[str], query: bytes) -> bytes:
    """The answer to a list of models. Raises GatewayError (`bad_request`) for a page that cannot be given."""
    return msgspec.json.encode(shape.all(names, query))


def described(shape: Shape, name: str) -> bytes:
    """The answer to one model."""
    return msgspec.json.encode(shape.one(name))


def _openai(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "fastgw"}


def _openai_list(names: Sequence[str], query: bytes) -> dict[str, object]:
    return {"object": "list", "data": [_openai(name) for name in names]}


def _anthropic(name: str) -> dict[str, object]:
    return {"type": "model", "id": name, "display_name": name, "created_at": EPOCH, "lifecycle": "active"}


def _anthropic_list(names: Sequence[str], query: bytes) -> dict[str, object]:
    asked = _query(query)
    size = _size(asked, "limit", len(names))
    start, end = 0, len(names)
    if "after_id" in asked:
        start = _place(names, asked, "after_id") + 1
    elif "before_id" in asked:
        end = _place(names, asked, "before_id")
        start = max(0, end - size)
    page = names[start : min(end, start + size)]
    # Towards the start, what is left is before the page and not after it.
    more = start > 0 if "before_id" in asked and "after_id" not in asked else start + len(page) < len(names)
    ends = {"first_id": page[0] if page else None, "last_id": page[-1] if page else None}
    return {"data": [_anthropic(name) for name in page], "has_more": more, **ends}


def _gemini(name: str) -> dict[str, object]:
    return {"name": f"models/{name}", "version": "", "displayName": name, "supportedGenerationMethods": METHODS}


def _gemini_list(names: Sequence[str], query: bytes) -> dict[str, object]:
    asked = _query(query)
    size = _size(asked, "pageSize", len(names))
    token = asked.get("pageToken", "")
    start = _place(names, asked, "pageToken") + 1 if token else 0
    page = names[start : start + size]
    answer: dict[str, object] = {"models": [_gemini(name) for name in page]}
    if start + len(page) < len(names) and page:
        answer["nextPageToken"] = page[-1]
    return answer


def _query(query: bytes) -> dict[str, str]:
    """The fields of a query string, of each the last."""
    return {name: values[-1] for name, values in parse_qs(query.decode("latin-1")).items()}


def _size(asked: dict[str, str], field: str, default: int) -> int:
    text = asked.get(field, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_PAGE):
        raise GatewayError("bad_request", f"{field} must be a number from 1 to {MAX_PAGE}.", param=field)
    return int(text)


def _place(names: Sequence[str], asked: dict[str, str], field: str) -> int:
    try:
        return names.index(asked[field])
    except ValueError:
        raise GatewayError("bad_request", f"{field} is none of the models in this list.", param=field) from None


OPENAI = Shape(_openai, _openai_list)
ANTHROPIC = Shape(_anthropic, _anthropic_list)
GEMINI = Shape(_gemini, _gemini_list)
