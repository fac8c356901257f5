"""Anthropic. Source: https://platform.claude.com/docs/en/api/overview (headers, versions)."""

from fastgw.plan.plan import Quirks
from fastgw.providers.base import Provider

NEWER = r"claude-(opus-4-[78]|mythos|(opus|sonnet|haiku|fable)-[5-9])"
MODELS = {
    r"claude-(opus|sonnet)-4-6": Quirks(features=("adaptive_thinking",)),
    NEWER: Quirks(features=("adaptive_thinking", "effort_xhigh", "no_temperature")),
    r"claude-(opus-4-8|(opus|sonnet|fable|mythos)-[5-9]|haiku-5-5)": Quirks(features=("mid_system",)),
}
"""Sources: https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking, .../effort and the pages "What's
new" of Claude Opus 4.7 (no sampling parameters) and 4.8 (system messages amid the others)."""

PROVIDER = Provider(
    kind="anthropic",
    base_url="https://api.anthropic.com",
    speaks={"anthropic_messages": "/v1/messages", "anthropic_count": "/v1/messages/count_tokens"},
    auth_header="x-api-key",
    auth_scheme="",
    key_env="ANTHROPIC_API_KEY",
    headers={"anthropic-version": "2023-06-01"},
    tested=True,
    title="Anthropic",
    docs="https://platform.claude.com/docs/en/api/messages",
    allow=("anthropic-beta",),
    models=MODELS,
)
