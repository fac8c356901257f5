"""The dialects that can be translated between, and the pass-through half of those that are clients' dialects."""

from fastgw.dialects import gemini, openai_chat, openai_responses
from fastgw.dialects.codec import Codec
from fastgw.dialects.passing import PassingDialect

CODECS: dict[str, Codec] = {codec.name: codec for codec in (openai_chat.CODEC, gemini.CODEC, openai_responses.CODEC)}
"""By name, in the order in which a provider that speaks several is translated to."""

GEMINI = PassingDialect(gemini.CODEC, "gemini", (b"contents",))
RESPONSES = PassingDialect(openai_responses.CODEC, "openai", (b"model",))
