"""The dialects that can be translated between, and the pass-through half of those that are clients' dialects."""

from fastgw.dialects.anthropic_messages import codec as anthropic_messages
from fastgw.dialects.codec import Codec
from fastgw.dialects.gemini import codec as gemini
from fastgw.dialects.openai_chat import codec as openai_chat
from fastgw.dialects.openai_responses import codec as openai_responses
from fastgw.dialects.passing import PassingDialect

CODECS: dict[str, Codec] = {
    codec.name: codec for codec in (openai_chat.CODEC, anthropic_messages.CODEC, gemini.CODEC, openai_responses.CODEC)
}
"""By name, in the order in which a provider that speaks several is translated to."""

ANTHROPIC = PassingDialect(anthropic_messages.CODEC, "anthropic", (b"model", b"messages", b"max_tokens"))
GEMINI = PassingDialect(gemini.CODEC, "gemini", (b"contents",))
RESPONSES = PassingDialect(openai_responses.CODEC, "openai", (b"model",))
