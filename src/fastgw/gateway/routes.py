"""Which path is which operation. One raw, undecoded path decides, for authentication and dispatch alike."""

import re
from typing import NamedTuple

from fastgw.dialects import opaque, openai
from fastgw.dialects.base import Dialect
from fastgw.dialects.gemini.array import JsonArray, form_of
from fastgw.dialects.registry import (
    ANTHROPIC,
    ANTHROPIC_COUNT,
    GEMINI,
    GEMINI_BATCH_EMBED,
    GEMINI_COUNT,
    GEMINI_EMBED,
    RESPONSES,
    RESPONSES_COUNT,
)
from fastgw.errors import GatewayError
from fastgw.providers.surfaces import FAMILIES

PLAIN = re.compile(rb"/[A-Za-z0-9._~!$&'()*+,=:@-]+(?:/[A-Za-z0-9._~!$&'()*+,=:@-]+)*/?")
GENERATE = re.compile(
    rb"(?:/genai)?/v1(?:beta)?/models/([A-Za-z0-9][A-Za-z0-9._:@/-]{0,255}):"
    rb"(generateContent|streamGenerateContent|embedContent|batchEmbedContents|countTokens|predict|generateAnswer)"
)
DEPLOYMENT = re.compile(
    rb"/openai/deployments/([A-Za-z0-9._:@-]{1,128})/"
    rb"(chat/completions|completions|embeddings|images/generations|images/edits|audio/\w+)"
)
RESPONSE = re.compile(
    rb"(?:/openai)?/v1/responses/(?!input_tokens$|compact$)([A-Za-z0-9_-]{1,2048})(/cancel|/input_items)?"
)
_OPENAI_FAMILIES, _GEMINI_FAMILIES = ("|".join(FAMILIES[one]).encode() for one in ("openai", "gemini"))
KEPT = (
    ("openai", re.compile(rb"(?:/openai)?/v1/()((%b)(?:/.+)?)" % _OPENAI_FAMILIES)),
    ("anthropic", re.compile(rb"(?:/anthropic)?/v1/()(messages/(batches)(?:/.+)?)")),
    ("anthropic", re.compile(rb"/anthropic/v1/()((files)(?:/.+)?)")),
    ("gemini", re.compile(rb"(?:/genai)?(/upload)?/(v1beta/(%b)(?:/.+)?)" % _GEMINI_FAMILIES)),
    ("gemini", re.compile(rb"/genai(/upload)?/(v1/(%b)(?:/.+)?)" % _GEMINI_FAMILIES)),
)
"""By interface: what goes before the vendor's path, that path (Gemini's with its version), and the family it is of."""


class Endpoint(NamedTuple):
    """An operation that is proxied. `op` names it."""

    op: str
    dialect: Dialect


class Kept(NamedTuple):
    """Something kept at a vendor: whose `interface` (openai, anthropic, gemini), which `family` of things, and the
    path below the version (Gemini's with it). `upload` goes before the vendor's path (Gemini). Of one of OpenAI's
    responses: interface `responses`, what of it (`/cancel`) and its id.
    """

    interface: str
    family: str
    path: str
    upload: str = ""


class Match(NamedTuple):
    """What a path stands for: an endpoint to proxy, with what the path itself says of the call.

    `model`: the model it names ("" where the body does); `stream`: whether it asks for a stream (None: the body says).
    `kept`: what it is about where that is no model. `deployed`: the body may name a model too (Azure's paths).
    """

    endpoint: Endpoint
    model: str = ""
    stream: bool | None = None
    kept: Kept | None = None
    deployed: bool = False


