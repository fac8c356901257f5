"""Vendors, as data: where a vendor is, which dialects it speaks and how it wants to be asked.

A vendor of the OpenAI-compatible field is a row in `compatible.py`; one with a dialect or a credential of its own is a
file with a `PROVIDER`. `PROVIDERS` are the kinds a config may name.
"""

from fastgw.providers import (
    anthropic,
    azure,
    bedrock,
    cohere,
    compatible,
    gemini,
    openai,
    openai_compatible,
    vertex,
    watsonx,
)
from fastgw.providers.base import Provider

PROVIDERS: dict[str, Provider] = {
    one.kind: one
    for one in (
        openai.PROVIDER,
        azure.PROVIDER,
        anthropic.PROVIDER,
        gemini.PROVIDER,
        bedrock.PROVIDER,
        cohere.PROVIDER,
        vertex.GEMINI,
        vertex.ANTHROPIC,
        watsonx.PROVIDER,
        openai_compatible.PROVIDER,
        *compatible.ROWS,
    )
}


def list_providers() -> list[Provider]:
    """Every vendor that can be served, in the order of the documentation."""
    return list(PROVIDERS.values())


def show_provider(kind: str) -> Provider | None:
    """The vendor of this kind, or None."""
    return PROVIDERS.get(kind)
