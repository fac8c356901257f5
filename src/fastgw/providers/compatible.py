"""The OpenAI-compatible field: vendors and servers whose whole difference is an address, a credential and what of
OpenAI's interface they offer.

Addresses and the names of variables are those of public documentation (`docs` is the vendor's own). Variables that
other tools keep for other ends (`HF_TOKEN`, `GITHUB_TOKEN`) switch nothing on: who has one for downloads has not asked
for a vendor, and a second vendor takes the bare model names from the first.
"""

from typing import Any

from fastgw.plan.plan import Quirks
from fastgw.providers import fixes
from fastgw.providers.base import Provider
from fastgw.providers.openai import REASONING

CHAT = {"openai_chat": "/chat/completions"}
COMPLETIONS = {"openai_completions": "/completions"}
EMBEDDINGS = {"openai_embeddings": "/embeddings"}
ALL = {**CHAT, **COMPLETIONS, **EMBEDDINGS}
# `asks_usage` is false for those that refuse `stream_options`.
# Mistral: https://github.com/openai/openai-agents-python/issues/442; Cohere:
# https://strandsagents.com/docs/user-guide/concepts/model-providers/cohere/.


OLD_LIMIT = {"max_completion_tokens": "max_tokens"}
"""For those whose pages know the limit by its first name only; some of them do not even complain about the other."""


def _row(
    kind: str, title: str, base_url: str, key_env: str, docs: str, speaks: dict[str, str] = CHAT, **more: Any
) -> Provider:
    """A vendor that takes its key as a bearer token; `more` are further fields of it."""
    return Provider(kind=kind, title=title, base_url=base_url, key_env=key_env, docs=docs, speaks=speaks, **more)


def _local(kind: str, title: str, base_url: str, docs: str, **more: Any) -> Provider:
    """A server one runs oneself, at its usual address (none where it has none); a key only where it asks for one."""
    return Provider(kind=kind, title=title, base_url=base_url, docs=docs, speaks=ALL, key_required=False, **more)


