"""The words of `features`, by the dialect whose writer knows them: what a server or a model takes beyond the plain API.

They bear on translated requests alone; what passes through is the caller's own.
"""

FEATURES: dict[str, dict[str, str]] = {
    "openai_chat": {
        "cache_control": "Anthropic's marks for its cache, on parts and tools",
        "prompt_cache_breakpoint": "OpenAI's own marks for its cache",
        "reasoning_content": "thinking of earlier turns comes back as `reasoning_content`",
        "reasoning_details": "thinking of earlier turns comes back as `reasoning_details`, signatures and all",
        "reasoning": "the object `reasoning`, with a budget in tokens",
        "extra_content": "signatures of calls, as Google's compatibility endpoint has them",
        "tool_images": "images in tool results",
        "file_urls": "files by URL",
        "top_k": "`top_k`",
        "max_tokens": "`max_tokens` is the name of the limit, and the only one",
        "system_only": "no role `developer`",
        "prefix": "an assistant message at the end is continued when it says `prefix`",
        "many_stops": "more than four stop sequences",
        "no_stream_options": "no `stream_options`",
    },
    "openai_responses": {
        "cache_breakpoints": "marks for the cache",
        "reasoning_text": "plain reasoning of earlier turns comes back",
        "audio": "sound",
    },
    "anthropic_messages": {
        "adaptive_thinking": "thinks as much as it likes (`thinking.type: adaptive`) and takes `output_config.effort`",
        "effort_xhigh": "knows the effort `xhigh`",
        "no_temperature": "refuses `temperature`, `top_p` and `top_k`",
        "mid_system": "system messages amid the others",
    },
    "bedrock_converse": {
        "adaptive_thinking": "Claude thinks as much as it likes (`thinking.type: adaptive`) and takes an effort",
        "effort_xhigh": "knows the effort `xhigh`",
        "no_temperature": "refuses `temperature`, `top_p` and `top_k`",
    },
    "gemini": {
        "json_schema": "whole JSON Schemas",
        "thinking_level": "`thinkingLevel` in place of `thinkingBudget`",
        "thought_signatures": "refuses calls without a signature",
        "tool_images": "images in tool results",
        "no_call_ids": "does not know ids of calls",
        "fetch_urls": "fetches any URL",
        "mid_system": "system messages amid the others",
    },
}
