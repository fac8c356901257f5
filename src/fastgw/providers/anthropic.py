"""Anthropic. Source: https://platform.claude.com/docs/en/api/overview (headers, versions)."""

from fastgw.providers.base import Provider

PROVIDER = Provider(
    kind="anthropic",
    base_url="https://api.anthropic.com",
    speaks={"anthropic_messages": "/v1/messages"},
    auth_header="x-api-key",
    auth_scheme="",
    key_env="ANTHROPIC_API_KEY",
    headers={"anthropic-version": "2023-06-01"},
    title="Anthropic",
    docs="https://platform.claude.com/docs/en/api/messages",
    allow=("anthropic-beta",),
)
