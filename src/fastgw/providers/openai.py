"""OpenAI itself. Source: https://platform.openai.com/docs/api-reference."""

from fastgw.plan.plan import Quirks
from fastgw.providers.base import Provider

REASONING = {
    r"(o\d|gpt-5)(?!.*chat)": Quirks(rename={"max_tokens": "max_completion_tokens"}),
    r"(o\d|gpt-5(?![.\d])(?!.*chat))": Quirks(
        drop=(
            *("temperature", "top_p", "presence_penalty", "frequency_penalty"),
            *("logprobs", "top_logprobs", "logit_bias"),
        )
    ),
}
"""Models that reason refuse the limit's old name, and all but the newest refuse to be sampled otherwise.

Source: https://learn.microsoft.com/azure/ai-foundry/openai/how-to/reasoning ("Not supported").
"""

PROVIDER = Provider(
    kind="openai",
    base_url="https://api.openai.com/v1",
    speaks={
        "openai_chat": "/chat/completions",
        "openai_completions": "/completions",
        "openai_embeddings": "/embeddings",
        "openai_responses_count": "/responses/input_tokens",
    },
    key_env="OPENAI_API_KEY",
    tested=True,
    title="OpenAI",
    docs="https://platform.openai.com/docs/api-reference",
    models=REASONING,
)
