"""Any server that speaks OpenAI's dialect below a `base_url` (vLLM, Ollama, llama.cpp, another gateway, ...)."""

from fastgw.providers.base import Provider

PROVIDER = Provider(
    kind="openai_compatible",
    speaks={
        "openai_chat": "/chat/completions",
        "openai_completions": "/completions",
        "openai_embeddings": "/embeddings",
    },
    key_required=False,
    tested=True,
    title="Any OpenAI-compatible server",
    docs="https://platform.openai.com/docs/api-reference",
)
