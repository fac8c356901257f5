"""Google's Gemini API. Source: https://ai.google.dev/api/generate-content; only with `alt=sse` does it stream SSE."""

from fastgw.plan.plan import Quirks
from fastgw.providers.base import Provider

MODELS = {
    r"gemini-(2\.5|[3-9])": Quirks(features=("json_schema", "fetch_urls")),
    r"gemini-[3-9]": Quirks(features=("thinking_level", "thought_signatures", "tool_images")),
}
"""Sources, below https://ai.google.dev/gemini-api/docs: structured-output, file-input-methods (not for 2.0), gemini-3,
thought-signatures, function-calling (media in a functionResponse)."""

PROVIDER = Provider(
    kind="gemini",
    base_url="https://generativelanguage.googleapis.com",
    speaks={
        "gemini": "/v1beta/models/{model}:generateContent",
        "gemini_embed": "/v1beta/models/{model}:embedContent",
        "gemini_batch_embed": "/v1beta/models/{model}:batchEmbedContents",
        "gemini_count": "/v1beta/models/{model}:countTokens",
    },
    stream_speaks={"gemini": "/v1beta/models/{model}:streamGenerateContent?alt=sse"},
    auth_header="x-goog-api-key",
    auth_scheme="",
    key_env="GEMINI_API_KEY",
    tested=True,
    title="Google Gemini",
    docs="https://ai.google.dev/api/generate-content",
    models=MODELS,
)
