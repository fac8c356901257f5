"""An answer written in four dialects, whole and streamed: what a provider says that the mock cannot be made to say.

Written from the vendors' references and recorded streams, without the gateway's own writers. Arguments of calls are
JSON text and stay as they are written down.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

PROMPT, CACHED, SPOKEN, REASONED = 20, 5, 9, 3
"""Tokens of every call: of the prompt, those of it from the cache; spoken, and thought besides."""
_FRAGMENT = 7
_RAW = "\0raw:"


@dataclass(frozen=True)
class Said:
    """An answer. `calls` are (name, arguments); `stop` is `end`, `length`, `tool`, `refusal` or the sequence it met."""

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    stop: str = "end"
    thought: str = ""
    signature: str = ""
    refusal: str = ""


def encode(value: Any) -> str:
    """JSON; a string made by `raw` becomes the JSON text it holds."""
    text = json.dumps(value, ensure_ascii=False)
    while (start := text.find('"\\u0000raw:')) >= 0:
        held, end = json.JSONDecoder().raw_decode(text, start)
        text = text[:start] + held[len(_RAW) :] + text[end:]
    return text


def raw(text: str) -> str:
    return _RAW + (text or "{}")


def fragments(text: str) -> list[str]:
    return [text[start : start + _FRAGMENT] for start in range(0, len(text), _FRAGMENT)]


def _data(value: Any, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + encode(value).encode() + b"\n\n"


# --- OpenAI chat completions

_CHAT_STOPS = {"length": "length", "tool": "tool_calls", "refusal": "content_filter"}
_CHAT_USAGE = {
    "prompt_tokens": PROMPT, "completion_tokens": SPOKEN + REASONED, "total_tokens": PROMPT + SPOKEN + REASONED,
    "prompt_tokens_details": {"cached_tokens": CACHED, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": REASONED, "audio_tokens": 0},
}  # fmt: skip


def _chat_call(place: int, name: str, arguments: str) -> dict[str, Any]:
    return {"id": f"call_stage{place}", "type": "function", "function": {"name": name, "arguments": arguments}}


def _chat_envelope(model: str, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-stage", "object": kind, "created": 1_700_000_000, "model": model}


def chat(said: Said, model: str) -> str:
    """https://platform.openai.com/docs/api-reference/chat/object, with DeepSeek's `reasoning_content`."""
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None, "refusal": said.refusal or None}
    if said.thought:
        message["reasoning_content"] = said.thought
    if said.calls:
        message["tool_calls"] = [_chat_call(i, *call) for i, call in enumerate(said.calls)]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _CHAT_STOPS.get(said.stop, "stop")}
    return encode(_chat_envelope(model, "chat.completion") | {"choices": [choice], "usage": _CHAT_USAGE})