VENDORS = (
    Provider(
        kind="mistral",
        title="Mistral",
        base_url="https://api.mistral.ai/v1",
        speaks={**CHAT, **EMBEDDINGS},
        key_env="MISTRAL_API_KEY",
        docs="https://docs.mistral.ai/api",
        asks_usage=False,
        # A field that is not on its page is a 422 (extra_forbidden): https://docs.mistral.ai/api/endpoint/chat,
        # https://github.com/editor-code-assistant/eca/issues/231.
        rename_fields={**OLD_LIMIT, "seed": "random_seed"},
        drop_fields=("logit_bias", "logprobs", "top_logprobs", "store", "stream_options", "user"),
        features=("max_tokens", "system_only", "prefix"),
        fix_request=fixes.system_only,
        tested=True,
    ),
    Provider(
        kind="cohere",
        title="Cohere (Compatibility API)",
        base_url="https://api.cohere.ai/compatibility/v1",
        speaks={**CHAT, **EMBEDDINGS},
        key_env="COHERE_API_KEY",
        docs="https://docs.cohere.com/docs/compatibility-api",
        asks_usage=False,
        rename_fields=OLD_LIMIT,
        # The list "Unsupported parameters" of its page, both parts; it takes no stream_options either.
        drop_fields=(
            *("store", "metadata", "logit_bias", "top_logprobs", "n", "modalities", "prediction", "audio"),
            *("service_tier", "parallel_tool_calls", "stream_options", "dimensions", "user"),
        ),
        features=("max_tokens",),
        tested=True,
    ),
    _row(
        "groq",
        "Groq",
        "https://api.groq.com/openai/v1",
        "GROQ_API_KEY",
        "https://console.groq.com/docs/openai",
        # "Currently Unsupported OpenAI Features" of that page, `messages[].name` among them: each is a 400.
        drop_fields=("logprobs", "logit_bias", "top_logprobs"),
        clamp={"n": (1, 1)},
        fix_request=fixes.no_names,
        tested=True,
    ),
    _row(
        "deepseek",
        "DeepSeek",
        "https://api.deepseek.com",
        "DEEPSEEK_API_KEY",
        "https://api-docs.deepseek.com",
        # https://api-docs.deepseek.com/api/create-chat-completion, /guides/reasoning_model, /guides/thinking_mode.
        rename_fields=OLD_LIMIT,
        features=("max_tokens", "system_only", "many_stops", "reasoning_content"),
        models={"deepseek-reasoner": Quirks(drop=("logprobs", "top_logprobs"))},
        fix_request=fixes.system_only,
        tested=True,
    ),
    _row(
        "xai",
        "xAI",
        "https://api.x.ai/v1",
        "XAI_API_KEY",
        "https://docs.x.ai/docs/api-reference",
        # https://docs.x.ai/docs/guides/reasoning: errors for models that reason; of some the effort is fixed.
        models={
            r"grok-(3-mini|4|code)(?!.*non-reasoning)": Quirks(drop=("presence_penalty", "frequency_penalty", "stop")),
            r"grok-(4$|4-(0709|latest|fast|1-fast)|4\.20|code)": Quirks(drop=("reasoning_effort",)),
        },
        tested=True,
    ),
    _row(
        "openrouter",
        "OpenRouter",
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
        "https://openrouter.ai/docs/api-reference/overview",
        ALL,
        # https://openrouter.ai/docs: /features/prompt-caching, /use-cases/reasoning-tokens, /features/multimodal/pdfs.
        features=("cache_control", "reasoning", "reasoning_details", "file_urls", "top_k"),
        tested=True,
    ),
    _row(
        "together",
        "Together AI",
        "https://api.together.ai/v1",
        "TOGETHER_API_KEY",
        "https://docs.together.ai/docs/inference/openai-compatibility",
        ALL,
        # https://docs.together.ai/reference/chat-completions-1.
        rename_fields=OLD_LIMIT,
        features=("max_tokens", "top_k"),
        tested=True,
    ),
    _row(
        "fireworks",
        "Fireworks AI",
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
        "https://docs.fireworks.ai/tools-sdks/openai-compatibility",
        ALL,
        # https://docs.fireworks.ai/api-reference/post-chatcompletions.
        features=("top_k", "reasoning_content"),
        tested=True,
    ),
    Provider(
        kind="perplexity",
        title="Perplexity",
        base_url="https://api.perplexity.ai",
        speaks=CHAT,
        key_env="PERPLEXITY_API_KEY",
        docs="https://docs.perplexity.ai",
        note="Bills searches beside tokens; the record's cost is that of the tokens.",
        # https://docs.perplexity.ai/api-reference/chat-completions-post.
        rename_fields=OLD_LIMIT,
        features=("max_tokens", "top_k"),
        tested=True,
    ),
    _row(
        "cerebras",
        "Cerebras",
        "https://api.cerebras.ai/v1",
        "CEREBRAS_API_KEY",
        "https://inference-docs.cerebras.ai/resources/openai",
        {**CHAT, **COMPLETIONS},
        # "We do not expose `developer`" on that page: it reads `system` as that.
        features=("system_only",),
        fix_request=fixes.system_only,
        tested=True,
    ),
    _row(
        "nvidia_nim",
        "NVIDIA NIM",
        "https://integrate.api.nvidia.com/v1",
        "NVIDIA_API_KEY",
        "https://docs.api.nvidia.com/nim/reference/llm-apis",
        {**CHAT, **EMBEDDINGS},
        rename_fields=OLD_LIMIT,
        features=("max_tokens",),
        tested=True,
    ),
    _row(
        "huggingface",
        "Hugging Face Inference Providers",
        "https://router.huggingface.co/v1",
        "HUGGINGFACE_API_KEY",
        "https://huggingface.co/docs/inference-providers",
        # https://huggingface.co/docs/inference-providers/tasks/chat-completion.
        rename_fields=OLD_LIMIT,
        features=("max_tokens",),
        tested=True,
    ),
    _row(
        "deepinfra",
        "DeepInfra",
        "https://api.deepinfra.com/v1/openai",
        "DEEPINFRA_API_KEY",
        "https://deepinfra.com/docs/openai_api",
        ALL,
    ),
    _row(
        "sambanova",
        "SambaNova",
        "https://api.sambanova.ai/v1",
        "SAMBANOVA_API_KEY",
        "https://docs.sambanova.ai",
        {**CHAT, **EMBEDDINGS},
    ),
    _row(
        "nebius",
        "Nebius Token Factory",
        "https://api.tokenfactory.nebius.com/v1",
        "NEBIUS_API_KEY",
        "https://docs.tokenfactory.nebius.com",
        ALL,
    ),
    _row(
        "hyperbolic",
        "Hyperbolic",
        "https://api.hyperbolic.xyz/v1",
        "HYPERBOLIC_API_KEY",
        "https://docs.hyperbolic.xyz",
        {**CHAT, **COMPLETIONS},
    ),
    _row(
        "novita",
        "Novita AI",
        "https://api.novita.ai/openai/v1",
        "NOVITA_API_KEY",
        "https://novita.ai/docs/guides/llm-api",
        ALL,
    ),
    _row(
        "siliconflow",
        "SiliconFlow",
        "https://api.siliconflow.com/v1",
        "SILICONFLOW_API_KEY",
        "https://docs.siliconflow.com",
        {**CHAT, **EMBEDDINGS},
    ),
    _row(
        "moonshot",
        "Moonshot AI (Kimi)",
        "https://api.moonshot.ai/v1",
        "MOONSHOT_API_KEY",
        "https://platform.moonshot.ai/docs",
    ),
    _row(
        "dashscope",
        "Alibaba Model Studio (Qwen)",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "DASHSCOPE_API_KEY",
        "https://www.alibabacloud.com/help/model-studio/compatibility-of-openai-with-dashscope",
        {**CHAT, **EMBEDDINGS},
    ),
    _row(
        "zai",
        "Z.ai (GLM)",
        "https://api.z.ai/api/paas/v4",
        "ZAI_API_KEY",
        "https://docs.z.ai",
    ),
    _row(
        "minimax",
        "MiniMax",
        "https://api.minimax.io/v1",
        "MINIMAX_API_KEY",
        "https://platform.minimax.io/docs",
    ),
    _row(
        "nscale",
        "Nscale",
        "https://inference.api.nscale.com/v1",
        "NSCALE_API_KEY",
        "https://docs.nscale.com",
    ),
    _row(
        "featherless",
        "Featherless",
        "https://api.featherless.ai/v1",
        "FEATHERLESS_API_KEY",
        "https://featherless.ai/docs",
        {**CHAT, **COMPLETIONS},
    ),
    _row(
        "friendli",
        "FriendliAI",
        "https://api.friendli.ai/serverless/v1",
        "FRIENDLI_TOKEN",
        "https://friendli.ai/docs/guides/openai-compatibility",
        {**CHAT, **COMPLETIONS},
    ),
    _row(
        "baseten",
        "Baseten",
        "https://inference.baseten.co/v1",
        "BASETEN_API_KEY",
        "https://docs.baseten.co",
    ),
    _row(
        "wandb",
        "Weights & Biases Inference",
        "https://api.inference.wandb.ai/v1",
        "",
        "https://docs.wandb.ai/inference",
    ),
    _row(
        "vercel",
        "Vercel AI Gateway",
        "https://ai-gateway.vercel.sh/v1",
        "AI_GATEWAY_API_KEY",
        "https://vercel.com/docs/ai-gateway",
        {**CHAT, **EMBEDDINGS},
    ),
    _row(
        "ovhcloud",
        "OVHcloud AI Endpoints",
        "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1",
        "OVH_AI_ENDPOINTS_ACCESS_TOKEN",
        "https://help.ovhcloud.com/csm/en-public-cloud-ai-endpoints-getting-started",
        {**CHAT, **EMBEDDINGS},
    ),
    _row(
        "scaleway",
        "Scaleway Generative APIs",
        "https://api.scaleway.ai/v1",
        "",
        "https://www.scaleway.com/en/docs/generative-apis",
        {**CHAT, **EMBEDDINGS},
    ),
    _row(
        "volcengine",
        "Volcengine Ark (Doubao)",
        "https://ark.cn-beijing.volces.com/api/v3",
        "ARK_API_KEY",
        "https://www.volcengine.com/docs/82379",
        {**CHAT, **EMBEDDINGS},
    ),
    _row(
        "ai21",
        "AI21",
        "https://api.ai21.com/studio/v1",
        "AI21_API_KEY",
        "https://docs.ai21.com",
    ),
    _row(
        "venice",
        "Venice",
        "https://api.venice.ai/api/v1",
        "VENICE_API_KEY",
        "https://docs.venice.ai",
        {**CHAT, **EMBEDDINGS},
    ),
    _row(
        "inception",
        "Inception",
        "https://api.inceptionlabs.ai/v1",
        "INCEPTION_API_KEY",
        "https://docs.inceptionlabs.ai",
    ),
    _row(
        "morph",
        "Morph",
        "https://api.morphllm.com/v1",
        "MORPH_API_KEY",
        "https://docs.morphllm.com",
    ),
    _row(
        "aimlapi",
        "AI/ML API",
        "https://api.aimlapi.com/v1",
        "AIML_API_KEY",
        "https://docs.aimlapi.com",
        {**CHAT, **EMBEDDINGS},
    ),
    _row(
        "github_models",
        "GitHub Models",
        "https://models.github.ai/inference",
        "",
        "https://docs.github.com/rest/models/inference",
        {**CHAT, **EMBEDDINGS},
    ),
)