_OPERATIONS = {
    b"chat/completions": Endpoint("chat", openai.CHAT),
    b"completions": Endpoint("completions", openai.COMPLETIONS),
    b"embeddings": Endpoint("embeddings", openai.EMBEDDINGS),
    b"responses": Endpoint("chat", RESPONSES),
    **{name.encode(): Endpoint(name, dialect) for name, dialect in opaque.OPENAI.items()},
    b"responses/input_tokens": Endpoint("count", RESPONSES_COUNT),
}
_METHODS = {
    b"generateContent": (Endpoint("chat", GEMINI), False),
    b"streamGenerateContent": (Endpoint("chat", GEMINI), True),
    b"embedContent": (Endpoint("embeddings", GEMINI_EMBED), False),
    b"batchEmbedContents": (Endpoint("embeddings", GEMINI_BATCH_EMBED), False),
    b"countTokens": (Endpoint("count", GEMINI_COUNT), False),
    **{name.encode(): (Endpoint(name, dialect), False) for name, dialect in opaque.GEMINI.items()},
}
"""Gemini's methods, and whether they stream."""
PROXIED: dict[bytes, Match] = {
    prefix + b"/v1/" + path: Match(endpoint) for path, endpoint in _OPERATIONS.items() for prefix in (b"", b"/openai")
}
PROXIED |= dict.fromkeys((b"/v1/messages", b"/anthropic/v1/messages"), Match(Endpoint("chat", ANTHROPIC)))
PROXIED |= dict.fromkeys(
    (b"/v1/messages/count_tokens", b"/anthropic/v1/messages/count_tokens"), Match(Endpoint("count", ANTHROPIC_COUNT))
)
PROXIED[b"/v2/rerank"] = Match(Endpoint("v2/rerank", opaque.RERANK))
_COMPLETE = Match(Endpoint("complete", opaque.ANTHROPIC["complete"]))
PROXIED |= dict.fromkeys((b"/v1/complete", b"/anthropic/v1/complete"), _COMPLETE)
MODELS = (
    b"/v1/models", b"/openai/v1/models", b"/anthropic/v1/models", b"/v1beta/models", b"/genai/v1beta/models",
    b"/genai/v1/models",
)  # fmt: skip
LIVE, READY = b"/health/live", b"/health/ready"


def named(path: bytes) -> Match | None:
    """Paths that name the model: Azure's `/openai/deployments/{model}/...`, Gemini's `/v1beta/models/{model}:...`."""
    if malformed(path):
        return None
    match = DEPLOYMENT.fullmatch(path)
    if match and match[2] in _OPERATIONS:
        return Match(_OPERATIONS[match[2]], match[1].decode(), deployed=True)
    match = GENERATE.fullmatch(path)
    if match:
        endpoint, stream = _METHODS[match[2]]
        return Match(endpoint, match[1].decode(), stream)
    return None


def form(query: bytes) -> JsonArray | None:
    """How a stream is to be written that Gemini's path asks for. Raises GatewayError (`bad_request`)."""
    try:
        return form_of(query)
    except ValueError:
        raise GatewayError(
            "bad_request", "alt must be sse (server-sent events) or json (one array, as without it)."
        ) from None


def kept(path: bytes) -> Match | None:
    """Paths about what is kept at a vendor, in whichever method; whether they are served is for others to say."""
    if malformed(path):
        return None
    if (match := RESPONSE.fullmatch(path)) is not None:
        return _about(Kept("responses", (match[2] or b"").decode(), match[1].decode()), "openai")
    for interface, pattern in KEPT:
        if (match := pattern.fullmatch(path)) is not None:
            upload, rest, family_of = (group.decode() for group in match.groups(b""))
            return _about(Kept(interface, family_of, rest, upload), interface)
    return None


def _about(one: Kept, shape: str) -> Match:
    return Match(Endpoint("kept", opaque.KEPT[shape]), kept=one)


def model_in(path: bytes) -> str | None:
    """The name in a path that asks for one model, None for other paths. SDKs write the `/` in a name as `%2F`."""
    for prefix in MODELS:
        if path.startswith(prefix + b"/"):
            name = path[len(prefix) + 1 :].replace(b"%2F", b"/")
            return None if malformed(b"/" + name) else name.decode("ascii")
    return None


def malformed(path: bytes) -> bool:
    """Whether a path could be read as two different ones: `//`, dot segments, `%`, `;`, backslashes."""
    if path == b"/":
        return False
    return PLAIN.fullmatch(path) is None or b"/./" in path + b"/" or b"/../" in path + b"/"


def family(path: bytes) -> str:
    """In whose shape an error on this path is written: `openai`, `anthropic` or `gemini`."""
    if path.startswith((b"/anthropic/", b"/v1/messages")):
        return "anthropic"
    if path.startswith((b"/genai/", b"/v1beta/")) or (path.startswith(b"/v1/models/") and b":" in path):
        return "gemini"
    return "openai"
