"""Azure OpenAI: a deployment is named in the path. Source: Azure's REST reference for OpenAI in Foundry Models."""

from fastgw.providers.base import Provider
from fastgw.providers.openai import REASONING

PROVIDER = Provider(
    kind="azure",
    speaks={
        "openai_chat": "/openai/deployments/{model}/chat/completions?api-version={api_version}",
        "openai_completions": "/openai/deployments/{model}/completions?api-version={api_version}",
        "openai_embeddings": "/openai/deployments/{model}/embeddings?api-version={api_version}",
    },
    auth_header="api-key",
    auth_scheme="",
    api_version="2024-10-21",
    tested=True,
    title="Azure OpenAI (deployments)",
    docs="https://learn.microsoft.com/azure/ai-foundry/openai/reference",
    models=REASONING,
    note="What is known of a model holds for deployments that are named like it. For tokens of Microsoft Entra ID give "
    "`auth` in place of `api_key` (credentials.md).",
)