def chat_stream(said: Said, model: str) -> Iterator[bytes]:
    """https://platform.openai.com/docs/api-reference/chat-streaming"""
    base = _chat_envelope(model, "chat.completion.chunk")

    def step(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _data(base | {"choices": [choice], "usage": None})

    yield step({"role": "assistant", "content": None if said.calls else "", "refusal": None})
    for key, text in (("reasoning_content", said.thought), ("content", said.text), ("refusal", said.refusal)):
        yield from (step({key: piece}) for piece in fragments(text))
    for place, (name, arguments) in enumerate(said.calls):
        yield step({"tool_calls": [{"index": place} | _chat_call(place, name, "")]})
        for piece in fragments(arguments):
            yield step({"tool_calls": [{"index": place, "function": {"arguments": piece}}]})
    yield step({}, _CHAT_STOPS.get(said.stop, "stop"))
    yield _data(base | {"choices": [], "usage": _CHAT_USAGE})
    yield b"data: [DONE]\n\n"


# --- OpenAI responses

_RESPONSES_USAGE = {
    "input_tokens": PROMPT, "input_tokens_details": {"cached_tokens": CACHED, "cache_write_tokens": 0},
    "output_tokens": SPOKEN + REASONED, "output_tokens_details": {"reasoning_tokens": REASONED},
    "total_tokens": PROMPT + SPOKEN + REASONED,
}  # fmt: skip
_REASONS = {"length": "max_output_tokens", "refusal": "content_filter"}


def _items(said: Said) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if said.thought:
        summary = [{"type": "summary_text", "text": said.thought}]
        items.append({"id": "rs_stage", "type": "reasoning", "summary": summary, "encrypted_content": said.signature})
    if said.text or said.refusal:
        part: dict[str, Any] = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
        if said.refusal:
            part = {"type": "refusal", "refusal": said.refusal}
        status = "incomplete" if said.stop in _REASONS else "completed"
        items.append({"id": "msg_stage", "type": "message", "role": "assistant", "status": status, "content": [part]})
    for place, (name, arguments) in enumerate(said.calls):
        call = {"id": f"fc_stage{place}", "type": "function_call", "status": "completed", "arguments": arguments}
        items.append(call | {"call_id": f"call_stage{place}", "name": name})
    return items


def _response(said: Said, model: str, status: str, items: list[dict[str, Any]], usage: Any) -> dict[str, Any]:
    reason = _REASONS.get(said.stop) if status == "incomplete" else None
    return {
        "id": "resp_stage", "object": "response", "created_at": 1_700_000_000, "status": status, "error": None,
        "incomplete_details": {"reason": reason} if reason else None, "instructions": None, "metadata": {},
        "model": model, "output": items, "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto",
        "tools": [], "top_p": 1.0, "usage": usage,
    }  # fmt: skip


def _ending(said: Said) -> str:
    return "incomplete" if said.stop in _REASONS else "completed"


def responses(said: Said, model: str) -> str:
    """https://platform.openai.com/docs/api-reference/responses/object"""
    return encode(_response(said, model, _ending(said), _items(said), _RESPONSES_USAGE))


def _between(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What is told of an item between its beginning and its end."""
    at: dict[str, Any] = {"item_id": item["id"]}
    if item["type"] == "function_call":
        kind = "response.function_call_arguments"
        yield from ({"type": f"{kind}.delta", **at, "delta": piece} for piece in fragments(item["arguments"]))
        yield {"type": f"{kind}.done", **at, "name": item["name"], "arguments": item["arguments"]}
        return
    if item["type"] == "reasoning":
        (part,), field, place = item["summary"], "text", {"summary_index": 0}
        begun, told = "response.reasoning_summary_part", "response.reasoning_summary_text"
    else:
        (part,), place, begun = item["content"], {"content_index": 0}, "response.content_part"
        field = "refusal" if part["type"] == "refusal" else "text"
        told = "response.refusal" if field == "refusal" else "response.output_text"
    at |= place
    more = {"logprobs": []} if told == "response.output_text" else {}
    yield {"type": f"{begun}.added", **at, "part": part | {field: ""}}
    yield from ({"type": f"{told}.delta", **at, "delta": piece} | more for piece in fragments(part[field]))
    yield {"type": f"{told}.done", **at, field: part[field]} | more
    yield {"type": f"{begun}.done", **at, "part": part}


def responses_stream(said: Said, model: str) -> Iterator[bytes]:
    """https://platform.openai.com/docs/api-reference/responses-streaming"""
    running = _response(said, model, "in_progress", [], None)
    events: list[dict[str, Any]] = [
        {"type": f"response.{kind}", "response": running} for kind in ("created", "in_progress")
    ]
    empty = {"message": {"content": []}, "reasoning": {"summary": []}, "function_call": {"arguments": ""}}
    for index, item in enumerate(_items(said)):
        begun = item | empty[item["type"]] | ({"status": "in_progress"} if "status" in item else {})
        events.append({"type": "response.output_item.added", "output_index": index, "item": begun})
        events += [one | {"output_index": index} for one in _between(item)]
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    final = _response(said, model, _ending(said), _items(said), _RESPONSES_USAGE)
    events.append({"type": f"response.{_ending(said)}", "response": final})
    for number, event in enumerate(events):
        yield _data(event | {"sequence_number": number}, event["type"])


# --- Anthropic messages

_MESSAGE_STOPS = {"end": "end_turn", "length": "max_tokens", "tool": "tool_use", "refusal": "refusal"}
_OUT = {"output_tokens": SPOKEN + REASONED, "output_tokens_details": {"thinking_tokens": REASONED}}
_READ = {"input_tokens": PROMPT - CACHED, "cache_read_input_tokens": CACHED, "cache_creation_input_tokens": 0}


def _message(said: Said, model: str) -> dict[str, Any]:
    stop = _MESSAGE_STOPS.get(said.stop)
    sequence = None if stop else said.stop
    return {"id": "msg_stage", "type": "message", "role": "assistant", "model": model,
            "stop_reason": stop or "stop_sequence", "stop_sequence": sequence}  # fmt: skip


def _blocks(said: Said) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]]:
    """(its beginning, its deltas, the whole) of each block."""
    if said.thought:
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in fragments(said.thought)]
        deltas.append({"type": "signature_delta", "signature": said.signature})
        block = {"type": "thinking", "thinking": said.thought, "signature": said.signature}
        yield block | {"thinking": "", "signature": ""}, deltas, block
    if said.text:
        deltas = [{"type": "text_delta", "text": piece} for piece in fragments(said.text)]
        yield {"type": "text", "text": ""}, deltas, {"type": "text", "text": said.text}
    for place, (name, arguments) in enumerate(said.calls):
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *fragments(arguments)]]
        call = {"type": "tool_use", "id": f"toolu_stage{place}", "name": name}
        yield call | {"input": {}}, deltas, call | {"input": raw(arguments)}


