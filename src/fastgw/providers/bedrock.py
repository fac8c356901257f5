"""Amazon Bedrock, by Converse. Source: https://docs.aws.amazon.com/bedrock/latest/userguide/conversation-inference.html.

A model is named by its id, that of an inference profile (`us.anthropic.claude-...`), or an ARN. The credential is a
Bedrock API key, or the account's own by Signature Version 4.
"""

from fastgw.plan.plan import Quirks
from fastgw.providers import anthropic
from fastgw.providers.base import Provider

WORDS = ("adaptive_thinking", "effort_xhigh", "no_temperature")
"""What Claude's models differ in here as they do at Anthropic's own."""
MODELS = {
    rf"(.*[./])?anthropic\.{pattern}": Quirks(features=features)
    for pattern, quirks in anthropic.MODELS.items()
    if (features := tuple(word for word in quirks.features if word in WORDS))
}

PROVIDER = Provider(
    kind="bedrock",
    base_url="https://bedrock-runtime.{region}.amazonaws.com",
    speaks={"bedrock_converse": "/model/{model}/converse"},
    stream_speaks={"bedrock_converse": "/model/{model}/converse-stream"},
    key_env="AWS_BEARER_TOKEN_BEDROCK",
    auth="aws",
    tested=True,
    title="Amazon Bedrock",
    docs="https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html",
    note="needs a `region` (or AWS_REGION); what Converse has no field for is sent as Claude takes it, unless the "
    "model's id names another vendor",
    models=MODELS,
)
