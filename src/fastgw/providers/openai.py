"""OpenAI itself. Source: https://platform.openai.com/docs/api-reference."""

from fastgw.providers.base import Provider

PROVIDER = Provider(
    kind="openai",
    base_url="https://api.openai.com/v1",
    speaks={
        "openai_chat": "/chat/completions",
        "openai_completions": "/completions",
        "openai_embeddings": "/embeddings",
    },
    key_env="OPENAI_API_KEY",
    tested=True,
    title="OpenAI",
    docs="https://platform.openai.com/docs/api-reference",
)