ACCOUNTS = (
    Provider(
        kind="azure_foundry",
        title="Azure AI Foundry and Azure OpenAI (v1)",
        speaks={dialect: f"/openai/v1{path}" for dialect, path in ALL.items()},
        auth_header="api-key",
        auth_scheme="",
        docs="https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle",
        note="`base_url` is `https://NAME.services.ai.azure.com` or `https://NAME.openai.azure.com`; for tokens of "
        "Microsoft Entra ID give `auth` in place of `api_key` (credentials.md).",
        models=REASONING,
    ),
    Provider(
        kind="databricks",
        title="Databricks Model Serving",
        speaks={**CHAT, **EMBEDDINGS},
        docs="https://docs.databricks.com/machine-learning/model-serving/query-chat-models",
        note="`base_url` is `https://WORKSPACE/serving-endpoints`.",
        # https://docs.databricks.com/machine-learning/foundation-model-apis/api-reference.html#chat-request.
        rename_fields=OLD_LIMIT,
        features=("max_tokens", "top_k"),
        tested=True,
    ),
    Provider(
        kind="watsonx_gateway",
        title="IBM watsonx.ai (model gateway)",
        speaks=ALL,
        docs="https://www.ibm.com/docs/en/watsonx/saas?topic=generation-inferencing-gateway-models",
        auth="ibm",
        note="`base_url` is `https://REGION.ml.cloud.ibm.com/ml/gateway/v1`; `api_key` is an IBM Cloud API key.",
    ),
    Provider(
        kind="cloudflare",
        title="Cloudflare Workers AI",
        speaks={**CHAT, **EMBEDDINGS},
        docs="https://developers.cloudflare.com/workers-ai/configuration/open-ai-compatibility",
        note="`base_url` is `https://api.cloudflare.com/client/v4/accounts/ACCOUNT/ai/v1`.",
    ),
)

