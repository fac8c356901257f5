"""Google's Gemini API. Source: https://ai.google.dev/api/generate-content; only with `alt=sse` does it stream SSE."""

from fastgw.providers.base import Provider

PROVIDER = Provider(
    kind="gemini",
    base_url="https://generativelanguage.googleapis.com",
    speaks={"gemini": "/v1beta/models/{model}:generateContent"},
    stream_speaks={"gemini": "/v1beta/models/{model}:streamGenerateContent?alt=sse"},
    auth_header="x-goog-api-key",
    auth_scheme="",
    key_env="GEMINI_API_KEY",
    title="Google Gemini",
    docs="https://ai.google.dev/api/generate-content",
)
