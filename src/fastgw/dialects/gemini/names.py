"""Reads requests in either spelling of Gemini's field names.

The JSON form of protocol buffers lets a client say `inline_data` for `inlineData`, anywhere, and google-genai mixes
both in one body. Requests with a known snake_case name in them are rewritten to camelCase before they are read, along
the table below and no further: the keys of arguments, results and schemas are the client's own. Values are not decoded.
"""

import re

from msgspec import Raw

from fastgw.dialects.gemini.wire import UNREADABLE, encode, invalid, read_list, read_object
from fastgw.dialects.hub import Invalid

_BLOB = {"mime_type": None, "display_name": None, "file_uri": None}
_RESPONSE_PART: dict[str, object] = {"inline_data": _BLOB, "file_data": _BLOB}
_PART: dict[str, object] = {
    "inline_data": _BLOB,
    "file_data": _BLOB,
    "thought_signature": None,
    "function_call": {},
    "function_response": {"parts": [_RESPONSE_PART], "will_continue": None},
    "executable_code": None,
    "code_execution_result": None,
    "tool_call": None,
    "tool_response": None,
    "video_metadata": None,
    "media_resolution": None,
    "media_processing": None,
    "part_metadata": None,
}
_CONTENT: dict[str, object] = {"parts": [_PART]}
_DECLARATION: dict[str, object] = {"parameters_json_schema": None, "response_json_schema": None}
_TOOL: dict[str, object] = {
    "function_declarations": [_DECLARATION],
    "google_search": None,
    "google_search_retrieval": None,
    "google_maps": None,
    "code_execution": None,
    "computer_use": None,
    "enterprise_web_search": None,
    "file_search": None,
    "url_context": None,
    "mcp_servers": None,
    "parallel_ai_search": None,
}
_CONFIG: dict[str, object] = {
    "thinking_config": {"include_thoughts": None, "thinking_budget": None, "thinking_level": None},
    "audio_timestamp": None,
    "candidate_count": None,
    "enable_enhanced_civic_answers": None,
    "frequency_penalty": None,
    "image_config": None,
    "max_output_tokens": None,
    "media_resolution": None,
    "presence_penalty": None,
    "response_json_schema": None,
    "response_logprobs": None,
    "response_mime_type": None,
    "response_modalities": None,
    "response_schema": None,
    "routing_config": None,
    "speech_config": None,
    "stop_sequences": None,
    "top_k": None,
    "top_p": None,
}
_CHOICE: dict[str, object] = {"allowed_function_names": None, "stream_function_call_arguments": None}
REQUEST: dict[str, object] = {
    "contents": [_CONTENT],
    "system_instruction": _CONTENT,
    "generation_config": _CONFIG,
    "tools": [_TOOL],
    "tool_config": {"function_calling_config": _CHOICE, "retrieval_config": None},
    "safety_settings": None,
    "cached_content": None,
    "service_tier": None,
    "model_armor_config": None,
}
REQUEST["generate_content_request"] = REQUEST
EMBED: dict[str, object] = {"content": _CONTENT, "task_type": None, "output_dimensionality": None}
EMBED["embed_content_config"] = EMBED
EMBED["requests"] = [EMBED]


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _snakes(table: object, seen: set[int]) -> set[str]:
    """Every snake_case name of a table."""
    if isinstance(table, list):
        return _snakes(table[0], seen)
    if not isinstance(table, dict) or id(table) in seen:
        return set()
    seen.add(id(table))
    inner = [_snakes(child, seen) for child in table.values()]
    return {name for name in table if "_" in name}.union(*inner)


_NAMES = sorted(_snakes(REQUEST, set()) | _snakes(EMBED, set()))
_SNAKE = re.compile(rb'"([a-z]+(?:_[a-z]+)+)"')
# Begins with a letter that is seldom there at all, which makes it cheap to look for.
_MAYBE = re.compile(rb'_[a-z_]+"\s*:')
_KNOWN = frozenset(name.encode() for name in _NAMES)
_DEEP = {_camel(name): name for name in _NAMES}


def canonical(body: bytes, table: dict[str, object] = REQUEST) -> bytes:
    """`body` with its field names in camelCase; the same object when they are. Raises Invalid."""
    if _MAYBE.search(body) is None or _KNOWN.isdisjoint(_SNAKE.findall(body)):
        return body
    return bytes(_rewrite(Raw(body), table, ""))


def _rewrite(raw: Raw, table: object, path: str) -> Raw:
    """One value, by what the table says of it."""
    if not table:
        return raw
    try:
        if isinstance(table, list):
            if bytes(raw)[:1] != b"[":
                return raw
            items = [_rewrite(item, table[0], f"{path}[{n}]") for n, item in enumerate(read_list(raw))]
            return Raw(encode(items))
        if not isinstance(table, dict) or (path and bytes(raw)[:1] != b"{"):
            return raw
        fields = read_object(raw)
    except UNREADABLE as error:
        raise invalid(path, error) from None
    found: dict[str, Raw] = {}
    for name, value in fields.items():
        spelled = _camel(name) if name in table and "_" in name else name
        child = f"{path}.{spelled}".lstrip(".")
        if spelled in found:
            raise Invalid(child, "is said twice, in both spellings")
        found[spelled] = _rewrite(value, table.get(name, table.get(_DEEP.get(name, ""))), child)
    return Raw(encode(found))