SERVERS = (
    _local(
        "ollama",
        "Ollama",
        "http://127.0.0.1:11434/v1",
        "https://docs.ollama.com/api/openai-compatibility",
        # It reads over what is not on that page, and so over the limit's newer name.
        rename_fields=OLD_LIMIT,
        features=("max_tokens",),
        tested=True,
    ),
    _local(
        "vllm",
        "vLLM",
        "http://127.0.0.1:8000/v1",
        "https://docs.vllm.ai/en/latest/serving/openai_compatible_server",
        features=("top_k", "many_stops"),
        tested=True,
    ),
    _local(
        "sglang",
        "SGLang",
        "http://127.0.0.1:30000/v1",
        "https://docs.sglang.ai/basic_usage/openai_api.html",
        features=("top_k", "many_stops"),
    ),
    _local(
        "lm_studio",
        "LM Studio",
        "http://127.0.0.1:1234/v1",
        "https://lmstudio.ai/docs/developer/openai-compat",
        # https://lmstudio.ai/docs/developer/openai-compat/chat-completions.
        rename_fields=OLD_LIMIT,
        features=("max_tokens", "top_k"),
    ),
    _local(
        "llama_cpp",
        "llama.cpp",
        "http://127.0.0.1:8080/v1",
        "https://github.com/ggml-org/llama.cpp/tree/master/tools/server",
        features=("top_k", "many_stops"),
        tested=True,
    ),
    _local("llamafile", "llamafile", "http://127.0.0.1:8080/v1", "https://github.com/mozilla-ai/llamafile"),
    _local(
        "tgi",
        "Text Generation Inference",
        "",
        "https://huggingface.co/docs/text-generation-inference/messages_api",
        rename_fields=OLD_LIMIT,
        features=("max_tokens",),
    ),
    _local("localai", "LocalAI", "http://127.0.0.1:8080/v1", "https://localai.io"),
    _local("litellm", "LiteLLM proxy", "", "https://docs.litellm.ai/docs/proxy/user_keys"),
)

ROWS: tuple[Provider, ...] = (*VENDORS, *ACCOUNTS, *SERVERS)
