"""Which path is which operation. One raw, undecoded path decides, for authentication and dispatch alike."""

import re
from typing import NamedTuple

from fastgw.dialects import openai
from fastgw.dialects.base import Dialect
from fastgw.dialects.registry import ANTHROPIC, GEMINI, RESPONSES

PLAIN = re.compile(rb"/[A-Za-z0-9._~!$&'()*+,=:@-]+(?:/[A-Za-z0-9._~!$&'()*+,=:@-]+)*/?")
GENERATE = re.compile(
    rb"(?:/genai)?/v1(?:beta)?/models/([A-Za-z0-9][A-Za-z0-9._:@/-]{0,255}):(generateContent|streamGenerateContent)"
)
DEPLOYMENT = re.compile(rb"/openai/deployments/([A-Za-z0-9._:@-]{1,128})/(chat/completions|completions|embeddings)")


class Endpoint(NamedTuple):
    """An operation that is proxied. `op` names it."""

    op: str
    dialect: Dialect


class Match(NamedTuple):
    """What a path stands for: an endpoint to proxy, with what the path itself says of the call.

    `model`: the model it names ("" where the body does); `stream`: whether it asks for a stream (None: the body says).
    """

    endpoint: Endpoint
    model: str = ""
    stream: bool | None = None


_OPERATIONS = {
    b"chat/completions": Endpoint("chat", openai.CHAT),
    b"completions": Endpoint("completions", openai.COMPLETIONS),
    b"embeddings": Endpoint("embeddings", openai.EMBEDDINGS),
    b"responses": Endpoint("chat", RESPONSES),
}
_GENERATE = Endpoint("chat", GEMINI)
PROXIED: dict[bytes, Match] = {
    prefix + b"/v1/" + path: Match(endpoint) for path, endpoint in _OPERATIONS.items() for prefix in (b"", b"/openai")
}
PROXIED |= dict.fromkeys((b"/v1/messages", b"/anthropic/v1/messages"), Match(Endpoint("chat", ANTHROPIC)))
MODELS = (b"/v1/models", b"/openai/v1/models")
LIVE, READY = b"/health/live", b"/health/ready"


def named(path: bytes) -> Match | None:
    """Paths that name the model: Azure's `/openai/deployments/{model}/...`, Gemini's `/v1beta/models/{model}:...`."""
    if malformed(path):
        return None
    match = DEPLOYMENT.fullmatch(path)
    if match:
        return Match(_OPERATIONS[match[2]], match[1].decode())
    match = GENERATE.fullmatch(path)
    if match:
        return Match(_GENERATE, match[1].decode(), match[2] == b"streamGenerateContent")
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
