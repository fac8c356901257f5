"""Cohere's own interface; its OpenAI-compatible one, at another address, is the kind `cohere`.

Source: https://docs.cohere.com/reference/embed. Only it can be told what embeddings are for.
"""

from fastgw.providers.base import Provider

PROVIDER = Provider(
    kind="cohere_v2",
    base_url="https://api.cohere.com",
    speaks={"cohere_embed": "/v2/embed"},
    title="Cohere (API v2)",
    docs="https://docs.cohere.com/reference/embed",
    note="Takes its key as `api_key`; `COHERE_API_KEY` alone switches on `cohere`.",
)
