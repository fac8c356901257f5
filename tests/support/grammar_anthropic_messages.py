"""What a stream, a reply and a request of Anthropic's Messages API must be, checked apart from the translator."""

import json
import re

REASONS = {"end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal"}
REASONS |= {"model_context_window_exceeded", "compaction"}
DELTAS = {
    "text": {"text_delta", "citations_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
    "redacted_thinking": set(),
}
COUNTS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
ID = re.compile(r"[a-zA-Z0-9_-]+")


def frames(raw):
    """(name, data) of every event; the form of each is checked on the way."""
    assert b"\r" not in raw
    assert raw.endswith(b"\n\n")
    for event in raw.split(b"\n\n")[:-1]:
        head, data = event.split(b"\n")
        assert head.startswith(b"event: ")
        assert data.startswith(b"data: ")
        yield head[7:].decode(), json.loads(data[6:])


def stream_problems(raw):
    """What is wrong with a whole stream; [] for nothing."""
    found = []
    seen = list(frames(raw))
    names = [name for name, _ in seen]
    if [name for name, data in seen if name != data["type"]]:
        found.append("a name is not the type")
    names = [name for name in names if name != "ping"]
    if names[:1] != ["message_start"] or names.count("message_start") != 1:
        found.append("must begin with one message_start")
    if names[-2:] != ["message_delta", "message_stop"] or names.count("message_stop") != 1:
        found.append("must end with message_delta and one message_stop")
    found += _block_problems([data for name, data in seen if name.startswith("content_block")])
    for name, data in seen:
        if name == "message_start":
            found += message_problems(data["message"], streamed=True)
        if name == "message_delta":
            found += usage_problems(data["usage"])
            if data["delta"]["stop_reason"] not in REASONS:
                found.append(f"stop_reason {data['delta']['stop_reason']!r}")
    return found


def _block_problems(seen):
    found, expected, kind, said, signed = [], 0, None, "", 0
    for data in seen:
        if data["index"] != expected:
            found.append(f"index {data['index']} where {expected} is due")
        if data["type"] == "content_block_start":
            if kind is not None:
                found.append("a block begins inside another")
            kind, said, signed = data["content_block"]["type"], "", 0
            if kind == "tool_use" and data["content_block"]["input"] != {}:
                found.append("input at the start of a tool_use")
        elif kind is None:
            found.append(f"{data['type']} outside of a block")
        elif data["type"] == "content_block_delta":
            one = data["delta"]["type"]
            if kind in DELTAS and one not in DELTAS[kind]:
                found.append(f"{one} in {kind}")
            if signed:
                found.append("something follows the signature")
            signed += one == "signature_delta"
            said += data["delta"].get("partial_json", "")
        else:
            if kind == "thinking" and not signed:
                found.append("thinking ends without its signature")
            if kind == "tool_use" and said and not isinstance(json.loads(said), dict):
                found.append("input is no object")
            kind, expected = None, expected + 1
    return found + (["a block stays open"] if kind is not None else [])


def usage_problems(usage):
    """What is wrong with a usage."""
    return [f"usage.{name}" for name in COUNTS if type(usage.get(name)) is not int or usage[name] < 0]


def message_problems(message, *, streamed=False):
    """What is wrong with a reply, or with the message that begins a stream."""
    found = usage_problems(message["usage"])
    found += [name for name in ("id", "model") if type(message.get(name)) is not str]
    if (message["type"], message["role"]) != ("message", "assistant"):
        found.append("type or role")
    if streamed:
        return found + (["not empty"] if message["content"] or message["stop_reason"] is not None else [])
    if message["stop_reason"] not in REASONS:
        found.append(f"stop_reason {message['stop_reason']!r}")
    for block in message["content"]:
        if block["type"] == "tool_use" and not isinstance(block["input"], dict):
            found.append("input is no object")
        if block["type"] == "thinking" and type(block["signature"]) is not str:
            found.append("thinking without a signature")
    return found


def request_problems(body):
    """What Anthropic would refuse a request for."""
    found = [] if type(body.get("max_tokens")) is int else ["max_tokens"]
    if not body["messages"]:
        found.append("no messages")
    asked, role = [], None
    for message in body["messages"]:
        if message["role"] == role:
            found.append("two messages of one role in a row")
        role, content = message["role"], message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not blocks or any(block["type"] == "text" and not block["text"] for block in blocks):
            found.append("empty content")
        given = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if sorted(given) != sorted(asked):
            found.append(f"results {given} for calls {asked}")
        if any(block["type"] == "tool_result" for block in blocks[len(given) :]):
            found.append("results behind other content")
        asked = [block["id"] for block in blocks if block["type"] == "tool_use"]
        found += [f"id {one!r}" for one in asked if not ID.fullmatch(one)]
    thinking = body.get("thinking", {})
    if thinking.get("type") == "enabled":
        if not 1024 <= thinking["budget_tokens"] < body["max_tokens"]:
            found.append("budget_tokens")
        if body.get("tool_choice", {}).get("type") in ("any", "tool"):
            found.append("thinking with a forced tool")
    if body.get("temperature", 0) > 1:
        found.append("temperature")
    return found