def messages(said: Said, model: str) -> str:
    """https://platform.claude.com/docs/en/api/messages"""
    usage = _READ | _OUT
    return encode(_message(said, model) | {"content": [whole for _, _, whole in _blocks(said)], "usage": usage})


def messages_stream(said: Said, model: str) -> Iterator[bytes]:
    """https://platform.claude.com/docs/en/build-with-claude/streaming"""
    final = _message(said, model)
    ending = {name: final.pop(name) for name in ("stop_reason", "stop_sequence")}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": final | dict.fromkeys(ending)
         | {"content": [], "usage": _READ | {"output_tokens": 1}}},
    ]  # fmt: skip
    for index, (begun, deltas, _) in enumerate(_blocks(said)):
        events.append({"type": "content_block_start", "index": index, "content_block": begun})
        events += [{"type": "ping"}] if index == 0 else []
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": ending, "usage": _OUT})
    events.append({"type": "message_stop"})
    yield from (_data(event, event["type"]) for event in events)


# --- Gemini

_CANDIDATE_STOPS = {"length": "MAX_TOKENS", "refusal": "SAFETY"}
_COUNTED = {
    "promptTokenCount": PROMPT, "cachedContentTokenCount": CACHED, "candidatesTokenCount": SPOKEN,
    "thoughtsTokenCount": REASONED, "totalTokenCount": PROMPT + SPOKEN + REASONED,
}  # fmt: skip


def _parts(said: Said, cut: Callable[[str], list[str]]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"text": piece, "thought": True} for piece in cut(said.thought)]
    parts += [{"text": piece} for piece in cut(said.text)]
    for place, (name, arguments) in enumerate(said.calls):
        call: dict[str, Any] = {"name": name} | ({"args": raw(arguments)} if arguments else {})
        parts.append(
            {"functionCall": call} | ({} if place or not said.signature else {"thoughtSignature": said.signature})
        )
    return parts


def _generated(parts: list[dict[str, Any]], finish: str | None, model: str) -> dict[str, Any]:
    candidate = {"content": {"parts": parts, "role": "model"}, "index": 0}
    ended = {"finishReason": finish} if finish else {}
    return {"candidates": [candidate | ended], "usageMetadata": _COUNTED, "modelVersion": model, "responseId": "stage"}


def generated(said: Said, model: str) -> str:
    """https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse"""
    parts = _parts(said, lambda text: [text] if text else [])
    return encode(_generated(parts, _CANDIDATE_STOPS.get(said.stop, "STOP"), model))


def generated_stream(said: Said, model: str) -> Iterator[bytes]:
    """https://ai.google.dev/api/generate-content#method:-models.streamgeneratecontent"""
    *parts, last = _parts(said, fragments)
    for part in parts:
        yield _data(_generated([part], None, model)).replace(b"\n\n", b"\r\n\r\n")
    yield _data(_generated([last], _CANDIDATE_STOPS.get(said.stop, "STOP"), model)).replace(b"\n\n", b"\r\n\r\n")


WRITERS: dict[str, tuple[Callable[[Said, str], str], Callable[[Said, str], Iterator[bytes]]]] = {
    "openai_chat": (chat, chat_stream),
    "openai_responses": (responses, responses_stream),
    "anthropic_messages": (messages, messages_stream),
    "gemini": (generated, generated_stream),
}
