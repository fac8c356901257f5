"""The dialects that can be translated between, and the pass-through half of those that are clients' dialects."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from fastgw.dialects.anthropic_messages import codec as anthropic_messages
from fastgw.dialects.bedrock_converse import codec as bedrock_converse
from fastgw.dialects.codec import Codec, UpstreamCodec
from fastgw.dialects.counting import anthropic as anthropic_count
from fastgw.dialects.counting import gemini as gemini_count
from fastgw.dialects.counting import openai as responses_count
from fastgw.dialects.embeddings import cohere as cohere_embed
from fastgw.dialects.embeddings import gemini as gemini_embed
from fastgw.dialects.embeddings import openai as openai_embed
from fastgw.dialects.gemini import codec as gemini
from fastgw.dialects.openai_chat import codec as openai_chat
from fastgw.dialects.openai_responses import codec as openai_responses
from fastgw.dialects.passing import PassingDialect
from fastgw.dialects.whole import Asked, WholeCodec, WholeDialect, rename_top

CODECS: dict[str, Codec] = {
    codec.name: codec for codec in (openai_chat.CODEC, anthropic_messages.CODEC, gemini.CODEC, openai_responses.CODEC)
}
"""By name, in the order in which a provider that speaks several is translated to."""
UPSTREAMS: dict[str, UpstreamCodec] = {**CODECS, bedrock_converse.CODEC.name: bedrock_converse.CODEC}
"""Those that are translated to; clients are spoken to in the first of them only."""

ANTHROPIC = PassingDialect(anthropic_messages.CODEC, "anthropic", (b"model", b"messages", b"max_tokens"))
GEMINI = PassingDialect(gemini.CODEC, "gemini", (b"contents",))
RESPONSES = PassingDialect(openai_responses.CODEC, "openai", (b"model",))

_TEXTS: tuple[WholeCodec, ...] = (openai_embed.CODEC, gemini_embed.CODEC_ONE, gemini_embed.CODEC_MANY)
# A vendor's own dialect goes before its OpenAI-compatible one, which knows fewer of the fields.
_VECTORS: tuple[Asked, ...] = (cohere_embed.CODEC, gemini_embed.CODEC_MANY, openai_embed.CODEC)
_COUNTS: tuple[WholeCodec, ...] = (anthropic_count.CODEC, gemini_count.CODEC, responses_count.CODEC)


class Operation(NamedTuple):
    """What several dialects can do: the codecs of `clients` are translated from, those of `providers` to.

    By name; a provider that speaks several is translated to the first. `lacking` says what one that speaks none of
    them cannot do. `streams`: it has a streamed form, and codecs as in `dialects.codec`, else as in `dialects.whole`.
    """

    clients: Mapping[str, Any]
    providers: Mapping[str, Any]
    lacking: str
    streams: bool = False


OPERATIONS = {
    "chat": Operation(CODECS, UPSTREAMS, "offers no chat in a dialect known here", streams=True),
    "embeddings": Operation(
        {one.name: one for one in _TEXTS}, {one.name: one for one in _VECTORS}, "has no embeddings"
    ),
    "count": Operation(
        {one.name: one for one in _COUNTS},
        {one.name: one for one in _COUNTS},
        "cannot count tokens, and this gateway does not guess them",
    ),
}
OPERATION_OF = {name: op for op, one in OPERATIONS.items() for name in (*one.clients, *one.providers)}

GEMINI_EMBED = WholeDialect(gemini_embed.CODEC_ONE, "gemini", (b"content",), gemini_embed.rename)
GEMINI_BATCH_EMBED = WholeDialect(gemini_embed.CODEC_MANY, "gemini", (b"requests",), gemini_embed.rename)
ANTHROPIC_COUNT = WholeDialect(anthropic_count.CODEC, "anthropic", (b"model", b"messages"), rename_top, billed=False)
GEMINI_COUNT = WholeDialect(gemini_count.CODEC, "gemini", (), gemini_count.rename, billed=False)
RESPONSES_COUNT = WholeDialect(responses_count.CODEC, "openai", (b"model",), rename_top, billed=False)
