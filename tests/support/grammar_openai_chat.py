"""What OpenAI's published reference allows in a chat request and in a whole chat completion, as checkers.

Written without any code of the gateway. Streams are checked by `grammar`. Fields that other servers of this format have
added, and that clients ignore, are named here one by one; anything else is a problem.
"""

import json
from typing import Any

_FINISHES = {"stop", "length", "tool_calls", "content_filter", "function_call"}
_REQUEST = {
    "model",
    "messages",
    "audio",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "modalities",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
}
_MESSAGE = {
    "system": ({"role", "content"}, {"name"}),
    "developer": ({"role", "content"}, {"name"}),
    "user": ({"role", "content"}, {"name"}),
    "assistant": ({"role"}, {"content", "name", "refusal", "audio", "tool_calls"}),
    "tool": ({"role", "content", "tool_call_id"}, set()),
}
_PARTS = {"text": {"text"}, "image_url": {"image_url"}, "input_audio": {"input_audio"}, "file": {"file"}}
_REPLY = {"id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint"}
_CHOICE = {"index", "message", "logprobs", "finish_reason"}
_CHOICE_MORE = {"provider_finish_reason", "stop_reason"}
_ANSWER = {"role", "content", "refusal"}
_ANSWER_MORE = {
    "annotations",
    "audio",
    "tool_calls",
    "reasoning_content",
    "reasoning_details",
    "citations",
    "images",
    "extra_content",
}


def request_problems(body: bytes) -> list[str]:
    """What is wrong with a request by OpenAI's own reference, without anything a compatible server added."""
    request = json.loads(body)
    problems = [f"unknown field {name}" for name in request.keys() - _REQUEST]
    problems += [f"null {name}" for name, value in request.items() if value is None]
    if not isinstance(request.get("model"), str):
        problems.append("no model")
    waiting: list[str] = []
    for i, message in enumerate(request["messages"]):
        problems += [f"messages[{i}]: {problem}" for problem in _message(message, waiting)]
    if waiting:
        problems.append(f"calls without results: {waiting}")
    if len(request.get("stop") or ()) > 4:
        problems.append("more than four stop sequences")
    if "stream_options" in request and not request.get("stream"):
        problems.append("stream_options without stream")
    for tool in request.get("tools", ()):
        if tool.get("type") != "function" or not tool["function"].get("name"):
            problems.append(f"tool {tool}")
    return problems


def _message(message: dict[str, Any], waiting: list[str]) -> list[str]:
    if message.get("role") not in _MESSAGE:
        return [f"role {message.get('role')!r}"]
    needs, may = _MESSAGE[message["role"]]
    problems = [f"without {name}" for name in needs - message.keys()]
    problems += [f"unknown field {name}" for name in message.keys() - needs - may]
    if message["role"] == "tool":
        if message.get("tool_call_id") in waiting:
            waiting.remove(message["tool_call_id"])
        else:
            problems.append("answers nothing that waits")
    elif waiting:
        problems.append(f"comes before the results of {waiting}")
    content = message.get("content")
    if isinstance(content, list):
        if not content:
            problems.append("empty list of parts")
        for part in content:
            allowed = _PARTS.get(part.get("type"))
            if allowed is None or part.keys() - {"type"} != allowed:
                problems.append(f"part {part}")
            elif message["role"] == "tool" and part["type"] != "text":
                problems.append(f"a result that is no text: {part}")
    elif content is None and message["role"] != "assistant":
        problems.append("content is null")
    if message["role"] == "assistant":
        if content is None and not any(message.get(name) for name in ("tool_calls", "refusal", "audio")):
            problems.append("says nothing")
        problems += _calls(message.get("tool_calls", []))
        waiting += [call["id"] for call in message.get("tool_calls", [])]
    return problems


def _calls(calls: list[dict[str, Any]]) -> list[str]:
    problems = [] if calls is not None else ["tool_calls is null"]
    for call in calls or []:
        if call.get("type") != "function" or not call.get("id") or not call["function"].get("name"):
            problems.append(f"call {call}")
        elif not isinstance(call["function"].get("arguments"), str) or not call["function"]["arguments"]:
            problems.append(f"arguments of {call}")
    return problems


def reply_problems(body: bytes) -> list[str]:
    """What is wrong with a whole chat completion."""
    reply = json.loads(body)
    problems = [f"unknown field {name}" for name in reply.keys() - _REPLY]
    problems += [f"without {name}" for name in {"id", "object", "created", "model", "choices"} - reply.keys()]
    if reply.get("object") != "chat.completion":
        problems.append(f"object {reply.get('object')!r}")
    for i, choice in enumerate(reply.get("choices", ())):
        problems += [f"choices[{i}]: {problem}" for problem in _choice(choice, i)]
    usage = reply.get("usage")
    if usage is not None and usage["total_tokens"] != usage["prompt_tokens"] + usage["completion_tokens"]:
        problems.append("usage does not add up")
    return problems


def _choice(choice: dict[str, Any], index: int) -> list[str]:
    problems = [f"without {name}" for name in _CHOICE - choice.keys()]
    problems += [f"unknown field {name}" for name in choice.keys() - _CHOICE - _CHOICE_MORE]
    if choice.get("index") != index:
        problems.append(f"index {choice.get('index')}")
    if choice.get("finish_reason") not in _FINISHES:
        problems.append(f"finish_reason {choice.get('finish_reason')!r}")
    message = choice["message"]
    problems += [f"message without {name}" for name in _ANSWER - message.keys()]
    problems += [f"message with {name}" for name in message.keys() - _ANSWER - _ANSWER_MORE]
    if message.get("role") != "assistant":
        problems.append(f"role {message.get('role')!r}")
    if "tool_calls" in message:
        problems += _calls(message["tool_calls"]) if message["tool_calls"] else ["empty tool_calls"]
    return problems
