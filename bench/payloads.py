"""What is sent and answered: chat requests of given sizes, and replies as a provider writes them."""

import json
import os
from typing import Final

MODEL: Final = "bench"
UPSTREAM_MODEL: Final = "gpt-x"
PATH: Final = "/v1/chat/completions"
CALLER_KEY: Final = "sk-bench-caller-0123456789"
"""The default of `BENCH_KEY` in `everything-on.yaml`: good for a gateway on loopback and nothing else."""

_SYSTEM: Final = "You are a helpful assistant that answers in short sentences and never says more than it is asked to."
_WORDS: Final = "Tell me about the weather in Paris during the spring and what to wear for a week of walking there. "
_LOREM: Final = (
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et dolore "
    "magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco. "
)


def chat(size: int, *, model: str = MODEL, **fields: object) -> bytes:
    """A chat request of exactly `size` bytes. Raises ValueError when that is too few."""
    shown = {"model": model, "messages": [{"role": "system", "content": _SYSTEM}], "temperature": 0.7, **fields}
    messages = shown["messages"]
    assert isinstance(messages, list)
    messages.append({"role": "user", "content": ""})
    room = size - len(json.dumps(shown))
    if room < 0:
        raise ValueError(f"a chat request takes {size - room} bytes or more, not {size}")
    messages[1]["content"] = (_WORDS * (room // len(_WORDS) + 1))[:room]
    return json.dumps(shown).encode()


def reply(size: int = 600) -> bytes:
    """A whole chat reply of exactly `size` bytes. Raises ValueError when that is too few."""
    message = {"role": "assistant", "content": ""}
    shown = {
        "id": "chatcmpl-0123456789abcdef01234",
        "object": "chat.completion",
        "created": 1700000000,
        "model": UPSTREAM_MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }
    room = size - len(json.dumps(shown))
    if room < 0:
        raise ValueError(f"a chat reply takes {size - room} bytes or more, not {size}")
    message["content"] = (_LOREM * (room // len(_LOREM) + 1))[:room]
    return json.dumps(shown).encode()


def message(size: int = 600) -> bytes:
    """A whole reply of Anthropic's of exactly `size` bytes. Raises ValueError when that is too few."""
    text = {"type": "text", "text": ""}
    shown = {
        "id": "msg_0123456789abcdef01234",
        "type": "message",
        "role": "assistant",
        "model": UPSTREAM_MODEL,
        "content": [text],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 100,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 50,
        },
    }
    room = size - len(json.dumps(shown))
    if room < 0:
        raise ValueError(f"a reply takes {size - room} bytes or more, not {size}")
    text["text"] = (_LOREM * (room // len(_LOREM) + 1))[:room]
    return json.dumps(shown).encode()


def head(host: str, path: str, body: bytes) -> bytes:
    """The head of a request with `body`, as an SDK sends it."""
    return (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {caller_key()}\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()


def numbered_key(number: int) -> str:
    """One of many callers' keys, as `wrk.lua` writes it."""
    return f"sk-bench-numbered-{number:06d}"


def caller_key() -> str:
    """The key the load is sent with."""
    return os.environ.get("BENCH_KEY") or CALLER_KEY
